"""Sources of many images: what a name costs, how long they take to open, and what exclusion finds.

    python benchmarks/streams.py [--rows 1000000] [--files 100000] [--members 40000]
        [--table ham_clean.csv --images ham10000/images --split val --strangers train]

Rows, files and tar members are made here, without pictures in them. With a table, images of one split are
saved anew in ten ways under other names (40 each) and held against that split; those of another split (every
second row) are held against it too: whatever is taken of them is a mistake, or a picture the splits share.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image, ImageEnhance

from panderm.data.streams import ImageSource, open_source
from panderm.pretraining.exclusion import exclude, stem

EACH = 40


def centre(image: Image.Image, across: float, down: float) -> Image.Image:
    left, top = image.width * (1 - across) / 2, image.height * (1 - down) / 2
    return image.crop((round(left), round(top), round(image.width - left), round(image.height - top)))


WAYS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "quality 70": lambda image: image,
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned by 90 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "brighter, paler": lambda image: ImageEnhance.Color(ImageEnhance.Brightness(image).enhance(1.25)).enhance(
        0.8
    ),
    "centre 90 %": lambda image: centre(image, 0.9, 0.9),
    "centre 80 %": lambda image: centre(image, 0.8, 0.8),
    "centred square": lambda image: centre(
        image, min(image.size) / image.width, min(image.size) / image.height
    ),
    "corner 90 %": lambda image: image.crop((0, 0, int(image.width * 0.9), int(image.height * 0.9))),
    "turned by 15 degrees": lambda image: centre(image.rotate(15, Image.Resampling.BICUBIC), 0.7, 0.7),
}


def opened(title: str, path: Path, made: int) -> None:
    """Print what a source keeps of each image, and how long it took to open."""
    before, began = pa.total_allocated_bytes(), time.process_time()
    source = open_source(path, progress=False)
    took = time.process_time() - began
    kept = sum(one.nbytes for one in vars(source).values() if isinstance(one, pa.Array | np.ndarray))
    print(
        f"{title}: {len(source):,} images, {kept / len(source):.1f} bytes each, {took:.2f} s of processor, "
        f"{took / made * 1e6:.1f} µs each; Arrow holds {(pa.total_allocated_bytes() - before) / 1e6:.0f} MB, "
        f"had at most {pa.default_memory_pool().max_memory() / 1e6:.0f} MB"
    )


def sources(folder: Path, rows: int, files: int, members: int) -> None:
    """Make and open a table, a folder and a shard."""
    table = folder / "rows.csv"
    with table.open("w") as out:
        out.write("image,patient_id,age,split\n")
        for i in range(rows):
            out.write(f"site{i % 37:02d}/ISIC_{i:07d}.jpg,P{i // 20:06d},50,train\n")
    opened("CSV", table, rows)
    for k in range(0, files, 1000):
        below = folder / "files" / f"folder{k // 1000:04d}"
        below.mkdir(parents=True)
        for i in range(k, min(files, k + 1000)):
            (below / f"ISIC_{i:07d}.jpg").touch()
    opened("folder", folder / "files", files)
    with tarfile.open(folder / "shard.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for i in range(members):
            for ending in (".jpg", ".json"):
                info = tarfile.TarInfo(f"sample_{i:08d}{ending}")
                info.size = 600
                tar.addfile(info, io.BytesIO(bytes(600)))
    opened("shard", folder / "shard.tar", 2 * members)


def found(folder: Path, table: Path, images: Path, split: str, strangers: str | None) -> None:
    """Print which copies exclusion finds, and what it takes of another split."""
    held = open_source(table, images=images, split=split)
    chosen = np.random.default_rng(0).choice(len(held), min(len(held), EACH * len(WAYS)), replace=False)
    ways = list(WAYS)
    for k, i in enumerate(chosen.tolist()):
        way = ways[k % len(ways)]
        image = WAYS[way](Image.open(io.BytesIO(held.read(i))).convert("RGB"))
        image.save(folder / f"copy_{k:05d}.jpg", quality=70 if way == "quality 70" else 88)
    began = time.perf_counter()
    _, excluded = exclude(open_source(folder), [held], progress=False)
    took = time.perf_counter() - began
    right: Counter[str] = Counter()
    for match in excluded.matches:
        k = int(match.image[5:10])
        right[ways[k % len(ways)]] += stem(match.like) == stem(held.name(int(chosen[k])))
    of = Counter(ways[k % len(ways)] for k in range(len(chosen)))
    print(f"copies of {split}, found as the right image, {took:.0f} s:")
    for way in ways:
        print(f"  {way:22s} {right[way]} of {of[way]}")
    print(f"  found as another image: {len(excluded.matches) - sum(right.values())}")
    if strangers:
        others: ImageSource = open_source(table, images=images, split=strangers)
        _, excluded = exclude(others.select(np.arange(0, len(others), 2)), [held], progress=False)
        print("\n".join(excluded.sentences()))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument(
        "--members", type=int, default=40_000, help="images of a shard, with a JSON file each"
    )
    parser.add_argument("--table", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--strangers")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        sources(folder, args.rows, args.files, args.members)
        if args.table:
            (folder / "copies").mkdir()
            found(folder / "copies", args.table, args.images, args.split, args.strangers)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
