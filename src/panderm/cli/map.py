"""The verb that lays embeddings out on a plane, as a page to look around in and a picture for print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option

from panderm.cli import options as opt
from panderm.cli.frame import verb
from panderm.errors import UsageError


@verb
def map_(
    embeddings: Annotated[Path, Argument(help="Embeddings, X.emb.", show_default=False)],
    out: Annotated[
        Path, Option(help="HTML file to write; a PNG of its name is written beside it.", show_default=False)
    ],
    color: Annotated[
        list[str] | None,
        Option(
            help="Column to colour by, several times for several; the page's menu has the others too. "
            "Default: label, else split.",
            show_default=False,
        ),
    ] = None,
    columns: Annotated[
        Path | None,
        Option(
            help="CSV with other columns, joined by image name; default: the table that was embedded.",
            show_default=False,
        ),
    ] = None,
    image_column: opt.ColumnsImage = None,
    only_color: Annotated[
        bool, Option("--only-color", help="The page holds no columns but those of --color.")
    ] = False,
    method: Annotated[
        Literal["umap", "pca"], Option(help="umap: needs panderm[map]; pca: two principal components.")
    ] = "umap",
    n_neighbors: Annotated[int, Option(help="Of UMAP: fewer show detail, more the whole.", min=2)] = 10,
    min_dist: Annotated[float, Option(help="Of UMAP: how close points may lie.", min=0, max=1)] = 0.2,
    metric: Annotated[
        Literal["euclidean", "cosine"], Option(help="How far vectors are from one another.")
    ] = "euclidean",
    pca: Annotated[
        int | None,
        Option(
            "--pca",
            help="Before UMAP, reduce to so many principal components: no longer the published settings, and "
            "little faster.",
            min=2,
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, Option(help="Seed of UMAP.", min=0, max=2**32 - 1)] = 42,
    thumbnails: Annotated[
        int, Option(help="Images that get a small picture in the page, at most; 0: none.", min=0)
    ] = 10_000,
    no_thumbnails: Annotated[
        bool, Option("--no-thumbnails", help="The page holds no pictures: --thumbnails 0.")
    ] = False,
    png: Annotated[
        Path | None, Option(help="Where the PNG goes; default: beside the page.", show_default=False)
    ] = None,
    csv: Annotated[Path | None, Option(help="CSV of the coordinates to write.", show_default=False)] = None,
    workers: Annotated[int, Option(help="Threads that read images.", min=1)] = 2,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Lay embeddings out on a plane: a page with thumbnails, colours and a lasso, and a PNG for papers.

    The page holds small pictures of the images and columns of their table: share it as you would share
    them, or leave them out with --no-thumbnails and --only-color. UMAP's settings are the published ones.

    Example: panderm map ham.emb --color label --out map.html
    """
    from panderm.embeddings import open_embeddings
    from panderm.embeddings.outputs import require_apart
    from panderm.report.map.embedding_map import map_embeddings
    from panderm.report.map.picture import require_panels
    from panderm.storage import refuse_existing

    picture = png if png is not None else out.with_suffix(".png")
    outputs = {"--out": out, "--png": picture} | ({} if csv is None else {"--csv": csv})
    if len({path.resolve() for path in outputs.values()}) < len(outputs):
        raise UsageError(
            "page, PNG and CSV must be different files.",
            f"found {', '.join(str(path) for path in outputs.values())}",
            "--out map.html --png map.png --csv map.csv",
        )
    if picture.suffix.lower() != ".png":
        raise UsageError("--png must name a PNG file.", f"found {picture}", "--png map.png")
    for path in outputs.values():
        refuse_existing(path, overwrite=overwrite)
    require_panels(len(color or ()))
    opened = open_embeddings(embeddings)
    for option, path in outputs.items():
        require_apart(path, opened, option=option)
        if columns is not None and path.resolve() == columns.resolve():
            raise UsageError(
                "an output must not be what it is made from.", f"{option} {path} is the file of --columns"
            )
    found = map_embeddings(
        opened,
        color=color,
        columns=columns,
        image_column=image_column,
        only_color=only_color,
        method=method,
        n_neighbors=n_neighbors,
        min_dist=min_dist,
        metric=metric,
        pca=pca,
        seed=seed,
        progress=not quiet,
    )
    # The page first: reading the images takes longest, and a run that is stopped leaves no file behind.
    made = found.save(
        out,
        thumbnails=0 if no_thumbnails else thumbnails,
        overwrite=overwrite,
        workers=workers,
        progress=not quiet,
    )
    found.save_png(picture, overwrite=overwrite)
    if csv is not None:
        found.save_csv(csv, overwrite=overwrite)
    size = out.stat().st_size
    if not as_json:
        from panderm.report.map.page import how_to_read
        from panderm.report.map.thumbnails import blanks

        for sentence in how_to_read(found)[:2]:
            typer.echo(sentence)
        for reason, n in blanks(made.words).items():
            if made.side:
                typer.echo(f"without a picture: {n:,}, {reason}")
        typer.echo(f"map: {out.resolve()} ({size / 1e6:.1f} MB, {made.count:,} thumbnails), {picture}")
    return {
        "map": str(out),
        "png": str(picture),
        "csv": None if csv is None else str(csv),
        "bytes": size,
        "thumbnails": made.count,
        **found.as_dict(),
    }
