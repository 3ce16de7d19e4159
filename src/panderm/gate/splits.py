"""Splits: what stands in two of them, and what they lack or have too few of."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Literal

from panderm.data.columns import Column
from panderm.data.rows import HELD, SPLITS
from panderm.errors import did_you_mean, plural, some
from panderm.gate.findings import Finding, Inspected, Measure, Severity

FEW = 10
"""Independent units of a class in a split below which nothing can be said of it: an interval is a guess."""

KNOWN = (*SPLITS, HELD)
"""What a split may be called; ``held`` are rows that no fold sees."""

_USES = {
    "train": "there is nothing to learn from",
    "val": "settings are chosen without it",
    "test": "there is nothing to score",
}
_UNITS: tuple[tuple[Literal["patient", "group"], str], ...] = (("patient", "patient"), ("group", "lesion"))


def check_splits(inspected: Inspected) -> list[Finding]:
    """Return rows of no known split, what crosses splits, and classes a split lacks or has few of."""
    if inspected.roles["split"] is None:
        return []
    found = _unknown(inspected)
    found += _crossing(inspected, inspected.patient, "patient")
    found += _crossing(inspected, inspected.group, "lesion")
    found += _empty(inspected)
    if inspected.roles["label"] is not None:
        found += _missing_classes(inspected)
        found += _rare_classes(inspected)
    return found


def _unknown(inspected: Inspected) -> list[Finding]:
    rows = {value: at for value, at in inspected.rows_by(inspected.split).items() if value not in KNOWN}
    empty = [i for i, value in enumerate(inspected.split) if value is None]
    places = [
        inspected.place(i, text=f"{value!r}{did_you_mean(value, SPLITS)}")
        for value, at in sorted(rows.items())
        for i in at
    ]
    places += [inspected.place(i, text="empty") for i in empty]
    if not places:
        return []
    named = some([*(repr(value) for value in sorted(rows)), *(["empty"] if empty else [])])
    return [
        Finding.of(
            *("unknown-split", "finding", "splits", "Rows in no known split"),
            f"{plural(len(places), 'row')} whose split is neither train, val nor test: {named}.",
            "correct the column, or name another with --split-column",
            places=places,
        )
    ]


def _crossing(inspected: Inspected, unit: Column, noun: str) -> list[Finding]:
    places = []
    for name, rows in inspected.rows_by(unit).items():
        counts = Counter(inspected.split[i] for i in rows if inspected.split[i] is not None)
        if len(counts) > 1:
            where = ", ".join(f"{counts[split]} in {split}" for split in _in_order(counts))
            places.append(inspected.place(*rows, text=f"{noun} {name}: {where}"))
    if not places:
        return []
    return [
        Finding.of(
            *(f"{noun}-crosses-splits", "finding", "splits", f"{noun.capitalize()}s in two splits"),
            f"{plural(len(places), noun)} in more than one split: scores will look better than they are.",
            f"panderm split keeps each {noun} in one split",
            places=places,
        )
    ]


def _empty(inspected: Inspected) -> list[Finding]:
    """Nothing to learn from, or nothing to score, is a finding; scores may be made on val alone."""
    present = set(inspected.split)
    found = []
    for name, so in _USES.items():
        if name not in present:
            scored = "val" if name == "test" else "test"
            severity: Severity = "note" if name != "train" and scored in present else "finding"
            hint = "panderm split makes splits" if severity == "finding" else ""
            if name == "test" and severity == "note":
                hint = "score val, with --test val"
            found.append(
                Finding.of(
                    *(f"no-{name}", severity, "splits", f"No rows in {name}"),
                    *(f"No row is in {name}: {so}.", hint),
                    count=1,
                )
            )
    return found


def _missing_classes(inspected: Inspected) -> list[Finding]:
    classes = sorted({x for x in inspected.label if x is not None})
    present = set(zip(inspected.split, inspected.label, strict=True))
    measures = [
        Measure(name=f"{label} in {split}", of="rows", value=0, n=int((inspected.split == split).sum()))
        for split in SPLITS
        for label in classes
        if split in inspected.split and (split, label) not in present
    ]
    if not measures:
        return []
    named = some([measure.name for measure in measures], 8)
    return [
        Finding.of(
            *("class-missing", "finding", "splits", "Classes that a split lacks"),
            f"No row of {named}: a split without a class can neither teach nor test it.",
            "panderm split spreads each class over the splits",
            measures=measures,
            count=len(measures),
        )
    ]


def _rare_classes(inspected: Inspected) -> list[Finding]:
    """Of few units of test an interval is too narrow; of few in train or val it is as well to know."""
    role, noun = next(((r, w) for r, w in _UNITS if inspected.roles[r]), (None, "image"))
    units: Column | None = getattr(inspected, role) if role else None
    members: dict[tuple[str, str], set[object]] = defaultdict(set)
    for i, (split, label) in enumerate(zip(inspected.split, inspected.label, strict=True)):
        if split in SPLITS and label is not None:
            members[split, label].add(i if units is None or units[i] is None else units[i])
    scored = _few(members, ("test",), noun)
    fitted = _few(members, ("train", "val"), noun)
    found = []
    if scored:
        found.append(
            Finding.of(
                *("too-few", "finding", "splits", "Too few in test to say anything"),
                f"Fewer than {FEW} {noun}s of a class: {_listed(scored)}. No interval can be trusted.",
                "take more of them into test, or merge classes; until then their scores are guesses",
                measures=scored,
                count=len(scored),
            )
        )
    if fitted:
        found.append(
            Finding.of(
                *("few-to-learn-from", "note", "splits", "Few to learn from"),
                f"Fewer than {FEW} {noun}s of a class: {_listed(fitted)}.",
                measures=fitted,
                count=len(fitted),
            )
        )
    return found


def _few(members: dict[tuple[str, str], set[object]], splits: tuple[str, ...], noun: str) -> list[Measure]:
    return [
        Measure(name=f"{label} in {split}", of=f"{noun}s", value=len(units), n=len(units), unit=noun)
        for (split, label), units in sorted(members.items())
        if split in splits and len(units) < FEW
    ]


def _listed(measures: list[Measure]) -> str:
    return some([f"{measure.n} of {measure.name}" for measure in measures], 8)


def _in_order(splits: Iterable[str]) -> list[str]:
    return sorted(splits, key=lambda split: ((*KNOWN, split).index(split), split))
