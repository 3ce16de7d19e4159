"""What all decoders do with grids: bring one to another's size, and begin with weights of a fair scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

Maps = Sequence[torch.Tensor]
"""Tokens of the tapped blocks as maps, each float (B, D, h, w), the shallowest first."""
_STD = 0.01


def resized(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bring (B, C, h, w) to (B, C, *size), bilinear; pixels are areas (``align_corners`` is False).

    Every number keeps its precision: one that is shorter than float32 stays so.
    """
    height, width = size
    if tuple(x.shape[-2:]) == (height, width):
        return x
    return nn.functional.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)


def draw(decoder: nn.Module, last: nn.Conv2d) -> None:
    """Draw a decoder's weights, from PyTorch's random numbers.

    Convolutions as of He et al. (ICCV 2015), for ReLU; biases 0; the last one, which gives the logits, normal
    of 0.01, so that no class is likely at first. On no device nothing is drawn: PyTorch would take seconds to
    find out how.
    """
    if last.weight.is_meta:
        return
    for module in decoder.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.normal_(last.weight, std=_STD)
