"""How often each kind of interval holds the truth, in simulated studies.

    python benchmarks/intervals.py [--studies 400] [--draws 400] [--seed 0]

Studies have patients of 1 to 5 images, who are malignant or not. Every image scores ``±d + u + e``: the sign
is the patient's class, u (variance .6) is shared by the patient's images, e (variance .4) its own; it is
called malignant above a threshold that finds a stated share of the malignant. "skewed" takes few malignant
patients among many, "at the edge" an AUROC near 1, "images" one image a patient. The truth is the normal
distribution's own, not an estimate; balanced accuracy is the mean of sensitivity and specificity. Within
classes: as ``--stratified``. A study whose draws are all alike has the exact interval of a share, and none of
other scores: those count as not held. Beside each share held stands the mean length of the intervals.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from panderm.scores.resampled import Resampling
from panderm.scores.score import Interval, Score
from panderm.statistics.classification import classification_scorer
from panderm.statistics.resampling import class_strata

SHARED = 0.6
SCORES = ("auroc", "sensitivity", "accuracy", "balanced_accuracy")
WAYS: dict[str, tuple[Interval, bool]] = {
    "percentile": ("percentile", False),
    "percentile, within classes": ("percentile", True),
    "BCa": ("bca", False),
    "BCa, within classes": ("bca", True),
    "analytic": ("analytic", False),
}


@dataclass(frozen=True)
class World:
    """Where studies come from: patients of each class, how far apart they score, the share of these found."""

    name: str
    malignant: int
    benign: int
    d: float
    sensitivity: float
    most_images: int = 5

    @property
    def threshold(self) -> float:
        """Above it an image is called malignant."""
        return self.d - float(norm.ppf(self.sensitivity))

    @property
    def truth(self) -> dict[str, float]:
        """The values that intervals are to hold; of accuracy by the patients' share of malignant."""
        specificity = float(norm.cdf(self.threshold + self.d))
        share = self.malignant / (self.malignant + self.benign)
        return {
            "auroc": float(norm.cdf(self.d * np.sqrt(2))),
            "sensitivity": self.sensitivity,
            "accuracy": share * self.sensitivity + (1 - share) * specificity,
            "balanced_accuracy": (self.sensitivity + specificity) / 2,
        }

    def study(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return patient, truth and score of each image; how many patients are malignant is chance too."""
        patients = self.malignant + self.benign
        malignant = rng.random(patients) < self.malignant / patients
        malignant[:4] = (True, False, True, False)  # a study without either class is not one
        patient = np.repeat(np.arange(patients), rng.integers(1, self.most_images + 1, patients))
        shift = rng.normal(0, np.sqrt(SHARED), patients)[patient]
        score = np.where(malignant[patient], self.d, -self.d) + shift
        return patient, malignant[patient], score + rng.normal(0, np.sqrt(1 - SHARED), len(patient))


WORLDS = (
    World("60 patients, half malignant", 30, 30, 0.8, 0.8),
    World("30 patients, half malignant", 15, 15, 0.8, 0.8),
    World("skewed: 15 malignant of 200", 15, 185, 0.8, 0.8),
    World("at the edge: 60 patients, half malignant", 30, 30, 1.4, 0.95),
    World("images: 100, 20 malignant", 20, 80, 0.8, 0.9, 1),
)


def main() -> None:
    """Parse the options and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{options.studies} studies of {options.draws} draws a world, seed {options.seed}")
    for world in WORLDS:
        held = coverage(world, options.studies, options.draws, options.seed)
        truth = world.truth
        print(f"\n| {world.name} | {' | '.join(f'{name} {truth[name]:.3f}' for name in SCORES)} |")
        print(f"|---|{'---|' * len(SCORES)}")
        for way in WAYS:
            cells = [f"{held[way, name][0]:.3f} ({held[way, name][1]:.3f})" for name in SCORES]
            print(f"| {way} | {' | '.join(cells)} |", flush=True)


def coverage(
    world: World, studies: int, draws: int, seed: int, ways: tuple[str, ...] = tuple(WAYS)
) -> dict[tuple[str, str], tuple[float, float]]:
    """Return by way and score the share of studies whose interval holds the truth, and its mean length."""
    rng, found = np.random.default_rng(seed), {(way, name): [] for way in ways for name in SCORES}
    for i in range(studies):
        patient, truth, score = world.study(rng)
        for way in ways:
            for name, one in intervals(world, patient, truth, score, WAYS[way], draws, i).items():
                low, high = one.low, one.high
                known = low is not None and high is not None
                found[way, name].append(
                    (known and low <= world.truth[name] <= high, high - low if known else 0)
                )
    return {key: tuple(np.mean(pairs, axis=0)) for key, pairs in found.items()}


def intervals(
    world: World,
    patient: np.ndarray,
    truth: np.ndarray,
    score: np.ndarray,
    way: tuple[Interval, bool],
    draws: int,
    seed: int,
) -> dict[str, Score]:
    """Return the scores of one study as ``panderm evaluate`` would."""
    interval, stratified = way
    called, every = score > world.threshold, np.ones_like(truth)
    chance = 1 / (1 + np.exp(world.threshold - score))
    strata = class_strata(patient, np.column_stack([~truth, truth])) if stratified else None
    engine = Resampling(patient, "patient", draws, seed, interval, strata)
    scorer = classification_scorer(
        truth.astype(np.int64), np.column_stack([1 - chance, chance]), per_class=True
    )
    drawn = engine.drawn(scorer)
    return {
        "auroc": engine.area(drawn.score("auroc"), truth, chance, every),
        "sensitivity": engine.share(drawn.score("sensitivity", column=1), called, truth),
        "accuracy": engine.share(drawn.score("accuracy"), called == truth, every),
        "balanced_accuracy": drawn.score("balanced_accuracy"),
    }


if __name__ == "__main__":
    main()
