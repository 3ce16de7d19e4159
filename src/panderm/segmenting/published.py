"""A checkpoint of the published segmentation code, opened: its 451 tensors by name, nothing of it run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from panderm.data.preprocess import Preprocess
from panderm.embeddings import EncoderRecord
from panderm.errors import WeightsError
from panderm.models import cards
from panderm.models.cards import PATCH, EncoderCard
from panderm.models.network import adapt
from panderm.models.network import build as build_encoder
from panderm.models.origins import marked, origins_of
from panderm.segmenting.decoders.upernet import UPerNetDecoder
from panderm.segmenting.file import CLASSES, SegmenterRecord
from panderm.segmenting.network import SegmenterNetwork, segmentation_input
from panderm.segmenting.taps import Taps, published_taps
from panderm.storage import sha256_of_file
from panderm.weights.account import SEGMENTOR, Account, match, require_fit
from panderm.weights.checkpoint import SEGMENTER, read_header, read_state

State = Mapping[str, torch.Tensor]
PREFIX = "model.segmentor."
"""How the names begin in a checkpoint as Lightning writes it."""
SIDE = 224
"""The published network takes no other size, in pixels."""
_BACKBONE, _HEAD = "backbone.", "decode_head."
_PYRAMID = re.compile(r"fpn[1-4]\.")
_HEAD_WIDTH = 64  # of an attention head, at every size
_SEGMENTATION = Preprocess(
    resize=(SIDE, SIDE), crop=SIDE, interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)
_HINT = "give the checkpoint of the published segmentation code, or a file of panderm segment train"


def published_name(name: str) -> str:
    """Return the published name of a tensor of ours: of an encoder in PanDerm's layout with UPerNet on it.

    Args:
        name: in the state dict of :class:`~panderm.segmenting.network.SegmenterNetwork`.
    """
    part, _, rest = name.partition(".")
    if part == "encoder" or _PYRAMID.match(rest):
        return f"{PREFIX}{_BACKBONE}{rest}"
    return f"{PREFIX}{_HEAD}{rest}"


def is_published(path: Path) -> bool:
    """Say whether a file holds a network of the published segmentation code, by its tensors' names.

    Raises:
        WeightsError: missing, not whole, or with code in it.
    """
    if SEGMENTER in read_header(path):
        return False  # a file of panderm's own says what it is
    return any(SEGMENTOR.match(name) for name in read_state(path, Account(), data=False))


def open_published(path: Path) -> tuple[SegmenterNetwork, SegmenterRecord, Account]:
    """Open a checkpoint of the published segmentation code.

    Its images are resized to 224 × 224 (bicubic, whatever their aspect) and normalised with mean and std 0.5.
    The published code resizes without antialiasing, panderm with it.

    Args:
        path: as Lightning wrote it (``state_dict`` beside the state of its optimiser), or the tensors alone;
            with or without ``model.`` before the names.

    Returns:
        The network in evaluation, float32, on the CPU; a record; and what became of every tensor.

    Raises:
        WeightsError: a tensor that is missing, of another shape or unexplained, or a file that is not whole.
    """
    outline = _plain(marked(read_state(path, Account(), data=False)))
    card = _card_of(outline, path)
    network = _network(card, outline)
    expected = network.state_dict()
    adapted = _as_ours(outline, network, card, Account(), path)
    require_fit(adapted, expected, path=path, name=card.name, hint=_HINT)
    account = Account(names={key: origins_of(value) for key, value in adapted.items()})
    raw = read_state(path, account)
    state = _as_ours(_plain(raw), network, card, account, path)
    del raw
    whole = match(state, expected, account, path=path, name=card.name, hint=_HINT)
    network.load_state_dict(whole, strict=True, assign=True)
    network.requires_grad_(requires_grad=False)
    return network.eval(), _record_of(network, card, path, account), account


def _plain(state: State) -> dict[str, torch.Tensor]:
    """Take the prefix from each name that has it; what lies outside stays, to be complained about."""
    return {
        SEGMENTOR.sub("", name, count=1) if SEGMENTOR.match(name) else name: one
        for name, one in state.items()
    }


def _card_of(outline: State, path: Path) -> EncoderCard:
    """Say which encoder a checkpoint holds, by its width and depth."""
    token, last = outline.get(f"{_BACKBONE}cls_token"), outline.get(f"{_HEAD}conv_seg.weight")
    depth = len({name.split(".")[2] for name in outline if name.startswith(f"{_BACKBONE}blocks.")})
    width = token.shape[-1] if token is not None and token.ndim == 3 else 0
    if not depth or width < _HEAD_WIDTH or width % _HEAD_WIDTH or last is None or last.ndim != 4:
        raise WeightsError(
            "a published segmentation checkpoint must hold PanDerm's encoder and UPerNet.",
            f"{path}: no {_BACKBONE}cls_token, blocks and {_HEAD}conv_seg.weight that fit each other",
            _HINT,
        )
    known = next((one for one in cards.KNOWN if (one.dim, one.depth) == (width, depth)), None)
    if known is not None and known.layout == "panderm" and not known.random:
        return known.model_copy(update={"preprocess": _SEGMENTATION, "fingerprint": None, "sha256": None})
    return EncoderCard(
        name=f"panderm-{width}-{depth}",
        architecture=f"ViT/{PATCH} in PanDerm's layout, {width} wide, {depth} blocks",
        dim=width,
        depth=depth,
        heads=width // _HEAD_WIDTH,
        image_size=SIDE,
        preprocess=_SEGMENTATION,
        licence="that of the checkpoint",
        citation="see the checkpoint's source",
        source=str(path.name),
    )


def _network(card: EncoderCard, outline: State) -> SegmenterNetwork:
    """Build the published network on no device."""
    width = card.dim or 0
    classes, channels = outline[f"{_HEAD}conv_seg.weight"].shape[:2]
    taps = Taps(published_taps(card.depth), (width,) * 4, (PATCH,) * 4)
    with torch.device("meta"):
        decoder = UPerNetDecoder(taps.widths, int(classes), width=int(channels))
    return SegmenterNetwork(build_encoder(card, "cls"), decoder, taps)


def _as_ours(
    state: State, network: SegmenterNetwork, card: EncoderCard, account: Account, path: Path
) -> dict[str, torch.Tensor]:
    """Rename a checkpoint's tensors to the network's names; what has no place keeps its own."""
    own: dict[str, torch.Tensor] = {}
    made: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        rest = name.removeprefix(_BACKBONE)
        if name.startswith(_HEAD):
            made[f"decoder.{name.removeprefix(_HEAD)}"] = value
        elif rest != name and not _PYRAMID.match(rest):
            own[rest] = value
        else:
            made[f"decoder.{rest}" if rest != name else name] = value
    adapted = adapt(own, network.encoder, card, account, path)
    return {f"encoder.{name}": value for name, value in adapted.items()} | made


def _record_of(network: SegmenterNetwork, card: EncoderCard, path: Path, account: Account) -> SegmenterRecord:
    sha256 = sha256_of_file(path)
    began = EncoderRecord(
        name=card.name,
        architecture=card.architecture,
        dim=card.dim or 0,
        weights=str(path.resolve()),
        weights_sha256=sha256,
        account=str(account),
        random=False,
        pool="cls",
        precision="fp32",
        image_size=SIDE,
        preprocess=card.preprocess.model_dump(mode="json"),
        licence=card.licence,
        citation=card.citation,
        source=f"a checkpoint of the published segmentation code, {path.name}",
    )
    assert network.taps is not None
    convolution = network.decoder.get_submodule("conv_seg")
    assert isinstance(convolution, torch.nn.Conv2d)
    K = convolution.out_channels
    return SegmenterRecord(
        decoder="upernet",
        taps=network.taps.blocks,
        width=convolution.in_channels,
        input=segmentation_input(_SEGMENTATION, SIDE),
        classes=CLASSES if len(CLASSES) == K else tuple(f"class {i}" for i in range(K)),
        training={"published": True, "sha256": sha256},
        began=began,
    )
