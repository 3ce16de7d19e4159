"""Rows × Preprocess → batches, in the table's order, decoded ahead in threads."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from panderm.data.images import ImageError, decode, read_bytes
from panderm.data.preprocess import Preprocess
from panderm.data.table import Table


def batches(table: Table, preprocess: Preprocess, *, batch_size: int, workers: int) -> Iterator[torch.Tensor]:
    """Yield the pixels of the rows in order, float32 (n, 3, crop, crop), n ≤ batch_size.

    Raises:
        ImageError: a file is no longer what it was when the table was checked.
    """
    ahead: deque[list[Future[torch.Tensor]]] = deque()
    pool = ThreadPoolExecutor(workers)
    starts = iter(range(0, len(table), batch_size))

    def order_next() -> None:
        start = next(starts, None)
        if start is not None:
            numbers = range(start, min(start + batch_size, len(table)))
            ahead.append([pool.submit(_load, table, i, preprocess) for i in numbers])

    try:
        order_next()
        while ahead:
            order_next()  # one batch is decoded while the one before it is encoded
            yield torch.stack([future.result() for future in ahead.popleft()])
    finally:
        pool.shutdown(cancel_futures=True)


def _load(table: Table, i: int, preprocess: Preprocess) -> torch.Tensor:
    path = table.path[i]
    content = read_bytes(path)
    if hashlib.sha256(content).hexdigest() != table.sha256[i]:
        raise ImageError(
            path, "changed since the table was checked", "run the same command again; it notices what changed"
        )
    return preprocess(decode(content, path, max_megapixels=table.card.max_megapixels))
