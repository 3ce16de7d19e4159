"""Progress on standard error: a bar with a rate and the time left, for anything longer than a second."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from types import TracebackType
from typing import Self, TypeVar

from tqdm import TqdmWarning, tqdm

with warnings.catch_warnings():
    # timm and others want it, and in a notebook without ipywidgets it complains once, of bars we do not draw.
    warnings.simplefilter("ignore", TqdmWarning)
    import_module("tqdm.auto")

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()


def in_threads(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    what: str,
    unit: str,
    *,
    workers: int,
    shown: bool = True,
) -> Iterator[_Result]:
    """Yield what a function makes of each item, in order, with a bar; once stopped, no new item is begun.

    For work that leaves the interpreter's lock alone: decoding, hashing, OpenCV.
    """
    with Progress(len(items), what, unit, shown=shown) as bar:
        pool = ThreadPoolExecutor(workers)
        try:
            for result in pool.map(function, items):
                bar.advance()
                yield result
        finally:
            pool.shutdown(cancel_futures=True)


def say(text: str) -> None:
    """Write one line on standard error, above a bar where there is one."""
    tqdm.write(text, file=sys.stderr)
