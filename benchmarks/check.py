"""What ``panderm check`` finds of copies made from real images, what it takes for copies, and how fast.

    python benchmarks/check.py found --images ham10000/images padufes20/images --n 200
    python benchmarks/check.py alarms --table ham_clean.csv --images ham10000/images --group lesion_id
    python benchmarks/check.py speed --images ham10000/images --n 4000

``found`` makes copies of n images and asks of each copy, beside its original, whether the hash finds it, and
whether the second look at the pixels does. ``alarms`` lists the pairs of a table, how many lie within one
lesion, and writes the others side by side into a picture, for eyes to judge. ``speed`` enlarges images to
600 × 450, saves them as JPEG, and times the gate's look at each file against the plain way in turns: one
thread, Pillow, and a 64-bit hash of an 8 × 8 cosine transform; peak memory is of processes of their own.
"""

from __future__ import annotations

import argparse
import io
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

import panderm
from panderm.data.duplicates import find_pairs, fingerprint
from panderm.data.examine import examine_all
from panderm.data.registration import Points
from panderm.gate.lookalikes import is_one

Change = Callable[[Image.Image], Image.Image]
Pixels = npt.NDArray[np.uint8]


def saved(quality: int) -> Change:
    def save(image: Image.Image) -> Image.Image:
        target = io.BytesIO()
        image.save(target, "JPEG", quality=quality)
        return Image.open(target)

    return save


def scaled(share: float) -> Change:
    return lambda i: i.resize((max(1, round(i.width * share)), max(1, round(i.height * share))))


def cropped(share: float, *, corner: bool = False) -> Change:
    """Cut a share of width and height away: all at one corner, or half at each side."""

    def crop(i: Image.Image) -> Image.Image:
        x, y = i.width * share, i.height * share
        box = (x, y, i.width, i.height) if corner else (x / 2, y / 2, i.width - x / 2, i.height - y / 2)
        return i.crop(tuple(round(side) for side in box))  # type: ignore[arg-type]

    return crop


def turned(degrees: float) -> Change:
    """Turn freely, and keep the largest upright part without black corners, as a careful hand would."""

    def turn(i: Image.Image) -> Image.Image:
        whole = i.rotate(degrees, Image.Resampling.BICUBIC)
        a = np.radians(degrees)
        share = 1 / (np.cos(a) + max(i.width / i.height, i.height / i.width) * np.sin(a))
        return cropped(1 - float(share))(whole)

    return turn


def then(*changes: Change) -> Change:
    def all_of(image: Image.Image) -> Image.Image:
        for change in changes:
            image = change(image)
        return image

    return all_of


COPIES: dict[str, Change] = {
    **{f"JPEG quality {q}": saved(q) for q in (95, 75, 50, 30)},
    **{f"resized to {s:.0%}": scaled(s) for s in (2.0, 0.75, 0.5, 0.25)},
    "turned by 90°, quality 80": then(lambda i: i.transpose(Image.Transpose.ROTATE_90), saved(80)),
    "mirrored and turned by 270°": lambda i: i.transpose(Image.Transpose.TRANSVERSE),
    "brightness −10 %": lambda i: ImageEnhance.Brightness(i).enhance(0.9),
    "brightness +10 %": lambda i: ImageEnhance.Brightness(i).enhance(1.1),
    "brightness +30 %": lambda i: ImageEnhance.Brightness(i).enhance(1.3),
    "contrast +20 %": lambda i: ImageEnhance.Contrast(i).enhance(1.2),
    "grey": lambda i: i.convert("L"),
    "cropped by 2 %, centre": cropped(0.02),
    "cropped by 5 %, centre": cropped(0.05),
    "cropped by 5 %, corner": cropped(0.05, corner=True),
    "cropped by 10 %, centre": cropped(0.10),
    "cropped by 30 %, centre": cropped(0.30),
    "turned by 5°, cropped": turned(5),
    "turned by 30°, cropped": turned(30),
}


def drawn(folders: list[Path], n: int) -> list[Path]:
    """Return n files, drawn evenly from the folders with seed 0."""
    rng = np.random.default_rng(0)
    chosen = []
    for folder in folders:
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".png"))
        each = min(len(files), n // len(folders))
        chosen += [files[i] for i in np.sort(rng.choice(len(files), each, replace=False))]
    return chosen


def found(args: argparse.Namespace) -> None:
    originals = [Image.fromarray(panderm.read_image(path)) for path in drawn(args.images, args.n)]
    prints = [fingerprint(np.asarray(image)) for image in originals]
    points = [Points(np.asarray(image)) for image in originals]
    print(f"{len(originals)} images, seed 0")
    print("| copy | by the hash alone | with the second look | the second look alone, of every pair |")
    print("|---|---|---|---|")
    for name, change in COPIES.items():
        by_hash, looked, asked = [], [], []
        for image, mark, its in zip(originals, prints, points, strict=True):
            copy = np.asarray(change(image).convert("RGB"))
            pairs = find_pairs([mark, fingerprint(copy)], perhaps=True)
            kind = pairs[0].kind if pairs else None
            near = kind in ("same pixels", "near")
            other = Points(copy)
            by_hash.append(near)
            looked.append(kind == "same pixels" or (kind is not None and is_one(its, other, near=near)))
            asked.append(is_one(its, other))
        print(
            "| " + " | ".join([name, *(f"{np.mean(x):.1%}" for x in (by_hash, looked, asked))]) + " |",
            flush=True,
        )


def alarms(args: argparse.Namespace) -> None:
    checked = panderm.check(
        args.table, images=args.images[0], group=args.group, embeddings=args.embeddings, draws=20
    )
    every = [*checked.findings, *checked.notes]
    families = {p.rows: p for f in every if f.kind in ("same-pixels", "near-duplicates") for p in f.places}
    seen = checked.inspected
    position = {int(row): i for i, row in enumerate(seen.row)}
    lesions = {rows: {seen.group[position[r]] or r for r in rows} for rows in families}
    other = [rows for rows, names in lesions.items() if len(names) > 1]
    print(f"{len(seen):,} rows: {len(families)} families, {len(families) - len(other)} of one lesion")
    for rows in other:
        print("  ", rows, families[rows].images, families[rows].text)
    shown = [[seen.path[position[r]] for r in rows[:2]] for rows in other]
    if shown and args.out:
        sheet = Image.new("RGB", (5 * 410, -(-len(shown) // 5) * 160), "white")
        for i, two in enumerate(shown):
            for k, path in enumerate(two):
                small = Image.fromarray(panderm.read_image(path))
                small.thumbnail((198, 155))
                sheet.paste(small, (i % 5 * 410 + 200 * k, i // 5 * 160))
        sheet.save(args.out)


def plain_hash(path: Path) -> int:
    """Hash a picture as a short script does: 32 × 32 grey, 8 × 8 cosine transform, above the median."""
    from scipy.fft import dctn

    with Image.open(path) as opened:
        small = np.asarray(opened.convert("RGB").convert("L").resize((32, 32)), dtype=float)
    low = dctn(small)[:8, :8]
    return int("".join("1" if bit else "0" for bit in (low > np.median(low)).ravel()), 2)


def decoded(path: Path) -> Pixels:
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


def speed(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        sources = drawn(args.images, 500)
        for i in range(args.n):
            with Image.open(sources[i % len(sources)]) as opened:
                large = opened.convert("RGB").resize((600, 450), Image.Resampling.BICUBIC)
            shift = rng.integers(-12, 13, 3)
            pixels = (np.asarray(large).astype(np.int16) + shift).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:05}.jpg", quality=int(rng.integers(90, 96)))
        files = sorted(folder.iterdir())
        ways: dict[str, Callable[[list[Path]], object]] = {
            "decode alone, one thread": lambda part: [decoded(p).shape for p in part],
            "plain way, one thread": lambda part: [plain_hash(p) for p in part],
            "panderm, one thread": lambda part: list(examine_all(part, workers=1, progress=False)),
            "panderm, two threads": lambda part: list(examine_all(part, workers=2, progress=False)),
        }
        spent = dict.fromkeys(ways, 0.0)
        plain_hash(files[0])
        for part in (files[i : i + 100] for i in range(0, len(files), 100)):
            for way, run in ways.items():  # in turns: what else the machine does meets all alike
                begun = time.perf_counter()
                run(part)
                spent[way] += time.perf_counter() - begun
        base = spent["plain way, one thread"]
        print(f"{args.n:,} JPEG files of 600 × 450, quality 90 to 95")
        print("| way | images a second | against the plain way |\n|---|---|---|")
        for way, seconds in spent.items():
            print(f"| {way} | {args.n / seconds:.0f} | {base / seconds:.2f} |")
        share = spent["decode alone, one thread"] / spent["panderm, one thread"]
        print(f"decoding is {share:.0%} of one thread's time")
        for n in (args.n // 4, args.n):
            done = subprocess.run(
                [sys.executable, __file__, "memory", "--images", name, "--n", str(n)],
                capture_output=True,
                text=True,
                check=True,
            )
            print(done.stdout.strip())
    pairs_of_many()


def memory(args: argparse.Namespace) -> None:
    files = sorted(args.images[0].iterdir())[: args.n]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kept = list(examine_all(files, workers=2, progress=False))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"peak memory of {len(kept):,} files: {after / 1024:.0f} MiB, {before / 1024:.0f} of it at the start"
    )


def pairs_of_many() -> None:
    """Time the search for pairs among many pictures: smooth noise, as like each other as dermoscopy is."""
    rng = np.random.default_rng(0)
    blob = np.exp(-(np.hypot(*np.mgrid[-1:1:32j, -1:1:32j]) ** 2) * 4)[..., None]
    for n in (10_000, 40_000):
        prints = []
        for _ in range(n):
            rough = np.asarray(
                Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((32, 32)), float
            )
            prints.append(fingerprint((170 - 80 * blob + 0.25 * (rough - 128)).clip(0, 255).astype(np.uint8)))
        begun = time.perf_counter()
        pairs = find_pairs(prints, perhaps=True)
        print(f"pairs among {n:,}: {time.perf_counter() - begun:.1f} s, {len(pairs)} found")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("found", "alarms", "speed", "memory"))
    parser.add_argument("--images", type=Path, nargs="+", required=True)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--group")
    parser.add_argument("--embeddings", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    {"found": found, "alarms": alarms, "speed": speed, "memory": memory}[args.what](args)


if __name__ == "__main__":
    main()
