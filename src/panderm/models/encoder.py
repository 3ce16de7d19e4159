"""Network + preprocessing + record: pixels in, vectors out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import numpy as np
import numpy.typing as npt
import torch

from panderm.data.preprocess import Preprocess
from panderm.data.table import Table
from panderm.embeddings import Embeddings, EncoderRecord, Precision, TokensRecord
from panderm.embeddings.making.loop import extract
from panderm.errors import DataError, PandermWarning, UsageError
from panderm.models.device import pick_device as pick_device
from panderm.models.inference import TorchEngine
from panderm.models.openvino_engine import OpenVINOEngine
from panderm.models.precision import CHECKED, FEWEST, LEAST, LEAST_INT8, SAME, autocast, likeness
from panderm.models.quantised import CALIBRATION, require_enough
from panderm.models.views import Views
from panderm.weights.account import Account

_Pixels = TypeVar("_Pixels", torch.Tensor, npt.NDArray[np.float32])


# What runs, from which width D on, and how many images at once: the first line that fits. On two CPU cores
# larger batches gained nothing; OpenVINO shares them out among its streams.
BATCHES = (("openvino", 0, 32), ("cpu", 1024, 4), ("cpu", 0, 8), ("", 0, 64))


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
        engine: OpenVINOEngine | None = None,
    ) -> None:
        self.preprocess = preprocess
        self.record = record
        self.account = account
        self.device = device
        self._network = network.eval().to(device)
        self._torch = TorchEngine(self._network, preprocess, device, compile=compile)
        self._openvino = engine
        # Another engine, or fewer bits, are compared with PyTorch's float32 once, on the first images.
        self._settled = record.precision == "fp32" and engine is None
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
        self._settle(given)
        vectors = self._vectors(given).cpu()
        return vectors if isinstance(pixels, torch.Tensor) else np.asarray(vectors)

    @overload
    def forward_rgb(self, rgb: torch.Tensor, *, tokens: Literal[False] = False) -> torch.Tensor: ...
    @overload
    def forward_rgb(
        self, rgb: torch.Tensor, *, tokens: Literal[True]
    ) -> tuple[torch.Tensor, torch.Tensor]: ...
    def forward_rgb(
        self, rgb: torch.Tensor, *, tokens: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Encode images that are resized and cropped, but neither scaled nor normalised.

        This is what embedding runs: the images go to the device and are normalised there, nothing waits for
        the device, and no precision is checked: :meth:`settle` does that once, before.

        Args:
            rgb: uint8 (n, S, S, 3), RGB order, on the CPU; pinned memory is copied beside other work.
            tokens: patch tokens too, of the last block after the final norm, from the same pass where the
                network allows it.

        Returns:
            float32 (n, D) on the encoder's device; with ``tokens`` also float16 (n, h, w, D).

        Raises:
            UsageError: ``tokens`` of an encoder, or an engine, that has none.
            DataError: another shape or type.

        Example:
            >>> rgb = torch.zeros(2, 224, 224, 3, dtype=torch.uint8)
            >>> encoder.forward_rgb(rgb).shape  # doctest: +SKIP
            torch.Size([2, 1024])
        """
        side = self.record.image_size
        if rgb.ndim != 4 or tuple(rgb.shape[1:]) != (side, side, 3) or rgb.dtype != torch.uint8:
            raise DataError(
                f"images must be uint8 of shape (n, {side}, {side}, 3).",
                f"found {tuple(rgb.shape)} of {rgb.dtype}",
            )
        if not tokens:
            return self._vectors(rgb)
        if self._openvino is not None:
            raise UsageError(
                "patch tokens need the PyTorch engine.",
                f"found engine {self.record.engine}",
                "leave out --engine, or --tokens",
            )
        both = self._torch.run_with_tokens(rgb, self._precision())
        both = both or self._views().with_vectors(self.preprocess.normalise(rgb.to(self.device)))
        if both is not None:
            return self._as_vectors(both[0], len(rgb)), both[1].to(torch.float16).clone()
        maps = self._views().tokens(self.preprocess.normalise(rgb), (-1,), norm=True)[0]
        return self._vectors(rgb), maps.to(self.device, torch.float16)

    def token_shape(self) -> TokensRecord:
        """Return grid and width of the patch tokens of one image.

        Raises:
            UsageError: an encoder, or an engine, without patch tokens.
        """
        side = self.record.image_size
        blank = torch.zeros(1, side, side, 3, dtype=torch.uint8)
        _, rows, columns, dim = self.forward_rgb(blank, tokens=True)[1].shape
        return TokensRecord(grid=(rows, columns), dim=dim)

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

    def _vectors(self, given: torch.Tensor) -> torch.Tensor:
        if not len(given):
            return torch.empty(0, self.dim, device=self.device)
        return self._as_vectors(self._run(given, self._precision()), len(given))

    def _as_vectors(self, vectors: torch.Tensor, n: int) -> torch.Tensor:
        if vectors.shape != (n, self.dim):
            raise DataError(
                f"{self.name} must give one vector of {self.dim} numbers an image.",
                f"found {tuple(vectors.shape)} from {n}",
                "choose --pool mean, or another encoder",
            )
        return vectors.clone()  # out of inference mode, so that a user may train on it

    def _precision(self) -> Precision:
        return self.record.precision if self._settled or not self._auto else "fp32"

    def _autocast(self) -> AbstractContextManager[object]:
        return autocast(self._precision(), self.device)

    def _run(self, given: torch.Tensor, precision: Precision, *, check: bool = False) -> torch.Tensor:
        if self._openvino is not None:
            return self._openvino.run(given, precision)
        return self._torch.run(given, precision, check=check)

    @property
    def batch_size(self) -> int:
        """How many images are encoded at once where nobody says otherwise; see ``BATCHES``."""
        runs_on = "openvino" if self._openvino is not None else self.device.type
        return next(n for kind, width, n in BATCHES if kind in (runs_on, "") and self.dim >= width)

    @property
    def first_images(self) -> int:
        """How many of a table's images :meth:`settle` wants; 0 where nothing is left to be settled."""
        if self._settled:
            return 0
        return CHECKED + (CALIBRATION if self.record.precision == "int8" else 0)

    def settle(self, rgb: torch.Tensor) -> None:
        """Settle the precision on some of a table's images, before any is embedded.

        Fewer bits than float32 are compared with it once; where the vectors drift, float32 is kept, with a
        warning. A network of 8 bits is calibrated on the first two thirds of what is given, 64 at most, and
        compared on the others; it stays, but a drift is told. Afterwards ``record`` and ``drift`` are final.

        Args:
            rgb: uint8 (n, S, S, 3), :attr:`first_images` of the table's or all it has: its first rows, for 8
                bits rows from all over it.

        Raises:
            UsageError: fewer than 18 images for 8 bits: 12 to calibrate on.
            DataError: another engine does not agree with PyTorch.
        """
        self._settle(rgb)
        if not self._settled and self._auto:
            self.record = self.record.model_copy(update={"precision": "fp32"})
            self._settled = True

    def adopt(self, record: EncoderRecord, drift: float | None) -> None:
        """Take over what was settled before, in an earlier run or by another process: nothing is measured.

        Args:
            record: this encoder's, with the precision that was found to do.
            drift: what was measured then.

        Raises:
            ArtifactError: the 8-bit network of then is not in the cache.
        """
        if self._openvino is not None and record.engine_sha256 is not None:
            self._openvino.adopt(record.engine_sha256)
        settled = {"precision": record.precision, "engine_sha256": record.engine_sha256}
        self.record = self.record.model_copy(update=settled)
        self.drift = drift
        self._settled = True

    def _settle(self, given: torch.Tensor) -> None:
        if self._settled:
            return
        if self._openvino is not None and self.record.precision == "int8":
            given = self._calibrate(self._openvino, given)
        if len(given) >= FEWEST:
            self._compare(given[:CHECKED])

    def _calibrate(self, engine: OpenVINOEngine, given: torch.Tensor) -> torch.Tensor:
        """Quantise on the first images, once; return the others, on which it can be compared."""
        if self.record.engine_sha256 is not None:
            return given
        count = min(CALIBRATION, max(2 * len(given) // 3, len(given) - CHECKED))
        require_enough(count, len(given))
        first = given[:count]
        sha256 = engine.calibrate(self.preprocess.normalise(first) if first.dtype == torch.uint8 else first)
        self.record = self.record.model_copy(update={"engine_sha256": sha256})
        return given[count:]

    def _compare(self, given: torch.Tensor) -> None:
        """Compare the engine and precision asked for with PyTorch's fp32 on the first images."""
        if bool((given == given[0]).all()):
            return  # one image many times over: there is nothing to compare yet
        tried = self.record.precision
        reduced = self._run(given, tried, check=True).cpu()
        full = self._torch.run(given, "fp32", check=True).cpu()
        found = likeness(reduced, full)
        if tried == "fp32" and not found >= SAME:
            raise DataError(
                f"{self.record.engine} must give the vectors that PyTorch gives.",
                f"{self.name}: centred cosine {found:.4f} over {len(given)} images",
                "leave out --engine",
            )
        self._settled = True
        self.drift = found
        least = LEAST_INT8 if tried == "int8" else LEAST
        if found >= least:
            return
        words = f"(centred cosine to fp32 {found:.4f} over {len(given)} images, {least} is wanted)"
        if tried == "int8":
            advice = "check what it does to your scores before you use it, or take --precision bf16"
        else:
            advice = "going on with fp32"
            self.record = self.record.model_copy(update={"precision": "fp32"})
        told = f"{self.name}: {tried} changes the vectors {words}: {advice}"
        warnings.warn(told, PandermWarning, stacklevel=4)

    def embed(
        self,
        table: Table,
        out: Path | str | None = None,
        *,
        batch_size: int | None = None,
        workers: int | None = None,
        exact: bool = False,
        tokens: bool = False,
        skip_bad: bool = False,
        overwrite: bool = False,
        progress: bool = True,
    ) -> Embeddings:
        """Embed every image of a table.

        With ``out`` the vectors are written as they are made; a run that was stopped goes on from there
        when it is called again.

        Args:
            table: from :func:`panderm.read_table`.
            out: folder to write, ``X.emb``; without it nothing is written.
            batch_size: images encoded at once; by default 4 or 8 on a CPU, 64 on a GPU.
            workers: threads or processes that decode images; by default as many as keep the network busy, by
                measurement.
            exact: every pixel as the reference pipeline makes it; by default JPEG files are decoded faster,
                and compared with it on the first images.
            tokens: patch tokens too, float16, beside the vectors.
            skip_bad: leave out images that cannot be decoded, and say so on the card; without it they are
                told once all others are embedded.
            overwrite: replace an ``out`` that exists.
            progress: show progress on standard error.

        Raises:
            ArtifactError: ``out`` holds embeddings of another encoder, or of a table that shares no row with
                this one, or cannot be written.
            TableError: images that cannot be decoded, all of them; the others are embedded and kept.
            ImageError: an image changed since the table was checked.

        Example:
            >>> emb = encoder.embed(table, "ham.emb")  # doctest: +SKIP
        """
        return extract(
            self,
            table,
            out,
            batch_size=batch_size,
            workers=workers,
            exact=exact,
            tokens=tokens,
            skip_bad=skip_bad,
            overwrite=overwrite,
            progress=progress,
        ).embeddings
