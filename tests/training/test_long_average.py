"""What fine-tuning asks of the long loop: rates of each group, an average of the weights, an early end."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from panderm.errors import ParentsError, UsageError
from panderm.training.long.average import average_weight
from panderm.training.long.checkpoint import last_checkpoint
from panderm.training.long.groups import decay_groups, groups_of
from panderm.training.long.journal import read_journal
from panderm.training.long.learner import Watch
from panderm.training.long.loop import Learned, learn
from panderm.training.long.plan import Plan

sys.path.insert(0, str(Path(__file__).parent))
from doubles import Numbers, network
from killer import Killer, started

PLAN = Plan(images=50, epochs=6, batch=12, rate=2e-2, warm_up=0.5, decay=0.1, seed=5, ema=0.8)
NO_AVERAGE = Plan(**{**PLAN.as_dict(), "ema": None})
ENDS = 4  # epoch after which it is enough


def by_depth(model: nn.Module, scales: dict[str, float]) -> list[dict[str, Any]]:
    """Groups by the first part of the names."""
    groups = decay_groups(model, decay=0.1)
    return [
        {
            "names": [name for name in group["names"] if name.startswith(first)],
            "weight_decay": group["weight_decay"],
            "rate_scale": scale,
        }
        for group in groups
        for first, scale in scales.items()
    ]


def run(folder: Path, plan: Plan = PLAN, model: nn.Module | None = None, **options: Any) -> Learned:
    folder.mkdir(exist_ok=True)
    options = {"at_once": 5, "checkpoint_minutes": 10.0, "record": {}, "progress": False, **options}
    learner = options.pop("learner", None) or Numbers(plan)
    model = network() if model is None else model
    return learn(learner, model, plan, folder, device=torch.device("cpu"), **options)


def weights_of(model: nn.Module | None) -> dict[str, torch.Tensor]:
    assert model is not None
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


class Patient(Watch):
    """Scores both networks after each epoch, and has had enough after some scores, which the journal has."""

    def __init__(self, folder: Path, ends: int = ENDS) -> None:
        self.path, self.ends, self.scores, self.asked = folder / "journal.jsonl", ends, [0.0], 0

    def began(self, step: int) -> None:
        self.scores = [line["score"] for line in read_journal(self.path) if "score" in line]

    def wants(self, epoch: int) -> bool:
        return True

    def after_epoch(self, epoch: int, model: nn.Module, averaged: nn.Module | None) -> list[dict[str, Any]]:
        X = torch.ones(3, 4)
        seen = {"score": float(model.eval()(X).detach().sum())}
        if averaged is not None:
            assert not averaged.training
            seen["averaged"] = float(averaged(X).detach().sum())
        self.scores.append(seen["score"])
        return [seen]

    def enough(self, epoch: int) -> bool:
        assert len(self.scores) == epoch
        self.asked += 1
        return epoch >= self.ends


# Rates of each group


def test_a_scale_multiplies_the_rate(tmp_path: Path) -> None:
    """Half of twice the rate is the rate, to the bit; and what has none of it stays as it is."""
    twice = Plan(**{**NO_AVERAGE.as_dict(), "rate": 4e-2, "least_rate": 2e-5})
    halved = by_depth(network(), {"blocks": 0.5, "head": 0.5})
    wanted = weights_of(run(tmp_path / "a", NO_AVERAGE).model)
    found = weights_of(run(tmp_path / "b", twice, groups=halved).model)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    kept = weights_of(
        run(tmp_path / "c", NO_AVERAGE, groups=by_depth(network(), {"blocks": 0.0, "head": 1.0})).model
    )
    before = weights_of(network())
    same = {name: torch.equal(kept[name], before[name]) for name in kept}
    assert same == {name: not name.startswith("head") for name in kept}


def test_every_parameter_that_learns_is_in_one_group() -> None:
    model = network()
    whole = by_depth(model, {"blocks": 0.5, "head": 1.0})
    found = groups_of(model, whole)
    assert [group["rate_scale"] for group in found] == [0.5, 1.0, 0.5, 1.0]
    assert sum(len(group["params"]) for group in found) == len(list(model.parameters()))
    with pytest.raises(ValueError, match=r"in one group: \['blocks"):
        groups_of(model, whole[1:])
    with pytest.raises(ValueError, match="in one group"):
        groups_of(model, [*whole, whole[0]])
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="in one group"):
        groups_of(model, whole)


# The average


def test_how_much_of_the_average_stays() -> None:
    assert average_weight(1, 0.9999) == pytest.approx(2 / 11)
    assert average_weight(90, 0.9999) == pytest.approx(0.91)
    assert average_weight(10**6, 0.9999) == 0.9999
    assert average_weight(1, 0.1) == 0.1
    with pytest.raises(UsageError, match=r"ema 1\.0"):
        Plan(**{**PLAN.as_dict(), "ema": 1.0})


def test_a_plan_without_an_average_is_what_it_was() -> None:
    """A checkpoint of a run from before there was one goes on."""
    assert NO_AVERAGE.as_dict() == {
        "images": 50,
        "epochs": 6,
        "batch": 12,
        "rate": 2e-2,
        "least_rate": 1e-5,
        "warm_up": 0.5,
        "decay": 0.1,
        "clip": 3.0,
        "precision": "fp32",
        "seed": 5,
    }
    assert PLAN.as_dict() == NO_AVERAGE.as_dict() | {"ema": 0.8}


def test_the_average_is_that_of_all_steps(tmp_path: Path) -> None:
    """Against the same sum in double precision; parameters that do not learn are no part of it."""
    model = network()
    model.get_parameter("blocks.1.bias").requires_grad_(False)
    wanted = {name: tensor.double() for name, tensor in weights_of(model).items()}

    class Sums(Watch):
        def after_step(self, line: dict[str, Any]) -> None:
            stays = min(0.8, (1 + line["step"]) / (10 + line["step"]))
            for name, tensor in weights_of(model).items():
                wanted[name] = stays * wanted[name] + (1 - stays) * tensor.double()
            model.get_buffer("seen").add_(1.0)  # what a norm of batches counts

    done = run(tmp_path / "run", model=model, watch=Sums())
    found = weights_of(done.averaged)
    assert found["seen"].item() == pytest.approx(wanted["seen"].item(), rel=1e-5)
    assert 20 < found["seen"].item() < 24
    for name, tensor in found.items():
        assert torch.allclose(tensor.double(), wanted[name], rtol=1e-5, atol=1e-7), name
    assert not torch.allclose(found["head.weight"], weights_of(model)["head.weight"], rtol=1e-3)
    saved = last_checkpoint(tmp_path / "run")
    assert saved is not None
    held = {name.removeprefix("average/") for name, _ in saved.tensors() if name.startswith("average/")}
    assert held == found.keys() - {"blocks.1.bias"}


def test_the_average_changes_nothing_of_what_is_learned(tmp_path: Path) -> None:
    done = run(tmp_path / "a")
    plain = run(tmp_path / "b", NO_AVERAGE)
    assert plain.averaged is None
    wanted = weights_of(plain.model)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in weights_of(done.model).items())


def test_what_does_not_learn_is_there_once(tmp_path: Path) -> None:
    model = network()
    model.get_submodule("blocks.0").requires_grad_(False)
    done = run(tmp_path / "run", model=model)
    assert done.averaged is not None
    mine, second = dict(model.named_parameters()), dict(done.averaged.named_parameters())
    shared = [name for name in mine if mine[name].data_ptr() == second[name].data_ptr()]
    assert shared == ["blocks.0.weight", "blocks.0.bias"]


# An early end


def job(folder: Path, pause: float, minutes: float) -> None:
    """What a process does that is going to be killed."""
    model = network()
    model.get_parameter("blocks.0.bias").requires_grad_(False)
    groups = by_depth(model, {"blocks.0": 0.25, "blocks.1": 0.5, "head": 1.0})
    learner = Numbers(PLAN, pause=pause)
    run(
        folder,
        model=model,
        learner=learner,
        groups=groups,
        watch=Patient(folder),
        checkpoint_minutes=minutes,
    )


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    with started("test_long_average", tmp_path_factory.mktemp("killer")) as killer:
        yield killer


def lines_of(folder: Path) -> list[dict[str, Any]]:
    told = ("seconds", "waited")
    return [
        {key: value for key, value in line.items() if key not in told}
        for line in read_journal(folder / "journal.jsonl")
    ]


def tensors_of(folder: Path) -> dict[str, bytes]:
    saved = last_checkpoint(folder)
    assert saved is not None
    return {name: tensor.numpy().tobytes() for name, tensor in saved.tensors()}


@pytest.fixture(scope="module")
def uninterrupted(start: Killer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert start(folder) == 0
    return folder


@pytest.mark.slow
def test_killed_it_has_the_same_average_and_ends_at_the_same_place(
    start: Killer, uninterrupted: Path, tmp_path: Path
) -> None:
    """To the bit: weights, optimiser, average, losses, scores, and after which epoch it was enough."""
    moments, folder, last = random.Random(3), tmp_path / "run", 4 * ENDS
    for minutes in (0.0, 0.001, 0.0):
        saved = last_checkpoint(folder) if folder.exists() else None
        lines = min((saved.step if saved else 0) + moments.randrange(2, 6), last - 1)
        ended = start(folder, lines=lines, delay=moments.uniform(0, 0.02), minutes=minutes)
        assert ended == -signal.SIGKILL
    assert start(folder, minutes=0.001) == 0
    assert lines_of(folder) == lines_of(uninterrupted)
    assert tensors_of(folder) == tensors_of(uninterrupted)


def test_enough_is_the_last_word_of_the_journal(uninterrupted: Path) -> None:
    lines = lines_of(uninterrupted)
    assert lines[-1] == {"step": 4 * ENDS, "epoch": ENDS, "enough": True}
    assert [line["epoch"] for line in lines if "score" in line] == [1, 2, 3, 4]
    assert all(line["score"] != line["averaged"] for line in lines if "score" in line)


def test_a_run_that_had_enough_does_not_go_on(uninterrupted: Path) -> None:
    before = tensors_of(uninterrupted)
    job(uninterrupted, 0.0, 10.0)
    assert tensors_of(uninterrupted) == before


def test_how_an_early_end_is_told(tmp_path: Path) -> None:
    watch = Patient(tmp_path / "run", ends=2)
    done = run(tmp_path / "run", watch=watch)
    assert (done.stopped_early, done.steps, watch.asked) == (True, 8, 2)
    again = run(tmp_path / "run", watch=Patient(tmp_path / "run", ends=2))
    assert (again.stopped_early, again.steps, again.done_before, again.losses) == (True, 8, 8, [])
    assert again.averaged is not None
    wanted = weights_of(done.averaged)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in weights_of(again.averaged).items())
    last = Patient(tmp_path / "whole", ends=6)
    whole = run(tmp_path / "whole", watch=last)
    assert (whole.stopped_early, whole.steps, last.asked) == (False, 24, 5)


def test_another_average_is_another_run(tmp_path: Path) -> None:
    run(tmp_path / "run", watch=Patient(tmp_path / "run", ends=1))
    with pytest.raises(ParentsError, match="must go on as it began") as caught:
        run(tmp_path / "run", NO_AVERAGE)
    assert caught.value.found == ("ema: 0.8 before, none now",)
