"""Curves of several encoders in one drawing: of each the mean over the classes, or the positive class's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from panderm.report.drawing.figures import (
    Codes,
    Names,
    Probabilities,
    curve_axes,
    legend,
    listed,
    pen,
    precision_steps,
    step_points,
    with_curve,
)
from panderm.report.drawing.svg import MUTED, to_svg
from panderm.report.section import Points

Curve = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def mean_roc(curves: Sequence[Curve]) -> Curve:
    """Return the mean of ROC curves at every false positive rate; its area is the mean of their areas.

    Args:
        curves: (false, true) positive rates, both rising from 0 to 1, upright steps included.

    Returns:
        false and true positive rates of the mean, upright steps included.
    """
    grid = np.unique(np.concatenate([false for false, _ in curves]))
    before, after = np.zeros(len(grid)), np.zeros(len(grid))
    for false, true in curves:
        places, first = np.unique(false, return_index=True)
        last = np.append(first[1:], len(false)) - 1
        at = np.searchsorted(places, grid, side="right") - 1
        there = places[at] == grid
        following = np.minimum(at + 1, len(places) - 1)
        span = np.where(there, 1, places[following] - places[at])
        slope = (true[first[following]] - true[last[at]]) / span
        between = true[last[at]] + slope * (grid - places[at])
        before += np.where(there, true[first[at]], between)
        after += np.where(there, true[last[at]], between)
    both = np.column_stack([before, after]).ravel() / len(curves)
    return np.repeat(grid, 2), both


def mean_steps(curves: Sequence[Curve]) -> Curve:
    """Return the mean of precision-recall steps at every recall; its area is the mean of their areas.

    Args:
        curves: (recall, precision) as :func:`panderm.report.drawing.figures.precision_steps` returns them:
            recall rising from 0 to 1, and the precision on the step that ends there.

    Returns:
        recall and precision of the mean, likewise.
    """
    grid = np.unique(np.concatenate([recall for recall, _ in curves]))
    steps = [precision[np.searchsorted(recall, grid, side="left")] for recall, precision in curves]
    return grid, np.mean(steps, axis=0)


def roc_overlay(
    truth: Codes, chances: Sequence[Probabilities], classes: Names, titles: Names, *, name: str = "roc"
) -> tuple[str, Points]:
    """Draw one ROC curve per encoder, each with its area in the legend.

    Args:
        truth: int (n,), positions in ``classes``.
        chances: of each encoder, float (n, K), columns in the order of ``classes``.
        classes: K names; of two, the second's curve is drawn, of more the mean of all against the rest.
        titles: of the encoders.
        name: prefix of the ids inside, unique in the page.
    """
    drawn = with_curve(truth, len(classes))
    curves = []
    for probabilities in chances:
        own = [roc_curve(truth == c, probabilities[:, c], drop_intermediate=True)[:2] for c in drawn]
        curves.append(mean_roc(own))
    areas = [float((np.diff(false) * (true[1:] + true[:-1])).sum() / 2) for false, true in curves]

    def draw() -> Figure:
        figure, axes = curve_axes("1 − specificity", "sensitivity", range(len(titles)), titles)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
        lines = [axes.plot(*curve, **pen(i))[0] for i, curve in enumerate(curves)]
        legend(figure, lines, range(len(titles)), titles, areas)
        return figure

    description = f"AUROC: {listed(range(len(titles)), titles, areas)}."
    rows = [
        (title, float(x), float(y))
        for title, (false, true) in zip(titles, curves, strict=True)
        for x, y in zip(false, true, strict=True)
    ]
    points = Points(("model", "false positive rate", "sensitivity"), tuple(rows))
    return to_svg(draw, name=name, title="ROC curves", description=description), points


def precision_recall_overlay(
    truth: Codes, chances: Sequence[Probabilities], classes: Names, titles: Names, *, name: str = "pr"
) -> tuple[str, Points]:
    """Draw one precision-recall curve per encoder, each with its average precision in the legend.

    Arguments as in :func:`roc_overlay`.
    """
    drawn = with_curve(truth, len(classes))
    curves = []
    for probabilities in chances:
        curves.append(mean_steps([precision_steps(truth == c, probabilities[:, c]) for c in drawn]))
    areas = [float((np.diff(recall) * precision[1:]).sum()) for recall, precision in curves]
    share = float(np.mean([(truth == c).mean() for c in drawn]))

    def draw() -> Figure:
        figure, axes = curve_axes("sensitivity (recall)", "precision", range(len(titles)), titles)
        axes.plot([0, 1], [share, share], color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
        lines = [axes.step(*curve, where="pre", **pen(i))[0] for i, curve in enumerate(curves)]
        legend(figure, lines, range(len(titles)), titles, areas)
        return figure

    description = f"Average precision: {listed(range(len(titles)), titles, areas)}."
    svg = to_svg(draw, name=name, title="Precision-recall curves", description=description)
    return svg, step_points("model", titles, curves)
