"""How well masks agree: overlaps of each image, their means over images, and overlaps of all pixels pooled.

Of an image with nothing to find, in which nothing was found, Dice, Jaccard and the boundary F score are 1;
where one mask is empty and the other is not, they are 0 (as the ISIC challenges score overlaps). Sensitivity
has no value where the truth is empty, specificity none where it fills the image, and a distance none where
either mask is empty: such images are left out of that mean, never counted as 0 or 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panderm.statistics.boundaries import require_pair

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

THRESHOLD = 0.65
COUNTS = ("tp", "fp", "fn", "tn")
DISTANCES = ("hd95", "surface_distance")
MILLIMETRES = ("hd95_mm", "surface_distance_mm")
BOUNDARY_F = "boundary_f"
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
    require_pair(truth, predicted)
    tp = int(np.count_nonzero(truth & predicted))
    fp = int(np.count_nonzero(predicted)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    return tp, fp, fn, truth.size - tp - fp - fn


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
    per_image: Mapping[str, Floats], counts: ArrayLike, weights: NDArray[np.int32] | None = None
) -> dict[str, Floats]:
    """Return the mean over images of each score, and the overlaps of all pixels pooled.

    The two answer different questions: a mean counts every image alike, a pooled overlap every pixel, so that
    large lesions and large images weigh more.

    Args:
        per_image: by name, (n,) scores of each image, NaN where it has none.
        counts: (n, 4) pixels, as of :func:`mask_counts`.
        weights: (B, n) how often each image counts; None for once each, and B = 1.

    Returns:
        By the names given and those of ``POOLED``, (B,) values; NaN where no image has the score.
    """
    pixels = np.asarray(counts, dtype=np.float64)
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


def _columns(counts: ArrayLike) -> Floats:
    pixels = np.asarray(counts, dtype=np.float64)
    if pixels.ndim != 2 or pixels.shape[1] != len(COUNTS):
        raise ValueError(f"counts must be (n, 4), not {pixels.shape}")
    return pixels.T


def _share(part: Floats, whole: Floats, nothing: float = np.nan) -> Floats:
    found: Floats = np.divide(part, whole, out=np.full(part.shape, nothing), where=whole > 0)
    return found
