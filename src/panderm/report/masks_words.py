"""The scores of masks as a reader meets them: a name, and what it is in a line."""

from __future__ import annotations

from dataclasses import replace

from panderm.report.page import ScoreRow, score_row
from panderm.report.section import told
from panderm.report.several.beside import difference_row
from panderm.scores.score import LEVEL, Score
from panderm.statistics.masks import DISTANCES, MILLIMETRES

LEVEL_WORDS = f"{LEVEL:.0%}".replace("%", " %")
DISTANCE_NAMES = (*DISTANCES, *MILLIMETRES)
# A thousandth of a pixel is no digit to read.
_DECIMALS = {**dict.fromkeys(DISTANCES, 1), **dict.fromkeys(MILLIMETRES, 2)}

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
    "hd95": ("HD95, pixels", "95th percentile of the distances between the boundaries; mean over the images"),
    "surface_distance": (
        "Surface distance, pixels",
        "mean distance between the boundaries; mean over the images",
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


def mask_score_row(name: str, score: Score, tolerance: float) -> ScoreRow:
    """Put one score of masks into words; a distance stands on no line from 0 to 1.

    Args:
        name: of the score.
        score: its value and interval.
        tolerance: as of :func:`words_of`.
    """
    row = replace(score_row(name, score), title=title_of(name), meaning=words_of(name, tolerance))
    if name not in DISTANCE_NAMES:
        return row
    value = None if score.value is None else _number(name, score.value)
    return replace(row, value=value, interval=_interval(name, score), bar=None)


def mask_difference_row(name: str, difference: Score, scale: float) -> ScoreRow:
    """Put a difference of two scores of masks into words, as ``difference_row`` does."""
    row = difference_row(difference, scale)
    value, low, high = difference.value, difference.low, difference.high
    if name not in DISTANCE_NAMES or value is None:
        return row
    ends = [f"{end:+,.{_DECIMALS[name]}f}".replace("-", "−") for end in (value, low or 0.0, high or 0.0)]
    between = None if row.interval is None else f"{ends[1]} to {ends[2]}"
    return replace(row, value=ends[0], interval=between, bar=None)


def mask_score_told(name: str, score: Score) -> str:
    """Return ``"0.912 (0.881–0.939)"``, distances with fewer decimals, or why there is none."""
    between = _interval(name, score) if name in DISTANCE_NAMES else None
    if score.value is None or between is None:
        return told(score)
    return f"{_number(name, score.value)} ({between})"


def _interval(name: str, score: Score) -> str | None:
    if score.low is None or score.high is None:
        return None
    return f"{_number(name, score.low)}–{_number(name, score.high)}"


def _number(name: str, value: float) -> str:
    return f"{value:,.{_DECIMALS[name]}f}"
