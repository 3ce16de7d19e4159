"""Many datasets by many encoders: every cell made once, and all compared with one of the encoders."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from panderm.benches.asked import AskedDataset, AskedEncoder, read_datasets, read_encoders
from panderm.benches.cells import (
    Cell,
    Settings,
    check_encoder,
    check_table,
    embeddings_of,
    in_a_line,
    kept_loaded,
    require_different,
    score_cell,
)
from panderm.benches.compared import Column, Comparison, Pairs, chosen_score, compare_all, ranks_of
from panderm.benches.files import begin, write_files
from panderm.benches.published import NINE
from panderm.benches.reproduced import Reproduced, asked_of, compare_published, look, no_encoder
from panderm.data.table import Table
from panderm.embeddings.making.ranks import require_alone
from panderm.errors import PandermError, UsageError, did_you_mean
from panderm.models.several import Eye
from panderm.progress import say
from panderm.provenance import Provenance
from panderm.scores import DRAWS
from panderm.scores.paired_test import PERMUTATIONS
from panderm.statistics.classification import score_names
from panderm.statistics.ranks import AverageRanks
from panderm.training.settings import ProbeKind, Recipe


@dataclass(frozen=True)
class Benchmark:
    """What :func:`benchmark` found, and where it lies.

    Attributes:
        folder: of the whole benchmark; its tables and page lie in it.
        encoders: their names, in order.
        columns: one for each dataset.
        reference: the encoder that the others are compared with.
        comparisons: each other encoder against it on each dataset.
        ranks: average ranks by the scores shown.
        settings: what was the same for all cells.
        made: version, command, time.
        reproduced: the published numbers beside these, where they were asked for.
    """

    folder: Path
    encoders: tuple[str, ...]
    columns: tuple[Column, ...]
    reference: str
    comparisons: tuple[Comparison, ...]
    ranks: AverageRanks
    settings: Settings
    made: Provenance
    reproduced: tuple[Reproduced, ...] = ()

    @property
    def failed(self) -> tuple[Cell, ...]:
        """The cells that could not be made, each with its problem."""
        return tuple(cell for column in self.columns for cell in column.cells if cell.problem)

    @property
    def ok(self) -> bool:
        """Whether every cell was made."""
        return not self.failed


def benchmark(
    *,
    tables: Path | str | None = None,
    encoders: Path | str | None = None,
    out: Path | str,
    published: bool = False,
    data: Path | str | None = None,
    kind: ProbeKind = "linear",
    recipe: Recipe | None = None,
    score: str | None = None,
    reference: str | None = None,
    draws: int = DRAWS,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Benchmark:
    """Embed, probe and score every dataset with every encoder, and compare all with one of them.

    Whatever was made before under the same ``out`` is taken as it is, if table, encoder and options are the
    same; stopped half-way and called again, it goes on. A cell that fails says why, and the rest goes on.

    Args:
        tables: CSV with a row a dataset: name, csv, images, label, split_column, patient, group, classes,
            test, embeddings, … Paths are relative to this file.
        encoders: CSV with a row an encoder: name, encoder, weights, card, pool, image_size, precision, …
        out: folder to write.
        published: the paper's nine datasets: those of ``tables`` or ``data`` that are among them, by default
            with ``panderm-large`` and the paper's recipe, and the published numbers beside ours.
        data: folder whose tables or folders are named as :data:`panderm.benches.published.NINE` names them.
        kind: of the probe, as of :func:`panderm.probe`.
        recipe: likewise; by default ``tuned``, of ``published`` ``paper``.
        score: what is shown and compared; by default AUROC of two classes and weighted F1 of more.
        reference: name of the encoder that all others are compared with; by default the first.
        draws: of the bootstrap.
        permutations: of the paired permutation test.
        seed: of the probe, the bootstrap and the permutations.
        device: as of :func:`panderm.load_encoder`.
        batch_size: as of :meth:`panderm.Encoder.embed`.
        workers: likewise.
        overwrite: replace the tables of an earlier benchmark in ``out``; its cells are kept.
        progress: a line a cell on standard error.

    Raises:
        TableError: ``tables`` or ``encoders`` cannot be read, or have columns that are not known.
        UsageError: options that cannot be; the same encoder twice; nothing to run.
        ArtifactError: ``out`` holds a finished benchmark and ``overwrite`` is not set.

    Example:
        >>> done = panderm.benchmark(
        ...     tables="tables.csv", encoders="encoders.csv", out="bench/"
        ... )  # doctest: +SKIP
        >>> done.columns[0].value(0)  # doctest: +SKIP
        Score(value=0.781, low=0.752, high=0.809, reason=None)
    """
    require_alone("benchmark")
    folder = Path(out)
    datasets, chosen = _asked(tables, encoders, data, published=published)
    names = [one.name for one in chosen]
    first = _position(reference, names)
    _require_score(score)
    settings = Settings(
        kind=kind,
        recipe=recipe or ("paper" if published else "tuned"),
        draws=draws,
        permutations=permutations,
        seed=seed,
        device=device,
        batch_size=batch_size,
        workers=workers,
        progress=progress,
    )
    if min(draws, permutations) < 1 or seed < 0:
        raise UsageError(
            "--draws and --permutations must be at least 1, and --seed not negative.",
            f"found {draws}, {permutations} and {seed}",
        )
    begin(folder, overwrite=overwrite)
    cells = _cells(datasets, chosen, folder, settings)
    columns = []
    for asked in datasets:
        own = tuple(cells[asked.name, name] for name in names)
        columns.append(Column(asked.name, chosen_score(own, score), own))
    columns, comparisons = compare_all(columns, first, Pairs(folder, settings), progress=progress)
    done = Benchmark(
        folder=folder,
        encoders=tuple(names),
        columns=tuple(columns),
        reference=names[first],
        comparisons=tuple(comparisons),
        ranks=ranks_of(columns),
        settings=settings,
        made=Provenance.now(),
        reproduced=compare_published(columns) if published else (),
    )
    write_files(done)
    return done


def _asked(
    tables: Path | str | None, encoders: Path | str | None, data: Path | str | None, *, published: bool
) -> tuple[list[AskedDataset], list[AskedEncoder]]:
    """Return the datasets and encoders of a benchmark."""
    if not published:
        if tables is None or encoders is None or data is not None:
            raise UsageError(
                "a benchmark must have --tables, a row a dataset, and --encoders, a row an encoder.",
                "--data goes with --published" if data is not None else "one of them is missing",
                "panderm benchmark --tables tables.csv --encoders encoders.csv --out bench/",
            )
        return read_datasets(tables), read_encoders(encoders)
    found = asked_of(look(tables=tables, data=data))
    if not found:
        raise UsageError(
            "a benchmark of the published datasets must find one of them at least.",
            f"looked for: {', '.join(one.name for one in NINE)}",
            "panderm benchmark --published --list says how to get each; name their folder with --data",
        )
    return found, [no_encoder()] if encoders is None else read_encoders(encoders)


def _position(reference: str | None, names: Sequence[str]) -> int:
    if reference is None:
        return 0
    if reference not in names:
        raise UsageError(
            f"--reference must be one of the encoders{did_you_mean(reference, names)}",
            f"found {reference!r}; there are: {', '.join(names)}",
        )
    return list(names).index(reference)


def _require_score(score: str | None) -> None:
    known = list(dict.fromkeys([*score_names(2), *score_names(3)]))
    if score is not None and score not in known:
        raise UsageError(
            f"no score is called {score!r}{did_you_mean(score, known)}", f"known: {', '.join(known)}"
        )


def _cells(
    datasets: Sequence[AskedDataset], encoders: Sequence[AskedEncoder], out: Path, settings: Settings
) -> dict[tuple[str, str], Cell]:
    """Make every cell, encoder by encoder, so that one network at a time is in memory."""
    problems: dict[str, str] = {}
    eyes: dict[str, Eye] = {}
    # All encoders are checked first, then all tables: what is wrong is known before hours of embedding.
    for one in encoders:
        try:
            eye = check_encoder(one, settings)
        except (PandermError, OSError) as error:
            problems[one.name] = in_a_line(error)
            continue
        if eye is not None:
            eyes[one.name] = eye
    require_different(eyes)
    rows: dict[str, Table | None] = {}
    unread: dict[str, str] = {}
    for asked in datasets:
        try:
            rows[asked.name] = check_table(asked, progress=settings.progress)
        except (PandermError, OSError) as error:
            unread[asked.name] = in_a_line(error)
    found: dict[tuple[str, str], Cell] = {}
    clock = _Clock(len(datasets) * len(encoders), shown=settings.progress)
    for one in encoders:
        eye = kept_loaded(eyes[one.name]) if one.name in eyes else None
        for asked in datasets:
            problem = unread.get(asked.name) or problems.get(one.name)
            cell = Cell(asked.name, one.name, problem=problem)
            if problem is None:
                cell = _cell(asked, rows[asked.name], one.name, eye, out, settings)
            found[asked.name, one.name] = cell
            clock.tell(cell)
    return found


def _cell(
    asked: AskedDataset, table: Table | None, name: str, eye: Eye | None, out: Path, settings: Settings
) -> Cell:
    try:
        embeddings, embedded = embeddings_of(asked, table, name, eye, out, settings)
        predictions, scores, scored = score_cell(embeddings, asked, name, out, settings)
    except (PandermError, OSError) as error:
        return Cell(asked.name, name, problem=in_a_line(error), made=True)
    return Cell(asked.name, name, predictions, scores, made=embedded or scored)


class _Clock:
    """A line for each cell: what came of it, and how long the rest will take at this pace."""

    def __init__(self, cells: int, *, shown: bool) -> None:
        self.cells, self.shown = cells, shown
        self.done, self.spent, self.made, self.since = 0, 0.0, 0, time.monotonic()

    def tell(self, cell: Cell) -> None:
        now = time.monotonic()
        self.done += 1
        took, self.since = now - self.since, now
        if cell.made:
            self.spent, self.made = self.spent + took, self.made + 1
        if not self.shown:
            return
        if cell.problem:
            told = f"failed: {cell.problem}"
        else:
            told = f"{took:.0f} s" if cell.made else "as it was"
            left = self.cells - self.done
            if left and self.made:
                told += f", at most about {left * self.spent / self.made:.0f} s left"
        say(f"{self.done}/{self.cells} {cell.dataset} × {cell.encoder}: {told}")
