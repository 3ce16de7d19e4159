"""A light convolutional decoder: a pyramid of the tokens, added from the top down."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from panderm.segmenting.decoders.grids import Maps, draw, resized

WIDTH = 128
"""C where nobody asks otherwise."""
_LEVELS = 4
_A_GROUP = 16  # channels


class ConvolutionalDecoder(nn.Module):
    """A feature pyramid (Lin et al., CVPR 2017) of the tokens of four blocks.

    Blocks of a plain vision transformer share one grid, so that the pyramid is made of them: the shallowest
    goes to 4 times the grid, the next to 2 times, the third stays, the deepest is halved (as of Li et al.,
    ECCV 2022), each behind a 1×1 convolution to C channels. From the top down each level is added to the one
    below and smoothed by a 3×3 convolution; all are brought to the finest grid, added, smoothed, and
    classified. Stages of other encoders have grids of their own, and keep them.

    Group norm (Wu and He, ECCV 2018), which asks nothing of the batch: a batch of one learns as any other.

    Args:
        widths: D of each of the four taps, the shallowest first.
        classes: K.
        width: C, channels of the pyramid.
        rescale: make a pyramid of one grid; False: the taps are a pyramid already.
    """

    def __init__(
        self, widths: Sequence[int], classes: int, *, width: int = WIDTH, rescale: bool = True
    ) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(D, width, 1, bias=False), _norm(width)) for D in widths
        )
        ways: list[nn.Module] = [nn.Identity() for _ in widths]
        if rescale:
            ways = [
                nn.Sequential(_doubled(width), _norm(width), nn.GELU(), _doubled(width)),
                _doubled(width),
                nn.Identity(),
                nn.MaxPool2d(2),
            ]
        self.rescale = nn.ModuleList(ways)
        self.smooth = nn.ModuleList(_smooth(width) for _ in widths)
        self.fuse = _smooth(width)
        self.conv_seg = nn.Conv2d(width, classes, 1)
        draw(self, self.conv_seg)

    def forward(self, maps: Maps) -> torch.Tensor:
        """Return logits (B, K, h, w) on the finest grid of the pyramid."""
        levels = [
            way(lateral(one)) for one, lateral, way in zip(maps, self.lateral, self.rescale, strict=True)
        ]
        for i in range(len(levels) - 1, 0, -1):
            levels[i - 1] = levels[i - 1] + resized(levels[i], levels[i - 1].shape[-2:])
        finest = levels[0].shape[-2:]
        smoothed = [resized(smooth(one), finest) for one, smooth in zip(levels, self.smooth, strict=True)]
        logits: torch.Tensor = self.conv_seg(self.fuse(torch.stack(smoothed).sum(0)))
        return logits


def _norm(width: int) -> nn.GroupNorm:
    groups = max(n for n in range(1, max(1, width // _A_GROUP) + 1) if width % n == 0)
    return nn.GroupNorm(groups, width)


def _doubled(width: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(width, width, 2, stride=2)


def _smooth(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), _norm(width), nn.ReLU())
