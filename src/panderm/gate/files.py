"""Files and pictures: what cannot be read, what shows nothing, and what the decoder takes care of."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from panderm.data.examine import Examined
from panderm.data.rows import other_ending
from panderm.data.stored import Stored
from panderm.errors import plural
from panderm.gate.findings import Chapter, Finding, Inspected, Place, Severity

TINY = 32
"""Pixels of the shorter side below which a picture is tiny."""
ONE_COLOUR = 1.0
"""Standard deviation of the most varied channel, levels of 255, below which a picture is one colour."""


class _Kind(NamedTuple):
    """A kind of thing that a row can have: its words; ``{n}`` is the count, in ``unit``."""

    kind: str
    severity: Severity
    chapter: Chapter
    title: str
    sentence: str
    hint: str
    unit: str = "file"


_MISSING = _Kind(
    *("missing-file", "finding", "files", "Files that are not there", "{n} cannot be found."),
    "correct the name, or name their folder with --images",
)
_EMPTY = _Kind(
    *("empty-file", "finding", "files", "Empty files", "{n} of no bytes: a copy that went wrong."),
    "copy them again",
)
_DAMAGED = _Kind(
    *("damaged-file", "finding", "files", "Damaged files", "{n} cannot be decoded to the end."),
    "copy or download them again",
)
_FRAMES = _Kind(
    *("several-frames", "finding", "files", "Files of several pictures"),
    *("{n} with more than one picture inside: which one is meant?", "save the one that is meant by itself"),
)
_LARGE = _Kind(
    *("too-large", "finding", "files", "Pictures beyond the limit"),
    "{n} of more pixels than are allowed: nothing was decoded, since small files can ask for any memory.",
    "shrink them, or raise --max-megapixels if they are what they should be",
)
_NO_IMAGE = _Kind(
    *("not-an-image", "finding", "files", "Files that are not images"),
    *("{n} without a picture that can be read.", "replace them; PDF, video and RAW are not read"),
)
_COLOUR = _Kind(
    *("one-colour", "finding", "pictures", "Pictures of one colour"),
    *("{n} in which nothing can be seen.", "replace them, or remove their rows"),
    "picture",
)
_TINY = _Kind(
    *("tiny", "finding", "pictures", "Tiny pictures"),
    f"{{n}} with a side shorter than {TINY} pixels: a thumbnail, most likely, in the picture's place.",
    *("find the full picture, or remove the row", "picture"),
)


_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "MONOCHROME1", "MONOCHROME2")


class _Trait(NamedTuple):
    """Something of how a file holds its picture that the decoder takes care of: a note."""

    kind: str
    title: str
    sentence: str
    text: Callable[[Stored], str | None]  # None where the file is not so
    hint: str = ""


_TRAITS = (
    _Trait(
        *("turned", "Pictures that lie on their side in the file"),
        "{n} that EXIF says to turn. Here they stand upright; software that ignores EXIF sees them sideways.",
        lambda s: f"EXIF orientation {s.orientation}" if s.orientation != 1 else None,
    ),
    _Trait(
        *("cmyk", "Pictures in print colours"),
        "{n} in CMYK or the like, converted to RGB: expect small shifts of colour.",
        lambda s: s.mode if s.mode in ("CMYK", "YCCK", "LAB") else None,
    ),
    _Trait(
        *("deep", "Pictures of more than 8 bits"),
        "{n} of more than 8 bits a channel, brought to 8.",
        lambda s: f"{s.bits} bits a channel" if s.bits > 8 else None,
    ),
    _Trait(
        *("alpha", "Pictures with transparency"),
        "{n} that may be transparent in places, laid onto white.",
        lambda s: f"{s.format}, {s.mode}" if s.alpha else None,
    ),
    _Trait(
        *("colour-profile", "Pictures in another colour space"),
        "{n} with a colour profile other than sRGB, converted. Software that ignores it sees paler colours.",
        lambda s: s.profile,
    ),
    _Trait(
        *("bad-colour-profile", "Pictures with a colour profile that cannot be used"),
        "{n} taken as sRGB, which they may not be.",
        lambda s: s.profile_problem,
        "save them anew as sRGB from the program that wrote them",
    ),
    _Trait(
        *("first-of-several", "Photographs with a second picture behind them"),
        "{n} as phones write them; the first picture was taken.",
        lambda s: f"{s.frames} pictures in one {s.format}" if s.frames > 1 else None,
    ),
    _Trait(
        *("grey", "Pictures without colour"),
        "{n} of brightness alone.",
        lambda s: f"{s.format}, {s.mode}" if s.mode in _GREY else None,
    ),
)


def check_files(inspected: Inspected) -> list[Finding]:
    """Return what is wrong with the files that rows name, and with their names."""
    unnamed = [i for i, name in enumerate(inspected.image) if not name]
    found = []
    if unnamed:
        found.append(
            Finding.of(
                *("no-image-named", "finding", "files", "Rows that name no image"),
                f"{plural(len(unnamed), 'row')} with an empty cell in the image column.",
                "fill in the name, or remove the row",
                places=[inspected.place(i) for i in unnamed],
            )
        )
    found += _named_twice(inspected)
    places: dict[_Kind, list[Place]] = defaultdict(list)
    for i, one in enumerate(inspected.examined):
        if inspected.image[i] and one.problem:
            kind = kind_of(one.problem)
            more = other_ending(inspected.path[i]) if kind is _MISSING else ""
            places[kind].append(inspected.place(i, text=one.problem + more))
    kinds = (_MISSING, _EMPTY, _NO_IMAGE, _DAMAGED, _FRAMES, _LARGE)
    return found + [_told(kind, places[kind]) for kind in kinds if kind in places]


def check_pictures(inspected: Inspected) -> list[Finding]:
    """Return pictures that show nothing, and notes on those that other software may see otherwise."""
    sound = [(i, one) for i, one in enumerate(inspected.examined) if one.stored]
    blank = [inspected.place(i, text=_size(one)) for i, one in sound if one.spread < ONE_COLOUR]
    tiny = [inspected.place(i, text=_size(one)) for i, one in sound if min(one.height, one.width) < TINY]
    found = [_told(kind, places) for kind, places in ((_COLOUR, blank), (_TINY, tiny)) if places]
    for trait in _TRAITS:
        places = [
            inspected.place(i, text=text)
            for i, one in sound
            if one.stored and (text := trait.text(one.stored)) is not None
        ]
        if places:
            sentence = trait.sentence.format(n=plural(len(places), "picture"))
            found.append(
                Finding.of(
                    *(trait.kind, "note", "pictures", trait.title, sentence, trait.hint), places=places
                )
            )
    return found


def same_file(folder: Path, names: list[str | None]) -> list[list[int]]:
    """Return for every file the positions that name it: as a.jpg, as ./a.jpg, or by its whole path."""
    rows: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        if name:
            rows[os.path.normpath(folder / name)].append(i)
    return list(rows.values())


def kind_of(problem: str) -> _Kind:
    """Return which kind of bad file a decoder's reason speaks of."""
    if problem == "no such file":
        return _MISSING
    if problem == "an empty file":
        return _EMPTY
    if problem.startswith("damaged"):
        return _DAMAGED
    if problem.startswith("holds "):
        return _FRAMES
    if problem.startswith("more than") and problem.endswith("million pixels"):
        return _LARGE
    return _NO_IMAGE


def _named_twice(inspected: Inspected) -> list[Finding]:
    twice = [rows for rows in same_file(inspected.folder, list(inspected.image)) if len(rows) > 1]
    if not twice:
        return []
    n, rows_ = len(twice), plural(sum(len(rows) for rows in twice), "row")
    return [
        Finding.of(
            *("named-twice", "finding", "files", "Images named more than once"),
            f"{plural(n, 'image')} in {rows_}: each counts as often as it is named.",
            "remove the repeated rows",
            places=[inspected.place(*rows, text=_labels(inspected, rows)) for rows in twice],
        )
    ]


def _labels(inspected: Inspected, rows: list[int]) -> str:
    labels = list(dict.fromkeys(inspected.label[i] for i in rows if inspected.label[i]))
    return f"with different labels: {', '.join(labels)}" if len(labels) > 1 else ""


def _told(kind: _Kind, places: list[Place]) -> Finding:
    sentence = kind.sentence.format(n=plural(len(places), kind.unit))
    return Finding.of(kind.kind, kind.severity, kind.chapter, kind.title, sentence, kind.hint, places=places)


def _size(one: Examined) -> str:
    return f"{one.width} × {one.height} pixels"
