"""The frozen encoder that says what each token of a student should become."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from panderm.errors import DataError, UsageError
from panderm.models.encoder import Encoder
from panderm.models.load import load_encoder
from panderm.models.precision import PrecisionChoice
from panderm.weights.account import Account
from panderm.weights.checkpoint import read_state

Tokens = Literal["projected", "raw"]
# Where files keep the matrix that takes a class token to the space shared with text, and whether it is stored
# as (D, out) or as (out, D).
_PROJECTIONS = (
    ("visual.proj", False),
    ("proj", False),
    ("visual.head.proj.weight", True),
    ("visual_projection.weight", True),
)


class Teacher:
    """A frozen encoder with one token a patch, at the input size that gives the student's grid.

    The first target of an image is the teacher's own vector of it (the class token after the final norm in
    CLIP's towers and in DINOv2 and v3; what the teacher pools where it has no class token); the others are
    its patch tokens after the final norm, row by row. Register tokens are left out. Of CLIP's towers all
    tokens go through the projection into the space shared with text, as in CAE v2 (Zhang X. et al., TMLR
    2023), unless ``raw`` is asked for.

    Attributes:
        dim: width D of a target.
        image_size: side T in pixels of the images it looks at.
        grid: rows and columns of its patches.
        tokens: ``projected`` or ``raw``.
        record: what a run remembers of it, ready for JSON.
    """

    def __init__(self, encoder: Encoder, grid: tuple[int, int], projection: torch.Tensor | None) -> None:
        self._encoder = encoder
        self._projection = None if projection is None else projection.to(encoder.device)
        self.grid = grid
        self.image_size = encoder.record.image_size
        self.tokens: Tokens = "raw" if projection is None else "projected"
        self.dim = encoder.dim if projection is None else int(projection.shape[1])
        self.record: dict[str, Any] = {
            "name": encoder.record.name,
            "architecture": encoder.record.architecture,
            "weights_sha256": encoder.record.weights_sha256,
            "image_size": self.image_size,
            "grid": list(grid),
            "tokens": self.tokens,
            "dim": self.dim,
            "mean": list(encoder.preprocess.mean),
            "std": list(encoder.preprocess.std),
            "precision": encoder.record.precision,
        }

    @classmethod
    def load(
        cls,
        name: str | None,
        *,
        weights: Path | str | None = None,
        card: Path | str | None = None,
        grid: tuple[int, int] = (14, 14),
        tokens: Tokens | None = None,
        device: str = "auto",
        precision: PrecisionChoice = "fp32",
    ) -> Teacher:
        """Load a teacher by any name that :func:`panderm.load_encoder` knows.

        Args:
            name: ``timm:NAME``, ``open_clip:ARCH[/TAG]``, ``transformers:ID``, ``hf-hub:ORG/NAME``, a PanDerm
                encoder, or a file that says what it is.
            weights: its file; by default what was downloaded.
            card: a JSON card of one's own.
            grid: the student's rows and columns of patches.
            tokens: ``projected`` (CLIP's towers only) or ``raw``; by default projected where the file has a
                projection.
            device: where it runs.
            precision: as for an encoder; fewer bits are compared with fp32 on the first images.

        Raises:
            UsageError: no encoder of that name, without patch tokens, or without an input size that gives the
                grid; projected tokens of a teacher that has no projection.
            WeightsError: a file that is not whole or not of this encoder.

        Example:
            >>> teacher = Teacher.load(
            ...     "timm:vit_small_patch14_dinov2", weights="dinov2.safetensors"
            ... )  # doctest: +SKIP
            >>> teacher.image_size, teacher.dim  # doctest: +SKIP
            (196, 384)
        """
        if tokens not in (None, "projected", "raw"):
            raise UsageError("--teacher-tokens must be projected or raw.", f"found {tokens!r}")
        if grid[0] != grid[1] or grid[0] < 1:
            raise UsageError("the grid of patches must be square.", f"found {grid[0]}×{grid[1]}")
        options: dict[str, Any] = {"weights": weights, "card": card, "device": device, "precision": precision}
        encoder = _at_grid(load_encoder(name, **options), name, grid, options)
        projection = None if tokens == "raw" else _projection(encoder)
        if tokens == "projected" and projection is None:
            raise UsageError(
                f"projected tokens need a teacher with a projection into the space shared with text; "
                f"{encoder.name} has none.",
                hint="--teacher-tokens raw, or leave it out",
            )
        return cls(encoder, grid, projection)

    @property
    def mean(self) -> tuple[float, float, float]:
        """Of R, G, B on [0, 1]: what the teacher itself subtracts."""
        return self._encoder.preprocess.mean

    def targets(self, rgb: npt.NDArray[np.uint8] | torch.Tensor) -> torch.Tensor:
        """Return what the student's tokens should become.

        Args:
            rgb: uint8 (n, T, T, 3), RGB, T = ``image_size``.

        Returns:
            float32 (n, 1 + N, D) on the teacher's device, not normalised: the image's vector, then the patch
            tokens row by row. No gradient.

        Raises:
            DataError: another shape or type, or targets that are not finite.
        """
        given = torch.from_numpy(np.ascontiguousarray(rgb)) if isinstance(rgb, np.ndarray) else rgb
        n, (rows, columns) = len(given), self.grid
        made = torch.empty(n, 1 + rows * columns, self.dim, device=self._encoder.device)
        if n and (wanted := self._encoder.first_images):
            self._encoder.settle(given[:wanted].cpu())
            self.record["precision"] = self._encoder.record.precision
        size = self._encoder.batch_size
        with torch.no_grad():
            for at in range(0, n, size):
                vectors, patches = self._encoder.forward_rgb(given[at : at + size], tokens=True)
                whole = torch.cat([vectors[:, None], patches.flatten(1, 2).float()], dim=1)
                made[at : at + size] = whole if self._projection is None else whole @ self._projection
        if not bool(torch.isfinite(made).all()):
            raise DataError(
                "the teacher's tokens must be finite.",
                f"{self._encoder.name}: NaN or infinite numbers came out",
                "use --teacher-precision fp32; if it stays so, its weights are damaged",
            )
        return made


def _at_grid(encoder: Encoder, name: str | None, grid: tuple[int, int], options: dict[str, Any]) -> Encoder:
    """Load the teacher again at the input size that gives the grid, where its own does not."""
    found = encoder.token_shape()
    if found.dim != encoder.dim:
        raise UsageError(
            "a teacher's patch tokens must be as wide as its vector.",
            f"{encoder.name}: tokens of {found.dim}, a vector of {encoder.dim}",
            "choose another teacher",
        )
    if tuple(found.grid) == grid:
        return encoder
    patch = encoder.record.image_size // found.grid[0]
    size = patch * grid[0]
    hint = f"it has one token for {patch} pixels: {size} pixels would give {grid[0]}×{grid[1]}"
    must = f"a teacher must give {grid[0]}×{grid[1]} patch tokens, one for each of the student's."
    was = f"{encoder.name}: {found.grid[0]}×{found.grid[1]} at {encoder.record.image_size} pixels"
    try:
        encoder = load_encoder(name, image_size=size, **options)
    except UsageError as error:
        raise UsageError(must, [was, str(error).splitlines()[0]], f"{hint}; choose another teacher") from None
    again = encoder.token_shape()
    if tuple(again.grid) != grid:
        raise UsageError(must, [was, f"{again.grid[0]}×{again.grid[1]} at {size}"], "choose another teacher")
    return encoder


def _projection(encoder: Encoder) -> torch.Tensor | None:
    """Read a CLIP tower's projection, float32 (D, out), which encoders leave out; None without one."""
    if encoder.record.weights is None:
        return None
    path = Path(encoder.record.weights)
    outline = read_state(path, Account(), data=False)
    for key, turned in _PROJECTIONS:
        shape = tuple(outline[key].shape) if key in outline else ()
        if len(shape) == 2 and shape[1 if turned else 0] == encoder.dim:
            matrix = read_state(path, Account())[key].float()
            return matrix.T.contiguous() if turned else matrix
    return None
