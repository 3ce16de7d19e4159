"""Resampling patients covers the truth as often as promised; resampling images does not. Of few patients
near the edge percentiles fall short, and BCa and the formulas less so (`benchmarks/intervals.py` has more).

Every image of patient p scores ``±d + u_p + e``: the sign is the patient's class, u_p a shift that all the
patient's images share (normal, variance .8), e their own noise (normal, variance .2). Benign and malignant
are equally common and an image is called malignant above 0. With Φ the normal distribution function and total
variance 1, the accuracy in the population is then Φ(d), and the AUROC, the chance that 2d plus a normal of
variance 2 is positive, is Φ(d√2).
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from panderm.statistics.bca import bca_interval, jackknife
from panderm.statistics.classification import classification_scorer, classification_scores
from panderm.statistics.delong import delong, delong_interval
from panderm.statistics.proportions import clustered_interval
from panderm.statistics.resampling import bootstrap, percentile_interval

PATIENTS, REPETITIONS, DRAWS = 60, 300, 400
SEPARATION, SHARED = 0.8, 0.8
TRUE = {"accuracy": norm.cdf(SEPARATION), "auroc": norm.cdf(SEPARATION * np.sqrt(2))}


def study(
    rng: np.random.Generator, patients: int, apart: float = SEPARATION
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return patient, truth and (n, 2) scores of 3 to 9 images per patient."""
    patient = np.repeat(np.arange(patients), rng.integers(3, 10, patients))
    malignant = rng.integers(0, 2, patients)[patient]
    shift = rng.normal(0, np.sqrt(SHARED), patients)[patient]
    noise = rng.normal(0, np.sqrt(1 - SHARED), len(patient))
    score = np.where(malignant, apart, -apart) + shift + noise
    return patient, malignant, np.column_stack([-score, score])


@pytest.fixture(scope="module")
def coverage() -> dict[tuple[str, str], float]:
    """How often the 95 % interval holds the true value: (unit, score) to a share of the repetitions."""
    rng = np.random.default_rng(2024)
    held = {(unit, score): 0 for unit in ("patient", "image") for score in TRUE}
    for repetition in range(REPETITIONS):
        patient, truth, scores = study(rng, PATIENTS)
        for unit, clusters in (("patient", patient), ("image", np.arange(len(patient)))):
            drawn = bootstrap(
                lambda w, y=truth, s=scores: classification_scores(y, s, w), clusters, DRAWS, seed=repetition
            )
            for score, true in TRUE.items():
                low, high, _ = percentile_interval(drawn[score])
                held[unit, score] += low <= true <= high
    return {key: count / REPETITIONS for key, count in held.items()}


def test_the_true_values_are_true() -> None:
    _, truth, scores = study(np.random.default_rng(1), 100_000)
    found = classification_scores(truth, scores)
    for score, true in TRUE.items():
        assert found[score][0] == pytest.approx(true, abs=0.004), score  # three standard errors


@pytest.mark.parametrize("score", TRUE)
def test_resampling_patients_covers(coverage, score) -> None:
    assert 0.90 <= coverage["patient", score] <= 0.99


@pytest.mark.parametrize("score", TRUE)
def test_resampling_images_does_not(coverage, score) -> None:
    assert coverage["image", score] < 0.85


@pytest.fixture(scope="module")
def at_the_edge() -> dict[tuple[str, str], float]:
    """How often intervals of 40 patients hold an accuracy of .92 and an AUROC of .976: method and score."""
    rng, repetitions, apart = np.random.default_rng(7), 200, 1.4
    true = {"accuracy": norm.cdf(apart), "auroc": norm.cdf(apart * np.sqrt(2))}
    held = {(method, score): 0 for method in ("percentile", "bca", "analytic") for score in true}
    for repetition in range(repetitions):
        patient, truth, scores = study(rng, 40, apart)
        scorer = classification_scorer(truth, scores)
        values = scorer(None)
        drawn = bootstrap(scorer, patient, 300, seed=repetition)
        left_out = jackknife(scorer, patient).values
        right = (scores.argmax(axis=1) == truth).astype(float)
        area, variance = delong(truth, scores[:, 1], patient)
        formula = {
            "accuracy": clustered_interval(right, patient, exact=False),
            "auroc": delong_interval(float(area[0]), float(variance[0, 0])),
        }
        for score, value in true.items():
            ends = {
                "percentile": percentile_interval(drawn[score]),
                "bca": bca_interval(drawn[score], float(values[score][0]), left_out[score]),
                "analytic": formula[score],
            }
            for method, (low, high, *_) in ends.items():
                held[method, score] += low <= value <= high
    return {key: count / repetitions for key, count in held.items()}


@pytest.mark.parametrize("score", TRUE)
@pytest.mark.parametrize("method", ["bca", "analytic"])
def test_at_the_edge_corrected_intervals_hold_more_than_percentiles(at_the_edge, method, score) -> None:
    assert at_the_edge[method, score] >= at_the_edge["percentile", score] + 0.01
    assert 0.86 <= at_the_edge[method, score] <= 0.99
