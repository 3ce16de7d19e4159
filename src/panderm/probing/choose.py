"""Which of several inputs? The one of least log loss on rows that were not fitted, the same for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from panderm.errors import plural
from panderm.fitted import FittedProbe
from panderm.probing.asked import Known
from panderm.probing.inputs import Inputs
from panderm.progress import Progress
from panderm.training.features import Features
from panderm.training.fit import Fit, fit_probe
from panderm.training.held_out import held_out, stratified_folds
from panderm.training.row_weights import row_weights
from panderm.training.settings import ProbeSettings


@dataclass(frozen=True, eq=False)
class Chosen:
    """The inputs that were chosen, and the fit on them.

    Attributes:
        name: of the inputs.
        inputs: fitted on the training rows.
        fit: of all training rows.
        losses: mean log loss a held-out row, in nats, by name; None where none could be had.
        how: what it was measured on, in words.
    """

    name: str
    inputs: Inputs
    fit: Fit
    losses: dict[str, float | None]
    how: str

    def told(self) -> dict[str, Any]:
        """Return what a card says of the choice."""
        return {"inputs": self.name, "inputs chosen on": self.how, "log loss of inputs": self.losses}


def choose(
    known: Known,
    settings: ProbeSettings,
    candidates: Mapping[str, Inputs],
    *,
    method: dict[str, Any],
    progress: bool = False,
) -> Chosen:
    """Fit a probe on each of several inputs, and keep the one of least log loss; of equals the first.

    What else is left to be chosen (C, k) is chosen for each on the same rows: the validation rows, or one
    division of the training rows into folds that keeps groups whole.

    Args:
        known: what a fit may see.
        settings: what was decided.
        candidates: inputs by name, in the order in which they are told.
        method: for the probe's file.
        progress: show progress on standard error.
    """
    val_rows = known.asked.val
    fits: dict[str, tuple[Inputs, Fit]] = {}
    losses: dict[str, float | None] = {}
    how = ""
    with Progress(len(candidates), "choosing inputs", "inputs", shown=progress) as bar:
        for name, inputs in candidates.items():
            seen = inputs.fit(known.emb, known.asked.train)
            train = known.features(known.asked.train, seen)
            val = None if val_rows is None else known.features(val_rows, seen)
            fit = fit_probe(settings, train, val, method=method)
            fits[name] = seen, fit
            losses[name] = fit.loss if fit.loss is not None else _loss(settings, fit, train, val)
            how = how or _in_words(settings, train, val)
            bar.advance()
    known_losses = {name: loss for name, loss in losses.items() if loss is not None}
    if len(known_losses) < len(losses):
        how, known_losses = "a default: too few rows of some class to cross-validate", {}
    best = min(known_losses, key=known_losses.__getitem__) if known_losses else next(iter(losses))
    return Chosen(best, *fits[best], losses=losses, how=how)


def log_loss(probe: FittedProbe, rows: Features, settings: ProbeSettings) -> float:
    """Return the mean log loss in nats of rows a probe was not fitted on, weighted as a fit weighs them."""
    likely = probe.probabilities(rows.X)[np.arange(len(rows)), rows.codes(probe.classes)]
    weights = row_weights(rows, settings.class_weight)
    return float(-np.average(np.log(np.maximum(likely, 1e-15)), weights=weights))


def _loss(settings: ProbeSettings, fit: Fit, train: Features, val: Features | None) -> float | None:
    """Return the held-out log loss of a fit that chose nothing itself."""
    if val is not None:
        return log_loss(fit.probe, val, settings)
    pairs, _ = held_out(train, None, seed=settings.seed)
    total = sum(
        len(held) * log_loss(fit_probe(settings, fitted, None, method={}).probe, held, settings)
        for fitted, held in pairs
    )
    return total / sum(len(held) for _, held in pairs) if pairs else None


def _in_words(settings: ProbeSettings, train: Features, val: Features | None) -> str:
    if val is not None:
        return f"log loss of {plural(len(val), 'validation row')}"
    folds, how = stratified_folds(train.codes(), train.groups, seed=settings.seed)
    return f"log loss of {len(folds)}-fold cross-validation on the training rows, {how}"
