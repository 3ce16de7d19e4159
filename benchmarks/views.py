"""Two views of a file for pretraining: plain ways against ours; how fast each is, how far ours is off.

    python benchmarks/views.py [--images FOLDER …] [--files 100] [--large 4] [--rounds 5] [--jitter 0.4]

The plain ways are ``Image.open(…).convert("RGB")``, torchvision's RandomResizedCrop.get_params, and then
either Pillow's crop and resize, bicubic, once for each size, or torchvision's ``resized_crop`` on the decoded
tensor; mirrored, as arrays. From bytes in memory, to 224 and 196 pixels, 40 to 100 % of the area. Large
photographs are made of the images of the folders (or of drawn ones), as benchmarks/decode.py makes them. Ways
take turns in this one process, on one thread: the figures are seconds of processor time. Levels of difference
(of 255) are counted between the views of the file and those of its whole picture, for the same draws.
"""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core is measured

import cv2
import numpy as np
import torch
from decode import drawn, jpeg, photograph
from PIL import Image
from torchvision import transforms
from torchvision.transforms.v2 import functional

from panderm.data.images import decode
from panderm.pretraining.views import TwoViews

SIZES = (224, 196)
SCALE, RATIO = (0.4, 1.0), (3 / 4, 4 / 3)


def pillow_way(content: bytes, jitter: transforms.ColorJitter | None) -> list[np.ndarray]:
    image = Image.open(io.BytesIO(content)).convert("RGB")
    if jitter is not None:
        image = jitter(image)
    top, left, height, width = transforms.RandomResizedCrop.get_params(image, SCALE, RATIO)
    cut = image.crop((left, top, left + width, top + height))
    views = [cut.resize((size, size), Image.Resampling.BICUBIC) for size in SIZES]
    if torch.rand(1) < 0.5:
        views = [view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for view in views]
    return [np.asarray(view) for view in views]


def tensor_way(content: bytes, jitter: transforms.ColorJitter | None) -> list[np.ndarray]:
    image = functional.pil_to_tensor(Image.open(io.BytesIO(content)).convert("RGB"))
    if jitter is not None:
        image = jitter(image)
    where = transforms.RandomResizedCrop.get_params(image, SCALE, RATIO)
    bicubic = transforms.InterpolationMode.BICUBIC
    views = [functional.resized_crop(image, *where, [size, size], bicubic, antialias=True) for size in SIZES]
    if torch.rand(1) < 0.5:
        views = [functional.horizontal_flip(view) for view in views]
    return [np.ascontiguousarray(view.permute(1, 2, 0).numpy()) for view in views]


def rates(title: str, files: list[bytes], rounds: int, strength: float) -> None:
    """Print images a second of each way, in turns, and the ratio of ours to them."""
    plain = transforms.ColorJitter(strength, strength, strength) if strength else None
    views = TwoViews(*SIZES, scale=SCALE, ratio=RATIO, jitter=strength)
    rng = np.random.default_rng(0)
    ways: dict[str, Callable[[bytes], object]] = {
        "Pillow": lambda content: pillow_way(content, plain),
        "torchvision": lambda content: tensor_way(content, plain),
        "ours": lambda content: views.of_file(content, "x.jpg", rng),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.process_time()
            for content in files:
                way(content)
            seconds[name].append(time.process_time() - began)
    megabytes = sum(map(len, files)) / len(files) / 1e6
    print(f"\n{title}: {len(files)} files of {megabytes:.2f} MB, jitter {strength}")
    for name, took in seconds.items():
        rate = len(files) / float(np.median(took))
        ratio = np.median(np.array(took) / np.array(seconds["ours"]))
        print(f"  {name:12s} {rate:8.1f} images/s of one core   ours x {ratio:.2f}")


def levels(title: str, files: list[bytes]) -> None:
    """Print how many values are how many levels off, of views of a file and of its whole picture."""
    views = TwoViews(*SIZES, scale=SCALE, ratio=RATIO)
    counts = np.zeros(256, np.int64)
    for k, content in enumerate(files):
        of_file = views.of_file(content, "x.jpg", np.random.default_rng(k))
        whole = views(decode(content, "x.jpg"), np.random.default_rng(k))
        for one, other in zip(of_file, whole, strict=True):
            counts += np.bincount(np.abs(one.astype(int) - other).ravel(), minlength=256)
    within = np.cumsum(counts) / counts.sum()
    shown = "  ".join(
        f"{level}: {within[level]:.4f}" for level in (0, 1, 2, 4, 8, 16) if counts[level:].sum()
    )
    print(f"  {title}, share within so many levels: {shown}; most {int(np.flatnonzero(counts).max())}")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, nargs="*", default=[], help="folders of real images")
    parser.add_argument("--files", type=int, default=100, help="images of each folder")
    parser.add_argument("--large", type=int, default=4, help="photographs of 12 megapixels of each kind")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jitter", type=float, default=0.4, help="colour jitter of the second run")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)

    found = {folder: sorted(p for p in folder.iterdir() if p.is_file()) for folder in args.images}
    chosen = {
        folder.parent.name: [path.read_bytes() for path in files[:: len(files) // args.files + 1]]
        for folder, files in found.items()
    }
    pictures = [Image.open(io.BytesIO(one)).convert("RGB") for files in chosen.values() for one in files[:6]]
    pictures = pictures or [drawn(i) for i in range(12)]
    for wide, tall in ((600, 450), (1024, 768)):
        chosen[f"{wide}×{tall}"] = [
            jpeg(np.asarray(image.resize((wide, tall), Image.Resampling.LANCZOS)), 92, i % 2 * 2)
            for i, image in enumerate(pictures[:24])
        ]
    large = [photograph(pictures[i % len(pictures)], i, overlays=i % 2 == 1) for i in range(args.large)]
    chosen["12 megapixels"] = [jpeg(rgb, 90, 2) for rgb in large]
    for title, files in chosen.items():
        for strength in (0.0, args.jitter) if args.jitter else (0.0,):
            rates(title, files, args.rounds, strength)
    print("\nLevels of difference")
    for title, files in chosen.items():
        levels(title, files)


if __name__ == "__main__":
    main()
