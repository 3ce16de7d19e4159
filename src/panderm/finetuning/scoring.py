"""Scores of logits beside the truth as a function of row weights, for the choice of an epoch or a setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_softmax, softmax

from panderm.data.label_cells import PRESENT, UNKNOWN
from panderm.scores.resampled import Statistic
from panderm.statistics.classification import classification_scorer, not_computable
from panderm.statistics.multi_label import multi_label_scorer
from panderm.statistics.multi_label import not_computable as label_not_computable

Floats = npt.NDArray[np.float64]

_OF_SEVERAL = ("macro_auroc", "macro_average_precision", "macro_f1")
_OF_ONE = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "auroc_ovo", "auroc_ovr")


def scorer_of(
    truth: npt.NDArray[np.int8], logits: Floats, classes: Sequence[str], *, several: bool
) -> tuple[Statistic, Mapping[str, str]]:
    """Return the scores of some rows as a function of their weights, and why some cannot be computed.

    Args:
        truth: int8 (n, K): 1 present, 0 absent, -1 not known.
        logits: (n, K).
        classes: K names.
        several: whether an image has several labels.

    Returns:
        From (B, n) weights, or None for all ones, to names and (B,) values. ``loss`` is the mean log loss in
        nats, of several labels over the cells that are known: nothing is smoothed or mixed.
    """
    if several:
        return _of_several(truth, logits), label_not_computable(truth, classes)[1]
    codes = truth.argmax(axis=1)
    lost = -log_softmax(logits, axis=1)[np.arange(len(codes)), codes]
    p = softmax(logits, axis=1)
    every = classification_scorer(codes, p, per_class=True)
    shown = (truth == PRESENT).any(axis=0)

    def statistic(weights: Any) -> dict[str, Floats]:
        made, of = every(weights), np.ones((1, len(codes))) if weights is None else weights
        recall = made.pop("sensitivity")[:, shown]
        made.pop("specificity")
        return {
            "loss": of @ lost / of.sum(axis=1),
            "macro_recall": recall.mean(axis=1),
            **{name: value for name, value in made.items() if name in _OF_ONE},
        }

    return statistic, not_computable(codes, len(classes), classes, predicted=p.argmax(1))


def _of_several(truth: npt.NDArray[np.int8], logits: Floats) -> Statistic:
    known, present = truth != UNKNOWN, truth == PRESENT
    cells = np.where(known, np.logaddexp(0, np.where(present, -logits, logits)), 0.0)
    labels = multi_label_scorer(truth, expit(logits))

    def statistic(weights: Any) -> dict[str, Floats]:
        made, of = labels(weights), np.ones((1, len(truth))) if weights is None else weights
        loss = of @ cells.sum(axis=1) / np.maximum(of @ known.sum(axis=1), 1)
        return {"loss": loss, **{name: made[name] for name in _OF_SEVERAL}}

    return statistic
