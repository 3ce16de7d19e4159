"""The feed of segmentation: the same bytes whoever makes them, damage told, distances measured."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from panderm.data.drawn import DrawnWorld
from panderm.errors import DataError, ParentsError, UsageError
from panderm.segmenting.learning.feed import MaskedBatch, MaskedFeed
from panderm.segmenting.learning.objective import signed_distance
from panderm.segmenting.learning.pairs import Pairs, pairs_of
from panderm.segmenting.learning.views import MaskViews

VIEWS = MaskViews.default(24)
Groups = Sequence[np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def pairs(world: DrawnWorld) -> Pairs:
    return pairs_of(world.csv, images=world.images, masks=world.masks, progress=False)


@pytest.fixture
def copied(world: DrawnWorld, tmp_path: Path) -> Pairs:
    """Eight pairs whose files may be broken."""
    for folder in (world.images, world.masks):
        shutil.copytree(folder, tmp_path / folder.name)
    few = tmp_path / "few.csv"
    few.write_text("\n".join(world.csv.read_text().splitlines()[:9]))
    return pairs_of(few, images=tmp_path / "images", masks=tmp_path / "masks", progress=False)


def fed(pairs: Pairs, groups: Groups, views: MaskViews = VIEWS, **options: Any) -> list[MaskedBatch]:
    with MaskedFeed(pairs, views, groups=groups, **({"seed": 3, "epoch": 1} | options)) as feed:
        return list(feed)


def by_place(batches: list[MaskedBatch]) -> dict[int, bytes]:
    return {
        int(place): b.rgb[k].numpy().tobytes() + b.masks[k].numpy().tobytes()
        for b in batches
        for k, place in enumerate(b.places)
    }


def test_a_pair_is_the_same_whatever_threads_batches_and_processes(pairs: Pairs) -> None:
    order = np.random.default_rng(0).permutation(30)
    one = by_place(fed(pairs, [order], workers=1))
    many = by_place(fed(pairs, [order[::-1][i : i + 7] for i in range(0, 30, 7)], workers=3, ahead=1))
    ranks = [by_place(fed(pairs, [order[rank::2]], workers=2)) for rank in (0, 1)]
    assert one == many == ranks[0] | ranks[1]
    assert len(one) == 30
    assert not [t for t in threading.enumerate() if t.name.startswith("views")]
    for other in (by_place(fed(pairs, [order], epoch=2)), by_place(fed(pairs, [order], seed=4))):
        assert not any(other[i] == one[i] for i in one)


def test_images_lie_beside_their_own_masks_and_distances(pairs: Pairs) -> None:
    whole = MaskViews.whole(32)
    rows = np.array([7, 7, 2, 40])
    (batch,) = fed(pairs, [np.array([3, 0, 2])], whole, rows_of_place=rows, distances=True)
    assert batch.rows.tolist() == [40, 7, 2]
    assert (batch.rgb.dtype, batch.masks.dtype) == (torch.uint8, torch.bool)
    for k, row in enumerate(batch.rows):
        rgb, mask = whole(*pairs.read(int(row)), np.random.default_rng(0))
        assert np.array_equal(batch.rgb[k], rgb)
        assert np.array_equal(batch.masks[k], mask)
        assert batch.distances is not None
        assert np.array_equal(batch.distances[k], signed_distance(mask))
    (again,) = fed(pairs, [np.array([0, 1])], rows_of_place=rows)  # a row drawn twice is seen in two ways
    assert again.distances is None
    assert not np.array_equal(again.rgb[0], again.rgb[1])


def test_files_that_go_or_break_are_left_out_and_told(copied: Pairs) -> None:
    whole = by_place(fed(copied, [np.arange(8)]))
    Path(copied.table.path[2]).unlink()
    Path(copied.mask[6]).unlink()
    first, last = fed(copied, [np.arange(4, 8), np.array([2])], distances=True)
    assert first.places.tolist() == first.rows.tolist() == [4, 5, 7]
    assert first.bad == ((copied.table.image[6], "no such file"),)
    assert last.bad == ((copied.table.image[2], "no such file"),)
    assert len(last.places) == len(last.rgb) == len(last.masks) == 0
    assert by_place([first, last]) == {i: whole[i] for i in (4, 5, 7)}
    assert fed(copied, []) == []
    with pytest.raises(UsageError, match="one worker"):
        fed(copied, [], workers=0)


@pytest.mark.parametrize("which", ["image", "mask"])
def test_a_file_that_changed_is_not_learned_from(copied: Pairs, which: str) -> None:
    files = copied.table.path if which == "image" else copied.mask
    Path(files[3]).write_bytes(Path(files[0]).read_bytes())
    with pytest.raises(ParentsError, match=f"{which}s must stay as they were"):
        fed(copied, [np.arange(8)])


def test_a_disk_that_went_is_an_error_before_the_epoch_ends(copied: Pairs) -> None:
    shutil.rmtree(Path(copied.mask[0]).parent)
    places = np.zeros(3000, dtype=np.int64)
    with pytest.raises(DataError, match="can be read"):
        fed(copied, list(np.arange(3000).reshape(-1, 30)), rows_of_place=places)


def test_a_mask_of_a_jpeg_that_is_decoded_smaller_is_its_own(tmp_path: Path) -> None:
    down, across = np.mgrid[0:600, 0:800]
    mask = np.hypot(down - 330, across - 310) < 170
    rgb = np.repeat((mask * np.uint8(200) + np.uint8(20))[..., None], 3, axis=-1)
    Image.fromarray(rgb.astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(mask).save(tmp_path / "a_mask.png")
    (tmp_path / "t.csv").write_text("image,mask\na.jpg,a_mask.png\n")
    pairs = pairs_of(tmp_path / "t.csv", progress=False)
    moving = MaskViews(48, scale=(0.5, 1.0), flip=0.5, turn=1.0, rotate=30.0)
    rows = np.zeros(24, dtype=np.int64)
    (batch,) = fed(pairs, [np.arange(24)], moving, rows_of_place=rows)
    wrong = ((batch.rgb[..., 0] > 120) != batch.masks).sum(dim=(1, 2))
    assert int(wrong.max()) <= 6
