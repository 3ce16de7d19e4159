"""Curves of several labels, each over the images where it is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from panderm.report.figures import curve_axes, legend, listed, pen, precision_steps
from panderm.report.svg import MUTED, to_svg

Truth = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float64]


def with_label_curve(truth: Truth) -> list[int]:
    """Return the labels a curve can be drawn for: those that some image has, and some has not."""
    return [k for k in range(truth.shape[1]) if {0, 1} <= set(truth[:, k].tolist())]


def label_roc_curves(truth: Truth, probabilities: Floats, labels: Sequence[str], drawn: list[int]) -> str:
    """Draw one ROC curve a label, each with its AUROC in the legend.

    Args:
        truth: int8 (n, K): 1 present, 0 absent, -1 not known.
        probabilities: (n, K).
        labels: K names.
        drawn: the labels to draw, of :func:`with_label_curve`.
    """

    def curve(own: npt.NDArray[np.bool_], score: Floats) -> tuple[Floats, Floats]:
        false, true, _ = roc_curve(own, score)
        return false, true

    known = [_known(truth, probabilities, k) for k in drawn]
    areas = [float(roc_auc_score(*one)) for one in known]
    axes = ("1 − specificity", "sensitivity")
    return _drawn("ROC curves", "AUROC", axes, known, labels, drawn, areas, curve, guessing=True)


def label_precision_recall_curves(
    truth: Truth, probabilities: Floats, labels: Sequence[str], drawn: list[int]
) -> str:
    """Draw one precision-recall curve a label, each with its average precision; arguments as above."""
    known = [_known(truth, probabilities, k) for k in drawn]
    areas = [float(average_precision_score(*one)) for one in known]
    axes = ("sensitivity (recall)", "precision")
    return _drawn(
        "Precision-recall curves", "Average precision", axes, known, labels, drawn, areas, precision_steps
    )


def _known(truth: Truth, probabilities: Floats, k: int) -> tuple[npt.NDArray[np.bool_], Floats]:
    rows = truth[:, k] >= 0
    return truth[rows, k] == 1, probabilities[rows, k]


def _drawn(
    title: str,
    area: str,
    names: tuple[str, str],
    known: list[tuple[npt.NDArray[np.bool_], Floats]],
    labels: Sequence[str],
    drawn: list[int],
    areas: list[float],
    curve: Callable[[npt.NDArray[np.bool_], Floats], tuple[Floats, Floats]],
    *,
    guessing: bool = False,
) -> str:
    def draw() -> Figure:
        figure, axes = curve_axes(*names, drawn, labels)
        if guessing:
            axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
        lines = []
        for i, one in enumerate(known):
            lines += axes.step(*curve(*one), where="post" if guessing else "pre", **pen(i))
        legend(figure, lines, drawn, labels, areas)
        return figure

    description = f"{area}: {listed(drawn, labels, areas)}."
    return to_svg(draw, name="roc" if guessing else "pr", title=title, description=description)
