"""Draw the pictures of docs/tokens-and-attention.md and docs/map.md: drawn lesions, seen by a real encoder.

    python docs/pictures/make.py --weights dinov2_vits14.safetensors

All lesions are drawn by panderm; nothing of a patient is shown.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

import panderm

Image8 = npt.NDArray[np.uint8]
HERE = Path(__file__).parent
SEED = 3


def colours_of(tokens: npt.NDArray[np.float32]) -> Image8:
    """Return the first three principal components of patch tokens (n, h, w, D) as colours (n, h, w, 3).

    The components are those of all images together, so that one colour means one thing in all of them. Each
    is turned to be high in the middle of the images, where a lesion lies: a component's sign is arbitrary.
    """
    n, h, w, dim = tokens.shape
    centred = tokens.reshape(-1, dim) - tokens.mean(axis=(0, 1, 2))
    axes = np.linalg.svd(centred, full_matrices=False)[2][:3]
    parts = (centred @ axes.T).reshape(n, h, w, 3)
    middle = parts[:, h // 3 : -(h // 3), w // 3 : -(w // 3)].mean(axis=(0, 1, 2))
    parts *= np.where(middle < 0, -1, 1)
    low, high = np.percentile(parts, [2, 98], axis=(0, 1, 2))
    colours: Image8 = (np.clip((parts - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return colours


def strip(images: Sequence[Image8], *, gap: int = 6) -> Image8:
    """Return images of one height side by side, white between them."""
    white = np.full((images[0].shape[0], gap, 3), 255, np.uint8)
    row = [part for image in images for part in (white, image)][1:]
    return np.concatenate(row, axis=1)


def stack(rows: Sequence[Image8], *, gap: int = 6) -> Image8:
    """Return strips of one width, one below the other."""
    return strip([row.transpose(1, 0, 2) for row in rows], gap=gap).transpose(1, 0, 2)


def pictures(encoder: panderm.Encoder, lesions: Sequence[Image8]) -> dict[str, Image8]:
    """Return ``tokens`` (lesion, early, late block) and ``attention`` (lesion, one head, all, rollout)."""
    seen = encoder.preprocess
    pixels = np.stack([seen(lesion).numpy() for lesion in lesions])
    early, late = (colours_of(one) for one in encoder.tokens(pixels, blocks=[2, -1]))
    heads = encoder.attention(pixels)
    rollout = encoder.attention(pixels, rollout=True)
    tokens, attention = [], []
    for i, lesion in enumerate(lesions):
        tokens.append(
            strip(
                [
                    lesion,
                    *(panderm.overlay(lesion, one[i], preprocess=seen, opacity=1) for one in (early, late)),
                ]
            )
        )
        # The head that looks at the fewest places: the most different from an even look at everything.
        share = heads[i] / heads[i].sum(axis=(1, 2), keepdims=True)
        sharpest = int((share**2).sum(axis=(1, 2)).argmax())
        laid = []
        for one in (heads[i, sharpest], heads[i].mean(axis=0), rollout[i]):
            # One patch in a hundred may be off the scale, or nothing else would be seen in the rollout.
            limits = (float(one.min()), float(np.percentile(one, 99)))
            laid.append(panderm.overlay(lesion, one, preprocess=seen, opacity=0.6, limits=limits))
        attention.append(strip([lesion, *laid]))
    return {"tokens": stack(tokens), "attention": stack(attention)}


def map_of_drawn(weights: str, folder: Path) -> Image8:
    """Return the map of the demo's 240 drawn lesions, coloured by label."""
    encoder = panderm.load_encoder(
        "timm:vit_small_patch14_dinov2", weights=weights, image_size=224, device="cpu"
    )
    world = panderm.draw_world(folder / "world", n=240)
    table = panderm.read_table(world.csv, images=world.images, progress=False)
    found = panderm.map_embeddings(encoder.embed(table, progress=False), color=["label"])
    found.save_png(folder / "map.png", dpi=130)
    return np.asarray(Image.open(folder / "map.png").convert("RGB"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True, help="weights of DINOv2's ViT-S/14")
    parser.add_argument("--images", nargs="*", default=[], help="photographs, instead of drawn lesions")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the PNG files")
    args = parser.parse_args()
    encoder = panderm.load_encoder(
        "timm:vit_small_patch14_dinov2", weights=args.weights, image_size=448, device="cpu"
    )
    if args.images:
        lesions = [panderm.read_image(path) for path in args.images]
    else:
        with tempfile.TemporaryDirectory() as folder:
            world = panderm.draw_world(Path(folder) / "world", n=15, seed=SEED, size=(280, 210))
            table = panderm.read_table(world.csv, images=world.images, progress=False)
            chosen = [list(table.label).index(name) for name in ("melanoma", "keratosis")]
            lesions = [panderm.read_image(table.path[i]) for i in chosen]
    drawn = pictures(encoder, lesions)
    if not args.images:
        with tempfile.TemporaryDirectory() as folder:
            drawn["map"] = map_of_drawn(args.weights, Path(folder))
    for name, picture in drawn.items():
        path = args.out / f"{name}.png"
        Image.fromarray(picture).quantize(128, kmeans=1).save(path, optimize=True)
        size = f"{picture.shape[1]} × {picture.shape[0]}, {path.stat().st_size // 1000} kB"
        sys.stdout.write(f"{path}: {size}\n")


if __name__ == "__main__":
    main()
