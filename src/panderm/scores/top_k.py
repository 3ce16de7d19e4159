"""Top-k accuracy of three or more classes, with intervals."""

from __future__ import annotations

import numpy as np

from panderm.predictions import Predictions
from panderm.scores.resampled import Floats, Resampling, Weights
from panderm.scores.score import Score
from panderm.statistics.top_k import top_k_hits

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
    if not asked:
        return None
    found = top_k_hits(given.truth_codes(), given.probabilities, asked)
    hits = {f"top_{k}_accuracy": hit for k, hit in found.items()}
    every = np.ones(len(given), dtype=np.bool_)

    def shares(weights: Weights | None) -> dict[str, Floats]:
        counts = np.ones((1, len(given))) if weights is None else weights
        total = counts.sum(axis=1)
        return {name: counts @ hit / total for name, hit in hits.items()}

    scores = resampling.scores(shares)
    return {name: resampling.share(score, hits[name], every) for name, score in scores.items()}
