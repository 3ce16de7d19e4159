"""The verbs about public datasets: list, show, prepare."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from panderm.cli import options as opt
from panderm.cli.frame import Finding, verb
from panderm.errors import plural

if TYPE_CHECKING:
    from rich.console import Console

    from panderm.data.sources.prepare import Preparation
    from panderm.data.sources.source import Source

data = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]})
_MOST = 20
_TITLES = ("name", "modality", "images", "classes", "patients", "lesions", "licence", "split", "where")
Name = Annotated[str, Argument(help="A dataset that panderm data list shows.", show_default=False)]


@data.callback(invoke_without_command=True)
def _data(context: typer.Context, as_json: opt.Json = False) -> None:
    """List public datasets, and turn their official downloads into tables.

    Example: panderm data --json
    """
    if context.invoked_subcommand is None:
        list_(as_json=as_json)


@data.command(name="list")
@verb
def list_(as_json: opt.Json = False) -> dict[str, Any]:
    """List the public datasets: images, classes, patients, licence, official split, where to get them.

    Example: panderm data list --json
    """
    from rich.table import Table

    from panderm.data.sources.known import KNOWN

    if not as_json:
        lines = Table(box=None, pad_edge=False)
        for title in _TITLES:
            number = title in ("images", "classes", "patients", "lesions")
            lines.add_column(title, justify="right" if number else "left", no_wrap=title in ("name", "where"))
        for source in KNOWN:
            people = [_number(source.published(unit)) for unit in ("patients", "lesions")]
            lines.add_row(
                source.name,
                source.modality,
                _number(source.published("images")),
                str(len(source.classes) or "–"),
                *people,
                source.licence,
                source.splits or "–",
                source.address,
            )
        console = _console()
        console.print(lines)
        console.print()
        console.print("panderm data show NAME says what to download; no request is made for you.")
    return {"datasets": [_told(source) for source in KNOWN]}


@data.command()
@verb
def show(name: Name, as_json: opt.Json = False) -> dict[str, Any]:
    """Say what a public dataset is: the files to download, its classes, published counts and licence.

    Example: panderm data show ham10000
    """
    from panderm.data.sources.known import named

    source = named(name)
    if not as_json:
        _tell(source)
    return _told(source)


@data.command()
@verb
def prepare(
    name: Name,
    folder: Annotated[
        Path, Option("--from", help="Folder the official download lies in.", show_default=False)
    ],
    out: Annotated[Path, Option(help="CSV to write.", show_default=False)],
    skip_missing: Annotated[
        bool, Option("--skip-missing", help="Leave out rows whose image is not there, and say so.")
    ] = False,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Turn an official download into a table, and compare its counts with the published ones.

    The table is written in any case. Exit code 1 where a count differs or an image is not there.

    Example: panderm data prepare ham10000 --from downloads/ham --out ham.csv
    """
    from panderm.data.sources.prepare import prepare as prepare_

    done = prepare_(name, folder, out=out, skip_missing=skip_missing, overwrite=overwrite, progress=not quiet)
    if not as_json:
        _tell_of(done)
    return Finding(done.as_dict()) if done.findings else done.as_dict()


def _number(n: int | None) -> str:
    return "–" if n is None else f"{n:,}"


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, width=max(200, Console().width) if not sys.stdout.isatty() else None)


def _told(source: Source) -> dict[str, Any]:
    return {
        "name": source.name,
        "title": source.title,
        "modality": source.modality,
        "address": source.address,
        "licence": source.licence,
        "non_commercial": source.non_commercial,
        "citation": source.citation,
        "files": [{"names": list(f.names), "what": f.what, "optional": f.optional} for f in source.files],
        "classes": dict(source.classes),
        "counts": [{"of": c.of, "n": c.n, "where": c.where, "verified": c.verified} for c in source.counts],
        "images": source.published("images"),
        "patients": source.published("patients"),
        "lesions": source.published("lesions"),
        "splits": source.splits,
        "labels": dict(source.labels),
        "overlaps": list(source.overlaps),
        "note": source.note,
    }


def _tell(source: Source) -> None:
    say = typer.echo
    say(f"{source.title}: {source.modality}")
    say(f"from:     {source.address}")
    commercial = "; not for commercial use" if source.non_commercial else ""
    say(f"licence:  {source.licence}{commercial}")
    say(f"cite:     {source.citation}")
    say(f"split:    {source.splits or 'none published: panderm split makes one'}")
    if source.overlaps:
        shared = ", ".join(source.overlaps)
        say(f"overlaps: {shared} hold some of the same images: never train on one and test on the other")
    if source.note:
        say(f"note:     {source.note}")
    say("files:")
    for file in source.files:
        say(f"  {' or '.join(file.names)}: {file.what}{' (optional)' if file.optional else ''}")
    if source.classes:
        say("classes:")
        for short, long in source.classes:
            say(f"  {short}: {long}")
    for column, what in source.labels:
        say(f"further label column {column}: {what}")
    say("published counts:")
    for count in source.counts:
        sure = "" if count.verified else ", not verified"
        say(f"  {count.of}: {count.n:,} ({count.where}{sure})")


def _tell_of(done: Preparation) -> None:
    from rich.table import Table

    source = done.source
    lines = Table(box=None, pad_edge=False)
    for title in ("what", "published", "found", "on disk", ""):
        lines.add_column(title, justify="left" if title in ("what", "") else "right")
    for one in done.counts:
        said = " / ".join(f"{c.n:,}{'' if c.verified else '?'}" for c in one.published)
        word = {True: "as published", False: "DIFFERS", None: "not verified"}[one.agrees]
        if not one.here:
            lines.add_row(one.of, said, "–", "–", "not in this folder")
        else:
            lines.add_row(one.of, said, f"{one.in_table:,}", f"{one.on_disk:,}", word)
    if done.counts:
        _console().print(lines)
    typer.echo(f"{done.csv}: {plural(done.rows, 'row')} from {', '.join(done.read) or done.images}")
    for note in done.notes:
        typer.echo(note)
    for column, what in source.labels:
        typer.echo(f"column {column} can be a label too: {what}")
    if done.skipped and done.missing:
        typer.echo(f"left out: {plural(len(done.missing), 'row')} whose image is not there")
    if done.unlabelled:
        typer.echo(f"{plural(done.unlabelled, 'row')} without a label")
    for place, n in list(done.unused.items())[:_MOST]:
        typer.echo(f"not in the table: {plural(n, 'image file')} of {place}")
    commercial = "; not for commercial use" if source.non_commercial else ""
    typer.echo(f"licence: {source.licence}{commercial}. Cite: {source.citation}")
    typer.echo(f"next: panderm check {done.csv} --images {done.images}")
    if not done.split:
        typer.echo(f"then: panderm split {done.csv} --images {done.images}")
    if done.findings:
        typer.echo("")
        for finding in done.findings:
            typer.echo(f"NOT AS PUBLISHED: {finding}")
