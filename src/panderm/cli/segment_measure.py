"""The verb that measures lesions under their masks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from panderm.cli import options as opt
from panderm.cli.frame import verb
from panderm.errors import plural

if TYPE_CHECKING:
    from panderm.lesions.table import LesionTable

_MOST = 10  # rows left out that are printed; the card and --json have all
_SHOWN = (
    *("area_px", "area_mm2", "diameter_px", "diameter_mm", "perimeter_px", "perimeter_mm"),
    *("asymmetry", "colour_asymmetry", "compactness", "solidity", "border_dimension", "abrupt_segments"),
    *("colours", "colours_relative", "variegation", "contrast"),
)


@verb
def measure(
    source: Annotated[
        Path, Argument(help="CSV with one row per image, or a folder of images.", show_default=False)
    ],
    out: Annotated[
        Path, Option(help="CSV to write, all cells kept; X.measures.json beside it.", show_default=False)
    ],
    images: opt.Images = None,
    masks: Annotated[
        Path | None,
        Option(
            help="Folder of the masks: named by the table's mask column, else found by the image's name.",
            show_default=False,
        ),
    ] = None,
    image_column: opt.ImageColumn = "image",
    mask_column: Annotated[
        str, Option(help="Column with the mask's file name, where there is one.")
    ] = "mask",
    pieces: Annotated[
        Literal["largest", "all"],
        Option(help="Of a mask of several pieces: the largest alone, or all as one lesion."),
    ] = "largest",
    mm_per_pixel: Annotated[
        float | None, Option(help="Millimetres of skin a pixel, of all images alike.", show_default=False)
    ] = None,
    mm_column: Annotated[
        str | None, Option(help="Column with the millimetres per pixel of each image.", show_default=False)
    ] = None,
    ruler: Annotated[
        float | None,
        Option(
            help="Look for a ruler in each image, whose longest marks are so many millimetres apart; "
            "look at --picture before you trust it.",
            show_default=False,
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        Option(
            help="Folder for a PNG of each lesion: outline, diameter, axes, and the ruler's ticks.",
            show_default=False,
        ),
    ] = None,
    skip_bad: Annotated[
        bool, Option("--skip-bad", help="Leave out rows whose image or mask cannot be used, and say so.")
    ] = False,
    max_megapixels: opt.MaxMegapixels = opt.MAX_MEGAPIXELS,
    workers: Annotated[int, Option(help="Threads that measure.", min=1)] = 2,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Measure lesions under their masks: area, diameters, asymmetry, border and colours, in pixels and mm.

    One row a mask. Of a mask at the image's edge lengths are lower bounds: touches_edge says so. Millimetres
    come from --mm-per-pixel, --mm-column, a DICOM header or --ruler, else there are none.

    Example: panderm segment measure ham.csv --images images/ --masks masks/ --out measures.csv
    """
    from panderm.lesions.measuring import measure_lesions
    from panderm.lesions.table import card_path

    found = measure_lesions(
        source,
        out,
        images=images,
        masks=masks,
        image_column=image_column,
        mask_column=mask_column,
        pieces=pieces,
        mm_per_pixel=mm_per_pixel,
        mm_column=mm_column,
        ruler=ruler,
        picture=picture,
        skip_bad=skip_bad,
        max_megapixels=max_megapixels,
        workers=workers,
        overwrite=overwrite,
        progress=not quiet,
    )
    if not as_json:
        _tell(found, out, picture)
    paths = {"out": str(out), "card": str(card_path(out)), "picture": str(picture) if picture else None}
    return {**paths, **found.card.model_dump(mode="json")}


def _tell(found: LesionTable, out: Path, picture: Path | None) -> None:
    import numpy as np

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    lines = Table(box=None, pad_edge=False)
    for heading in ("measure", "median", "quartiles", "lesions"):
        lines.add_column(heading, justify="left" if heading == "measure" else "right")
    frame, card = found.frame(), found.card
    for name in _SHOWN:
        values = np.array([value for value in frame[name] if value is not None], dtype=np.float64)
        values = values[np.isfinite(values)]
        if len(values):
            low, middle, high = np.percentile(values, [25, 50, 75])
            lines.add_row(name, f"{middle:.4g}", f"{low:.4g}–{high:.4g}", f"{len(values):,}")
    console.print(lines)
    told = [f"{plural(card.measured, 'lesion')} of {plural(card.rows, 'row')}"]
    told += [f"{card.empty:,} with an empty mask"] if card.empty else []
    told += [f"{card.touching_edge:,} at the image's edge: lower bounds"] if card.touching_edge else []
    which = "the largest measured" if card.pieces == "largest" else "measured as one"
    told += [f"{card.several_pieces:,} in several pieces, {which}"] if card.several_pieces else []
    console.print("; ".join(told), markup=False)
    known = {source: n for source, n in card.scales.items() if source != "none"}
    scales = ", ".join(f"{n:,} by {source}" for source, n in known.items())
    console.print(
        f"scale: {scales or 'none, so no millimetres'}"
        + (f"; {card.scales['none']:,} without" if known and "none" in card.scales else ""),
        markup=False,
    )
    if card.left_out:
        console.print(f"{plural(len(card.left_out), 'row')} left out:", markup=False)
        for bad in card.left_out[:_MOST]:
            console.print(f"  row {bad.row}: {bad.image or '(empty)'}: {bad.reason}", markup=False)
    typer.echo(f"{out}: {plural(len(found), 'row')}" + (f"; pictures in {picture}" if picture else ""))
