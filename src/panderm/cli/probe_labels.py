"""What ``panderm probe --labels`` tells, and how scores of several labels are printed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from panderm.cli.frame import in_a_cell
from panderm.errors import plural

if TYPE_CHECKING:
    from panderm.predictions import MultiLabelPredictions
    from panderm.scores import MultiLabelScores

_SHOWN = ("auroc", "average_precision", "sensitivity", "specificity", "f1")


def told_of_labels(made: MultiLabelPredictions, out: Path, *, as_json: bool) -> dict[str, Any]:
    """Print what a probe of several labels found, and return its JSON."""
    card = made.card
    found, counts = card.outcome, card.method["train rows per label"]
    if not as_json:
        typer.echo(f"{out}: {plural(len(made), 'row')} of {card.split}, {plural(len(made.classes), 'label')}")
        for name in made.classes:
            told = f"C {found['C'][name]:.4g}" if name in found["C"] else "not trained"
            typer.echo(f"{name}: {told}; {counts[name]}")
        for how in dict.fromkeys(found["C chosen on"].values()):
            typer.echo(f"C: {how}")
        state = "converged" if found["converged"] else "did NOT converge"
        typer.echo(f"{state} in {found['iterations']} iterations")
    return {
        "predictions": str(out),
        "rows": len(made),
        "split": card.split,
        "labels": list(made.classes),
        "method": card.method,
        "outcome": card.outcome,
        "seconds": card.provenance.seconds,
        "identity": card.identity,
    }


def show_label_scores(scores: MultiLabelScores) -> None:
    """Print the scores of each label, then those of all together."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
    lines = Table(box=None, pad_edge=False)
    lines.add_column("label")
    for title in ("known", "present"):
        lines.add_column(title, justify="right")
    for name in _SHOWN:
        lines.add_column(name)
    for label, one in scores.per_label.items():
        cells = [in_a_cell(one.scores[name]) for name in _SHOWN]
        lines.add_row(Text(label), f"{one.n:,}", f"{one.positives:,}", *cells)
    console.print(lines)
    console.print()
    together = Table(box=None, pad_edge=False)
    together.add_column("all labels")
    together.add_column("value (95 % interval)")
    for name, score in scores.scores.items():
        together.add_row(name, in_a_cell(score))
    console.print(together)
    every = [*scores.scores.values(), *(s for one in scores.per_label.values() for s in one.scores.values())]
    for reason in dict.fromkeys(score.reason for score in every if score.reason):
        console.print(f"–: {reason}", markup=False)
    for sentence in (
        f"{plural(scores.n, 'image')} of {scores.split}; {plural(scores.clusters, scores.unit)} resampled, "
        f"{scores.draws:,} draws, seed {scores.seed}.",
        f"A label is called present at a probability of {scores.threshold:g} or more.",
        "Cells that are not known are left out.",
        f"subset_accuracy: {plural(scores.complete, 'image')} of which every label is known.",
    ):
        console.print(sentence, markup=False)
