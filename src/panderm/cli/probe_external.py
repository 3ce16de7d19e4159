"""What ``panderm probe --test-on`` tells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from panderm.errors import plural

if TYPE_CHECKING:
    from panderm.predictions import Predictions


def told_of_external(made: Predictions, out: Path, *, as_json: bool) -> dict[str, Any]:
    """Print what an external validation made, and return its JSON."""
    card = made.card
    fitted_on = card.fitted_on
    assert fitted_on is not None  # that is what makes it external
    if not as_json:
        fitted = f"{plural(card.method['train rows'], 'row')} of {fitted_on.table.csv}"
        typer.echo(f"{out}: {plural(len(made), 'row')} of {card.split}, by a probe fitted on {fitted}")
        typer.echo(f"labels matched: {card.method['labels matched']}")
        for name, pair in card.method["classes"].items():
            typer.echo(f"  {name}: {pair}")
        for name, value in card.outcome.items():
            if name.startswith(("most probable", "no class")):
                typer.echo(f"{name}: {value}")
    return {
        "predictions": str(out),
        "rows": len(made),
        "split": card.split,
        "classes": list(made.classes),
        "method": card.method,
        "outcome": card.outcome,
        "fitted_on": {"embeddings": fitted_on.identity, "table": fitted_on.table.csv},
        "seconds": card.provenance.seconds,
        "identity": card.identity,
    }
