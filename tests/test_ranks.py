"""Several processes on one table: each group once, any may die, any number come back, and one speaks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
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

import panderm
from panderm import pipeline
from panderm.embeddings.making.encoding import groups_of
from panderm.embeddings.making.ranks import Ranks
from panderm.errors import UsageError

IMAGES = 61
BATCH = 4

# Starting a process takes seconds, so one driver imports everything and forks the ranks; they meet over gloo
# as those of torchrun do, which the last tests start for real.
DRIVER = """
import json, os, signal, sys, time

import functools
import torch
import typer.main

torch.set_num_threads(1)  # threads do not survive a fork
import panderm.data.table
import torch.distributed
from panderm.cli import app, main
from panderm.embeddings.making import loop, shards
from panderm.models import encoder, load

class ColourMeans(torch.nn.Module):
    calls = 0
    def forward(self, pixels):
        time.sleep(0.01)
        self.calls += 1
        if self.calls == plan.get("dies"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.calls == plan.get("stops"):
            os.kill(os.getpid(), signal.SIGINT)
        if self.calls == plan.get("breaks"):
            raise RuntimeError("the network came apart\\nand more")
        return torch.nn.functional.adaptive_avg_pool2d(pixels, 8).flatten(1)

tiny = load.load_encoder("random-tiny")
eye = encoder.Encoder(ColourMeans(), tiny.preprocess, tiny.record, tiny.account, tiny.device)
typer.main.get_command = functools.cache(typer.main.get_command)
typer.main.get_command(app)  # once for all
shards._SHARD_ROWS = 8

def loaded(*_, **__):
    if "unloadable" in plan:
        raise panderm.errors.WeightsError("weights must be whole.", "found half of them")
    return eye

load.load_encoder = loaded

def one(rank, job):
    child = os.fork()
    if child:
        return child
    try:
        global plan
        plan = job["plans"].get(str(rank), {})
        signal.signal(signal.SIGINT, signal.default_int_handler)
        torch.set_num_threads(1)
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(job["world"])}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(job["port"])}
        for descriptor, name in ((1, "out"), (2, "err")):
            log = os.open(f"{job['log']}.{rank}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, descriptor)
        sys.argv = ["panderm", *job["words"]]
        if "csv" in plan:  # another table than the lead's, as a script may pass
            import panderm
            table = panderm.read_table(plan["csv"], progress=False)
            loop.extract(eye, table, job["words"][-1], progress=False, batch_size=4)
        else:
            main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        import traceback
        traceback.print_exc()
        code = 99
    import atexit
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

for line in sys.stdin:
    job = json.loads(line)
    children = [one(rank, job) for rank in range(job["world"])]
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children]), flush=True)
"""


class Ended(NamedTuple):
    """How each process ended, and what it wrote."""

    status: list[int]
    out: list[str]
    err: list[str]


Start = Callable[..., Ended]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def skin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with skin.csv and its images."""
    folder = tmp_path_factory.mktemp("skin")
    rng = np.random.default_rng(0)
    rows = ["image,split,label"]
    for i in range(IMAGES):
        Image.fromarray(rng.integers(20 + i, 200, (24, 32, 3), dtype=np.uint8)).save(folder / f"{i:02d}.png")
        rows.append(f"{i:02d}.png,{('train', 'test', 'val')[i % 3]},{'ab'[i % 2]}")
    (folder / "skin.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Return a function that runs a command in several processes."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.py").write_text(DRIVER)
    command = [sys.executable, str(folder / "driver.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None

        def run(world: int, csv: Path, out: Path, *words: str, **plans: dict[str, Any]) -> Ended:
            command = ["embed", str(csv), "--encoder", "random-tiny", "--batch-size", str(BATCH), "-q"]
            job = {
                "world": world,
                "plans": {rank.removeprefix("rank"): plan for rank, plan in plans.items()},
                "words": [*command, *words, "--out", str(out)],
                "log": str(folder / "log"),
                "port": free_port(),
            }
            print(json.dumps(job), file=driver.stdin, flush=True)
            status = json.loads(driver.stdout.readline())
            said = [
                [Path(f"{job['log']}.{rank}.{name}").read_text() for rank in range(world)]
                for name in ("out", "err")
            ]
            return Ended(status, *said)

        yield run
        driver.stdin.close()


@pytest.fixture(scope="module")
def alone(start: Start, skin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that one process makes."""
    out = tmp_path_factory.mktemp("alone") / "skin.emb"
    assert start(1, skin / "skin.csv", out).status == [0]
    return out


def parts_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name.startswith("part-")}


def require_same(found: Path, wanted: Path) -> None:
    """The same parts, byte for byte, the same card but for times, and nothing else."""
    assert parts_of(found) == parts_of(wanted)
    assert sorted(p.name for p in found.iterdir()) == sorted(p.name for p in wanted.iterdir())
    cards = [json.loads((folder / "card.json").read_bytes()) for folder in (found, wanted)]
    for card in cards:
        card.pop("images_per_second")
        card.pop("provenance")
    assert cards[0] == cards[1]


@pytest.mark.parametrize("world", [2, 3])
def test_several_processes_make_what_one_makes(
    world: int, start: Start, skin: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "skin.emb"
    ended = start(world, skin / "skin.csv", out, "--json")
    assert ended.status == [0] * world
    require_same(out, alone)
    told = json.loads(ended.out[0])
    assert len(told["processes"]) == world
    assert sum(told["processes"]) == told["embedded"] == IMAGES
    assert min(told["processes"]) > 0, "the work is shared"
    assert ended.out[1:] == ended.err[1:] == [""] * (world - 1), "only the first process is heard"


def test_in_words(start: Start, skin: Path, tmp_path: Path) -> None:
    ended = start(2, skin / "skin.csv", tmp_path / "skin.emb")
    assert ended.status == [0, 0]
    assert "rows: 61 embedded now\n" in ended.out[0]
    assert "processes: 2, of " in ended.out[0]
    again = start(3, skin / "skin.csv", tmp_path / "skin.emb")
    assert again.status == [0, 0, 0]
    assert "rows: all were there already\n" in again.out[0]


@pytest.mark.parametrize("back", [1, 3])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_is_killed(
    victim: int, back: int, start: Start, skin: Path, alone: Path, tmp_path: Path
) -> None:
    """The others end at once, what was made is kept, and any number may come back."""
    out = tmp_path / "skin.emb"
    ended = start(2, skin / "skin.csv", out, **{f"rank{victim}": {"dies": 5}})
    assert ended.status[victim] == -signal.SIGKILL
    assert ended.status[1 - victim] == 2
    if victim:
        assert ended.err[0] == (
            "PandermError: every process of a run must live to its end.\n"
            "  process 1 of 2 is gone: killed, or out of memory\n"
            "  hint: run the same command again: it goes on with what is left, with any number of processes\n"
        )
    kept = len(panderm.open_embeddings(out, partial=True))
    assert 0 < kept < IMAGES
    assert kept % BATCH in (0, IMAGES % BATCH), "whole groups"
    ended = start(back, skin / "skin.csv", out, "--json")
    assert ended.status == [0] * back
    assert json.loads(ended.out[0])["embedded"] == IMAGES - kept
    require_same(out, alone)


@pytest.mark.parametrize("stopped", [(0, 1, 2), (0,), (2,)])
def test_stopped_with_ctrl_c(
    stopped: tuple[int, ...], start: Start, skin: Path, alone: Path, tmp_path: Path
) -> None:
    """A terminal stops all of them; a scheduler may stop one. Nobody waits for the others for long."""
    out = tmp_path / "skin.emb"
    begun = time.monotonic()
    ended = start(3, skin / "skin.csv", out, **{f"rank{rank}": {"stops": 3} for rank in stopped})
    assert time.monotonic() - begun < 60
    assert ended.status == [130, 130, 130], "who was told before it was stopped ends as the others do"
    told = [f"process {rank} of 3: was stopped\n" in ended.err[0] for rank in stopped if rank]
    if 0 in stopped and not any(told):  # it may hear of another before it is stopped itself
        assert ended.err[0] == "stopped. What was finished is kept; run the same command again to go on.\n"
    else:
        assert any(told)
    assert ended.err[1:] == ["", ""]
    kept = len(panderm.open_embeddings(out, partial=True))
    assert kept > 0
    assert kept % BATCH in (0, IMAGES % BATCH)
    assert start(2, skin / "skin.csv", out).status == [0, 0]
    require_same(out, alone)


def test_what_hinders_the_first_process_ends_all(start: Start, skin: Path, tmp_path: Path) -> None:
    ended = start(3, skin / "none.csv", tmp_path / "skin.emb", "--json")
    assert ended.status == [2, 2, 2]
    assert ended.err[0].startswith("TableError: the table must exist.\n")
    assert json.loads(ended.out[0])["error"]["type"] == "TableError"
    assert ended.out[1:] == ended.err[1:] == ["", ""]
    # While it embeds, too: what was made is kept.
    ended = start(2, skin / "skin.csv", tmp_path / "skin.emb", rank0={"breaks": 5})
    assert ended.status[1] == 2
    assert ended.err[1] == ""
    assert "the network came apart" in ended.err[0]
    assert len(panderm.open_embeddings(tmp_path / "skin.emb", partial=True)) > 0


def test_what_hinders_another_process_is_said_by_the_first(start: Start, skin: Path, tmp_path: Path) -> None:
    ended = start(2, skin / "skin.csv", tmp_path / "a.emb", rank1={"unloadable": 1})
    assert ended.status == [2, 2]
    assert ended.err == ["WeightsError: weights must be whole.\n  found half of them\n", ""]
    assert not (tmp_path / "a.emb").exists()
    ended = start(3, skin / "skin.csv", tmp_path / "b.emb", rank2={"breaks": 2})
    assert ended.status == [2, 2, 2]
    assert ended.err[0] == (
        "PandermError: every process of a run must reach its end.\n"
        "  process 2 of 3: RuntimeError: the network came apart\n"
        "  hint: run the same command again: it goes on with what is left, with any number of processes\n"
    )
    assert ended.err[1:] == ["", ""]


def test_processes_that_were_given_different_tables(start: Start, skin: Path, tmp_path: Path) -> None:
    """In a script each process reads its own table."""
    shutil.copytree(skin, tmp_path / "skin")
    Image.new("RGB", (32, 24), "red").save(tmp_path / "skin/30.png")
    plans = {
        "rank0": {"csv": str(skin / "skin.csv")},
        "rank1": {"csv": str(tmp_path / "skin/skin.csv")},
    }
    ended = start(2, skin / "skin.csv", tmp_path / "a.emb", **plans)
    assert ended.status == [99, 99]  # there is no command line to put it into words
    for said in ended.err:
        assert "ParentsError: all processes of a run must be given the same table." in said


def test_every_bad_image_is_listed_once(start: Start, skin: Path, tmp_path: Path) -> None:
    shutil.copytree(skin, tmp_path / "skin")
    csv, out = tmp_path / "skin/skin.csv", tmp_path / "skin.emb"
    for i in (3, 17, 18, 44, 60):
        broken = bytearray((tmp_path / f"skin/{i:02d}.png").read_bytes())
        at = broken.index(b"IDAT") + 12
        broken[at : at + 200] = bytes(200)
        (tmp_path / f"skin/{i:02d}.png").write_bytes(broken)
    ended = start(3, csv, out)
    assert ended.status == [2, 2, 2]
    lines = ended.err[0].splitlines()
    assert lines[:2] == [
        "TableError: every row must have a readable image and a label.",
        "  5 rows of skin.csv do not:",
    ]
    assert [line.split()[1] for line in lines[2:7]] == [f"{i + 2}:" for i in (3, 17, 18, 44, 60)]
    ended = start(2, csv, out, "--skip-bad", "--json")
    assert ended.status == [0, 0]
    told = json.loads(ended.out[0])
    assert (told["rows"], [bad["row"] for bad in told["skipped"]]) == (56, [5, 19, 20, 46, 62])
    alone = tmp_path / "alone.emb"
    assert start(1, csv, alone, "--skip-bad").status == [0]
    require_same(out, alone)


# One process: the rules by themselves


def test_alone_where_no_launcher_says_otherwise() -> None:
    ranks = Ranks.join()
    assert (ranks.rank, ranks.world, ranks.lead) == (0, 1, True)
    assert ranks.agree(lambda: {"a": 1}) == {"a": 1}
    with ranks.share():
        assert [ranks.take() for _ in range(3)] == [0, 1, 2]
        ranks.tell(5)
        assert ranks.told() == 5
        assert ranks.gather("mine") == ["mine"]


@pytest.mark.parametrize("size", [1, 3, 8, 100])
def test_groups_are_positions_of_the_table_minus_what_is_done(size: int) -> None:
    todo = np.random.default_rng(size).random(50) < 0.4
    todo[8:24] = False
    groups = list(groups_of(todo, size, Ranks()))
    assert np.concatenate(groups).tolist() == np.flatnonzero(todo).tolist()
    for group in groups:
        assert len(set((group // size).tolist())) == 1
    assert len(groups) == len(set((np.flatnonzero(todo) // size).tolist()))
    assert list(groups_of(np.zeros(50, dtype=bool), size, Ranks())) == []


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    asked = [Ranks(rank, 4, rank).device("auto") for rank in range(4)]
    assert asked == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert Ranks(3, 4, 3).device("cpu") == "cpu"
    assert Ranks(3, 4, 3).device("cuda:0") == "cuda:0"
    assert Ranks().device("auto") == "auto"


def test_the_whole_run_is_one_process(monkeypatch: pytest.MonkeyPatch, skin: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="panderm run must be one process"):
        pipeline.run(skin / "skin.csv", encoder="random-tiny", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# The launchers themselves


LAUNCHERS = {
    "torchrun": ["-m", "torch.distributed.run", "--nproc-per-node", "2"],
    "accelerate": ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"],
}


# accelerate's launcher starts torchrun's, which is held here, and adds words of its own.
@pytest.mark.parametrize("launcher", ["torchrun", pytest.param("accelerate", marks=pytest.mark.slow)])
def test_started_by(launcher: str, skin: Path, tmp_path: Path) -> None:
    out = tmp_path / "skin.emb"
    few = tmp_path / "few.csv"
    few.write_text("".join((skin / "skin.csv").read_text().splitlines(keepends=True)[:13]))
    words = ["embed", str(few), "--images", str(skin), "--encoder", "random-tiny", "--batch-size", "2"]
    port = ["--master-port" if launcher == "torchrun" else "--main_process_port", str(free_port())]
    command = [
        sys.executable,
        *LAUNCHERS[launcher],
        *port,
        "-m",
        "panderm",
        *words,
        "--json",
        "--out",
        str(out),
    ]
    quiet = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=quiet, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["rows"], sum(told["processes"]), len(told["processes"])) == (12, 12, 2)
    assert len(panderm.open_embeddings(out)) == 12
