"""The verb that predicts masks of new images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from panderm.cli import options as opt
from panderm.cli.frame import verb
from panderm.errors import plural, some

if TYPE_CHECKING:
    from panderm.segmenting.predicting.masked import Masked


@verb
def predict(
    model: Annotated[
        str,
        Argument(
            help="The folder of panderm segment train or its segmenter.safetensors; a checkpoint of the "
            "published segmentation code; sam:FOLDER, asked with prompts; saliency:ENCODER, without a label.",
            show_default=False,
        ),
    ],
    sources: Annotated[
        list[Path],
        Argument(
            help="Folders (with all below them), image files, or a CSV of names.",
            show_default=False,
            metavar="IMAGES...",
        ),
    ],
    out: Annotated[
        Path, Option(help="Folder to make: a mask for each image, masks.csv, card.json.", show_default=False)
    ],
    images: opt.Images = None,
    image_column: opt.ImageColumn = "image",
    threshold: Annotated[
        float | None,
        Option(
            help="A pixel is inside from this probability on; default: the segmenter's own.",
            show_default=False,
        ),
    ] = None,
    tta: Annotated[
        Literal["flips", "2", "4", "8"] | None,
        Option(
            help="Mean over so many views, turned back: 2, 4 (flips: mirrored either way, and both), 8 "
            "(right-angle turns too).",
            show_default=False,
        ),
    ] = None,
    tiles: Annotated[
        int | None,
        Option(
            help="Overlapping windows of so many pixels in place of the whole image: for small lesions in "
            "very large pictures.",
            min=16,
            show_default=False,
        ),
    ] = None,
    overlap: Annotated[float, Option(help="Part of its side that a window shares with the next.")] = 0.25,
    min_area: Annotated[int, Option(help="Drop parts of fewer pixels.", min=0)] = 0,
    largest: Annotated[bool, Option("--largest", help="Keep the largest part only.")] = False,
    fill_holes: Annotated[bool, Option("--fill-holes", help="Fill what the mask encloses.")] = False,
    overlays: Annotated[
        bool, Option("--overlays", help="The outline on each image too: overlays/NAME.jpg.")
    ] = False,
    contours: Annotated[
        Literal["geojson", "csv"] | None,
        Option(help="The outline too, in pixels: contours/NAME.geojson or .csv.", show_default=False),
    ] = None,
    confidence: Annotated[
        bool, Option("--confidence", help="The probability at each pixel too: confidence/NAME.png.")
    ] = False,
    uncertainty: Annotated[
        bool,
        Option(
            "--uncertainty",
            help="Its entropy, which marks the boundary: uncertainty/NAME.png; with --tta also how far the "
            "views lie apart: disagreement/NAME.png.",
        ),
    ] = False,
    depth: Annotated[Literal[8, 16], Option(help="Bits of a pixel of these maps.")] = 8,
    skip_bad: Annotated[
        bool, Option("--skip-bad", help="Leave out images that cannot be read, and say so.")
    ] = False,
    max_megapixels: opt.MaxMegapixels = opt.MAX_MEGAPIXELS,
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        Option(help="What the network computes in; auto: what the hardware has."),
    ] = "fp32",
    device: opt.Device = "auto",
    batch_size: Annotated[
        int | None,
        Option(help="Images, or windows, that are asked at once; default: 8.", min=1, show_default=False),
    ] = None,
    workers: Annotated[
        int | None,
        Option(help="Threads that decode and write; default: up to 4.", min=1, show_default=False),
    ] = None,
    box: Annotated[
        list[str] | None,
        Option(
            help="Of sam:FOLDER: x0,y0,x1,y1, edges of a lesion in pixels of the upright image; several "
            "boxes are several lesions. For every image.",
            show_default=False,
        ),
    ] = None,
    point: Annotated[
        list[str] | None,
        Option(
            help="Of sam:FOLDER: x,y of a pixel inside the lesion, or x,y,0 of one outside it; several "
            "times. For every image.",
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        Option(
            help="Of sam:FOLDER: CSV with image and x0, y0, x1, y1, or x, y, label (1 inside, 0 outside); "
            "object too, where an image has several lesions.",
            show_default=False,
        ),
    ] = None,
    refine: Annotated[
        Path | None,
        Option(
            help="Of sam:FOLDER: masks of a first segmenter, a folder or its masks.csv: the box around the "
            "largest part of each is the prompt.",
            show_default=False,
        ),
    ] = None,
    pad: Annotated[
        float | None,
        Option(
            help="Room on each side of the boxes of --refine, as a share of the longer side; default: 0.1.",
            show_default=False,
        ),
    ] = None,
    whole_image: Annotated[
        bool,
        Option("--whole-image", help="Of sam:FOLDER: an image without a prompt has a box around all of it."),
    ] = False,
    saliency: Annotated[
        Literal["border", "pca", "attention"] | None,
        Option(
            help="Of saliency:ENCODER: unlikeness of patch tokens to the image's border (default), their "
            "first axis over 32 of the images, or what the class token attends to.",
            show_default=False,
        ),
    ] = None,
    weights: opt.Weights = None,
    card: opt.CardFile = None,
    image_size: Annotated[
        int | None,
        Option(
            help="Of saliency:ENCODER: side the images are squashed to; default: 224.", show_default=False
        ),
    ] = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Predict masks of new images, at each image's own size; run again after a stop, it goes on.

    Example: panderm segment predict run new_images/ --out masks --overlays
    """
    from panderm.embeddings.making.ranks import require_alone

    require_alone("segment predict", hush=True)
    from panderm.segmenting.predicting.models import open_named
    from panderm.segmenting.predicting.predict import predict_masks

    named = open_named(
        model,
        box=box,
        point=point,
        prompts=prompts,
        refine=refine,
        pad=pad,
        whole_image=whole_image,
        saliency=saliency,
        weights=weights,
        card=card,
        image_size=image_size,
        precision=precision,
        device=device,
        max_megapixels=max_megapixels,
        progress=not quiet,
    )
    made = predict_masks(
        named,
        sources,
        out,
        images=images,
        image_column=image_column,
        threshold=threshold,
        tta=tta,
        tiles=tiles,
        overlap=overlap,
        min_area=min_area,
        largest=largest,
        fill_holes=fill_holes,
        overlays=overlays,
        contours=contours,
        confidence=confidence,
        uncertainty=uncertainty,
        depth=depth,
        skip_bad=skip_bad,
        max_megapixels=max_megapixels,
        precision=precision,
        device=device,
        batch_size=batch_size,
        workers=workers,
        overwrite=overwrite,
        progress=not quiet,
    )
    if made.empty:
        typer.echo(
            f"nothing found in {plural(len(made.empty), 'image')}, whose masks are empty: "
            f"{some(made.empty)}; masks.csv marks them",
            err=True,
        )
    if not as_json:
        for line in _in_words(made):
            typer.echo(line)
    return {
        "masks": str(made.folder),
        "csv": str(made.folder / "masks.csv"),
        "card": str(made.folder / "card.json"),
        "rows": len(made),
        "empty": list(made.empty),
        "model": made.card.model,
        "threshold": made.card.threshold,
        "tidying": made.card.tidying,
        "tta": made.card.tta,
        "tiles": made.card.tiles,
        "median_share": _median(made),
        "images_per_second": made.card.images_per_second,
        "resumed": made.resumed,
        "skipped": [one.model_dump() for one in made.card.skipped],
        "orientation": made.card.orientation,
        "notes": list(made.card.notes),
        "use": made.card.use,
    }


def _in_words(made: Masked) -> list[str]:
    told, n = made.card, len(made)
    lines = [f"{made.folder}: {plural(n, 'mask')} by {told.model}, threshold {told.threshold:g}"]
    kept = [f"parts of {told.tidying['min_area']:,} pixels or more"] if told.tidying["min_area"] else []
    kept += ["the largest part"] if told.tidying["largest"] else []
    kept += ["holes filled"] if told.tidying["fill_holes"] else []
    if kept:
        lines.append(f"kept: {', '.join(kept)}")
    lines.append(f"inside: half of the masks cover more than {_median(made):.1%} of their image")
    several = sum(row.components > 1 for row in made.rows)
    lines.append(f"empty: {told.empty:,}; of several parts: {several:,}")
    if told.tta:
        lines.append(f"views: {told.tta}")
    if told.tiles:
        lines.append(f"windows of {told.tiles:,} pixels, {told.overlap:.0%} shared with the next")
    if told.skipped:
        names = some([f"{one.image} ({one.reason})" for one in told.skipped], 3)
        where = made.folder / "card.json"
        lines.append(f"left out: {plural(len(told.skipped), 'image')}, listed in {where}: {names}")
    rate = f"{told.images_per_second:.3g} images/s" if told.images_per_second else "all were there"
    before = f"; {made.resumed:,} were there from a run that was stopped" if made.resumed else ""
    lines.append(f"rate: {rate}{before}")
    lines += [told.orientation, *(f"note: {note}" for note in told.notes)]
    return [*lines, told.use]


def _median(made: Masked) -> float:
    shares = sorted(row.share for row in made.rows)
    middle = len(shares) // 2
    return shares[middle] if len(shares) % 2 else (shares[middle - 1] + shares[middle]) / 2
