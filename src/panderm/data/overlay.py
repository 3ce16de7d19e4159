"""A map over patches, laid on the image it was made from, where the network saw it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from panderm.data.preprocess import Preprocess
from panderm.errors import DataError, UsageError

Image8 = npt.NDArray[np.uint8]

_UNSEEN_GREY = 128


def overlay(
    rgb: Image8,
    map: npt.ArrayLike,  # noqa: A002 - the field's word for it
    *,
    preprocess: Preprocess,
    opacity: float = 0.5,
    limits: tuple[float, float] | None = None,
) -> Image8:
    """Lay a map of patches on its image; what the network never saw is greyed.

    Each cell covers exactly the pixels of its patch: nothing is smoothed, so that no detail is shown that
    the map does not have.

    Args:
        rgb: the image as read, uint8 (H, W, 3).
        map: (h, w) numbers, one for each patch, painted from dark violet (low) to yellow (high); or
            (h, w, 3) uint8 colours, painted as they are.
        preprocess: the encoder's, which says which part of the image the network saw.
        opacity: of the map, from 0 to 1.
        limits: the numbers painted darkest and brightest; by default the smallest and largest of this map,
            in which case two overlays cannot be compared by their colours.

    Returns:
        uint8 (H, W, 3).

    Raises:
        DataError: an image or map of another shape or type, or numbers that are not finite.
        UsageError: an opacity outside 0 to 1, or limits that do not rise.

    Example:
        >>> seen = encoder.attention(pixels, rollout=True)[0]  # doctest: +SKIP
        >>> picture = panderm.overlay(rgb, seen, preprocess=encoder.preprocess)  # doctest: +SKIP
    """
    image = np.asarray(rgb)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise DataError("the image must be RGB, uint8 (H, W, 3).", f"found {image.shape} of {image.dtype}")
    if not 0 <= opacity <= 1:
        raise UsageError("the opacity must be from 0 to 1.", f"found {opacity}")
    colours = _colours(np.asarray(map), limits).astype(np.float64)
    tall, wide = _resized(image.shape[0], image.shape[1], preprocess)
    rows, seen_rows = _cells(image.shape[0], tall, preprocess.crop, colours.shape[0])
    columns, seen_columns = _cells(image.shape[1], wide, preprocess.crop, colours.shape[1])
    below = image.astype(np.float64)
    painted = (1 - opacity) * below + opacity * colours[np.ix_(rows, columns)]
    grey = below.mean(axis=2, keepdims=True) / 2 + _UNSEEN_GREY / 2
    seen = (seen_rows[:, None] & seen_columns[None, :])[:, :, None]
    return np.rint(np.where(seen, painted, grey)).astype(np.uint8)


def _resized(height: int, width: int, preprocess: Preprocess) -> tuple[int, int]:
    """Return height and width after the resize, by torchvision's rule: the longer side is rounded down."""
    if not isinstance(preprocess.resize, int):
        return preprocess.resize
    short, long = min(height, width), max(height, width)
    longer = int(preprocess.resize * long / short)
    return (preprocess.resize, longer) if height <= width else (longer, preprocess.resize)


def _cells(
    length: int, resized: int, crop: int, cells: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return for each pixel along a side the cell its middle falls into, and whether the crop kept it."""
    # torchvision's anchors: a crop larger than the image is padded, the odd pixel at the end.
    start = round((resized - crop) / 2) if resized >= crop else -((crop - resized) // 2)
    middle = (np.arange(length) + 0.5) * resized / length - start
    cell = np.floor(middle * cells / crop).astype(np.int64)
    return cell.clip(0, cells - 1), (middle >= 0) & (middle < crop)


def _colours(values: npt.NDArray[np.generic], limits: tuple[float, float] | None) -> Image8:
    if values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8 and values.size:
        return values.astype(np.uint8)
    if values.ndim != 2 or not values.size or values.dtype.kind not in "fiub":
        raise DataError(
            "a map must be numbers (h, w), one for each patch, or uint8 colours (h, w, 3).",
            f"found {values.shape} of {values.dtype}",
            "encoder.attention(pixels, rollout=True)[0] is the map of the first image",
        )
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise DataError("every number of a map must be finite.")
    low, high = limits or (numbers.min(), numbers.max())
    if limits is not None and not low < high:
        raise UsageError("limits must rise.", f"found {low} and {high}")
    from matplotlib import colormaps

    share = np.clip((numbers - low) / max(high - low, np.finfo(np.float64).tiny), 0, 1)
    colours: Image8 = colormaps["viridis"](share, bytes=True)[:, :, :3]
    return colours
