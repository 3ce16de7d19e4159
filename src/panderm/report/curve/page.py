"""The page of label efficiency: what equals what, the figure, every number, and how it came about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from markupsafe import Markup

from panderm.embeddings import EmbeddingsCard
from panderm.errors import plural, some
from panderm.probing.curve_fits import ALONE, SUBSETS
from panderm.provenance import Provenance
from panderm.report.curve.figure import described, label_curves
from panderm.report.drawing.svg import SERIES
from panderm.report.page import FEW, Banner, sentence, template
from panderm.report.record import Grid, Rows, weights_rows
from panderm.report.several.keys import Key
from panderm.report.words import duration, moment, number, pairs, score_words, short, units
from panderm.scores.label_efficiency import LabelEfficiency, PointScores, Reach


@dataclass(frozen=True)
class Cell:
    """A mean, its total interval, and the standard deviation between draws of labels, in words."""

    value: str
    interval: str
    between: str


@dataclass(frozen=True)
class Line:
    """One number of labels: how many rows that is, and a cell for each encoder."""

    title: str
    rows: str
    cells: list[Cell]


def render_curve(given: LabelEfficiency, cards: Sequence[EmbeddingsCard], provenance: Provenance) -> str:
    """Return the complete page.

    Args:
        given: what was scored.
        cards: of the embeddings, in the order of its titles.
        provenance: of this run.
    """
    keys = _keys(given, cards)
    name = score_words(given.score).title
    page = template("curve.html").render(
        given=given,
        keys=keys,
        table=cards[0].table,
        score=name,
        lead=_lead(given),
        banners=_banners(given, cards),
        sentences=[text.replace(" %", "\u00a0%") for text in given.sentences()],
        reaches=_reach_table(given, keys),
        figure=label_curves(given),
        caption=described(given),
        doubt=_doubt(given),
        lines=_lines(given, given.score),
        others=[
            (score_words(other).title, _lines(given, other))
            for other in given.points[0][0].spreads
            if other != given.score
        ],
        reasons=[f"{score_words(n).title}: {why}" for n, why in given.reasons.items()],
        labels=_labels(given),
        cannot=[f"{given.point_title(value)}: {why}" for value, why in given.cannot.items()],
        methods=_methods(given),
        record=_record(given, cards, provenance),
        weights=[(key, weights_rows(card)) for key, card in zip(keys, cards, strict=True)],
        curve_css=Markup((files("panderm.report") / "templates" / "curve.css").read_text("utf-8")),
        created=moment(provenance.created),
        version=provenance.panderm,
    )
    return page.strip() + "\n"


def _keys(given: LabelEfficiency, cards: Sequence[EmbeddingsCard]) -> list[Key]:
    keys = []
    for i, (title, card) in enumerate(zip(given.titles, cards, strict=True)):
        encoder = card.encoder
        facts = (encoder.architecture, f"{plural(encoder.dim, 'number')} an image", f"pool {encoder.pool}")
        letter = chr(ord("A") + i) if i < 26 else str(i + 1)
        licence = f"licence: {encoder.licence or 'not stated'}"
        colour = i % len(SERIES) + 1
        keys.append(
            Key(letter, colour, title, short(title, 30), " · ".join((*facts, licence)), encoder.random)
        )
    return keys


def _lead(given: LabelEfficiency) -> str:
    point = given.points[0][0]
    first = given.point_title(point.value)
    whole = "" if given.label_unit == "image" else f", whole {units(given.label_unit)} at a time"
    tested = plural(given.n, "image")
    if given.unit != "image":
        tested += f" of {plural(given.clusters, given.unit)}"
    return (
        f"Probes fitted on {first} to all of {plural(given.trained, 'training row')}{whole}, "
        f"{plural(given.repeats, 'draw')} of labels each, scored on the {given.split} split: {tested}."
    )


def _banners(given: LabelEfficiency, cards: Sequence[EmbeddingsCard]) -> list[Banner]:
    found = []
    drawn = [t for t, card in zip(given.titles, cards, strict=True) if card.encoder.random]
    if drawn:
        text = (
            f"The weights of {some(drawn)} are drawn at random: no trained encoder is to be judged by them."
        )
        found.append(Banner("stop", "Random encoder", text))
    points = [point for curve in given.points for point in curve]
    lost = sum(point.fits - point.converged for point in points)
    if lost:
        text = f"{lost:,} of {plural(sum(p.fits for p in points), 'fit')} stopped before their optimum."
        found.append(Banner("care", "Not converged", text))
    if given.clusters < FEW:
        text = f"{plural(given.clusters, given.unit)} to resample only: read these intervals as a guess."
        found.append(Banner("care", "Few test units", text))
    if given.repeats == 1:
        text = "What another choice of labelled rows would give cannot be told from one."
        found.append(Banner("care", "One draw of labels", text))
    found += [Banner("care", "Warning from the table", sentence(text)) for text in cards[0].table.warnings]
    if cards[0].table.note:
        found.append(Banner("note", "Note on the data", sentence(cards[0].table.note)))
    return found


def _reach_table(given: LabelEfficiency, keys: Sequence[Key]) -> Grid:
    """Return what each needs (rows) to reach each with all (columns)."""
    by_pair = {(reach.encoder, reach.other): reach for reach in given.reaches}
    rows = []
    for key in keys:
        cells = []
        for other in keys:
            reach = by_pair.get((key.title, other.title))
            cells.append("·" if reach is None else _needed(given, reach))
        rows.append((f"{key.letter}  {key.title}", *cells))
    return Grid(("labels of", *(f"to equal {key.letter} with all" for key in keys)), rows)


def _needed(given: LabelEfficiency, reach: Reach) -> str:
    found = reach.found
    if np.isnan(found.value):
        return "not computable"
    value, *ends = (given.in_short(x) for x in (found.value, found.low, found.high))
    if np.isnan(found.low) or ends[0] == ends[1] == value:
        return value
    return f"{value} ({ends[0]} to {ends[1]})"


def _lines(given: LabelEfficiency, score: str) -> list[Line]:
    lines = []
    for at, point in enumerate(given.points[0]):
        cells = [_cell(curve[at], score) for curve in given.points]
        lines.append(Line(given.point_title(point.value), _counted(point.rows, "row"), cells))
    return lines


def _cell(point: PointScores, score: str) -> Cell:
    spread = point.spreads[score]
    if np.isnan(spread.mean):
        return Cell("–", "not computable", "")
    low, high = spread.total
    interval = "no interval" if np.isnan(low) else f"{number(low)}–{number(high)}"
    between = "" if np.isnan(spread.sd_labels) else f"± {number(spread.sd_labels)}"
    return Cell(number(spread.mean), interval, between)


def _labels(given: LabelEfficiency) -> Grid:
    header = ["labels", "rows"]
    if given.label_unit != "image":
        header.append(units(given.label_unit))
    rows: list[tuple[str, ...]] = []
    chosen = "chosen on" in given.method
    for at, point in enumerate(given.points[0]):
        untuned = sum(curve[at].untuned for curve in given.points)
        fits = sum(curve[at].fits for curve in given.points)
        row = [given.point_title(point.value), _counted(point.rows)]
        if given.label_unit != "image":
            row.append(_counted(point.units))
        row += [_counted([one[c] for one in point.classes]) for c in given.classes]
        rows.append((*row, f"{fits - untuned} of {fits}") if chosen else (*row,))
    last = ("fits whose strength was chosen",) if chosen else ()
    return Grid((*header, *given.classes, *last), rows)


def _counted(counts: Sequence[int], noun: str | None = None) -> str:
    least, most = min(counts), max(counts)
    if least == most:
        return f"{most:,}" if noun is None else plural(most, noun)
    return f"{least:,}–{most:,}" + ("" if noun is None else f" {noun}s")


def _doubt(given: LabelEfficiency) -> str:
    """Say which of the two kinds of doubt weighs more with the fewest labels, of the first encoder."""
    spread, title = given.points[0][0].spreads[given.score], given.titles[0]
    if np.isnan(spread.sd_labels) or np.isnan(spread.sd_test):
        return ""
    first = given.point_title(given.points[0][0].value)
    return (
        f"With {first} of {title}, one draw of labels instead of another changes the score by "
        f"{number(spread.sd_labels)} (SD), other test {units(given.unit)} by {number(spread.sd_test)} (SD of "
        f"the mean). More repeats narrow the inner band only; the rest needs more test {units(given.unit)}."
    )


def _methods(given: LabelEfficiency) -> list[str]:
    choosing, of_units = given.method.get("chosen on"), units(given.unit)
    found = [
        f"Which rows are labelled: {given.method['subsets']}. The same rows, by their names, are labelled "
        "for every encoder.",
        f"Every fit was scored on the same {given.draws:,} bootstrap draws of whole {of_units} (seed "
        f"{given.seed}). The total interval draws {of_units} and repeats at once and independently of each "
        "other, as every repeat meets every unit (Owen, Ann. Appl. Stat. 1, 2007): it is a little too wide "
        "rather than too narrow. Of R repeats R − 1 are drawn (Rao and Wu, J. Am. Stat. Assoc. 83, 1988).",
    ]
    if choosing is not None:
        alone = ", by cross-validation that keeps groups whole" if choosing == ALONE else ""
        found.insert(1, f"What a probe leaves open, as its strength, was chosen on {choosing}{alone}.")
    if given.repeats > 1:
        found.append(
            "All draws of labels come from the same training rows. The more of them are labelled, the more "
            "two draws have in common, and with all there is one only: the spread between draws goes to 0 "
            "there by construction. It says what another choice among these rows would give, not what "
            "another hospital’s would."
        )
    if given.axis == "percent" and given.method["subsets"] != SUBSETS["published"]:
        found.append(
            "Of every class one unit is labelled at least, so that the rarest are a little more frequent at "
            "the smallest percentages than in the table. Points lie at the percentage labelled in fact."
        )
    found.append(
        "Where one equals another: the mean curve is smoothed so that it never falls (isotonic least "
        "squares) and read along straight lines in the logarithm of the number of labels; the other’s score "
        "with all labels is its score as it is. The interval holds the middle 95 % of the same two-way draws."
    )
    return found


def _record(given: LabelEfficiency, cards: Sequence[EmbeddingsCard], provenance: Provenance) -> Rows:
    table = cards[0].table
    took = [] if provenance.seconds is None else [("took", duration(provenance.seconds))]
    return [
        ("command", provenance.command),
        *pairs(given.method),
        ("table", f"{table.name}: {plural(table.rows, 'row')}, sha256 {table.sha256[:12]}"),
        *[
            (f"embeddings, {title}", f"identity {card.identity[:12]}")
            for title, card in zip(given.titles, cards, strict=True)
        ],
        ("finished", moment(provenance.created)),
        *took,
        ("machine", provenance.machine),
    ]
