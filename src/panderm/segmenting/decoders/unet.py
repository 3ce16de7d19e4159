"""The baseline: a U-Net of segmentation-models-pytorch, on a convolutional network of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from panderm.data.preprocess import Preprocess
from panderm.errors import UsageError, did_you_mean
from panderm.finetuning.layers import layer_of
from panderm.models.families import require
from panderm.segmenting.decoders.batch_norm import BatchNorm
from panderm.weights.account import Account, match
from panderm.weights.checkpoint import read_state

if TYPE_CHECKING:
    from panderm.segmenting.network import SegmenterNetwork, StartedSegmenter

BACKBONE = "resnet34"
"""Its encoder where nobody asks otherwise."""
STRIDE = 32
"""The side of its images is a multiple of this, in pixels."""
_IMAGENET = Preprocess(
    resize=(STRIDE, STRIDE),
    crop=STRIDE,
    interpolation="bilinear",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
_CLASSIFIERS = ("fc.", "classifier.", "last_linear.", "head.")


class UNetDecoder(nn.Module):
    """The decoder of a U-Net (Ronneberger et al., MICCAI 2015) and its last convolution.

    Args:
        blocks: from the maps of its encoder to a map of the images' own size.
        head: from that map to logits.
    """

    def __init__(self, blocks: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.blocks = blocks
        self.head = head

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return logits (B, K, S, S)."""
        logits: torch.Tensor = self.head(self.blocks(list(maps)))
        return logits


def unet(backbone: str, *, classes: int, seed: int | None) -> SegmenterNetwork:
    """Build a U-Net with drawn weights; nothing is downloaded.

    Args:
        backbone: a name of segmentation-models-pytorch, ``tu-…`` of timm's among them.
        classes: K.
        seed: of the weights; None: they are on no device, to be replaced.

    Raises:
        UsageError: no such backbone, or the library is not installed.
    """
    from panderm.segmenting.network import SegmenterNetwork

    smp: Any = require("segmentation_models_pytorch", "segmentation", what="a U-Net")
    from torch.random import fork_rng

    with fork_rng(devices=[]):
        torch.manual_seed(seed or 0)
        try:
            made = smp.Unet(backbone, encoder_weights=None, classes=classes)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            known = smp.encoders.get_encoder_names()
            near = did_you_mean(backbone, known)
            reason = (str(error) or type(error).__name__).splitlines()[0].partition(", supported")[0]
            why = "" if near else f": {reason.strip(chr(34))}"
            raise UsageError(
                "the backbone of a U-Net must be one that segmentation-models-pytorch has.",
                f"found {backbone!r}{near}{why}",
                f"--encoder {BACKBONE}; or another --decoder for encoders of panderm's",
            ) from None
    _renorm(made)
    network = SegmenterNetwork(made.encoder, UNetDecoder(made.decoder, made.segmentation_head), None)
    return network if seed is not None else network.to("meta")


def _renorm(network: nn.Module) -> None:
    """Give a network batch norms that learn from a batch of one, and over several processes."""
    for parent in network.modules():
        for name, norm in parent.named_children():
            if type(norm) is nn.BatchNorm2d:
                own = BatchNorm(norm.num_features, norm.eps, norm.momentum)
                own.load_state_dict(norm.state_dict())
                setattr(parent, name, own)


def started_unet(
    encoder: str | Path | None,
    *,
    weights: Path | str | None,
    card: Path | str | None,
    taps: Sequence[int] | None,
    image_size: int,
    classes: int,
    seed: int,
) -> StartedSegmenter:
    """Make a U-Net that learns; arguments as of :func:`panderm.segmenting.network.segmenter_for`.

    Raises:
        UsageError: no such backbone, what a U-Net has not, or a side that is no multiple of 32.
        WeightsError: weights that are not the backbone's.
    """
    from panderm.segmenting.network import StartedSegmenter, segmentation_input

    backbone = BACKBONE if encoder is None else str(encoder)
    for option, value in (("--card", card), ("--taps", taps)):
        if value is not None:
            raise UsageError(
                f"{option} is of an encoder of panderm's.",
                f"found {option} {value} and a U-Net",
                "leave it out",
            )
    if image_size % STRIDE:
        low = max(1, image_size // STRIDE) * STRIDE
        raise UsageError(
            f"the side of a U-Net's images must be a multiple of {STRIDE} pixels.",
            f"found --image-size {image_size}",
            f"--image-size {low} or {low + STRIDE}",
        )
    network = unet(backbone, classes=classes, seed=seed)
    words = f"a U-Net on {backbone}, all of which learns from random weights"
    if weights is not None:
        account = _fill(network.encoder, Path(weights).expanduser(), backbone)
        words = f"a U-Net on {backbone}, all of which learns; of {weights} {account}"
    return StartedSegmenter(
        network=network,
        preprocess=segmentation_input(_IMAGENET, image_size),
        record=None,
        card=None,
        pool=None,
        layers=layer_of(network),
        trainable=sum(one.numel() for one in network.parameters() if one.requires_grad),
        words=(words,),
        decoder="unet",
        taps=(),
        width=None,
        classes=classes,
        backbone=backbone,
    )


def _fill(encoder: nn.Module, path: Path, backbone: str) -> Account:
    """Give a backbone the weights of a local file, under its own names or timm's."""
    account = Account()
    state = read_state(path, account)
    expected = encoder.state_dict()
    if all(name.startswith("model.") for name in expected) and not any(k.startswith("model.") for k in state):
        state = {f"model.{name}": value for name, value in state.items()}  # timm's, wrapped
    for name in [name for name in state if name not in expected]:
        if name.removeprefix("model.").startswith(_CLASSIFIERS):
            account.drop(name, "classifier")
            del state[name]
    hint = f"give weights of {backbone}, or leave --weights out to begin from random ones"
    whole = match(state, expected, account, path=path, name=backbone, hint=hint)
    encoder.load_state_dict(whole, strict=True)
    return account
