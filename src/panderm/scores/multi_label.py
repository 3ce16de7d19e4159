"""Scores of several labels an image: each label by itself, and all together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from panderm.errors import DataError
from panderm.predictions import MultiLabelPredictions
from panderm.progress import Progress
from panderm.scores.record import read_scores
from panderm.scores.resampled import Resampling
from panderm.scores.score import LEVEL, Interval, Score, intervals_in_words
from panderm.statistics.multi_label import (
    LABEL_SCORES,
    THRESHOLD,
    WHOLE_SCORES,
    multi_label_scorer,
    not_computable,
)
from panderm.storage import write_json


@dataclass(frozen=True)
class LabelScores:
    """One label, over the n images where it is known.

    Attributes:
        n: images where it is known.
        positives: those that have it.
        unknown: images where it is not known; they are left out.
        scores: by name: auroc, average_precision, sensitivity, specificity, f1, brier, prevalence.
    """

    n: int
    positives: int
    unknown: int
    scores: dict[str, Score]

    def as_dict(self) -> dict[str, Any]:
        """Return what ``scores.json`` holds of a label."""
        told = {"n": self.n, "positives": self.positives, "unknown": self.unknown}
        return told | {"scores": {name: score.as_dict() for name, score in self.scores.items()}}


@dataclass(frozen=True)
class MultiLabelScores:
    """All scores of one set of predictions of several labels an image.

    Attributes:
        scores: of all labels together: macro_auroc, micro_auroc, macro_average_precision,
            micro_average_precision, macro_f1, micro_f1, macro_brier, subset_accuracy, hamming_loss.
        per_label: by label, in the labels' order.
        threshold: a label is called present where its probability is so high or higher.
        n: rows scored.
        complete: rows of which every label is known: those of subset_accuracy.
        clusters: independent units resampled.
        unit: patient, lesion group or image.
        draws: bootstrap draws.
        seed: of the bootstrap.
        split: which split was scored.
        predictions: hex identity of the predictions.
        interval: how intervals were made, as of :class:`panderm.Scores`.
        stratified: whether units were drawn within the rarest label that they have.

    Example:
        >>> scores = panderm.MultiLabelScores.open("scores.json")  # doctest: +SKIP
        >>> scores.per_label["bleed"].scores["auroc"]  # doctest: +SKIP
        Score(value=0.81, low=0.66, high=0.93, reason=None)
    """

    scores: dict[str, Score]
    per_label: dict[str, LabelScores]
    threshold: float
    n: int
    complete: int
    clusters: int
    unit: str
    draws: int
    seed: int
    split: str
    predictions: str
    interval: Interval = "percentile"
    stratified: bool = False

    @property
    def intervals_in_words(self) -> str:
        """How intervals were made, as ``BCa bootstrap, drawn within classes``."""
        return intervals_in_words(self.interval, stratified=self.stratified)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in their order."""
        return tuple(self.per_label)

    def as_dict(self) -> dict[str, Any]:
        """Return what ``scores.json`` holds: plain numbers, text, lists and None."""
        return {
            "labels": "several",
            "scores": {name: score.as_dict() for name, score in self.scores.items()},
            "per_label": {name: one.as_dict() for name, one in self.per_label.items()},
            **{name: getattr(self, name) for name in ("threshold", "n", "complete", "clusters", "unit")},
            **{name: getattr(self, name) for name in ("draws", "seed")},
            "level": LEVEL,
            "method": self.intervals_in_words,
            "interval": self.interval,
            "stratified": self.stratified,
            "split": self.split,
            "predictions": self.predictions,
        }

    def save(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write ``scores.json``, whole or not at all, and return its path."""
        write_json(Path(path), self.as_dict(), overwrite=overwrite)
        return Path(path)

    @classmethod
    def open(cls, path: Path | str) -> MultiLabelScores:
        """Open a scores file.

        Raises:
            ArtifactError: no such file, or not one that panderm wrote of several labels.
        """
        held = dict(read_scores(Path(path), _ScoresFile))
        for name in ("labels", "level", "method"):
            del held[name]
        return cls(**held)


class _ScoresFile(BaseModel):
    """The layout of ``scores.json`` where an image has several labels."""

    model_config = ConfigDict(extra="forbid")

    labels: str
    scores: dict[str, Score]
    per_label: dict[str, LabelScores]
    threshold: float
    n: int
    complete: int
    clusters: int
    unit: str
    draws: int
    seed: int
    level: float
    method: str
    split: str
    predictions: str
    interval: Interval = "percentile"
    stratified: bool = False


def evaluate_labels(
    given: MultiLabelPredictions,
    *,
    interval: Interval = "percentile",
    stratified: bool = False,
    draws: int,
    seed: int,
    progress: bool = True,
) -> MultiLabelScores:
    """Score predictions of several labels; see :func:`panderm.evaluate`.

    A cell that is not known is left out of the scores of its label, and of those that pool cells; a score of
    all labels needs each of them.

    Args:
        given: predictions.
        interval: how intervals are made.
        stratified: draw units within the rarest label that they have.
        draws: bootstrap draws.
        seed: of the bootstrap.
        progress: show progress on standard error.

    Raises:
        DataError: nothing to score.
        UsageError: no draws, a negative seed, or an unknown interval.
    """
    if not len(given):
        raise DataError("predictions must have rows to be scored.", "found none")
    truth, names = given.truth, given.classes
    within = truth == 1 if stratified else None
    engine = Resampling.of(given, draws=draws, seed=seed, interval=interval, within=within)
    of_labels, of_whole = not_computable(truth, names, given.trained)
    with Progress(engine.steps, "scoring", "draw", shown=progress) as bar:
        drawn = engine.drawn(multi_label_scorer(truth, given.probabilities), bar.advance)

    def score(name: str, reason: str | None, column: int | None = None) -> Score:
        return Score(None, None, None, reason) if reason else drawn.score(name, reason, column)

    called, known, present = given.probabilities >= THRESHOLD, truth >= 0, truth == 1
    per_label = {}
    for k, label in enumerate(names):
        scores = {name: score(name, of_labels[label].get(name), k) for name in LABEL_SCORES}
        has, lacks, of = present[:, k], truth[:, k] == 0, known[:, k]
        scores["auroc"] = engine.area(scores["auroc"], has, given.probabilities[:, k], of)
        scores["sensitivity"] = engine.share(scores["sensitivity"], called[:, k], has)
        scores["specificity"] = engine.share(scores["specificity"], ~called[:, k], lacks)
        scores["prevalence"] = engine.share(scores["prevalence"], has, of)
        per_label[label] = LabelScores(int(of.sum()), int(has.sum()), int((~of).sum()), scores)
    whole = {name: score(name, of_whole.get(name)) for name in WHOLE_SCORES}
    complete = known.min(axis=1)
    right = (called == present).min(axis=1)
    whole["subset_accuracy"] = engine.share(whole["subset_accuracy"], right, complete)
    return MultiLabelScores(
        scores=whole,
        per_label=per_label,
        threshold=THRESHOLD,
        n=len(given),
        complete=int(complete.sum()),
        clusters=engine.units,
        unit=engine.unit,
        draws=draws,
        seed=seed,
        split=given.card.split,
        predictions=given.card.identity,
        interval=interval,
        stratified=stratified,
    )
