"""``classifier.safetensors``: a fine-tuned encoder's weights file that holds the head and its record too."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError, model_validator

from panderm.embeddings import EncoderRecord
from panderm.errors import UsageError, WeightsError
from panderm.fitted import FittedLinear, Link
from panderm.models import fingerprint
from panderm.models.cards import EncoderCard, Pool
from panderm.models.header import Header, header_of, metadata, sha256_of_tensors
from panderm.models.load import load_encoder
from panderm.models.signed import SignedRecord, problem_of
from panderm.provenance import version
from panderm.storage import new_file, refuse_existing
from panderm.training.long.checkpoint import save_tensors
from panderm.weights.account import Account, require_finite
from panderm.weights.checkpoint import CLASSIFIER, HEAD, read_head, read_header, read_state

NAME = "classifier.safetensors"
"""What the file is called in the folder of a run."""
State = Mapping[str, torch.Tensor]
_WEIGHT, _BIAS = HEAD
_WRITE = "panderm finetune writes one"


class ClassifierRecord(SignedRecord):
    """What a classifier's file says of its head.

    Attributes:
        classes: K names, in the order of the logits.
        link: ``softmax``: an image is of one class; ``sigmoid``: each class on its own.
        temperature: what logits are divided by before the link; 1 where nothing was calibrated.
        prior_shift: what is added to the logits of the network, K numbers: undoes what weighted sampling or a
            weighted loss did to the probabilities. Empty: nothing.
        thresholds: probability from which on a class is decided for, by its name: of two classes the
            positive one's; empty: the most probable class.
        conformal: of prediction sets, as :mod:`panderm.classifying.calibrated` writes it; None: none.
        calibration: on which rows temperature, thresholds and sets were found, how many, which seed.
        training: how it was trained.
        began: the encoder it began from.
        head_sha256: over the head's two tensors.
        panderm: the version that wrote it.
        sha256: over all of the above, so that a record edited by hand is seen.
    """

    format: Literal[1] = 1
    classes: tuple[str, ...] = Field(min_length=1)
    link: Link = "softmax"
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    prior_shift: tuple[float, ...] = ()
    thresholds: dict[str, float] = Field(default_factory=dict)
    conformal: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    began: EncoderRecord
    head_sha256: str = ""

    @model_validator(mode="after")
    def _sound(self) -> ClassifierRecord:
        K = len(self.classes)
        if len(set(self.classes)) != K or not all(name.strip() for name in self.classes):
            raise ValueError("classes must have different names, none of them blank")
        if self.link == "softmax" and K < 2:
            raise ValueError("a softmax needs two classes or more")
        if len(self.prior_shift) not in (0, K):
            raise ValueError(f"prior_shift has {len(self.prior_shift)} numbers for {K} classes")
        for name, value in self.thresholds.items():
            if name not in self.classes or not 0 <= value <= 1:
                raise ValueError(f"thresholds are of classes, from 0 to 1, not {name}: {value:g}")
        return self


def finetuned_card(
    card: EncoderCard, began: EncoderRecord, name: str | None = None, *, verb: str = "panderm finetune"
) -> EncoderCard:
    """Return the card of a fine-tuned encoder.

    Args:
        card: of the encoder it began from, at its input size.
        began: the same encoder's record.
        name: of the new one; by default the old one with ``-finetuned``.
        verb: what tuned it.
    """
    return card.model_copy(
        update={
            "name": name or f"{card.name.removesuffix('-finetuned')}-finetuned",
            "architecture": began.architecture.removesuffix(", weights drawn at random"),
            "dim": began.dim,
            "parameters": None,
            "pool": began.pool if card.layout == "panderm" else card.pool,
            "random": False,
            "citation": f"made with {verb}" if card.random else card.citation,
            "licence": f"that of the images it was fine-tuned with, and of {began.name}: {began.licence}",
            "source": f"{verb}, from {began.name} (sha256 {began.weights_sha256[:16]})",
            "files": (),
            "sha256": None,
            "fingerprint": None,
        }
    )


def write_classifier(
    path: Path | str,
    *,
    encoder: State,
    weight: torch.Tensor,
    bias: torch.Tensor,
    card: EncoderCard,
    pool: Pool | None,
    record: ClassifierRecord,
    self_test: bool = True,
    overwrite: bool = False,
) -> Header:
    """Write a classifier: the encoder as a weights file that knows what it is, the head and its record in it.

    ``panderm.load_encoder(path)`` gives the encoder, :func:`load_classifier` both.

    Args:
        path: ``.safetensors``.
        encoder: the tensors of ``load_encoder(…).network``, by their names; see
            :meth:`panderm.finetuning.network.ClassifierNetwork.plain`.
        weight: float32 (K, D), of the head.
        bias: float32 (K,).
        card: of the encoder, from :func:`finetuned_card`.
        pool: the form its tensors are in; None: the encoder's own.
        record: of the head; its hashes and version are filled in here.
        self_test: read the file again, and write on its card what the encoder answers to a fixed drawing:
            twice the time.
        overwrite: replace ``path``.

    Returns:
        The card that stands in the file's header.

    Raises:
        UsageError: another ending, a record that JSON cannot hold, a head that is not of these classes.
        WeightsError: numbers that are not finite.
        ArtifactError: ``path`` exists or cannot be written.
    """
    path = Path(path).expanduser()
    if path.suffix != ".safetensors":
        raise UsageError("a classifier's file must end in .safetensors.", f"found {path}", "name it so")
    refuse_existing(path, overwrite=overwrite)
    head = {_WEIGHT: weight.detach().cpu().contiguous(), _BIAS: bias.detach().cpu().contiguous()}
    _require_head(head, record, card.dim, path)
    own = {name: value.detach().cpu().contiguous() for name, value in encoder.items()}
    require_finite({**own, **head}, path, noun="a classifier")
    header = Header(
        card=card,
        pool=pool,
        names="panderm",
        tensors_sha256=sha256_of_tensors(own),
        source_name="the run that wrote it",
        source_bytes=0,
        source_sha256="",
        account=f"{len(own)} tensors written, and a head of {len(record.classes)} classes",
        panderm=version(),
    )
    with new_file(path, overwrite=overwrite) as temporary:
        _save(temporary, own, head, header, record)
        if self_test:
            # Read as a user would read it, before it gets its name.
            made = load_encoder(weights=temporary, device="cpu")
            measured = {
                "fingerprint": fingerprint.measure(made),
                "parameters": sum(one.numel() for one in made.network.parameters()),
            }
            header = header.model_copy(update={"card": card.model_copy(update=measured)})
            _save(temporary, own, head, header, record)
    return header.model_copy(update={"sha256": header.own_sha256()})


def amend_classifier(path: Path | str, **changes: Any) -> ClassifierRecord:
    """Write another record into a classifier's file; its tensors stay as they are.

    Args:
        path: the file.
        changes: attributes of :class:`ClassifierRecord`: ``temperature``, ``thresholds``, ``conformal``,
            ``calibration``, ``training``, ``prior_shift``.

    Returns:
        The record as it now stands there.

    Raises:
        UsageError: an attribute that there is not, or a value it cannot have.
        WeightsError: no classifier's file, or one that is not whole.
        ArtifactError: it cannot be written.
    """
    path = Path(path).expanduser()
    record = read_record(path)
    unknown = set(changes) - set(ClassifierRecord.model_fields) | set(changes) & {"classes", "began"}
    if unknown:
        raise UsageError("a classifier's record must keep its fields.", f"found {', '.join(sorted(unknown))}")
    try:
        amended = ClassifierRecord.model_validate(record.model_dump() | changes)
    except ValidationError as error:
        raise UsageError("a classifier's record must be sound.", problem_of(error)) from None
    header = header_of(path)
    assert header is not None  # read_record has seen it
    own, head = read_state(path, Account()), read_head(path)
    with new_file(path, overwrite=True) as temporary:
        _save(temporary, own, head, header, amended)
    return read_record(path)


def is_classifier(path: Path) -> bool:
    """Say whether a file is a classifier's that panderm wrote, by its header."""
    return path.is_file() and CLASSIFIER in read_header(path)


def read_record(path: Path) -> ClassifierRecord:
    """Read what a classifier's file says of its head; no tensor is read.

    Raises:
        WeightsError: no classifier's file, a record that was changed, or one of another version.
    """
    text = read_header(path).get(CLASSIFIER)
    if text is None or header_of(path) is None:
        raise WeightsError(
            "a classifier's file must hold an encoder and its head.",
            f"{path} has no record of a head",
            f"{_WRITE}; of an encoder alone: panderm embed, then panderm probe",
        )
    return ClassifierRecord.read(text, path, noun="a classifier's file", hint="fine-tune again")


def read_classifier_head(path: Path, record: ClassifierRecord, dim: int | None = None) -> FittedLinear:
    """Read the head of a classifier's file.

    Args:
        path: the file.
        record: from :func:`read_record`.
        dim: width of the encoder's vectors; None: any.

    Raises:
        WeightsError: a head that is not of the record's classes, or not the one that was written.
    """
    head = read_head(path)
    try:
        _require_head(head, record, dim, path)
    except UsageError as error:
        raise WeightsError(error.must, error.found, "fine-tune again") from None
    if _sha256_of_head(head) != record.head_sha256:
        raise WeightsError(
            "the head in a classifier's file must be the one that was written into it.",
            f"{path}: its sha256 is not that of the record",
            "fine-tune again",
        )
    require_finite(head, path, noun="a classifier")
    bias = head[_BIAS].double().numpy()
    return FittedLinear(
        classes=record.classes,
        method={"probe": "fine-tuned", **record.training},
        temperature=record.temperature,
        link=record.link,
        weight=head[_WEIGHT].double().numpy(),
        bias=bias + record.prior_shift if record.prior_shift else bias,
    )


def _save(path: Path, own: State, head: State, header: Header, record: ClassifierRecord) -> None:
    save_tensors({**own, **head}, path, {**metadata(header), CLASSIFIER: _told(record, head)})


def _told(record: ClassifierRecord, head: State) -> str:
    made = record.model_copy(update={"head_sha256": _sha256_of_head(head)})
    return made.signed(noun="a classifier").text()


def _sha256_of_head(head: State) -> str:
    return hashlib.sha256(b"".join(head[name].float().numpy().tobytes() for name in HEAD)).hexdigest()


def _require_head(head: State, record: ClassifierRecord, dim: int | None, path: Path) -> None:
    K = len(record.classes)
    shapes = [tuple(head[name].shape) for name in HEAD if name in head]
    types = {head[name].dtype for name in HEAD if name in head}
    wide = dim or (shapes[0][-1] if shapes and shapes[0] else 0)
    if shapes != [(K, wide), (K,)] or types != {torch.float32}:
        found = " and ".join(str(shape) for shape in shapes) or "none"
        raise UsageError(
            f"the head of {K} classes must be float32 ({K}, {wide or 'D'}) and ({K},).", f"{path}: {found}"
        )
