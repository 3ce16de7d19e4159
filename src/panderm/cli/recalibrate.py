"""The verb that changes probabilities by what validation rows say, or to other shares of the classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option

from panderm.cli import options as opt
from panderm.cli import predictions_file as of
from panderm.cli.evaluate import read_prior
from panderm.cli.frame import verb
from panderm.errors import plural


@verb
def recalibrate(
    predictions: Annotated[Path, Argument(help="Predictions, X.pred or a CSV.", show_default=False)],
    out: Annotated[Path, Option(help="Predictions to write, Y.pred.", show_default=False)],
    method: Annotated[
        Literal["temperature", "isotonic", "none"],
        Option(help="What is fitted on validation rows; none with --prior alone."),
    ] = "temperature",
    truth: of.Truth = None,
    proba: of.Proba = None,
    predicted: of.Predicted = None,
    patient: of.Patient = None,
    group: of.Group = None,
    image: of.Image = None,
    split_column: of.SplitColumn = None,
    split: of.Split = None,
    val: of.Val = None,
    fold: of.Fold = None,
    classes: of.Classes = None,
    name: of.Name = None,
    validation: opt.Validation = None,
    prior: opt.PriorShares = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,  # noqa: ARG001 (nothing is shown while it works)
) -> dict[str, Any]:
    """Change probabilities by what validation rows say, and write them as new predictions.

    Example: panderm recalibrate probe.pred --method temperature --out honest.pred
    """
    from panderm.predictions import Predictions, open_either, require_one_class
    from panderm.predictions.recalibrated import CHANGED, recalibrate
    from panderm.storage import refuse_existing

    refuse_existing(out, overwrite=overwrite)
    named = of.columns_of(
        truth=truth,
        proba=proba,
        predicted=predicted,
        patient=patient,
        group=group,
        image=image,
        split_column=split_column,
        split=split,
        val=val,
        fold=fold,
        classes=classes,
        name=name,
    )
    opened = open_either(predictions, columns=named)
    require_one_class(opened, predictions)
    assert isinstance(opened, Predictions)
    held = of.validation_of(validation, named, opened)
    made = recalibrate(
        opened,
        method=method,
        validation=held,
        prior=read_prior(prior),
        out=out,
        overwrite=overwrite,
    )
    record = made.card.recalibration
    assert record is not None
    if not as_json:
        typer.echo(f"{made.card.method['recalibrated']}")
        changed = made.card.outcome[CHANGED]
        typer.echo(f"{changed:,} of {plural(len(made), 'row')} have another most probable class")
        if caution := made.card.outcome.get("caution"):
            typer.echo(f"caution: {caution}")
        typer.echo(f"predictions: {out.resolve()}")
    told = record.model_dump(mode="json")
    return {
        "predictions": str(out),
        "rows_changed": made.card.outcome[CHANGED],
        "caution": made.card.outcome.get("caution"),
        "recalibration": told,
    }
