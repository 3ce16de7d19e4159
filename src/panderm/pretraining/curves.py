"""The figures of a run: what was learned, how fast, and what a probe made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from panderm.errors import plural
from panderm.pretraining.followed import Followed
from panderm.report.drawing.svg import INK, SERIES, to_svg
from panderm.report.section import Drawing
from panderm.report.words import number, units

Floats: TypeAlias = npt.NDArray[np.float64]

_WIDTH, _HEIGHT = 4.3, 2.75  # inches
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.66, 0.16, 0.12, 0.48
_ROW = 0.2
_POINTS = 300  # of a line; of more steps each point is a mean
_LOSSES = {
    "loss": "all tokens",
    "visible": "visible patches",
    "masked": "masked patches",
    "cls": "class token",
}
_PENS = {"loss": (INK, 1.9), "visible": (SERIES[0], 1.4), "masked": (SERIES[1], 1.4), "cls": (SERIES[2], 1.4)}
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
KINDS = {"linear": "logistic probe", "knn": "nearest neighbours"}


def thinned(x: Floats, y: Floats, most: int = _POINTS) -> tuple[Floats, Floats]:
    """Return a line of at most ``most`` points: means of equally many steps each; what is NaN is left out."""
    known = np.isfinite(y)
    x, y = x[known], y[known]
    parts = [part for part in np.array_split(np.arange(len(y)), min(most, len(y)) or 1) if len(part)]
    return np.array([x[part[-1]] for part in parts]), np.array([y[part].mean() for part in parts])


def loss_curves(run: Followed) -> Drawing | None:
    """Draw the loss of all tokens and, apart, of the class token, the visible and the masked patches."""
    lines = {name: thinned(run.epochs, run.numbers[name]) for name in _LOSSES}
    lines = {name: line for name, line in lines.items() if len(line[0])}
    if "loss" not in lines:
        return None

    def draw() -> Figure:
        figure, axes = axes_over_epochs("mean of 1 − cosine", len(lines))
        drawn = [
            axes.plot(*line, color=_PENS[name][0], linewidth=_PENS[name][1])[0]
            for name, line in lines.items()
        ]
        legend_below(figure, drawn, [f"{_LOSSES[name]}: {number(y[-1])}" for name, (_, y) in lines.items()])
        return figure

    each = max(1, len(run.step) // _POINTS)
    means = f" Each point is the mean of about {plural(each, 'step')}." if each > 1 else ""
    told = "; ".join(
        f"{_LOSSES[name]} from {number(y[0])} to {number(y[-1])}" for name, (_, y) in lines.items()
    )
    return Drawing(
        "Loss",
        f"How far the student’s tokens point away from the teacher’s: 0 where they agree, 1 at a right "
        f"angle. In the legend, the last point.{means}",
        to_svg(draw, name="loss", title="Loss over epochs", description=f"{told}."),
        name="loss",
    )


def step_curve(
    run: Followed, values: Floats, *, name: str, title: str, label: str, caption: str
) -> Drawing | None:
    """Draw one number of every step, none below 0, over the epochs; small ones by a power of ten."""
    x, y = thinned(run.epochs, values)
    if not len(x):
        return None
    power = math.floor(math.log10(y.max())) if y.max() > 0 else 0
    power = power if power < -2 else 0
    written = f"{label}, × 10{str(power).translate(_RAISED)}" if power else label

    def draw() -> Figure:
        figure, axes = axes_over_epochs(written, 0)
        axes.plot(x, y / 10.0**power, color=SERIES[0], linewidth=1.5)
        axes.set_ylim(bottom=0)
        return figure

    told = f"From {y[0]:.3g} to {y[-1]:.3g}; least {y.min():.3g}, most {y.max():.3g}."
    return Drawing(title, caption, to_svg(draw, name=name, title=title, description=told), name=name)


def probe_curve(looks: Sequence[dict[str, Any]], score: str, title: str) -> Drawing | None:
    """Draw a score of both probes over the epochs, with its intervals.

    Args:
        looks: lines of epochs with ``probe``.
        score: its name.
        title: in words.
    """
    lines = {}
    for kind in KINDS:
        found = [
            (look["epoch"], *(_score(look, kind, score).get(end) for end in ("value", "low", "high")))
            for look in looks
        ]
        known = [row for row in found if row[1] is not None]
        if known:
            lines[kind] = np.array([[np.nan if x is None else x for x in row] for row in known], dtype=float)
    if not lines:
        return None
    label = title if title.startswith("AUROC") else title.lower()

    def draw() -> Figure:
        figure, axes = axes_over_epochs(label, len(lines), looks=True)
        drawn = []
        for i, rows in enumerate(lines.values()):
            at, value, low, high = rows.T
            if len(at) > 1:
                axes.fill_between(at, low, high, color=SERIES[i], alpha=0.16, linewidth=0)
            else:
                at = at + 0.06 * (i - 0.5)  # side by side, not over each other
                axes.vlines(at, low, high, color=SERIES[i], alpha=0.4, linewidth=5)
                axes.set_xlim(rows[0, 0] - 0.5, rows[0, 0] + 0.5)
            drawn += axes.plot(at, value, color=SERIES[i], linewidth=1.6, marker="o", markersize=3.5)
        legend_below(figure, drawn, [f"{KINDS[kind]}: {number(rows[-1, 1])}" for kind, rows in lines.items()])
        return figure

    last = looks[-1]["probe"]
    told = "; ".join(f"{KINDS[k]} from {number(r[0, 1])} to {number(r[-1, 1])}" for k, r in lines.items())
    return Drawing(
        title,
        f"Bands: 95 % intervals, {scored(last)}. All points are of the same images, so their differences are "
        "surer than the bands.",
        to_svg(draw, name=f"probe-{score}".replace("_", "-"), title=f"{title} over epochs", description=told),
        name=f"probe_{score}",
    )


def scored(probe: Mapping[str, Any]) -> str:
    """Return what the intervals of a look rest on."""
    n, of, unit = plural(probe["n"], "image"), plural(probe["units"], probe["unit"]), units(probe["unit"])
    images = n if probe["unit"] == "image" else f"{n} of {of}"
    draws = f"{probe['draws']:,} bootstrap draws of {unit} within classes"
    return f"{draws}, seed {probe['seed']}; {images} scored"


def spread_curve(looks: Sequence[dict[str, Any]]) -> Drawing | None:
    """Draw the effective rank over the epochs."""
    rows = [(look["epoch"], look["spread"]["effective_rank"]) for look in looks if look.get("spread")]
    if not rows:
        return None
    at, rank = np.array(rows, dtype=float).T

    def draw() -> Figure:
        figure, axes = axes_over_epochs("effective rank", 0, looks=True)
        axes.plot(at, rank, color=SERIES[2], linewidth=1.6, marker="o", markersize=3.5)
        axes.set_ylim(0, 1.08 * rank.max())
        if len(at) == 1:
            axes.set_xlim(at[0] - 0.5, at[0] + 0.5)
        return figure

    return Drawing(
        "Directions in use",
        "Effective rank of the student’s features: into how many directions they spread (exponential of the "
        "entropy of the singular values, mean taken away). A collapse shows as a fall towards 1.",
        to_svg(
            draw, name="rank", title="Effective rank", description=f"From {rank[0]:.1f} to {rank[-1]:.1f}."
        ),
        name="rank",
    )


def _score(look: dict[str, Any], kind: str, score: str) -> dict[str, Any]:
    found: dict[str, Any] = look["probe"].get(kind, {}).get("scores", {}).get(score, {})
    return found


def axes_over_epochs(label: str, rows: int, *, looks: bool = False) -> tuple[Figure, Axes]:
    below = _BOTTOM + (_ROW * ((rows + 1) // 2 + 0.3) if rows else 0)
    height = _HEIGHT + below
    figure = Figure(figsize=(_WIDTH, height))
    box = (_LEFT / _WIDTH, below / height, 1 - (_LEFT + _RIGHT) / _WIDTH, 1 - (below + _TOP) / height)
    axes = figure.add_axes(box)
    axes.set_xlabel("epochs")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=looks))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}".replace("-", "−")))
    axes.tick_params(length=2.5)
    axes.grid(True)
    axes.margins(x=0.02)
    return figure, axes


def legend_below(figure: Figure, lines: Sequence[Line2D], names: Sequence[str]) -> None:
    figure.legend(
        lines,
        names,
        loc="lower left",
        bbox_to_anchor=((_LEFT - 0.1) / _WIDTH, 0),
        ncols=2,
        borderaxespad=0.2,
        borderpad=0,
        handlelength=2.0,
        columnspacing=1.6,
        labelspacing=_ROW * 72 / 8.5 - 0.98,
    )
