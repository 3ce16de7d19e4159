"""Conformal sets cover what they promise, class by class where asked, and refuse what makes no sense."""

from __future__ import annotations

import numpy as np
import pytest

from panderm.statistics.conformal import prediction_sets


def drawn(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.choice(3, n, p=[0.7, 0.2, 0.1])
    z = rng.normal(size=(n, 3)) + 1.2 * np.eye(3)[truth] + [1.0, 0.0, 0.0]
    odds = np.exp(z)
    return truth, odds / odds.sum(axis=1, keepdims=True)


def test_sets_cover_what_was_asked_and_the_rare_class_only_by_class() -> None:
    rng, marginal, rare, rare_by_class = np.random.default_rng(0), [], [], []
    for _ in range(30):
        (held_truth, held), (truth, p) = drawn(400, rng), drawn(1000, rng)
        one = prediction_sets(held_truth, held, p, 0.9, by_class=False)
        each = prediction_sets(held_truth, held, p, 0.9, by_class=True)
        hit, hit_by_class = one[np.arange(1000), truth], each[np.arange(1000), truth]
        marginal.append(hit.mean())
        rare.append(hit[truth == 2].mean())
        rare_by_class.append(hit_by_class[truth == 2].mean())
    assert np.mean(marginal) == pytest.approx(0.9, abs=0.015)
    assert np.mean(rare) < 0.8
    assert np.mean(rare_by_class) == pytest.approx(0.91, abs=0.03)


def test_the_set_by_hand() -> None:
    # Of 9 held-out rows with scores .1 ... .9: (1 + rows at least as strange) / 10 must be .2 or more.
    held = np.column_stack([1 - np.arange(1, 10) / 10, np.arange(1, 10) / 10])
    p = np.array([[0.25, 0.75], [0.05, 0.95]])
    found = prediction_sets(np.zeros(9, dtype=int), held, p, 0.8, by_class=False)
    assert found.tolist() == [[True, True], [False, True]]


def test_a_class_without_held_out_rows_is_in_every_set() -> None:
    truth, p = drawn(50, np.random.default_rng(1))
    held = truth < 2
    assert prediction_sets(truth[held], p[held], p, 0.9, by_class=True)[:, 2].all()


@pytest.mark.parametrize("coverage", [0, 1, np.nan])
def test_what_makes_no_sense_is_refused(coverage: float) -> None:
    with pytest.raises(ValueError, match="coverage"):
        prediction_sets([0], [[0.5, 0.5]], [[0.5, 0.5]], coverage, by_class=False)
