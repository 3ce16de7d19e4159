"""How often each flag is right, and how far the tone lies from a clinician's: measured, and shown with them.

``benchmarks/artefacts.py --write`` measures; ``accuracy.json`` holds what it found; a test measures again.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from panderm.provenance import Record


class Rate(Record):
    """A measured figure with its 95 % interval; None, with the reason, where it cannot be computed."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


class FlagAccuracy(Record):
    """One flag on the held-out half of the hand-labelled images; ``truth`` says what it is held against."""

    truth: str
    n: int
    positives: int
    sensitivity: Rate
    specificity: Rate
    auroc: Rate


class ToneAccuracy(Record):
    """The typology angle against the Fitzpatrick type that clinicians wrote down."""

    dataset: str
    n: int
    patients: int
    rank_correlation: Rate
    within_one: Rate
    mean_by_type: dict[str, Rate]
    n_by_type: dict[str, int]


class Accuracy(Record):
    """All that is known of the errors; intervals resample ``unit``, ``draws`` times."""

    labels: str
    unit: str
    draws: int
    seed: int
    flags: dict[str, FlagAccuracy]
    tone: ToneAccuracy


@cache
def read_accuracy() -> Accuracy:
    """Return what was measured."""
    text = files("panderm.data.artefacts").joinpath("accuracy.json").read_text("utf-8")
    return Accuracy.model_validate_json(text)
