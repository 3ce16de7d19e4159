"""Intervals of shares against scipy's, the published example of Newcombe, and coverage in clusters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from panderm.statistics.proportions import (
    clustered_interval,
    effective_n,
    exact_interval,
    wilson_interval,
)


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (0, 20), (12, 12), (81, 263), (1, 29), (500, 1000)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_both_are_those_of_scipy(hits, n, level):
    for ours, method in ((exact_interval, "exact"), (wilson_interval, "wilson")):
        expected = binomtest(hits, n).proportion_ci(level, method=method)
        np.testing.assert_allclose(ours(hits, n, level), (expected.low, expected.high), atol=1e-9)


def test_wilson_is_that_of_newcombe_1998():
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_all_found_of_few_is_not_a_certainty():
    low, high = clustered_interval(np.ones(12), np.arange(12))
    assert (round(low, 3), high) == (0.735, 1.0)
    fewer, _ = clustered_interval(np.ones(12), np.arange(12) // 3)
    assert fewer == pytest.approx(exact_interval(4, 4)[0])


def test_copies_are_no_cases_and_rows_on_their_own_all_are():
    hit = np.arange(40) % 3 == 0
    assert effective_n(hit, np.arange(40)) == 40
    assert effective_n(np.repeat(hit, 5), np.repeat(np.arange(40), 5)) == pytest.approx(39)
    assert effective_n(hit, np.tile([0, 1], 20)) <= 40


def test_intervals_cover_where_patients_have_several_cases():
    rng, patient = np.random.default_rng(0), np.repeat(np.arange(50), 4)
    covered = {"exact": 0, "wilson": 0, "independent": 0}
    for _ in range(500):
        own = rng.beta(1.6, 0.4, 50)  # mean 0.8, correlation 1/3 within a patient
        hit = rng.random(200) < own[patient]
        for name, (low, high) in (
            ("exact", clustered_interval(hit, patient)),
            ("wilson", clustered_interval(hit, patient, exact=False)),
            ("independent", wilson_interval(hit.sum(), 200)),
        ):
            covered[name] += low <= 0.8 <= high
    assert 0.93 <= covered["exact"] / 500 <= 0.99
    assert 0.91 <= covered["wilson"] / 500 <= 0.98
    assert covered["independent"] / 500 < 0.88


def test_what_is_no_share_is_refused():
    for hits, n, level in ((3, 2, 0.95), (0, 0, 0.95), (1, 2, 1.0)):
        with pytest.raises(ValueError, match="must be"):
            exact_interval(hits, n, level)
    with pytest.raises(ValueError, match="clusters"):
        effective_n([1, 0], [0])
