"""How well does a probe do on patients it never saw, every row being one of theirs once? Cross-validation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.data.columns import Column, in_order
from panderm.data.duplicates import clusters
from panderm.data.parts import Units, deal
from panderm.data.rows import lesions_of
from panderm.data.table import SPLITS, Table
from panderm.embeddings import Embeddings, open_embeddings
from panderm.errors import DataError, UsageError, plural, some
from panderm.predictions import Predictions
from panderm.probing.answer import Asked, answer
from panderm.probing.pooled import Pooling, inputs_for
from panderm.probing.sample_weights import sample_weights
from panderm.probing.splits import what_differs
from panderm.probing.table_columns import columns_of
from panderm.probing.units import Unit, UnitPool, require_agreement
from panderm.progress import Progress
from panderm.provenance import Provenance
from panderm.storage import sha256_of_json
from panderm.training.linear_probe import require_labels
from panderm.training.settings import ClassWeight, ProbeKind, ProbeSettings, Recipe

FOLDS = 5


def cross_validate(
    embeddings: Embeddings | Path | str,
    *,
    folds: int | None = None,
    fold_column: str | None = None,
    folds_of: Sequence[str] | None = None,
    kind: ProbeKind = "linear",
    recipe: Recipe = "tuned",
    C: float | None = None,
    k: int | None = None,
    class_weight: ClassWeight = "none",
    sample_weight: str | None = None,
    pooling: Pooling = "stored",
    unit: Unit = "image",
    unit_pool: UnitPool = "embedding",
    float64: bool = False,
    device: str = "auto",
    seed: int = 0,
    out: Path | str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Predictions:
    """Predict every row by a probe that was fitted on the other folds.

    Rows that share a patient, a lesion or a file are of one fold; classes are spread evenly
    (:mod:`panderm.data.split`). What is left to be chosen is chosen within the other folds, by
    cross-validation of their own: the fold that is predicted has no part in it. No probe is kept, since there
    is one a fold; fit one on all rows for use, with the expectation that these predictions give.

    Args:
        embeddings: Embeddings or the folder that holds them.
        folds: how many, 2 or more; by default 5, or those that ``fold_column`` names.
        fold_column: column of the table that says which fold a row is in, as ``panderm split --folds``
            writes it; rows where it is empty are left out.
        folds_of: the splits whose rows take part; by default all rows.
        kind: of the probes, see :class:`ProbeSettings`.
        recipe: likewise.
        C: likewise.
        k: likewise.
        class_weight: likewise.
        sample_weight: as of :func:`panderm.probe`; so are the next three.
        pooling: likewise.
        unit: likewise; a patient's or lesion's images are of one fold in any case.
        unit_pool: likewise.
        float64: likewise.
        device: likewise.
        seed: of the folds and of the fits: another seed deals rows otherwise.
        out: folder to write, ``X.pred``.
        overwrite: replace an ``out`` that exists.
        progress: show progress on standard error.

    Returns:
        Predictions whose ``fold`` says which fold each row was held out in.

    Raises:
        UsageError: more folds than patients, or splits that are not there.
        DataError: a class that stands in one fold only, so that it would be predicted by a probe that never
            saw it; a patient or lesion in two folds of ``fold_column``.

    Example:
        >>> panderm.cross_validate("ham.emb", folds=5).fold[:3]  # doctest: +SKIP
        array(['2', '5', '2'], dtype=object)
    """
    started = time.monotonic()
    emb = embeddings if isinstance(embeddings, Embeddings) else open_embeddings(embeddings)
    settings = ProbeSettings(kind, recipe, C, k, class_weight, float64, device, seed)
    require_labels(emb.rows)
    if fold_column is not None and folds is not None:
        raise UsageError("--fold-column says which folds there are.", f"found --folds {folds} beside it")
    rows = _rows(emb.rows, folds_of)
    table = emb.rows.select(rows)
    if fold_column is None:
        fold = deal_folds(table, FOLDS if folds is None else folds, seed=seed)
    else:
        named = columns_of(table, [fold_column], option="--fold-column")[fold_column]
        rows, fold = rows[named != None], named[named != None]  # noqa: E711 (an array)
        table = emb.rows.select(rows)
        _require_whole(table, fold, fold_column)
    names = in_order(set(fold))
    _require_trained(table, fold, names)
    require_agreement(table, unit, fold)
    weights = None if sample_weight is None else sample_weights(emb.rows, sample_weight, rows)
    inputs = inputs_for(emb, kind, pooling)
    method = {
        **settings.record(),
        **what_differs(sample_weight=sample_weight, pooling=pooling, unit=unit, unit_pool=unit_pool),
        "folds": len(names),
        "folds by": f"column {fold_column}" if fold_column else "patient, lesion and file, kept whole",
        "rows": len(rows) if folds_of is None else f"{len(rows):,} of {', '.join(folds_of)}",
        "rows by fold": {name: int((fold == name).sum()) for name in names},
        "dealt as": sha256_of_json([table.image.tolist(), fold.tolist()])[:16],
        "seed": seed,
    }
    parts: list[Predictions] = []
    with Progress(len(names), "cross-validating", "folds", shown=progress) as bar:
        for name in names:
            asked = Asked(
                train=rows[fold != name],
                test=rows[fold == name],
                split=f"fold {name}",
                weights=weights,
                unit=unit,
                unit_pool=unit_pool,
            )
            parts.append(answer(emb, asked, settings, inputs=inputs))
            bar.advance()
    seconds = time.monotonic() - started
    made = _together(parts, names, table, method=method, split=f"{len(names)} folds", seconds=seconds)
    if out is not None:
        made.save(out, overwrite=overwrite)
    return made


def _together(
    parts: Sequence[Predictions],
    names: Sequence[str],
    table: Table,
    *,
    method: dict[str, Any],
    split: str,
    seconds: float,
) -> Predictions:
    """Return the predictions of all folds as one, in the table's order."""
    place = {image: i for i, image in enumerate(table.image)}
    order = np.argsort([place[image] for part in parts for image in part.image], kind="stable")

    def joined(column: str) -> Any:
        return np.concatenate([getattr(part, column) for part in parts])[order]

    outcomes = {f"fold {name}": part.card.outcome for name, part in zip(names, parts, strict=True)}
    converged = [found["converged"] for found in outcomes.values() if "converged" in found]
    kept = {"probe": "none kept: each fold has its own"}
    card = parts[0].card.model_copy(
        update={
            "task": f"{parts[0].card.task}, {len(names)}-fold cross-validation",
            "method": method,
            "outcome": {**({"converged": all(converged)} if converged else {}), **kept, **outcomes},
            "split": split,
            "rows": len(order),
            "provenance": Provenance.now(seconds=seconds),
        }
    )
    fold = [np.full(len(part), name, dtype=object) for name, part in zip(names, parts, strict=True)]
    columns = ("image", "path", "sha256", "patient", "group", "truth", "probabilities")
    return Predictions(
        **{column: joined(column) for column in columns}, card=card, fold=np.concatenate(fold)[order]
    )


def deal_folds(table: Table, folds: int, *, seed: int = 0) -> Column:
    """Return the fold of each of n rows, "1" to "K"; the same for the same rows in any order.

    Raises:
        UsageError: fewer than two folds, or more than there are patients.
    """
    group = _groups(table)
    units = int(group.max()) + 1 if len(group) else 0
    if not 2 <= folds <= units:
        raise UsageError(
            "--folds must be 2 or more, and no more than there are patients, lesions or images.",
            f"found {folds}, and {plural(units, 'group')} that must not be torn apart",
        )
    # Copies of one patient's name in two tables' rows are one group; so are two files of the same bytes.
    dealt = deal(Units(table.image, group, table.label), test=0, val=0, folds=folds, seed=seed)
    assert dealt.fold is not None
    return np.array([str(number) for number in dealt.fold], dtype=object)


def _groups(table: Table) -> npt.NDArray[np.int64]:
    """Return which rows share a patient, a lesion or a file, int64 (n,)."""
    pairs: list[tuple[int, int]] = []
    for column in (table.patient, lesions_of(table.patient, table.group), table.sha256):
        first: dict[str, int] = {}
        for i, value in enumerate(column):
            if value is not None and first.setdefault(value, i) != i:
                pairs.append((first[value], i))
    return clusters(len(table), pairs)


def _rows(table: Table, folds_of: Sequence[str] | None) -> npt.NDArray[np.intp]:
    """Return the positions of the rows that take part."""
    if folds_of is None:
        return np.arange(len(table))
    there = [name for name in SPLITS if (table.split == name).any()]
    missing = [name for name in folds_of if name not in there]
    if missing or not folds_of:
        raise UsageError(
            "--folds-of must name splits of the table.",
            f"found {some(missing) or 'none'}; {table.card.name} has: {some(there) or 'no split'}",
            "leave it out and all rows take part",
        )
    return np.flatnonzero(np.isin(table.split.astype(str), list(folds_of)))


def _require_whole(table: Table, fold: Column, column: str) -> None:
    """Raise where folds of the user's own tear a patient, a lesion or copies of a file apart."""
    members: dict[int, list[int]] = {}
    for row, number in enumerate(_groups(table).tolist()):
        members.setdefault(number, []).append(row)
    torn = [rows for rows in members.values() if len(set(fold[rows])) > 1]
    if torn:
        lines = [
            f"{table.patient[rows[0]] or table.group[rows[0]] or table.image[rows[0]]}: "
            f"folds {some(in_order(set(fold[rows])))} (images {some(table.image[rows].tolist(), 3)})"
            for rows in torn[:5]
        ]
        raise DataError(
            "images of one patient, of one lesion, and copies of one file must be of one fold.",
            [f"{plural(len(torn), 'group')} of column {column!r} in several:", *lines],
            "leave --fold-column out: folds are then dealt by patients",
        )


def _require_trained(table: Table, fold: Column, names: Sequence[str]) -> None:
    """Raise where a fold would be predicted by a probe that lacks a class of it, or has one class only."""
    if len(names) < 2:
        raise DataError("cross-validation must have two folds or more.", f"found {some(names) or 'none'}")
    present = {name: set(table.label[fold != name]) for name in names}
    lines = []
    for c in table.classes:
        mine = table.label == c
        alone = set(fold[mine])
        if len(alone) == 1:
            units = len(set(_groups(table)[mine].tolist()))
            lines.append(
                f"{c!r}: {plural(int(mine.sum()), 'row')} in {plural(units, 'group')}, all in fold "
                f"{next(iter(alone))}"
            )
    if lines:
        raise DataError(
            "every class must stand in two folds or more: in its one fold it would never have been trained.",
            lines,
            "leave these rows out, or join the class with another",
        )
    single = [name for name in names if len(present[name]) < 2]
    if single:
        raise DataError(
            "the other folds must hold at least two classes.",
            [f"without fold {name}: {some(sorted(present[name])) or 'none'}" for name in single],
            "check the label column",
        )
