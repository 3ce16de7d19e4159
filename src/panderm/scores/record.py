"""Scores as they are kept: each a value, its interval or the reason why there is none; ``scores.json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from panderm.errors import ArtifactError
from panderm.storage import write_json

LEVEL = 0.95
METHOD = "percentile bootstrap"


@dataclass(frozen=True)
class Score:
    """A value in its natural range with a 95 % interval; all None, and a reason, where not computable."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return value, low and high, and the reason where there is one."""
        kept = {"value": self.value, "low": self.low, "high": self.high}
        return kept if self.reason is None else {**kept, "reason": self.reason}


@dataclass(frozen=True)
class ClassScores:
    """One class against the rest, on n true rows of it."""

    n: int
    sensitivity: Score
    specificity: Score


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

    def as_dict(self) -> dict[str, Any]:
        """Return what ``scores.json`` holds: plain numbers, text, lists and None."""
        return {
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
            "method": METHOD,
            "split": self.split,
            "predictions": self.predictions,
        }

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
        file = Path(path)
        try:
            held = _ScoresFile.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            raise ArtifactError(
                "scores must exist.", f"found no file {file}", "make them: panderm evaluate"
            ) from None
        except OSError as error:
            found = f"{file}: {error.strerror}"
        except ValidationError as error:
            problem = error.errors()[0]
            where = "".join(f"{part}: " for part in problem["loc"])
            found = f"{file}: {where}{problem['msg']}"
        else:
            return cls._of(held)
        raise ArtifactError(
            "scores must be a file that panderm wrote.", found, "make it with: panderm evaluate"
        )

    @classmethod
    def _of(cls, held: _ScoresFile) -> Scores:
        return cls(
            scores=held.scores,
            per_class=held.per_class,
            confusion=np.array(held.confusion_matrix, dtype=np.int64),
            **{name: getattr(held, name) for name in ("n", "clusters", "unit", "draws", "seed", "split")},
            classes=tuple(held.classes),
            predictions=held.predictions,
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
