"""Curves to scores: every point with its spread, and how many labels equal another encoder with all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.errors import UsageError, did_you_mean
from panderm.probing.curve_fits import FittedCurve
from panderm.progress import Progress
from panderm.statistics.classification import classification_scores, not_computable, score_names
from panderm.statistics.label_efficiency import (
    Crossing,
    Spread,
    crossing,
    repeat_weights,
    separate,
    weighted_means,
)
from panderm.statistics.resampling import cluster_bootstrap, cluster_codes

Floats = npt.NDArray[np.float64]
METHOD = "two-way percentile bootstrap of test units and draws of labels (Owen, 2007)"


@dataclass(frozen=True)
class PointScores:
    """One encoder at one number of labels.

    Attributes:
        encoder: its title.
        value: percent of the training rows, or rows of each class; infinity for all rows beside shots.
        percent: of the training rows that were labelled, mean over the repeats: whole units are taken.
        rows: by repeat, how many rows; ``units``: of how many units; ``classes``: how many of each class.
        values: by score, the value of each repeat on the test rows as they are.
        spreads: by score, mean and intervals.
        converged: fits that arrived; ``fits``: of how many; ``untuned``: fits with too few rows of some class
            to choose by cross-validation.
    """

    encoder: str
    value: float
    percent: float
    rows: tuple[int, ...]
    units: tuple[int, ...]
    classes: tuple[dict[str, int], ...]
    values: dict[str, tuple[float, ...]]
    spreads: dict[str, Spread]
    converged: int
    fits: int
    untuned: int


@dataclass(frozen=True)
class Reach:
    """How many labels ``encoder`` needs for the score that ``other`` has with all: ``target``."""

    encoder: str
    other: str
    target: float
    found: Crossing


@dataclass(frozen=True)
class LabelEfficiency:
    """All that is known of some curves.

    Attributes:
        titles: of the encoders.
        axis: ``percent`` or ``shots``.
        points: by encoder, in order of labels; the last has all.
        reaches: for every pair of encoders.
        cannot: by value of the axis, why it has no point.
        score: the one that ``reaches`` and figures are about.
        reasons: by score, why it cannot be computed.
        classes: names, in order.
        trained: training rows in all.
        n, clusters, unit, split: the test rows, and what of them was resampled.
        label_unit: what was labelled as a whole.
        repeats, draws, seed: draws of labels, bootstrap draws, and the seed of both.
        method: how probes were fitted.
    """

    titles: tuple[str, ...]
    axis: str
    points: tuple[tuple[PointScores, ...], ...]
    reaches: tuple[Reach, ...]
    cannot: dict[float, str]
    score: str
    reasons: dict[str, str]
    classes: tuple[str, ...]
    trained: int
    n: int
    clusters: int
    unit: str
    split: str
    label_unit: str
    repeats: int
    draws: int
    seed: int
    method: dict[str, Any]

    def of(self, title: str) -> tuple[PointScores, ...]:
        """Return the points of one encoder."""
        return self.points[self.titles.index(title)]

    def point_title(self, value: float) -> str:
        """Return ``"5 %"``, ``"4 of each class"`` or ``"all"``."""
        if np.isinf(value):
            return "all"
        return f"{value:g} %" if self.axis == "percent" else f"{value:g} of each class"

    def sentences(self) -> list[str]:
        """Return for every pair what the one needs to equal the other; the best encoder's first."""
        return [self.sentence(reach) for reach in self.reaches]

    def sentence(self, reach: Reach) -> str:
        """Return "A with n labels equals B with all", or why that cannot be said."""
        a, b, found = reach.encoder, reach.other, reach.found
        name = self.score.replace("_", " ")
        if np.isnan(found.value):
            return f"{a} and {b}: {name} cannot be computed ({self.reasons.get(self.score, 'undefined')})."
        first, k = self._grid()[0], found.draws
        theirs = f"{b} with all of them ({name} {reach.target:.3f})"
        interval = self._interval(found)
        if np.isinf(found.value):
            most = (
                "with all of its own"
                if self.axis == "percent"
                else f"with {self._in_words(self._grid()[-1])}"
            )
            told = f"{a} does not reach {b} with all labels ({name} {reach.target:.3f}), not even {most}"
            return f"{told}; it does in {k - found.never:,} of {k:,} draws."
        if found.value <= first:
            told = f"{a} with {self._in_words(first)}, the fewest tried, already equals {theirs} or is better"
            return f"{told}; so it is in {found.at_first:,} of {k:,} draws{interval}."
        never = f"; in {found.never:,} of {k:,} draws it never does" if found.never else ""
        return f"{a} with {self._in_words(found.value)} equals {theirs}{interval}{never}."

    def in_short(self, x: float) -> str:
        """Return a number of labels as a crossing has it: ``"12 %"``, ``"at most 1 %"``, ``"never"``."""
        if np.isinf(x):
            return "never"
        return f"{'at most ' if x <= self._grid()[0] else ''}{self._short(x)}"

    def _interval(self, found: Crossing) -> str:
        if np.isnan(found.low):
            return "; no interval: it can be computed in too few draws"
        ends = [self.in_short(end) for end in (found.low, found.high)]
        if ends[0] == ends[1]:
            return f"; 95 % interval: {ends[0]}"
        return f"; 95 % interval {ends[0]} to {ends[1]}"

    def _grid(self) -> list[float]:
        return grid(self.points[0])

    def _in_words(self, x: float) -> str:
        if self.axis == "shots":
            return f"{self._short(x)} images of each class"
        return f"{self._short(x)} of the labels"

    def _short(self, x: float) -> str:
        return (
            f"{x:.2g} %" if self.axis == "percent" and x < 10 else f"{x:.3g}{' %' * (self.axis == 'percent')}"
        )


def grid(points: Sequence[PointScores]) -> list[float]:
    """Return where on the axis the points of a curve lie: percent as labelled, or rows of each class."""
    if all(np.isfinite(one.value) for one in points):
        return [one.percent for one in points]
    return [one.value for one in points if np.isfinite(one.value)]


def score_curve(
    fitted: FittedCurve,
    titles: Sequence[str],
    *,
    score: str = "balanced_accuracy",
    draws: int = 2000,
    seed: int = 0,
    progress: bool = True,
) -> LabelEfficiency:
    """Score every fit on the same draws of test units, and find what equals what.

    Args:
        fitted: of the task.
        titles: what the encoders are called.
        score: which of the classification scores the sentences are about.
        draws: of the bootstrap.
        seed: of the bootstrap.
        progress: show progress on standard error.

    Raises:
        UsageError: no such score.
    """
    table = fitted.embeddings[0].rows.select(fitted.test)
    names = score_names(len(table.classes))
    require_score(score, names)
    clusters, unit = cluster_codes(table.patient, table.group, len(table))
    truth = table.codes()
    on_rows, on_draws = _scored(fitted, truth, clusters, draws, seed, progress=progress)
    weights = repeat_weights(fitted.repeats, draws, seed)
    all_rows, counted = len(fitted.points[-1].rows[0]), fitted.embeddings[0].rows
    held = [p for p, point in enumerate(fitted.points) if point.cannot is None]
    classes = {p: tuple(fitted.points[p].of_each_class(counted)) for p in held}
    curves = []
    for e, title in enumerate(titles):
        curve = []
        for p in held:
            point, fits = fitted.points[p], fitted.fits[e][p]
            rows = tuple(len(one) for one in point.rows)
            own = weights if len(rows) == fitted.repeats else np.ones((draws, 1))
            curve.append(
                PointScores(
                    encoder=title,
                    value=point.value,
                    percent=100 * float(np.mean(rows)) / all_rows,
                    rows=rows,
                    units=point.units,
                    classes=classes[p],
                    values={n: tuple(on_rows[n][e, p, r, 0] for r in range(len(rows))) for n in names},
                    spreads={
                        n: separate(on_rows[n][e, p][: len(rows), 0], on_draws[n][e, p][: len(rows)], own)
                        for n in names
                    },
                    converged=sum(bool(fit.outcome.get("converged", True)) for fit in fits),
                    fits=len(fits),
                    untuned=sum(_by_default(fit.outcome) for fit in fits),
                )
            )
        curves.append(tuple(curve))
    return LabelEfficiency(
        titles=tuple(titles),
        axis=fitted.axis,
        points=tuple(curves),
        reaches=_reaches(curves, on_draws[score][:, held], weights, score),
        cannot={point.value: point.cannot for point in fitted.points if point.cannot is not None},
        score=score,
        reasons=not_computable(truth, len(table.classes), table.classes),
        classes=table.classes,
        trained=all_rows,
        n=len(table),
        clusters=int(clusters.max()) + 1,
        unit=unit,
        split=fitted.split,
        label_unit=fitted.unit,
        repeats=fitted.repeats,
        draws=draws,
        seed=seed,
        method=fitted.method,
    )


def _by_default(outcome: dict[str, Any]) -> bool:
    """Say whether a fit had too few rows of some class to choose by."""
    told = (outcome.get(key) for key in ("C chosen on", "chosen on"))
    return any(str(how).startswith("a default") for how in told)


def require_score(score: str, names: Sequence[str]) -> None:
    """Raise :class:`UsageError` where there is no such score."""
    if score not in names:
        raise UsageError(
            "--score must be one that these classes have.",
            f"found {score!r}{did_you_mean(score, names)}",
            f"one of: {', '.join(names)}",
        )


def _scored(
    fitted: FittedCurve,
    truth: npt.NDArray[np.int64],
    clusters: npt.NDArray[np.int64],
    draws: int,
    seed: int,
    *,
    progress: bool,
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return by score, (encoders, points, repeats, 1) on the rows as they are, and (…, draws).

    Of all rows there is one fit only: it stands for every repeat.
    """
    cells = [
        (e, p, r, fit)
        for e, curve in enumerate(fitted.fits)
        for p, fits in enumerate(curve)
        for r, fit in enumerate(fits)
    ]
    shape = (len(fitted.fits), len(fitted.points), fitted.repeats)
    names = score_names(fitted.fits[0][-1][0].probabilities.shape[1])
    as_they_are = {name: np.full((*shape, 1), np.nan) for name in names}
    drawn = {name: np.full((*shape, draws), np.nan) for name in names}
    at = 0
    with (
        Progress(draws * len(cells), "scoring", "draw", shown=progress) as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):

        def score(cell: tuple[Any, ...], weights: Any, into: dict[str, Floats], where: slice) -> None:
            e, p, r, fit = cell
            alone = len(fitted.fits[e][p]) == 1
            for name, values in classification_scores(truth, fit.probabilities, weights).items():
                into[name][e, p, slice(None) if alone else r, where] = values

        list(pool.map(lambda cell: score(cell, None, as_they_are, slice(0, 1)), cells))
        for weights in cluster_bootstrap(clusters, draws, seed):
            where = slice(at, at + len(weights))
            for _ in pool.map(lambda cell, w=weights, s=where: score(cell, w, drawn, s), cells):
                bar.advance(len(weights))
            at += len(weights)
    return as_they_are, drawn


def _reaches(
    curves: Sequence[Sequence[PointScores]], drawn: Floats, weights: Floats, score: str
) -> tuple[Reach, ...]:
    """Compare all pairs; ``drawn`` (encoders, points, repeats, draws)."""
    x = grid(curves[0])
    means = np.array([[point.spreads[score].mean for point in curve] for curve in curves])
    on_draws = np.array([[weighted_means(one, weights) for one in curve] for curve in drawn])
    order = sorted(range(len(curves)), key=lambda e: -means[e, -1])
    return tuple(
        Reach(
            curves[a][0].encoder,
            curves[b][0].encoder,
            float(means[b, -1]),
            crossing(x, means[a, : len(x)], means[b, -1], on_draws[a, : len(x)].T, on_draws[b, -1]),
        )
        for a in order
        for b in order
        if a != b
    )
