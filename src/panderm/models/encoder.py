"""Network + preprocessing + record: pixels in, vectors out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt
import torch

from panderm.data.loader import batches
from panderm.data.preprocess import Preprocess
from panderm.data.table import Table
from panderm.embeddings import (
    Embeddings,
    EmbeddingsCard,
    EmbeddingsWriter,
    EncoderRecord,
    Precision,
    open_embeddings,
)
from panderm.errors import DataError, PandermWarning, UsageError, some
from panderm.models.precision import CHECKED, FEWEST, LEAST, autocast, likeness
from panderm.models.views import Views
from panderm.progress import Progress
from panderm.provenance import Provenance
from panderm.weights.account import Account

_Pixels = TypeVar("_Pixels", torch.Tensor, npt.NDArray[np.float32])
# Rows per shard: at most this much work is lost when a run is killed.
_SHARD_ROWS = 512
_SHARD_SECONDS = 60.0


def pick_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` takes a GPU where there is one.

    Raises:
        UsageError: no such device on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"device {name!r} must exist on this machine.",
            str(error).splitlines()[0],
            "--device auto picks one",
        ) from None
    return device


class Encoder:
    """An image encoder with its weights loaded: made by :func:`panderm.load_encoder`.

    Attributes:
        preprocess: what its pixels must look like.
        record: name, weights, hashes, licence: what embeddings remember of it.
        account: what became of every tensor of the weights file.
        device: where it runs.
        drift: mean centred cosine of the reduced precision to fp32 on the first images; None where not
            measured.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        preprocess: Preprocess,
        record: EncoderRecord,
        account: Account,
        device: torch.device,
        *,
        compile: bool = False,  # noqa: A002 (torch's word)
        fall_back: bool = False,
    ) -> None:
        self.preprocess = preprocess
        self.record = record
        self.account = account
        self.device = device
        self._network = network.eval().to(device)
        self._run: Callable[[torch.Tensor], torch.Tensor] = (
            torch.compile(self._network) if compile else self._network
        )
        # Fewer bits are compared with fp32 once, on the first images.
        self._settled = record.precision == "fp32"
        self._auto = fall_back
        self.drift: float | None = None

    @property
    def name(self) -> str:
        """The name it was loaded by."""
        return self.record.name

    @property
    def network(self) -> torch.nn.Module:
        """The network itself, weights in float32, on its device: normalised pixels in, vectors out."""
        return self._network

    @property
    def dim(self) -> int:
        """Width D of a vector."""
        return self.record.dim

    def __repr__(self) -> str:
        random = ", weights drawn at random" if self.record.random else ""
        return f"Encoder({self.name}, dim={self.dim}, pool={self.record.pool}, {self.account}{random})"

    @overload
    def encode(self, pixels: torch.Tensor) -> torch.Tensor: ...
    @overload
    def encode(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]: ...
    def encode(
        self, pixels: torch.Tensor | npt.NDArray[np.float32]
    ) -> torch.Tensor | npt.NDArray[np.float32]:
        """Encode normalised pixels.

        Args:
            pixels: float (n, 3, H, W), already preprocessed: RGB, scaled, normalised. A tensor or an array.

        Returns:
            float32 (n, D), on the CPU, of the same kind as was given.

        Raises:
            DataError: another shape or type, or a result that is not finite.

        Example:
            >>> rgb = [panderm.read_image(path) for path in paths]  # doctest: +SKIP
            >>> pixels = torch.stack([encoder.preprocess(image) for image in rgb])  # doctest: +SKIP
            >>> encoder.encode(pixels).shape  # doctest: +SKIP
            torch.Size([2, 1024])
        """
        given = self._checked(pixels)
        if not self._settled and len(given) >= FEWEST:
            self._settle(given[:CHECKED])
        vectors = self._forward(given)
        return vectors if isinstance(pixels, torch.Tensor) else np.asarray(vectors)

    @overload
    def tokens(self, pixels: _Pixels, *, blocks: None = None, norm: bool = True) -> _Pixels: ...
    @overload
    def tokens(self, pixels: _Pixels, *, blocks: Sequence[int], norm: bool = True) -> list[_Pixels]: ...
    def tokens(self, pixels: Any, *, blocks: Sequence[int] | None = None, norm: bool = True) -> Any:
        """Return what the encoder says of each patch.

        Row r and column c of the grid are the patch there, from the top left. Class and register tokens are
        left out. Networks without blocks of one width (Swin, ConvNeXt, ResNet, …) give the feature maps of
        their stages, each of its own grid and width.

        Args:
            pixels: as for :meth:`encode`.
            blocks: numbers of blocks (or stages), from 0, or negative from the end; without it the last.
            norm: after the encoder's final norm, which all blocks share, or as the block left them. A stage
                that is not the last comes as it is: the norm is not of its width.

        Returns:
            float32 (n, h, w, D), on the CPU, of the same kind as was given; with ``blocks`` a list of these,
            one for each number in the order given.

        Raises:
            UsageError: a block that is not there, or an encoder without patch tokens.
            DataError: pixels of another shape or type, or a result that is not finite.

        Example:
            >>> encoder.tokens(pixels).shape  # doctest: +SKIP
            torch.Size([2, 14, 14, 1024])
            >>> pyramid = encoder.tokens(pixels, blocks=[7, 11, 15, 23])  # doctest: +SKIP
        """
        maps = self._views().tokens(self._checked(pixels), (-1,) if blocks is None else blocks, norm=norm)
        alike = [one if isinstance(pixels, torch.Tensor) else one.numpy() for one in maps]
        return alike[0] if blocks is None else alike

    def attention(self, pixels: _Pixels, *, block: int = -1, rollout: bool = False) -> _Pixels:
        """Return how much the class token attends to each patch.

        Args:
            pixels: as for :meth:`encode`.
            block: number of the block, from 0, or negative from the end.
            rollout: follow the attention through all blocks up to this one (Abnar & Zuidema, ACL 2020,
                equation 1): mean over heads, half of each block passing a token on to itself.

        Returns:
            float32, on the CPU, of the same kind as was given. Of one block (n, heads, h, w): probabilities
            over all tokens, so that those of the patches sum to less than 1, by what goes to the class token
            and registers. With ``rollout`` (n, h, w), which sums to 1.

        Raises:
            UsageError: a block that is not there, or an encoder without a class token.
            DataError: pixels of another shape or type, or a result that is not finite.

        Example:
            >>> encoder.attention(pixels).shape  # doctest: +SKIP
            torch.Size([2, 16, 14, 14])
            >>> encoder.attention(pixels, rollout=True).shape  # doctest: +SKIP
            torch.Size([2, 14, 14])
        """
        maps = self._views().attention(self._checked(pixels), block, rollout=rollout)
        return maps if isinstance(pixels, torch.Tensor) else np.asarray(maps)

    def _views(self) -> Views:
        return Views(self._network, name=self.name, device=self.device, autocast=self._autocast)

    def _checked(self, pixels: torch.Tensor | npt.NDArray[np.float32]) -> torch.Tensor:
        given = pixels if isinstance(pixels, torch.Tensor) else np.asarray(pixels)
        side = self.record.image_size
        floats = given.is_floating_point() if isinstance(given, torch.Tensor) else given.dtype.kind == "f"
        if given.ndim != 4 or tuple(given.shape[1:]) != (3, side, side) or not floats:
            raise DataError(
                f"pixels must be normalised floats of shape (n, 3, {side}, {side}).",
                f"found {tuple(given.shape)} of {given.dtype}",
                "encoder.preprocess(image) makes them from an RGB uint8 image",
            )
        if isinstance(given, torch.Tensor):
            return given
        # Copied: an array may be read-only, flipped or of another byte order, which a tensor cannot be.
        return torch.from_numpy(np.array(given, dtype=np.float32, order="C"))

    def _forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if not len(pixels):
            return torch.empty(0, self.dim)
        vectors = self._vectors(pixels, self._precision(), self._run)
        if vectors.shape != (len(pixels), self.dim):
            raise DataError(
                f"{self.name} must give one vector of {self.dim} numbers an image.",
                f"found {tuple(vectors.shape)} from {len(pixels)}",
                "choose --pool mean, or another encoder",
            )
        return vectors.clone()  # out of inference mode, so that a user may train on it

    def _vectors(
        self, pixels: torch.Tensor, precision: Precision, network: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        with torch.inference_mode(), autocast(precision, self.device):
            return network(pixels.to(self.device, torch.float32)).float().cpu()

    def _precision(self) -> Precision:
        return self.record.precision if self._settled or not self._auto else "fp32"

    def _autocast(self) -> AbstractContextManager[object]:
        return autocast(self._precision(), self.device)

    def _settle(self, pixels: torch.Tensor) -> None:
        """Compare the precision asked for with fp32 on the first images; keep fp32 where it drifts."""
        reduced = self._vectors(pixels, self.record.precision, self._run)
        full = self._vectors(pixels, "fp32", self._network)
        if bool((full == full[0]).all()):
            return  # one image many times over: there is nothing to compare yet
        found = likeness(reduced, full)
        self._settled = True
        self.drift = found
        if found < LEAST:
            warnings.warn(
                f"{self.name}: {self.record.precision} changes the vectors (centred cosine to fp32 "
                f"{found:.4f} over {len(pixels)} images, {LEAST} is wanted): going on with fp32",
                PandermWarning,
                stacklevel=3,
            )
            self.record = self.record.model_copy(update={"precision": "fp32"})

    def embed(
        self,
        table: Table,
        out: Path | str | None = None,
        *,
        batch_size: int | None = None,
        workers: int = 2,
        overwrite: bool = False,
        progress: bool = True,
    ) -> Embeddings:
        """Embed every image of a table.

        With ``out`` the vectors are written as they are made; a run that was stopped goes on from there
        when it is called again.

        Args:
            table: from :func:`panderm.read_table`.
            out: folder to write, ``X.emb``; without it nothing is written.
            batch_size: images encoded at once; by default 8 on a CPU, 64 on a GPU.
            workers: threads that decode images.
            overwrite: replace an ``out`` that exists.
            progress: show progress on standard error.

        Raises:
            ArtifactError: ``out`` holds embeddings of another encoder or table, or cannot be written.
            ImageError: an image changed since the table was checked.

        Example:
            >>> emb = encoder.embed(table, "ham.emb")  # doctest: +SKIP
        """
        if batch_size is not None and batch_size < 1:
            raise UsageError("the batch size must be at least 1.", f"found {batch_size}")
        if not self._settled and len(table) >= FEWEST:
            # Of the table's first rows, whatever is done already: the same each time it is resumed.
            first = table.select(slice(0, CHECKED))
            self._settle(next(iter(batches(first, self.preprocess, batch_size=CHECKED, workers=workers))))
        elif not self._settled and self._auto:
            self.record = self.record.model_copy(update={"precision": "fp32"})
        card = EmbeddingsCard(
            provenance=Provenance.now(),
            encoder=self.record,
            table=table.card,
            rows=len(table),
            drift=self.drift,
        )
        writer = None if out is None else EmbeddingsWriter(Path(out), card, overwrite=overwrite)
        if writer is not None and writer.card.complete:
            return open_embeddings(writer.folder)
        done = writer.done if writer is not None else set()
        todo = table.select(np.array([image not in done for image in table.image], dtype=bool))
        size = batch_size or (8 if self.device.type == "cpu" else 64)
        kept: list[npt.NDArray[np.float32]] = []
        saved = 0  # rows of todo that are on the disk
        started = saved_at = time.monotonic()
        with Progress(len(table), f"embedding with {self.name}", "images", shown=progress) as bar:
            bar.advance(len(done))
            position = 0
            for pixels in batches(todo, self.preprocess, batch_size=size, workers=workers):
                rows = todo.select(slice(position, position + len(pixels)))
                kept.append(_require_finite(rows, self.encode(pixels).numpy()))
                position += len(pixels)
                bar.advance(len(pixels))
                due = position - saved >= _SHARD_ROWS or time.monotonic() - saved_at > _SHARD_SECONDS
                if writer is not None and (due or position == len(todo)):
                    writer.write(todo.select(slice(saved, position)), np.concatenate(kept))
                    kept, saved, saved_at = [], position, time.monotonic()
        seconds = time.monotonic() - started
        rate = len(todo) / seconds if len(todo) else None
        if writer is not None:
            writer.finish(seconds=seconds, images_per_second=rate)
            return open_embeddings(writer.folder)
        whole = {"complete": True, "images_per_second": rate, "provenance": Provenance.now(seconds=seconds)}
        return Embeddings(np.concatenate(kept), table, card.model_copy(update=whole))


def _require_finite(rows: Table, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        raise DataError(
            "every embedding must be finite.",
            f"{some(rows.image[bad].tolist())}: NaN or infinite numbers came out",
            "use --precision fp32; if it stays so, the weights are damaged",
        )
    return vectors
