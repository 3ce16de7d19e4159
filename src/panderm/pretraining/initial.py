"""Where a student's numbers begin: a file of weights, every tensor of it accounted for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from timm.layers import resample_patch_embed

from panderm.errors import WeightsError, plural, some
from panderm.models.layouts import from_timm, image_tower
from panderm.pretraining.narrowed import narrowed
from panderm.pretraining.student import PretrainingModel
from panderm.storage import sha256_of_file
from panderm.weights.account import LEFTOVERS, Account, rename_published
from panderm.weights.checkpoint import read_state

State = dict[str, torch.Tensor]
_ENCODER = "encoder."
Kind = Literal["pretraining", "encoder", "timm", "narrowed"]
INIT_IMAGES = 2000
"""Crops that a wide network is narrowed on: 400,000 tokens for the 5.5 million numbers of a tiny student."""


@dataclass(frozen=True)
class Initial:
    """What a model began from.

    Attributes:
        kind: ``pretraining`` (the whole published layout), ``encoder`` (PanDerm's layout), ``timm`` (a plain
            vision transformer of the same width), ``narrowed`` (one that is wider, fitted on images).
        file: its path.
        sha256: of the file.
        filled: how many of the model's tensors were filled from it.
        words: what became of every tensor, in words.
    """

    kind: Kind
    file: str
    sha256: str
    filled: int
    words: tuple[str, ...] = field(default=())

    def record(self) -> dict[str, object]:
        """Return the same, ready for JSON."""
        return {
            "kind": self.kind,
            "file": self.file,
            "sha256": self.sha256,
            "filled": self.filled,
            "words": list(self.words),
        }


class Seen(Protocol):
    """What the student sees of some images: :class:`panderm.pretraining.feed.TwoViewBatch`."""

    @property
    def student(self) -> torch.Tensor:
        """uint8 (n, S, S, 3)."""


def crops_of(
    feed: Callable[[Sequence[npt.NDArray[np.int64]]], Iterable[Seen]], count: int, most: int = INIT_IMAGES
) -> npt.NDArray[np.uint8]:
    """Return crops of images spread evenly over a source, uint8 (n, S, S, 3), as the student will see them.

    Args:
        feed: gives the views of groups of positions.
        count: images of the source.
        most: crops at most, one an image.
    """
    positions = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))
    groups = np.array_split(positions, -(-len(positions) // 32))
    return np.concatenate([batch.student.numpy() for batch in feed(groups)])


def read_init(
    path: Path | str,
    model: PretrainingModel,
    *,
    crops: Callable[[], npt.NDArray[np.uint8]] | None = None,
    shown: bool = False,
) -> Initial:
    """Fill a pretraining model from a file, in place; what the file does not hold stays as it was drawn.

    A published pretraining checkpoint fills encoder, regressor and head (those whose shapes fit); a file of
    an encoder in PanDerm's layout, ours or published, fills the encoder exactly; a plain vision transformer
    of timm's layout (DINOv2 among them) of the same width fills it with three changes: the key bias is left
    out, which no attention notices (it adds the same to all scores of a query), the patch kernel is resized
    to 16 × 16 (Beyer L. et al., FlexiViT, CVPR 2023), and the fixed position table stays. One that is wider
    is narrowed, on crops of the images to be learned from (:mod:`panderm.pretraining.narrowed`): minutes.

    Args:
        path: ``.safetensors`` or PyTorch; nothing in it is run.
        model: in the published layout: ``encoder.*``, ``regresser.*``, ``decoder.*`` …
        crops: gives uint8 (n, S, S, 3), see :func:`crops_of`; asked only where they are needed.
        shown: show a bar where it takes long.

    Raises:
        WeightsError: a file that is not whole, or of another architecture; a wider one without crops.
    """
    file = Path(path).expanduser()
    account = Account()
    state = image_tower(read_state(file, account), account)
    expected = model.state_dict()
    whole = any(key.startswith(tuple(LEFTOVERS)) for key in state) and any(
        key.startswith(_ENCODER) for key in state
    )
    rest = {key: value for key, value in state.items() if key.startswith(tuple(LEFTOVERS))} if whole else {}
    encoder = rename_published(state, Account() if whole else account)
    kind: Kind = "pretraining" if whole else "encoder"
    told: tuple[str, ...] = ()
    if "blocks.0.attn.qkv.bias" in encoder and _width(encoder) > model.student.dim:
        kind = "narrowed"
        encoder, rest, told = _narrow(encoder, model, crops, file, account, shown=shown)
    elif "blocks.0.attn.qkv.bias" in encoder:
        kind, encoder = "timm", from_plain(encoder, expected, account)
    filled = _fitting(encoder, {k: v for k, v in expected.items() if k.startswith(_ENCODER)}, file)
    for key, value in rest.items():
        if key in expected and expected[key].shape == value.shape:
            filled[key] = value.to(expected[key].dtype)
        else:
            account.drop(key, "no such tensor here" if key not in expected else "of another shape")
    drawn = [key for key in expected if key not in filled]
    model.load_state_dict({**expected, **filled})
    account.used = len(filled)
    words = [str(account), *told]
    if drawn:
        words.append(f"{plural(len(drawn), 'tensor')} stay as drawn: {some(drawn, 3)}")
    return Initial(kind, str(file.resolve()), sha256_of_file(file), len(filled), tuple(words))


def _width(encoder: State) -> int:
    token = encoder.get("cls_token")
    return 0 if token is None else int(token.shape[-1])


def _narrow(
    encoder: State,
    model: PretrainingModel,
    crops: Callable[[], npt.NDArray[np.uint8]] | None,
    file: Path,
    account: Account,
    *,
    shown: bool,
) -> tuple[State, State, tuple[str, ...]]:
    """Return the encoder, the head, and what was done."""
    student = model.student
    if crops is None:
        raise WeightsError(
            "the file to begin from must fit the student, or be narrowed on images.",
            f"{file} is {_width(encoder)} wide, the student {student.name} {student.dim}",
            "begin from a file of the student's own width",
        )
    images = crops()
    made = narrowed(encoder, student, images, shown=shown)
    account.notes.append(
        f"narrowed from {_width(encoder)} to {student.dim} on crops of {plural(len(images), 'image')}, by "
        "least squares; its own positions gave way to the fixed table"
    )
    ours = {key.removeprefix(_ENCODER): v for key, v in made.state.items() if key.startswith(_ENCODER)}
    head = {key: v for key, v in made.state.items() if not key.startswith(_ENCODER)}
    return ours, head, made.words


def from_plain(state: State, expected: State, account: Account) -> State:
    """Rename timm's plain vision transformer to PanDerm's layout, and fit kernel and positions to it.

    Args:
        state: timm's names; the layer scale may be absent, and then is one.
        expected: the model's state dict, for its shapes and its position table.
        account: where to note what was done.
    """
    made = dict(state)
    depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    biased = 0
    for i in range(depth):
        bias = made[f"blocks.{i}.attn.qkv.bias"].clone()
        third = len(bias) // 3
        biased += bool(bias[third : 2 * third].any())
        bias[third : 2 * third] = 0
        made[f"blocks.{i}.attn.qkv.bias"] = bias
        for gamma in ("ls1.gamma", "ls2.gamma"):
            made.setdefault(f"blocks.{i}.{gamma}", torch.ones(third))
    if biased:
        account.notes.append(f"the key bias of {plural(biased, 'block')} left out: no attention notices it")
    made = from_timm(made, account)
    kernel, wanted = made.get("patch_embed.proj.weight"), expected[f"{_ENCODER}patch_embed.proj.weight"]
    if kernel is not None and kernel.shape[-2:] != wanted.shape[-2:]:
        made["patch_embed.proj.weight"] = resample_patch_embed(kernel.float(), list(wanted.shape[-2:]))
        sides = (f"{k.shape[-2]}×{k.shape[-1]}" for k in (kernel, wanted))
        account.notes.append(f"patch kernel resized from {' to '.join(sides)}")
    for key in [key for key in made if key in ("mask_token", "reg_token", "register_tokens")]:
        account.drop(key, "mask and register tokens")
        del made[key]
    table = expected[f"{_ENCODER}pos_embed"]
    if "pos_embed" in made and made["pos_embed"].shape[-1] == table.shape[-1]:
        account.drop("pos_embed", "learned positions: the fixed table stays")
        made["pos_embed"] = table.clone()
    return made


def _fitting(encoder: State, expected: State, file: Path) -> State:
    """Return an encoder's tensors under the model's names; every one must be there and fit."""
    named = {f"{_ENCODER}{key}": value for key, value in encoder.items()}
    missing = [key for key in expected if key not in named]
    strange = [key for key in named if key not in expected]
    wrong = [key for key in expected if key in named and named[key].shape != expected[key].shape]
    if missing or strange or wrong:
        found = [f"{file}: {len(expected) - len(missing) - len(wrong)} of {len(expected)} tensors fit"]
        if wrong:
            shapes = f"{tuple(named[wrong[0]].shape)} instead of {tuple(expected[wrong[0]].shape)}"
            found.append(f"{plural(len(wrong), 'tensor')} of another shape: {wrong[0]} is {shapes}")
        found += [f"{len(missing)} missing: {some(missing)}"] if missing else []
        found += [f"{len(strange)} that cannot be explained: {some(strange)}"] if strange else []
        raise WeightsError(
            "the file to begin from must fit the student.", found, "choose the --student of its width"
        )
    return {key: named[key].to(expected[key].dtype) for key in expected}
