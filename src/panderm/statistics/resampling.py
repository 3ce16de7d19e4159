"""How much a score would vary with other patients: the cluster bootstrap and its percentile interval.

Images of one patient resemble each other, so they are not so many independent observations: whole patients
are drawn with replacement and all their images come along (Davison and Hinkley, "Bootstrap Methods and their
Application", 1997, section 3.8; Field and Welsh, J. R. Stat. Soc. B 69, 2007). A draw is never a copy of the
rows, only a row of weights: how often each image counts.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Weights = NDArray[np.int32]
Statistic = Callable[[Weights], Mapping[str, NDArray[Any]]]


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


def class_strata(clusters: ArrayLike, shown: ArrayLike) -> NDArray[np.int64]:
    """Return the stratum of each row, by the rarest class that its cluster shows.

    A cluster that shows several classes, as a patient with a melanoma and three naevi, lies in the stratum of
    the one that the fewest clusters show (of equals the first). Of two classes no draw within strata then
    loses either. Of more, one can be lost only where each of its clusters shows a rarer class too.

    Args:
        clusters: (n,) integers, rows with equal values belong together.
        shown: (n, K) bool, the classes that each row shows; a row may show several, or none.

    Returns:
        (n,) class codes, equal within a cluster; K for clusters that show none.

    Raises:
        ValueError: shapes that do not match.
    """
    codes, shows = np.asarray(clusters), np.asarray(shown, dtype=bool)
    if codes.ndim != 1 or shows.ndim != 2 or len(shows) != len(codes):
        raise ValueError(f"clusters must be (n,) and shown (n, K), not {codes.shape} and {shows.shape}")
    names, cluster = np.unique(codes, return_inverse=True)
    of_cluster = np.zeros((len(names), shows.shape[1] + 1), dtype=bool)
    np.logical_or.at(of_cluster[:, :-1], cluster, shows)
    of_cluster[:, -1] = True
    often = of_cluster.sum(axis=0)
    often[-1] = len(names) + 1  # "none" comes after every class
    rarest = np.where(of_cluster, often, len(names) + 2).argmin(axis=1)
    return np.asarray(rarest[cluster], dtype=np.int64)


def cluster_bootstrap(
    clusters: ArrayLike,
    draws: int,
    seed: int,
    chunk: int | None = None,
    *,
    strata: ArrayLike | None = None,
) -> Iterator[Weights]:
    """Draw clusters with replacement, as many as there are, and yield how often each row counts.

    The weights depend on `clusters`, `strata`, `draws` and `seed` alone: the chunks, put end to end, are the
    same for every chunk size, and fewer draws are the beginning of more. With one row per cluster this is the
    ordinary bootstrap.

    Args:
        clusters: (n,) integers, rows with equal values move together; n >= 1.
        draws: number of draws, >= 1.
        seed: of `numpy.random.default_rng`, >= 0.
        chunk: draws per piece; None for pieces of at most about 16 MB.
        strata: (n,) integers, equal within a cluster: from each stratum as many clusters are drawn as it has.

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
        chunk = piece_size(len(codes))
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, not {chunk}")
    names, cluster = np.unique(codes, return_inverse=True)
    stratum = None if strata is None else stratum_of_clusters(cluster, strata)
    return _weights(len(names), cluster, stratum, draws, np.random.default_rng(seed), chunk)


def stratum_of_clusters(cluster: NDArray[np.int64], strata: ArrayLike) -> NDArray[Any]:
    """Return the stratum of each of m clusters.

    Args:
        cluster: (n,) of each row, 0..m-1.
        strata: (n,) integers.

    Raises:
        ValueError: another shape, or a cluster in two strata.
    """
    given = np.asarray(strata)
    if given.shape != cluster.shape or not np.issubdtype(given.dtype, np.integer):
        raise ValueError(f"strata must be ({len(cluster)},) integers, not {given.dtype} {given.shape}")
    of = np.zeros(int(cluster.max()) + 1, dtype=given.dtype)
    of[cluster] = given
    if (of[cluster] != given).any():
        raise ValueError("every cluster must lie in one stratum")
    return of


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
    statistic: Statistic,
    clusters: ArrayLike,
    draws: int,
    seed: int,
    chunk: int | None = None,
    *,
    strata: ArrayLike | None = None,
    threads: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> dict[str, NDArray[Any]]:
    """Compute a statistic on every draw of `cluster_bootstrap`, holding few chunks of weights at a time.

    Args:
        statistic: from (b, n) weights to names and (b, ...) values, each draw on its own. Several threads
            call it at the same time.
        clusters: (n,) integers, rows with equal values move together.
        draws: number of draws, >= 1.
        seed: the same seed and clusters give the same draws, so that two statistics can be compared in pairs.
        chunk: draws at a time, as in `cluster_bootstrap`.
        strata: as in `cluster_bootstrap`.
        threads: at most so many chunks at a time; None for as many as there are processors, up to 8. The
            numbers do not depend on it.
        advance: told how many draws are done.

    Returns:
        Name to (draws, ...) values.

    Raises:
        ValueError: arguments out of range, or a statistic that does not return one value per draw.
    """
    pieces = cluster_bootstrap(clusters, draws, seed, chunk, strata=strata)
    return over_weights(statistic, pieces, threads=threads, advance=advance)


def over_weights(
    statistic: Statistic,
    pieces: Iterable[Weights],
    *,
    threads: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> dict[str, NDArray[Any]]:
    """Compute a statistic on pieces of weights, and put the values end to end.

    Args:
        statistic: from (b, n) weights to names and (b, ...) values.
        pieces: of (b, n) weights each.
        threads: as of `bootstrap`.
        advance: likewise.

    Raises:
        ValueError: a statistic that does not return one value per row of weights.
    """

    def checked(weights: Weights) -> Mapping[str, NDArray[Any]]:
        values = statistic(weights)
        for name, one in values.items():
            if one.shape[:1] != weights.shape[:1]:
                raise ValueError(f"{name} must be ({len(weights)}, ...), one per draw, not {one.shape}")
        return values

    found: dict[str, list[NDArray[Any]]] = {}

    def keep(values: Mapping[str, NDArray[Any]]) -> None:
        for name, one in values.items():
            found.setdefault(name, []).append(one)
        if advance is not None and values:
            advance(len(next(iter(values.values()))))

    workers = min(8, _processors()) if threads is None else threads
    with ThreadPoolExecutor(workers) as pool:
        begun: deque[Future[Mapping[str, NDArray[Any]]]] = deque()
        for weights in pieces:
            begun.append(pool.submit(checked, weights))
            if len(begun) > workers:
                keep(begun.popleft().result())
        for one in begun:
            keep(one.result())
    return {name: np.concatenate(values) for name, values in found.items()}


_CHUNK_CELLS = 2**22


def piece_size(rows: int) -> int:
    """Return how many rows of weights make a piece of at most about 16 MB, and no more than 256."""
    return min(256, max(1, _CHUNK_CELLS // max(1, rows)))


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _weights(
    m: int,
    cluster: NDArray[np.int64],
    stratum: NDArray[Any] | None,
    draws: int,
    rng: np.random.Generator,
    chunk: int,
) -> Iterator[Weights]:
    high: Any = m
    if stratum is not None:
        # Clusters in the order of their strata: from where each one's begins, and how many it has.
        order = np.argsort(stratum, kind="stable")
        _, first, size = np.unique(stratum[order], return_index=True, return_counts=True)
        high, offset = np.repeat(size, size), np.repeat(first, size)
    for start in range(0, draws, chunk):
        b = min(chunk, draws - start)
        # int64, not a smaller type: numpy then takes the stream one number at a time, whatever the shape.
        drawn = rng.integers(0, high, size=(b, m), dtype=np.int64)
        if stratum is not None:
            drawn = order[drawn + offset]
        drawn += np.arange(b)[:, None] * m
        times = np.bincount(drawn.ravel(), minlength=b * m).reshape(b, m)
        # Row by row of the images, not draw by draw: one long copy for each, and what statistics read next.
        yield np.take(np.ascontiguousarray(times.T, dtype=np.int32), cluster, axis=0).T


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
