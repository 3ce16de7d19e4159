"""Probabilities at an image's native size, band by band: never more than a few rows of them in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from panderm.errors import DataError
from panderm.segmenting.predicting.answers import Probability
from panderm.storage import explain_write_errors

BAND = 1 << 20
"""Pixels of a band, about."""
_IN_MEMORY = 1 << 24  # bytes of probabilities that are kept without a file


def bands_of(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield the first row of each band of an image, and the row behind its last."""
    rows = max(1, BAND // max(1, width))
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


class Band(NamedTuple):
    """Some rows of an image.

    Attributes:
        top: the first of them.
        probability: float32 (rows, W), P(lesion).
        spread: float32 (rows, W), standard deviation over views; None where there is one view.
    """

    top: int
    probability: Probability
    spread: Probability | None = None


class Field(Protocol):
    """P(lesion) at every pixel of an image, to be gone through as often as needed."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, pixels."""
        ...

    def bands(self) -> Iterator[Band]:
        """Yield it from the top; together the bands cover it once."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


def at_native(probability: npt.ArrayLike, height: int, width: int) -> Probability:
    """Bring the answer for a squashed image to the image's own size, by bilinear interpolation.

    Pixel centres agree: of a row of s values and h pixels, pixel y lies at (y + 1/2) s / h - 1/2, and what
    lies beyond the first and last centre takes their value. That is ``align_corners=False`` of PyTorch: the
    answer is not moved by half a pixel. Nothing is smoothed where the image is smaller than the answer.

    Args:
        probability: (s, t) numbers.
        height: of the image, pixels.
        width: likewise.

    Returns:
        float32 (height, width).

    Raises:
        DataError: not two dimensions, or nothing in one of them.

    Example:
        >>> at_native([[0.0, 1.0]], 1, 4).tolist()
        [[0.0, 0.25, 0.75, 1.0]]
    """
    return np.concatenate([band.probability for band in Stretched(probability, height, width).bands()])


class Stretched:
    """The answer for a squashed image, stretched over it; arguments as of :func:`at_native`.

    Args:
        probability: (s, t) numbers.
        height: of the image, pixels.
        width: likewise.
        spread: (s, t) numbers, standard deviation over views.
    """

    def __init__(
        self, probability: npt.ArrayLike, height: int, width: int, spread: npt.ArrayLike | None = None
    ) -> None:
        self.shape = (height, width)
        self._probability = _across(probability, width)
        self._spread = None if spread is None else _across(spread, width)
        if min(height, *self._probability.shape) < 1:
            raise DataError("an image must have pixels.", f"found {width} x {height}")

    def bands(self) -> Iterator[Band]:
        """Yield the probabilities from the top."""
        for top, bottom in bands_of(*self.shape):
            spread = None if self._spread is None else _down(self._spread, top, bottom, self.shape[0])
            yield Band(top, _down(self._probability, top, bottom, self.shape[0]), spread)

    def close(self) -> None:
        """Do nothing: it is small."""


class Kept:
    """Probabilities that are made once, from the top: in memory, or on disk where they are many.

    Args:
        height: of the image, pixels.
        width: likewise.
        folder: where a file without a name may lie.
        spread: whether each band has its standard deviation over views.
    """

    def __init__(self, height: int, width: int, folder: Path | None = None, *, spread: bool = False) -> None:
        self.shape = (height, width)
        self._planes = 2 if spread else 1
        self._rows = 0
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._memory: list[Probability] = []
        if 4 * height * width * self._planes > _IN_MEMORY and folder is not None:
            with explain_write_errors(folder):
                self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it ends with its last reader

    def add(self, probability: Probability, spread: Probability | None = None) -> None:
        """Keep the next rows, float32 (rows, W)."""
        rows = np.stack([probability] if spread is None else [probability, spread], axis=1)
        if rows.shape[1:] != (self._planes, self.shape[1]):
            raise DataError("rows must be of one kind.", f"found {rows.shape}")
        self._rows += len(rows)
        if self._file is None:
            self._memory.append(rows)
            return
        with explain_write_errors(self._folder or Path()):
            self._file.write(np.ascontiguousarray(rows, dtype=np.float32).tobytes())

    def bands(self) -> Iterator[Band]:
        """Yield the probabilities from the top."""
        if self._rows != self.shape[0]:
            raise DataError("every row must have been kept.", f"found {self._rows} of {self.shape[0]}")
        if self._file is None:
            top = 0
            for rows in self._memory:
                yield self._band(top, rows)
                top += len(rows)
            return
        row = 4 * self._planes * self.shape[1]
        for top, bottom in bands_of(*self.shape):
            self._file.seek(top * row)
            read = np.frombuffer(self._file.read((bottom - top) * row), dtype=np.float32)
            yield self._band(top, read.reshape(bottom - top, self._planes, self.shape[1]))

    def close(self) -> None:
        """Let go of the file, or the memory."""
        self._memory.clear()
        if self._file is not None:
            self._file.close()

    def _band(self, top: int, rows: Probability) -> Band:
        return Band(top, rows[:, 0], rows[:, 1] if self._planes == 2 else None)


def _across(values: npt.ArrayLike, width: int) -> Probability:
    """Stretch to the image's width; its height is left as it is."""
    small = np.asarray(values, dtype=np.float32)
    if small.ndim != 2 or not small.size or width < 1:
        raise DataError(
            "an answer must be a map of probabilities.", f"found {small.shape} for {width} pixels"
        )
    return np.asarray(_down(np.ascontiguousarray(small.T), 0, width, width).T)


def _down(values: Probability, top: int, bottom: int, height: int) -> Probability:
    """Return rows top to bottom of what is stretched to a height."""
    at = (np.arange(top, bottom) + 0.5) * (len(values) / height) - 0.5
    at = at.clip(0, len(values) - 1)
    above = np.minimum(at.astype(np.int64), max(0, len(values) - 2))
    below = np.minimum(above + 1, len(values) - 1)
    part = (at - above).astype(np.float32)[:, None]
    made = values[above]
    made += (values[below] - made) * part
    return np.asarray(made, dtype=np.float32)
