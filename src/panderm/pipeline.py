"""The whole sentence: a CSV of images → embeddings → probe → scores → report, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from panderm.data.drawn import draw_world
from panderm.data.table import Table, read_table
from panderm.embeddings import Embeddings, Precision, open_embeddings
from panderm.errors import ArtifactError, UsageError
from panderm.models.encoder import Encoder
from panderm.models.load import load_encoder
from panderm.models.network import Pool
from panderm.predictions import Predictions, open_predictions
from panderm.provenance import CARD_NAME
from panderm.published import require_free, write_published_csv
from panderm.report import Report
from panderm.scores import DRAWS, Scores, evaluate
from panderm.storage import refuse_existing
from panderm.tasks.probe import probe, training_rows
from panderm.training.linear_probe import Recipe

DRAWN_NOTE = (
    "The images of this report are drawn by panderm, they are not photographs of skin: "
    "its numbers show that the software runs, and nothing about dermatology."
)


@dataclass(frozen=True)
class Run:
    """What :func:`run` made and where it lies."""

    folder: Path
    embeddings: Embeddings
    predictions: Predictions
    scores: Scores

    @property
    def report(self) -> Path:
        """The HTML page."""
        return self.folder / "report.html"


def run(
    table: Path | str,
    *,
    encoder: str,
    out: Path | str,
    weights: Path | str | None = None,
    images: Path | str | None = None,
    image_column: str = "image",
    label: str | None = None,
    split_column: str = "split",
    patient: str | None = None,
    group: str | None = None,
    classes: Sequence[str] | None = None,
    skip_bad: bool = False,
    pool: Pool | None = None,
    image_size: int | None = None,
    precision: Precision = "fp32",
    device: str = "auto",
    batch_size: int | None = None,
    workers: int = 2,
    recipe: Recipe = "tuned",
    test: str = "test",
    percent_data: float = 1.0,
    draws: int = DRAWS,
    seed: int = 0,
    published_csv: Path | str | None = None,
    overwrite: bool = False,
    note: str | None = None,
    progress: bool = True,
) -> Run:
    """Embed, probe, evaluate and report into one folder.

    The options are those of :func:`panderm.read_table`, :func:`panderm.load_encoder`,
    :func:`panderm.probe` and :func:`panderm.evaluate`. Stopped half-way and called again, it goes on.
    ``overwrite`` replaces a finished folder, but embeddings of the same encoder and table are kept.

    Returns:
        The embeddings, predictions, scores and the path of the report.

    Raises:
        PandermError: before any compute where the input is wrong or the folder holds another run.

    Example:
        >>> done = panderm.run("ham_clean.csv", images="images/", encoder="panderm-large",
        ...                    weights="panderm_ll_data6_checkpoint-499.pth", out="ham/")  # doctest: +SKIP
        >>> done.scores.scores["balanced_accuracy"].value  # doctest: +SKIP
        0.7966
    """
    folder = Path(out)
    refuse_existing(folder / "report.html", overwrite=overwrite)
    if folder.exists() and not folder.is_dir():
        raise ArtifactError("--out must be a folder.", f"{folder} is a file", "choose another --out")
    if (folder / CARD_NAME).exists():
        raise ArtifactError(
            "--out must be a folder of its own for the whole run.",
            f"{folder} is itself one that panderm wrote: it has a {CARD_NAME}",
            "choose another --out",
        )
    eye = load_encoder(
        encoder, weights=weights, pool=pool, image_size=image_size, precision=precision, device=device
    )
    rows = read_table(
        table,
        images=images,
        image_column=image_column,
        label=label,
        split_column=split_column,
        patient=patient,
        group=group,
        classes=classes,
        skip_bad=skip_bad,
        note=note,
        progress=progress,
    )
    # What can be refused is refused now, before hours of embedding.
    choosing = "val" if recipe == "tuned" and test != "val" else None
    training_rows(rows, train="train", val=choosing, test=test, percent_data=percent_data)
    if published_csv is not None:
        require_free(published_csv, rows.card, overwrite=overwrite)
    embeddings = _embed(
        eye,
        rows,
        folder / "embeddings.emb",
        batch_size=batch_size,
        workers=workers,
        overwrite=overwrite,
        progress=progress,
    )
    predictions = probe(embeddings, recipe=recipe, test=test, percent_data=percent_data, seed=seed)
    again = overwrite or _same_predictions(folder / "probe.pred", predictions)
    predictions.save(folder / "probe.pred", overwrite=again)
    scores = evaluate(predictions, draws=draws, seed=seed)
    scores.save(folder / "scores.json", overwrite=again)
    if published_csv is not None:
        write_published_csv(predictions, scores, published_csv, overwrite=overwrite)
    Report(predictions, scores).save(folder / "report.html", overwrite=overwrite)
    return Run(folder, embeddings, predictions, scores)


def _embed(
    encoder: Encoder,
    table: Table,
    folder: Path,
    *,
    batch_size: int | None,
    workers: int,
    overwrite: bool,
    progress: bool,
) -> Embeddings:
    replace = overwrite and folder.exists() and not _goes_on(folder, encoder, table)
    return encoder.embed(
        table, folder, batch_size=batch_size, workers=workers, overwrite=replace, progress=progress
    )


def _goes_on(folder: Path, encoder: Encoder, table: Table) -> bool:
    """Say whether a folder holds embeddings of this encoder and table, whole or not."""
    try:
        open_embeddings(folder, encoder=encoder, table=table, partial=True)
    except ArtifactError:
        return False
    return True


def _same_predictions(folder: Path, predictions: Predictions) -> bool:
    """Say whether an earlier, unfinished run left these very predictions."""
    return folder.exists() and open_predictions(folder).card.identity == predictions.card.identity


def demo(
    *, out: Path | str = "demo", n: int = 240, seed: int = 0, overwrite: bool = False, progress: bool = True
) -> Run:
    """Draw a small world of lesions and run the whole sentence on it with ``random-tiny``.

    Nothing is downloaded; the images are drawn and the encoder's weights are random, and every page says so.

    Args:
        out: folder to write: the drawn world, the embeddings, predictions, scores and the report.
        n: images to draw.
        seed: of the drawing.
        overwrite: replace an ``out`` that exists.
        progress: show progress on standard error.

    Example:
        >>> panderm.demo(out="demo").report  # doctest: +SKIP
        PosixPath('demo/report.html')
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise UsageError("--out must be a folder.", f"{folder} is a file", "choose another --out")
    refuse_existing(folder, overwrite=overwrite)
    world = draw_world(folder / "world", n=n, seed=seed, overwrite=overwrite)
    return run(
        world.csv,
        images=world.images,
        encoder="random-tiny",
        patient="patient_id",
        group="lesion_id",
        out=folder,
        overwrite=overwrite,
        note=DRAWN_NOTE,
        progress=progress,
    )
