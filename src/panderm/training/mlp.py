"""A multilayer perceptron with one hidden layer, its width and decay chosen on held-out rows."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch

from panderm.fitted.mlp import FittedMLP, mlp
from panderm.models.device import pick_device
from panderm.training.descent import Candidate, Weights, schedule_for
from panderm.training.early_stop import fit_early_stopped
from panderm.training.features import Features, require_finite
from panderm.training.row_weights import row_weights
from panderm.training.settings import ProbeSettings

WIDTHS, DECAYS, RATE = (64, 256), (0.01, 1.0), 1e-3
_BATCH, _STEPS = 256, 20_000


def fit_mlp(
    settings: ProbeSettings,
    train: Features,
    val: Features | None,
    *,
    method: dict[str, Any],
    progress: bool = False,
) -> tuple[FittedMLP, dict[str, Any]]:
    """Fit one hidden layer (GELU, dropout 0.1) on standardised embeddings by AdamW with an early stop.

    Width (64, 256) and weight decay (0.01, 1) are those of least log loss on held-out rows, see
    :func:`panderm.training.early_stop.fit_early_stopped`. With one seed one machine gives one answer.

    Returns:
        The probe, and what was chosen on what.

    Raises:
        DataError: see :func:`panderm.training.fit.fit_probe`.
    """
    require_finite(train.X, train.images)

    def candidates(rows: Features, bias: Weights) -> list[Candidate]:
        standard = _standard(rows)
        return [
            Candidate(
                {**standard, **_layers(rows, width, settings.seed), **bias},
                RATE,
                decay,
                {"hidden": width, "decay": decay},
            )
            for width, decay in product(WIDTHS, DECAYS)
        ]

    schedule = schedule_for(len(train), batch=_BATCH, steps=_STEPS)
    learned, told = fit_early_stopped(
        mlp, candidates, settings, train, val, schedule=schedule, progress=progress
    )
    device = str(pick_device(settings.device))
    return FittedMLP(classes=train.classes, method=method, learned=learned, device=device), told


def _standard(rows: Features) -> Weights:
    """Return the weighted mean of each feature, and what makes its variance 1; 0 of one that is constant."""
    weights = row_weights(rows)
    X = np.asarray(rows.X, dtype=np.float64)
    mean = weights @ X / weights.sum()
    spread = np.sqrt(weights @ (X - mean) ** 2 / weights.sum())
    varies = spread > 1e-6 * np.abs(mean).max(initial=1e-30)
    scale = np.where(varies, 1 / np.where(varies, spread, 1), 0)
    return {"mean": torch.from_numpy(mean), "scale": torch.from_numpy(scale)}


def _layers(rows: Features, width: int, seed: int) -> Weights:
    """Return a random hidden layer under a last one of 0: the fit begins at the classes' shares."""
    D = rows.X.shape[1]
    drawn = np.random.default_rng(seed).normal(size=(width, D)) / np.sqrt(D)
    return {
        "hidden.weight": torch.from_numpy(drawn),
        "hidden.bias": torch.zeros(width),
        "output.weight": torch.zeros(len(rows.present), width),
    }
