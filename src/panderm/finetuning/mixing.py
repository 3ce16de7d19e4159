"""Two images in one, with both their labels: mixup and CutMix, drawn from a key and from nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch

from panderm.errors import UsageError

_MIX = 2  # what tells the generator of a mix from that of an image's view


class Drawn(NamedTuple):
    """How a batch is mixed.

    Attributes:
        kind: not at all, all pixels blended, or a box of them replaced.
        share: of an image's own pixels and label, 0 to 1; the rest is its partner's.
        top, bottom, left, right: of the box, pixels, the last not in it.
    """

    kind: Literal["none", "mixup", "cutmix"] = "none"
    share: float = 1.0
    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0


class MixedBatch(NamedTuple):
    """A batch after mixing: pixels as they were given in kind, targets (n, K), and how they were mixed."""

    pixels: torch.Tensor
    targets: torch.Tensor
    drawn: Drawn


@dataclass(frozen=True)
class Mix:
    """Mixup (Zhang et al., ICLR 2018) and CutMix (Yun et al., ICCV 2019), one draw a batch.

    The first image is mixed with the last, the second with the last but one, and back; of an odd number the
    middle one stays as it is. In mixup the share of an image's own is λ ~ Beta(α, α); in CutMix 1 − λ is the
    area of a box about a uniform centre, cut off at the edges, and λ is set to what is left. Labels are mixed
    by the same share. Rules and defaults are those of timm's ``Mixup`` in its batch mode, which asks for even
    batches and draws from a global generator. Label smoothing is the objective's: it and mixing commute.

    Attributes:
        mixup: α of mixup; 0: none.
        cutmix: α of CutMix; 0: none.
        probability: that a batch is mixed at all.
        switch: probability of CutMix, where there are both.

    Raises:
        UsageError: an option out of its range.

    Example:
        >>> mix = Mix()
        >>> pixels, targets = torch.rand(5, 3, 8, 8), torch.eye(5)
        >>> made = mix.apply(pixels, targets, key=(0, 3, 17))
        >>> made.targets.sum(dim=1)
        tensor([1., 1., 1., 1., 1.])
    """

    mixup: float = 0.8
    cutmix: float = 1.0
    probability: float = 1.0
    switch: float = 0.5

    def __post_init__(self) -> None:
        sound = all(0 <= alpha < math.inf for alpha in (self.mixup, self.cutmix))
        if not (sound and 0 <= self.probability <= 1 and 0 <= self.switch <= 1):
            raise UsageError(
                "mixup and cutmix must be 0 or more, the probabilities 0 to 1.",
                f"found {self}",
                "0.8 and 1.0 are common; 0 turns one off",
            )

    @property
    def active(self) -> bool:
        """Say whether anything is ever mixed."""
        return self.probability > 0 and (self.mixup > 0 or self.cutmix > 0)

    def draw(self, key: Sequence[int], height: int, width: int) -> Drawn:
        """Draw how a batch is mixed, of images of ``height`` × ``width``.

        Args:
            key: whole numbers, 0 or more, that say which batch it is: seed, epoch and its first place.
            height: of an image, pixels.
            width: likewise.
        """
        rng = np.random.default_rng([*(int(k) for k in key), _MIX])
        whether, which = rng.random(2)
        if not self.active or whether >= self.probability:
            return Drawn()
        cuts = self.cutmix > 0 and (self.mixup == 0 or which < self.switch)
        alpha = self.cutmix if cuts else self.mixup
        share = float(rng.beta(alpha, alpha))
        if not cuts:
            return Drawn("mixup", share)
        side = math.sqrt(1 - share)
        tall, wide = int(height * side), int(width * side)
        down, right = int(rng.integers(height)), int(rng.integers(width))
        top, bottom = (min(max(edge, 0), height) for edge in (down - tall // 2, down + tall // 2))
        left, right = (min(max(edge, 0), width) for edge in (right - wide // 2, right + wide // 2))
        share = 1 - (bottom - top) * (right - left) / (height * width)
        return Drawn("cutmix", share, top, bottom, left, right)

    def apply(self, pixels: torch.Tensor, targets: torch.Tensor, *, key: Sequence[int]) -> MixedBatch:
        """Mix a batch, where it lies.

        Args:
            pixels: float (n, C, H, W), normalised or not; CutMix writes into them.
            targets: float (n, K); a label that is not known is NaN, and so is what it is mixed with.
            key: which batch it is; see :meth:`draw`.
        """
        drawn = self.draw(key, *pixels.shape[-2:])
        if drawn.share == 1 or len(pixels) < 2:
            return MixedBatch(pixels, targets, Drawn())
        if drawn.kind == "mixup":
            pixels = torch.lerp(pixels.flip(0), pixels, drawn.share)
        else:
            box = (..., slice(drawn.top, drawn.bottom), slice(drawn.left, drawn.right))
            pixels[box] = pixels[box].flip(0)
        return MixedBatch(pixels, torch.lerp(targets.flip(0), targets, drawn.share), drawn)
