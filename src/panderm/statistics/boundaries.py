"""How well the boundaries of two masks agree: how far they lie apart, and what share of them meets.

A boundary is the pixels of a mask that have one of their four neighbours outside it; what lies beyond the
image is outside. Each of its pixels has a distance to the nearest one of the other boundary, between pixel
centres, measured at the size the masks have.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

TOLERANCE = 0.0075


class Boundaries(NamedTuple):
    """How the boundaries of two masks lie to each other.

    Attributes:
        hd95: the larger of the two directions' 95th percentiles of the distances, pixels (Huttenlocher et
            al., IEEE TPAMI 15, 1993, with the percentile in place of the maximum); NaN where either is empty.
        surface_distance: the mean of the distances of both directions together, pixels (average symmetric
            surface distance); NaN where either is empty.
        boundary_f: in [0, 1]. The share of the predicted boundary that lies within the tolerance of the true
            one, and the share of the true one that lies within it of the predicted one, in one by their
            harmonic mean; 1 where both masks are empty, 0 where one is.
    """

    hd95: float
    surface_distance: float
    boundary_f: float


def tolerance_of(shape: tuple[int, ...], share: float = TOLERANCE) -> float:
    """Return the tolerance of an image of (H, W), in pixels: a share of its diagonal.

    Raises:
        ValueError: a share that is not between 0 and 1, 0 included.
    """
    if not 0 <= share < 1:
        raise ValueError(f"the tolerance must be a share of the diagonal, 0 or more and below 1, not {share}")
    return float(share * np.hypot(shape[0], shape[1]))


def boundaries(truth: Mask, predicted: Mask, *, tolerance: float = TOLERANCE) -> Boundaries:
    """Return how the boundaries of two masks lie to each other.

    The F score is that of contours in natural images (Martin et al., IEEE TPAMI 26, 2004), by distance alone
    (Csurka et al., BMVC 2013): a pixel of a boundary is met where the other boundary has a pixel within the
    tolerance, and several may meet the same one.

    Args:
        truth: (H, W) bool.
        predicted: (H, W) bool, of the same size.
        tolerance: a share of the image's diagonal, in [0, 1); 0.0075 is 5.6 pixels of 600 x 450. A distance
            equal to it is within it.

    Raises:
        ValueError: not two bool arrays of one size, or a tolerance out of range.
    """
    require_pair(truth, predicted)
    most = tolerance_of(truth.shape, tolerance)
    one, two = (boundary_points(mask) for mask in (truth, predicted))
    if not len(one) or not len(two):
        return Boundaries(np.nan, np.nan, float(len(one) == len(two)))
    there, _ = cKDTree(two).query(one)
    back, _ = cKDTree(one).query(two)
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    recall, precision = float((there <= most).mean()), float((back <= most).mean())
    f = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return Boundaries(float(hd95), float(np.concatenate([there, back]).mean()), f)


def boundary_distances(truth: Mask, predicted: Mask) -> tuple[float, float]:
    """Return HD95 and the mean surface distance, as of :func:`boundaries`, in pixels."""
    return boundaries(truth, predicted)[:2]


def boundary_points(mask: Mask) -> NDArray[np.int64]:
    """Return the rows and columns of a mask's boundary, (m, 2), m 0 for an empty mask.

    Args:
        mask: (H, W) bool.
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return np.empty((0, 2), dtype=np.int64)
    top, left = rows[0], columns[0]
    inner = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1)
    kept = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    points = np.argwhere(inner[1:-1, 1:-1] & ~kept) + np.array((top, left))
    return np.asarray(points, dtype=np.int64)


def require_pair(truth: Mask, predicted: Mask) -> None:
    """Raise ValueError where two arrays are not masks of one size."""
    if truth.dtype != np.bool_ or predicted.dtype != np.bool_ or truth.ndim != 2:
        raise ValueError(f"masks must be (H, W) bool, not {truth.dtype} {truth.shape} and {predicted.dtype}")
    if truth.shape != predicted.shape:
        raise ValueError(f"masks must be of one size, not {truth.shape} and {predicted.shape}")
