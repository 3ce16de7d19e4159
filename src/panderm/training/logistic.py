"""Multinomial logistic regression on embeddings with the published objective, and what any fit says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
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
        gradient: largest entry of the objective's gradient at the end; gradient_norm: its Euclidean norm.
        converged: the optimiser stopped because it had arrived, not because it ran out of iterations.
        precision: of the products with the features.
    """

    weight: Matrix
    bias: npt.NDArray[np.float64]
    objective: float
    iterations: int
    evaluations: int
    gradient: float
    converged: bool
    gradient_norm: float = float("nan")
    precision: str = "float32"

    def probabilities(self, X: Matrix) -> Matrix:
        """Return softmax probabilities (n, K) of embeddings (n, D)."""
        return np.asarray(softmax(X @ self.weight.T + self.bias, axis=1))


def fit_paper(
    X: npt.NDArray[np.float32],
    y: Codes,
    C: float,
    *,
    seed: int,
    max_iter: int,
    weights: Matrix | None = None,
) -> LogisticFit:
    """Minimise mean cross-entropy + ½‖W‖/C, the norm not squared, as the published probe does.

    One ``LBFGS.step`` in float32 from ``nn.Linear``'s own start: learning rate 1, history 100, strong
    Wolfe line search, gradient tolerance 1e-7, change tolerance 1e-9.

    Args:
        X: embeddings (n, D), neither centred nor scaled.
        y: class codes 0 … K-1, each present.
        C: strength; the published value is D·K/100.
        seed: of the start; the published value is 0.
        max_iter: the published value is 1000.
        weights: (n,) how much each row counts in the mean; the published probe has none.
    """
    n_classes = int(y.max()) + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        linear = torch.nn.Linear(X.shape[1], n_classes)
    features, target = torch.from_numpy(X), torch.from_numpy(y)
    shares = None if weights is None else torch.from_numpy((weights / weights.sum()).astype(np.float32))
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
        if shares is None:
            loss: torch.Tensor = torch.nn.functional.cross_entropy(linear(features), target)
        else:
            loss = shares @ torch.nn.functional.cross_entropy(linear(features), target, reduction="none")
        loss = loss + linear.weight.norm() / (2 * C)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimiser.step(objective)  # type: ignore[no-untyped-call]
        value = float(objective().detach())
    state = optimiser.state[linear.weight]
    slope = torch.cat([p.grad.ravel() for p in linear.parameters() if p.grad is not None]).double()
    return LogisticFit(
        weight=linear.weight.detach().double().numpy(),
        bias=linear.bias.detach().double().numpy(),
        objective=value,
        iterations=int(state["n_iter"]),
        evaluations=int(state["func_evals"]),
        gradient=float(slope.abs().max()),
        gradient_norm=float(slope.norm()),
        converged=int(state["n_iter"]) < max_iter,
    )
