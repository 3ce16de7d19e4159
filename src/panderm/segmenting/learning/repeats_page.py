"""The page of several runs: one figure, one table, and what their spread means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from panderm.errors import plural
from panderm.provenance import Provenance
from panderm.report.drawing.svg import INK, SERIES, to_svg
from panderm.report.masks_sections import signed_told
from panderm.report.masks_words import LEVEL_WORDS, title_of
from panderm.report.page import FEW, Banner, pour, score_row
from panderm.report.section import Drawing, Points, Rows, Section, told
from panderm.report.words import moment, number, units
from panderm.segmenting.learning.finished import Trained
from panderm.segmenting.learning.repeated import FIRST, SCORES, Repeated, Row
from panderm.storage import write_text

_KINDS = {
    "seeds": ("Several seeds", "Seed"),
    "folds": ("Cross-validation", "Fold"),
    "percent": ("How many masks are needed", "Training masks"),
}


def write_repeats_page(found: Repeated, runs: Sequence[Trained]) -> Path:
    """Write ``repeats.html`` into the folder of the runs, and return its path."""
    facts, kind = found.facts, str(found.facts["kind"])
    title, _ = _KINDS[kind]
    now = Provenance.now()
    html = pour(
        "segmenting.html",
        eyebrow="Segmentation",
        title=title,
        lead=_lead(found, runs),
        banners=_banners(found, runs),
        headlines=[
            replace(score_row(name, found.rows[-1].scores[name]), title=title_of(name)) for name in SCORES[:4]
        ],
        level=LEVEL_WORDS,
        sections=[
            Section("scores", "Scores", _intro(found), tables=_tables(found), drawings=[figure_of(found)]),
            Section(
                "runs",
                "Runs",
                ["Each run has a page and a segmenter of its own, in the folder beside its name."],
                tables=[_runs(runs, found.folder)],
            ),
        ],
        command=now.command,
        facts_of_run=[
            ("table", str(facts["table"])),
            ("seeds", ", ".join(map(str, facts["seeds"]))),
            ("scored", f"the {facts['scored']} rows of each run, at native size"),
            ("intervals", f"{facts['draws']:,} bootstrap draws of {units(facts['unit'])}"),
            ("seed of the bootstrap", str(facts["bootstrap_seed"])),
        ],
        created=moment(now.created),
        version=now.panderm,
    ).html
    write_text(found.report, html, overwrite=True)
    return found.report


def _lead(found: Repeated, runs: Sequence[Trained]) -> str:
    kind, facts = found.facts["kind"], found.facts
    what = {
        "seeds": "trained on the same images with other seeds",
        "folds": "each tested on images that it has not learned from, which are all images together",
        "percent": "trained on nested parts of the same training images, all tested on the same images",
    }[str(kind)]
    of = "" if facts["unit"] == "image" else f" of {plural(facts['units'], facts['unit'])}"
    return f"{plural(len(runs), 'segmenter')}, {what}: {plural(facts['images'], 'image')}{of}."


def _banners(found: Repeated, runs: Sequence[Trained]) -> list[Banner]:
    made = []
    if any((run.card.encoder or {}).get("random") for run in runs):
        text = "The encoder’s weights were drawn at random: no trained encoder is to be judged by this page."
        made.append(Banner("stop", "Random encoder", text))
    facts = found.facts
    if facts["units"] < FEW:
        text = f"The intervals rest on {plural(facts['units'], facts['unit'])} only: they are too narrow."
        made.append(Banner("care", f"Few {units(facts['unit'])}", text))
    if facts["scored"] == "val":
        text = "There are no test rows: these scores are of the rows that chose the epoch, and look too good."
        made.append(Banner("care", "Scored on the validation rows", text))
    if facts["kind"] == "percent" and len(facts["seeds"]) == 1:
        text = "What another choice of training masks would give cannot be told from one draw: --seeds 5."
        made.append(Banner("care", "One draw of masks", text))
    return made


def _intro(found: Repeated) -> list[str]:
    facts = found.facts
    texts = [
        f"Means over images at native size, averaged over runs, with {LEVEL_WORDS} intervals: "
        f"{facts['draws']:,} bootstrap draws of {units(facts['unit'])}, the same for all rows, seed "
        f"{facts['bootstrap_seed']}. How far runs differ by their seeds is not in the interval: it is the "
        "standard deviation between runs, by n − 1."
    ]
    if facts["kind"] == "percent":
        texts.append(
            "Parts are nested, of whole patients and lesions where these are known, and drawn anew for each "
            "seed. Validation masks, which choose the epoch, are the same at every point and do not count as "
            "training masks. Every run takes as many steps: of fewer images each is seen more often, in "
            "other views. With all of them nothing is drawn, and runs differ by their seeds alone."
        )
    if facts["kind"] == "folds":
        texts.append(
            "Each fold’s images were tested by a run that had not seen them; runs of different folds share "
            "most of their training images, so that the spread between folds is not that between studies."
        )
    return texts


def _tables(found: Repeated) -> list[Rows]:
    several = any(len(row.runs) > 1 for row in found.rows)
    paired = any(row.against for row in found.rows)
    others = [name for name in SCORES if name != FIRST]
    header = ["", "images learned from", title_of(FIRST)]
    header += ["its SD between runs"] if several else []
    header += ["its difference to the last"] if paired else []
    header += [title_of(name) for name in others]
    lines = []
    for row in found.rows:
        cells = [row.title, f"{round(row.train):,}", told(row.scores[FIRST])]
        if several:
            sd = row.sd[FIRST]
            cells.append("—" if sd is None else f"{number(sd)}, {plural(len(row.runs), 'run')}")
        if paired:
            cells.append(signed_told(row.against[FIRST]) if row.against else "—")
        lines.append([*cells, *(told(row.scores[name]) for name in others)])
    return [Rows(f"Scores with {LEVEL_WORDS} intervals", header, lines)]


def _runs(runs: Sequence[Trained], folder: Path) -> Rows:
    lines = []
    for run in runs:
        result = run.card.result or {}
        lines.append(
            (
                run.folder.relative_to(folder).as_posix(),
                f"{run.card.rows['train']:,}",
                f"{result['best']} of {run.card.plan['epochs']}",
                "—" if result["value"] is None else number(float(result["value"])),
                told(run.scores.per_image[FIRST]),
            )
        )
    header = ("folder", "images learned from", "epoch kept", "on val, at the network’s size", title_of(FIRST))
    return Rows(f"Runs, and their {title_of(FIRST)} at native size", header, lines)


def figure_of(found: Repeated) -> Drawing:
    """Draw the Jaccard index of each row with its interval, and the runs' as dots."""
    kind = str(found.facts["kind"])
    rows = [row for row in found.rows if row.value is not None]
    x = np.array([row.value for row in rows], dtype=float)
    value, low, high = (
        np.array([np.nan if (v := getattr(row.scores[FIRST], end)) is None else v for row in rows])
        for end in ("value", "low", "high")
    )

    def draw() -> Figure:
        figure = Figure(figsize=(5.2, 3.1), layout="constrained")
        axes = figure.add_subplot()
        if kind == "percent":
            axes.set_xscale("log")
            axes.fill_between(x, low, high, color=SERIES[0], alpha=0.16, linewidth=0)
            axes.plot(x, value, color=SERIES[0], linewidth=1.6)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:g} %"))
        else:
            axes.vlines(x, low, high, color=SERIES[0], alpha=0.4, linewidth=5)
            axes.set_xlim(x.min() - 0.5, x.max() + 0.5)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:g}"))
        axes.xaxis.set_major_locator(FixedLocator(x.tolist()))
        axes.xaxis.set_minor_locator(NullLocator())
        for row in rows:
            each = row.each[FIRST]
            axes.plot(np.full(len(each), row.value), each, "o", color=INK, markersize=3, alpha=0.55)
        axes.plot(x, value, "o", color=SERIES[0], markersize=5)
        axes.set_ylabel(title_of(FIRST))
        axes.set_xlabel(_KINDS[kind][1].lower())
        axes.grid(visible=True, alpha=0.4)
        return figure

    return Drawing(
        title_of(FIRST),
        "Blue: the mean of the runs, with its interval. Small dots: each run.",
        to_svg(draw, name="repeats", title=_KINDS[kind][0], description=_described(rows)),
        points=Points(
            (kind, "value", "low", "high", "runs"),
            tuple(_point(row) for row in rows),
        ),
        name="repeats",
    )


def _described(rows: Sequence[Row]) -> str:
    return "; ".join(f"{row.title}: {told(row.scores[FIRST])}" for row in rows) + "."


def _point(row: Row) -> tuple[str | float | None, ...]:
    score = row.scores[FIRST]
    return (row.value, score.value, score.low, score.high, " ".join(f"{x:.6g}" for x in row.each[FIRST]))
