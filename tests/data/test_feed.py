"""The feed: batches in the order of their groups, in bounded memory, whoever decodes."""

from __future__ import annotations

import os
import shutil
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

import panderm
from panderm.data import decoders, feed
from panderm.data.decoders import Clock
from panderm.data.drawn import DrawnWorld
from panderm.data.feed import Feed, Kind, Pace, wanted_threads, wants_processes
from panderm.data.images import ImageError, read_image
from panderm.errors import PandermError, UsageError


def in_groups(n: int, size: int = 7) -> list[np.ndarray]:
    return [np.arange(i, min(i + size, n)) for i in range(0, n, size)]


def decoding_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("decode")]


@pytest.mark.parametrize(("kind", "workers"), [("auto", 1), ("threads", 3), ("auto", None), ("processes", 2)])
def test_batches_come_in_the_order_of_their_groups_with_the_references_pixels(
    kind: Kind, workers: int | None, table: panderm.Table, encoder: panderm.Encoder
) -> None:
    groups = [np.array([5, 2, 80]), np.array([3]), *in_groups(40, 9)]
    with Feed(table, encoder.preprocess, groups=groups, workers=workers, kind=kind, exact=True) as made:
        batches = list(made)
    assert [b.positions.tolist() for b in batches] == [g.tolist() for g in groups]
    for batch in batches:
        assert batch.bad == {}
        assert batch.rgb.is_contiguous()
        for k, i in enumerate(batch.positions):
            assert np.array_equal(batch.rgb[k].numpy(), encoder.preprocess.pixels(read_image(table.path[i])))
    assert decoding_threads() == []
    assert made.kind == ("processes" if kind == "processes" else "threads")


def test_fast_pixels_are_the_same_whoever_decodes(table: panderm.Table, encoder: panderm.Encoder) -> None:
    made = []
    for kind in ("threads", "processes"):
        with Feed(table, encoder.preprocess, groups=in_groups(20), workers=2, kind=kind) as one:
            made.append(np.concatenate([batch.rgb.numpy() for batch in one]))
    assert np.array_equal(*made)


def test_pixels_go_through_a_pipe_where_shared_memory_is_small(
    table: panderm.Table, encoder: panderm.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = type(shutil.disk_usage("/"))(64 << 20, 64 << 20, 0)
    monkeypatch.setattr(decoders.shutil, "disk_usage", lambda _: full)
    with Feed(
        table, encoder.preprocess, groups=in_groups(12), workers=2, kind="processes", exact=True
    ) as one:
        rgb = np.concatenate([batch.rgb.numpy() for batch in one])
    for i in range(12):
        assert np.array_equal(rgb[i], encoder.preprocess.pixels(read_image(table.path[i])))


@pytest.mark.parametrize(("kind", "ahead"), [("threads", 1), ("threads", 3), ("processes", 2)])
def test_groups_are_drawn_only_where_there_is_room(
    kind: Kind, ahead: int, table: panderm.Table, encoder: panderm.Encoder
) -> None:
    drawn = []

    def groups() -> Iterator[np.ndarray]:
        for group in in_groups(90, 5):
            drawn.append(int(group[0]))
            yield group

    with Feed(table, encoder.preprocess, groups=groups(), workers=2, kind=kind, ahead=ahead) as made:
        assert drawn == []
        for n, _ in enumerate(made):
            assert len(drawn) <= n + 1 + ahead
            if n == 4:
                break
    assert len(drawn) <= 5 + ahead
    assert decoding_threads() == []


def test_no_worker_is_too_few(table: panderm.Table, encoder: panderm.Encoder) -> None:
    with pytest.raises(UsageError, match="at least one worker"):
        Feed(table, encoder.preprocess, groups=[], workers=0)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_no_groups_no_batches(kind: Kind, table: panderm.Table, encoder: panderm.Encoder) -> None:
    with Feed(table, encoder.preprocess, groups=[], kind=kind) as made:
        assert list(made) == []


# Files that are not what they were


@pytest.fixture
def own(world: DrawnWorld, tmp_path: Path) -> panderm.Table:
    """A table of twelve images that may be spoilt."""
    lines = world.csv.read_text().splitlines()[:13]
    for line in lines[1:]:
        shutil.copy(world.images / line.split(",")[0], tmp_path)
    (tmp_path / "skin.csv").write_text("\n".join(lines) + "\n")
    return panderm.read_table(tmp_path / "skin.csv", progress=False)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_file_that_changed_stops_the_feed_in_its_turn(
    kind: Kind, own: panderm.Table, encoder: panderm.Encoder
) -> None:
    Path(own.path[7]).write_bytes(Path(own.path[3]).read_bytes())
    with Feed(own, encoder.preprocess, groups=in_groups(12, 3), workers=2, kind=kind) as made:
        batches = iter(made)
        assert [next(batches).positions[0] for _ in range(2)] == [0, 3]
        with pytest.raises(ImageError) as caught:
            next(batches)
    assert caught.value.reason == "changed since the table was checked"
    assert str(caught.value.path) == own.path[7]
    assert decoding_threads() == []


def test_a_file_that_went_away_stops_the_feed(own: panderm.Table, encoder: panderm.Encoder) -> None:
    Path(own.path[0]).unlink()
    with pytest.raises(ImageError, match="must be readable") as caught:
        list(Feed(own, encoder.preprocess, groups=in_groups(12)))
    assert caught.value.reason == "no such file"


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_files_that_cannot_be_decoded_are_told_and_left_out(
    kind: Kind, own: panderm.Table, encoder: panderm.Encoder
) -> None:
    for i in (1, 4, 5, 6, 7):
        content = bytearray(Path(own.path[i]).read_bytes())
        tables = content.index(b"\xff\xc4")
        content[tables + 5 : tables + 21] = b"\xff" * 16  # more codes than there can be
        Path(own.path[i]).write_bytes(content)
    again = panderm.read_table(Path(own.card.csv), decode=False, progress=False)
    assert len(again) == 12
    with Feed(again, encoder.preprocess, groups=in_groups(12, 4), workers=2, kind=kind) as made:
        first, second, third = made
    assert first.positions.tolist() == [0, 2, 3]
    assert list(first.bad) == [1]
    assert first.bad[1].startswith("damaged (")
    assert first.rgb.shape[0] == 3
    assert first.rgb.is_contiguous()
    assert np.array_equal(first.rgb[1].numpy(), encoder.preprocess.pixels(read_image(own.path[2])))
    assert second.positions.tolist() == []
    assert second.rgb.shape == (0, encoder.preprocess.crop, encoder.preprocess.crop, 3)
    assert sorted(second.bad) == [4, 5, 6, 7]
    assert third.bad == {}


# Threads, processes, and what is left of them


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_decoding_starts_no_threads_but_its_own(table: panderm.Table, encoder: panderm.Encoder) -> None:
    """Torch and the BLAS libraries would start a team in each thread that computes, and keep it."""
    code = f"""
        import os
        from pathlib import Path
        import numpy as np
        import torch
        import panderm
        from panderm.data.feed import Feed
        from panderm.data.preprocess import Preprocess

        torch.set_num_threads(4)
        table = panderm.read_table({table.card.csv!r}, images={table.card.images!r}, progress=False)
        preprocess = Preprocess.model_validate_json({encoder.preprocess.model_dump_json()!r})
        before = len(os.listdir("/proc/self/task"))
        with Feed(table, preprocess, groups=np.array_split(np.arange(60), 6), workers=3) as feed:
            for batch in feed:
                most = len(os.listdir("/proc/self/task"))
                assert most <= before + 3, (before, most)
        assert torch.get_num_threads() == 4
        print("fine")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "fine\n", done.stderr


SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it
import numpy as np
import panderm
from panderm.data.feed import Feed
from panderm.data.preprocess import Preprocess

# No "if __name__ == '__main__'": users forget it.
csv, images, preprocess, kind = sys.argv[1:]
table = panderm.read_table(csv, images=images, progress=False)
groups = ([*range(9)] for _ in range(10_000))
feed = Feed(table, Preprocess.model_validate_json(preprocess), groups=groups, workers=2, kind=kind)
for n, batch in enumerate(feed):
    if n == 2:
        print("going", flush=True)
    time.sleep(0.01)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    ("kind", "ended"),
    [("threads", signal.SIGINT), ("processes", signal.SIGINT), ("processes", signal.SIGKILL)],
)
def test_who_is_interrupted_or_killed_leaves_nobody_behind(
    kind: Kind, ended: signal.Signals, table: panderm.Table, encoder: panderm.Encoder, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    words = [table.card.csv, table.card.images, encoder.preprocess.model_dump_json(), kind]
    run = subprocess.Popen(
        [sys.executable, str(script), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert run.stdout
    try:
        assert run.stdout.readline() == "going\n", run.communicate()
        if ended == signal.SIGINT:
            os.killpg(run.pid, signal.SIGINT)  # as a terminal does: the whole group
        else:
            run.kill()
        _, said = run.communicate(timeout=60)  # the pipes are closed only when no child holds them
    except BaseException:
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        raise
    if ended == signal.SIGINT:
        assert said.rstrip().endswith("KeyboardInterrupt")
        assert said.count("Traceback") == 1, said
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("somebody is left of the group")


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_process_that_is_killed_gives_one_clear_error(
    table: panderm.Table, encoder: panderm.Encoder
) -> None:
    endless = ([*range(9)] for _ in range(10_000))
    with Feed(table, encoder.preprocess, groups=endless, workers=2, kind="processes") as made:
        batches = iter(made)
        next(batches)
        pieces = made._decoders._pieces  # type: ignore[union-attr]
        os.kill(pieces._workers[0].pid, signal.SIGKILL)  # type: ignore[union-attr]
        with pytest.raises(PandermError, match="must live until they are told to end") as caught:
            for _ in batches:
                pass
    assert "one of them was ended from outside (" in str(caught.value)
    assert "--workers" in str(caught.value)


# Who decodes, and how many


@pytest.mark.parametrize(
    ("used", "wall", "wanted"),
    [
        (0.8, 0.002 * 16, 1),  # a CPU: 50 ms an image
        (0.032, 0.002 * 64, 6),  # a GPU: 0.5 ms an image, decoding 2 ms
        (0.0, 0.1, 16),
    ],
)
def test_threads_are_half_as_fast_again_as_whom_they_feed(used: float, wall: float, wanted: int) -> None:
    images = 16 if used > 0.5 else 64
    assert wanted_threads(Pace(images, used=used, decoding=Clock(images, wall)), most=16) == wanted


def test_nothing_measured_all_cores() -> None:
    assert wanted_threads(Pace(), most=7) == 7


def test_processes_take_over_only_where_threads_wait_for_each_other() -> None:
    def wants(
        *, waited: float = 10.0, cpu: float = 10.0, read: float = 0.0, left: int = 100_000, used: float = 1.0
    ) -> bool:
        clock = Clock(1000, wall=160, cpu=cpu, read=read)
        return wants_processes(Pace(1000, waited, used, waited + used, clock), cores=16, left=left)

    assert wants()
    assert not wants(waited=0.1, used=10)  # nobody waits
    assert not wants(cpu=150)  # all cores are busy
    assert not wants(read=120)  # a slow disk
    assert not wants(left=1000)  # soon done


def test_a_consumer_that_takes_its_time_is_fed_by_one_thread(
    table: panderm.Table, encoder: panderm.Encoder
) -> None:
    with Feed(table, encoder.preprocess, groups=in_groups(40, 4)) as made:
        assert made.workers == feed.cores()
        for _ in made:
            time.sleep(0.3)
        assert made.workers == 1


def test_processes_take_over_in_the_middle_and_no_pixel_changes(
    table: panderm.Table, encoder: panderm.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "wants_processes", lambda *_: True)
    monkeypatch.setattr(feed, "wanted_threads", lambda _, most: most)
    monkeypatch.setattr(feed, "cores", lambda: 2)
    groups = in_groups(90, 3)
    with Feed(table, encoder.preprocess, groups=groups) as made:
        batches = list(made)
        assert (made.kind, made.workers) == ("processes", 2)
    with Feed(table, encoder.preprocess, groups=groups, workers=1) as alone:
        for one, other in zip(batches, alone, strict=True):
            assert one.positions.tolist() == other.positions.tolist()
            assert np.array_equal(one.rgb, other.rgb)
    assert decoding_threads() == []
