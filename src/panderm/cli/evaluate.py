"""The verb that scores predictions, and its tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from panderm.cli import options as opt
from panderm.cli import predictions_file as of
from panderm.cli.decisions import show_decisions
from panderm.cli.frame import in_a_cell, show_scores, verb
from panderm.cli.probe_folds import show_folds
from panderm.cli.probe_labels import show_label_scores
from panderm.errors import UsageError, plural, some

if TYPE_CHECKING:
    from panderm.scores import Score, Scores, SubgroupColumn


@verb
def evaluate(
    predictions: Annotated[Path, Argument(help="Predictions, X.pred or a CSV.", show_default=False)],
    out: Annotated[Path | None, Option(help="JSON file to write.", show_default=False)] = None,
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
    positive: opt.Positive = None,
    at: opt.At = None,
    prevalence: opt.Prevalence = None,
    diagnosis: opt.DiagnosisColumn = None,
    hierarchy: opt.HierarchyOf = None,
    coverage: opt.Coverage = 0.9,
    prior: opt.PriorShares = None,
    by: opt.By = None,
    columns: opt.ColumnsFile = None,
    image_column: opt.ColumnsImage = None,
    bands: opt.Bands = None,
    scores_only: opt.ScoresOnly = False,
    interval: opt.IntervalBy = "percentile",
    stratified: opt.Stratified = False,
    draws: opt.Draws = 2000,
    seed: opt.Seed = 0,
    published_csv: opt.PublishedCsv = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Score predictions, each score with a 95 % interval; with --by, the subgroups of a column too.

    Example: panderm evaluate probe.pred --by sex --by hair --columns flagged.csv --out scores.json
    """
    from panderm.predictions import Predictions, open_either, require_one_class
    from panderm.published import require_free, write_published_csv
    from panderm.scores import MultiLabelScores, evaluate
    from panderm.storage import refuse_existing

    if out is not None:
        refuse_existing(out, overwrite=overwrite)
    edges = read_bands(bands)
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
    require_one_class(opened if published_csv is not None else None, predictions)
    held = of.validation_of(validation, named, opened)
    if published_csv is not None:
        require_free(published_csv, opened.card.made_of("The published layout").table, overwrite=overwrite)
    scores = evaluate(
        opened,
        validation=held,
        positive=positive,
        at=at,
        prevalence=prevalence,
        diagnosis=diagnosis,
        hierarchy=hierarchy,
        coverage=coverage,
        prior=read_prior(prior),
        by=by,
        columns=columns,
        image_column=image_column,
        bands=edges,
        scores_only=scores_only,
        interval=interval,
        stratified=stratified,
        draws=draws,
        seed=seed,
        progress=not quiet,
    )
    if out is not None:
        scores.save(out, overwrite=overwrite)
    if isinstance(scores, MultiLabelScores):
        if not as_json:
            show_label_scores(scores)
        return scores.as_dict()
    if published_csv is not None and isinstance(opened, Predictions):
        write_published_csv(opened.in_order(scores.classes), scores, published_csv, overwrite=overwrite)
    if not as_json:
        show_scores(scores)
        show_folds(scores)
        show_decisions(scores)
        show_subgroups(scores)
    return scores.as_dict()


def read_prior(given: str | None) -> dict[str, float] | float | None:
    """Read ``--prior mel=0.02,nv=0.98`` or ``--prior 0.02``."""
    if given is None:
        return None
    found: dict[str, float] = {}
    try:
        if "=" not in given:
            return float(given)
        for part in given.split(","):
            name, _, share = part.rpartition("=")
            found[name.strip()] = float(share)
    except ValueError:
        raise UsageError(
            "--prior must name each class once, and its share.",
            f"found {given!r}",
            "--prior mel=0.02,nv=0.98",
        ) from None
    return found


def read_bands(given: list[str] | None) -> dict[str, list[float]] | None:
    """Read ``--bands age=30,50,70``, one option a column."""
    if not given:
        return None
    found: dict[str, list[float]] = {}
    for text in given:
        column, sign, edges = text.rpartition("=")
        try:
            numbers = [float(edge) for edge in edges.split(",")]
        except ValueError:
            numbers = []
        if not (column and sign and numbers) or column in found:
            raise UsageError(
                "--bands must name a column once, and where to cut it.",
                f"found {text!r}",
                "--bands age=30,50,70",
            )
        found[column] = numbers
    return found


def show_subgroups(scores: Scores) -> None:
    """Print one score of every level of every column, and its gap to all other images."""
    from panderm.scores import headline

    held = scores.subgroups
    if held is None:
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    name = headline(held)
    for column in held.columns:
        console.print()
        console.print(_table(scores, column, name))
        if column.error:
            console.print(f"{column.column} is {column.error}", markup=False)
        if column.unseen:
            console.print(f"no image scored has: {some(column.unseen)}", markup=False)
    console.print()
    needed = plural(held.fewest_units, scores.unit)
    for sentence in (
        f"gap: {name} of the group minus that of all other images, on the same draws; 95 % intervals.",
        "Where groups are equal, one gap in twenty leaves out 0 by chance alone.",
        f"too few to say: fewer than {needed}, or fewer that show a class which the score needs.",
        "The file of --out, and --json, hold every score.",
    ):
        console.print(sentence, markup=False)


def _table(scores: Scores, column: SubgroupColumn, name: str) -> Table:
    positive: Sequence[str] = scores.operating.positive if scores.operating else ()
    if len(scores.classes) == 2:
        positive = positive or scores.classes[1:]
    lines = Table(box=None, pad_edge=False)
    title = column.column if column.cut is None else f"{column.column}, {column.cut}"
    lines.add_column(Text(title), overflow="fold", min_width=12)
    lines.add_column("images", justify="right")
    if scores.unit != "image":
        lines.add_column(f"{scores.unit}s", justify="right")
    if positive:
        header = positive[0] if len(positive) == 1 else "positive"
        lines.add_column(Text(header), justify="right", overflow="fold")
    lines.add_column(name)
    lines.add_column("gap")
    for level in column.levels:
        counts = [f"{level.n:,}"]
        if scores.unit != "image":
            counts.append(f"{level.clusters:,}")
        if positive:
            counts.append(f"{sum(level.classes[one] for one in positive):,}")
        one, gap = level.scores[name], level.gaps[name]
        lines.add_row(Text(level.level), *counts, _in_words(one), _in_words(gap, signed=True))
    return lines


def _in_words(score: Score, *, signed: bool = False) -> str:
    if score.value is None:
        return "too few to say" if score.too_few else "not computable"
    return in_a_cell(score, signed=signed)
