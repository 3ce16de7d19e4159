"""Multinomial logistic regression on embeddings: the published objective, and the sound one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from scipy.special import softmax

Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LogisticFit:
    """A straight separator and how it was found.

    Attributes:
        weight: float64 (K, D).
        bias: float64 (K,).
        objective: the value reached.
        iterations: of L-BFGS; evaluations: of the objective.
        gradient: largest entry of the objective's gradient at the end.
        converged: the optimiser stopped because it had arrived, not because it ran out of iterations.
    """

    weight: Matrix
    bias: npt.NDArray[np.float64]
    objective: float
    iterations: int
    evaluations: int
    gradient: float
    converged: bool

    def probabilities(self, X: Matrix) -> Matrix:
        """Return softmax probabilities (n, K) of embeddings (n, D)."""
        return np.asarray(softmax(X @ self.weight.T + self.bias, axis=1))


def fit_paper(X: npt.NDArray[np.float32], y: Codes, C: float, *, seed: int, max_iter: int) -> LogisticFit:
    """Minimise mean cross-entropy + ½‖W‖/C, the norm not squared, as the published probe does.

    One ``LBFGS.step`` in float32 from ``nn.Linear``'s own start: learning rate 1, history 100, strong
    Wolfe line search, gradient tolerance 1e-7, change tolerance 1e-9.

    Args:
        X: embeddings (n, D), neither centred nor scaled.
        y: class codes 0 … K-1, each present.
        C: strength; the published value is D·K/100.
        seed: of the start; the published value is 0.
        max_iter: the published value is 1000.
    """
    n_classes = int(y.max()) + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        linear = torch.nn.Linear(X.shape[1], n_classes)
    features, target = torch.from_numpy(X), torch.from_numpy(y)
    optimiser = torch.optim.LBFGS(
        linear.parameters(),
        lr=1.0,
        max_iter=max_iter,
        history_size=100,
        tolerance_grad=1e-7,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def objective() -> torch.Tensor:
        optimiser.zero_grad()
        loss: torch.Tensor = torch.nn.functional.cross_entropy(linear(features), target)
        loss = loss + linear.weight.norm() / (2 * C)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimiser.step(objective)  # type: ignore[no-untyped-call]
        value = float(objective().detach())
    state = optimiser.state[linear.weight]
    largest = max(float(p.grad.abs().max()) for p in linear.parameters() if p.grad is not None)
    return LogisticFit(
        weight=linear.weight.detach().double().numpy(),
        bias=linear.bias.detach().double().numpy(),
        objective=value,
        iterations=int(state["n_iter"]),
        evaluations=int(state["func_evals"]),
        gradient=largest,
        converged=int(state["n_iter"]) < max_iter,
    )


class RidgePath:
    """Squared-L2 logistic regression at many strengths on the same rows.

    Minimises mean cross-entropy + ‖W‖²/(2·C·n) on features that are centred and divided by one number, the
    root mean square of all of them: scikit-learn's ``LogisticRegression(C=C)`` on such features. Features
    are rotated once to their principal axes, where the curvature is nearly diagonal: L-BFGS then needs
    fewer steps.

    Args:
        X: (n, D) features; y: (n,) class codes 0 … n_classes - 1.
        max_iter: of L-BFGS, at each strength.
        rough: single precision and a gradient of 1e-4 instead of 1e-7: enough to choose between strengths.
    """

    def __init__(
        self,
        X: npt.NDArray[np.floating[Any]],
        y: Codes,
        n_classes: int,
        *,
        max_iter: int,
        rough: bool = False,
    ) -> None:
        features = np.asarray(X, dtype=np.float64)
        self._mean = features.mean(axis=0)
        centred = features - self._mean
        self._scale = float(np.sqrt((centred**2).mean())) or 1.0
        scaled = centred / self._scale
        n = len(y)
        curvature, self._axes = np.linalg.eigh(scaled.T @ scaled / n)
        self._curvature = np.maximum(curvature, 0.0)
        self._rotated = (scaled @ self._axes).astype(np.float32 if rough else np.float64)
        self._codes = y
        self._options = {
            "maxiter": max_iter,
            "maxfun": 2 * max_iter,
            "maxcor": 20,
            "gtol": 1e-4 if rough else 1e-7,
        }
        self._start = np.zeros((n_classes, features.shape[1] + 1))

    def fit(self, C: float) -> LogisticFit:
        """Return the optimum at strength ``C``; begins at the one found before."""
        n = len(self._codes)
        penalty = 1.0 / (C * n)
        # The loss bends by at most p(1 - p) ≤ ¼ of the features' own spread along each axis.
        scale = 1.0 / np.sqrt(np.append(0.25 * self._curvature + penalty, 0.25))
        rows = np.arange(n)

        def objective(theta: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
            W = theta.reshape(self._start.shape) * scale
            weight, bias = W[:, :-1], W[:, -1]
            logits = (self._rotated @ weight.T.astype(self._rotated.dtype)).astype(np.float64)
            logits += bias
            logits -= logits.max(axis=1, keepdims=True)
            true = logits[rows, self._codes]
            odds = np.exp(logits, out=logits)
            total = odds.sum(axis=1, keepdims=True)
            loss = float((np.log(total[:, 0]) - true).mean() + 0.5 * penalty * (weight * weight).sum())
            odds /= total
            odds[rows, self._codes] -= 1.0
            odds /= n
            slope = np.empty_like(W)
            slope[:, :-1] = odds.T.astype(self._rotated.dtype) @ self._rotated + penalty * weight
            slope[:, -1] = odds.sum(axis=0)
            return loss, (slope * scale).ravel()

        found = minimize(
            objective,
            (self._start / scale).ravel(),
            jac=True,
            method="L-BFGS-B",
            options={**self._options, "ftol": 1e-14},
        )
        self._start = found.x.reshape(self._start.shape) * scale
        W, b = self._start[:, :-1], self._start[:, -1]
        weight = (W @ self._axes.T) / self._scale
        return LogisticFit(
            weight=weight,
            bias=b - weight @ self._mean,
            objective=float(found.fun),
            iterations=int(found.nit),
            evaluations=int(found.nfev),
            gradient=float(np.abs(found.jac).max()),
            converged=bool(found.success),
        )
