"""Resampling patients covers the truth as often as promised; resampling images does not.

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

from panderm.statistics.classification import classification_scores
from panderm.statistics.resampling import bootstrap, percentile_interval

PATIENTS, REPETITIONS, DRAWS = 60, 300, 400
SEPARATION, SHARED = 0.8, 0.8
TRUE = {"accuracy": norm.cdf(SEPARATION), "auroc": norm.cdf(SEPARATION * np.sqrt(2))}


def study(rng: np.random.Generator, patients: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return patient, truth and (n, 2) scores of 3 to 9 images per patient."""
    patient = np.repeat(np.arange(patients), rng.integers(3, 10, patients))
    malignant = rng.integers(0, 2, patients)[patient]
    shift = rng.normal(0, np.sqrt(SHARED), patients)[patient]
    noise = rng.normal(0, np.sqrt(1 - SHARED), len(patient))
    score = np.where(malignant, SEPARATION, -SEPARATION) + shift + noise
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
