"""What ``panderm probe --with`` tells: images, columns and both side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from panderm.cli.frame import in_a_cell
from panderm.errors import plural, some

if TYPE_CHECKING:
    from panderm.scores.with_columns import ScoredWithColumns
    from panderm.tasks.with_columns import ProbedWithColumns


def told_of_columns(made: ProbedWithColumns, out: Path, *, seed: int, as_json: bool) -> dict[str, Any]:
    """Score what was made, print it in one table, and return its JSON."""
    from panderm.scores.with_columns import BOTH, COLUMNS, IMAGES, score_with_columns
    from panderm.tasks.with_columns import folders

    scored = score_with_columns(made.both, made.images, made.columns, seed=seed)
    places = dict(zip((IMAGES, COLUMNS, BOTH), map(str, folders(out)), strict=True))
    predictions = {BOTH: made.both, IMAGES: made.images, COLUMNS: made.columns}
    card = made.both.card
    if not as_json:
        typer.echo(
            f"{out}: {plural(len(made.both), 'row')} of {card.split}, {len(made.both.classes)} classes"
        )
        typer.echo(f"images alone: {places[IMAGES]}; {some(made.names, 6)} alone: {places[COLUMNS]}")
        found = card.outcome
        losses = ", ".join(f"{name} {_loss(x)}" for name, x in found["log loss of inputs"].items())
        typer.echo(f"beside the image: {found['inputs']}, by {found['inputs chosen on']} ({losses})")
        stopped = [name for name, one in predictions.items() if one.card.outcome.get("converged") is False]
        if stopped:
            typer.echo(f"did NOT converge: {', '.join(stopped)}")
        typer.echo("")
        _show(scored)
    return {
        "predictions": str(out),
        "rows": len(made.both),
        "split": card.split,
        "classes": list(card.classes),
        "columns": list(made.names),
        "leaky_columns": made.leaks,
        "parts": {
            name: {
                "predictions": places[name],
                "method": one.card.method,
                "outcome": one.card.outcome,
                "seconds": one.card.provenance.seconds,
                "identity": one.card.identity,
            }
            for name, one in predictions.items()
        },
        **scored.as_dict(),
    }


def _loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _show(scored: ScoredWithColumns) -> None:
    first = next(iter(scored.scores.values()))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    values = {title: one.scores for title, one in scored.scores.items()}
    for head, columns, signed in (("score", values, False), ("difference", scored.differences, True)):
        lines = Table(box=None, pad_edge=False)
        for title in (head, *columns):
            lines.add_column(title)
        for name in first.scores:
            lines.add_row(name, *(in_a_cell(one[name], signed=signed) for one in columns.values()))
        console.print(lines)
        console.print()
    console.print(
        f"{plural(first.n, 'image')} of {first.split}; {plural(first.clusters, first.unit)} resampled, "
        f"{first.draws:,} draws, seed {first.seed}, the same for all; 95 % intervals",
        markup=False,
    )
    every = [score for one in scored.scores.values() for score in one.scores.values()]
    every += [score for one in scored.differences.values() for score in one.values()]
    for reason in dict.fromkeys(score.reason for score in every if score.reason):
        console.print(f"–: {reason}", markup=False)
