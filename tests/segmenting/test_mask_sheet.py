"""The sheet of samples with masks: outlines lie on the lesions, bad files are passed by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panderm.data.contours import TRUTH
from panderm.data.drawn import DrawnWorld
from panderm.report.drawing.contact_sheet import contact_sheet
from panderm.segmenting.learning import sheet
from panderm.segmenting.learning.pairs import Pairs, pairs_of
from panderm.segmenting.learning.sheet import draw_sheet, words_of
from panderm.segmenting.learning.views import MaskViews


@pytest.fixture(scope="module")
def pairs(world: DrawnWorld) -> Pairs:
    return pairs_of(world.csv, images=world.images, masks=world.masks, progress=False)


def drawn(monkeypatch: pytest.MonkeyPatch, path: Path, *given: Any, **options: Any) -> list[Any]:
    """Return what a sheet shows: heading, pictures and texts of each column."""
    seen: list[Any] = []

    def noted(columns: Any, words: str, title: str) -> Any:
        seen.append(columns)
        return contact_sheet(columns, words, title)

    monkeypatch.setattr(sheet, "contact_sheet", noted)
    assert draw_sheet(path, *given, **options) == path
    found: list[Any] = seen[0]
    return found


def test_a_sheet_shows_small_and_large_lesions_outlined_and_what_is_learned(
    pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = drawn(monkeypatch, tmp_path / "a.png", pairs, MaskViews.default(64), seed=2, images=5)
    headings = [heading for heading, _, _ in columns]
    assert headings == ["as it is", "as it is scored", *(f"view of epoch {k}" for k in range(1, 6))]
    shares = [float(text.split("\n")[1].split("%")[0]) for text in columns[0][2]]
    assert len(shares) == 5
    assert shares == sorted(shares)
    for _, pictures, _ in columns:
        for picture in pictures:
            assert (picture == TRUTH).all(axis=-1).sum() > 20
    image = columns[0][2][3].split("\n")[0]
    row = pairs.table.image.tolist().index(image)
    rgb, mask = pairs.read(row)
    down, across = np.nonzero((columns[0][1][3] == TRUTH).all(axis=-1))
    edge = np.argwhere(mask)
    assert np.abs([down.min() - edge[:, 0].min(), across.max() - edge[:, 1].max()]).max() <= 2
    assert columns[0][1][3].shape == rgb.shape
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"


def test_bad_files_are_passed_by(pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = pairs.select(np.arange(4))
    gone = replace(few, mask=np.array([str(tmp_path / "nowhere.png"), *few.mask[1:]], dtype=object))
    columns = drawn(monkeypatch, tmp_path / "b.png", gone, MaskViews.whole(32))
    assert [len(pictures) for _, pictures, _ in columns] == [3] * 7
    assert draw_sheet(tmp_path / "none.png", gone.select(np.arange(1)), MaskViews.whole(32)) is None
    assert not (tmp_path / "none.png").exists()


def test_views_are_told_in_words() -> None:
    said = words_of(MaskViews.default(224))
    assert said.startswith("224 × 224 pixels, bicubic; crops of 50% to 100% of the area")
    assert "rotated within ± 15°" in said
    assert words_of(MaskViews.published(224)).endswith("grey 0.2; stretched 0.2; inverted 0.2")
    assert words_of(MaskViews.whole(32)) == "32 × 32 pixels, bicubic; whole images"
