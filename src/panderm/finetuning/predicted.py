"""Validation and test rows as the finished classifier sees them: predictions like a probe's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.classifying.calibrated import Calibration, calibrated
from panderm.classifying.classifier import Classifier
from panderm.embeddings import Embeddings
from panderm.errors import ArtifactError, some
from panderm.finetuning.rows import Positions, Rows
from panderm.fitted import FittedLinear
from panderm.predictions import MultiLabelPredictions, Predictions, PredictionsCard
from panderm.predictions.card import ValidationRows
from panderm.provenance import Provenance

Either = Predictions | MultiLabelPredictions
CAUTION = "these rows also chose the epoch: what is measured on them looks better than on new images"


def method_of(rows: Rows, training: dict[str, Any], *, percent_data: float, seed: int) -> dict[str, Any]:
    """Return what was decided before the fit, as the card of predictions tells it."""
    shown = {name: n for name, n in rows.counts(rows.train).items() if n}
    return {
        **training,
        "train split": "train",
        "train rows": len(rows.train),
        "train rows per class": shown,
        "percent of training data": 100 * percent_data,
        "seed": seed,
    }


class Predicting:
    """Makes predictions of parts of a run's rows.

    Args:
        rows: of the run.
        classifier: finished.
        embeddings: of the run's rows by its encoder, in the table's order.
        method: what was decided before the fit.
        outcome: what it found.
        seconds: of the fit.
    """

    def __init__(
        self,
        rows: Rows,
        classifier: Classifier,
        embeddings: Embeddings,
        *,
        method: dict[str, Any],
        outcome: dict[str, Any],
        seconds: float,
    ) -> None:
        self.rows, self.classifier, self.embeddings = rows, classifier, embeddings
        self.method, self.outcome, self.seconds = method, outcome, seconds
        place = {str(image): i for i, image in enumerate(embeddings.rows.image)}
        self._places = np.array([place.get(str(image), -1) for image in rows.table.image], dtype=np.int64)

    def of(
        self,
        part: str,
        *,
        head: FittedLinear | None = None,
        probabilities: npt.NDArray[np.float64] | None = None,
        method: dict[str, Any] | None = None,
        beside: Predictions | None = None,
    ) -> Either:
        """Return predictions of the rows of a part.

        Args:
            part: ``val`` or ``test``.
            head: of the classifier, by default as it stands in its file.
            probabilities: (n, K), where they are made in another way than by the head from embeddings.
            method: what else was decided, where that is so.
            beside: validation rows to lie beside.
        """
        positions: Positions = getattr(self.rows, part)
        head = head or self.classifier.head
        at = self._places[positions]
        if (at < 0).any():
            lost = [str(image) for image in self.rows.table.image[positions[at < 0]]]
            raise ArtifactError(
                "an image must stay readable while a run uses it.",
                f"of {part} could not be embedded: {some(lost)}",
                "put the files back, and run the same command again",
            )
        seen = self.embeddings.select(at)
        made_by = head if probabilities is None else None
        if probabilities is None:
            probabilities = head.probabilities(seen.vectors)
        several = self.rows.labels == "several"
        path = self.embeddings.path
        told = None if beside is None else ValidationRows(split="val", rows=len(beside))
        card = PredictionsCard(
            task="fine-tuning of several labels" if several else "fine-tuning",
            method={**self.method, **(method or {})},
            outcome=self.outcome,
            classes=self.rows.classes,
            labels=self.rows.labels,
            split=part,
            rows=len(positions),
            embeddings=self.embeddings.card,
            validation=told,
            folders={} if path is None else {self.embeddings.card.identity: str(path.absolute())},
            provenance=Provenance.now(seconds=self.seconds),
        )
        here = self.rows.table.select(positions)
        who = {name: getattr(here, name) for name in ("image", "path", "sha256", "patient", "group")}
        if several:
            return MultiLabelPredictions(
                **who,
                truth=self.rows.truth[positions],
                probabilities=probabilities,
                card=card,
                fitted=made_by,
            )
        return Predictions(
            **who,
            truth=here.label,
            probabilities=probabilities,
            card=card,
            fitted=made_by,
            validation=beside,
        )


def calibrate(predicting: Predicting, *, temperature: bool) -> tuple[FittedLinear, Calibration]:
    """Return the head with what the validation rows decided for it."""
    head = replace(predicting.classifier.head, temperature=1.0)
    validation = predicting.of("val", head=head)
    return calibrated(head, validation, temperature=temperature, caution=CAUTION)
