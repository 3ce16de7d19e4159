"""What a page says of a probe that saw columns of the table: which, and whether they give the answer away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from panderm.errors import plural

# More columns than this are counted, not named.
_NAMED = 12


def sees_in_words(method: Mapping[str, Any]) -> str | None:
    """Return ``columns: age, sex`` of a probe that saw columns; None of one that did not."""
    names = method.get("columns") if "sees" in method else None
    if not names:
        return None
    return f"columns: {', '.join(names)}" if len(names) <= _NAMED else plural(len(names), "column")


def without_image(method: Mapping[str, Any]) -> bool:
    """Say whether a probe saw nothing of the image."""
    return bool(method.get("sees") == "columns alone")


def leaks_in_words(method: Mapping[str, Any]) -> str | None:
    """Return what is to be said of columns that were allowed though they give the answer away; else None."""
    leaks: Mapping[str, str] = method.get("leaky columns", {})
    told = "; ".join(f"{name}: {why}" for name, why in leaks.items())
    return (
        f"{told}. Scores of a probe that saw such a column say little of any new patient." if told else None
    )
