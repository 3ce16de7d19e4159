"""The verb that runs many datasets through many encoders, and what it prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer import Option

from panderm.cli import options as opt
from panderm.cli.frame import Finding, verb
from panderm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from panderm.benches.benchmark import Benchmark
    from panderm.benches.reproduced import Looked


@verb
def benchmark(
    tables: Annotated[Path | None, Option(help="CSV with a row a dataset.", show_default=False)] = None,
    encoders: Annotated[Path | None, Option(help="CSV with a row an encoder.", show_default=False)] = None,
    out: Annotated[Path | None, Option(help="Folder to write.", show_default=False)] = None,
    published: Annotated[
        bool, Option("--published", help="The paper's nine datasets, and the published numbers beside ours.")
    ] = False,
    data: Annotated[
        Path | None,
        Option(help="With --published: folder of datasets, named as there.", show_default=False),
    ] = None,
    list_: Annotated[
        bool, Option("--list", help="With --published: only say what is here and what is missing.")
    ] = False,
    kind: opt.Kind = "linear",
    recipe: Annotated[
        Literal["tuned", "paper"] | None,
        Option(
            help="tuned or paper, as of probe; default: tuned, with --published paper.", show_default=False
        ),
    ] = None,
    score: Annotated[
        str | None,
        Option(
            help="Score to show and compare; default: auroc of two classes, weighted_f1 of more.",
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        str | None,
        Option(help="Encoder that all others are compared with; default: the first.", show_default=False),
    ] = None,
    draws: opt.Draws = 2000,
    permutations: Annotated[int, Option(help="Swaps of the paired permutation test.", min=1)] = 2000,
    seed: opt.Seed = 0,
    device: opt.Device = "auto",
    batch_size: opt.BatchSize = None,
    workers: opt.DecodeWorkers = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Run many datasets through many encoders: one table with intervals, tests against one of them, ranks.

    Exit code 1: a cell failed; with --published, something is missing. --list always ends with 0.

    Example: panderm benchmark --tables tables.csv --encoders encoders.csv --out bench/
    """
    from panderm.benches.benchmark import benchmark
    from panderm.benches.reproduced import asked_of, look

    if list_ and not published:
        raise UsageError("--list must come with --published.", "found no --published")
    looked = look(tables=tables, data=data) if published else []
    told = _told_of_look(looked) if published else {}
    if published and not as_json:
        show_look(looked)
    if list_:
        return told
    if published and not asked_of(looked):
        return Finding(told)
    if out is None:
        raise UsageError("a benchmark must have a folder to write to.", "found no --out", "--out bench/")
    done = benchmark(
        tables=tables,
        encoders=encoders,
        out=out,
        published=published,
        data=data,
        kind=kind,
        recipe=recipe,
        score=score,
        reference=reference,
        draws=draws,
        permutations=permutations,
        seed=seed,
        device=device,
        batch_size=batch_size,
        workers=workers,
        overwrite=overwrite,
        progress=not quiet,
    )
    if not as_json:
        show_benchmark(done)
    told |= told_of_benchmark(done)
    complete = done.ok and all(one.asked is not None for one in looked)
    return told if complete else Finding(told)


def told_of_benchmark(done: Benchmark) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    return {
        "out": str(done.folder),
        "page": str(done.folder / "benchmark.html"),
        "reference": done.reference,
        "encoders": list(done.encoders),
        "datasets": [
            {
                "name": column.dataset,
                "score": column.score,
                "best": column.best,
                "cells": [
                    {"encoder": cell.encoder, **column.value(i).as_dict(), "problem": cell.problem}
                    for i, cell in enumerate(column.cells)
                ],
            }
            for column in done.columns
        ],
        "comparisons": [
            {
                "dataset": one.dataset,
                "encoder": one.encoder,
                **({"problem": one.problem} if one.test is None else one.test.as_dict()),
                "p_holm": one.corrected,
            }
            for one in done.comparisons
        ],
        "average_ranks": [None if rank != rank else float(rank) for rank in done.ranks.ranks],
        "friedman_p": done.ranks.p,
        "reproduced": [
            {
                "dataset": one.dataset,
                "encoder": one.encoder,
                **vars(one.number),
                "ours": None if one.ours is None else one.ours.as_dict(),
                "difference": one.difference,
                "inside": one.inside,
                "not_compared": one.why_not or None,
            }
            for one in done.reproduced
        ],
    }


def show_benchmark(done: Benchmark) -> None:
    """Print the table, the comparisons and the cells that failed."""
    from panderm.benches.files import beneath
    from panderm.benches.words import (
        BEST,
        cell_text,
        difference_text,
        p_text,
        rank_text,
        score_title,
        tests_text,
    )

    console = _console(len(done.columns))
    lines = Table(box=None, pad_edge=False)
    lines.add_column("encoder")
    for column in done.columns:
        lines.add_column(Text(f"{column.dataset}\n{score_title(column)}"), overflow="fold")
    lines.add_column("rank", justify="right")
    for i, name in enumerate(done.encoders):
        cells = [
            Text(cell_text(column.value(i)) + (" *" if column.best == name else ""))
            for column in done.columns
        ]
        lines.add_row(Text(name), *cells, rank_text(done, i))
    console.print(lines)
    for text in beneath(done, f"*: {BEST}"):
        console.print(text, markup=False)
    if done.comparisons:
        console.print()
        pairs = Table(box=None, pad_edge=False)
        for title in ("dataset", "encoder", f"minus {done.reference}", "p", "p after Holm"):
            pairs.add_column(Text(title), justify="right" if title.startswith("p") else "left")
        for one in done.comparisons:
            apart = "not compared" if one.test is None else difference_text(one.test.difference)
            p = p_text(None if one.test is None else one.test.p)
            pairs.add_row(Text(one.dataset), Text(one.encoder), apart, p, p_text(one.corrected))
        console.print(pairs)
        console.print(tests_text(done), markup=False)
    if done.reproduced:
        _show_reproduced(console, done)
    typer.echo(f"page: {(done.folder / 'benchmark.html').resolve()}")


def show_look(looked: Sequence[Looked]) -> None:
    """Print the nine datasets: what was published, what is here, and how to get what is not."""
    from panderm.benches.published import NINE
    from panderm.benches.reproduced import ENCODER, weights_missing
    from panderm.report.words import number, score_words

    console = _console(4)
    lines = Table(box=None, pad_edge=False)
    for title in ("dataset", "classes", "images", "published rows", f"{ENCODER}", "here"):
        lines.add_column(title, justify="right" if title in ("classes", "images") else "left")
    for one in looked:
        published = one.published
        rows = [
            f"{split.name}: {', '.join(f'{name} {n:,}' for name, n in split.rows.items())}"
            for split in published.splits
        ]
        numbers = [
            f"{split.name}: {score_words(n.score).title} {number(n.value)}"
            for split in published.splits
            for n in split.numbers
            if (n.encoder, n.score) == (ENCODER, published.score)
        ]
        here = "missing" if one.asked is None else str(one.asked.csv or one.asked.embeddings)
        lines.add_row(
            Text(published.name),
            str(published.classes),
            f"{published.images:,}",
            Text("\n".join(rows) or "not published"),
            Text("\n".join(numbers) or "figure only"),
            Text(here),
        )
    console.print(lines)
    console.print()
    for one in looked:
        name = one.published.name
        if one.asked is None:
            console.print(f"{name}: missing; to get it: panderm data show {one.published.data}", markup=False)
            continue
        for told in one.differences:
            console.print(f"{name}: {told}", markup=False)
        if one.why_not:
            console.print(f"{name}: not held against the published numbers: {one.why_not}", markup=False)
    notes = [f"{one.name}: {one.note}" for one in NINE if one.note]
    for text in ("", "Of what was published:", *notes, weights_missing()):
        if text is not None:
            console.print(text, markup=False)


def _told_of_look(looked: Sequence[Looked]) -> dict[str, Any]:
    from panderm.benches.reproduced import weights_missing

    return {"published": [one.as_dict() for one in looked], "weights_missing": weights_missing()}


def _show_reproduced(console: Console, done: Benchmark) -> None:
    from panderm.benches.words import cell_text
    from panderm.report.words import number, score_words, signed

    console.print()
    lines = Table(box=None, pad_edge=False)
    for title in ("dataset", "score", "published", "ours", "difference", "published in our interval"):
        lines.add_column(title)
    for one in done.reproduced:
        inside = one.why_not if one.inside is None else "yes" if one.inside else "no"
        lines.add_row(
            Text(one.dataset),
            score_words(one.number.score).title,
            number(one.number.value),
            "–" if one.ours is None else cell_text(one.ours),
            "–" if one.difference is None else signed(one.difference),
            Text(inside),
        )
    console.print(lines)


def _console(columns: int) -> Console:
    wide = None if sys.stdout.isatty() else max(110, 30 + 24 * columns)
    return Console(highlight=False, width=wide)
