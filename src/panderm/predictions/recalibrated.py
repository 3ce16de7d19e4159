"""Probabilities changed after the fact: by what validation rows say, or to other shares of the classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from panderm.data.columns import in_order
from panderm.errors import DataError, UsageError, plural, some
from panderm.predictions import Predictions, open_either, require_one_class
from panderm.predictions.card import PredictionsCard, Recalibration, ValidationRows
from panderm.predictions.shares import Prior, learnt_shares, stated_shares
from panderm.predictions.validation_rows import validation_rows
from panderm.provenance import Provenance
from panderm.statistics.calibration import shift_prior
from panderm.statistics.isotonic import fit_isotonic
from panderm.statistics.temperature import fit_temperature, logs, soften

Floats = npt.NDArray[np.float64]
Method = Literal["temperature", "isotonic", "none"]
# Of about so many rows isotonic regression starts to pay (Niculescu-Mizil and Caruana, ICML 2005); in
# simulation it made the log loss of probabilities twice too sure worse in about half of the studies, and with
# fewer in most (benchmarks/recalibration_rows.py).
ENOUGH = 1000
CHANGED = "rows of another most probable class after recalibration"


@dataclass(frozen=True)
class Moved:
    """Probabilities after a recalibration.

    Attributes:
        probabilities: (n, K) of the rows scored.
        held: (m, K) of the validation rows; None of folds.
        parameters: what was fitted, plain.
        rows: on which rows, in words.
        caution: what speaks against believing it; None where nothing does.
    """

    probabilities: Floats
    held: Floats | None
    parameters: dict[str, Any]
    rows: str
    caution: str | None


def recalibrate(
    predictions: Predictions | Path | str,
    *,
    method: Method = "temperature",
    validation: Predictions | Path | str | None = None,
    prior: Prior | None = None,
    out: Path | str | None = None,
    overwrite: bool = False,
) -> Predictions:
    """Change probabilities by what validation rows say, or by the shares of the classes elsewhere.

    The fit sees nothing of the rows that are scored: they are refused among the validation rows. Out-of-fold
    predictions need none: those of each fold are changed by what the other folds say.

    Args:
        predictions: Predictions, the folder that holds them, or a CSV.
        method: ``temperature`` divides all logits by one number and changes no row's order of classes;
            ``isotonic`` fits a step for each class: probabilities tie, and of more than two classes their
            order may change, so that accuracy and AUROC move too; ``none`` fits nothing.
        validation: predictions of other rows by the same predictor; by default those beside.
        prior: shares of the classes where the probabilities are to be used, by class; of two classes that of
            the second is enough. After the method, probabilities are moved there from the shares where they
            were learnt (Saerens et al., 2002): right where the images of a class look alike in both places.
        out: folder to write, ``X.pred``.
        overwrite: replace an ``out`` that exists.

    Returns:
        Predictions whose card says what was fitted on which rows; no probe is kept beside them.

    Raises:
        ParentsError: validation rows of other classes, or that are scored too.
        DataError: validation rows on which this cannot be fitted.
        UsageError: nothing to do, no validation rows, or shares that make no sense.

    Example:
        >>> moved = panderm.recalibrate("probe.pred", out="honest.pred")  # doctest: +SKIP
        >>> moved.card.recalibration.parameters  # doctest: +SKIP
        {'temperature': 1.31}
    """
    given = open_either(predictions) if isinstance(predictions, Path | str) else predictions
    require_one_class(given, predictions if isinstance(predictions, Path | str) else None)
    assert isinstance(given, Predictions)
    if method not in get_args(Method):
        raise UsageError(f"--method must be one of {', '.join(get_args(Method))}.", f"found {method!r}")
    if method == "none" and prior is None:
        raise UsageError(
            "there must be something to change.", "found --method none and no --prior", "--prior mel=0.02,…"
        )
    held = validation_rows(given, validation)
    moved = Moved(given.probabilities, held.probabilities if held is not None else None, {}, "", None)
    if method != "none":
        moved = move(method, given, held)
    p, q = moved.probabilities, moved.held
    shares: dict[str, Any] = {}
    if prior is not None:
        new, (old, words) = stated_shares(prior, given.classes), learnt_shares(given, held)
        p, q = shift_prior(p, old, new), None if q is None else shift_prior(q, old, new)
        by_class = [dict(zip(given.classes, x.tolist(), strict=True)) for x in (old, new)]
        shares = {"old": by_class[0], "new": by_class[1], "old_from": words}
    fitted, before = method != "none", given.predicted_codes()
    record = Recalibration(
        of=given.card.identity,
        method=method,
        fitted_on=held.card.identity if fitted and held is not None else None,
        rows=moved.rows if fitted else None,
        parameters=moved.parameters,
        **shares,
    )
    made = replace(
        given,
        probabilities=p,
        card=_card(given.card, record, moved.caution, int((before != p.argmax(axis=1)).sum())),
        fitted=None,
        validation=None if held is None or q is None else _beside(held, q, record),
    )
    if made.validation is not None:
        note = ValidationRows(split=made.validation.card.split, rows=len(made.validation))
        made = replace(made, card=made.card.model_copy(update={"validation": note}))
    if out is not None:
        made.save(out, overwrite=overwrite)
    return made


def move(method: Literal["temperature", "isotonic"], given: Predictions, held: Predictions | None) -> Moved:
    """Fit on validation rows and apply to the rows scored; without any, each fold by the other folds.

    Args:
        method: what is fitted.
        given: the rows scored.
        held: the validation rows.

    Raises:
        UsageError: neither validation rows nor folds.
        DataError: rows on which this cannot be fitted.
    """
    fit = _temperature if method == "temperature" else _isotonic
    codes, p = given.truth_codes(), given.probabilities
    if held is not None and len(held):
        on, rows = held.truth_codes(), f"{plural(len(held), 'row')} of {held.card.split}"
        apply, parameters = fit(held.probabilities, on, given.classes)
        return Moved(apply(p), apply(held.probabilities), parameters, rows, _caution(method, len(held)))
    if given.fold is None:
        raise UsageError(
            "a recalibration needs validation rows.",
            f"none lie beside {given.card.source}",
            "name predictions of other rows by the same model: --validation",
        )
    made, parameters, least = p.copy(), {}, len(codes)
    for name in in_order({str(one) for one in given.fold}):
        own = given.fold == name
        apply, parameters[f"fold {name}"] = fit(p[~own], codes[~own], given.classes)
        made[own] = apply(p[own])
        least = min(least, int((~own).sum()))
    return Moved(made, None, parameters, "the other folds of each fold", _caution(method, least))


def _temperature(
    held: Floats, codes: npt.NDArray[np.int64], classes: tuple[str, ...]
) -> tuple[Callable[[Floats], Floats], dict[str, Any]]:
    del classes
    value = fit_temperature(logs(held), codes).value
    return (lambda p: soften(p, value)), {"temperature": value}


def _isotonic(
    held: Floats, codes: npt.NDArray[np.int64], classes: tuple[str, ...]
) -> tuple[Callable[[Floats], Floats], dict[str, Any]]:
    lacking = [name for k, name in enumerate(classes) if not (codes == k).any()]
    if lacking:
        raise DataError(
            "isotonic regression must see every class among the rows it is fitted on.",
            f"{plural(len(codes), 'validation row')}, and none of {some(lacking)}",
            "give more validation rows, or fit a temperature: --method temperature",
        )
    fitted = fit_isotonic(held, codes)
    named = classes[1:] if len(classes) == 2 else classes
    curves = {
        name: {"given": at.tolist(), "becomes": to.tolist()}
        for name, (at, to) in zip(named, fitted.curves, strict=True)
    }
    return fitted.apply, curves


def _caution(method: str, rows: int) -> str | None:
    """Say so where isotonic regression rests on fewer rows than it takes to do good."""
    if method != "isotonic" or rows >= ENOUGH:
        return None
    return (
        f"isotonic regression rests on {plural(rows, 'row')}; with fewer than {ENOUGH:,} it usually makes "
        "the log loss worse"
    )


def _card(card: PredictionsCard, record: Recalibration, caution: str | None, changed: int) -> PredictionsCard:
    told: str = record.method if record.method != "none" else ""
    if value := record.parameters.get("temperature"):
        told += f" {value:.3g}"
    told += f", fitted on {record.rows}" if told else ""
    if record.new is not None:
        shares = ", ".join(f"{name} {share:g}" for name, share in record.new.items())
        told += ("; " if told else "") + f"shares of the classes moved to {shares}"
    before = card.method.get("recalibrated")
    update: dict[str, Any] = {
        "method": {**card.method, "recalibrated": f"{before}; then {told}" if before else told},
        "outcome": {**card.outcome, CHANGED: changed, **({"caution": caution} if caution else {})},
        "recalibration": record,
        "validation": None,
        "provenance": Provenance.now(),
    }
    if card.embeddings is None:
        short = record.method if record.method != "none" else "other prior"
        update["name"] = f"{card.model}, {short}"
    return card.model_copy(update=update)


def _beside(held: Predictions, probabilities: Floats, record: Recalibration) -> Predictions:
    card = held.card.model_copy(update={"recalibration": record})
    return replace(held, probabilities=probabilities, card=card, fitted=None, validation=None)
