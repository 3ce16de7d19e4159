"""The verb that puts labels of one dataset into the words that all share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Option

from panderm.cli import options as opt
from panderm.cli.frame import Finding, verb
from panderm.errors import plural

if TYPE_CHECKING:
    from panderm.data.diagnoses import Mapped

_MOST = 20


@verb
def map_(
    table: opt.TableFile,
    out: Annotated[Path, Option(help="CSV to write: the table and one column more.", show_default=False)],
    label: Annotated[str, Option(help="Column with the labels to map.")] = "label",
    taxonomy: Annotated[
        str | None,
        Option(
            "--from",
            help="Dataset whose words the labels are; default: what the column source says, row by row.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        Literal["malignant", "group", "diagnosis"],
        Option(help="malignant: malignant, benign or indeterminate; group: melanocytic, vascular, …"),
    ] = "malignant",
    column: Annotated[
        str | None, Option(help="Name of the new column; default: that of --to.", show_default=False)
    ] = None,
    indeterminate: Annotated[
        Literal["keep", "authors", "benign", "malignant", "empty"],
        Option(help="What premalignant and uncertain labels become; authors: as the dataset's own count."),
    ] = "keep",
    allow_unmapped: Annotated[
        bool, Option("--allow-unmapped", help="Exit code 0 even where labels are not mapped.")
    ] = False,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> dict[str, Any]:
    """Map a table's labels to malignant or benign, to a group, or to one name for each diagnosis.

    So that a model of one dataset can be tested on another. Labels that are not mapped are listed with
    their rows, their cells stay empty, and the exit code is 1.

    Example: panderm data map ham.csv --label dx --from ham10000 --to malignant --out mapped.csv
    """
    from panderm.data.lock import lock_path
    from panderm.data.mapping import map_table

    mapped = map_table(
        table,
        out=out,
        label=label,
        taxonomy=taxonomy,
        to=to,
        column=column,
        indeterminate=indeterminate,
        overwrite=overwrite,
    )
    told = {**mapped.as_dict(), "column": column or to, "csv": str(out)}
    if not as_json:
        _tell(mapped, out, column or to)
        if lock_path(table).is_file() and not lock_path(out).is_file():
            typer.echo(f"the lock of {table.name} is not {out.name}'s: --out {table} --overwrite keeps it")
    return Finding(told) if mapped.unmapped and not allow_unmapped else told


def _tell(mapped: Mapped, out: Path, column: str) -> None:
    say = typer.echo
    for label, value, n in mapped.pairs[:_MOST]:
        say(f"{label} -> {value}: {plural(n, 'row')}")
    _more(len(mapped.pairs), "label")
    counts = ", ".join(f"{value} {n:,}" for value, n in mapped.counts.items()) or "none"
    say(f"{out}: {plural(len(mapped.values), 'row')}, column {column}: {counts}")
    say(f"diagnosis map {mapped.version}, words of {', '.join(mapped.taxonomies)}")
    for row in mapped.contested[:_MOST]:
        count = plural(row.rows, "row")
        say(f"contested: {row.label} ({count}) is {row.value} here, {row.authors} for its authors")
        if row.note:
            say(f"  {row.note}")
    if mapped.unlabelled:
        say(f"{plural(mapped.unlabelled, 'row')} without a label")
    if mapped.unmapped:
        n, count = len(mapped.unmapped), plural(sum(one.rows for one in mapped.unmapped), "row")
        say("")
        say(f"NOT MAPPED: {plural(n, 'label')} of {count}; their cells are empty:")
        for one in mapped.unmapped[:_MOST]:
            near = f"; the nearest: {', '.join(one.nearest)}" if one.nearest else ""
            say(f"  {one.label}: {plural(one.rows, 'row')}: {one.reason}{near}")
        _more(n, "label")


def _more(n: int, noun: str) -> None:
    if n > _MOST:
        typer.echo(f"  and {plural(n - _MOST, noun)} more (--json has all)")
