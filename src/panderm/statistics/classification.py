"""How well predicted classes and probabilities agree with the truth.

Every function takes row weights: how often each row counts, one row of integers per draw of a bootstrap.
The point value (all ones) and every draw therefore come out of the same lines of code. A score that cannot be
computed is NaN: never 0, and never an average over whichever classes happen to be left; `not_computable` says
why in words.

Rows of a cross-validation were scored by a model a fold: given the folds, AUROC and average precision compare
rows of one fold only (see `panderm.statistics.within_folds` for why) and won pairs, pairs, and precisions are
summed over the folds before they are divided.

Definitions are scikit-learn's (`sklearn.metrics`); counts are kept as such until the last division.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panderm.errors import some
from panderm.statistics.blocks import multiplicities, over_blocks
from panderm.statistics.ranking import Ranking, grouping, rank, won_pairs_and_precision

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


# Scores of whatever classes there are: a class without rows leaves them as they are.
NEED_NO_CLASS = ("accuracy", "weighted_f1", "quadratic_kappa")


def score_names(n_classes: int) -> tuple[str, ...]:
    """Return the names of `classification_scores` for so many classes, in order."""
    ranking = ("auroc",) if n_classes == 2 else ("auroc_ovo", "auroc_ovr")
    return (
        "accuracy",
        "balanced_accuracy",
        "weighted_f1",
        "macro_f1",
        *ranking,
        "average_precision",
        "quadratic_kappa",
    )


def classification_scores(
    truth: ArrayLike,
    probabilities: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    folds: ArrayLike | None = None,
) -> dict[str, Floats]:
    """Compute every score for every weighting of the rows.

    The predicted class is the one of highest probability, the first of them on ties. With two classes,
    `auroc` and `average_precision` are those of the probability of class 1; with more, `auroc_ovo` and
    `auroc_ovr` are unweighted means over pairs of classes and over classes against the rest, and
    `average_precision` is the unweighted mean over classes against the rest. Probabilities are ranked as they
    are, not normalised.

    Args:
        truth: (n,) class codes, 0..K-1.
        probabilities: (n, K) finite scores, K >= 2, higher for the more likely class.
        weights: (B, n) integers >= 0, how often each row counts in each of B draws; None for once each.
        folds: (n,) integers, where each fold was scored by a model of its own; only rows of one are ranked
            against each other.

    Returns:
        `score_names(K)` to (B,) values (B = 1 without weights). All lie in [0, 1] but `quadratic_kappa`, in
        [-1, 1]. NaN where a draw does not allow the score: with no row of some class, all but `accuracy`,
        `weighted_f1` and `quadratic_kappa`; AUROC, where no fold holds rows of both of two classes; kappa,
        where truth and prediction are one and the same class throughout; everything, where no row counts.

    Raises:
        ValueError: shapes that do not match, codes out of range, probabilities that are not finite.
    """
    return classification_scorer(truth, probabilities, folds=folds)(weights)


def classification_scorer(
    truth: ArrayLike,
    probabilities: ArrayLike,
    *,
    folds: ArrayLike | None = None,
    per_class: bool = False,
) -> Callable[[ArrayLike | None], dict[str, Floats]]:
    """Return `classification_scores` of these rows as a function of weights; all sorting is done here, once.

    Args:
        truth: as there.
        probabilities: as there.
        folds: as there.
        per_class: with `sensitivity` and `specificity` of `per_class_scores` too, each (B, K).

    Raises:
        ValueError: as there.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ValueError(f"probabilities must be (n, K) with K >= 2, not {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("probabilities must be finite")
    n, n_classes = scores.shape
    true = _codes(truth, n_classes, "truth", rows=n)

    cells = grouping(true * n_classes + scores.argmax(axis=1), n_classes**2)
    ranked = (1,) if n_classes == 2 else tuple(range(n_classes))
    parts = [
        _Part(
            rows=None if folds is None else rows,
            rankings={c: rank(scores[rows, c], true[rows] == c, true[rows], n_classes) for c in ranked},
            members=grouping(true[rows], n_classes),
        )
        for rows in _folds(folds, n)
    ]

    def compute(block: Floats) -> dict[str, Floats]:
        confusion = _as_matrices(cells @ block, n_classes)
        values = _threshold_scores(confusion) | _ranking_scores(block, parts)
        found = {name: values[name] for name in score_names(n_classes)}
        return found | _of_each_class(confusion) if per_class else found

    size = n + n_classes**2

    def of_weights(weights: ArrayLike | None = None) -> dict[str, Floats]:
        return over_blocks(compute, multiplicities(weights, n), size)

    return of_weights


def per_class_scores(
    truth: ArrayLike, predicted: ArrayLike, n_classes: int, weights: ArrayLike | None = None
) -> dict[str, Floats]:
    """Compute each class's sensitivity and specificity, the class against all others.

    Args:
        truth: (n,) class codes, 0..K-1.
        predicted: (n,) class codes, 0..K-1.
        n_classes: K >= 1.
        weights: (B, n) integers >= 0; None for all ones, as if B = 1.

    Returns:
        `sensitivity` and `specificity`, each (B, K) in [0, 1]: NaN for the sensitivity of a class without
        rows and for the specificity of a class outside of which there are no rows.
    """
    true, called, counts = _two_codings(truth, predicted, n_classes, weights)
    cells = grouping(true * n_classes + called, n_classes**2)

    def compute(block: Floats) -> dict[str, Floats]:
        return _of_each_class(_as_matrices(cells @ block, n_classes))

    return over_blocks(compute, counts, len(true) + n_classes**2)


def confusion_matrix(
    truth: ArrayLike, predicted: ArrayLike, n_classes: int, weights: ArrayLike | None = None
) -> Integers:
    """Count the rows of each true class that were predicted as each class.

    Args:
        truth: (n,) class codes, 0..K-1.
        predicted: (n,) class codes, 0..K-1.
        n_classes: K >= 1.
        weights: (B, n) integers >= 0, how often each row counts.

    Returns:
        (B, K, K) counts, true classes down the rows; (K, K) without weights.
    """
    true, called, counts = _two_codings(truth, predicted, n_classes, weights)
    cells = grouping(true * n_classes + called, n_classes**2)
    size = len(true) + n_classes**2
    counted = over_blocks(lambda block: {"": _as_matrices(cells @ block, n_classes)}, counts, size)[""]
    matrices = counted.astype(np.int64)
    return matrices[0] if weights is None else matrices


def not_computable(
    truth: ArrayLike,
    n_classes: int,
    class_names: Sequence[str],
    *,
    predicted: ArrayLike | None = None,
    folds: ArrayLike | None = None,
) -> dict[str, str]:
    """Say which of `classification_scores` cannot be computed on these rows, and why.

    Args:
        truth: (n,) class codes, 0..K-1.
        n_classes: K >= 2.
        class_names: K names, for the sentences.
        predicted: (n,) class codes; without them an undefined `quadratic_kappa` goes unnoticed.
        folds: (n,) as of `classification_scores`.

    Returns:
        Score name to reason, in the order of `score_names`; empty if all can be computed.
    """
    true = _codes(truth, n_classes, "truth")
    present = _present(true, n_classes, class_names)
    if not len(true):
        return dict.fromkeys(score_names(n_classes), "no row was scored")
    reasons = {}
    absent = [repr(name) for name, seen in zip(class_names, present, strict=True) if not seen]
    if absent:
        subject = f"class {absent[0]} has" if len(absent) == 1 else f"classes {some(absent)} have"
        need_every_class = set(score_names(n_classes)) - set(NEED_NO_CLASS)
        reasons = dict.fromkeys(need_every_class, f"{subject} no row among those scored")
    elif folds is not None:
        reasons |= _never_together(true, np.asarray(folds), class_names)
    if predicted is not None:
        called = _codes(predicted, n_classes, "predicted", rows=len(true))
        if (true == true[0]).all() and (called == true[0]).all():
            only = repr(class_names[true[0]])
            reasons["quadratic_kappa"] = f"every row is of class {only} and predicted as {only}"
    return {name: reasons[name] for name in score_names(n_classes) if name in reasons}


def not_computable_per_class(
    truth: ArrayLike, n_classes: int, class_names: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Say which of `per_class_scores` cannot be computed on these rows, and why.

    Args:
        truth: (n,) class codes, 0..K-1.
        n_classes: K >= 1.
        class_names: K names, for the sentences and as keys.

    Returns:
        `sensitivity` and `specificity`, each class name to reason; empty where all can be computed.
    """
    true = _codes(truth, n_classes, "truth")
    present = _present(true, n_classes, class_names)
    named = list(zip(class_names, present, strict=True))
    elsewhere = {name: bool(present.sum() - seen) for name, seen in named}
    return {
        "sensitivity": {
            name: f"class {name!r} has no row among those scored" for name, seen in named if not seen
        },
        "specificity": {
            name: f"no row among those scored is of a class other than {name!r}"
            for name, others in elsewhere.items()
            if not others
        },
    }


@dataclass(frozen=True, eq=False)
class _Part:
    """Rows that are ranked against each other, `None` for all: each class's ranking, and sums by class."""

    rows: Integers | None
    rankings: dict[int, Ranking]
    members: Any

    def of(self, block: Floats) -> Floats:
        return block if self.rows is None else np.take(block, self.rows, axis=0)


def _ranking_scores(block: Floats, parts: Sequence[_Part]) -> dict[str, Floats]:
    """AUROC and average precision of (n, b) weights."""
    by_part = [part.members @ part.of(block) for part in parts]
    rows = np.sum(by_part, axis=0)
    complete = (rows > 0).all(axis=0)
    one_vs_one, one_vs_rest, precision = [], [], []
    for own_class in parts[0].rankings:
        won, pairs, averaged = np.zeros(rows.shape), np.zeros(rows.shape), np.zeros(block.shape[1])
        for part, counts in zip(parts, by_part, strict=True):
            more, precise = won_pairs_and_precision(part.of(block), part.rankings[own_class])
            won, averaged = won + more, averaged + precise
            pairs += counts[own_class] * counts
        others = np.delete(np.arange(len(rows)), own_class)
        with np.errstate(invalid="ignore"):
            one_vs_one.append((won[others] / pairs[others]).mean(axis=0))
            one_vs_rest.append(won[others].sum(axis=0) / pairs[others].sum(axis=0))
            precision.append(averaged / rows[own_class])

    def mean(per_class: list[Floats]) -> Floats:
        return np.where(complete, np.mean(per_class, axis=0), np.nan)

    ranked = {"auroc_ovo": mean(one_vs_one), "auroc_ovr": mean(one_vs_rest)}
    if len(rows) == 2:
        ranked = {"auroc": ranked["auroc_ovr"]}
    return ranked | {"average_precision": mean(precision)}


def _never_together(true: Integers, folds: NDArray[Any], class_names: Sequence[str]) -> dict[str, str]:
    """Say which AUROC there is none of, as classes it compares never share a fold."""
    at = np.unique(folds, return_inverse=True)[1]
    held = np.zeros((len(class_names), int(at.max()) + 1))
    held[true, at] = 1
    meet = held @ held.T > 0
    apart = np.argwhere(np.triu(~meet))
    if not len(apart):
        return {}
    one, other = (repr(class_names[k]) for k in apart[0])
    of_two = len(class_names) == 2
    reasons = {"auroc" if of_two else "auroc_ovo": f"no fold has rows of both {one} and {other}"}
    alone = np.flatnonzero(meet.sum(axis=1) == 1)
    if len(alone) and not of_two:
        reasons["auroc_ovr"] = f"no fold has rows of both {class_names[alone[0]]!r} and another class"
    return reasons


def _folds(folds: ArrayLike | None, n: int) -> list[Integers]:
    """Return the rows of each fold, of none all rows."""
    if folds is None or not n:
        return [np.arange(n)]
    fold = np.asarray(folds)
    if fold.shape != (n,):
        raise ValueError(f"folds must be ({n},), not {fold.shape}")
    return [np.flatnonzero(fold == f) for f in np.unique(fold)]


def _threshold_scores(confusion: Floats) -> dict[str, Floats]:
    """Scores of the predicted class, from (b, K, K) counts."""
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    rows, calls = confusion.sum(axis=2), confusion.sum(axis=1)
    total = rows.sum(axis=1)
    complete = (rows > 0).all(axis=1)
    classes = np.arange(confusion.shape[1])
    distance = np.square(np.subtract.outer(classes, classes)).astype(np.float64)
    with np.errstate(invalid="ignore"):
        recall = hits / rows
        f1 = 2 * hits / (rows + calls)
        observed = np.einsum("bij,ij->b", confusion, distance)
        expected = np.einsum("bi,bi->b", rows @ distance, calls) / total
        return {
            "accuracy": hits.sum(axis=1) / total,
            "balanced_accuracy": np.where(complete, recall.mean(axis=1), np.nan),
            "weighted_f1": (np.where(rows > 0, f1, 0) * rows).sum(axis=1) / total,
            "macro_f1": np.where(complete, f1.mean(axis=1), np.nan),
            "quadratic_kappa": 1 - observed / np.where(expected > 0, expected, np.nan),
        }


def _of_each_class(confusion: Floats) -> dict[str, Floats]:
    """Sensitivity and specificity (b, K), from (b, K, K) counts."""
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    rows, calls = confusion.sum(axis=2), confusion.sum(axis=1)
    others = rows.sum(axis=1, keepdims=True) - rows
    with np.errstate(invalid="ignore"):
        return {"sensitivity": hits / rows, "specificity": (others - (calls - hits)) / others}


def _as_matrices(cells: Floats, n_classes: int) -> Floats:
    return np.ascontiguousarray(cells.T).reshape(-1, n_classes, n_classes)


def _two_codings(
    truth: ArrayLike, predicted: ArrayLike, n_classes: int, weights: ArrayLike | None
) -> tuple[Integers, Integers, NDArray[Any]]:
    true = _codes(truth, n_classes, "truth")
    called = _codes(predicted, n_classes, "predicted", rows=len(true))
    return true, called, multiplicities(weights, len(true))


def _codes(values: ArrayLike, n_classes: int, what: str, *, rows: int | None = None) -> Integers:
    codes = np.asarray(values)
    if codes.ndim != 1 or (rows is not None and len(codes) != rows):
        raise ValueError(f"{what} must be ({'n' if rows is None else rows},), not {codes.shape}")
    if len(codes) and not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(f"{what} must be integer class codes, not {codes.dtype}")
    if len(codes) and not (codes.min() >= 0 and codes.max() < n_classes):
        raise ValueError(f"{what} must be in 0..{n_classes - 1}, found {codes.min()}..{codes.max()}")
    return codes.astype(np.int64)


def _present(true: Integers, n_classes: int, class_names: Sequence[str]) -> NDArray[np.bool_]:
    if len(class_names) != n_classes:
        raise ValueError(f"class_names must be {n_classes} names, not {len(class_names)}")
    return np.bincount(true, minlength=n_classes) > 0
