"""A benchmark as its page shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from panderm.benches.compared import Column
from panderm.benches.words import (
    BOLD,
    failures,
    methods,
    p_text,
    rank_text,
    ranks_text,
    rows_text,
    score_title,
    tests_text,
)
from panderm.errors import plural, some
from panderm.report.benchmark import BenchmarkPage, Beside, Difference, Head, Line, Shown
from panderm.report.page import Banner, score_row, sentence
from panderm.report.several.beside import difference_row, scale_of
from panderm.report.words import interval, number, score_words, signed
from panderm.scores import Score

if TYPE_CHECKING:
    from panderm.benches.benchmark import Benchmark
    from panderm.benches.reproduced import Reproduced
    from panderm.embeddings import EncoderRecord

_NONE = Score(None, None, None)


def page_of(done: Benchmark) -> BenchmarkPage:
    """Return all that the page says."""
    found = [one.test.difference for one in done.comparisons if one.test is not None]
    scale = scale_of(found)
    heads = [Head(c.dataset, score_title(c), rows_text(c)) for c in done.columns]
    beneath = [" ".join(f"{head.name}: {head.rows}." for head in heads)]
    if len(done.encoders) > 1:
        beneath += [ranks_text(done), BOLD]
    return BenchmarkPage(
        heads=heads,
        lines=[_line(done, i) for i in range(len(done.encoders))],
        differences=[
            Difference(
                dataset=one.dataset,
                encoder=one.encoder,
                difference=difference_row(_NONE if one.test is None else one.test.difference, scale),
                p=p_text(None if one.test is None else one.test.p),
                corrected=p_text(one.corrected),
                holds=one.test is None or one.test.holds_zero,
            )
            for one in done.comparisons
        ],
        reference=done.reference,
        scale=scale,
        banners=_banners(done),
        problems=failures(done),
        published=[_beside(one) for one in done.reproduced],
        beneath=beneath,
        tests=tests_text(done),
        methods=methods(done),
        command=done.made.command,
        versions=[
            ("panderm", done.made.panderm),
            *done.made.versions.items(),
            ("machine", done.made.machine),
        ],
        created=done.made.created,
        version=done.made.panderm,
    )


def _record(done: Benchmark, encoder: int) -> EncoderRecord | None:
    """Return what is known of an encoder, by the first of its cells that was made."""
    cells = [column.cells[encoder].predictions for column in done.columns]
    return next((made.card.made_of("A benchmark").encoder for made in cells if made is not None), None)


def _line(done: Benchmark, i: int) -> Line:
    record, name = _record(done, i), done.encoders[i]
    facts = "no cell was made"
    if record is not None:
        size = f"{record.image_size} × {record.image_size} pixels"
        told = (record.name, plural(record.dim, "number"), size, f"pool {record.pool}", record.precision)
        facts = " · ".join(told)
    return Line(
        name=name,
        facts=facts,
        random=record is not None and record.random,
        reference=name == done.reference,
        cells=[_shown(column, i, name) for column in done.columns],
        rank=rank_text(done, i),
    )


def _shown(column: Column, i: int, name: str) -> Shown:
    row = score_row(column.score or "", column.value(i))
    return Shown(row, best=column.best == name, problem=column.cells[i].problem)


def _banners(done: Benchmark) -> list[Banner]:
    found = []
    records = [_record(done, i) for i in range(len(done.encoders))]
    drawn = [name for name, one in zip(done.encoders, records, strict=True) if one is not None and one.random]
    if drawn:
        text = (
            f"Weights drawn at random: {some(drawn, 12)}. Such numbers say nothing about a trained encoder."
        )
        found.append(Banner("stop", "Random encoder", text))
    if done.failed:
        text = f"{plural(len(done.failed), 'cell')} could not be made; the reasons are below."
        found.append(Banner("care", "Not complete", text))
    tables = {}
    for column in done.columns:
        if column.scored is not None and column.scored.predictions is not None:
            tables[column.dataset] = column.scored.predictions.card.made_of("A benchmark").table
    for name, table in tables.items():
        for warning in table.warnings:
            found.append(Banner("care", f"Warning from {name}", sentence(warning)))
        if table.note:
            found.append(Banner("note", f"Note on {name}", sentence(table.note)))
    return found


def _beside(one: Reproduced) -> Beside:
    ours = "–"
    if one.ours is not None and one.ours.value is not None:
        between = interval(one.ours)
        ours = number(one.ours.value) + (f" ({between})" if between else "")
    return Beside(
        dataset=one.dataset,
        score=score_words(one.number.score).title,
        published=number(one.number.value),
        source=f"{one.number.encoder}; {one.number.source}",
        ours=ours,
        difference="–" if one.difference is None else signed(one.difference),
        inside="" if one.inside is None else "yes" if one.inside else "no",
        why_not=one.why_not,
    )
