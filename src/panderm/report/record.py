"""What was run, with what, on what: the cards of an evaluation as rows of words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from panderm.data.lock import LockRecord
from panderm.data.table import SPLITS, Skipped, TableCard
from panderm.embeddings import EmbeddingsCard
from panderm.errors import plural
from panderm.predictions import MultiLabelPredictions, Predictions
from panderm.predictions.card import PredictionsFile
from panderm.provenance import Provenance
from panderm.report.words import duration, moment, pairs, plain

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Run:
    """One command and its circumstances."""

    title: str
    command: str
    facts: Rows


@dataclass(frozen=True)
class Grid:
    """A table with a header row: the first cell of each row names it."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class RunRecord:
    """The section "What was run".

    Attributes:
        runs: the commands, in the order they were run.
        versions: by package; one column for each run where they differ, else one.
        hashes: full hex digests of all inputs.
        method: every setting of the method.
        outcome: what its fit then found.
        preprocessing: every setting from file to network.
        counts: images by class and split, with totals.
        roles: which column of the table plays which part.
        dataset: where the table and its images are, and how much they hold.
        skipped: rows left out, all of them.
        warnings: what the table's reader warned of.
    """

    runs: list[Run]
    versions: Grid
    hashes: Rows
    method: Rows
    outcome: Rows
    preprocessing: Rows
    counts: Grid
    roles: Rows
    dataset: Rows
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]


def run_record(predictions: Predictions | MultiLabelPredictions) -> RunRecord:
    """Gather what the cards of predictions, embeddings and table say of the run."""
    card = predictions.card
    if card.file is not None and card.embeddings is None:
        return _read_from(card.file, predictions)
    embeddings = card.made_of("A report")
    table, fitted = embeddings.table, card.fitted_on
    return RunRecord(
        runs=[
            *_fitted_run(card.fitted_on),
            _embed_run(embeddings),
            _run(f"Predictions ({card.task})", card.provenance),
        ],
        versions=_versions(embeddings.provenance, card.provenance),
        hashes=[
            ("table, its rows and images", table.sha256),
            ("table, the CSV file", table.csv_sha256),
            *([("split lock", table.lock.sha256)] if table.lock else []),
            ("weights", embeddings.encoder.weights_sha256),
            ("embeddings, identity", embeddings.identity),
            *([("embeddings that were fitted, identity", fitted.identity)] if fitted else []),
            *([("table that was fitted, the CSV file", fitted.table.csv_sha256)] if fitted else []),
            ("predictions, identity", card.identity),
        ],
        method=[("task", card.task), *pairs(card.method)],
        outcome=pairs(card.outcome),
        preprocessing=pairs(embeddings.encoder.preprocess),
        counts=_counts(table),
        roles=[(role, f"column “{name}”" if name else "no column") for role, name in table.roles.items()],
        dataset=_dataset(table),
        skipped=table.skipped,
        warnings=table.warnings,
    )


def weights_rows(embeddings: EmbeddingsCard) -> Rows:
    """Say which encoder saw the images and on what terms its weights may be used."""
    encoder = embeddings.encoder
    return [
        ("name", encoder.name),
        ("licence", encoder.licence or "not stated"),
        ("citation", encoder.citation or "not stated"),
        ("source", encoder.source or "not stated"),
        ("file", encoder.weights or "none: drawn at random"),
        ("sha256", encoder.weights_sha256),
        ("account of its keys", encoder.account or "not stated"),
        ("architecture", encoder.architecture),
        ("embedding", f"{plural(encoder.dim, 'number')} an image, pool {encoder.pool}"),
        ("image size", f"{encoder.image_size} × {encoder.image_size} pixels"),
        ("precision", encoder.precision),
    ]


def _read_from(file: PredictionsFile, predictions: Predictions | MultiLabelPredictions) -> RunRecord:
    """Say which file of a user's own predictions were read from, and how."""
    card = predictions.card
    versions = {"panderm": card.provenance.panderm} | card.provenance.versions
    counts = []
    if isinstance(predictions, Predictions):
        counts = [(name, f"{sum(true == name for true in predictions.truth):,}") for name in card.classes]
    else:
        counts = [
            (name, f"{n:,}")
            for name, n in zip(card.classes, (predictions.truth == 1).sum(axis=0), strict=True)
        ]
    return RunRecord(
        runs=[_run("Predictions read from a file", card.provenance)],
        versions=Grid(("package", "version"), list(versions.items())),
        hashes=[("predictions, the file", file.sha256), ("predictions, identity", card.identity)],
        method=[("task", card.task), *pairs(card.method)],
        outcome=pairs(card.outcome),
        preprocessing=[],
        counts=Grid(("class", card.split), [*counts, ("all rows", f"{card.rows:,}")]),
        roles=[
            *((role, f"column “{name}”") for role, name in file.columns.items()),
            *((f"probability of {name}", f"column “{its}”") for name, its in file.probabilities.items()),
        ],
        dataset=[("file", file.path), ("layout", file.layout), ("rows", f"{card.rows:,}")],
        skipped=(),
        warnings=(),
    )


def _run(title: str, provenance: Provenance) -> Run:
    took = [] if provenance.seconds is None else [("took", duration(provenance.seconds))]
    facts = [
        ("finished", moment(provenance.created)),
        *took,
        ("machine", provenance.machine),
        ("panderm", provenance.panderm),
    ]
    command = provenance.command
    return Run(title, "from Python (no command line)" if command == "python" else command, facts)


def _embed_run(card: EmbeddingsCard) -> Run:
    run = _run("Embeddings", card.provenance)
    if card.images_per_second is not None:
        run.facts.insert(-2, ("speed", f"{card.images_per_second:,.1f} images per second"))
    return run


def _fitted_run(fitted: EmbeddingsCard | None) -> list[Run]:
    """Return the run that made the embeddings of another table, where the probe was fitted on one."""
    if fitted is None:
        return []
    run = _embed_run(fitted)
    return [Run(f"Embeddings that were fitted: {fitted.table.name}", run.command, run.facts)]


def _versions(embeddings: Provenance, predictions: Provenance) -> Grid:
    before = {"panderm": embeddings.panderm} | embeddings.versions
    after = {"panderm": predictions.panderm} | predictions.versions
    names = list(dict.fromkeys([*before, *after]))
    if before == after:
        return Grid(("package", "version"), [(name, before[name]) for name in names])
    rows = [(name, before.get(name, "–"), after.get(name, "–")) for name in names]
    return Grid(("package", "embeddings", "predictions"), rows)


def _counts(table: TableCard) -> Grid:
    splits = [s for s in (*SPLITS, *table.counts) if s in table.counts]
    splits = list(dict.fromkeys(splits))
    header = ("class", *splits, *(["all"] if len(splits) > 1 else []))
    rows = []
    for name in table.classes:
        here = [table.counts[s].get(name, 0) for s in splits]
        rows.append((name, *_with_total(here)))
    rows.append(("all classes", *_with_total([sum(table.counts[s].values()) for s in splits])))
    return Grid(header, rows)


def _with_total(numbers: list[int]) -> Iterable[str]:
    return [f"{n:,}" for n in (numbers if len(numbers) == 1 else [*numbers, sum(numbers)])]


def _dataset(table: TableCard) -> Rows:
    patients, groups = (plain(n) if n is not None else "not stated" for n in (table.patients, table.groups))
    return [
        ("table", table.csv),
        ("images in", table.images),
        ("rows used", f"{table.rows:,}"),
        ("rows left out", f"{len(table.skipped):,}"),
        ("patients", patients),
        ("lesions or other groups", groups),
        ("split lock", _lock(table.lock)),
        *([("note", table.note)] if table.note else []),
    ]


def _lock(lock: LockRecord | None) -> str:
    if lock is None:
        return "none: nothing holds this split to what it was"
    joined = ", ".join({"near": "near-duplicates"}.get(why, why) for why in lock.joined_by) or "nothing"
    groups = plural(lock.groups, "group")
    looked = "" if lock.images_read else "; images not looked at"
    return (
        f"{lock.file}, made {moment(lock.created)} with seed {lock.seed}: {groups} joined "
        f"by {joined}, the largest of {plural(lock.largest, 'row')}{looked}. Rows and images agreed with it"
    )
