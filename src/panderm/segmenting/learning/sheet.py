"""What a segmenter will see, as one picture: images with their outlines, as scored, and augmented."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from panderm.data.contours import contours
from panderm.data.images import ImageError
from panderm.data.masks import Mask
from panderm.report.drawing.contact_sheet import contact_sheet, save_sheet
from panderm.report.drawing.svg import house_style
from panderm.segmenting.learning.feed import MaskedFeed
from panderm.segmenting.learning.pairs import Pairs
from panderm.segmenting.learning.views import MaskViews

Pixels: TypeAlias = npt.NDArray[np.uint8]

SHEET_NAME = "sample-sheet.png"
IMAGES, VIEWS = 8, 5
_TRIED = 64  # pairs, until enough of them can be read
_SHOWN = 400  # pixels of an image, at most
_LONGEST = 24  # letters under a picture
_TITLE = "What the segmenter learns from: the first epochs of some training images, and their masks"


def draw_sheet(
    path: Path | str, pairs: Pairs, views: MaskViews, *, seed: int = 0, images: int = IMAGES
) -> Path | None:
    """Write a picture of some training images as the network will see them, each with its mask's outline.

    A row for each image: as it is, as it is scored, and as it is seen in five epochs, made by the feed that
    training uses. A mask that is shifted, turned or inverted shows at a glance. The images follow from the
    seed: from those with the least inside to those with the most, evenly.

    Args:
        path: of the PNG; replaced where it exists.
        pairs: what is learned from.
        views: how it is augmented.
        seed: of the run.
        images: how many, at most.

    Returns:
        The path; None where not one pair can be read.
    """
    rows, originals = _chosen(pairs, images, seed)
    if not len(rows):
        return None
    under = [f"{_short(str(pairs.table.cells('image')[i]))}\n{pairs.share[i]:.1%} inside" for i in rows]
    columns: list[tuple[str, Sequence[Pixels], Sequence[str]]] = [("as it is", originals, under)]
    blank = [""] * len(rows)
    whole = MaskViews.whole(views.size, views.interpolation)
    for number in range(-1, VIEWS):
        seen = _seen(pairs, whole if number < 0 else views, rows, seed, max(number, 0))
        if len(seen) == len(rows):  # else a file went while it was looked at: the run tells it
            columns.append((f"view of epoch {number + 1}" if number >= 0 else "as it is scored", seen, blank))
    with house_style():
        save_sheet(contact_sheet(columns, words_of(views), _TITLE), Path(path))
    return Path(path)


def words_of(views: MaskViews) -> str:
    """Say how images and masks are augmented, in one line."""
    (low, high), (narrow, wide) = views.scale, views.ratio
    parts = ["whole images"] if low == 1 else [f"crops of {low:.0%} to {high:.0%} of the area"]
    parts += [f"{narrow:.3g} to {wide:.3g} times as wide"] if (narrow, wide) != (1, 1) else []
    chances = (("mirrored", views.flip), ("upside down", views.vertical_flip), ("quarter turns", views.turn))
    parts += [f"{name} {chance:g}" for name, chance in chances if chance]
    parts += [f"rotated within ± {views.rotate:g}°"] if views.rotate else []
    parts += [f"brightness, contrast, saturation ± {views.jitter:g}"] if views.jitter else []
    parts += [f"hue ± {views.hue:g}"] if views.hue else []
    tones = views.tones
    kinds = (("grey", tones.grey), ("stretched", tones.stretch), ("inverted", tones.invert))
    parts += [f"{name} {chance:g}" for name, chance in kinds if chance]
    return f"{views.size} × {views.size} pixels, {views.interpolation}; " + "; ".join(parts)


def _chosen(pairs: Pairs, images: int, seed: int) -> tuple[list[int], list[Pixels]]:
    """Return rows whose files can be read, from small lesions to large ones, and these images, outlined."""
    order = np.random.default_rng([seed, 0]).permutation(len(pairs))[:_TRIED]
    order = order[np.argsort(pairs.share[order], kind="stable")]
    wanted = np.linspace(0, len(order) - 1, min(images, len(order))).round().astype(int)
    first = dict.fromkeys(wanted.tolist())
    rows: dict[int, Pixels] = {}
    for at in [*first, *(k for k in range(len(order)) if k not in first)]:
        if len(rows) == images:
            break
        try:
            rgb, mask = pairs.read(int(order[at]))
        except ImageError:
            continue
        rows[int(order[at])] = _outlined(rgb, mask)
    chosen = sorted(rows, key=lambda i: float(pairs.share[i]))
    return chosen, [rows[i] for i in chosen]


def _seen(pairs: Pairs, views: MaskViews, rows: list[int], seed: int, epoch: int) -> list[Pixels]:
    groups = [np.array(rows, dtype=np.int64)]
    with MaskedFeed(pairs, views, seed=seed, epoch=epoch, groups=groups, workers=1) as feed:
        batch = next(iter(feed))
    both = zip(batch.rgb.numpy(), batch.masks.numpy(), strict=True)
    return [_outlined(rgb, mask) for rgb, mask in both]


def _outlined(rgb: Pixels, mask: Mask) -> Pixels:
    return contours(rgb, mask, np.zeros_like(mask), side=_SHOWN)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
