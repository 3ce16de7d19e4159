"""Temperature scaling: one number that makes a classifier's probabilities honest, and moves no ranking."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from panderm.errors import DataError, plural

_LEAST = 1e-15
_REACH = math.log(1e4)  # the temperature is looked for within this factor of the logits' own range


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature.

    Attributes:
        value: what the logits are to be divided by, greater than 0.
        n: rows it was fitted on.
        before: their mean log loss in nats, at temperature 1; after: at ``value``.
    """

    value: float
    n: int
    before: float
    after: float


def fit_temperature(
    logits: npt.NDArray[np.floating[Any]], codes: npt.NDArray[np.integer[Any]]
) -> Temperature:
    """Find the temperature of least log loss (Guo et al., ICML 2017, §4.2).

    The loss is convex in 1/temperature, so that the one minimum is the least.

    Args:
        logits: (n, K) of rows the classifier was not fitted on, finite.
        codes: (n,) the true class of each row, 0 … K-1.

    Raises:
        DataError: no rows, or rows that leave the temperature without a best value: all predicted
            rightly, or no better than by chance.
    """
    if not len(codes):
        raise DataError("a temperature needs validation rows.", "found none")
    z = np.asarray(logits, dtype=np.float64)
    rows, n = np.arange(len(codes)), plural(len(codes), "validation row")
    true = z[rows, codes]
    if (true[:, None] >= z).all():
        _refuse(f"all of {n} are predicted rightly: the surer, the better, without an end")
    if true.mean() <= z.mean():
        _refuse(f"on {n} the predictor does no better than chance: the less sure, the better, without an end")

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(z / math.exp(log_temperature), axis=1)[rows, codes].mean())

    middle = math.log(float(np.ptp(z, axis=1).mean()))
    bounds = (middle - _REACH, middle + _REACH)
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    return Temperature(math.exp(found.x), len(codes), loss(0.0), float(found.fun))


def soften(probabilities: npt.ArrayLike, temperature: float) -> npt.NDArray[np.float64]:
    """Return probabilities whose logits are divided by a temperature; the order of no row changes.

    Args:
        probabilities: (n, K), rows sum to 1; 0 counts as 1e-15, since it has no logarithm.
        temperature: greater than 0; above 1 the probabilities move towards each other.
    """
    z = logs(probabilities) / temperature
    return np.asarray(np.exp(log_softmax(z, axis=1)), dtype=np.float64)


def logs(probabilities: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the natural logarithms of probabilities, of 0 that of 1e-15: logits up to a constant."""
    return np.asarray(np.log(np.clip(probabilities, _LEAST, 1)), dtype=np.float64)


def _refuse(found: str) -> NoReturn:
    raise DataError(
        "a temperature must have a best value on the validation rows.",
        found,
        "give more validation rows, or leave the probabilities as they are",
    )
