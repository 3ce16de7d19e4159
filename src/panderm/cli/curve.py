"""The verb that asks how many labels it takes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from panderm.cli import options as opt
from panderm.cli.frame import verb
from panderm.cli.several import is_number
from panderm.errors import UsageError

if TYPE_CHECKING:
    from panderm.scores.label_efficiency import LabelEfficiency, PointScores


@verb
def curve(
    embeddings: Annotated[
        list[Path],
        Argument(help="Embeddings, X.emb, of one table by different encoders.", show_default=False),
    ],
    out: Annotated[
        Path, Option(help="Folder to write; a run that was stopped goes on there.", show_default=False)
    ],
    percent: Annotated[
        str | None,
        Option(
            metavar="P …",
            help="Percents of the training rows, default: 1 5 10 20 50 100; 100 is always among them.",
            show_default=False,
        ),
    ] = None,
    shots: Annotated[
        str | None,
        Option(metavar="K …", help="Instead, so many images of each class, 1 2 4 8.", show_default=False),
    ] = None,
    repeats: Annotated[int, Option(help="Draws of labels.", min=1)] = 10,
    published_subset: Annotated[
        bool,
        Option(
            "--published-subset", help="The published rule: one draw, shuffled with seed 42, the first taken."
        ),
    ] = False,
    kind: opt.Kind = "linear",
    recipe: opt.RecipeName = "tuned",
    strength: opt.Strength = None,
    k: opt.Neighbours = None,
    class_weight: opt.ClassWeight = "none",
    train: Annotated[str, Option(help="The split to fit.")] = "train",
    val: Annotated[str, Option(help="The split that chooses with --use-val.")] = "val",
    test: opt.Test = "test",
    use_val: Annotated[
        bool,
        Option("--use-val", help="Let the val rows choose: they are labels too, as many at every point."),
    ] = False,
    score: Annotated[str, Option(help="The score of figure and sentences; the files hold all.")] = (
        "balanced_accuracy"
    ),
    draws: opt.Draws = 2000,
    seed: Annotated[
        int, Option(help="Seed of the draws of labels, of folds and of the bootstrap.", min=0, max=2**32 - 1)
    ] = 0,
    workers: Annotated[
        int | None, Option(help="Fits at a time; default: one a core.", min=1, show_default=False)
    ] = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Fit probes on parts of the training rows, and say how many labels equal what.

    Parts are nested, stratified and of whole patients or lesions, the same for all encoders. The folder gets
    a page, tables and every fit.

    Example: panderm curve ham.emb other.emb --percent 1 5 10 20 50 100 --repeats 10 --out curve/
    """
    from panderm.report.curve.curve import curve
    from panderm.report.curve.files import as_dict

    found = curve(
        embeddings,
        percent=None if percent is None else numbers("--percent", percent),
        shots=None if shots is None else [_whole(k) for k in numbers("--shots", shots)],
        repeats=repeats,
        published_subset=published_subset,
        kind=kind,
        recipe=recipe,
        C=strength,
        k=k,
        class_weight=class_weight,
        train=train,
        val=val,
        test=test,
        use_val=use_val,
        score=score,
        draws=draws,
        seed=seed,
        workers=workers,
        out=out,
        overwrite=overwrite,
        progress=not quiet,
    )
    if not as_json:
        _show(found)
        typer.echo(f"page: {(out / 'curve.html').resolve()}")
    return {"out": str(out), "page": str(out / "curve.html"), **as_dict(found)}


def numbers(option: str, text: str) -> list[float]:
    """Return the numbers in ``1,5,10``."""
    parts = [part for part in text.replace(",", " ").split() if part]
    if not parts or not all(is_number(part) for part in parts):
        raise UsageError(f"{option} must be followed by numbers.", f"found {text!r}", f"{option} 1 5 10")
    return [float(part) for part in parts]


def _whole(k: float) -> int:
    if k != int(k):
        raise UsageError("--shots must be followed by whole numbers.", f"found {k:g}", "--shots 1 2 4 8 16")
    return int(k)


def _show(found: LabelEfficiency) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    lines = Table(box=None, pad_edge=False)
    lines.add_column("labels")
    lines.add_column("rows", justify="right")
    for title in found.titles:
        lines.add_column(Text(title), overflow="fold")
    for at, point in enumerate(found.points[0]):
        least, most = min(point.rows), max(point.rows)
        rows = f"{most:,}" if least == most else f"{least:,}–{most:,}"
        cells = [_cell(curve[at], found.score) for curve in found.points]
        lines.add_row(found.point_title(point.value), rows, *cells)
    console.print(lines)
    for value, why in found.cannot.items():
        console.print(f"{found.point_title(value)}: not fitted: {why}", markup=False)
    name = found.score.replace("_", " ")
    of_units = "" if found.unit == "image" else f" of {found.clusters:,} {found.unit}s"
    console.print(
        f"{name}, mean of {found.repeats} draws of labels (95 % interval over draws of labels and test) ± SD "
        f"between draws of labels; {found.n:,} images{of_units} of {found.split}, {found.draws:,} bootstrap "
        f"draws, seed {found.seed}",
        markup=False,
    )
    for reason in dict.fromkeys(found.reasons.values()):
        console.print(f"–: {reason}", markup=False)
    console.print()
    for sentence in found.sentences():
        console.print(sentence, markup=False)


def _cell(point: PointScores, score: str) -> str:
    spread = point.spreads[score]
    if spread.mean != spread.mean:
        return "–"
    low, high = spread.total
    interval = "–" if low != low else f"{low:.3f}–{high:.3f}"
    between = "" if spread.sd_labels != spread.sd_labels else f" ± {spread.sd_labels:.3f}"
    return f"{spread.mean:.3f} ({interval}){between}"
