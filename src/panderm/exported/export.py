"""Write an encoder and its head, or a classifier that has both, as one ONNX file that says what it is."""

from __future__ import annotations

import contextlib
import copy
import importlib
import importlib.metadata
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from panderm.classifying.classifier import load_classifier
from panderm.classifying.file import NAME, is_classifier
from panderm.embeddings import EncoderRecord
from panderm.errors import ArtifactError, PandermWarning, ParentsError, UsageError
from panderm.exported.card import OPSET, ExportCard, Parity, ProbeRecord
from panderm.fitted import FittedLinear
from panderm.models.encoder import Encoder
from panderm.models.load import load_encoder
from panderm.predictions import Predictions, open_predictions
from panderm.progress import Progress
from panderm.provenance import Provenance
from panderm.storage import new_file, refuse_existing

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_USE = "For research. Not a medical device: it must not decide about a patient."
# What decides an embedding. Not its precision: the graph computes in float32 whatever the probe saw.
_DECISIVE = ("weights_sha256", "dim", "pool", "image_size", "preprocess")
# float32 sums in another order differ by about 1e-6 of the largest number; a wrong graph by far more.
TOLERANCE = 1e-4
TOLERANCE_PROBABILITY = 1e-3
_DRIFT = 0.95


def export(
    encoder: Encoder | Path | str,
    out: Path | str,
    *,
    int8: bool = False,
    probe: Predictions | Path | str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> ExportCard:
    """Write an encoder, and where given a probe, or a classifier, as one ONNX file; measure how it agrees.

    The file takes ``rgb``, uint8 (n, S, S, 3), any n: RGB images resized and cropped as
    ``encoder.preprocess`` says, neither scaled nor normalised. It gives ``embedding``, float32 (n, D), and
    with a probe ``probabilities``, float32 (n, K), columns in the order of the classes on its card.

    Args:
        encoder: an Encoder, or a name that :func:`panderm.load_encoder` knows; or a fine-tuned classifier:
            the folder of its run, or its file. Its head and its temperature then go into the file.
        out: file to write, ``X.onnx``.
        int8: 8-bit weights and activations in the linear layers: a quarter of the size and faster, at some
            cost in agreement, which the card states.
        probe: Predictions, or their folder: the probe that made them goes into the file, its temperature too.
        overwrite: replace an ``out`` that exists.
        progress: show progress on standard error.

    Returns:
        The card, which also lies in the file's metadata under ``panderm``, as JSON.

    Raises:
        UsageError: the packages to export with are not installed, or the network cannot be exported.
        ParentsError: the probe was fitted on embeddings of another encoder.
        WeightsError: a classifier's file that is not whole.
        ArtifactError: ``out`` exists or cannot be written, the predictions hold no probe, or the file does
            not agree with the encoder: it is then not kept.

    Example:
        >>> card = panderm.export(encoder, "lesions.onnx", probe="probe.pred")  # doctest: +SKIP
        >>> card.parity.largest_probability_difference  # doctest: +SKIP
        2.4e-07
    """
    started = time.monotonic()
    path = Path(out)
    packages = require_ready(path, overwrite=overwrite)
    of_classifier = not isinstance(encoder, Encoder) and names_classifier(encoder)
    if of_classifier and probe is not None:
        raise UsageError(
            "a classifier has its own head, and takes no probe.",
            [f"found the classifier {encoder}", "and a probe (--with)"],
            "leave --with out, or name the encoder that the probe was fitted on",
        )
    predictions = None if probe is None else _opened(probe)
    fitted = None if predictions is None else _probe_of(predictions)
    record = None if fitted is None or predictions is None else _record(fitted, predictions)
    if not isinstance(encoder, Encoder) and of_classifier:
        opened = load_classifier(encoder, device="cpu")
        eye, fitted = opened.encoder, opened.head
        record = ProbeRecord(
            classifier=eye.record.weights_sha256,
            never_trained=(),
            temperature=fitted.temperature,
            method=fitted.method,
            link=fitted.link,
        )
        predictions = _beside(opened.path.parent)
    else:
        eye = encoder if isinstance(encoder, Encoder) else load_encoder(str(encoder), device="cpu")
    if predictions is not None and probe is not None:
        _require_same_encoder(predictions.card.made_of("An export").encoder, eye.record)

    from panderm.exported.graph import add_probe, encoder_graph
    from panderm.exported.int8 import to_int8
    from panderm.exported.parity import compare, of_onnx, of_torch, parity_images

    network = _on_cpu(eye)
    with Progress(5, f"exporting {eye.name}", "steps", shown=progress) as bar:
        images, origin = parity_images(eye.preprocess, predictions)
        reference = of_torch(network, images, eye.preprocess)
        bar.advance()
        model = encoder_graph(network, eye.preprocess, name=eye.name)
        bar.advance()
        if fitted is not None:
            add_probe(model, fitted)
        parity = compare(reference, of_onnx(_session(model), images), fitted, origin)
        _require_agreement(eye.name, path, parity)
        bar.advance()
        if int8:
            to_int8(model, name=eye.name, keep=("probe.weight",))
            parity = compare(reference, of_onnx(_session(model), images), fitted, origin)
        bar.advance()
        card = ExportCard(
            use=f"{_USE} Licence of the weights: {eye.record.licence}",
            encoder=eye.record.model_copy(update={"precision": "fp32", "weights": _name(eye.record.weights)}),
            arithmetic="int8" if int8 else "fp32",
            opset=OPSET,
            classes=() if fitted is None else fitted.classes,
            probe=record,
            parity=parity,
            packages=packages,
            # A file that is handed on should not carry the paths that were typed.
            provenance=Provenance.now(seconds=time.monotonic() - started).model_copy(
                update={"command": "panderm export"}
            ),
        )
        _write(model, card, path, overwrite=overwrite)
        bar.advance()
    if int8 and parity.smallest_centred_cosine < _DRIFT:
        warnings.warn(
            f"{path}: 8-bit arithmetic moves this encoder's embeddings: of {parity.n} {parity.images} the "
            f"worst has a centred cosine of {parity.smallest_centred_cosine:.3f} to float32. Check what it "
            "does to your scores before you use it, or export without --int8",
            PandermWarning,
            stacklevel=2,
        )
    return card


def require_ready(out: Path, *, overwrite: bool) -> dict[str, str]:
    """Return the versions of the packages that exporting needs; raise where it could not end well."""
    refuse_existing(out, overwrite=overwrite)
    missing = []
    for name in _PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise UsageError(
            "exporting needs onnx, onnxscript and onnxruntime.",
            f"not installed: {', '.join(missing)}",
            "pip install 'panderm[onnx]'",
        )
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def names_classifier(name: Path | str) -> bool:
    """Say whether a name is that of a fine-tuned classifier: a run's folder that holds one, or its file."""
    path = Path(name).expanduser()
    return (path / NAME).is_file() or (path.suffix == ".safetensors" and is_classifier(path))


def _beside(run: Path) -> Predictions | None:
    """Return the test predictions of a run, on whose images the file is compared; None for none."""
    with contextlib.suppress(ArtifactError):
        return open_predictions(run / "test.pred")
    return None


def _opened(probe: Predictions | Path | str) -> Predictions:
    return probe if isinstance(probe, Predictions) else open_predictions(probe)


def _probe_of(predictions: Predictions) -> FittedLinear:
    if predictions.probe is None:
        raise ArtifactError(
            "the predictions must hold the probe that made them.",
            "found none: they were made by an earlier version of panderm",
            "run the same panderm probe command again, with --overwrite",
        )
    if not isinstance(predictions.probe, FittedLinear) or predictions.probe.inputs:
        raise UsageError(
            "export takes a linear probe on the encoder's own vectors.",
            f"found {predictions.probe.kind}, on {predictions.probe.inputs or 'vectors'}",
            "make one with: panderm probe X.emb --out X.pred",
        )
    return predictions.probe


def _require_same_encoder(fitted_on: EncoderRecord, exported: EncoderRecord) -> None:
    """Raise :class:`ParentsError` naming both where a probe was fitted on another encoder's embeddings."""
    differ = [key for key in _DECISIVE if getattr(fitted_on, key) != getattr(exported, key)]
    if differ:
        raise ParentsError(
            "a probe must be exported with the encoder it was fitted on.",
            [
                f"the probe was fitted on embeddings of {_described(fitted_on)}",
                f"this is {_described(exported)}",
                f"they differ in: {', '.join(differ)}",
            ],
            "name the same encoder, with the same --weights, --pool and --image-size",
        )


def _described(encoder: EncoderRecord) -> str:
    weights = encoder.weights_sha256 if encoder.random else encoder.weights_sha256[:12]
    return f"{encoder.name} (pool {encoder.pool}, {encoder.image_size} pixels, weights {weights})"


def _on_cpu(encoder: Encoder) -> torch.nn.Module:
    network = encoder.network
    if encoder.device.type == "cpu" and all(p.dtype == torch.float32 for p in network.parameters()):
        return network
    return copy.deepcopy(network).to("cpu", torch.float32)


def _name(path: str | None) -> str | None:
    return None if path is None else Path(path).name


def _record(fitted: FittedLinear, predictions: Predictions) -> ProbeRecord:
    card = predictions.card
    never = tuple(c for c, trained in zip(fitted.classes, fitted.trained, strict=True) if not trained)
    return ProbeRecord(
        predictions=card.identity,
        never_trained=never,
        temperature=fitted.temperature,
        method=fitted.method,
        table=card.made_of("An export").table.sha256,
        precision=card.made_of("An export").encoder.precision,
    )


def _session(model: Any) -> Any:
    """Open a graph with ONNX Runtime, on the CPU."""
    import onnx
    import onnxruntime

    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = torch.get_num_threads()
    content = model.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _require_agreement(name: str, path: Path, parity: Parity) -> None:
    off = parity.largest_difference / max(parity.largest_number, 1e-12)
    wrong = parity.largest_probability_difference or 0.0
    if not (off <= TOLERANCE and wrong <= TOLERANCE_PROBABILITY):  # NaN is no agreement either
        raise ArtifactError(
            f"an exported file must agree with its encoder to {TOLERANCE:g} of the largest number, and in "
            f"probabilities to {TOLERANCE_PROBABILITY:g}.",
            f"{name}: off by {off:.2g}, in probabilities by {wrong:.2g}, on {parity.n} {parity.images}; "
            f"{path} was not kept",
            "try another version of onnxruntime or torch",
        )


def _write(model: Any, card: ExportCard, path: Path, *, overwrite: bool) -> None:
    from onnx import helper

    model.producer_name, model.producer_version = "panderm", card.provenance.panderm
    model.doc_string = f"{card.encoder.name}. {card.use}"
    helper.set_model_props(model, {"panderm": card.model_dump_json(), "licence": card.encoder.licence})
    with new_file(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(model.SerializeToString())
