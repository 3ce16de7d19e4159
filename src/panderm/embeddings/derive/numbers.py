"""What the vectors of a folder look like: norms, equal ones, ones that are not finite; block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.embeddings.opened import Embeddings
from panderm.progress import Progress

_MOST = 10  # names shown of what was found
_BYTES = 32 * 2**20  # of vectors looked at at once


@dataclass(frozen=True)
class Numbers:
    """What the vectors look like.

    Attributes:
        norm_min, norm_median, norm_max: Euclidean norms of the finite vectors; None where there are none.
        not_finite: how many vectors hold a NaN or an infinity, and the first of their images' names.
        equal: how many images have, to the last bit, the vector of another image whose file differs; the
            first of them as groups of names.
    """

    norm_min: float | None
    norm_median: float | None
    norm_max: float | None
    not_finite: int
    not_finite_images: tuple[str, ...]
    equal: int
    equal_images: tuple[tuple[str, ...], ...]


def numbers_of(emb: Embeddings, *, progress: bool = True) -> Numbers:
    """Look at every vector once, in bounded memory (20 bytes a vector beside a block of them).

    Args:
        emb: the embeddings, in memory or mapped.
        progress: show progress on standard error.
    """
    n = len(emb)
    norms = np.empty(n)
    keys = np.empty(n, dtype=np.uint64)
    odd = _odd_numbers(emb.dim)
    with Progress(n, "looking at vectors", "vectors", shown=progress) as bar:
        for start, block in blocks_of(emb.vectors, _BYTES):
            at = slice(start, start + len(block))
            # In float32 the square of a large number would overflow.
            norms[at] = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))
            keys[at] = (block.view(np.uint32) * odd).sum(axis=1, dtype=np.uint64)
            bar.advance(len(block))
    finite = np.isfinite(norms)
    known = norms[finite]
    strange = np.flatnonzero(~finite)
    groups = _equal(emb, keys)
    return Numbers(
        norm_min=float(known.min()) if len(known) else None,
        norm_median=float(np.median(known)) if len(known) else None,
        norm_max=float(known.max()) if len(known) else None,
        not_finite=len(strange),
        not_finite_images=_names(emb, strange),
        equal=sum(len(group) for group in groups),
        equal_images=tuple(_names(emb, group) for group in groups[:_MOST]),
    )


def _names(emb: Embeddings, positions: npt.NDArray[np.intp]) -> tuple[str, ...]:
    """Return the first images; of a large folder the rows are read only where there is something to name."""
    return tuple(str(x) for x in emb.rows.image[positions[:_MOST]]) if len(positions) else ()


def blocks_of(vectors: Any, most: int) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Yield (position of the first, float32 (k, D) contiguous) of at most so many bytes, in order."""
    step = max(1, most // (4 * max(1, vectors.shape[1])))
    for start in range(0, len(vectors), step):
        yield start, np.ascontiguousarray(vectors[start : start + step], dtype=np.float32)


def _odd_numbers(dim: int) -> npt.NDArray[np.uint64]:
    """Return the D multipliers of a multilinear hash: equal vectors have equal keys, others seldom."""
    return np.random.default_rng(0).integers(2**63, size=dim, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def _equal(emb: Embeddings, keys: npt.NDArray[np.uint64]) -> list[npt.NDArray[np.intp]]:
    """Return groups of positions whose vectors are equal and whose files are not all the same."""
    order = np.argsort(keys, kind="stable")
    edges = np.flatnonzero(np.diff(keys[order])) + 1
    found = []
    for group in np.split(order, edges):
        if len(group) < 2:
            continue
        # One file under two names has one vector, as it should.
        _, first = np.unique(emb.rows.sha256[group].astype(str), return_index=True)
        distinct = group[np.sort(first)]
        if len(distinct) < 2:
            continue
        alike: dict[bytes, list[int]] = {}
        for i in distinct:
            alike.setdefault(np.asarray(emb.vectors[int(i)]).tobytes(), []).append(int(i))
        found += [np.array(same, dtype=np.intp) for same in alike.values() if len(same) > 1]
    return sorted(found, key=lambda group: int(group[0]))
