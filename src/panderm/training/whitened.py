"""Logistic regression with a squared L2 penalty, solved in coordinates where every direction bends alike."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import lapack

from panderm.embeddings.vectors import MappedVectors
from panderm.training.logistic import LogisticFit
from panderm.training.passes import Passes

Floats: TypeAlias = npt.NDArray[np.float64]
Link = Literal["softmax", "sigmoid"]

_HISTORY = 20
# Of the whitened gradient's largest entry: about half its square is what is left to gain, in nats.
_ARRIVED, _EXACT, _AIM, _SINGLE, _ROUGH = 1e-6, 1e-9, 1e-8, 5e-6, 1e-4
_UNIT = 1e4  # the objective times this is what L-BFGS sees: it takes no notice of curvature below 1e-10


class WhitenedPath:
    """Squared-L2 logistic regression at many strengths on the same rows, for one or several sets of weights.

    Minimises (Σ wᵢ·lossᵢ + ‖W‖²/2C) / Σ wᵢ on features that are centred and divided by one number, the root
    mean square of all of them: scikit-learn's ``LogisticRegression(C=C)`` on such features, with its weights
    (with two classes, for which scikit-learn has one column of coefficients instead of two, that of 2C).
    A row of weight 2 is a row that stands twice, in the mean and the scale too.

    L-BFGS walks on V, where [W b] = V·L⁻¹ and L·Lᵀ is what the loss can bend by, the features' own spread,
    and the penalty: a step says as much in each direction. First in single precision; then, from there, in
    double precision to the optimum. Problems that differ in nothing but their weights, such as the folds of a
    cross-validation, are solved together, for little more than the price of one.

    Memory: see :class:`panderm.training.passes.Passes`, and 3 (D+1)² doubles.

    Args:
        X: (n, D) features, finite; in memory, or in files, which are then read a block at a time.
        targets: ``softmax``: int (n,) class codes 0 … K-1. ``sigmoid``: (n, K) of 0 and 1, K questions of
            their own.
        n_outputs: K.
        link: see ``targets``.
        weights: of the losses, at least 0; ``softmax``: (n, P) for P problems, ``sigmoid``: (n, K), 0 where
            an answer is not known. None for ``row_weights`` in one problem.
        row_weights: (n,) whose mean and scale are taken; None for 1 each.
        float64: double precision from the start.
        device: ``cpu``, ``cuda``, or ``auto``: a GPU where there is one and it pays.
        max_iter: of L-BFGS, at each strength.
        rough: single precision only, and a gradient of 1e-4: enough to choose between strengths.
    """

    def __init__(
        self,
        X: npt.NDArray[Any] | MappedVectors,
        targets: npt.NDArray[Any],
        n_outputs: int,
        *,
        link: Link = "softmax",
        weights: Floats | None = None,
        row_weights: Floats | None = None,
        float64: bool = False,
        device: str = "auto",
        max_iter: int = 1000,
        rough: bool = False,
    ) -> None:
        own = np.ones(len(targets)) if row_weights is None else np.asarray(row_weights, dtype=np.float64)
        if weights is None:
            weights = own[:, None] if link == "softmax" else np.repeat(own[:, None], n_outputs, axis=1)
        self._max_iter, self._rough = max_iter, rough
        self._total = float(own.sum())
        self._passes = Passes(
            X, targets, n_outputs, weights, own, link=link, float64=float64, rough=rough, device=device
        )
        with self._passes.threads():
            self._spread = self._passes.spread(weights.mean(axis=1)) / self._total
        self._start = np.zeros((self._passes.columns, X.shape[1] + 1))
        self._start[:, -1] = self._passes.prior

    @property
    def device(self) -> str:
        """Where the passes over the rows are made."""
        return str(self._passes.device)

    def fit(self, C: float | Floats) -> LogisticFit:
        """Return the optimum at strength ``C``, or at one strength a column; begins at the one found before.

        The result's weight and bias are (K, D) and (K,), or of several problems (P·K, D) and (P·K,); a class
        without weight in a problem has the bias minus infinity.
        """
        penalty = 1.0 / (np.broadcast_to(np.asarray(C, dtype=float), (self._passes.columns,)) * self._total)
        double = not self._passes.single
        with self._passes.threads():
            walk = _Walk(
                self._passes, self._total, penalty, _Basis(0.25 * self._spread, penalty), self._start
            )
            if self._rough:
                walk.go(self._max_iter, aim=_ROUGH, least_gain=1e-9)
            else:
                if not double:
                    walk.go(self._max_iter, aim=_SINGLE, least_gain=1e-9)
                walk.double = True
                walk.go(self._max_iter, aim=_EXACT if double else _AIM, least_gain=1e-16)
            self._start, value, slope, whitened = walk.end()
            farthest = float(np.abs(whitened).max())
        W, b = self._passes.restore(self._start)
        return LogisticFit(
            weight=W,
            bias=b,
            objective=value,
            iterations=walk.iterations,
            evaluations=walk.evaluations,
            gradient=float(np.abs(slope).max()),
            gradient_norm=float(np.linalg.norm(slope)),
            converged=farthest <= (10 * _ROUGH if self._rough else _ARRIVED),
            precision="float64" if double else "float32, then float64" if walk.double else "float32",
        )

    def losses(self) -> Floats:
        """Return of each row and problem (n, P), or question (n, K), the loss at what was found last."""
        with self._passes.threads():
            return self._passes.losses(self._start)


class _Walk:
    """One L-BFGS, which keeps what it has learned of the curvature when the products become double."""

    def __init__(self, passes: Passes, total: float, penalty: Floats, basis: _Basis, start: Floats) -> None:
        self._passes, self._total, self._penalty, self._basis = passes, total, penalty, basis
        self._V = torch.from_numpy(np.ascontiguousarray(basis.whitened(start))).requires_grad_()
        self._lbfgs = torch.optim.LBFGS([self._V], history_size=_HISTORY, line_search_fn="strong_wolfe")
        self._seen: tuple[Floats, bool, Floats, float, Floats, Floats] | None = None
        self.double = not passes.single
        self.evaluations = 0

    @property
    def iterations(self) -> int:
        """Of L-BFGS, so far."""
        return int(self._lbfgs.state[self._V].get("n_iter", 0))

    def go(self, most: int, *, aim: float, least_gain: float) -> None:
        """Walk on, to a whitened gradient below ``aim``, or until an iteration gains too little."""
        most -= self.iterations
        if most <= 0:
            return
        self._lbfgs.param_groups[0].update(
            max_iter=most, max_eval=2 * most, tolerance_grad=aim * _UNIT, tolerance_change=least_gain * _UNIT
        )

        def closure() -> torch.Tensor:
            _, value, _, whitened = self.end()
            self._V.grad = torch.from_numpy(whitened * _UNIT)
            return torch.tensor(value * _UNIT, dtype=torch.float64)

        self._lbfgs.step(closure)  # type: ignore[no-untyped-call]

    def end(self) -> tuple[Floats, float, Floats, Floats]:
        """Return [W b] where we stand, the objective, its slope, and the slope along V."""
        V = self._V.detach().numpy()
        if self._seen is None or self._seen[1] != self.double or not np.array_equal(self._seen[0], V):
            theta = self._basis.theta(V)
            value, slope = self._passes.loss(theta, double=self.double)
            W = theta[:, :-1]
            slope /= self._total
            slope[:, :-1] += self._penalty[:, None] * W
            value = value / self._total + 0.5 * float(self._penalty @ (W * W).sum(axis=1))
            self._seen = (V.copy(), self.double, theta, value, slope, self._basis.gradient(slope))
            self.evaluations += 1
        return self._seen[2:]


class _Basis:
    """The coordinates of the walk, for one penalty a column.

    Args:
        bend: (D+1, D+1), what the loss can bend by; the last of its coordinates is the bias.
        penalty: (M,), of each column's weights.
    """

    def __init__(self, bend: Floats, penalty: Floats) -> None:
        self._factors: list[tuple[npt.NDArray[np.intp], Floats, Floats]] = []
        for one in np.unique(penalty):
            L = _factor(bend, float(one))
            inverse, _ = lapack.dtrtri(L, lower=1)
            self._factors.append((np.flatnonzero(penalty == one), L, inverse))

    def theta(self, V: Floats) -> Floats:
        """Return [W b]."""
        return self._apply(V, lambda v, _, inverse: v @ inverse)

    def gradient(self, slope: Floats) -> Floats:
        """Return the slope along V of a slope along [W b]."""
        return self._apply(slope, lambda v, _, inverse: v @ inverse.T)

    def whitened(self, theta: Floats) -> Floats:
        """Return V."""
        return self._apply(theta, lambda v, L, _: v @ L)

    def _apply(self, rows: Floats, product: Any) -> Floats:
        if len(self._factors) == 1:
            return np.asarray(product(rows, *self._factors[0][1:]))
        out = np.empty_like(rows)
        for at, L, inverse in self._factors:
            out[at] = product(rows[at], L, inverse)
        return out


def _factor(bend: Floats, penalty: float) -> Floats:
    """Return the Cholesky factor of bend + penalty, lifted where rounding leaves it short of positive."""
    eye = np.eye(len(bend))
    eye[-1, -1] = 0.0
    lift = 1e-13 * float(np.linalg.norm(bend))
    while True:
        A = bend + penalty * eye
        A[np.diag_indices_from(A)] += lift
        L, failed = lapack.dpotrf(A, lower=1, clean=1)
        if not failed:
            return np.asarray(L)
        lift *= 100
