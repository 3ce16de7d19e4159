"""The published probe: same objective, same probabilities, as the golden numbers say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from panderm import LinearProbe
from panderm.training.logistic import fit_paper

GOLDEN = Path(__file__).parents[1] / "golden"
OBJECTIVE = 1e-4
PROBABILITY = 1e-2


@pytest.fixture(params=["probe_multiclass", "probe_binary"])
def golden(request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{request.param}.npz", allow_pickle=False) as stored:
        return dict(stored)


def test_the_paper_recipe_agrees(golden: dict[str, np.ndarray]) -> None:
    n = int(golden["n_train"])
    probe = LinearProbe(recipe="paper").fit(golden["x"][:n], golden["y"][:n])
    assert float(golden["C"]) == probe.C_
    assert abs(probe.fit_.objective - float(golden["objective"])) <= OBJECTIVE
    assert np.abs(probe.predict_proba(golden["x"][n:]) - golden["test_probabilities"]).max() <= PROBABILITY
    assert np.abs(probe.coef_ - golden["weight"]).max() <= PROBABILITY
    assert probe.fit_.converged


def test_the_norm_is_not_squared(golden: dict[str, np.ndarray]) -> None:
    n, C = int(golden["n_train"]), float(golden["C"])
    X, y = golden["x"][:n], golden["y"][:n]
    fit = fit_paper(X, y, C, seed=0, max_iter=1000)
    log_p = np.log(fit.probabilities(X.astype(np.float64))[np.arange(n), y])
    norm = np.linalg.norm(fit.weight)
    assert fit.objective == pytest.approx(-log_p.mean() + 0.5 * norm / C, abs=1e-6)
    assert abs(fit.objective - (-log_p.mean() + 0.5 * norm**2 / C)) > 0.01


def test_the_callers_random_stream_is_left_alone(golden: dict[str, np.ndarray]) -> None:
    n = int(golden["n_train"])
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    LinearProbe(recipe="paper").fit(golden["x"][:n], golden["y"][:n])
    assert torch.equal(torch.rand(3), expected)
