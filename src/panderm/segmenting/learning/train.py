"""One arrow: from images with masks and an encoder to a segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from panderm.data.stored import MAX_MEGAPIXELS
from panderm.embeddings.making.ranks import Ranks
from panderm.scores import DRAWS
from panderm.segmenting.learning.finished import Trained
from panderm.segmenting.learning.recipe import DecoderName, Monitor, RecipeName


def train_segmenter(
    table: Path | str,
    out: Path | str,
    *,
    masks: Path | str | None = None,
    mask_column: str = "mask",
    images: Path | str | None = None,
    image_column: str = "image",
    split_column: str = "split",
    patient: str | None = None,
    group: str | None = None,
    skip_bad: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    percent_data: float = 1.0,
    allow_leaks: bool = False,
    encoder: str | Path | None = None,
    weights: Path | str | None = None,
    card: Path | str | None = None,
    decoder: DecoderName | None = None,
    taps: Sequence[int] | None = None,
    width: int | None = None,
    image_size: int = 224,
    finetune_encoder: bool | None = None,
    recipe: RecipeName = "default",
    epochs: int | None = None,
    batch_size: int | None = None,
    micro_batch_size: int | None = None,
    lr: float | None = None,
    min_lr: float | None = None,
    warmup_epochs: float | None = None,
    weight_decay: float | None = None,
    clip_grad: float | None = None,
    layer_decay: float | None = None,
    drop_path: float | None = None,
    cross_entropy: float | None = None,
    dice: float | None = None,
    boundary: float | None = None,
    ema: float | None = None,
    monitor: Monitor | None = None,
    patience: int | None = None,
    largest: bool | None = None,
    fill_holes: bool | None = None,
    draws: int = DRAWS,
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    device: str = "auto",
    workers: int | None = None,
    checkpoint_minutes: float = 10.0,
    tensorboard: bool = False,
    name: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
    ranks: Ranks | None = None,
) -> Trained:
    """Train a segmenter on images with masks; run again after a stop, it goes on.

    The rows of ``train`` teach, those of ``val`` choose the epoch by masks at the network's own size, and
    those of ``test`` are looked at once, at the end, at each image's native size.

    Example:
        >>> run = panderm.train_segmenter(
        ...     "ham.csv", "run", images="images/", masks="masks/", encoder="panderm-base", weights="base.pth"
        ... )  # doctest: +SKIP
        >>> run.scores.per_image["jaccard"]  # doctest: +SKIP
    """
    raise NotImplementedError
