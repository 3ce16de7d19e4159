"""How long pairs of masks take to be counted and scored, and two ways to find how far boundaries lie apart.

    python benchmarks/masks.py [--workers 2] [--seed 0]

Masks are thresholds of smoothed noise, several islands each, saved as PNG: 575 pairs of 600 x 450 and 90 of
3,000 x 2,000. "read and counted" is ``panderm.read_masks``, "scored" ``panderm.evaluate_masks`` with 2,000
draws, "compared" ``panderm.compare_masks`` with as many draws and swaps: seconds on the clock, and of all
processors in brackets. Distances are those of a KD-tree on the boundaries' pixels, as panderm finds them, and
of a Euclidean distance transform of the image cut to both masks; milliseconds of one processor a pair, on the
first pairs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from scipy import ndimage

import panderm
from panderm.data.masks import read_mask
from panderm.statistics.boundaries import boundary_distances, boundary_points

SETS = ((575, (600, 450)), (90, (3000, 2000)))
TIMED = 10


def main() -> None:
    """Parse the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| pairs | read and counted | scored | compared | KD-tree | transform | largest difference |")
    print("|---|---|---|---|---|---|---|")
    for n, size in SETS:
        with TemporaryDirectory() as place:
            draw(Path(place), n, size, options.seed)
            print(f"| {n} of {size[0]:,} × {size[1]:,} | {' | '.join(measured(Path(place), options))} |")


def measured(place: Path, options: argparse.Namespace) -> Iterator[str]:
    """Yield what the table says of the pairs in a folder."""

    def read(which: str) -> panderm.MaskPredictions:
        return panderm.read_masks(
            place / which, truth=place / "truth", workers=options.workers, progress=False
        )

    one, told = timed(lambda: read("one"))
    two = read("two")
    yield told
    yield timed(lambda: panderm.evaluate_masks(one))[1]
    yield timed(lambda: panderm.compare_masks(one, [two], progress=False))[1]
    pairs = [
        (read_mask(truth), read_mask(found))
        for truth, found in list(zip(one.truth, one.predicted, strict=True))[:TIMED]
    ]
    (tree, of_tree), (transform, of_transform) = (
        spent(pairs, way) for way in (boundary_distances, by_transform)
    )
    yield f"{of_tree:.1f} ms"
    yield f"{of_transform:.1f} ms"
    yield f"{np.abs(tree - transform).max():.0e} px"


def by_transform(truth: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Return HD95 and the mean surface distance by distance transforms."""
    points = [boundary_points(mask) for mask in (truth, predicted)]
    low = np.minimum(*(one.min(axis=0) for one in points))
    high = np.maximum(*(one.max(axis=0) for one in points)) + 1

    def apart(here: np.ndarray, there: np.ndarray) -> np.ndarray:
        ground = np.ones(high - low, dtype=bool)
        ground[tuple((there - low).T)] = False
        return np.asarray(ndimage.distance_transform_edt(ground)[tuple((here - low).T)])

    ways = [apart(points[0], points[1]), apart(points[1], points[0])]
    return max(float(np.percentile(way, 95)) for way in ways), float(np.concatenate(ways).mean())


def spent(pairs: list[tuple[np.ndarray, np.ndarray]], way: Callable[..., Any]) -> tuple[np.ndarray, float]:
    """Return the distances of pairs, and the milliseconds of one processor that each took."""
    start = time.process_time()
    found = np.array([way(*pair) for pair in pairs])
    return found, 1000 * (time.process_time() - start) / len(pairs)


def timed(what: Callable[[], Any]) -> tuple[Any, str]:
    """Return what a call returns, and its seconds on the clock and of all processors."""
    clock, processors = time.perf_counter(), time.process_time()
    found = what()
    return found, f"{time.perf_counter() - clock:.1f} s ({time.process_time() - processors:.1f})"


def draw(place: Path, n: int, size: tuple[int, int], seed: int) -> None:
    """Save true masks and those of two predictors: smoothed noise, more of it for the predictors."""
    rng = np.random.default_rng(seed)
    for name in ("truth", "one", "two"):
        (place / name).mkdir()
    for i in range(n):
        fields = rng.normal(size=(3, 7, 9)).astype(np.float32)
        base, first, second = (cv2.resize(one, (300, 225), interpolation=cv2.INTER_CUBIC) for one in fields)
        masks = {"truth": base, "one": base + 0.3 * first, "two": base + 0.4 * second}
        for name, field in masks.items():
            found = cv2.resize(field, size, interpolation=cv2.INTER_LINEAR) > 0.9
            cv2.imwrite(str(place / name / f"m{i:04d}.png"), found.astype(np.uint8) * 255)


if __name__ == "__main__":
    main()
