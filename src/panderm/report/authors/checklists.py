"""Reporting checklists, item by item: filled from what is known, or left to the author in so many words.

The items are those of CLAIM 2024, TRIPOD+AI 2024 and STARD-AI 2025, by number; their topics are told in our
own few words (``checklists.csv``) and do not stand in for the guidelines, which an author has to read.
"""

from __future__ import annotations

import csv
import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

from panderm.report.authors.anchors import anchors, linked
from panderm.report.authors.answers import Answer, answers
from panderm.report.entry import Entry
from panderm.report.section import Folded, Rows, Section

Status = Literal["filled", "in part", "author", "not applicable"]
_ORDER: tuple[Status, ...] = ("filled", "in part", "author", "not applicable")
_WORDS = {"author": "left to the author"}


@dataclass(frozen=True)
class Guideline:
    """A checklist: its name, version, what it is for, and where it was published."""

    name: str
    version: str
    about: str
    published: str


GUIDELINES = (
    Guideline("CLAIM", "2024 update", "AI in medical imaging", "doi:10.1148/ryai.240300"),
    Guideline("TRIPOD+AI", "2024", "prediction models", "doi:10.1136/bmj-2023-078378"),
    Guideline("STARD-AI", "2025", "diagnostic accuracy of AI", "doi:10.1038/s41591-025-03953-8"),
)


@dataclass(frozen=True)
class Item:
    """One item: number, topic in our words, key of its answer, what is left to the author without one."""

    checklist: str
    item: str
    topic: str
    key: str
    author: str


@dataclass(frozen=True)
class Filled:
    """One item as the page has it: ``text`` is what is known, ``author`` what the author must write."""

    item: Item
    status: Status
    text: str = ""
    author: str = ""
    where: tuple[str, ...] = ()


@functools.cache
def items(checklist: str | None = None) -> tuple[Item, ...]:
    """Return the items of one checklist, or of all, in their order."""
    text = (files("panderm.report.authors") / "checklists.csv").read_text(encoding="utf-8")
    every = (Item(**row) for row in csv.DictReader(text.splitlines()))
    return tuple(one for one in every if checklist in (None, one.checklist))


def filled(checklist: str, known: dict[str, Answer]) -> list[Filled]:
    """Return a checklist with what is known.

    Args:
        checklist: its name: CLAIM, TRIPOD+AI or STARD-AI.
        known: of :func:`panderm.report.answers.answers`.
    """
    found = []
    for item in items(checklist):
        answer = known.get(item.key)
        if answer is None:
            found.append(Filled(item, "author", author=item.author))
        else:
            more = item.author if answer.status == "in part" else ""
            found.append(Filled(item, answer.status, answer.text, more, answer.where))
    return found


def checklist_section(entries: Sequence[Entry]) -> Section:
    """Return the three checklists, each folded, with how many of its items are filled."""
    known, there = answers(entries), anchors(entries)
    folded = []
    for guideline in GUIDELINES:
        every = filled(guideline.name, known)
        head = ("Item", "Topic", "Status", "Where, or what")
        rows = [
            [one.item.item, one.item.topic, _status(one), linked(_told(one), one.where, there)]
            for one in every
        ]
        named = f"{guideline.name} ({guideline.version})"
        title = f"{named}, {guideline.about}: {counts(every)}"
        caption = f"{guideline.name}, {guideline.version}; {guideline.published}"
        folded.append(Folded(title, Rows(caption, head, rows), "checklist"))
    intro = [
        "Every item by its number. Topics are in our own few words and stand in for no guideline: read it, "
        "and choose the one that fits the study. What is filled is what the files know; whether it is "
        "enough is the author’s to judge."
    ]
    return Section("checklists", "Reporting checklists", intro, folded=folded)


def counts(every: Sequence[Filled]) -> str:
    """Return ``"18 filled, 12 in part, 10 left to the author, 4 not applicable, of 44"``."""
    often = Counter(one.status for one in every)
    told = [f"{often[status]} {_WORDS.get(status, status)}" for status in _ORDER]
    return f"{', '.join(told)}, of {len(every)}"


def _status(one: Filled) -> str:
    return _WORDS.get(one.status, one.status)


def _told(one: Filled) -> str:
    if not one.author:
        return one.text
    verb = "Author must add" if one.text else "Author must write"
    return f"{one.text} {verb}: {one.author}.".strip()
