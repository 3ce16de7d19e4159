"""Predictions of new images: one row an image in a CSV, and a card beside it that says what made them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from panderm.classifying.calibrated import Calibration, SetRule, Threshold
from panderm.data.columns import Column
from panderm.data.table import Skipped
from panderm.embeddings import Decoding, EncoderRecord
from panderm.fitted import Link
from panderm.provenance import Card
from panderm.storage import new_file, refuse_existing, sha256_of_file, write_json

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
USE = "For research. Not a medical device: it must not decide about a patient."
BETWEEN = "|"
"""What stands between the classes of a set, and between several labels."""
_COLUMNS = 2048  # rows that are written at a time


class PredictedCard(Card):
    """What predicted some new images, and how; beside ``x.csv`` as ``x.card.json``.

    Attributes:
        use: what the file is for.
        model: folder or file that was named.
        model_identity: of its predictions, or the hash of its file.
        encoder: what saw the images.
        classes: in the order of the columns ``p_…``.
        link: ``softmax``: rows sum to 1; ``sigmoid``: each label by itself.
        head: kind of the head, and the temperature its logits were divided by.
        calibration: what validation rows decided.
        decision: the thresholds of column ``decision``; empty: there is none.
        sets: the rule of column ``set``; None: there is none.
        tta: views of each image whose probabilities were averaged; None for the image as it is.
        decoding: how pixels were made of files.
        images: what was asked for; images_sha256: over names and files.
        rows: of the CSV.
        skipped: images that could not be read.
        csv_sha256: of the CSV's bytes.
        images_per_second: of this run.
        notes: what a user should know.
    """

    kind: Literal["predicted"] = "predicted"
    format: Literal[1] = 1
    use: str = USE
    model: str
    model_identity: str
    encoder: EncoderRecord
    classes: tuple[str, ...]
    link: Link
    head: dict[str, Any]
    calibration: Calibration
    decision: tuple[Threshold, ...] = ()
    sets: SetRule | None = None
    tta: str | None = None
    decoding: Decoding
    images: str
    images_sha256: str
    rows: int
    skipped: tuple[Skipped, ...] = ()
    csv_sha256: str | None = None
    images_per_second: float | None = None
    notes: tuple[str, ...] = Field(default=())


@dataclass(frozen=True, eq=False)
class Predicted:
    """Probabilities of K classes for n new images.

    Attributes:
        image: names, (n,) strings, as they were asked for.
        path: absolute paths of their files, (n,) strings.
        probabilities: float64 (n, K), columns in the order of ``classes``.
        card: what made them.
        resumed: how many of them a run that was stopped had left behind.

    Example:
        >>> new = panderm.predict("probe.pred", "new_images/")  # doctest: +SKIP
        >>> new.predicted[:2], new.decision()[:2]  # doctest: +SKIP
    """

    image: Column
    path: Column
    probabilities: Floats
    card: PredictedCard
    resumed: int = 0

    def __len__(self) -> int:
        return len(self.image)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the probabilities."""
        return self.card.classes

    @property
    def predicted(self) -> Column:
        """The most probable class of each image; of several labels all of .5 or more, joined by ``|``."""
        if self.card.link == "sigmoid":
            return _joined(self.probabilities >= 0.5, self.classes)
        best = self.probabilities.argmax(axis=1)
        return np.array([self.classes[k] for k in best], dtype=object)

    def decision(self) -> Column | None:
        """Return what the thresholds say of each image; None where there are none.

        ``positive`` where the probabilities of the positive classes add up to the threshold or more, else
        ``negative``; of several labels all that reach their own, joined by ``|``.
        """
        thresholds = [one for one in self.card.decision if one.threshold is not None]
        if not thresholds:
            return None
        called = np.column_stack([self._reaches(one) for one in thresholds])
        if self.card.link == "sigmoid":
            return _joined(called, [one.positive[0] for one in thresholds])
        return np.where(called[:, 0], "positive", "negative").astype(object)

    def sets(self) -> Flags | None:
        """Return which classes are in the conformal set of each image, bool (n, K); None for no sets."""
        return None if self.card.sets is None else self.card.sets.sets(self.probabilities)

    def counts(self) -> dict[str, int]:
        """Return how many images each class is predicted for, most first."""
        return dict(Counter(str(one) for one in self.predicted).most_common())

    def save(self, path: Path | str, *, overwrite: bool = False) -> PredictedCard:
        """Write the CSV, and its card beside it, and return the card; the CSV is there last, whole.

        Columns: ``image``, ``predicted``, ``p_CLASS`` for each class, ``set`` and ``decision`` where there
        are any. ``panderm evaluate --truth … --proba 'p_*'`` reads it once the truth is joined.

        Raises:
            ArtifactError: ``path`` exists or cannot be written.
        """
        out = Path(path)
        refuse_existing(out, overwrite=overwrite)
        with new_file(out, overwrite=overwrite) as temporary:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(self.header())
                writer.writerows(self.rows())
            card = self.card.model_copy(update={"csv_sha256": sha256_of_file(temporary)})
            write_json(card_path(out), card.model_dump(mode="json"), overwrite=True)
        return card

    def header(self) -> list[str]:
        """Return the names of the columns."""
        more = ["set"] if self.card.sets is not None else []
        more += ["decision"] if self.decision() is not None else []
        return ["image", "predicted", *(f"p_{name}" for name in self.classes), *more]

    def rows(self) -> Iterator[list[str]]:
        """Yield the cells of each row."""
        for start in range(0, len(self), _COLUMNS):
            some = slice(start, start + _COLUMNS)
            part = Predicted(self.image[some], self.path[some], self.probabilities[some], self.card)
            columns: list[Sequence[str]] = [list(part.image), list(part.predicted)]
            columns += [[format(x, ".9g") for x in column] for column in part.probabilities.T]
            if (sets := part.sets()) is not None:
                columns.append(list(_joined(sets, self.classes)))
            if (decision := part.decision()) is not None:
                columns.append(list(decision))
            yield from map(list, zip(*columns, strict=True))

    def _reaches(self, threshold: Threshold) -> Flags:
        columns = [self.classes.index(name) for name in threshold.positive]
        return np.asarray(self.probabilities[:, columns].sum(axis=1) >= threshold.threshold)


def card_path(out: Path) -> Path:
    """Return where the card of an output lies: ``x.card.json`` beside ``x.csv``."""
    return out.with_name(f"{out.stem}.card.json")


def _joined(flags: Flags, names: Sequence[str]) -> Column:
    found = [BETWEEN.join(name for name, there in zip(names, row, strict=True) if there) for row in flags]
    return np.array(found, dtype=object)
