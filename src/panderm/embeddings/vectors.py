"""Arrays that lie in files: rows of many blocks as one array, read only where they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Block:
    """Some consecutive rows of a file: how many there are, and how to get them, mapped or read."""

    rows: int
    load: Callable[[], Array]


class MappedVectors(np.lib.mixins.NDArrayOperatorsMixin):
    """Rows in files as one array: opened without reading, and read where an index asks for them.

    Indexing gives arrays of numpy; whatever numpy does with an array it does with this one, whole, in
    memory. Where that is too much, go over :attr:`blocks`.

    Attributes:
        shape: (n, D); for patch tokens (n, h, w, D).
        dtype: float32; for patch tokens float16.

    Example:
        >>> emb.vectors[emb.rows.split == "test"]  # only these are read  # doctest: +SKIP
        >>> sum(block.sum(axis=0, dtype=float) for block in emb.vectors.blocks)  # doctest: +SKIP
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        tail: tuple[int, ...],
        dtype: npt.DTypeLike,
        *,
        order: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.held = tuple(blocks)
        self._starts = np.concatenate([[0], np.cumsum([block.rows for block in blocks], dtype=np.int64)])
        self._order = order
        self.dtype = np.dtype(dtype)
        self.shape = (int(self._starts[-1]) if order is None else len(order), *tail)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of numbers."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes of all numbers."""
        return self.size * self.dtype.itemsize

    @property
    def blocks(self) -> list[Array]:
        """The rows in turn; where none were chosen, read-only arrays that lie in the files themselves."""
        if self._order is None:
            return [self._load(k) for k in range(len(self.held))]
        return list(self._in_turn())

    def select(self, chosen: Any) -> MappedVectors:
        """Return the chosen rows (mask, positions or slice), still unread."""
        order = np.arange(len(self), dtype=np.int64) if self._order is None else self._order
        return MappedVectors(self.held, self.shape[1:], self.dtype, order=order[chosen])

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Array]:
        for block in self._in_turn():
            yield from block

    def __getitem__(self, key: Any) -> Any:
        first, *rest = key if isinstance(key, tuple) else (key,)
        plain = all(isinstance(part, (slice, int, np.integer)) for part in rest)
        if isinstance(first, (int, np.integer)) and not isinstance(first, (bool, np.bool_)):
            return self._gather(np.array([range(len(self))[first]]))[(0, *rest)]
        if isinstance(first, slice) and plain:
            start, stop, step = first.indices(len(self))
            if step == 1 and self._order is None:
                return self._run(start, max(start, stop))[(slice(None), *rest)]
            return self._gather(np.arange(start, stop, step))[(slice(None), *rest)]
        if isinstance(first, (list, np.ndarray)) and plain:
            chosen = np.asarray(first)
            if chosen.dtype == bool and chosen.ndim == 1 and len(chosen) == len(self):
                return self._gather(np.flatnonzero(chosen))[(slice(None), *rest)]
            if chosen.dtype.kind in "iu" and chosen.ndim == 1 and not rest:
                positions = chosen.astype(np.int64)
                outside = (positions < -len(self)) | (positions >= len(self))
                if outside.any():
                    raise IndexError(f"index {positions[outside][0]} is out of bounds for {len(self)} rows")
                return self._gather(np.where(positions < 0, positions + len(self), positions))
        return np.asarray(self)[key]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("rows that lie in several blocks cannot be one array without a copy")
        whole = self._run(0, len(self)) if self._order is None else self._gather(np.arange(len(self)))
        if not whole.flags.owndata:  # one block, which lies in the file: a caller may write to what is theirs
            whole = whole.copy()
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        plain = (np.asarray(x) if isinstance(x, MappedVectors) else x for x in inputs)
        return getattr(ufunc, method)(*plain, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # of what copies, pickles and inspects
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def __repr__(self) -> str:
        return f"MappedVectors(shape={self.shape}, dtype={self.dtype})"

    def _load(self, k: int) -> Array:
        return self.held[k].load().reshape(self.held[k].rows, *self.shape[1:])

    def _in_turn(self) -> Iterator[Array]:
        if self._order is None:
            for k in range(len(self.held)):
                yield self._load(k)
            return
        most = max((block.rows for block in self.held), default=1)
        for start in range(0, len(self), most):
            yield self._gather(np.arange(start, min(start + most, len(self))))

    def _run(self, start: int, stop: int) -> Array:
        """Return consecutive rows: the block's own where they lie in one."""
        pieces = []
        for k in range(len(self.held)):
            low, high = int(self._starts[k]), int(self._starts[k + 1])
            if low < stop and high > start:
                pieces.append(self._load(k)[max(start - low, 0) : stop - low])
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.empty((0, *self.shape[1:]), self.dtype)

    def _gather(self, positions: npt.NDArray[np.int64]) -> Array:
        """Return rows by position, each block opened once."""
        wanted = positions if self._order is None else self._order[positions]
        rows = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        within = np.searchsorted(self._starts, wanted, side="right") - 1
        for k in np.unique(within):
            here = np.flatnonzero(within == k)
            rows[here] = self._load(int(k))[wanted[here] - self._starts[k]]
        return rows
