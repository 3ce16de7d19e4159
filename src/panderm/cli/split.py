"""The verb that splits a table, and holds it to its lock."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from panderm.cli import options as opt
from panderm.cli.frame import Finding, verb
from panderm.errors import UsageError, plural

if TYPE_CHECKING:
    from panderm.gate.split import Split
    from panderm.gate.verify_split import Verified

_MOST = 50  # findings printed; --json has all


@verb
def split(
    table: opt.TableFile,
    images: opt.Images = None,
    out: Annotated[
        Path | None, Option(help="CSV to write; default: x_split.csv beside x.csv.", show_default=False)
    ] = None,
    test: Annotated[
        float | None,
        Option(help="Share of the rows for test; default: 0.2, with --folds none.", show_default=False),
    ] = None,
    val: Annotated[float, Option(help="Share of the rows for val; with --folds, in each fold.")] = 0.1,
    folds: Annotated[
        int | None, Option(help="Write fold and split_1 to split_K as well.", show_default=False)
    ] = None,
    seed: Annotated[int, Option(help="Another seed, another split.", min=0, max=2**32 - 1)] = 0,
    image_column: opt.ImageColumn = "image",
    label: opt.Label = None,
    patient: opt.Patient = None,
    group: opt.Group = None,
    balance: Annotated[
        list[str] | None,
        Option(help="A column to balance too, as site or tone; several times.", show_default=False),
    ] = None,
    split_column: Annotated[
        str, Option(help="Column to write; of folds, with _1 to _K behind it.")
    ] = "split",
    keep_test: Annotated[
        bool, Option("--keep-test", help="Rows that are test now stay test, with all of their group.")
    ] = False,
    embeddings: Annotated[
        Path | None,
        Option(help="X.emb of these images: crops and free rotations are found too.", show_default=False),
    ] = None,
    no_images: Annotated[
        bool, Option("--no-images", help="Look at no image: no duplicates are found, and the lock says so.")
    ] = False,
    skip_bad: Annotated[
        bool,
        Option("--skip-bad", help="Go on where images cannot be read or labels are empty, and say so."),
    ] = False,
    max_megapixels: opt.MaxMegapixels = opt.MAX_MEGAPIXELS,
    verify: Annotated[
        bool, Option("--verify", help="Compare a table with its lock; exit 1 where anything moved.")
    ] = False,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Split a table by groups - patients, lesions, images that are one - and lock it; or verify the lock.

    Example: panderm split ham.csv --images images/ --label dx --test 0.2 --val 0.1 --seed 0
    """
    if verify:
        _require_alone(
            out=out, test=test, folds=folds, balance=balance, keep_test=keep_test, embeddings=embeddings
        )
        from panderm.gate.verify_split import verify_split

        found = verify_split(
            table,
            images=images,
            image_column=image_column,
            label=label,
            split_column=split_column,
            patient=patient,
            group=group,
            no_images=no_images,
            max_megapixels=max_megapixels,
            progress=not quiet,
        )
        return _told_of_verify(table, found, as_json=as_json)
    from panderm.gate.split import split

    done = split(
        table,
        out=out,
        images=images,
        image_column=image_column,
        label=label,
        split_column=split_column,
        patient=patient,
        group=group,
        test=test,
        val=val,
        folds=folds,
        balance=balance,
        keep_test=keep_test,
        embeddings=embeddings,
        no_images=no_images,
        skip_bad=skip_bad,
        max_megapixels=max_megapixels,
        seed=seed,
        overwrite=overwrite,
        progress=not quiet,
    )
    if not as_json:
        _tell(done)
    return {
        "csv": str(done.csv),
        "lock": str(done.lock),
        "rows": done.rows,
        "seed": seed,
        "counts": done.counts,
        "groups": done.groups.model_dump(),
        "warnings": list(done.warnings),
    }


def _require_alone(**given: object) -> None:
    for name, value in given.items():
        if value:
            raise UsageError(
                "--verify writes nothing and splits nothing.",
                f"found --{name.replace('_', '-')} beside it",
                "leave it out",
            )


def _tell(done: Split) -> None:
    first, *folds = done.counts
    _show(done.counts[first])
    if folds:
        typer.echo("\nthe test part of each fold:")
        _show({fold: done.counts[fold]["test"] for fold in folds})
    facts = done.groups
    joined = ", ".join(f"{n:,} {_JOINED[why][n != 1]}" for why, n in facts.joined.items()) or "by nothing"
    typer.echo(
        f"{plural(done.rows, 'row')} in {plural(facts.groups, 'group')}, the largest of "
        f"{plural(facts.largest, 'row')}; joined: {joined}"
    )
    typer.echo(f"{done.csv}: split; lock: {done.lock}")


def _show(parts: dict[str, dict[str, int]]) -> None:
    """Print how many rows of each class each part holds, and their share."""
    from rich.console import Console
    from rich.table import Table

    names = list(next(iter(parts.values())))
    table = Table(box=None, pad_edge=False)
    table.add_column("class" if names != [""] else "")
    for part in parts:
        table.add_column(part, justify="right")
    for name in names:
        table.add_row(name or "rows", *_shares([held[name] for held in parts.values()]))
    if len(names) > 1:
        table.add_row("all", *_shares([sum(held.values()) for held in parts.values()]))
    width = None if sys.stdout.isatty() else max(100, 30 + 18 * len(parts))
    Console(highlight=False, markup=False, width=width).print(table)


_JOINED = {
    "patient": ("patient with several rows", "patients with several rows"),
    "lesion": ("lesion with several rows", "lesions with several rows"),
    "same pixels": ("pair with the same pixels", "pairs with the same pixels"),
    "near": ("pair of near-duplicates", "pairs of near-duplicates"),
    "embeddings": ("pair of crops or turns", "pairs of crops or turns"),
}


def _shares(held: list[int]) -> list[str]:
    total = sum(held)
    return [f"{n:,} ({n / total:.1%})" if total else "0" for n in held]


def _told_of_verify(table: Path, found: Verified, *, as_json: bool) -> dict[str, Any]:
    told = {
        "table": str(table),
        "lock": str(found.lock),
        "sha256": found.sha256,
        "holds": found.holds,
        "rows": found.rows,
        "images": found.images,
        "moved": [{"row": one.row, "image": one.image, "what": one.what} for one in found.moved],
    }
    if not as_json:
        looked = f"{plural(found.images, 'image')}" if found.images else "no images (they were not compared)"
        if found.holds:
            typer.echo(
                f"{table}: as it was split: {plural(found.rows, 'row')} and {looked} agree with its lock"
            )
        else:
            typer.echo(f"{table}: {plural(len(found.moved), 'thing')} moved since it was split:")
            for one in found.moved[:_MOST]:
                typer.echo(f"  {one}")
            if len(found.moved) > _MOST:
                typer.echo(f"  and {len(found.moved) - _MOST:,} more: --json lists all")
    return told if found.holds else Finding(told)
