"""Columns that were estimated from the images: how often such estimates are right, in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from panderm.data.artefacts.accuracy import Accuracy, Rate
from panderm.errors import plural


def errors_of_estimates(table: Path) -> dict[str, str]:
    """Return, by column, how often the flags that ``panderm artefacts`` wrote into a table are right.

    They are known by the card beside the table, ``x.artefacts.json`` beside ``x.csv``.

    Args:
        table: the table's file.

    Returns:
        Column to sentence; empty where no such card lies beside the table.
    """
    card = table.with_name(f"{table.stem}.artefacts.json")
    try:
        told = json.loads(card.read_bytes())
        accuracy = Accuracy.model_validate(told["accuracy"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return {}
    found = {}
    for name, flag in accuracy.flags.items():
        on = f"estimated by panderm artefacts; on {accuracy.labels}, held against {flag.truth}, "
        sides = f"sensitivity {_in_words(flag.sensitivity)}, specificity {_in_words(flag.specificity)}"
        found[name] = f"{on}{sides}"
        found[f"{name}_score"] = f"{on}AUROC {_in_words(flag.auroc)}"
    tone = accuracy.tone
    on = f"{plural(tone.n, 'image')} of {plural(tone.patients, 'patient')} ({tone.dataset})"
    for name in ("ita", "tone_ita"):
        found[name] = (
            f"estimated by panderm artefacts; on {on} its rank correlation with the Fitzpatrick type "
            f"is {_in_words(tone.rank_correlation)}, where −1 would be perfect"
        )
    return found


def _in_words(rate: Rate) -> str:
    if rate.value is None:
        return f"not computable ({rate.reason})"
    if rate.low is None or rate.high is None:
        return f"{rate.value:.2f}"
    return f"{rate.value:.2f} ({rate.low:.2f} to {rate.high:.2f})".replace("-", "−")
