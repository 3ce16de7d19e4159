"""Masks that several predictors drew on the same images, held against each other, image by image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.errors import ParentsError, UsageError, did_you_mean, plural
from panderm.predictions.masks import MaskPredictions
from panderm.progress import Progress
from panderm.scores.compared import ComparedModel, Comparison, ComparisonFile
from panderm.scores.masks import REASONS
from panderm.scores.paired_test import PERMUTATIONS
from panderm.scores.pairs import OfBoth, compared_pairs
from panderm.scores.record import read_scores
from panderm.scores.resampled import Resampling, Statistic
from panderm.scores.same_cases import known_of, shared_images
from panderm.scores.score import TOO_FEW
from panderm.scores.scoring import DRAWS
from panderm.scores.subgroups import FEWEST_UNITS
from panderm.statistics.boundaries import TOLERANCE
from panderm.statistics.masks import DISTANCES, MILLIMETRES, POOLED, mask_scores
from panderm.storage import write_text

Floats = npt.NDArray[np.float64]
COMPARED = ("dice", "jaccard", "boundary_f", "hd95")


@dataclass(frozen=True)
class MaskComparison(Comparison):
    """Masks of the same images by several predictors, and how far their scores lie apart.

    The first of ``models`` is the one asked about; every pair is its score minus that of another, so that
    ``other`` of a pair is the first of ``models``. ``classes`` is empty, and so is every model's ``split``.

    Attributes:
        images: by score, how many images it is the mean of: distances of those in which all have one.
        tolerance: of the boundary F score, a share of the image's diagonal.

    Example:
        >>> panderm.MaskComparison.open("compared.json").pairs[0].difference  # doctest: +SKIP
        Score(value=0.031, low=0.004, high=0.060, reason=None)
    """

    images: dict[str, int] = field(default_factory=dict)
    tolerance: float = TOLERANCE

    def as_dict(self) -> dict[str, Any]:
        """Return what the file holds: plain numbers, text, lists and None."""
        return {"kind": "masks compared", **super().as_dict()}

    @classmethod
    def open(cls, path: Path | str) -> MaskComparison:
        """Open a comparison of masks.

        Raises:
            ArtifactError: no such file, or not one that panderm wrote of masks.
        """
        maker = "panderm evaluate-masks --against"
        made = dict(read_scores(Path(path), _MasksComparedFile, noun="comparisons of masks", maker=maker))
        return cls(**{name: made[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True, eq=False)
class SameMasks:
    """Masks of several predictors of the same images, in the order of the first.

    Attributes:
        masks: all of n images; patients and lesions that only some of them know are told to all.
        names: what they are called, no two alike.
        left_out: of each, its images that not all of the others have.
    """

    masks: tuple[MaskPredictions, ...]
    names: tuple[str, ...]
    left_out: tuple[int, ...]


def same_masks(
    given: Sequence[MaskPredictions], names: Sequence[str] | None = None, *, common: bool = False
) -> SameMasks:
    """Bring masks of several predictors to the same images.

    Args:
        given: two or more.
        names: what they are called; by default the folders of their predicted masks.
        common: keep the images that all have; else all must have the same.

    Raises:
        UsageError: fewer than two, or names that do not tell them apart.
        ParentsError: other images, other true masks, patients or lesions, or boundary F scores of other
            tolerances.
        DataError: no image that all have.
    """
    called = tuple(names) if names is not None else names_of(given)
    if len(given) < 2:
        raise UsageError("there must be two sets of masks or more to compare.", f"found {len(given)}")
    if len(set(called)) < len(given) or len(called) != len(given):
        raise UsageError("every set of masks must have a name of its own.", f"found {', '.join(called)}")
    rows, left_out, kept = shared_images([one.image for one in given], called, common=common)
    aligned = [
        one.select(np.array([at[image] for image in kept], dtype=np.intp))
        for one, at in zip(given, rows, strict=True)
    ]
    for one, name in zip(aligned[1:], called[1:], strict=True):
        _require_agreement(aligned[0], one, called[0], name)
    patient, group = (_known(aligned, name) for name in ("patient", "group"))
    told = tuple(replace(one, patient=patient, group=group) for one in aligned)
    return SameMasks(told, called, left_out)


def compare_masks(
    masks: MaskPredictions,
    against: Sequence[MaskPredictions],
    *,
    names: Sequence[str] | None = None,
    score: Sequence[str] | None = None,
    common: bool = False,
    draws: int = DRAWS,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    progress: bool = True,
) -> MaskComparison:
    """Compare predicted masks with those that others drew on the same images, image by image.

    Every difference is the score of ``masks`` minus that of another: with its 95 % interval, percentiles on
    the same bootstrap draws of whole patients (lesions, images), and the p-value of a permutation test that
    swaps the masks of whole patients, corrected by Holm for all pairs and scores asked. Distances are
    compared on the images in which no mask is empty: one that finds nothing where it is hard gains nothing
    by it. With fewer than 10 units nothing is said.

    Args:
        masks: of :func:`read_masks`.
        against: one or several others, of the same images and the same true masks.
        names: what they are called, ``masks`` first; by default the folders of their predicted masks.
        score: names of scores, as of :func:`evaluate_masks`; by default Dice, Jaccard, boundary F and HD95.
        common: compare on the images that all have, where they are not of the same.
        draws: bootstrap draws; 1,000 or more for numbers to publish.
        permutations: swaps to draw, 1,000 or more for a p-value to publish.
        seed: of both.
        progress: show progress on standard error.

    Raises:
        UsageError: none to compare with, an unknown score, or numbers out of range.
        ParentsError: masks of other images, other true masks, patients or lesions.
        DataError: no image that all have.

    Example:
        >>> a, b = (panderm.read_masks(x, truth="masks/") for x in ("a/", "b/"))  # doctest: +SKIP
        >>> panderm.compare_masks(a, [b]).pairs[0].difference  # doctest: +SKIP
        Score(value=0.031, low=0.004, high=0.060, reason=None)
    """
    if permutations < 1:
        raise UsageError("--permutations must be at least 1.", f"found {permutations}")
    same = same_masks([masks, *against], names, common=common)
    engine = Resampling.of(same.masks[0], draws=draws, seed=seed)
    columns = _comparable([one.scores() for one in same.masks])
    asked = _asked(score, (*columns[0], *POOLED))
    reasons = {name: REASONS[name] for name in asked if name in REASONS and not _any(columns, name)}
    if engine.units < FEWEST_UNITS:
        few = f"{TOO_FEW}: {plural(engine.units, engine.unit)}, and {FEWEST_UNITS} are needed"
        reasons = dict.fromkeys(asked, few)
    counts = [one.counts for one in same.masks]

    def of_both(i: int, j: int, name: str) -> OfBoth:
        column = name if name in columns[i] else "dice"
        values = {column: np.concatenate([columns[i][column], columns[j][column]])}
        pixels = np.concatenate([counts[i], counts[j]])
        return lambda weights: mask_scores(values, pixels, weights)[name]

    chosen = [(other, 0) for other in range(1, len(same.masks))]
    steps = len(columns) + len(chosen) * len(asked)
    with Progress(steps, "comparing", "step", shown=progress) as bar:
        each = []
        for held, pixels in zip(columns, counts, strict=True):
            each.append(engine.drawn(_statistic(held, pixels, asked)))
            bar.advance()
        found = compared_pairs(
            engine,
            each,
            same.names,
            chosen,
            asked,
            of_both,
            reasons=reasons,
            permutations=permutations,
            advance=bar.advance,
        )
    n = len(same.masks[0])
    return MaskComparison(
        models=tuple(
            ComparedModel(
                name=name,
                predictions=one.identity,
                split="",
                left_out=left_out,
                scores={one_score: drawn.score(one_score, reasons.get(one_score)) for one_score in asked},
            )
            for name, one, left_out, drawn in zip(same.names, same.masks, same.left_out, each, strict=True)
        ),
        pairs=tuple(found),
        classes=(),
        n=n,
        clusters=engine.units,
        unit=engine.unit,
        draws=draws,
        permutations=permutations,
        seed=seed,
        family=sum(one.p_holm is not None for one in found),
        images={
            name: int(np.isfinite(columns[0][name]).sum()) if name in columns[0] else n for name in asked
        },
        tolerance=masks.tolerance,
    )


def save_per_image_of_all(
    given: Sequence[MaskPredictions], path: Path | str, *, overwrite: bool = False
) -> Path:
    """Write the scores of each image by every predictor as one CSV, a row for each, and return its path.

    Raises:
        ArtifactError: the file exists and ``overwrite`` is not set, or it cannot be written.
    """
    frames = [one.per_image() for one in given]
    for frame, name in zip(frames, names_of(given), strict=True):
        frame.insert(0, "masks", name)
    write_text(Path(path), pd.concat(frames).to_csv(index=False), overwrite=overwrite)
    return Path(path)


def names_of(given: Sequence[MaskPredictions]) -> tuple[str, ...]:
    """Return what sets of masks are called: as much of their folders' paths as tells them apart."""
    paths = [one.source.resolve().parts for one in given]
    different = len(set(paths))
    found = [""] * len(paths)
    for much in range(1, max((len(parts) for parts in paths), default=0) + 1):
        found = ["/".join(parts[-much:]) for parts in paths]
        if len(set(found)) == different:
            break
    counted = Counter(found)
    return tuple(f"{name} ({i + 1})" if counted[name] > 1 else name for i, name in enumerate(found))


def _comparable(columns: Sequence[dict[str, Floats]]) -> list[dict[str, Floats]]:
    """Return the scores that all have, distances of the images alone in which all have one."""
    shared = [name for name in columns[0] if all(name in one for one in columns)]
    found = [{name: one[name] for name in shared} for one in columns]
    for name in shared:
        if name in (*DISTANCES, *MILLIMETRES):
            lacking = ~np.isfinite([one[name] for one in found]).all(axis=0)
            for one in found:
                one[name] = np.where(lacking, np.nan, one[name])
    return found


def _any(columns: Sequence[dict[str, Floats]], name: str) -> bool:
    return bool(np.isfinite(columns[0][name]).any())


def _statistic(held: dict[str, Floats], pixels: npt.NDArray[np.int64], asked: Sequence[str]) -> Statistic:
    def statistic(weights: npt.NDArray[np.int32] | None) -> dict[str, Floats]:
        found = mask_scores(held, pixels, weights)
        return {name: found[name] for name in asked}

    return statistic


def _asked(score: Sequence[str] | None, names: Sequence[str]) -> tuple[str, ...]:
    for name in score or ():
        if name not in names:
            raise UsageError(
                f"no score of these masks is called {name!r}{did_you_mean(name, names)}",
                f"there are: {', '.join(names)}",
            )
    return tuple(dict.fromkeys(score or COMPARED))


def _known(given: Sequence[MaskPredictions], column: str) -> npt.NDArray[np.object_] | None:
    held = [values for one in given if (values := getattr(one, column)) is not None]
    return known_of(held) if held else None


def _require_agreement(first: MaskPredictions, other: MaskPredictions, called: str, name: str) -> None:
    must = "masks to be compared must be of the same images: their {} must agree."
    if first.tolerance != other.tolerance:
        found = f"{called}: {first.tolerance:g}, {name}: {other.tolerance:g} of the diagonal"
        raise ParentsError(must.format("boundary F scores' tolerance"), found)
    differ = [
        i
        for i, pair in enumerate(zip(first.truth_sha256, other.truth_sha256, strict=True))
        if len(set(pair)) > 1
    ]
    told = [f"{first.image[i]}: {first.truth[i]} in {called}, {other.truth[i]} in {name}" for i in differ]
    _refuse(must.format("true masks"), told)
    for column, what in (("patient", "patient"), ("group", "lesion")):
        one, two = getattr(first, column), getattr(other, column)
        if one is None or two is None:
            continue
        told = [
            f"{image}: {a} in {called}, {b} in {name}"
            for image, a, b in zip(first.image, one, two, strict=True)
            if a is not None and b is not None and a != b
        ]
        _refuse(must.format(what), told)


def _refuse(must: str, told: Sequence[str]) -> None:
    if told:
        raise ParentsError(must, [*told[:3], *([f"and {len(told) - 3:,} more"] if len(told) > 3 else [])])


class _MasksComparedFile(ComparisonFile):
    """The layout of a file of compared masks."""

    kind: Literal["masks compared"]
    images: dict[str, int]
    tolerance: float
