"""What leaves the page as files: the points of its figures, and its numbers as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panderm.errors import ArtifactError, plural, some
from panderm.predictions import PredictionsCard
from panderm.provenance import CARD_NAME, Provenance
from panderm.report.section import Drawing, Rows, Section
from panderm.report.tables.printed import Printed, latex, markdown, printed
from panderm.report.tables.results import Results
from panderm.report.tables.said import Listed, read_me
from panderm.scores import LEVEL, MultiLabelScores, Score, Scores
from panderm.storage import new_folder, refuse_existing, sha256_of_file

__all__ = ["Results", "Source", "require_free", "write_tables"]

_KIND = "report tables"
# Their tables are written from numbers, not from the page's words.
_FROM_SCORES = frozenset(
    {"operating", "calibration", "sets", "selective", "top_k", "hierarchy", "tests", "folds"}
)


@dataclass(frozen=True)
class Source:
    """One evaluation that the numbers rest on."""

    title: str
    card: PredictionsCard
    scores: Scores | MultiLabelScores

    @property
    def facts(self) -> tuple[str, ...]:
        """Model, split, n, units resampled, draws, seed, identity of the predictions."""
        held = self.scores
        units = plural(held.clusters, held.unit)
        return (
            self.title, held.split, f"{held.n:,}", units, f"{held.draws:,}", str(held.seed), held.predictions
        )  # fmt: skip


def write_tables(
    folder: Path,
    tables: Sequence[Results],
    drawings: Sequence[Drawing],
    sections: Sequence[Section],
    sources: Sequence[Source],
    chains: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write everything, a whole folder or none, and return the files.

    Args:
        folder: to write.
        tables: of numbers.
        drawings: of the page, for their points.
        sections: of the page, for tables that it has in words only.
        sources: what the numbers rest on.
        chains: by model, every file they come from, as ``provenance.json`` holds it.
        overwrite: replace the files that an earlier call wrote there, and keep all others.

    Raises:
        ArtifactError: the folder exists and ``overwrite`` is not set, it is not one of these, or it cannot
            be written.
    """
    ours = require_free(folder, overwrite=overwrite)
    texts, listed = _texts(tables, drawings, sections, sources)
    now = Provenance.now()
    texts["provenance.json"] = json.dumps(chains, indent=2, ensure_ascii=False) + "\n"
    how = " / ".join(dict.fromkeys(source.scores.intervals_in_words for source in sources))
    texts["README.md"] = read_me(listed, [source.facts for source in sources], how, now)
    with new_folder(folder, overwrite=overwrite) as temporary:
        if folder.is_dir():
            _keep_others(folder, temporary, ours, set(texts))
        for name, text in texts.items():
            (temporary / name).write_text(text, encoding="utf-8", newline="")
        files = {name: sha256_of_file(temporary / name) for name in sorted(texts)}
        card = {
            "kind": _KIND,
            "format": 1,
            "provenance": now.model_dump(),
            "predictions": [source.scores.predictions for source in sources],
            "files": files,
        }
        (temporary / CARD_NAME).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return [folder / name for name in [*files, CARD_NAME]]


def _texts(
    tables: Sequence[Results],
    drawings: Sequence[Drawing],
    sections: Sequence[Section],
    sources: Sequence[Source],
) -> tuple[dict[str, str], list[Listed]]:
    """Return every file's text by its name, and what each is."""
    texts: dict[str, str] = {}
    listed = []

    def put(stem: str, kinds: dict[str, str], what: str, columns: Sequence[str], rows: int) -> None:
        name = next(n for n in _names(stem) if not any(f"{n}.{kind}" in texts for kind in ("csv", *kinds)))
        texts.update({f"{name}.{kind}": text for kind, text in kinds.items()})
        listed.append(Listed(name, tuple(kinds), what, tuple(columns), rows))

    first = sources[0].scores
    level, how = f"{LEVEL:.0%}".replace("%", " %"), first.intervals_in_words
    rests = f"{level} intervals: {how}, {first.draws:,} draws of whole {first.unit}s, seed {first.seed}"
    for table in tables:
        head, rows = as_rows(table)
        words = printed(table, rests)
        kinds = {"csv": as_csv(head, rows), "md": markdown(words), "tex": latex(words, table.name)}
        put(table.name, kinds, table.title, head, len(rows))
    for section in sections:
        for stem, about, one in _in_words(section):
            words = Printed(one.caption, tuple(one.header), tuple(tuple(row) for row in one.rows))
            kinds = {"csv": as_csv(one.header, one.rows), "md": markdown(words), "tex": latex(words, stem)}
            what = f"{section.title}: {about}, in words"
            put(stem, kinds, what, one.header, len(one.rows))
        for paste in section.pastes:
            text = f"# {paste.title}\n\n" + "\n\n".join(paste.paragraphs) + "\n"
            put(slug(paste.title), {"md": text}, f"{section.title}: {paste.title}", (), len(paste.paragraphs))
    for drawing in drawings:
        if drawing.points is not None:
            head = [slug(column) for column in drawing.points.header]
            text = as_csv(head, drawing.points.rows)
            what = f"Points of the figure “{drawing.title}”"
            put(slug(drawing.name or drawing.title), {"csv": text}, what, head, len(drawing.points.rows))
    return texts, listed


def _in_words(section: Section) -> Iterator[tuple[str, str, Rows]]:
    """Yield the file's name, a title, and each table that a section has in words only."""
    if section.name in _FROM_SCORES:
        return
    told = [(_about(one), one) for one in section.tables]
    folded = [(_about(one.table), one) for one in section.folded]
    alike = len({about for about, _ in folded}) < len(folded)  # as of each entry: its title tells them apart
    told += [(one.title if alike else about, one.table) for about, one in folded]
    for about, one in told:
        yield slug(section.name if len(told) == 1 else f"{section.name} {about}"), about, one


def _about(table: Rows) -> str:
    return re.split(r"[;:,.(]", table.caption)[0].strip()


def as_rows(table: Results) -> tuple[list[str], list[tuple[str | float | int | None, ...]]]:
    """Return the head and the rows of a result table, unrounded, one row a number."""
    head = [*table.keys, "score", "value", "low", "high", "n", "reason"]
    rows: list[tuple[str | float | int | None, ...]] = []
    for row in table.rows:
        held = row.value if isinstance(row.value, Score) else Score(row.value, None, None)
        rows.append((*row.of, row.score, held.value, held.low, held.high, row.n, held.reason))
    return head, rows


def as_csv(header: Sequence[str], rows: Iterable[Sequence[str | float | None]]) -> str:
    """Return rows as CSV; numbers are written in full, and nothing where there is none."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return target.getvalue()


def slug(text: str) -> str:
    """Return a name for a file or a column: lower case, digits and ``_``."""
    return re.sub(r"\W+", "_", text.lower()).strip("_")[:60].strip("_") or "table"


def _names(stem: str) -> Iterable[str]:
    yield stem
    yield from (f"{stem}_{i}" for i in range(2, 10_000))


def require_free(folder: Path, *, overwrite: bool) -> set[str]:
    """Return the files that an earlier call wrote there, and that may be replaced.

    Raises:
        ArtifactError: the folder exists and ``overwrite`` is not set, or it holds something else.
    """
    refuse_existing(folder, overwrite=overwrite)
    if not folder.is_dir() or not any(folder.iterdir()):
        return set()
    try:
        card = json.loads((folder / CARD_NAME).read_bytes())
        if card["kind"] == _KIND:
            return {*map(str, card["files"]), CARD_NAME}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ArtifactError(
        "only a folder of a report’s tables may be replaced by them.",
        f"{folder} holds other files",
        "choose another folder for --tables",
    )


def _keep_others(folder: Path, temporary: Path, ours: set[str], names: set[str]) -> None:
    """Copy what others put into the folder, so that it is there afterwards too."""
    shutil.copytree(
        folder,
        temporary,
        symlinks=True,
        dirs_exist_ok=True,
        ignore=lambda where, found: [name for name in found if Path(where) == folder and name in ours],
    )
    if lost := sorted(name for name in names if (temporary / name).exists()):
        raise ArtifactError(
            "tables must not replace files of another hand.",
            f"{folder} holds {some(lost)}, which panderm did not write",
            "move them away, or choose another folder for --tables",
        )
