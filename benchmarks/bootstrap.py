"""Our bootstrap of all classification scores against a plain loop over scikit-learn, on the same draws.

    python benchmarks/bootstrap.py [--rows 10000] [--classes 7] [--draws 2000] [--loop-draws 12] [--seed 0]

Both run in one process, taking turns on the same resampled rows; their values must agree to 1e-9. Prints the
seconds per draw of each, their ratio, and the seconds that all draws take us.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn import metrics

from panderm.statistics.classification import classification_scores
from panderm.statistics.resampling import bootstrap, cluster_bootstrap

AGREEMENT = 1e-9


def main() -> None:
    """Parse the options and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=7)
    parser.add_argument("--draws", type=int, default=2_000, help="of our bootstrap")
    parser.add_argument("--loop-draws", type=int, default=12, help="of the loop over scikit-learn")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    patient, truth, probabilities = problem(options.rows, options.classes, options.seed)
    print(
        f"{options.rows:,} rows of {len(np.unique(patient)):,} patients, {options.classes} classes, "
        f"seed {options.seed}; rows per class {np.bincount(truth).tolist()}"
    )
    ours, loop, largest = side_by_side(patient, truth, probabilities, options.loop_draws, options.seed)
    print(f"per draw: loop over scikit-learn {1e3 * loop:.1f} ms, panderm {1e3 * ours:.3f} ms")
    print(f"ratio: {loop / ours:.0f} (largest difference of a score: {largest:.1e})")

    started = time.perf_counter()
    bootstrap(lambda w: classification_scores(truth, probabilities, w), patient, options.draws, options.seed)
    print(f"panderm, {options.draws:,} draws of all scores: {time.perf_counter() - started:.2f} s")


def problem(n: int, n_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return patient, truth and probabilities: unbalanced classes, about three images per patient."""
    rng = np.random.default_rng(seed)
    prevalence = 0.6 ** np.arange(n_classes)
    truth = rng.choice(n_classes, n, p=prevalence / prevalence.sum())
    logits = rng.normal(size=(n, n_classes)) + 1.5 * np.eye(n_classes)[truth]
    odds = np.exp(logits)
    return rng.integers(0, max(1, n // 3), n), truth, odds / odds.sum(axis=1, keepdims=True)


def side_by_side(
    patient: np.ndarray, truth: np.ndarray, probabilities: np.ndarray, draws: int, seed: int
) -> tuple[float, float, float]:
    """Return our and the loop's seconds per draw, and the largest difference between them.

    Turns: a chunk of 64 draws for us, the first two of them for the loop. Neither time includes the drawing.
    """
    turns = max(1, draws // 2)
    ours = loop = largest = 0.0
    for weights in cluster_bootstrap(patient, 64 * turns, seed, chunk=64):
        started = time.perf_counter()
        values = classification_scores(truth, probabilities, weights)
        ours += time.perf_counter() - started
        for draw in range(2):
            rows = np.repeat(np.arange(len(truth)), weights[draw])
            started = time.perf_counter()
            expected = by_sklearn(truth[rows], probabilities[rows])
            loop += time.perf_counter() - started
            for name, value in expected.items():
                difference = abs(value - values[name][draw])
                if not difference <= AGREEMENT:
                    raise SystemExit(f"{name} of draw {draw}: {values[name][draw]} is not {value}")
                largest = max(largest, difference)
    return ours / (64 * turns), loop / (2 * turns), largest


def by_sklearn(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return the same scores as `classification_scores`, one call each."""
    n_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    scores = {
        "accuracy": metrics.accuracy_score(truth, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, predicted),
        "weighted_f1": metrics.f1_score(truth, predicted, average="weighted", zero_division=0),
        "macro_f1": metrics.f1_score(truth, predicted, average="macro", zero_division=0),
        "quadratic_kappa": metrics.cohen_kappa_score(
            truth, predicted, weights="quadratic", labels=range(n_classes)
        ),
    }
    if n_classes == 2:
        scores["auroc"] = metrics.roc_auc_score(truth, probabilities[:, 1])
        scores["average_precision"] = metrics.average_precision_score(truth, probabilities[:, 1])
    else:
        scores["auroc_ovo"] = metrics.roc_auc_score(truth, probabilities, multi_class="ovo")
        scores["auroc_ovr"] = metrics.roc_auc_score(truth, probabilities, multi_class="ovr")
        scores["average_precision"] = metrics.average_precision_score(truth, probabilities)
    return scores


if __name__ == "__main__":
    main()
