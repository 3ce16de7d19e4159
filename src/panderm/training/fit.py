"""Fit a probe of any kind: one door for all that ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from panderm.fitted import FittedLinear, FittedProbe
from panderm.training.attentive import fit_attentive
from panderm.training.features import Features
from panderm.training.linear_probe import LinearProbe
from panderm.training.mlp import fit_mlp
from panderm.training.neighbours import fit_neighbours
from panderm.training.prototypes import fit_prototypes
from panderm.training.settings import ProbeSettings


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted probe, and how it was found.

    Attributes:
        probe: for all classes of the table, at temperature 1; one never trained has the probability 0.
        outcome: what was chosen, on what, and whether the solver arrived; for the predictions' card.
        loss: mean log loss of the held-out rows at what was chosen, weighed as the fit weighs rows; None
            where nothing was chosen.
    """

    probe: FittedProbe
    outcome: dict[str, Any]
    loss: float | None = None


def fit_probe(
    settings: ProbeSettings,
    train: Features,
    val: Features | None,
    *,
    method: dict[str, Any],
    progress: bool = False,
) -> Fit:
    """Fit a probe; nothing but these rows is seen.

    Args:
        settings: what was decided.
        train: the rows to fit.
        val: the rows that choose what is left to be chosen; None: cross-validation of the training rows
            does, which keeps groups whole.
        method: what was decided, in words, for the probe's file.
        progress: show a bar where it takes longer than a second.

    Raises:
        DataError: one class only, features that are not finite, val classes that were never trained.
    """
    if settings.kind == "knn":
        return _fit(*fit_neighbours(settings, train, val, method=method, progress=progress))
    if settings.kind == "prototypes":
        return _fit(*fit_prototypes(settings, train, val, method=method))
    if settings.kind == "mlp":
        return _fit(*fit_mlp(settings, train, val, method=method, progress=progress))
    if settings.kind == "attentive":
        return _fit(*fit_attentive(settings, train, val, method=method, progress=progress))
    return _linear(settings, train, val, method)


def _fit(probe: FittedProbe, outcome: dict[str, Any]) -> Fit:
    return Fit(probe, outcome, outcome["log loss"])


def _linear(settings: ProbeSettings, train: Features, val: Features | None, method: dict[str, Any]) -> Fit:
    model = LinearProbe(
        settings.recipe,
        C=settings.C,
        class_weight=None if settings.class_weight == "none" else "balanced",
        float64=settings.float64,
        device=settings.device,
        seed=settings.seed,
    ).fit_features(train, val)
    # A class never trained has a bias of minus infinity.
    weight = np.zeros((len(train.classes), model.n_features_in_))
    bias = np.full(len(train.classes), -np.inf)
    rows = [train.classes.index(c) for c in model.classes_]
    weight[rows], bias[rows] = model.coef_, model.intercept_
    outcome = {
        "C": model.C_,
        "C chosen on": model.chosen_on_,
        "converged": model.fit_.converged,
        "iterations": model.fit_.iterations,
        "largest gradient": model.fit_.gradient,
        "gradient norm": model.fit_.gradient_norm,
        "precision": model.fit_.precision,
        "objective": model.fit_.objective,
    }
    probe = FittedLinear(classes=train.classes, method=method, weight=weight, bias=bias)
    return Fit(probe, outcome, model.loss_)
