"""The draw of labels told from the draw of test units, by simulation; crossings, by curves that are known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from panderm.statistics.label_efficiency import (
    crossing,
    least_labels,
    repeat_weights,
    separate,
    smoothed,
    weighted_means,
)
from panderm.statistics.resampling import cluster_bootstrap

SD_LABELS, SD_TEST, SD_BOTH = 0.3, 1.0, 0.5
R, T, B = 6, 40, 250


def study(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """R repeats scored on T test units: what each does, and what they do together."""
    cells = SD_LABELS * rng.normal(size=(R, 1)) + SD_TEST * rng.normal(size=(1, T))
    cells = cells + SD_BOTH * rng.normal(size=(R, T))
    weights = np.concatenate(list(cluster_bootstrap(np.arange(T), B, int(rng.integers(2**31)))))
    return cells.mean(axis=1), (cells @ weights.T) / T


def test_both_variances_are_found_apart_and_together() -> None:
    rng = np.random.default_rng(0)
    means, labels, test, total, held = [], [], [], [], 0
    studies = 300
    for i in range(studies):
        values, drawn = study(rng)
        weights = repeat_weights(R, B, i)
        found = separate(values, drawn, weights)
        means.append(found.mean)
        labels.append(found.sd_labels**2)
        test.append(found.sd_test**2)
        total.append(weighted_means(drawn, weights).var())
        held += found.total[0] <= 0 <= found.total[1]
    between = SD_LABELS**2 + SD_BOTH**2 / T
    of_test = SD_TEST**2 / T + SD_BOTH**2 / (R * T)
    assert np.mean(labels) == pytest.approx(between, rel=0.08)
    assert np.mean(test) == pytest.approx(of_test, rel=0.08)
    # What the mean really varies by, over whole studies; the two-way bootstrap is right or a little above.
    truth = SD_LABELS**2 / R + of_test
    assert np.var(means) == pytest.approx(truth, rel=0.2)
    assert truth * 0.95 < np.mean(total) < truth * 1.25
    assert 0.89 < held / studies <= 0.99


def test_weights_of_repeats_vary_as_the_mean_of_as_many_does() -> None:
    values = np.array([0.1, 0.5, 0.2, 0.9])
    weights = repeat_weights(4, 200_000, 0)
    assert weights.sum(axis=1) == pytest.approx(1)
    assert (weights @ values).var() == pytest.approx(values.var(ddof=1) / 4, rel=0.02)
    assert np.array_equal(repeat_weights(1, 3, 0), np.ones((3, 1)))


def test_one_repeat_says_nothing_of_the_draw_of_labels() -> None:
    found = separate([0.5], np.full((1, 50), 0.5), repeat_weights(1, 50, 0))
    assert np.isnan([found.sd_labels, *found.labels]).all()
    assert found.total == (0.5, 0.5)


def test_draws_without_a_score_are_left_out_and_too_few_give_no_interval() -> None:
    drawn = np.vstack([np.linspace(0, 1, 100)] * 2)
    drawn[:, :20] = np.nan
    weights = repeat_weights(2, 100, 0)
    assert separate([0.4, 0.6], drawn, weights).total[0] > 0.2
    drawn[:, :60] = np.nan
    assert np.isnan(separate([0.4, 0.6], drawn, weights).total).all()


def test_smoothing_is_isotonic_regression() -> None:
    rng = np.random.default_rng(1)
    curves = rng.normal(size=(20, 6)).cumsum(axis=1)
    expected = [IsotonicRegression().fit_transform(np.arange(6), row) for row in curves]
    assert smoothed(curves) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("target", [0.31, 0.5, 0.699])
def test_a_straight_line_in_log_x_is_crossed_where_algebra_says(target: float) -> None:
    x = np.array([1, 5, 10, 20, 50, 100.0])
    curve = 0.3 + 0.2 * np.log10(x)
    found = least_labels(x, curve[None], np.array([target]))
    assert found == pytest.approx(10 ** ((target - 0.3) / 0.2))


def test_at_once_never_and_undefined() -> None:
    x, curve = [1.0, 10.0, 100.0], np.array([[0.5, 0.4, 0.7]] * 4)
    # Smoothed to 0.45, 0.45, 0.7.
    found = least_labels(x, curve, np.array([0.45, 0.71, np.nan, 0.7]))
    assert found[0] == 1
    assert np.isinf(found[1])
    assert np.isnan(found[2])
    assert found[3] == pytest.approx(100)
    with pytest.raises(ValueError, match="ascend"):
        least_labels([1, 1], curve[:, :2], np.zeros(4))


def test_an_interval_may_end_at_never() -> None:
    x = [1.0, 10.0, 100.0]
    curves = np.tile([0.1, 0.2, 0.3], (1000, 1))
    targets = np.linspace(0.05, 0.305, 1000)
    found = crossing(x, curves[0], 0.2, curves, targets)
    assert found.value == pytest.approx(10)
    assert found.at_first == pytest.approx(1000 * 0.05 / 0.255, abs=2)
    assert found.never == pytest.approx(1000 * 0.005 / 0.255, abs=2)
    assert found.low == 1
    assert 90 < found.high < 100
    assert np.isinf(crossing(x, curves[0], 0.2, curves, targets + 0.05).high)


def test_the_interval_of_a_crossing_holds_the_truth() -> None:
    """A line of known slope, seen with noise of labels and of test: 95 of 100 intervals, or nearly."""
    rng = np.random.default_rng(5)
    x = np.array([1, 3.0, 10, 30, 100])
    truth, held, studies = 0.3 + 0.1 * np.log10(x), 0, 300
    for i in range(studies):
        cells = truth[:, None] + 0.02 * rng.normal(size=(5, 10))
        values = cells + 0.02 * rng.normal()
        noise = 0.02 * rng.normal(size=300)
        weights = repeat_weights(10, 300, i)
        drawn = values[:, :, None] + noise
        on_draws = np.array([weighted_means(one, weights) for one in drawn]).T
        found = crossing(x, values.mean(axis=1), 0.4, on_draws, np.full(300, 0.4))
        held += found.low <= 10 <= found.high
    assert 0.89 < held / studies <= 0.995
