"""Alarms: nothing for features as they should be, and each of its kind for drawn collapses."""

from __future__ import annotations

import numpy as np
import pytest

from panderm.errors import DataError
from panderm.pretraining.alarms import Spread, alarms, spread

N, D = 600, 96


def healthy(seed: int = 0) -> np.ndarray:
    """Features with a mean, and directions of falling weight: as encoders have them."""
    rng = np.random.default_rng(seed)
    return 2 + rng.normal(size=(N, D)) * np.linspace(3, 0.5, D) @ np.linalg.qr(rng.normal(size=(D, D)))[0]


def steps(values: np.ndarray, **others: float) -> list[dict[str, float]]:
    return [{"loss": float(value), "norm": 0.5, **others} for value in values]


def falling(start: float, end: float, n: int = 60, seed: int = 0) -> np.ndarray:
    return np.linspace(start, end, n) + np.random.default_rng(seed).normal(scale=0.01, size=n)


@pytest.mark.parametrize("rank", [1, 3, 20])
def test_the_effective_rank_is_the_number_of_equal_directions(rank: int) -> None:
    rng = np.random.default_rng(0)
    base = np.linalg.qr(rng.normal(size=(D, D)))[0]
    signs = np.array([[(i >> k) & 1 for k in range(rank)] for i in range(2 ** min(rank, 9))] * 2) * 2 - 1.0
    if rank == 20:
        signs = np.linalg.qr(rng.normal(size=(200, rank)) - 0)[0]
        signs -= signs.mean(axis=0)
        signs = np.linalg.qr(signs)[0]
    found = spread(5 * base[rank] + signs @ base[:rank])
    assert found.effective_rank == pytest.approx(rank, rel=0.02)


def test_the_spread_is_what_plain_formulas_say() -> None:
    X = healthy()[:50]
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    found = spread(X)
    cosines = (unit @ unit.T)[~np.eye(50, dtype=bool)]
    values = np.linalg.svd(unit - unit.mean(axis=0), compute_uv=False)[:49]
    share = values / values.sum()
    assert found.cosine == pytest.approx(cosines.mean())
    assert found.std == pytest.approx(unit.std(axis=0).mean())
    assert found.effective_rank == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-6)
    assert spread(3 * X).as_dict() == pytest.approx(found.as_dict())  # lengths say nothing
    assert spread(np.random.default_rng(0).normal(size=(4000, 64))).std_share == pytest.approx(1, abs=0.01)


def test_nothing_is_said_of_features_that_are_spread_and_a_loss_that_falls() -> None:
    now, before = spread(healthy()), [spread(healthy(1)), spread(healthy(2))]
    first = steps(falling(1.0, 0.7))
    told = {"cls": 0.7, "visible": 0.7, "masked": 0.6, "mean token": 0.5, "masked alike": 0.6}
    assert (
        alarms(
            now, before * 3, steps=steps(falling(0.4, 0.38)), first_steps=first, best_loss=0.4, predicted=told
        )
        == []
    )


def test_images_that_all_look_the_same_are_told_unless_it_is_the_beginning() -> None:
    mean = healthy().mean(axis=0)
    collapsed = spread(mean + 0.01 * np.random.default_rng(0).normal(size=(N, D)))
    before = [spread(healthy())]
    assert collapsed.cosine > 0.99
    assert any("point one way" in text for text in alarms(collapsed, before))
    assert alarms(collapsed, []) == []
    apart = Spread(N, D, 40.0, 0.01, 0.09, 0.992)
    from_ = Spread(N, D, 40.0, 0.01, 0.05, 0.9985)
    assert alarms(apart, [from_]) == []  # it comes apart
    assert any("point one way" in text for text in alarms(from_, [from_]))


def test_few_directions_and_a_fallen_rank_are_told() -> None:
    rng = np.random.default_rng(0)
    base = np.linalg.qr(rng.normal(size=(D, D)))[0]
    flat = spread(base[9] + rng.normal(size=(N, 3)) @ base[:3] + 1e-3 * rng.normal(size=(N, D)))
    found = alarms(flat, [spread(healthy())])
    assert any("directions (effective rank)" in text for text in found)
    assert any("fell to" in text for text in found)
    half = Spread(N, D, 29.0, 0.05, 0.5, 0.5)
    assert alarms(half, [Spread(N, D, 60.0, 0.05, 0.5, 0.5)])
    assert alarms(half, [Spread(N, D, 50.0, 0.05, 0.5, 0.5)]) == []


def test_a_loss_that_does_not_move_or_rises_is_told() -> None:
    first = steps(falling(1.0, 1.0, seed=1))
    assert any(
        "has not moved" in text for text in alarms(None, steps=steps(falling(1.0, 1.0)), first_steps=first)
    )
    assert alarms(None, steps=steps(falling(0.95, 0.95)), first_steps=first) == []
    risen = alarms(None, steps=steps(falling(0.8, 0.8)), first_steps=first, best_loss=0.4)
    assert any("rose to 0.8" in text for text in risen)
    assert alarms(None, steps=steps(falling(0.45, 0.45)), first_steps=first, best_loss=0.4) == []
    assert alarms(None, steps=steps(falling(1.0, 1.0, n=5)), first_steps=first) == []  # too few to say


def test_gradients_of_nothing_and_losses_that_are_no_number_are_told() -> None:
    assert any("gradients are 0" in text for text in alarms(None, steps=steps(falling(1, 0.5), norm=0.0)))
    broken = [*steps(falling(1, 0.5)), {"loss": float("nan"), "norm": 1.0}]
    assert any("not a finite number in 1 steps" in text for text in alarms(None, steps=broken))


def test_a_regressor_that_learned_nothing_is_told_once_the_run_had_time() -> None:
    now, before = spread(healthy()), [spread(healthy(i)) for i in range(3)]
    poor = {"cls": 0.7, "masked": 0.4, "mean token": 0.5, "masked alike": 0.7, "teacher alike": 0.3}
    assert any("no better than by one" in text for text in alarms(now, before, predicted=poor))
    assert alarms(now, before[:2], predicted=poor) == []
    alike = {"masked": 0.6, "mean token": 0.5, "masked alike": 0.999, "teacher alike": 0.3}
    assert any("the same everywhere" in text for text in alarms(now, before, predicted=alike))
    assert any("never used" in text for text in alarms(now, masked_patches=0))


@pytest.mark.parametrize("bad", [np.ones((1, 4)), np.ones(4), np.full((3, 2), np.inf)])
def test_features_that_have_no_spread_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(DataError):
        spread(bad)


def test_one_and_the_same_vector_has_no_spread_at_all() -> None:
    found = spread(np.ones((20, 8)))
    assert (found.effective_rank, found.cosine) == (1.0, pytest.approx(1.0))
    assert found.std == pytest.approx(0, abs=1e-12)
