"""The tuned probe's optimum is scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from panderm.training.logistic import RidgePath

SAME_OPTIMUM = 1e-5  # in probability


def drawn(n: int, D: int, K: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    # Unequal spreads, correlated features and a mean far from zero: what embeddings look like.
    X = rng.normal(size=(n, D)) @ np.diag(np.logspace(0, -2, D)) @ rng.normal(size=(D, D)) + 3
    y = (X @ rng.normal(size=(D, K)) * 0.5 + rng.gumbel(size=(n, K))).argmax(axis=1)
    y[:K] = np.arange(K)
    return X, y


def as_scikit_learn(X: np.ndarray, y: np.ndarray, C: float) -> np.ndarray:
    scaled = (X - X.mean(axis=0)) / np.sqrt(((X - X.mean(axis=0)) ** 2).mean())
    model = LogisticRegression(C=C, tol=1e-12, max_iter=100_000, solver="newton-cg")
    return model.fit(scaled, y).predict_proba(scaled)


@pytest.mark.parametrize("C", [1e-4, 1e-2, 1.0, 30.0])
@pytest.mark.parametrize(("n", "D", "K"), [(300, 12, 4), (40, 60, 3)])
def test_same_optimum_as_scikit_learn(n: int, D: int, K: int, C: float) -> None:
    X, y = drawn(n, D, K, seed=1)
    fit = RidgePath(X, y, K, max_iter=5000).fit(C)
    assert fit.converged
    assert np.abs(fit.probabilities(X) - as_scikit_learn(X, y, C)).max() < SAME_OPTIMUM


def test_a_path_ends_where_a_single_fit_does() -> None:
    X, y = drawn(200, 20, 3, seed=2)
    path = RidgePath(X, y, 3, max_iter=2000)
    for C in (1e-4, 1e-3, 1e-2, 1e-1):
        last = path.fit(C)
    alone = RidgePath(X, y, 3, max_iter=2000).fit(1e-1)
    assert np.abs(last.probabilities(X) - alone.probabilities(X)).max() < SAME_OPTIMUM


def test_the_scale_and_origin_of_features_do_not_matter() -> None:
    X, y = drawn(150, 10, 3, seed=3)
    one = RidgePath(X, y, 3, max_iter=2000).fit(0.1).probabilities(X)
    other_X = 1000 * X - 55
    other = RidgePath(other_X, y, 3, max_iter=2000).fit(0.1).probabilities(other_X)
    assert np.abs(one - other).max() < SAME_OPTIMUM


def test_constant_features_say_nothing() -> None:
    y = np.arange(30) % 3
    fit = RidgePath(np.full((30, 4), 7.0), y, 3, max_iter=100).fit(1.0)
    assert np.allclose(fit.probabilities(np.full((30, 4), 7.0)), 1 / 3)


def test_running_out_of_iterations_is_said() -> None:
    X, y = drawn(200, 20, 3, seed=4)
    assert not RidgePath(X, y, 3, max_iter=2).fit(100.0).converged
