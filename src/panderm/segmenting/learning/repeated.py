"""What came of several runs: means with intervals over patients, and how far apart the runs lie."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.errors import ArtifactError, plural
from panderm.scores.resampled import Drawn, Resampling
from panderm.scores.score import Score
from panderm.segmenting.learning.finished import Trained

Floats = npt.NDArray[np.float64]

TABLE, RECORD = "repeats.csv", "repeats.json"
SCORES = ("jaccard", "dice", "thresholded_jaccard", "boundary_f", "hd95")
FIRST = "jaccard"


@dataclass(frozen=True)
class Group:
    """Runs that are told of together.

    Attributes:
        title: what they have in common.
        value: the same as a number; None of all together.
        parts: of each set of images, the runs that were scored on it; folds have several sets.
    """

    title: str
    value: float | None
    parts: tuple[tuple[Trained, ...], ...]

    @property
    def runs(self) -> tuple[Trained, ...]:
        """All of them."""
        return tuple(run for part in self.parts for run in part)


@dataclass(frozen=True)
class Row:
    """What came of some runs.

    Attributes:
        title: what they have in common.
        value: the same as a number; None of all together.
        runs: names of their folders.
        train: images that each learned from, the mean.
        n: images scored.
        scores: by name, the mean of the runs' means over images, with an interval over patients; what the
            runs differ by besides is not in it.
        each: by name, the mean of each run.
        sd: by name, the standard deviation between runs, by n − 1; None of one run.
        against: by name, the mean minus that of the last part, on the same draws; empty elsewhere.
    """

    title: str
    value: float | None
    runs: tuple[str, ...]
    train: float
    n: int
    scores: dict[str, Score]
    each: dict[str, tuple[float, ...]]
    sd: dict[str, float | None]
    against: dict[str, Score] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers and text."""
        plain = {name: getattr(self, name) for name in ("title", "value", "train", "n", "sd")}
        each = {name: [None if np.isnan(x) else x for x in values] for name, values in self.each.items()}
        told = {
            name: {score: held.as_dict() for score, held in getattr(self, name).items()}
            for name in ("scores", "against")
        }
        return {**plain, "runs": list(self.runs), "each": each, **told}

    @classmethod
    def of(cls, held: dict[str, Any]) -> Row:
        """Return the row that :meth:`as_dict` told."""
        told = {
            name: {score: Score(**_fields(one)) for score, one in held[name].items()}
            for name in ("scores", "against")
        }
        each = {
            name: tuple(np.nan if x is None else float(x) for x in xs) for name, xs in held["each"].items()
        }
        return cls(**{**held, "runs": tuple(held["runs"]), "each": each, **told})


@dataclass(frozen=True)
class Repeated:
    """Several finished runs beside each other.

    Attributes:
        folder: that holds them, and their table.
        rows: what came of them: a row a seed, a fold or a part of the training rows, then of all together.
        facts: what was repeated, and what the intervals rest on.
    """

    folder: Path
    rows: list[Row]
    facts: dict[str, Any]

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / "repeats.html"

    def as_dict(self) -> dict[str, Any]:
        """Return what ``repeats.json`` holds."""
        return {**self.facts, "rows": [row.as_dict() for row in self.rows], "report": str(self.report)}

    def table(self) -> str:
        """Return the table as CSV: a row for each row and score."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        ends = ("value", "low", "high")
        facts = ("unit", "units", "draws", "bootstrap_seed")
        names = (self.facts["kind"], "score", *ends, "sd_of_runs", "runs", "each", "train_images", "images")
        writer.writerow([*names, *(f"difference_{end}" for end in ends), *facts])
        for row in self.rows:
            for name, score in row.scores.items():
                against = row.against.get(name) or Score(None, None, None)
                each = " ".join(f"{value:.6g}" for value in row.each[name])
                writer.writerow(
                    [row.title, name, *(getattr(score, end) for end in ends), row.sd[name], len(row.runs)]
                    + [each, f"{row.train:g}", row.n, *(getattr(against, end) for end in ends)]
                    + [self.facts[name] for name in facts]
                )
        return text.getvalue()

    def in_words(self) -> list[str]:
        """Return what came of them, a line each."""
        facts = self.facts
        lines = [
            f"{FIRST} at native size, mean over images (95 % interval over "
            f"{plural(facts['units'], facts['unit'])}, {facts['draws']:,} draws, seed "
            f"{facts['bootstrap_seed']}; SD: between runs):"
        ]
        for row in self.rows:
            score, sd = row.scores[FIRST], row.sd[FIRST]
            text = f"  {row.title} ({plural(round(row.train), 'image')} learned from): {_value(score)}"
            text += "" if sd is None else f", SD {sd:.3f} of {plural(len(row.runs), 'run')}"
            if FIRST in row.against:
                text += f"; to all {_value(row.against[FIRST], sign='+')}"
            lines.append(text)
        return [*lines, f"table: {self.folder / TABLE}", f"report: {self.report.resolve()}"]


def _value(score: Score, sign: str = "") -> str:
    if score.value is None:
        return score.reason or "not computable"
    ends = "" if score.low is None else f" ({score.low:{sign}.3f} to {score.high:{sign}.3f})"
    return f"{score.value:{sign}.3f}{ends}"


def _fields(held: dict[str, Any]) -> dict[str, Any]:
    return {name: held.get(name) for name in ("value", "low", "high", "reason", "method")}


@dataclass(frozen=True, eq=False)
class _Images:
    """All images that any run was scored on: whose they are, for the bootstrap."""

    image: npt.NDArray[np.object_]
    patient: npt.NDArray[np.object_] | None
    group: npt.NDArray[np.object_] | None

    def __len__(self) -> int:
        return len(self.image)


def compared(
    groups: Sequence[Group], *, draws: int, seed: int, against_last: bool = False
) -> tuple[list[Row], dict[str, Any]]:
    """Compare runs by the images they were scored on, on the same draws of patients.

    Args:
        groups: which are told of together.
        draws: of the bootstrap.
        seed: of the bootstrap.
        against_last: compare each with the last; all were scored on the same images.

    Returns:
        A row a group, and what the intervals rest on.

    Raises:
        ArtifactError: a run's table of images is not what its folder should hold.
    """
    frames = {run.folder: _frame(run) for group in groups for run in group.runs}
    whole = pd.concat(list(frames.values())).drop_duplicates("image").sort_values("image")
    columns = {
        role: _known(whole, name) for role, name in (("patient", "patient_id"), ("group", "lesion_id"))
    }
    images = _Images(whole["image"].to_numpy(dtype=object), **columns)
    engine = Resampling.of(images, draws=draws, seed=seed)
    place = {str(name): i for i, name in enumerate(images.image)}
    values = {folder: _laid_out(frame, place) for folder, frame in frames.items()}

    def statistic(weights: Any) -> dict[str, Floats]:
        w = np.ones((1, len(images))) if weights is None else np.asarray(weights, dtype=np.float64)
        found: dict[str, Floats] = {}
        for i, group in enumerate(groups):
            for score, means in _means(group, values, w).items():
                found[f"{i} {score}"] = means
        return found

    drawn = engine.drawn(statistic)
    last = len(groups) - 1 if against_last else None
    rows = [_row(group, i, last, drawn, values) for i, group in enumerate(groups)]
    facts = {
        "images": len(images),
        "unit": engine.unit,
        "units": engine.units,
        "draws": engine.draws,
        "bootstrap_seed": engine.seed,
        "scored": groups[0].runs[0].scored,
    }
    return rows, facts


def _frame(run: Trained) -> pd.DataFrame:
    frame = pd.read_csv(run.masks_table, dtype={"image": str, "patient_id": str, "lesion_id": str})
    missing = [name for name in ("image", *SCORES) if name not in frame]
    if missing or not len(frame):
        raise ArtifactError(
            "a run must have a table of its masks' scores.",
            f"{run.masks_table} lacks {', '.join(missing) or 'rows'}",
            "train it again with --overwrite",
        )
    return frame


def _known(frame: pd.DataFrame, name: str) -> npt.NDArray[np.object_] | None:
    """Return a column of names, None where a cell is empty; None where no cell holds one."""
    if name not in frame or frame[name].isna().all():
        return None
    return frame[name].astype(object).where(frame[name].notna(), None).to_numpy(dtype=object)


def _laid_out(frame: pd.DataFrame, place: dict[str, int]) -> Floats:
    """Return the scores of a run's images at the places of all, (n, S), NaN where it has none."""
    found = np.full((len(place), len(SCORES)), np.nan)
    found[[place[str(name)] for name in frame["image"]]] = frame[list(SCORES)].to_numpy(dtype=np.float64)
    return found


def _means(group: Group, values: dict[Path, Floats], weights: Floats) -> dict[str, Floats]:
    """Return the means over images of a group's runs, averaged over the runs of each set of images."""
    sums = np.zeros((len(weights), len(SCORES)))
    images = np.zeros_like(sums)
    for part in group.parts:
        for run in part:
            table = values[run.folder]
            known = np.isfinite(table)
            sums += weights @ np.where(known, table, 0.0) / len(part)
            images += weights @ known.astype(np.float64) / len(part)
    means = np.divide(sums, images, out=np.full(sums.shape, np.nan), where=images > 0)
    return dict(zip(SCORES, means.T, strict=True))


def _row(group: Group, i: int, last: int | None, drawn: Drawn, values: dict[Path, Floats]) -> Row:
    one = np.ones((1, len(next(iter(values.values())))))
    alone = [_means(Group("", None, ((run,),)), values, one) for run in group.runs]
    each = {score: tuple(float(found[score][0]) for found in alone) for score in SCORES}
    several = len(alone) > 1
    scored = np.stack([np.isfinite(values[run.folder]).any(axis=1) for run in group.runs])
    return Row(
        title=group.title,
        value=group.value,
        runs=tuple(run.folder.name for run in group.runs),
        train=float(np.mean([run.card.rows["train"] for run in group.runs])),
        n=int(scored.any(axis=0).sum()),
        scores={score: drawn.score(f"{i} {score}") for score in SCORES},
        each=each,
        sd={score: float(np.std(xs, ddof=1)) if several else None for score, xs in each.items()},
        against={}
        if last is None or i == last
        else {score: drawn.minus(drawn, f"{last} {score}", other=f"{i} {score}") for score in SCORES},
    )
