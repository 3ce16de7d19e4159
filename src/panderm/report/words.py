"""Numbers and names as a reader meets them: scores in words, three decimals, thousands separated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from panderm.errors import plural
from panderm.scores import Score


class ScoreWords(NamedTuple):
    """A score's name in words and its meaning in a line."""

    title: str
    meaning: str


SCORE_WORDS = {
    "auroc": ScoreWords(
        "AUROC",
        "chance that a positive image gets a higher probability than a negative one; guessing gives 0.5",
    ),
    "auroc_ovo": ScoreWords(
        "AUROC, one-vs-one", "as AUROC, for every pair of classes, then averaged; guessing gives 0.5"
    ),
    "auroc_ovr": ScoreWords(
        "AUROC, one-vs-rest", "as AUROC, for each class against all others, then averaged; guessing gives 0.5"
    ),
    "balanced_accuracy": ScoreWords(
        "Balanced accuracy", "mean of the classes' sensitivities: every class counts the same, however rare"
    ),
    "average_precision": ScoreWords(
        "Average precision",
        "area under the precision-recall curve, of several classes the mean; "
        "guessing gives the share of positives",
    ),
    "weighted_f1": ScoreWords(
        "Weighted F1", "F1 (precision and sensitivity in one) of each class, weighted by its number of images"
    ),
    "macro_f1": ScoreWords("Macro F1", "F1 of each class, averaged: every class counts the same"),
    "accuracy": ScoreWords("Accuracy", "share of images whose most probable class is the true one"),
    "quadratic_kappa": ScoreWords(
        "Quadratic kappa", "agreement beyond chance, far misses costing more: for classes that have an order"
    ),
    "macro_auroc": ScoreWords("Macro AUROC", "as AUROC, for each label, then averaged; guessing gives 0.5"),
    "micro_auroc": ScoreWords("Micro AUROC", "as AUROC, over all known cells of all labels together"),
    "macro_average_precision": ScoreWords(
        "Macro average precision", "of each label, averaged; guessing gives the mean share present"
    ),
    "micro_average_precision": ScoreWords(
        "Micro average precision", "over all known cells of all labels together"
    ),
    "micro_f1": ScoreWords("Micro F1", "F1 over all known cells of all labels together"),
    "macro_brier": ScoreWords(
        "Macro Brier score", "mean squared distance of probability and truth, of each label, averaged"
    ),
    "subset_accuracy": ScoreWords("Every label right", "share of images with every label called rightly"),
    "hamming_loss": ScoreWords("Hamming loss", "share of all known cells that were called wrongly"),
    "ppv": ScoreWords("PPV", "share of the images called positive that are"),
    "npv": ScoreWords("NPV", "share of the images called negative that are"),
    "called_positive": ScoreWords("Called positive", "share of all images"),
    "number_needed_to_biopsy": ScoreWords(
        "Number needed to biopsy", "images called positive for each that is"
    ),
    "youden": ScoreWords("Youden’s index", "sensitivity + specificity − 1"),
    "likelihood_ratio_positive": ScoreWords("LR+", "likelihood ratio of a positive call"),
    "likelihood_ratio_negative": ScoreWords("LR−", "likelihood ratio of a negative call"),
    "ece": ScoreWords("Calibration error", "root mean square over ten bins, less what chance adds"),
    "brier": ScoreWords("Brier score", "mean squared distance of probability and truth"),
    "f1": ScoreWords("F1", "precision and sensitivity in one"),
    "sensitivity": ScoreWords("Sensitivity", "share of the positive images that were found"),
    "specificity": ScoreWords("Specificity", "share of the negative images that were not taken for positive"),
}
# The large numbers at the top: the first four of these that there are.
HEADLINES = ("auroc", "auroc_ovo", "balanced_accuracy", "average_precision", "weighted_f1", "macro_f1")


def score_words(name: str) -> ScoreWords:
    """Return a score's words; those of an unknown score are its name."""
    return SCORE_WORDS.get(name) or ScoreWords(name.replace("_", " ").capitalize(), "")


def number(value: float) -> str:
    """Return a score or probability with three decimals, and a true minus."""
    text = f"{value:.3f}"
    return text.replace("-", "−") if float(text) else "0.000"


def signed(value: float) -> str:
    """Return a difference with three decimals and its sign, ``"+0.012"``; none where it rounds to 0."""
    text = number(value)
    return text if value < 0 or not float(text) else f"+{text}"


def interval(score: Score) -> str | None:
    """Return ``"0.881–0.939"``, or None where there is no interval."""
    if score.low is None or score.high is None:
        return None
    between = " to " if score.low < 0 else "–"
    return f"{number(score.low)}{between}{number(score.high)}"


def verdict(score: Score) -> str:
    """Return what to say where a score has no value."""
    return "too few to say" if score.too_few else "not computable"


def short(name: str, most: int) -> str:
    """Return a name on one line, printable, of at most ``most`` characters: beginning and end are kept."""
    line = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    if len(line) <= most:
        return line
    tail = most // 3
    return f"{line[: most - 1 - tail].rstrip()}…{line[len(line) - tail :].lstrip()}"


def units(noun: str) -> str:
    """Return the plural of a unit that was resampled: patients, lesion groups, images."""
    return plural(2, noun).partition(" ")[2]


def plain(value: Any) -> str:
    """Return any JSON value as a reader would write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    if isinstance(value, str):
        return value or "(empty)"
    if isinstance(value, list | tuple) and not any(isinstance(x, dict | list | tuple) for x in value):
        return ", ".join(plain(x) for x in value) or "none"
    return json.dumps(value, ensure_ascii=False)


def pairs(record: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Return a record as rows of name and value, in words.

    A record inside it becomes one row, ``"akiec 12; bcc 30"``; one that holds records itself, rows named
    ``outer: inner``.
    """
    rows: list[tuple[str, str]] = []
    for key, value in record.items():
        name = before + str(key).replace("_", " ")
        if isinstance(value, Mapping) and any(isinstance(x, Mapping) for x in value.values()):
            rows += pairs(value, f"{name}: ")
        elif isinstance(value, Mapping):
            rows.append((name, "; ".join(f"{k} {plain(v)}" for k, v in value.items()) or "none"))
        else:
            rows.append((name, plain(value)))
    return rows


def moment(iso: str) -> str:
    """Return a card's time as ``"2026-01-02 03:04:05 UTC"``; what is no time as it is."""
    try:
        return datetime.fromisoformat(iso).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except ValueError:
        return iso


def duration(seconds: float) -> str:
    """Return ``"0.8 s"``, ``"42 s"``, ``"3 min 20 s"`` or ``"2 h 5 min"``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"
