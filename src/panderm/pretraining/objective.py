"""The loss: how far the student's tokens point away from the teacher's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from panderm.errors import DataError, UsageError

_EPS = 1e-12  # of a length: below it a token points nowhere


@dataclass(frozen=True)
class TokenWeights:
    """How much a token of each kind counts in the loss: numbers of 0 or more, not all 0.

    Equal weights are the published loss, one mean over all tokens. The two losses of the paper, of the
    visible and of the masked patches, are its parts.
    """

    cls: float = 1.0
    visible: float = 1.0
    masked: float = 1.0

    def __post_init__(self) -> None:
        values = (self.cls, self.visible, self.masked)
        if not all(math.isfinite(value) and value >= 0 for value in values) or not any(values):
            raise UsageError(
                "the weights of the tokens must be 0 or more, and not all 0.",
                f"found {self.cls} for CLS, {self.visible} for visible, {self.masked} for masked patches",
                "1, 1, 1 is the published loss",
            )


class Alignment(NamedTuple):
    """The loss and its parts, tensors without a dimension, float32.

    Attributes:
        loss: Σ w (1 - cos) / Σ w over all tokens of the batch: what is made smaller. 0 to 2; NaN where all of
            them have weight 0.
        cls: mean of 1 - cos over the CLS tokens, without weights or gradient.
        visible: likewise over the patches that the student saw.
        masked: likewise over those that it did not; NaN where no patch was masked.
    """

    loss: torch.Tensor
    cls: torch.Tensor
    visible: torch.Tensor
    masked: torch.Tensor


def alignment(
    predicted: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor,
    weights: TokenWeights = TokenWeights(),
) -> Alignment:
    """Compare the student's tokens with the teacher's: 1 - cosine, computed in float32.

    L = Σ w (1 - p·t / (|p| |t|)) / Σ w over the B × (1 + N) tokens; with equal weights the mean, the latent
    alignment loss of CAE v2 (Zhang et al. 2023). A length below 1e-12 counts as 1e-12.

    Args:
        predicted: (B, 1 + N, D), CLS first, then the patches row by row; any floating type.
        target: the teacher's tokens in the same order, of any length; no gradient reaches them.
        mask: bool (B, N), True where the student saw nothing.
        weights: of each kind of token.

    Raises:
        DataError: shapes that differ.
    """
    if predicted.shape != target.shape or mask.shape != (predicted.shape[0], predicted.shape[1] - 1):
        raise DataError(
            "the student's and the teacher's tokens must be as many and as wide, with a mask for each image.",
            f"found {tuple(predicted.shape)}, {tuple(target.shape)} and a mask of {tuple(mask.shape)}",
        )
    distance = 1 - _cosine(predicted.float(), target.detach().float())
    hidden = mask.to(distance.device, torch.float32)
    of_cls, of_patches = distance[:, 0], distance[:, 1:]
    masked, all_patches = (of_patches * hidden).sum(), of_patches.sum()
    visible = all_patches - masked
    n_cls = of_cls.numel()
    n_masked = hidden.sum()
    n_visible = mask.numel() - n_masked
    total = weights.cls * n_cls + weights.visible * n_visible + weights.masked * n_masked
    loss = (weights.cls * of_cls.sum() + weights.visible * visible + weights.masked * masked) / total
    return Alignment(
        loss=loss,
        cls=of_cls.detach().mean(),
        visible=visible.detach() / n_visible,
        masked=masked.detach() / n_masked,
    )


def _cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a_length, b_length = (torch.linalg.vector_norm(each, dim=-1).clamp_min(_EPS) for each in (a, b))
    cosine: torch.Tensor = (a * b).sum(-1) / (a_length * b_length)
    return cosine
