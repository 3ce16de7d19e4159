"""Curves of a run: losses, the score that chooses, the rate; for the page, and one PNG while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from panderm.errors import plural
from panderm.pretraining.curves import axes_over_epochs, legend_below, step_curve, thinned
from panderm.pretraining.followed import Followed
from panderm.report.drawing.svg import INK, SERIES, to_svg
from panderm.report.section import Drawing
from panderm.report.words import number, score_words, units
from panderm.storage import new_file

Floats: TypeAlias = npt.NDArray[np.float64]
Look: TypeAlias = Mapping[str, Any]

CURVES_NAME = "curves.png"
_SEEN = "augmented, mixed and smoothed"
_OTHERS = ("balanced_accuracy", "auroc", "auroc_ovr", "macro_auroc", "accuracy")


def title_of(score: str) -> str:
    """Return the name of a score of a look in words."""
    own = {"loss": "Loss", "macro_recall": "Macro recall"}
    return own.get(score) or score_words(score).title


def points_of(looks: Sequence[Look], score: str, key: str = "val") -> Floats:
    """Return epoch, value, low and high of a score at each look that has it, (n, 4)."""
    rows = []
    for look in looks:
        held = (look.get(key) or {}).get("scores", {}).get(score, {})
        if held.get("value") is not None:
            ends = [held["value"] if held.get(end) is None else held[end] for end in ("low", "high")]
            rows.append((look["epoch"], held["value"], *ends))
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def loss_curve(
    run: Followed, looks: Sequence[Look], best: int | None, *, label: str = "loss, nats", seen: str = _SEEN
) -> Drawing | None:
    """Draw the loss of training and of validation rows.

    Args:
        run: its journal.
        looks: at the validation rows.
        best: the epoch that was kept.
        label: of the axis.
        seen: how training images are seen, in words.
    """
    x, y = thinned(run.epochs, run.numbers["loss"])
    held = points_of(looks, "loss")
    if not len(x):
        return None

    def draw() -> Figure:
        figure, axes = axes_over_epochs(label, 2)
        _losses(axes, x, y, held, best)
        lines = axes.get_lines()[: 1 + bool(len(held))]
        names = [f"training: {number(y[-1])}", *([f"validation: {number(held[-1, 1])}"] if len(held) else [])]
        legend_below(figure, lines, names)
        return figure

    told = f"Training from {number(y[0])} to {number(y[-1])}"
    if len(held):
        least = number(held[:, 1].min())
        told += f"; validation from {number(held[0, 1])} to {number(held[-1, 1])}, least {least}"
    return Drawing(
        "Loss",
        f"Of training images as they are seen, {seen}; of validation images as they "
        "are: the two need not meet. A validation loss that rises while the other falls is learning by rote.",
        to_svg(draw, name="loss", title="Loss over epochs", description=f"{told}."),
        name="loss",
    )


def score_curve(looks: Sequence[Look], score: str, best: int | None) -> Drawing | None:
    """Draw a score of the validation rows over the epochs, with its intervals; with EMA also without it."""
    rows, raw = points_of(looks, score), points_of(looks, score, "raw")
    if not len(rows):
        return None
    title = title_of(score)

    def draw() -> Figure:
        label = title if title.startswith("AUROC") else title.lower()
        figure, axes = axes_over_epochs(label, 1 + bool(len(raw)), looks=True)
        _scores(axes, rows, raw, best)
        names = [f"{'averaged' if len(raw) else 'validation'}: {number(rows[-1, 1])}"]
        names += [f"not averaged: {number(raw[-1, 1])}"] if len(raw) else []
        legend_below(figure, axes.get_lines()[: len(names)], names)
        return figure

    last = looks[-1]["val"]
    return Drawing(
        title,
        f"Band: 95 % intervals, {last['draws']:,} bootstrap draws of {units(last['unit'])}"
        f"{' within classes' if last['within classes'] else ''}, seed {last['seed']}; "
        f"{plural(last['n'], 'image')}{_of_units(last)}. The ring is the epoch that "
        "was kept. All points are of the same images: their differences are surer than the band.",
        to_svg(
            draw,
            name=f"val-{score}".replace("_", "-"),
            title=f"{title} over epochs",
            description=f"From {number(rows[0, 1])} to {number(rows[-1, 1])}.",
        ),
        name=f"val_{score}",
    )


def _of_units(look: Mapping[str, Any]) -> str:
    return "" if look["unit"] == "image" else f" of {plural(look['units'], look['unit'])}"


def drawings_of(run: Followed, looks: Sequence[Look], monitor: str, best: int | None) -> list[Drawing]:
    """Return all curves of a run: the loss, the score that chooses, others, the rate."""
    others = [score for score in _OTHERS if score != monitor]
    found = [
        loss_curve(run, looks, best),
        *(score_curve(looks, score, best) for score in (monitor, *others) if score != "loss"),
        step_curve(
            run,
            run.numbers["rate"],
            name="rate",
            title="Learning rate",
            label="learning rate",
            caption="Of the head; layers before it learn at a part of it.",
        ),
        step_curve(
            run,
            run.numbers["norm"],
            name="norm",
            title="Gradient norm",
            label="norm",
            caption="Of all gradients together, before clipping.",
        ),
    ]
    return [drawn for drawn in found if drawn]


def write_png(run: Followed, looks: Sequence[Look], monitor: str, best: int | None, path: Path) -> Path:
    """Write the losses, the score that chooses and the rate as one picture."""
    x, y = thinned(run.epochs, run.numbers["loss"])
    scored = [] if monitor == "loss" else [monitor]
    figure = Figure(figsize=(4.2 * (2 + len(scored)), 3.2), dpi=110, layout="constrained")
    axes = figure.subplots(1, 2 + len(scored))
    _losses(axes[0], x, y, points_of(looks, "loss"), best)
    axes[0].set_title("loss: training (line), validation (dots)", fontsize=9)
    for place, score in zip(axes[1:], scored, strict=False):
        _scores(place, points_of(looks, score), points_of(looks, score, "raw"), best)
        place.set_title(f"validation: {title_of(score)}, 95 % intervals", fontsize=9)
    axes[-1].plot(*thinned(run.epochs, run.numbers["rate"]), color=SERIES[2])
    axes[-1].set_title("learning rate", fontsize=9)
    for place in axes:
        place.set_xlabel("epochs", fontsize=9)
        place.tick_params(labelsize=8)
        place.grid(visible=True, alpha=0.4)
        place.spines[["top", "right"]].set_visible(False)
    with new_file(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png")
    return path


def _losses(axes: Axes, x: Floats, y: Floats, held: Floats, best: int | None) -> None:
    axes.plot(x, y, color=SERIES[0], linewidth=1.4)
    if len(held):
        axes.plot(held[:, 0], held[:, 1], color=SERIES[1], linewidth=1.6, marker="o", markersize=3.5)
        _ring(axes, held, best)


def _scores(axes: Axes, rows: Floats, raw: Floats, best: int | None) -> None:
    if len(rows) > 1:
        axes.plot(rows[:, 0], rows[:, 1], color=SERIES[1], linewidth=1.6, marker="o", markersize=3.5)
        if len(raw):
            axes.plot(raw[:, 0], raw[:, 1], color=SERIES[2], linewidth=1.2, linestyle="--")
        axes.fill_between(rows[:, 0], rows[:, 2], rows[:, 3], color=SERIES[1], alpha=0.16, linewidth=0)
    elif len(rows):
        axes.plot(rows[:, 0], rows[:, 1], color=SERIES[1], marker="o", markersize=3.5)
        if len(raw):
            axes.plot(raw[:, 0], raw[:, 1], color=SERIES[2], marker="s", markersize=3.5)
        axes.vlines(rows[:, 0], rows[:, 2], rows[:, 3], color=SERIES[1], alpha=0.4, linewidth=5)
        axes.set_xlim(rows[0, 0] - 0.5, rows[0, 0] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    _ring(axes, rows, best)


def _ring(axes: Axes, rows: Floats, best: int | None) -> None:
    at = rows[rows[:, 0] == best]
    if len(at):
        axes.scatter(at[:, 0], at[:, 1], s=70, facecolors="none", edgecolors=INK, linewidths=1.3, zorder=3)
