"""What the page says of recalibrations: what was fitted, what it changed, and what holds at other shares."""

from __future__ import annotations

from collections.abc import Mapping

from panderm.errors import plural
from panderm.report.crossed import Cell
from panderm.report.words import score_words, signed
from panderm.scores import Score
from panderm.scores.calibration import Calibration


def fitted_in_words(held: Calibration) -> str:
    """Return what was fitted on which rows, what could not be, and what speaks against it."""
    told = ["Nothing was recalibrated."]
    if held.recalibrated:
        told = [f"Recalibrations were fitted on {held.fitted_on}; their own uncertainty is in no interval."]
    told += [f"Not fitted: {name} ({reason})." for name, reason in held.not_fitted.items()]
    told += [f"Caution: {one.caution}." for one in held.recalibrated if one.caution]
    if (prior := held.prior) is not None:
        new, old = (
            ", ".join(f"{name} {share:.3g}" for name, share in shares.items())
            for shares in (prior.new, prior.old)
        )
        told.append(
            f"Probabilities were learnt at the shares {old} (of {prior.old_from}) and are moved to {new}; "
            "the rows scored are weighted to these, as if images of a class looked there as they do here. "
            f"{plural(prior.changed, 'row')} get another most probable class."
        )
    return " ".join(told)


def recalibrated(held: Calibration) -> dict[str, dict[str, Cell]]:
    """Return by recalibration how far its scores lie from those as given."""
    return {kind: _differences(found) for kind, found in (held.differences or {}).items()}


def elsewhere(held: Calibration) -> dict[str, dict[str, Cell]]:
    """Return the scores at stated shares of the classes, as given and corrected; nothing where none are."""
    if held.prior is None:
        return {}
    sides = {"as given": held.prior.given.scores, "prior shift": held.prior.moved.scores}
    found: dict[str, dict[str, Cell]] = {
        side: {score_words(name).title: score for name, score in scores.items()}
        for side, scores in sides.items()
    }
    return found | {"difference": _differences(held.prior.differences)}


def _differences(found: Mapping[str, Score]) -> dict[str, Cell]:
    told: dict[str, Cell] = {}
    for name, score in found.items():
        ends = (score.value, score.low, score.high)
        value, low, high = (None if end is None else signed(end) for end in ends)
        told[score_words(name).title] = score if None in ends else f"{value} ({low} to {high})"
    return told
