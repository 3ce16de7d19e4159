"""The scores of masks as a reader meets them: a name, and what it is in a line."""

from __future__ import annotations

from panderm.scores.score import LEVEL
from panderm.statistics.masks import DISTANCES, MILLIMETRES

LEVEL_WORDS = f"{LEVEL:.0%}".replace("%", " %")
DISTANCE_NAMES = (*DISTANCES, *MILLIMETRES)

_WORDS = {
    "dice": ("Dice", "2 × the overlap over the sum of both areas; mean over the images"),
    "jaccard": ("Jaccard", "the overlap over the union; mean over the images"),
    "thresholded_jaccard": ("Thresholded Jaccard", "the Jaccard index, 0 where it is below 0.65"),
    "sensitivity": ("Sensitivity", "share of the true lesion’s pixels that were found; mean over the images"),
    "specificity": ("Specificity", "share of the other pixels that were left alone; mean over the images"),
    "accuracy": ("Accuracy", "share of the pixels that are right; mean over the images"),
    "boundary_f": (
        "Boundary F",
        "shares of both boundaries that lie within {tolerance} of the image’s diagonal of the other, in one; "
        "mean over the images",
    ),
    "hd95": ("HD95", "95th percentile of the distances between the boundaries, pixels; mean over the images"),
    "surface_distance": (
        "Surface distance",
        "mean distance between the boundaries, pixels; mean over the images",
    ),
    "hd95_mm": ("HD95, mm", "the same in millimetres, by the scale given"),
    "surface_distance_mm": ("Surface distance, mm", "the same in millimetres, by the scale given"),
    "pooled_dice": ("Pooled Dice", "of the pixels of all images together"),
    "pooled_jaccard": ("Pooled Jaccard", "of the pixels of all images together"),
}


def title_of(name: str) -> str:
    """Return the name of a score of masks in words."""
    return _WORDS[name][0]


def words_of(name: str, tolerance: float) -> str:
    """Return what a score of masks is.

    Args:
        name: of the score.
        tolerance: of the boundary F score, a share of the image's diagonal.
    """
    return _WORDS[name][1].format(tolerance=f"{100 * tolerance:g} %")
