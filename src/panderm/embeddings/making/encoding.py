"""What one process does: groups of a table → pixels → vectors, with the network kept busy."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from panderm.data.feed import Batch, Feed
from panderm.data.table import Table
from panderm.embeddings.making.ranks import Ranks
from panderm.embeddings.making.settled import Eye, Settled
from panderm.embeddings.making.shards import Keeper, Positions, Tokens, Vectors, require_finite
from panderm.embeddings.tokens import require_half


@dataclass
class Work:
    """What one process did.

    Attributes:
        embedded: images.
        bad: images that could not be decoded, as positions in the table, with the reason.
        seconds: wall-clock.
        waited: seconds of them in which the network waited for images.
        workers, kind: how many threads or processes decoded.
    """

    embedded: int = 0
    bad: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    waited: float = 0.0
    workers: int = 0
    kind: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return what the first process has to know, as JSON."""
        return {
            "embedded": self.embedded,
            "bad": sorted(self.bad.items()),
            "seconds": self.seconds,
            "waited": self.waited,
        }


def embed_groups(
    encoder: Eye,
    table: Table,
    todo: npt.NDArray[np.bool_],
    settled: Settled,
    keeper: Keeper,
    ranks: Ranks,
    *,
    workers: int | None,
    seen: Callable[[], None],
) -> Work:
    """Embed the groups that fall to this process; of a group all vectors are kept, or none.

    Args:
        encoder: what embeds; all is settled.
        table: all rows.
        todo: bool (len(table),), rows to embed.
        settled: pixels, groups and tokens.
        keeper: takes the vectors of each group.
        ranks: the processes that share the groups.
        workers: threads or processes that decode; None: chosen by measurement.
        seen: called after each group.

    Raises:
        DataError: NaN or infinite numbers came out.
        ImageError: a file is no longer what it was when the table was read.
        PandermError: another process failed.
    """
    work, started = Work(), time.monotonic()
    on_gpu = encoder.device.type == "cuda"
    # A GPU is given the next batch before the vectors of the last are fetched: it need not stand still.
    ahead = 1 if on_gpu else 0
    flights: deque[Flight] = deque()
    busy = 0.0

    def land(flight: Flight) -> float:
        vectors, tokens = flight.fetch()
        rows = table.select(flight.positions)
        require_finite(rows, vectors)
        if tokens is not None:
            require_half(rows, tokens)
        keeper.add(flight.positions, vectors, tokens)
        work.embedded += len(flight.positions)
        ranks.tell(len(flight.positions))
        seen()
        return flight.seconds

    groups = groups_of(todo, settled.batch_size, ranks)
    exact = settled.decoding.exact
    with Feed(table, encoder.preprocess, groups=groups, workers=workers, exact=exact, pinned=on_gpu) as feed:
        batches = iter(feed)
        while (batch := _next(batches, work)) is not None:
            ranks.check()
            if batch.bad:
                work.bad |= batch.bad
                ranks.tell(len(batch.bad))
            if len(batch.positions):
                flights.append(Flight(encoder, batch, tokens=settled.tokens is not None))
            while len(flights) > ahead:
                busy += land(flights.popleft())
        while flights:
            busy += land(flights.popleft())
        work.workers, work.kind = feed.workers, feed.kind
    work.seconds = time.monotonic() - started
    if on_gpu:  # it computes while this process waits
        work.waited = max(0.0, work.seconds - busy)
    return work


def _next(batches: Iterator[Batch], work: Work) -> Batch | None:
    asked = time.monotonic()
    batch = next(batches, None)
    work.waited += time.monotonic() - asked
    return batch


def groups_of(todo: npt.NDArray[np.bool_], size: int, ranks: Ranks) -> Iterator[Positions]:
    """Yield the groups that fall to this process, as positions in the table; each falls to one process.

    Example:
        >>> todo = np.array([1, 1, 0, 0, 0, 0, 1, 1, 1], dtype=bool)
        >>> [group.tolist() for group in groups_of(todo, 2, Ranks())]
        [[0, 1], [6, 7], [8]]
    """
    left = np.flatnonzero(todo).astype(np.int64)
    starts = np.flatnonzero(np.diff(left // size, prepend=-1))
    stops = np.append(starts[1:], len(left))
    while (k := ranks.take()) < len(starts):
        yield left[starts[k] : stops[k]]


class Flight:
    """A batch that the device has been given; it computes while the next one is made ready.

    Attributes:
        positions: int64 (n,), the rows in the table.
        seconds: how long a GPU was busy with it; known once it has been fetched.
    """

    def __init__(self, encoder: Eye, batch: Batch, *, tokens: bool) -> None:
        self.positions = batch.positions
        self.seconds = 0.0
        self._device = encoder.device
        self._events: list[torch.cuda.Event] = []
        self._mark()
        made = encoder.forward_rgb(batch.rgb, tokens=True) if tokens else (encoder.forward_rgb(batch.rgb),)
        self._made = tuple(self._homeward(one) for one in made)
        self._mark()

    def fetch(self) -> tuple[Vectors, Tokens | None]:
        """Return vectors float32 (n, D), and tokens float16 (n, h, w, D) where they were asked for."""
        if self._events:
            self._events[1].synchronize()
            self.seconds = self._events[0].elapsed_time(self._events[1]) / 1000
        arrays = [one.cpu().numpy() for one in self._made]
        return arrays[0], arrays[1] if len(arrays) > 1 else None

    def _mark(self) -> None:
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(self._device))
            self._events.append(event)

    def _homeward(self, made: torch.Tensor) -> torch.Tensor:
        """Begin the way back to the CPU, beside other work where there is a GPU."""
        if self._device.type != "cuda":
            return made
        home = torch.empty(made.shape, dtype=made.dtype, pin_memory=True)
        return home.copy_(made, non_blocking=True)
