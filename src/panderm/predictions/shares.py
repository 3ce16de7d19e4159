"""Shares of the classes: those that probabilities were learnt at, and those stated for another place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from panderm.errors import UsageError, did_you_mean, some
from panderm.predictions.one_class import Predictions

Floats = npt.NDArray[np.float64]
Prior = Mapping[str, float] | float
_SLACK = 0.001  # shares written with three decimals


def stated_shares(prior: Prior, classes: Sequence[str]) -> Floats:
    """Return the stated share of each class, (K,), summing to 1.

    Args:
        prior: by class; of two classes the share of the second is enough.
        classes: in their order.

    Raises:
        UsageError: a class that is not there or not named, or shares that are none or do not sum to 1.
    """
    if not isinstance(prior, Mapping):
        if len(classes) != 2:
            raise UsageError(
                "--prior must name the share of every class where there are more than two.",
                f"found {prior:g}; there are: {some(classes, 12)}",
                f"--prior {classes[0]}=0.7,{classes[1]}=0.2,…",
            )
        prior = {classes[0]: 1 - prior, classes[1]: prior}
    unknown = [name for name in prior if name not in classes]
    missing = [name for name in classes if name not in prior]
    if unknown or missing:
        found = f"found {unknown[0]!r}{did_you_mean(unknown[0], classes)}" if unknown else ""
        found = found or f"no share of: {some(missing, 12)}"
        raise UsageError("--prior must name the share of every class.", f"{found}", f"{some(classes, 12)}")
    shares = np.array([prior[name] for name in classes], dtype=np.float64)
    total = float(shares.sum())
    if not ((shares > 0).all() and (shares < 1).all() and math.isclose(total, 1, abs_tol=_SLACK)):
        told = ", ".join(f"{name}={share:g}" for name, share in prior.items())
        raise UsageError(
            "--prior must be shares above 0 that sum to 1.", f"found {told}, in all {total:g}", "2 % is 0.02"
        )
    return np.asarray(shares / total, dtype=np.float64)


def learnt_shares(given: Predictions, held: Predictions | None) -> tuple[Floats, str]:
    """Return the shares of the classes that probabilities were learnt at, (K,), and where they are from.

    Those of the training rows, where the card of a probe counts them; alike, where its classes were balanced;
    of out-of-fold predictions those of the rows; of a file those of the validation rows.

    Args:
        given: the rows scored.
        held: the validation rows, if there are any.

    Raises:
        UsageError: they are not known, or a class has none.
    """
    method, classes, earlier = given.card.method, given.classes, given.card.recalibration
    counts: dict[str, int] | None = None
    if earlier is not None and earlier.new is not None:
        return np.array([earlier.new[c] for c in classes]), "the shares they were last moved to"
    weighted = method.get("sample weight")
    if method.get("class weight") == "balanced":
        return np.full(len(classes), 1 / len(classes)), "classes that were balanced in training"
    if weighted is None and isinstance(method.get("train rows per class"), dict):
        counts, words = method["train rows per class"], "the training rows"
    elif weighted is None and given.fold is not None:
        counts, words = _counts(given), "the rows of all folds"
    elif weighted is None and held is not None and len(held):
        counts, words = _counts(held), "the validation rows"
    if counts is None or min(counts.get(name, 0) for name in classes) == 0:
        lacking = [name for name in classes if counts is not None and not counts.get(name)]
        found = (
            f"no row of {some(lacking)} among {words}" if lacking else "nothing says what it was fitted on"
        )
        found = f"training rows were weighed by column {weighted!r}" if weighted is not None else found
        raise UsageError(
            "--prior needs the shares of the classes where the probabilities were learnt.",
            found,
            "name validation rows with the shares of the training: --validation",
        )
    shares = np.array([counts[name] for name in classes], dtype=np.float64)
    return np.asarray(shares / shares.sum(), dtype=np.float64), words


def _counts(given: Predictions) -> dict[str, int]:
    counts = np.bincount(given.truth_codes(), minlength=len(given.classes))
    return {name: int(n) for name, n in zip(given.classes, counts, strict=True)}
