"""How often each artefact flag is right, on hand-labelled real images; and the skin tone against clinicians'.

    python benchmarks/artefacts.py --shared ../shared [--write]

Labels: tests/golden/artefact_labels.csv (docs/artefacts.md says how they came about). Thresholds are looked
for on the dev half and printed beside those in use; every figure is of the held-out half, with 95 % intervals
from 2,000 draws of whole patients, of lesions where no patient is known, of images where neither is. --write
puts them into src/panderm/data/artefacts/accuracy.json, from where the command line shows them.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from scipy.stats import rankdata

from panderm import read_image
from panderm.data.artefacts.accuracy import Accuracy
from panderm.data.artefacts.find import find_artefacts
from panderm.data.artefacts.quality import blur
from panderm.data.artefacts.record import FLAGS
from panderm.data.artefacts.tone import TONES
from panderm.data.artefacts.working import prepare
from panderm.statistics.resampling import bootstrap, percentile_interval

ROOT = Path(__file__).resolve().parents[1]
DRAWS, SEED = 2000, 0
UNIT = "patient, else lesion, else image"
TYPES = ("1", "2", "3", "4", "5", "6")


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def units(rows: list[dict[str, str]], data: Path) -> np.ndarray:
    """Return a number for each row, the same for images of one patient, else lesion, else image."""
    known = {}
    for folder, table, column in (
        ("padufes20", "labels.csv", "patient_id"),
        ("isic2020_patients", "labels.csv", "patient_id"),
        ("ham10000", "ham_clean.csv", "lesion_id"),
    ):
        known |= {(folder, r["image"]): r[column] for r in read_rows(data / folder / table)}
    names = [known.get((r["dataset"], r["image"]), r["image"]) for r in rows]
    return np.unique(names, return_inverse=True)[1]


def rate(value: float, draws: np.ndarray, n: int | None = None) -> dict:
    """Return a figure with the interval of its draws; of a share that is 0 or 1, the exact one of n units."""
    if math.isnan(value):
        return {"value": None, "reason": "no image of this kind"}
    if n is not None and value in (0.0, 1.0):
        far = 0.025 ** (1 / n)
        low, high = (0.0, 1 - far) if value == 0 else (far, 1.0)
        return {"value": value, "low": round(low, 4), "high": round(high, 4)}
    if np.isnan(draws).mean() > 0.05:
        return {"value": round(value, 4), "reason": "too few images for an interval"}
    low, high, _ = percentile_interval(draws)
    return {"value": round(value, 4), "low": round(low, 4), "high": round(high, 4)}


def flag_rates(score: np.ndarray, said: np.ndarray, truth: np.ndarray, clusters: np.ndarray) -> dict:
    """Return sensitivity, specificity and AUROC with intervals; a higher score is more of it."""
    wins = (score[truth][:, None] > score[~truth]) + 0.5 * (score[truth][:, None] == score[~truth])

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        w = weights.astype(float)
        own, other = w[:, truth], w[:, ~truth]
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "sensitivity": own @ said[truth] / own.sum(1),
                "specificity": other @ ~said[~truth] / other.sum(1),
                "auroc": np.einsum("bi,ij,bj->b", own, wins, other) / (own.sum(1) * other.sum(1)),
            }

    values = statistic(np.ones((1, len(truth))))
    drawn = bootstrap(statistic, clusters, DRAWS, SEED)
    apart = {"sensitivity": len(set(clusters[truth])), "specificity": len(set(clusters[~truth]))}
    figures = {name: rate(float(values[name][0]), drawn[name], apart.get(name)) for name in values}
    return {"n": len(truth), "positives": int(truth.sum())} | figures


def best_threshold(score: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return the threshold with the largest sum of sensitivity and specificity, and that sum less 1."""
    sums = {t: (score[truth] >= t).mean() + (score[~truth] < t).mean() - 1 for t in np.unique(score)}
    best = max(sums, key=lambda t: sums[t])
    return float(best), float(sums[best])


def tone_rates(data: Path) -> dict:
    """Return how the typology angle goes with the Fitzpatrick type in padufes20, outside its masks."""
    folder = data / "padufes20"
    rows = [r for r in read_rows(folder / "labels.csv") if r["fitspatrick"]]
    kept, angle, tone = [], [], []
    for row in rows:
        rgb = read_image(folder / "images" / row["image"])
        lesion = None
        if row["mask"]:
            lesion = read_image(folder / "masks" / row["mask"])[:, :, 0] > 127
            lesion = lesion if lesion.shape == rgb.shape[:2] and lesion.any() else None
        found = find_artefacts(rgb, lesion=lesion)
        if found.ita is not None:
            kept.append(row)
            angle.append(found.ita)
            tone.append(TONES.index(found.tone) + 1)
    stated = np.array([int(float(r["fitspatrick"])) for r in kept])
    angles, tones = np.array(angle), np.array(tone)
    clusters = np.unique([r["patient_id"] for r in kept], return_inverse=True)[1]

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        w = weights.astype(float)
        figures = {
            "rank": np.array([rank_correlation(np.repeat(stated, n), np.repeat(angles, n)) for n in weights])
        }
        figures["near"] = w @ (np.abs(tones - stated) <= 1) / w.sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            for name in TYPES:
                figures[name] = (w * (stated == int(name))) @ angles / (w @ (stated == int(name)))
        return figures

    values = statistic(np.ones((1, len(stated)), dtype=int))
    drawn = bootstrap(statistic, clusters, DRAWS, SEED)
    rates = {name: rate(float(values[name][0]), drawn[name]) for name in values}
    return {
        "dataset": "PAD-UFES-20, smartphone photographs, uncalibrated light",
        "n": len(stated),
        "patients": len(np.unique(clusters)),
        "rank_correlation": rates["rank"],
        "within_one": rates["near"],
        "mean_by_type": {name: rates[name] for name in TYPES},
        "n_by_type": {name: int((stated == int(name)).sum()) for name in TYPES},
    }


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = rankdata(a), rankdata(b)
    return float(np.corrcoef(a, b)[0, 1]) if a.std() and b.std() else float("nan")


def agreement(rows: list[dict[str, str]]) -> None:
    again = [r for r in rows if r["again_hair"]]
    print(f"\nThe reader against himself, {len(again)} images labelled twice: same side of what counts")
    for flag in FLAGS:
        pairs = [(int(r[flag.name]), int(r[f"again_{flag.name}"])) for r in again]
        same = sum((a >= flag.positive) == (b >= flag.positive) for a, b in pairs)
        print(
            f"  {flag.name:13} {same} of {len(again)}, {sum(a >= flag.positive for a, _ in pairs)} positive"
        )


def blurred_on_purpose(rows: list[dict[str, str]], pictures: list[np.ndarray], clusters: np.ndarray) -> dict:
    """Return the rates of the blur flag on sharp held-out images, as they are and blurred by 1/256."""
    flag = next(f for f in FLAGS if f.name == "blur")
    sharp = np.array([r["blur"] == "0" for r in rows])
    held = np.array([r["half"] == "held-out" for r in rows])
    dev = np.array([blur(prepare(pictures[i])) for i in np.flatnonzero(sharp & ~held)])
    print(
        f"blur: threshold {flag.threshold}; 95 % of {len(dev)} sharp dev images: {np.quantile(dev, 0.95):.2f}"
    )
    at = np.flatnonzero(sharp & held)
    before = np.array([blur(prepare(pictures[i])) for i in at])
    truth = np.repeat([False, True], len(at))
    figures = {}
    for pixels in (0.75, 1.0, 1.5, 2.0):
        after = np.array([blur(prepare(_blurred(pictures[i], pixels))) for i in at])
        score = np.round(np.concatenate([before, after]), flag.digits)
        figures[pixels] = flag_rates(score, score >= flag.threshold, truth, np.tile(clusters[at], 2))
        cells = " ".join(_cell(figures[pixels][name]) for name in ("sensitivity", "specificity", "auroc"))
        print(f"  blurred by {pixels} of 256 pixels (σ): {cells}, {len(at)} images")
    return figures[1.0]


def _blurred(rgb: np.ndarray, pixels: float) -> np.ndarray:
    return cv2.GaussianBlur(rgb, (0, 0), pixels * min(rgb.shape[:2]) / 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    data = args.shared / "data"
    rows = read_rows(ROOT / "tests/golden/artefact_labels.csv")
    pictures = [read_image(data / r["dataset"] / "images" / r["image"]) for r in rows]
    started = time.perf_counter()
    with ThreadPoolExecutor(args.workers) as pool:
        found = list(pool.map(find_artefacts, pictures))
    seconds = time.perf_counter() - started
    print(
        f"{len(rows)} images, {len(rows) / seconds:.1f} images/s with {args.workers} threads, decoded before"
    )
    clusters = units(rows, data)
    held = np.array([r["half"] == "held-out" for r in rows])
    both = len(set(clusters[held]) & set(clusters[~held]))
    print(f"units in both halves: {both} of {len(set(clusters))}")
    print("held-out half: n, positives, sensitivity, specificity, AUROC")
    figures = {}
    for flag in FLAGS:
        score = np.array([round(getattr(one, flag.name), flag.digits) for one in found])
        said = np.array([one.says(flag.name) for one in found])
        grade = np.array([int(r[flag.name]) for r in rows])
        more = -score if flag.below else score
        best, youden = best_threshold(more[~held], grade[~held] >= flag.positive)
        print(f"{flag.name}: threshold {flag.threshold:g}; best on dev {abs(best):g}, J {youden:.2f}")
        for least in sorted({flag.positive, 1, 2}, key=lambda least, own=flag.positive: least != own):
            truth = grade >= least
            if truth[held].any():
                one = flag_rates(more[held], said[held], truth[held], clusters[held])
                figures.setdefault(flag.name, {"truth": "hand labels"} | one)
                cells = " ".join(_cell(one[name]) for name in ("sensitivity", "specificity", "auroc"))
                print(f"  grade {least} and more: {one['n']}, {one['positives']}, {cells}")
        clinical = np.array([r["dataset"] == "padufes20" for r in rows])
        for word, of in (("dermoscopy", held & ~clinical), ("clinical photographs", held & clinical)):
            one = flag_rates(more[of], said[of], grade[of] >= flag.positive, clusters[of])
            cells = " ".join(_cell(one[name]) for name in ("sensitivity", "specificity", "auroc"))
            print(f"  {word}: {one['n']}, {one['positives']}, {cells}")
        wrong = [r for r, s, g in zip(rows, said, grade, strict=True) if s != (g >= flag.positive)]
        names = [r["image"] for r in wrong if r["half"] == "held-out"]
        print(f"  wrong: {' '.join(names[:8])}{' …' if len(names) > 8 else ''}")
    made = blurred_on_purpose(rows, pictures, clusters)
    figures["blur"] = {"truth": "sharp images, as they are and blurred by 1/256 of the short side"} | made
    agreement(rows)
    tone = tone_rates(data)
    print("\nTypology angle and Fitzpatrick type:", json.dumps(tone, indent=1))
    accuracy = Accuracy.model_validate(
        {
            "labels": f"{int(held.sum())} held-out images of HAM10000, ISIC 2020, ISIC UDA-1 and PAD-UFES-20",
            "unit": UNIT,
            "draws": DRAWS,
            "seed": SEED,
            "flags": figures,
            "tone": tone,
        }
    )
    if args.write:
        path = ROOT / "src/panderm/data/artefacts/accuracy.json"
        path.write_text(accuracy.model_dump_json(indent=1) + "\n", encoding="utf-8")
        print(f"written: {path}")


def _cell(one: dict) -> str:
    if one["value"] is None:
        return "–"
    if "low" not in one:
        return f"{one['value']:.3f} (–)"
    return f"{one['value']:.3f} ({one['low']:.3f}–{one['high']:.3f})"


if __name__ == "__main__":
    main()
