"""The verb that looks for hair, rulers, ink and the like, and writes what it finds beside each row."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer import Option

from panderm.cli import options as opt
from panderm.cli.frame import verb
from panderm.errors import plural

if TYPE_CHECKING:
    from panderm.data.artefacts.accuracy import Accuracy, Rate
    from panderm.data.artefacts.table import ArtefactCard

_MOST = 10  # unreadable images printed; the card and --json have all


@verb
def artefacts(
    table: opt.TableFile,
    out: Annotated[Path, Option(help="CSV to write, all cells kept; X.artefacts.json beside it.")],
    images: opt.Images = None,
    image_column: opt.ImageColumn = "image",
    masks: Annotated[
        Path | None,
        Option(help="Folder of lesion masks; without it the lesion is guessed, roughly.", show_default=False),
    ] = None,
    mask_column: Annotated[str, Option(help="With --masks: column with the mask's file name.")] = "mask",
    max_megapixels: opt.MaxMegapixels = opt.MAX_MEGAPIXELS,
    workers: Annotated[int, Option(help="Threads that look at images.", min=1)] = 2,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Flag hair, ruler, ink, gel, dark corners, blur, low contrast, non-skin; estimate the tone of the skin.

    Flags are hints, each printed with its measured error; gel misses half, ink is of no use in dermoscopy.
    tone_ita is from uncalibrated light: in smartphone photographs (PAD-UFES-20) it did not follow the
    Fitzpatrick type.

    Example: panderm artefacts ham.csv --images images/ --out flagged.csv
    """
    from panderm.data.artefacts.table import card_path, flag_artefacts, require_free

    require_free(out, overwrite=overwrite)
    flagged = flag_artefacts(
        table,
        images=images,
        image_column=image_column,
        masks=masks,
        mask_column=mask_column,
        max_megapixels=max_megapixels,
        workers=workers,
        progress=not quiet,
    )
    flagged.save(out, overwrite=overwrite)
    if not as_json:
        _tell(flagged.card, out)
    return {"out": str(out), "card": str(card_path(out)), **flagged.card.model_dump(mode="json")}


def _tell(card: ArtefactCard, out: Path) -> None:
    from panderm.data.artefacts.record import FLAGS

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    seen = card.rows - len(card.unreadable)
    lines = Table(box=None, pad_edge=False)
    lines.add_column("flag")
    lines.add_column("yes", justify="right")
    lines.add_column("share", justify="right")
    lines.add_column("sensitivity (95 % interval)")
    lines.add_column("specificity (95 % interval)")
    for flag in FLAGS:
        known = card.accuracy.flags[flag.name]
        yes = card.yes[flag.name]
        share = f"{yes / seen:.1%}" if seen else "–"
        lines.add_row(
            flag.name, f"{yes:,}", share, _in_words(known.sensitivity), _in_words(known.specificity)
        )
    console.print(lines)
    for sentence in _caveats(card.accuracy):
        console.print(sentence, markup=False)
    console.print(_tone_line(card, seen), markup=False)
    if card.masks or card.masks_unusable:
        console.print(f"{plural(card.masks, 'mask')} used, {card.masks_unusable} unusable", markup=False)
    if card.unreadable:
        console.print(
            f"{plural(len(card.unreadable), 'image')} not readable, cells left empty:", markup=False
        )
        for bad in card.unreadable[:_MOST]:
            console.print(f"  row {bad.row}: {bad.image or '(empty)'}: {bad.reason}", markup=False)
        if len(card.unreadable) > _MOST:
            console.print(f"  and {len(card.unreadable) - _MOST} more, on the card", markup=False)
    typer.echo(f"{out}: {plural(card.rows, 'row')}, {plural(seen, 'image')} looked at")


def _in_words(rate: Rate) -> str:
    if rate.value is None:
        return f"not computable: {rate.reason}"
    if rate.low is None:
        return f"{rate.value:.2f} ({rate.reason})"
    return f"{rate.value:.2f} ({rate.low:.2f}–{rate.high:.2f})"


def _caveats(accuracy: Accuracy) -> list[str]:
    positives = ", ".join(f"{name} {one.positives}" for name, one in accuracy.flags.items())
    return [
        f"Flags are hints. Sensitivity and specificity: {accuracy.labels}, graded by one reader, "
        "a vision model, no dermatologist; "
        f"blur: {accuracy.flags['blur'].truth}. Positives: {positives}. Resampled: {accuracy.unit}; "
        f"{accuracy.draws:,} draws, seed {accuracy.seed}. Your images may differ."
    ]


def _tone_line(card: ArtefactCard, seen: int) -> str:
    tone = card.accuracy.tone
    counts = ", ".join(f"{name} {n:,}" for name, n in card.tones.items() if n)
    means = ", ".join(
        f"{name}: {_degrees(rate)}, n = {tone.n_by_type[name]}"
        for name, rate in tone.mean_by_type.items()
        if rate.value is not None
    )
    return (
        f"tone_ita of {plural(seen, 'image')}: {counts or 'none'}. Its error: light is not calibrated. In "
        f"{tone.dataset}, {plural(tone.n, 'image')} of {plural(tone.patients, 'patient')}: rank correlation "
        f"with the Fitzpatrick type {_in_words(tone.rank_correlation)} (−1 would be perfect), within one "
        f"category {_in_words(tone.within_one)}; mean angle by type {means}."
    )


def _degrees(rate: Rate) -> str:
    if rate.value is None or rate.low is None:
        return "–"
    return f"{rate.value:.0f}° ({rate.low:.0f} to {rate.high:.0f})"
