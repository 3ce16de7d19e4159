"""What new images are predicted with: a probe beside its encoder, or a fine-tuned classifier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from panderm.classifying.asked import (
    Asked,
    as_given,
    benign_positive,
    held_in_words,
    holds,
    positive_named,
    read_decided,
    require_decided,
    rule_of,
)
from panderm.classifying.calibrated import Calibration, SetRule, Threshold, decide
from panderm.classifying.classifier import classifier_file, load_classifier
from panderm.classifying.file import NAME
from panderm.embeddings import EmbeddingsCard, Engine
from panderm.errors import ArtifactError, ParentsError, UsageError, some
from panderm.fitted import FittedProbe
from panderm.models.encoder import Encoder
from panderm.models.load import load_encoder
from panderm.models.precision import PrecisionChoice
from panderm.predictions import MultiLabelPredictions, Predictions, open_either
from panderm.provenance import CARD_NAME
from panderm.statistics.targets import Target

TEST = "test.pred"
"""What a run's predictions are called in its folder, validation rows beside them."""
# What decides a vector. Precision and engine may be another: it is said on the card.
_DECISIVE = ("weights_sha256", "dim", "pool", "image_size", "preprocess")


@dataclass(frozen=True, eq=False)
class Predictor:
    """What images are predicted with.

    Attributes:
        encoder: pixels to vectors.
        head: vectors, or tokens, to probabilities.
        calibration: what validation rows decided.
        thresholds: one for the positive classes, or for each of several labels; none where none is positive.
        rule: which classes are ruled out of a set; None: there are no sets.
        source: the folder or file it was opened from.
        identity: of its predictions, or of its file.
        card: of the embeddings that the head was fitted on; None of a classifier.
        notes: what a user should know of it, a sentence each.
    """

    encoder: Encoder
    head: FittedProbe
    calibration: Calibration
    thresholds: tuple[Threshold, ...]
    rule: SetRule | None
    source: str
    identity: str
    card: EmbeddingsCard | None = None
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the probabilities."""
        return self.head.classes


def open_predictor(
    model: Path | str,
    asked: Asked | None = None,
    *,
    weights: Path | str | None = None,
    card: Path | str | None = None,
    precision: PrecisionChoice | None = None,
    engine: Engine | None = None,
    device: str = "auto",
) -> Predictor:
    """Open what predicts, whichever it is.

    Args:
        model: ``X.pred`` of ``panderm probe``, the folder of a fine-tuning run, or a classifier's file.
        asked: what is to be decided beside probabilities.
        weights: the encoder's file, where ``X.pred`` names one that lies elsewhere now.
        card: JSON file of an encoder of the user's own, that ``X.pred`` was made with.
        precision: at which to compute; by default as the embeddings were made, fp32 of a classifier.
        engine: likewise, torch of a classifier.
        device: as of :func:`panderm.load_encoder`.

    Raises:
        ArtifactError: predictions without the probe that made them, or a folder of something else.
        ParentsError: weights that did not make the probe's embeddings.
        UsageError: a probe that sees more than an image, or a decision that cannot be made.
        WeightsError: a file that is not whole.
    """
    asked, path = asked or Asked(), Path(model).expanduser()
    target = asked.target  # what is no operating point is seen before anything is loaded
    no_folder = path.is_dir() and not any((path / one).is_file() for one in (CARD_NAME, NAME))
    of_file = path.suffix == ".safetensors" and not path.is_dir()
    if no_folder or (path.is_file() and not of_file):
        raise ArtifactError(
            "a predictor must be X.pred of panderm probe, a run of panderm finetune or its file.",
            f"{path} holds neither {CARD_NAME} nor {NAME}" if no_folder else f"found {path}",
            "name what panderm probe --out or panderm finetune --out wrote, and then the images",
        )
    if of_file or (path / NAME).is_file():
        _refuse_of_probe(path, weights, card)
        return _of_classifier(path, asked, target, precision, engine, device)
    return _of_probe(path, asked, target, weights, card, precision, engine, device)


def _refuse_of_probe(path: Path, weights: Any, card: Any) -> None:
    if weights is not None or card is not None:
        raise UsageError(
            "--weights and --card are of the encoder behind X.pred.",
            f"{path} is a classifier's own file, and holds its encoder",
            "leave them out",
        )


def _of_probe(
    path: Path,
    asked: Asked,
    target: Target,
    weights: Path | str | None,
    card: Path | str | None,
    precision: PrecisionChoice | None,
    engine: Engine | None,
    device: str,
) -> Predictor:
    made = open_either(path)
    head = made.probe
    if head is None:
        raise ArtifactError(
            "predictions must hold the probe that made them, to predict other images.",
            f"{path} holds none: {_why_no_probe(made)}",
            "name predictions of panderm probe that were made by one probe",
        )
    if head.inputs.get("kind") == "columns":
        raise UsageError(
            "a probe must see images alone, to predict new ones.",
            f"the probe of {path} reads columns of the table too: {some(_columns(head.inputs))}",
            "fit one without --with",
        )
    emb = made.card.made_of("Predicting new images")
    calibration = decide(
        made.validation if isinstance(made, Predictions) else None,
        positive=asked.positive,
        targets=(target,),
        coverage=asked.coverage,
    )
    if isinstance(made, MultiLabelPredictions) and (asked.at is None or target.aim == "threshold"):
        calibration = as_given(calibration, made.classes, target)
    else:
        calibration = positive_named(calibration, made.classes, asked, target)
    require_decided(calibration, asked, calibration.thresholds)
    encoder = _encoder_of(emb, path, weights, card, precision, engine, device)
    notes = []
    if unit := made.card.method.get("unit"):
        notes.append(f"the probe was fitted to predict a {unit}; here each image is predicted by itself")
    notes += benign_positive(head, asked, calibration.thresholds)
    return Predictor(
        encoder=encoder,
        head=_on(head, encoder),
        calibration=calibration,
        thresholds=calibration.thresholds,
        rule=rule_of(calibration, asked),
        source=str(path),
        identity=made.card.identity,
        card=emb,
        notes=tuple(notes),
    )


def _why_no_probe(made: Predictions | MultiLabelPredictions) -> str:
    if made.card.file is not None:
        return f"they were read from {made.card.file.path}"
    if made.card.recalibration is not None:
        return "their probabilities were changed afterwards (panderm recalibrate)"
    if isinstance(made, Predictions) and made.fold is not None:
        return "each fold has a probe of its own"
    return "their classes are not those that the probe was fitted on, or they are of an earlier version"


def _columns(inputs: dict[str, Any]) -> list[str]:
    named = inputs.get("columns", {})
    return [str(one.get("name", one)) if isinstance(one, dict) else str(one) for one in named]


def _on(head: FittedProbe, encoder: Encoder) -> FittedProbe:
    """Return a head that computes where its encoder does, where that matters."""
    return replace(head, device=str(encoder.device)) if hasattr(head, "device") else head  # type: ignore[call-arg]


def _encoder_of(
    emb: EmbeddingsCard,
    path: Path,
    weights: Path | str | None,
    card: Path | str | None,
    precision: PrecisionChoice | None,
    engine: Engine | None,
    device: str,
) -> Encoder:
    made_of = emb.encoder
    file = weights if weights is not None else made_of.weights
    if weights is None and file is not None and not Path(file).exists():
        raise UsageError(
            "the weights that made the probe's embeddings must be at hand.",
            f"they lay in {file}, which is not there any more",
            "name the file with --weights",
        )
    encoder = load_encoder(
        made_of.name,
        weights=weights if made_of.random else file,
        card=card,
        pool="cls" if made_of.pool == "cls" else "mean" if made_of.pool == "mean" else None,
        image_size=made_of.image_size,
        precision=precision or made_of.precision,
        engine=engine or made_of.engine,
        device=device,
    )
    ours = encoder.record
    differ = [name for name in _DECISIVE if getattr(ours, name) != getattr(made_of, name)]
    if differ:
        raise ParentsError(
            "new images must be seen by the encoder that made the probe's embeddings.",
            [
                f"{file or made_of.name} is {ours.name}, weights {ours.weights_sha256[:12]}",
                f"{path} was fitted on embeddings by {made_of.name}, weights {made_of.weights_sha256[:12]}",
                f"they differ in: {', '.join(differ)}",
            ],
            "name the file that panderm embed was given with --weights",
        )
    if (ours.precision, ours.engine) == (made_of.precision, made_of.engine) and ours.precision != "fp32":
        encoder.adopt(made_of, emb.drift)  # what was found to do then does now: nothing is measured again
    return encoder


def _of_classifier(
    path: Path,
    asked: Asked,
    target: Target,
    precision: PrecisionChoice | None,
    engine: Engine | None,
    device: str,
) -> Predictor:
    file = classifier_file(path)
    opened = load_classifier(file, device=device, precision=precision or "fp32", engine=engine or "torch")
    calibration = read_decided(opened.record.calibration, file)
    classes = opened.classes
    if not holds(calibration, asked, target, sigmoid=opened.record.link == "sigmoid"):
        # What the file was not written with, the rows beside it in the run's folder can still say.
        beside = file.parent / TEST
        if not (beside / CARD_NAME).is_file():
            raise UsageError(
                "what is asked for must be in the classifier's file, or validation rows beside it.",
                [f"{file} holds {held_in_words(calibration)}", f"and there is no {beside}"],
                "name one of these, or a threshold of your own: --at threshold=0.3",
            )
        made = open_either(beside)
        if made.classes != classes or not isinstance(made, Predictions):
            raise ParentsError(
                "the predictions beside a classifier must be its own.",
                f"{beside} is of {some(made.classes)}, {file.name} of {some(classes)}",
            )
        again = decide(made.validation, positive=asked.positive, targets=(target,), coverage=asked.coverage)
        kept = {"temperature": calibration.temperature, "log_loss": calibration.log_loss}
        calibration = again.model_copy(update={**kept, "caution": calibration.caution})
    if opened.record.link == "sigmoid" and target.aim == "threshold":
        calibration = as_given(calibration, classes, target)
    else:
        calibration = positive_named(calibration, classes, asked, target)
    thresholds = tuple(one for one in calibration.thresholds if one.at == target.text)
    require_decided(calibration, asked, thresholds)
    return Predictor(
        encoder=opened.encoder,
        head=opened.head,
        calibration=calibration,
        thresholds=thresholds,
        rule=rule_of(calibration, asked),
        source=str(path),
        identity=opened.encoder.record.weights_sha256,
        notes=benign_positive(opened.head, asked, thresholds),
    )
