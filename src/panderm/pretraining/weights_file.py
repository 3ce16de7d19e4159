"""Files of weights: the whole pretraining model under the published names, and its encoder alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError

from panderm.data.preprocess import Preprocess
from panderm.errors import UsageError, WeightsError
from panderm.models import fingerprint
from panderm.models.cards import PATCH, EncoderCard
from panderm.models.header import Header, metadata, sha256_of_tensors
from panderm.models.load import load_encoder
from panderm.pretraining.initial import Initial, read_init
from panderm.pretraining.regressor import PUBLISHED_HEADS, RegressorShape
from panderm.pretraining.student import STUDENTS, PretrainingModel, Student
from panderm.provenance import Record, version
from panderm.storage import new_file, refuse_existing, sha256_of_file
from panderm.training.long.checkpoint import save_tensors
from panderm.weights.account import Account, require_fit
from panderm.weights.checkpoint import read_header, read_state

State = Mapping[str, torch.Tensor]
WORDS = "panderm-pretraining"  # beside the card in the header of a whole file
ENCODER = "encoder."
LICENCE = "that of the images and of the teacher it was made with"
CITATION = "made with panderm pretrain"
_LETTERS = {"tiny": "Ti", "small": "S", "base": "B", "large": "L"}


class Words(Record):
    """What a whole pretraining file says of itself.

    Attributes:
        student, regressor: the form of the model.
        target_dim: width of the teacher's tokens.
        image_size: side of the student's input, in pixels.
        record: how it was trained.
        panderm: the version that wrote it.
    """

    format: Literal[1] = 1
    student: dict[str, Any]
    regressor: dict[str, Any]
    target_dim: int
    image_size: int
    record: dict[str, Any]
    panderm: str


def student_preprocess(image_size: int = 224) -> Preprocess:
    """Return how pixels are made for a trained student: bicubic, 256 cut to 224, ImageNet's mean and std."""
    return Preprocess(
        resize=round(image_size * 256 / 224),
        crop=image_size,
        interpolation="bicubic",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


def student_card(
    model: PretrainingModel,
    name: str,
    *,
    licence: str = LICENCE,
    citation: str = CITATION,
    source: str = "panderm pretrain",
) -> EncoderCard:
    """Return the card of a model's encoder."""
    student = model.student
    return EncoderCard(
        name=name,
        architecture=f"ViT-{_LETTERS.get(student.name, student.name)}/{PATCH}, fixed sine-cosine positions, "
        "layer scale",
        dim=student.dim,
        depth=student.depth,
        heads=student.heads,
        parameters=sum(value.numel() for value in model.encoder.parameters()),
        image_size=model.image_size,
        preprocess=student_preprocess(model.image_size),
        licence=licence,
        citation=citation,
        source=source,
    )


def write_pretrained(
    model: PretrainingModel,
    path: Path | str,
    record: Mapping[str, Any],
    *,
    name: str | None = None,
    licence: str = LICENCE,
    citation: str = CITATION,
    source: str = "panderm pretrain",
    state: State | None = None,
    overwrite: bool = False,
) -> None:
    """Write encoder, regressor and head under the published names: to go on with, here or elsewhere.

    ``panderm.load_encoder(path)`` takes the encoder out of it.

    Args:
        model: what is written.
        path: ``.safetensors``.
        record: how it was trained, JSON-able; it stands in the header.
        name: of the encoder on its card; by default ``pretrained-`` and the student's name.
        licence: of the weights, on the card.
        citation: likewise.
        source: likewise.
        state: the model's whole state dict, where it is spread over several machines.
        overwrite: replace ``path``.

    Raises:
        UsageError: another ending, or a record that JSON cannot hold.
        ArtifactError: ``path`` exists or cannot be written.
    """
    path = _named(path, overwrite=overwrite)
    words = Words(
        student=asdict(model.student),
        regressor=asdict(model.regressor_shape),
        target_dim=model.target_dim,
        image_size=model.image_size,
        record=dict(record),
        panderm=version(),
    )
    try:
        told = json.dumps(words.model_dump(), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError("the record of a pretraining run must be JSON.", str(error)) from None
    card = student_card(
        model,
        name or f"pretrained-{model.student.name}",
        licence=licence,
        citation=citation,
        source=source,
    )
    tensors = _plain(model.state_dict() if state is None else state)
    header = _header(card, tensors, "published")
    with new_file(path, overwrite=overwrite) as temporary:
        save_tensors(tensors, temporary, {**metadata(header), WORDS: told})


def write_encoder(
    model: PretrainingModel,
    path: Path | str,
    name: str,
    *,
    licence: str = LICENCE,
    citation: str = CITATION,
    source: str = "panderm pretrain",
    made_from: Path | None = None,
    half: bool = False,
    state: State | None = None,
    overwrite: bool = False,
) -> Header:
    """Write the encoder as a weights file that knows what it is: ``panderm.load_encoder(path)``.

    Names without a prefix, as in the published Base file. The card holds what the network answers to a fixed
    drawing.

    Args:
        model: whose encoder is written.
        path: ``.safetensors``.
        name: of the encoder, on its card.
        licence: of the weights, on the card.
        citation: likewise.
        source: likewise.
        made_from: the whole file, to be named in the header with its hash.
        half: write float16, half the size.
        state: the model's whole state dict, where it is spread over several machines.
        overwrite: replace ``path``.

    Returns:
        What stands in the file's header.

    Raises:
        UsageError: another ending.
        WeightsError: numbers that are not finite.
        ArtifactError: ``path`` exists or cannot be written.
    """
    path = _named(path, overwrite=overwrite)
    whole = model.state_dict() if state is None else state
    own = {key.removeprefix(ENCODER): value for key, value in whole.items() if key.startswith(ENCODER)}
    tensors = _plain(own, torch.float16 if half else None)
    card = student_card(model, name, licence=licence, citation=citation, source=source)
    header = _header(card, tensors, "panderm", made_from)
    with new_file(path, overwrite=overwrite) as temporary:
        save_tensors(tensors, temporary, metadata(header))
        # Read as a user would read it, before it gets its name.
        found = fingerprint.measure(load_encoder(weights=temporary, device="cpu"))
        header = header.model_copy(update={"card": card.model_copy(update={"fingerprint": found})})
        save_tensors(tensors, temporary, metadata(header))
    return header.model_copy(update={"sha256": header.own_sha256()})


def read_pretrained(
    path: Path | str,
    *,
    target_dim: int | None = None,
    drop_path: float | None = None,
    regressor_heads: int | None = None,
    seed: int = 0,
) -> tuple[PretrainingModel, Initial]:
    """Build the model that a whole pretraining file is of, ours or a published one, with its weights.

    What a file cannot say of itself is taken as published: twelve heads of the regressor, whatever its width,
    and 64 numbers for each head of the encoder. A head for tokens of another width is drawn anew.

    Args:
        path: ``.safetensors``, or ``.pth`` (wrapped or not; nothing in it is run).
        target_dim: width of the teacher's tokens; by default that of the file's head.
        drop_path: stochastic depth; by default the student's.
        regressor_heads: of a file that does not say it.
        seed: of a head that is drawn anew.

    Returns:
        The model, and what became of every tensor of the file.

    Raises:
        WeightsError: a file that is not whole, or not of a pretraining model.
        UsageError: no ``target_dim`` for a file without a head, or heads that do not divide its width.
    """
    path = Path(path).expanduser()
    form = _form(path, regressor_heads)
    if form is None:
        raise WeightsError(
            "a pretraining file must hold an encoder and a regressor.",
            f"{path} does not",
            "a file of an encoder alone is a start (--init), not a model to go on with",
        )
    student, regressor, found_dim, image_size = form
    if target_dim is None and found_dim is None:
        raise UsageError(
            "the width of the teacher's tokens must be given for a file without a head.",
            f"{path} has no decoder.head",
        )
    model = PretrainingModel(
        student,
        target_dim=target_dim or found_dim or 0,
        image_size=image_size,
        drop_path=drop_path,
        regressor=regressor,
        seed=seed,
    )
    _require_whole(path, model)
    return model, read_init(path, model)


def regressor_of(path: Path | str, *, heads: int | None = None) -> RegressorShape | None:
    """Return the form of the regressor in a file of weights, for a model that goes on with it.

    Args:
        path: a weights file, ours or a published one.
        heads: of a file that does not say it; by default twelve, as in the published code.

    Returns:
        None for a file without a regressor: an encoder alone.

    Raises:
        WeightsError: a file that is not whole.
        UsageError: heads that do not divide its width.
    """
    form = _form(Path(path).expanduser(), heads)
    return None if form is None else form[1]


def _named(path: Path | str, *, overwrite: bool) -> Path:
    path = Path(path).expanduser()
    if path.suffix != ".safetensors":
        raise UsageError("a file of weights must end in .safetensors.", f"found {path}", "name it so")
    refuse_existing(path, overwrite=overwrite)
    return path


def _plain(state: State, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    return {key: value.detach().to("cpu", dtype or value.dtype).contiguous() for key, value in state.items()}


def _header(
    card: EncoderCard,
    tensors: State,
    names: Literal["panderm", "published"],
    made_from: Path | None = None,
) -> Header:
    return Header(
        card=card,
        pool=None,
        names=names,
        tensors_sha256=sha256_of_tensors(tensors),
        source_name=made_from.name if made_from else "the run that wrote it",
        source_bytes=made_from.stat().st_size if made_from else 0,
        source_sha256=sha256_of_file(made_from) if made_from else "",
        account=f"{len(tensors)} tensors written",
        panderm=version(),
    )


def _words(path: Path) -> Words | None:
    text = read_header(path).get(WORDS)
    try:
        return None if text is None else Words.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise WeightsError(
            "what a pretraining file says of itself must be whole and of this version of panderm.",
            f"{path}: {where + ': ' if where else ''}{problem['msg']}",
        ) from None


def _require_whole(path: Path, model: PretrainingModel) -> None:
    """Refuse a file that lacks a part of the model, the head excepted."""
    expected = {k: v for k, v in model.state_dict().items() if not k.startswith("decoder.")}
    outline = {k: v for k, v in read_state(path, Account(), data=False).items() if k in expected}
    require_fit(
        outline,
        expected,
        path=path,
        name=f"the {model.student.name} student and its regressor",
        hint="give a whole pretraining file",
    )


def _form(path: Path, heads: int | None) -> tuple[Student, RegressorShape, int | None, int] | None:
    """Return the student, the regressor, the width of the head and the image size that a file has."""
    words = _words(path)
    if words is not None:
        student, regressor = Student(**words.student), RegressorShape(**words.regressor)
        return student, regressor, words.target_dim, words.image_size
    outline = read_state(path, Account(), data=False)
    token, table = outline.get("encoder.cls_token"), outline.get("encoder.pos_embed")
    mask, query = outline.get("mask_token"), outline.get("regresser.regressor_blocks.0.cross_attn.q.weight")
    if token is None or table is None or mask is None or query is None or query.ndim != 2:
        return None
    dim, width, inner = token.shape[-1], mask.shape[-1], query.shape[0]
    depth = _blocks(outline, "encoder.blocks.")
    regressor_depth = _blocks(outline, "regresser.regressor_blocks.")
    usual = next((s for s in STUDENTS if (s.dim, s.depth) == (dim, depth)), None)
    student = usual or Student(
        f"{dim}x{depth}", dim, depth, max(1, dim // 64), regressor_depth, 0.1, mask_ratio=0.5, drop_path=0.1
    )
    heads = heads or (PUBLISHED_HEADS if inner % PUBLISHED_HEADS == 0 else student.heads)
    if inner % heads:
        raise UsageError(
            "the regressor's heads must divide its width.", f"{path}: {heads} heads, width {inner}"
        )
    side = round(max(0, table.shape[1] - 1) ** 0.5)
    head = outline.get("decoder.head.weight")
    return (
        student,
        RegressorShape(width, regressor_depth, heads, inner // heads),
        None if head is None else head.shape[0],
        side * PATCH,
    )


def _blocks(outline: State, part: str) -> int:
    return len({key.removeprefix(part).split(".")[0] for key in outline if key.startswith(part)})
