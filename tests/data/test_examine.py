"""One decode of a file: what it tells, and that a bad file is told, never raised."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panderm.data.duplicates import fingerprint
from panderm.data.examine import Examined, examine, examine_all
from panderm.data.images import read_image


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    header = Image.Exif()
    header[0x0112] = 6
    path = tmp_path / "a.jpg"
    Image.fromarray(rng.integers(0, 256, (30, 50, 3), dtype=np.uint8)).save(path, quality=90, exif=header)
    return path


def test_a_sound_file_is_told_whole(picture: Path) -> None:
    one = examine(picture)
    pixels = read_image(picture)
    assert one.problem is None
    assert (one.height, one.width) == pixels.shape[:2] == (50, 30)
    assert one.sha256 == hashlib.sha256(picture.read_bytes()).hexdigest()
    assert one.bytes == picture.stat().st_size
    assert one.fingerprint == fingerprint(pixels)
    assert one.spread == pytest.approx(max(pixels[..., c].std() for c in range(3)), rel=1e-4)
    assert one.stored is not None
    assert (one.stored.format, one.stored.orientation, one.stored.jpeg_quality) == ("JPEG", 6, 90)


def test_one_colour_has_no_spread(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (120, 80, 60)).save(tmp_path / "flat.jpg")
    assert examine(tmp_path / "flat.jpg").spread < 1.0
    marked = np.full((300, 300, 3), 255, np.uint8)
    marked[140:160, 140:160] = 0  # one small dark spot is something to see
    Image.fromarray(marked).save(tmp_path / "spot.png")
    assert examine(tmp_path / "spot.png").spread > 10


def test_bad_files_are_told_not_raised(picture: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(picture.read_bytes()[:400])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_bytes(b"no picture at all")
    problems = {
        p.name: examine(p) for p in (cut, *(tmp_path / n for n in ("empty.jpg", "text.jpg", "no.jpg")))
    }
    assert problems["no.jpg"] == Examined(problem="no such file")
    assert problems["empty.jpg"] == Examined(problem="an empty file")
    assert problems["text.jpg"].problem == "not an image that can be read"
    assert str(problems["cut.jpg"].problem).startswith("damaged (")
    assert problems["cut.jpg"].sha256 == hashlib.sha256(cut.read_bytes()).hexdigest()
    assert problems["cut.jpg"].fingerprint is problems["cut.jpg"].stored is None


def test_too_many_pixels_are_not_decoded(picture: Path) -> None:
    assert examine(picture, max_megapixels=0.001).problem == "more than 0.001 million pixels"


def test_many_files_come_in_their_order(picture: Path, tmp_path: Path) -> None:
    paths = [picture if i % 3 else tmp_path / f"{i}.jpg" for i in range(40)]
    told = list(examine_all(paths, workers=4, progress=False))
    assert [one.problem for one in told] == [None if i % 3 else "no such file" for i in range(40)]


def test_who_stops_listening_stops_the_work(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C does: what was not begun is never begun."""
    looked = []

    def counting(path: Path, *, max_megapixels: float) -> Examined:
        looked.append(path)
        return examine(path, max_megapixels=max_megapixels)

    monkeypatch.setattr("panderm.data.examine.examine", counting)
    every = examine_all([picture] * 5000, workers=2, progress=False)
    next(every)
    every.close()  # type: ignore[attr-defined]
    assert len(looked) < 5000
