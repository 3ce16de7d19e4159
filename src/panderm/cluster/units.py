"""How the rows of a table are cut: into groups that are encoded together, and units of work of whole groups.

Vectors depend in their last bits on the images they are encoded with. Group g therefore always holds the
positions [g·B, (g+1)·B) of the table, minus those that are done, whoever encodes it and however often the run
was stopped. A unit is what one task decodes, one actor encodes and one shard holds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

# A unit's decoded pixels are one object in Ray's store, and its vectors one file in the making.
UNIT_ROWS = 512
UNIT_BYTES = 96 << 20
# Units that each actor gets at least, so that none is idle for long in the end.
_TURNS = 4


class Unit(NamedTuple):
    """Rows [start, stop) of those to be done, and its number."""

    number: int
    start: int
    stop: int


def group_starts(positions: npt.NDArray[np.int64], batch_size: int) -> npt.NDArray[np.int64]:
    """Return where each group begins among ascending positions in the table.

    Example:
        >>> group_starts(np.array([0, 1, 2, 3, 6, 7, 8]), 4)
        array([0, 4, 6])
    """
    if not len(positions):
        return np.zeros(0, dtype=np.int64)
    number = positions // batch_size
    return np.concatenate([[0], np.flatnonzero(np.diff(number)) + 1]).astype(np.int64)


def units_of(
    positions: npt.NDArray[np.int64], *, batch_size: int, image_bytes: int, actors: int
) -> list[Unit]:
    """Cut rows into units of whole groups: 512 rows, or fewer where images are large or rows are few.

    Args:
        positions: ascending positions in the table of the rows to be done.
        batch_size: images encoded at once, B.
        image_bytes: of one decoded image, S·S·3.
        actors: how many encode.

    Returns:
        The units, in order; together they hold every row once.
    """
    most = min(UNIT_ROWS, UNIT_BYTES // image_bytes, -(-len(positions) // (_TURNS * actors)))
    groups = max(1, most // batch_size)
    starts = group_starts(positions, batch_size)[::groups].tolist()
    stops = [*starts[1:], len(positions)] if starts else []
    return [Unit(number, *ends) for number, ends in enumerate(zip(starts, stops, strict=True))]
