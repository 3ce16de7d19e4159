"""How hard a JPEG was compressed, estimated from its quantisation table."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

# ITU-T T.81, table K.1: luminance, row by row.
_LUMINANCE = np.array(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61),
        *(12, 12, 14, 19, 26, 58, 60, 55),
        *(14, 13, 16, 24, 40, 57, 69, 56),
        *(14, 17, 22, 29, 51, 87, 80, 62),
        *(18, 22, 37, 56, 68, 109, 103, 77),
        *(24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101),
        *(72, 92, 95, 98, 112, 100, 103, 99),
    ]
)


def estimate_quality(image: Image.Image) -> int | None:
    """Return the quality, 1 to 100, at which libjpeg writes the table most like the picture's.

    Photoshop and cameras write tables of their own: there the nearest is an estimate, no setting
    that anyone chose. None where the picture is no JPEG.
    """
    tables = getattr(image, "quantization", None)
    if not tables:
        return None
    layers = getattr(image, "layer", None)
    table = tables.get(layers[0][3] if layers else 0)
    if table is None or len(table) != 64:
        return None
    return _nearest(tuple(table))


@lru_cache(maxsize=256)
def _nearest(table: tuple[int, ...]) -> int:
    # One folder's images share few tables.
    return int(np.abs(_tables() - np.asarray(table)).sum(axis=1).argmin()) + 1


@cache
def _tables() -> npt.NDArray[np.int64]:
    """Return the luminance table of every quality, 1 to 100, by the rule of libjpeg, (100, 64)."""
    quality = np.arange(1, 101)[:, None]
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return ((_LUMINANCE * scale + 50) // 100).clip(1, 255)
