"""Masks without a label: how well an encoder's patch tokens outline lesions by themselves.

    python benchmarks/saliency.py DATA --encoder timm:vit_small_patch14_dinov2 --weights dinov2.safetensors

DATA holds the folders ham10000, isic2017_seg and padufes20, each with images/, masks/ and a table. With
``--choose 120`` the ways to do it are compared on so many training images of ham10000, drawn with seed 7;
without it the chosen ones are scored on ham10000's val images, isic2017_seg and padufes20, each fitted on 32
of those images without their masks, beside two trivial baselines: an ellipse in the middle whose area is the
mean of ham10000's train masks, and the dark side of Otsu's threshold of the grey image. Masks go to --out.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

import panderm
from panderm.data.images import read_image
from panderm.data.masks import read_mask
from panderm.predictions.masks import read_masks
from panderm.scores.masks import MaskScores, evaluate_masks
from panderm.segmenting.predicting.native import at_native
from panderm.segmenting.saliency import (
    FITTED,
    METHODS,
    SIZE,
    Saliency,
    SaliencyMethod,
    as_probability,
    load_saliency,
    together,
)

Mask = np.ndarray
_AT_ONCE = 8
_SHOWN = ("dice", "jaccard", "thresholded_jaccard")


@dataclass(frozen=True)
class Images:
    """Images with masks: rows of a table."""

    name: str
    folder: Path
    rows: pd.DataFrame
    unit: str | None

    @property
    def paths(self) -> list[Path]:
        return [self.folder / "images" / name for name in self.rows["image"]]

    @property
    def masks(self) -> list[Path]:
        return [self.folder / "masks" / name for name in self.rows["mask"]]


def images_of(data: Path, name: str, most: int | None) -> Images:
    """Return what a set is scored on; of many images so many, drawn with seed 7."""
    table, unit = {
        "ham10000": ("ham_clean.csv", "lesion_id"),
        "isic2017_seg": ("labels.csv", None),
        "padufes20": ("labels.csv", "patient_id"),
    }[name]
    rows = pd.read_csv(data / name / table)
    rows = rows[rows["mask"].notna()]
    if name == "ham10000":
        rows = rows[rows["split"] == "val"]
    if most is not None and len(rows) > most:
        rows = rows.sample(most, random_state=7)
    return Images(name, data / name, rows, unit)


def training(data: Path) -> pd.DataFrame:
    """Return the training rows of ham10000."""
    rows = pd.read_csv(data / "ham10000" / "ham_clean.csv")
    return rows[rows["split"] == "train"]


def looked_at(saliency: Saliency, images: Images, *, attention: bool) -> list[list[np.ndarray]]:
    """Return the tokens of each block, float16 (n, h, w, D); with attention also the last block's maps."""
    blocks: list[list[np.ndarray]] = []
    for start in range(0, len(images.paths), _AT_ONCE):
        paths = images.paths[start : start + _AT_ONCE]
        squares = np.stack([saliency.pixels_of(read_image(path)) for path in paths])
        found = [one.astype(np.float16) for one in saliency.tokens(squares)]
        if attention:
            found.append(saliency.encoder.attention(saliency._normalised(squares)).mean(dim=1).numpy())
        blocks.append(found)
        print(f"\r{images.name}: {start + len(paths)} of {len(images.paths)}", end="", flush=True)
    print()
    return [list(part) for part in zip(*blocks, strict=True)]


def dark(path: Path) -> Mask:
    """Return the dark side of Otsu's threshold of a grey image that is blurred a little."""
    grey = cv2.GaussianBlur(cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY), (5, 5), 0)
    return cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)[1] > 0


def ellipse(height: int, width: int, share: float) -> Mask:
    """Return an ellipse in the middle, its axes as the image's sides, that covers a share of it."""
    y, x = np.mgrid[:height, :width]
    y, x = (y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5
    return x * x + y * y <= share / np.pi


def scored(images: Images, masks: Iterator[Mask], folder: Path, *, draws: int, seed: int) -> MaskScores:
    """Write masks, read them with the truth, and score them."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for path, mask in zip(images.masks, masks, strict=True):
        files.append(folder.absolute() / f"{path.stem}.png")
        Image.fromarray(mask).save(files[-1])
    table = pd.DataFrame(
        {
            "image": images.rows["image"].to_numpy(),
            "mask": [str(one.absolute()) for one in images.masks],
            "predicted_mask": [str(one) for one in files],
        }
    )
    if images.unit is not None:
        table[images.unit] = images.rows[images.unit].to_numpy()
    table.to_csv(folder / "both.csv", index=False)
    scores = evaluate_masks(read_masks(folder / "both.csv", progress=False), draws=draws, seed=seed)
    scores.save(folder / "scores.json", overwrite=True)
    return scores


def at_size(probability: np.ndarray, images: Images) -> Iterator[Mask]:
    """Yield the masks of probabilities (n, S, S), each at its true mask's size."""
    for one, path in zip(probability, images.masks, strict=True):
        yield at_native(one, *read_mask(path).shape) >= 0.5


def by(
    saliency: Saliency, method: SaliencyMethod, tokens: list[np.ndarray], images: Images
) -> Iterator[Mask]:
    """Yield the masks of one way, its axis found on some of the images themselves."""
    n = len(images.rows)
    places = np.unique(np.linspace(0, n - 1, min(FITTED, n)).round().astype(int))
    saliency.method = method
    saliency.fit([[one[places] for one in tokens]])
    return at_size(as_probability(saliency.maps(tokens), saliency.size), images)


def line(what: str, scores: MaskScores) -> str:
    """Return a row of a table."""
    cells = []
    for name in _SHOWN:
        score = scores.per_image[name]
        cells.append(f"{score.value:.3f} ({score.low:.3f}–{score.high:.3f})")
    return f"| {what} | {' | '.join(cells)} |"


def choose(data: Path, saliency: Saliency, n: int) -> None:
    """Compare ways on training images: mean Dice and Jaccard, no interval: nothing is claimed of them."""
    rows = training(data).sample(n, random_state=7)
    images = Images("ham10000 train", data / "ham10000", rows, "lesion_id")
    *tokens, attention = (np.concatenate(one) for one in looked_at(saliency, images, attention=True))
    truth = [read_mask(path) for path in images.masks]
    singles = {f"block {b}": [k] for k, b in enumerate(saliency.blocks)}
    print(f"| {saliency.encoder.name}, {saliency.size} pixels | Dice | Jaccard |\n|---|---|---|")

    def told(what: str, maps: np.ndarray) -> None:
        dice, jaccard = [], []
        for one, mask in zip(as_probability(maps, saliency.size), truth, strict=True):
            found = at_native(one, *mask.shape) >= 0.5
            both = int((found & mask).sum())
            dice.append(2 * both / (int(found.sum()) + int(mask.sum())))
            jaccard.append(both / int((found | mask).sum()))
        print(f"| {what} | {np.mean(dice):.3f} | {np.mean(jaccard):.3f} |", flush=True)

    for what, places in {**singles, "all three": list(range(len(tokens)))}.items():
        chosen = [tokens[k] for k in places]
        for fitted in (1, 8, FITTED, n) if what == "all three" else (FITTED,):
            saliency.method = "pca"
            saliency.fit([[one[:fitted] for one in chosen]])
            told(f"pca, {what}, axis of {fitted} images", saliency.maps(chosen))
        each = np.concatenate([_alone(saliency, [one[i : i + 1] for one in chosen]) for i in range(n)])
        told(f"pca, {what}, each image for itself", each)
        saliency.method = "border"
        told(f"border, {what}", saliency.maps(chosen))
    told("attention of the last block", attention)
    told("attention and border together", together([attention, saliency.maps(tokens)]))


def _alone(saliency: Saliency, tokens: list[np.ndarray]) -> np.ndarray:
    return saliency.fit([tokens]).maps(tokens)


def report(
    data: Path, saliency: Saliency, names: list[str], out: Path, *, most: int | None, draws: int, seed: int
) -> None:
    """Score the chosen ways, and the trivial ones, on sets that chose nothing."""
    share = float(
        np.mean([read_mask(data / "ham10000" / "masks" / f).mean() for f in training(data)["mask"]])
    )
    print(f"ellipse: {share:.4f} of the image, the mean of {len(training(data)):,} train masks")
    for name in names:
        images = images_of(data, name, most)
        tokens = [np.concatenate(one) for one in looked_at(saliency, images, attention=False)]
        made: dict[str, Callable[[], Iterator[Mask]]] = {}
        made["ellipse in the middle"] = lambda images=images: (
            ellipse(*read_mask(path).shape, share) for path in images.masks
        )
        made["Otsu, dark side"] = lambda images=images: (dark(path) for path in images.paths)
        for method in METHODS[:2]:
            made[f"saliency, {method}"] = partial(by, saliency, method, tokens, images)
        for k, (what, masks) in enumerate(made.items()):
            scores = scored(images, masks(), out / name / what.replace(", ", "-"), draws=draws, seed=seed)
            if not k:
                unit = f"{scores.clusters:,} {scores.unit}s resampled, {draws:,} draws, seed {seed}"
                print(f"\n{name}: {scores.n:,} images; {unit}\n| | Dice | Jaccard | thresholded |")
                print("|---|---|---|---|")
            print(line(what, scores), flush=True)


def main() -> None:
    """Say what is to be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--encoder", default="panderm-tiny")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--image-size", type=int, default=SIZE)
    parser.add_argument("--choose", type=int, metavar="N")
    parser.add_argument("--sets", nargs="+", default=["ham10000", "isic2017_seg", "padufes20"])
    parser.add_argument("--most", type=int, metavar="N", help="images of a set; default: all")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    saliency = load_saliency(asked.encoder, weights=asked.weights, image_size=asked.image_size)
    print(f"panderm {panderm.__version__}, {saliency.encoder}, {saliency.size} pixels, {saliency.blocks=}")
    if asked.choose:
        choose(asked.data, saliency, asked.choose)
        return
    out = asked.out or Path(tempfile.mkdtemp())
    report(asked.data, saliency, asked.sets, out, most=asked.most, draws=asked.draws, seed=asked.seed)
    print(f"masks: {out}")


if __name__ == "__main__":
    main()
