"""What an exported file says of itself, and the names of what goes in and comes out."""

from __future__ import annotations

from typing import Any, Literal

from panderm.embeddings import EncoderRecord
from panderm.provenance import Card, Record

INPUT, EMBEDDING, PROBABILITIES = "rgb", "embedding", "probabilities"
OPSET = 20  # the first with GELU as one operation


class Parity(Record):
    """What ONNX Runtime makes of an exported file, against PyTorch in float32, on the same images.

    Attributes:
        images: which they were; n: how many.
        largest_difference: between two numbers of an embedding; largest_number: of all embeddings.
        smallest_cosine: between an image's two embeddings.
        smallest_centred_cosine, mean_centred_cosine: after the mean over images is taken from each. What all
            images share tells no class apart, and in the plain cosine it hides most of a drift.
        largest_probability_difference: None without a probe.
        same_class: images whose most probable class is the same; None without a probe.
    """

    images: str
    n: int
    largest_difference: float
    largest_number: float
    smallest_cosine: float
    smallest_centred_cosine: float
    mean_centred_cosine: float
    largest_probability_difference: float | None = None
    same_class: int | None = None


class ProbeRecord(Record):
    """The head in an exported file: a probe, or that of a fine-tuned classifier; how it was fitted, on what.

    Attributes:
        predictions: identity of the predictions that the probe made; None of a classifier.
        classifier: hex SHA-256 of the classifier's file; None of a probe.
        never_trained: classes whose probability is always 0.
        temperature: what the logits are divided by; 1 where nothing was calibrated.
        method: what was decided before the fit.
        link: ``softmax``, or ``sigmoid`` where each label is by itself.
        table: hex SHA-256 of the table it was fitted on; None of a classifier.
        precision: of the embeddings it was fitted on; None of a classifier.
    """

    predictions: str | None = None
    classifier: str | None = None
    never_trained: tuple[str, ...]
    temperature: float
    method: dict[str, Any]
    link: Literal["softmax", "sigmoid"] = "softmax"
    table: str | None = None
    precision: str | None = None


class ExportCard(Card):
    """The card of an exported file; as JSON under ``panderm`` in its metadata.

    Attributes:
        use: what the file is for, and the licence of its weights.
        encoder: name, weights' hash, licence, citation, preprocessing.
        arithmetic: of the linear layers.
        classes: columns of ``probabilities``; empty without a probe.
        parity: how far the file is from the encoder it was made of.
        packages: versions of the packages that wrote and checked it.
    """

    kind: Literal["onnx"] = "onnx"
    format: Literal[1] = 1
    use: str
    encoder: EncoderRecord
    arithmetic: Literal["fp32", "int8"]
    opset: int
    classes: tuple[str, ...]
    probe: ProbeRecord | None
    parity: Parity
    packages: dict[str, str]
