"""UPerNet as the published segmentation code has it, in plain PyTorch and under its names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from panderm.segmenting.decoders.batch_norm import BatchNorm
from panderm.segmenting.decoders.grids import Maps, draw, resized

POOLED = (1, 2, 3, 6)
"""Sides of the grids that the deepest map is pooled to."""
_LEVELS = 4


class UPerNetDecoder(nn.Module):
    """UPerNet (Xiao et al., ECCV 2018): pyramid pooling of the deepest map, a feature pyramid below it.

    Blocks of a plain vision transformer share one grid; four operators make a pyramid of them: 4 times (two
    transposed convolutions with batch norm and GELU between), 2 times (one), as it is, and the half
    (maximum). Every convolution but the last has batch norm and ReLU behind it, and no bias. Its tensors have
    the names of the published checkpoint without ``segmentor.backbone.`` and ``segmentor.decode_head.``.

    Args:
        widths: D of each of the four taps, the shallowest first.
        classes: K.
        width: C, channels of the head; the published one has C = D = 1024.
        rescale: make a pyramid of one grid; False: the taps are a pyramid already.
    """

    def __init__(self, widths: Sequence[int], classes: int, *, width: int, rescale: bool = True) -> None:
        super().__init__()
        self.rescale = rescale
        if rescale:
            first, second = widths[0], widths[1]
            self.fpn1 = nn.Sequential(_doubled(first), BatchNorm(first), nn.GELU(), _doubled(first))
            self.fpn2 = nn.Sequential(_doubled(second))
            self.fpn4 = nn.MaxPool2d(2)
        self.conv_seg = nn.Conv2d(width, classes, 1)
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), Convolution(widths[-1], width, 1)) for side in POOLED
        )
        self.bottleneck = Convolution(widths[-1] + len(POOLED) * width, width, 3)
        self.lateral_convs = nn.ModuleList(Convolution(D, width, 1) for D in widths[:-1])
        self.fpn_convs = nn.ModuleList(Convolution(width, width, 3) for _ in widths[:-1])
        self.fpn_bottleneck = Convolution(_LEVELS * width, width, 3)
        draw(self, self.conv_seg)

    def forward(self, maps: Maps) -> torch.Tensor:
        """Return logits (B, K, h, w) on the finest grid of the pyramid."""
        pyramid = list(maps)
        if self.rescale:
            pyramid = [self.fpn1(maps[0]), self.fpn2(maps[1]), maps[2], self.fpn4(maps[3])]
        levels = [lateral(one) for lateral, one in zip(self.lateral_convs, pyramid[:-1], strict=True)]
        levels.append(self.pooled(pyramid[-1]))
        for i in range(len(levels) - 1, 0, -1):
            levels[i - 1] = levels[i - 1] + resized(levels[i], levels[i - 1].shape[-2:])
        smoothed = [conv(one) for conv, one in zip(self.fpn_convs, levels[:-1], strict=True)] + levels[-1:]
        finest = levels[0].shape[-2:]
        whole = torch.cat([resized(one, finest) for one in smoothed], dim=1)
        logits: torch.Tensor = self.conv_seg(self.fpn_bottleneck(whole))
        return logits

    def pooled(self, deepest: torch.Tensor) -> torch.Tensor:
        """Return pyramid pooling (Zhao et al., CVPR 2017) of the deepest map, (B, C, h, w)."""
        context = [resized(pool(deepest), deepest.shape[-2:]) for pool in self.psp_modules]
        made: torch.Tensor = self.bottleneck(torch.cat([deepest, *context], dim=1))
        return made


class Convolution(nn.Module):
    """A convolution without bias that keeps the grid, batch norm, ReLU."""

    def __init__(self, width: int, to: int, side: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, to, side, padding=side // 2, bias=False)
        self.bn = BatchNorm(to)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, to, h, w)."""
        return nn.functional.relu(self.bn(self.conv(x)))


def _doubled(width: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(width, width, 2, stride=2)
