"""The mean of each class, and how fast its probability falls with the distance: chosen on held-out rows."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from panderm.fitted.probe import Floats
from panderm.fitted.prototypes import FittedPrototypes, centred
from panderm.training.features import Features, require_finite
from panderm.training.held_out import held_out, require_two_classes
from panderm.training.row_weights import row_weights
from panderm.training.settings import ClassWeight, ProbeSettings

DEFAULT_TAU = 0.2  # where no row can choose: exp(cosine/0.1), the sharpness that few-shot learning takes
_BOUNDS = (math.log(1e-3), math.log(1e3))


def fit_prototypes(
    settings: ProbeSettings, train: Features, val: Features | None, *, method: dict[str, Any]
) -> tuple[FittedPrototypes, dict[str, Any]]:
    """Take the mean of each class, and choose τ by the log loss of val rows or of grouped cross-validation.

    Rows' weights weigh the means. ``class_weight`` none: log π is the share of each class; balanced: all
    classes are as likely, and the predicted class is that of the nearest mean.

    Returns:
        The probe, and what was chosen on what.

    Raises:
        DataError: see :func:`panderm.training.fit.fit_probe`.
    """
    require_two_classes(train)
    require_finite(train.X, train.images)
    if val is not None:
        require_finite(val.X, val.images)
    probe = _means(train, settings.class_weight, method)
    pairs, how = held_out(train, val, seed=settings.seed)
    found = _choose(pairs, settings.class_weight)
    tau, loss = found or (DEFAULT_TAU, None)
    how = f"log loss of {how}" if found else "a default: too few rows of some class to cross-validate"
    summary = f"{len(train.present)} class means, τ {tau:.3g} ({how})"
    told = {"tau": tau, "chosen on": how, "log loss": loss, "summary": summary}
    return replace(probe, tau=tau), told


def _means(train: Features, class_weight: ClassWeight, method: dict[str, Any]) -> FittedPrototypes:
    weights, codes = row_weights(train, class_weight), train.codes(train.classes)
    K = len(train.classes)
    X = np.asarray(train.X, dtype=np.float64)
    centre = weights @ X / weights.sum()
    of_class = np.zeros((K, len(X)))
    of_class[codes, np.arange(len(X))] = weights
    mass = of_class.sum(axis=1)
    means = of_class @ centred(X, centre) / np.where(mass > 0, mass, 1)[:, None]
    with np.errstate(divide="ignore"):  # a class never trained: minus infinity
        prior = np.log(mass / mass.sum())
    return FittedPrototypes(
        classes=train.classes, method=method, centre=centre, means=means, prior=prior, tau=DEFAULT_TAU
    )


def _choose(pairs: list[tuple[Features, Features]], class_weight: ClassWeight) -> tuple[float, float] | None:
    """Return the τ of least log loss over held-out rows, and the loss, a mean over their weights."""
    parts: list[tuple[Floats, Floats, Floats, Any]] = []
    for fitted, held in pairs:
        probe = _means(fitted, class_weight, {})
        known = probe.trained
        truth = held.codes(tuple(c for c, t in zip(probe.classes, known, strict=True) if t))
        squares = probe.squared_distances(held.X)[:, known]
        parts.append((squares, probe.prior[known], row_weights(held, class_weight), truth))
    if not parts:
        return None
    total = sum(float(weights.sum()) for _, _, weights, _ in parts)

    def loss(log_tau: float) -> float:
        lost = 0.0
        for squares, prior, weights, truth in parts:
            likelihood = log_softmax(prior - squares / math.exp(log_tau), axis=1)
            lost -= float(weights @ likelihood[np.arange(len(truth)), truth])
        return lost / total

    # Convex in 1/τ: the one minimum is the least.
    best = minimize_scalar(loss, bounds=_BOUNDS, method="bounded", options={"xatol": 1e-6})
    return math.exp(best.x), float(best.fun)
