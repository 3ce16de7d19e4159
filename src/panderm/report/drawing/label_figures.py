"""Curves of several labels, each over the images where it is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from panderm.report.drawing.figures import (
    curve_axes,
    legend,
    listed,
    pen,
    precision_steps,
    roc_points,
    step_points,
)
from panderm.report.drawing.svg import MUTED, to_svg
from panderm.report.section import Points

Truth = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float64]


def with_label_curve(truth: Truth) -> list[int]:
    """Return the labels a curve can be drawn for: those that some image has, and some has not."""
    return [k for k in range(truth.shape[1]) if {0, 1} <= set(truth[:, k].tolist())]


def label_roc_curves(
    truth: Truth, probabilities: Floats, labels: Sequence[str], drawn: list[int]
) -> tuple[str, Points]:
    """Draw one ROC curve a label, each with its AUROC in the legend.

    Args:
        truth: int8 (n, K): 1 present, 0 absent, -1 not known.
        probabilities: (n, K).
        labels: K names.
        drawn: the labels to draw, of :func:`with_label_curve`.
    """
    known = [_known(truth, probabilities, k) for k in drawn]
    areas = [float(roc_auc_score(*one)) for one in known]
    curves = [roc_curve(*one) for one in known]

    def draw() -> Figure:
        figure, axes = curve_axes("1 − specificity", "sensitivity", drawn, labels)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
        lines = [
            axes.step(false, true, where="post", **pen(i))[0] for i, (false, true, _) in enumerate(curves)
        ]
        legend(figure, lines, drawn, labels, areas)
        return figure

    description = f"AUROC: {listed(drawn, labels, areas)}."
    svg = to_svg(draw, name="roc", title="ROC curves", description=description)
    return svg, roc_points("label", [labels[k] for k in drawn], curves)


def label_precision_recall_curves(
    truth: Truth, probabilities: Floats, labels: Sequence[str], drawn: list[int]
) -> tuple[str, Points]:
    """Draw one precision-recall curve a label, each with its average precision; arguments as above."""
    known = [_known(truth, probabilities, k) for k in drawn]
    areas = [float(average_precision_score(*one)) for one in known]
    curves = [precision_steps(*one) for one in known]

    def draw() -> Figure:
        figure, axes = curve_axes("sensitivity (recall)", "precision", drawn, labels)
        lines = [axes.step(*curve, where="pre", **pen(i))[0] for i, curve in enumerate(curves)]
        legend(figure, lines, drawn, labels, areas)
        return figure

    description = f"Average precision: {listed(drawn, labels, areas)}."
    svg = to_svg(draw, name="pr", title="Precision-recall curves", description=description)
    return svg, step_points("label", [labels[k] for k in drawn], curves)


def _known(truth: Truth, probabilities: Floats, k: int) -> tuple[npt.NDArray[np.bool_], Floats]:
    rows = truth[:, k] >= 0
    return truth[rows, k] == 1, probabilities[rows, k]
