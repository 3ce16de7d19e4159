"""What a segmenter is taught: cross-entropy of pixels, overlap, and distance from the boundary."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from panderm.errors import UsageError
from panderm.training.long.learner import Loss

Mask: TypeAlias = npt.NDArray[np.bool_]

SMOOTHING = 1.0
"""Pixels added to overlap and area in the soft Dice: an image without a lesion has a Dice too."""


@dataclass(frozen=True)
class SegmentationLoss:
    """The loss of logits against masks: a weighted sum of up to three parts, each a mean over images.

    With p the probability of a pixel to be inside, by softmax over the two classes, and g its mask, 0 or 1:

    ``cross_entropy``: −log of the true class's probability, the mean over pixels.

    ``dice``: 1 − (2·Σ p·g + 1) / (Σ p + Σ g + 1), sums over the pixels of one image (soft Dice; Milletari et
    al., 3DV 2016, with areas not squared). The 1 is one pixel: where the mask is empty the loss is 0 if
    nothing is predicted, and tends to 1 with the area that is.

    ``boundary``: Σ p·φ / S², φ the signed distance to the mask's boundary in shares of the image's side S,
    negative inside (Kervadec et al., MIDL 2019). It is least, and below 0, where the prediction is the mask;
    pixels far from the boundary weigh most. 0 where the mask is empty or fills the image, which have no
    boundary. By itself it hardly teaches small lesions: use it beside another part.

    Attributes:
        cross_entropy: its weight, 0 to leave it out.
        dice: likewise.
        boundary: likewise.

    Raises:
        UsageError: weights that are negative, not numbers, or all 0.

    Example:
        >>> loss = SegmentationLoss(cross_entropy=1.0, dice=1.0)
        >>> found = loss(torch.zeros(1, 2, 8, 8), torch.zeros(1, 8, 8, dtype=torch.bool))
        >>> {name: round(float(part), 3) for name, part in found.parts.items()}
        {'cross_entropy': 0.693, 'dice': 0.97}
    """

    cross_entropy: float = 1.0
    dice: float = 1.0
    boundary: float = 0.0

    def __post_init__(self) -> None:
        weights = (self.cross_entropy, self.dice, self.boundary)
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
            raise UsageError(
                "weights of the losses must be 0 or more, and one of them greater.", f"found {self}"
            )

    @property
    def wants_distances(self) -> bool:
        """Whether distances from the boundary are needed; who decodes masks can measure them ahead."""
        return self.boundary > 0

    def __call__(
        self, logits: torch.Tensor, masks: torch.Tensor, distances: torch.Tensor | None = None
    ) -> Loss:
        """Return the loss of a batch, computed in float32 at least.

        Args:
            logits: float (B, 2, S, S): outside, inside.
            masks: bool (B, S, S), True inside, on the same device.
            distances: float32 (B, S, S), as :func:`signed_distance` gives them, on the same device; measured
                here where they are needed and not given.

        Returns:
            The mean over B images, and each part without its weight.

        Raises:
            UsageError: other than two classes, or shapes that do not agree.
        """
        if logits.ndim != 4 or logits.shape[1] != 2 or masks.shape != (len(logits), *logits.shape[2:]):
            raise UsageError(
                "logits must be (B, 2, S, S), and masks (B, S, S).",
                f"found {tuple(logits.shape)} and {tuple(masks.shape)}",
            )
        logits = logits if logits.dtype == torch.float64 else logits.float()
        log = functional.log_softmax(logits, dim=1)
        inside = masks.to(log.dtype)
        probability = log[:, 1].exp()
        parts: dict[str, torch.Tensor] = {}
        if self.cross_entropy:
            parts["cross_entropy"] = -torch.where(masks, log[:, 1], log[:, 0]).mean()
        if self.dice:
            both = (probability * inside).sum(dim=(1, 2))
            areas = probability.sum(dim=(1, 2)) + inside.sum(dim=(1, 2))
            parts["dice"] = (1 - (2 * both + SMOOTHING) / (areas + SMOOTHING)).mean()
        if self.boundary:
            if distances is None:
                distances = signed_distances(masks)
            parts["boundary"] = (probability * distances).mean()
        total = torch.stack([getattr(self, name) * part for name, part in parts.items()]).sum()
        return Loss(total, float(len(logits)), {name: part.detach() for name, part in parts.items()})


def signed_distance(mask: Mask) -> npt.NDArray[np.float32]:
    """Return how far each pixel lies from a mask's boundary, negative inside, in shares of the longer side.

    The boundary runs between pixels: the nearest ones lie half a pixel from it. Distances are Euclidean, from
    centre to centre of the nearest pixel of the other kind, less that half.

    Args:
        mask: bool (H, W). Empty or full, it has no boundary, and all distances are 0.

    Returns:
        float32 (H, W).

    Example:
        >>> (signed_distance(np.array([[False, True, True, False]])) * 4).tolist()
        [[0.5, -0.5, -0.5, 0.5]]
    """
    if mask.all() or not mask.any():
        return np.zeros(mask.shape, dtype=np.float32)
    kinds = (kind.astype(np.uint8) for kind in (mask, ~mask))
    inside, outside = (cv2.distanceTransform(kind, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for kind in kinds)
    # OpenCV's last bit depends on where the array lies; its square is a whole number, the same everywhere.
    far = np.sqrt(np.rint(np.square(inside + outside, dtype=np.float64))) - 0.5
    signed: npt.NDArray[np.float32] = (np.where(mask, -far, far) / max(mask.shape)).astype(np.float32)
    return signed


def signed_distances(masks: torch.Tensor) -> torch.Tensor:
    """Return the distances of a batch of masks, float32 (B, S, S), on their device."""
    found = [signed_distance(mask) for mask in masks.cpu().numpy()]
    return torch.from_numpy(np.stack(found)).to(masks.device) if found else masks.float()
