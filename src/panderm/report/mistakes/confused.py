"""Which classes are taken for which: pairs, the dangerous ones first, with intervals and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from panderm.data.diagnoses import find, taxonomies
from panderm.errors import plural
from panderm.predictions import Predictions
from panderm.report.entry import Entry
from panderm.report.mistakes.gallery import wrong_rows
from panderm.report.mistakes.pictures import SMALL, Sheet, Shown, predicted_picture, with_files
from panderm.report.section import Rows, Section, told
from panderm.report.several.keys import letter_of
from panderm.report.words import number, units
from panderm.scores.resampled import Resampling
from panderm.scores.score import Score
from panderm.statistics.resampling import cluster_codes

ROWS = 20  # pairs in the table
SHEETS = 6  # pairs with pictures
PICTURES = 4

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pair:
    """One way to be wrong.

    Attributes:
        truth: the true class.
        predicted: the class it was taken for.
        danger: the true class is malignant and the other benign, by the diagnosis map.
        counts: images of each entry.
        shares: of the images of the true class, with interval, of each entry.
        confidence: mean probability of the class taken, of each entry; None where there is no such image.
    """

    truth: str
    predicted: str
    danger: bool
    counts: tuple[int, ...]
    shares: tuple[Score, ...]
    confidence: tuple[float | None, ...]


def malignancy_of(classes: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return which classes are malignant, benign or indeterminate by the diagnosis map, and whose words.

    The taxonomies that know most of the classes are asked; a class on which they do not agree has no answer.
    Classes called malignant and benign are what they say.

    Returns:
        by class its malignancy, and the taxonomies that were asked.
    """
    plain = {name: name.strip().casefold() for name in classes}
    own = {name: word for name, word in plain.items() if word in ("malignant", "benign", "indeterminate")}
    known = {one: [find(name, one) for name in classes] for one in taxonomies()}
    counts = {one: sum(row is not None for row in rows) for one, rows in known.items()}
    most = max(counts.values(), default=0)
    if most < 2:
        return own, ()
    asked = tuple(one for one, count in counts.items() if count == most)
    found = {}
    for i, name in enumerate(classes):
        answers = {row.malignant for one in asked if (row := known[one][i]) is not None and row.malignant}
        if len(answers) == 1:
            found[name] = answers.pop()
    return {**found, **own}, asked


def pairs_of(entries: Sequence[Entry], malignancy: Mapping[str, str]) -> list[Pair]:
    """Return every pair of classes that any entry confuses: dangerous pairs first, then by images.

    Args:
        entries: one, or several of the same rows; draws and seed are those of their scores.
        malignancy: by class.
    """
    first = entries[0].predictions
    classes, truth = first.classes, first.truth_codes()
    k = len(classes)
    there = sorted(
        {
            int(code)
            for entry in entries
            for code in np.unique(truth * k + entry.predictions.predicted_codes())
            if code // k != code % k
        }
    )
    if not there:
        return []
    counted = [_counted(entry, there, k) for entry in entries]
    found = []
    for i, code in enumerate(there):
        t, p = classes[code // k], classes[code % k]
        danger = malignancy.get(t) == "malignant" and malignancy.get(p) == "benign"
        counts, shares, confidence = zip(*(one[i] for one in counted), strict=True)
        found.append(Pair(t, p, danger, counts, shares, confidence))
    return sorted(found, key=lambda pair: (not pair.danger, -sum(pair.counts)))


def _counted(entry: Entry, there: Sequence[int], k: int) -> list[tuple[int, Score, float | None]]:
    """Return images, share and mean probability of each pair."""
    given, scores = entry.predictions, entry.scores
    truth, predicted = given.truth_codes(), given.predicted_codes()
    code = truth * k + predicted
    clusters, unit = cluster_codes(given.patient, given.group, len(given))
    engine = Resampling(clusters, unit, scores.draws, scores.seed)
    hit = code[:, None] == np.array(there)
    of = truth[:, None] == np.array(there) // k
    hits, all_of = hit.astype(np.float64), of.astype(np.float64)

    def statistic(weights: npt.NDArray[np.int32] | None) -> dict[str, npt.NDArray[np.float64]]:
        W = np.ones((1, len(given))) if weights is None else weights.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = (W @ hits) / (W @ all_of)
        return {str(i): share[:, i] for i in range(len(there))}

    made = engine.scores(statistic)
    chance = given.probabilities[np.arange(len(given)), predicted]
    return [
        (
            int(hit[:, i].sum()),
            engine.share(made[str(i)], hit[:, i], of[:, i]),
            float(chance[hit[:, i]].mean()) if hit[:, i].any() else None,
        )
        for i in range(len(there))
    ]


def confusion_section(entries: Sequence[Entry]) -> Section | None:
    """Return the section on pairs of classes; None where nothing was confused.

    Args:
        entries: one, or several of the same rows.
    """
    classes = entries[0].predictions.classes
    malignancy, words = malignancy_of(classes)
    pairs = pairs_of(entries, malignancy)
    if not pairs:
        return None
    return Section(
        "pairs",
        "Confusion by pair",
        _intro(entries, pairs, words),
        tables=[_table(entries, pairs[:ROWS])],
        sheets=[_sheet(entries, pair) for pair in pairs[:SHEETS]],
    )


def _intro(entries: Sequence[Entry], pairs: Sequence[Pair], words: Sequence[str]) -> list[str]:
    danger = [pair for pair in pairs if pair.danger]
    told_of = "Each true class and what it was taken for, the share of the true class's images beside it."
    if len(entries) > 1:
        told_of += " For each evaluation: images, share with interval."
    scores = entries[0].scores
    said = [
        f"{told_of} Intervals are of 95 %, by percentile bootstrap of whole {units(scores.unit)}, "
        f"{scores.draws:,} draws, seed {scores.seed}."
    ]
    if danger:
        sums = [sum(pair.counts[i] for pair in danger) for i in range(len(entries))]
        each = plural(sums[0], "image")
        if len(entries) > 1:
            each = ", ".join(f"{letter_of(i)}: {n:,}" for i, n in enumerate(sums))
        said.append(
            f"Malignant taken for benign, by panderm’s diagnosis map: {each}. These pairs come first, "
            "whatever their number."
        )
    elif words:
        said.append("No malignant class was taken for a benign one, by panderm’s diagnosis map.")
    else:
        said.append(
            "The diagnosis map does not know these classes: which confusions are dangerous is not marked."
        )
    if len(pairs) > ROWS:
        rest = sum(sum(pair.counts) for pair in pairs[ROWS:])
        said.append(f"{len(pairs) - ROWS} pairs more, with {plural(rest, 'image')}, are not in the table.")
    return said


def _table(entries: Sequence[Entry], pairs: Sequence[Pair]) -> Rows:
    rows = []
    single = len(entries) == 1
    for pair in pairs:
        name = f"{pair.truth} → {pair.predicted}"
        mark = "malignant taken for benign" if pair.danger else ""
        if single:
            chance = "—" if pair.confidence[0] is None else number(pair.confidence[0])
            rows.append([name, mark, f"{pair.counts[0]:,}", told(pair.shares[0]), chance])
        else:
            cells = [f"{n:,} · {told(share)}" for n, share in zip(pair.counts, pair.shares, strict=True)]
            rows.append([name, mark, *cells])
    header = ["Truth → taken for", "By the map"]
    header += (
        ["Images", "Share of the true class", "Mean probability"]
        if single
        else [f"{letter_of(i)}: images · share" for i in range(len(entries))]
    )
    return Rows("Pairs of classes that were confused", header, rows)


def _sheet(entries: Sequence[Entry], pair: Pair) -> Sheet:
    """Return the pictures of a pair: those that most entries confuse so first, then the most confident."""
    first = with_files([entry.predictions for entry in entries])
    t, p = first.classes.index(pair.truth), first.classes.index(pair.predicted)
    truth = first.truth_codes() == t
    made = np.array([truth & (entry.predictions.predicted_codes() == p) for entry in entries])
    chance = np.array([entry.predictions.probabilities[:, p] for entry in entries])
    often = made.sum(axis=0)
    mean = np.where(made, chance, 0).sum(axis=0) / np.maximum(often, 1)
    rows = np.flatnonzero(often)
    rows = rows[np.lexsort((-mean[rows], -often[rows]))][:PICTURES]
    shown = []
    for row in rows:
        who = (
            ""
            if len(entries) == 1
            else "".join(letter_of(int(i)) for i in np.flatnonzero(made[:, row])) + " "
        )
        alt = f"{first.image[row]}: in truth {pair.truth}, taken for {pair.predicted}"
        picture = predicted_picture(first, int(row), side=SMALL, quality=78)
        shown.append(Shown(picture, alt, [f"{who}{number(float(mean[row]))}"], str(first.image[row])))
    total = int((often > 0).sum())
    note = plural(total, "image") if total <= len(shown) else f"{len(shown)} of {plural(total, 'image')}"
    mark = "malignant taken for benign" if pair.danger else ""
    return Sheet(f"{pair.truth} → {pair.predicted}", shown, note=note, mark=mark)


def wrong_of(entry: Entry) -> npt.NDArray[np.bool_]:
    """Return which rows an entry got wrong, bool (n,)."""
    found: npt.NDArray[np.bool_] = wrong_rows([entry.predictions])[0]
    return found


def predicted_name(given: Predictions, row: int) -> str:
    """Return the most probable class of a row."""
    return given.classes[int(given.probabilities[row].argmax())]
