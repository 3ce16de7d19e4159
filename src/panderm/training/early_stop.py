"""Choose among candidates by descent: an epoch to stop at, and then the fit on all rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from panderm.errors import plural
from panderm.models.device import pick_device
from panderm.training.descent import Candidate, Descent, Forward, Rows, Schedule, Weights
from panderm.training.features import Features
from panderm.training.held_out import held_out, require_two_classes
from panderm.training.row_weights import row_weights
from panderm.training.settings import ProbeSettings


def fit_early_stopped(
    forward: Forward,
    candidates: Callable[[Features, Weights], Sequence[Candidate]],
    settings: ProbeSettings,
    train: Features,
    val: Features | None,
    *,
    schedule: Schedule,
    progress: bool,
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Fit each candidate until the log loss of held-out rows falls no more, and return the best.

    The held-out rows are the val rows. Without them they are one fold in five of the training rows, groups
    kept whole, and the best candidate is then fitted again on all rows, for as many epochs.

    Args:
        forward: (X, weights, drop) to logits.
        candidates: from the rows to fit, and the weights ``output.bias`` (K,) at the classes' shares, to
            the candidates; the first is taken where no row can choose.
        settings: class weight, precision, device and seed.
        train: the training rows.
        val: the validation rows, or None.
        schedule: how long.
        progress: show a bar.

    Returns:
        The weights by name, the last layer's for all classes of the table; and what was chosen on what.
    """
    require_two_classes(train)
    device, dtype = pick_device(settings.device), torch.float64 if settings.float64 else torch.float32

    def rows_of(features: Features, classes: tuple[str, ...]) -> Rows:
        return Rows(features, classes, settings.class_weight, device, dtype)

    def begun(features: Features) -> list[Candidate]:
        shares = np.bincount(features.codes(), row_weights(features, settings.class_weight))
        bias = torch.from_numpy(np.log(shares / shares.sum()))
        made = candidates(features, {"output.bias": bias})
        return [replace(one, start={k: w.to(device, dtype) for k, w in one.start.items()}) for one in made]

    def descent(features: Features, plan: Schedule) -> Descent:
        rows = rows_of(features, features.present)
        return Descent(forward, rows, plan, seed=settings.seed, progress=progress)

    pairs, how = held_out(train, val, seed=settings.seed)
    told: dict[str, Any] = {"log loss": None}
    if pairs:
        fitted, held = pairs[0]
        ways = begun(fitted)
        found = descent(fitted, schedule).run(ways, rows_of(held, fitted.present))
        best = int(np.argmin([one.loss for one in found]))
        arrived, named = found[best], ways[best].named
        told["log loss"] = arrived.loss
        if val is None:
            how = f"{plural(len(held), 'training row')} held out{_whole(train)}, then fitted on all"
        told |= {**named, "chosen on": f"log loss of {how}", "epochs": arrived.epoch}
        told |= {"stopped": arrived.stopped}
    if not pairs:
        best, named = 0, begun(train)[0].named
        told |= {**named, "chosen on": "a default: too few rows of some class to hold any out"}
        told |= {"epochs": schedule.epochs, "stopped": f"the end of {plural(schedule.epochs, 'epoch')}"}
    final = descent(train, replace(schedule, last=told["epochs"]))
    if val is None:
        arrived = final.run([begun(train)[best]], None)[0]
    told |= {"batch": schedule.batch, "gradient norm": final.gradient_norm(arrived.weights)}
    chosen = ", ".join(f"{name} {value:g}" for name, value in named.items())
    told["summary"] = f"{chosen}, {plural(told['epochs'], 'epoch')} ({told['chosen on']})"
    return _for_all_classes({k: w.cpu().numpy() for k, w in arrived.weights.items()}, train), told


def _whole(train: Features) -> str:
    return "" if train.groups is None else ", groups kept whole"


def _for_all_classes(weights: dict[str, npt.NDArray[Any]], train: Features) -> dict[str, npt.NDArray[Any]]:
    """Return the weights with a last layer for all classes; a bias of -inf where one was never trained."""
    some, there = weights["output.weight"], [train.classes.index(c) for c in train.present]
    weight = np.zeros((len(train.classes), some.shape[1]), dtype=some.dtype)
    bias = np.full(len(train.classes), -np.inf, dtype=some.dtype)
    weight[there], bias[there] = some, weights["output.bias"]
    return {**weights, "output.weight": weight, "output.bias": bias}
