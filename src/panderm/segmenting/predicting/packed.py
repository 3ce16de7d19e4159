"""A mask of one bit a pixel: what a mask of any size is kept as."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from panderm.segmenting.predicting.native import Field, bands_of

Mask = npt.NDArray[np.bool_]


class PackedMask:
    """A mask, all outside at first: 12.5 MB for 100 million pixels.

    Attributes:
        shape: height and width, pixels.
        bits: uint8 (H, ceil(W / 8)), the leftmost pixel in the highest bit, as in a PNG file.

    Example:
        >>> mask = PackedMask.of(np.eye(3, dtype=bool))
        >>> mask.area, mask.whole().sum(axis=0).tolist()
        (3, [1, 1, 1])
    """

    def __init__(self, height: int, width: int) -> None:
        self.shape = (height, width)
        self.bits = np.zeros((height, (width + 7) // 8), dtype=np.uint8)

    @classmethod
    def of(cls, mask: Mask) -> PackedMask:
        """Pack a mask, bool (H, W)."""
        made = cls(*mask.shape)
        made.put(0, mask)
        return made

    @classmethod
    def from_field(cls, field: Field, threshold: float) -> PackedMask:
        """Return what is inside: where P(lesion) is at least the threshold."""
        made = cls(*field.shape)
        for band in field.bands():
            made.put(band.top, band.probability >= np.float32(threshold))
        return made

    def put(self, top: int, rows: Mask) -> None:
        """Replace some rows by bool (rows, W)."""
        self.bits[top : top + len(rows)] = np.packbits(rows, axis=1)

    def rows(self, top: int, bottom: int) -> Mask:
        """Return some rows, bool (bottom - top, W)."""
        found = np.unpackbits(self.bits[top:bottom], axis=1, count=self.shape[1])
        return found.view(np.bool_)

    def bands(self) -> Iterator[tuple[int, Mask]]:
        """Yield the first row of each band, and the band, bool (rows, W)."""
        for top, bottom in bands_of(*self.shape):
            yield top, self.rows(top, bottom)

    def whole(self) -> Mask:
        """Return the mask, bool (H, W): a byte a pixel."""
        return self.rows(0, self.shape[0])

    @property
    def area(self) -> int:
        """How many pixels are inside."""
        return sum(
            int(np.bitwise_count(self.bits[top:bottom]).sum()) for top, bottom in bands_of(*self.shape)
        )
