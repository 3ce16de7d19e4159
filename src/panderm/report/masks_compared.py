"""The page of masks that several predictors drew on the same images: differences, and where they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from panderm.data.stored import MAX_MEGAPIXELS
from panderm.errors import plural
from panderm.predictions.masks import MaskPredictions
from panderm.provenance import Provenance
from panderm.report.drawing.svg import SERIES
from panderm.report.masks_pictures import images_of, outlined
from panderm.report.masks_words import (
    DISTANCE_NAMES,
    LEVEL_WORDS,
    mask_difference_row,
    mask_score_row,
    title_of,
    words_of,
)
from panderm.report.mistakes.pictures import Sheet, Shown
from panderm.report.page import FEW, Banner, pour
from panderm.report.section import Rows, Section
from panderm.report.several.beside import Beside, Measure, axis_of, scale_of
from panderm.report.several.keys import Key, letter_of
from panderm.report.words import moment, number, short, signed, units
from panderm.scores.masks_compared import MaskComparison, same_masks
from panderm.storage import refuse_existing, write_text

DIFFER = 8  # pictures of a sheet


class MaskComparisonReport:
    """Masks of several predictors beside each other, as one page that needs no other file.

    Args:
        masks: of :func:`panderm.read_masks`, as they were compared, the one asked about first.
        comparison: of :func:`panderm.compare_masks`, of these masks.
        images: folder with the images, found by their names; without it the masks are shown alone.
        max_megapixels: larger images are refused.

    Raises:
        TableError: a folder of images that is not there, or has none of them.
        ParentsError: masks that cannot be compared.

    Example:
        >>> found = panderm.compare_masks(a, [b])  # doctest: +SKIP
        >>> panderm.MaskComparisonReport([a, b], found, images="images/").save("x.html")  # doctest: +SKIP
    """

    def __init__(
        self,
        masks: Sequence[MaskPredictions],
        comparison: MaskComparison,
        *,
        images: Path | str | None = None,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        names = [model.name for model in comparison.models]
        self.comparison = comparison
        self.masks = same_masks(masks, names, common=True).masks
        self._sources = [str(one.source) for one in masks]
        self._files = images_of(images, self.masks[0])
        self._most = max_megapixels

    def html(self) -> str:
        """Return the complete page."""
        now, found = Provenance.now(), self.comparison
        keys = [
            Key(
                letter=letter_of(i),
                colour=i % len(SERIES) + 1,
                title=model.name,
                short=short(model.name, 32),
                facts=f"{source} · {_empty(masks)}",
                random=False,
            )
            for i, (model, source, masks) in enumerate(
                zip(found.models, self._sources, self.masks, strict=True)
            )
        ]
        return pour(
            "masks_compared.html",
            found=found,
            keys=keys,
            units=plural(found.clusters, found.unit),
            resampled=units(found.unit),
            level=LEVEL_WORDS,
            banners=_banners(found, keys),
            score_table=score_table(found, keys),
            difference_table=difference_table(found, keys),
            tests=[tests_table(found, keys)],
            images=[(title_of(name), n) for name, n in found.images.items() if n < found.n],
            meanings=[(title_of(name), words_of(name, found.tolerance)) for name in found.models[0].scores],
            sections=[
                differ_section(self.masks, keys, self._files, self._most, other)
                for other in range(1, len(keys))
            ],
            truth=str(self.masks[0].truth[0].parent),
            command=now.command,
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


def score_table(found: MaskComparison, keys: Sequence[Key]) -> Beside:
    """Put every score of every predictor into words, side by side."""
    rows = []
    for name in found.models[0].scores:
        cells = [mask_score_row(name, model.scores[name], found.tolerance) for model in found.models]
        rows.append(Measure(title_of(name), "", None, cells))
    caption = f"Scores of the masks, with {LEVEL_WORDS} intervals"
    return Beside("Score", caption, [(key, key.letter) for key in keys], ("0", "1"), rows)


def difference_table(found: MaskComparison, keys: Sequence[Key]) -> Beside:
    """Put the first predictor's differences to the others into words, on a scale wide enough for all."""
    shares = [pair for pair in found.pairs if pair.score not in DISTANCE_NAMES]
    scale = scale_of(pair.difference for pair in shares)
    rows = []
    for name in found.models[0].scores:
        cells = [
            mask_difference_row(name, pair.difference, scale) for pair in found.pairs if pair.score == name
        ]
        rows.append(Measure(title_of(name), "", None, cells))
    heads = [(key, f"{keys[0].letter} − {key.letter}") for key in keys[1:]]
    caption = f"Differences, with {LEVEL_WORDS} intervals"
    return Beside("Score", caption, heads, axis_of(scale), rows)


def tests_table(found: MaskComparison, keys: Sequence[Key]) -> Section:
    """Return the p-values of every difference, as they are and corrected together."""
    letters = {model.name: key.letter for model, key in zip(found.models, keys, strict=True)}
    rows = [
        (
            f"{title_of(pair.score)}, {letters[pair.other]} − {letters[pair.first]}",
            _p(pair.p),
            _p(pair.p_holm),
            "all there are" if pair.exact else f"{pair.worlds:,}",
        )
        for pair in found.pairs
    ]
    intro = (
        "Were it the same whose masks are whose, such a difference or a larger one would come up with the "
        f"chance p: by a permutation test that swaps the masks of whole {units(found.unit)}; corrected by "
        f"Holm for {plural(found.family, 'test')}. A large p does not show that two are alike."
    )
    table = Rows("p-values", ("difference", "p", "p, Holm", "swaps"), rows)
    return Section("masks-tests", "Tests", [intro], tables=[table])


def differ_section(
    masks: Sequence[MaskPredictions],
    keys: Sequence[Key],
    files: Mapping[str, Path],
    max_megapixels: float,
    other: int,
) -> Section:
    """Show the images on which the first predictor and another differ most in Dice, the better ones apart."""
    one, two = masks[0], masks[other]
    dice = [held.scores()["dice"] for held in (one, two)]
    apart = dice[0] - dice[1]
    a, b = keys[0].letter, keys[other].letter
    lines = f"the broken orange line is {keys[0].name}, the dotted magenta one {keys[other].name}"
    better, worse, equal = int((apart > 0).sum()), int((apart < 0).sum()), int((apart == 0).sum())
    intro = (
        f"{a} has the higher Dice on {plural(better, 'image')}, {b} on {worse:,}; on {equal:,} they are "
        f"equal. The true outline is the whole cyan line, {lines}; under each, Dice of both. Pictures of "
        "patients travel with this page: share it as you would share them."
    )

    def sheet(title: str, rows: Sequence[int]) -> Sheet:
        shown = []
        for row in rows:
            name = str(one.image[row])
            lines = [
                f"{a} {number(float(dice[0][row]))}, {b} {number(float(dice[1][row]))}",
                f"{a} − {b} {signed(float(apart[row]))}",
            ]
            picture = outlined([one, two], row, files, max_megapixels=max_megapixels)
            shown.append(Shown(picture, f"{name}: outlines, Dice {lines[0]}", lines, name))
        return Sheet(title, shown, note=f"{plural(len(shown), 'image')} of {len(apart):,}")

    order = [int(row) for row in np.argsort(apart, kind="stable")]
    both = [int(row) for row in np.argsort(dice[0] + dice[1], kind="stable")][:DIFFER]
    sheets = [
        sheet(f"{a} better than {b} by most", [row for row in reversed(order) if apart[row] > 0][:DIFFER]),
        sheet(f"{b} better than {a} by most", [row for row in order if apart[row] < 0][:DIFFER]),
        sheet("Hard for both", both),
    ]
    return Section(
        f"masks-differ-{b}",
        f"Where {a} and {b} differ most",
        [intro],
        sheets=[one for one in sheets if one.pictures],
    )


def _banners(found: MaskComparison, keys: Sequence[Key]) -> list[Banner]:
    banners = []
    if found.clusters < FEW:
        text = f"There are {plural(found.clusters, found.unit)} only: nothing is said of differences."
        banners.append(Banner("care", f"Few {units(found.unit)}", text))
    left_out = [
        f"{key.letter}: {plural(model.left_out, 'image')}"
        for key, model in zip(keys, found.models, strict=True)
        if model.left_out
    ]
    if left_out:
        text = f"Compared are the images that all have. Left out, {'; '.join(left_out)}."
        banners.append(Banner("care", "Images left out", text))
    return banners


def _empty(masks: MaskPredictions) -> str:
    tp, fp, _, _ = masks.counts.T
    return f"{plural(int((tp + fp == 0).sum()), 'empty mask')}"


def _p(p: float | None) -> str:
    if p is None:
        return "—"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
