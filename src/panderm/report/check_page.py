"""What a check found, as one self-contained page: a summary, every chapter, and the pictures side by side."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from panderm.data.images import MAX_MEGAPIXELS, ImageError, read_image
from panderm.data.rows import HELD, SPLITS
from panderm.errors import plural
from panderm.gate.check import Checked
from panderm.gate.findings import Chapter, Finding, Inspected, Measure, Place
from panderm.gate.splits import FEW
from panderm.report.mistakes.pictures import thumbnail
from panderm.report.page import sentence, template
from panderm.report.words import moment, number
from panderm.storage import refuse_existing, write_text

SIDE = 176  # pixels of a thumbnail's longer side
MOST_FAMILIES = 60
MOST_PICTURES = 12  # of each kind of finding
MOST_LINES = 200

TITLES: dict[Chapter, str] = {
    "files": "Files",
    "pictures": "Pictures",
    "duplicates": "Duplicates",
    "splits": "Splits",
    "labels": "Labels, patients and lesions",
    "columns": "Columns that predict the label",
}
_NOTHING: dict[Chapter, str] = {
    "files": "Every row names a file of its own, and every file can be decoded to its end.",
    "pictures": "No picture is tiny or of one colour, and none is stored in a way that software may misread.",
    "duplicates": "No picture was found twice.",
    "splits": "Nothing stands in two splits, and every class has enough rows in each.",
    "labels": "Every row has a label, and no lesion contradicts itself.",
    "columns": "No column alone predicts the label.",
}
_NEEDS: dict[Chapter, tuple[str, str]] = {
    "splits": ("split", "The table has no split column."),
    "labels": ("label", "The table has no label column."),
    "columns": ("label", "The table has no label column."),
}


@dataclass(frozen=True)
class Line:
    """One place as a line of a table."""

    rows: str
    images: str
    text: str


@dataclass(frozen=True)
class Picture:
    """One row's picture: a JPEG as ``data:`` address, or why there is none; and what the table says of it."""

    row: int
    image: str
    picture: str | None
    problem: str | None
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Family:
    """Rows that hold one picture, side by side, and which findings they are in."""

    titles: tuple[tuple[str, bool], ...]  # and whether it is a finding, not a note
    text: str
    pictures: tuple[Picture, ...]
    more: int


@dataclass(frozen=True)
class Section:
    """One finding as it stands in its chapter."""

    finding: Finding
    lines: tuple[Line, ...]
    pictures: tuple[Picture, ...]
    more: int
    measures: tuple[tuple[str, str, str, str], ...]
    beneath: str

    @property
    def telling(self) -> bool:
        """Whether any of its lines says more than where."""
        return any(line.text for line in self.lines)


@dataclass(frozen=True)
class Part:
    """A chapter: its sections, or a sentence where there is nothing."""

    name: Chapter
    title: str
    nothing: str
    sections: tuple[Section, ...]
    families: tuple[Family, ...]
    more_families: int


class CheckPage:
    """What a check found, as a page that needs no network, no script, no other file.

    Args:
        checked: what :func:`panderm.check` returned.
        max_megapixels: larger pictures are not opened for their thumbnails.

    Example:
        >>> panderm.CheckPage(panderm.check("ham.csv", images="images/")).save("check.html")  # doctest: +SKIP
    """

    def __init__(self, checked: Checked, *, max_megapixels: float = MAX_MEGAPIXELS) -> None:
        self.checked = checked
        self._most = max_megapixels
        self._thumbnails: dict[Path, tuple[str | None, str | None]] = {}

    def html(self) -> str:
        """Return the complete page."""
        checked = self.checked
        every = [*checked.findings, *checked.notes]
        page = template("check.html").render(
            checked=checked,
            name=checked.inspected.source.name,
            findings=every,
            parts=[self._part(chapter, every) for chapter in get_args(Chapter)],
            titles=TITLES,
            counts=_counts(checked.inspected),
            few=FEW,
            record=_record(checked),
            sentence=sentence,
            created=moment(checked.provenance.created),
            version=checked.provenance.panderm,
        )
        return page.strip() + "\n"

    def save(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write the page.

        Raises:
            ArtifactError: the file exists, or cannot be written.
        """
        target = Path(path)
        refuse_existing(target, overwrite=overwrite)
        write_text(target, self.html(), overwrite=overwrite)
        return target

    def _part(self, name: Chapter, every: Sequence[Finding]) -> Part:
        found = [one for one in every if one.chapter == name]
        role, lacking = _NEEDS.get(name, ("", ""))
        absent = bool(role) and self.checked.inspected.roles[role] is None
        families: tuple[Family, ...] = ()
        more = 0
        if name == "duplicates":
            families, more = self._families(found)
        return Part(
            name=name,
            title=TITLES[name],
            nothing=lacking if absent else _NOTHING[name],
            sections=tuple(self._section(one) for one in found),
            families=families,
            more_families=more,
        )

    def _section(self, one: Finding) -> Section:
        shown = one.places[:MOST_LINES] if one.chapter not in ("duplicates", "pictures") else ()
        pictures: list[Picture] = []
        if one.chapter == "pictures":
            pictures = [self._picture(place.rows[0], place.text) for place in one.places[:MOST_PICTURES]]
        more = 0 if one.chapter == "duplicates" else len(one.places) - max(len(shown), len(pictures))
        return Section(
            finding=one,
            lines=tuple(_line(place) for place in shown),
            pictures=tuple(pictures),
            more=more,
            measures=tuple(_measured(m) for m in one.measures if m.of == "AUROC"),
            beneath=_beneath(one.measures),
        )

    def _families(self, found: Sequence[Finding]) -> tuple[tuple[Family, ...], int]:
        titles: dict[tuple[int, ...], list[tuple[str, bool]]] = defaultdict(list)
        texts: dict[tuple[int, ...], str] = {}
        for one in found:
            for place in one.places:
                titles[place.rows].append((one.title, one.severity == "finding"))
                texts[place.rows] = place.text
        # Those in most findings first: they do the most harm.
        order = sorted(titles, key=lambda rows: (-sum(wrong for _, wrong in titles[rows]), rows))
        families = [
            Family(
                titles=tuple(titles[rows]),
                text=texts[rows],
                pictures=tuple(self._picture(row) for row in rows[:6]),
                more=len(rows) - 6 if len(rows) > 6 else 0,
            )
            for rows in order[:MOST_FAMILIES]
        ]
        return tuple(families), max(0, len(order) - MOST_FAMILIES)

    def _picture(self, row: int, text: str = "") -> Picture:
        inspected = self.checked.inspected
        at = int((inspected.row == row).argmax())
        picture, problem = self._thumbnail(inspected.path[at])
        facts = [(text, "")] if text else []
        facts += [
            (name, value)
            for name, value in (
                ("split", inspected.split[at]),
                ("label", inspected.label[at]),
                ("patient", inspected.patient[at]),
                ("lesion", inspected.group[at]),
            )
            if value
        ]
        return Picture(row, inspected.image[at] or "", picture, problem, tuple(facts))

    def _thumbnail(self, path: Path) -> tuple[str | None, str | None]:
        if path not in self._thumbnails:
            try:
                pixels = read_image(path, max_megapixels=self._most)
                self._thumbnails[path] = thumbnail(pixels, SIDE), None
            except ImageError as error:
                self._thumbnails[path] = None, error.reason
        return self._thumbnails[path]


def _line(place: Place) -> Line:
    rows = ", ".join(f"{row}" for row in place.rows[:12])
    images = ", ".join(dict.fromkeys(name or "(empty)" for name in place.images[:4]))
    more = " …"
    return Line(
        rows + (more if len(place.rows) > 12 else ""),
        images + (more if len(place.images) > 4 else ""),
        place.text,
    )


def _measured(measure: Measure) -> tuple[str, str, str, str]:
    value = "not computable" if measure.value is None else number(measure.value)
    if measure.low is None or measure.high is None:
        between = measure.reason or "no interval"
    else:
        between = f"{number(measure.low)}–{number(measure.high)}"
    units = f"; {plural(measure.clusters, measure.unit)}" if measure.clusters and measure.unit else ""
    return measure.name, value, between, f"{plural(measure.n, 'row')}{units}"


def _beneath(measures: Iterable[Measure]) -> str:
    drawn = next((m for m in measures if m.draws), None)
    if drawn is None:
        return ""
    drawn_so = f"{drawn.draws:,} draws of whole {drawn.unit}s, seed {drawn.seed}"
    return f"95 % intervals, percentile bootstrap; {drawn_so}."


def _counts(inspected: Inspected) -> tuple[tuple[str, ...], list[tuple[str, list[int]]]] | None:
    """Return the splits, and how many rows of each class each has; None where there is nothing to count."""
    if inspected.roles["split"] is None or inspected.roles["label"] is None:
        return None
    counts = Counter(zip(inspected.label, inspected.split, strict=True))
    splits = tuple(name for name in (*SPLITS, HELD) if name in inspected.split)
    classes = sorted({x for x in inspected.label if x is not None})
    return splits, [(name, [counts[name, split] for split in splits]) for name in classes]


def _record(checked: Checked) -> list[tuple[str, str]]:
    inspected, provenance = checked.inspected, checked.provenance
    roles = [(role, name) for role, name in inspected.roles.items() if name]
    return [
        ("table", str(inspected.source)),
        ("images", str(inspected.folder)),
        *((f"{role if role != 'group' else 'lesion'} column", name) for role, name in roles),
        ("command", provenance.command),
        ("seconds", f"{provenance.seconds:.1f}" if provenance.seconds is not None else ""),
        ("machine", provenance.machine),
    ]
