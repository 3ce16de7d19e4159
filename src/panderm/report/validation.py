"""What a page says of a cross-validation, fold by fold, and of an external validation."""

from __future__ import annotations

from dataclasses import dataclass

from panderm.errors import plural
from panderm.predictions import MultiLabelPredictions, Predictions
from panderm.report.words import number, score_words, units
from panderm.scores import Scores
from panderm.statistics.over_folds import OverFolds

_SHOWN = ("auroc", "auroc_ovo", "balanced_accuracy", "average_precision", "weighted_f1", "accuracy")


@dataclass(frozen=True)
class OverRow:
    """One score over the folds, in words."""

    title: str
    folds: str
    mean: str | None
    sd: str
    se: str
    student: str
    normal: str
    reason: str | None


@dataclass(frozen=True)
class FoldRow:
    """One fold: its counts and its scores, with the reason where there is none."""

    name: str
    counts: tuple[str, ...]
    scores: tuple[tuple[str | None, str], ...]


@dataclass(frozen=True)
class FoldSection:
    """The section "Folds"."""

    over: list[OverRow]
    counted: tuple[str, ...]
    titles: tuple[str, ...]
    each: list[FoldRow]
    beneath: tuple[str, ...]


def scored_where(predictions: Predictions | MultiLabelPredictions) -> str:
    """Return which rows were scored, as ``"on the test split"``."""
    card = predictions.card
    if isinstance(predictions, Predictions) and predictions.fold is not None:
        return f"out of fold, in {card.split}"
    if card.file is not None and "split" not in card.file.columns:
        return "on all rows of the file"
    return f"on {card.split}" if card.fitted_on is not None else f"on the {card.split} split"


def external_notes(predictions: Predictions | MultiLabelPredictions) -> list[tuple[str, str]]:
    """Return titles and sentences that a reader of an external validation must know."""
    card = predictions.card
    if card.fitted_on is None:
        return []
    fitted = f"{plural(card.method['train rows'], 'row')} of {card.fitted_on.table.csv}"
    found = [("External validation", f"The probe was fitted on {fitted}, and saw nothing of these images.")]
    left = card.method.get("left out of scoring")
    if left:
        which = "; ".join(f"{label}: {why}" for label, why in left.items())
        found.append(
            ("Classes left out", f"The probe was never trained on them, and no score counts them. {which}.")
        )
    if absent := card.method.get("no row of"):
        found.append(("Classes that these images lack", f"{absent}."))
    return found


def fold_section(scores: Scores) -> FoldSection | None:
    """Return the section, None where the predictions are not out of fold."""
    held = scores.folds
    if held is None:
        return None
    names = [name for name in _SHOWN if name in held.over][:4]
    by_unit = scores.unit != "image"
    each = [
        FoldRow(
            fold.fold,
            (f"{fold.n:,}", *([f"{fold.clusters:,}"] if by_unit else []), *_classes(fold.classes)),
            tuple(
                (None if (v := fold.scores[name]) is None else number(v), fold.reasons.get(name, ""))
                for name in names
            ),
        )
        for fold in held.each
    ]
    return FoldSection(
        over=[_row(name, one, len(held.each)) for name, one in held.over.items()],
        counted=(
            "Images",
            *([units(scores.unit).capitalize()] if by_unit else []),
            *(scores.classes if len(scores.classes) == 2 else ()),
        ),
        titles=tuple(score_words(name).title for name in names),
        each=each,
        beneath=(
            "Every image was predicted by a probe of the other folds. The mean weighs each fold alike; "
            "the scores above put all rows together, and rank within folds.",
            "With few folds the standard deviation is itself a guess. Student's t allows for that, with one "
            "degree of freedom less than folds. 1.96 does not: at five independent folds it would hold the "
            "truth in 88 of 100 studies. Folds share most of their training rows: neither interval is exact.",
        ),
    )


def _classes(counts: dict[str, int]) -> list[str]:
    return [f"{n:,}" for n in counts.values()] if len(counts) == 2 else []


def _row(name: str, one: OverFolds, folds: int) -> OverRow:
    def between(low: float | None, high: float | None) -> str:
        if low is None or high is None:
            return "–"
        return f"{number(low)}{' to ' if low < 0 else '–'}{number(high)}"

    return OverRow(
        title=score_words(name).title,
        folds=f"{one.folds} of {folds}",
        mean=None if one.mean is None else number(one.mean),
        sd="–" if one.sd is None else number(one.sd),
        se="–" if one.se is None else number(one.se),
        student=between(one.low, one.high),
        normal=between(one.low_normal, one.high_normal),
        reason=one.reason,
    )
