"""Predictions where an image is of one class: probabilities that sum to 1, beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from panderm.data.columns import Column
from panderm.errors import ArtifactError, some
from panderm.fitted import FittedProbe
from panderm.predictions.card import PredictionsCard
from panderm.predictions.stored import (
    FILE,
    ROW,
    VALIDATION,
    cells,
    lists,
    probe_beside,
    probe_of,
    read_predictions,
    texts,
    write_predictions,
)
from panderm.provenance import read_card

_COLUMNS = (*ROW, "truth")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Probabilities of K classes for n images, beside the truth.

    Attributes:
        image: names, (n,) strings.
        path: absolute paths of the files, for thumbnails; None where not known.
        sha256: hex SHA-256 of the files as they were embedded; None where not known.
        patient: (n,) strings or None.
        group: (n,) lesion or other group, strings or None.
        truth: (n,) the true class, one of ``classes``.
        probabilities: float64 (n, K), rows sum to 1, columns in the order of ``classes``.
        card: what made them.
        probe: the :class:`FittedProbe` that made them, or None where none was kept. Of an opened folder it
            is read, and checked, when it is first asked for.
        fold: (n,) which fold each row was held out in, strings; None where all rows were predicted by one
            probe.
        validation: predictions by the same probe of rows it was not fitted on and that are not to be scored:
            where thresholds, temperatures and sets are to come from. None where there are none.
        order: the classes in another order than the card's, None where they are in the card's.

    Example:
        >>> pred = panderm.open_predictions("probe.pred")  # doctest: +SKIP
        >>> pred.probabilities[:, pred.classes.index("mel")]  # doctest: +SKIP
    """

    image: Column
    path: Column
    sha256: Column
    patient: Column
    group: Column
    truth: Column
    probabilities: npt.NDArray[np.float64]
    card: PredictionsCard
    fitted: FittedProbe | Path | None = None
    fold: Column | None = None
    validation: Predictions | None = None
    order: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.image)

    @cached_property
    def probe(self) -> FittedProbe | None:
        """The probe that made these predictions, or None where none was kept.

        Raises:
            ArtifactError: its file is damaged or of other predictions.
        """
        return probe_of(self.fitted, self.card)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes in their stated order; of two, the second is the positive one."""
        return self.order or self.card.classes

    def truth_codes(self) -> npt.NDArray[np.int64]:
        """Return the truth as positions in ``classes``, int64 (n,)."""
        position = {name: i for i, name in enumerate(self.classes)}
        return np.array([position[name] for name in self.truth], dtype=np.int64)

    def predicted_codes(self) -> npt.NDArray[np.int64]:
        """Return the most probable class of each row, the first of equals, as positions in ``classes``."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    def in_order(self, classes: Sequence[str]) -> Predictions:
        """Return the same predictions, validation rows included, with the classes in another order.

        Of two classes the second is the positive one. Everything else stays as it is, the identity too, and
        what is saved is in the order of the card.

        Args:
            classes: the same names, each once.

        Raises:
            ValueError: other classes.
        """
        wanted = tuple(classes)
        if wanted == self.classes:
            return self
        if sorted(wanted) != sorted(self.classes):
            raise ValueError(f"the classes must be {self.classes} in some order, not {wanted}")
        columns = [self.classes.index(name) for name in wanted]
        return replace(
            self,
            probabilities=self.probabilities[:, columns],
            order=None if wanted == self.card.classes else wanted,
            validation=None if self.validation is None else self.validation.in_order(wanted),
        )

    def save(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write the folder, whole or not at all, and return it."""
        if self.order is not None:
            return self.in_order(self.card.classes).save(path, overwrite=overwrite)
        card, beside = self.card, {}
        if self.validation is not None:
            beside[VALIDATION] = self.validation._stored()
        elif card.validation is not None:  # some of the rows, or others, under the card of the whole
            card = card.model_copy(update={"validation": None})
        return write_predictions(
            Path(path), self._stored(), card, self.probe, beside=beside, overwrite=overwrite
        )

    def select(self, rows: npt.NDArray[np.intp], card: PredictionsCard) -> Predictions:
        """Return some rows under a card of their own; rows of validation do not come along.

        Args:
            rows: positions.
            card: what says where they are from, with as many rows.
        """
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        fold = None if self.fold is None else self.fold[rows]
        return replace(
            self, **columns, probabilities=self.probabilities[rows], card=card, fold=fold, validation=None
        )

    def _stored(self) -> dict[str, pa.Array]:
        columns = {name: texts(getattr(self, name)) for name in _COLUMNS}
        if self.fold is not None:
            columns["fold"] = texts(self.fold)
        return {**columns, "probabilities": lists(self.probabilities)}


def open_predictions(path: Path | str) -> Predictions:
    """Open a predictions folder and check it.

    Raises:
        ArtifactError: not such a folder, damaged, rows missing, a truth that is no class, probabilities
            that do not sum to 1, or a folder of several labels an image.

    Example:
        >>> pred = panderm.open_predictions("probe.pred")  # doctest: +SKIP
    """
    require_one_class(path)
    folder = Path(path)
    card = read_card(folder, PredictionsCard, "predictions")
    require_one_class(card, folder)
    opened = _read(folder, card)
    if card.validation is None:
        return opened
    held = card.model_copy(update={**card.validation.model_dump(), "validation": None})
    return replace(opened, validation=_read(folder, held, VALIDATION))


def _read(folder: Path, card: PredictionsCard, file: str = FILE) -> Predictions:
    schema = pa.schema(
        [
            *((name, pa.string()) for name in (*_COLUMNS, "fold")),
            ("probabilities", pa.list_(pa.float64(), len(card.classes))),
        ]
    )
    table = read_predictions(folder, schema, optional=("fold",), file=file)
    columns = {name: cells(table, name) for name in _COLUMNS}
    flat = table["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    probabilities = np.asarray(flat, dtype=np.float64).reshape(-1, len(card.classes))
    strange = sorted({str(x) for x in columns["truth"]} - set(card.classes))
    sound = bool(np.isfinite(probabilities).all() and (probabilities >= 0).all())
    sound = sound and bool(np.allclose(probabilities.sum(axis=1), 1, atol=1e-6))
    if len(probabilities) != card.rows or strange or not sound:
        found = (
            f"{len(probabilities)} of {card.rows} rows"
            if len(probabilities) != card.rows
            else (
                f"truth {strange[0]!r} is none of {', '.join(card.classes)}"
                if strange
                else "rows that do not sum to 1"
            )
        )
        raise ArtifactError(
            "predictions must be whole and sum to 1 in every row.", f"{folder}: {found}", "probe again"
        )
    return Predictions(
        image=columns["image"],
        path=columns["path"],
        sha256=columns["sha256"],
        patient=columns["patient"],
        group=columns["group"],
        truth=columns["truth"],
        probabilities=probabilities,
        card=card,
        fitted=probe_beside(folder),
        fold=cells(table, "fold") if "fold" in table.column_names else None,
    )


def require_one_class(given: object, named: Path | str | None = None) -> None:
    """Raise :class:`ArtifactError` where predictions, or a card of some, are of several labels an image.

    Args:
        given: predictions of any form, their card, or anything else, which is let pass.
        named: the folder, for the message.
    """
    card = getattr(given, "card", given)
    if isinstance(card, PredictionsCard) and card.labels == "several":
        raise ArtifactError(
            "this needs predictions of one class an image.",
            f"{named or 'these predictions'}: several labels an image, {some(card.classes)}",
            "panderm evaluate and panderm report take them; in Python, panderm.open_multi_label",
        )
