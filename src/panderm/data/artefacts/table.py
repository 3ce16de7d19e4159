"""A table of images to the same table with a column for every flag."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.data.artefacts.accuracy import Accuracy, read_accuracy
from panderm.data.artefacts.find import find_artefacts
from panderm.data.artefacts.record import FLAGS, Artefacts
from panderm.data.columns import find_roles, read_cells, read_column
from panderm.data.images import MAX_MEGAPIXELS, ImageError, read_image
from panderm.errors import TableError, did_you_mean, plural, some
from panderm.progress import in_threads
from panderm.provenance import Provenance, Record
from panderm.storage import new_file, refuse_existing, sha256_of_file, write_json

ADDED = (
    *(flag.name for flag in FLAGS),
    *(f"{flag.name}_score" for flag in FLAGS),
    *("ita", "tone_ita"),
)
"""The columns that are written, in their order."""


class Unflagged(Record):
    """A row whose image could not be read: its number as a spreadsheet shows it, its image, and why."""

    row: int
    image: str
    reason: str


class ArtefactCard(Record):
    """Beside the table: what was flagged, by which thresholds, and how often such flags are right."""

    kind: str = "artefacts"
    csv: str
    csv_sha256: str
    rows: int
    yes: dict[str, int]
    tones: dict[str, int]
    thresholds: dict[str, float]
    masks: int
    masks_unusable: int
    unreadable: tuple[Unflagged, ...]
    accuracy: Accuracy
    provenance: Provenance


@dataclass(frozen=True, eq=False)
class Flagged:
    """A table's own cells, and the artefacts of each row's image; None where it could not be read.

    Example:
        >>> flagged = panderm.flag_artefacts("ham.csv", images="images/")  # doctest: +SKIP
        >>> flagged.save("flagged.csv")  # doctest: +SKIP
    """

    cells: pd.DataFrame
    artefacts: tuple[Artefacts | None, ...]
    card: ArtefactCard

    def columns(self) -> dict[str, list[str]]:
        """Return the added columns by name, as they are written: yes, no, numbers, or nothing."""
        found: dict[str, list[str]] = {name: [] for name in ADDED}
        for one in self.artefacts:
            for name, cell in _cells(one).items():
                found[name].append(cell)
        return found

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write the table with its new columns, and ``X.artefacts.json`` beside ``X.csv``.

        Raises:
            ArtifactError: one of the two exists, or cannot be written.
        """
        out, card = Path(path), card_path(Path(path))
        require_free(out, overwrite=overwrite)
        added = self.columns()
        with (
            new_file(out, overwrite=overwrite) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*self.cells.columns, *ADDED])
            for i, row in enumerate(self.cells.itertuples(index=False, name=None)):
                writer.writerow([*row, *(added[name][i] for name in ADDED)])
        write_json(card, self.card.model_dump(mode="json"), overwrite=overwrite)


def card_path(out: Path) -> Path:
    """Return where a flagged table's card lies: ``x.artefacts.json`` beside ``x.csv``."""
    return out.with_name(f"{out.stem}.artefacts.json")


def require_free(out: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, outputs that exist and may not be replaced."""
    for path in (out, card_path(out)):
        refuse_existing(path, overwrite=overwrite)


def flag_artefacts(
    table: Path | str,
    *,
    images: Path | str | None = None,
    image_column: str = "image",
    masks: Path | str | None = None,
    mask_column: str = "mask",
    max_megapixels: float = MAX_MEGAPIXELS,
    workers: int = 2,
    progress: bool = True,
) -> Flagged:
    """Look for artefacts in every image of a table.

    An image that cannot be read, or is not there, has empty cells and is listed on the card; nothing is left
    out. An image may be named in several rows.

    Args:
        table: a CSV (comma, semicolon or tab) or a Parquet file.
        images: the folder that the image column is relative to; by default the table's own.
        image_column: column with the file name, or an absolute path.
        masks: folder of lesion masks; with it, ``mask_column`` names each row's, and skin tone and contrast
            are measured outside it. Without it the lesion is guessed.
        mask_column: column with the mask's file name.
        max_megapixels: more millions of pixels are not decoded.
        workers: threads.
        progress: show progress on standard error.

    Raises:
        TableError: no such file or column, or a column that is to be written is there already.

    Example:
        >>> flagged = panderm.flag_artefacts("ham.csv", images="images/")  # doctest: +SKIP
        >>> flagged.card.yes["hair"]  # doctest: +SKIP
        1204
    """
    source = Path(table)
    cells = read_cells(source)
    find_roles(cells, source, image_column, None, "split", None, None)
    _require_new_columns(cells, source)
    named = read_column(cells, image_column)
    folder = _folder(images, source.parent, "images")
    mask_files: list[Path | None] = [None] * len(cells)
    if masks is not None:
        mask_files = _mask_files(cells, source, mask_column, _folder(masks, source.parent, "masks"))
    jobs = [
        (None if name is None else folder / name, mask) for name, mask in zip(named, mask_files, strict=True)
    ]
    found: list[Artefacts | None] = []
    bad: list[Unflagged] = []
    used = unusable = 0
    for row, name, (one, reason, mask) in zip(
        cells.index, named, _each(jobs, workers, max_megapixels, progress), strict=True
    ):
        found.append(one)
        used += mask is True
        unusable += mask is False
        if one is None:
            bad.append(Unflagged(row=int(row), image=name or "", reason=reason))
    card = ArtefactCard(
        csv=source.name,
        csv_sha256=sha256_of_file(source),
        rows=len(cells),
        yes={flag.name: sum(one is not None and one.says(flag.name) for one in found) for flag in FLAGS},
        tones=_tones(found),
        thresholds={flag.name: flag.threshold for flag in FLAGS},
        masks=used,
        masks_unusable=unusable,
        unreadable=tuple(bad),
        accuracy=read_accuracy(),
        provenance=Provenance.now(),
    )
    return Flagged(cells, tuple(found), card)


_Outcome = tuple[Artefacts | None, str, bool | None]


def _each(
    jobs: list[tuple[Path | None, Path | None]], workers: int, max_megapixels: float, progress: bool
) -> Iterator[_Outcome]:
    def look(job: tuple[Path | None, Path | None]) -> _Outcome:
        return _one(*job, max_megapixels)

    return in_threads(look, jobs, "looking for artefacts", "images", workers=workers, shown=progress)


def _one(path: Path | None, mask: Path | None, max_megapixels: float) -> _Outcome:
    """Return an image's artefacts or why there are none, and whether its mask was of use, if it has one."""
    if path is None:
        return None, "no image is named", None
    try:
        rgb = read_image(path, max_megapixels=max_megapixels)
    except ImageError as error:
        return None, error.reason, None
    lesion = None if mask is None else _read_mask(mask, rgb.shape[:2], max_megapixels)
    usable = None if mask is None else lesion is not None
    return find_artefacts(rgb, lesion=lesion), "", usable


def _read_mask(path: Path, size: tuple[int, ...], max_megapixels: float) -> npt.NDArray[np.bool_] | None:
    """Return a mask, white inside, or None where it cannot be read, is of another shape, or is empty."""
    try:
        inside = read_image(path, max_megapixels=max_megapixels)[:, :, 0] > 127
    except ImageError:
        return None
    return inside if inside.shape == size and inside.any() else None


def _mask_files(cells: pd.DataFrame, source: Path, column: str, folder: Path) -> list[Path | None]:
    if list(cells.columns).count(column) != 1:
        raise TableError(
            f"column {column!r} (mask) must be there once{did_you_mean(column, cells.columns)}",
            f"{source.name} has: {', '.join(cells.columns)}",
            "name the column with --mask-column",
        )
    return [None if name is None else folder / name for name in read_column(cells, column)]


def _folder(given: Path | str | None, own: Path, what: str) -> Path:
    folder = own if given is None else Path(given)
    if not folder.is_dir():
        raise TableError(f"--{what} must be a folder.", f"found no folder {folder}")
    return folder.absolute()


def _require_new_columns(cells: pd.DataFrame, source: Path) -> None:
    there = [name for name in ADDED if name in set(cells.columns)]
    if there:
        raise TableError(
            "the columns to be written must not be there already.",
            f"{source.name} has {plural(len(there), 'column')} of these names: {some(there)}",
            "rename or remove them, or use the table as it was before",
        )


def _cells(one: Artefacts | None) -> dict[str, str]:
    if one is None:
        return dict.fromkeys(ADDED, "")
    values: dict[str, Any] = asdict(one)
    found = {flag.name: "yes" if flag.says(values[flag.name]) else "no" for flag in FLAGS}
    found |= {f"{flag.name}_score": f"{values[flag.name]:.{flag.digits}f}" for flag in FLAGS}
    found["ita"] = "" if one.ita is None else f"{one.ita:.1f}"
    found["tone_ita"] = one.tone or ""
    return found


def _tones(found: list[Artefacts | None]) -> dict[str, int]:
    from panderm.data.artefacts.tone import TONES

    tones = [one.tone for one in found if one is not None]
    return {name: tones.count(name) for name in TONES} | {"none": tones.count(None)}
