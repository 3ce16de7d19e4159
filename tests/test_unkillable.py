"""Killed, interrupted, out of disk, read-only: what is there is whole, and the same command goes on."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import panderm
from panderm import pipeline, storage
from panderm.cli import app
from panderm.data.images import ImageError
from panderm.embeddings import commit, made
from panderm.embeddings.making import shards
from panderm.models import load

IMAGES = 36
SHARD = 8  # rows: five shards, the last one short


class ColourMeans(torch.nn.Module):
    """Mean colours of an 8 × 8 grid: 192 numbers an image, as random-tiny has, in no time."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(pixels, 8).flatten(1)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with skin.csv and its images."""
    folder = tmp_path_factory.mktemp("drawn")
    rng = np.random.default_rng(0)
    rows = ["image,split,label"]
    for i in range(IMAGES):
        light = 190 if i % 2 else 70
        pixels = rng.integers(light - 50, light + 50, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
        rows.append(f"{i:02d}.png,{('train', 'test', 'train', 'val')[i % 4 if i % 3 else 0]},{'ab'[i % 2]}")
    (folder / "skin.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, encoder: panderm.Encoder) -> panderm.Encoder:
    """random-tiny with a network that takes no time, and small shards."""
    eye = panderm.Encoder(ColourMeans(), encoder.preprocess, encoder.record, encoder.account, encoder.device)
    monkeypatch.setattr(load, "load_encoder", lambda *_, **__: eye)
    monkeypatch.setattr(pipeline, "load_encoder", lambda *_, **__: eye)
    monkeypatch.setattr(shards, "_SHARD_ROWS", SHARD)
    return eye


# Processes that are killed. Starting one takes seconds, so one driver imports everything and forks the rest.

DRIVER = '''
import json, os, signal, sys, time
from pathlib import Path

import functools
import torch
import typer.main

torch.set_num_threads(1)  # threads do not survive a fork
import panderm.data.table
from panderm import storage
from panderm.cli import app, main
from panderm.embeddings import commit, made
from panderm.embeddings.making import shards
from panderm.models import encoder, load

class ColourMeans(torch.nn.Module):
    def forward(self, pixels):
        time.sleep(self.pause)
        return torch.nn.functional.adaptive_avg_pool2d(pixels, 8).flatten(1)

tiny = load.load_encoder("random-tiny")
network = ColourMeans()
eye = encoder.Encoder(network, tiny.preprocess, tiny.record, tiny.account, tiny.device)
load.load_encoder = lambda *_, **__: eye
typer.main.get_command = functools.cache(typer.main.get_command)
typer.main.get_command(app)  # once for all
shards._SHARD_ROWS = SHARD

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def on_call(n, function):
    """Return the function, but its n-th call kills this process before it does anything."""
    left = [n]
    def counted(*args, **kwargs):
        left[0] -= 1
        if not left[0]:
            die()
        return function(*args, **kwargs)
    return counted

def sabotage(plan):
    if "flush" in plan:
        storage.flush = commit.flush = on_call(plan["flush"], storage.flush)
    if "slow" in plan:
        flush = storage.flush
        def slowly(path):
            time.sleep(plan["slow"])
            flush(path)
        storage.flush = commit.flush = slowly
    if "replace" in plan:
        Path.replace = on_call(plan["replace"], Path.replace)
    if "half" in plan:
        left, write = [plan["half"]], made.write_part
        def half(where, *what):
            rows = write(where, *what)
            left[0] -= 1
            if not left[0]:
                os.truncate(where, os.path.getsize(where) // 2)
                die()
            return rows
        made.write_part = commit.write_part = half

def one(plan, words, log):
    child = os.fork()
    if not child:
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            torch.set_num_threads(1)  # torch replaces the pool it lost; two threads doing so would race
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            network.pause = plan.get("pause", 0)
            sabotage(plan)
            sys.argv = ["panderm", *words]
            main()
        except SystemExit as end:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code or 0)
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(99)
    if "signal" in plan:
        out = Path(words[words.index("--out") + 1])
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if out.exists() and len(list(out.glob("made/*.parquet"))) >= plan["after"]:
                break
            time.sleep(0.002)
        time.sleep(plan.get("delay", 0))
        os.kill(child, getattr(signal, plan["signal"]))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"status": status, "said": Path(log).read_text()}

for line in sys.stdin:
    job = json.loads(line)
    print(json.dumps(one(job["plan"], job["words"], job["log"])), flush=True)
'''


class Ended(NamedTuple):
    """How a process ended: its exit code, or minus the signal; and what it wrote."""

    status: int
    said: str


Start = Callable[..., Ended]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, drawn: Path) -> Iterator[Start]:
    """Return a function that runs a command in a process of its own, to be killed as planned."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.py").write_text(DRIVER.replace("SHARD\n", f"{SHARD}\n"))
    with subprocess.Popen(
        [sys.executable, str(folder / "driver.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None

        def run(out: Path, *words: str, csv: Path | None = None, **plan: Any) -> Ended:
            command = [
                "embed",
                str(csv or drawn / "skin.csv"),
                "--encoder",
                "random-tiny",
                "-q",
                "--batch-size",
                "4",
            ]
            command += ["--out", str(out), *words]
            job = {"plan": plan, "words": command, "log": str(folder / "log")}
            print(json.dumps(job), file=driver.stdin, flush=True)
            return Ended(**json.loads(driver.stdout.readline()))

        yield run
        driver.stdin.close()


@pytest.fixture(scope="module")
def uninterrupted(start: Start, tmp_path_factory: pytest.TempPathFactory) -> panderm.Embeddings:
    out = tmp_path_factory.mktemp("uninterrupted") / "skin.emb"
    assert start(out).status == 0
    return panderm.open_embeddings(out)


def rows_held(out: Path) -> int:
    """Return how many rows a folder holds that may be unfinished, or 0 where there is none yet."""
    return len(panderm.open_embeddings(out, partial=True)) if out.exists() else 0


def content(out: Path) -> dict[str, object]:
    """Return the bytes of every file of a folder, and of its card all but when and how fast it was made."""
    card = json.loads((out / "card.json").read_text())
    for passing in ("provenance", "images_per_second"):
        del card[passing]
    files = {p.name: p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name != "card.json"}
    return {"card.json": card, **files}


def require_same(out: Path, wanted: panderm.Embeddings) -> None:
    """Byte for byte what an uninterrupted run makes, and nothing else."""
    assert wanted.path is not None
    assert content(out) == content(wanted.path)
    left = [p.name for p in out.parent.rglob("*") if p.name.startswith(".") or p.suffix in (".tmp", ".old")]
    assert not left, "something half-written was left behind"
    assert not (out / "made").exists()


# What an embedding puts on the disk: the first card (4 steps); five shards, part and last card (2 each).
STEPS = 4 + 2 * 5 + 2 + 2


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_killed_at_any_step_and_run_again(
    step: int, start: Start, uninterrupted: panderm.Embeddings, tmp_path: Path
) -> None:
    out = tmp_path / "skin.emb"
    assert start(out, flush=step).status == -signal.SIGKILL
    kept = rows_held(out)
    assert kept == min(IMAGES, SHARD * max(0, (step - 4) // 2))
    assert start(out).status == 0
    require_same(out, uninterrupted)


def test_there_are_no_further_steps(start: Start, tmp_path: Path) -> None:
    assert start(tmp_path / "skin.emb", flush=STEPS + 1).status == 0


@pytest.mark.parametrize("shard", [1, 3, 5, 6])
def test_killed_in_the_middle_of_a_file(
    shard: int, start: Start, uninterrupted: panderm.Embeddings, tmp_path: Path
) -> None:
    out = tmp_path / "skin.emb"
    assert start(out, half=shard).status == -signal.SIGKILL
    assert [p.name for p in out.rglob(".*.tmp")], "a half-written file under a hidden name"
    assert rows_held(out) == min(IMAGES, SHARD * (shard - 1))
    with pytest.raises(panderm.PandermError, match="must be complete"):
        panderm.open_embeddings(out)
    assert start(out).status == 0
    require_same(out, uninterrupted)


@pytest.mark.parametrize(("name", "status"), [("SIGKILL", -9), ("SIGTERM", 130)])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_killed_from_outside(
    name: str, status: int, after: int, start: Start, uninterrupted: panderm.Embeddings, tmp_path: Path
) -> None:
    out = tmp_path / "skin.emb"
    assert start(out, pause=0.1, signal=name, after=after).status == status
    assert after * SHARD <= rows_held(out) < IMAGES
    assert start(out).status == 0
    require_same(out, uninterrupted)


def test_killed_again_and_again(start: Start, uninterrupted: panderm.Embeddings, tmp_path: Path) -> None:
    """Every start gets a little further, however often it is killed."""
    out = tmp_path / "skin.emb"
    held = [0]
    while start(out, flush=4).status == -signal.SIGKILL:
        held.append(rows_held(out))
        assert held[-1] > held[-2] or held[-1] in (0, IMAGES)
        assert len(held) < 10
    require_same(out, uninterrupted)
    assert len(held) > 3


def test_interrupted_with_the_keyboard(
    start: Start, uninterrupted: panderm.Embeddings, tmp_path: Path
) -> None:
    out = tmp_path / "skin.emb"
    ended = start(out, pause=0.05, signal="SIGINT", after=2)
    assert ended.said == "stopped. What was finished is kept; run the same command again to go on.\n"
    assert ended.status == 130
    assert 2 * SHARD <= rows_held(out) < IMAGES
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".")], "an interrupt tidies up"
    said = start(out)
    assert said.status == 0
    assert f"{IMAGES} images × 192 by random-tiny" in said.said
    require_same(out, uninterrupted)


def test_interrupted_before_anything_is_done(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "skin.emb"
    ended = start(out, pause=0.2, signal="SIGINT", after=0)
    assert ended.status == 130
    assert "Traceback" not in ended.said
    assert ended.said.endswith("run the same command again to go on.\n")
    assert rows_held(out) == 0


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_killed_while_replacing(
    step: int, start: Start, uninterrupted: panderm.Embeddings, tmp_path: Path
) -> None:
    """The old folder steps aside for the new: at no moment is there a mixture of both."""
    out = tmp_path / "skin.emb"
    assert start(out).status == 0
    assert start(out, "--overwrite", replace=step).status == -signal.SIGKILL
    # Old and whole; or absent; or new and empty.
    assert (rows_held(out), out.exists()) == {1: (36, True), 2: (36, True), 3: (0, False), 4: (0, True)}[step]
    assert start(out, "--overwrite").status == 0
    require_same(out, uninterrupted)


def test_a_link_to_a_folder_is_replaced_as_a_link(tmp_path: Path) -> None:
    """What it pointed to may be someone else's."""
    with storage.new_folder(tmp_path / "far.emb") as folder:
        (folder / "card.json").write_text("{}")
    (tmp_path / "near.emb").symlink_to(tmp_path / "far.emb")
    with storage.new_folder(tmp_path / "near.emb", overwrite=True) as folder:
        (folder / "card.json").write_text('{"new": 1}')
    assert (tmp_path / "far.emb/card.json").read_text() == "{}"
    assert (tmp_path / "near.emb/card.json").read_text() == '{"new": 1}'
    assert sorted(p.name for p in tmp_path.iterdir()) == ["far.emb", "near.emb"]


def test_leftovers_of_a_living_process_are_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        mine = tmp_path / f".scores.json.{other.pid}.tmp"
        dead = tmp_path / f".scores.json.{2**22 + 7}.tmp"  # above the kernel's largest
        own = tmp_path / ".scores.json.notes.tmp"
        for path in (mine, dead, own):
            path.write_text("{}")
        storage.write_json(tmp_path / "scores.json", {})
        assert (mine.exists(), dead.exists(), own.exists()) == (True, False, True)
        other.communicate(b"\n")
    storage.write_json(tmp_path / "scores.json", {}, overwrite=True)
    assert not mine.exists()


# Images that change under our hands


def test_an_image_that_changed_between_check_and_load(
    drawn: Path, quick: panderm.Encoder, tmp_path: Path
) -> None:
    shutil.copytree(drawn, tmp_path / "here")
    csv, spoilt = tmp_path / "here/skin.csv", tmp_path / "here/20.png"
    table = panderm.read_table(csv, progress=False)
    Image.new("RGB", (32, 24), "red").save(spoilt)
    with pytest.raises(ImageError) as caught:
        quick.embed(table, tmp_path / "skin.emb", batch_size=4, progress=False)
    assert str(caught.value) == (
        f"an image must be readable.\n  {spoilt}: changed since the table was checked\n"
        "  hint: run the same command again; it notices what changed"
    )
    spoilt.unlink()
    with pytest.raises(ImageError, match="no such file"):
        quick.embed(table, tmp_path / "skin.emb", batch_size=4, progress=False)
    # What the hint promises: the table as it is now, into the same folder.
    Image.new("RGB", (32, 24), "red").save(spoilt)
    words = ["embed", str(csv), "--encoder", "random-tiny", "-q", "--out", str(tmp_path / "skin.emb")]
    assert CliRunner().invoke(app, words).exit_code == 0
    found = panderm.open_embeddings(tmp_path / "skin.emb")
    red = panderm.read_table(csv, progress=False).select(np.array([20]))
    assert found.rows.sha256[20] == red.sha256[0]
    np.testing.assert_allclose(found.vectors[[20]], quick.embed(red, progress=False).vectors, atol=1e-6)


# Really killed, at moments drawn at random

KILLS = 6  # at least, in each of the tests below; each single step is killed above


class Killing:
    """Starts a command again and again, killed at a random moment each time, until it ends."""

    def __init__(self, start: Start, csv: Path | None = None) -> None:
        self.start = start
        self.csv = csv
        self.rng = np.random.default_rng(0)
        self.kills = 0
        self.rounds = 0
        self.whole = 0.0  # seconds that a run takes which is not killed

    def measure(self, out: Path) -> None:
        """Run once to the end, as slowly as all others: each step takes as long as its neighbours."""
        began = time.monotonic()
        assert self.start(out, csv=self.csv, slow=0.01).status == 0
        self.whole = time.monotonic() - began

    def until_whole(self, out: Path, seen: Callable[[], None]) -> None:
        self.rounds += 1
        for _ in range(100):
            moment = self.rng.uniform(0, self.whole)
            plan = {"slow": 0.01, "signal": "SIGKILL", "after": 0, "delay": moment}
            ended = self.start(out, csv=self.csv, **plan)
            if ended.status == 0:
                return
            assert ended.status == -signal.SIGKILL, ended.said
            self.kills += 1
            seen()
        raise AssertionError("100 kills and no end")


def test_killed_at_random_moments(start: Start, uninterrupted: panderm.Embeddings, tmp_path: Path) -> None:
    killing = Killing(start)
    killing.measure(tmp_path / "measured/skin.emb")
    require_same(tmp_path / "measured/skin.emb", uninterrupted)
    while killing.kills < KILLS:
        out = tmp_path / f"{killing.rounds}/skin.emb"
        held = [0]

        def more(out: Path = out, held: list[int] = held) -> None:
            held.append(rows_held(out))
            assert held[-1] >= held[-2], "nothing that was made is lost"

        killing.until_whole(out, more)
        require_same(out, uninterrupted)


@pytest.mark.slow
def test_killed_at_random_moments_while_it_follows_a_table(start: Start, drawn: Path, tmp_path: Path) -> None:
    """At each moment the folder is the old one or the new one, and the new one is always the same."""
    shutil.copytree(drawn, tmp_path / "here")
    csv = tmp_path / "here/skin.csv"
    assert start(tmp_path / "old/skin.emb", csv=csv).status == 0
    head, *rows = csv.read_text().splitlines()
    Image.new("RGB", (32, 24), "red").save(tmp_path / "here/03.png")
    for i in range(6):
        Image.new("RGB", (32, 24), (20 * i, 99, 9)).save(tmp_path / f"here/new-{i}.png")
        rows.insert(5 * i, f"new-{i}.png,train,a")
    rows[7:10] = reversed(rows[7:10])
    rows[20] = rows[20][:-1] + ("a" if rows[20].endswith("b") else "b")
    csv.write_text("\n".join([head, *rows[:30], *rows[33:]]) + "\n")
    new = tmp_path / "new/skin.emb"
    shutil.copytree(tmp_path / "old/skin.emb", new)
    killing = Killing(start, csv)
    killing.measure(new)
    wanted = panderm.open_embeddings(new)
    assert len(wanted) == IMAGES + 6 - 3
    either = {
        emb.card.table.sha256: emb for emb in (wanted, panderm.open_embeddings(tmp_path / "old/skin.emb"))
    }
    while killing.kills < KILLS:
        out = tmp_path / f"{killing.rounds}/skin.emb"
        shutil.copytree(tmp_path / "old/skin.emb", out)

        def whole(out: Path = out) -> None:
            found = panderm.open_embeddings(out)
            same = either[found.card.table.sha256]
            assert found.rows.image.tolist() == same.rows.image.tolist()
            assert found.rows.label.tolist() == same.rows.label.tolist()
            np.testing.assert_array_equal(found.vectors, same.vectors)

        killing.until_whole(out, whole)
        require_same(out, wanted)


# A full disk


def full(out: str) -> str:
    return (
        "ArtifactError: the disk must have room for the output.\n"
        f"  no space left while writing {out}; nothing half-written was kept\n"
        "  hint: free some space, or choose an --out on another disk, and run the same command again\n"
    )


@pytest.fixture(scope="module")
def made_desk(drawn: Path, encoder: panderm.Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    eye = panderm.Encoder(ColourMeans(), encoder.preprocess, encoder.record, encoder.account, encoder.device)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(load, "load_encoder", lambda *_, **__: eye)
        for words in (
            f"embed {drawn}/skin.csv --encoder random-tiny -q --out skin.emb",
            "probe skin.emb --out skin.pred --C 0.1",
            "evaluate skin.pred --out skin.json --draws 20",
        ):
            result = CliRunner().invoke(app, words.split())
            assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def desk(made_desk: Path, quick: panderm.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with embeddings, predictions and scores."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made_desk, tmp_path, dirs_exist_ok=True)
    return tmp_path


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


VERBS = {
    "embed": ("embed {csv} --encoder random-tiny -q --out {out}", "new.emb"),
    "probe": ("probe skin.emb --C 0.1 --out {out}", "new.pred"),
    "evaluate": ("evaluate skin.pred --draws 20 --out {out}", "new.json"),
    "report": ("report skin.pred --scores skin.json --out {out}", "new.html"),
}


def no_room(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("verb", VERBS)
def test_full_disk(
    verb: str, existing: bool, desk: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, new = VERBS[verb]
    old = {"embed": "skin.emb", "probe": "skin.pred", "evaluate": "skin.json", "report": "skin.pred"}[verb]
    out = old if existing and verb != "report" else new
    words = command.format(csv=drawn / "skin.csv", out=out).split() + ["--overwrite"] * existing
    before = listing(desk)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_room)
        result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 2
    assert result.stderr == full(out + "/card.json" if verb in ("embed", "probe") else out)
    assert list(json.loads(result.stdout)) == ["error"]
    assert listing(desk) == before
    assert [p.name for p in desk.iterdir() if p.name.startswith(".")] == []
    assert CliRunner().invoke(app, words).exit_code == 0


@pytest.mark.parametrize("shard", [1, 3])
def test_a_disk_that_fills_up_while_embedding_keeps_the_shards_that_are_whole(
    shard: int, drawn: Path, quick: panderm.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = f"embed {drawn}/skin.csv --encoder random-tiny -q --batch-size 4 --out skin.emb".split()
    write = made.write_part

    def fills_up(where: Path, *what: Any) -> int:
        rows = write(where, *what)
        if f"0-0000{shard}" in where.name:
            os.truncate(where, 100)
            no_room()
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(made, "write_part", fills_up)
        result = CliRunner().invoke(app, words)
    assert result.stderr == full(f"skin.emb/made/0-0000{shard}.parquet")
    assert result.exit_code == 2
    whole = [f"0-0000{i}.parquet" for i in range(shard)]
    assert sorted(p.name for p in Path("skin.emb").iterdir()) == ["card.json", "made"]
    assert sorted(p.name for p in Path("skin.emb/made").iterdir()) == whole
    assert rows_held(Path("skin.emb")) == SHARD * shard
    assert CliRunner().invoke(app, words).exit_code == 0
    assert len(panderm.open_embeddings("skin.emb")) == IMAGES


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_fails_at_the_end_loses_nothing(
    number: int,
    drawn: Path,
    quick: panderm.Encoder,
    uninterrupted: panderm.Embeddings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All shards are there and the part cannot be written: full, or read-only from one moment to the next."""
    monkeypatch.chdir(tmp_path)
    words = f"embed {drawn}/skin.csv --encoder random-tiny -q --batch-size 4 --out skin.emb".split()

    def fails(where: Path, *_: Any) -> int:
        where.write_bytes(b"PAR1 and no more")
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(commit, "write_part", fails)
        result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert result.stderr == (
        full("skin.emb/part-00000.parquet")
        if number == errno.ENOSPC
        else "ArtifactError: the output must be writable.\n"
        "  skin.emb/part-00000.parquet: Read-only file system\n"
        "  hint: choose another --out, or mend the permissions of its folder\n"
    )
    assert sorted(p.name for p in Path("skin.emb").iterdir()) == ["card.json", "made"]
    assert rows_held(Path("skin.emb")) == IMAGES
    with monkeypatch.context() as patch:  # not one image is encoded again
        patch.setattr(panderm.Encoder, "forward_rgb", None)
        assert CliRunner().invoke(app, words).exit_code == 0
    require_same(tmp_path / "skin.emb", uninterrupted)


class Disk:
    """A small disk of its own in memory; it can be grown, and be made read-only."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def mount(self, options: str) -> None:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.path)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"mounting a small disk is not permitted here: {done.stderr.strip()}")

    def again(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of 64 KiB, unmounted in the end."""
    if os.name != "posix" or shutil.which("mount") is None:
        pytest.skip("no mount on this system")
    small = Disk(tmp_path / "disk")
    small.path.mkdir()
    small.mount("size=64k")
    try:
        yield small
    finally:
        subprocess.run(["umount", "--lazy", str(small.path)], check=False)


def fill(disk: Disk) -> Path:
    """Fill the disk to its last page; the file that does it, to be cut where room is wanted."""
    filler = disk.path / "holiday.mp4"
    # What the disk says is free is not to be trusted: write until nothing more is taken.
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


@pytest.mark.parametrize("verb", VERBS)
def test_a_disk_that_is_really_full(verb: str, disk: Disk, desk: Path, drawn: Path) -> None:
    command, name = VERBS[verb]
    out = disk.path / name
    words = command.format(csv=drawn / "skin.csv", out=out).split()
    filler = fill(disk)
    if verb == "embed":
        # Room for a card of embeddings and a shard or two; for the rest, none.
        os.truncate(filler, filler.stat().st_size - 28_672)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert result.stderr.startswith("ArtifactError: the disk must have room for the output.\n")
    assert "Traceback" not in result.output
    left = sorted(p.name for p in disk.path.rglob("*") if p.is_file() and p != filler)
    if verb == "embed":
        held = sorted(p.name for p in out.glob("made/*"))
        assert left == sorted(["card.json", *held])
        assert 0 < rows_held(out) == SHARD * len(held) < IMAGES
    else:
        assert left == []
    filler.unlink()
    disk.again("size=4m")
    assert CliRunner().invoke(app, words).exit_code == 0


def test_a_disk_that_cannot_be_written(disk: Disk, desk: Path, drawn: Path) -> None:
    disk.again("ro")
    for verb, (command, name) in VERBS.items():
        out = disk.path / name
        result = CliRunner().invoke(app, command.format(csv=drawn / "skin.csv", out=out).split())
        assert result.exit_code == 2, verb
        assert result.stderr == (
            "ArtifactError: the output must be writable.\n"
            f"  {out}: Read-only file system\n"
            "  hint: choose another --out, or mend the permissions of its folder\n"
        )


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permission bits do not bind root"
)
def test_a_folder_that_may_not_be_written(desk: Path, drawn: Path) -> None:
    locked = desk / "locked"
    locked.mkdir(mode=0o555)
    for verb, (command, name) in VERBS.items():
        out = locked / name
        result = CliRunner().invoke(app, command.format(csv=drawn / "skin.csv", out=out).split())
        assert result.exit_code == 2, verb
        assert result.stderr.splitlines()[1] == f"  {out}: Permission denied"
