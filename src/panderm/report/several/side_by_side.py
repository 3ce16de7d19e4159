"""Predictions brought side by side: the same rows in one order, and what one of them knows told to all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from panderm.errors import ParentsError, some
from panderm.predictions import Predictions
from panderm.scores import Score, differences
from panderm.scores.compare import too_few
from panderm.scores.same_cases import same_cases

_HINT = "name the column with the images' names, or score the same split of one table with each"


def side_by_side(
    predictions: Sequence[Predictions], names: Sequence[str], *, scored: bool
) -> list[Predictions]:
    """Return predictions of the same images in the order of the first.

    Rows are matched by the names of their images. Truth must agree; patients, lesion groups and hashes of
    files must where both sides know them, and are told to the others where only some do: all are then drawn
    by the same units. Those read from a user's file know no hash: there the name and the truth must do.

    Args:
        predictions: two or more.
        names: what the user calls them, for the messages.
        scored: whether scores of them, as they are, are to stand beside them.

    Raises:
        ParentsError: other images, classes, truths, files, patients or folds; scores of rows in another
            order, or drawn by other units.
        DataError: an image twice.
    """
    same = same_cases(predictions, names, common=False, hint=_HINT)
    path = _known([one.path for one in same.predictions])
    sha256 = _known([one.sha256 for one in same.predictions])
    found, moved = [], []
    for name, given, aligned in zip(names, predictions, same.predictions, strict=True):
        assert isinstance(aligned, Predictions)
        if any(
            (getattr(given, column) != getattr(aligned, column)).any()
            for column in ("image", "patient", "group")
        ):
            moved.append(name)
        found.append(replace(aligned, path=path, sha256=sha256, card=given.card, validation=given.validation))
    if moved and scored:
        raise ParentsError(
            "scores side by side must rest on the same draws of the same units.",
            f"in another order than {names[0]}, or without its patients: {some(moved, 6)}",
            "leave the scores out: they are made now, of rows brought side by side",
        )
    return found


def differences_said(
    predictions: Sequence[Predictions], *, draws: int, seed: int
) -> tuple[dict[str, Score], ...]:
    """Return the differences to the first, without those that too few units could show.

    Args:
        predictions: of the same rows in one order, two or more.
        draws: bootstrap draws.
        seed: of the bootstrap.
    """
    few = too_few(predictions[0])
    return tuple(
        {name: Score(None, None, None, few[name]) if name in few else score for name, score in one.items()}
        for one in differences(predictions, draws=draws, seed=seed)
    )


def _known(columns: Sequence[npt.NDArray[np.object_]]) -> npt.NDArray[np.object_]:
    found = columns[0].copy()
    for column in columns[1:]:
        missing = np.array([not value for value in found], dtype=np.bool_)
        found[missing] = column[missing]
    return found
