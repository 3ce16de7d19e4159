"""How many validation rows a recalibration takes to do good, in simulated studies.

    python benchmarks/recalibration_rows.py [--studies 100] [--seed 0]

Two classes, the rarer of 20 or 5 %, or seven with the shares of HAM10000. The logits of each row are normal
about its class; probabilities are as they should be, or twice too sure (their logits doubled). A temperature
and isotonic curves are fitted on n validation rows and judged on 10,000 others: in how many of 100 studies is
the log loss, or the Brier score, better than as given?
"""

from __future__ import annotations

import argparse

import numpy as np

from panderm.errors import DataError
from panderm.statistics.calibration import proper_scores
from panderm.statistics.isotonic import fit_isotonic
from panderm.statistics.temperature import fit_temperature, logs, soften

ROWS = (100, 500, 1000, 2000, 5000)
SHARES = {
    "2 classes, 20 %": (0.8, 0.2),
    "2 classes, 5 %": (0.95, 0.05),
    "7 classes": (0.67, 0.111, 0.11, 0.051, 0.033, 0.014, 0.011),
}
APART = 1.4


def main() -> None:
    """Parse the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{options.studies} studies a line, seed {options.seed}: better than as given, of 100")
    print("| classes | too sure | rows | isotonic: log loss | its Brier score | temperature: log loss |")
    print("|---|---|---|---|---|---|")
    for name, shares in SHARES.items():
        for sure in (1.0, 2.0):
            rng = np.random.default_rng(options.seed)
            test = drawn(10_000, shares, sure, rng)
            for n in ROWS:
                found = np.mean(
                    [better(drawn(n, shares, sure, rng), test) for _ in range(options.studies)], 0
                )
                told = " | ".join(f"{100 * share:.0f}" for share in found)
                print(f"| {name} | {'no' if sure == 1 else 'twice'} | {n:,} | {told} |")


def drawn(
    n: int, shares: tuple[float, ...], sure: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return true classes, every class there, and probabilities."""
    K = len(shares)
    truth = rng.choice(K, n, p=np.array(shares) / sum(shares))
    truth[:K] = range(K)
    z = rng.normal(size=(n, K)) + APART * np.eye(K)[truth]
    logits = sure * (APART * z + np.log(shares))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return truth, odds / odds.sum(axis=1, keepdims=True)


def better(held: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> list[bool]:
    """Return whether isotonic betters log loss and Brier score, and a temperature the log loss."""
    given, stepped = (
        proper_scores(test[0], p) for p in (test[1], fit_isotonic(held[1], held[0]).apply(test[1]))
    )
    try:
        soft = proper_scores(test[0], soften(test[1], fit_temperature(logs(held[1]), held[0]).value))
    except DataError:
        soft = given
    return [bool(stepped[s][0] < given[s][0]) for s in ("log_loss", "brier")] + [
        bool(soft["log_loss"][0] < given["log_loss"][0])
    ]


if __name__ == "__main__":
    main()
