"""Predictions to scores: every number with an interval, its n, the unit resampled and the seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.predictions import Predictions, open_predictions
from panderm.storage import write_json

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Score:
    """A value in its natural range with a 95 % interval; all None, and a reason, where not computable."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return value, low and high, and the reason where there is one."""
        kept = {"value": self.value, "low": self.low, "high": self.high}
        return kept if self.reason is None else {**kept, "reason": self.reason}


@dataclass(frozen=True)
class ClassScores:
    """One class against the rest, on n true rows of it."""

    n: int
    sensitivity: Score
    specificity: Score


@dataclass(frozen=True)
class Scores:
    """All scores of one set of predictions.

    Attributes:
        scores: by name: accuracy, balanced_accuracy, weighted_f1, macro_f1, auroc (two classes) or
            auroc_ovo and auroc_ovr, average_precision, quadratic_kappa.
        per_class: by class, in the classes' order.
        confusion: int64 (K, K), rows true, columns predicted.
        classes: in their order.
        n: rows scored.
        clusters: independent units resampled.
        unit: patient, lesion group or image.
        draws: bootstrap draws.
        seed: of the bootstrap.
        split: which split was scored.
        predictions: hex identity of the predictions.
    """

    scores: dict[str, Score]
    per_class: dict[str, ClassScores]
    confusion: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    n: int
    clusters: int
    unit: str
    draws: int
    seed: int
    split: str
    predictions: str
