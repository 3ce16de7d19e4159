"""One question answered: fit some rows, choose on others, predict a third kind; in that order."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.embeddings import Embeddings
from panderm.errors import DataError, some
from panderm.predictions import Predictions, PredictionsCard
from panderm.probing.inputs import Inputs, Positions, Vectors
from panderm.provenance import Provenance
from panderm.statistics.resampling import cluster_codes
from panderm.training.features import Features
from panderm.training.fit import Fit, fit_probe
from panderm.training.settings import ProbeSettings
from panderm.training.temperature import fit_temperature


@dataclass(frozen=True, eq=False)
class Asked:
    """Which rows of some embeddings are fitted, choose, calibrate and are scored; positions, ascending.

    Attributes:
        train: rows to fit.
        test: rows to predict.
        split: what the predicted rows are called on the predictions' card.
        val: rows that choose what is left to be chosen; None: cross-validation of the training rows.
        calibration: rows for the temperature; None for none.
        method: what else was decided, for the card, in the order in which it is told.
        task: the question, for the card.
    """

    train: Positions
    test: Positions
    split: str
    val: Positions | None = None
    calibration: Positions | None = None
    method: dict[str, Any] = field(default_factory=dict)
    task: str = "linear probe"


def answer(
    emb: Embeddings,
    asked: Asked,
    settings: ProbeSettings,
    *,
    inputs: Inputs | None = None,
    other: Embeddings | None = None,
) -> Predictions:
    """Fit, choose and calibrate on the rows asked for, and only then look at the rows to predict.

    Args:
        emb: embeddings of a table.
        asked: which of their rows play which part.
        settings: what was decided about the probe.
        inputs: what the probe sees of a row; by default the stored vectors.
        other: embeddings of another table, where it is their rows that are to be predicted; the truth is then
            in that table's words.

    Raises:
        DataError: see :func:`panderm.training.fit.fit_probe`.
    """
    started = time.monotonic()
    seen = (inputs or Vectors()).fit(emb, asked.train)
    method = {**settings.record(), **asked.method}
    train = features(emb, asked.train, seen)
    val = None if asked.val is None else features(emb, asked.val, seen)
    fit = fit_probe(settings, train, val, method=method)
    probe, outcome = replace(fit.probe, inputs=seen.record()), dict(fit.outcome)
    if asked.calibration is not None:
        probe, told = _calibrated(fit, features(emb, asked.calibration, seen))
        outcome["calibration"] = told
    scored = emb if other is None else other
    rows = scored.rows.select(asked.test)
    card = PredictionsCard(
        task=asked.task,
        method=method,
        outcome=outcome,
        classes=emb.rows.classes,
        split=asked.split,
        rows=len(rows),
        embeddings=scored.card,
        fitted_on=None if other is None else emb.card,
        provenance=Provenance.now(seconds=time.monotonic() - started),
    )
    return Predictions(
        image=rows.image,
        path=rows.path,
        sha256=rows.sha256,
        patient=rows.patient,
        group=rows.group,
        truth=rows.label,
        probabilities=probe.probabilities(seen.of(scored, asked.test)),
        card=card,
        fitted=probe,
    )


def features(emb: Embeddings, rows: Positions, inputs: Inputs) -> Features:
    """Return some rows as a probe is fitted on them."""
    table = emb.rows.select(rows)
    codes, unit = cluster_codes(table.patient, table.group, len(table))
    groups = None if unit == "image" else codes
    return Features(inputs.of(emb, rows), table.label, table.classes, table.image, groups)


def _calibrated(fit: Fit, held_out: Features) -> tuple[Any, dict[str, Any]]:
    """Return the probe with the temperature of least log loss on held-out rows, and what it did to them."""
    probe = fit.probe
    trained = [c for c, known in zip(probe.classes, probe.trained, strict=True) if known]
    never = sorted(set(held_out.labels) - set(trained))
    if never:
        raise DataError(
            "every class of the rows to calibrate on must be among the training rows.",
            f"never trained: {some(never)}",
            "correct the split, or leave --calibrate out",
        )
    logits: npt.NDArray[np.float64] = probe.logits(held_out.X)[:, probe.trained]
    found = fit_temperature(logits, held_out.codes(tuple(trained)))
    told = {
        "temperature": found.value,
        "rows": found.n,
        "log loss before": found.before,
        "log loss after": found.after,
    }
    return replace(probe, temperature=found.value), told
