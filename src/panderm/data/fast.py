"""A file's bytes to the square a network sees, in 8 bits: exactly as the reference does, or faster.

The reference is :meth:`Preprocess.pixels` of :func:`panderm.data.images.decode`. The fast way differs in
two steps. A plain JPEG is decoded by libjpeg-turbo straight to RGB, and where the picture is much larger than
what is asked of it, scaled to 1/2, 1/4 or 1/8 in the inverse cosine transform, never below 5.5 times the
resized size. And pixels are resized by torch's antialiased filter for 8 bits, which computes as Pillow's does
(8 bits between its two passes, too), several times as fast. Whatever is not plain, and whatever libjpeg-turbo
complains of, goes the reference's way.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import simplejpeg
import torch

from panderm.data.images import decode, read_bytes
from panderm.data.pillow import plain_jpeg, upright
from panderm.data.preprocess import Cut, Preprocess
from panderm.data.stored import MAX_MEGAPIXELS, ImageError

if TYPE_CHECKING:
    from panderm.data.table import Table

# Levels of 255 between fast and exact: of pictures that are not scaled while they are decoded, and of those
# that are. Of the former a few values in a million (bicubic) or in a hundred million (bilinear) are 2 off,
# none more: torch's weights have 16 bits, Pillow's 32. Of the latter see docs/images.md.
UNSCALED, SCALED = 1, 2
# A picture that is scaled while it is decoded keeps at least so many times the resized size, on both axes: at
# twice the size hair, rulers and text are up to 8 levels off.
_LEAST = 5.5
# Behind torch.nn.functional.interpolate(antialias=True), which cannot be told size and scale at once.
_BY_TORCH = {
    "bilinear": torch.ops.aten._upsample_bilinear2d_aa.default,
    "bicubic": torch.ops.aten._upsample_bicubic2d_aa.default,
}


def pixels(
    content: bytes,
    path: Path | str,
    preprocess: Preprocess,
    *,
    exact: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> npt.NDArray[np.uint8]:
    """Decode a file, resize it and cut its centre.

    Args:
        content: the whole file.
        path: its name, for messages.
        preprocess: size, square and filter.
        exact: every bit as the reference makes it; otherwise within ``UNSCALED`` levels of it, and within
            ``SCALED`` where the picture is scaled while it is decoded.
        max_megapixels: a header that asks for more millions of pixels is refused.

    Returns:
        uint8 (crop, crop, 3), contiguous.

    Raises:
        ImageError: as :func:`panderm.data.images.decode`.

    Example:
        >>> square = pixels(Path("a.jpg").read_bytes(), "a.jpg", encoder.preprocess)  # doctest: +SKIP
    """
    if exact:
        return preprocess.pixels(decode(content, path, max_megapixels=max_megapixels))
    plain = plain_jpeg(content, max_megapixels)
    square = None if plain is None else _of_plain_jpeg(content, *plain, preprocess)
    if square is None:
        rgb = decode(content, path, max_megapixels=max_megapixels)
        height, width, _ = rgb.shape
        square = _square(rgb, preprocess, height, width)
    return square


def compare_decoding(
    table: Table, preprocess: Preprocess, positions: npt.NDArray[np.int64]
) -> tuple[int, int]:
    """Decode some images both ways.

    Returns:
        The largest difference of a channel, in levels of 255, and the number of images that were compared:
        those of ``positions`` that can be read.

    Example:
        >>> compare_decoding(table, encoder.preprocess, np.arange(16))  # doctest: +SKIP
        (1, 16)
    """
    levels = images = 0
    for i in positions:
        path, most = str(table.cells("path")[i]), table.card.max_megapixels
        try:
            content = read_bytes(path)
            exact = pixels(content, path, preprocess, exact=True, max_megapixels=most)
        except ImageError:
            continue
        fast = pixels(content, path, preprocess, max_megapixels=most)
        levels = max(levels, int(np.abs(exact.astype(np.int16) - fast).max()))
        images += 1
    return levels, images


def _of_plain_jpeg(
    content: bytes, height: int, width: int, orientation: int, preprocess: Preprocess
) -> npt.NDArray[np.uint8] | None:
    """Return the square of a plain JPEG, or None where libjpeg-turbo finds anything amiss."""
    tall, wide = (width, height) if orientation > 4 else (height, width)
    by = _shrink(preprocess, tall, wide)
    while orientation > 1 and (height % by or width % by):
        by //= 2  # turned, a last row that is not full would be the first
    wanted = (-(-height // by), -(-width // by))
    try:
        rgb = simplejpeg.decode_jpeg(content, "RGB", min_height=wanted[0], min_width=wanted[1], strict=True)
    except ValueError:
        return None
    if rgb.shape[:2] != wanted:
        return None
    if orientation > 1:
        rgb = upright(rgb, orientation).copy()
    return _square(rgb, preprocess, tall, wide, by)


def _shrink(preprocess: Preprocess, height: int, width: int) -> int:
    """Return by how much an upright picture may be scaled down while it is decoded: 1, 2, 4 or 8."""
    cut = preprocess.cut(height, width)
    if not _is_quick(preprocess, cut, height, width):
        return 1
    most = min(height / cut.height, width / cut.width) / _LEAST
    return next(by for by in (8, 4, 2, 1) if by <= max(most, 1))


def _square(
    rgb: npt.NDArray[np.uint8], preprocess: Preprocess, height: int, width: int, by: int = 1
) -> npt.NDArray[np.uint8]:
    """Resize the pixels of an upright picture and cut its centre.

    Args:
        rgb: uint8 (height / by, width / by, 3), rounded up.
        preprocess: size, square and filter.
        height: of the whole picture.
        width: likewise.
        by: how many times it was scaled down while it was decoded.
    """
    cut = preprocess.cut(height, width)
    if (cut.height, cut.width) == (height, width) or not _is_quick(preprocess, cut, height, width):
        return preprocess.pixels(rgb)
    side = preprocess.crop
    top, left = max(cut.top, 0), max(cut.left, 0)
    bottom, right = min(cut.top + side, cut.height), min(cut.left + side, cut.width)
    if not rgb.flags.writeable:
        rgb = rgb.copy()  # a tensor cannot be read-only
    # As many rows as there are would be taken for rows that need no resizing, and likewise columns.
    rows = bottom + (bottom == rgb.shape[0] != cut.height)
    columns = right + (right == rgb.shape[1] != cut.width)
    # What lies right of the square and below it is not computed. 601 pixels halved are 301, which cover a
    # little more than the picture: the true scale is told.
    resized = _BY_TORCH[preprocess.interpolation](
        torch.from_numpy(rgb)[None].permute(0, 3, 1, 2),  # in this order torch sees interleaved channels
        [rows, columns],
        False,
        cut.height * by / height,
        cut.width * by / width,
    )
    seen = resized[0].permute(1, 2, 0).numpy()[top:bottom, left:right]
    if seen.shape[:2] == (side, side):
        return np.ascontiguousarray(seen)
    square = np.zeros((side, side, 3), np.uint8)
    square[top - cut.top :, left - cut.left :][: bottom - top, : right - left] = seen
    return square


@lru_cache(maxsize=1)
def _has_vectors() -> bool:
    """Say whether torch resizes 8 bits with the processor's vector instructions.

    Elsewhere it is slower than Pillow, and starts threads of its own for each image.
    """
    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def _is_quick(preprocess: Preprocess, cut: Cut, height: int, width: int) -> bool:
    """Say whether torch resizes a picture as Pillow does.

    Torch's first pass is along the rows. Newer versions of Pillow begin with the columns where that is
    quicker: in narrow pictures, and where they shrink more. With bicubic's overshoots, cut off between the
    passes, the difference is up to 30 levels on noise.
    """
    rows_first = height <= 1.5 * width and height / cut.height <= 1.02 * width / cut.width
    return _has_vectors() and (
        preprocess.interpolation == "bilinear" or (preprocess.interpolation == "bicubic" and rows_first)
    )
