"""The page of predicted masks: scores with intervals, how Dice is spread, the worst and the middle images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from panderm.data.contours import contours
from panderm.data.images import ImageError, read_image
from panderm.data.masks import name_of_image, read_mask
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.errors import TableError, plural, some
from panderm.predictions.masks import MaskPredictions
from panderm.provenance import Provenance
from panderm.report.drawing.svg import to_svg
from panderm.report.mistakes.pictures import SIDE, Picture, Sheet, Shown, thumbnail
from panderm.report.page import FEW, Banner, ScoreRow, pour, score_row
from panderm.report.section import Drawing, Points, Section
from panderm.report.words import moment, number, units
from panderm.scores.masks import MaskScores
from panderm.scores.score import LEVEL
from panderm.statistics.masks import overlaps
from panderm.storage import refuse_existing, write_text

Dice = npt.NDArray[np.float64]

WORST, MIDDLE = 12, 8
_BINS = 20
_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
_WORDS = {
    "dice": ("Dice", "2 × the overlap over the sum of both areas; mean over the images"),
    "jaccard": ("Jaccard", "the overlap over the union; mean over the images"),
    "thresholded_jaccard": ("Thresholded Jaccard", "the Jaccard index, 0 where it is below 0.65"),
    "sensitivity": ("Sensitivity", "share of the true lesion’s pixels that were found; mean over the images"),
    "specificity": ("Specificity", "share of the other pixels that were left alone; mean over the images"),
    "accuracy": ("Accuracy", "share of the pixels that are right; mean over the images"),
    "hd95": ("HD95", "95th percentile of the distances between the boundaries, pixels; mean over the images"),
    "surface_distance": (
        "Surface distance",
        "mean distance between the boundaries, pixels; mean over images",
    ),
    "pooled_dice": ("Pooled Dice", "of the pixels of all images together"),
    "pooled_jaccard": ("Pooled Jaccard", "of the pixels of all images together"),
}
_FIRST = ("dice", "jaccard", "thresholded_jaccard", "hd95")
_DISTANCES = ("hd95", "surface_distance")


class MaskReport:
    """Predicted masks and their scores as one page that needs no network, no script, no other file.

    Args:
        masks: of :func:`panderm.read_masks`.
        scores: of :func:`panderm.evaluate_masks`, of these masks.
        images: folder with the images, found by their names; without it the masks are shown alone.
        max_megapixels: larger images are refused.

    Raises:
        TableError: a folder of images that is not there, or has none of them.

    Example:
        >>> panderm.MaskReport(masks, scores, images="images/").save("masks.html")  # doctest: +SKIP
    """

    def __init__(
        self,
        masks: MaskPredictions,
        scores: MaskScores,
        *,
        images: Path | str | None = None,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        self.masks, self.scores = masks, scores
        self._files = {} if images is None else images_in(images, masks)
        self._most = max_megapixels

    def html(self) -> str:
        """Return the complete page."""
        now = Provenance.now()
        scores = self.scores
        held = {**scores.per_image, **scores.pooled}
        return pour(
            "masks.html",
            scores=scores,
            predicted=str(self.masks.predicted[0].parent),
            truth=str(self.masks.truth[0].parent),
            command=now.command,
            units=plural(scores.clusters, scores.unit),
            resampled=units(scores.unit),
            level=f"{LEVEL:.0%}".replace("%", " %"),
            banners=_banners(scores),
            headlines=[_row(name, scores) for name in _FIRST],
            score_rows=[(_row(name, scores), scores.images.get(name, scores.n)) for name in held],
            sections=self._sections(),
            created=moment(now.created),
            version=now.panderm,
        ).html

    def save(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write the page, whole or not at all, and return its path.

        Raises:
            ArtifactError: the file exists and ``overwrite`` is not set, or it cannot be written.
        """
        target = Path(path)
        refuse_existing(target, overwrite=overwrite)
        write_text(target, self.html(), overwrite=overwrite)
        return target

    def _sections(self) -> list[Section]:
        dice = overlaps(self.masks.counts)["dice"]
        order = np.argsort(dice, kind="stable")
        middle = float(np.median(dice))
        near = np.argsort(np.abs(dice - middle), kind="stable")
        told = (
            "The true outline is the whole cyan line, the predicted one the broken orange line; under each, "
            "Dice. Pictures of patients travel with this page: share it as you would share them."
        )
        worst = order[:WORST]
        typical = [row for row in near if row not in set(worst)][:MIDDLE]
        sheets = [self._sheet("Lowest Dice", worst, dice), self._sheet("Nearest the median", typical, dice)]
        return [
            Section(
                "spread", "How Dice is spread", [_spread_in_words(dice)], drawings=[dice_histogram(dice)]
            ),
            Section("seen", "Outlines, seen", [told], sheets=[one for one in sheets if one.pictures]),
        ]

    def _sheet(self, title: str, rows: npt.NDArray[np.int64] | list[np.int64], dice: Dice) -> Sheet:
        shown = []
        for row in rows:
            name = str(self.masks.image[row])
            lines = [f"Dice {number(float(dice[row]))}"]
            shown.append(Shown(self._picture(int(row)), f"{name}: both outlines, {lines[0]}", lines, name))
        return Sheet(title, shown, note=f"{plural(len(shown), 'image')} of {len(dice):,}")

    def _picture(self, row: int) -> Picture:
        try:
            truth, predicted = (
                read_mask(file, max_megapixels=self._most)
                for file in (self.masks.truth[row], self.masks.predicted[row])
            )
            file = self._files.get(str(self.masks.image[row]))
            rgb = np.full((*truth.shape, 3), 90, dtype=np.uint8)
            if file is not None:
                rgb = read_image(file, max_megapixels=self._most)
        except ImageError as error:
            return Picture(None, error.reason)
        own, theirs = rgb.shape[1] / rgb.shape[0], truth.shape[1] / truth.shape[0]
        if abs(own / theirs - 1) > 0.02:  # but for rounding
            return Picture(None, f"the image is {rgb.shape[1]} × {rgb.shape[0]}, its mask another shape")
        return Picture(thumbnail(contours(rgb, truth, predicted, side=SIDE), SIDE, quality=85))


def images_in(folder: Path | str, masks: MaskPredictions) -> dict[str, Path]:
    """Return the file of each image that a folder has, by the name under which its masks met.

    Raises:
        TableError: no such folder, or none of the images in it.
    """
    source = Path(folder)
    there = sorted(source.iterdir()) if source.is_dir() else []
    wanted = {str(name) for name in masks.image}
    found = {
        name_of_image(file.name): file
        for file in there
        if file.suffix.lower() in _SUFFIXES and name_of_image(file.name) in wanted
    }
    if not found:
        raise TableError(
            "--images must be a folder that holds the images of the masks.",
            f"{source}: {'none of ' + some(sorted(wanted), 3) if source.is_dir() else 'no such folder'}",
            "images are found by their names: ISIC_0027419.jpg of ISIC_0027419_segmentation.png",
        )
    return found


def dice_histogram(dice: Dice) -> Drawing:
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


def _spread_in_words(dice: Dice) -> str:
    low, middle, high = np.quantile(dice, [0.25, 0.5, 0.75])
    failed = int((dice < 0.5).sum())
    return (
        f"Half of the images have a Dice between {number(low)} and {number(high)}, the median is "
        f"{number(middle)}; {failed:,} of {plural(len(dice), 'image')} are below 0.5: a mean hides these."
    )


def _row(name: str, scores: MaskScores) -> ScoreRow:
    score = {**scores.per_image, **scores.pooled}[name]
    title, meaning = _WORDS[name]
    row = replace(score_row(name, score), title=title, meaning=meaning)
    return replace(row, bar=None) if name in _DISTANCES else row


def _banners(scores: MaskScores) -> list[Banner]:
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
