"""The feed: batches in the order of their groups, in bounded memory, whoever decodes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

import panderm
from panderm.data.feed import Batch, Feed
from panderm.data.images import read_image
from panderm.errors import UsageError


def thirds(n: int, size: int = 7) -> list[np.ndarray]:
    return [np.arange(i, min(i + size, n)) for i in range(0, n, size)]


def decoding_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("decode")]


@pytest.mark.parametrize("workers", [1, 3, None])
def test_batches_come_in_the_order_of_their_groups_with_the_references_pixels(
    workers: int | None, table: panderm.Table, encoder: panderm.Encoder
) -> None:
    groups = [np.array([5, 2, 80]), np.array([3]), *thirds(40, 9)]
    with Feed(table, encoder.preprocess, groups=groups, workers=workers, exact=True) as feed:
        batches = list(feed)
    assert [b.positions.tolist() for b in batches] == [g.tolist() for g in groups]
    for batch in batches:
        assert batch.bad == {}
        assert batch.rgb.is_contiguous()
        for k, i in enumerate(batch.positions):
            assert np.array_equal(batch.rgb[k].numpy(), encoder.preprocess.pixels(read_image(table.path[i])))
    assert decoding_threads() == []


def test_groups_are_drawn_only_where_there_is_room(table: panderm.Table, encoder: panderm.Encoder) -> None:
    drawn = []

    def groups() -> Iterator[np.ndarray]:
        for group in thirds(90, 5):
            drawn.append(int(group[0]))
            yield group

    with Feed(table, encoder.preprocess, groups=groups(), workers=1, ahead=2) as feed:
        assert drawn == []
        for n, _ in enumerate(feed):
            assert len(drawn) <= n + 3
            if n == 4:
                break
    assert len(drawn) <= 7
    assert decoding_threads() == []


def test_no_worker_is_too_few(table: panderm.Table, encoder: panderm.Encoder) -> None:
    with pytest.raises(UsageError, match="at least one worker"):
        Feed(table, encoder.preprocess, groups=[], workers=0)


def test_no_groups_no_batches(table: panderm.Table, encoder: panderm.Encoder) -> None:
    with Feed(table, encoder.preprocess, groups=[]) as feed:
        assert list(feed) == []
    assert isinstance(Batch, type)
