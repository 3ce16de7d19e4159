"""The two-view feed: the same bytes whoever makes them, bounded memory, damage told, threads that end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from panderm.data.drawn import DrawnWorld
from panderm.data.streams import ImageSource, open_source
from panderm.errors import DataError, UsageError
from panderm.pretraining.feed import TwoViewBatch, TwoViewFeed
from panderm.pretraining.masks import MaskDrawer
from panderm.pretraining.views import TwoViews

VIEWS, MASKS = TwoViews(32, 28, jitter=0.3, turn=0.5), MaskDrawer((8, 8), 32)


@pytest.fixture(scope="module")
def source(world: DrawnWorld) -> ImageSource:
    return open_source(world.csv, images=world.images)


def in_groups(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[i : i + size] for i in range(0, len(order), size)]


def by_position(batches: list[TwoViewBatch]) -> dict[int, tuple[bytes, bytes, bytes]]:
    return {
        int(i): tuple(x[k].numpy().tobytes() for x in (batch.student, batch.teacher, batch.mask))  # type: ignore[misc]
        for batch in batches
        for k, i in enumerate(batch.positions)
    }


def feed_of(source: ImageSource, groups: list[np.ndarray], **options: object) -> list[TwoViewBatch]:
    given = {"seed": 3, "epoch": 1} | options
    with TwoViewFeed(source, VIEWS, MASKS, groups=groups, **given) as feed:  # type: ignore[arg-type]
        return list(feed)


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("views")]


def test_an_image_is_the_same_whatever_workers_batches_and_ranks(source: ImageSource) -> None:
    order = np.random.default_rng(0).permutation(40)
    one = by_position(feed_of(source, in_groups(order, 40), workers=1))
    many = by_position(feed_of(source, in_groups(order[::-1], 7), workers=3, ahead=1))
    ranks = [by_position(feed_of(source, in_groups(order[rank::2], 5), workers=2)) for rank in (0, 1)]
    assert one == many == ranks[0] | ranks[1]
    assert len(one) == 40
    assert threads() == []
    other_epoch = by_position(feed_of(source, in_groups(order, 8), epoch=2))
    other_seed = by_position(feed_of(source, in_groups(order, 8), seed=4))
    for other in (other_epoch, other_seed):
        assert sum(other[i][0] == one[i][0] for i in one) == 0
        assert sum(other[i][2] == one[i][2] for i in one) < 5


def test_views_can_stay_while_masks_change(source: ImageSource) -> None:
    groups = in_groups(np.arange(12), 6)
    first = by_position(feed_of(source, groups, epoch=0))
    later = by_position(feed_of(source, groups, epoch=4, view_epoch=0))
    assert all(later[i][:2] == first[i][:2] for i in first)
    assert sum(later[i][2] == first[i][2] for i in first) < 3


def test_masks_have_the_asked_count_and_batches_the_order_of_their_groups(source: ImageSource) -> None:
    groups = [np.array([5, 2, 80]), np.array([3]), np.arange(20, 30)]
    batches = feed_of(source, groups)
    assert [b.positions.tolist() for b in batches] == [g.tolist() for g in groups]
    for batch in batches:
        assert batch.student.shape == (len(batch.positions), 32, 32, 3)
        assert batch.teacher.shape == (len(batch.positions), 28, 28, 3)
        assert (batch.mask.sum(1) == 32).all()
        assert batch.bad == ()


def test_bad_images_are_left_out_and_told(source: ImageSource, world: DrawnWorld, tmp_path: Path) -> None:
    for k in range(4):
        (tmp_path / f"good{k}.jpg").write_bytes(source.read(k))
    (tmp_path / "cut.jpg").write_bytes(source.read(0)[:200])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.png").write_text("no image")
    found = open_source(tmp_path)
    names = list(found.names())
    batches = feed_of(found, [np.arange(3), np.arange(3, 7), np.array([0])])
    assert sum(len(b.positions) for b in batches) == 4
    told = dict(one for batch in batches for one in batch.bad)
    assert set(told) == {"cut.jpg", "empty.jpg", "text.png"}
    assert told["empty.jpg"] == "an empty file"
    bad = batches[-1]  # of one that is bad: an empty batch, not an end
    assert names[0] == "cut.jpg"
    assert len(bad.positions) == len(bad.student) == 0
    for batch in batches:
        good = by_position(feed_of(found, [batch.positions])) if len(batch.positions) else {}
        assert by_position([batch]) == good


def test_a_source_without_one_good_image_is_an_error(tmp_path: Path) -> None:
    for k in range(5):
        (tmp_path / f"bad{k}.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="can be read") as told:
        feed_of(open_source(tmp_path), in_groups(np.arange(5), 2))
    assert "bad0.jpg: not an image" in str(told.value)
    listed = tmp_path / "long.txt"
    listed.write_text("\n".join(f"nowhere{k}.jpg" for k in range(5000)))
    seen: list[int] = []

    def groups() -> Iterator[np.ndarray]:
        for group in in_groups(np.arange(5000), 50):
            seen.append(len(group))
            yield group

    with pytest.raises(DataError, match="can be read"):
        feed_of(open_source(listed), groups())  # type: ignore[arg-type]
    assert sum(seen) < 1000  # not at the end of an epoch
    with pytest.raises(UsageError, match="one worker"):
        feed_of(open_source(listed), [], workers=0)


def test_groups_are_drawn_only_when_there_is_room(source: ImageSource) -> None:
    drawn: list[int] = []

    def groups() -> Iterator[np.ndarray]:
        for k in range(12):
            drawn.append(k)
            yield np.arange(3)

    with TwoViewFeed(source, VIEWS, MASKS, seed=0, epoch=0, groups=groups(), ahead=2) as feed:
        for number, _ in enumerate(feed):
            assert len(drawn) <= number + 1 + 2
            if number == 4:
                break
    assert threads() == []
    assert len(drawn) < 12


def test_ctrl_c_ends_it_at_once(tmp_path: Path, world: DrawnWorld) -> None:
    script = tmp_path / "forever.py"
    script.write_text(
        textwrap.dedent(f"""
        import itertools, signal
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it
        import numpy as np
        from panderm.data.streams import open_source
        from panderm.pretraining.feed import TwoViewFeed
        from panderm.pretraining.masks import MaskDrawer
        from panderm.pretraining.views import TwoViews
        source = open_source({str(world.csv)!r}, images={str(world.images)!r})
        groups = (np.arange(64) for _ in itertools.count())
        feed = TwoViewFeed(source, TwoViews(64, 56), MaskDrawer((4, 4), 8), seed=0, epoch=0, groups=groups)
        for batch in feed:
            print("batch", flush=True)
        """)
    )
    child = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "batch\n"
    child.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, error = child.communicate(timeout=60)
    assert time.monotonic() - began < 50
    assert child.returncode != 0
    assert "KeyboardInterrupt" in error
    assert "Exception ignored" not in error
