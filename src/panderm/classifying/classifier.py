"""A finished classifier: a fine-tuned encoder and its head, opened from their one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from panderm.classifying.file import NAME, ClassifierRecord, read_classifier_head, read_record
from panderm.embeddings import Engine
from panderm.errors import WeightsError
from panderm.fitted import FittedLinear
from panderm.fitted.probe import Floats
from panderm.models.encoder import Encoder
from panderm.models.load import load_encoder
from panderm.models.precision import PrecisionChoice


@dataclass(frozen=True, eq=False)
class Classifier:
    """A fine-tuned encoder and its head.

    Attributes:
        encoder: pixels to vectors; ``encoder.preprocess`` says what pixels must look like.
        head: vectors to probabilities.
        record: classes, calibration, thresholds, and how it was trained.
        path: of its file.

    Example:
        >>> classifier = panderm.load_classifier("run/")  # doctest: +SKIP
        >>> classifier.probabilities(pixels).shape  # doctest: +SKIP
        (2, 7)
    """

    encoder: Encoder
    head: FittedLinear
    record: ClassifierRecord
    path: Path

    @property
    def classes(self) -> tuple[str, ...]:
        """The K classes, in the order of the probabilities."""
        return self.record.classes

    def logits(self, pixels: torch.Tensor) -> Floats:
        """Return float64 (n, K), with the shift of priors and divided by the temperature.

        Args:
            pixels: float (n, 3, S, S), as ``encoder.preprocess`` makes them.

        Raises:
            DataError: another shape or type, or a result that is not finite.
        """
        return self.head.logits(self.encoder.encode(pixels).numpy())

    def probabilities(self, pixels: torch.Tensor) -> Floats:
        """Return float64 (n, K); rows sum to 1 where the link is softmax.

        Args:
            pixels: float (n, 3, S, S), as ``encoder.preprocess`` makes them.

        Raises:
            DataError: another shape or type, or a result that is not finite.
        """
        return self.head.probabilities(self.encoder.encode(pixels).numpy())


def classifier_file(path: Path | str) -> Path:
    """Return the file of a classifier: as it is, or ``classifier.safetensors`` of a run's folder.

    Raises:
        WeightsError: no such file.
    """
    path = Path(path).expanduser()
    file = path / NAME if path.is_dir() else path
    if not file.is_file():
        raise WeightsError(
            "a classifier's file must exist.",
            f"found no file {file}",
            "name the folder that panderm finetune wrote, or the file itself",
        )
    return file


def load_classifier(
    path: Path | str,
    *,
    device: str = "auto",
    precision: PrecisionChoice = "fp32",
    engine: Engine = "torch",
    compile: bool = False,  # noqa: A002 (torch's word)
) -> Classifier:
    """Open a classifier; every tensor is accounted for, and its encoder answers a self-test.

    Args:
        path: ``classifier.safetensors``, or the folder of a run that holds it.
        device: as for :func:`panderm.load_encoder`.
        precision: likewise.
        engine: likewise.
        compile: likewise.

    Raises:
        WeightsError: no classifier's file, not whole, changed since it was written, or an encoder that
            answers otherwise than it did.
        UsageError: a precision, device or library that is not there.

    Example:
        >>> classifier = panderm.load_classifier("run/")  # doctest: +SKIP
        >>> classifier.classes  # doctest: +SKIP
        ('bcc', 'mel', 'nevus')
    """
    file = classifier_file(path)
    record = read_record(file)
    head = read_classifier_head(file, record)  # small: a damaged one is seen before the encoder is read
    encoder = load_encoder(weights=file, device=device, precision=precision, engine=engine, compile=compile)
    if head.dim != encoder.dim:
        raise WeightsError(
            "the head of a classifier must take its encoder's vectors.",
            f"{file}: the head takes {head.dim} numbers, the encoder gives {encoder.dim}",
            "fine-tune again",
        )
    return Classifier(encoder, head, record, file)
