"""Passes over the rows of a logistic regression: losses and slopes, in blocks, on a CPU or a GPU."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import ThreadpoolController
from torch.nn.functional import log_softmax, softplus

from panderm.embeddings.vectors import MappedVectors
from panderm.errors import UsageError

Floats: TypeAlias = npt.NDArray[np.float64]

# Numbers in X. Fewer than FEW are never worth single precision; up to MANY a copy in double precision is kept
# beside the single one (200 MB in all), and no GPU pays.
FEW, MANY = 2**18, 2**24
_BLOCK = 2**19  # numbers in a block of rows, which stays in the cache between its two products
_LARGE_BLOCK = 2**26  # on a GPU, and of what is read


class Passes:
    """Features centred and scaled, their targets and weights, and what is summed over all of them.

    A row is read once for its logits and its part of the slope. Blocks are summed in their order, each on one
    thread: however many threads there are, the numbers are the same.

    Memory: X in single precision (4 n·D bytes; 10⁶ × 1,024: 4.1 GB), and in double precision beside it where
    it has at most 2²⁴ numbers, or instead of it with ``float64``. Larger X is made double a block at a time.

    Args:
        X: (n, D), finite.
        targets: codes (n,), or 0 and 1 (n, K).
        n_outputs: K.
        weights: (n, P) or (n, K); see :class:`panderm.training.whitened.WhitenedPath`.
        row_weights: (n,), of mean and scale.
        link: ``softmax`` or ``sigmoid``.
        float64: no single precision.
        rough: no double precision, but of the few.
        device: ``cpu``, ``cuda`` or ``auto``.

    Attributes:
        columns: M, P·K or K: the logits a row has.
        single: whether there is a single precision.
        prior: (M,) the bias that answers with the shares of the classes.
    """

    def __init__(
        self,
        X: npt.NDArray[Any] | MappedVectors,
        targets: npt.NDArray[Any],
        n_outputs: int,
        weights: Floats,
        row_weights: Floats,
        *,
        link: Literal["softmax", "sigmoid"],
        float64: bool,
        rough: bool,
        device: str,
    ) -> None:
        self._n, self._D = int(X.shape[0]), int(X.shape[1])
        size = self._n * self._D
        self.single = size > FEW and not float64
        self.device = _device(device, size)
        self._softmax, self._K, self._P = link == "softmax", n_outputs, weights.shape[1]
        self.columns = self._P * self._K if self._softmax else self._K
        self.prior, absent = self._shares(targets, weights)
        self._absent = torch.from_numpy(absent).to(self.device) if absent.any() else None
        self._mean, self._scale = _mean_and_scale(X, row_weights)
        self._X32 = self._centred(X, torch.float32) if self.single else None
        both = not self.single or (size <= MANY and not rough)
        self._X64 = self._centred(X, torch.float64) if both else None
        kind = np.int64 if self._softmax else np.float64
        self._targets = torch.from_numpy(np.asarray(targets, dtype=kind)).to(self.device)
        self._weights = torch.from_numpy(np.ascontiguousarray(weights, dtype=np.float64)).to(self.device)
        self._pool: ThreadPoolExecutor | None = None

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Let as many threads as there are cores make the passes within, each block on one of them."""
        if self.device.type != "cpu":
            yield
            return
        with _ONE_THREAD_A_PRODUCT, ThreadPoolExecutor(os.cpu_count()) as self._pool:
            try:
                yield
            finally:
                self._pool = None

    def loss(self, theta: Floats, *, double: bool) -> tuple[float, Floats]:
        """Return the weighted sum of all losses at [W b] (M, D+1), and its slope (M, D+1)."""
        weight, bias = self._on_device(theta, double)

        def part(rows: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            x = self._rows(rows, double)
            loss, pull = self._pull(_product(x, weight.T).double() + bias, rows)
            return loss, _product(pull.T.to(x.dtype), x).double(), pull.sum(0)

        total, slope = torch.zeros((), dtype=torch.float64, device=self.device), None
        for loss, gW, gb in self._each(part, _LARGE_BLOCK if self.device.type != "cpu" else _BLOCK):
            total += loss
            if slope is None:
                slope = [gW, gb]
            else:
                slope[0] += gW
                slope[1] += gb
        assert slope is not None
        return float(total), torch.cat([slope[0], slope[1][:, None]], 1).cpu().numpy()

    def losses(self, theta: Floats) -> Floats:
        """Return each row's own losses, unweighted: of each problem (n, P), or question (n, K)."""
        weight, bias = self._on_device(theta, not self.single)

        def part(rows: slice) -> torch.Tensor:
            x = self._rows(rows, not self.single)
            return self._own(_product(x, weight.T).double() + bias, rows)[0].cpu()

        return torch.cat(list(self._each(part, _BLOCK))).numpy()

    def spread(self, weights: Floats) -> Floats:
        """Return Σ wᵢ·[xᵢ 1]ᵀ[xᵢ 1] (D+1, D+1), in the lowest precision there is."""
        root = torch.from_numpy(np.sqrt(weights)).to(self.device)

        def part(rows: slice) -> npt.NDArray[Any]:
            x = self._rows(rows, not self.single)
            x = torch.cat([x, torch.ones_like(x[:, :1])], 1) * root[rows, None].to(x.dtype)
            return np.asarray(_product(x.T, x).cpu())

        total = np.zeros((self._D + 1, self._D + 1))
        for one in self._each(part, max(_BLOCK, 4 * self._D * self._D)):
            total += one
        return total

    def restore(self, theta: Floats) -> tuple[Floats, Floats]:
        """Return weight (M, D) and bias (M,) for features as they came."""
        weight = theta[:, :-1] / self._scale
        bias = theta[:, -1] - weight @ self._mean
        if self._absent is not None:
            bias[self._absent.cpu().numpy()] = -np.inf
        return weight, bias

    def _shares(self, targets: npt.NDArray[Any], weights: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
        if not self._softmax:
            present = (weights * (np.asarray(targets) == 1)).sum(axis=0)
            share = np.clip(present / np.maximum(weights.sum(axis=0), 1e-300), 1e-6, 1 - 1e-6)
            return np.log(share / (1 - share)), np.zeros(self._K, dtype=bool)
        held: Floats = np.stack([np.bincount(targets, w, self._K) for w in weights.T]).astype(np.float64)
        held /= np.maximum(held.sum(axis=1, keepdims=True), 1e-300)
        return np.log(np.maximum(held, 1e-12)).ravel() * (held > 0).ravel(), (held == 0).ravel()

    def _on_device(self, theta: Floats, double: bool) -> tuple[torch.Tensor, torch.Tensor]:
        kind = torch.float64 if double else torch.float32
        weight = torch.from_numpy(np.ascontiguousarray(theta[:, :-1])).to(self.device, kind)
        bias = torch.from_numpy(theta[:, -1].copy()).to(self.device)
        if self._absent is not None:
            bias[self._absent] = -torch.inf  # of a class without a row: probability 0, and no slope
        return weight, bias

    def _rows(self, rows: slice, double: bool) -> torch.Tensor:
        if not double:
            assert self._X32 is not None
            return self._X32[rows]
        if self._X64 is not None:
            return self._X64[rows]
        assert self._X32 is not None
        return self._X32[rows].double()

    def _own(self, z: torch.Tensor, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Return losses and their slopes along the logits (rows, M)."""
        if not self._softmax:
            y = self._targets[rows]
            return softplus(z) - y * z, torch.sigmoid(z) - y
        log_p = log_softmax(z.view(-1, self._P, self._K), dim=2)
        true = self._targets[rows][:, None, None].expand(-1, self._P, 1)
        loss = -log_p.gather(2, true)[:, :, 0]
        return loss, log_p.exp_().scatter_add_(2, true, torch.full_like(loss, -1.0)[:, :, None])

    def _pull(self, z: torch.Tensor, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        loss, slope = self._own(z, rows)
        w = self._weights[rows]
        loss = torch.where(w > 0, w * loss, 0.0).sum()
        return loss, (slope * (w[:, :, None] if self._softmax else w)).view(len(w), -1)

    def _each(self, part: Callable[[slice], Any], numbers: int) -> Iterator[Any]:
        """Yield what a function makes of each block of rows, in their order."""
        step = max(1, numbers // self._D)
        blocks = [slice(a, min(a + step, self._n)) for a in range(0, self._n, step)]
        if self._pool is None or len(blocks) == 1:
            return map(part, blocks)
        return self._pool.map(part, blocks)

    def _centred(self, X: npt.NDArray[Any] | MappedVectors, kind: torch.dtype) -> torch.Tensor:
        made = torch.empty((self._n, self._D), dtype=kind, device=self.device)
        at = 0
        for block in _blocks(X):
            centred = (np.asarray(block, dtype=np.float64) - self._mean) / self._scale
            made[at : at + len(block)] = torch.from_numpy(centred).to(kind)
            at += len(block)
        return made


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return a·b; on a CPU numpy's, whose threads can be held back, and which halves xᵀx."""
    if a.device.type != "cpu":
        return a @ b
    return torch.from_numpy(np.asarray(a.numpy() @ b.numpy()))


class _OneThread:
    """While anyone is within, products of numpy and scipy take one thread; who leaves last sets it back."""

    def __init__(self) -> None:
        self._lock, self._within = threading.Lock(), 0
        self._libraries: ThreadpoolController | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._libraries is None:  # looked for once: it takes longer than a small fit
                self._libraries = ThreadpoolController()
            if not self._within:
                self._limit = self._libraries.limit(limits=1, user_api="blas")
            self._within += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                self._limit.restore_original_limits()


_ONE_THREAD_A_PRODUCT = _OneThread()


def _device(name: str, size: int) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if size > MANY and torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, dtype=torch.float64, device=device).cpu()
    except (RuntimeError, AssertionError, TypeError) as error:
        raise UsageError(
            f"device {name!r} must exist on this machine and know double precision.",
            str(error).splitlines()[0],
            "--device cpu does",
        ) from None
    return device


def _blocks(X: npt.NDArray[Any] | MappedVectors) -> Iterator[npt.NDArray[Any]]:
    """Yield the rows of X in turn, at most 2²² numbers at a time."""
    step = max(1, 2**22 // max(1, X.shape[1]))
    for start in range(0, len(X), step):
        yield X[start : start + step]


def _mean_and_scale(X: npt.NDArray[Any] | MappedVectors, weights: Floats) -> tuple[Floats, float]:
    """Return the weighted mean of each feature, and the root mean square of all around it; 1 for 0."""
    total, mean, at = weights.sum(), np.zeros(X.shape[1]), 0
    for block in _blocks(X):
        mean += weights[at : at + len(block)] @ np.asarray(block, dtype=np.float64)
        at += len(block)
    mean /= total
    square, at = 0.0, 0
    for block in _blocks(X):
        w = weights[at : at + len(block)]
        square += float(w @ ((np.asarray(block, dtype=np.float64) - mean) ** 2).sum(axis=1))
        at += len(block)
    return mean, float(np.sqrt(square / (total * X.shape[1]))) or 1.0
