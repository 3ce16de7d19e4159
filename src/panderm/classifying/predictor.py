"""What new images are predicted with: a probe beside its encoder, or a fine-tuned classifier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from panderm.classifying.calibrated import COVERAGE, NONE, Calibration, SetRule, Threshold, decide
from panderm.classifying.classifier import classifier_file, load_classifier
from panderm.classifying.file import NAME
from panderm.embeddings import EmbeddingsCard, Engine
from panderm.errors import ArtifactError, ParentsError, UsageError, WeightsError, some
from panderm.fitted import FittedProbe
from panderm.models.encoder import Encoder
from panderm.models.load import load_encoder
from panderm.models.precision import PrecisionChoice
from panderm.predictions import MultiLabelPredictions, Predictions, open_either
from panderm.predictions.positive import malignant_classes
from panderm.provenance import CARD_NAME
from panderm.statistics.targets import DEFAULT_TARGETS, Target

TEST = "test.pred"
"""What a run's predictions are called in its folder, validation rows beside them."""
# What decides a vector. Precision and engine may be another: it is said on the card.
_DECISIVE = ("weights_sha256", "dim", "pool", "image_size", "preprocess")


@dataclass(frozen=True)
class Asked:
    """What is to be decided of an image beside its probabilities.

    Attributes:
        at: operating point, as ``--at`` takes it; None: sensitivity ≥ .95 where a class is positive.
        positive: classes that count as positive; None: the second of two.
        coverage: share of images whose set is to hold the truth.
        by_class: each class is to be covered.
    """

    at: str | None = None
    positive: tuple[str, ...] | None = None
    coverage: float = COVERAGE
    by_class: bool = False

    @property
    def target(self) -> Target:
        """The operating point."""
        return DEFAULT_TARGETS[0] if self.at is None else Target.read(self.at)


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
        calibration = _as_given(calibration, made.classes, target)
    else:
        calibration = _positive_named(calibration, made.classes, asked, target)
    _require_decided(calibration, asked, calibration.thresholds)
    encoder = _encoder_of(emb, path, weights, card, precision, engine, device)
    notes = []
    if unit := made.card.method.get("unit"):
        notes.append(f"the probe was fitted to predict a {unit}; here each image is predicted by itself")
    notes += _benign_positive(head, asked, calibration.thresholds)
    return Predictor(
        encoder=encoder,
        head=_on(head, encoder),
        calibration=calibration,
        thresholds=calibration.thresholds,
        rule=_rule(calibration, asked),
        source=str(path),
        identity=made.card.identity,
        card=emb,
        notes=tuple(notes),
    )


def _benign_positive(head: FittedProbe, asked: Asked, thresholds: tuple[Threshold, ...]) -> tuple[str, ...]:
    """Say so where the second of two classes counts as positive, and the first is the malignant one."""
    if asked.positive is not None or not thresholds or head.link == "sigmoid":
        return ()
    try:
        malignant = malignant_classes(head.classes)
    except UsageError:  # classes that the diagnosis map does not know
        return ()
    if set(malignant) & set(thresholds[0].positive):
        return ()
    first, second = malignant[0], thresholds[0].positive[0]
    return (f"{second} counts as positive, being the second class; --positive {first} turns this round",)


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
    calibration = _decided(opened.record.calibration, file)
    classes = opened.classes
    if not _holds(calibration, asked, target, sigmoid=opened.record.link == "sigmoid"):
        # What the file was not written with, the rows beside it in the run's folder can still say.
        beside = file.parent / TEST
        if not (beside / CARD_NAME).is_file():
            raise UsageError(
                "what is asked for must be in the classifier's file, or validation rows beside it.",
                [f"{file} holds {_held(calibration)}", f"and there is no {beside}"],
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
        calibration = _as_given(calibration, classes, target)
    else:
        calibration = _positive_named(calibration, classes, asked, target)
    thresholds = tuple(one for one in calibration.thresholds if one.at == target.text)
    _require_decided(calibration, asked, thresholds)
    return Predictor(
        encoder=opened.encoder,
        head=opened.head,
        calibration=calibration,
        thresholds=thresholds,
        rule=_rule(calibration, asked),
        source=str(path),
        identity=opened.encoder.record.weights_sha256,
        notes=_benign_positive(opened.head, asked, thresholds),
    )


def _decided(told: dict[str, Any] | None, file: Path) -> Calibration:
    if told is None:
        return NONE
    try:
        return Calibration.model_validate(told)
    except ValidationError as error:
        raise WeightsError(
            "what validation rows decided must be whole in a classifier's file.",
            f"{file}: {error.errors()[0]['msg']}",
            "fine-tune again",
        ) from None


def _holds(calibration: Calibration, asked: Asked, target: Target, *, sigmoid: bool) -> bool:
    """Say whether a classifier's file itself has what is asked for, or cannot have it anyhow."""
    if sigmoid or not calibration.rows:
        return True
    sets = not calibration.sets or any(one.coverage == asked.coverage for one in calibration.sets)
    if target.aim == "threshold":
        return sets
    there = {one.at for one in calibration.thresholds}
    same = asked.positive is None or any(
        set(one.positive) == set(asked.positive) for one in calibration.thresholds
    )
    wanted = asked.at is not None or asked.positive is not None
    return sets and same and (target.text in there or not wanted)


def _held(calibration: Calibration) -> str:
    points = sorted({f"{one.at} of {', '.join(one.positive)}" for one in calibration.thresholds})
    sets = sorted({f"sets of {one.coverage:.0%}" for one in calibration.sets})
    return some([*points, *sets], 12) or "neither thresholds nor sets"


def _as_given(calibration: Calibration, classes: tuple[str, ...], target: Target) -> Calibration:
    """Return what is decided of several labels: each by a threshold that is given, by default one half."""
    value = target.value if target.aim == "threshold" else 0.5
    at = Target("threshold", value).text
    given = tuple(Threshold(positive=(name,), at=at, threshold=value) for name in classes)
    return calibration.model_copy(update={"thresholds": given})


def _positive_named(
    calibration: Calibration, classes: tuple[str, ...], asked: Asked, target: Target
) -> Calibration:
    """Add a threshold that is given to what validation rows decided, which it does not rest on."""
    if target.aim != "threshold" or any(one.at == target.text for one in calibration.thresholds):
        return calibration
    named = asked.positive or (classes[1:] if len(classes) == 2 else ())
    unknown = [one for one in named if one not in classes]
    if not named or unknown:
        raise UsageError(
            "--at threshold=… needs the classes that count as positive.",
            f"found {some(unknown)}" if unknown else f"the classes are {some(classes, 12)}",
            "name them: --positive mel --positive bcc",
        )
    given = Threshold(positive=tuple(named), at=target.text, threshold=target.value)
    return calibration.model_copy(update={"thresholds": (*calibration.thresholds, given)})


def _require_decided(calibration: Calibration, asked: Asked, thresholds: tuple[Threshold, ...]) -> None:
    """Raise where what was asked for in words is not there; what is there by itself may be missing."""
    if not thresholds and (asked.at is not None or asked.positive is not None):
        why = calibration.left_out.get("thresholds", "no validation rows")
        raise UsageError(
            "--at and --positive need validation rows beside the predictions, to choose a threshold on.",
            f"{calibration.of}: {why}" if calibration.rows else why,
            "give a threshold of your own: --at threshold=0.3; or name the positive classes: --positive mel",
        )
    if not calibration.sets and asked.by_class:
        raise UsageError(
            "--by-class needs conformal sets.", calibration.left_out.get("sets", "there are none")
        )


def _rule(calibration: Calibration, asked: Asked) -> SetRule | None:
    by = "class" if asked.by_class else "all"
    found = [one for one in calibration.sets if one.by == by and one.coverage == asked.coverage]
    return found[0] if found else None
