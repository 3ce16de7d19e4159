"""Embedding side by side: the plain way against ``panderm embed``, from files to vectors on the disk.

    python benchmarks/embed.py [--encoder panderm-base panderm-large] [--images 48] [--memory]

The plain way is what one writes first: one process, Pillow and torchvision's transforms, batches with the
last one padded, float32, attention written out, all vectors in memory and saved in the end. Photographs are
drawn (600×450 and 12 megapixels, JPEG), weights are drawn. Every ratio is of ways that take turns in this one
process; the machine should have nothing else to do. ``--memory`` measures peak memory instead, as the table
grows, each time in a process of its own (Linux).
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import csv
import io
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import transforms

import panderm
from panderm.data.drawn import CLASSES, TONES, draw_lesion
from panderm.data.fast import pixels as fast_pixels
from panderm.errors import PandermError
from panderm.models.encoder import pick_device
from panderm.models.families import family_of
from panderm.models.names import find_card
from panderm.models.network import draw_weights
from panderm.statistics.similarity import centred_cosines

SIZES = {"600×450": (600, 450), "12 megapixels": (4000, 3000)}
PARTS = ["decoding", "network", "files"]
MIB = 1 << 20


def photograph(seed: int, size: tuple[int, int]) -> Image.Image:
    """Draw a lesion on skin as a camera sees it: with shading and the sensor's noise."""
    rng = np.random.default_rng(seed)
    label, tone = CLASSES[seed % len(CLASSES)], TONES[seed % len(TONES)]
    drawn = draw_lesion(rng, label=label, tone=tone, size=(600, 450), difficulty=1)[0]
    whole = np.asarray(Image.fromarray(drawn).resize(size, Image.Resampling.BICUBIC)).astype(np.float32)
    for octave in (8, 32, 128, 512):
        if octave < size[1]:
            plane = Image.fromarray(
                rng.normal(0, 5, (octave * size[1] // size[0] + 1, octave)).astype(np.float32)
            )
            whole += np.asarray(plane.resize(size, Image.Resampling.BICUBIC))[..., None]
    whole += rng.normal(0, 4, whole.shape).astype(np.float32)
    return Image.fromarray(whole.clip(0, 255).astype(np.uint8))


def photographs(folder: Path, count: int, size: tuple[int, int], different: int) -> Path:
    """Write a table and its JPEGs: ``different`` drawings, each under as many names as it takes."""
    folder.mkdir(parents=True)
    for i in range(min(count, different)):
        sampling = i % 2 * 2  # 4:4:4 and 4:2:0 in turn
        photograph(i, size).save(folder / f"{i:06d}.jpg", quality=90 + i % 6, subsampling=sampling)
    for i in range(different, count):
        os.link(folder / f"{i % different:06d}.jpg", folder / f"{i:06d}.jpg")
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label"])
        writer.writerows([f"{i:06d}.jpg", "ab"[i % 2]] for i in range(count))
    return folder / "table.csv"


def drawn_weights(name: str, folder: Path) -> Path:
    network = family_of(card := find_card(name)).build(card, None)
    path = folder / f"{name}.safetensors"
    save_file(draw_weights({key: value.shape for key, value in network.state_dict().items()}, 0), path)
    return path


class Plain:
    """The plain way."""

    def __init__(self, encoder: panderm.Encoder, batch: int) -> None:
        how = encoder.preprocess
        self.transform = transforms.Compose(
            [
                transforms.Resize(how.resize, transforms.InterpolationMode(how.interpolation)),
                transforms.CenterCrop(how.crop),
                transforms.ToTensor(),
                transforms.Normalize(how.mean, how.std),
            ]
        )
        shared: dict[int, Any] = {
            id(t): t for t in (*encoder.network.parameters(), *encoder.network.buffers())
        }
        self.network = copy.deepcopy(encoder.network, shared)
        for module in self.network.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = False
        self.batch, self.device = batch, encoder.device

    def decode(self, path: Path) -> torch.Tensor:
        return self.transform(Image.open(path).convert("RGB"))

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self.network(pixels.to(self.device)).float().cpu()

    def embed(self, table: Path, out: Path) -> None:
        with table.open() as file:
            paths = [table.parent / row["image"] for row in csv.DictReader(file)]
        kept = []
        for start in range(0, len(paths), self.batch):
            pixels = torch.stack([self.decode(path) for path in paths[start : start + self.batch]])
            padding = torch.zeros(self.batch - len(pixels), *pixels.shape[1:])
            kept.append(self.encode(torch.cat([pixels, padding]))[: len(pixels)])
        np.save(out, torch.cat(kept).numpy())


class Measured(NamedTuple):
    rate: float
    ratio: float


def in_turns(ways: dict[str, Callable[[int], int]], rounds: int) -> dict[str, Measured]:
    """Let the ways take turns; each returns how many images it did. Ratios are to the first."""
    names, seconds, counts = list(ways), {name: [] for name in ways}, {}
    for r in range(rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            started = time.perf_counter()
            counts[name] = ways[name](r)
            seconds[name].append((time.perf_counter() - started) / counts[name])
    first = np.array(seconds[names[0]])
    return {
        name: Measured(float(1 / np.median(took)), float(np.median(first / np.array(took))))
        for name, took in seconds.items()
    }


def show(title: str, found: dict[str, Measured], notes: dict[str, str] | None = None) -> None:
    print(f"\n{title}\n{'':34} {'images/s':>9} {'ratio':>6}")
    for name, one in found.items():
        print(f"{name:34} {one.rate:9.2f} {one.ratio:6.2f}  {(notes or {}).get(name, '')}", flush=True)


def decoding(size: str, table: Path, different: int, encoder: panderm.Encoder, rounds: int) -> None:
    """One thread, files in memory: from a file's bytes to the square that the network is given."""
    contents = [(table.parent / f"{i:06d}.jpg").read_bytes() for i in range(different)]
    plain, how = Plain(encoder, 1), encoder.preprocess

    def pillow(_: int) -> int:
        for content in contents:
            plain.transform(Image.open(io.BytesIO(content)).convert("RGB"))
        return len(contents)

    def ours(*, exact: bool) -> Callable[[int], int]:
        def run(_: int) -> int:
            for content in contents:
                fast_pixels(content, "drawn.jpg", how, exact=exact, max_megapixels=179.0)
            return len(contents)

        return run

    levels = [
        np.abs(
            fast_pixels(c, "drawn.jpg", how, exact=False, max_megapixels=179.0).astype(int)
            - fast_pixels(c, "drawn.jpg", how, exact=True, max_megapixels=179.0)
        )
        for c in contents
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = in_turns(
        {"Pillow and torchvision": pillow, "ours, exact": ours(exact=True), "ours": ours(exact=False)}, rounds
    )
    torch.set_num_threads(threads)
    note = f"largest difference {max(int(d.max()) for d in levels)} of 255, mean {np.mean(levels):.4f}"
    show(f"Decoding only, {size}, one thread, {different} photographs", found, {"ours": note})


def loaded(name: str, weights: Path, device: str, **options: Any) -> panderm.Encoder | None:
    try:
        return panderm.load_encoder(name, weights=weights, device=device, **options)
    except PandermError as error:
        print(f"{options}: left out, {error.must}")
        return None


def compare(name: str, args: argparse.Namespace, folder: Path) -> None:
    weights = drawn_weights(name, folder)
    exact = panderm.load_encoder(name, weights=weights, device=args.device)
    cuda = exact.device.type == "cuda"
    batch = args.batch_size or (64 if cuda else 4 if exact.dim >= 1024 else 8)
    plain = Plain(exact, batch)
    tables = {
        title: photographs(folder / name / title, args.images, size, args.different if size[0] < 1000 else 8)
        for title, size in SIZES.items()
    }
    for title, table in tables.items() if "decoding" in args.parts else ():
        decoding(title, table, args.different if title == "600×450" else 8, exact, args.rounds)

    first = panderm.read_table(tables["600×450"], progress=False, decode=False)
    rgb = torch.stack(
        [
            torch.from_numpy(
                fast_pixels(Path(p).read_bytes(), p, exact.preprocess, exact=True, max_megapixels=179.0)
            )
            for p in first.path[: args.images]
        ]
    )
    eyes = {"ours, fp32": exact}
    for title, options in {
        "ours, bf16": {"precision": "bf16"},
        "ours, OpenVINO bf16": {"precision": "bf16", "engine": "openvino"},
        "ours, OpenVINO int8": {"precision": "int8", "engine": "openvino"},
    }.items():
        if options["precision"] in args.skip:
            continue
        if not (cuda and "engine" in options) and (eye := loaded(name, weights, args.device, **options)):
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                eye.settle(rgb)
            for one in told:
                print(f"{title}: {one.message}")
            eyes[title] = eye
    pixels = exact.preprocess.normalise(rgb)
    starts = list(range(0, len(rgb) - batch + 1, batch))

    def plain_network(r: int) -> int:
        start = starts[r % len(starts)]
        plain.encode(pixels[start : start + batch])
        return batch

    def network(eye: panderm.Encoder) -> Callable[[int], int]:
        def run(r: int) -> int:
            start = starts[r % len(starts)]
            eye.forward_rgb(rgb[start : start + batch]).cpu()
            return batch

        return run

    vectors = {
        title: torch.cat([eye.forward_rgb(rgb[s : s + batch]).cpu() for s in starts]).numpy()
        for title, eye in eyes.items()
    }
    wanted = torch.cat([plain.encode(pixels[s : s + batch]) for s in starts]).numpy()
    notes = {
        title: f"centred cosine to the plain way {centred_cosines(wanted, found).mean():.5f}"
        for title, found in vectors.items()
    }
    found = in_turns(
        {"the plain way": plain_network} | {title: network(eye) for title, eye in eyes.items()}, args.rounds
    )
    show(
        f"{name}, the network only, batches of {batch}, {torch.get_num_threads()} threads, {exact.device}",
        found,
        notes,
    )
    if cuda:
        share(name, exact.network, eyes, found, pixels)

    counter = itertools.count()
    for title, table in tables.items() if "files" in args.parts else ():

        def plainly(_: int, table: Path = table) -> int:
            plain.embed(table, folder / f"{next(counter)}.npy")
            return args.images

        def embedded(eye: panderm.Encoder, table: Path = table) -> Callable[[int], int]:
            def run(_: int) -> int:
                rows = panderm.read_table(table, progress=False, decode=False)
                eye.embed(rows, folder / f"{next(counter)}.emb", batch_size=batch, progress=False)
                return args.images

            return run

        ways = {"the plain way": plainly} | {way: embedded(eye) for way, eye in eyes.items()}
        found = in_turns(ways, max(2, args.rounds // 3))
        show(f"{name}, from files to vectors on the disk, {args.images} photographs of {title}", found)


def share(
    name: str,
    network: torch.nn.Module,
    eyes: dict[str, panderm.Encoder],
    found: dict[str, Measured],
    pixels: torch.Tensor,
) -> None:
    """Say which part of the rate of one large bfloat16 product the network reaches (GPU)."""
    from torch.utils.flop_counter import FlopCounterMode

    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    rates = []
    for _ in range(5):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(10):
            torch.mm(a, b)
        torch.cuda.synchronize()
        rates.append(10 * 2 * 8192**3 / (time.perf_counter() - started))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(pixels[:1].to("cuda"))
    work = counter.get_total_flops()
    reached = (
        found["ours, bf16"].rate * work / float(np.median(rates)) if "ours, bf16" in eyes else float("nan")
    )
    print(
        f"{name}: {work / 1e9:.1f} GFLOP an image; bf16 product {np.median(rates) / 1e12:.0f} TFLOP/s; "
        f"bf16 reaches {reached:.0%} of it"
    )


# Memory


class Wide(torch.nn.Module):
    """A network of no cost and of Large's width, so that 100,000 rows take minutes."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(192, dim, generator=torch.Generator().manual_seed(0)))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(pixels, 8).flatten(1) @ self.weight


def one_memory(table: Path, out: Path, way: str) -> None:
    """In a process of its own: embed a table, print the peak; what is imported counts for neither way."""
    import pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    import panderm.embeddings

    tiny = panderm.load_encoder("random-tiny", device="cpu", image_size=32)
    record = tiny.record.model_copy(update={"dim": 1024})
    eye = panderm.Encoder(Wide(1024), tiny.preprocess, record, tiny.account, tiny.device)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    started = time.perf_counter()
    if way == "plain":
        Plain(eye, 8).embed(table, out)
    else:
        rows = panderm.read_table(table, progress=False, decode=False)
        eye.embed(rows, out, progress=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"before": before, "peak": peak, "seconds": time.perf_counter() - started}))


def memory(folder: Path, counts: list[int]) -> None:
    """Print what each way has in memory at its peak, above its start, and what a row more takes."""
    print(f"{'rows':>8} {'way':>6} {'before':>9} {'peak':>9} {'more':>9} {'rows/s':>8}")
    ways: dict[str, list[int]] = {"plain": [], "ours": []}
    for count in counts:
        table = photographs(folder / str(count), count, (48, 36), min(count, 64))
        for way in ways:
            words = [sys.executable, __file__, "--one", way, str(table), str(folder / f"{count}-{way}.npy")]
            told = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
            more = told["peak"] - told["before"]
            ways[way].append(more)
            print(
                f"{count:8,} {way:>6} {told['before'] / MIB:5.0f} MiB {told['peak'] / MIB:5.0f} MiB "
                f"{more / MIB:5.0f} MiB {count / told['seconds']:8.0f}",
                flush=True,
            )
        print(f"{count:8,} plain / ours: {ways['plain'][-1] / ways['ours'][-1]:.2f}", flush=True)
    for low, high in itertools.pairwise(range(len(counts))):
        a_row = {way: (more[high] - more[low]) / (counts[high] - counts[low]) for way, more in ways.items()}
        told = ", ".join(f"{way} {slope:,.0f} bytes" for way, slope in a_row.items())
        print(f"a row more, from {counts[low]:,} to {counts[high]:,}: {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", nargs="+", default=["panderm-base", "panderm-large"])
    parser.add_argument("--images", type=int, default=48, help="photographs a run")
    parser.add_argument("--different", type=int, default=24, help="different small photographs; 8 large ones")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--skip", nargs="+", choices=["bf16", "int8"], default=[], help="precisions")
    parser.add_argument(
        "--memory", action="store_true", help="peak memory as the table grows, instead of speed"
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--one", nargs=3, metavar=("WAY", "TABLE", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one_memory(Path(args.one[1]), Path(args.one[2]), args.one[0])
        return
    pick_device(args.device)
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )
    with tempfile.TemporaryDirectory() as name, contextlib.suppress(KeyboardInterrupt):
        if args.memory:
            memory(Path(name), args.rows)
            return
        for encoder in args.encoder:
            compare(encoder, args, Path(name))


if __name__ == "__main__":
    main()
