"""Progress on standard error: a bar with a rate and the time left, for anything longer than a second."""

from __future__ import annotations

import sys
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from types import TracebackType
from typing import Self, TypeVar

from tqdm import TqdmWarning, tqdm

with warnings.catch_warnings():
    # timm and others want it, and in a notebook without ipywidgets it complains once, of bars we do not draw.
    warnings.simplefilter("ignore", TqdmWarning)
    import_module("tqdm.auto")

_AHEAD = 16  # items a thread that are begun or wait
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Progress:
    """A bar that appears after one second; ``shown=False`` keeps silent.

    Bytes (``unit="B"``) are counted in kB, MB, GB; ``done`` is what an earlier run has brought already.
    """

    def __init__(self, total: int | None, what: str, unit: str, *, done: int = 0, shown: bool = True) -> None:
        # A log file wants a line now and then, not one every tenth of a second.
        interval = 0.1 if sys.stderr.isatty() else 30.0
        self._bar = tqdm(
            total=total,
            desc=what,
            initial=done,
            unit=unit if unit == "B" else f" {unit}",
            unit_scale=unit == "B",
            delay=1.0,
            mininterval=interval,
            disable=not shown,
            dynamic_ncols=True,
            file=sys.stderr,
        )

    def advance(self, n: int = 1) -> None:
        """Count ``n`` more as done."""
        self._bar.update(n)

    def note(self, text: str) -> None:
        """Show a few words behind the bar, from its next change on."""
        self._bar.set_postfix_str(text, refresh=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()


def in_threads(
    function: Callable[[_Item], _Result],
    items: Collection[_Item],
    what: str,
    unit: str,
    *,
    workers: int,
    shown: bool = True,
) -> Iterator[_Result]:
    """Yield what a function makes of each item, in order, with a bar; once stopped, no new item is begun.

    For work that leaves the interpreter's lock alone: decoding, hashing, OpenCV. A few items for each thread
    are begun or wait: a million of them that wait would be a gigabyte.
    """
    with Progress(len(items), what, unit, shown=shown) as bar:
        pool = ThreadPoolExecutor(workers)
        waiting: deque[Future[_Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > _AHEAD * workers:
                    result = waiting.popleft().result()
                    bar.advance()
                    yield result
            while waiting:
                result = waiting.popleft().result()
                bar.advance()
                yield result
        finally:
            pool.shutdown(cancel_futures=True)


def say(text: str) -> None:
    """Write one line on standard error, above a bar where there is one."""
    tqdm.write(text, file=sys.stderr)
