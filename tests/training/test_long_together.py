"""Several processes learn as one does with the batch of all: losses, weights, checkpoints, ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from doubles import Few, Numbers, network

from panderm.errors import PandermError, UsageError
from panderm.training.long.checkpoint import last_checkpoint
from panderm.training.long.groups import decay_groups
from panderm.training.long.journal import read_journal
from panderm.training.long.learner import Loss, Watch
from panderm.training.long.loop import learn
from panderm.training.long.plan import Plan

# Stated: the same losses to 1 part in 100,000, of float32 sums in another order, over 24 steps.
SAME = 1e-5
PLAN = Plan(images=50, epochs=6, batch=12, rate=2e-2, warm_up=0.5, decay=0.1, seed=5)
# Every fifth image is bad; and a batch of two of whose shares one is bad wholly.
BAD, ALONE = range(0, 50, 5), Plan(images=50, epochs=1, batch=2, rate=1e-2, seed=5)


class Ends(Watch):
    """Ends a run in a step."""

    def after_step(self, line: dict[str, Any]) -> None:
        if line["step"] == 9:
            raise PandermError("the power must be on.", "it went")


class Enough(Watch):
    """Looks at the average after each epoch, and has enough of the third."""

    def wants(self, epoch: int) -> bool:
        return True

    def share(self, epoch: int, model: nn.Module, averaged: nn.Module | None, rank: int, world: int) -> Any:
        assert averaged is not None
        X = torch.ones(1, 4)
        return [rank, world, *(float(one.eval()(X).detach()) for one in (model, averaged))]

    def shared(self, parts: Any) -> None:
        self.parts = [list(part) for part in parts]

    def after_epoch(self, epoch: int, model: nn.Module, averaged: nn.Module | None) -> list[dict[str, Any]]:
        assert averaged is not None
        assert [part[:2] for part in self.parts] == [[r, len(self.parts)] for r in range(len(self.parts))]
        X = torch.ones(1, 4)
        seen = [float(one.eval()(X).detach()) for one in (model, averaged)]
        assert all(part[2:] == seen for part in self.parts), "each process has the same weights, to the bit"
        return [{"seen": seen, "shared by": len(self.parts)}]

    def enough(self, epoch: int) -> bool:
        return epoch == 3


TUNED = Plan(**{**PLAN.as_dict(), "ema": 0.8})


def tuned(folder: Path, ranks: Any = None, **options: Any) -> None:
    """A run with an average and rates of each group, part of which does not learn, and an early end."""
    model = network()
    model.get_parameter("blocks.0.bias").requires_grad_(False)
    groups = [{**group, "rate_scale": 0.5} for group in decay_groups(model, decay=0.1)]
    one(folder, ranks, TUNED, model=model, groups=groups, watch=Enough(), **options)


class Fails(Numbers):
    """Cannot go on in its ninth pass."""

    passes = 0

    def loss(self, model: nn.Module, batch: Few) -> Loss | None:
        self.passes += 1
        if self.passes == 9:
            raise PandermError("the power must be on.", "it went")
        return super().loss(model, batch)


def one(folder: Path, ranks: Any = None, plan: Plan = PLAN, **options: Any) -> None:
    """A run without dropout, with what is asked."""
    folder.mkdir(exist_ok=True)
    learner = options.pop("learner", Numbers)(
        plan, dropout=options.pop("dropout", False), bad=options.pop("bad", ())
    )
    options = {"checkpoint_minutes": 10.0, "at_once": 6, "sharing": "ddp", **options}
    learn(
        learner,
        options.pop("model", None) or network(),
        plan,
        folder,
        record={"data": "abc"},
        device=torch.device("cpu"),
        ranks=ranks,
        progress=False,
        **options,
    )


def all_of_them(folder: Path) -> None:
    """What each of the processes does; started by torchrun."""
    from panderm.embeddings.making.ranks import Ranks

    torch.set_num_threads(1)
    ranks = Ranks.join()
    if ranks.lead:
        folder.mkdir(exist_ok=True)
    torch.distributed.barrier()
    one(folder / "ddp", ranks)
    one(folder / "passes", ranks, at_once=2, dropout=True)
    one(folder / "bad", ranks, bad=BAD)
    one(folder / "alone", ranks, ALONE, bad=BAD)
    one(folder / "fsdp", ranks, sharing="fsdp", at_once=3)
    one(folder / "begun_by_one", ranks, sharing="fsdp")
    tuned(folder / "tuned", ranks)
    tuned(folder / "tuned_fsdp", ranks, sharing="fsdp")
    tuned(folder / "tuned_fsdp", ranks, sharing="fsdp")  # it has had enough
    try:
        learner = Numbers if ranks.lead else Fails
        one(folder / "ended", ranks, learner=learner, checkpoint_minutes=0.0)
    except PandermError as error:
        (folder / f"said_{ranks.rank}").write_text(str(error))


def steps_of(folder: Path) -> list[dict[str, Any]]:
    return [line for line in read_journal(folder / "journal.jsonl") if "loss" in line]


def losses_of(folder: Path) -> list[float]:
    """The losses; -1 of a step whose images were all bad."""
    return [-1.0 if line["loss"] is None else line["loss"] for line in steps_of(folder)]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    saved = last_checkpoint(folder)
    assert saved is not None
    return dict(saved.tensors())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of two processes, and beside them those of one."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("torch has no gloo here: its processes on CPUs cannot meet")
    folder = tmp_path_factory.mktemp("together")
    (folder / "two").mkdir()
    with pytest.raises(PandermError, match="the power must be on"):
        one(folder / "two/begun_by_one", watch=Ends(), checkpoint_minutes=0.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from pathlib import Path\n"
        f"import test_long_together; test_long_together.all_of_them(Path({str(folder / 'two')!r}))\n"
    )
    processes = []
    for rank in range(2):
        world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1"}
        words = {key: str(value) for key, value in (world | {"MASTER_PORT": port}).items()}
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **words}
        with (folder / f"said_{rank}").open("w") as log:
            started = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=log, stderr=log)
        processes.append(started)
    ended = [process.wait(timeout=300) for process in processes]
    said = [(folder / f"said_{rank}").read_text() for rank in range(2)]
    assert ended == [0, 0], said
    for name, options in {
        "ddp": {"at_once": 12},
        "passes": {"at_once": 2, "dropout": True},
        "bad": {"at_once": 12, "bad": BAD},
        "fsdp": {"at_once": 12},
        "begun_by_one": {},
    }.items():
        one(folder / name, **options)
    one(folder / "alone", plan=ALONE, bad=BAD)
    for name in ("tuned", "tuned_fsdp"):
        tuned(folder / name)
    return folder


@pytest.mark.parametrize(
    "name", ["ddp", "passes", "bad", "alone", "fsdp", "begun_by_one", "tuned", "tuned_fsdp"]
)
def test_two_processes_have_the_losses_of_one_with_the_doubled_batch(name: str, runs: Path) -> None:
    """Also with dropout, in passes; where images were left out; and from the checkpoint of one process."""
    assert losses_of(runs / "two" / name) == pytest.approx(losses_of(runs / name), rel=SAME)
    mine, theirs = weights_of(runs / name), weights_of(runs / "two" / name)
    assert mine.keys() == theirs.keys()
    for key, tensor in mine.items():
        assert torch.allclose(theirs[key], tensor, rtol=1e-3, atol=1e-5), key


def test_shares_were_unequal_and_one_was_empty(runs: Path) -> None:
    lines = steps_of(runs / "two/alone")
    assert {line["weight"] for line in lines} == {0.0, 1.0, 2.0}
    assert [line["weight"] for line in lines] == [line["weight"] for line in steps_of(runs / "alone")]
    told = [name for line in lines for name, _ in line.get("unreadable", ())]
    assert sorted(told) == sorted(set(told))
    alone = [name for line in steps_of(runs / "alone") for name, _ in line.get("unreadable", ())]
    assert sorted(told) == sorted(alone)


@pytest.mark.parametrize("name", ["tuned", "tuned_fsdp"])
def test_all_have_enough_after_the_same_epoch_and_the_same_average(name: str, runs: Path) -> None:
    theirs, mine = (list(read_journal(folder / name / "journal.jsonl")) for folder in (runs / "two", runs))
    assert theirs[-1] == mine[-1] == {"step": 12, "epoch": 3, "enough": True}
    seen, wanted = ([value for line in of for value in line.get("seen", ())] for of in (theirs, mine))
    assert len(wanted) == 6
    assert {line["shared by"] for line in theirs if "seen" in line} == {1 if "fsdp" in name else 2}
    assert seen == pytest.approx(wanted, rel=1e-3, abs=1e-5)
    assert seen[-1] != pytest.approx(seen[-2], rel=1e-2)
    held = [key.removeprefix("average/") for key in weights_of(runs / "two" / name) if "average/" in key]
    assert sorted(held) == sorted(
        {"seen", *(name for name, _ in network().named_parameters())} - {"blocks.0.bias"}
    )


def test_one_process_goes_on_with_what_two_had_shared_out(runs: Path) -> None:
    folder = runs / "two/ended"
    assert len(steps_of(folder)) == 8
    one(folder)
    assert losses_of(folder) == pytest.approx(losses_of(runs / "ddp"), rel=SAME)


def test_a_checkpoint_of_shares_is_whole(runs: Path) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in weights_of(runs / "two/fsdp").items()}
    assert shapes == {name: tuple(tensor.shape) for name, tensor in weights_of(runs / "fsdp").items()}
    assert shapes["optimizer/blocks.0.weight/exp_avg"] == (32, 4)


def test_what_ended_the_second_process_is_said_by_the_first(runs: Path) -> None:
    assert (runs / "two/said_0").read_text() == "the power must be on.\n  it went"
    assert (runs / "two/said_1").read_text() == "the power must be on.\n  it went"


def test_one_process_shares_nothing_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="found one process"):
        one(tmp_path / "run", sharing="fsdp")


def test_half_precision_and_shares(tmp_path: Path) -> None:
    plan = Plan(**{**PLAN.as_dict(), "precision": "fp16"})
    with pytest.raises(UsageError, match="fsdp computes in fp32 or bf16"):
        one(tmp_path / "run", plan=plan, sharing="fsdp")
