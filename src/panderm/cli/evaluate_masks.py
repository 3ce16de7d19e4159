"""The verb that scores predicted masks, and compares them with others of the same images."""

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
    from panderm.predictions.masks import MaskPredictions
    from panderm.scores.masks import MaskScores
    from panderm.scores.masks_compared import MaskComparison


@verb
def evaluate_masks(
    predicted: Annotated[
        Path, Argument(help="Folder of predicted masks, or a CSV with both masks.", show_default=False)
    ],
    against: Annotated[
        list[Path] | None,
        Option(
            help="Masks that another drew on the same images, folder or CSV; several times for several: "
            "every difference is PREDICTED's score minus theirs.",
            show_default=False,
        ),
    ] = None,
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
    by: opt.By = None,
    bands: opt.Bands = None,
    mm_per_pixel: Annotated[
        float | None,
        Option(help="Scale of all images: distances in millimetres too.", show_default=False),
    ] = None,
    mm_column: Annotated[
        str | None,
        Option(help="Column with the millimetres per pixel of each image.", show_default=False),
    ] = None,
    tolerance: Annotated[
        float, Option(help="Of the boundary F score: a share of the image's diagonal.", min=0, max=1)
    ] = 0.0075,
    score: Annotated[
        list[str] | None,
        Option(
            help="With --against: score to compare, several times for several; default: dice, jaccard, "
            "boundary_f, hd95.",
            show_default=False,
        ),
    ] = None,
    common: Annotated[bool, Option("--common", help="Leave out images that not all folders have.")] = False,
    out: Annotated[Path | None, Option(help="JSON file to write.", show_default=False)] = None,
    per_image: Annotated[
        Path | None, Option(help="CSV file to write: the scores of each image.", show_default=False)
    ] = None,
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
    permutations: Annotated[int, Option(help="With --against: swaps of the permutation test.", min=1)] = 2000,
    seed: opt.Seed = 0,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Score predicted masks, each score with a 95 % interval; or compare them with others, image by image.

    Example: panderm evaluate-masks predicted/ --truth masks/ --columns table.csv --out masks.json
    --report masks.html --images images/
    """
    from panderm.cli.evaluate import read_bands
    from panderm.predictions.masks import read_masks

    _require_sound(out, per_image, report, images, overwrite=overwrite)
    _require_of_one_kind(against, by, bands, score)
    read = [
        read_masks(
            source,
            truth=truth,
            truth_column=truth_column,
            predicted_column=predicted_column,
            columns=columns,
            image_column=image_column,
            patient=patient,
            group=group,
            keep=by or (),
            mm_per_pixel=mm_per_pixel,
            mm_column=mm_column,
            tolerance=tolerance,
            common=common,
            max_megapixels=max_megapixels,
            workers=workers,
            progress=not quiet,
        )
        for source in (predicted, *(against or ()))
    ]
    found: MaskScores | MaskComparison
    if against:
        from panderm.report.masks_compared import MaskComparisonReport
        from panderm.scores.masks_compared import compare_masks

        found = compare_masks(
            read[0],
            read[1:],
            score=score,
            common=common,
            draws=draws,
            permutations=permutations,
            seed=seed,
            progress=not quiet,
        )
        if report is not None:
            page = MaskComparisonReport(read, found, images=images, max_megapixels=max_megapixels)
            page.save(report, overwrite=overwrite)
    else:
        from panderm.report.masks import MaskReport
        from panderm.scores.masks import evaluate_masks as score_them

        found = score_them(read[0], by=by, bands=read_bands(bands), draws=draws, seed=seed)
        if report is not None:
            alone = MaskReport(read[0], found, images=images, max_megapixels=max_megapixels)
            alone.save(report, overwrite=overwrite)
    if out is not None:
        found.save(out, overwrite=overwrite)
    if per_image is not None:
        _save_per_image(read, per_image, overwrite=overwrite)
    if not as_json:
        _show(found)
        if report is not None:
            typer.echo(f"report: {report.resolve()}")
    return found.as_dict() if report is None else {**found.as_dict(), "report": str(report)}


def _require_sound(
    out: Path | None, per_image: Path | None, report: Path | None, images: Path | None, *, overwrite: bool
) -> None:
    from panderm.errors import UsageError
    from panderm.storage import refuse_existing

    named = {"--out": out, "--per-image": per_image, "--report": report}
    given = {option: path for option, path in named.items() if path is not None}
    if len(set(given.values())) < len(given):
        told = ", ".join(f"{option} {path}" for option, path in given.items())
        raise UsageError(f"{', '.join(given)} must name different files.", f"found {told}")
    for path in given.values():
        refuse_existing(path, overwrite=overwrite)
    if images is not None and report is None:
        raise UsageError("--images must come with --report, which shows them.", f"found {images}")


def _require_of_one_kind(
    against: list[Path] | None, by: list[str] | None, bands: list[str] | None, score: list[str] | None
) -> None:
    from panderm.errors import UsageError

    if score and not against:
        raise UsageError("--score must come with --against, which compares.", f"found {', '.join(score)}")
    if against and (by or bands):
        raise UsageError(
            "--by and --bands must come without --against.",
            f"found {', '.join([*(by or ()), *(bands or ())])}",
            "score one set of masks by the column, then the other",
        )


def _save_per_image(read: list[MaskPredictions], path: Path, *, overwrite: bool) -> None:
    if len(read) == 1:
        read[0].save_per_image(path, overwrite=overwrite)
        return
    from panderm.scores.masks_compared import save_per_image_of_all

    save_per_image_of_all(read, path, overwrite=overwrite)


def _show(found: MaskScores | MaskComparison) -> None:
    from panderm.scores.masks_compared import MaskComparison

    if not isinstance(found, MaskComparison):
        show_mask_scores(found)
        return
    from panderm.cli.compare import show_compared

    show_compared(found)
    typer.echo(f"boundary_f within {100 * found.tolerance:g} % of the diagonal")
    for name, n in found.images.items():
        if n < found.n:
            typer.echo(f"{name}: of the {plural(n, 'image')} in which no mask is empty")


def show_mask_scores(scores: MaskScores) -> None:
    """Print the means over images, how many have each, the pooled overlaps, and those of subgroups."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    lines = Table(box=None, pad_edge=False)
    for heading in ("score", "value (95 % interval)", "images"):
        lines.add_column(heading)
    for name, score in scores.per_image.items():
        lines.add_row(f"mean {name}", in_a_cell(score), f"{scores.images[name]:,}")
    for name, score in scores.pooled.items():
        lines.add_row(name, in_a_cell(score), f"{scores.n:,}")
    console.print(lines)
    for column in scores.by.columns if scores.by else ():
        console.print()
        levels = Table(box=None, pad_edge=False)
        for heading in (column.column, "images", "mean dice", "gap", "mean boundary_f"):
            levels.add_column(heading)
        for level in column.levels:
            held = (level.scores["dice"], level.scores["boundary_f"])
            gap = in_a_cell(level.gaps["dice"], signed=True) if level.gaps["dice"].value is not None else "–"
            levels.add_row(level.level, f"{level.n:,}", in_a_cell(held[0]), gap, in_a_cell(held[1]))
        console.print(levels)
    if scores.by and any(one.scores["dice"].too_few for column in scores.by.columns for one in column.levels):
        console.print(f"–: too few to say, fewer than {plural(scores.by.fewest_units, scores.unit)}")
    console.print(
        f"{plural(scores.n, 'image')}, {scores.empty_truth:,} with an empty true mask, "
        f"{scores.empty_predicted:,} with an empty predicted one; {scores.left_out:,} left out; "
        f"{plural(scores.clusters, scores.unit)} resampled, {scores.draws:,} draws, seed {scores.seed}; "
        f"boundary_f within {100 * scores.tolerance:g} % of the diagonal",
        markup=False,
    )
