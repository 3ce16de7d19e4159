"""Vectors to a plane: principal components, exact and in bounded memory, and UMAP."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from panderm.errors import DataError, UsageError, plural

Metric = Literal["euclidean", "cosine"]
Vectors = npt.NDArray[np.float32]
Plane = npt.NDArray[np.float64]

BLOCK = 4096  # rows looked at together
# Below this many rows the graph's spectrum, where UMAP begins by default, has too few eigenvectors.
_FEWEST_SPECTRAL = 6


class VectorsLike(Protocol):
    """What vectors must offer: an array, or one mapped from a file and read by slices."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and width."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, chosen: Any, /) -> Any: ...


@dataclass(frozen=True)
class Principal:
    """Principal components of some vectors.

    Attributes:
        mean: float64 (D,), of the vectors.
        axes: float64 (k, D), orthonormal rows, the direction of greatest variance first.
        shares: k shares of the whole variance, each in [0, 1].
    """

    mean: npt.NDArray[np.float64]
    axes: npt.NDArray[np.float64]
    shares: tuple[float, ...]


def blocks(vectors: VectorsLike, metric: Metric = "euclidean") -> Iterator[Vectors]:
    """Yield the vectors as float32 blocks of at most 4,096 rows; for cosine each row scaled to length 1."""
    for start in range(0, len(vectors), BLOCK):
        yield as_measured(vectors[start : start + BLOCK], metric)


def as_measured(vectors: Any, metric: Metric) -> Vectors:
    """Return vectors whose Euclidean order of neighbours is that of the metric: for cosine of length 1."""
    X = np.ascontiguousarray(vectors, dtype=np.float32)
    if metric == "euclidean":
        return X
    length = np.linalg.norm(X, axis=1, keepdims=True)
    scaled: Vectors = np.divide(X, length, out=np.zeros_like(X), where=length > 0)
    return scaled


def require_finite(vectors: VectorsLike) -> None:
    """Raise :class:`DataError` where a vector holds a number that is not finite."""
    bad = sum(int((~np.isfinite(block)).any(axis=1).sum()) for block in blocks(vectors))
    if bad:
        raise DataError(
            "vectors must be finite numbers to be mapped.",
            f"{plural(bad, 'vector')} of {len(vectors):,} hold NaN or infinity",
            "embed these images again, or leave them out",
        )


def principal_components(vectors: VectorsLike, k: int = 2, *, metric: Metric = "euclidean") -> Principal:
    """Return the first k principal components, from the D×D covariance, summed block by block in float64.

    Exact, with no seed; beside the vectors it needs 8·D² bytes a few times. Each axis is turned so that its
    largest coordinate is positive: a component's sign is arbitrary.

    Args:
        vectors: (n, D), n >= 2.
        k: how many; no more than D are returned.
        metric: for cosine the vectors are scaled to length 1 first.
    """
    n, width = vectors.shape
    mean = sum((block.sum(axis=0, dtype=np.float64) for block in blocks(vectors, metric)), np.zeros(width))
    mean /= n
    scatter = np.zeros((width, width))
    for block in blocks(vectors, metric):
        centred = block - mean
        scatter += centred.T @ centred
    values, columns = np.linalg.eigh(scatter)
    axes = columns.T[::-1][:k]
    turned = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    total = float(values.sum())
    shares = tuple(float(max(0.0, v) / total) if total > 0 else 0.0 for v in values[::-1][:k])
    return Principal(mean, axes * np.where(turned < 0, -1, 1)[:, None], shares)


def project(vectors: VectorsLike, found: Principal, *, metric: Metric = "euclidean") -> Plane:
    """Return the vectors' coordinates on principal components, float64 (n, k)."""
    parts = [(block - found.mean) @ found.axes.T for block in blocks(vectors, metric)]
    return np.concatenate(parts)


def require_umap() -> Any:
    """Return umap-learn's ``UMAP``, or raise :class:`UsageError` where it is not installed."""
    try:
        with warnings.catch_warnings():
            # It says at import that TensorFlow is not there; nothing of ours would use it.
            warnings.simplefilter("ignore")
            from umap import UMAP
    except ImportError as error:
        raise UsageError(
            "UMAP needs the library umap-learn.",
            f"it cannot be imported ({error})",
            "pip install 'panderm[map]'; or draw the principal components, which need nothing: --method pca",
        ) from None
    return UMAP


def umap_projection(
    vectors: npt.NDArray[np.floating[Any]],
    *,
    n_neighbors: int = 10,
    min_dist: float = 0.2,
    metric: Metric = "euclidean",
    seed: int = 42,
) -> Plane:
    """Return the UMAP of vectors on a plane (McInnes, Healy and Melville, arXiv:1802.03426; umap-learn).

    One thread: with more, the same seed would not give the same map. From 4,096 rows on, umap-learn finds the
    neighbours approximately. The first call of a process waits for numba's compiler.

    Args:
        vectors: (n, D), n >= 4.
        n_neighbors: between 2 and n - 1.
        min_dist: how close points may lie on the plane, 0 to 1.
        metric: of the vectors.
        seed: of every draw.

    Returns:
        float64 (n, 2).
    """
    UMAP = require_umap()
    X = np.ascontiguousarray(vectors, dtype=np.float32)
    model = UMAP(
        n_neighbors=n_neighbors,
        min_dist=min_dist,
        metric=metric,
        init="spectral" if len(X) >= _FEWEST_SPECTRAL else "random",
        random_state=seed,
        n_jobs=1,
    )
    with warnings.catch_warnings():
        # Of a graph in several parts, which many equal vectors make: it then begins elsewhere by itself.
        warnings.simplefilter("ignore")
        return np.asarray(model.fit_transform(X), dtype=np.float64)


def reduced(vectors: VectorsLike, k: int, *, metric: Metric) -> tuple[Vectors, float]:
    """Return the first k principal coordinates, float32 (n, k), and the share of the variance they hold."""
    found = principal_components(vectors, k, metric=metric)
    return project(vectors, found, metric=metric).astype(np.float32), sum(found.shares)


def drawing_order(n: int) -> npt.NDArray[np.int64]:
    """Return rows in an order of no meaning, always the same: else the last class would hide the others."""
    return np.random.default_rng(0).permutation(n)


def spread(values: Sequence[float] | npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return where a scale of colours begins and ends: 2nd and 98th percentile, or all where they meet."""
    at = np.asarray(values, dtype=np.float64)
    low, high = np.percentile(at, [2, 98])
    return (float(low), float(high)) if high > low else (float(at.min()), float(at.max()))
