"""A table's images, each with the mask of its lesion: found by a column or by name, and checked once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from panderm.data.cells import nothing
from panderm.data.columns import Column
from panderm.data.feed import cores
from panderm.data.filled import unchanged_file
from panderm.data.images import ImageError, inspect_all, open_stored, read_bytes, read_image
from panderm.data.left_out import leave_out
from panderm.data.masks import Mask, decode_mask
from panderm.data.pillow import size_as_stored
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.data.table import Table, check_rows, read_rows
from panderm.errors import TableError, plural
from panderm.progress import in_threads
from panderm.segmenting.learning.mask_files import MASK_COLUMN, mask_files
from panderm.storage import sha256_of_json

Pixels: TypeAlias = npt.NDArray[np.uint8]

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
        TableError: no such column or folder; rows without a mask; masks that cannot be
            read, are not black and white, or have another size than their image.

    Example:
        >>> pairs = pairs_of("ham.csv", images="images/", masks="masks/")  # doctest: +SKIP
        >>> rgb, mask = pairs.read(0)  # doctest: +SKIP
    """
    if not isinstance(table, Table):
        roles = {
            "image_column": image_column,
            "split_column": split_column,
            "patient": patient,
            "group": group,
        }
        table = _read(Path(table), images, roles, max_megapixels, skip_bad=skip_bad, progress=progress)
    files, told = mask_files(table, masks, mask_column)
    paths, most = table.cells("path"), table.card.max_megapixels

    def look(i: int) -> _Looked | str:
        file = files[i]
        return "no mask is named" if file is None else _look(str(paths[i]), file, most)

    looked = list(
        in_threads(
            look,
            range(len(table)),
            "checking masks",
            "masks",
            workers=workers or min(8, cores()),
            shown=progress,
        )
    )
    bad = {i: one for i, one in enumerate(looked) if isinstance(one, str)}
    _refuse(bad, table, masks, skip_bad=skip_bad)
    good = [i for i in range(len(table)) if i not in bad]
    found = [one for one in looked if not isinstance(one, str)]
    pairs = Pairs(
        table=leave_out(table, bad, skip_bad=True),
        mask=np.array([str(files[i]) for i in good], dtype=object),
        mask_sha256=np.array([one.sha256 for one in found], dtype=object),
        height=np.array([one.height for one in found], dtype=np.int64),
        width=np.array([one.width for one in found], dtype=np.int64),
        inside=np.array([one.inside for one in found], dtype=np.int64),
    )
    return replace(pairs, words=tuple(_words(pairs, found, bad, told)))


class _Looked(NamedTuple):
    """What is found of one pair: the mask's bytes, size and area, and what may be wrong with it."""

    sha256: str
    height: int
    width: int
    inside: int
    turned: bool
    corners: bool


def _read(
    source: Path,
    images: Path | str | None,
    roles: Mapping[str, str | None],
    most: float,
    *,
    skip_bad: bool,
    progress: bool,
) -> Table:
    """Return a CSV's rows, whether or not they have labels; where some have none, all go without."""
    rows = read_rows(source, images=images, **roles)  # type: ignore[arg-type]
    if rows.roles["label"] and any(label is None for label in rows.columns["label"]):
        columns = rows.columns | {"label": nothing(len(rows))}
        rows = replace(rows, columns=columns, roles=rows.roles | {"label": None})
    facts = inspect_all(
        rows.path,  # type: ignore[arg-type]
        workers=min(8, cores()),
        progress=progress,
        max_megapixels=most,
    )
    return check_rows(rows, facts, skip_bad=skip_bad, max_megapixels=most)


def _look(image: str, mask: Path, most: float) -> _Looked | str:
    """Return what is found of a pair, or what is wrong with it."""
    try:
        content = read_bytes(mask)
        inside = decode_mask(content, mask, max_megapixels=most)
        stored, orientation = _size_of(image, most)
    except ImageError as error:
        return f"{error.path}: {error.reason}"
    height, width = stored[::-1] if orientation > _TURNED else stored
    if inside.shape != (height, width):
        why = f"{mask}: {_size(inside.shape)} pixels, its image {_size((height, width))}"
        if inside.shape == stored:
            why += f" once its EXIF orientation {orientation} is applied: turn the mask likewise"
        elif abs(inside.shape[0] * width - inside.shape[1] * height) < max(height, width):
            why += ": the same shape at another scale"
        return why
    corners = bool(inside[[0, 0, -1, -1], [0, -1, 0, -1]].all())
    area = int(np.count_nonzero(inside))
    return _Looked(hashlib.sha256(content).hexdigest(), height, width, area, orientation > 1, corners)


def _size_of(image: str, most: float) -> tuple[tuple[int, int], int]:
    """Return height and width of an image as its file has them, and its EXIF orientation."""
    content = read_bytes(image)
    known = size_as_stored(content, most)
    if known is not None:
        return known[:2], known[2]
    rgb, stored = open_stored(content, image, max_megapixels=most)
    height, width, _ = rgb.shape
    turned = stored.orientation > _TURNED
    return ((width, height) if turned else (height, width)), stored.orientation


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} × {shape[0]}"


def _refuse(bad: Mapping[int, str], table: Table, masks: Path | str | None, *, skip_bad: bool) -> None:
    """Raise :class:`TableError` with the rows that have no mask, unless they may be left out."""
    if not bad or (skip_bad and len(bad) < len(table)):
        return
    image, name = table.cells("image"), Path(table.card.csv).name
    lines = [f"row {int(table.row[i])}: {image[i]}: {why}" for i, why in list(bad.items())[:_MOST]]
    more = [f"and {len(bad) - _MOST:,} more"] if len(bad) > _MOST else []
    if len(bad) == len(table):
        where = masks if masks is not None else f"{table.card.images} and beside the table"
        raise TableError(
            "a table must have at least one row with a mask of its image's size.",
            [f"none of {plural(len(bad), 'row')} of {name} has:", *lines, *more],
            f"masks are looked for in {where}: name their folder with --masks",
        )
    raise TableError(
        "every row must have a mask of its image's size.",
        [f"{len(bad):,} of {plural(len(table), 'row')} of {name} {_do(bad)} not:", *lines, *more],
        "mend them, or add --skip-bad to leave these rows out",
    )


def _do(bad: Mapping[int, str]) -> str:
    return "does" if len(bad) == 1 else "do"


def _words(pairs: Pairs, found: Sequence[_Looked], bad: Mapping[int, str], told: Sequence[str]) -> list[str]:
    low, middle, high = np.quantile(pairs.share, [0.05, 0.5, 0.95])
    words = [
        f"{pairs.table.card.name}: {plural(len(pairs), 'image')} with masks; a lesion covers {middle:.0%} of "
        f"its image ({low:.0%} to {high:.0%} in nine of ten)"
    ]
    if bad:
        words.append(f"{plural(len(bad), 'row')} left out: no mask that could be used")
    empty, full = int((pairs.inside == 0).sum()), int((pairs.share == 1).sum())
    words += [f"{plural(empty, 'mask')} with nothing inside"] if empty else []
    words += [f"{plural(full, 'mask')} with nothing outside"] if full else []
    turned, corners = sum(one.turned for one in found), sum(one.corners for one in found)
    if turned:
        n = plural(turned, "image")
        words.append(f"{n} turned by an EXIF orientation: the masks must lie as such an image is shown")
    if 2 * corners > len(found):
        n = f"{corners:,} of {plural(len(found), 'mask')}"
        words.append(f"{n} hold all four corners of the image: is the lesion white, and the skin black?")
    return [*words, *told]
