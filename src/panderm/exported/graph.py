"""From a network to an ONNX graph: RGB pixels in, embedding out, and behind it the probe."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from panderm.data.preprocess import Preprocess
from panderm.errors import UsageError
from panderm.exported.card import EMBEDDING, INPUT, OPSET, PROBABILITIES
from panderm.fitted import FittedLinear

# A protobuf message, which an ONNX file is, must stay below 2 GiB.
MOST_BYTES = 2_000_000_000


class _FromRGB(torch.nn.Module):
    """A network with its scaling and normalisation in front: uint8 (n, S, S, 3) to float32 (n, D)."""

    def __init__(self, network: torch.nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.network = network
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, 3, 1, 1))

    def forward(self, rgb: torch.Tensor) -> torch.Tensor:
        pixels = rgb.permute(0, 3, 1, 2).to(torch.float32) / 255
        vectors: torch.Tensor = self.network((pixels - self.mean) / self.std)
        return vectors


def encoder_graph(network: torch.nn.Module, preprocess: Preprocess, *, name: str) -> onnx.ModelProto:
    """Return a network's ONNX graph: ``rgb`` uint8 (n, S, S, 3) to ``embedding`` float32 (n, D), any n ≥ 1.

    Args:
        network: float32, on the CPU, in evaluation mode.
        preprocess: its ``mean`` and ``std`` go into the graph; resizing and cropping stay outside.
        name: of the encoder, for messages.

    Raises:
        UsageError: too large for one file, or a network that cannot be written as ONNX.
    """
    size = 4 * sum(value.numel() for value in network.state_dict().values())
    if size > MOST_BYTES:
        raise UsageError(
            "an exported encoder must fit into one ONNX file, which holds at most 2 GB.",
            f"{name} has {size / 1e9:.1f} GB of weights",
            "choose a smaller encoder",
        )
    side = preprocess.crop
    # Two images: with one, the number of images would be taken for a constant.
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    try:
        with _quiet(), torch.inference_mode(mode=False), torch.no_grad():
            program: Any = torch.onnx.export(
                _FromRGB(network, preprocess).eval(),
                (example,),
                input_names=[INPUT],
                output_names=[EMBEDDING],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes={INPUT: {0: torch.export.Dim("n")}},
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(
            f"{name} must be of a kind that ONNX can express.", lines[0], "choose another encoder"
        ) from None
    model: onnx.ModelProto = program.model_proto
    _forget_the_machine(model)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's reports to programmers off the user's terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _forget_the_machine(model: onnx.ModelProto) -> None:
    """Take out what the exporter notes for programmers: with it go paths of the machine it ran on."""
    graph = model.graph
    for thing in [model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output]:
        thing.ClearField("doc_string")
        if hasattr(thing, "metadata_props"):
            del thing.metadata_props[:]
    del graph.value_info[:]  # shapes in between: told again when the file is opened


def add_probe(model: onnx.ModelProto, probe: FittedLinear) -> None:
    """Add ``probabilities`` float32 (n, K) behind ``embedding``: softmax or sigmoid of (x·Wᵀ + b) / T."""
    trained = probe.trained
    bias = np.where(trained, probe.bias, 0.0) / probe.temperature
    constants = {
        "probe.weight": (probe.weight / probe.temperature).T,
        # Far below the others; where a softmax stops short of 0 all the same, the mask does not.
        "probe.bias": np.where(trained, bias, -1e30),
        "probe.trained": trained,
    }
    graph = model.graph
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
    for operation, inputs, output in (
        ("MatMul", [EMBEDDING, "probe.weight"], "probe.products"),
        ("Add", ["probe.products", "probe.bias"], "probe.logits"),
        ("Softmax" if probe.link == "softmax" else "Sigmoid", ["probe.logits"], "probe.linked"),
        ("Mul", ["probe.linked", "probe.trained"], PROBABILITIES),
    ):
        graph.node.append(helper.make_node(operation, inputs, [output], name=f"probe.{operation}"))
    n = graph.output[0].type.tensor_type.shape.dim[0].dim_param
    shape = [n, len(probe.classes)]
    graph.output.append(helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, shape))
