"""8-bit matrix products in an ONNX graph: weights scaled by output, activations by row.

A row is one token of one image. Its scale is found from its own numbers, when the graph runs: an image's
embedding does not depend on which images share its batch, as it would with one scale for the whole batch,
and one token with large numbers does not cost the others their precision.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from panderm.errors import UsageError

# Where 0 lies among 0 … 255: in the middle, or near the end for what GELU leaves, which is never below -0.17.
_MIDDLE, _AFTER_GELU = 128, 16
_LEAST_SCALE = 1e-12
# Products with fewer inputs than this lose more than they gain.
_FEWEST_INPUTS = 32
_Constant: TypeAlias = Callable[[str, Any, type], str]  # label, value, type → label


def to_int8(model: onnx.ModelProto, *, name: str, keep: Collection[str] = ()) -> int:
    """Turn a graph's products with constant weights (MatMul) into 8-bit ones, in place; return how many.

    Weights: int8, symmetric, one scale an output (column), small enough that no processor saturates.
    Activations: uint8, one scale a row, with the zero fixed. Convolutions (the patch embedding), attention's
    own products and all else stay float32.

    Args:
        model: from :func:`panderm.exported.graph.encoder_graph`.
        name: of the encoder, for messages.
        keep: weights whose products stay float32.

    Raises:
        UsageError: a network without such products.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    read_by = [name for node in graph.node for name in node.input]
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, onnx.TensorProto] = {}
    quantised: dict[str, str] = {}  # activation → prefix of its 8-bit form: queries, keys, values share one
    gone: set[str] = set()
    done = 0

    def constant(label: str, value: Any, dtype: type) -> str:
        constants[label] = numpy_helper.from_array(np.array(value, dtype=dtype), label)
        return label

    for node in graph.node:
        weight = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if (
            weight is None
            or node.input[1] in keep
            or len(weight.dims) != 2
            or weight.dims[0] < _FEWEST_INPUTS
        ):
            nodes.append(node)
            continue
        activation, output = node.input[0], node.output[0]
        zero = _AFTER_GELU if made_by.get(activation) == "Gelu" else _MIDDLE
        if activation not in quantised:
            quantised[activation] = f"{activation}.int8"
            nodes += _quantise_rows(activation, f"{activation}.int8", int(weight.dims[0]), zero, constant)
        rows, columns = quantised[activation], f"{weight.name}.int8"
        W = numpy_helper.to_array(weight).astype(np.float64)
        scale = _scales(W)
        constant(columns, np.round(W / scale), np.int8)
        constant(f"{columns}.scale", scale, np.float32)
        width = constant(f"int8.width.{W.shape[1]}", [W.shape[1]], np.int64)
        zero_point = constant(f"int8.zero.{zero}", zero, np.uint8)
        at = f"{output}.int8"
        nodes += [
            helper.make_node("MatMulInteger", [rows, columns, zero_point], [f"{at}.integers"]),
            helper.make_node("Cast", [f"{at}.integers"], [f"{at}.floats"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{at}.floats", f"{columns}.scale"], [f"{at}.columns"]),
            helper.make_node("Concat", [f"{rows}.lead", width], [f"{at}.shape"], axis=0),
            helper.make_node("Reshape", [f"{at}.columns", f"{at}.shape"], [f"{at}.rows"]),
            helper.make_node("Mul", [f"{at}.rows", f"{rows}.scale"], [output], name=node.name),
        ]
        done += 1
        if read_by.count(weight.name) == 1:
            gone.add(weight.name)
    if not done:
        raise UsageError(
            "--int8 is for networks of matrix products, such as vision transformers.",
            f"{name} has none with fixed weights",
            "leave --int8 out",
        )
    kept = [tensor for tensor in graph.initializer if tensor.name not in gone]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *constants.values()])
    return done


def _scales(W: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the scale of each column of weights (D, K), so that no processor's products overflow.

    Processors without VNNI (AVX2, AVX-512) add the products of neighbouring inputs in 16 bits, which hold
    255 times the two weights only while these sum to 128 or less; beyond it they saturate in silence.
    """
    pairs = np.zeros((len(W) + len(W) % 2, W.shape[1]))
    pairs[: len(W)] = W
    both = [np.maximum(sign * pairs, 0).reshape(-1, 2, W.shape[1]).sum(axis=1) for sign in (1, -1)]
    # One of two may be rounded up, the other too: a sum of 127 before rounding is at most 128 after it.
    return np.asarray(np.maximum(np.maximum(*both).max(axis=0), _LEAST_SCALE) / 127)


def _quantise_rows(x: str, to: str, width: int, zero: int, constant: _Constant) -> list[onnx.NodeProto]:
    """Return the nodes that turn ``x`` (…, width) into uint8 rows ``to`` (rows, width).

    Beside it they leave ``to.scale`` (…, 1) and ``to.lead``, the shape of ``x`` without its last side.
    """
    last = constant("int8.last", [-1], np.int64)
    flat = constant(f"int8.rows.{width}", [-1, width], np.int64)
    # The largest number must fit above the zero, the smallest below it.
    above = constant(f"int8.above.{zero}", 1 / (255 - zero), np.float32)
    below = constant(f"int8.below.{zero}", -1 / min(zero, 127), np.float32)
    least = constant("int8.least", _LEAST_SCALE, np.float32)
    zero_point = helper.make_tensor("value", TensorProto.UINT8, [1], [zero])
    return [
        helper.make_node("ReduceMax", [x, last], [f"{to}.most"], keepdims=1),
        helper.make_node("ReduceMin", [x, last], [f"{to}.least"], keepdims=1),
        helper.make_node("Mul", [f"{to}.most", above], [f"{to}.above"]),
        helper.make_node("Mul", [f"{to}.least", below], [f"{to}.below"]),
        helper.make_node("Max", [f"{to}.above", f"{to}.below", least], [f"{to}.scale"]),
        helper.make_node("Reshape", [f"{to}.scale", last], [f"{to}.scales"]),
        helper.make_node("Shape", [f"{to}.scales"], [f"{to}.count"]),
        helper.make_node("ConstantOfShape", [f"{to}.count"], [f"{to}.zeros"], value=zero_point),
        helper.make_node("Reshape", [x, flat], [f"{to}.flat"]),
        helper.make_node("QuantizeLinear", [f"{to}.flat", f"{to}.scales", f"{to}.zeros"], [to], axis=0),
        helper.make_node("Shape", [x], [f"{to}.lead"], end=-1),
    ]
