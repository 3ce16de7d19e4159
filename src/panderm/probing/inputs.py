"""What a probe sees of a row: the stored vector, pooled tokens, columns of the table, or several of these."""

from __future__ import annotations

from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from panderm.embeddings import Embeddings

Positions = npt.NDArray[np.intp]


class Inputs(Protocol):
    """From rows of embeddings to the features of a probe; what it learns, it learns from training rows."""

    def fit(self, emb: Embeddings, train: Positions) -> Self:
        """Learn from the training rows, and no others."""
        ...

    def of(self, emb: Embeddings, rows: Positions) -> npt.NDArray[Any]:
        """Return the features of some rows, float32 (n, D), or tokens (n, h, w, D) that may lie in files."""
        ...

    def record(self) -> dict[str, Any]:
        """Return all that is needed to make them again, as JSON; empty for the stored vectors."""
        ...


class Vectors:
    """The stored vectors as they are."""

    def fit(self, emb: Embeddings, train: Positions) -> Self:  # noqa: ARG002
        """Learn nothing."""
        return self

    def of(self, emb: Embeddings, rows: Positions) -> npt.NDArray[Any]:
        """Return vectors, float32 (n, D)."""
        return emb.vectors[rows]

    def record(self) -> dict[str, Any]:
        """Return nothing: a probe takes the stored vectors where nothing else is said."""
        return {}
