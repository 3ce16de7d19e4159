"""The training images that lie nearest to an image: twins, leaks, and labels that deserve a second look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from panderm.data.registration import Points
from panderm.gate.lookalikes import is_one
from panderm.predictions import Predictions
from panderm.report.mistakes.pictures import SMALL, Picture, pixels_of, predicted_pixels, thumbnail
from panderm.report.mistakes.space import Ints, Space
from panderm.statistics.nearest import mean_vector, nearest_rows

NEIGHBOURS = 4
ALIKE = 0.97
"""Least cosine, after the mean of the fitted rows is taken off, of images that may be one photograph.

Of 555 dermoscopic images under DINOv2's ViT-S/14, fewer than one in a hundred has another so near by chance;
of 30 of them, saved again at quality 60, nine in ten come so near, turned or mirrored ones often do not: for
those there is a second look at the pixels.
"""
LOOKED = 0.9
"""Least cosine of a neighbour that is looked at a second time; the nearest always is."""


@dataclass(frozen=True)
class Neighbour:
    """A training image near a scored one.

    Attributes:
        image: its name in the table.
        truth: its class.
        split: of the table; in cross-validation the fold.
        similarity: cosine of the two vectors after the mean of the fitted rows is taken off, in [-1, 1].
        same: what the two share that rows fitted and scored must not: patient, lesion, file, or else photo.
        doubt: it is of another class and yet the same lesion or photograph, or as near as one: one of the
            two labels may be wrong.
        picture: a small picture, or why there is none.
    """

    image: str
    truth: str
    split: str
    similarity: float
    same: tuple[str, ...]
    doubt: bool
    picture: Picture


def nearest_training(
    predictions: Predictions, space: Space, rows: Sequence[int], *, k: int = NEIGHBOURS
) -> dict[int, tuple[Neighbour, ...]]:
    """Return for some of the predicted rows the nearest of the rows their probe was fitted on.

    One pass over the fitted rows, block by block; then a second look at the pixels of each pair.

    Args:
        predictions: n rows.
        space: their embeddings.
        rows: positions among the n.
        k: neighbours of each.
    """
    found: dict[int, tuple[Neighbour, ...]] = {}
    folds: list[object] = [None]
    if space.fold is not None:
        folds = sorted({space.fold[row] for row in rows}, key=str)
    for fold in folds:
        here = [row for row in rows if space.fold is None or space.fold[row] == fold]
        fitted = space.fitted_for(fold)
        if not here or not len(fitted):
            continue
        for row, at, cosines in zip(here, *_nearest(space, space.rows[here], fitted, k), strict=True):
            rgb, _ = predicted_pixels(predictions, row)
            own = None if rgb is None else Points(rgb)
            found[row] = tuple(
                _neighbour(predictions, row, own if i == 0 or s >= LOOKED else None, space, int(j), float(s))
                for i, (j, s) in enumerate(zip(at, cosines, strict=True))
            )
    return found


def _nearest(space: Space, asked: Ints, fitted: Ints, k: int) -> tuple[Ints, npt.NDArray[np.float64]]:
    vectors = space.trained.vectors
    middle = mean_vector(vectors, fitted)
    return nearest_rows(space.scored.vectors[asked], vectors, fitted, k, centre=middle)


def _neighbour(
    predictions: Predictions, row: int, own: Points | None, space: Space, at: int, similarity: float
) -> Neighbour:
    table = space.trained.rows
    rgb, problem = pixels_of(
        table.path[at], table.sha256[at], max_megapixels=space.trained.card.table.max_megapixels
    )
    who, whose = predictions.patient[row], table.patient[at]
    # Lesions may be numbered anew for each patient.
    lesion = predictions.group[row] == table.group[at] and (who == whose or None in (who, whose))
    shared = {
        "patient": who is not None and who == whose,
        "lesion": predictions.group[row] is not None and lesion,
        "file": predictions.sha256[row] is not None and predictions.sha256[row] == table.sha256[at],
    }
    shared["photo"] = not shared["file"] and (
        own is not None and rgb is not None and is_one(own, Points(rgb))
    )
    truth = str(table.label[at])
    other = truth in predictions.classes and truth != predictions.truth[row]
    near = similarity >= ALIKE or shared["lesion"] or shared["file"] or shared["photo"]
    split = str(table.split[at])
    if space.fold is not None:
        split = f"fold {space.fold[int(np.flatnonzero(space.rows == at)[0])]}"
    picture = Picture(None, problem) if rgb is None else Picture(thumbnail(rgb, SMALL, quality=78))
    same = tuple(name for name, is_so in shared.items() if is_so)
    return Neighbour(str(table.image[at]), truth, split, similarity, same, other and near, picture)
