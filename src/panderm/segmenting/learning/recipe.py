"""The numbers of training a segmenter where none are asked for: the published recipe, and one of today."""

from __future__ import annotations

from typing import Literal

RecipeName = Literal["default", "published"]
DecoderName = Literal["linear", "convolutional", "upernet", "unet"]
Monitor = Literal["jaccard", "dice", "loss"]
