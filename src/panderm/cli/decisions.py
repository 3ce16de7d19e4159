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
    from panderm.scores.calibration import Calibration
    from panderm.scores.operating import Operating
    from panderm.scores.prediction_sets import CoverageRow, PredictionSets, SetsBy

_POINT = ("sensitivity", "specificity", "ppv")
_CALIBRATION = ("ece", "brier", "log_loss")
_ELSEWHERE = ("ece", "brier", "log_loss", "accuracy", "balanced_accuracy")
_LEVEL = ("balanced_accuracy", "accuracy")


def show_decisions(scores: Scores) -> None:
    """Print the main numbers of the sections that there are; the file of ``--out`` holds all of them."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    if scores.operating is not None:
        _operating(console, scores.operating)
    if scores.calibration is not None:
        _calibration(console, scores.calibration)
    if scores.prediction_sets is not None:
        _sets(console, scores.prediction_sets)
    if scores.hierarchy is not None:
        rows = [
            [level.level, *(in_a_cell(level.scores[name]) for name in _LEVEL)]
            for level in scores.hierarchy.levels
            if level.scores
        ]
        _print(console, f"groups of {scores.hierarchy.source}", _LEVEL, rows)


def _operating(console: Console, held: Operating) -> None:
    chosen = f"chosen on {held.chosen_on}, and locked" if held.locked else "chosen on the rows scored"
    rows, there = [], []
    for point in held.points:
        if point.threshold is None:
            rows.append([point.target.words, f"none: {point.reason}"])
            continue
        values = [in_a_cell(point.scores[name]) for name in _POINT]
        rows.append([point.target.words, f"{point.threshold:.3f}", *values])
        own = [point.chosen.get(name) for name in ("sensitivity", "specificity")]
        there.append([point.target.words, *("–" if value is None else f"{value:.3f}" for value in own)])
    _print(console, f"{', '.join(held.positive)}: thresholds {chosen}", ("threshold", *_POINT), rows)
    if held.locked and there:
        _print(console, f"the same thresholds on {held.chosen_on}", ("sensitivity", "specificity"), there)
    stated = [
        [point.target.words, f"{at.prevalence:.1%}"]
        + [in_a_cell(one) for one in (at.ppv, at.npv, at.number_needed_to_biopsy)]
        for point in held.points
        for at in point.at
    ]
    if stated:
        _print(console, "at a prevalence", ("of", "ppv", "npv", "number needed to biopsy"), stated)


def _calibration(console: Console, held: Calibration) -> None:
    ones = (held.given, *held.recalibrated)
    rows = [[one.of, *(in_a_cell(one.scores[name]) for name in _CALIBRATION)] for one in ones]
    rows += [
        [f"{of}, less as given", *(in_a_cell(found[name], signed=True) for name in _CALIBRATION)]
        for of, found in (held.differences or {}).items()
    ]
    _print(console, f"probability {held.probability}", _CALIBRATION, rows)
    if held.fitted_on is not None:
        _say(console, f"recalibrations are fitted on {held.fitted_on}; see panderm recalibrate")
    for of, reason in _together(held.not_fitted):
        _say(console, f"{of} not fitted: {reason}")
    for one in held.recalibrated:
        if one.caution:
            _say(console, f"caution: {one.caution}")
    if (prior := held.prior) is not None:
        rows = [
            [
                name,
                *(in_a_cell(side.scores[name]) for side in (prior.given, prior.moved)),
                in_a_cell(prior.differences[name], signed=True),
            ]
            for name in _ELSEWHERE
        ]
        new = ", ".join(f"{name} {share:.3g}" for name, share in prior.new.items())
        old = ", ".join(f"{name} {share:.3g}" for name, share in prior.old.items())
        _print(console, f"at the shares {new}", ("as given", "prior shift", "difference"), rows)
        _say(console, f"learnt at {old} (of {prior.old_from}); rows are weighted to the shares stated.")
        _say(console, f"{prior.changed:,} of the rows have another most probable class after the shift.")


def _sets(console: Console, held: PredictionSets) -> None:
    header = ("images", "validation rows", "coverage", "classes in a set")
    for kind in held.kinds:
        rows = [[_group(row), *_row(row)] for row in kind.rows if _told(row, kind)]
        by = {"all": "one threshold", "class": "a threshold for each class"}
        words = by.get(kind.by, f"a threshold for each level of {kind.column}")
        _print(console, f"sets asked to hold {held.asked:.0%}, {words}", header, rows)
        cautions = {_group(row): row.caution for row in kind.rows if row.caution and _told(row, kind)}
        for of, reason in _together(cautions):
            _say(console, f"{of}: {reason}")
    few = dict.fromkeys(_group(row) for kind in held.kinds for row in kind.rows if row.coverage.too_few)
    if few:
        _say(console, f"too few to say what is covered: {', '.join(few)}")
    for of, reason in _together(held.left_out):
        what = "no sets" if of == "all" else f"no thresholds by the levels of {of}"
        _say(console, f"{what}: {reason}")


def _told(row: CoverageRow, kind: SetsBy) -> bool:
    """Say whether a row is shown: classes where they decide, levels where there is something to say."""
    return (kind.by == "class" or row.column != "class") and not row.coverage.too_few


def _group(row: CoverageRow) -> str:
    return row.of if row.column in ("", "class") else f"{row.column} {row.of}"


def _row(row: CoverageRow) -> list[str]:
    return [f"{row.n:,}", f"{row.calibrated:,}", in_a_cell(row.coverage), in_a_cell(row.size)]


def _together(reasons: dict[str, str]) -> list[tuple[str, str]]:
    """Return names of one reason together."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    return [(", ".join(names), reason) for reason, names in by_reason.items()]


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False)


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
