"""``panderm check``: everything that is wrong with a table and its files, at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text
from typer import Option

from panderm.cli import options as opt
from panderm.cli.frame import Finding, verb
from panderm.errors import some
from panderm.storage import refuse_existing

if TYPE_CHECKING:
    from panderm.gate.check import Checked
    from panderm.gate.findings import Finding as OneFinding
    from panderm.gate.findings import Place

_EXAMPLES = 3  # places shown of each finding; --json and the page have all


@verb
def check(
    table: opt.TableFile,
    images: opt.Images = None,
    image_column: opt.ImageColumn = "image",
    label: opt.Label = None,
    split_column: opt.SplitColumn = "split",
    patient: opt.Patient = None,
    group: opt.Group = None,
    classes: opt.Classes = None,
    embeddings: Annotated[
        Path | None,
        Option(
            help="X.emb of these images: finds crops and free turns of one photograph too.",
            show_default=False,
        ),
    ] = None,
    shortcuts: Annotated[
        Path | None,
        Option(
            help="X.emb of these images: how well they predict source, device, site and the like.",
            show_default=False,
        ),
    ] = None,
    shortcut_columns: Annotated[
        str | None,
        Option(
            help="Columns that --shortcuts asks for, a,b,c; default: source, device, hair and the like.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, Option(help="HTML page to write, with pictures.", show_default=False)] = None,
    max_megapixels: opt.MaxMegapixels = opt.MAX_MEGAPIXELS,
    workers: opt.Workers = 2,
    draws: opt.Draws = 2000,
    seed: opt.Seed = 0,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Look at every row and every file, and tell everything that is wrong; exit 1 where something is.

    Example: panderm check ham.csv --images images/ --group lesion_id --out check.html
    """
    from panderm.gate.check import check
    from panderm.report.check_page import CheckPage

    if out is not None:
        refuse_existing(out, overwrite=overwrite)
    checked = check(
        table,
        images=images,
        image_column=image_column,
        label=label,
        split_column=split_column,
        patient=patient,
        group=group,
        classes=opt.listed(classes),
        embeddings=embeddings,
        shortcuts=shortcuts,
        shortcut_columns=opt.listed(shortcut_columns),
        max_megapixels=max_megapixels,
        workers=workers,
        draws=draws,
        seed=seed,
        progress=not quiet,
    )
    told = checked.as_dict()
    if out is not None:
        told["page"] = str(CheckPage(checked, max_megapixels=max_megapixels).save(out, overwrite=overwrite))
    if not as_json:
        _show(checked)
        if out is not None:
            typer.echo(f"page: {out.resolve()}")
    return told if checked.ok else Finding(told)


def _show(checked: Checked) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    for heading, found in (("Findings", checked.findings), ("Notes", checked.notes)):
        if found:
            console.print(Text(heading, style="bold"))
            for one in found:
                _show_one(console, one, examples=_EXAMPLES if one.severity == "finding" else 1)
            console.print()
    if checked.not_checked:
        console.print(Text("Not looked for", style="bold"))
        for sentence in checked.not_checked:
            console.print(Padding(Text(sentence), (0, 0, 0, 2)))
        console.print()
    console.print(Text(f"{checked.summary}; {checked.provenance.seconds:.1f} s"))


def _show_one(console: Console, one: OneFinding, *, examples: int) -> None:
    colour = "red" if one.severity == "finding" else "cyan"
    console.print(Padding(Text.assemble((one.title, colour), f"  {one.sentence}"), (0, 0, 0, 2)))
    for place in one.places[:examples]:
        console.print(Padding(Text(_line(place), style="dim"), (0, 0, 0, 4)))
    if len(one.places) > examples:
        more = f"and {len(one.places) - examples:,} more"
        console.print(Padding(Text(more, style="dim"), (0, 0, 0, 4)))
    if one.hint:
        console.print(Padding(Text(f"hint: {one.hint}"), (0, 0, 0, 4)))


def _line(place: Place) -> str:
    rows = f"{'row' if len(place.rows) == 1 else 'rows'} {some(place.rows, 6)}"
    names = some([name or "(empty)" for name in dict.fromkeys(place.images)], 2)
    return ": ".join(part for part in (rows, names, place.text) if part)
