"""New images → a mask for each, at its native size, and one table of what was found."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from panderm.classifying.journal import Lines, journal_path
from panderm.classifying.sources import Found, existing_sources, left_out, passed_over, read_sources
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.data.table import Skipped, Table
from panderm.errors import UsageError
from panderm.models.precision import PrecisionChoice
from panderm.provenance import Provenance
from panderm.segmenting.predicting.answers import LooksFirst, PromptedAnswers
from panderm.segmenting.predicting.contours import Contours
from panderm.segmenting.predicting.files import Wanted, mask_names
from panderm.segmenting.predicting.flips import Flips, flips_in_words, views_of
from panderm.segmenting.predicting.masked import Masked, MaskRow, MasksCard, write_csv
from panderm.segmenting.predicting.models import Anything, open_answers
from panderm.segmenting.predicting.png import Bits
from panderm.segmenting.predicting.regions import Tidying
from panderm.segmenting.predicting.windows import require_windows
from panderm.segmenting.predicting.work import Plan, Work
from panderm.segmenting.segmenter import Segmenter
from panderm.storage import explain_write_errors, put_folder, require_replaceable

_MADE = "made"
BATCH = 8


def predict_masks(
    model: Path | str | Segmenter | Anything,
    sources: Sequence[Path | str] | Path | str | Table,
    out: Path | str,
    *,
    images: Path | str | None = None,
    image_column: str = "image",
    threshold: float | None = None,
    tta: Flips | None = None,
    tiles: int | None = None,
    overlap: float = 0.25,
    min_area: int = 0,
    largest: bool = False,
    fill_holes: bool = False,
    overlays: bool = False,
    contours: Contours | None = None,
    confidence: bool = False,
    uncertainty: bool = False,
    depth: Bits = 8,
    skip_bad: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    precision: PrecisionChoice = "fp32",
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Masked:
    """Predict the masks of lesions in images that nobody has outlined.

    A mask is a PNG of one bit a pixel, as large as its image and lying on it as it is shown: where a
    photograph's EXIF block turns it, the mask is turned with it. P(lesion) is brought to the image's size
    first, and put through the threshold there. Where nothing reaches it, the mask is empty: ``masks.csv``
    says so, and nothing is made of it.

    Files are made in ``out.unfinished`` beside ``out``, which is renamed at the end: a run that was stopped,
    however it was, goes on there when it is called again, and ends with the same bytes.

    Args:
        model: a segmenter, its file, or the folder of its run; or whatever else answers for pixels:
            ``saliency:ENCODER``, :func:`load_saliency`, :func:`load_prompted`.
        sources: folders with all images below them, image files, CSV or Parquet files of names; or a table
            that is open.
        out: folder to make: ``NAME.png`` for each image, ``masks.csv``, ``card.json``.
        images: the folder that the names of a CSV are relative to; by default the CSV's own.
        image_column: its column of names.
        threshold: a pixel is inside from this P(lesion) on; by default the model's own.
        tta: views whose answers are averaged, turned back: ``2``, ``4`` (``flips``: mirrored either way, and
            both) or ``8`` (right-angle turns too).
        tiles: show the model overlapping windows of so many pixels of the image, not the image whole. A
            segmenter learns from whole images: windows help where a lesion is small in a large picture, and
            harm where it is larger than a window.
        overlap: least part of its side that a window shares with the next, 0 to 0.9.
        min_area: drop parts of fewer pixels.
        largest: keep the largest part only.
        fill_holes: fill what the mask encloses.
        overlays: write ``overlays/NAME.jpg`` too, the outline on the image.
        contours: write ``contours/NAME.geojson`` or ``.csv`` too, along the pixels' edges.
        confidence: write ``confidence/NAME.png`` too: P(lesion), black 0, white 1.
        uncertainty: write ``uncertainty/NAME.png`` too: its entropy, white 1 bit, which marks the boundary;
            of several views also ``disagreement/NAME.png``, their standard deviation, white 0.5.
        depth: bits of a pixel of these maps, 8 or 16.
        skip_bad: leave out images that cannot be read; without it they are told once all others are done.
        max_megapixels: an image of more millions of pixels counts as bad.
        precision: as of :func:`panderm.load_segmenter`.
        device: likewise.
        batch_size: images, or windows, that are asked at once.
        workers: threads that decode and write; by default up to 4.
        overwrite: replace an ``out`` that exists.
        progress: show progress on standard error.

    Raises:
        UsageError: options that do not fit, or sources that are not there.
        TableError: images that cannot be read; with all others done and kept, where decoding showed it.
        ArtifactError: ``out`` exists, or another process makes it.
        ParentsError: ``out.unfinished`` of another model or other options.
        WeightsError: a segmenter that is not whole.

    Example:
        >>> found = panderm.predict_masks("run/", "images/", "masks/", overlays=True)  # doctest: +SKIP
        >>> len(found), found.empty  # doctest: +SKIP
        (112, ('ISIC_0013766.jpg',))
    """
    if batch_size is not None and batch_size < 1:
        raise UsageError("the batch size must be at least 1.", f"found {batch_size}")
    wanted = Wanted(overlays, contours, confidence, uncertainty, depth, views_of(tta))
    if min_area < 0:
        raise UsageError("--min-area must be a number of pixels.", f"found {min_area}")
    if threshold is not None and not 0 < threshold <= 1:
        raise UsageError("the threshold must be a probability above 0, up to 1.", f"found {threshold}")
    if tiles is not None:
        require_windows(tiles, overlap)
    path = Path(out)
    require_replaceable(path, overwrite=overwrite)
    if not isinstance(sources, Table):
        existing_sources(sources, images=images)
    answers = open_answers(model, precision=precision, device=device)
    if isinstance(answers, PromptedAnswers) and (tta or tiles):
        raise UsageError(
            "--tta and --tiles are for models that see whole images.",
            f"{answers.name} is asked by a box or a point",
            "leave them out",
        )
    if isinstance(sources, Table):
        found = Found(sources, 0, 0)
    else:
        found = read_sources(
            sources,
            images=images,
            image_column=image_column,
            skip_bad=skip_bad,
            max_megapixels=max_megapixels,
            progress=progress,
        )
    plan = Plan(
        threshold=answers.threshold if threshold is None else threshold,
        tidying=Tidying(min_area, largest, fill_holes),
        tta=tta,
        tiles=tiles,
        overlap=overlap,
        batch=batch_size or BATCH,
        wanted=wanted,
        max_megapixels=max_megapixels,
    )
    names = mask_names([str(one) for one in found.table.cells("image")], wanted)
    if isinstance(answers, LooksFirst):
        paths = [str(one) for one in found.table.cells("path")]
        answers.learn(paths, max_megapixels=max_megapixels, progress=progress)
    if isinstance(answers, PromptedAnswers):
        answers.require_prompts(*([str(one) for one in found.table.cells(key)] for key in ("image", "path")))
    beside = journal_path(path)
    made = beside / _MADE
    work = Work(answers, found.table, names, plan, made)
    told = {
        "kind": "masks to be finished",
        "format": 1,
        "model": answers.name,
        "answers": answers.told(),
        **plan.told(),
    }
    started = time.monotonic()
    done: dict[int, MaskRow] = {}
    at = {str(name): i for i, name in enumerate(found.table.cells("image"))}
    with Lines(beside, told, lambda rows: work.take(rows, at, done), overwrite=overwrite) as lines:
        _sweep(made, {file for row in done.values() for file in wanted.files(row.mask).values()})
        before = len(done)
        bad = work.run(lines, done, workers=workers, progress=progress)
        seconds = time.monotonic() - started
        left = left_out(found, bad, skip_bad=skip_bad, made="predicted")
        rows = tuple(done[i] for i in sorted(done))
        rate = (len(rows) - before) / seconds if len(rows) > before else None
        card = _card(work, found, rows, left, rate=rate, seconds=seconds)
        card = card.model_copy(update={"csv_sha256": write_csv(made, rows)})
        card.write(made, overwrite=True)
        put_folder(made, path, overwrite=overwrite)
        lines.remove()
    return Masked(path, rows, card, before)


def _sweep(made: Path, kept: set[str]) -> None:
    """Remove what a run that was killed left behind, but for the files of what it had finished."""
    with explain_write_errors(made):
        made.mkdir(exist_ok=True)
        for file in made.rglob("*"):
            if file.is_file() and file.relative_to(made).as_posix() not in kept:
                file.unlink()


def _card(
    work: Work,
    found: Found,
    rows: Sequence[MaskRow],
    left: tuple[Skipped, ...],
    *,
    rate: float | None,
    seconds: float,
) -> MasksCard:
    table, plan = found.table.card, work.plan
    return MasksCard(
        provenance=Provenance.now(seconds=seconds),
        model=work.model.name,
        answers=work.model.told(),
        threshold=plan.threshold,
        tidying={
            "min_area": plan.tidying.min_area,
            "largest": plan.tidying.largest,
            "fill_holes": plan.tidying.fill_holes,
        },
        tta=flips_in_words(plan.tta),
        tiles=plan.tiles,
        overlap=plan.overlap if plan.tiles else None,
        beside=plan.wanted.told(),
        images=table.csv or table.name,
        images_sha256=table.sha256,
        rows=len(rows),
        empty=sum(row.empty for row in rows),
        skipped=left,
        images_per_second=rate,
        notes=(*work.model.notes, *passed_over(found)),
    )
