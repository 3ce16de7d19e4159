"""The verb that compares predictors of the same rows, and its table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from panderm.cli import options as opt
from panderm.cli import predictions_file as of
from panderm.cli.frame import in_a_cell, verb
from panderm.errors import plural

if TYPE_CHECKING:
    from panderm.scores.compared import ComparedPair, Comparison


@verb
def compare(
    predictions: Annotated[
        list[Path],
        Argument(
            help="Predictions of the same images, X.pred or CSV, two or more; the first is compared with."
        ),
    ],
    out: Annotated[Path | None, Option(help="JSON file to write.", show_default=False)] = None,
    truth: of.Truth = None,
    proba: of.Proba = None,
    patient: of.Patient = None,
    group: of.Group = None,
    image: of.Image = None,
    classes: of.Classes = None,
    score: Annotated[
        list[str] | None,
        Option(
            help="Score to compare, several times for several; default: AUROC or balanced accuracy, and "
            "accuracy; of several labels the macro means.",
            show_default=False,
        ),
    ] = None,
    pairs: Annotated[
        Literal["first", "all"], Option(help="All others against the first, or each against each.")
    ] = "first",
    common: Annotated[
        bool, Option("--common", help="Compare on the images that all have, where these are not the same.")
    ] = False,
    margin: Annotated[
        float | None,
        Option(
            help="Largest loss that would not matter, in units of the scores: say whether the other is not "
            "inferior to the first.",
            show_default=False,
        ),
    ] = None,
    draws: opt.Draws = 2000,
    permutations: Annotated[int, Option(help="Swaps of the permutation test.", min=1)] = 2000,
    seed: Annotated[int, Option(help="Seed of the draws and of the swaps.", min=0, max=2**32 - 1)] = 0,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Compare predictors of the same images: differences with 95 % intervals, then p-values.

    Example: panderm compare a.pred b.pred --score auroc --margin 0.02 --out comparison.json
    """
    from panderm.scores.compare import compare
    from panderm.storage import refuse_existing

    if out is not None:
        refuse_existing(out, overwrite=overwrite)
    held = of.opened(
        predictions,
        of.columns_of(truth=truth, proba=proba, patient=patient, group=group, image=image, classes=classes),
    )
    found = compare(
        held,
        score=score,
        pairs=pairs,
        common=common,
        margin=margin,
        draws=draws,
        permutations=permutations,
        seed=seed,
        progress=not quiet,
    )
    if out is not None:
        found.save(out, overwrite=overwrite)
    if not as_json:
        show_compared(found)
    return found.as_dict()


def show_compared(found: Comparison) -> None:
    """Print every model's scores, every difference with its interval, and then what the tests say."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    models = Table(box=None, pad_edge=False)
    models.add_column("model", overflow="fold")
    for name in found.models[0].scores:
        models.add_column(name)
    for model in found.models:
        models.add_row(Text(model.name), *(in_a_cell(score) for score in model.scores.values()))
    console.print(models)
    for name in found.models[0].scores:
        console.print()
        console.print(_differences(found, name))
    console.print()
    for line in _remarks(found):
        console.print(line, markup=False)


def _differences(found: Comparison, name: str) -> Table:
    lines = Table(box=None, pad_edge=False)
    lines.add_column(name, overflow="fold")
    lines.add_column("difference (95 % interval)")
    if found.margin is not None:
        lines.add_column(f"not inferior by {found.margin:g}")
    lines.add_column("p", justify="right")
    lines.add_column("p, Holm", justify="right")
    for pair in found.pairs:
        if pair.score == name:
            lines.add_row(Text(f"{pair.other} − {pair.first}"), *_cells(pair, found))
    return lines


def _cells(pair: ComparedPair, found: Comparison) -> list[str]:
    reason = pair.difference.reason
    told = in_a_cell(pair.difference, signed=True) if pair.difference.value is not None else str(reason)
    held = pair.non_inferiority
    margin = []
    if found.margin is not None:
        shown = held is not None and held.holds is not None and held.p is not None
        margin = [f"{'shown' if held.holds else 'not shown'} ({_p(held.p)})" if held and shown else "–"]
    return [told, *margin, _p(pair.p), _p(pair.p_holm)]


def _remarks(found: Comparison) -> list[str]:
    lines = [
        f"{pair.score}, {pair.other} − {pair.first}: {test.name}"
        + (f", p {_p(test.p)}; {test.note}" if test.p is not None else f": {test.note}")
        for pair in found.pairs
        for test in pair.tests
    ]
    lines += [
        f"{model.name}: {plural(model.left_out, 'image')} left out that not all have"
        for model in found.models
        if model.left_out
    ]
    resampled = f"{plural(found.n, 'row')}; {plural(found.clusters, found.unit)} resampled, "
    lines.append(f"{resampled}{found.draws:,} draws, seed {found.seed}, the same for all")
    lines.append(
        f"p: permutation test, {found.unit}s swapped whole; Holm over {plural(found.family, 'test')}. "
        "A large p does not show that two are alike."
    )
    if found.margin is not None:
        lines.append(
            "not inferior: the interval lies above the margin; in brackets the one-sided p, against 0.025"
        )
    return lines


def _p(p: float | None) -> str:
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
