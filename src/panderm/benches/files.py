"""The files of a benchmark: one table as CSV, Markdown, LaTeX and a page; every number; the methods."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panderm.benches.page import page_of
from panderm.benches.words import (
    BOLD,
    cell_text,
    difference_text,
    failures,
    methods,
    p_text,
    rank_text,
    ranks_text,
    rows_text,
    score_title,
    tests_text,
)
from panderm.errors import ArtifactError
from panderm.report.benchmark import render_benchmark
from panderm.storage import refuse_existing, write_json, write_text

if TYPE_CHECKING:
    from panderm.benches.benchmark import Benchmark

PAGE = "benchmark.html"
_MARK = "benchmark.json"
_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "–": "--",
    "−": r"\(-\)",
    "×": r"\(\times\)",
}


def begin(out: Path, *, overwrite: bool) -> None:
    """Claim a folder for a benchmark, before anything is computed.

    Raises:
        ArtifactError: it holds a finished benchmark and ``overwrite`` is not set, or other files.
    """
    refuse_existing(out / PAGE, overwrite=overwrite)
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / _MARK).is_file()):
        found = f"{out} is a file" if out.is_file() else f"{out} holds other files"
        raise ArtifactError(
            "--out must be a folder of its own for the whole benchmark.", found, "choose another --out"
        )
    write_json(out / _MARK, {"kind": "benchmark", "format": 1}, overwrite=True)


def write_files(done: Benchmark) -> None:
    """Write every file, the page last: once it is there the benchmark is finished."""
    texts = {
        "table.csv": table_csv(done),
        "table.md": table_markdown(done),
        "table.tex": table_latex(done),
        "cells.csv": cells_csv(done),
        "comparisons.csv": comparisons_csv(done),
        "methods.txt": methods(done) + "\n",
    }
    if done.reproduced:
        texts["published.csv"] = published_csv(done)
    for name, text in texts.items():
        write_text(done.folder / name, text, overwrite=True)
    write_text(done.folder / PAGE, render_benchmark(page_of(done)), overwrite=True)


def table_csv(done: Benchmark) -> str:
    """Return the table: encoders down the rows, datasets across, a score and its interval in each cell."""
    head = ["encoder", *(f"{c.dataset}: {score_title(c)}" for c in done.columns), "average rank"]
    rows = [
        [name, *(cell_text(c.value(i)) for c in done.columns), rank_text(done, i)]
        for i, name in enumerate(done.encoders)
    ]
    return _csv([head, *rows])


def cells_csv(done: Benchmark) -> str:
    """Return every score of every cell, a line each; cells that failed have a reason."""
    head = ["dataset", "encoder", "encoder identity", "score", "shown", "value", "low", "high", "reason"]
    head += ["n", "clusters", "unit", "split", "classes", "draws", "seed"]
    rows: list[list[Any]] = [head]
    for column in done.columns:
        for cell in column.cells:
            if cell.scores is None or cell.predictions is None:
                rows.append([cell.dataset, cell.encoder, *[None] * 6, cell.problem, *[None] * 7])
                continue
            its, record = cell.scores, cell.predictions.card.made_of("A benchmark").encoder
            said = f"{record.name} {record.weights_sha256[:12]}"
            tail = [its.n, its.clusters, its.unit, its.split, len(its.classes), its.draws, its.seed]
            for name, one in its.scores.items():
                shown = "yes" if name == column.score else "no"
                numbers = [one.value, one.low, one.high, one.reason]
                rows.append([cell.dataset, cell.encoder, said, name, shown, *numbers, *tail])
    return _csv(rows)


def comparisons_csv(done: Benchmark) -> str:
    """Return every comparison with the reference, a line each."""
    head = ["dataset", "encoder", "reference", "score", "difference", "low", "high", "p", "p after Holm"]
    rows: list[list[Any]] = [[*head, "permutations", "exact", "clusters", "unit", "reason"]]
    for one in done.comparisons:
        names = [one.dataset, one.encoder, done.reference]
        if one.test is None:
            rows.append([*names, *[None] * 10, one.problem])
            continue
        t, d = one.test, one.test.difference
        numbers = [t.score, d.value, d.low, d.high, t.p, one.corrected]
        rows.append([*names, *numbers, t.worlds, "yes" if t.exact else "no", t.clusters, t.unit, d.reason])
    return _csv(rows)


def published_csv(done: Benchmark) -> str:
    """Return every published number beside ours, a line each."""
    rows: list[list[Any]] = [
        [
            *("dataset", "encoder", "score", "published", "ours", "low", "high"),
            *("difference", "inside", "source", "reason"),
        ]
    ]
    for one in done.reproduced:
        ours = one.ours
        values = [None] * 3 if ours is None else [ours.value, ours.low, ours.high]
        inside = None if one.inside is None else "yes" if one.inside else "no"
        number = one.number
        rows.append(
            [
                *(one.dataset, one.encoder, number.score, number.value, *values),
                *(one.difference, inside, number.source, one.why_not or None),
            ]
        )
    return _csv(rows)


def table_markdown(done: Benchmark) -> str:
    """Return the table and the comparisons in Markdown, with what they rest on."""

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    heads = [f"{_md(c.dataset)}<br>{score_title(c)}" for c in done.columns]
    lines = [line(["encoder", *heads, "average rank"]), line(["---", *["---:"] * (len(heads) + 1)])]
    for i, name in enumerate(done.encoders):
        cells = [
            f"**{cell_text(c.value(i))}**" if c.best == name else cell_text(c.value(i)) for c in done.columns
        ]
        lines.append(line([_md(name), *cells, rank_text(done, i)]))
    lines += ["", *(f"{text}\n" for text in map(_md, beneath(done)))]
    if done.comparisons:
        lines += [line(["dataset", "encoder", "difference", "p", "p after Holm"])]
        lines += [line(["---", "---", "---:", "---:", "---:"])]
        lines += [line(map(_md, cells)) for cells in _compared(done)]
        lines += ["", _md(tests_text(done))]
    return "\n".join(lines) + "\n"


def table_latex(done: Benchmark) -> str:
    """Return the table and the comparisons for LaTeX with the package ``booktabs``."""
    heads = [rf"\shortstack[r]{{{_tex(c.dataset)}\\ {_tex(score_title(c))}}}" for c in done.columns]
    body = []
    for i, name in enumerate(done.encoders):
        texts = [(_tex(cell_text(c.value(i))), c.best == name) for c in done.columns]
        cells = [rf"\textbf{{{text}}}" if best else text for text, best in texts]
        body.append([f"{{{_tex(name)}}}", *cells, _tex(rank_text(done, i))])
    parts = [
        r"% \usepackage{booktabs} in the preamble, and \usepackage[utf8]{inputenc} with an old LaTeX.",
        _tabular("l" + "r" * (len(heads) + 1), ["Encoder", *heads, "Rank"], body, beneath(done), "benchmark"),
    ]
    if done.comparisons:
        compared = [[f"{{{_tex(cells[0])}}}", *map(_tex, cells[1:])] for cells in _compared(done)]
        titles = ["Dataset", "Encoder", "Difference", r"\(p\)", r"\(p\) after Holm"]
        parts.append(_tabular("llrrr", titles, compared, [tests_text(done)], "comparisons"))
    return "\n\n".join(parts) + "\n"


def beneath(done: Benchmark, best: str = BOLD) -> list[str]:
    """Return what stands below the table: what was scored, ranks, what is best, and cells that failed."""
    told = [f"{c.dataset}: {rows_text(c)}." for c in done.columns]
    told = [" ".join(told) + f" 95 % intervals, {done.settings.draws:,} bootstrap draws of whole units."]
    if len(done.encoders) > 1:
        told += [ranks_text(done), best]
    return told + [f"–: {datasets} × {encoders}: {why}" for datasets, encoders, why in failures(done)]


def _compared(done: Benchmark) -> list[list[str]]:
    return [
        [one.dataset, one.encoder, "–", "–", "–"]
        if one.test is None
        else [
            *(one.dataset, one.encoder, difference_text(one.test.difference)),
            *(p_text(one.test.p), p_text(one.corrected)),
        ]
        for one in done.comparisons
    ]


def _tabular(
    columns: str, titles: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str], label: str
) -> str:
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(titles) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        rf"\caption{{{_tex(' '.join(notes))}}}",
        rf"\label{{tab:{label}}}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in _one_line(text))


def _md(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", _one_line(text))


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["" if x is None else x for x in row] for row in rows])
    return text.getvalue()
