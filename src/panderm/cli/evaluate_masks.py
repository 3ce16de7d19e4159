"""The verb that scores predicted masks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from panderm.cli import options as opt
from panderm.cli.frame import in_a_cell, verb
from panderm.errors import plural

if TYPE_CHECKING:
    from panderm.scores.masks import MaskScores


@verb
def evaluate_masks(
    predicted: Annotated[
        Path, Argument(help="Folder of predicted masks, or a CSV with both masks.", show_default=False)
    ],
    truth: Annotated[Path | None, Option(help="Folder of true masks.", show_default=False)] = None,
    truth_column: Annotated[str, Option(help="Of a CSV: column with the true mask.")] = "mask",
    predicted_column: Annotated[
        str, Option(help="Of a CSV: column with the predicted mask.")
    ] = "predicted_mask",
    columns: Annotated[
        Path | None, Option(help="Table with patient or lesion of each image.", show_default=False)
    ] = None,
    image_column: opt.ImageColumn = "image",
    patient: opt.Patient = None,
    group: opt.Group = None,
    common: Annotated[bool, Option("--common", help="Leave out images that one folder alone has.")] = False,
    out: Annotated[Path | None, Option(help="JSON file to write.", show_default=False)] = None,
    report: Annotated[
        Path | None, Option(help="HTML file to write: scores, and outlines seen.", show_default=False)
    ] = None,
    images: Annotated[
        Path | None,
        Option(help="For --report: folder with the images, found by their names.", show_default=False),
    ] = None,
    max_megapixels: opt.MaxMegapixels = opt.MAX_MEGAPIXELS,
    workers: Annotated[int, Option(help="Threads that read.", min=1)] = 4,
    draws: opt.Draws = 2000,
    seed: opt.Seed = 0,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Score predicted masks: overlaps and distances, each with a 95 % interval.

    Example: panderm evaluate-masks predicted/ --truth masks/ --columns table.csv --out masks.json
    --report masks.html --images images/
    """
    from panderm.errors import UsageError
    from panderm.predictions.masks import read_masks
    from panderm.scores.masks import evaluate_masks as score
    from panderm.storage import refuse_existing

    for path in filter(None, (out, report)):
        refuse_existing(path, overwrite=overwrite)
    if images is not None and report is None:
        raise UsageError("--images must come with --report, which shows them.", f"found {images}")
    if report is not None and report == out:
        raise UsageError("--out and --report must name two different files.", f"found {report} twice")
    masks = read_masks(
        predicted,
        truth=truth,
        truth_column=truth_column,
        predicted_column=predicted_column,
        columns=columns,
        image_column=image_column,
        patient=patient,
        group=group,
        common=common,
        max_megapixels=max_megapixels,
        workers=workers,
        progress=not quiet,
    )
    scores = score(masks, draws=draws, seed=seed)
    if out is not None:
        scores.save(out, overwrite=overwrite)
    if report is not None:
        from panderm.report.masks import MaskReport

        page = MaskReport(masks, scores, images=images, max_megapixels=max_megapixels)
        page.save(report, overwrite=overwrite)
    if not as_json:
        show_mask_scores(scores)
        if report is not None:
            typer.echo(f"report: {report.resolve()}")
    return scores.as_dict() if report is None else {**scores.as_dict(), "report": str(report)}


def show_mask_scores(scores: MaskScores) -> None:
    """Print the means over images, how many have each, and the pooled overlaps."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    lines = Table(box=None, pad_edge=False)
    for heading in ("score", "value (95 % interval)", "images"):
        lines.add_column(heading)
    for name, score in scores.per_image.items():
        lines.add_row(f"mean {name}", in_a_cell(score), f"{scores.images[name]:,}")
    for name, score in scores.pooled.items():
        lines.add_row(name, in_a_cell(score), f"{scores.n:,}")
    console.print(lines)
    console.print(
        f"{plural(scores.n, 'image')}, {scores.empty_truth:,} with an empty true mask, "
        f"{scores.empty_predicted:,} with an empty predicted one; {scores.left_out:,} left out; "
        f"{plural(scores.clusters, scores.unit)} resampled, {scores.draws:,} draws, seed {scores.seed}",
        markup=False,
    )
