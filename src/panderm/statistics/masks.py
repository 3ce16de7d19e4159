"""How well masks agree: overlaps per image and pooled, and how far apart their boundaries lie.

Of an image with nothing to find, in which nothing was found, Dice and Jaccard are 1; where one mask is empty
and the other is not, they are 0 (as the ISIC challenges score). Sensitivity has no value where the truth is
empty, specificity none where it fills the image, and a distance none where either mask is empty: such images
are left out of that mean, never counted as 0 or 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

THRESHOLD = 0.65
COUNTS = ("tp", "fp", "fn", "tn")
DISTANCES = ("hd95", "surface_distance")
OVERLAPS = ("dice", "jaccard", "thresholded_jaccard", "sensitivity", "specificity", "accuracy")
POOLED = ("pooled_dice", "pooled_jaccard")


def mask_counts(truth: Mask, predicted: Mask) -> tuple[int, int, int, int]:
    """Return how many pixels are true positive, false positive, false negative and true negative.

    Args:
        truth: (H, W) bool.
        predicted: (H, W) bool, of the same size.

    Raises:
        ValueError: not two bool arrays of one size.
    """
    _require_pair(truth, predicted)
    tp = int(np.count_nonzero(truth & predicted))
    fp = int(np.count_nonzero(predicted)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    return tp, fp, fn, truth.size - tp - fp - fn


def boundary_distances(truth: Mask, predicted: Mask) -> tuple[float, float]:
    """Return how far the boundaries of two masks lie apart, in pixels.

    A boundary is the pixels of a mask that have one of their four neighbours outside it; what lies beyond
    the image is outside. Each of its pixels has a distance to the nearest one of the other boundary, between
    pixel centres.

    Args:
        truth: (H, W) bool.
        predicted: (H, W) bool, of the same size.

    Returns:
        HD95, the larger of the two directions' 95th percentiles (Huttenlocher et al., IEEE TPAMI 15, 1993,
        with the percentile in place of the maximum), and the mean of the distances of both directions
        together (average symmetric surface distance). Both NaN where either mask is empty.

    Raises:
        ValueError: not two bool arrays of one size.
    """
    _require_pair(truth, predicted)
    if not truth.any() or not predicted.any():
        return np.nan, np.nan
    one, two = (np.argwhere(_boundary(mask)) for mask in (truth, predicted))
    there, _ = cKDTree(two).query(one)
    back, _ = cKDTree(one).query(two)
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return float(hd95), float(np.concatenate([there, back]).mean())


def overlaps(counts: ArrayLike) -> dict[str, Floats]:
    """Return each image's scores.

    Args:
        counts: (n, 4) pixels, as of :func:`mask_counts`.

    Returns:
        By the names of ``OVERLAPS``, (n,) in [0, 1], NaN where not defined. The thresholded Jaccard is the
        Jaccard index, and 0 below 0.65 (Codella et al., "Skin Lesion Analysis Toward Melanoma Detection
        2018", arXiv:1902.03368, task 1).
    """
    tp, fp, fn, tn = _columns(counts)
    jaccard = _share(tp, tp + fp + fn, nothing=1.0)
    return {
        "dice": _share(2 * tp, 2 * tp + fp + fn, nothing=1.0),
        "jaccard": jaccard,
        "thresholded_jaccard": np.where(jaccard >= THRESHOLD, jaccard, 0.0),
        "sensitivity": _share(tp, tp + fn),
        "specificity": _share(tn, tn + fp),
        "accuracy": _share(tp + tn, tp + fp + fn + tn),
    }


def mask_scores(
    counts: ArrayLike, distances: ArrayLike, weights: NDArray[np.int32] | None = None
) -> dict[str, Floats]:
    """Return the mean over images of each score, and the overlaps of all pixels pooled.

    The two answer different questions: a mean counts every image alike, a pooled overlap every pixel, so that
    large lesions and large images weigh more.

    Args:
        counts: (n, 4) pixels, as of :func:`mask_counts`.
        distances: (n, 2) pixels, as of :func:`boundary_distances`.
        weights: (B, n) how often each image counts; None for once each, and B = 1.

    Returns:
        By the names of ``OVERLAPS``, ``DISTANCES`` and ``POOLED``, (B,) values; NaN where no image
        has the score.
    """
    pixels, apart = np.asarray(counts, dtype=np.float64), np.asarray(distances, dtype=np.float64)
    per_image = {**overlaps(pixels), **dict(zip(DISTANCES, apart.T, strict=True))}
    w = np.ones((1, len(pixels))) if weights is None else weights.astype(np.float64)
    table = np.column_stack(list(per_image.values()))
    known = np.isfinite(table)
    sums, images = w @ np.where(known, table, 0.0), w @ known.astype(np.float64)
    means = np.divide(sums, images, out=np.full(sums.shape, np.nan), where=images > 0)
    tp, fp, fn, _ = _columns(w @ pixels)
    return {
        **dict(zip(per_image, means.T, strict=True)),
        "pooled_dice": _share(2 * tp, 2 * tp + fp + fn, nothing=1.0),
        "pooled_jaccard": _share(tp, tp + fp + fn, nothing=1.0),
    }


def _require_pair(truth: Mask, predicted: Mask) -> None:
    if truth.dtype != np.bool_ or predicted.dtype != np.bool_ or truth.ndim != 2:
        raise ValueError(f"masks must be (H, W) bool, not {truth.dtype} {truth.shape} and {predicted.dtype}")
    if truth.shape != predicted.shape:
        raise ValueError(f"masks must be of one size, not {truth.shape} and {predicted.shape}")


def _boundary(mask: Mask) -> Mask:
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside


def _columns(counts: ArrayLike) -> Floats:
    pixels = np.asarray(counts, dtype=np.float64)
    if pixels.ndim != 2 or pixels.shape[1] != len(COUNTS):
        raise ValueError(f"counts must be (n, 4), not {pixels.shape}")
    return pixels.T


def _share(part: Floats, whole: Floats, nothing: float = np.nan) -> Floats:
    found: Floats = np.divide(part, whole, out=np.full(part.shape, nothing), where=whole > 0)
    return found
