"""Predictions of several labels to one HTML page: each label by itself, and all together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panderm.errors import ParentsError, plural
from panderm.predictions import MultiLabelPredictions, open_multi_label
from panderm.provenance import Provenance
from panderm.report.drawing.figures import Drawn
from panderm.report.drawing.label_figures import (
    label_precision_recall_curves,
    label_roc_curves,
    with_label_curve,
)
from panderm.report.page import Page, ScoreRow, banners, pour, score_row
from panderm.report.record import run_record, weights_rows
from panderm.report.saving import Saved
from panderm.report.section import Drawing, Section
from panderm.report.tables import Results, Source
from panderm.report.tables.of_labels import label_results
from panderm.report.validation import scored_where
from panderm.report.words import moment
from panderm.scores import DRAWS, LEVEL, MultiLabelScores
from panderm.scores.multi_label import evaluate_labels

_HEADLINES = ("macro_auroc", "macro_average_precision", "macro_f1", "hamming_loss")
_RANKED = ("auroc", "average_precision")
_CALLED = ("sensitivity", "specificity", "f1", "brier")


@dataclass(frozen=True)
class LabelRow:
    """One label in words: where it is known, and its scores."""

    name: str
    n: int
    positives: int
    unknown: int
    prevalence: ScoreRow
    ranked: list[ScoreRow]
    called: list[ScoreRow]


class MultiLabelReport(Saved):
    """The evaluation of several labels as a page that needs no network, no script, no other file.

    Args:
        predictions: a :class:`panderm.MultiLabelPredictions`, or the folder ``X.pred``; those of any model
            come from a CSV by :func:`panderm.predictions.read_predictions`.
        scores: made from these predictions, or their file; by default they are scored now.
        progress: show progress on standard error.

    Attributes:
        predictions: what was predicted.
        scores: its scores.

    Raises:
        ArtifactError: a folder or file that is not what it should be.
        ParentsError: scores of other predictions.

    Example:
        >>> panderm.MultiLabelReport("signs.pred").save("signs.html")  # doctest: +SKIP
    """

    def __init__(
        self,
        predictions: MultiLabelPredictions | Path | str,
        scores: MultiLabelScores | Path | str | None = None,
        *,
        progress: bool = True,
    ) -> None:
        given = open_multi_label(predictions) if isinstance(predictions, Path | str) else predictions
        if scores is None:
            scores = evaluate_labels(given, draws=DRAWS, seed=0, progress=progress)
        elif isinstance(scores, Path | str):
            scores = MultiLabelScores.open(scores)
        if scores.predictions != given.card.identity:
            raise ParentsError(
                "a report must show scores of its own predictions.",
                f"the scores were made from predictions {scores.predictions[:12]}, "
                f"these are {given.card.identity[:12]}",
                "evaluate these predictions again, or leave the scores out and they are made now",
            )
        self.predictions, self.scores = given, scores

    def _made(self) -> Page:
        now = Provenance.now()
        scores, card = self.scores, self.predictions.card
        return pour(
            "multi_label.html",
            card=card,
            where=scored_where(self.predictions),
            scores=scores,
            units=plural(scores.clusters, scores.unit),
            level=f"{LEVEL:.0%}".replace("%", " %"),
            banners=banners(self.predictions, scores),
            headlines=[score_row(name, scores.scores[name]) for name in _HEADLINES],
            score_rows=[score_row(name, score) for name, score in scores.scores.items()],
            label_rows=_label_rows(scores),
            drawings=_drawings(self.predictions),
            record=run_record(self.predictions),
            weights=weights_rows(card.embeddings) if card.embeddings else [],
            learned=list(self._learned()),
            created=moment(now.created),
            version=now.panderm,
        )

    def _learned(self) -> Sequence[Section]:
        """Return sections on how what predicts was learned; only a run that knows has any."""
        return ()

    def _results(self) -> list[Results]:
        return label_results(self.predictions.card.model, self.scores)

    def _chains(self) -> dict[str, Any]:
        return {self.predictions.card.model: self.predictions.card.model_dump(mode="json")}

    def _sources(self) -> list[Source]:
        return [Source(self.predictions.card.model, self.predictions.card, self.scores)]


def _label_rows(scores: MultiLabelScores) -> list[LabelRow]:
    return [
        LabelRow(
            name=name,
            n=one.n,
            positives=one.positives,
            unknown=one.unknown,
            prevalence=score_row("prevalence", one.scores["prevalence"]),
            ranked=[score_row(which, one.scores[which]) for which in _RANKED],
            called=[score_row(which, one.scores[which]) for which in _CALLED],
        )
        for name, one in scores.per_label.items()
    ]


def _drawings(given: MultiLabelPredictions) -> list[Drawing]:
    trained = given.trained
    drawn = [k for k in with_label_curve(given.truth) if trained[k]]
    left_out = [name for k, name in enumerate(given.classes) if k not in drawn]
    beside = f" Left out: {', '.join(left_out)}." if left_out else ""
    of = "Each label over the images where it is known; its {area}, without interval, is in the legend."
    roc = f"{of.format(area='AUROC')} The dotted diagonal is guessing.{beside}"
    pr = f"{of.format(area='average precision')}{beside}"
    data = (given.truth, given.probabilities, given.classes, drawn)
    curves: Drawn = (None, None)
    steps: Drawn = (None, None)
    if drawn:
        curves, steps = label_roc_curves(*data), label_precision_recall_curves(*data)
    return [
        Drawing("ROC curves", roc, curves[0], points=curves[1], name="roc"),
        Drawing("Precision-recall curves", pr, steps[0], points=steps[1], name="precision_recall"),
    ]
