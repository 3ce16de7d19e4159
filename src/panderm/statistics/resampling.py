"""How much a score would vary with other patients: the cluster bootstrap and its percentile interval.

Images of one patient resemble each other, so they are not so many independent observations: whole patients
are drawn with replacement and all their images come along (Davison and Hinkley, "Bootstrap Methods and their
Application", 1997, section 3.8; Field and Welsh, J. R. Stat. Soc. B 69, 2007). A draw is never a copy of the
rows, only a row of weights: how often each image counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Weights = NDArray[np.int32]


def cluster_codes(
    patient: NDArray[np.object_] | None, group: NDArray[np.object_] | None, n: int
) -> tuple[NDArray[np.int64], str]:
    """Choose the unit to resample and number its clusters.

    Args:
        patient: (n,) str, or None where unknown; None if unknown throughout.
        group: (n,) str, likewise: the lesion an image belongs to.
        n: number of rows.

    Returns:
        (n,) cluster of each row, numbered 0, 1, ... as they first appear, and the unit: "patient" if any
        patient is known, else "lesion group" if any group is, else "image". A row for which the unit is
        unknown is a cluster of its own.

    Raises:
        ValueError: another number of rows, or values that are neither str nor None.
    """
    for unit, column in (("patient", patient), ("lesion group", group)):
        names = _names(column, unit, n)
        if any(name is not None for name in names):
            code_of: dict[object, int] = {}
            keys = ((row, None) if name is None else name for row, name in enumerate(names))
            codes = [code_of.setdefault(key, len(code_of)) for key in keys]
            return np.array(codes, dtype=np.int64), unit
    return np.arange(n, dtype=np.int64), "image"


def cluster_bootstrap(
    clusters: ArrayLike, draws: int, seed: int, chunk: int | None = None
) -> Iterator[Weights]:
    """Draw clusters with replacement, as many as there are, and yield how often each row counts.

    The weights depend on `clusters`, `draws` and `seed` alone: the chunks, put end to end, are the same for
    every chunk size, and fewer draws are the beginning of more. With one row per cluster this is the ordinary
    bootstrap.

    Args:
        clusters: (n,) integers, rows with equal values move together; n >= 1.
        draws: number of draws, >= 1.
        seed: of `numpy.random.default_rng`, >= 0.
        chunk: draws per piece; None for pieces of at most about 16 MB.

    Returns:
        Pieces of (b, n) weights, `draws` rows in all.

    Raises:
        ValueError: at the call, not at the first piece, for arguments out of these ranges.
    """
    codes = np.asarray(clusters)
    if codes.ndim != 1 or not len(codes) or not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(f"clusters must be (n,) integers with n >= 1, not {codes.dtype} {codes.shape}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, not {draws}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, not {seed}")
    if chunk is None:
        chunk = min(256, max(1, _CHUNK_CELLS // len(codes)))
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, not {chunk}")
    return _weights(codes, draws, np.random.default_rng(seed), chunk)


def percentile_interval(draws: ArrayLike, level: float = 0.95) -> tuple[float, float, int]:
    """Return the interval that holds the middle `level` of the draws, and how many draws it rests on.

    Args:
        draws: (B,) values of one score; those that are not finite are left out.
        level: in (0, 1).

    Returns:
        low, high and the number of finite draws. low and high are NaN if fewer than two draws or fewer than
        half of them are finite: an interval over the draws that happened to work would be too kind.
    """
    values = np.asarray(draws, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"draws must be (B,), not {values.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, not {level}")
    finite = values[np.isfinite(values)]
    used = len(finite)
    if used < 2 or 2 * used < len(values):
        return np.nan, np.nan, used
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high), used


def paired_interval(first: ArrayLike, other: ArrayLike, level: float = 0.95) -> tuple[float, float, int]:
    """Return the interval of ``other - first``, draw by draw, and how many draws it rests on.

    What makes a draw hard for both cancels; the two scores' own intervals, side by side, do not show that.

    Args:
        first: (B,) values of one score; draw b of both comes from the same resampled clusters.
        other: (B,) values of the same score of something else.
        level: in (0, 1).

    Returns:
        As `percentile_interval`; a draw in which either is not finite is left out.

    Raises:
        ValueError: not the same number of draws.
    """
    one, two = (np.asarray(draws, dtype=np.float64) for draws in (first, other))
    if one.ndim != 1 or one.shape != two.shape:
        raise ValueError(f"paired draws must both be (B,), not {one.shape} and {two.shape}")
    return percentile_interval(two - one, level)


def bootstrap(
    statistic: Callable[[Weights], Mapping[str, NDArray[Any]]],
    clusters: ArrayLike,
    draws: int,
    seed: int,
    chunk: int | None = None,
) -> dict[str, NDArray[Any]]:
    """Compute a statistic on every draw of `cluster_bootstrap`, holding one chunk of weights at a time.

    Args:
        statistic: from (b, n) weights to names and (b, ...) values, each draw on its own.
        clusters: (n,) integers, rows with equal values move together.
        draws: number of draws, >= 1.
        seed: the same seed and clusters give the same draws, so that two statistics can be compared in pairs.
        chunk: draws at a time, as in `cluster_bootstrap`.

    Returns:
        Name to (draws, ...) values.

    Raises:
        ValueError: arguments out of range, or a statistic that does not return one value per draw.
    """
    pieces: dict[str, list[NDArray[Any]]] = {}
    for weights in cluster_bootstrap(clusters, draws, seed, chunk):
        for name, values in statistic(weights).items():
            if values.shape[:1] != weights.shape[:1]:
                raise ValueError(f"{name} must be ({len(weights)}, ...), one per draw, not {values.shape}")
            pieces.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in pieces.items()}


_CHUNK_CELLS = 2**22


def _weights(codes: NDArray[Any], draws: int, rng: np.random.Generator, chunk: int) -> Iterator[Weights]:
    names, cluster = np.unique(codes, return_inverse=True)
    m = len(names)
    for start in range(0, draws, chunk):
        b = min(chunk, draws - start)
        # int64, not a smaller type: numpy then takes the stream one number at a time, whatever the shape.
        drawn = rng.integers(0, m, size=(b, m), dtype=np.int64)
        drawn += np.arange(b)[:, None] * m
        times = np.bincount(drawn.ravel(), minlength=b * m).reshape(b, m)
        yield times.astype(np.int32)[:, cluster]


def _names(column: NDArray[np.object_] | None, unit: str, n: int) -> list[str | None]:
    if column is None:
        return []
    if np.shape(column) != (n,):
        raise ValueError(f"{unit} must be ({n},), not {np.shape(column)}")
    names = list(column)
    for name in names:
        if not (name is None or isinstance(name, str)):
            raise ValueError(f"{unit} must hold str or None, not {name!r}")
    return names
