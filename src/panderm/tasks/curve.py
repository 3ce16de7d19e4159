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


def fit_curve(
    embeddings: Sequence[Embeddings],
    settings: ProbeSettings,
    kept: KeptFits,
    *,
    percent: Sequence[float],
    shots: Sequence[int] | None = None,
    repeats: int = 10,
    published_subset: bool = False,
    train: str = "train",
    val: str = "val",
    test: str = "test",
    use_val: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> FittedCurve:
    """Fit every point of every curve that is not kept already, and keep it.

    Args:
        embeddings: of one table, by different encoders.
        settings: of the probes; its seed is that of the draws of labels too.
        kept: where fits are kept.
        percent: parts of the training rows, ascending.
        shots: instead, so many rows of each class, ascending.
        repeats: draws of labels.
        published_subset: one draw, by the published rule.
        train: the split to fit.
        val: the split that chooses with ``use_val``.
        test: the split to score.
        use_val: let the val rows choose.
        workers: fits at a time; by default as many as there are cores.
        progress: show progress on standard error.

    Raises:
        ParentsError: embeddings of different tables or rows.
        DataError: a question that cannot be asked of these rows.
    """
    table = embeddings[0].rows
    require_same_table(embeddings)
    choosing = _choosing(table, val, train=train, test=test) if use_val and settings.chooses else None
    at = training_rows(table, train=train, val=val if use_val else None, test=test, percent_data=1)
    scored = np.flatnonzero(table.split == test)
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
    cells = [
        (e, p, r)
        for e in range(len(embeddings))
        for p, point in enumerate(points)
        for r in range(len(point.rows) if point.cannot is None else 0)
    ]
    run = _Run(tuple(embeddings), points, settings, kept, scored, choosing, test)
    found = {cell: fit for cell in cells if (fit := kept.read(run.question(cell))) is not None}
    todo = [cell for cell in cells if cell not in found]
    # The longest first, so that no core is left alone with one at the end.
    todo.sort(key=lambda cell: -run.size(cell))
    done = sum(run.size(cell) for cell in found)
    total = done + sum(run.size(cell) for cell in todo)
    # Many small fits gain nothing from threads of their own, and the limit is the whole process's.
    with (
        threadpool_limits(1, "blas"),
        Progress(total, "fitting", "labelled row", done=done, shown=progress and bool(todo)) as bar,
    ):
        pool = ThreadPoolExecutor(workers or os.cpu_count())
        try:
            waiting = {pool.submit(run.fit, cell): cell for cell in todo}
            for future in as_completed(waiting):
                found[waiting[future]] = future.result()
                bar.advance(run.size(waiting[future]))
        finally:
            pool.shutdown(cancel_futures=True)
    fits = tuple(
        tuple(
            tuple(found[e, p, r] for r in range(len(point.rows) if point.cannot is None else 0))
            for p, point in enumerate(points)
        )
        for e in range(len(embeddings))
    )
    axis: Axis = "shots" if shots else "percent"
    return FittedCurve(tuple(embeddings), axis, points, repeats, fits, scored, test, unit, method, len(todo))


@dataclass(frozen=True, eq=False)
class _Run:
    """What all fits of a curve share; a cell is encoder, point and repeat."""

    embeddings: tuple[Embeddings, ...]
    points: tuple[CurvePoint, ...]
    settings: ProbeSettings
    kept: KeptFits
    test: Rows
    val: Rows | None
    split: str

    def size(self, cell: tuple[int, int, int]) -> int:
        return len(self.points[cell[1]].rows[cell[2]])

    def question(self, cell: tuple[int, int, int]) -> dict[str, Any]:
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
        e, p, r = cell
        asked = Asked(train=self.points[p].rows[r], test=self.test, split=self.split, val=self.val)
        emb = self.embeddings[e]
        inputs = inputs_for(emb, self.settings.kind, "stored")
        predicted = answer(emb, asked, self.settings, inputs=inputs)
        fit = KeptFit(predicted.probabilities, predicted.card.outcome)
        self.kept.write(self.question(cell), fit)
        return fit


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
