"""A table's images, each with the mask of its lesion: found by a column or by name, and checked once."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.data.cells import nothing
from panderm.data.columns import Column, read_cells, read_column
from panderm.data.feed import cores
from panderm.data.filled import unchanged_file
from panderm.data.images import ImageError, inspect_all, open_stored, read_bytes, read_image
from panderm.data.left_out import leave_out
from panderm.data.masks import Mask, decode_mask, masks_in, name_of_image
from panderm.data.pillow import plain_jpeg
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.data.table import Table, check_rows, read_rows
from panderm.errors import TableError, did_you_mean, plural, some
from panderm.progress import in_threads
from panderm.storage import sha256_of_json

Pixels: TypeAlias = npt.NDArray[np.uint8]

MASK_COLUMN = "mask"
_MOST = 20  # lines of an error
_TURNED = 4  # EXIF orientations above it lay a picture on its side


@dataclass(frozen=True, eq=False)
class Pairs:
    """Images with their masks, in the order of their table.

    Attributes:
        table: the images' rows, all of them with a mask: split, patient, lesion and what else is known.
        mask: (n,) str, the absolute path of each mask's file.
        mask_sha256: (n,) str, hex SHA-256 of its bytes.
        height: int64 (n,), of image and mask, pixels.
        width: likewise.
        inside: int64 (n,), pixels inside.
        words: what a user should be told of them, a sentence each.
    """

    table: Table
    mask: Column
    mask_sha256: Column
    height: npt.NDArray[np.int64]
    width: npt.NDArray[np.int64]
    inside: npt.NDArray[np.int64]
    words: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.mask)

    @property
    def share(self) -> npt.NDArray[np.float64]:
        """The part of each image that is inside, float64 (n,), 0 to 1."""
        return self.inside / (self.height * self.width)

    @property
    def identity(self) -> str:
        """Hex SHA-256 of the images' and masks' names and bytes, in their order."""
        columns = (self.table.image, self.table.sha256, self.mask_sha256)
        return sha256_of_json([column.tolist() for column in columns])

    def select(self, chosen: npt.NDArray[np.integer] | npt.NDArray[np.bool_] | slice) -> Self:
        """Return the chosen pairs (boolean mask, positions or slice); their table keeps its card."""
        names = ("mask", "mask_sha256", "height", "width", "inside")
        columns = {name: getattr(self, name)[chosen] for name in names}
        return replace(self, table=self.table.select(chosen), **columns)

    def in_split(self, name: str) -> Self:
        """Return the pairs of one split."""
        return self.select(self.table.split == name)

    def read_mask(self, i: int) -> Mask:
        """Return a mask, bool (H, W), True inside.

        Raises:
            ImageError: its file cannot be read.
            ParentsError: it is no longer what it was when the pairs were made.
        """
        path = self.mask[i]
        content = unchanged_file(path, self.mask_sha256[i], "masks")
        return decode_mask(content, path, max_megapixels=self.table.card.max_megapixels)

    def read(self, i: int) -> tuple[Pixels, Mask]:
        """Return an image, uint8 (H, W, 3), and its mask; raises as :meth:`read_mask`."""
        path = str(self.table.cells("path")[i])
        return read_image(path, max_megapixels=self.table.card.max_megapixels), self.read_mask(i)


def pairs_of(
    table: Table | Path | str,
    *,
    images: Path | str | None = None,
    masks: Path | str | None = None,
    mask_column: str = MASK_COLUMN,
    image_column: str = "image",
    split_column: str = "split",
    patient: str | None = None,
    group: str | None = None,
    skip_bad: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    workers: int | None = None,
    progress: bool = True,
) -> Pairs:
    """Find the mask of each image of a table, and check both.

    Masks are named by a column; its cells are relative to ``masks``, or else to the images' folder or the
    table's own. Without such a column they are found in the folder ``masks`` by name, whatever stands behind
    it: ``ISIC_0027419_segmentation.png`` is of ``ISIC_0027419.jpg``. Labels are not asked for: where some are
    missing none is kept.

    An image is upright once it is read: its EXIF orientation is applied. Its mask must lie as it does then.

    Args:
        table: from :func:`panderm.read_table`; or a CSV, read as there.
        images: the folder that the image column is relative to; of a CSV.
        masks: the folder of the masks.
        mask_column: the column with each image's mask.
        image_column: of a CSV, the column with the image.
        split_column: of a CSV, likewise.
        patient: of a CSV, likewise.
        group: of a CSV, likewise.
        skip_bad: leave out rows that have no mask, or none that can be used, and say so on the table's card.
        max_megapixels: of a CSV: an image or a mask of more millions of pixels counts as bad.
        workers: threads; by default as many as there are cores.
        progress: show progress on standard error.

    Raises:
        TableError: no such column or folder; rows without a mask; masks that cannot be read, are not black and
            white, or have another size than their image.

    Example:
        >>> pairs = pairs_of("ham.csv", images="images/", masks="masks/")  # doctest: +SKIP
        >>> rgb, mask = pairs.read(0)  # doctest: +SKIP
    """
    raise NotImplementedError
