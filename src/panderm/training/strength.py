"""The strength of a linear probe, by the log loss of rows that were not fitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from panderm.embeddings.vectors import MappedVectors
from panderm.training.logistic import LogisticFit
from panderm.training.whitened import Link, WhitenedPath

Array: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float64]

# Half decades, strongest penalty first: each fit begins at the one before.
STRENGTHS = tuple(float(c) for c in np.logspace(-6, 2, 17))
_WORST = -np.log(1e-15)  # one row that is surely wrong does not decide alone


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be fitted.

    Attributes:
        X: (n, D).
        targets: codes (n,), or 0 and 1 (n, K).
        n_outputs: K.
        link: ``softmax`` or ``sigmoid``.
        weights: (n,) or (n, K), of the losses, class weights included.
        row_weights: (n,), of mean and scale; None for 1 each.
        options: of :class:`WhitenedPath`.
    """

    X: Array | MappedVectors
    targets: Array
    n_outputs: int
    link: Link
    weights: Floats
    row_weights: Floats | None
    options: dict[str, Any]

    def path(self, weights: Floats | None = None, repeats: int = 1, *, rough: bool = False) -> WhitenedPath:
        """Return the path of these weights, or of others in ``repeats`` problems."""
        if weights is None:
            weights = self.weights[:, None] if self.weights.ndim == 1 else self.weights
        targets, n_outputs = self.targets, self.n_outputs
        if self.link == "sigmoid" and repeats > 1:
            targets, n_outputs = np.tile(targets, repeats), n_outputs * repeats
        return WhitenedPath(
            self.X,
            targets,
            n_outputs,
            link=self.link,
            weights=weights,
            row_weights=self.row_weights,
            rough=rough,
            **self.options,
        )


def choose_on_rows(problem: Problem, X: Array, targets: Array, weights: Floats) -> tuple[float, float]:
    """Return the strength of least mean log loss on other rows, and that loss.

    Args:
        problem: what is fitted.
        X: (m, D) rows to choose on.
        targets: as the problem's, of these rows.
        weights: (m,) or (m, K), as the problem's.
    """
    path = problem.path(rough=True)

    def loss(fit: LogisticFit) -> float:
        total = 0.0
        step = max(1, 2**22 // max(1, X.shape[1]))
        for start in range(0, len(X), step):
            rows = slice(start, start + step)
            z = np.asarray(X[rows], dtype=np.float64) @ fit.weight.T + fit.bias
            y = targets[rows]
            if problem.link == "softmax":
                each = -log_softmax(z, axis=1)[np.arange(len(y)), y]
            else:
                each = np.logaddexp(0, z) - y * z
            total += float((weights[rows] * np.minimum(each, _WORST)).sum())
        return total / float(weights.sum())

    return _least(path, loss)


def choose_on_folds(problem: Problem, folds: Sequence[tuple[Array, Array]]) -> tuple[float, float]:
    """Return the strength of least mean log loss on the held-out rows of all folds, and that loss.

    All folds are fitted together, as problems that differ in which rows weigh nothing; the features' mean and
    scale, in which C is measured, are those of the fit to come.

    Args:
        problem: what is fitted.
        folds: positions (fitted, held out).
    """
    fitted, held_out = [], []
    for rows, held in folds:
        w, h = np.zeros_like(problem.weights), np.zeros_like(problem.weights)
        w[rows], h[held] = problem.weights[rows], problem.weights[held]
        if problem.link == "sigmoid":  # a label with one answer in a fold says nothing there
            answers = [np.unique(problem.targets[rows][w[rows][:, k] > 0, k]) for k in range(w.shape[1])]
            one = np.array([len(a) < 2 for a in answers])
            w[:, one], h[:, one] = 0.0, 0.0
        fitted.append(w)
        held_out.append(h)
    together = np.stack(fitted, axis=1) if problem.link == "softmax" else np.concatenate(fitted, axis=1)
    out = np.stack(held_out, axis=1) if problem.link == "softmax" else np.concatenate(held_out, axis=1)
    path, total = problem.path(together, len(folds), rough=True), float(out.sum())

    def loss(_: LogisticFit) -> float:
        each = np.minimum(path.losses(), _WORST)
        return float(np.where(out > 0, out * each, 0.0).sum()) / total

    return _least(path, loss)


def _least(path: WhitenedPath, loss: Callable[[LogisticFit], float]) -> tuple[float, float]:
    losses: list[float] = []
    for strength in STRENGTHS:
        losses.append(loss(path.fit(strength)))
        # Past the valley weaker penalties only overfit more, and take longest.
        if len(losses) - 1 - int(np.argmin(losses)) >= 3:
            break
    best = int(np.argmin(losses))
    return STRENGTHS[best], losses[best]
