"""The verbs about embeddings folders: info, export, merge, select."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from panderm.cli import options as opt
from panderm.cli.frame import Finding, verb
from panderm.errors import in_bytes, plural, some

if TYPE_CHECKING:
    from panderm.embeddings.card import Source
    from panderm.embeddings.derive.describe import Described
    from panderm.embeddings.opened import Embeddings

embeddings = typer.Typer(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})
_MOST = 20  # findings shown; --json has all
Folder = Annotated[Path, Argument(help="Embeddings, X.emb.", show_default=False)]
NewFolder = Annotated[Path, Option(help="Folder to write, X.emb.", show_default=False)]


@embeddings.callback()
def _embeddings() -> None:
    """Look into embeddings folders, and write them anew: other formats, several as one, some rows only.

    Example: panderm embeddings info ham.emb
    """


@embeddings.command()
@verb
def info(
    embeddings: Folder,
    verify: Annotated[
        bool,
        Option(
            "--verify", help="Read every part and every image again and compare their sha256; exit code 1."
        ),
    ] = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Say what is inside: encoder, pixels, precision, table, vectors, files, and whether it is finished.

    Example: panderm embeddings info ham.emb --verify
    """
    from panderm.embeddings.derive.describe import describe_embeddings

    told = describe_embeddings(embeddings, verify=verify, progress=not quiet)
    if not as_json:
        _tell(told)
    return Finding(told.as_dict()) if told.findings else told.as_dict()


@embeddings.command()
@verb
def export(
    embeddings: Folder,
    to: Annotated[
        Literal["npz", "csv", "h5", "hf-datasets", "lance", "parquet"],
        Option(help="npz, csv, h5, parquet: a file; hf-datasets, lance: a folder.", show_default=False),
    ],
    out: Annotated[Path, Option(help="File or folder to write.", show_default=False)],
    tokens: Annotated[bool, Option("--tokens", help="Patch tokens too: npz, h5, lance, parquet.")] = False,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Write rows, vectors and card for other programs: NumPy, CSV, HDF5, Hugging Face, Lance, Parquet.

    Example: panderm embeddings export ham.emb --to npz --out ham.npz
    """
    from panderm.embeddings.derive.export import export_embeddings

    written = export_embeddings(
        embeddings, to=to, out=out, tokens=tokens, overwrite=overwrite, progress=not quiet
    )
    files = [written] if written.is_file() else [p for p in written.rglob("*") if p.is_file()]
    size = sum(file.stat().st_size for file in files)
    if not as_json:
        typer.echo(f"{written}: {in_bytes(size)}")
    return {"out": str(written), "to": to, "bytes": size, "tokens": tokens}


@embeddings.command()
@verb
def merge(
    embeddings: Annotated[
        list[Path], Argument(help="Embeddings of one encoder, A.emb B.emb ….", show_default=False)
    ],
    out: NewFolder,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Make one folder of several of one encoder; an image that is in several is kept once.

    Example: panderm embeddings merge ham.emb isic.emb --out both.emb
    """
    from panderm.embeddings.derive.merge import merge_embeddings

    made = merge_embeddings(embeddings, out=out, overwrite=overwrite, progress=not quiet)
    return _told_of_made(made, out, as_json=as_json)


@embeddings.command()
@verb
def select(
    embeddings: Folder,
    out: NewFolder,
    where: Annotated[
        list[str] | None,
        Option(
            help="COLUMN=VALUE,VALUE: rows with one of the values; several times: all must hold. A column is "
            "image, split, label, patient, group, or any of the CSV that was embedded.",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[
        Path | None, Option(help="CSV with a column of image names: these only.", show_default=False)
    ] = None,
    image_column: Annotated[str, Option(help="Its column with the image's name.")] = "image",
    skip_missing: Annotated[
        bool, Option("--skip-missing", help="Allow names in it that are not among the embeddings.")
    ] = False,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Make a folder of some rows of another, with a card of its own.

    Example: panderm embeddings select ham.emb --where split=test --where label=mel,nv --out test.emb
    """
    from panderm.embeddings.derive.select import select_embeddings

    made = select_embeddings(
        embeddings,
        out=out,
        where=where,
        rows=rows,
        image_column=image_column,
        skip_missing=skip_missing,
        overwrite=overwrite,
        progress=not quiet,
    )
    return _told_of_made(made, out, as_json=as_json)


def _told_of_made(made: Embeddings, out: Path, *, as_json: bool) -> dict[str, Any]:
    card = made.card
    if not as_json:
        typer.echo(f"{out}: {plural(len(made), 'image')} × {made.dim} by {card.encoder.name}")
        for source in card.sources:
            typer.echo(f"from {_source(source)}")
        typer.echo(f"rows: {_counts(card.table.counts)}")
    return {
        "embeddings": str(out),
        "rows": len(made),
        "dim": made.dim,
        "encoder": card.encoder.name,
        "identity": card.identity,
        "sources": [source.model_dump() for source in card.sources],
        "classes": list(card.table.classes),
        "counts": card.table.counts,
        "warnings": list(card.table.warnings),
    }


def _tell(told: Described) -> None:
    card, say = told.card, typer.echo
    eye, table = card.encoder, card.table
    state = "finished" if told.finished else f"NOT finished: {told.made:,} of {plural(card.rows, 'row')} made"
    if told.finished and told.waiting:
        state += f"; a run that is not finished has made {plural(told.waiting, 'row')} more"
    say(f"{told.path}: {plural(card.rows, 'image')} × {eye.dim}, {state}")
    weights = f"drawn at {eye.weights_sha256}" if eye.random else eye.weights_sha256[:12]
    say(f"encoder:   {eye.name}, pool {eye.pool}, by {eye.engine}; weights {weights}")
    say(f"pixels:    {_pixels(eye.preprocess, eye.image_size)}; {_decoding(card.decoding)}")
    drift = "" if card.drift is None else f", centred cosine to fp32 {card.drift:.4f} on the first images"
    say(f"precision: {eye.precision}{drift}")
    left_out = f"; {plural(len(table.skipped), 'row')} left out" if table.skipped else ""
    units = "".join(
        f", {plural(n, u)}" for n, u in ((table.patients, "patient"), (table.groups, "lesion")) if n
    )
    say(f"table:     {table.csv}{units}{left_out}")
    say(f"rows:      {_counts(table.counts)}")
    if told.numbers is not None:
        say(f"vectors:   {_numbers(told)}")
    say(f"files:     {_files(told)}")
    for source in card.sources:
        say(f"from:      {_source(source)}")
    rate = "" if card.images_per_second is None else f", {card.images_per_second:.1f} images/s"
    made = card.provenance
    say(f"made:      {made.created}, panderm {made.panderm}{rate}: {made.command}")
    if told.findings:
        say("")
    for finding in told.findings[:_MOST]:
        say(f"NOT AS WRITTEN: {finding}")
    if len(told.findings) > _MOST:
        say(f"and {len(told.findings) - _MOST:,} more (--json has all)")
    if told.verified and not told.findings:
        unseen = f", but for {plural(told.unseen, 'image')} not on this machine" if told.unseen else ""
        say(f"verified:  every part and every image is as it was{unseen}")


def _source(source: Source) -> str:
    return f"{source.store}: {plural(source.rows, 'row')}{f': {source.chosen}' if source.chosen else ''}"


def _counts(counts: dict[str, dict[str, int]]) -> str:
    """Return ``train 390 (benign 300, malignant 90); test …``."""
    told = []
    for split, classes in counts.items():
        each = [f"{name} {n:,}" for name, n in classes.items() if name]
        told.append(f"{split} {sum(classes.values()):,}{f' ({some(each, 12)})' if each else ''}")
    return "; ".join(told)


def _pixels(preprocess: dict[str, Any], size: int) -> str:
    if not {"resize", "interpolation", "mean", "std"} <= set(preprocess):
        return f"{size} × {size}"
    resized = preprocess["resize"]
    to = (
        " × ".join(str(n) for n in resized)
        if isinstance(resized, (list, tuple))
        else f"shorter side {resized}"
    )
    mean, std = (", ".join(f"{x:g}" for x in preprocess[k]) for k in ("mean", "std"))
    return f"{size} × {size} cut from {to}, {preprocess['interpolation']}; mean {mean}; std {std}"


def _decoding(decoding: Any) -> str:
    if decoding.exact:
        return "decoded exactly"
    seen = plural(decoding.images, "image")
    return f"decoded fast, at most {plural(decoding.levels or 0, 'level')} of 255 off on {seen}"


def _numbers(told: Described) -> str:
    numbers = told.numbers
    assert numbers is not None
    parts = []
    if numbers.norm_median is not None:
        parts.append(
            f"norms {numbers.norm_min:.4g} to {numbers.norm_max:.4g}, median {numbers.norm_median:.4g}"
        )
    strange = f" ({', '.join(numbers.not_finite_images)})" if numbers.not_finite else ""
    parts.append(f"{numbers.not_finite or 'none'} not finite{strange}")
    alike = "; ".join(" = ".join(group) for group in numbers.equal_images)
    if numbers.equal:
        parts.append(f"{numbers.equal:,} equal to that of another image ({alike})")
    else:
        parts.append("no two images with the same")
    return "; ".join(parts)


def _files(told: Described) -> str:
    card = told.card
    if not told.finished:
        return f"{in_bytes(told.bytes)} in the making"
    names = f"{plural(len(card.parts), 'part')}"
    if card.tokens is not None:
        shape = " × ".join(str(n) for n in (*card.tokens.grid, card.tokens.dim))
        names += f", patch tokens {shape} in {plural(len(card.token_parts), 'part')}"
    return f"{in_bytes(told.bytes)} in {names}"
