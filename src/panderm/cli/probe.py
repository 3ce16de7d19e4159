"""The verb that turns embeddings into predictions, however the question is put."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from panderm.cli import options as opt
from panderm.cli.frame import verb
from panderm.errors import UsageError, plural

if TYPE_CHECKING:
    from panderm.predictions import Predictions

# What each way to ask leaves no room for, with the value that says it was not asked for.
_SPLITS = {"train": "train", "val": "val", "percent_data": 1.0, "calibrate": "none"}
_UNIT = {"unit": "image"}
_PLAIN = {"sample_weight": None, "pooling": "stored"}
_LEFT_OUT: dict[str, dict[str, Any]] = {
    "folds": {**_SPLITS, "test": "test"},
    "test_on": {"test": "test"},
    "with": {**_UNIT},
    "labels": {**_UNIT, "calibrate": "none", "kind": "linear", "recipe": "tuned", "k": None, **_PLAIN},
}


@verb
def probe(
    embeddings: Annotated[Path, Argument(help="Embeddings, X.emb.", show_default=False)],
    out: Annotated[Path, Option(help="Folder to write, X.pred.", show_default=False)],
    kind: opt.Kind = "linear",
    recipe: opt.RecipeName = "tuned",
    train: Annotated[str, Option(help="The split to fit.")] = "train",
    val: Annotated[str, Option(help="The split that chooses what is left to be chosen.")] = "val",
    test: opt.Test = "test",
    percent_data: opt.PercentData = 1.0,
    strength: opt.Strength = None,
    k: opt.Neighbours = None,
    class_weight: opt.ClassWeight = "none",
    sample_weight: opt.SampleWeight = None,
    pooling: opt.Pooling = "stored",
    unit: opt.Unit = "image",
    unit_pool: opt.UnitPool = "embedding",
    float64: opt.Float64 = False,
    device: opt.Device = "auto",
    calibrate: opt.Calibrate = "none",
    folds: Annotated[
        int | None,
        Option(
            help="Cross-validate: each patient is predicted once, out of fold.", min=2, show_default=False
        ),
    ] = None,
    test_on: Annotated[
        Path | None, Option(help="Embeddings of another table to predict, Y.emb.", show_default=False)
    ] = None,
    with_columns: Annotated[
        list[str] | None,
        Option("--with", help="Columns of the table to add to the images, a b c.", show_default=False),
    ] = None,
    allow_leaky_columns: Annotated[
        bool, Option("--allow-leaky-columns", help="Columns of --with may give the answer away.")
    ] = False,
    labels: Annotated[
        str | None,
        Option(
            help="Columns with 0 or 1, a b c: findings, of which none or several hold.", show_default=False
        ),
    ] = None,
    separator: Annotated[
        str | None,
        Option(
            help="What stands between labels, where --labels names one column that lists them.",
            show_default=False,
        ),
    ] = None,
    fold_column: opt.FoldColumn = None,
    folds_of: opt.FoldsOf = None,
    test_split: opt.TestSplit = None,
    level: opt.LevelName = None,
    taxonomy: opt.Taxonomy = None,
    test_taxonomy: opt.TestTaxonomy = None,
    indeterminate: opt.IndeterminateLabels = "keep",
    label_map: opt.LabelMap = None,
    keep_absent: opt.KeepAbsent = False,
    allow_overlap: opt.AllowOverlap = False,
    seed: opt.Seed = 0,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Turn embeddings into predictions by a probe.

    Example: panderm probe ham.emb --recipe paper --test test --out probe.pred
    """
    from panderm.storage import refuse_existing

    fit: dict[str, Any] = {
        "kind": kind,
        "recipe": recipe,
        "C": strength,
        "k": k,
        "class_weight": class_weight,
        "sample_weight": sample_weight,
        "pooling": pooling,
        "float64": float64,
        "device": device,
        "seed": seed,
        "out": out,
        "overwrite": overwrite,
        "progress": not quiet,
    }
    units: dict[str, Any] = {"unit": unit, "unit_pool": unit_pool}
    rows: dict[str, Any] = {
        "train": train,
        "val": val,
        "test": test,
        "percent_data": percent_data,
        "calibrate": calibrate,
    }
    dealt: dict[str, Any] = {"fold_column": fold_column, "folds_of": opt.listed(folds_of)}
    matched: dict[str, Any] = {
        "test_split": test_split,
        "level": level,
        "taxonomy": taxonomy,
        "test_taxonomy": test_taxonomy,
        "indeterminate": None if indeterminate == "keep" else indeterminate,
        "label_map": label_map,
        "keep_absent": keep_absent or None,
        "allow_overlap": allow_overlap or None,
    }
    asked = {"folds": folds or fold_column, "test_on": test_on, "with": with_columns, "labels": labels}
    way = _one_of(asked, {**fit, **units, **rows})
    _require_way(way, "labels", {"separator": separator})
    _require_way(way, "with", {"allow_leaky_columns": allow_leaky_columns or None})
    _require_way(way, "folds", dealt)
    _require_way(way, "test_on", matched)
    refuse_existing(out, overwrite=overwrite)
    if way == "folds":
        from panderm.cli.probe_folds import told_of_folds
        from panderm.tasks.folds import cross_validate

        return told_of_folds(
            cross_validate(embeddings, folds=folds, **dealt, **units, **fit), out, as_json=as_json
        )
    if test_on is not None:
        from panderm.cli.probe_external import told_of_external
        from panderm.tasks.external import probe_external

        del rows["test"]
        matching = {name: value for name, value in matched.items() if value is not None}
        return told_of_external(
            probe_external(embeddings, test_on, **matching, **units, **rows, **fit), out, as_json=as_json
        )
    if way == "with":
        from panderm.cli.probe_with import told_of_columns
        from panderm.tasks.with_columns import probe_with

        names = opt.listed(",".join(with_columns or [])) or []
        return told_of_columns(
            probe_with(embeddings, names, allow_leaky_columns=allow_leaky_columns, **rows, **fit),
            out,
            seed=seed,
            as_json=as_json,
        )
    if way == "labels":
        from panderm.cli.probe_labels import told_of_labels
        from panderm.tasks.multi_label import probe_labels

        del rows["calibrate"]
        fit = {
            name: fit[name] for name in ("C", "class_weight", "float64", "device", "seed", "out", "overwrite")
        }
        made_of = probe_labels(embeddings, opt.listed(labels) or [], separator=separator, **rows, **fit)
        return told_of_labels(made_of, out, as_json=as_json)
    from panderm.tasks.probe import probe

    return _told(probe(embeddings, **units, **rows, **fit), out, as_json=as_json)


def _one_of(asked: dict[str, Any], others: dict[str, Any]) -> str | None:
    """Return which way the question is put, None for the plain one.

    Raises:
        UsageError: two at once, or an option that it leaves no room for.
    """
    ways = [name for name, value in asked.items() if value is not None]
    if not ways:
        return None
    clash = ways[1:] or [name for name, plain in _LEFT_OUT[ways[0]].items() if others[name] != plain]
    if clash:
        one, other = (f"--{name.replace('_', '-')}" for name in (ways[0], clash[0]))
        raise UsageError(
            f"{one} and {other} do not go together.", hint=f"leave one of them out: {one}, {other}"
        )
    return ways[0]


def _require_way(way: str | None, its: str, given: dict[str, Any]) -> None:
    """Raise :class:`UsageError` where an option stands without the one that it says more of."""
    alone = [name for name, value in given.items() if value is not None]
    if alone and way != its:
        one, other = (f"--{name.replace('_', '-')}" for name in (alone[0], its))
        raise UsageError(f"{one} says more of {other}, and must come with it.", f"found no {other}")


def _told(made: Predictions, out: Path, *, as_json: bool) -> dict[str, Any]:
    card = made.card
    if not as_json:
        typer.echo(f"{out}: {plural(len(made), 'row')} of {card.split}, {len(made.classes)} classes")
        for line in _outcome(card.outcome):
            typer.echo(line)
    return {
        "predictions": str(out),
        "rows": len(made),
        "split": card.split,
        "classes": list(made.classes),
        "method": card.method,
        "outcome": card.outcome,
        "seconds": card.provenance.seconds,
        "identity": card.identity,
    }


def _outcome(found: dict[str, Any]) -> list[str]:
    """Return what the fit found, a line each."""
    lines = [found["summary"]] if "summary" in found else []
    if losses := found.get("log loss of inputs"):
        told = ", ".join(f"{name} {'–' if x is None else format(x, '.4f')}" for name, x in losses.items())
        lines.append(f"{found['inputs']} chosen by {found['inputs chosen on']}: {told}")
    if units := found.get("units"):
        lines.append(", ".join(f"{what}: {n:,}" for what, n in units.items()))
    if "C" in found:
        state = "converged" if found["converged"] else "did NOT converge"
        lines.append(
            f"C {found['C']:.4g} ({found['C chosen on']}); {state} in {found['iterations']} iterations"
        )
    if done := found.get("calibration"):
        lines.append(
            f"temperature {done['temperature']:.3f}: log loss of "
            f"{plural(done['rows'], 'validation row')} from {done['log loss before']:.3f} "
            f"to {done['log loss after']:.3f}"
        )
    return lines
