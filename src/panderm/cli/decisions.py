"""What ``evaluate`` prints of operating points, calibration, prediction sets and levels of diagnosis."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from panderm.cli.frame import in_a_cell

if TYPE_CHECKING:
    from panderm.scores import Scores

_POINT = ("sensitivity", "specificity", "ppv")
_CALIBRATION = ("ece", "brier", "log_loss")
_LEVEL = ("balanced_accuracy", "accuracy")


def show_decisions(scores: Scores) -> None:
    """Print the main numbers of the sections that there are; the file of ``--out`` holds all of them."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    if (held := scores.operating) is not None:
        chosen = f"chosen on {held.chosen_on}, and locked" if held.locked else "chosen on the rows scored"
        rows = []
        for point in held.points:
            if point.threshold is None:
                rows.append([point.target.words, f"none: {point.reason}"])
                continue
            values = [in_a_cell(point.scores[name]) for name in _POINT]
            rows.append([point.target.words, f"{point.threshold:.3f}", *values])
        _print(console, f"{', '.join(held.positive)}: thresholds {chosen}", ("threshold", *_POINT), rows)
        stated = [
            [point.target.words, f"{at.prevalence:.1%}"]
            + [in_a_cell(one) for one in (at.ppv, at.npv, at.number_needed_to_biopsy)]
            for point in held.points
            for at in point.at
        ]
        if stated:
            _print(console, "at a prevalence", ("of", "ppv", "npv", "number needed to biopsy"), stated)
    if (calibration := scores.calibration) is not None:
        ones = (calibration.given, *calibration.recalibrated)
        rows = [[one.of, *(in_a_cell(one.scores[name]) for name in _CALIBRATION)] for one in ones]
        _print(console, f"probability {calibration.probability}", _CALIBRATION, rows)
    if (sets := scores.prediction_sets) is not None:
        rows = [
            [f"by {kind.by}", in_a_cell(kind.rows[0].coverage), in_a_cell(kind.rows[0].size)]
            for kind in sets.kinds
        ]
        _print(console, f"sets asked to hold {sets.asked:.0%}", ("coverage", "classes in a set"), rows)
    if scores.hierarchy is not None:
        rows = [
            [level.level, *(in_a_cell(level.scores[name]) for name in _LEVEL)]
            for level in scores.hierarchy.levels
            if level.scores
        ]
        _print(console, f"groups of {scores.hierarchy.source}", _LEVEL, rows)


def _print(console: Console, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = Table(box=None, pad_edge=False)
    lines.add_column("", overflow="fold")
    for name in header:
        lines.add_column(name)
    for row in rows:
        lines.add_row(*(Text(cell) for cell in row))
    console.print()
    console.print(title, markup=False)
    console.print(lines)
