"""What do the columns say without a look at any image? The baseline that a reviewer asks for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.data.columns import Column, read_column, whole_numbers
from panderm.data.encoding import ColumnEncoder
from panderm.data.table import TableCard
from panderm.errors import DataError, ParentsError, plural, some
from panderm.gate.describing import describing_columns, require_no_label
from panderm.predictions import Predictions, PredictionsCard, require_one_class
from panderm.probing.table_columns import require_named, table_as_it_was
from panderm.provenance import Provenance
from panderm.statistics.resampling import cluster_codes
from panderm.training.linear_probe import LinearProbe
from panderm.training.subset import take_part

_OPTION = "--image-free-columns"
_ASKS = "an image-free baseline"


@dataclass(frozen=True, eq=False)
class ImageFree:
    """Predictions of the same rows by the table's columns alone.

    Attributes:
        predictions: by ``columns``.
        columns: what was used.
        left_out: every other column, and why.
        giving_away: columns that give the answer away, left out of ``columns``.
        with_giving_away: predictions by these too; None where there are none.
    """

    predictions: Predictions
    columns: tuple[str, ...]
    left_out: dict[str, str]
    giving_away: tuple[str, ...] = ()
    with_giving_away: Predictions | None = None


def image_free(predictions: Predictions, *, columns: Sequence[str] | None = None, seed: int = 0) -> ImageFree:
    """Predict the rows of some predictions from the columns of their table, without a look at any image.

    The table is the one on the predictions' card, as it was. A linear probe (:class:`panderm.LinearProbe`,
    strength chosen by cross-validation that keeps patients whole) is fitted on the training rows that the
    predictions' own probe was fitted on, and predicts the same rows. Words become 0 and 1 a level, an empty
    cell being one; numbers their value and eight bands.

    By default all columns are used but the label and its other names, the split, what names rows or files,
    what was measured on the image, and what gives the answer away
    (:func:`panderm.gate.columns.lint_columns`, asked of all rows, as ``panderm check`` does). The last
    are added in a second baseline.

    Args:
        predictions: of a probe, with the card of its table.
        columns: the columns to use, where they are not to be chosen.
        seed: of the folds.

    Raises:
        ParentsError: the table is not there any more, or is not what it was.
        UsageError: a column that is not there, or is the label under another name.
        DataError: no column to use.

    Example:
        >>> image_free(panderm.open_predictions("probe.pred")).columns  # doctest: +SKIP
        ('age', 'sex', 'localization')
    """
    started = time.monotonic()
    require_one_class(predictions)
    _require_training_split(predictions.card)
    card = predictions.card.made_of("An image-free baseline").table
    frame = table_as_it_was(card, _ASKS)
    fitted, scored = _rows(predictions, frame, card)
    labels = whole_numbers(read_column(frame, card.roles["label"]))
    chosen, left_out, giving = _columns(frame, card, columns, seed)
    every = {name: read_column(frame, name) for name in (*chosen, *giving)}

    def predicted(names: Sequence[str]) -> Predictions:
        used = {name: every[name] for name in names}
        return _predicted(predictions, used, frame, card, labels, fitted, scored, seed, started)

    both = predicted((*chosen, *giving)) if giving else None
    return ImageFree(predicted(chosen), tuple(chosen), left_out, tuple(giving), both)


def require_columns(card: TableCard, columns: Sequence[str] | None = None) -> None:
    """Raise what :func:`image_free` would raise for want of a table or a column, before anything is made.

    Args:
        card: of the table.
        columns: the columns to use, where they are not to be chosen.
    """
    _columns(table_as_it_was(card, _ASKS), card, columns, 0)


def _columns(
    frame: pd.DataFrame, card: TableCard, columns: Sequence[str] | None, seed: int
) -> tuple[list[str], dict[str, str], list[str]]:
    """Return the columns to use, why the others are left out, and those that give the answer away."""
    if columns is not None:
        require_named(frame, columns, option=_OPTION, table=card.csv)
        require_no_label(frame, card, columns, option=_OPTION)
        others = [name for name in frame.columns if name not in columns]
        return list(dict.fromkeys(columns)), dict.fromkeys(others, "not asked for"), []
    found = describing_columns(frame, card, seed=seed)
    if not found.usable:
        raise DataError(
            "an image-free baseline needs a column that describes the patient or the lesion.",
            [f"{card.csv} has none:", *(f"{name}: {why}" for name, why in found.left_out.items())],
            "leave --image-free out, or name columns with --image-free-columns",
        )
    return list(found.usable), found.left_out, list(found.giving_away)


def _predicted(
    predictions: Predictions,
    used: Mapping[str, Column],
    frame: pd.DataFrame,
    card: TableCard,
    labels: Column,
    fitted: npt.NDArray[np.intp],
    scored: npt.NDArray[np.intp],
    seed: int,
    started: float,
) -> Predictions:
    X = ColumnEncoder().fit(used, fitted).transform(used)
    codes, unit = cluster_codes(
        read_column(frame, card.roles["patient"]), read_column(frame, card.roles["group"]), len(frame)
    )
    groups = None if unit == "image" else codes[fitted]
    y = np.array([str(x) for x in labels[fitted]], dtype=object)
    model = LinearProbe(seed=seed).fit(X[fitted], y, groups=groups)
    probabilities = np.zeros((len(scored), len(predictions.classes)))
    place = [predictions.classes.index(c) for c in model.classes_]
    probabilities[:, place] = model.predict_proba(X[scored])
    method: dict[str, Any] = {
        "columns": list(used),
        "features": X.shape[1],
        "train split": predictions.card.method["train split"],
        "train rows": len(fitted),
        "percent of training data": predictions.card.method.get("percent of training data", 100.0),
        "seed": seed,
    }
    outcome = {"C": model.C_, "C chosen on": model.chosen_on_, "converged": model.fit_.converged}
    changed = {
        "task": "image-free baseline",
        "method": method,
        "outcome": outcome,
        "provenance": Provenance.now(seconds=time.monotonic() - started),
    }
    own = predictions.card.model_copy(update=changed)
    return replace(predictions, probabilities=probabilities, card=own, fitted=None)


def _require_training_split(card: PredictionsCard) -> None:
    """Raise :class:`DataError` where predictions do not say which rows of their own table were fitted."""
    if "train split" not in card.method or card.fitted_on is not None:
        raise DataError(
            "an image-free baseline is fitted on the training rows of the predictions, of the same table.",
            f"the card of these names no training split (task: {card.task})"
            if card.fitted_on is None
            else "they were fitted on the rows of another table",
            "make the predictions with panderm probe, without --folds and --test-on",
        )


def _rows(
    predictions: Predictions, frame: pd.DataFrame, card: TableCard
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the positions of the rows that were fitted, and of those that were predicted, in their order."""
    method = predictions.card.method
    split = read_column(frame, card.roles["split"])
    rows = np.flatnonzero(split == method["train split"])
    fitted = take_part(rows, float(method.get("percent of training data", 100)) / 100)
    place = {name: i for i, name in enumerate(read_column(frame, card.roles["image"]))}
    scored = np.array([place.get(name, -1) for name in predictions.image], dtype=np.intp)
    if (scored < 0).any() or not len(fitted):
        strange = [str(x) for x in predictions.image[scored < 0]]
        raise ParentsError(
            "predictions must be of rows of their table.",
            f"{plural(len(strange), 'image')} not in {card.csv}: {some(strange)}"
            if strange
            else f"no row of {card.csv} has the split {method['train split']!r}",
            "embed and probe the table again",
        )
    return fitted, scored
