"""Labels, lesions and patients: rows without one, and columns that contradict each other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from panderm.data.columns import Column
from panderm.errors import plural, some
from panderm.gate.findings import Finding, Inspected


def check_labels(inspected: Inspected, classes: Sequence[str] | None = None) -> list[Finding]:
    """Return rows without a label, labels that are no class, and lesions that contradict themselves.

    Args:
        inspected: the table.
        classes: all classes, where they are stated.
    """
    found = []
    if inspected.roles["label"] is not None:
        found += _no_label(inspected)
        found += _spelled_twice(inspected)
        found += _unlisted(inspected, classes)
        found += _one_class(inspected)
        found += _lesions_disagree(inspected)
    found += _two_patients(inspected)
    found += _without(inspected, "patient", inspected.patient, "patient")
    found += _without(inspected, "group", inspected.group, "lesion")
    return found


def _no_label(inspected: Inspected) -> list[Finding]:
    empty = [i for i, label in enumerate(inspected.label) if label is None]
    if not empty:
        return []
    return [
        Finding.of(
            *("no-label", "finding", "labels", "Rows without a label"),
            f"{plural(len(empty), 'row')} with an empty cell in column {inspected.roles['label']!r}.",
            "fill in the label, or leave these rows out with --skip-bad",
            places=[inspected.place(i) for i in empty],
        )
    ]


def _spelled_twice(inspected: Inspected) -> list[Finding]:
    ways: dict[str, set[str]] = defaultdict(set)
    rows = inspected.rows_by(inspected.label)
    for label in rows:
        ways[" ".join(label.casefold().replace("_", " ").replace("-", " ").split())].add(label)
    alike = [sorted(one) for one in ways.values() if len(one) > 1]
    if not alike:
        return []
    named = some([" and ".join(repr(way) for way in one) for one in alike])
    rarer = [way for one in alike for way in sorted(one, key=lambda way: len(rows[way]))[:-1]]
    return [
        Finding.of(
            *("class-spelled-twice", "finding", "labels", "One class spelled in two ways"),
            f"{plural(len(alike), 'class', 'classes')} taken as several: {named}.",
            "write each class in one way",
            places=[inspected.place(i, text=way) for way in rarer for i in rows[way]],
            count=len(alike),
        )
    ]


def _unlisted(inspected: Inspected, classes: Sequence[str] | None) -> list[Finding]:
    if classes is None:
        return []
    rows = {label: at for label, at in inspected.rows_by(inspected.label).items() if label not in classes}
    places = [inspected.place(i, text=label) for label, at in sorted(rows.items()) for i in at]
    if not places:
        return []
    return [
        Finding.of(
            *("unlisted-class", "finding", "labels", "Labels that --classes does not list"),
            f"{plural(len(places), 'row')} of a class that is not listed: {some(sorted(rows))}.",
            "list every class, or correct the labels",
            places=places,
        )
    ]


def _one_class(inspected: Inspected) -> list[Finding]:
    present = sorted({x for x in inspected.label if x is not None})
    if len(present) != 1:
        return []
    return [
        Finding.of(
            *("one-class", "finding", "labels", "One class only"),
            f"Every label is {present[0]!r}: there is nothing to tell apart.",
            "name another column with --label",
            count=1,
        )
    ]


def _lesions_disagree(inspected: Inspected) -> list[Finding]:
    places = []
    for lesion, rows in inspected.rows_by(inspected.group).items():
        counts = Counter(inspected.label[i] for i in rows if inspected.label[i] is not None)
        if len(counts) > 1:
            named = ", ".join(f"{n} × {label}" for label, n in counts.most_common())
            places.append(inspected.place(*rows, text=f"lesion {lesion}: {named}"))
    if not places:
        return []
    return [
        Finding.of(
            *("lesion-disagrees", "finding", "labels", "Lesions with different labels"),
            f"{plural(len(places), 'lesion')} under more than one label: one lesion has one diagnosis.",
            "find out which label is right",
            places=places,
        )
    ]


def _two_patients(inspected: Inspected) -> list[Finding]:
    places = []
    for lesion, rows in inspected.rows_by(inspected.group).items():
        patients = sorted({inspected.patient[i] for i in rows if inspected.patient[i] is not None})
        if len(patients) > 1:
            places.append(inspected.place(*rows, text=f"lesion {lesion}: patients {some(patients)}"))
    if not places:
        return []
    return [
        Finding.of(
            *("lesion-under-two-patients", "finding", "labels", "Lesions under two patients"),
            f"{plural(len(places), 'lesion')} under more than one patient: one of the two columns is wrong.",
            "correct the columns",
            places=places,
        )
    ]


def _without(inspected: Inspected, role: str, column: Column, noun: str) -> list[Finding]:
    empty = [i for i, unit in enumerate(column) if unit is None]
    if not empty or inspected.roles[role] is None:
        return []
    return [
        Finding.of(
            *(f"no-{noun}", "note", "labels", f"Rows without a {noun}"),
            f"{plural(len(empty), 'row')} with no {noun}: each is taken as one of its own.",
            f"fill in the {noun} where it is known",
            places=[inspected.place(i) for i in empty],
        )
    ]
