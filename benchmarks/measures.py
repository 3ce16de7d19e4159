"""What measures of lesions tell of melanoma, how often a ruler is found and right, lesions per second.

    python benchmarks/measures.py signs MEASURES.csv --positive mel --negative nv --cluster lesion_id
    python benchmarks/measures.py rulers --shared ../shared
    python benchmarks/measures.py speed IMAGES MASKS --n 200

signs reads a table that panderm segment measure wrote: the AUROC of each measure alone, lesions that show
more of it being called positive, with a 95 % interval of 2,000 draws of whole clusters, seed 0. rulers looks
at the images of ISIC 2017, whose scales have marks a millimetre apart, and at those that were graded for
rulers by hand. speed measures lesions that are enlarged to 600 × 450 pixels.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy.stats import rankdata

from panderm import read_image
from panderm.data.masks import masks_in, name_of_image, read_mask
from panderm.lesions.measure import measure
from panderm.lesions.ruler import NoRuler, find_ruler
from panderm.statistics.resampling import bootstrap, percentile_interval

DRAWS, SEED = 2000, 0
ROOT = Path(__file__).resolve().parents[1]
MEASURES = (
    *("area_px", "diameter_px", "asymmetry", "asymmetry_long", "asymmetry_short", "colour_asymmetry"),
    *("compactness", "solidity", "border_dimension", "border_abruptness", "abrupt_segments"),
    *("colours", "colours_relative", "variegation", "contrast"),
)


def auroc(score: np.ndarray, positive: np.ndarray, cluster: np.ndarray) -> tuple[float, float, float]:
    """Return the AUROC and its interval; ties count a half."""

    def of(weights: np.ndarray) -> dict[str, np.ndarray]:
        order = np.argsort(score, kind="stable")
        level = np.unique(score, return_inverse=True)[1][order]
        w = weights[:, order].astype(np.float64)
        yes, no = w * positive[order], w * ~positive[order]
        sums = np.zeros((2, len(w), level[-1] + 1))
        for k, part in enumerate((yes, no)):
            for row, values in enumerate(part):
                sums[k, row] = np.bincount(level, weights=values, minlength=level[-1] + 1)
        below = np.cumsum(sums[1], axis=1) - sums[1]
        won = (sums[0] * (below + sums[1] / 2)).sum(axis=1)
        pairs = yes.sum(axis=1) * no.sum(axis=1)
        return {"auroc": np.divide(won, pairs, out=np.full(len(w), np.nan), where=pairs > 0)}

    rank = rankdata(score)
    n = int(positive.sum())
    value = (rank[positive].sum() - n * (n + 1) / 2) / (n * (len(score) - n))
    low, high, _ = percentile_interval(bootstrap(of, cluster, DRAWS, SEED, threads=1)["auroc"])
    return float(value), low, high


def signs(options: argparse.Namespace) -> None:
    frame = pd.read_csv(options.measures, dtype={options.label: str})
    frame = frame[frame[options.label].isin([options.positive, options.negative])]
    if options.inside:
        frame = frame[frame["touches_edge"] == "no"]
    cluster = np.arange(len(frame))
    if options.cluster:
        cluster = np.unique(frame[options.cluster].astype(str), return_inverse=True)[1]
    yes = (frame[options.label] == options.positive).to_numpy()
    print(f"{yes.sum()} {options.positive}, {(~yes).sum()} {options.negative}, {len(set(cluster))} clusters")
    for name in MEASURES:
        value = frame[name].to_numpy(dtype=float)
        known = np.isfinite(value)
        found, low, high = auroc(value[known], yes[known], cluster[known])
        medians = [float(np.median(value[known & part])) for part in (yes, ~yes)]
        cells = [f"{m:.3g}" for m in medians] + [f"{found:.3f} ({low:.3f}–{high:.3f})", str(known.sum())]
        print("| " + " | ".join([name, *cells]) + " |")


def rulers(options: argparse.Namespace) -> None:
    data = Path(options.shared) / "data"
    with (data / "isic2017_seg/labels.csv").open() as file:
        rows = [("isic2017_seg", row["image"], row["mask"]) for row in csv.DictReader(file)]
    with (ROOT / "tests/golden/artefact_labels.csv").open() as file:
        graded = [(row["dataset"], row["image"], "", row["ruler"]) for row in csv.DictReader(file)]
    for folder, image, mask, *grade in [*rows, *graded]:
        rgb = read_image(data / folder / "images" / image)
        lesion = read_mask(data / folder / "masks" / mask) if mask else None
        answer = find_ruler(rgb, lesion=lesion)
        if isinstance(answer, NoRuler):
            told = answer.reason
        else:
            told = f"{answer.pixels_per_mark:.2f} pixels a mark, {len(answer.ticks)} ticks"
        print(folder, image, f"grade {grade[0]}" if grade else "", told, sep="\t", flush=True)


def speed(options: argparse.Namespace) -> None:
    masks = masks_in(options.masks, "lesions'")
    images = [f for f in sorted(Path(options.images).iterdir()) if name_of_image(f.name) in masks][
        : options.n
    ]
    pairs = []
    start = time.process_time()
    for file in images:
        pairs.append((read_image(file), read_mask(masks[name_of_image(file.name)])))
    reading = (time.process_time() - start) / len(pairs)
    large = [
        (
            np.asarray(cv2.resize(rgb, (600, 450)), dtype=np.uint8),
            cv2.resize(mask.astype(np.uint8), (600, 450), interpolation=cv2.INTER_NEAREST) > 0,
        )
        for rgb, mask in pairs
    ]
    cv2.setNumThreads(1)
    wall, start = time.perf_counter(), time.process_time()
    for rgb, mask in large:
        measure(rgb, mask)
    each, wall = (time.process_time() - start) / len(large), (time.perf_counter() - wall) / len(large)
    print(f"{len(large)} lesions of 600 × 450: {1000 * each:.1f} ms of processor time, {1000 * wall:.1f} ms")
    print(f"reading image and mask as stored: {1000 * reading:.1f} ms")
    print(f"{1 / (each + reading):.0f} lesions a second of one core")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(required=True)
    one = parts.add_parser("signs")
    one.add_argument("measures")
    one.add_argument("--label", default="dx")
    one.add_argument("--positive", default="mel")
    one.add_argument("--negative", default="nv")
    one.add_argument("--cluster")
    one.add_argument("--inside", action="store_true", help="leave out lesions at the image's edge")
    one.set_defaults(run=signs)
    one = parts.add_parser("rulers")
    one.add_argument("--shared", default="../shared")
    one.set_defaults(run=rulers)
    one = parts.add_parser("speed")
    one.add_argument("images")
    one.add_argument("masks")
    one.add_argument("--n", type=int, default=200)
    one.set_defaults(run=speed)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
