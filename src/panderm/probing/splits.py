"""Which rows play which part, where a table says it by its splits: what ``panderm probe`` asks."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from panderm.data.table import Table
from panderm.errors import DataError, UsageError, plural, some
from panderm.probing.asked import Asked
from panderm.probing.pooled import Pooling
from panderm.probing.sample_weights import sample_weights
from panderm.probing.units import Unit, UnitPool, require_agreement, units_of
from panderm.training.linear_probe import ENOUGH_VALIDATION_ROWS, require_labels
from panderm.training.settings import ProbeSettings
from panderm.training.subset import take_part

Calibrate = Literal["none", "temperature"]


def asked_by_split(
    rows: Table,
    settings: ProbeSettings,
    *,
    train: str,
    val: str,
    test: str,
    percent_data: float = 1.0,
    calibrate: Calibrate = "none",
    sample_weight: str | None = None,
    pooling: Pooling = "stored",
    unit: Unit = "image",
    unit_pool: UnitPool = "embedding",
    choosing_inputs: bool = False,
) -> Asked:
    """Return the question that names of splits ask, once it is sure that it can be asked.

    Args:
        rows: of the embeddings.
        settings: what was decided about the probe.
        train: the split to fit.
        val: the split that chooses.
        test: the split to predict.
        percent_data: as of :func:`panderm.probe`.
        calibrate: likewise.
        sample_weight: likewise.
        pooling: likewise.
        unit: likewise.
        unit_pool: likewise.
        choosing_inputs: whether there is a choice among inputs, which the ``val`` rows are to make too.

    Raises:
        DataError: see :func:`panderm.probe`.
        UsageError: likewise.
    """
    _require_sense(settings, unit, unit_pool, percent_data)
    chooses = settings.chooses or pooling == "choose" or choosing_inputs
    choosing = val if chooses and val not in (test, train) else None
    require_calibration_rows(rows, calibrate, train=train, val=val, test=test)
    chosen = training_rows(rows, train=train, val=choosing, test=test, percent_data=percent_data)
    require_agreement(rows.select(np.isin(rows.split, (train, val, test))), unit)
    held = np.flatnonzero(rows.split == val)
    pooled = unit if unit_pool == "embedding" else "image"
    enough = choosing is not None and _number(rows.select(held), pooled) >= ENOUGH_VALIDATION_ROWS
    method = what_is_fitted(rows, chosen, settings, train=train, percent_data=percent_data)
    if calibrate == "temperature":
        method["calibrate"] = f"temperature, on {val}"
    method |= what_differs(sample_weight=sample_weight, pooling=pooling, unit=unit, unit_pool=unit_pool)
    if unit != "image":
        method[f"train {unit}s"] = _number(rows.select(chosen), unit)
    return Asked(
        train=chosen,
        test=np.flatnonzero(rows.split == test),
        split=test,
        val=held if enough else None,
        calibration=held if calibrate == "temperature" else None,
        validation=val if len(held) and val not in (train, test) else None,
        method=method,
        weights=None
        if sample_weight is None
        else sample_weights(rows, sample_weight, np.r_[chosen, held] if enough else chosen),
        unit=unit,
        unit_pool=unit_pool,
    )


def what_is_fitted(
    rows: Table, chosen: npt.NDArray[np.intp], settings: ProbeSettings, *, train: str, percent_data: float
) -> dict[str, Any]:
    """Return what a card says of the rows of a table that are fitted."""
    labels = rows.label[chosen]
    return {
        "train split": train,
        "train rows": len(chosen),
        "train rows per class": {c: int((labels == c).sum()) for c in rows.classes if c in set(labels)},
        "percent of training data": 100 * percent_data,
        "seed": settings.seed,
    }


def what_differs(
    *, sample_weight: str | None, pooling: Pooling, unit: Unit, unit_pool: UnitPool
) -> dict[str, Any]:
    """Return what a card says of how rows are seen, where that is not as always.

    Named only where it is asked for: a probe of which no more is asked keeps the identity it always had.
    """
    told: dict[str, Any] = {}
    if sample_weight is not None:
        told["sample weight"] = sample_weight
    if pooling != "stored":
        told["pooling"] = pooling
    if unit != "image":
        told |= {"unit": unit, "unit pool": unit_pool}
    return told


def _require_sense(settings: ProbeSettings, unit: Unit, unit_pool: UnitPool, percent_data: float) -> None:
    """Raise :class:`UsageError` where two options do not go together."""
    if unit_pool not in ("embedding", "probability"):
        raise UsageError(f"unit_pool must be embedding or probability, not {unit_pool!r}.")
    if unit == "image":
        if unit_pool != "embedding":
            raise UsageError(
                "--unit-pool says how the images of one lesion or patient are pooled.",
                "found --unit image",
                "add --unit lesion or --unit patient",
            )
        return
    if percent_data != 1:
        raise UsageError(
            "--percent-data and --unit do not go together.",
            "the published subset takes images one by one, and would tear a unit",
            "leave one of them out",
        )
    if settings.kind == "attentive" and unit_pool == "embedding":
        raise UsageError(
            "--kind attentive and --unit-pool embedding do not go together.",
            "patch tokens of different images have no mean",
            "--unit-pool probability",
        )


def _number(rows: Table, unit: Unit) -> int:
    """Return how many units some rows are."""
    units = units_of(rows, unit)
    return len(rows) if units is None else len(np.unique(units.codes))


def require_calibration_rows(
    table: Table, calibrate: Calibrate, *, train: str, val: str, test: str | None
) -> None:
    """Raise :class:`DataError` where a calibration has no rows of its own to be fitted on.

    ``test`` is None where another table is scored.
    """
    if calibrate not in ("none", "temperature"):
        raise UsageError(f"calibrate must be none or temperature, not {calibrate!r}.")
    if calibrate == "none":
        return
    problem = None
    if val in (train, test):
        what = "scored" if val == test else "fitted"
        problem = f"--val {val} is the split that is {what}"
    elif not (table.split == val).any():
        problem = f"no row of {table.card.name} has the split {val!r}"
    if problem:
        raise DataError(
            "a calibration needs val rows that are neither fitted nor scored.",
            problem,
            "name another split with --val, or leave --calibrate out",
        )


def rows_to_fit(table: Table, *, train: str, test: str | None, percent_data: float) -> npt.NDArray[np.intp]:
    """Return the positions of the training rows, or the first part of them, whatever their labels.

    ``test`` is None where another table is scored: all rows are then fitted where the table has no splits.

    Raises:
        DataError: no rows in the split to fit, or in that to score.
        UsageError: both are the same, or no part of the rows.
    """
    if not 0 < percent_data <= 1:
        raise UsageError(
            "--percent-data must be a part of 1, greater than 0.", f"found {percent_data}", "0.1 is 10 %"
        )
    if test is None and table.card.roles["split"] is None and train == "train":
        return take_part(np.arange(len(table)), percent_data)
    for role, name in (("train", train), ("test", test)):
        if name is not None and not (table.split == name).any():
            present = {s: int((table.split == s).sum()) for s in ("train", "val", "test")}
            there = [s for s, n in present.items() if n]
            rest = [s for s in there if s != train]
            raise DataError(
                f"the {role} split must have rows.",
                [
                    f"no row of {table.card.name} has the split {name!r}",
                    f"found: {', '.join(f'{s} ({present[s]:,})' for s in there) or 'no split column'}",
                ],
                f"--{role} {rest[0]} scores that split"
                if role == "test" and rest
                else "correct the split column",
            )
    if train == test:
        raise UsageError(
            "a probe must not be scored on the rows it was fitted on.", f"--train and --test: {test}"
        )
    return take_part(np.flatnonzero(table.split == train), percent_data)


def training_rows(
    table: Table, *, train: str, val: str | None = None, test: str | None, percent_data: float
) -> npt.NDArray[np.intp]:
    """Return the positions of the rows to fit, once it is sure that the question can be asked.

    ``val`` is the split that is to choose the strength, where one is; ``test`` as of :func:`rows_to_fit`.

    Raises:
        DataError: no labels, no rows in a split, one class only, a class of the test (or val) rows that was
            never trained.
    """
    require_labels(table)
    kept = rows_to_fit(table, train=train, test=test, percent_data=percent_data)
    trained = set(table.label[kept])
    if len(trained) < 2:
        raise DataError(
            "training rows must have at least two classes.",
            f"found only: {some(sorted(trained)) or 'none'}, in {plural(len(kept), 'row')}",
            "check the label column and the split" if percent_data == 1 else "take a larger --percent-data",
        )
    needed = [] if test is None else [test]
    if val is not None and (table.split == val).sum() >= ENOUGH_VALIDATION_ROWS:
        needed.append(val)
    for name in needed:
        held = table.label[table.split == name]
        never = [c for c in table.classes if c in set(held) and c not in trained]
        if never:
            few = f"take a larger --percent-data: {percent_data:g} leaves {plural(len(kept), 'training row')}"
            raise DataError(
                f"every class of the {name} rows must be among the training rows.",
                [f"{c!r}: {plural(int((held == c).sum()), f'{name} row')}, no training row" for c in never],
                "correct the split, or leave these rows out" if percent_data == 1 else few,
            )
    return kept
