"""Rows that decisions rest on: predicted by the same predictor, and none of those that are scored."""

from __future__ import annotations

from pathlib import Path

from panderm.errors import ParentsError, plural, some
from panderm.predictions import Predictions, open_either, require_one_class
from panderm.storage import sha256_of_json


def validation_rows(given: Predictions, asked: Predictions | Path | str | None) -> Predictions | None:
    """Return the rows that thresholds and the rest come from, once it is sure that they are not those scored.

    Args:
        given: the rows scored.
        asked: others; by default those that lie beside.

    Raises:
        ArtifactError: several labels an image.
        ParentsError: other classes, or rows that are scored too.
    """
    if asked is None:
        return given.validation
    held = open_either(asked) if isinstance(asked, Path | str) else asked
    require_one_class(held, asked if isinstance(asked, Path | str) else None)
    assert isinstance(held, Predictions)
    if held.classes != given.classes:
        raise ParentsError(
            "validation rows must be predicted for the classes of the rows scored, in the same order.",
            [f"scored: {some(given.classes, 12)}", f"validation: {some(held.classes, 12)}"],
            "name predictions by the same model: --validation",
        )
    if _changes(given) != _changes(held):
        raise ParentsError(
            "validation rows must have had their probabilities changed as those of the rows scored.",
            [f"scored: {_changes(given) or 'as given'}", f"validation: {_changes(held) or 'as given'}"],
            "leave --validation out: panderm recalibrate keeps the changed validation rows beside",
        )
    both = sorted(set(_identities(given)) & set(_identities(held)))
    if both or held.card.identity == given.card.identity:
        raise ParentsError(
            "validation rows must not be among the rows scored, or no threshold would be locked.",
            f"{plural(len(both) or len(held), 'row')} in both: {some(both) or held.card.source}",
            "predict other rows with the same model, and name those: --validation",
        )
    return held


def _changes(given: Predictions) -> str:
    told = given.card.recalibration
    return "" if told is None else f"{told.method}, {sha256_of_json([told.parameters, told.new])[:12]}"


def _identities(given: Predictions) -> list[str]:
    """Return what rows can be known by: names of images, none where the file numbers its rows only."""
    named = given.card.file is None or "image" in given.card.file.columns
    return [str(image) for image in given.image] if named else []
