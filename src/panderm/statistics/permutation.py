"""Are two predictors of the same rows exchangeable? The paired permutation test, by whole clusters.

Under the null hypothesis it does not matter which of the two gave which answer. Swapping both answers for all
rows of a cluster (a patient's images stand or fall together) gives a world that was as likely; how far apart
the two scores are in such worlds is what the observed difference is held against (Fisher, "The Design of
Experiments", 1935; Venkatraman and Begg, Biometrika 83, 1996, for paired ROC curves; Davison and Hinkley,
"Bootstrap Methods and their Application", 1997, section 4.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]
Weights = NDArray[np.int32]


@dataclass(frozen=True)
class PermutationTest:
    """What a paired permutation test found.

    Attributes:
        p: two-sided, in (0, 1]; NaN where the observed difference is not finite.
        worlds: how many were compared with the observed one.
        exact: whether these are all there are, each once; else they were drawn.
    """

    p: float
    worlds: int
    exact: bool


def paired_permutation(
    statistic: Callable[[Weights], ArrayLike], clusters: ArrayLike, *, permutations: int, seed: int
) -> PermutationTest:
    """Test whether a score differs between two predictors more than by chance.

    The answers of both lie end to end, the first predictor's n rows before the other's, and which of them a
    world gives to "the first" is a row of weights, 0 or 1: the score of either side is the same weighted
    statistic that the bootstrap uses.

    Args:
        statistic: from (b, 2n) weights to (b,) scores of the rows that count.
        clusters: (n,) integers, rows with equal values are swapped together; n >= 1.
        permutations: worlds to draw, >= 1. Where the clusters allow fewer different ones (2^m), all are
            taken instead, each once.
        seed: of `numpy.random.default_rng`, >= 0.

    Returns:
        The share of worlds at least as far apart as the observed one, which is counted as one of them
        (Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9, 2010): never 0. A world whose score is not
        finite counts as further apart.

    Raises:
        ValueError: arguments out of these ranges.
    """
    codes = np.asarray(clusters)
    if codes.ndim != 1 or not len(codes) or not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(f"clusters must be (n,) integers with n >= 1, not {codes.dtype} {codes.shape}")
    if permutations < 1 or seed < 0:
        raise ValueError(f"permutations must be at least 1 and seed not negative: {permutations}, {seed}")
    names, cluster = np.unique(codes, return_inverse=True)
    exact = bool(len(names) <= np.log2(permutations))
    observed = _apart(statistic, np.zeros((1, len(codes)), dtype=np.int32))[0]
    if not np.isfinite(observed):
        return PermutationTest(np.nan, 0, exact)
    swaps = _every(len(names)) if exact else _drawn(len(names), len(codes), permutations, seed)
    # Sums in another order differ in their last digits, and an equal world must count as equal.
    limit = abs(observed) - 1e-9
    worlds = extreme = 0
    for piece in swaps:
        apart = np.abs(_apart(statistic, piece[:, cluster]))
        extreme += int((~(apart < limit)).sum())
        worlds += len(piece)
    p = extreme / worlds if exact else (1 + extreme) / (1 + worlds)
    return PermutationTest(float(p), worlds, exact)


def ranked_within(probabilities: ArrayLike) -> Floats:
    """Replace every column by its ranks, ties sharing their mean, divided by their number.

    A score of ranks (AUROC, average precision) is the same on them, and two predictors that rank alike but
    are differently sure become exchangeable, as the test presumes (Venkatraman and Begg, 1996).

    Args:
        probabilities: (n, K).

    Returns:
        (n, K) in (0, 1].
    """
    values = np.asarray(probabilities, dtype=np.float64)
    return np.asarray(rankdata(values, axis=0) / len(values), dtype=np.float64)


_CHUNK_CELLS = 2**22


def _apart(statistic: Callable[[Weights], ArrayLike], swapped: NDArray[Any]) -> Floats:
    """Return the other's score minus the first's where (b, n) says which rows are swapped."""
    other = swapped.astype(np.int32)
    first = 1 - other
    as_first = np.asarray(statistic(np.concatenate([first, other], axis=1)), dtype=np.float64)
    as_other = np.asarray(statistic(np.concatenate([other, first], axis=1)), dtype=np.float64)
    return as_other - as_first


def _every(clusters: int) -> Iterator[NDArray[Any]]:
    numbers = np.arange(2**clusters)
    for start in range(0, len(numbers), 256):
        yield (numbers[start : start + 256, None] >> np.arange(clusters)) & 1


def _drawn(clusters: int, rows: int, permutations: int, seed: int) -> Iterator[NDArray[Any]]:
    rng = np.random.default_rng(seed)
    step = min(256, max(1, _CHUNK_CELLS // (2 * rows)))
    for start in range(0, permutations, step):
        # int64, not a smaller type: the stream is then the same whatever the step.
        yield rng.integers(0, 2, size=(min(step, permutations - start), clusters), dtype=np.int64)
