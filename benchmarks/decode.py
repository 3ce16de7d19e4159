"""Decoding alone: the plain way, ours exact, ours fast; how fast each is, and how far fast is off.

    python benchmarks/decode.py [--images FOLDER …] [--files 100] [--rounds 5]

The plain way is ``Image.open(…).convert("RGB")`` and torchvision's Resize, CenterCrop, ToTensor, Normalize,
from bytes in memory. Large photographs are made of the images of the folders (or of drawn ones), with what
cameras and clinics add at full resolution: fine texture, hairs, a ruler, a label in print, sensor noise,
sharpening. Ways take turns in this one process, on one thread and on two. Levels of difference (of 255) are
counted on the images of the folders as they are, and on the large photographs; noise of black and white is
the worst case.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the threads are ours

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torchvision import transforms

from panderm.data.drawn import CLASSES, TONES, draw_lesion
from panderm.data.fast import pixels
from panderm.data.preprocess import Preprocess

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Pixels = npt.NDArray[np.uint8]


def eye(resize: int, crop: int, interpolation: str) -> Preprocess:
    return Preprocess(resize=resize, crop=crop, interpolation=interpolation, mean=MEAN, std=STD)  # type: ignore[arg-type]


EYES = [eye(256, 224, "bilinear"), eye(224, 224, "bicubic"), eye(448, 448, "bicubic")]


def jpeg(rgb: Pixels, quality: int, subsampling: int, *, progressive: bool = False) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(
        buffer, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive
    )
    return buffer.getvalue()


def drawn(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    label, tone = CLASSES[seed % len(CLASSES)], TONES[seed % len(TONES)]
    return Image.fromarray(draw_lesion(rng, label=label, tone=tone, size=(600, 450), difficulty=1)[0])


def photograph(
    image: Image.Image, seed: int, *, overlays: bool, size: tuple[int, int] = (4000, 3000)
) -> Pixels:
    """Make a large photograph of a small one: uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    width, height = size
    made = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC)).astype(np.float32)
    for octave in range(1, 7):
        side = 2**octave
        coarse = rng.normal(0, 0.5 * side**0.5, (height // side + 2, width // side + 2)).astype(np.float32)
        made += cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)[..., None]
    rgb = made.clip(0, 255).astype(np.uint8)
    if overlays:
        for _ in range(30):
            points = rng.uniform(0, 1, (4, 2)) * size
            at = np.linspace(0, 1, 60)[:, None]
            curve = sum(
                weight * (1 - at) ** (3 - k) * at**k * points[k] for k, weight in enumerate((1, 3, 3, 1))
            )
            colour = tuple(int(c) for c in rng.integers(5, 60, 3))
            thick = int(rng.integers(1, 12))
            cv2.polylines(rgb, [(curve * 16).astype(np.int32)], False, colour, thick, cv2.LINE_AA, 4)
        for tick in range(0, width, 40):
            cv2.line(rgb, (tick, height - 300), (tick, height - 220), (10, 10, 10), 4, cv2.LINE_AA)
        cv2.rectangle(
            rgb, (width // 2 - 500, height // 2), (width // 2 + 500, height // 2 + 300), (245,) * 3, -1
        )
        for line in range(6):
            where = (width // 2 - 480, height // 2 + 50 + 45 * line)
            cv2.putText(rgb, f"Patient 0173  left forearm  #{line}", where, 0, 1.4, (0,) * 3, 2, cv2.LINE_AA)
    lens = cv2.GaussianBlur(rgb.astype(np.float32), (0, 0), 0.8)
    lens += cv2.GaussianBlur(rng.normal(0, 5, rgb.shape).astype(np.float32), (0, 0), 0.6)
    lens += 0.6 * (lens - cv2.GaussianBlur(lens, (0, 0), 1.5))
    return lens.clip(0, 255).astype(np.uint8)


def rates(title: str, files: list[bytes], rounds: int) -> None:
    """Print images a second of each way, in turns, and their ratio to the plain way."""
    ours = EYES[0]
    plain = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    ways: dict[str, Callable[[bytes], object]] = {
        "plain": lambda content: plain(Image.open(io.BytesIO(content)).convert("RGB")),
        "exact": lambda content: pixels(content, "x.jpg", ours, exact=True),
        "fast": lambda content: pixels(content, "x.jpg", ours),
    }
    megabytes = sum(map(len, files)) / len(files) / 1e6
    print(f"\n{title}: {len(files)} files of {megabytes:.2f} MB")
    for threads in (1, 2):
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        with ThreadPoolExecutor(threads) as pool:
            for _, (name, way) in itertools.product(range(rounds), ways.items()):
                began = time.perf_counter()
                for _ in pool.map(way, files):
                    pass
                seconds[name].append(time.perf_counter() - began)
        for name, took in seconds.items():
            rate = len(files) / float(np.median(took))
            ratio = np.median(np.array(seconds["plain"]) / np.array(took))
            print(f"  {threads} thread(s)  {name:6s} {rate:8.1f} images/s   x {ratio:.2f}")


def levels(title: str, files: list[bytes]) -> None:
    """Print how many values are how many levels off."""
    for preprocess in EYES:
        counts = np.zeros(256, np.int64)
        for content in files:
            exact = pixels(content, "x.jpg", preprocess, exact=True).astype(int)
            counts += np.bincount(np.abs(exact - pixels(content, "x.jpg", preprocess)).ravel(), minlength=256)
        shares = "  ".join(f"{level}: {n / counts.sum():.2g}" for level, n in enumerate(counts) if n)
        what = f"{preprocess.resize} → {preprocess.crop} {preprocess.interpolation}"
        print(f"  {title}, {len(files)} files, {what}: {shares}")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, nargs="*", default=[], help="folders of real images")
    parser.add_argument("--files", type=int, default=100, help="images of each folder")
    parser.add_argument("--large", type=int, default=4, help="photographs of 12 megapixels of each kind")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)

    found = {folder: sorted(p for p in folder.iterdir() if p.is_file()) for folder in args.images}
    chosen = {folder: files[:: len(files) // args.files + 1] for folder, files in found.items()}
    sources = [Image.open(path).convert("RGB") for files in chosen.values() for path in files[:6]]
    sources = sources or [drawn(i) for i in range(12)]
    small = [
        jpeg(np.asarray(image.resize((600, 450), Image.Resampling.LANCZOS)), 92, i % 2 * 2)
        for i, image in enumerate(sources[:24])
    ]
    large = {}
    for name, overlays in (("skin alone", False), ("hair, ruler, print", True)):
        made = [photograph(sources[i % len(sources)], i, overlays=overlays) for i in range(args.large)]
        for quality, subsampling, kind in ((85, 2, "4:2:0"), (95, 0, "4:4:4")):
            title = f"12 megapixels, {name}, {kind}, quality {quality}"
            large[title] = [jpeg(rgb, quality, subsampling, progressive=i == 3) for i, rgb in enumerate(made)]
    rates("600×450", small, args.rounds * 2)
    for title, files in large.items():
        rates(title, files, args.rounds)
    print("\nLevels of difference, share of values")
    for folder, files in chosen.items():
        levels(folder.parent.name, [path.read_bytes() for path in files])
    for title, contents in large.items():
        levels(title, contents)
    rng = np.random.default_rng(0)
    for size in ((450, 600), (3000, 4000)):
        noise = rng.integers(0, 2, (*size, 3), dtype=np.uint8) * 255
        levels(f"noise of black and white, {size[1]}×{size[0]}", [jpeg(noise, 95, 0)])


if __name__ == "__main__":
    main()
