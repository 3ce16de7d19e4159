"""Independent logistic regressions on the same features, all solved at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from panderm.training.logistic import LogisticFit, Matrix


class SigmoidPath:
    """P logistic regressions at many strengths on the same rows, each with weights of its own.

    Each minimises Σ wᵢ·log loss / Σ wᵢ + ‖w‖²/(2·C·Σ wᵢ) on features that are centred and divided by one
    number, the root mean square of all of them: scikit-learn's ``LogisticRegression(C=C)`` with these sample
    weights. A row of weight 0 is not there. Features are rotated once to their principal axes, as
    :class:`RidgePath` does, and one L-BFGS minimises the sum, which is smallest where each is.

    Args:
        X: (n, D) features.
        Y: (n, P) of 1 and 0.
        weights: (n, P), 0 or greater; each column with some weight on both.
        max_iter: of L-BFGS, at each call.
        rough: single precision and a gradient of 1e-4 instead of 1e-7: enough to choose between strengths.
    """

    def __init__(
        self,
        X: npt.NDArray[np.floating[Any]],
        Y: Matrix,
        weights: Matrix,
        *,
        max_iter: int = 1000,
        rough: bool = False,
    ) -> None:
        features = np.asarray(X, dtype=np.float64)
        self._mean = features.mean(axis=0)
        centred = features - self._mean
        self._scale = float(np.sqrt((centred**2).mean())) or 1.0
        scaled = centred / self._scale
        curvature, self._axes = np.linalg.eigh(scaled.T @ scaled / len(scaled))
        self._curvature = np.maximum(curvature, 0.0)
        kind = np.float32 if rough else np.float64
        self._rotated = (scaled @ self._axes).astype(kind)
        self._total = weights.sum(axis=0)
        self._weights, self._Y = weights / self._total, Y
        self._options = {
            "maxiter": max_iter,
            "maxfun": 2 * max_iter,
            "maxcor": 20,
            "gtol": 1e-4 if rough else 1e-7,
            "ftol": 1e-14,
        }
        self._start = np.zeros((Y.shape[1], features.shape[1] + 1))

    def fit(self, C: npt.NDArray[np.float64]) -> LogisticFit:
        """Return the optima at strengths ``C`` (P,); begins at those found before."""
        penalty = 1.0 / (C * self._total)
        # The loss bends by at most p(1 - p) ≤ ¼ of the features' own spread along each axis.
        bend = np.hstack([0.25 * self._curvature + penalty[:, None], np.full((len(C), 1), 0.25)])
        scale = 1.0 / np.sqrt(bend)

        def objective(theta: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
            W = theta.reshape(self._start.shape) * scale
            weight, bias = W[:, :-1], W[:, -1]
            logits = (self._rotated @ weight.T.astype(self._rotated.dtype)).astype(np.float64) + bias
            loss = float((self._weights * (np.logaddexp(0, logits) - self._Y * logits)).sum())
            loss += 0.5 * float(penalty @ (weight * weight).sum(axis=1))
            wrong = self._weights * (expit(logits) - self._Y)
            slope = np.empty_like(W)
            slope[:, :-1] = wrong.T.astype(self._rotated.dtype) @ self._rotated + penalty[:, None] * weight
            slope[:, -1] = wrong.sum(axis=0)
            return loss, (slope * scale).ravel()

        found = minimize(
            objective, (self._start / scale).ravel(), jac=True, method="L-BFGS-B", options=self._options
        )
        self._start = found.x.reshape(self._start.shape) * scale
        weight = (self._start[:, :-1] @ self._axes.T) / self._scale
        return LogisticFit(
            weight=weight,
            bias=self._start[:, -1] - weight @ self._mean,
            objective=float(found.fun),
            iterations=int(found.nit),
            evaluations=int(found.nfev),
            gradient=float(np.abs(found.jac).max()),
            converged=bool(found.success),
        )
