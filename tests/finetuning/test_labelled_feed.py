"""The feed of fine-tuning: the same bytes whoever makes them, damage told, duplicates that look different."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import panderm
from panderm.data.drawn import DrawnWorld
from panderm.errors import DataError, ParentsError, UsageError
from panderm.finetuning.feed import LabelledBatch, LabelledFeed
from panderm.finetuning.views import TrainViews

VIEWS = TrainViews.default(24)
Groups = Sequence[np.ndarray]


def fed(table: panderm.Table, groups: Groups, **options: object) -> list[LabelledBatch]:
    given = {"seed": 3, "epoch": 1} | options
    with LabelledFeed(table, VIEWS, groups=groups, **given) as feed:  # type: ignore[arg-type]
        return list(feed)


def by_place(batches: list[LabelledBatch]) -> dict[int, bytes]:
    return {int(i): b.rgb[k].numpy().tobytes() for b in batches for k, i in enumerate(b.places)}


@pytest.fixture
def copied(world: DrawnWorld, tmp_path: Path) -> panderm.Table:
    """A table of eight rows whose files may be broken."""
    lines = world.csv.read_text().splitlines()[:9]
    (tmp_path / "few.csv").write_text("\n".join(lines))
    table = panderm.read_table(world.csv, images=world.images, progress=False).select(slice(8))
    for path in table.path:
        (tmp_path / Path(path).name).write_bytes(Path(path).read_bytes())
    return panderm.read_table(
        tmp_path / "few.csv", images=tmp_path, image_column=lines[0].split(",")[0], progress=False
    )


def test_an_image_is_the_same_whatever_threads_batches_and_processes(table: panderm.Table) -> None:
    order = np.random.default_rng(0).permutation(30)
    one = by_place(fed(table, [order], workers=1))
    many = by_place(fed(table, [order[::-1][i : i + 7] for i in range(0, 30, 7)], workers=3, ahead=1))
    ranks = [by_place(fed(table, [order[rank::2]], workers=2)) for rank in (0, 1)]
    assert one == many == ranks[0] | ranks[1]
    assert len(one) == 30
    assert not [t for t in threading.enumerate() if t.name.startswith("views")]
    for other in (by_place(fed(table, [order], epoch=2)), by_place(fed(table, [order], seed=4))):
        assert not any(other[i] == one[i] for i in one)


def test_a_row_that_is_drawn_twice_is_seen_in_two_ways(table: panderm.Table) -> None:
    rows = np.array([5, 5, 9, 5])
    (batch,) = fed(table, [np.array([3, 0, 2])], rows_of_place=rows)
    assert batch.places.tolist() == [3, 0, 2]
    assert batch.rows.tolist() == [5, 5, 9]
    assert not np.array_equal(batch.rgb[0], batch.rgb[1])
    still = TrainViews(24, scale=(1, 1), ratio=(1, 1), flip=0, vertical_flip=0)
    with LabelledFeed(table, still, seed=0, epoch=0, groups=[np.arange(4)], rows_of_place=rows) as feed:
        (same,) = list(feed)
    assert np.array_equal(same.rgb[0], same.rgb[1])
    assert np.array_equal(same.rgb[0], same.rgb[3])
    assert not np.array_equal(same.rgb[0], same.rgb[2])


def test_files_that_go_or_break_are_left_out_and_told(copied: panderm.Table) -> None:
    whole = by_place(fed(copied, [np.arange(8)]))
    Path(copied.path[2]).unlink()
    Path(copied.path[6]).write_bytes(b"")
    first, last = fed(copied, [np.arange(4, 8), np.array([2])])
    assert first.places.tolist() == first.rows.tolist() == [4, 5, 7]
    assert first.bad == ((copied.image[6], "an empty file"),)
    assert last.bad == ((copied.image[2], "no such file"),)
    assert len(last.places) == len(last.rgb) == 0
    assert by_place([first, last]) == {i: whole[i] for i in (4, 5, 7)}
    assert fed(copied, []) == []


def test_a_file_that_changed_is_not_learned_from(copied: panderm.Table) -> None:
    Path(copied.path[3]).write_bytes(Path(copied.path[0]).read_bytes())
    with pytest.raises(ParentsError, match="as they were"):
        fed(copied, [np.arange(8)])
    with pytest.raises(UsageError, match="one worker"):
        fed(copied, [], workers=0)


def test_a_disk_that_went_is_an_error_before_the_epoch_ends(copied: panderm.Table) -> None:
    for path in copied.path:
        Path(path).unlink()
    assert [len(batch.bad) for batch in fed(copied, [np.arange(8)])] == [8]  # the loop tells that
    places = np.zeros(3000, dtype=np.int64)
    with pytest.raises(DataError, match="can be read"):
        fed(copied, list(np.arange(3000).reshape(-1, 30)), rows_of_place=places)
