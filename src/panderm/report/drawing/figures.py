"""Figures as functions: arrays in, SVG text and the points it plots out; of the page they know nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from panderm.errors import plural
from panderm.report.drawing.svg import HEAT, INK, LINE, MUTED, ON_HEAT, SERIES, to_svg
from panderm.report.section import Points
from panderm.report.words import number, short

Codes = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]
Names = Sequence[str]
Drawn = tuple[str, Points] | tuple[None, None]

# With six colours these tell 30 curves apart.
_DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
_PLOT = 3.15  # inches, the square that curves are drawn in
_LEFT, _BOTTOM, _RIGHT, _TOP = 0.55, 0.47, 0.2, 0.12
_ROW = 0.165  # inches a line of the legend takes


def with_curve(truth: Codes, k: int) -> list[int]:
    """Return the classes a curve can be drawn for: those with rows of their own and rows of another.

    Of two classes the second, positive, one stands for both.
    """
    counts = np.bincount(truth, minlength=k)
    asked = [1] if k == 2 else range(k)
    return [int(c) for c in asked if 0 < counts[c] < len(truth)]


def roc_curves(
    truth: Codes, probabilities: Probabilities, classes: Names, *, name: str = "roc"
) -> tuple[str, Points]:
    """Draw one ROC curve per class against the rest, each with its AUROC in the legend.

    Args:
        truth: int (n,), positions in ``classes``.
        probabilities: float (n, K), columns in the order of ``classes``.
        classes: K names; of two, only the second is drawn. Those without a curve are left out.
        name: prefix of the ids inside, unique in the page.
    """
    drawn = with_curve(truth, len(classes))
    areas = [float(roc_auc_score(truth == c, probabilities[:, c])) for c in drawn]
    curves = [roc_curve(truth == c, probabilities[:, c]) for c in drawn]

    def draw() -> Figure:
        figure, axes = curve_axes("1 − specificity", "sensitivity", drawn, classes)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
        lines = []
        for i, (false, true, _) in enumerate(curves):
            lines += axes.plot(false, true, **pen(i))
        legend(figure, lines, drawn, classes, areas)
        return figure

    description = f"AUROC against the rest: {listed(drawn, classes, areas)}."
    svg = to_svg(draw, name=name, title="ROC curves", description=description)
    return svg, roc_points("class", [classes[c] for c in drawn], curves)


def roc_points(
    of: str, names: Names, curves: Sequence[tuple[Probabilities, Probabilities, Probabilities]]
) -> Points:
    """Return the points of ROC curves.

    Args:
        of: what a curve is of: class, label.
        names: of the curves.
        curves: false and true positive rates, and the thresholds from which on a row is called positive;
            infinite where none is.
    """
    rows = [
        (name, *(float(x) if np.isfinite(x) else None for x in point))
        for name, curve in zip(names, curves, strict=True)
        for point in zip(*curve, strict=True)
    ]
    return Points((of, "false positive rate", "sensitivity", "threshold"), tuple(rows))


def precision_recall_curves(
    truth: Codes, probabilities: Probabilities, classes: Names, *, name: str = "pr"
) -> tuple[str, Points]:
    """Draw one precision-recall curve per class against the rest, each with its average precision.

    Arguments as in :func:`roc_curves`. Steps, not slopes: average precision is the area under steps.
    """
    drawn = with_curve(truth, len(classes))
    areas = [float(average_precision_score(truth == c, probabilities[:, c])) for c in drawn]
    curves = [precision_steps(truth == c, probabilities[:, c]) for c in drawn]

    def draw() -> Figure:
        figure, axes = curve_axes("sensitivity (recall)", "precision", drawn, classes)
        if len(classes) == 2:
            share = float((truth == 1).mean())
            axes.plot([0, 1], [share, share], color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
        lines = []
        for i, (recall, precision) in enumerate(curves):
            lines += axes.step(recall, precision, where="pre", **pen(i))
        legend(figure, lines, drawn, classes, areas)
        return figure

    description = f"Average precision against the rest: {listed(drawn, classes, areas)}."
    svg = to_svg(draw, name=name, title="Precision-recall curves", description=description)
    return svg, step_points("class", [classes[c] for c in drawn], curves)


def step_points(of: str, names: Names, curves: Sequence[tuple[Probabilities, Probabilities]]) -> Points:
    """Return the points of precision-recall steps, as :func:`precision_steps` gives them."""
    rows = [
        (name, float(recall), float(precision))
        for name, curve in zip(names, curves, strict=True)
        for recall, precision in zip(*curve, strict=True)
    ]
    return Points((of, "recall", "precision"), tuple(rows))


def precision_steps(own: npt.NDArray[np.bool_], score: Probabilities) -> tuple[Probabilities, Probabilities]:
    """Return recall, rising from 0 to 1, and the precision on the step that ends there.

    The area under the steps is the average precision. Where precision falls while recall stands still, only
    its first and highest value belongs to a step.

    Args:
        own: bool (n,), rows of the class; some, not all.
        score: float (n,), higher for the more likely row.
    """
    precision, recall, _ = precision_recall_curve(own, score)
    rising, first = np.unique(recall[::-1], return_index=True)
    highest = precision[::-1][first]
    highest[0] = highest[1]  # scikit-learn's point at recall 0 is no threshold's
    return rising, highest


def confusion_matrix(counts: Codes, classes: Names, *, name: str = "confusion") -> tuple[str, Points]:
    """Draw counts of true (rows) against predicted (columns), shaded by the share of each row.

    Args:
        counts: int (K, K). Up to 12 classes the shares are written too, up to 25 the counts alone, beyond
            that only the shades.
        classes: K names.
        name: prefix of the ids inside, unique in the page.
    """
    k = len(classes)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    right = int(np.trace(counts))

    def draw() -> Figure:
        figure, axes = _matrix_axes(classes)
        for i, j in np.argwhere(counts > 0):
            tint = (*_rgb(HEAT), max(float(shares[i, j]), 0.02))
            axes.add_patch(Rectangle((j, i), 1, 1, facecolor=tint, edgecolor="none"))
        if k <= 25:
            _write_cells(axes, counts, shares)
        return figure

    on = f"{right:,} of {plural(int(counts.sum()), 'image')} lie on the diagonal"
    description = f"{on}. The table of counts holds them all."
    rows = [
        (classes[i], classes[j], int(count), float(shares[i, j]) if totals[i] else None)
        for (i, j), count in np.ndenumerate(counts)
    ]
    points = Points(("true", "predicted", "n", "share of true"), tuple(rows))
    return to_svg(draw, name=name, title="Confusion matrix", description=description), points


def pen(i: int) -> dict[str, Any]:
    """Return how curve i is drawn: by colour, and by dashes where the colours come again."""
    return {
        "color": SERIES[i % len(SERIES)],
        "linestyle": _DASHES[i // len(SERIES) % len(_DASHES)],
        "linewidth": 1.6,
        "solid_capstyle": "butt",
    }


def curve_axes(x: str, y: str, drawn: Sequence[int], classes: Names) -> tuple[Figure, Axes]:
    """Return an empty unit square with named axes, and room for a legend beneath it."""
    below = _BOTTOM + _ROW * (_legend_rows(drawn, classes) + 0.4)
    width, height = _LEFT + _PLOT + _RIGHT, below + _PLOT + _TOP
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((_LEFT / width, below / height, _PLOT / width, _PLOT / height))
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel=x, ylabel=y)
    ticks, labels = [0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"]
    axes.set_xticks(ticks, labels)
    axes.set_yticks(ticks, labels)
    axes.tick_params(length=2.5)
    axes.grid(True)
    return figure, axes


def _legend_columns(drawn: Sequence[int], classes: Names) -> int:
    longest = max((len(short(classes[c], 40)) for c in drawn), default=0)
    return 2 if len(drawn) > 2 and longest <= 16 else 1


def _legend_rows(drawn: Sequence[int], classes: Names) -> int:
    return -(-len(drawn) // _legend_columns(drawn, classes))


def legend(
    figure: Figure, lines: list[Line2D], drawn: Sequence[int], classes: Names, areas: Sequence[float]
) -> None:
    """Write area and name of each curve beneath the square."""
    texts = [f"{number(a)}  {short(classes[c], 40)}" for c, a in zip(drawn, areas, strict=True)]
    figure.legend(
        lines,
        texts,
        loc="lower left",
        bbox_to_anchor=((_LEFT - 0.08) / figure.get_figwidth(), 0),
        ncols=_legend_columns(drawn, classes),
        borderaxespad=0.2,
        borderpad=0,
        columnspacing=1.6,
        handlelength=2.6,
        labelspacing=_ROW * 72 / 8.5 - 0.98,
    )


def listed(drawn: Sequence[int], classes: Names, areas: Sequence[float]) -> str:
    """Return names and areas in a line, for those who cannot see the curves."""
    return ", ".join(f"{short(classes[c], 80)} {number(a)}" for c, a in zip(drawn, areas, strict=True))


def _matrix_axes(classes: Names) -> tuple[Figure, Axes]:
    k = len(classes)
    cell = _cell(k)
    names = [short(c, 24) for c in classes]
    longest = max(len(n) for n in names)
    upright = longest * 0.085 < cell
    left = 0.45 + 0.078 * longest
    below = 0.5 if upright else 0.44 + 0.056 * longest
    width, height = left + cell * k + 0.15, below + cell * k + 0.1
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, below / height, cell * k / width, cell * k / height))
    axes.set(xlim=(0, k), ylim=(k, 0), xlabel="predicted", ylabel="true")
    middles = np.arange(k) + 0.5
    axes.set_xticks(middles, names)
    axes.set_yticks(middles, names)
    if not upright:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0, labelsize=8.5 if k <= 12 else 7.5)
    for side in axes.spines.values():
        side.set(visible=True, color=LINE)
    for edge in range(1, k):
        axes.axhline(edge, color=LINE, linewidth=0.5)
        axes.axvline(edge, color=LINE, linewidth=0.5)
    return figure, axes


def _cell(k: int) -> float:
    """Side of a cell in inches."""
    return float(np.clip(5.4 / k, 0.235, 1.05))


def _write_cells(axes: Axes, counts: npt.NDArray[np.int64], shares: npt.NDArray[np.float64]) -> None:
    k = len(counts)
    two_lines = k <= 12
    widest = len(f"{counts.max():,}")
    size = min(9.5 if k <= 8 else 8 if k <= 12 else 6.2, 72 * _cell(k) / (0.62 * widest))
    for (i, j), count in np.ndenumerate(counts):
        if count == 0 and k > 12:
            continue
        colour = MUTED if count == 0 else ON_HEAT if shares[i, j] > 0.62 else INK
        y = i + (0.4 if two_lines and count else 0.5)
        axes.text(j + 0.5, y, f"{count:,}", ha="center", va="center", fontsize=size, color=colour)
        if two_lines and count:
            share = f"{shares[i, j]:.0%}"
            axes.text(j + 0.5, i + 0.72, share, ha="center", va="center", fontsize=size * 0.74, color=colour)


def _rgb(colour: str) -> tuple[float, float, float]:
    r, g, b = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return r, g, b
