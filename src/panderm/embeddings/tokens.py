"""What patch tokens cost before they are made, and that a half-precision number can hold them."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.data.table import Table
from panderm.embeddings.card import TokensRecord
from panderm.errors import ArtifactError, DataError, PandermWarning, in_bytes, plural, some
from panderm.progress import say

HALF = np.dtype(np.float16)
FURTHEST = float(np.finfo(HALF).max)
"""The largest number that float16 holds, 65,504."""

LARGE = 5 * 1000**3
"""Bytes from which the cost is told even where progress is silent."""


@dataclass(frozen=True)
class TokensCost:
    """What the patch tokens of a table take on a disk.

    Attributes:
        images: rows of the table.
        todo: rows that are still to be made.
        grid: rows and columns of patches.
        dim: numbers a patch.
        vector_dim: numbers a vector.
        free: bytes free on the disk they go to; None where they go to none.

    Example:
        >>> cost = TokensCost(8783, 8783, (16, 16), 384, vector_dim=384)
        >>> print(cost.sentence())
        patch tokens: 16 × 16 × 384 float16 an image, 196.6 kB; 1.7 GB for 8,783 images, 128 × the vectors
    """

    images: int
    todo: int
    grid: tuple[int, int]
    dim: int
    vector_dim: int
    free: int | None = None

    @property
    def image_bytes(self) -> int:
        """Bytes of one image's tokens."""
        return self.grid[0] * self.grid[1] * self.dim * HALF.itemsize

    @property
    def bytes(self) -> int:
        """Bytes of all images' tokens, as they stay on the disk."""
        return self.images * self.image_bytes

    @property
    def vector_bytes(self) -> int:
        """Bytes of the vectors alone, float32."""
        return self.images * self.vector_dim * 4

    @property
    def needed(self) -> int:
        """Bytes that must be free: what is still to be made, and all of it again in finished parts."""
        each = self.image_bytes + self.vector_dim * 4
        return (self.todo + self.images) * each

    def sentence(self) -> str:
        """Say it in one line."""
        shape = " × ".join(str(n) for n in (*self.grid, self.dim))
        told = (
            f"patch tokens: {shape} float16 an image, {in_bytes(self.image_bytes)}; "
            f"{in_bytes(self.bytes)} for {plural(self.images, 'image')}, "
            f"{self.bytes / max(1, self.vector_bytes):.0f} × the vectors"
        )
        if self.free is not None:
            told += f"; until the run is finished up to {in_bytes(self.needed)} of {in_bytes(self.free)} free"
        return told

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "grid": list(self.grid),
            "dim": self.dim,
            "bytes_per_image": self.image_bytes,
            "bytes": self.bytes,
            "vector_bytes": self.vector_bytes,
        }


def tokens_cost(
    tokens: TokensRecord, *, images: int, todo: int, vector_dim: int, folder: Path | None
) -> TokensCost:
    """Return what tokens cost, and what is free on the disk of a folder that need not exist yet."""
    free = None
    if folder is not None:
        there = folder.absolute()
        while not there.exists():
            there = there.parent
        free = shutil.disk_usage(there).free
    return TokensCost(images, todo, tokens.grid, tokens.dim, vector_dim, free)


def tell_cost(cost: TokensCost, folder: Path | None, *, shown: bool = True) -> None:
    """Say what tokens cost on standard error, before any is made; a large cost even where not ``shown``.

    Raises:
        ArtifactError: the disk has no room for them.
    """
    if not cost.todo:
        return
    if cost.free is not None and cost.needed > cost.free:
        raise ArtifactError(
            "the disk must have room for the patch tokens.",
            f"{folder}: {in_bytes(cost.needed)} are needed for {plural(cost.images, 'image')} "
            f"({in_bytes(cost.image_bytes)} an image, once while they are made and once finished), "
            f"{in_bytes(cost.free)} are free",
            "free some space, choose an --out on another disk, fewer images or a smaller --image-size, "
            "or leave out --tokens",
        )
    if cost.bytes >= LARGE:
        warnings.warn(cost.sentence(), PandermWarning, stacklevel=3)
    elif shown:
        say(cost.sentence())


def require_half(rows: Table, tokens: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
    """Return tokens (n, h, w, D) of n rows as they came, or name the images that float16 cannot hold.

    Raises:
        DataError: NaN, or numbers beyond ±65,504, which float16 turns to infinity.
    """
    bad = ~np.isfinite(tokens).reshape(len(tokens), -1).all(axis=1)
    if bad.any():
        lost = tokens[bad]
        beyond = bool(np.isinf(lost).any())
        raise DataError(
            "patch tokens must be numbers that float16 can hold.",
            f"{some(rows.image[bad].tolist())}: "
            + (f"numbers beyond ±{FURTHEST:,.0f}" if beyond else "NaN came out"),
            "leave out --tokens: the vectors are kept in float32, and encoder.tokens(pixels) gives float32"
            if beyond
            else "use --precision fp32; if it stays so, the weights are damaged",
        )
    return tokens
