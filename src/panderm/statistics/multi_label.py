"""How well probabilities of several labels agree with what is known of an image, label by label and together.

As in `classification`, every function takes row weights, the point value being that of all ones, and a score
that cannot be computed is NaN: never 0, and never an average over whichever labels happen to be left. A cell
that is not known is left out of the scores of its label, and of those that pool cells.

Definitions are scikit-learn's (`sklearn.metrics`, `average="macro"` and `"micro"`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panderm.errors import some
from panderm.statistics.blocks import multiplicities, over_blocks
from panderm.statistics.ranking import Ranking, grouping, rank, won_pairs_and_precision

Floats = NDArray[np.float64]

THRESHOLD = 0.5
"""A label is called present where its probability is so high or higher."""
LABEL_SCORES = (*("auroc", "average_precision", "sensitivity", "specificity", "f1", "brier", "prevalence"),)
WHOLE_SCORES = (
    *("macro_auroc", "micro_auroc", "macro_average_precision", "micro_average_precision"),
    *("macro_f1", "micro_f1", "macro_brier", "subset_accuracy", "hamming_loss"),
)
_NEED_PRESENT = ("auroc", "average_precision", "sensitivity", "f1")
_NEED_ABSENT = ("auroc", "average_precision", "specificity")


def multi_label_scores(
    truth: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None
) -> dict[str, Floats]:
    """Compute every score for every weighting of the rows.

    Args:
        truth: (n, K) integers: 1 present, 0 absent, -1 not known.
        probabilities: (n, K) in [0, 1], each by itself.
        weights: (B, n) integers >= 0, how often each row counts in each of B draws; None for once each.

    Returns:
        `LABEL_SCORES` to (B, K) values, of each label over the rows where it is known, and `WHOLE_SCORES` to
        (B,) values, all in [0, 1]; B = 1 without weights. `macro_` is the unweighted mean over labels,
        `micro_` that of all known cells together, `subset_accuracy` the share of rows with every label
        right, of those with every label known, `hamming_loss` the share of known cells that are wrong.
        NaN where a draw does not allow the score: ranking scores with no row that has the label or none
        that has it not, sensitivity and F1 with none that has it, specificity with none that has it not.

    Raises:
        ValueError: shapes that do not match, other codes, probabilities outside of 0 to 1.
    """
    return multi_label_scorer(truth, probabilities)(weights)


def multi_label_scorer(
    truth: ArrayLike, probabilities: ArrayLike
) -> Callable[[ArrayLike | None], dict[str, Floats]]:
    """Return `multi_label_scores` of these rows as a function of weights; all sorting is done here, once."""
    true, scores = np.asarray(truth), np.asarray(probabilities, dtype=np.float64)
    if scores.ndim != 2 or not scores.shape[1] or true.shape != scores.shape:
        raise ValueError(f"truth and probabilities must both be (n, K), not {true.shape} and {scores.shape}")
    if not np.isin(true, (-1, 0, 1)).all():
        raise ValueError("truth must be 1, 0 or, where it is not known, -1")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("probabilities must be from 0 to 1")
    n, n_labels = scores.shape
    known, present, called = true >= 0, true == 1, scores >= THRESHOLD
    whole = known.all(axis=1)
    right = whole & (called == present).all(axis=1)
    # Sums over rows, for all labels at once: a row of these for each thing that is counted.
    counted = np.hstack(
        [known, present, present & called, known & called, np.stack([whole, right], axis=1)]
    ).astype(np.float64)
    errors = np.where(known, np.square(scores - present), 0.0)
    columns = [_Column(scores[:, k], true[:, k]) for k in range(n_labels)]
    cells = np.flatnonzero(known)
    pooled = _Column(scores.ravel()[cells], true.ravel()[cells])
    row_of_cell = cells // n_labels

    def compute(block: Floats) -> dict[str, Floats]:
        sums = block.T @ counted
        rows, positives, hits, calls = (sums[:, i * n_labels : (i + 1) * n_labels] for i in range(4))
        negatives = rows - positives
        ranked = [column.ranked(block) for column in columns]
        area, precision = (np.stack([one[side] for one in ranked], axis=1) for side in (0, 1))
        micro_area, micro_precision = pooled.ranked(np.take(block, row_of_cell, axis=0))
        squared = block.T @ errors
        wrong = (positives - hits) + (calls - hits)
        with np.errstate(invalid="ignore"):
            label = {
                "auroc": area,
                "average_precision": precision,
                "sensitivity": hits / positives,
                "specificity": (negatives - (calls - hits)) / negatives,
                "f1": np.where(positives > 0, 2 * hits / (positives + calls), np.nan),
                "brier": squared / rows,
                "prevalence": positives / rows,
            }
            every, some_positive = rows.sum(axis=1), positives.sum(axis=1)
            micro_f1 = 2 * hits.sum(axis=1) / (some_positive + calls.sum(axis=1))
            together = {
                "micro_auroc": micro_area,
                "micro_average_precision": micro_precision,
                "micro_f1": np.where(some_positive > 0, micro_f1, np.nan),
                "subset_accuracy": sums[:, -1] / sums[:, -2],
                "hamming_loss": wrong.sum(axis=1) / every,
            }
        together |= {
            name: label[name.removeprefix("macro_")].mean(axis=1)
            for name in WHOLE_SCORES
            if name.startswith("macro_")
        }
        return label | {name: together[name] for name in WHOLE_SCORES}

    size = n * (1 + n_labels) + len(cells)

    def of_weights(weights: ArrayLike | None = None) -> dict[str, Floats]:
        return over_blocks(compute, multiplicities(weights, n), size)

    return of_weights


def not_computable(
    truth: ArrayLike, names: Sequence[str], trained: ArrayLike | None = None
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Say which of `multi_label_scores` cannot be computed on these rows, and why.

    Args:
        truth: (n, K) as there.
        names: of the K labels, for the sentences and as keys.
        trained: (K,) whether each label was trained; None for all. Of one that was not there is no score,
            and none that takes all labels together.

    Returns:
        By label, name of the score to reason; and for the scores of all labels, name to reason.
    """
    true = np.asarray(truth)
    known = np.ones(len(names), dtype=bool) if trained is None else np.asarray(trained, dtype=bool)
    labels = {name: _reasons(name, true[:, k], trained=bool(known[k])) for k, name in enumerate(names)}
    never = [repr(name) for name, learned in zip(names, known, strict=True) if not learned]
    if never:
        subject = f"label {never[0]} was" if len(never) == 1 else f"labels {some(never)} were"
        return labels, dict.fromkeys(WHOLE_SCORES, f"{subject} not trained")
    whole: dict[str, str] = {}
    for reasons in reversed(labels.values()):
        whole |= {f"macro_{score}": reason for score, reason in reasons.items()}
    pooled = _reasons("", true.ravel(), trained=True)
    for score, of_label in (
        ("micro_auroc", "auroc"),
        ("micro_average_precision", "average_precision"),
        ("micro_f1", "f1"),
        ("hamming_loss", "brier"),
    ):
        if of_label in pooled:
            whole[score] = pooled[of_label]
    if not (true >= 0).all(axis=1).any():
        whole["subset_accuracy"] = "no image scored has every label known"
    return labels, {name: whole[name] for name in WHOLE_SCORES if name in whole}


class _Column:
    """The known cells of one label, or of all, sorted once by their probability."""

    def __init__(self, scores: Floats, truth: NDArray[Any]) -> None:
        self._rows = np.flatnonzero(truth >= 0)
        own = truth[self._rows] == 1
        sides = own.astype(np.int64)
        self._ranking: Ranking = rank(scores[self._rows], own, sides, 2)
        self._members = grouping(sides, 2)

    def ranked(self, block: Floats) -> tuple[Floats, Floats]:
        """Return AUROC and average precision of (n, b) weights, each (b,)."""
        weights = np.take(block, self._rows, axis=0)
        absent, present = self._members @ weights
        won, averaged = won_pairs_and_precision(weights, self._ranking)
        both = (absent > 0) & (present > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (
                np.where(both, won[0] / (absent * present), np.nan),
                np.where(both, averaged / present, np.nan),
            )


def _reasons(name: str, truth: NDArray[Any], *, trained: bool) -> dict[str, str]:
    what = f"label {name!r}" if name else "label"
    if not trained:
        predicted = (score for score in LABEL_SCORES if score != "prevalence")
        return dict.fromkeys(predicted, f"{what} was not trained")
    if not (truth >= 0).any():
        said = f"{what} is not known" if name else "no label is known"
        return dict.fromkeys(LABEL_SCORES, f"{said} of any image scored")
    found: dict[str, str] = {}
    if not (truth == 1).any():
        found |= dict.fromkeys(_NEED_PRESENT, f"no image scored has {what if name else 'any label'}")
    if not (truth == 0).any():
        found |= dict.fromkeys(_NEED_ABSENT, f"every image scored has {what if name else 'every label'}")
    return {score: found[score] for score in LABEL_SCORES if score in found}
