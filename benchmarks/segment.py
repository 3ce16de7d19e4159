"""Images a second and peak memory of masks of new images, beside a plain loop (Linux).

    python benchmarks/segment.py [--segmenter FILE] [--encoder NAME --weights FILE] [--sides 512 3000 10000]

JPEGs of one real or drawn picture are written at each size. The plain loop is what one writes by hand: Pillow
decodes and resizes, the same network answers for one image, PyTorch brings its answer to the image's size,
Pillow writes the mask. Every run is a process of its own, both ways in turn; memory is the kernel's peak,
counted from after the segmenter is loaded and has answered once. Both ways' masks are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
COUNTS = {512: 16, 3000: 4, 10000: 1}


def draw(folder: Path, sides: list[int], picture: Path | None) -> None:
    """Write the JPEGs, four to three."""
    import numpy as np
    from PIL import Image

    import panderm

    if picture is None:
        rng = np.random.default_rng(0)
        y, x = np.mgrid[:384, :512]
        spot = 1 / (1 + np.exp((np.hypot(x - 260, (y - 190) * 1.2) - 120) / 6))
        grain = rng.normal(0, 6, (384, 512, 1))
        rgb = np.array([225, 180, 160]) - spot[..., None] * np.array([120, 110, 90]) + grain
        image = Image.fromarray(rgb.clip(0, 255).astype(np.uint8))
    else:
        image = Image.fromarray(panderm.read_image(picture))
    for side in sides:
        (folder / str(side)).mkdir(parents=True)
        large = image.resize((side, side * 3 // 4), Image.Resampling.BICUBIC)
        for i in range(COUNTS.get(side, 4)):
            large.save(folder / str(side) / f"{i}.jpg", quality=90)


def write_segmenter(file: Path, encoder: str, weights: Path | None) -> None:
    """Write a segmenter that has learned nothing: speed does not ask for more."""
    from panderm.segmenting.file import record_of, write_segmenter
    from panderm.segmenting.network import segmenter_for

    started = segmenter_for(encoder, weights=weights, decoder="convolutional")
    write_segmenter(
        file, state=started.network.state_dict(), started=started, record=record_of(started), self_test=False
    )


def plain(segmenter: object, folder: Path, out: Path) -> None:
    """Make the masks as one does by hand."""
    import numpy as np
    import torch
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    out.mkdir()
    side = segmenter.size  # type: ignore[attr-defined]
    for file in sorted(folder.iterdir()):
        image = Image.open(file).convert("RGB")
        small = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
        logits = segmenter.logits(torch.from_numpy(small.copy())[None])  # type: ignore[attr-defined]
        whole = torch.nn.functional.interpolate(
            logits.softmax(dim=1)[:, -1:], size=(image.height, image.width), mode="bilinear"
        )
        mask = (whole[0, 0] >= segmenter.threshold).numpy()  # type: ignore[attr-defined]
        Image.fromarray(mask).save(out / f"{file.stem}.png")


def status(key: str) -> float:
    """Return a line of the kernel's account of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def measure(way: str, file: Path, folder: Path, out: Path) -> dict[str, float]:
    """Make the masks of one folder here."""
    import numpy as np
    import torch

    from panderm.segmenting.predicting.predict import predict_masks
    from panderm.segmenting.segmenter import load_segmenter

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    segmenter = load_segmenter(file, device="cpu")
    batch = 1 if way == "plain" else 8
    segmenter.probabilities(np.zeros((batch, segmenter.size, segmenter.size, 3), dtype=np.uint8))
    n = len(list(folder.iterdir()))
    Path("/proc/self/clear_refs").write_text("5")
    start, clock, used = status("VmRSS"), time.perf_counter(), time.process_time()
    if way == "plain":
        plain(segmenter, folder, out)
    else:
        tiles = int(way.removeprefix("tiles ")) if way.startswith("tiles") else None
        predict_masks(segmenter, folder, out, tiles=tiles, progress=False)
    seconds, used = time.perf_counter() - clock, time.process_time() - used
    grown = status("VmHWM") - start
    return {"images": n, "seconds": seconds, "cpu": used, "grown": grown, "baseline": start}


def agreement(one: Path, two: Path) -> float:
    """Return the least share of pixels on which two folders' masks agree."""
    import numpy as np
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    return min(
        float(np.mean(np.asarray(Image.open(file)) == np.asarray(Image.open(two / file.name))))
        for file in one.glob("*.png")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segmenter", type=Path, help="default: one that has learned nothing")
    parser.add_argument("--encoder", default="panderm-tiny", help="its encoder")
    parser.add_argument("--weights", type=Path, help="the encoder's weights")
    parser.add_argument("--picture", type=Path, help="an image to scale; default: a drawn one")
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 3000, 10000])
    parser.add_argument("--tiles", type=int, help="windows of so many pixels too")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=4, metavar=("WAY", "FILE", "FOLDER", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one[0], *map(Path, args.one[1:]))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        draw(folder / "images", args.sides, args.picture)
        file = args.segmenter or folder / "segmenter.safetensors"
        if args.segmenter is None:
            write_segmenter(file, args.encoder, args.weights)
        ways = ["plain", "panderm", *([f"tiles {args.tiles}"] if args.tiles else [])]
        for side in args.sides:
            made: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
            for _ in range(args.repeats):
                for way in ways:
                    out = folder / way.replace(" ", "")
                    shutil.rmtree(out, ignore_errors=True)
                    words = [sys.executable, __file__, "--one", way, str(file)]
                    words += [str(folder / "images" / str(side)), str(out)]
                    done = subprocess.run(words, check=True, capture_output=True, text=True)
                    made[way].append(json.loads(done.stdout))
            for way, runs in made.items():
                rates = sorted(one["images"] / one["seconds"] for one in runs)
                cpu = min(one["cpu"] / one["images"] for one in runs)
                print(
                    f"{side:>6} px  {way:<10} images/s {rates[len(rates) // 2]:7.2f} "
                    f"({rates[0]:.2f}-{rates[-1]:.2f})  processor {1000 * cpu:7.0f} ms an image  "
                    f"memory +{max(one['grown'] for one in runs):5.0f} MiB on {runs[0]['baseline']:.0f}",
                    flush=True,
                )
            print(f"        masks agree on {agreement(folder / 'plain', folder / 'panderm'):.4%} of pixels")


if __name__ == "__main__":
    main()
