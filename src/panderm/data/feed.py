"""Rows × Preprocess → batches of 8-bit pixels, in order, decoded ahead by threads or processes."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import torch

from panderm.data.decoders import Batch as Batch
from panderm.data.decoders import Clock, Processes, Recipe, Threads
from panderm.data.preprocess import Preprocess
from panderm.data.table import Table
from panderm.errors import UsageError

Kind = Literal["auto", "threads", "processes"]

# Batches on which the number of threads is measured, after the first, which warms the network up.
_MEASURED = 8
# Threads may be so much faster than whom they feed: images differ.
_SPARE = 1.5
# Processes take seconds to start; they must have work for more than this.
_WORTH_PROCESSES = 60.0


class Feed:
    """Batches of a table's images, in the order of ``groups``.

    How many threads there are is measured where ``workers`` is None, and changes no pixel. The first batch is
    decoded by as many as there are cores, since nothing else can be done yet. From then on the time a thread
    takes for an image is compared with the time the consumer takes for one, over the first eight batches:
    there are as many threads as it takes to be half as fast again as the consumer, from one to twice the
    cores. Where all of them still leave the consumer waiting, while the processor is idle and it is not files
    that are waited for, they wait for the interpreter's lock; then processes take over, if at least a minute
    of decoding is left. (JPEG, PNG and the resizing leave the lock alone; DICOM does not.)

    Args:
        table: from :func:`panderm.read_table`.
        preprocess: what the pixels must look like; they are not normalised yet.
        groups: positions in the table, int64 (n,), one array a batch; drawn only when there is room.
        workers: threads or processes; by default measured.
        kind: what they are.
        exact: decode as the reference does, bit for bit; see :mod:`panderm.data.fast`.
        pinned: put the batches in pinned memory, from where a GPU fetches them by itself; where there is one.
        ahead: at most so many batches are decoded in advance.

    Attributes:
        workers: how many threads or processes there are.
        kind: what they are.

    Raises:
        UsageError: fewer than one worker.
        ImageError: while iterating: a file is no longer what it was when the table was checked.

    Example:
        >>> groups = np.array_split(np.arange(len(table)), 10)  # doctest: +SKIP
        >>> with Feed(table, encoder.preprocess, groups=groups) as feed:  # doctest: +SKIP
        ...     for batch in feed:
        ...         vectors = encoder.forward_rgb(batch.rgb)
    """

    def __init__(
        self,
        table: Table,
        preprocess: Preprocess,
        *,
        groups: Iterable[npt.NDArray[np.int64]],
        workers: int | None = None,
        kind: Kind = "auto",
        exact: bool = False,
        pinned: bool = False,
        ahead: int = 2,
    ) -> None:
        if workers is not None and workers < 1:
            raise UsageError("there must be at least one worker.", f"found {workers}")
        self.workers = workers or cores()
        self.kind: Literal["threads", "processes"] = "processes" if kind == "processes" else "threads"
        self._measures = workers is None and kind != "processes"
        self._may_move = kind == "auto" and not multiprocessing.current_process().daemon
        self._table, self._groups = table, iter(groups)
        self._recipe = Recipe(preprocess, exact, table.card.max_megapixels)
        self._ahead, self._pinned = max(1, ahead), pinned and torch.cuda.is_available()
        self._decoders: Threads | Processes | None = None

    def __iter__(self) -> Iterator[Batch]:
        try:
            if self.kind == "threads":
                self._decoders = threads = Threads(
                    self._table,
                    self._recipe,
                    self._groups,
                    workers=self.workers,
                    ahead=self._ahead,
                    pinned=self._pinned,
                )
                yield from self._measured(threads) if self._measures else threads
            if self.kind == "processes":
                self.close()
                first = next(self._groups, None)
                if first is not None:
                    self._decoders = Processes(
                        self._table,
                        self._recipe,
                        itertools.chain([first], self._groups),
                        workers=self.workers,
                        ahead=self._ahead,
                        pinned=self._pinned,
                    )
                    yield from self._decoders
        finally:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all threads and processes; images that are being decoded are finished, no other is begun."""
        if self._decoders is not None:
            self._decoders.close()
            self._decoders = None

    def _measured(self, threads: Threads) -> Iterator[Batch]:
        pace, began = Pace(), time.perf_counter()
        for number in itertools.count():
            asked = time.perf_counter()
            batch = next(threads, None)
            if batch is None:
                return
            given = time.perf_counter()
            yield batch
            if 1 <= number <= _MEASURED:
                pace.images += len(batch.positions)
                pace.waited += given - asked
                pace.used += time.perf_counter() - given
                pace.seconds, pace.decoding = time.perf_counter() - began, threads.clock
                self._adapt(threads, pace, last=number == _MEASURED)

    def _adapt(self, threads: Threads, pace: Pace, *, last: bool) -> None:
        most = 2 * cores()
        self.workers = wanted_threads(pace, most)
        threads.resize(self.workers)
        left = len(self._table) - pace.decoding.images
        if last and self._may_move and self.workers == most and wants_processes(pace, cores(), left):
            threads.stop_drawing()
            self.kind, self.workers = "processes", cores()


@dataclass
class Pace:
    """What was measured; seconds.

    Attributes:
        images: that the consumer was given.
        waited: by the consumer, for them.
        used: by the consumer, on them.
        seconds: since the first image was begun.
        decoding: what the threads took since then.
    """

    images: int = 0
    waited: float = 0.0
    used: float = 0.0
    seconds: float = 0.0
    decoding: Clock = field(default_factory=Clock)


def wanted_threads(pace: Pace, most: int) -> int:
    """Return how many threads are half as fast again as the consumer, from 1 to ``most``.

    Example:
        >>> wanted_threads(Pace(images=64, used=0.032, decoding=Clock(images=64, wall=0.128)), most=32)
        6
    """
    if not pace.images or not pace.decoding.images:
        return most
    an_image = pace.decoding.wall / pace.decoding.images
    return min(most, max(1, math.ceil(_SPARE * an_image * pace.images / max(pace.used, 1e-9))))


def wants_processes(pace: Pace, cores: int, left: int) -> bool:
    """Say whether threads hold each other back, and enough is left to do for processes to be worth it.

    Args:
        pace: with as many threads as there may be.
        cores: of the machine.
        left: images that have still to be decoded.

    Example:
        >>> slow = Clock(images=1000, wall=160, cpu=10)
        >>> wants_processes(Pace(1000, waited=10, used=1, seconds=11, decoding=slow), cores=16, left=100_000)
        True
    """
    clock = pace.decoding
    starving = pace.waited > 0.25 * (pace.waited + pace.used)
    reading = clock.read > 0.5 * clock.wall
    idle = clock.cpu < 0.6 * cores * pace.seconds
    return starving and idle and not reading and left * pace.seconds > _WORTH_PROCESSES * clock.images


def cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
