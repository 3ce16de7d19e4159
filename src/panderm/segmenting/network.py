"""The network of a segmenter: any encoder with patch tokens, and a decoder on them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import nn

from panderm.data.preprocess import Preprocess
from panderm.embeddings import EncoderRecord
from panderm.errors import UsageError, did_you_mean
from panderm.finetuning.layers import Layers, layer_of
from panderm.finetuning.network import drop_paths, is_meta, leave_unreached, part_tensors
from panderm.models.cards import EncoderCard, Pool
from panderm.models.layouts import is_tuned
from panderm.models.load import choose_card, load_encoder
from panderm.segmenting.decoders.convolutional import WIDTH, ConvolutionalDecoder
from panderm.segmenting.decoders.grids import resized
from panderm.segmenting.decoders.linear import LinearDecoder
from panderm.segmenting.decoders.upernet import UPerNetDecoder
from panderm.segmenting.taps import Taps, taps_of
from panderm.weights.account import Account
from panderm.weights.checkpoint import read_state

DecoderName = Literal["linear", "convolutional", "upernet", "unet"]
DECODERS: tuple[DecoderName, ...] = get_args(DecoderName)
_LEVELS = 4


class SegmentationInput(Preprocess):
    """What a segmenter's pixels must look like: the whole image, resized to a square, nothing cut off.

    Called with an image it gives normalised pixels; ``pixels`` and ``normalise`` are its two halves.
    """

    @property
    def size(self) -> int:
        """S: side of the square in pixels."""
        return self.crop


def segmentation_input(like: Preprocess, size: int) -> SegmentationInput:
    """Return an input of a side that is resized and normalised as another preprocessing does it."""
    given = like.model_dump() | {"resize": (size, size), "crop": size}
    return SegmentationInput.model_validate(given)


class SegmenterNetwork(nn.Module):
    """An encoder and a decoder: normalised pixels in, a score for each class at each pixel out.

    Made by :func:`segmenter_for`.

    Args:
        encoder: as :func:`panderm.load_encoder` builds it; its parameters learn as ``requires_grad`` says.
        decoder: maps of the taps to logits (B, K, h, w).
        taps: which blocks of the encoder the decoder reads; None: ``encoder`` returns the decoder's maps
            itself.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, taps: Taps | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.taps = taps

    @property
    def frozen(self) -> bool:
        """Whether nothing of the encoder learns: it is in evaluation then, and keeps no gradient."""
        return not any(one.requires_grad for one in self.encoder.parameters())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return logits.

        Args:
            pixels: float (B, 3, S, S), normalised as the segmenter's input says.

        Returns:
            float32 (B, K, S, S), bilinear from the decoder's grid.
        """
        with torch.no_grad() if self.frozen else nullcontext():
            maps = self.encoder(pixels) if self.taps is None else self.taps(self.encoder, pixels)
        return resized(self.decoder(maps).float(), pixels.shape[-2:])

    def train(self, mode: bool = True) -> SegmenterNetwork:
        """Switch to training or evaluation; what is frozen is always in evaluation.

        A frozen encoder keeps the running means of its batch norms, and drops nothing.
        """
        super().train(mode)
        if mode and self.frozen:
            self.encoder.eval()
        elif mode:
            for module in self.encoder.modules():
                own = list(module.parameters())
                if own and not any(parameter.requires_grad for parameter in own):
                    module.eval()
        return self


@dataclass(frozen=True, eq=False)
class StartedSegmenter:
    """Where the training of a segmenter starts; what its file is written with.

    Attributes:
        network: float32, on the CPU; ``requires_grad`` says what learns.
        preprocess: what its pixels must look like, in training as afterwards.
        record: of the encoder it began from; None of a U-Net, which has no encoder of panderm's.
        card: the same encoder's card, at this input size; None likewise.
        pool: the form of the encoder's weights; None: its own.
        layers: of its parameters; the decoder is behind the last.
        trainable: how many numbers learn.
        words: what a user must know of it, a sentence each.
        decoder: which one.
        taps: blocks that the decoder reads; none of a U-Net.
        width: channels of the decoder; None where it has no such number.
        classes: K.
        backbone: of a U-Net the name of its encoder in segmentation-models-pytorch; else None.
    """

    network: SegmenterNetwork
    preprocess: SegmentationInput
    record: EncoderRecord | None
    card: EncoderCard | None
    pool: Pool | None
    layers: Layers
    trainable: int
    words: tuple[str, ...]
    decoder: DecoderName
    taps: tuple[int, ...]
    width: int | None
    classes: int
    backbone: str | None = None

    @property
    def size(self) -> int:
        """S: side of the square in pixels."""
        return self.preprocess.size


def segmenter_for(
    encoder: str | Path | None = None,
    *,
    weights: Path | str | None = None,
    card: Path | str | None = None,
    decoder: DecoderName = "convolutional",
    taps: Sequence[int] | None = None,
    width: int | None = None,
    image_size: int = 224,
    classes: int = 2,
    frozen: bool = True,
    drop_path: float | None = None,
    seed: int = 0,
) -> StartedSegmenter:
    """Make a network that learns to segment.

    Args:
        encoder: as for :func:`panderm.load_encoder`: any that has patch tokens, or stages (timm's
            convolutional networks). For ``unet``: a name of segmentation-models-pytorch, by default
            ``resnet34``.
        weights: the encoder's, as for ``load_encoder``; for ``unet`` a local file of its backbone's, without
            which it is drawn at random.
        card: as for ``load_encoder``.
        decoder: ``linear``: a 1×1 convolution; ``convolutional``: a light feature pyramid with group norm;
            ``upernet``: the published one, batch norm; ``unet``: a network of its own, without an encoder of
            panderm's.
        taps: blocks that the decoder reads, from 0 or negative from the end; by default the last for
            ``linear``, else four in proportion to the published 7, 11, 15 and 23 of 24.
        width: channels of the decoder: by default 128 for ``convolutional``, the encoder's own for
            ``upernet``, as published.
        image_size: S in pixels, a multiple of the encoder's patch (of 32 for ``unet``).
        classes: K, how many logits at a pixel; the last is the lesion.
        frozen: the encoder does not learn. A U-Net learns as a whole.
        drop_path: stochastic depth in an encoder that learns, from 0 in the first block to this in the last.
        seed: of all that is drawn.

    Raises:
        UsageError: an unknown encoder or one without maps, a number out of its range, a library that is not
            installed.
        WeightsError: a file that is not whole, not safe or not of this encoder.

    Example:
        >>> started = segmenter_for("panderm-tiny", decoder="convolutional")  # doctest: +SKIP
        >>> started.network(pixels).shape  # doctest: +SKIP
        torch.Size([2, 2, 224, 224])
    """
    require_numbers(decoder, width=width, image_size=image_size, classes=classes)
    _require_drop_path(drop_path, decoder, frozen=frozen)
    if decoder == "unet":
        from panderm.segmenting.decoders.unet import started_unet

        return started_unet(
            encoder, weights=weights, card=card, taps=taps, image_size=image_size, classes=classes, seed=seed
        )
    chosen = choose_card(encoder, weights, card, image_size)
    pool = chosen.header.pool if chosen.header is not None else chosen.card.pool
    if pool is None and chosen.card.layout == "panderm":
        tuned = chosen.path is not None and is_tuned(read_state(chosen.path, Account(), data=False))
        pool = "mean" if tuned else "cls"
    loaded = load_encoder(encoder, weights=weights, card=card, pool=pool, image_size=image_size, device="cpu")
    part_tensors(loaded.network)
    known = chosen.card.model_copy(update={"dim": loaded.dim})
    network, width = assembled(
        loaded.network,
        name=loaded.name,
        decoder=decoder,
        taps=taps,
        width=width,
        image_size=image_size,
        classes=classes,
        seed=seed,
    )
    words = [] if frozen else _freed(network, known, drop_path)
    if loaded.record.random:
        words.insert(0, f"{loaded.name} begins from random weights")
    assert network.taps is not None
    return StartedSegmenter(
        network=network,
        preprocess=segmentation_input(loaded.preprocess, image_size),
        record=loaded.record,
        card=known,
        pool=pool,
        layers=layer_of(network),
        trainable=sum(one.numel() for one in network.parameters() if one.requires_grad),
        words=tuple(words),
        decoder=decoder,
        taps=network.taps.blocks,
        width=width,
        classes=classes,
    )


def assembled(
    encoder: nn.Module,
    *,
    name: str,
    decoder: DecoderName,
    taps: Sequence[int] | None,
    width: int | None,
    image_size: int,
    classes: int,
    seed: int | None = 0,
) -> tuple[SegmenterNetwork, int | None]:
    """Put a drawn decoder on an encoder of panderm's; return the network, and the decoder's channels.

    Args:
        encoder: as :func:`panderm.load_encoder` builds it.
        name: the encoder's, for messages.
        decoder: any but ``unet``; the others as for :func:`segmenter_for`.
        taps: likewise.
        width: likewise.
        image_size: likewise.
        classes: likewise.
        seed: likewise; None: the decoder is on no device, its weights to be replaced.

    Raises:
        UsageError: as :func:`segmenter_for`.
    """
    levels = 1 if decoder == "linear" else _LEVELS
    tapped = taps_of(encoder, name=name, image_size=image_size, taps=taps, levels=levels)
    if decoder == "linear":
        if width is not None:
            raise UsageError("a linear decoder has no channels of its own.", f"found --width {width}")
    elif len(tapped.blocks) != _LEVELS:
        raise UsageError(
            f"the decoder {decoder} must read {_LEVELS} blocks.",
            f"found {len(tapped.blocks)}: {', '.join(map(str, tapped.blocks))}",
            "name four; one may come more than once",
        )
    elif tapped.plain and image_size < 2 * tapped.strides[-1]:
        raise UsageError(
            f"the decoder {decoder} must see two patches of {name} a side or more.",
            f"found --image-size {image_size}, and patches of {tapped.strides[-1]} pixels",
            f"--image-size {2 * tapped.strides[-1]} or more; or --decoder linear",
        )
    where = torch.device("meta") if seed is None else next(encoder.parameters()).device
    with torch.random.fork_rng(devices=[]), where:
        torch.manual_seed(seed or 0)
        made: nn.Module
        if decoder == "linear":
            made = LinearDecoder(tapped.widths, classes)
        elif decoder == "convolutional":
            width = width or WIDTH
            made = ConvolutionalDecoder(tapped.widths, classes, width=width, rescale=tapped.plain)
        else:
            width = width or tapped.widths[-1]
            made = UPerNetDecoder(tapped.widths, classes, width=width, rescale=tapped.plain)
    return SegmenterNetwork(encoder, made, tapped), width


def require_numbers(decoder: str, *, width: int | None, image_size: int, classes: int) -> None:
    """Refuse what no segmenter can be.

    Raises:
        UsageError: an unknown decoder, or a number out of its range.
    """
    if decoder not in DECODERS:
        near = did_you_mean(decoder, DECODERS)
        raise UsageError(f"a decoder must be one of {', '.join(DECODERS)}.", f"found {decoder!r}{near}")
    if image_size < 1:
        raise UsageError("images must have a side of a pixel or more.", f"found --image-size {image_size}")
    if classes < 2:
        raise UsageError(
            "a segmenter must tell two classes apart or more.", f"found {classes}", "skin and lesion are two"
        )
    if width is not None and width < 1:
        raise UsageError("a decoder must have a channel or more.", f"found --width {width}")


def _require_drop_path(rate: float | None, decoder: str, *, frozen: bool) -> None:
    if not rate:
        return
    if not 0 <= rate < 1:
        raise UsageError(
            "drop path must be at least 0 and less than 1.", f"found {rate:g}", "--drop-path 0.2"
        )
    if frozen or decoder == "unet":
        raise UsageError(
            "stochastic depth must be in an encoder of panderm's that learns.",
            f"found --drop-path {rate:g}, and {'a U-Net' if decoder == 'unet' else 'a frozen encoder'}",
            "leave it out" if decoder == "unet" else "leave it out, or let the encoder learn",
        )


def _freed(network: SegmenterNetwork, card: EncoderCard, drop_path: float | None) -> list[str]:
    """Let an encoder learn, all but fixed positions and what no logit depends on; return it in words."""
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    if card.layout == "panderm":
        network.encoder.get_parameter("pos_embed").requires_grad = False
    words = [f"{card.name} has {layer_of(network).told}"]
    if drop_path:
        words.append(drop_paths(network.encoder, drop_path, card.name))
    if not is_meta(network):
        words += leave_unreached(network, card.image_size)
    return words
