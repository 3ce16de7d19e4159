"""The folds of several entries side by side, where all were predicted out of fold."""

from __future__ import annotations

from collections.abc import Sequence

from panderm.report.crossed import Cell, crossed
from panderm.report.entry import Entry
from panderm.report.section import Section
from panderm.report.several.keys import keys_of
from panderm.report.words import number, score_words
from panderm.scores import Score
from panderm.scores.folds import Folds, FoldScores
from panderm.statistics.over_folds import OverFolds

_SHOWN = ("auroc", "auroc_ovo", "balanced_accuracy", "accuracy")


def folds_section(entries: Sequence[Entry]) -> Section | None:
    """Return each score over the folds, and the first of them fold by fold; None where some have no folds."""
    held = [entry.scores.folds for entry in entries]
    folds = [one for one in held if one is not None]
    if len(folds) < len(entries):
        return None
    keys = keys_of(entries)
    over = [{"Mean": _means(one), "Standard deviation": _spreads(one)} for one in folds]
    tables = crossed("Over the folds", keys, over, first="Score")
    shown = [name for name in _SHOWN if name in folds[0].over][:2]
    each = [{score_words(name).title: _by_fold(one, name) for name in shown} for one in folds]
    tables += crossed("Fold by fold", keys, each, first="Fold")
    intro = [
        "Every image was predicted by a probe of the other folds. The mean weighs each fold alike; its "
        "interval is Student’s t, with one degree of freedom less than folds. Folds share most of their "
        "training rows: the interval is not exact, and no test should rest on it."
    ]
    return Section("folds", "Fold by fold", intro, tables)


def _means(held: Folds) -> dict[str, Cell]:
    return {score_words(name).title: _mean(one) for name, one in held.over.items()}


def _mean(one: OverFolds) -> Score:
    return Score(one.mean, one.low, one.high, one.reason)


def _spreads(held: Folds) -> dict[str, Cell]:
    return {
        score_words(name).title: "–" if one.sd is None else number(one.sd) for name, one in held.over.items()
    }


def _by_fold(held: Folds, name: str) -> dict[str, Cell]:
    return {f"{fold.fold} ({fold.n:,})": _of(fold, name) for fold in held.each}


def _of(fold: FoldScores, name: str) -> str:
    value = fold.scores.get(name)
    return number(value) if value is not None else f"not computable: {fold.reasons.get(name, '')}"
