"""How honest probabilities are, over row weights: calibration error, Brier score, log loss, slope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray

from panderm.statistics.blocks import multiplicities, over_blocks
from panderm.statistics.ranking import grouping

Floats = NDArray[np.float64]
Strata = tuple[NDArray[np.int64], Floats]
BINS = 10
_LEAST = 1e-15  # a probability of 0 has no logarithm
_STEPS = 30


def bin_codes(probability: ArrayLike, bins: int = BINS) -> NDArray[np.int64]:
    """Return which of ``bins`` equal parts of [0, 1] each probability lies in, (n,); 1 is in the last."""
    p = np.asarray(probability, dtype=np.float64)
    return np.asarray(np.clip((p * bins).astype(np.int64), 0, bins - 1), dtype=np.int64)


def at_shares(block: Floats, strata: Strata | None) -> Floats:
    """Return (n, b) weights under which each class has its stated share of a draw, n in all.

    Where the images of a class look alike wherever they are from, rows weighted so are rows of a place with
    those shares (Horvitz and Thompson, 1952; in each draw anew: post-stratified).

    Args:
        block: (n, b) how often each row counts.
        strata: (n,) class codes and (K,) shares that sum to 1; None leaves the weights as they are.

    Returns:
        Weights; NaN in a draw that lacks a class with a share.
    """
    if strata is None:
        return block
    codes, shares = strata
    counted = grouping(codes, len(shares)) @ block
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.where(shares[:, None] > 0, shares[:, None] / counted, 0) * block.sum(axis=0)
    factor[:, ~np.isfinite(factor).all(axis=0)] = np.nan
    return np.asarray(block * factor[codes], dtype=np.float64)


def observed_shares(
    outcome: ArrayLike,
    codes: NDArray[np.int64],
    bins: int = BINS,
    weights: ArrayLike | None = None,
    *,
    strata: Strata | None = None,
) -> Floats:
    """Return the share of each bin's rows that are so, (B, bins) in [0, 1]; NaN of an empty bin.

    ``strata`` as of :func:`at_shares`.
    """
    y = np.asarray(outcome, dtype=np.float64)
    members = grouping(codes, bins)

    def compute(block: Floats) -> dict[str, Floats]:
        block = at_shares(block, strata)
        with np.errstate(invalid="ignore"):
            return {"": ((members @ (block * y[:, None])) / (members @ block)).T}

    return over_blocks(compute, multiplicities(weights, len(y)), len(y) + bins)[""]


def calibration_error(
    outcome: ArrayLike,
    probability: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    clusters: ArrayLike | None = None,
    strata: Strata | None = None,
    bins: int = BINS,
) -> Floats:
    """Return the debiased expected calibration error, root mean square over bins, (B,) in [0, 1].

    The noise of each observed share is taken off its squared gap (Bröcker, Clim. Dyn. 2012; Kumar et al.,
    NeurIPS 2019, §4). It is that of whole clusters: rows of one patient are right or wrong together, so that
    shares of patients are noisier than shares of as many rows of strangers (the variance of a ratio of sums
    over clusters: Cochran, Sampling Techniques, 1977, §6.3). What falls below 0 is 0; bins of one cluster
    are left out. A draw of a bootstrap holds the noise of the sample and its own, so that with weights it is
    taken off twice.

    Args:
        outcome: (n,) 0 or 1.
        probability: (n,) in [0, 1].
        weights: (B, n) integers, how often each row counts in a draw, rows of a cluster equally often; None
            for the rows as they are.
        clusters: (n,) integers, rows of equal ones belong together; None where every row stands alone.
        strata: as of :func:`at_shares`.
        bins: equal parts of [0, 1].
    """
    y, p = np.asarray(outcome, dtype=np.float64), np.asarray(probability, dtype=np.float64)
    n, codes = len(y), bin_codes(p, bins)
    own = np.arange(n) if clusters is None else np.asarray(clusters, dtype=np.int64)
    sums = _sums_of_bins(y, p, codes, own, bins, strata)
    times = 1 if weights is None else 2

    def compute(block: Floats) -> dict[str, Floats]:
        rows, so, mean, drawn, strays = sums(block)
        enough = drawn > 1
        held = np.where(enough, rows, 1)
        # Of a ratio of sums over clusters; of clusters of one row it is share (1 - share) / (rows - 1).
        noise = strays / np.square(held) * np.where(enough, drawn / np.where(enough, drawn - 1, 1), 0)
        gap = np.square((so - mean) / held) - times * noise
        with np.errstate(invalid="ignore"):
            squared = np.where(enough, rows * gap, 0).sum(axis=0) / np.where(enough, rows, 0).sum(axis=0)
        return {"": np.sqrt(np.maximum(squared, 0))}

    return over_blocks(compute, multiplicities(weights, n), 2 * n + bins)[""]


def _sums_of_bins(
    y: Floats,
    p: Floats,
    codes: NDArray[np.int64],
    clusters: NDArray[np.int64],
    bins: int,
    strata: Strata | None,
) -> Callable[[Floats], tuple[Floats, ...]]:
    """Return what sums a draw, (n, b), by bins: five (bins, b).

    They are the rows, those that are so, their probabilities, the clusters, and over clusters the sum of
    squares of what their rows lie off the bin's share.
    """
    # A part is the rows of one cluster in one bin, all drawn equally often.
    _, first, part = np.unique(clusters * bins + codes, return_index=True, return_inverse=True)
    parts, of_bin = grouping(part, len(first)), codes[first]
    n, m = len(y), len(first)

    def summing(values: Floats, group: NDArray[np.int64], rows: NDArray[np.int64]) -> Any:
        return scipy.sparse.csr_array((values, (group, rows)), shape=(bins, n))

    rows, ones = np.arange(n), np.ones(n)
    bare = [summing(v, codes, rows) for v in (ones, y, p)] + [summing(np.ones(m), of_bin, first)]
    if strata is None:
        # Σ (so - share · size)² over parts, written out: one product serves all draws, whatever their shares.
        so, size = parts @ y, parts @ ones
        squares = [summing(v, of_bin, first) for v in (so * so, so * size, size * size)]
        stacked = scipy.sparse.vstack([*bare, *squares]).tocsr()

        def plainly(block: Floats) -> tuple[Floats, ...]:
            count, true, mean, drawn, ss, sn, nn = (stacked @ block).reshape(7, bins, -1)
            share = true / np.where(count > 0, count, 1)
            return count, true, mean, drawn, np.maximum(ss - 2 * share * sn + share * share * nn, 0)

        return plainly
    stacked, members = scipy.sparse.vstack(bare[:3]).tocsr(), grouping(of_bin, bins)

    def weighted(block: Floats) -> tuple[Floats, ...]:
        counted, copies = at_shares(block, strata), block[first]
        count, true, mean = (stacked @ counted).reshape(3, bins, -1)
        share = true / np.where(count > 0, count, 1)
        strays = parts @ (counted * (y[:, None] - share[codes]))
        return count, true, mean, members @ copies, members @ (np.square(strays) / np.maximum(copies, 1))

    return weighted


def proper_scores(
    truth: ArrayLike,
    probabilities: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    strata: Strata | None = None,
) -> dict[str, Floats]:
    """Return ``brier`` and ``log_loss`` (nats), each (B,), as scikit-learn defines them.

    Args:
        truth: (n,) codes, 0..K-1.
        probabilities: (n, K), rows sum to 1. Of two classes Brier is in [0, 1], of more in [0, 2].
        weights: (B, n) integers; None for once each.
        strata: as of :func:`at_shares`.
    """
    p, true = np.asarray(probabilities, dtype=np.float64), np.asarray(truth)
    n, K = p.shape
    squares = np.square(p - np.eye(K)[true]).sum(axis=1) / (2 if K == 2 else 1)
    each = np.stack([squares, -np.log(np.clip(p[np.arange(n), true], _LEAST, 1))])

    def compute(block: Floats) -> dict[str, Floats]:
        block = at_shares(block, strata)
        with np.errstate(invalid="ignore"):
            brier, loss = (each @ block) / block.sum(axis=0)
        return {"brier": brier, "log_loss": loss}

    return over_blocks(compute, multiplicities(weights, n), n)


def slope_and_intercept(
    outcome: ArrayLike,
    probability: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    strata: Strata | None = None,
) -> dict[str, Floats]:
    """Return ``calibration_slope`` and ``calibration_intercept``, (B,); 1 and 0 are best (Cox, 1958).

    The slope is that of a logistic regression on the logit; the intercept is that at slope 1, calibration in
    the large (Van Calster et al., BMC Med. 2019). NaN where one of the outcomes is missing or there is no
    best value. ``strata`` as of :func:`at_shares`.
    """
    y, p = np.asarray(outcome, dtype=np.float64)[:, None], np.clip(probability, 1e-12, 1 - 1e-12)
    z = np.log(p / (1 - p))[:, None]

    powers = np.hstack([np.ones_like(z), z, z * z]).T  # their products with columns of weights are BLAS's

    def fit(block: Floats, with_slope: bool, start: tuple[float, float]) -> tuple[Floats, Floats]:
        a, s = (np.full(block.shape[1], value) for value in start)
        moved = np.full(block.shape[1], np.inf)
        for _ in range(_STEPS):
            q = 1 / (1 + np.exp(-np.clip(a + s * z, -500, 500)))
            g, gz = powers[:2] @ (block * (y - q))
            q *= 1 - q
            h, hz, hzz = powers @ (block * q)
            if with_slope:
                det = h * hzz - hz * hz
                step, more = (hzz * g - hz * gz) / det, (h * gz - hz * g) / det
            else:
                step, more = g / h, np.zeros_like(a)
            moved = np.maximum(np.abs(step), np.abs(more))
            a, s = a + np.clip(step, -3, 3), s + np.clip(more, -3, 3)
            if not (moved > 1e-9).any():
                break
        found = moved < 1e-6
        return np.where(found, a, np.nan), np.where(found, s, np.nan)

    def near(with_slope: bool) -> tuple[float, float]:
        """Return the best values of the rows as they are, from where those of a draw are few steps away."""
        a, s = fit(at_shares(np.ones((len(y), 1)), strata), with_slope, (0.0, 1.0))
        return (float(a[0]), float(s[0])) if np.isfinite(a[0]) else (0.0, 1.0)

    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        sloped, level = near(True), near(False)

    def compute(block: Floats) -> dict[str, Floats]:
        block = at_shares(block, strata)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            slope, intercept = fit(block, True, sloped)[1], fit(block, False, level)[0]
        return {"calibration_slope": slope, "calibration_intercept": intercept}

    return over_blocks(compute, multiplicities(weights, len(y)), 4 * len(y))


def shift_prior(probabilities: ArrayLike, old: ArrayLike, new: ArrayLike) -> Floats:
    """Return probabilities as they would be at other shares of the classes (Saerens et al., 2002, eq. 4).

    Args:
        probabilities: (n, K) at the old shares.
        old: (K,) shares where they were learnt, greater than 0.
        new: (K,) those wanted.

    Raises:
        ValueError: shares of another number, negative, or an old share of 0.
    """
    p, was, to = (np.asarray(x, dtype=np.float64) for x in (probabilities, old, new))
    if was.shape != (p.shape[1],) or to.shape != was.shape or not ((was > 0).all() and (to >= 0).all()):
        raise ValueError(f"shares must be {p.shape[1]} numbers, old ones above 0, new ones not negative")
    moved = p * (to / was)
    return np.asarray(moved / moved.sum(axis=1, keepdims=True), dtype=np.float64)
