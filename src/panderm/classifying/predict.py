"""New images → a CSV of probabilities, a decision and a set for each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from panderm.classifying.asked import Asked
from panderm.classifying.calibrated import COVERAGE
from panderm.classifying.journal import InMemory, Journal, journal_path
from panderm.classifying.predicted import Predicted, PredictedCard
from panderm.classifying.predictor import open_predictor
from panderm.classifying.sources import Found, existing_sources, left_out, passed_over, read_sources
from panderm.classifying.tta import tta_views
from panderm.classifying.work import Work
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.data.table import Skipped
from panderm.embeddings import Engine
from panderm.errors import UsageError
from panderm.models.precision import PrecisionChoice
from panderm.provenance import Provenance
from panderm.storage import refuse_existing


def predict(
    model: Path | str,
    sources: Sequence[Path | str] | Path | str,
    out: Path | str | None = None,
    *,
    images: Path | str | None = None,
    image_column: str = "image",
    weights: Path | str | None = None,
    card: Path | str | None = None,
    at: str | None = None,
    positive: Sequence[str] | None = None,
    coverage: float = COVERAGE,
    by_class: bool = False,
    tta: str | None = None,
    skip_bad: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    precision: PrecisionChoice | None = None,
    engine: Engine | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    exact: bool | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Predicted:
    """Predict new images with a probe and its encoder, or with a fine-tuned classifier.

    Rows are kept as they are made, in ``out.unfinished`` beside ``out``: a run that was stopped, however it
    was, goes on there when it is called again, and ends with the same bytes. In memory are a few batches
    of pixels and the probabilities.

    Args:
        model: ``X.pred`` of ``panderm probe``, the folder of a fine-tuning run, or a classifier's file.
        sources: folders with all images below them, image files, CSV or Parquet files of names.
        out: CSV to write, its card beside it (``x.card.json``); without it nothing is written.
        images: the folder that the names of a table are relative to; by default the table's own.
        image_column: its column of names.
        weights: the encoder's file, where ``X.pred`` names one that lies elsewhere now.
        card: JSON file of an encoder of your own that ``X.pred`` was made with.
        at: operating point of the decision: ``sensitivity=0.95``, ``specificity=0.9``, ``youden``,
            ``cost=20`` or ``threshold=0.3``; by default the first, where a class is positive. It is chosen on
            the validation rows beside ``X.pred``, or those that a classifier's file was written with.
        positive: classes that count as positive, their probabilities added up; by default the second of two.
        coverage: share of images whose conformal set is to hold the truth.
        by_class: sets that cover each class, by its own validation rows.
        tta: views whose answers are averaged: ``2``, ``4`` or ``8`` flips and right-angle turns, the image as
            it is among them; ``published``: five random ones. Thresholds and sets were found without views.
        skip_bad: leave out images that cannot be read; without it they are told once all others are done.
        max_megapixels: an image of more millions of pixels counts as bad.
        precision: as of :func:`panderm.load_encoder`; by default as the probe's embeddings were made.
        engine: likewise.
        device: likewise.
        batch_size: images at once; by default as the probe's embeddings were made.
        workers: threads or processes that decode; by default as many as keep the network busy.
        exact: decode as the reference does; by default as the probe's embeddings were made.
        overwrite: replace an ``out`` that exists.
        progress: show progress on standard error.

    Raises:
        UsageError: a decision that cannot be made, sources that are not there, a probe that sees more than
            images.
        TableError: images that cannot be read; with all others done and kept, where decoding showed it.
        ArtifactError: ``out`` exists, or predictions without their probe.
        ParentsError: weights that did not make the probe's embeddings, or ``out.unfinished`` of other
            options.
        WeightsError: a file that is not whole.

    Example:
        >>> new = panderm.predict("probe.pred", "new_images/", "new.csv")  # doctest: +SKIP
        >>> new.counts()  # doctest: +SKIP
        {'nevus': 80, 'melanoma': 32}
    """
    if batch_size is not None and batch_size < 1:
        raise UsageError("the batch size must be at least 1.", f"found {batch_size}")
    path = None if out is None else Path(out)
    if path is not None:
        _require_csv(path)
        refuse_existing(path, overwrite=overwrite)
    asked = Asked(at, None if positive is None else tuple(positive), coverage, by_class)
    views = None if tta is None else tta_views(tta)
    existing_sources(sources, images=images)
    predictor = open_predictor(
        model, asked, weights=weights, card=card, precision=precision, engine=engine, device=device
    )
    found = read_sources(
        sources,
        images=images,
        image_column=image_column,
        skip_bad=skip_bad,
        max_megapixels=max_megapixels,
        progress=progress,
    )
    work = Work(predictor, found.table, views, batch_size=batch_size, exact=exact)
    started = time.monotonic()
    with contextlib.ExitStack() as closing:
        kept: Journal | InMemory = InMemory(len(found.table), len(predictor.classes))
        if path is not None:
            told, K = work.told(), len(predictor.classes)
            kept = closing.enter_context(
                Journal(journal_path(path), told, found.table, K, overwrite=overwrite)
            )
        before = int(kept.done.sum())
        bad = work.run(kept, workers=workers, progress=progress)
        seconds = time.monotonic() - started
        left = left_out(found, bad, skip_bad=skip_bad, made=None if path is None else "predicted")
        made = int(kept.done.sum()) - before
        result = Predicted(
            image=found.table.image[kept.done],
            path=found.table.path[kept.done],
            probabilities=kept.probabilities[kept.done],
            card=_card(work, found, left, rate=made / seconds if made else None, seconds=seconds),
            resumed=before,
        )
        if path is not None:
            result = replace(result, card=result.save(path, overwrite=overwrite))
            kept.remove()
    return result


def _card(
    work: Work, found: Found, left: tuple[Skipped, ...], *, rate: float | None, seconds: float
) -> PredictedCard:
    predictor, head = work.predictor, work.predictor.head
    table = found.table.card
    told = {"kind": head.kind, "temperature": head.temperature, "method": head.method}
    return PredictedCard(
        provenance=Provenance.now(seconds=seconds),
        model=str(Path(predictor.source).resolve()),
        model_identity=predictor.identity,
        encoder=work.settled.encoder,
        classes=predictor.classes,
        link=head.link,
        head=told,
        calibration=predictor.calibration,
        decision=predictor.thresholds,
        sets=predictor.rule,
        tta=None if work.views is None else work.views.words(),
        decoding=work.settled.decoding,
        images=table.csv or table.name,
        images_sha256=table.sha256,
        rows=table.rows + len(table.skipped) - len(left),
        skipped=left,
        images_per_second=rate,
        notes=(*predictor.notes, *_cautions(work), *passed_over(found)),
    )


def _cautions(work: Work) -> list[str]:
    told = []
    if caution := work.predictor.calibration.caution:
        told.append(f"of {work.predictor.calibration.of}: {caution}")
    if work.views is not None and (work.predictor.thresholds or work.predictor.rule is not None):
        told.append(
            "thresholds and sets were found for images as they are: they are not promised of several views"
        )
    return told


def _require_csv(path: Path) -> None:
    if path.suffix.lower() != ".csv":
        raise UsageError("predictions of new images are a CSV.", f"found --out {path}", "name it pred.csv")
