"""The verbs."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from panderm.cli import options as opt
from panderm.cli.compare import compare
from panderm.cli.embed import embed
from panderm.cli.evaluate import evaluate
from panderm.cli.finetune import finetune
from panderm.cli.frame import show_comparison, show_scores, verb
from panderm.cli.pretrain import pretrain
from panderm.cli.probe import probe
from panderm.cli.recalibrate import recalibrate
from panderm.cli.report import report
from panderm.cli.several import SeveralColumns, SeveralSettings

app = typer.Typer(
    help="From a folder of skin images and one CSV to numbers that survive a reviewer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from panderm.provenance import version

        typer.echo(f"panderm {version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command(name="run")
@verb
def run_(
    table: opt.TableFile,
    out: Annotated[Path, Option(help="Folder to write.", show_default=False)],
    encoder: Annotated[
        list[str] | None,
        Option(help="As of embed; several times: one report compares them.", show_default=False),
    ] = None,
    weights: Annotated[
        list[str] | None,
        Option(
            help="Local weights file; of several encoders one for each, in their order, - for none.",
            show_default=False,
        ),
    ] = None,
    card: opt.CardFile = None,
    images: opt.Images = None,
    image_column: opt.ImageColumn = "image",
    label: opt.Label = None,
    split_column: opt.SplitColumn = "split",
    patient: opt.Patient = None,
    group: opt.Group = None,
    classes: opt.Classes = None,
    skip_bad: opt.SkipBad = False,
    max_megapixels: opt.MaxMegapixels = opt.MAX_MEGAPIXELS,
    pool: opt.PoolWay = None,
    image_size: opt.ImageSize = None,
    precision: opt.PrecisionName = "fp32",
    engine: opt.EngineName = "torch",
    compile: opt.Compile = False,  # noqa: A002 (the option's name)
    device: opt.Device = "auto",
    batch_size: opt.BatchSize = None,
    workers: opt.DecodeWorkers = None,
    exact: opt.Exact = False,
    recipe: opt.RecipeName = "tuned",
    test: opt.Test = "test",
    percent_data: opt.PercentData = 1.0,
    draws: opt.Draws = 2000,
    seed: opt.Seed = 0,
    image_free: opt.ImageFree = False,
    image_free_columns: opt.ImageFreeColumns = None,
    finetune: Annotated[
        bool, Option("--finetune", help="Fine-tune the encoder too, and put it beside the probe, paired.")
    ] = False,
    finetune_epochs: Annotated[
        int | None,
        Option(help="Passes of it over the training rows; default: 30.", min=1, show_default=False),
    ] = None,
    published_csv: opt.PublishedCsv = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Run the whole sentence: embed, probe, evaluate and report into one folder.

    With several --encoder, all on the same rows, and one report that compares them.

    Example: panderm run ham_clean.csv --images images/ --encoder panderm-large
    --weights panderm_ll_data6_checkpoint-499.pth --out ham/
    """
    from panderm.embeddings.making.ranks import require_alone
    from panderm.pipeline import run

    require_alone("run", hush=True)
    done = run(
        table,
        encoder=encoder,
        out=out,
        weights=None if not weights else [None if file == "-" else file for file in weights],
        card=card,
        images=images,
        image_column=image_column,
        label=label,
        split_column=split_column,
        patient=patient,
        group=group,
        classes=opt.listed(classes),
        skip_bad=skip_bad,
        max_megapixels=max_megapixels,
        pool=pool,
        image_size=image_size,
        precision=precision,
        engine=engine,
        compile=compile,
        device=device,
        batch_size=batch_size,
        workers=workers,
        exact=exact,
        recipe=recipe,
        test=test,
        percent_data=percent_data,
        draws=draws,
        seed=seed,
        image_free=image_free,
        image_free_columns=opt.listed(image_free_columns),
        finetune=finetune,
        finetune_epochs=finetune_epochs,
        published_csv=published_csv,
        overwrite=overwrite,
        progress=not quiet,
    )
    return _told_of_run(done, as_json=as_json)


def _told_of_run(done: Any, *, as_json: bool) -> dict[str, Any]:
    alone, titles = done.columns_alone, [part.title for part in done.parts]
    if not as_json:
        if len(done.parts) == 1:
            show_scores(done.scores)
        else:
            scored = [part.scores for part in done.parts]
            show_comparison([part.title for part in done.parts], scored, done.differences)
        if alone is not None:
            typer.echo(alone.sentence(titles))
        typer.echo(f"report: {done.report.resolve()}")
    held = {} if alone is None else {"image_free": alone.as_dict(titles)}
    if len(done.parts) == 1:
        return {**_told_of_part(done.parts[0]), **held, "report": str(done.report)}
    told = [_told_of_part(part) for part in done.parts]
    for one, difference in zip(told[1:], done.differences, strict=True):
        one["differences_to_first"] = {name: score.as_dict() for name, score in difference.items()}
    return {"encoders": told, **held, "report": str(done.report)}


def _told_of_part(part: Any) -> dict[str, Any]:
    card = part.embeddings.card
    return {
        **part.scores.as_dict(),
        "embeddings": str(part.folder / "embeddings.emb"),
        "predictions": str(part.folder / part.predictions_name),
        "scores_file": str(part.folder / "scores.json"),
        "encoder": card.encoder.name,
        "random": card.encoder.random,
        "skipped": [bad.model_dump() for bad in card.table.skipped],
        "warnings": list(card.table.warnings),
    }


app.command()(embed)


app.command(cls=SeveralColumns)(probe)
app.command()(evaluate)
app.command()(compare)
app.command()(recalibrate)
app.command()(report)
app.command()(pretrain)
app.command(cls=SeveralSettings)(finetune)


@app.command()
@verb
def demo(
    out: Annotated[Path, Option(help="Folder to write.")] = Path("demo"),
    n: Annotated[int, Option(help="Images to draw.", min=60)] = 240,
    seed: opt.Seed = 0,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Draw a small world of lesions and run the whole sentence on it; nothing is downloaded.

    Example: panderm demo --out demo
    """
    from panderm.pipeline import demo

    done = demo(out=out, n=n, seed=seed, overwrite=overwrite, progress=not quiet)
    if not as_json:
        typer.echo("These images are drawn, not photographed, and the encoder's weights are random numbers:")
        typer.echo("the scores show that the software runs, and nothing about dermatology.")
    return _told_of_run(done, as_json=as_json)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that knows no ‖ or × shows its number
    app()
