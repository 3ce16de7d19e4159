"""The cells side by side: which score, how far from the reference, what is best, and the average ranks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from panderm.benches.cells import Cell, Settings, in_a_line
from panderm.errors import PandermError
from panderm.progress import Progress
from panderm.scores import Score
from panderm.scores.paired_test import PairedTest, paired_test
from panderm.statistics.holm import holm
from panderm.statistics.ranks import AverageRanks, average_ranks
from panderm.storage import in_a_path, sha256_of_json, write_json


@dataclass(frozen=True)
class Comparison:
    """One encoder against the reference on one dataset; without a test, the problem that kept it away.

    Attributes:
        dataset: its name.
        encoder: the one that is compared with the reference.
        test: its score minus the reference's, with interval and p-value.
        corrected: the p-value after Holm's correction over all comparisons of the benchmark.
        problem: why there is no test.
    """

    dataset: str
    encoder: str
    test: PairedTest | None
    corrected: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Column:
    """One dataset's cells, in the encoders' order.

    Attributes:
        dataset: its name.
        score: the score that is shown and compared; None where no cell has any.
        cells: one for each encoder.
        best: the encoder with the highest score whose interval of the difference to the second leaves out
            0; None where no encoder stands apart.
    """

    dataset: str
    score: str | None
    cells: tuple[Cell, ...]
    best: str | None = None

    def value(self, encoder: int) -> Score:
        """Return the score shown for an encoder; without a value, and a reason, where there is none."""
        cell = self.cells[encoder]
        if cell.scores is None or self.score is None:
            return Score(None, None, None, cell.problem or "no score")
        if self.score not in cell.scores.scores:
            k = len(cell.scores.classes)
            return Score(None, None, None, f"there is no {self.score} of {k} classes")
        return cell.scores.scores[self.score]

    @property
    def scored(self) -> Cell | None:
        """The first cell that has scores."""
        return next((cell for cell in self.cells if cell.scores is not None), None)


def chosen_score(cells: Sequence[Cell], asked: str | None) -> str | None:
    """Return the score to show: the one asked for, else AUROC of two classes, weighted F1 of more."""
    if asked is not None:
        return asked
    classes = next((len(cell.scores.classes) for cell in cells if cell.scores is not None), None)
    return None if classes is None else ("auroc" if classes == 2 else "weighted_f1")


class Pairs:
    """Paired tests of a benchmark, each made once and kept beside the cells."""

    def __init__(self, out: Path, settings: Settings) -> None:
        self.folder, self.settings = out / "pairs", settings

    def between(self, first: Cell, other: Cell, score: str) -> PairedTest:
        """Return how far the other's score lies from the first's.

        Raises:
            PandermError: the two are not of the same rows, or have no such score.
        """
        assert first.predictions is not None
        assert other.predictions is not None
        its = self.settings
        key = sha256_of_json(
            [
                *(cell.predictions.card.identity for cell in (first, other) if cell.predictions),
                *(score, its.draws, its.permutations, its.seed),
            ]
        )
        names = "--".join(in_a_path(cell.encoder) for cell in (first, other))
        file = self.folder / in_a_path(first.dataset) / f"{names}.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            held = json.loads(file.read_bytes())
            if held["of"] == key:
                return PairedTest.from_dict(held["test"])
        test = paired_test(
            first.predictions,
            other.predictions,
            score,
            draws=its.draws,
            permutations=its.permutations,
            seed=its.seed,
        )
        write_json(file, {"of": key, "test": test.as_dict()}, overwrite=True)
        return test


def compare_all(
    columns: Sequence[Column], reference: int, pairs: Pairs, *, progress: bool
) -> tuple[list[Column], list[Comparison]]:
    """Compare every encoder with the reference on every dataset, and see which is best beyond doubt."""
    compared, found = [], []
    others = [i for i in range(len(columns[0].cells)) if i != reference]
    with Progress(len(columns) * len(others), "compare", "pair", shown=progress) as bar:
        for column in columns:
            for i in others:
                found.append(_against(column, reference, i, pairs))
                bar.advance()
            compared.append(replace(column, best=_best(column, reference, pairs)))
    corrected = holm([one.test.p if one.test else None for one in found])
    return compared, [replace(one, corrected=p) for one, p in zip(found, corrected, strict=True)]


def ranks_of(columns: Sequence[Column]) -> AverageRanks:
    """Return average ranks by the scores shown, over datasets where all encoders with any score have one."""
    values = [[_number(column, i) for column in columns] for i in range(len(columns[0].cells))]
    return average_ranks(np.array(values, dtype=np.float64).reshape(len(values), len(columns)))


def _number(column: Column, encoder: int) -> float:
    value = column.value(encoder).value
    return np.nan if value is None else value


def _against(column: Column, reference: int, i: int, pairs: Pairs) -> Comparison:
    first, other = column.cells[reference], column.cells[i]
    for at in (reference, i):
        value = column.value(at)
        if value.value is None:
            why = f"{column.cells[at].encoder}: {value.reason}"
            return Comparison(column.dataset, other.encoder, None, problem=why)
    assert column.score is not None
    try:
        return Comparison(column.dataset, other.encoder, pairs.between(first, other, column.score))
    except PandermError as error:
        return Comparison(column.dataset, other.encoder, None, problem=in_a_line(error))


def _best(column: Column, reference: int, pairs: Pairs) -> str | None:
    values = [(_number(column, i), -i) for i in range(len(column.cells))]
    ranked = [-i for value, i in sorted(values, reverse=True) if np.isfinite(value)]
    if len(ranked) < 2 or column.score is None:
        return None
    # The reference comes first: a pair that was compared with it is not made again.
    first, other = sorted(ranked[:2], key=lambda i: (i != reference, i))
    try:
        apart = not pairs.between(column.cells[first], column.cells[other], column.score).holds_zero
    except PandermError:
        return None
    return column.cells[ranked[0]].encoder if apart else None
