"""Conformal sets cover what they promise, class by class where asked, and refuse what makes no sense."""

from __future__ import annotations

import numpy as np
import pytest

from panderm.statistics.conformal import fewest_rows, prediction_sets, sets_by_group


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


def test_a_group_that_is_harder_is_covered_by_thresholds_of_its_own() -> None:
    rng, found = np.random.default_rng(2), []
    for _ in range(40):
        (truth, p), hard = drawn(1400, rng), rng.random(1400) < 0.15
        guessed = rng.dirichlet(np.ones(3), 1400)
        p = np.where(hard[:, None], guessed, p)
        held, rows = np.arange(1400) < 400, np.arange(1400) >= 400
        one = prediction_sets(truth[held], p[held], p[rows], 0.9, by_class=False)
        own = sets_by_group(
            truth[held],
            p[held],
            p[rows],
            0.9,
            held_group=hard[held].astype(int),
            group=hard[rows].astype(int),
        )
        hit = [s[np.arange(1000), truth[rows]] for s in (one, own)]
        found.append([h[mask].mean() for h in hit for mask in (hard[rows], ~hard[rows])])
    hard_by_one, easy_by_one, hard_by_own, easy_by_own = np.mean(found, axis=0)
    assert hard_by_one < 0.75
    assert easy_by_one > 0.91
    assert hard_by_own == pytest.approx(0.9, abs=0.02)
    assert easy_by_own == pytest.approx(0.9, abs=0.015)


@pytest.mark.parametrize(("coverage", "rows"), [(0.9, 10), (0.95, 20), (0.8, 5), (0.5, 2), (0.85, 6)])
def test_a_group_of_too_few_rows_rules_nothing_out_and_has_the_sets_of_all(
    coverage: float, rows: int
) -> None:
    assert fewest_rows(coverage) == rows
    truth, p = drawn(300, np.random.default_rng(3))
    sure = np.array([[0.999, 0.0005, 0.0005]])
    for m in (rows - 2, rows):  # at rows - 1 it hangs on the last digit of 1 - coverage
        if m:
            alone = prediction_sets(
                np.zeros(m, int), np.repeat(sure, m, axis=0), 1 - sure, coverage, by_class=False
            )
            assert alone.all() == (m < rows)
    held_group = np.zeros(300, int)
    held_group[: rows - 1] = 1
    every = prediction_sets(truth, p, p[:50], coverage, by_class=False)
    found = sets_by_group(truth, p, p[:50], coverage, held_group=held_group, group=np.ones(50, int))
    assert (found == every).all()


@pytest.mark.parametrize("coverage", [0, 1, np.nan])
def test_what_makes_no_sense_is_refused(coverage: float) -> None:
    with pytest.raises(ValueError, match="coverage"):
        prediction_sets([0], [[0.5, 0.5]], [[0.5, 0.5]], coverage, by_class=False)
