"""Top-k accuracy: scikit-learn's, weights are repetitions, and k = 1 is accuracy even among equals."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from panderm.statistics.classification import classification_scores
from panderm.statistics.top_k import top_k_accuracy

RNG = np.random.default_rng(3)
TRUTH, PROBABILITIES = RNG.integers(0, 6, 200), RNG.dirichlet(np.ones(6), 200)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_it_is_scikit_learns(k: int) -> None:
    ours = top_k_accuracy(TRUTH, PROBABILITIES, [k])[k][0]
    assert ours == pytest.approx(top_k_accuracy_score(TRUTH, PROBABILITIES, k=k, labels=range(6)), abs=1e-12)


def test_a_weight_is_a_repetition() -> None:
    weights = RNG.integers(0, 4, (3, 200))
    drawn = top_k_accuracy(TRUTH, PROBABILITIES, [2], weights)[2]
    for row, value in zip(weights, drawn, strict=True):
        again = np.repeat(np.arange(200), row)
        assert value == pytest.approx(top_k_accuracy(TRUTH[again], PROBABILITIES[again], [2])[2][0])


def test_the_first_of_one_is_accuracy_and_of_all_is_certain_among_equals_too() -> None:
    equal = np.round(PROBABILITIES, 1)
    found = top_k_accuracy(TRUTH, equal, [1, 6])
    assert found[1][0] == pytest.approx(classification_scores(TRUTH, equal)["accuracy"][0], abs=1e-12)
    assert found[6][0] == 1


@pytest.mark.parametrize("k", [0, 7])
def test_a_k_that_is_no_number_of_classes_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match="k must be from 1 to 6"):
        top_k_accuracy(TRUTH, PROBABILITIES, [k])
