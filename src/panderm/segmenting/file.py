"""``segmenter.safetensors``: an encoder's weights file that holds a decoder and its record too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError, model_validator

from panderm.classifying.file import finetuned_card
from panderm.embeddings import EncoderRecord
from panderm.errors import UsageError, WeightsError
from panderm.models import fingerprint
from panderm.models.cards import EncoderCard, Fingerprint
from panderm.models.header import Header, header_of, metadata, sha256_of_tensors
from panderm.models.signed import SignedRecord, problem_of
from panderm.provenance import version
from panderm.segmenting.built import built
from panderm.segmenting.network import DecoderName, SegmentationInput, SegmenterNetwork, StartedSegmenter
from panderm.storage import new_file, refuse_existing
from panderm.training.long.checkpoint import save_tensors
from panderm.weights.account import require_finite
from panderm.weights.checkpoint import CLASSIFIER, DECODER, SEGMENTER, read_decoder, read_header

NAME = "segmenter.safetensors"
"""What the file is called in the folder of a run."""
CLASSES = ("skin", "lesion")
State = Mapping[str, torch.Tensor]
_VERB = "panderm segment train"
_AGAIN = "train again"
_OWN, _UNET = DECODER
_VALUES = 8


class SegmenterRecord(SignedRecord):
    """What a segmenter's file says of its decoder.

    Attributes:
        decoder: which one.
        taps: blocks of the encoder that it reads.
        width: its channels, where it has such a number.
        backbone: of a U-Net its encoder's name in segmentation-models-pytorch.
        input: how an image becomes pixels: the whole of it, resized to a square.
        classes: K names, in the order of the logits; the last is what a mask is of.
        threshold: probability from which on a pixel is of the mask.
        training: how it was trained.
        began: the encoder it began from; None of a U-Net.
        decoder_sha256: over the tensors that are not the encoder's.
        fingerprint: what the network answers to a fixed drawing.
    """

    format: Literal[1] = 1
    decoder: DecoderName
    taps: tuple[int, ...] = ()
    width: int | None = None
    backbone: str | None = None
    input: SegmentationInput
    classes: tuple[str, ...] = Field(default=CLASSES, min_length=2)
    threshold: float = Field(default=0.5, ge=0, le=1)
    training: dict[str, Any] = Field(default_factory=dict)
    began: EncoderRecord | None = None
    decoder_sha256: str = ""
    fingerprint: Fingerprint | None = None

    @model_validator(mode="after")
    def _sound(self) -> SegmenterRecord:
        if len(set(self.classes)) != len(self.classes) or not all(name.strip() for name in self.classes):
            raise ValueError("classes must have different names, none of them blank")
        if (self.decoder == "unet") != (self.began is None) or (self.backbone is None) == (
            self.began is None
        ):
            raise ValueError("a U-Net has a backbone, and any other decoder an encoder of panderm's")
        return self

    @property
    def size(self) -> int:
        """S: side of the square in pixels."""
        return self.input.size


def record_of(
    started: StartedSegmenter,
    *,
    classes: tuple[str, ...] | None = None,
    threshold: float = 0.5,
    training: Mapping[str, Any] | None = None,
) -> SegmenterRecord:
    """Return the record of what was started, to be written with its weights.

    Args:
        started: from :func:`panderm.segmenting.network.segmenter_for`.
        classes: K names; of two classes by default ``skin`` and ``lesion``.
        threshold: probability from which on a pixel is of the mask.
        training: how it was trained; JSON.

    Raises:
        UsageError: names that are not K, or a threshold outside of 0 to 1.
    """
    names = classes or (CLASSES if started.classes == len(CLASSES) else None)
    if names is None or len(names) != started.classes:
        raise UsageError(
            f"a segmenter of {started.classes} classes must name each.", f"found {names or 'none'}"
        )
    try:
        return SegmenterRecord(
            decoder=started.decoder,
            taps=started.taps,
            width=started.width,
            backbone=started.backbone,
            input=started.preprocess,
            classes=names,
            threshold=threshold,
            training=dict(training or {}),
            began=started.record,
        )
    except ValidationError as error:
        raise UsageError("a segmenter's record must be sound.", problem_of(error)) from None


def write_segmenter(
    path: Path | str,
    *,
    state: State,
    started: StartedSegmenter,
    record: SegmenterRecord,
    self_test: bool = True,
    overwrite: bool = False,
) -> SegmenterRecord:
    """Write a segmenter: the encoder as a weights file that knows what it is, decoder and record in it.

    ``panderm.load_encoder(path)`` gives the encoder, ``panderm.load_segmenter(path)`` both.

    Args:
        path: ``.safetensors``.
        state: the network's whole state dict, or the average of its weights, by its names.
        started: what it was trained from.
        record: from :func:`record_of`; hashes, version and fingerprint are filled in here.
        self_test: read the file again, and write into it what the network answers to a fixed drawing: twice
            the time.
        overwrite: replace ``path``.

    Returns:
        The record as it stands in the file.

    Raises:
        UsageError: another ending, a record that JSON cannot hold, or a state of another network.
        WeightsError: numbers that are not finite.
        ArtifactError: ``path`` exists or cannot be written.
    """
    path = Path(path).expanduser()
    if path.suffix != ".safetensors":
        raise UsageError("a segmenter's file must end in .safetensors.", f"found {path}", "name it so")
    refuse_existing(path, overwrite=overwrite)
    own, beside = _shared_out(state, started, path)
    whole = {**own, **beside}
    require_finite(whole, path, noun="a segmenter")
    record = record.model_copy(update={"decoder_sha256": sha256_of_tensors(beside), "fingerprint": None})
    header = None if started.card is None else _header(own, started, started.card)
    with new_file(path, overwrite=overwrite) as temporary:
        record = _save(temporary, whole, header, record)
        if self_test:
            # Read as a user would read it, before it gets its name.
            network, encoder = built(temporary, record, dict(beside), device="cpu")
            if header is not None and encoder is not None:
                measured = {
                    "fingerprint": fingerprint.measure(encoder),
                    "parameters": sum(one.numel() for one in encoder.network.parameters()),
                }
                header = header.model_copy(update={"card": header.card.model_copy(update=measured)})
            answered = record.model_copy(update={"fingerprint": measured_answer(network, record)})
            record = _save(temporary, whole, header, answered)
    return record


def is_segmenter(path: Path) -> bool:
    """Say whether a file is a segmenter's that panderm wrote, by its header."""
    return path.is_file() and SEGMENTER in read_header(path)


def read_segmenter_record(path: Path) -> SegmenterRecord:
    """Read what a segmenter's file says of its decoder; no tensor is read.

    Raises:
        WeightsError: no segmenter's file, a record that was changed, or one of another version.
    """
    words = read_header(path)
    text = words.get(SEGMENTER)
    if text is None:
        what, hint = "has no record of a decoder", f"{_VERB} writes one"
        if CLASSIFIER in words:
            what, hint = "is a classifier's", f"panderm predict {path} IMAGES names diagnoses; {hint}"
        elif header_of(path) is not None:
            what = "is an encoder's alone"
            hint = f"{_VERB} TABLE --weights {path} --out RUN begins from it"
        raise WeightsError(
            "a segmenter's file must hold an encoder and its decoder, or a U-Net.", f"{path} {what}", hint
        )
    record = SegmenterRecord.read(text, path, noun="a segmenter's file", hint=_AGAIN)
    if record.began is not None and header_of(path) is None:
        raise WeightsError(
            "a segmenter's file must say which encoder it holds.", f"{path} has no card of it", _AGAIN
        )
    return record


def read_segmenter_decoder(path: Path, record: SegmenterRecord) -> dict[str, torch.Tensor]:
    """Read the tensors of a segmenter's file that are not its encoder's.

    Raises:
        WeightsError: not whole, or not those that were written.
    """
    beside = read_decoder(path)
    if sha256_of_tensors(beside) != record.decoder_sha256:
        raise WeightsError(
            "the decoder in a segmenter's file must be the one that was written into it.",
            f"{path}: its sha256 is not that of the record",
            _AGAIN,
        )
    require_finite(beside, path, noun="a segmenter")
    return beside


def measured_answer(network: SegmenterNetwork, record: SegmenterRecord) -> Fingerprint:
    """Ask a network in evaluation, in float32: logits of the last class on the diagonal of a fixed drawing.

    Raises:
        WeightsError: an answer that is not finite, or 0 everywhere.
    """
    device = next(network.parameters()).device
    with torch.no_grad():
        logits = network(fingerprint.drawing(record.size).to(device)).float().cpu()[0, -1]
    rms = float(logits.square().mean().sqrt())
    if not bool(torch.isfinite(logits).all()) or rms == 0:
        raise WeightsError(
            "a segmenter must answer with finite numbers that are not all zero.",
            f"its logits {'are all zero' if rms == 0 else 'hold NaN or infinity'}",
            _AGAIN,
        )
    places = torch.linspace(0, record.size - 1, _VALUES).long()
    values = tuple(float(f"{x:.7g}") for x in logits[places, places])
    return Fingerprint(pool=record.decoder, image_size=record.size, values=values, rms=float(f"{rms:.7g}"))


def _shared_out(
    state: State, started: StartedSegmenter, path: Path
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return the encoder's tensors by its own names, and all others."""
    expected = started.network.state_dict()
    off = set(state) ^ set(expected)
    if off:
        raise UsageError(
            "a segmenter's file must hold the tensors of its network.",
            f"{path}: {', '.join(sorted(off)[:3])}",
        )
    whole = {name: state[name].detach().to("cpu").contiguous() for name in expected}
    if started.decoder == "unet":
        return {}, {f"{_UNET}{name}": value for name, value in whole.items()}
    start = "encoder."
    own = {name.removeprefix(start): one for name, one in whole.items() if name.startswith(start)}
    return own, {name: one for name, one in whole.items() if name.startswith(_OWN)}


def _header(own: State, started: StartedSegmenter, card: EncoderCard) -> Header:
    assert started.record is not None
    if started.network.frozen:  # it stays what it was
        made = card.model_copy(
            update={
                "dim": started.record.dim,
                "random": False,
                "files": (),
                "sha256": None,
                "fingerprint": None,
            }
        )
    else:
        made = finetuned_card(card, started.record, verb=_VERB)
    return Header(
        card=made,
        pool=started.pool,
        names="panderm",
        tensors_sha256=sha256_of_tensors(own),
        source_name="the run that wrote it",
        source_bytes=0,
        source_sha256="",
        account=f"{len(own)} tensors written, and a decoder",
        panderm=version(),
    )


def _save(
    path: Path, tensors: dict[str, torch.Tensor], header: Header | None, record: SegmenterRecord
) -> SegmenterRecord:
    signed = record.signed(noun="a segmenter")
    words = {"format": "pt"} if header is None else metadata(header)
    save_tensors(tensors, path, {**words, SEGMENTER: signed.text()})
    return signed
