"""What ``panderm probe --folds`` tells, and how scores by fold are printed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from panderm.errors import plural

if TYPE_CHECKING:
    from panderm.predictions import Predictions
    from panderm.scores import Scores
    from panderm.statistics.over_folds import OverFolds

_SHOWN = ("auroc", "auroc_ovo", "balanced_accuracy", "accuracy", "weighted_f1")


def told_of_folds(made: Predictions, out: Path, *, as_json: bool) -> dict[str, Any]:
    """Print what cross-validation made, and return its JSON."""
    card = made.card
    if not as_json:
        typer.echo(f"{out}: {plural(len(made), 'row')}, each predicted out of fold; {card.split}")
        for name, n in card.method["rows by fold"].items():
            found = card.outcome[f"fold {name}"]
            chosen = "".join(f", {one} {found[one]:.4g}" for one in ("C", "k") if one in found)
            state = "" if found.get("converged", True) else ", did NOT converge"
            typer.echo(f"fold {name}: {plural(n, 'row')}{chosen}{state}")
    return {
        "predictions": str(out),
        "rows": len(made),
        "split": card.split,
        "classes": list(made.classes),
        "method": card.method,
        "outcome": card.outcome,
        "seconds": card.provenance.seconds,
        "identity": card.identity,
    }


def show_folds(scores: Scores) -> None:
    """Print every score over the folds, and the first few of each fold."""
    held = scores.folds
    if held is None:
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    lines = Table(box=None, pad_edge=False)
    for title in ("score", "folds", "mean", "SD", "SE"):
        lines.add_column(title, justify="left" if title == "score" else "right")
    lines.add_column("95 %, Student's t")
    lines.add_column("mean ± 1.96·SE")
    for name, one in held.over.items():
        lines.add_row(name, f"{one.folds} of {len(held.each)}", *_numbers(one))
    console.print()
    console.print(lines)
    names = [name for name in _SHOWN if name in held.over][:3]
    by_fold = Table(box=None, pad_edge=False)
    by_fold.add_column("fold")
    by_fold.add_column("images", justify="right")
    if scores.unit != "image":
        by_fold.add_column(f"{scores.unit}s", justify="right")
    for name in names:
        by_fold.add_column(name)
    for fold in held.each:
        counts = [f"{fold.n:,}", *([f"{fold.clusters:,}"] if scores.unit != "image" else [])]
        cells = ["not computable" if (v := fold.scores[n]) is None else f"{v:.3f}" for n in names]
        by_fold.add_row(Text(fold.fold), *counts, *cells)
    console.print()
    console.print(by_fold)
    console.print()
    for sentence in (
        "First table: all rows together, AUROC and average precision within folds; patients resampled."
        if scores.unit == "patient"
        else "First table: all rows together, AUROC and average precision within folds.",
        "Second: over the folds. With few folds 1.96 is too narrow (88 of 100 at five folds, if folds were "
        "independent); it stands there because the paper has it.",
        *dict.fromkeys(f"not computable: {why}" for fold in held.each for why in fold.reasons.values()),
    ):
        console.print(sentence, markup=False)


def _numbers(one: OverFolds) -> list[str]:
    if one.mean is None:
        return ["–", "–", "–", one.reason or "", ""]
    if one.sd is None or one.se is None:
        return [f"{one.mean:.3f}", "–", "–", one.reason or "", ""]
    spread = [f"{one.mean:.3f}", f"{one.sd:.3f}", f"{one.se:.3f}"]
    return [*spread, f"{one.low:.3f}–{one.high:.3f}", f"{one.low_normal:.3f}–{one.high_normal:.3f}"]
