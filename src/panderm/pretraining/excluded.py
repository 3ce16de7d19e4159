"""What was left out of a source, why, and as which file it is kept."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from panderm.data.streams.source import ImageSource, SourceRecord
from panderm.errors import ArtifactError, plural, some
from panderm.storage import write_text

Reason = Literal["same file", "same name", "same patient", "near-duplicate"]
_TOLD: dict[Reason, str] = {
    "same file": "the same file, byte for byte",
    "same name": "the same name",
    "same patient": "of the same patient",
    "near-duplicate": "the same photograph, saved anew",
}
_EXAMPLES = 5


@dataclass(frozen=True)
class Match:
    """One image that is left out.

    Attributes:
        position: in the source as it was.
        image: its name there.
        reason: the first that held, in the order of :data:`Reason`.
        like: the image or patient it was recognised by.
        similarity: of near-duplicates, their correlation, at most 1.
    """

    position: int
    image: str
    reason: Reason
    like: str
    similarity: float | None = None


@dataclass(frozen=True)
class Excluded:
    """What was left out of a source, and what it was held against.

    Attributes:
        of: images that the source had.
        against: the tables, lists, folders and shards.
        matches: every image that is left out, in order.
        at_hand: how many images of ``against`` could be read; the others were compared by name alone.
        named: how many there are.
        near: whether near-duplicates were looked for.
        bad: how many images of the source could not be read when they were.
        not_looked: pairs of pictures that may be one and got no second look.
        patients: how many patients were to be left out.
    """

    of: int
    against: tuple[SourceRecord, ...] = ()
    matches: tuple[Match, ...] = ()
    at_hand: int = 0
    named: int = 0
    near: bool = True
    bad: int = 0
    not_looked: int = 0
    patients: int = 0

    @property
    def counts(self) -> dict[Reason, int]:
        """How many images each reason took; each image counts once."""
        found = Counter(match.reason for match in self.matches)
        return {reason: found[reason] for reason in get_args(Reason)}

    @property
    def record(self) -> dict[str, Any]:
        """All of it but the full list, ready for JSON."""
        examples = {
            reason: [
                {"image": m.image, "like": m.like, "similarity": m.similarity}
                for m in [m for m in self.matches if m.reason == reason][:_EXAMPLES]
            ]
            for reason in get_args(Reason)
        }
        return {
            "of": self.of,
            "excluded": len(self.matches),
            "by": dict(self.counts),
            "examples": examples,
            "against": list(self.against),
            "named": self.named,
            "at_hand": self.at_hand,
            "patients": self.patients,
            "near": self.near,
            "bad": self.bad,
            "not_looked": self.not_looked,
        }

    def sentences(self) -> list[str]:
        """Return what was left out and why, a line each, for a terminal or a page."""
        places = some([record["where"] for record in self.against])
        lines = [f"{plural(len(self.matches), 'image')} of {self.of:,} left out"]
        if places:
            lines[0] += f", held against {plural(self.named, 'image')} of {places}"
        for reason, n in self.counts.items():
            if n:
                alike = [m for m in self.matches if m.reason == reason]
                shown = some(
                    [m.image if _last(m.image) == _last(m.like) else f"{m.image} = {m.like}" for m in alike],
                    3,
                )
                lines.append(f"{n:,} {_TOLD[reason]}: {shown}")
        if self.named and self.at_hand < self.named:
            lines.append(
                f"{self.named - self.at_hand:,} of these were compared by name only: no file at hand"
            )
        if self.bad:
            lines.append(f"{plural(self.bad, 'image')} of the source could not be read")
        if self.not_looked:
            lines.append(f"{plural(self.not_looked, 'pair')} of alike pictures got no second look")
        return lines

    def write(self, path: Path, *, overwrite: bool = False) -> None:
        """Write every image that is left out to a CSV: position, image, reason, like, similarity."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["position", "image", "reason", "like", "similarity"])
        for m in self.matches:
            rows.writerow(
                [m.position, m.image, m.reason, m.like, "" if m.similarity is None else m.similarity]
            )
        write_text(path, text.getvalue(), overwrite=overwrite)


def read_excluded(path: Path, source: ImageSource) -> ImageSource:
    """Return a source without the images that :meth:`Excluded.write` wrote; they are not sought again.

    Raises:
        ArtifactError: a file that is damaged, or of another source.
    """
    try:
        rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
        matches = [Match(int(r["position"]), r["image"], "same file", r["like"]) for r in rows]
        same = all(0 <= m.position < len(source) and source.name(m.position) == m.image for m in matches)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError("the list of excluded images must be readable.", f"{path}: {error}") from None
    if not same:
        raise ArtifactError(
            "excluded images must be of this source.",
            f"{path} names images that are not where they were in {source.record['where']}",
            "was the folder or table changed? Start a new run",
        )
    return without(source, matches)


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def without(source: ImageSource, matches: Sequence[Match]) -> ImageSource:
    """Return a source without some images."""
    if not matches:
        return source
    keep = np.ones(len(source), dtype=bool)
    keep[[match.position for match in matches]] = False
    return source.select(np.flatnonzero(keep), f"{plural(len(matches), 'image')} excluded")
