"""A linear decoder: what the tokens themselves say of each patch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from panderm.segmenting.decoders.grids import Maps, draw, resized


class LinearDecoder(nn.Module):
    """A linear classifier of each token: one 1×1 convolution, D·K + K numbers, no norm.

    The tokens come through the encoder's final norm. Of several taps the tokens are put side by side.

    Args:
        widths: D of each tap.
        classes: K.
    """

    def __init__(self, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.conv_seg = nn.Conv2d(sum(widths), classes, 1)
        draw(self, self.conv_seg)

    def forward(self, maps: Maps) -> torch.Tensor:
        """Return logits (B, K, h, w) on the finest of the grids."""
        finest = max((one.shape[-2:] for one in maps), key=lambda size: size[0] * size[1])
        logits: torch.Tensor = self.conv_seg(torch.cat([resized(one, finest) for one in maps], dim=1))
        return logits
