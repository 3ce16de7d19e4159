"""Our bootstrap of all classification scores against a plain loop over scikit-learn, on the same draws.

    python benchmarks/bootstrap.py [--rows 10000 100000] [--classes 2 7] [--draws 2000] [--loop-draws 6]

For each number of rows and classes both run in one process, taking turns on the same resampled rows; their
values must agree to 1e-9. Prints the seconds per draw of each and their ratio, ours in one thread and without
the drawing, and what all draws of the loop would take at that pace, extrapolated. Then what all draws took
us, from drawing patients to the intervals: in seconds of one processor, on the clock with all of them, and
with BCa, which adds leaving out each patient, or each of 1,000 groups of them. All but the clock are seconds
that the processor spent on this process, so that others on the machine weigh less.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn import metrics

from panderm.scores.resampled import Resampling
from panderm.scores.score import Interval
from panderm.statistics.classification import classification_scorer
from panderm.statistics.resampling import cluster_bootstrap

AGREEMENT = 1e-9
_A_TURN = 32


def main() -> None:
    """Parse the options and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 7])
    parser.add_argument("--draws", type=int, default=2_000, help="of our bootstrap")
    parser.add_argument("--loop-draws", type=int, default=6, help="of the loop over scikit-learn")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draws, seed = options.draws, options.seed
    print(
        f"| rows | classes | scikit-learn, a draw | panderm, a draw | ratio | {draws:,} draws of the loop "
        f"(extrapolated) | {draws:,} draws, panderm | on the clock | BCa | BCa, on the clock |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    largest = 0.0
    for rows in options.rows:
        for classes in options.classes:
            patient, truth, probabilities = problem(rows, classes, seed)
            ours, loop, apart = side_by_side(patient, truth, probabilities, options.loop_draws, seed)
            largest = max(largest, apart)
            spent = [whole(patient, truth, probabilities, draws, seed, way) for way in ("percentile", "bca")]
            print(
                f"| {rows:,} of {len(np.unique(patient)):,} patients | {classes} | {1e3 * loop:.1f} ms "
                f"| {1e3 * ours:.2f} ms | {loop / ours:.0f} | {loop * draws:,.0f} s "
                f"| {' | '.join(f'{cpu:.1f} s | {clock:.1f} s' for cpu, clock in spent)} |",
                flush=True,
            )
    print(f"largest difference of a score: {largest:.1e}")


def whole(
    patient: np.ndarray,
    truth: np.ndarray,
    probabilities: np.ndarray,
    draws: int,
    seed: int,
    interval: Interval,
) -> tuple[float, float]:
    """Return the seconds from rows to intervals: of one processor, and on the clock."""
    cpu, clock = time.process_time(), time.perf_counter()
    clusters = np.unique(patient, return_inverse=True)[1]
    resampling = Resampling(clusters, "patient", draws, seed, interval)
    resampling.scores(classification_scorer(truth, probabilities))
    return time.process_time() - cpu, time.perf_counter() - clock


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

    Turns: a chunk of 32 draws for us, the first two of them for the loop. Neither time includes the drawing.
    """
    turns = max(1, draws // 2)
    statistic = classification_scorer(truth, probabilities)
    ours = loop = largest = 0.0
    for weights in cluster_bootstrap(patient, _A_TURN * turns, seed, chunk=_A_TURN):
        started = time.process_time()
        values = statistic(weights)
        ours += time.process_time() - started
        for draw in range(2):
            rows = np.repeat(np.arange(len(truth)), weights[draw])
            started = time.process_time()
            expected = by_sklearn(truth[rows], probabilities[rows])
            loop += time.process_time() - started
            for name, value in expected.items():
                difference = abs(value - values[name][draw])
                if not difference <= AGREEMENT:
                    raise SystemExit(f"{name} of draw {draw}: {values[name][draw]} is not {value}")
                largest = max(largest, difference)
    return ours / (_A_TURN * turns), loop / (2 * turns), largest


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
