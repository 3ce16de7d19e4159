"""A finished segmenter: pixels in, the probability of the lesion at each out."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from panderm.embeddings import Precision
from panderm.errors import DataError, PandermWarning, UsageError, WeightsError
from panderm.models import fingerprint
from panderm.models.device import pick_device
from panderm.models.precision import PrecisionChoice, autocast, choose
from panderm.segmenting.built import built
from panderm.segmenting.file import (
    NAME,
    SegmenterRecord,
    measured_answer,
    read_segmenter_decoder,
    read_segmenter_record,
)
from panderm.segmenting.network import SegmenterNetwork
from panderm.segmenting.published import is_published, open_published
from panderm.weights.account import Account

_Pixels = TypeVar("_Pixels", torch.Tensor, npt.NDArray[np.uint8])
# Mean difference of the first images' probabilities to fp32 from which on fewer bits are not used.
_DRIFT = 0.005
_FIRST = 4  # images that are compared


@dataclass(eq=False)
class Segmenter:
    """An encoder and its decoder: made by :func:`load_segmenter`.

    Attributes:
        network: float32, in evaluation, on its device.
        record: input, classes, threshold, and how it was trained.
        name: encoder and decoder in words.
        path: of its file.
        device: where it runs.
        precision: at which it computes.
        account: what became of every tensor of a published checkpoint; None of panderm's own file, which is
            read by name.

    Example:
        >>> segmenter = panderm.load_segmenter("run/")  # doctest: +SKIP
        >>> pixels = segmenter.pixels_of(panderm.read_image("lesion.jpg"))  # doctest: +SKIP
        >>> segmenter.probabilities(pixels[None]).shape  # doctest: +SKIP
        (1, 224, 224)
    """

    network: SegmenterNetwork
    record: SegmenterRecord
    name: str
    path: Path
    device: torch.device
    precision: Precision = "fp32"
    account: Account | None = None
    _settled: bool = field(default=True, repr=False)

    @property
    def size(self) -> int:
        """S: side in pixels of the square that it sees."""
        return self.record.size

    @property
    def classes(self) -> tuple[str, ...]:
        """K names; the last is what a mask is of."""
        return self.record.classes

    @property
    def threshold(self) -> float:
        """Probability from which on a pixel is of the mask."""
        return self.record.threshold

    def pixels_of(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Resize a whole image, uint8 RGB (H, W, 3), to the square, uint8 (S, S, 3); nothing is cut off."""
        return self.record.input.pixels(rgb)

    def logits(self, rgb: torch.Tensor | npt.NDArray[np.uint8]) -> torch.Tensor:
        """Return float32 logits (B, K, S, S), on the device.

        Args:
            rgb: uint8 (B, S, S, 3), as :meth:`pixels_of` makes them.

        Raises:
            DataError: another shape or type, or a result that is not finite.
        """
        given = rgb if isinstance(rgb, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(rgb))
        if (
            given.ndim != 4
            or tuple(given.shape[1:]) != (self.size, self.size, 3)
            or given.dtype != torch.uint8
        ):
            raise DataError(
                f"images must be uint8 of shape (n, {self.size}, {self.size}, 3).",
                f"found {tuple(given.shape)} of {given.dtype}",
                "segmenter.pixels_of(image) makes one of an RGB image of any size",
            )
        if not len(given):
            return torch.empty(0, len(self.classes), self.size, self.size, device=self.device)
        if not self._settled:
            self._settle(given[:_FIRST])
        logits = self._run(given, self.precision)
        if not bool(torch.isfinite(logits).all()):
            raise DataError(
                "every number of a mask must be finite.",
                f"{self.name}: NaN or infinite numbers came out",
                "use --precision fp32; if it stays so, the weights or the pixels are damaged",
            )
        return logits

    def probabilities(self, rgb: _Pixels) -> _Pixels:
        """Return the probability of the last class at each pixel, float32 (B, S, S), on the CPU.

        Args:
            rgb: uint8 (B, S, S, 3), as :meth:`pixels_of` makes them: a tensor, or an array, which gives one.

        Raises:
            DataError: another shape or type, or a result that is not finite.
        """
        made = self.logits(rgb).softmax(dim=1)[:, -1].cpu()
        return made if isinstance(rgb, torch.Tensor) else made.numpy()

    def _run(self, given: torch.Tensor, precision: Precision) -> torch.Tensor:
        with torch.no_grad(), autocast(precision, self.device):
            logits: torch.Tensor = self.network(self.record.input.normalise(given.to(self.device)))
        return logits

    def _settle(self, given: torch.Tensor) -> None:
        """Compare fewer bits with float32 once, on the first images, and keep what agrees."""
        self._settled = True
        few, full = (self._run(given, p).softmax(dim=1)[:, -1] for p in (self.precision, "fp32"))
        drift = float((few - full).abs().mean())
        if not drift <= _DRIFT:
            warnings.warn(
                PandermWarning(
                    f"{self.precision} moves the probabilities of the first images by {drift:.3f} on "
                    "average: fp32 is used."
                ),
                stacklevel=4,
            )
            self.precision = "fp32"


def segmenter_file(path: Path | str) -> Path:
    """Return the file of a segmenter: as it is, or ``segmenter.safetensors`` of a run's folder.

    Raises:
        WeightsError: no such file.
    """
    path = Path(path).expanduser()
    file = path / NAME if path.is_dir() else path
    if not file.is_file():
        raise WeightsError(
            "a segmenter's file must exist.",
            f"found no file {file}",
            "name the folder that panderm segment train wrote, or the file itself",
        )
    return file


def load_segmenter(
    path: Path | str, *, device: str = "auto", precision: PrecisionChoice = "fp32"
) -> Segmenter:
    """Open a segmenter; every tensor is accounted for, and its network answers a self-test.

    Args:
        path: ``segmenter.safetensors``, the folder of a run that holds it, or a checkpoint of the published
            segmentation code (451 tensors): nothing in it is run.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps`` …
        precision: ``fp32``; ``bf16`` and ``fp16`` are faster where the hardware has them; ``auto`` takes what
            the hardware has, and fp32 where that moves the first images' probabilities.

    Raises:
        WeightsError: no segmenter's file, not whole, changed since it was written, or one that answers
            otherwise than it did.
        UsageError: a precision, device or library that is not there.

    Example:
        >>> segmenter = panderm.load_segmenter("run/")  # doctest: +SKIP
        >>> segmenter.classes  # doctest: +SKIP
        ('skin', 'lesion')
    """
    if precision == "int8":
        raise UsageError("a segmenter runs in fp32, bf16 or fp16.", "found int8", "--precision bf16")
    file = segmenter_file(path)
    where = pick_device(device)
    tried = choose(precision, where)
    settled = precision != "auto" or tried == "fp32"
    if is_published(file):
        network, record, account = open_published(file)
        assert record.began is not None
        name = f"{record.began.name} + published UPerNet"
        return Segmenter(network.to(where), record, name, file, where, tried, account, settled)
    record = read_segmenter_record(file)
    beside = read_segmenter_decoder(file, record)  # first: a damaged one is seen before the encoder is read
    network, _ = built(file, record, beside, device=str(where))
    name = (
        f"U-Net on {record.backbone}" if record.began is None else f"{record.began.name} + {record.decoder}"
    )
    if record.fingerprint is not None:
        found = measured_answer(network, record)
        fingerprint.require_same(found, record.fingerprint, name=name, whose="its file says")
    return Segmenter(network, record, name, file, where, tried, None, settled)
