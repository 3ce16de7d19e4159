"""Predictions brought to the same rows in the same order, by the names of their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from panderm.errors import DataError, ParentsError, UsageError, plural, some
from panderm.predictions import MultiLabelPredictions, Predictions

Either = Predictions | MultiLabelPredictions
_UNITS = ("patient", "group")
_COMMON = "--common compares on the images that all have"


@dataclass(frozen=True, eq=False)
class SameCases:
    """Predictions of the same rows in the order of the first.

    Attributes:
        predictions: all of n rows; patients and lesion groups that only some of them know are told to all.
        left_out: of each, its rows that not all of the others have.
    """

    predictions: tuple[Either, ...]
    left_out: tuple[int, ...]


def same_cases(
    given: Sequence[Either], names: Sequence[str], *, common: bool, hint: str = _COMMON
) -> SameCases:
    """Bring predictions to the same rows.

    Args:
        given: two or more, all of one class an image or all of several labels.
        names: what they are called, for the messages.
        common: keep the rows that all have; else all must have the same.
        hint: what to do where they have not.

    Raises:
        UsageError: fewer than two.
        ParentsError: other images, classes, truths, files or patients.
        DataError: an image twice, or none that all have.
    """
    if len(given) < 2:
        raise UsageError("there must be two predictions or more to compare.", f"found {len(given)}")
    for one, name in zip(given[1:], names[1:], strict=True):
        _require_one_question(given[0], one, names[0], name)
    images, left_out, kept = shared_images([one.image for one in given], names, common=common, hint=hint)
    aligned = [
        _rows(one, np.array([at[image] for image in kept], dtype=np.intp))
        for one, at in zip(given, images, strict=True)
    ]
    for one, name in zip(aligned[1:], names[1:], strict=True):
        _require_agreement(aligned[0], one, names[0], name)
    patient, group = (known_of([getattr(one, column) for one in aligned]) for column in _UNITS)
    return SameCases(tuple(replace(one, patient=patient, group=group) for one in aligned), left_out)


def shared_images(
    columns: Sequence[npt.NDArray[np.object_]], names: Sequence[str], *, common: bool, hint: str = _COMMON
) -> tuple[list[dict[str, int]], tuple[int, ...], list[str]]:
    """Find the images that all of several have.

    Args:
        columns: of each, (n,) names of its images.
        names: what they are called, for the messages.
        common: keep the images that all have; else all must have the same.
        hint: what to do where they have not.

    Returns:
        Of each the row of every image, and how many of its images not all have; and the images that all
        have, in the order of the first.

    Raises:
        ParentsError: other images.
        DataError: an image twice, or none that all have.
    """
    images = [_images(one, name) for one, name in zip(columns, names, strict=True)]
    shared = set(images[0]).intersection(*images[1:])
    left_out = tuple(len(one) - len(shared) for one in images)
    if any(left_out) and not common:
        raise ParentsError(
            "predictions to be compared must be of the same images.",
            [_beyond(name, one, shared) for name, one in zip(names, images, strict=True) if len(one)],
            hint,
        )
    if not shared:
        raise DataError("predictions to be compared must have images in common.", "found none")
    return images, left_out, [image for image in images[0] if image in shared]


def _images(column: npt.NDArray[np.object_], name: str) -> dict[str, int]:
    at = {image: row for row, image in enumerate(column)}
    if len(at) < len(column):
        twice = next(image for row, image in enumerate(column) if at[image] != row)
        raise DataError("an image must have one row of predictions.", f"{name}: {twice} has several")
    return at


def _beyond(name: str, images: dict[str, int], shared: set[str]) -> str:
    alone = [image for image in images if image not in shared]
    told = f"{name}: {plural(len(images), 'image')}"
    return f"{told}, {len(alone):,} not in all: {some(alone, 3)}" if alone else f"{told}, all shared"


def _rows(given: Either, rows: npt.NDArray[np.intp]) -> Either:
    card = given.card.model_copy(update={"rows": len(rows), "validation": None})
    if isinstance(given, Predictions):
        return given.select(rows, card)
    columns = {name: getattr(given, name)[rows] for name in ("image", "path", "sha256", *_UNITS)}
    return replace(
        given, **columns, truth=given.truth[rows], probabilities=given.probabilities[rows], card=card
    )


def _require_one_question(first: Either, other: Either, called: str, name: str) -> None:
    kinds = [f"{k}: {_kind(one)} {some(one.classes)}" for k, one in ((called, first), (name, other))]
    if isinstance(first, Predictions) != isinstance(other, Predictions) or first.classes != other.classes:
        raise ParentsError("predictions to be compared must be of the same classes, in one order.", kinds)
    folds = [getattr(one, "fold", None) is not None for one in (first, other)]
    if folds[0] != folds[1]:
        raise ParentsError(
            "predictions to be compared must all be out of fold, or none.",
            f"{(called, name)[folds[1]]} is out of fold, {(called, name)[folds[0]]} is of one probe",
        )


def _kind(given: Either) -> str:
    return "one class an image," if isinstance(given, Predictions) else "several labels an image,"


def _require_agreement(first: Either, other: Either, called: str, name: str) -> None:
    """Hold truth, files and units of the same images against each other, where both know them."""
    for column, what in (("truth", "truth"), ("sha256", "file"), ("patient", "patient"), ("group", "lesion")):
        one, two = getattr(first, column), getattr(other, column)
        differ = one != two
        if column == "truth":
            differ = differ if differ.ndim == 1 else differ.any(axis=1)
        else:
            differ &= np.array([a is not None and b is not None for a, b in zip(one, two, strict=True)])
        _refuse(first, np.flatnonzero(differ), what, one, two, called, name)
    folds = getattr(first, "fold", None)
    if folds is not None and isinstance(other, Predictions) and other.fold is not None:
        at = np.flatnonzero(folds != other.fold)
        _refuse(first, at, "fold", folds, other.fold, called, name)


def _refuse(
    first: Either,
    at: npt.NDArray[np.intp],
    what: str,
    one: npt.NDArray[np.object_],
    two: npt.NDArray[np.object_],
    called: str,
    name: str,
) -> None:
    if len(at):
        raise ParentsError(
            f"predictions to be compared must agree in the {what} of every image.",
            [f"{first.image[i]}: {one[i]} in {called}, {two[i]} in {name}" for i in at[:3]]
            + ([f"and {len(at) - 3:,} more"] if len(at) > 3 else []),
        )


def known_of(columns: Sequence[npt.NDArray[np.object_]]) -> npt.NDArray[np.object_]:
    """Return a column as told by the first that knows each of its cells."""
    found = columns[0].copy()
    for column in columns[1:]:
        missing = np.array([value is None for value in found], dtype=np.bool_)
        found[missing] = column[missing]
    return found
