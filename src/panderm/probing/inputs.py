"""What a probe sees of a row: the stored vector, pooled tokens, columns of the table, or several of these."""

from __future__ import annotations

from typing import Any, Protocol, Self, cast

import numpy as np
import numpy.typing as npt

from panderm.embeddings import Embeddings, MappedVectors
from panderm.errors import ArtifactError, UsageError

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


class Tokens:
    """The patch tokens as they are, for a probe that pools them itself."""

    def fit(self, emb: Embeddings, train: Positions) -> Self:  # noqa: ARG002
        """Learn nothing."""
        return self

    def of(self, emb: Embeddings, rows: Positions) -> npt.NDArray[Any]:
        """Return tokens, float16 (n, h, w, D); of those in files none is read yet."""
        tokens: Any = require_tokens(emb, "this probe")
        chosen: Any = tokens.select(rows) if isinstance(tokens, MappedVectors) else tokens[rows]
        return cast("npt.NDArray[Any]", chosen)  # indexed as an array is

    def record(self) -> dict[str, Any]:
        """Return that it is tokens."""
        return {"kind": "tokens"}


def require_tokens(emb: Embeddings, asks: str) -> npt.NDArray[np.float16]:
    """Return the patch tokens of embeddings, or raise :class:`UsageError` where there are none."""
    if emb.tokens is None:
        raise UsageError(
            f"{asks} needs patch tokens.",
            f"{emb.path or 'these embeddings'} holds vectors only",
            "make them with: panderm embed --tokens",
        )
    return emb.tokens


def from_record(record: dict[str, Any], *, progress: bool = False) -> Inputs:
    """Return the inputs of a fitted probe, from what its file says of them.

    Args:
        record: ``probe.inputs``.
        progress: show progress on standard error.

    Raises:
        ArtifactError: no kind of inputs that this version knows.
    """
    kind = record.get("kind", "vectors")
    if kind == "vectors":
        return Vectors()
    if kind == "tokens":
        return Tokens()
    if kind == "pooled":
        from panderm.probing.pooled import Pooled

        return Pooled(record["parts"], progress=progress)
    if kind == "columns":
        from panderm.probing.columns import WithColumns

        images = record.get("images")
        return WithColumns.restored(record, None if images is None else from_record(images))
    raise ArtifactError(
        "the inputs of a probe must be known.", f"found {kind!r}", "use the version that fitted the probe"
    )
