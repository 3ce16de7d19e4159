"""From images in another arrangement to a table that every verb reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from panderm.data.layouts.layout import Found
from panderm.data.mapping import require_csv
from panderm.errors import UsageError, did_you_mean
from panderm.provenance import Card, Provenance
from panderm.storage import new_file, new_folder, refuse_existing

Layout = Literal["folders", "parquet", "huggingface", "dicom"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
_FIRST = ("image", "label", "split", "patient_id", "lesion_id")
_LABELS = ("label", "labels", "dx", "diagnosis", "class", "target")


class ImagesCard(Card):
    """Where a folder of written-out images came from."""

    kind: str = "images"
    format: int = 1
    source: str
    images: int


@dataclass(frozen=True)
class Imported:
    """What became of the images.

    Attributes:
        csv: the table that was written.
        images: the folder its image column is relative to.
        rows: how many rows were written.
        columns: its columns.
        label: the column that is most likely the label, None where there is none.
        counts: how many rows each label has.
        splits: how many rows each split has.
        notes: what a user should know.
        findings: what is wrong.
    """

    csv: Path
    images: Path
    rows: int
    columns: tuple[str, ...]
    label: str | None
    counts: dict[str, int]
    splits: dict[str, int]
    notes: tuple[str, ...]
    findings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON would have it."""
        told = {name: getattr(self, name) for name in ("rows", "label", "counts", "splits")}
        lists = {name: list(getattr(self, name)) for name in ("columns", "notes", "findings")}
        return {"csv": str(self.csv), "images": str(self.images), **told, **lists}


def import_images(
    folder: Path | str,
    *,
    layout: Layout,
    out: Path | str,
    overwrite: bool = False,
    progress: bool = True,
) -> Imported:
    """Write a table of images that lie in another arrangement.

    Args:
        folder: where they lie.
        layout: ``folders``: one folder a class, with train, val and test above where there is a split;
            ``parquet`` or ``huggingface``: a Parquet file, a folder of them, or what ``datasets``'
            ``save_to_disk`` wrote, pictures inside; ``dicom``: a folder of DICOM files.
        out: the CSV to write. Pictures that lie inside a table are written as files into a folder beside
            it, ``NAME-images``, under safe names; nothing is written anywhere else.
        overwrite: replace outputs that exist.
        progress: show progress on standard error.

    Returns:
        What was written, and what is wrong.

    Raises:
        UsageError: no such layout.
        TableError: the folder does not hold what the layout says.

    Example:
        >>> done = panderm.import_images("lesions/", layout="folders", out="lesions.csv")  # doctest: +SKIP
    """
    if layout not in LAYOUTS:
        raise UsageError(
            f"a layout must be one of {', '.join(LAYOUTS)}{did_you_mean(layout, LAYOUTS)}",
            f"found {layout!r}",
        )
    csv = Path(out)
    require_csv(csv)
    refuse_existing(csv, overwrite=overwrite)
    if layout in ("parquet", "huggingface"):
        return _written_out(Path(folder).expanduser(), csv, overwrite=overwrite, progress=progress)
    if layout == "folders":
        from panderm.data.layouts.folders import read_folders

        found = read_folders(folder)
    else:
        from panderm.data.layouts.dicom_folder import read_dicom_folder

        found = read_dicom_folder(folder, progress=progress)
    rows = _ordered(found.rows)
    _write(rows, csv, overwrite=overwrite)
    return _told(rows, found, csv, Path(folder).expanduser())


def _written_out(source: Path, csv: Path, *, overwrite: bool, progress: bool) -> Imported:
    from panderm.data.layouts.parquet import Pictures

    images = csv.with_name(f"{csv.name.removesuffix('.csv')}-images")
    refuse_existing(images, overwrite=overwrite)
    pictures = Pictures(source)
    with new_folder(images, overwrite=overwrite) as temporary:
        found = pictures.write(temporary, below=images.name, progress=progress)
        rows = _ordered(found.rows)
        card = ImagesCard(
            provenance=Provenance.now(), source=str(source), images=int((rows["image"] != "").sum())
        )
        card.write(temporary)
    _write(rows, csv, overwrite=overwrite)
    return _told(rows, found, csv, csv.parent)


def _ordered(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.fillna("")
    first = [name for name in _FIRST if name in rows]
    return rows[[*first, *(name for name in rows if name not in first)]]


def _write(rows: pd.DataFrame, csv: Path, *, overwrite: bool) -> None:
    with new_file(csv, overwrite=overwrite) as temporary:
        rows.to_csv(temporary, index=False, encoding="utf-8", lineterminator="\n")


def _told(rows: pd.DataFrame, found: Found, csv: Path, images: Path) -> Imported:
    label = next((name for name in _LABELS if name in rows), None)
    counts = Counter(rows[label]) if label else Counter()
    counts.pop("", None)
    splits = Counter(rows["split"]) if "split" in rows else Counter()
    return Imported(
        csv=csv,
        images=images,
        rows=len(rows),
        columns=tuple(map(str, rows.columns)),
        label=label,
        counts=dict(sorted(counts.items())),
        splits=dict(splits),
        notes=found.notes,
        findings=found.findings,
    )
