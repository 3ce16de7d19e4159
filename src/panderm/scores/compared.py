"""What a comparison of predictors found, and how ``comparison.json`` is laid out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from panderm.scores.record import read_scores
from panderm.scores.score import LEVEL, METHOD, Score, as_plain
from panderm.statistics.non_inferiority import NonInferiority
from panderm.storage import write_json


@dataclass(frozen=True)
class ComparedModel:
    """One of the predictors.

    Attributes:
        name: what it is called; two of one name are numbered.
        predictions: hex identity of its predictions, all rows of them.
        split: which split they are of; empty of masks.
        left_out: its rows that not all others have.
        scores: those compared, on the rows that are.
    """

    name: str
    predictions: str
    split: str
    left_out: int
    scores: dict[str, Score]


@dataclass(frozen=True)
class OtherTest:
    """A test of the same difference that goes by other means; it is no part of the family.

    Attributes:
        name: of AUROC ``DeLong``, of accuracy ``McNemar, mid-p`` and ``McNemar, exact``; where rows come in
            clusters, either with ``, clustered (Obuchowski)``.
        p: two-sided; None where there is none.
        note: what it counts, or why there is none.
    """

    name: str
    p: float | None
    note: str


@dataclass(frozen=True)
class ComparedPair:
    """One score of two predictors of the same rows: the other's minus that of the first.

    Attributes:
        first: name of the one compared with.
        other: name of the other.
        score: which.
        difference: in units of the score, with the 95 % interval on the same bootstrap draws; its reason
            where there is none.
        p: two-sided, of the paired permutation test; None where nothing can be said.
        p_holm: the same, corrected by Holm for all pairs and scores of the comparison.
        worlds: how many swaps were compared.
        exact: whether these are all there are.
        tests: other tests of the same difference.
        non_inferiority: against the margin, where one was given.
    """

    first: str
    other: str
    score: str
    difference: Score
    p: float | None
    p_holm: float | None
    worlds: int
    exact: bool
    tests: tuple[OtherTest, ...] = ()
    non_inferiority: NonInferiority | None = None


@dataclass(frozen=True)
class Comparison:
    """Predictors of the same rows, and how far their scores lie apart.

    Attributes:
        models: in their order.
        pairs: every score of every pair that was asked.
        classes: or labels, in their order.
        n: rows compared.
        clusters: independent units that were resampled, and swapped.
        unit: patient, lesion group or image.
        draws: of the bootstrap.
        permutations: swaps asked for.
        seed: of both.
        family: how many p-values were corrected together.
        margin: of non-inferiority, or None.

    Example:
        >>> found = panderm.Comparison.open("comparison.json")  # doctest: +SKIP
        >>> found.pairs[0].difference  # doctest: +SKIP
        Score(value=0.031, low=0.004, high=0.060, reason=None)
    """

    models: tuple[ComparedModel, ...]
    pairs: tuple[ComparedPair, ...]
    classes: tuple[str, ...]
    n: int
    clusters: int
    unit: str
    draws: int
    permutations: int
    seed: int
    family: int
    margin: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what ``comparison.json`` holds: plain numbers, text, lists and None."""
        return {**as_plain(self), "level": LEVEL, "method": METHOD}

    def save(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write ``comparison.json``, whole or not at all, and return its path."""
        write_json(Path(path), self.as_dict(), overwrite=overwrite)
        return Path(path)

    @classmethod
    def open(cls, path: Path | str) -> Comparison:
        """Open a comparison.

        Raises:
            ArtifactError: no such file, or not one that panderm wrote.
        """
        made = read_scores(Path(path), ComparisonFile, noun="comparisons", maker="panderm compare --out")
        kept = dict(made)
        return cls(**{name: kept[name] for name in cls.__dataclass_fields__})


class ComparisonFile(BaseModel):
    """The layout of ``comparison.json``."""

    model_config = ConfigDict(extra="forbid")

    models: tuple[ComparedModel, ...]
    pairs: tuple[ComparedPair, ...]
    classes: tuple[str, ...]
    n: int
    clusters: int
    unit: str
    draws: int
    permutations: int
    seed: int
    family: int
    margin: float | None
    level: float
    method: str
