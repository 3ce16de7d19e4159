"""Scores as they are kept: each a value, its interval or the reason why there is none; ``scores.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from panderm.errors import ArtifactError, plural
from panderm.scores.calibration import Calibration
from panderm.scores.folds import Folds
from panderm.scores.hierarchy import Hierarchy
from panderm.scores.operating import Operating
from panderm.scores.prediction_sets import PredictionSets
from panderm.scores.score import LEVEL, Interval, Score, as_plain, intervals_in_words
from panderm.scores.selective import Selective
from panderm.storage import write_json


@dataclass(frozen=True)
class ClassScores:
    """One class against the rest, on n true rows of it."""

    n: int
    sensitivity: Score
    specificity: Score


@dataclass(frozen=True)
class LevelScores:
    """One level of a column: its rows, and how they fare against all others.

    Attributes:
        level: the cells' value, or the band.
        n: rows.
        clusters: independent units among them.
        classes: rows by true class, in the classes' order.
        scores: by name, as of the whole; of two classes ``sensitivity`` and ``specificity`` too.
        gaps: by name, the score minus that of all other rows, with the interval of that difference.
    """

    level: str
    n: int
    clusters: int
    classes: dict[str, int]
    scores: dict[str, Score]
    gaps: dict[str, Score]


@dataclass(frozen=True)
class SubgroupColumn:
    """One column's levels.

    Attributes:
        column: its name.
        levels: those that have rows, in order.
        cut: how numbers were cut into bands, in words; None where the values stand as they are.
        unseen: values of the whole table that no scored row has.
        error: how often the column is right, where it is known to be an estimate.
    """

    column: str
    levels: tuple[LevelScores, ...]
    cut: str | None = None
    unseen: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Subgroups:
    """Scores by the levels of columns.

    Attributes:
        columns: each column's levels, in the order asked for.
        file: the table that the columns were read from.
        sha256: hex SHA-256 of its bytes.
        image_column: its column with the images' names.
        fewest_units: a group of fewer independent units, or with fewer that show a class which the score
            needs, has no score.
    """

    columns: tuple[SubgroupColumn, ...]
    file: str
    sha256: str
    image_column: str
    fewest_units: int

    def as_dict(self) -> dict[str, Any]:
        """Return what ``scores.json`` holds under ``subgroups``."""
        told = asdict(self)
        for column, kept in zip(self.columns, told["columns"], strict=True):
            for level, one in zip(column.levels, kept["levels"], strict=True):
                for side in ("scores", "gaps"):
                    one[side] = {name: score.as_dict() for name, score in getattr(level, side).items()}
        plain: dict[str, Any] = json.loads(json.dumps(told))  # lists for tuples
        return plain


@dataclass(frozen=True)
class Scores:
    """All scores of one set of predictions.

    Attributes:
        scores: by name: accuracy, balanced_accuracy, weighted_f1, macro_f1, auroc (two classes) or
            auroc_ovo and auroc_ovr, average_precision, quadratic_kappa.
        per_class: by class, in the classes' order.
        confusion: int64 (K, K), rows true, columns predicted.
        classes: in their order.
        n: rows scored.
        clusters: independent units resampled.
        unit: patient, lesion group or image.
        draws: bootstrap draws.
        seed: of the bootstrap.
        split: which split was scored.
        predictions: hex identity of the predictions.
        subgroups: scores by the levels of columns, where they were asked for.
        folds: scores of each fold and over them, where the predictions are out of fold.
        row: what a row is: image, or lesion or patient, where all images of one were predicted as one.
        operating: thresholds chosen on validation rows, and what they do on these.
        calibration: whether probabilities are right as often as they say.
        prediction_sets: conformal sets and what they cover.
        selective: what is left of the errors where the least sure rows are left to a person.
        hierarchy: scores of each level of the diagnosis hierarchy.
        top_k: how often the true class is among the 2, 3 and 5 most probable, where there are more classes.
        interval: how intervals were made: percentile, bca or analytic. Where one was made otherwise, its
            score says how.
        stratified: whether units were drawn within the classes that they show.

    Example:
        >>> scores = panderm.Scores.open("scores.json")  # doctest: +SKIP
        >>> scores.per_class["mel"].sensitivity  # doctest: +SKIP
        Score(value=0.743, low=0.629, high=0.846, reason=None)
    """

    scores: dict[str, Score]
    per_class: dict[str, ClassScores]
    confusion: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    n: int
    clusters: int
    unit: str
    draws: int
    seed: int
    split: str
    predictions: str
    subgroups: Subgroups | None = None
    folds: Folds | None = None
    row: str = "image"
    operating: Operating | None = None
    calibration: Calibration | None = None
    prediction_sets: PredictionSets | None = None
    selective: Selective | None = None
    hierarchy: Hierarchy | None = None
    top_k: dict[str, Score] | None = None
    interval: Interval = "percentile"
    stratified: bool = False

    @property
    def intervals_in_words(self) -> str:
        """How intervals were made, as ``BCa bootstrap, drawn within classes``."""
        return intervals_in_words(self.interval, stratified=self.stratified)

    @property
    def of_units(self) -> str:
        """What follows "54 lesions": ``of 31 patients`` where larger units are drawn, else nothing."""
        if self.unit in ("image", self.row) or (self.row, self.unit) == ("lesion", "lesion group"):
            return ""
        return f" of {plural(self.clusters, self.unit)}"

    def as_dict(self) -> dict[str, Any]:
        """Return what ``scores.json`` holds: plain numbers, text, lists and None."""
        told = {
            "scores": {name: score.as_dict() for name, score in self.scores.items()},
            "per_class": {
                name: {
                    "n": c.n,
                    "sensitivity": c.sensitivity.as_dict(),
                    "specificity": c.specificity.as_dict(),
                }
                for name, c in self.per_class.items()
            },
            "confusion_matrix": self.confusion.tolist(),
            "classes": list(self.classes),
            "n": self.n,
            "clusters": self.clusters,
            "unit": self.unit,
            "draws": self.draws,
            "seed": self.seed,
            "level": LEVEL,
            "method": self.intervals_in_words,
            "interval": self.interval,
            "stratified": self.stratified,
            "split": self.split,
            "predictions": self.predictions,
        }
        told |= {} if self.row == "image" else {"row": self.row}
        further = {"subgroups": self.subgroups, "folds": self.folds}
        told |= {name: held.as_dict() for name, held in further.items() if held is not None}
        sections = {name: getattr(self, name) for name in _SECTIONS}
        return told | {name: as_plain(held) for name, held in sections.items() if held is not None}

    def save(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write ``scores.json``, whole or not at all, and return its path."""
        write_json(Path(path), self.as_dict(), overwrite=overwrite)
        return Path(path)

    @classmethod
    def open(cls, path: Path | str) -> Scores:
        """Open a scores file.

        Raises:
            ArtifactError: no such file, or not one that panderm wrote.
        """
        return cls._of(read_scores(Path(path), _ScoresFile))

    @classmethod
    def _of(cls, held: _ScoresFile) -> Scores:
        return cls(
            scores=held.scores,
            per_class=held.per_class,
            confusion=np.array(held.confusion_matrix, dtype=np.int64),
            **{name: getattr(held, name) for name in ("n", "clusters", "unit", "draws", "seed", "split")},
            classes=tuple(held.classes),
            predictions=held.predictions,
            subgroups=held.subgroups,
            folds=held.folds,
            row=held.row,
            interval=held.interval,
            stratified=held.stratified,
            **{name: getattr(held, name) for name in _SECTIONS},
        )


class _ScoresFile(BaseModel):
    """The layout of ``scores.json``."""

    model_config = ConfigDict(extra="forbid")

    scores: dict[str, Score]
    per_class: dict[str, ClassScores]
    confusion_matrix: list[list[int]]
    classes: list[str]
    n: int
    clusters: int
    unit: str
    draws: int
    seed: int
    level: float
    method: str
    split: str
    predictions: str
    subgroups: Subgroups | None = None
    folds: Folds | None = None
    row: str = "image"
    operating: Operating | None = None
    calibration: Calibration | None = None
    prediction_sets: PredictionSets | None = None
    selective: Selective | None = None
    hierarchy: Hierarchy | None = None
    top_k: dict[str, Score] | None = None
    interval: Interval = "percentile"
    stratified: bool = False


_SECTIONS = ("operating", "calibration", "prediction_sets", "selective", "hierarchy", "top_k")
_Layout = TypeVar("_Layout", bound=BaseModel)


def read_scores(
    file: Path, layout: type[_Layout], *, noun: str = "scores", maker: str = "panderm evaluate"
) -> _Layout:
    """Read a scores file of a layout.

    Args:
        file: JSON.
        layout: what it must hold.
        noun: what it is called, for the messages.
        maker: the command that makes one.

    Raises:
        ArtifactError: no such file, or not one that panderm wrote.
    """
    try:
        return layout.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise ArtifactError(f"{noun} must exist.", f"found no file {file}", f"make them: {maker}") from None
    except OSError as error:
        found = f"{file}: {error.strerror}"
    except ValidationError as error:
        problem = error.errors()[0]
        where = "".join(f"{part}: " for part in problem["loc"])
        found = f"{file}: {where}{problem['msg']}"
    raise ArtifactError(f"{noun} must be a file that panderm wrote.", found, f"make it with: {maker}")
