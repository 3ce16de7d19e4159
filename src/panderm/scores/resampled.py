"""How intervals are made: what is drawn, how often, and how an interval is read from the draws.

Whatever can be computed from row weights gets its interval here, be it a score of classes, an operating
point, a calibration error, an overlap of masks or, later, a concordance of survival times: the engine knows
weights and clusters, and nothing of the question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.scores.score import LEVEL, Score
from panderm.statistics.proportions import clustered_interval
from panderm.statistics.resampling import bootstrap, paired_interval, percentile_interval

Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.int32]
EXACT = "exact interval, by whole units: no draw changes it"
Statistic = Callable[[Weights | None], Mapping[str, npt.NDArray[Any]]]


@dataclass(frozen=True)
class Band:
    """A curve with a band of pointwise intervals.

    Attributes:
        value: (m,) on the rows as they are; NaN where it is not computable.
        low: (m,) lower ends, NaN where there is no interval.
        high: (m,) upper ends, likewise.
    """

    value: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@dataclass(frozen=True, eq=False)
class Resampling:
    """Independent units and how they are drawn.

    Attributes:
        clusters: int64 (n,), rows of one unit have the same number; 0, 1, ...
        unit: patient, lesion group or image.
        draws: of the bootstrap.
        seed: of the bootstrap; the same seed and clusters give the same draws.
    """

    clusters: npt.NDArray[np.int64]
    unit: str
    draws: int
    seed: int

    @property
    def units(self) -> int:
        """How many independent units there are."""
        return int(self.clusters.max()) + 1 if len(self.clusters) else 0

    def scores(self, statistic: Statistic, reasons: Mapping[str, str] | None = None) -> dict[str, Score]:
        """Return every number of a statistic with its interval.

        Args:
            statistic: from (B, n) weights, or None for all ones and B = 1, to names and (B,) values.
            reasons: by name, why it is not computable, where it is not.
        """
        values = statistic(None)
        drawn = bootstrap(statistic, self.clusters, self.draws, self.seed)
        return {
            name: self._score(float(value[0]), drawn[name], (reasons or {}).get(name))
            for name, value in values.items()
        }

    def bands(self, statistic: Statistic) -> dict[str, Band]:
        """Return every curve of a statistic with its pointwise band.

        Args:
            statistic: from (B, n) weights, or None, to names and (B, m) values.
        """
        values = statistic(None)
        drawn = bootstrap(statistic, self.clusters, self.draws, self.seed)
        found = {}
        for name, value in values.items():
            ends = [percentile_interval(column, LEVEL)[:2] for column in drawn[name].T]
            found[name] = Band(
                *(
                    tuple(float(x) if np.isfinite(x) else None for x in line)
                    for line in (value[0], [e[0] for e in ends], [e[1] for e in ends])
                )
            )
        return found

    def differences(self, first: Statistic, other: Statistic) -> dict[str, Score]:
        """Return every number of the second minus that of the first, on the same draws."""
        one, two = first(None), other(None)
        drawn = [bootstrap(statistic, self.clusters, self.draws, self.seed) for statistic in (first, other)]
        found = {}
        for name in one:
            value = float(two[name][0] - one[name][0])
            interval = paired_interval(drawn[0][name], drawn[1][name], LEVEL)
            found[name] = Score.of(value, interval, draws=self.draws, reason=None, clusters=self.units)
        return found

    def share(self, score: Score, hit: npt.NDArray[np.bool_], rows: npt.NDArray[np.bool_]) -> Score:
        """Return the score of a share, with the exact interval where none or all of its rows are hits.

        A bootstrap of 12 found of 12 finds 12 in every draw, which would read as certainty.

        Args:
            score: of the share.
            hit: bool (n,), the rows that count for it.
            rows: bool (n,), the rows it is of.
        """
        if not rows.any() or 0 < hit[rows].mean() < 1:
            return score
        low, high = clustered_interval(hit[rows], self.clusters[rows], LEVEL)
        return Score(float(hit[rows].mean()), low, high, EXACT)

    def _score(self, value: float, draws: Floats, reason: str | None) -> Score:
        interval = percentile_interval(draws, LEVEL)
        if np.isfinite(value) and interval[0] == interval[1] == value:
            return Score(value, None, None, "no interval: it is the same in every draw")
        return Score.of(value, interval, draws=len(draws), reason=reason, clusters=self.units)
