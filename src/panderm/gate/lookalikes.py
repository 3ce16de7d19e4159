"""Rows that may hold one photograph, and a second look at their pixels that decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from panderm.data.duplicates import COARSE
from panderm.data.images import ImageError, read_image
from panderm.data.registration import Points, aligned, register
from panderm.embeddings import Embeddings
from panderm.gate.findings import Inspected
from panderm.gate.twins import Twin
from panderm.progress import in_threads

LEAST_POINTS = 10
"""Points that must agree on how one picture lies over the other."""
LEAST_CORRELATION = 0.35
"""Of fine structure, where they overlap."""
LEAST_OVERLAP = 0.30
"""Share of the smaller picture that must lie over the other."""
LEAST_ALIGNED = 0.55
"""Correlation of fine structure, one whole picture over the other, that keeps a pair which the hash finds."""
MOST = 3000
"""Pairs that are looked at, the most alike first."""
NEIGHBOURS = 10
"""Nearest embeddings among which one stands out."""
STANDS_OUT = 0.80
"""Largest distance to it, as a share of the distance to the last of the :data:`NEIGHBOURS`."""

_KEPT = 96  # pictures whose points are kept for their next pair: some 40 MB


def second_looks(
    inspected: Inspected,
    twins: Sequence[Twin],
    *,
    workers: int = 2,
    max_megapixels: float,
    progress: bool = True,
) -> list[bool]:
    """Lay the pictures of each pair of rows over each other, and say whether they are one photograph.

    See :func:`is_one`; a file that is gone since it was examined is no one's.
    """

    @lru_cache(_KEPT)
    def points(row: int) -> Points | None:
        try:
            return Points(read_image(inspected.path[row], max_megapixels=max_megapixels))
        except ImageError:
            return None

    def look(twin: Twin) -> bool:
        first, second = points(twin.first), points(twin.second)
        near = twin.how == "near" and twin.similarity >= COARSE
        return first is not None and second is not None and is_one(first, second, near=near)

    return list(in_threads(look, twins, "second looks", "pairs", workers=workers, shown=progress))


def is_one(first: Points, second: Points, *, near: bool = False) -> bool:
    """Say whether two pictures are one photograph, or two that were taken within seconds.

    At least :data:`LEAST_POINTS` points agree on a turn, a scale and a shift, at least :data:`LEAST_OVERLAP`
    of the smaller then lies over the other, and fine structure correlates there by :data:`LEAST_CORRELATION`.
    Of a pair that the hash calls near it is enough that fine structure correlates by :data:`LEAST_ALIGNED`
    where one whole picture lies over the other: the smoothest copy has that, a frame in common has not.
    """
    if near and aligned(first, second) >= LEAST_ALIGNED:
        return True
    found = register(first, second)
    return (
        found is not None
        and found.points >= LEAST_POINTS
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
    nearest = min(NEIGHBOURS, n - 1)
    if nearest < 2:
        return []
    centred = vectors - vectors.mean(axis=0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
    found: dict[tuple[int, int], float] = {}
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


def settle(
    inspected: Inspected,
    sure: Sequence[Twin],
    perhaps: Sequence[Twin],
    embeddings: Embeddings | None = None,
    *,
    workers: int = 2,
    max_megapixels: float,
    progress: bool = True,
) -> tuple[list[Twin], int]:
    """Return the pairs that are one photograph, after second looks, and how many got none.

    Args:
        inspected: the table.
        sure: pairs that the hash finds; near ones are taken back where a second look shows two photographs,
            as where all that is alike is one black frame.
        perhaps: pairs that the hash leaves open; they are kept where a second look shows one photograph.
        embeddings: of these images, joined by name; where given, their candidates are treated likewise.
        workers: threads that decode.
        max_megapixels: as for the first look.
        progress: show progress on standard error.
    """
    known = {(t.first, t.second): t for t in sure}
    open_ = {(t.first, t.second): t for t in perhaps}
    if embeddings is not None:
        for twin in _by_embedding(inspected, embeddings):
            if (twin.first, twin.second) not in known:
                open_.setdefault((twin.first, twin.second), twin)
    doubted = [t for t in sure if t.how == "near"]
    every = sorted([*doubted, *open_.values()], key=lambda t: -t.similarity)
    looked = sorted(every[:MOST], key=lambda t: (t.first, t.second))
    verdicts = second_looks(
        inspected,
        looked,
        workers=workers,
        max_megapixels=max_megapixels,
        progress=progress,
    )
    for twin, one in zip(looked, verdicts, strict=True):
        if one:
            known.setdefault((twin.first, twin.second), twin)
        else:
            known.pop((twin.first, twin.second), None)
    return [known[pair] for pair in sorted(known)], len(every) - len(looked)


def _by_embedding(inspected: Inspected, embeddings: Embeddings) -> Iterator[Twin]:
    row: dict[str, int] = {}
    for i, name in enumerate(inspected.image):
        if name and inspected.examined[i].fingerprint:
            row.setdefault(name, i)
    known = [i for i, name in enumerate(embeddings.rows.image) if name in row]
    rows = [row[embeddings.rows.image[i]] for i in known]
    for a, b, how in candidates_by_embedding(embeddings.vectors[known]):
        first, second = sorted((rows[a], rows[b]))
        yield Twin(first, second, "embeddings", round(how, 4))
