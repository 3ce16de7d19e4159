"""Multinomial logistic regression on embeddings: the published objective, and the sound one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

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
    tens of steps instead of hundreds.
    """

    def __init__(
        self,
        X: npt.NDArray[np.floating[Any]],
        y: Codes,
        n_classes: int,
        *,
        max_iter: int,
        tolerance: float = 1e-7,
    ) -> None:
        features = np.asarray(X, dtype=np.float64)
        self._mean = features.mean(axis=0)
        centred = features - self._mean
        self._scale = float(np.sqrt((centred**2).mean())) or 1.0
        scaled = centred / self._scale
        n = len(y)
        curvature, self._axes = np.linalg.eigh(scaled.T @ scaled / n)
        self._curvature = np.maximum(curvature, 0.0)
        self._rotated = scaled @ self._axes
        self._target = np.eye(n_classes)[y]
        self._options = {"maxiter": max_iter, "maxfun": 2 * max_iter, "maxcor": 20, "gtol": tolerance}
        self._start: tuple[Matrix, npt.NDArray[np.float64]] | None = None

    def fit(self, C: float) -> LogisticFit:
        """Return the optimum at strength ``C``; begins at the one found before."""
        n, D = self._rotated.shape
        K = self._target.shape[1]
        penalty = 1.0 / (C * n)
        scale = 1.0 / np.sqrt(0.25 * self._curvature + penalty)
        Z = self._rotated * scale
        V0 = np.zeros((K, D)) if self._start is None else self._start[0] / scale
        b0 = np.zeros(K) if self._start is None else self._start[1]

        def objective(theta: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
            V, b = theta[:-K].reshape(K, D), theta[-K:]
            logits = Z @ V.T + b
            total = logsumexp(logits, axis=1)
            W = V * scale
            loss = float((total - (logits * self._target).sum(axis=1)).mean() + 0.5 * penalty * (W * W).sum())
            error = (np.exp(logits - total[:, None]) - self._target) / n
            slope = error.T @ Z + penalty * W * scale
            return loss, np.concatenate([slope.ravel(), error.sum(axis=0)])

        found = minimize(
            objective,
            np.concatenate([V0.ravel(), b0]),
            jac=True,
            method="L-BFGS-B",
            options={**self._options, "ftol": 1e-14},
        )
        W = found.x[:-K].reshape(K, D) * scale
        b = found.x[-K:]
        self._start = (W, b)
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
