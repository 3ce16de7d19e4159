"""Scores of masks by the levels of a column, and each level's gap to all other images, on the same draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from panderm.data.levels import Levels, columns_of
from panderm.errors import UsageError, plural
from panderm.predictions.masks import MaskPredictions
from panderm.scores.by_columns import cut_columns
from panderm.scores.record import LevelScores, SubgroupColumn, Subgroups
from panderm.scores.resampled import Drawn, Resampling
from panderm.scores.score import TOO_FEW, Score
from panderm.scores.subgroups import FEWEST_UNITS
from panderm.statistics.masks import mask_scores

Floats = npt.NDArray[np.float64]


def score_masks_by(
    given: MaskPredictions,
    by: Sequence[str],
    resampling: Resampling,
    reasons: Mapping[str, str],
    *,
    bands: Mapping[str, Sequence[float]] | None = None,
) -> Subgroups:
    """Score every level of every column, and its gap to the other images.

    A group of fewer than 10 units (patients, lesion groups or images, whichever are resampled) has no score.

    Args:
        given: masks that came with further columns.
        by: of these columns, or of two that are crossed, ``"sex:age"``.
        resampling: of the whole.
        reasons: by score, why it is not computable, where it is not.
        bands: by column, where to cut its numbers, ascending.

    Raises:
        UsageError: no such column came with the masks, or bands of none of them.
        TableError: more than 20 levels.
    """
    joined = given.beside
    have = list(joined.columns) if joined else []
    crossed = {asked: columns_of(asked, have, "the table") for asked in by}
    missing = [name for pair in crossed.values() for name in pair if name not in have]
    if joined is None or missing:
        raise UsageError(
            "the columns of subgroups must come with the masks.",
            f"{missing[0]!r} was not read",
            f"read_masks(..., columns=TABLE, keep=[{missing[0]!r}])",
        )
    cut = cut_columns(joined, crossed, bands or {})
    columns = tuple(
        SubgroupColumn(
            column=name,
            levels=_levels(given, levels, resampling, reasons),
            cut=levels.cut,
            unseen=levels.unseen,
            error=cut.errors.get(name),
        )
        for name, levels in cut.levels.items()
    )
    return Subgroups(columns, cut.file, cut.sha256, cut.image_column, FEWEST_UNITS)


def _levels(
    given: MaskPredictions, levels: Levels, resampling: Resampling, reasons: Mapping[str, str]
) -> tuple[LevelScores, ...]:
    sides = [
        (np.flatnonzero(levels.codes == code), np.flatnonzero(levels.codes != code))
        for code in range(len(levels.names))
    ]
    scores = given.scores()
    groups = [rows for pair in sides for rows in pair]

    def statistic(weights: npt.NDArray[np.int32] | None) -> dict[str, Floats]:
        found: dict[str, Floats] = {}
        for i, rows in enumerate(groups):
            held = {name: values[rows] for name, values in scores.items()}
            own = None if weights is None else weights[:, rows]
            found |= {f"{i} {k}": v for k, v in mask_scores(held, given.counts[rows], own).items()}
        return found

    drawn = resampling.drawn(statistic)
    names = [key.removeprefix("0 ") for key in drawn.values if key.startswith("0 ")]
    units = [len(np.unique(resampling.clusters[rows])) for rows in groups]
    few = [_too_few(n, resampling.unit) for n in units]
    return tuple(
        LevelScores(
            level=level,
            n=len(groups[2 * i]),
            clusters=units[2 * i],
            classes={},
            scores={name: _score(drawn, 2 * i, name, few[2 * i], reasons) for name in names},
            gaps={name: _gap(drawn, 2 * i, name, few[2 * i : 2 * i + 2], reasons) for name in names},
        )
        for i, level in enumerate(levels.names)
    )


def _too_few(units: int, unit: str) -> str | None:
    if not units:
        return "there are none"
    return (
        f"{TOO_FEW}: {plural(units, unit)}, and {FEWEST_UNITS} are needed" if units < FEWEST_UNITS else None
    )


def _score(drawn: Drawn, at: int, name: str, few: str | None, reasons: Mapping[str, str]) -> Score:
    if few is not None:
        return Score(None, None, None, few)
    return drawn.score(f"{at} {name}", reasons.get(name))


def _gap(drawn: Drawn, at: int, name: str, few: Sequence[str | None], reasons: Mapping[str, str]) -> Score:
    own, rest = few
    if own is not None or rest is not None:
        return Score(None, None, None, own or f"all other images: {rest}")
    return drawn.minus(drawn, f"{at + 1} {name}", reasons.get(name), other=f"{at} {name}")
