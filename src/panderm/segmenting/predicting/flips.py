"""An image seen mirrored and turned: the mean of the answers, turned back, and how far they lie apart."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from panderm.classifying.tta import TURNS, turned
from panderm.segmenting.predicting.answers import Answers, Image8, Probability

Flips = Literal["flips", "2", "4", "8"]
_COUNT: dict[str | None, int] = {None: 1, "flips": 4, "2": 2, "4": 4, "8": 8}
_BACK = {4: 5, 5: 4}  # every other way of lying is its own inverse


def views_of(tta: Flips | None) -> int:
    """Return how many ways of lying are seen: the first of ``TURNS``."""
    return _COUNT[tta]


def flips_in_words(tta: Flips | None) -> str | None:
    """Return the views for a card; None for the image as it is alone."""
    return None if tta is None else f"mean over {views_of(tta)} views: {', '.join(TURNS[: views_of(tta)])}"


def answer(model: Answers, pixels: Image8, views: int) -> tuple[Probability, Probability | None]:
    """Return the mean of the answers to squares that lie in several ways, and their standard deviation.

    Args:
        model: what answers.
        pixels: uint8 (B, S, S, 3).
        views: how many of ``TURNS``.

    Returns:
        float32 (B, S, S) each; None in place of a deviation of one view.
    """
    seen = torch.from_numpy(np.ascontiguousarray(pixels))
    made = []
    for k in range(views):
        asked = turned(seen, k).contiguous().numpy()
        found = torch.as_tensor(model.probabilities(asked)).detach().to("cpu", torch.float32)
        made.append(turned(found[..., None], _BACK.get(k, k))[..., 0])
    if views == 1:
        return made[0].contiguous().numpy(), None
    stacked = torch.stack(made)
    return stacked.mean(dim=0).numpy(), stacked.std(dim=0, correction=0).numpy()
