"""Row weights, a bootstrap's draws, taken in pieces that stay in cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_BLOCK_CELLS = 2**19  # float64 cells worked on at a time: 4 MB stays in cache
_BLOCK_DRAWS = 256
_LEAST_DRAWS = 8  # side by side, even where they leave the cache: one line of it for each row


def over_blocks(
    compute: Callable[[Floats], dict[str, Floats]], counts: NDArray[Any], size: int
) -> dict[str, Floats]:
    """Apply ``compute`` to (n, b) pieces of (B, n) weights and put its (b, ...) results end to end.

    Args:
        compute: from weights to values, one for each draw.
        counts: (B, n) weights.
        size: float64 cells that ``compute`` works on for each draw.
    """
    step = min(_BLOCK_DRAWS, max(_LEAST_DRAWS, _BLOCK_CELLS // max(1, size)))

    def pieces() -> Iterator[dict[str, Floats]]:
        for start in range(0, len(counts), step):
            yield compute(np.ascontiguousarray(counts[start : start + step].T, dtype=np.float64))

    computed = list(pieces())
    return {name: np.concatenate([piece[name] for piece in computed]) for name in computed[0]}


def multiplicities(weights: ArrayLike | None, n: int) -> NDArray[Any]:
    """Return how often each of n rows counts, (B, n) integers; once each without weights.

    Raises:
        ValueError: another shape, weights that are no whole numbers or negative.
    """
    if weights is None:
        return np.ones((1, n), dtype=np.int8)
    counts = np.asarray(weights)
    if counts.ndim != 2 or counts.shape[1] != n or not len(counts):
        raise ValueError(f"weights must be (B, {n}) with B >= 1, not {counts.shape}")
    if not np.issubdtype(counts.dtype, np.integer):
        raise ValueError(f"weights must be integers, not {counts.dtype}")
    if n and counts.min() < 0:
        raise ValueError("weights must not be negative")
    return counts
