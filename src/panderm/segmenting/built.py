"""From a segmenter's file to its network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from panderm.errors import PandermError, WeightsError
from panderm.models.encoder import Encoder
from panderm.models.load import load_encoder
from panderm.segmenting.network import SegmenterNetwork, assembled
from panderm.weights.account import Account, match
from panderm.weights.checkpoint import DECODER

if TYPE_CHECKING:
    from panderm.segmenting.file import SegmenterRecord

_UNET = DECODER[1]


def built(
    path: Path, record: SegmenterRecord, beside: dict[str, torch.Tensor], *, device: str
) -> tuple[SegmenterNetwork, Encoder | None]:
    """Build the network of a segmenter's file, every tensor of it accounted for.

    Args:
        path: the file.
        record: what it says of itself.
        beside: its tensors that are not the encoder's; emptied on the way.
        device: as for :func:`panderm.load_encoder`.

    Returns:
        The network in evaluation, float32, on the device, nothing of it to be learned; and the encoder as
        ``load_encoder`` gives it, None of a U-Net.

    Raises:
        WeightsError: tensors that are not of this network, or an encoder that answers otherwise than it did.
        UsageError: a device or library that is not there.
    """
    encoder: Encoder | None = None
    if record.began is None:
        from panderm.models.device import pick_device
        from panderm.segmenting.decoders.unet import unet

        where = pick_device(device)
        network = unet(record.backbone or "", classes=len(record.classes), seed=None)
        state = {name.removeprefix(_UNET): value for name, value in beside.items()}
        beside.clear()
        expected = network.state_dict()
        whole = match(state, expected, Account(), path=path, name="its U-Net", hint="train again")
        network.load_state_dict(whole, strict=True, assign=True)
    else:
        encoder = load_encoder(weights=path, device=device)
        where = encoder.device
        try:
            network, _ = assembled(
                encoder.network,
                name=encoder.name,
                decoder=record.decoder,
                taps=record.taps,
                width=record.width,
                image_size=record.size,
                classes=len(record.classes),
                seed=None,
            )
        except PandermError as error:
            raise WeightsError(
                "the decoder in a segmenter's file must fit its encoder.",
                [f"{path}: {error.must}", *error.found],
                "train again",
            ) from None
        state = {name.removeprefix(DECODER[0]): value for name, value in beside.items()}
        beside.clear()
        expected = network.decoder.state_dict()
        whole = match(state, expected, Account(), path=path, name="its decoder", hint="train again")
        network.decoder.load_state_dict(whole, strict=True, assign=True)
    network.requires_grad_(requires_grad=False)
    return network.eval().to(where), encoder
