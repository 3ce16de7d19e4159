"""How intervals are made: what is drawn, how often, and how an interval is read from the draws.

Whatever can be computed from row weights gets its interval here, be it a score of classes, an operating
point, a calibration error, an overlap of masks or, later, a concordance of survival times: the engine knows
weights and clusters, and nothing of the question.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from panderm.errors import UsageError
from panderm.scores.score import (
    DELONG,
    EXACT,
    LEVEL,
    METHOD,
    SAME,
    WILSON,
    Interval,
    Score,
    require_interval,
)
from panderm.statistics.bca import GROUPS, Jackknife, bca_interval, jackknife
from panderm.statistics.delong import delong, delong_interval
from panderm.statistics.proportions import clustered_interval
from panderm.statistics.resampling import bootstrap, class_strata, cluster_codes, percentile_interval

Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.int32]
Statistic = Callable[[Weights | None], Mapping[str, npt.NDArray[Any]]]
_NO_SPREAD = 1e-12


class OfUnits(Protocol):
    """Rows that know their patient or their lesion group, or neither."""

    @property
    def patient(self) -> npt.NDArray[np.object_] | None: ...

    @property
    def group(self) -> npt.NDArray[np.object_] | None: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Band:
    """A curve with a band of pointwise intervals, percentiles of the draws.

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
    """Independent units, how they are drawn, and how intervals are made.

    Attributes:
        clusters: int64 (n,), rows of one unit have the same number; 0, 1, ...
        unit: patient, lesion group or image.
        draws: of the bootstrap.
        seed: of the bootstrap; the same seed and clusters give the same draws.
        interval: "percentile" and "bca" are read from the draws. "analytic" is by formula where there is one,
            for shares and AUROC, else percentiles.
        strata: int64 (n,), equal within a unit, where draws are made within them.
    """

    clusters: npt.NDArray[np.int64]
    unit: str
    draws: int
    seed: int
    interval: Interval = "percentile"
    strata: npt.NDArray[np.int64] | None = None

    @classmethod
    def of(
        cls,
        given: OfUnits,
        *,
        draws: int,
        seed: int,
        interval: Interval = "percentile",
        within: npt.NDArray[np.bool_] | None = None,
    ) -> Resampling:
        """Return how the units of some rows are drawn.

        Args:
            given: predictions, n rows.
            draws: of the bootstrap.
            seed: of the bootstrap.
            interval: how intervals are made.
            within: (n, K) the classes that each row shows, where units are drawn within them.

        Raises:
            UsageError: no draws, a negative seed, or an unknown interval.
        """
        if draws < 1 or seed < 0:
            raise UsageError(
                "--draws must be at least 1 and --seed not negative.", f"found {draws} and {seed}"
            )
        require_interval(interval)
        clusters, unit = cluster_codes(given.patient, given.group, len(given))
        strata = None if within is None else class_strata(clusters, within)
        return cls(clusters, unit, draws, seed, interval, strata)

    @property
    def units(self) -> int:
        """How many independent units there are."""
        return int(self.clusters.max()) + 1 if len(self.clusters) else 0

    @property
    def steps(self) -> int:
        """How many rows of weights a statistic is computed for, about."""
        return self.draws + (min(self.units, GROUPS) if self.interval == "bca" else 0)

    def among(self, rows: npt.NDArray[Any]) -> Resampling:
        """Return the resampling of some rows alone: their units, as many as there are of them."""
        clusters = np.unique(self.clusters[rows], return_inverse=True)[1].astype(np.int64)
        return replace(self, clusters=clusters, strata=None if self.strata is None else self.strata[rows])

    def drawn(
        self,
        statistic: Statistic,
        advance: Callable[[int], None] | None = None,
        *,
        plain: Collection[str] = (),
    ) -> Drawn:
        """Compute a statistic on the rows as they are, on every draw and, for BCa, without each unit.

        Args:
            statistic: from (B, n) weights, or None for all ones and B = 1, to names and (B, ...) values.
                Several threads call it at the same time.
            advance: told how many rows of weights are done, ``steps`` in all.
            plain: names that have percentiles where BCa is asked for, since draws compute them in another
                way than the rows as they are.
        """
        values = statistic(None)
        draws = bootstrap(
            statistic, self.clusters, self.draws, self.seed, strata=self.strata, advance=advance
        )
        left_out = None
        if self.interval == "bca":
            left_out = jackknife(
                statistic, self.clusters, strata=self.strata, seed=self.seed, advance=advance
            )
            for name in plain:
                left_out.values.pop(name, None)
        return Drawn(self, dict(values), draws, left_out)

    def scores(
        self,
        statistic: Statistic,
        reasons: Mapping[str, str] | None = None,
        *,
        plain: Collection[str] = (),
    ) -> dict[str, Score]:
        """Return every number of a statistic with its interval.

        Args:
            statistic: from (B, n) weights, or None for all ones and B = 1, to names and (B,) values.
            reasons: by name, why it is not computable, where it is not.
            plain: as of :meth:`drawn`.
        """
        drawn = self.drawn(statistic, plain=plain)
        return {name: drawn.score(name, (reasons or {}).get(name)) for name in drawn.values}

    def bands(self, statistic: Statistic) -> dict[str, Band]:
        """Return every curve of a statistic with its pointwise band.

        Args:
            statistic: from (B, n) weights, or None, to names and (B, m) values.
        """
        drawn = replace(self, interval="percentile").drawn(statistic)
        return {name: drawn.band(name) for name in drawn.values}

    def differences(
        self, first: Statistic, other: Statistic, *, plain: Collection[str] = ()
    ) -> dict[str, Score]:
        """Return every number of the second minus that of the first, on the same draws.

        Args:
            first: as of :meth:`scores`.
            other: likewise.
            plain: as of :meth:`drawn`.
        """
        one, two = self.drawn(first, plain=plain), self.drawn(other, plain=plain)
        return {name: two.minus(one, name) for name in one.values}

    def share(self, score: Score, hit: npt.NDArray[np.bool_], rows: npt.NDArray[np.bool_]) -> Score:
        """Return the score of a share with an interval by formula, where one is asked for or draws have none.

        A bootstrap of 12 found of 12 finds 12 in every draw, which would read as certainty: the interval is
        then the exact one. With "analytic" it is Wilson's, always. Both are by the effective n of the units.

        Args:
            score: of the share.
            hit: bool (n,), the rows that count for it.
            rows: bool (n,), the rows it is of.
        """
        if not rows.any() or score.value is None:
            return score
        value = float(hit[rows].mean())
        exact = self.interval != "analytic"
        if exact and 0 < value < 1 and score.reason != SAME:
            return score
        low, high = clustered_interval(hit[rows], self.clusters[rows], LEVEL, exact=exact)
        return Score(score.value, low, high, method=EXACT if exact else WILSON)

    def area(
        self, score: Score, positive: npt.NDArray[np.bool_], ranked: Floats, rows: npt.NDArray[Any]
    ) -> Score:
        """Return the score of an AUROC, with "analytic" by DeLong's variance on the scale of log odds.

        Args:
            score: of the AUROC.
            positive: bool (n,), the class sought.
            ranked: (n,) its probabilities.
            rows: (n,) bool or positions, the rows it is of.
        """
        sought = positive[rows]
        if self.interval != "analytic" or score.value is None or not 0 < sought.mean() < 1:
            return score
        clusters = self.clusters[rows]
        alone = len(np.unique(clusters)) == len(clusters)
        value, variance = delong(sought, ranked[rows], None if alone else clusters)
        low, high = delong_interval(float(value[0]), float(variance[0, 0]), LEVEL)
        # Without a variance, or with none to speak of, the draws say what there is to say.
        return Score(score.value, low, high, method=DELONG) if low < high else score


@dataclass(frozen=True, eq=False)
class Drawn:
    """A statistic on the rows as they are, on every draw, and without each unit.

    Attributes:
        of: how units were drawn.
        values: by name, (1, ...).
        draws: by name, (B, ...).
        left_out: for BCa.
    """

    of: Resampling
    values: dict[str, npt.NDArray[Any]]
    draws: dict[str, npt.NDArray[Any]]
    left_out: Jackknife | None = None

    def score(self, name: str, reason: str | None = None, column: int | None = None) -> Score:
        """Return one number with its interval.

        Args:
            name: of the values.
            reason: why it is not computable, where it is not.
            column: which of (B, m) values; None of (B,).
        """
        value, draws, left_out = self._numbers(name, column)
        told = self._told(value, draws, left_out, reason)
        return replace(told, low=None, high=None, reason=SAME, method=None) if _is_fixed(told) else told

    def band(self, name: str) -> Band:
        """Return one curve, (B, m) values, with its pointwise band."""
        ends = np.array([percentile_interval(column, LEVEL)[:2] for column in self.draws[name].T])
        lines = (self.values[name][0], *ends.reshape(-1, 2).T)
        return Band(*(tuple(float(x) if np.isfinite(x) else None for x in line) for line in lines))

    def minus(self, first: Drawn, name: str, reason: str | None = None, *, other: str | None = None) -> Score:
        """Return how far a number lies above another of the same draws, with the interval of that difference.

        What makes a draw hard for both cancels; their own intervals, side by side, do not show that.

        Args:
            first: what is subtracted, of the same units, draws and seed.
            name: of the values of both, or of ``first`` alone.
            reason: why it is not computable, where it is not.
            other: the name here, where it is not the same.
        """
        one, two = first._numbers(name, None), self._numbers(other or name, None)
        left_out = None if one[2] is None or two[2] is None else two[2] - one[2]
        return self._told(two[0] - one[0], two[1] - one[1], left_out, reason)

    def _numbers(self, name: str, column: int | None) -> tuple[float, Floats, Floats | None]:
        at = (slice(None),) if column is None else (slice(None), column)
        left_out = None if self.left_out is None else self.left_out.values.get(name)
        value, draws = self.values[name][at], self.draws[name][at]
        return float(value[0]), draws, None if left_out is None else left_out[at]

    def _told(self, value: float, draws: Floats, left_out: Floats | None, reason: str | None) -> Score:
        low, high, used = percentile_interval(draws, LEVEL)
        told = Score.of(value, (low, high, used), draws=len(draws), reason=reason, clusters=self.of.units)
        if told.low is None or self.of.interval == "percentile":
            return told
        if self.left_out is not None and left_out is not None:
            low, high, _ = bca_interval(draws, value, left_out, LEVEL, strata=self.left_out.strata)
            if np.isfinite(low):
                return replace(told, low=low, high=high)
        return replace(told, method=METHOD)


def _is_fixed(told: Score) -> bool:
    return told.low is not None and told.high is not None and told.high - told.low <= _NO_SPREAD
