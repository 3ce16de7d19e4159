"""Components and holes of a mask of any size: labelled band by band, joined where bands meet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from panderm.segmenting.predicting.packed import Mask, PackedMask

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tidying:
    """What of a thresholded mask is kept, in this order.

    Attributes:
        min_area: components of fewer pixels are dropped; 0 keeps all.
        largest: keep only the largest component; of several of one size the uppermost.
        fill_holes: what is outside, and cut off from the image's border by the mask, becomes inside.
    """

    min_area: int = 0
    largest: bool = False
    fill_holes: bool = False


def tidied(mask: PackedMask, tidying: Tidying) -> tuple[PackedMask, int]:
    """Return what is kept of a mask, and how many components that has.

    Pixels of a component meet at sides or corners; those of a hole at sides.
    """
    found = Regions(mask, inside=True)
    count = len(found.areas)
    if tidying.min_area or tidying.largest:
        kept = found.areas >= tidying.min_area
        if tidying.largest and kept.any():
            kept &= np.arange(count) == np.where(kept, found.areas, 0).argmax()
        if not kept.all():
            mask = found.kept(kept)
            count = int(kept.sum())
    if tidying.fill_holes and count:
        outside = Regions(mask, inside=False)
        if not outside.at_border.all():
            mask = outside.kept(~outside.at_border, beside=mask)
            count = len(Regions(mask, inside=True).areas)  # what lay in a hole is one with its rim now
    return mask, count


class Regions:
    """The connected regions of what is inside a mask (8 neighbours), or outside (4).

    Attributes:
        areas: int64 (regions,), pixels.
        at_border: bool (regions,), whether a region touches the image's border.
    """

    def __init__(self, mask: PackedMask, *, inside: bool) -> None:
        self._mask, self._inside = mask, inside
        height = mask.shape[0]
        areas: list[Ints] = [np.zeros(1, dtype=np.int64)]
        pairs: list[Ints] = []
        border: list[Ints] = []
        above: Ints | None = None
        for top, labels, sizes in self._labelled():
            areas.append(sizes)
            pairs += [] if above is None else _meeting(above, labels[0], corners=inside)
            edges = [labels[:, 0], labels[:, -1]]
            edges += [labels[0]] if top == 0 else []
            edges += [labels[-1]] if top + len(labels) == height else []
            border.append(np.unique(np.concatenate(edges)))
            above = labels[-1].copy()
        sizes = np.concatenate(areas)
        one, two = np.concatenate(pairs or [np.zeros((0, 2), dtype=np.int64)]).T
        n = len(sizes)
        joined = coo_matrix((np.ones(len(one), dtype=np.int8), (one, two)), shape=(n, n))
        _, part = connected_components(joined, directed=False)
        # Part of nothing is that of label 0; the others are numbered as they come from the top.
        _, first, part = np.unique(part, return_index=True, return_inverse=True)
        order = np.empty(len(first), dtype=np.int64)
        order[np.argsort(first)] = np.arange(len(first))
        self._region = order[part] - 1
        self.areas = np.bincount(order[part], weights=sizes, minlength=len(first))[1:].astype(np.int64)
        touching = np.unique(np.concatenate(border))
        self.at_border = np.zeros(len(self.areas), dtype=bool)
        self.at_border[self._region[touching[touching > 0]]] = True

    def kept(self, chosen: Mask, beside: PackedMask | None = None) -> PackedMask:
        """Return a mask of the chosen regions, bool (regions,), and of what is inside another."""
        made = PackedMask(*self._mask.shape)
        by_label = np.concatenate([[False], chosen])[self._region + 1]
        for top, labels, _ in self._labelled():
            rows = by_label[labels]
            made.put(top, rows if beside is None else rows | beside.rows(top, top + len(rows)))
        return made

    def _labelled(self) -> Iterator[tuple[int, Any, Ints]]:
        """Yield first row, labels (rows, W) from 1 up over all bands, and pixels of each new label."""
        before = 0
        for top, rows in self._mask.bands():
            seen = (rows if self._inside else ~rows).view(np.uint8)
            filled = np.flatnonzero(seen.any(axis=0))
            if not len(filled):
                yield top, np.zeros(rows.shape, dtype=np.int32), np.zeros(0, dtype=np.int64)
                continue
            left, right = int(filled[0]), int(filled[-1]) + 1
            n, found, stats, _ = cv2.connectedComponentsWithStats(
                np.ascontiguousarray(seen[:, left:right]), connectivity=8 if self._inside else 4
            )
            labels = np.zeros(rows.shape, dtype=np.int32)
            labels[:, left:right] = found
            if before:
                labels[labels > 0] += before
            yield top, labels, np.asarray(stats[1:, cv2.CC_STAT_AREA], dtype=np.int64)
            before += n - 1


def _meeting(above: Any, below: Any, *, corners: bool) -> list[Ints]:
    """Return pairs of labels that meet where one row lies on the next."""
    upper, lower = [above], [below]
    if corners:
        upper += [above[:-1], above[1:]]
        lower += [below[1:], below[:-1]]
    found = []
    for one, two in zip(upper, lower, strict=True):
        both = (one > 0) & (two > 0)
        if both.any():
            found.append(np.unique(np.stack([one[both], two[both]], axis=1).astype(np.int64), axis=0))
    return found
