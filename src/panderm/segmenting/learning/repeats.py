"""Several runs instead of one: seeds, folds, and parts of the training rows; one table of them all."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.data.split import assign, name_groups, strata_of
from panderm.embeddings.making.ranks import Ranks
from panderm.errors import ArtifactError, UsageError, did_you_mean, plural
from panderm.finetuning.rows import together
from panderm.progress import say
from panderm.scores import DRAWS
from panderm.segmenting.learning.finished import Trained
from panderm.segmenting.learning.pairs import Pairs, pairs_of
from panderm.segmenting.learning.parts import Parts, parts_of
from panderm.segmenting.learning.repeated import RECORD, TABLE, Group, Repeated, Row, compared
from panderm.segmenting.learning.repeats_page import write_repeats_page
from panderm.segmenting.learning.train import train_segmenter
from panderm.storage import write_json, write_text
from panderm.training.subsets import nested_parts

Positions = npt.NDArray[np.int64]
RUNS, TABLES = "runs", "tables"
_UNITS = {"patient": "patient_id", "group": "lesion_id"}
_OWN = {"table", "out", "overwrite", "seed", "percent_data", "epoch_images"}
_READING = ("images", "masks", "mask_column", "image_column", "split_column", "patient", "group", "skip_bad")
OPTIONS = frozenset(train_segmenter.__annotations__) - {"return", "table", "out", "overwrite"}


@dataclass(frozen=True)
class _Run:
    """One run to be made: its name, its seed, and which rows play which part."""

    name: str
    seed: int
    parts: Mapping[str, Positions]


def repeat_segmenter(
    table: Path | str,
    out: Path | str,
    *,
    seeds: int | Sequence[int] | None = None,
    folds: int | None = None,
    percent: Sequence[float] | None = None,
    training: Mapping[str, Any],
    overwrite: bool = False,
) -> Repeated:
    """Train several segmenters that differ in the seed, the fold or the part of the rows, and compare them.

    Each run lies in ``out/runs`` and is like any other; a call that was stopped goes on where it was. What
    came of them all is in ``repeats.csv``, ``repeats.json`` and ``repeats.html``.

    Folds are of all rows of the table, whatever its split column says, patients and lesions kept whole: each
    row is tested once, and each run holds rows of its own out to choose the epoch. Parts of the training rows
    are nested: a larger one holds the smaller, for each seed another draw; validation and test rows stay the
    same, and so do the steps of a run: of fewer rows each is seen more often, in other views.

    Args:
        table: as for :func:`panderm.train_segmenter`.
        out: folder of the runs and their table.
        seeds: how many runs of each kind, with seeds from that of ``training`` on, or which seeds; default 1.
        folds: 2 or more: cross-validation.
        percent: parts of the training rows, in (0, 100].
        training: options of :func:`panderm.train_segmenter`, by name.
        overwrite: begin anew where ``out`` holds such runs.

    Raises:
        UsageError: options that cannot be, or do not go together.
        ArtifactError: ``out`` holds something else, or runs on other rows.
        PandermError: whatever one of the runs raises.

    Example:
        >>> found = panderm.repeat_segmenter(
        ...     "ham.csv", "runs", seeds=5, training={"images": "images/", "encoder": "panderm-base"}
        ... )  # doctest: +SKIP
        >>> found.rows[0].sd["jaccard"]  # doctest: +SKIP
    """
    unknown = sorted(set(training) - OPTIONS)
    if unknown:
        near = did_you_mean(unknown[0], sorted(OPTIONS))
        raise UsageError(f"training must hold options of train_segmenter{near}", f"found {unknown[0]!r}")
    if folds is not None and percent is not None:
        raise UsageError("--folds and --percent must not be asked for together.", hint="one after the other")
    if folds is not None and folds < 2:
        raise UsageError("--folds must be 2 or more.", f"found {folds}")
    if training.get("percent_data", 1.0) != 1.0 and (folds is not None or percent is not None):
        raise UsageError("--percent-data must not come with --folds or --percent.")
    which = _seeds(seeds, int(training.get("seed", 0)))
    shares = None if percent is None else _percents(percent)
    ranks: Ranks = training.get("ranks") or Ranks()
    shown = bool(training.get("progress", True)) and ranks.lead
    folder = Path(out)
    first: list[Pairs] = []
    ranks.agree(lambda: first.append(_pairs(table, training, shown=shown)))
    pairs = first[0] if first else _pairs(table, training, shown=False)
    runs, trained_on = _planned(pairs, training, which, folds, shares)
    tables = {run.name: _as_csv(pairs, run.parts) for run in runs}
    ranks.agree(lambda: _begin(folder, tables, overwrite=overwrite))
    done: list[Trained] = []
    for i, run in enumerate(runs):
        if shown:
            say(f"run {i + 1} of {len(runs)}: {run.name}")
        done.append(train_segmenter(**_told(run, folder, pairs, training, trained_on), ranks=ranks))
        if ranks.lead:  # the best weights are what a run is for
            done[-1].last.unlink(missing_ok=True)
    groups = _groups(runs, done, folds, shares)
    told = {
        "kind": "folds" if folds is not None else "percent" if shares is not None else "seeds",
        "seeds": which,
        "folds": folds,
        "percent": shares,
        "table": pairs.table.card.name,
    }
    draws = int(training.get("draws", DRAWS))

    def conclude() -> list[dict[str, Any]]:
        rows, facts = compared(
            groups, draws=draws, seed=int(training.get("seed", 0)), against_last=shares is not None
        )
        found = Repeated(folder, rows, {**told, **facts})
        write_text(folder / TABLE, found.table(), overwrite=True)
        write_json(folder / RECORD, found.as_dict(), overwrite=True)
        write_repeats_page(found, done)
        return [found.facts, *(row.as_dict() for row in rows)]

    facts, *rows = ranks.agree(conclude)
    return Repeated(folder, [Row.of(row) for row in rows], facts)


def _seeds(seeds: int | Sequence[int] | None, first: int) -> list[int]:
    many = 1 if seeds is None else seeds
    found = list(range(first, first + many)) if isinstance(many, int) else list(many)
    if not found or min(found) < 0 or len(set(found)) != len(found):
        raise UsageError(
            "--seeds must be how many, or different whole numbers from 0.", f"found {seeds}", "--seeds 5"
        )
    return found


def _percents(percent: Sequence[float]) -> list[float]:
    found = sorted({float(value) for value in percent})
    if not found or not all(0 < value <= 100 for value in found):
        raise UsageError(
            "--percent must be parts of the training rows, above 0 and up to 100.",
            f"found {', '.join(f'{value:g}' for value in percent) or 'none'}",
            "--percent 1 5 10 50 100",
        )
    return found


def _pairs(table: Path | str, training: Mapping[str, Any], *, shown: bool) -> Pairs:
    how = {name: training[name] for name in (*_READING, "max_megapixels") if name in training}
    return pairs_of(table, **how, progress=shown)


def _planned(
    pairs: Pairs,
    training: Mapping[str, Any],
    seeds: Sequence[int],
    folds: int | None,
    percents: Sequence[float] | None,
) -> tuple[list[_Run], int]:
    """Return the runs in their order, and how many rows an epoch has."""
    leaks = bool(training.get("allow_leaks", False))
    if folds is not None:
        assigned = _folds(pairs, folds, int(training.get("seed", 0)))
        runs = [
            _Run(
                f"fold-{k + 1}_seed-{seed}",
                seed,
                {"train": np.flatnonzero(assigned != k), "test": np.flatnonzero(assigned == k)},
            )
            for k in range(folds)
            for seed in seeds
        ]
        return runs, 0
    percent_data = float(training.get("percent_data", 1.0))
    first = int(training.get("seed", 0))
    parts = parts_of(pairs, percent_data=percent_data, seed=first, allow_leaks=leaks)
    if percents is None:
        return [_Run(f"seed-{seed}", seed, _all(parts, parts.train)) for seed in seeds], 0
    units = together(pairs.table.select(parts.train))
    nothing = np.zeros(len(parts.train), dtype=np.int64)
    runs = []
    for i, value in enumerate(percents):
        for seed in seeds:
            drawn = nested_parts(nothing, units, percents, repeats=1, seed=seed)[0][i]
            chosen = parts.train[drawn.rows]
            runs.append(_Run(f"percent-{value:g}_seed-{seed}", seed, _all(parts, chosen)))
    return runs, len(parts.train)


def _all(parts: Parts, train: Positions) -> dict[str, Positions]:
    return {"train": train, "val": parts.val, "test": parts.test}


def _folds(pairs: Pairs, folds: int, seed: int) -> Positions:
    """Return the fold of each row, 0 … K − 1: whole patients and lesions, as many rows in each as can be."""
    groups = together(pairs.table)
    n = int(groups.max()) + 1
    if n < folds:
        raise UsageError(
            "each fold must have a patient or lesion of its own.",
            f"{plural(folds, 'fold')}, {plural(n, 'unit')}",
            "ask for fewer folds",
        )
    names = name_groups(groups, [str(image) for image in pairs.table.image])
    strata = strata_of(groups, [""] * len(groups))
    part = assign(strata, names, [1 / folds] * folds, seed=f"folds {seed}")
    return np.asarray(part[groups], dtype=np.int64)


def _as_csv(pairs: Pairs, parts: Mapping[str, Positions]) -> str:
    """Return the rows of a run as a table."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    table = pairs.table
    roles = {name: getattr(table, role) for role, name in _UNITS.items() if table.card.roles[role]}
    writer.writerow(["image", "mask", "split", *roles])
    split = {int(i): name for name, rows in parts.items() for i in rows}
    for i in sorted(split):
        who = ["" if column[i] is None else column[i] for column in roles.values()]
        writer.writerow([table.image[i], pairs.mask[i], split[i], *who])
    return text.getvalue()


def _begin(folder: Path, tables: Mapping[str, str], *, overwrite: bool) -> None:
    """Make the folder of some runs, or see that it holds these."""
    where = folder / TABLES
    if not where.is_dir() and folder.is_dir() and any(folder.iterdir()):
        raise ArtifactError(
            "several runs need a folder of their own.",
            f"{folder} holds other files",
            "choose another --out",
        )
    if where.is_dir() and overwrite:
        for path in (folder / TABLE, folder / RECORD, folder / "repeats.html"):
            path.unlink(missing_ok=True)
        for name in (RUNS, TABLES):  # the tables go last: by them the folder is known as ours
            shutil.rmtree(folder / name, ignore_errors=True)
    where.mkdir(parents=True, exist_ok=True)
    for name, text in tables.items():
        path = where / f"{name}.csv"
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            raise ArtifactError(
                "several runs must go on as they began.",
                f"{path} has other rows than are given now",
                "give the same table; or begin again with --overwrite, or in another --out",
            )
        write_text(path, text, overwrite=True)


def _told(
    run: _Run, folder: Path, pairs: Pairs, training: Mapping[str, Any], trained_on: int
) -> dict[str, Any]:
    """Return the options of one run."""
    roles = pairs.table.card.roles
    kept = {name: value for name, value in training.items() if name not in {*_READING, *_OWN, "ranks"}}
    return {
        **kept,
        "table": folder / TABLES / f"{run.name}.csv",
        "out": folder / RUNS / run.name,
        "images": Path(pairs.table.card.images),
        **{role: name if roles[role] else None for role, name in _UNITS.items()},
        "seed": run.seed,
        "epoch_images": training.get("epoch_images") or trained_on or None,
    }


def _groups(
    runs: Sequence[_Run], done: Sequence[Trained], folds: int | None, percents: Sequence[float] | None
) -> list[Group]:
    """Return which runs are told of together."""
    beside = list(zip(runs, done, strict=True))

    def of(start: str) -> tuple[Trained, ...]:
        return tuple(trained for run, trained in beside if run.name.startswith(start))

    if folds is not None:
        each = [Group(f"fold {k + 1}", k + 1.0, (of(f"fold-{k + 1}_"),)) for k in range(folds)]
        whole = Group("all folds", None, tuple(group.parts[0] for group in each))
        return [*each, whole]
    if percents is not None:
        return [Group(f"{value:g} %", value, (of(f"percent-{value:g}_"),)) for value in percents]
    each = [Group(f"seed {run.seed}", float(run.seed), ((trained,),)) for run, trained in beside]
    return [*each, *([Group("all seeds", None, (tuple(done),))] if len(done) > 1 else [])]
