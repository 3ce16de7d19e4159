"""How many labels does it take? Probes on nested parts of the training rows, for one encoder or several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from panderm.data.table import Table
from panderm.embeddings import Embeddings
from panderm.errors import DataError, ParentsError, UsageError, plural
from panderm.probing.answer import Asked, answer
from panderm.probing.curve_fits import ALONE, SUBSETS, Axis, CurvePoint, FittedCurve, Rows
from panderm.probing.kept import KeptFit, KeptFits
from panderm.probing.pooled import inputs_for
from panderm.probing.splits import training_rows
from panderm.progress import Progress
from panderm.statistics.resampling import cluster_codes
from panderm.storage import sha256_of_json
from panderm.training.linear_probe import ENOUGH_VALIDATION_ROWS
from panderm.training.settings import ProbeSettings
from panderm.training.subsets import Subset, nested_parts, nested_shots, published_parts


@dataclass(frozen=True, eq=False)
class CurvePlan:
    """What is to be fitted, once it is sure that it can be; a cell is encoder, point and repeat.

    Attributes:
        embeddings: of one table, by different encoders.
        settings: of the probes.
        axis: what the points count.
        points: numbers of labels, ascending; the last is all training rows.
        repeats: draws of labels.
        test: rows to predict; ``split`` is what they are called.
        val: rows that choose; None where the labelled rows do.
        unit: what is labelled as a whole.
        method: what was decided, for the record.
    """

    embeddings: tuple[Embeddings, ...]
    settings: ProbeSettings
    axis: Axis
    points: tuple[CurvePoint, ...]
    repeats: int
    test: Rows
    split: str
    val: Rows | None
    unit: str
    method: dict[str, Any]

    def repeats_at(self, point: CurvePoint) -> range:
        """Return the repeats that are fitted at a point."""
        return range(len(point.rows) if point.cannot is None else 0)

    @property
    def cells(self) -> list[tuple[int, int, int]]:
        """All that is fitted."""
        return [
            (e, p, r)
            for e in range(len(self.embeddings))
            for p, point in enumerate(self.points)
            for r in self.repeats_at(point)
        ]

    def size(self, cell: tuple[int, int, int]) -> int:
        """Return how many rows are labelled."""
        return len(self.points[cell[1]].rows[cell[2]])

    def question(self, cell: tuple[int, int, int]) -> dict[str, Any]:
        """Return all that decides a fit, under which it is kept."""
        e, p, r = cell
        image = self.embeddings[0].rows.image
        decided = {k: v for k, v in asdict(self.settings).items() if k != "device"}
        return {
            "embeddings": self.embeddings[e].card.identity,
            "settings": decided,
            "train": sha256_of_json(image[self.points[p].rows[r]].tolist()),
            "val": None if self.val is None else sha256_of_json(image[self.val].tolist()),
            "test": sha256_of_json(image[self.test].tolist()),
        }

    def fit(self, cell: tuple[int, int, int]) -> KeptFit:
        """Fit a probe and predict the rows to predict."""
        e, p, r = cell
        asked = Asked(train=self.points[p].rows[r], test=self.test, split=self.split, val=self.val)
        emb = self.embeddings[e]
        inputs = inputs_for(emb, self.settings.kind, "stored")
        predicted = answer(emb, asked, self.settings, inputs=inputs)
        return KeptFit(predicted.probabilities, predicted.card.outcome)


def plan_curve(
    embeddings: Sequence[Embeddings],
    settings: ProbeSettings,
    *,
    percent: Sequence[float],
    shots: Sequence[int] | None = None,
    repeats: int = 10,
    published_subset: bool = False,
    train: str = "train",
    val: str = "val",
    test: str = "test",
    use_val: bool = False,
) -> CurvePlan:
    """Draw the rows that are labelled at every point, once it is sure that the question can be asked.

    Args:
        embeddings: of one table, by different encoders.
        settings: of the probes; its seed is that of the draws of labels too.
        percent: parts of the training rows, ascending.
        shots: instead, so many rows of each class, ascending.
        repeats: draws of labels.
        published_subset: one draw, by the published rule.
        train: the split to fit.
        val: the split that chooses with ``use_val``.
        test: the split to score.
        use_val: let the val rows choose.

    Raises:
        ParentsError: embeddings of different tables or rows.
        DataError: a question that cannot be asked of these rows.
    """
    table = embeddings[0].rows
    require_same_table(embeddings)
    choosing = _choosing(table, val, train=train, test=test) if use_val and settings.chooses else None
    at = training_rows(table, train=train, val=val if use_val else None, test=test, percent_data=1)
    rule = "shots" if shots else "published" if published_subset else "nested"
    points, unit = labelled(
        table, at, percent=percent, shots=shots, rule=rule, repeats=repeats, seed=settings.seed
    )
    repeats = 1 if rule == "published" else repeats
    method = {
        **settings.record(),
        "train split": train,
        "train rows": len(at),
        "subsets": SUBSETS[rule].format(units="images" if unit == "image" else f"{unit}s"),
        "repeats": repeats,
        **({"chosen on": ALONE if choosing is None else val} if settings.chooses else {}),
        "seed": settings.seed,
    }
    return CurvePlan(
        embeddings=tuple(embeddings),
        settings=settings,
        axis="shots" if shots else "percent",
        points=points,
        repeats=repeats,
        test=np.flatnonzero(table.split == test),
        split=test,
        val=choosing,
        unit=unit,
        method=method,
    )


def fit_curve(
    plan: CurvePlan, kept: KeptFits, *, workers: int | None = None, progress: bool = True
) -> FittedCurve:
    """Fit every point of every curve that is not kept already, and keep it.

    Args:
        plan: what is to be fitted.
        kept: where fits are kept.
        workers: fits at a time; by default as many as there are cores.
        progress: show progress on standard error.
    """
    found = {cell: fit for cell in plan.cells if (fit := kept.read(plan.question(cell))) is not None}
    # The longest first, so that no core is left alone with one at the end.
    todo = sorted((cell for cell in plan.cells if cell not in found), key=lambda cell: -plan.size(cell))
    done = sum(plan.size(cell) for cell in found)
    total = done + sum(plan.size(cell) for cell in todo)

    def keep(cell: tuple[int, int, int]) -> KeptFit:
        made = plan.fit(cell)
        kept.write(plan.question(cell), made)
        return made

    # Many small fits gain nothing from threads of their own, and the limit is the whole process's.
    with (
        threadpool_limits(1, "blas"),
        Progress(total, "fitting", "labelled row", done=done, shown=progress and bool(todo)) as bar,
    ):
        pool = ThreadPoolExecutor(workers or os.cpu_count())
        try:
            waiting = {pool.submit(keep, cell): cell for cell in todo}
            for future in as_completed(waiting):
                found[waiting[future]] = future.result()
                bar.advance(plan.size(waiting[future]))
        finally:
            pool.shutdown(cancel_futures=True)
    fits = tuple(
        tuple(tuple(found[e, p, r] for r in plan.repeats_at(point)) for p, point in enumerate(plan.points))
        for e in range(len(plan.embeddings))
    )
    return FittedCurve(
        plan.embeddings,
        plan.axis,
        plan.points,
        plan.repeats,
        fits,
        plan.test,
        plan.split,
        plan.unit,
        plan.method,
        len(todo),
    )


def labelled(
    table: Table,
    at: Rows,
    *,
    percent: Sequence[float],
    shots: Sequence[int] | None,
    rule: str,
    repeats: int,
    seed: int,
) -> tuple[tuple[CurvePoint, ...], str]:
    """Return the points of a curve on the training rows ``at``, and what is labelled as a whole."""
    units, unit = cluster_codes(table.patient[at], table.group[at], len(at))
    labels = table.select(at).codes()
    values: list[float] = [float(k) for k in shots] if shots else [*percent]
    if rule == "shots":
        drawn = nested_shots(labels, units, list(shots or ()), repeats=repeats, seed=seed)
    elif rule == "published":
        drawn = published_parts(labels, values)
    else:
        drawn = nested_parts(labels, units, values, repeats=repeats, seed=seed)
    whole = Subset(np.arange(len(at), dtype=np.intp))
    last = np.inf if shots else 100.0
    found: list[CurvePoint] = []
    for p, value in enumerate([*values, *([last] if last not in values else [])]):
        subsets = [whole] if value == last else [parts[p] for parts in drawn]
        cannot = None
        for c in subsets[0].lacking:
            held = int((labels == c).sum())
            has = f"has {plural(held, 'training row')} only" if shots else "has no row among those drawn"
            cannot = f"class {table.classes[c]!r} {has}"
        before = next((one for one in reversed(found) if one.cannot is None), None)
        if before is not None and cannot is None:
            sizes = {len(subset.rows) for subset in subsets} if value == last else None
            if sizes is not None and {len(rows) for rows in before.rows} == sizes:
                found[found.index(before)] = replace(before, cannot="these are all training rows already")
            elif [len(rows) for rows in before.rows] == [len(subset.rows) for subset in subsets]:
                cannot = f"whole {unit}s make it the same rows as the point before"
        found.append(
            CurvePoint(
                value,
                tuple(at[subset.rows] for subset in subsets),
                tuple(len(np.unique(units[subset.rows])) for subset in subsets),
                cannot,
            )
        )
    return tuple(found), unit


def require_same_table(embeddings: Sequence[Embeddings]) -> None:
    """Raise :class:`ParentsError` where embeddings are not of the same rows, or the same twice."""
    first = embeddings[0]
    seen: dict[str, str] = {}
    for emb in embeddings:
        name = str(emb.path or emb.card.encoder.name)
        if emb.card.identity in seen:
            raise UsageError(
                "embeddings to be compared must differ.",
                f"{seen[emb.card.identity]} and {name} are the same: {emb.card.identity[:12]}",
                "name each once",
            )
        seen[emb.card.identity] = name
        ours, theirs = first.card.table, emb.card.table
        same = ours.sha256 == theirs.sha256 and np.array_equal(first.rows.image, emb.rows.image)
        if not (same and np.array_equal(first.rows.split, emb.rows.split)):
            raise ParentsError(
                "embeddings to be compared must be of the same table and rows.",
                [
                    f"{one.path or one.card.encoder.name}: {plural(len(one), 'row')} of {one.card.table.csv} "
                    f"({one.card.table.sha256[:12]})"
                    for one in (first, emb)
                ],
                "embed one table with each encoder",
            )


def _choosing(table: Table, val: str, *, train: str, test: str) -> Rows:
    rows = np.flatnonzero(table.split == val)
    if val in (train, test) or len(rows) < ENOUGH_VALIDATION_ROWS:
        found = f"--val {val} is the split that is fitted or scored" if val in (train, test) else ""
        raise DataError(
            f"--use-val needs {ENOUGH_VALIDATION_ROWS} val rows or more that are neither fitted nor scored.",
            found or f"{plural(len(rows), 'row')} of {table.card.name} have the split {val!r}",
            "leave --use-val out: the labelled rows choose by cross-validation",
        )
    return rows
