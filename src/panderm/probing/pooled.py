"""One vector an image: its class token, the mean of its patch tokens, or both side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from panderm.embeddings import Embeddings, MappedVectors
from panderm.errors import UsageError
from panderm.probing.inputs import Inputs, Positions, Tokens, Vectors, require_tokens
from panderm.progress import Progress
from panderm.training.settings import ProbeKind

Pooling = Literal["stored", "cls", "mean", "both", "choose"]
Part = Literal["stored", "mean"]
_BLOCK = 64  # images whose tokens are in memory at once


class Pooled:
    """Parts side by side: the stored vector, the mean of the patch tokens.

    Args:
        parts: ``stored``, ``mean``, or both.
        progress: show progress on standard error.
        made: means by embeddings and rows that were made before, shared by several inputs of one question.
    """

    def __init__(
        self, parts: Sequence[Part], *, progress: bool = False, made: list[_Made] | None = None
    ) -> None:
        self.parts = tuple(parts)
        self.progress = progress
        self._made = made

    def fit(self, emb: Embeddings, train: Positions) -> Self:  # noqa: ARG002
        """Learn nothing."""
        return self

    def of(self, emb: Embeddings, rows: Positions) -> npt.NDArray[Any]:
        """Return float32 (n, D) or (n, 2·D)."""
        held = {"stored": lambda: emb.vectors[rows], "mean": lambda: self._mean(emb, rows)}
        return np.hstack([np.asarray(held[part](), dtype=np.float32) for part in self.parts])

    def record(self) -> dict[str, Any]:
        """Return the parts."""
        return {"kind": "pooled", "parts": list(self.parts)}

    def _mean(self, emb: Embeddings, rows: Positions) -> npt.NDArray[np.float32]:
        for other, same, means in self._made or []:
            if other is emb and np.array_equal(same, rows):
                return means
        means = patch_mean(emb, rows, progress=self.progress)
        if self._made is not None:
            self._made.append((emb, rows, means))
        return means


_Made = tuple[Embeddings, Positions, npt.NDArray[np.float32]]


def patch_mean(emb: Embeddings, rows: Positions, *, progress: bool = False) -> npt.NDArray[np.float32]:
    """Return the mean of the patch tokens of some rows, float32 (n, D), a few images in memory at a time.

    Raises:
        UsageError: embeddings without tokens.
    """
    tokens: Any = require_tokens(emb, "the mean of patch tokens")
    means = np.empty((len(rows), tokens.shape[-1]), dtype=np.float32)
    with Progress(len(rows), "pooling patch tokens", "images", shown=progress) as bar:
        for start in range(0, len(rows), _BLOCK):
            some = rows[start : start + _BLOCK]
            block = np.asarray(tokens.select(some) if isinstance(tokens, MappedVectors) else tokens[some])
            flat = block.reshape(len(some), -1, block.shape[-1])
            flat.mean(axis=1, dtype=np.float32, out=means[start : start + _BLOCK])
            bar.advance(len(some))
    return means


def pooling_inputs(
    emb: Embeddings, pooling: Pooling, *, progress: bool = False
) -> Inputs | dict[str, Inputs]:
    """Return what ``--pooling`` means for some embeddings: inputs, or several by name to choose among.

    Raises:
        UsageError: embeddings that do not hold what it needs.
    """
    if pooling not in get_args(Pooling):
        raise UsageError(f"pooling must be one of {', '.join(get_args(Pooling))}, not {pooling!r}.")
    own = emb.card.encoder.pool
    if pooling == "stored" or pooling == own:
        return Vectors()
    made: list[_Made] = []
    mean = Pooled(["mean"], progress=progress, made=made)
    if pooling == "mean":
        require_tokens(emb, "--pooling mean")
        return mean
    if own != "cls":
        raise UsageError(
            f"--pooling {pooling} needs vectors that are class tokens.",
            f"{emb.path or 'these embeddings'} holds vectors of pool {own}",
            "embed again with: --pool cls --tokens",
        )
    require_tokens(emb, f"--pooling {pooling}")
    both = Pooled(["stored", "mean"], progress=progress, made=made)
    return both if pooling == "both" else {"cls": Vectors(), "mean": mean, "both": both}


def inputs_for(
    emb: Embeddings, kind: ProbeKind, pooling: Pooling, *, progress: bool = False
) -> Inputs | dict[str, Inputs]:
    """Return what a kind of probe sees of a row: tokens as they are where it pools them itself.

    Raises:
        UsageError: embeddings that do not hold what it needs, or ``pooling`` of a kind that pools itself.
    """
    if kind != "attentive":
        return pooling_inputs(emb, pooling, progress=progress)
    if pooling != "stored":
        raise UsageError(
            "--kind attentive pools patch tokens itself.", f"found --pooling {pooling}", "leave --pooling out"
        )
    require_tokens(emb, "--kind attentive")
    return Tokens()
