"""The embeddings that predictions were made of, found again: which of their rows were scored, and fitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from panderm.embeddings import Embeddings, EmbeddingsCard, open_embeddings
from panderm.errors import ArtifactError, PandermError
from panderm.predictions import Predictions
from panderm.report.with_columns import without_image
from panderm.training.subset import take_part

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Space:
    """Embeddings of the rows that were scored and of those that were fitted.

    Attributes:
        scored: the embeddings that were predicted.
        rows: (n,) the position there of each predicted row.
        trained: the embeddings that the probe was fitted on: the same, unless they are of another table.
        fitted: (t,) positions there of the rows it was fitted on; in cross-validation of all rows.
        fold: (n,) the fold of each predicted row, where each fold had a probe of its own; these rows are
            then the fitted ones too.
    """

    scored: Embeddings
    rows: Ints
    trained: Embeddings
    fitted: Ints
    fold: npt.NDArray[np.object_] | None

    def fitted_for(self, fold: object) -> Ints:
        """Return the rows that the probe of a fold was fitted on; without folds all that were fitted."""
        return self.fitted if self.fold is None else self.fitted[self.fold != fold]


def find_space(predictions: Predictions, folder: Path | str | None = None) -> Space | str | None:
    """Find the embeddings that predictions were made of, and the rows of theirs.

    They are looked for where they lay when they were predicted, then beside the predictions.

    Args:
        predictions: n rows.
        folder: where they are, where the user says so.

    Returns:
        the embeddings; a sentence that says why there are none; or None where no embedding was looked at:
        predictions that were read from a file, or of columns alone.

    Raises:
        ArtifactError: a ``folder`` that is named and does not hold them.
    """
    card = predictions.card
    if card.embeddings is None or without_image(card.method):
        return None
    try:
        scored = _opened(predictions, card.embeddings, folder)
        trained = scored if card.fitted_on is None else _opened(predictions, card.fitted_on, None)
        return _joined(predictions, scored, trained)
    except PandermError as error:
        if folder is not None:
            raise
        why = error.found[0] if error.found else error.must
        return f"The embeddings that these predictions were made of could not be used: {why.rstrip('.')}."


def _opened(predictions: Predictions, wanted: EmbeddingsCard, folder: Path | str | None) -> Embeddings:
    named = "the embeddings of a report must be those that the predictions were made of."
    if folder is not None:
        opened = open_embeddings(folder)
        if opened.card.identity != wanted.identity:
            found = f"{folder} holds {opened.card.identity[:12]}, wanted are {wanted.identity[:12]}"
            raise ArtifactError(named, found, "name the folder that was probed")
        return opened
    changed: list[str] = []
    for place in _places(predictions, wanted):
        try:
            opened = open_embeddings(place)
        except ArtifactError as error:
            changed += [*error.found[:1]]
            continue
        if opened.card.identity == wanted.identity:
            return opened
        changed.append(f"{place} holds others by now")
    where = predictions.card.folders.get(wanted.identity)
    lost = f"{where} is not there any more" if where else "where they lie is not on the card"
    raise ArtifactError(named, changed[0] if changed and where else lost, "name their folder")


def _places(predictions: Predictions, wanted: EmbeddingsCard) -> Iterator[Path]:
    """Yield folders that may hold them: where they lay, then any beside the predictions."""
    lay = predictions.card.folders.get(wanted.identity)
    if lay is not None and Path(lay).is_dir():
        yield Path(lay)
    if isinstance(predictions.fitted, Path):  # the probe's own file, in the folder of the predictions
        yield from sorted(predictions.fitted.parent.parent.glob("*.emb"))


def _joined(predictions: Predictions, scored: Embeddings, trained: Embeddings) -> Space:
    card = predictions.card
    place = {name: i for i, name in enumerate(scored.rows.image)}
    rows = np.array([place.get(name, -1) for name in predictions.image], dtype=np.int64)
    same = rows >= 0
    same[same] = [
        sha256 is None or sha256 == own
        for sha256, own in zip(predictions.sha256[same], scored.rows.sha256[rows[same]], strict=True)
    ]
    if not same.all():
        found = f"{scored.path} lacks {int((~same).sum()):,} of the images that were scored"
        raise ArtifactError("every image scored must have its embedding.", found)
    if predictions.fold is not None:
        return Space(scored, rows, scored, rows, predictions.fold)
    if "train split" not in card.method:
        raise ArtifactError("predictions must say what they were fitted on.", "the card names no split")
    split = np.flatnonzero(trained.rows.split == card.method["train split"])
    part = float(card.method.get("percent of training data", 100)) / 100
    fitted = np.asarray(take_part(split, part), dtype=np.int64)
    if not len(fitted) or len(fitted) != card.method.get("train rows", len(fitted)):
        found = (
            f"{trained.path} has {len(fitted):,} rows of the split {card.method['train split']!r}, others "
        )
        raise ArtifactError("the rows that were fitted must be found.", f"{found}were fitted")
    return Space(scored, rows, trained, fitted, None)
