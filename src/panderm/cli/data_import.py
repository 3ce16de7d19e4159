"""The verb that makes a table of images in another arrangement."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from panderm.cli import options as opt
from panderm.cli.frame import Finding, verb
from panderm.errors import plural

if TYPE_CHECKING:
    from panderm.data.layouts.imported import Imported

_MOST = 20


@verb
def import_(
    layout: Annotated[
        Literal["folders", "parquet", "huggingface", "dicom"],
        Argument(
            help="folders: one a class, under train, val, test where there is a split; parquet, huggingface: "
            "pictures inside Parquet or save_to_disk files; dicom: DICOM files.",
            show_default=False,
        ),
    ],
    folder: Annotated[
        Path, Option("--from", help="Folder (or Parquet file) they lie in.", show_default=False)
    ],
    out: Annotated[
        Path,
        Option(help="CSV to write; pictures inside tables go to NAME-images beside it.", show_default=False),
    ],
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Make a table of images in another arrangement: folders, Parquet, Hugging Face, DICOM.

    Exit code 1 where something is wrong with some of them; the table is written in any case.

    Example: panderm data import folders --from lesions/ --out lesions.csv
    """
    from panderm.data.layouts.imported import import_images

    done = import_images(folder, layout=layout, out=out, overwrite=overwrite, progress=not quiet)
    if not as_json:
        _tell(done)
    return Finding(done.as_dict()) if done.findings else done.as_dict()


def _tell(done: Imported) -> None:
    say = typer.echo
    say(f"{done.csv}: {plural(done.rows, 'row')}, columns {', '.join(done.columns)}")
    if done.splits:
        say("split: " + ", ".join(f"{name} {n:,}" for name, n in done.splits.items()))
    for name, n in list(done.counts.items())[:_MOST]:
        say(f"{done.label} {name}: {plural(n, 'row')}")
    if len(done.counts) > _MOST:
        say(f"and {plural(len(done.counts) - _MOST, 'class', 'classes')} more (--json has all)")
    for note in done.notes:
        say(note)
    label = f" --label {done.label}" if done.label not in (None, "label") else ""
    say(f"next: panderm check {done.csv} --images {done.images}{label}")
    for finding in done.findings:
        say(f"WRONG: {finding}")
