"""What validation rows decide is kept with a classifier, and holds on rows that decided nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import softmax

from panderm.classifying.calibrated import Calibration, calibrated, decide
from panderm.fitted import FittedLinear
from panderm.predictions import Predictions
from panderm.statistics.conformal import prediction_sets, strangest
from panderm.statistics.targets import Target

Floats = npt.NDArray[np.float64]
CLASSES = ("mel", "bcc", "nv")
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def frame(probed: tuple[Path, Predictions]) -> Predictions:
    """Any predictions: their rows are replaced."""
    return probed[1]


def head() -> FittedLinear:
    return FittedLinear(classes=CLASSES, method={}, weight=np.eye(3), bias=np.zeros(3))


def drawn(
    frame: Predictions, logits: Floats, truth: npt.NDArray[np.int64], classes: tuple[str, ...] = CLASSES
) -> Predictions:
    n = len(logits)
    none = np.full(n, None, dtype=object)
    card = frame.card.model_copy(update={"classes": classes, "rows": n, "split": "val", "validation": None})
    return replace(
        frame,
        path=none,
        sha256=none,
        patient=none,
        group=none,
        image=np.array([f"{i}.jpg" for i in range(n)], dtype=object),
        truth=np.array([classes[k] for k in truth], dtype=object),
        probabilities=softmax(logits, axis=1),
        card=card,
        validation=None,
    )


def world(n: int, rng: np.random.Generator, sure: float = 1.0) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Draw logits whose softmax is right, and make them ``sure`` times too sure."""
    logits = rng.normal([-1.0, 0.0, 1.0], 1.5, (n, 3))
    truth = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return logits * sure, np.minimum(truth, 2)


def test_what_rules_a_class_out_is_what_the_sets_say() -> None:
    rng = np.random.default_rng(1)
    for trial in range(24):
        m, coverage = int(rng.integers(1, 40)), float(rng.choice([0.5, 0.8, 0.9, rng.uniform(0.05, 0.99)]))
        held = rng.dirichlet(np.full(3, 0.5), m)
        held = np.round(held, 1) if trial % 2 else held  # many of the same
        truth = rng.integers(0, 3, m)
        p = np.concatenate([held, rng.dirichlet(np.ones(3), 20)])
        wanted = prediction_sets(truth, held, p, coverage, by_class=False)
        limit = strangest(1 - held[np.arange(m), truth], coverage)
        assert ((1 - p <= limit) == wanted).all()


def test_sets_cover_rows_that_decided_nothing(frame: Predictions) -> None:
    """With a temperature fitted on the same rows, too: in 100 studies, and for each class by its own rows."""
    rng, covered, each = np.random.default_rng(2), [], []
    for _ in range(100):
        logits, truth = world(80, rng, sure=2.0)
        fitted, decided = calibrated(head(), drawn(frame, logits, truth), coverage=0.9)
        new, true = world(400, rng, sure=2.0)
        p = fitted.probabilities(new)
        sets = [rule.sets(p) for rule in decided.sets]
        covered.append(sets[0][np.arange(400), true].mean())
        each.append([sets[1][true == k, k].mean() for k in range(3)])
    standard_error = np.std(covered) / np.sqrt(len(covered))
    assert 0.9 - 3 * standard_error < np.mean(covered) < 0.9 + 1 / 81 + 3 * standard_error
    assert (np.mean(each, axis=0) > 0.885).all()


def test_a_temperature_makes_sure_logits_honest(frame: Predictions) -> None:
    logits, truth = world(3000, np.random.default_rng(3), sure=2.5)
    fitted, decided = calibrated(head(), drawn(frame, logits, truth))
    assert 2.2 < fitted.temperature == decided.temperature < 2.8
    assert decided.log_loss is not None
    before, after = decided.log_loss
    p = fitted.probabilities(logits)
    assert after < before
    assert after == pytest.approx(-np.log(p[np.arange(3000), truth]).mean(), abs=1e-9)
    kept, untouched = calibrated(head(), drawn(frame, logits, truth), temperature=False)
    assert (kept.temperature, untouched.temperature) == (1.0, 1.0)


def test_a_threshold_is_the_highest_that_finds_enough(frame: Predictions) -> None:
    logits, truth = world(200, np.random.default_rng(4))
    rows = drawn(frame, logits, truth)
    targets = (Target("sensitivity", 0.9), Target("threshold", 0.25))
    decided = decide(rows, positive=["mel", "bcc"], targets=targets)
    p, positive = rows.probabilities[:, :2].sum(axis=1), truth < 2
    found = decided.thresholds[0]
    assert found.threshold == max(t for t in np.unique(p) if (p[positive] >= t).mean() >= 0.9)
    assert (found.positives, found.negatives) == (positive.sum(), (~positive).sum())
    assert found.specificity == pytest.approx((p[~positive] < found.threshold).mean())
    assert (decided.thresholds[1].threshold, decided.thresholds[1].positives) == (0.25, 0)
    assert Calibration.model_validate_json(decided.model_dump_json()) == decided


def test_what_cannot_be_decided_says_why(frame: Predictions) -> None:
    assert decide(None).left_out["sets"] == "no validation rows"
    logits, truth = world(5, np.random.default_rng(5))
    few = decide(drawn(frame, logits, truth))
    assert "sets of 90% take 10 validation rows, there are 5" in few.left_out["sets"]
    assert few.left_out["thresholds"] == "no class is named positive"
    certain = np.eye(3)[[0, 1, 2] * 10] * 9.0
    _, decided = calibrated(head(), drawn(frame, certain, np.array([0, 1, 2] * 10)))
    assert "predicted rightly" in decided.left_out["temperature"]
    absent = np.where(truth == 0, 1, truth)
    by_class = decide(drawn(frame, np.tile(logits, (4, 1)), np.tile(absent, 4))).sets[1]
    assert by_class.limits[0] is None  # no row of it: it is in every set
    assert by_class.sets(np.array([[0.0, 0.5, 0.5]]))[0, 0]
