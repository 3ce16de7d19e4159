"""Several runs instead of one: seeds, folds, and parts of the training rows; one table of them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Repeated:
    """Several finished runs beside each other.

    Attributes:
        folder: that holds them, and their table.
    """

    folder: Path

    def in_words(self) -> list[str]:
        """Return what came of them, a line each."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, Any]:
        """Return what ``repeats.json`` holds."""
        raise NotImplementedError


def repeat_segmenter(
    table: Path | str,
    out: Path | str,
    *,
    seeds: int | Sequence[int] | None = None,
    folds: int | None = None,
    percent: Sequence[float] | None = None,
    training: Mapping[str, Any],
    overwrite: bool = False,
) -> Repeated:
    """Train several segmenters that differ in the seed, the fold or the part of the rows, and compare them.

    Example:
        >>> panderm.repeat_segmenter(
        ...     "ham.csv", "runs", seeds=5, training={"images": "images/", "encoder": "panderm-base"}
        ... )  # doctest: +SKIP
    """
    raise NotImplementedError
