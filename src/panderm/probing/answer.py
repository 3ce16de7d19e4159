"""One question answered: fit some rows, choose on others, and only then predict a third kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.embeddings import Embeddings
from panderm.errors import DataError, some
from panderm.fitted import FittedProbe
from panderm.predictions import Predictions, PredictionsCard
from panderm.predictions.card import ValidationRows
from panderm.probing.asked import Asked as Asked
from panderm.probing.asked import Known, known
from panderm.probing.choose import choose
from panderm.probing.inputs import Inputs, Positions, Vectors, from_record
from panderm.probing.sealed import Sealed
from panderm.probing.units import Units, units_of
from panderm.provenance import Provenance
from panderm.statistics.temperature import fit_temperature
from panderm.training.features import Features, require_finite
from panderm.training.fit import fit_probe
from panderm.training.settings import ProbeSettings


@dataclass(frozen=True, eq=False)
class Learned:
    """A probe, what was decided before its fit, and what the fit found."""

    probe: FittedProbe
    method: dict[str, Any]
    outcome: dict[str, Any]


def answer(
    emb: Embeddings,
    asked: Asked,
    settings: ProbeSettings,
    *,
    inputs: Inputs | Mapping[str, Inputs] | None = None,
    other: Embeddings | None = None,
    progress: bool = False,
) -> Predictions:
    """Fit, choose and calibrate on the rows asked for, and only then look at the rows to predict.

    Args:
        emb: embeddings of a table.
        asked: which of their rows play which part.
        settings: what was decided about the probe.
        inputs: what the probe sees of a row, by default the stored vectors; of several, the one of least log
            loss on held-out rows is taken.
        other: embeddings of another table, where it is their rows that are to be predicted; the truth is then
            in that table's words.
        progress: show progress on standard error.

    Raises:
        DataError: see :func:`panderm.training.fit.fit_probe`.
    """
    started = time.monotonic()
    scored = emb if other is None else other
    sealed = Sealed(scored, asked.test)
    within = asked if other is None else replace(asked, test=np.empty(0, dtype=np.intp))
    learned = learn(emb, within, settings, inputs=inputs, progress=progress)
    units = units_of(scored.rows, asked.unit)
    opened = sealed.opened_by(learned.probe)
    here = None if units is None else units.select(asked.test)
    predicted = partial(_predicted, learned.probe, asked=asked, progress=progress)
    outcome = dict(learned.outcome)
    if here is not None:
        outcome["units"] = here.told()
    card = PredictionsCard(
        task=asked.task or settings.task,
        method=learned.method,
        outcome=outcome,
        classes=emb.rows.classes,
        split=asked.split,
        rows=len(opened) if here is None else len(here.first()),
        embeddings=scored.card,
        fitted_on=None if other is None else emb.card,
        folders={
            one.card.identity: str(one.path.absolute()) for one in (emb, scored) if one.path is not None
        },
        provenance=Provenance.now(seconds=time.monotonic() - started),
    )
    validation = None
    if other is None and asked.validation is not None:
        beside = np.flatnonzero(emb.rows.split == asked.validation)
        there = None if units is None else units.select(beside)
        number = len(beside) if there is None else len(there.first())
        told = ValidationRows(split=asked.validation, rows=number)
        validation = _predictions(
            emb.select(beside, read=False),
            there,
            predicted,
            card.model_copy(update=told.model_dump()),
            learned.probe,
        )
        card = card.model_copy(update={"validation": told})
    return replace(_predictions(opened, here, predicted, card, learned.probe), validation=validation)


def learn(
    emb: Embeddings,
    asked: Asked,
    settings: ProbeSettings,
    *,
    inputs: Inputs | Mapping[str, Inputs] | None = None,
    progress: bool = False,
) -> Learned:
    """Fit, choose and calibrate; of the rows of the embeddings only those with a part in that are there.

    Args:
        emb: embeddings of a table.
        asked: which of their rows play which part.
        settings: what was decided about the probe.
        inputs: as of :func:`answer`.
        progress: show progress on standard error.

    Raises:
        DataError: see :func:`panderm.training.fit.fit_probe`.
        ValueError: a row to predict is among those to fit, to choose or to calibrate on.
    """
    return _learn(known(emb, asked), settings, inputs or Vectors(), progress=progress)


def predict(
    probe: FittedProbe, emb: Embeddings, rows: Positions | None = None, *, progress: bool = False
) -> npt.NDArray[np.float64]:
    """Return the probabilities (n, K) of rows of embeddings by a fitted probe, whatever its inputs.

    Args:
        probe: of predictions, ``panderm.open_predictions("x.pred").probe``.
        emb: embeddings by the encoder it was fitted on.
        rows: positions; by default all.
        progress: show progress on standard error.

    Raises:
        DataError: embeddings of another width, or that are not finite.
        UsageError: embeddings without what its inputs need.
    """
    chosen = np.arange(len(emb)) if rows is None else rows
    return probe.probabilities(_inputs_of(probe, emb, chosen, progress=progress))


def _learn(
    seen: Known, settings: ProbeSettings, inputs: Inputs | Mapping[str, Inputs], *, progress: bool
) -> Learned:
    asked = seen.asked
    method = {**settings.record(), **asked.method}
    if isinstance(inputs, Mapping):
        chosen = choose(seen, settings, inputs, method=method, progress=progress)
        made, fit, told = chosen.inputs, chosen.fit, chosen.told()
    else:
        made, told = inputs.fit(seen.emb, asked.train), {}
        val = None if asked.val is None else seen.features(asked.val, made)
        fit = fit_probe(settings, seen.features(asked.train, made), val, method=method, progress=progress)
    probe, outcome = replace(fit.probe, inputs=made.record()), {**fit.outcome, **told}
    if asked.calibration is not None:
        probe, outcome["calibration"] = _calibrated(probe, seen.features(asked.calibration, made))
    return Learned(probe, method, outcome)


def _predictions(
    emb: Embeddings,
    units: Units | None,
    predicted: Callable[[Embeddings, Units | None], npt.NDArray[np.float64]],
    card: PredictionsCard,
    probe: FittedProbe,
) -> Predictions:
    rows = emb.rows if units is None else emb.rows.select(units.first())
    return Predictions(
        image=rows.image,
        path=rows.path,
        sha256=rows.sha256,
        patient=rows.patient,
        group=rows.group,
        truth=rows.label,
        probabilities=predicted(emb, units),
        card=card,
        fitted=probe,
    )


def _predicted(
    probe: FittedProbe, emb: Embeddings, units: Units | None, *, asked: Asked, progress: bool
) -> npt.NDArray[np.float64]:
    """Return the probabilities of rows, or one for all rows of a unit."""
    X = _inputs_of(probe, emb, np.arange(len(emb)), progress=progress)
    if units is None:
        return probe.probabilities(X)
    if asked.unit_pool == "probability":
        return units.mean(probe.probabilities(X))
    return probe.probabilities(units.mean(X))


def _inputs_of(probe: FittedProbe, emb: Embeddings, rows: Positions, *, progress: bool) -> npt.NDArray[Any]:
    """Return what a probe takes of some rows, once it is sure that these are numbers."""
    X = from_record(probe.inputs, progress=progress).of(emb, rows)
    if probe.takes == "vectors":
        require_finite(X, emb.rows.image[rows])
    return X


def _calibrated(probe: FittedProbe, held_out: Features) -> tuple[FittedProbe, dict[str, Any]]:
    """Return the probe with the temperature of least log loss on held-out rows, and what it did to them."""
    trained = [c for c, fitted in zip(probe.classes, probe.trained, strict=True) if fitted]
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
