"""Top-k accuracy of three or more classes, with intervals."""

from __future__ import annotations

from panderm.predictions import Predictions
from panderm.scores.resampled import Floats, Resampling, Weights
from panderm.scores.score import Score
from panderm.statistics.top_k import top_k_accuracy

K = (2, 3, 5)


def score_top_k(given: Predictions, resampling: Resampling) -> dict[str, Score] | None:
    """Return how often the true class is among the 2, 3 and 5 most probable, where there are more classes.

    Args:
        given: the rows scored.
        resampling: of them.

    Returns:
        ``top_2_accuracy`` and so on; None of two classes, where it is always 1.
    """
    asked = [k for k in K if k < len(given.classes)]
    truth = given.truth_codes()

    def shares(weights: Weights | None) -> dict[str, Floats]:
        found = top_k_accuracy(truth, given.probabilities, asked, weights)
        return {f"top_{k}_accuracy": values for k, values in found.items()}

    return resampling.scores(shares) if asked else None
