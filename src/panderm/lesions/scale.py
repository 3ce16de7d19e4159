"""How many millimetres of skin a pixel is: stated, in a column, in a DICOM header, or by a ruler seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from panderm.data.columns import read_column
from panderm.data.dicom import is_dicom, read_dicom_columns
from panderm.data.images import ImageError
from panderm.errors import TableError, UsageError, did_you_mean, plural, some
from panderm.lesions.patch import Image8
from panderm.lesions.region import Mask
from panderm.lesions.ruler import NoRuler, Ruler, find_ruler


@dataclass(frozen=True)
class Scale:
    """Millimetres per pixel of one image, and where that is from.

    Attributes:
        mm_per_pixel: above 0; None where it is not known.
        source: "stated", "column", "dicom", "ruler", or "" where it is not known.
        note: what a reader of the table should know: the ruler's ticks, or why none is taken.
        ruler: what was seen, for a picture.
    """

    mm_per_pixel: float | None = None
    source: str = ""
    note: str = ""
    ruler: Ruler | None = None


def scales_of_rows(
    frame: pd.DataFrame, source: Path, *, mm_per_pixel: float | None, mm_column: str | None
) -> list[Scale]:
    """Return what is stated of each row's scale, before any image is opened.

    Args:
        frame: the table's cells.
        source: its file, for messages.
        mm_per_pixel: of all images alike.
        mm_column: column with that of each; an empty cell is not known.

    Raises:
        UsageError: both are given, or a number that is not above 0.
        TableError: no such column, or cells that are no numbers above 0.
    """
    if mm_per_pixel is not None:
        if mm_column is not None:
            raise UsageError(
                "the scale must be stated once.",
                f"found --mm-per-pixel {mm_per_pixel} and --mm-column {mm_column}",
            )
        if not (math.isfinite(mm_per_pixel) and mm_per_pixel > 0):
            raise UsageError("millimetres per pixel must be above 0.", f"found {mm_per_pixel}")
        return [Scale(mm_per_pixel, "stated")] * len(frame)
    if mm_column is None:
        return [Scale()] * len(frame)
    if list(frame.columns).count(mm_column) != 1:
        raise TableError(
            f"column {mm_column!r} (millimetres per pixel) must be there once"
            f"{did_you_mean(mm_column, frame.columns)}",
            f"{source.name} has: {', '.join(frame.columns)}",
            "name the column with --mm-column",
        )
    cells = read_column(frame, mm_column)
    bad = [
        f"row {row}: {cell!r}" for row, cell in zip(frame.index, cells, strict=True) if not _is_scale(cell)
    ]
    if bad:
        raise TableError(
            "millimetres per pixel must be numbers above 0, or empty.",
            [f"{plural(len(bad), 'cell')} of column {mm_column!r}: {some(bad)}"],
            "a decimal point, not a comma; leave unknown ones empty",
        )
    return [Scale() if cell is None else Scale(float(cell), "column") for cell in cells]


def scale_of_image(
    stated: Scale, content: bytes, path: Path, rgb: Image8, lesion: Mask, *, ruler: float | None
) -> Scale:
    """Return an image's scale: as stated, else of its DICOM header, else by a ruler, if that is asked for.

    Args:
        stated: what the user says.
        content: the image's file, or its first bytes.
        path: its name.
        rgb: uint8 (H, W, 3).
        lesion: bool (H, W), where no ruler is looked for.
        ruler: millimetres from one long mark to the next; None to look for none.
    """
    if stated.mm_per_pixel is not None:
        return stated
    if is_dicom(content[:256]):
        try:
            spacing = read_dicom_columns(path)["mm_per_pixel"]
        except ImageError:
            spacing = ""
        if spacing:
            return Scale(float(spacing), "dicom", "as the header says")
    if ruler is None:
        return stated
    found = find_ruler(rgb, lesion=lesion)
    if isinstance(found, NoRuler):
        return Scale(None, "", f"no ruler: {found.reason}", found.seen)
    note = f"{len(found.ticks)} ticks, {found.pixels_per_mark:.2f} pixels from mark to mark"
    return Scale(ruler / found.pixels_per_mark, "ruler", note, found)


def require_ruler(ruler: float | None, mm_per_pixel: float | None, mm_column: str | None) -> None:
    """Raise :class:`UsageError` where marks are no distance apart, or the scale is stated as well."""
    if ruler is None:
        return
    if not (math.isfinite(ruler) and ruler > 0):
        raise UsageError(
            "the long marks of a ruler must be some millimetres apart.", f"found --ruler {ruler}"
        )
    if mm_per_pixel is not None or mm_column is not None:
        raise UsageError(
            "a scale is stated or looked for, not both.",
            "found --ruler beside --mm-per-pixel or --mm-column",
            "leave one of them out",
        )


def _is_scale(cell: str | None) -> bool:
    if cell is None:
        return True
    try:
        value = float(cell)
    except ValueError:
        return False
    return math.isfinite(value) and value > 0
