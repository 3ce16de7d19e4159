"""The long loop: its schedule, what decays, and a run that is killed and goes on as if it never was."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from panderm import storage
from panderm.errors import ArtifactError, DataError, PandermWarning, ParentsError, UsageError
from panderm.training.long import checkpoint
from panderm.training.long.checkpoint import last_checkpoint
from panderm.training.long.groups import decay_groups
from panderm.training.long.journal import Journal, read_journal
from panderm.training.long.learner import Watch
from panderm.training.long.loop import Learned, in_words, learn
from panderm.training.long.plan import Plan, passes_of, shares_of
from panderm.training.long.schedule import rate_at

sys.path.insert(0, str(Path(__file__).parent))
from doubles import Numbers, network
from killer import Killer, started

CPU = torch.device("cpu")
PLAN = Plan(images=50, epochs=6, batch=12, rate=2e-2, warm_up=0.5, decay=0.1, seed=5)


def run(folder: Path, plan: Plan = PLAN, learner: Numbers | None = None, **options: Any) -> Learned:
    folder.mkdir(exist_ok=True)
    options = {"at_once": 5, "checkpoint_minutes": 10.0, "record": {"data": "abc"}, **options}
    learner = learner or Numbers(plan)
    return learn(learner, network(), plan, folder, device=CPU, progress=False, **options)


class Broken(Watch):
    """Ends a run in a step, before its checkpoint."""

    def __init__(self, step: int) -> None:
        self.step = step

    def after_step(self, line: dict[str, Any]) -> None:
        if line["step"] == self.step:
            raise OSError("the power went")


def steps_of(folder: Path) -> list[dict[str, Any]]:
    """The journal's steps without what the clock says."""
    told = ("seconds", "waited")
    path = folder / "journal.jsonl"
    lines = read_journal(path) if path.exists() else ()
    return [{key: value for key, value in line.items() if key not in told} for line in lines]


def weights_of(folder: Path) -> bytes:
    """All that the last checkpoint holds but its header, whose journal has other times in it."""
    saved = last_checkpoint(folder)
    assert saved is not None
    return b"".join(tensor.numpy().tobytes() for _, tensor in sorted(saved.tensors()))


# The schedule, and what decays


def test_the_rate_is_that_of_the_published_runs() -> None:
    """50 epochs of 11 steps, 10 of them warm-up, from 5e-4 to 1e-6: rates read off the published code."""

    def rate(step: int) -> float:
        return rate_at(step, steps=550, warm_up=110, peak=5e-4, least=1e-6)

    assert rate(0) == 0
    assert rate(1) == pytest.approx(4.587e-6, rel=1e-4)
    assert rate(10) == pytest.approx(4.587e-5, rel=1e-4)
    assert rate(109) == rate(110) == 5e-4
    assert rate(549) == pytest.approx(1.00636e-6, rel=1e-5)


@pytest.mark.parametrize("warm_up", [0, 1, 2, 7])
def test_the_rate_rises_and_falls_once(warm_up: int) -> None:
    rates = [rate_at(s, steps=20, warm_up=warm_up, peak=1.0, least=0.1) for s in range(20)]
    top = rates.index(max(rates))
    assert rates[top] == 1.0
    assert top == max(0, warm_up - 1)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0.1 < rates[-1] < 0.13
    assert rate_at(20, steps=20, warm_up=warm_up, peak=1.0, least=0.1) == pytest.approx(0.1)


def test_biases_scales_tokens_and_positions_do_not_decay() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
            self.pos_embed = nn.Parameter(torch.zeros(1, 9, 4), requires_grad=False)
            self.gamma_1 = nn.Parameter(torch.ones(4))
            self.block = nn.Linear(4, 4)
            self.norm = nn.LayerNorm(4)
            self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))

    decayed, kept = decay_groups(Small(), decay=0.05)
    assert decayed["names"] == ["relative_position_bias_table", "block.weight"]
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.05, 0.0)
    assert kept["names"] == ["cls_token", "gamma_1", "block.bias", "norm.weight", "norm.bias"]


# The order of images


def test_an_epoch_sees_every_image_once_and_another_order() -> None:
    plan = Plan(images=23, epochs=2, batch=5, rate=1.0)
    assert plan.steps_per_epoch == 4
    first, second = plan.order(0), plan.order(1)
    assert sorted(first) == sorted(second) == list(range(23))
    assert first.tolist() != second.tolist()
    assert plan.order(1).tolist() == second.tolist()


@pytest.mark.parametrize(("world", "at_once"), [(1, 64), (1, 5), (2, 4), (3, 2), (4, 1)])
def test_processes_and_passes_divide_a_batch(world: int, at_once: int) -> None:
    plan = Plan(images=40, epochs=1, batch=13, rate=1.0)
    passes = passes_of(plan, world=world, at_once=at_once)
    batch = plan.batch_of(plan.order(0), 2)
    shares = [shares_of(batch, passes=passes, rank=r, world=world) for r in range(world)]
    seen = np.concatenate([shares[r][p] for p in range(passes) for r in range(world)])
    assert seen.tolist() == batch.tolist()
    assert max(len(share) for part in shares for share in part) <= at_once
    alone = shares_of(batch, passes=passes * world, rank=0, world=1)
    among = [shares[r][p] for p in range(passes) for r in range(world)]
    assert [run.tolist() for run in alone] == [run.tolist() for run in among]


def test_more_processes_than_images_are_refused() -> None:
    with pytest.raises(UsageError, match="an image of every step"):
        passes_of(Plan(images=3, epochs=1, batch=8, rate=1.0), world=4, at_once=1)


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"rate": -1.0}, {"warm_up": 9.0}, {"least_rate": 2.0}, {"clip": 0.0}]
)
def test_a_plan_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Plan(**({"images": 9, "epochs": 2, "batch": 3, "rate": 1.0} | wrong))


# One run


def test_it_learns_and_says_so(tmp_path: Path) -> None:
    done = run(tmp_path / "run")
    lines = steps_of(tmp_path / "run")
    assert [line["step"] for line in lines] == list(range(1, 25))
    assert [line["epoch"] for line in lines] == [1 + i // 4 for i in range(24)]
    assert lines[-1]["loss"] < lines[0]["loss"] / 2
    assert lines[0].keys() >= {"loss", "half", "rate", "norm", "weight"}
    assert all(line["half"] == pytest.approx(line["loss"] / 2) for line in lines)
    assert done.losses == [line["loss"] for line in lines[-4:]]
    assert (done.steps, done.done_before, done.bad) == (24, 0, {})


def test_passes_change_nothing_but_the_last_bits(tmp_path: Path) -> None:
    """One pass of 12, or passes of 4, 3, …: gradients add up to those of the batch. Stated: 1e-5."""
    plan = Plan(**{**PLAN.as_dict(), "precision": "fp32"})
    quiet = Numbers(plan, dropout=False)
    losses = {}
    for at_once in (12, 5, 1):
        run(tmp_path / str(at_once), plan, quiet, at_once=at_once)
        losses[at_once] = [line["loss"] for line in steps_of(tmp_path / str(at_once))]
    assert losses[5] == pytest.approx(losses[12], rel=1e-5)
    assert losses[1] == pytest.approx(losses[12], rel=1e-5)


def test_the_loss_is_the_mean_over_images_where_some_are_left_out(tmp_path: Path) -> None:
    """Passes of unequal numbers of good images: each image counts as much as any other."""
    quiet = Numbers(PLAN, dropout=False, bad=range(0, 50, 7))
    run(tmp_path / "a", learner=quiet, at_once=12)
    run(tmp_path / "b", learner=quiet, at_once=3)
    a, b = steps_of(tmp_path / "a"), steps_of(tmp_path / "b")
    assert [line["loss"] for line in a] == pytest.approx([line["loss"] for line in b], rel=1e-5)
    assert {line["weight"] for line in a} != {12.0}
    assert [line.get("left_out", 0) for line in a] == [12 - line["weight"] for line in a]
    told = [name for line in a for name, _ in line.get("unreadable", ())]
    assert len(told) == len(set(told))
    assert set(told) <= {f"{i}.jpg" for i in range(0, 50, 7)}
    assert len(told) >= 6


def test_images_of_which_none_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must have images to learn from") as caught:
        run(tmp_path / "run", learner=Numbers(PLAN, bad=range(50)))
    assert "damaged" in str(caught.value)


def test_a_loss_that_is_no_number_names_the_images(tmp_path: Path) -> None:
    image = int(PLAN.order(0)[30])
    with pytest.raises(DataError, match="the loss of a step must be a number") as caught:
        run(tmp_path / "run", learner=Numbers(PLAN, infinite=image), at_once=3)
    named = caught.value.found[1]
    assert f" {image}.jpg" in named
    assert named.count(".jpg") == 3, "those of the pass, not of the batch"
    assert [line["step"] for line in steps_of(tmp_path / "run")] == [1, 2]


def test_bfloat16_learns_much_the_same(tmp_path: Path) -> None:
    plan = Plan(**{**PLAN.as_dict(), "precision": "bf16"})
    run(tmp_path / "whole", PLAN)
    run(tmp_path / "few", plan, Numbers(plan))
    whole = [line["loss"] for line in steps_of(tmp_path / "whole")]
    few = [line["loss"] for line in steps_of(tmp_path / "few")]
    assert few != whole
    assert few == pytest.approx(whole, rel=0.1)


def test_float16_finds_its_scale_and_goes_on_with_it(tmp_path: Path) -> None:
    """Scales that are too large leave a step out; a run that goes on knows what was found."""
    plan = Plan(**{**PLAN.as_dict(), "precision": "fp16"})
    run(tmp_path / "a", plan, Numbers(plan))
    norms = [line["norm"] for line in steps_of(tmp_path / "a")]
    assert 0 < norms.count(None) < 8
    with pytest.raises(OSError, match="the power went"):
        run(tmp_path / "b", plan, Numbers(plan), checkpoint_minutes=0.0, watch=Broken(10))
    run(tmp_path / "b", plan, Numbers(plan))
    assert steps_of(tmp_path / "b") == steps_of(tmp_path / "a")


# A stop


def job(folder: Path, pause: float, minutes: float) -> None:
    """What a process does that is going to be killed."""
    run(folder, learner=Numbers(PLAN, pause=pause), checkpoint_minutes=minutes)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    with started("test_long", tmp_path_factory.mktemp("killer")) as killer:
        yield killer


@pytest.fixture(scope="module")
def uninterrupted(start: Killer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert start(folder) == 0
    return folder


def require_same(folder: Path, wanted: Path) -> None:
    """The same steps, each once, and the same numbers, byte for byte."""
    assert steps_of(folder) == steps_of(wanted)
    assert weights_of(folder) == weights_of(wanted)
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")], "something was left behind"


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_is_the_run_that_was_not(
    seed: int, start: Killer, uninterrupted: Path, tmp_path: Path
) -> None:
    """Dropout on, a batch in three passes: the weights, both moments of the optimiser, and every loss."""
    moments = random.Random(seed)
    folder = tmp_path / "run"
    minutes = (0.0, 0.001)[seed]  # after each step, or now and then
    done = 0
    for _ in range(4):
        saved = last_checkpoint(folder)
        done = saved.step if saved is not None else 0
        lines = min(done + moments.randrange(5), PLAN.steps - 2)
        ended = start(folder, lines=lines, delay=moments.uniform(0, 0.02), minutes=minutes)
        assert ended == -signal.SIGKILL
    assert done
    assert start(folder, minutes=minutes) == 0
    require_same(folder, uninterrupted)


def test_ctrl_c_writes_a_checkpoint_and_ends(start: Killer, uninterrupted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert start(folder, lines=3, number=signal.SIGINT, minutes=10.0) == 130
    saved = last_checkpoint(folder)
    assert saved is not None
    assert 0 < saved.step < PLAN.steps
    assert [line["step"] for line in steps_of(folder)] == list(range(1, saved.step + 1))
    assert start(folder, minutes=10.0) == 0
    require_same(folder, uninterrupted)


def test_a_finished_run_is_not_begun_again(uninterrupted: Path) -> None:
    before = weights_of(uninterrupted)
    done = run(uninterrupted)
    assert (done.done_before, done.losses) == (PLAN.steps, [])
    assert weights_of(uninterrupted) == before


def test_two_checkpoints_are_kept(uninterrupted: Path) -> None:
    kept = sorted(path.name for path in (uninterrupted / "checkpoint").iterdir())
    assert kept == ["step-000000023.safetensors", "step-000000024.safetensors"]


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A run that ended in its sixth step, with checkpoints of the fourth and fifth."""

    with pytest.raises(OSError, match="the power went"):
        run(tmp_path / "run", checkpoint_minutes=0.0, watch=Broken(6))
    return tmp_path / "run"


def test_other_settings_and_other_data_are_named(stopped: Path) -> None:
    other = Plan(**{**PLAN.as_dict(), "epochs": 9, "rate": 3e-2})
    with pytest.raises(ParentsError, match="must go on as it began") as caught:
        run(stopped, other, record={"data": "def"})
    assert set(caught.value.found) == {
        "epochs: 6 before, 9 now",
        "rate: 0.02 before, 0.03 now",
        "data: abc before, def now",
    }


def test_a_damaged_checkpoint_is_passed_over(stopped: Path, uninterrupted: Path) -> None:
    last = stopped / "checkpoint/step-000000005.safetensors"
    os.truncate(last, last.stat().st_size // 2)
    with pytest.warns(PandermWarning, match=r"step-000000005.safetensors is damaged: going on from step-00"):
        done = run(stopped)
    assert done.done_before == 4
    require_same(stopped, uninterrupted)


def test_no_checkpoint_that_is_whole(stopped: Path) -> None:
    for path in (stopped / "checkpoint").iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="a checkpoint must be whole"):
        run(stopped)


def test_a_journal_that_was_cut(stopped: Path) -> None:
    os.truncate(stopped / "journal.jsonl", 10)
    with pytest.raises(ArtifactError, match="the journal of a run must be whole"):
        run(stopped)


def test_a_half_written_line_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b'{"step": 1}\n{"step": 2}\n{"st')
    assert [line["step"] for line in read_journal(tmp_path / "j")] == [1, 2]
    journal = Journal(tmp_path / "j", at=12)
    journal.write({"step": 2, "loss": 0.1})
    assert journal.keep() == 12 + len(b'{"step": 2, "loss": 0.1}\n')
    journal.close()


def test_a_full_disk_keeps_the_checkpoint_before(
    stopped: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library that writes tensors has its own words for it; ours say what to do."""

    def full(*_: object, **__: object) -> None:
        raise checkpoint.SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with pytest.raises(ArtifactError, match="the disk must have room") as caught:
            run(stopped, checkpoint_minutes=0.0)
    assert "step-000000006" in str(caught.value)
    saved = last_checkpoint(stopped)
    assert saved is not None
    assert saved.step == 5
    run(stopped)
    require_same(stopped, uninterrupted)


def test_flushing_comes_before_the_name(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint has its name only once it is on the disk, and the journal it speaks of too."""
    steps: list[str] = []
    flush, fsync = storage.flush, os.fsync
    monkeypatch.setattr(storage, "flush", lambda path: (steps.append(f"flush {path.name}"), flush(path)))
    monkeypatch.setattr(os, "fsync", lambda n: (steps.append("fsync"), fsync(n)))
    run(stopped)
    file = next(i for i, step in enumerate(steps) if "step-000000024" in step)
    assert "fsync" in steps[:file]
    assert steps[-2:] == ["flush checkpoint", "fsync"]


def test_what_killed_runs_left_of_other_steps_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "run/checkpoint/.step-000000007.safetensors.4194311.x1y2z3a4.tmp"
    left.mkdir(parents=True)
    (left / ".tmpIuP9Zf").write_bytes(b"gigabytes")
    run(tmp_path / "run")
    names = [path.name for path in (tmp_path / "run/checkpoint").iterdir()]
    assert names == ["step-000000024.safetensors"]


def test_the_generator_of_others_is_left_alone(tmp_path: Path) -> None:
    model = network()
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    options: dict[str, Any] = {"record": {}, "device": CPU, "at_once": 5, "progress": False}
    learn(Numbers(PLAN), model, PLAN, tmp_path, **options)
    assert torch.equal(torch.rand(4), wanted)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(8, "8 s"), (89, "89 s"), (600, "10 min"), (7800, "2 h 10 min"), (457_200, "5 d 7 h")],
)
def test_how_long_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
