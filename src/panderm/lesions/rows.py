"""Which image has which mask: the rows of a table, or the images of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from panderm.data.columns import read_cells, read_column
from panderm.data.masks import masks_in, name_of_image
from panderm.data.sources.folder import IMAGE_ENDINGS
from panderm.errors import TableError, UsageError, did_you_mean, plural, some


@dataclass(frozen=True, eq=False)
class Rows:
    """What is to be measured.

    Attributes:
        cells: (n, columns) of strings, the table's own, or image and mask of a folder; the index is the row
            as a spreadsheet numbers it.
        source: the table or the folder.
        image: (n,) the image's name, for messages.
        images: (n,) its file; None where none is named.
        masks: (n,) the mask's file; None where there is none.
    """

    cells: pd.DataFrame
    source: Path
    image: tuple[str, ...]
    images: tuple[Path | None, ...]
    masks: tuple[Path | None, ...]

    def __len__(self) -> int:
        return len(self.image)


def read_rows(
    source: Path | str,
    *,
    images: Path | str | None,
    masks: Path | str | None,
    image_column: str,
    mask_column: str,
) -> Rows:
    """Find the image and the mask of each row; no image is opened.

    A table names images in a column and masks in another; where it has no column of masks, and of a folder of
    images, masks are found by name: ``a.png``, ``a_mask.png`` and ``a_segmentation.png`` are of ``a.jpg``.

    Args:
        source: a CSV or Parquet file, or a folder of images.
        images: the folder that the image column is relative to; by default the table's own.
        masks: the folder of the masks; needed where no column names them, by default the table's own.
        image_column: column with the image's file name.
        mask_column: column with the mask's file name.

    Raises:
        UsageError: no such table or folder, or ``images`` beside a folder of images.
        TableError: a table that cannot be read, no such column, no image, or two images for one mask.
    """
    place = Path(source)
    if place.is_dir():
        return _of_folder(place, images, masks)
    if not place.exists():
        raise UsageError("lesions are measured of a table or a folder of images.", f"found no {place}")
    cells = read_cells(place)
    if list(cells.columns).count(image_column) != 1:
        raise TableError(
            f"column {image_column!r} (image) must be there once{did_you_mean(image_column, cells.columns)}",
            f"{place.name} has: {', '.join(cells.columns)}",
            "name the column with --image-column",
        )
    named = read_column(cells, image_column)
    at_images = _folder(images, place.parent, "--images")
    files = tuple(None if name is None else at_images / name for name in named)
    shown = tuple(name or "(empty)" for name in named)
    times = list(cells.columns).count(mask_column)
    if times > 1 or (not times and (masks is None or mask_column != "mask")):
        raise TableError(
            f"column {mask_column!r} (mask) must be there once{did_you_mean(mask_column, cells.columns)}",
            f"{place.name} has: {', '.join(cells.columns)}",
            "name the column with --mask-column, or the folder of masks of the images' names with --masks",
        )
    if not times:
        return Rows(cells, place, shown, files, _by_name(shown, Path(str(masks))))
    at_masks = _folder(masks, place.parent, "--masks")
    cells_of_masks = read_column(cells, mask_column)
    return Rows(
        cells, place, shown, files, tuple(None if m is None else at_masks / m for m in cells_of_masks)
    )


def _of_folder(folder: Path, images: Path | str | None, masks: Path | str | None) -> Rows:
    if images is not None:
        raise UsageError(
            "--images must come with a table.", f"{folder} is a folder of images itself", "leave --images out"
        )
    if masks is None:
        raise UsageError("a folder of images must have one of masks.", f"found {folder}", "--masks masks/")
    files = sorted(
        f for f in folder.iterdir() if f.suffix.lower() in IMAGE_ENDINGS and not f.name.startswith(".")
    )
    if not files:
        raise TableError("there must be an image to measure.", f"found none in {folder}")
    names = [file.name for file in files]
    found = _by_name(names, Path(masks))
    cells = pd.DataFrame(
        {"image": names, "mask": [None if mask is None else mask.name for mask in found]},
        index=pd.RangeIndex(2, len(names) + 2),
    )
    return Rows(cells, folder, tuple(names), tuple(files), found)


def _by_name(names: Sequence[str], folder: Path) -> tuple[Path | None, ...]:
    known = masks_in(folder, "lesions'")
    keys = [stem if (stem := Path(name).stem) in known else name_of_image(name) for name in names]
    held: dict[str, list[str]] = {}
    for name, key in zip(names, keys, strict=True):
        if key in known:
            held.setdefault(key, []).append(name)
    twice = [f"{known[key].name}: {some(same)}" for key, same in held.items() if len(set(same)) > 1]
    if twice:
        raise TableError(
            "a mask found by name must be of one image.",
            [f"{plural(len(twice), 'mask')} of several images:", *twice[:5]],
            "name each image's mask in a column 'mask'",
        )
    return tuple(known.get(key) for key in keys)


def _folder(given: Path | str | None, own: Path, option: str) -> Path:
    folder = own if given is None else Path(given)
    if not folder.is_dir():
        raise TableError(f"{option} must be a folder.", f"found no folder {folder}")
    return folder.absolute()
