"""How often the intervals of a subgroup's score and gap hold the truth, in simulated studies.

    python benchmarks/subgroup_intervals.py [--studies 400] [--draws 300] [--seed 0]

Accuracy: 200 patients of 1 to 3 images, some of them in the group; each patient's chance to be right is drawn
from a beta distribution (intraclass correlation .3) with the same mean inside and outside. AUROC: every image
scores ``±d + u + e``, the sign being the patient's class, u (variance .6) shared by the patient's images, e
(variance .4) its own; 120 patients, half of them positive, are outside the group. The true gap is 0 in both.
Studies in which every draw gives the group the same score have no interval and are counted apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from scipy.stats import norm

from panderm.statistics.classification import classification_scores
from panderm.statistics.resampling import bootstrap, paired_interval, percentile_interval

Study = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # patient, truth, chances (n, 2), in the group


def main() -> None:
    """Parse the options and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{options.studies} studies of {options.draws} draws a line, seed {options.seed}")
    for score, settings in (("accuracy", accuracies), ("auroc", areas)):
        print(f"\n| {score} | group | with interval | its own interval holds | that of its gap holds |")
        print("|---|---|---|---|---|")
        for true, group, study in settings():
            rng = np.random.default_rng(options.seed)
            found = [held(study(rng), score, true, options.draws, i) for i in range(options.studies)]
            known = np.array([pair for pair in found if pair is not None])
            own, gap = known.mean(axis=0)
            share = len(known) / len(found)
            print(f"| {true:.3f} | {group} | {share:.3f} | {own:.3f} | {gap:.3f} |", flush=True)


def held(study: Study, score: str, true: float, draws: int, seed: int) -> tuple[bool, bool] | None:
    """Say whether the group's interval holds ``true`` and that of its gap 0; None where there are none."""
    patient, truth, chances, inside = study

    def both(weights: np.ndarray) -> dict[str, np.ndarray]:
        sides = (("group", inside), ("rest", ~inside))
        return {
            name: classification_scores(truth[rows], chances[rows], weights[:, rows])[score]
            for name, rows in sides
        }

    drawn = bootstrap(both, patient, draws, seed)
    low, high, _ = percentile_interval(drawn["group"])
    if not low < high:
        return None
    below, above, _ = paired_interval(drawn["rest"], drawn["group"])
    return low <= true <= high, below <= 0 <= above


def accuracies() -> Iterator[tuple[float, str, Callable[[np.random.Generator], Study]]]:
    """Yield mean accuracy, the group in words, and what draws a study of it."""
    for mean in (0.5, 0.7, 0.85, 0.95):
        for units in (5, 10, 20, 50):
            yield mean, f"{units} patients", lambda rng, m=mean, u=units: _answers(rng, m, u)


def areas() -> Iterator[tuple[float, str, Callable[[np.random.Generator], Study]]]:
    """Yield AUROC, the group in words, and what draws a study of it."""
    for d in (0.3, 0.8, 1.3):
        for positive, negative in ((5, 5), (5, 60), (10, 10), (10, 60), (20, 20)):
            words = f"{positive} positive, {negative} negative patients"
            true = float(norm.cdf(d * np.sqrt(2)))
            yield true, words, lambda rng, d=d, p=positive, n=negative: _scores(rng, d, p, n)


def _answers(rng: np.random.Generator, mean: float, units: int) -> Study:
    patient = np.repeat(np.arange(200), rng.integers(1, 4, 200))
    spread = (1 - 0.3) / 0.3
    right = rng.random(len(patient)) < rng.beta(spread * mean, spread * (1 - mean), 200)[patient]
    truth = rng.integers(0, 2, len(patient))
    called = np.where(right, truth, 1 - truth)
    return patient, truth, np.eye(2)[called], patient < units


def _scores(rng: np.random.Generator, d: float, positive: int, negative: int) -> Study:
    own = positive + negative
    malignant = np.r_[np.arange(own) < positive, np.arange(120) % 2 == 1]
    patient = np.repeat(np.arange(own + 120), rng.integers(1, 4, own + 120))
    shift = rng.normal(0, np.sqrt(0.6), own + 120)[patient]
    noise = rng.normal(0, np.sqrt(0.4), len(patient))
    score = np.where(malignant[patient], d, -d) + shift + noise
    return patient, malignant[patient].astype(np.int64), np.column_stack([-score, score]), patient < own


if __name__ == "__main__":
    main()
