"""A mask's outline as closed rings along the edges of its pixels, with the area the mask has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.segmenting.predicting.packed import PackedMask

Ring = npt.NDArray[np.int64]
Edges = dict[int, list[int]]


@dataclass(frozen=True, eq=False)
class Outline:
    """One part of a mask, whose pixels meet at their sides.

    Attributes:
        exterior: int (n, 2), x and y of its corners; the first is not repeated at the end. Seen in numbers, y
            upwards, it runs counter-clockwise; on the screen, where y points down, clockwise.
        holes: likewise, of the other sense.
        area: pixels, holes taken away.
    """

    exterior: Ring
    holes: tuple[Ring, ...]
    area: int


def outlines(mask: PackedMask) -> list[Outline]:
    """Return the parts of a mask, in the order of their uppermost corners, as simple polygons.

    (0, 0) is the upper left corner of the upper left pixel, whose centre is (0.5, 0.5); (W, H) is the lower
    right corner of the image. Where pixels meet at a corner alone, rings touch there and never cross.
    """
    rings = [_straight(ring) for ring in _rings(_edges(mask), mask.shape[1] + 1)]
    areas = [_doubled(ring) for ring in rings]
    exteriors = [i for i, area in enumerate(areas) if area > 0]
    boxes = np.array([[*rings[i].min(axis=0), *rings[i].max(axis=0)] for i in exteriors]).reshape(-1, 4)
    around = [rings[k] for k in exteriors]
    holes: dict[int, list[int]] = defaultdict(list)
    for i, area in enumerate(areas):
        if area < 0:
            holes[_around(rings[i], around, boxes, [areas[k] for k in exteriors])].append(i)
    made = []
    for place, i in enumerate(exteriors):
        inner = holes.get(place, [])
        area = (areas[i] + sum(areas[k] for k in inner)) // 2
        made.append(Outline(rings[i], tuple(rings[k] for k in inner), area))
    return sorted(made, key=lambda one: (one.exterior[0, 1], one.exterior[0, 0]))


def _edges(mask: PackedMask) -> Edges:
    """Return where the edges lead that begin at a corner, by number: y (W + 1) + x; the mask to their right.

    On the screen; an edge is one pixel long.
    """
    width = mask.shape[1]
    leads: Edges = defaultdict(list)
    above = np.zeros((1, width), dtype=bool)

    def keep(start: Any, end: Any) -> None:
        for a, b in zip(start.tolist(), end.tolist(), strict=True):
            leads[a].append(b)

    row = width + 1
    for top, rows in (*mask.bands(), (mask.shape[0], np.zeros((1, width), dtype=bool))):
        upper = np.concatenate([above, rows[:-1]])
        y, x = np.nonzero(rows & ~upper)
        keep((y + top) * row + x, (y + top) * row + x + 1)
        y, x = np.nonzero(upper & ~rows)
        keep((y + top) * row + x + 1, (y + top) * row + x)
        sides = np.zeros((len(rows), width + 2), dtype=bool)
        sides[:, 1:-1] = rows
        y, x = np.nonzero(sides[:, :-1] & ~sides[:, 1:])
        keep((y + top) * row + x, (y + top + 1) * row + x)
        y, x = np.nonzero(sides[:, 1:] & ~sides[:, :-1])
        keep((y + top + 1) * row + x, (y + top) * row + x)
        above = rows[-1:].copy()
    return leads


def _rings(leads: Edges, row: int) -> Iterator[Ring]:
    """Follow the edges; a path that comes to a corner again is cut there into rings of their own."""
    turn = {1: row, row: -1, -1: -row, -row: 1}  # to the right on the screen: what meets at a corner is apart
    for start in sorted(leads):
        while leads[start]:
            path, place = [start], {start: 0}
            at, towards = start, 0
            while True:
                ends = leads[at]
                wanted = at + turn.get(towards, 0)
                end = wanted if len(ends) > 1 and wanted in ends else ends[0]
                ends.remove(end)
                towards, at = end - at, end
                if at in place:
                    begin = place[at]
                    yield np.array([divmod(corner, row)[::-1] for corner in path[begin:]], dtype=np.int64)
                    for corner in path[begin + 1 :]:
                        del place[corner]
                    del path[begin + 1 :]
                    if at == start:
                        break
                    continue
                place[at] = len(path)
                path.append(at)


def _straight(ring: Ring) -> Ring:
    """Return the corners where a ring turns, from the uppermost, leftmost on."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    kept = ring[(before != after).any(axis=1)]
    return np.roll(kept, -int(np.lexsort((kept[:, 0], kept[:, 1]))[0]), axis=0)


def _doubled(ring: Ring) -> int:
    """Return twice the signed area (Gauss's formula)."""
    x, y = ring.T
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def _around(hole: Ring, exteriors: list[Ring], boxes: Ring, areas: list[int]) -> int:
    """Return the place of the exterior that a hole lies in: the smallest around the pixel above its top."""
    x, y = hole[0] + (0.5, -0.5)
    inside = (boxes[:, 0] < x) & (boxes[:, 1] < y) & (x < boxes[:, 2]) & (y < boxes[:, 3])
    found = [i for i in np.flatnonzero(inside) if _holds(exteriors[i], x, y)]
    return int(min(found, key=lambda i: areas[i]))


def _holds(ring: Ring, x: float, y: float) -> bool:
    """Say whether a point between corners lies in a ring: it crosses an odd number of edges on its way up."""
    after = np.roll(ring, -1, axis=0)
    level = ring[:, 1] == after[:, 1]
    across = (np.minimum(ring[:, 0], after[:, 0]) < x) & (x < np.maximum(ring[:, 0], after[:, 0]))
    return bool(np.count_nonzero(level & across & (ring[:, 1] < y)) % 2)
