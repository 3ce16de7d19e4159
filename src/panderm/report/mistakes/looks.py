"""What a page may look at beside predictions: the embeddings they were made of, and their encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from panderm.errors import UsageError, plural
from panderm.predictions import Predictions
from panderm.report.mistakes.attention import Attention, require_attention
from panderm.report.mistakes.space import Space, find_space


@dataclass(frozen=True, eq=False)
class Look:
    """Of one set of predictions.

    Attributes:
        space: their embeddings; None where there are none.
        lost: why there are none, where some should be there.
        attention: their encoder, where it was asked for.
    """

    space: Space | None = None
    lost: str | None = None
    attention: Attention | None = None


def look(
    predictions: Predictions, *, folder: Path | str | None = None, attention: Attention | None = None
) -> Look:
    """Find what a page may look at of some predictions.

    Args:
        predictions: whose.
        folder: of their embeddings, where the user names it.
        attention: their encoder, where it was asked for.

    Raises:
        ArtifactError: the folder named does not hold their embeddings.
    """
    found = find_space(predictions, folder)
    if isinstance(found, Space):
        return Look(found, None, attention)
    return Look(None, found, attention)


def looks_of(
    predictions: Sequence[Predictions],
    *,
    embeddings: Sequence[Path | str] = (),
    attention: bool = False,
    weights: Sequence[Path | str] = (),
    card: Path | str | None = None,
) -> tuple[Look, ...]:
    """Find what a page may look at of each of some predictions.

    Args:
        predictions: one or several.
        embeddings: their folders, in their order, where the user names them.
        attention: load their encoders.
        weights: of the encoders, in their order; ``-`` for the file on the card.
        card: JSON file of an encoder of the user's own.

    Raises:
        UsageError: not as many folders or files as predictions, or weights without attention.
        PandermError: as of :func:`look` and :func:`panderm.report.mistakes.attention.require_attention`.
    """
    if (weights or card) and not attention:
        raise UsageError("--weights and --card must come with --attention.", "found no --attention")
    for option, given in (("--embeddings", embeddings), ("--weights", weights)):
        if given and len(given) != len(predictions):
            raise UsageError(
                f"{option} must be given once for each set of predictions, in the same order, or not at all.",
                f"found {plural(len(predictions), 'set')} of predictions and {option} {len(given)} times",
            )
    nothing: list[Path | str | None] = [None] * len(predictions)
    folders: list[Path | str | None] = [*embeddings] or nothing
    files = [None if str(file) == "-" else file for file in weights] or nothing
    eyes = [
        require_attention(one, weights=file, card=card) if attention else None
        for one, file in zip(predictions, files, strict=True)
    ]
    return tuple(
        look(one, folder=folder, attention=eye)
        for one, folder, eye in zip(predictions, folders, eyes, strict=True)
    )
