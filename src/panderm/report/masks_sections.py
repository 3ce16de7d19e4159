"""What a page says of predicted masks: their scores, how Dice is spread, subgroups, outlines, seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from panderm.data.stored import MAX_MEGAPIXELS
from panderm.errors import plural
from panderm.predictions.masks import MaskPredictions
from panderm.report.drawing.svg import to_svg
from panderm.report.masks_pictures import Images, images_of, outlined
from panderm.report.masks_words import (
    LEVEL_WORDS,
    mask_score_row,
    mask_score_told,
    title_of,
    words_of,
)
from panderm.report.mistakes.pictures import Sheet, Shown
from panderm.report.page import FEW, Banner, ScoreRow
from panderm.report.section import Drawing, Points, Rows, Section, told
from panderm.report.words import number, signed, units
from panderm.scores.masks import MaskScores
from panderm.scores.record import LevelScores, SubgroupColumn
from panderm.scores.score import Score

Floats = npt.NDArray[np.float64]

WORST, TYPICAL = 12, 8
HEADLINES = ("dice", "jaccard", "boundary_f", "hd95")
_BINS = 20
_OF_LEVELS = ("boundary_f",)


def mask_sections(
    masks: MaskPredictions,
    scores: MaskScores,
    *,
    images: Images = None,
    where: str = "",
    worst: int = WORST,
    typical: int = TYPICAL,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> list[Section]:
    """Return the sections that tell how predicted masks fare, for a page of any kind.

    They are: all scores with intervals, how Dice is spread, scores by subgroup where there are some, and the
    outlines on the images of lowest Dice and on those nearest the median. Their names, which links go to,
    begin with ``masks-``. What must be read before any number is :func:`mask_banners`.

    Args:
        masks: of :func:`panderm.read_masks`, or of ``count_masks``.
        scores: of :func:`panderm.evaluate_masks`, of these masks.
        images: the files of the images by the names of the masks, or a folder that has them by these names;
            without it the outlines stand on a grey ground.
        where: what they are masks of, for the first sentence: ``"the test images"``.
        worst: at most so many pictures of the lowest Dice.
        typical: at most so many of those nearest the median.
        max_megapixels: larger files are refused.

    Raises:
        TableError: a folder of images that is not there, or has none of them.
    """
    return [
        _scores_section(scores, where),
        spread_section(masks),
        *by_sections(scores),
        seen_section(masks, images_of(images, masks), worst, typical, max_megapixels),
    ]


def mask_banners(scores: MaskScores) -> list[Banner]:
    """Return what must be read before any number."""
    found = []
    if scores.clusters < FEW:
        text = f"The intervals rest on {plural(scores.clusters, scores.unit)} only: they are too narrow."
        found.append(Banner("care", f"Few {units(scores.unit)}", text))
    if scores.left_out:
        text = (
            f"{plural(scores.left_out, 'image')} had one of the two masks only and were left out, as asked."
        )
        found.append(Banner("care", "Images left out", text))
    if scores.empty_predicted or scores.empty_truth:
        text = (
            f"{plural(scores.empty_truth, 'image')} with an empty true mask, {scores.empty_predicted:,} with "
            "an empty predicted one: these have no distance, and the means of distances leave them out."
        )
        found.append(Banner("note", "Empty masks", text))
    return found


def mask_score_rows(scores: MaskScores, names: Iterable[str] | None = None) -> list[ScoreRow]:
    """Return scores in words, for the large numbers or the table of a page; all of them by default."""
    held = {**scores.per_image, **scores.pooled}
    chosen = held if names is None else names
    return [mask_score_row(name, held[name], scores.tolerance) for name in chosen]


def beneath_scores(scores: MaskScores) -> str:
    """Return how intervals were made, and in which pixels distances are."""
    whole = "" if scores.unit == "image" else "whole "
    text = (
        f"Intervals: {LEVEL_WORDS}, percentile bootstrap; {plural(scores.draws, 'draw')} of "
        f"{whole}{units(scores.unit)}, seed {scores.seed}. "
    )
    if scores.unit == "image":
        text += (
            "No table names patients, so images were taken as independent of each other: where several show "
            "one patient, these intervals are too narrow. "
        )
    return text + (
        "Masks are held against each other at the size of their files; distances in pixels are those of the "
        "files, and of images of different sizes cannot be compared."
    )


def _scores_section(scores: MaskScores, where: str) -> Section:
    held = {**scores.per_image, **scores.pooled}
    rows = [
        (
            title_of(name),
            mask_score_told(name, score),
            f"{scores.images.get(name, scores.n):,}",
            words_of(name, scores.tolerance),
        )
        for name, score in held.items()
    ]
    of = f" of {where}" if where else ""
    intro = [
        f"Predicted masks{of} against the true ones: {plural(scores.n, 'image')}"
        + ("." if scores.unit == "image" else f", {plural(scores.clusters, scores.unit)}."),
        beneath_scores(scores),
    ]
    head = ("score", f"value ({LEVEL_WORDS} interval)", "images", "what it is")
    return Section("masks-scores", "Masks: scores", intro, tables=[Rows("Scores of the masks", head, rows)])


def spread_section(masks: MaskPredictions) -> Section:
    """Return how Dice is spread over the images, in words and as a histogram."""
    dice = masks.scores()["dice"]
    low, middle, high = np.quantile(dice, [0.25, 0.5, 0.75])
    failed = int((dice < 0.5).sum())
    text = (
        f"Half of the images have a Dice between {number(low)} and {number(high)}, the median is "
        f"{number(middle)}; {failed:,} of {plural(len(dice), 'image')} are below 0.5: a mean hides these."
    )
    return Section("masks-spread", "How Dice is spread", [text], drawings=[dice_histogram(dice)])


def seen_section(
    masks: MaskPredictions, files: Mapping[str, Path], worst: int, typical: int, max_megapixels: float
) -> Section:
    """Return the outlines on the images of lowest Dice and on those nearest the median."""
    scores = masks.scores()
    dice = scores["dice"]
    order = [int(row) for row in np.argsort(dice, kind="stable")]
    near = [int(row) for row in np.argsort(np.abs(dice - float(np.median(dice))), kind="stable")]
    lowest = order[:worst]
    middle = [row for row in near if row not in set(lowest)][:typical]
    intro = (
        "The true outline is the whole cyan line, the predicted one the broken orange line, both found at "
        "the size of the files; under each, Dice. Pictures of patients travel with this page: share it as "
        "you would share them."
    )

    def sheet(title: str, rows: list[int]) -> Sheet:
        shown = []
        for row in rows:
            name = str(masks.image[row])
            lines = [f"Dice {number(float(dice[row]))}", *_detail(scores, row)]
            picture = outlined([masks], row, files, max_megapixels=max_megapixels)
            shown.append(Shown(picture, f"{name}: both outlines, {lines[0]}", lines, name))
        return Sheet(title, shown, note=f"{plural(len(shown), 'image')} of {len(dice):,}")

    sheets = [sheet("Lowest Dice", lowest), sheet("Nearest the median", middle)]
    return Section("masks-seen", "Outlines, seen", [intro], sheets=[one for one in sheets if one.pictures])


def by_sections(scores: MaskScores) -> list[Section]:
    """Return the section of scores by subgroup; none where none were asked for."""
    held = scores.by
    if held is None:
        return []
    gaps = [level.gaps["dice"] for column in held.columns for level in column.levels]
    known = [gap for gap in gaps if gap.low is not None and gap.high is not None]
    apart = sum(not gap.low <= 0 <= gap.high for gap in known)  # type: ignore[operator]
    intro = [
        "Means over the images of each group, and the gap in Dice: the group’s mean minus that of all other "
        f"images, with the {LEVEL_WORDS} interval of that difference, on the same draws of "
        f"{units(scores.unit)}.",
        f"Too few to say: fewer than {plural(held.fewest_units, scores.unit)} in the group. A group without "
        "a number is not a group without a gap.",
    ]
    if known:
        intro.append(
            f"Of {plural(len(known), 'gap')} with an interval {apart or 'none'} "
            f"{'leave' if apart > 1 else 'leaves'} out 0; where groups are equal, one in twenty does so by "
            "chance alone, and their number was not corrected for."
        )
    intro += [f"{column.column}: {column.error}." for column in held.columns if column.error]
    intro.append(
        f"The groups come from {Path(held.file).name}, by its column {held.image_column} "
        f"(SHA-256 {held.sha256[:12]}…)."
    )
    tables = [_table_of(column) for column in held.columns]
    return [Section("masks-subgroups", "Subgroups", intro, tables=tables)]


def dice_histogram(dice: Floats) -> Drawing:
    """Draw how many images have which Dice, in 20 bins from 0 to 1."""
    counts, edges = np.histogram(dice, bins=_BINS, range=(0, 1))

    def draw() -> Figure:
        figure = Figure(figsize=(5.2, 2.9), layout="constrained")
        axes = figure.add_subplot()
        axes.bar(edges[:-1], counts, width=1 / _BINS, align="edge", color="C0", edgecolor="white")
        axes.axvline(float(np.median(dice)), color="0.35", linewidth=1.2, linestyle=(0, (3, 2)))
        axes.set(xlabel="Dice", ylabel="images", xlim=(0, 1))
        return figure

    svg = to_svg(
        draw,
        name="dice",
        title="Dice of each image",
        description=f"Median {number(float(np.median(dice)))} of {plural(len(dice), 'image')}.",
    )
    rows = tuple((float(a), float(b), int(n)) for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True))
    return Drawing(
        "Dice of each image",
        "Images by Dice, in steps of 0.05. The broken line is the median.",
        svg,
        points=Points(("from", "to", "images"), rows),
        name="dice",
    )


def _detail(scores: Mapping[str, Floats], row: int) -> list[str]:
    apart = float(scores["hd95"][row])
    told_of = [f"boundary F {number(float(scores['boundary_f'][row]))}"]
    return [*told_of, f"HD95 {apart:.0f} px" if np.isfinite(apart) else "a mask is empty"]


def _table_of(column: SubgroupColumn) -> Rows:
    head = ("group", "images", "Dice", "gap in Dice", *(title_of(name) for name in _OF_LEVELS))
    cut = f", {column.cut}" if column.cut else ""
    unseen = f"; none of {', '.join(column.unseen)}" if column.unseen else ""
    return Rows(f"By {column.column}{cut}{unseen}", head, [_level_row(level) for level in column.levels])


def _level_row(level: LevelScores) -> tuple[str, ...]:
    dice, gap = level.scores["dice"], level.gaps["dice"]
    start = (level.level, f"{level.n:,}", told(dice))
    if dice.value is None:
        return (*start, "—", *("—" for _ in _OF_LEVELS))
    others = (mask_score_told(name, level.scores[name]) for name in _OF_LEVELS)
    return (*start, signed_told(gap), *others)


def signed_told(score: Score) -> str:
    """Return ``"+0.012 (−0.004 to +0.030)"``, or why there is none."""
    if score.value is None or score.low is None or score.high is None:
        return told(score)
    return f"{signed(score.value)} ({signed(score.low)} to {signed(score.high)})"
