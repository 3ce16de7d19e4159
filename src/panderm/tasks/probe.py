"""Can a straight line separate them? A linear probe on embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from panderm.data.table import Table
from panderm.embeddings import Embeddings, open_embeddings
from panderm.errors import DataError, UsageError, plural, some
from panderm.predictions import Predictions
from panderm.probing.answer import Asked, answer
from panderm.training.linear_probe import ENOUGH_VALIDATION_ROWS, require_labels
from panderm.training.settings import ClassWeight, ProbeKind, ProbeSettings, Recipe
from panderm.training.subset import take_part

Calibrate = Literal["none", "temperature"]
Pooling = Literal["stored", "cls", "mean", "both", "choose"]
Unit = Literal["image", "lesion", "patient"]
UnitPool = Literal["embedding", "probability"]


def probe(
    embeddings: Embeddings | Path | str,
    *,
    kind: ProbeKind = "linear",
    recipe: Recipe = "tuned",
    train: str = "train",
    val: str = "val",
    test: str = "test",
    percent_data: float = 1.0,
    C: float | None = None,
    k: int | None = None,
    class_weight: ClassWeight = "none",
    sample_weight: str | None = None,
    pooling: Pooling = "stored",
    unit: Unit = "image",
    unit_pool: UnitPool = "embedding",
    float64: bool = False,
    device: str = "auto",
    calibrate: Calibrate = "none",
    seed: int = 0,
    out: Path | str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Predictions:
    """Fit a probe on one split and predict another.

    Args:
        embeddings: Embeddings or the folder that holds them.
        kind: see :class:`ProbeSettings`.
        recipe: ``tuned`` or ``paper``, see :class:`LinearProbe`.
        train: the split to fit.
        val: the split that chooses the strength (``tuned``), where it has 100 rows or more and is not
            ``test``; else grouped cross-validation of the training rows does.
        test: the split to predict.
        percent_data: part of the training rows to fit, in (0, 1]: shuffled with seed 42, the first taken,
            as the published probe does.
        C: strength, where it is not to be chosen.
        calibrate: ``temperature`` divides the logits by one number, the one of least log loss on the val
            rows (Guo et al., ICML 2017, §4.2): probabilities become more honest, the predicted class stays.
        seed: see :class:`LinearProbe`.
        out: folder to write, ``X.pred``.
        overwrite: replace an ``out`` that exists.

    Raises:
        DataError: no rows in a split, one class only, a class of the test rows that was never trained; or no
            val rows of their own to calibrate on.

    Example:
        >>> pred = panderm.probe("ham.emb", recipe="paper", test="test", out="probe.pred")  # doctest: +SKIP
    """
    emb = embeddings if isinstance(embeddings, Embeddings) else open_embeddings(embeddings)
    settings = ProbeSettings(kind, recipe, C, k, class_weight, float64, device, seed)
    choosing = val if settings.chooses and val not in (test, train) else None
    require_calibration_rows(emb.rows, calibrate, train=train, val=val, test=test)
    chosen = training_rows(emb.rows, train=train, val=choosing, test=test, percent_data=percent_data)
    labels = emb.rows.label[chosen]
    held = np.flatnonzero(emb.rows.split == val)
    method: dict[str, Any] = {
        "train split": train,
        "train rows": len(chosen),
        "train rows per class": {c: int((labels == c).sum()) for c in emb.rows.classes if c in set(labels)},
        "percent of training data": 100 * percent_data,
        "seed": seed,
    }
    if calibrate == "temperature":
        # Named only where it is asked for: a probe that is not calibrated keeps the identity it always had.
        method["calibrate"] = f"temperature, on {val}"
    asked = Asked(
        train=chosen,
        test=np.flatnonzero(emb.rows.split == test),
        split=test,
        val=held if choosing is not None and len(held) >= ENOUGH_VALIDATION_ROWS else None,
        calibration=held if calibrate == "temperature" else None,
        method=method,
    )
    predictions = answer(emb, asked, settings)
    if out is not None:
        predictions.save(out, overwrite=overwrite)
    return predictions


def require_calibration_rows(table: Table, calibrate: Calibrate, *, train: str, val: str, test: str) -> None:
    """Raise :class:`DataError` where a calibration has no rows of its own to be fitted on."""
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


def training_rows(
    table: Table, *, train: str, val: str | None = None, test: str, percent_data: float
) -> npt.NDArray[np.intp]:
    """Return the positions of the rows to fit, once it is sure that the question can be asked.

    ``val`` is the split that is to choose the strength, where one is.

    Raises:
        DataError: no labels, no rows in a split, one class only, a class of the test (or val) rows that was
            never trained.
    """
    if not 0 < percent_data <= 1:
        raise UsageError(
            "--percent-data must be a part of 1, greater than 0.", f"found {percent_data}", "0.1 is 10 %"
        )
    require_labels(table)
    for role, name in (("train", train), ("test", test)):
        if not (table.split == name).any():
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
    rows = np.flatnonzero(table.split == train)
    kept = take_part(rows, percent_data)
    trained = set(table.label[kept])
    if len(trained) < 2:
        raise DataError(
            "training rows must have at least two classes.",
            f"found only: {some(sorted(trained)) or 'none'}, in {plural(len(kept), 'row')}",
            "check the label column and the split" if percent_data == 1 else "take a larger --percent-data",
        )
    needed = [test]
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
