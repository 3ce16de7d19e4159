"""Rows that may hold one photograph, and a second look at their pixels that decides."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from panderm.data.images import ImageError, read_image
from panderm.data.registration import Points, Registration, register
from panderm.embeddings import Embeddings
from panderm.gate.findings import Inspected
from panderm.gate.twins import Twin
from panderm.progress import Progress

LEAST_POINTS = 10
"""Points that must agree on how one picture lies over the other."""
LEAST_CORRELATION = 0.35
"""Of fine structure, where they overlap."""
LEAST_OVERLAP = 0.30
"""Share of the smaller picture that must lie over the other."""
MOST = 3000
"""Pairs that are looked at, the most alike first."""
NEIGHBOURS = 10
"""Nearest embeddings among which one stands out."""
STANDS_OUT = 0.75
"""Largest distance to it, as a share of the distance to the last of the :data:`NEIGHBOURS`."""

_KEPT = 96  # pictures whose points are kept for their next pair: some 40 MB

Pairs = Sequence[tuple[int, int]]


def confirm(
    inspected: Inspected,
    pairs: Pairs,
    *,
    workers: int = 2,
    max_megapixels: float,
    progress: bool = True,
) -> list[Registration | None]:
    """Lay the pictures of each pair of rows over each other; None where they are not one photograph.

    One photograph: :data:`LEAST_POINTS` points agree, :data:`LEAST_OVERLAP` of the smaller picture lies over
    the other, and fine structure correlates there by :data:`LEAST_CORRELATION`.
    """

    @lru_cache(_KEPT)
    def points(row: int) -> Points | None:
        try:
            return Points(read_image(inspected.path[row], max_megapixels=max_megapixels))
        except ImageError:
            return None  # gone since it was examined

    def look(pair: tuple[int, int]) -> Registration | None:
        first, second = points(pair[0]), points(pair[1])
        found = register(first, second) if first and second else None
        return found if found and is_one(found) else None

    with Progress(len(pairs), "second looks", "pairs", shown=progress) as bar:
        pool = ThreadPoolExecutor(workers)
        found = []
        try:
            for one in pool.map(look, pairs):
                bar.advance()
                found.append(one)
        finally:
            pool.shutdown(cancel_futures=True)
    return found


def is_one(found: Registration) -> bool:
    """Say whether two pictures that lie over each other so are one photograph."""
    return (
        found.points >= LEAST_POINTS
        and found.overlap >= LEAST_OVERLAP
        and found.correlation >= LEAST_CORRELATION
    )


def candidates_by_embedding(vectors: npt.NDArray[np.float32]) -> list[tuple[int, int, float]]:
    """Return pairs of rows whose embeddings lie apart from the others, the most alike first.

    The rule knows no encoder: after the mean over all images is taken off and each vector is scaled to
    length 1, a pair is a candidate where one lies at most :data:`STANDS_OUT` as far from the other as the
    last of the other's :data:`NEIGHBOURS` nearest does: the ratio test of Lowe (2004), with the tenth for
    the second, so that a handful of copies does not hide itself.

    Args:
        vectors: float32 (n, D).

    Returns:
        positions ``first < second`` and their cosine.
    """
    n = len(vectors)
    centred = vectors - vectors.mean(axis=0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
    found: dict[tuple[int, int], float] = {}
    nearest = min(NEIGHBOURS, n - 1)
    if nearest < 2:
        return []
    for start in range(0, n, 1024):
        cosine = unit[start : start + 1024] @ unit.T
        cosine[np.arange(len(cosine)), np.arange(start, start + len(cosine))] = -2
        at = np.argpartition(-cosine, nearest - 1, axis=1)[:, :nearest]
        near = np.take_along_axis(cosine, at, axis=1)
        distance = np.sqrt(np.maximum(2 - 2 * near, 0))
        apart = distance <= STANDS_OUT * distance.max(axis=1, keepdims=True)
        for row, column in zip(*np.nonzero(apart), strict=True):
            pair = sorted((start + int(row), int(at[row, column])))
            found[pair[0], pair[1]] = float(near[row, column])
    return sorted(((a, b, how) for (a, b), how in found.items()), key=lambda one: (-one[2], one[:2]))


def find_lookalikes(
    inspected: Inspected,
    perhaps: Sequence[Twin],
    known: Sequence[Twin],
    embeddings: Embeddings | None = None,
    *,
    workers: int = 2,
    max_megapixels: float,
    progress: bool = True,
) -> tuple[list[Twin], int]:
    """Return the pairs that a second look shows to be one photograph, and how many were not looked at.

    Args:
        inspected: the table.
        perhaps: pairs that the hash leaves open.
        known: pairs that need no second look.
        embeddings: of these images, joined by name; where given, crops and free turns are found too.
        workers: threads that decode.
        max_megapixels: as for the first look.
        progress: show progress on standard error.
    """
    alike = {(t.first, t.second): t for t in perhaps}
    if embeddings is not None:
        row = {name: i for i, name in reversed(list(enumerate(inspected.image))) if name}
        sound = [
            (i, row[name])
            for i, name in enumerate(embeddings.rows.image)
            if name in row and inspected.examined[row[name]].fingerprint
        ]
        rows = [at for _, at in sound]
        for a, b, how in candidates_by_embedding(embeddings.vectors[[i for i, _ in sound]]):
            first, second = sorted((rows[a], rows[b]))
            alike.setdefault((first, second), Twin(first, second, "embeddings", round(how, 4)))
    told = {(t.first, t.second) for t in known}
    every = sorted((t for pair, t in alike.items() if pair not in told), key=lambda t: -t.similarity)
    looked = sorted(every[:MOST], key=lambda t: (t.first, t.second))
    confirmed = confirm(
        inspected,
        [(t.first, t.second) for t in looked],
        workers=workers,
        max_megapixels=max_megapixels,
        progress=progress,
    )
    return [t for t, found in zip(looked, confirmed, strict=True) if found], len(every) - len(looked)
