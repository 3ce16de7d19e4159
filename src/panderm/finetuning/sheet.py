"""What the network will see, as one picture: some images as they are, as they are scored, and augmented."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from PIL import Image

from panderm.data.images import ImageError, read_image
from panderm.data.preprocess import Preprocess
from panderm.data.table import Table
from panderm.finetuning.feed import LabelledFeed
from panderm.finetuning.mixing import Mix
from panderm.finetuning.views import TrainViews
from panderm.fitted.probe import Link
from panderm.report.drawing.contact_sheet import contact_sheet, save_sheet
from panderm.report.drawing.svg import house_style

Pixels: TypeAlias = npt.NDArray[np.uint8]

SHEET_NAME = "sample-sheet.png"
IMAGES, VIEWS = 8, 5
_MIXED = 2  # of the views, where images are mixed
_TRIED = 64  # images, until enough of them can be read
_SHOWN = 400  # pixels of an image as it is, at most
_LEAST = 0.005  # a share of a label that is told
_LONGEST = 24  # letters under a picture


def draw_sheet(
    path: Path | str,
    table: Table,
    targets: torch.Tensor,
    views: TrainViews,
    *,
    classes: Sequence[str],
    preprocess: Preprocess,
    mix: Mix | None = None,
    link: Link = "softmax",
    seed: int = 0,
    images: int = IMAGES,
) -> Path | None:
    """Write a picture of some training images as the network will see them, so that a wrong transform shows.

    A row for each image: as it is, with its label; the square that is scored; and five views of the first
    epochs, made by the feed that training uses. Where batches are mixed, the last two views are: one by mixup
    and one by CutMix where there are both, each with the labels that are taught. Images of all classes are
    shown in turn; which, follows from the seed.

    Args:
        path: of the PNG; replaced where it exists.
        table: the training rows.
        targets: float (n, K), NaN where a label is not known, in the order of the table.
        views: how images are augmented.
        classes: K names.
        preprocess: of the encoder: what validation images become.
        mix: how batches are mixed; None: not.
        link: ``sigmoid``: an image may have several labels, or none.
        seed: of the run.
        images: how many, at most.

    Returns:
        The path; None where not one image can be read.
    """
    rows, originals, scored = _chosen(table, targets, images, seed, preprocess)
    if not len(rows):
        return None
    columns: list[tuple[str, Sequence[Pixels], list[str]]] = []
    names = [_short(str(table.cells("image")[int(i)])) for i in rows]
    told = [_told(targets[int(i)], classes, link) for i in rows]
    columns.append(("as it is", originals, [f"{a}\n{b}" for a, b in zip(names, told, strict=True)]))
    columns.append(("as it is scored", scored, [""] * len(rows)))
    mixers = _mixers(mix)
    for number in range(VIEWS):
        with LabelledFeed(table, views, seed=seed, epoch=number, groups=[rows], workers=1) as feed:
            batch = next(iter(feed))
        if len(batch.rows) < len(rows):
            continue  # a file went while it was looked at: the run tells it
        late = number - (VIEWS - len(mixers))
        if late < 0:
            columns.append((f"view of epoch {number + 1}", list(batch.rgb.numpy()), [""] * len(rows)))
            continue
        pixels, taught = batch.rgb.movedim(-1, 1).float(), targets[torch.from_numpy(rows)]
        mixed = mixers[late].apply(pixels, taught, key=(seed, number, int(rows[0])))
        rgb = mixed.pixels.round().clamp(0, 255).byte().movedim(1, -1).numpy()
        under = [_told(one, classes, link) for one in mixed.targets]
        title = {"mixup": "by mixup", "cutmix": "by CutMix", "none": "not mixed"}[mixed.drawn.kind]
        columns.append((f"epoch {number + 1}, {title}", list(rgb), under))
    with house_style():
        save_sheet(_figure(columns, _words(views, mix)), Path(path))
    return Path(path)


def _chosen(
    table: Table, targets: torch.Tensor, images: int, seed: int, preprocess: Preprocess
) -> tuple[npt.NDArray[np.int64], list[Pixels], list[Pixels]]:
    """Return rows, a class in turn, whose images can be read; these images, small; and what is scored."""
    order = np.random.default_rng([seed, 0]).permutation(len(table))
    of_class = targets.nan_to_num().argmax(dim=1).numpy()[order]
    turn = np.empty(len(order), dtype=np.int64)  # how many of its class come before it
    for k in np.unique(of_class):
        turn[of_class == k] = np.arange((of_class == k).sum())
    rows: list[int] = []
    found: list[Pixels] = []
    scored: list[Pixels] = []
    for i in order[np.lexsort((of_class, turn))][:_TRIED]:
        if len(rows) == images:
            break
        try:
            most = table.card.max_megapixels
            rgb = read_image(str(table.cells("path")[int(i)]), max_megapixels=most)
        except ImageError:
            continue
        rows.append(int(i))
        scored.append(preprocess.pixels(rgb))
        small = Image.fromarray(rgb)
        small.thumbnail((_SHOWN, _SHOWN))
        found.append(np.asarray(small))
    return np.array(rows, dtype=np.int64), found, scored


def _mixers(mix: Mix | None) -> list[Mix]:
    """Return what mixes the last views: surely, and each kind in turn."""
    if mix is None or not mix.active:
        return []
    kinds = [Mix(mixup=mix.mixup, cutmix=0.0), Mix(mixup=0.0, cutmix=mix.cutmix)]
    kinds = [one for one in kinds if one.active]
    return [kinds[i % len(kinds)] for i in range(_MIXED)]


def _told(target: torch.Tensor, classes: Sequence[str], link: Link) -> str:
    """Return the labels that are taught, each with its share where that is not all."""
    shares = target.tolist()
    parts = sorted(((share, name) for share, name in zip(shares, classes, strict=True)), reverse=True)
    named = [
        _named(name) + ("" if share > 1 - _LEAST else f" {share:.2f}")
        for share, name in parts
        if share >= _LEAST  # what is not known is not a number, and not greater
    ]
    if link == "sigmoid" and (unknown := sum(share != share for share in shares)):
        named.append(f"{unknown} not known")
    return "\n".join([*named[:2], f"and {len(named) - 2} more"] if len(named) > 3 else named) or "none"


def _named(name: str) -> str:
    return f"class {name}" if name.isdecimal() else _short(name)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _words(views: TrainViews, mix: Mix | None) -> str:
    low, high = views.scale
    parts = [f"crops of {low:.0%} to {high:.0%} of the area"]
    if views.shorter:
        parts.insert(0, f"shorter side to {views.shorter}")
    chances = (("mirrored", views.flip), ("upside down", views.vertical_flip), ("quarter turns", views.turn))
    parts += [f"{name} {chance:g}" for name, chance in chances if chance]
    parts += [f"rotated within ± {views.rotate:g}°"] if views.rotate else []
    parts += [f"brightness, contrast, saturation ± {views.jitter:g}"] if views.jitter else []
    parts += [f"hue ± {views.hue:g}"] if views.hue else []
    if mix is not None and mix.active:
        kinds = [("mixup", mix.mixup), ("CutMix", mix.cutmix)]
        parts += [f"{name} α {alpha:g}" for name, alpha in kinds if alpha]
    return f"{views.size} × {views.size} pixels, {views.interpolation}; " + "; ".join(parts)


def _figure(columns: Sequence[tuple[str, Sequence[Pixels], list[str]]], words: str) -> Figure:
    return contact_sheet(
        columns, words, "What the network learns from: the first epochs of some training images"
    )
