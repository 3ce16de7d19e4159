"""The whole sentence: a CSV of images → embeddings → probe → scores → report, in one call.

With several encoders, the sentence for each of them on the same rows, and one report that compares them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from panderm.data.drawn import draw_world
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.data.table import Table, read_table
from panderm.embeddings import Embeddings, EncoderRecord, Engine, open_embeddings
from panderm.embeddings.making.ranks import require_alone
from panderm.embeddings.making.settled import require_going_on
from panderm.errors import ArtifactError, UsageError, some
from panderm.finetuning.finetune import finetune as fine_tune
from panderm.finetuning.finished import Finetuned
from panderm.finetuning.run_card import TEST_NAME
from panderm.models.cards import Pool
from panderm.models.embed_once import embed_once, goes_on
from panderm.models.encoder import Encoder
from panderm.models.load import load_encoder
from panderm.models.precision import PrecisionChoice
from panderm.models.several import Eye, checked, decisive, paired
from panderm.predictions import Predictions, open_predictions
from panderm.probing.splits import training_rows
from panderm.provenance import CARD_NAME
from panderm.published import require_free, write_published_csv
from panderm.report import Report
from panderm.report.image_free import ImageFreeScores
from panderm.scores import DRAWS, Score, Scores, evaluate
from panderm.storage import explain_write_errors, in_a_path, refuse_existing, sha256_of_json
from panderm.tasks.image_free import require_columns
from panderm.tasks.probe import probe
from panderm.training.settings import Recipe

EMBEDDINGS, PREDICTIONS, SCORES, PAGE = "embeddings.emb", "probe.pred", "scores.json", "report.html"
FINETUNED = "finetuned"
DRAWN_NOTE = (
    "The images of this report are drawn by panderm, they are not photographs of skin: "
    "its numbers show that the software runs, and nothing about dermatology."
)


@dataclass(frozen=True)
class Part:
    """What one encoder gave.

    Attributes:
        title: the encoder's name, and what tells it apart where another has the same name.
        folder: where its three files lie.
        embeddings, predictions, scores: these files.
        predictions_name: of the predictions in the folder.
    """

    title: str
    folder: Path
    embeddings: Embeddings
    predictions: Predictions
    scores: Scores
    predictions_name: str = PREDICTIONS


@dataclass(frozen=True)
class Run:
    """What :func:`run` made and where it lies.

    Attributes:
        folder: of the whole run, with the report.
        parts: one for each encoder, in their order.
        differences: for each encoder after the first, every score minus the first encoder's, with the 95 %
            interval of that difference on the same bootstrap draws.
        columns_alone: the image-free baseline, or None where none was asked for.
    """

    folder: Path
    parts: tuple[Part, ...]
    differences: tuple[dict[str, Score], ...] = ()
    columns_alone: ImageFreeScores | None = None

    @property
    def report(self) -> Path:
        """The HTML page."""
        return self.folder / PAGE

    @property
    def embeddings(self) -> Embeddings:
        """The embeddings, of a run with one encoder."""
        return self._only("embeddings").embeddings

    @property
    def predictions(self) -> Predictions:
        """The predictions, of a run with one encoder."""
        return self._only("predictions").predictions

    @property
    def scores(self) -> Scores:
        """The scores, of a run with one encoder."""
        return self._only("scores").scores

    def _only(self, what: str) -> Part:
        if len(self.parts) > 1:
            raise UsageError(
                f"a run must be of one encoder to be asked for its {what}.",
                f"this one compares {len(self.parts)}: {some([part.title for part in self.parts], 6)}",
                f"[part.{what} for part in run.parts] holds those of each",
            )
        return self.parts[0]


def run(
    table: Path | str,
    *,
    out: Path | str,
    encoder: str | Sequence[str] | None = None,
    weights: Path | str | Sequence[Path | str | None] | None = None,
    card: Path | str | None = None,
    images: Path | str | None = None,
    image_column: str = "image",
    label: str | None = None,
    split_column: str = "split",
    patient: str | None = None,
    group: str | None = None,
    classes: Sequence[str] | None = None,
    skip_bad: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    pool: Pool | None = None,
    image_size: int | None = None,
    precision: PrecisionChoice = "fp32",
    engine: Engine = "torch",
    compile: bool = False,  # noqa: A002 - the option's name everywhere
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    exact: bool = False,
    recipe: Recipe = "tuned",
    test: str = "test",
    percent_data: float = 1.0,
    draws: int = DRAWS,
    seed: int = 0,
    image_free: bool = False,
    image_free_columns: Sequence[str] | None = None,
    finetune: bool = False,
    finetune_epochs: int | None = None,
    published_csv: Path | str | None = None,
    overwrite: bool = False,
    note: str | None = None,
    progress: bool = True,
) -> Run:
    """Embed, probe, evaluate and report into one folder, with one encoder or with several.

    The options are those of :func:`panderm.read_table`, :func:`panderm.load_encoder`,
    :func:`panderm.probe`, :func:`panderm.evaluate` and :class:`panderm.Report`. Stopped half-way and called
    again, it goes on. ``overwrite`` replaces a finished folder, but embeddings of the same encoder and table
    are kept.

    Several encoders, ``encoder=["panderm-large", "timm:NAME"]``, are asked the same question about the same
    rows, with the same options, seed and bootstrap draws. Each has a folder of its own in ``out``, and one
    report compares all with the first. ``weights`` then holds one file for each in the same order, None for
    an encoder that needs none. ``card`` is for one encoder only; a card, or a file that
    ``panderm convert`` wrote, needs no ``encoder``.

    With ``finetune`` the encoder is fine-tuned too, on the same rows, by the default recipe of
    :func:`panderm.finetune` (``finetune_epochs``: passes over the training rows), into ``finetuned/``, and
    the report puts it beside the probe: the differences are paired.

    Returns:
        The embeddings, predictions and scores of each encoder (``.parts``; with one encoder also
        ``.embeddings``, ``.predictions`` and ``.scores``) and the path of the report.

    Raises:
        PandermError: before any compute where the input is wrong or the folder holds another run.
        TableError: images that only decoding shows to be damaged, once all others are embedded.

    Example:
        >>> done = panderm.run("ham_clean.csv", images="images/", encoder="panderm-large",
        ...                    weights="panderm_ll_data6_checkpoint-499.pth", out="ham/")  # doctest: +SKIP
        >>> done.scores.scores["balanced_accuracy"].value  # doctest: +SKIP
        0.7966
    """
    require_alone("run")
    folder = Path(out)
    refuse_existing(folder / PAGE, overwrite=overwrite)
    _require_own_folder(folder)
    _require_fine_tunable(finetune, finetune_epochs, encoder, test, precision)

    def load(name: str | None, file: Path | str | None) -> Encoder:
        return load_encoder(
            name,
            weights=file,
            card=card,
            pool=pool,
            image_size=image_size,
            precision=precision,
            engine=engine,
            device=device,
            compile=compile,
        )

    eyes = checked(paired(encoder, weights, card), load)
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
        max_megapixels=max_megapixels,
        decode=False,  # embedding does, and lists what it cannot
        note=note,
        progress=progress,
    )
    # What can be refused is refused now, before hours of embedding.
    choosing = "val" if recipe == "tuned" and test != "val" else None
    training_rows(rows, train="train", val=choosing, test=test, percent_data=percent_data)
    if image_free or image_free_columns is not None:
        require_columns(rows.card, image_free_columns)
    names = [""] if len(eyes) == 1 else _folder_names([eye.record for eye in eyes])
    if published_csv is not None:
        for name in names:
            require_free(Path(published_csv) / name, rows.card, overwrite=overwrite)
    for eye, name in zip(eyes, names, strict=True):
        _require_own_folder(folder / name)
        _take_over(folder, folder / name, eye, rows, exact=exact)
        held = folder / name / EMBEDDINGS
        if held.exists() and not overwrite:
            require_going_on(held, eye.record, rows, exact=exact)

    made = []
    for eye, name in zip(eyes, names, strict=True):
        own = folder / name
        embeddings = embed_once(
            eye,
            rows,
            own / EMBEDDINGS,
            batch_size=batch_size,
            workers=workers,
            exact=exact,
            skip_bad=skip_bad,
            overwrite=overwrite,
            progress=progress,
        )
        predictions = probe(embeddings, recipe=recipe, test=test, percent_data=percent_data, seed=seed)
        again = overwrite or _same_predictions(own / PREDICTIONS, predictions)
        predictions.save(own / PREDICTIONS, overwrite=again)
        scores = evaluate(predictions, draws=draws, seed=seed)
        scores.save(own / SCORES, overwrite=again)
        if published_csv is not None:
            write_published_csv(predictions, scores, Path(published_csv) / name, overwrite=overwrite)
        made.append((own, embeddings, predictions, scores))
    tuned: Finetuned | None = None
    if finetune:
        tuned = fine_tune(
            table,
            folder / FINETUNED,
            encoder=None if encoder is None else _one(encoder),
            weights=None if weights is None else _one(weights),
            card=card,
            pool=pool,
            image_size=image_size,
            images=images,
            image_column=image_column,
            label=label,
            split_column=split_column,
            patient=patient,
            group=group,
            classes=classes,
            skip_bad=skip_bad,
            max_megapixels=max_megapixels,
            percent_data=percent_data,
            epochs=finetune_epochs,
            draws=draws,
            precision=precision if precision != "int8" else "fp32",
            device=device,
            workers=workers,
            seed=seed,
            overwrite=overwrite,
            progress=progress,
        )
        seen, answered, its = open_embeddings(tuned.embeddings), tuned.predictions, tuned.scores
        assert isinstance(answered, Predictions)
        assert isinstance(its, Scores)
        made.append((tuned.folder, seen, answered, its))
    page = Report(
        [made_of[2] for made_of in made],
        [made_of[3] for made_of in made],
        image_free=image_free,
        image_free_columns=image_free_columns,
    )
    page.save(folder / PAGE, overwrite=overwrite)
    parts = tuple(Part(title, *one) for title, one in zip(page.titles, made, strict=True))
    if tuned is not None:
        parts = (*parts[:-1], replace(parts[-1], predictions_name=TEST_NAME))
    return Run(folder, parts, page.differences, page.columns_alone)


def _require_fine_tunable(
    asked: bool, epochs: int | None, encoder: str | Sequence[str] | None, test: str, precision: str
) -> None:
    """Raise :class:`UsageError` where a fine-tuning beside the probe cannot be."""
    if epochs is not None and not asked:
        raise UsageError("--finetune-epochs must come with --finetune.", "found no --finetune")
    if not asked:
        return
    several = encoder is not None and not isinstance(encoder, str) and len(encoder) > 1
    if several or test != "test" or precision == "int8":
        found = "several encoders" if several else f"--test {test}" if test != "test" else "--precision int8"
        raise UsageError(
            "--finetune puts one encoder beside itself, on the test rows, in floating point.",
            f"found {found}",
            "leave it out, or fine-tune by itself: panderm finetune",
        )


def _one(given: Any) -> Any:
    """Return the only one of what may be given as one or as a list of one."""
    return given if isinstance(given, str | Path) else given[0]


def _require_own_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ArtifactError("--out must be a folder.", f"{folder} is a file", "choose another --out")
    if (folder / CARD_NAME).exists():
        raise ArtifactError(
            "--out must be a folder of its own for the whole run.",
            f"{folder} is itself one that panderm wrote: it has a {CARD_NAME}",
            "choose another --out",
        )


def _folder_names(records: Sequence[EncoderRecord]) -> list[str]:
    """Name a folder for each encoder: by its name, and where that is taken, by its weights too."""
    taken = {EMBEDDINGS, PREDICTIONS, SCORES, PAGE, "world"}
    plain = [_plain_name(record) for record in records]
    names = []
    for record, name in zip(records, plain, strict=True):
        unique = name.casefold() not in taken and sum(name.casefold() == p.casefold() for p in plain) == 1
        names.append(name if unique else _full_name(record))
    if len({name.casefold() for name in names}) < len(names):
        return [f"{name}-{sha256_of_json(decisive(r))[:8]}" for name, r in zip(plain, records, strict=True)]
    return names


def _plain_name(record: EncoderRecord) -> str:
    return in_a_path(record.name)[:80] or "encoder"


def _full_name(record: EncoderRecord) -> str:
    return f"{_plain_name(record)}-{in_a_path(record.weights_sha256[:8])}"


def _take_over(out: Path, folder: Path, eye: Eye, table: Table, *, exact: bool) -> None:
    """Move in what an earlier run in ``out``, with fewer or more encoders, left of this one.

    The folders depend on how many encoders there are; hours of embedding must not be lost by adding one.
    """
    if (folder / EMBEDDINGS).exists():
        return
    for other in (out, out / _plain_name(eye.record), out / _full_name(eye.record)):
        if other == folder or not goes_on(other / EMBEDDINGS, eye, table, exact=exact):
            continue
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for name in (EMBEDDINGS, PREDICTIONS, SCORES):
                if (other / name).exists() and not (folder / name).exists():
                    (other / name).rename(folder / name)
        with contextlib.suppress(OSError):  # it may hold a user's own files
            other.rmdir()
        return


def _same_predictions(folder: Path, predictions: Predictions) -> bool:
    """Say whether an earlier, unfinished run left these very predictions."""
    return folder.exists() and open_predictions(folder).card.identity == predictions.card.identity


def demo(
    *, out: Path | str = "demo", n: int = 240, seed: int = 0, overwrite: bool = False, progress: bool = True
) -> Run:
    """Draw a small world of lesions and run the whole sentence on it with ``panderm-tiny``.

    Nothing is downloaded: the encoder lies in the package. The images are drawn, and every page says so.

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
    # Classes as alike as they can be drawn: an encoder that has seen skin would make no mistake on easy ones.
    world = draw_world(folder / "world", n=n, seed=seed, difficulty=1.0, overwrite=overwrite)
    return run(
        world.csv,
        images=world.images,
        encoder="panderm-tiny",
        patient="patient_id",
        group="lesion_id",
        out=folder,
        overwrite=overwrite,
        note=DRAWN_NOTE,
        progress=progress,
    )
