"""One ONNX file from RGB pixels to probabilities: what it computes, says of itself, and refuses."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from PIL import Image
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.data.drawn import DrawnWorld, draw_lesion
from panderm.errors import ArtifactError, PandermWarning, ParentsError, UsageError
from panderm.exported import export as exporting
from panderm.exported import graph, int8, parity
from panderm.exported.card import ExportCard
from panderm.models import cards
from panderm.models.network import build, draw_weights
from panderm.predictions import Predictions

SIDE, DEPTH = 64, 2
PAGE = Path(__file__).parents[1] / "docs/export.md"


def small(encoder: panderm.Encoder, pool: Any = "cls") -> panderm.Encoder:
    """Return an encoder in PanDerm's layout with two blocks for 64 pixels: it is written in two seconds."""
    known = next(c for c in cards.KNOWN if c.name == "random-tiny")
    preprocess = known.preprocess.model_copy(update={"resize": 72, "crop": SIDE})
    card = known.model_copy(update={"depth": DEPTH, "image_size": SIDE, "preprocess": preprocess})
    network = build(card, pool)
    state = draw_weights({name: value.shape for name, value in network.state_dict().items()}, 0)
    network.load_state_dict(state, strict=True, assign=True)
    record = encoder.record.model_copy(
        update={
            "pool": pool,
            "image_size": SIDE,
            "preprocess": preprocess.model_dump(mode="json"),
            "weights": "/home/jane/patients/small.pth",
            "licence": "CC BY-NC-ND 4.0",
        }
    )
    return panderm.Encoder(network, preprocess, record, encoder.account, torch.device("cpu"))


@pytest.fixture(scope="module")
def eye(encoder: panderm.Encoder) -> panderm.Encoder:
    return small(encoder)


@pytest.fixture(scope="module")
def embedded(eye: panderm.Encoder, table: panderm.Table) -> panderm.Embeddings:
    return eye.embed(table, progress=False)


@pytest.fixture(scope="module")
def predictions(embedded: panderm.Embeddings) -> Predictions:
    """A probe that never saw a keratosis, at another temperature than 1."""
    some = embedded.select(embedded.rows.label != "keratosis")
    made = panderm.probe(some, C=0.1)
    assert made.probe is not None
    fitted = dataclasses.replace(made.probe, temperature=1.7)
    return dataclasses.replace(
        made, fitted=fitted, probabilities=fitted.probabilities(some.vectors[some.rows.split == "test"])
    )


@pytest.fixture(scope="module")
def exported(
    eye: panderm.Encoder, predictions: Predictions, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ExportCard]:
    out = tmp_path_factory.mktemp("exported") / "lesions.onnx"
    return out, panderm.export(eye, out, probe=predictions, progress=False)


@pytest.fixture(scope="module")
def exported_int8(
    eye: panderm.Encoder, predictions: Predictions, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ExportCard]:
    out = tmp_path_factory.mktemp("exported") / "small.onnx"
    return out, panderm.export(eye, out, probe=predictions, int8=True, progress=False)


def without_probe(path: Path) -> onnx.ModelProto:
    model = onnx.load(path)
    kept = [node for node in model.graph.node if not node.name.startswith("probe.")]
    tensors = [x for x in model.graph.initializer if not x.name.startswith("probe.")]
    del model.graph.node[:], model.graph.initializer[:], model.graph.output[1:], model.metadata_props[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(tensors)
    return model


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, exported: tuple[Path, ExportCard]) -> None:
    """Take the graph that was written once in place of writing it again."""
    monkeypatch.setattr(graph, "encoder_graph", lambda *_, **__: without_probe(exported[0]))


def session(path: Path) -> Any:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def pixels_of(eye: panderm.Encoder, paths: list[str]) -> tuple[torch.Tensor, np.ndarray]:
    """Return images as the encoder takes them, and as the file does."""
    images = [panderm.read_image(path) for path in paths]
    ours = torch.stack([eye.preprocess(image) for image in images])
    return ours, np.stack([parity.resized(image, eye.preprocess) for image in images])


# What it computes


def test_resized_pixels_are_the_encoders_own(eye: panderm.Encoder, table: panderm.Table) -> None:
    ours, rgb = pixels_of(eye, table.path[:3].tolist())
    assert rgb.dtype == np.uint8
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (eye.preprocess.mean, eye.preprocess.std))
    again = (torch.from_numpy(rgb).permute(0, 3, 1, 2) / 255 - mean) / std
    assert (again - ours).abs().max() < 1e-6


def test_the_file_takes_pixels_and_gives_what_the_encoder_gives(
    eye: panderm.Encoder, predictions: Predictions, exported: tuple[Path, ExportCard]
) -> None:
    opened = session(exported[0])
    (given,) = opened.get_inputs()
    assert (given.name, given.type, given.shape) == ("rgb", "tensor(uint8)", ["n", SIDE, SIDE, 3])
    outputs = [(out.name, out.type, out.shape) for out in opened.get_outputs()]
    assert outputs == [
        ("embedding", "tensor(float)", ["n", eye.dim]),
        ("probabilities", "tensor(float)", ["n", 3]),
    ]
    ours, rgb = pixels_of(eye, predictions.path.tolist())
    embedding, probabilities = opened.run(None, {"rgb": rgb})
    wanted = eye.encode(ours).numpy()
    assert np.abs(embedding - wanted).max() < 2e-5
    assert np.abs(probabilities - predictions.probe.probabilities(wanted)).max() < 1e-5
    # The table's images were decoded fast, those here exactly.
    assert np.abs(probabilities - predictions.probabilities).max() < 1e-2
    for n in (1, 3):
        assert np.abs(opened.run(None, {"rgb": rgb[:n]})[1] - probabilities[:n]).max() < 1e-6


def test_a_class_never_trained_stays_at_exactly_zero(
    predictions: Predictions, exported: tuple[Path, ExportCard], exported_int8: tuple[Path, ExportCard]
) -> None:
    column = predictions.classes.index("keratosis")
    rgb = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
    for path, card in (exported, exported_int8):
        probabilities = session(path).run(["probabilities"], {"rgb": rgb})[0]
        assert (probabilities[:, column] == 0).all()
        # Not every processor's softmax ends at 0: the last product does.
        (mask,) = (x for x in onnx.load(path).graph.initializer if x.name == "probe.trained")
        assert numpy_helper.to_array(mask).tolist() == [0.0, 1.0, 1.0]
        assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)
        assert card.probe is not None
        assert card.probe.never_trained == ("keratosis",)


def test_the_fine_tuning_form_is_exported_too(encoder: panderm.Encoder, tmp_path: Path) -> None:
    card = panderm.export(small(encoder, "mean"), tmp_path / "mean.onnx", progress=False)
    assert card.parity.images == "drawn lesions"
    assert card.parity.n == 32
    assert card.parity.largest_difference < 1e-4
    assert card.parity.largest_probability_difference is card.probe is None
    assert [out.name for out in session(tmp_path / "mean.onnx").get_outputs()] == ["embedding"]


# What it says of itself


def test_the_card_rides_in_the_file(
    eye: panderm.Encoder, predictions: Predictions, exported: tuple[Path, ExportCard]
) -> None:
    path, card = exported
    told = session(path).get_modelmeta().custom_metadata_map
    assert ExportCard.model_validate_json(told["panderm"]) == card
    assert told["licence"] == card.encoder.licence == "CC BY-NC-ND 4.0"
    assert "research" in card.use
    assert "CC BY-NC-ND 4.0" in card.use
    assert card.use in onnx.load(path).doc_string
    assert card.encoder.weights_sha256 == eye.record.weights_sha256
    assert card.encoder.citation == eye.record.citation
    assert card.encoder.preprocess == eye.record.preprocess
    assert card.classes == predictions.classes
    assert card.probe is not None
    assert card.probe.predictions == predictions.card.identity
    assert card.probe.temperature == 1.7
    assert card.opset == onnx.load(path).opset_import[0].version
    assert card.packages["onnxruntime"] == onnxruntime.__version__


def test_the_parity_is_what_the_file_does(
    eye: panderm.Encoder, predictions: Predictions, exported_int8: tuple[Path, ExportCard]
) -> None:
    path, card = exported_int8
    told = card.parity
    assert (told.images, told.n) == ("images of the predictions", min(32, len(predictions)))
    rgb, _ = parity.parity_images(eye.preprocess, predictions)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (eye.preprocess.mean, eye.preprocess.std))
    reference = eye.encode((torch.from_numpy(rgb).permute(0, 3, 1, 2) / 255 - mean) / std).numpy()
    embedding, probabilities = session(path).run(None, {"rgb": rgb})
    assert told.largest_difference == pytest.approx(np.abs(embedding - reference).max(), rel=1e-3)
    assert told.largest_number == pytest.approx(np.abs(reference).max(), rel=1e-3)
    a, b = reference - reference.mean(0), embedding - embedding.mean(0)
    centred = [float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)) for x, y in zip(a, b, strict=True)]
    assert told.smallest_centred_cosine == pytest.approx(min(centred), abs=1e-4)
    assert told.mean_centred_cosine == pytest.approx(np.mean(centred), abs=1e-4)
    assert told.smallest_centred_cosine < told.smallest_cosine < 1
    assert predictions.probe is not None
    wanted = predictions.probe.probabilities(reference)
    off = np.abs(wanted - probabilities).max()
    assert told.largest_probability_difference == pytest.approx(off, rel=1e-2)
    assert told.same_class == (wanted.argmax(1) == probabilities.argmax(1)).sum()


def test_the_file_holds_no_path_of_the_machine(exported: tuple[Path, ExportCard]) -> None:
    content = exported[0].read_bytes()
    assert b"small.pth" in content  # its name, and no more
    for path in (b"/home/jane", str(Path(torch.__file__).parent).encode(), str(Path.cwd()).encode()):
        assert path not in content


def test_images_that_changed_or_went_are_not_compared(eye: panderm.Encoder, predictions: Predictions) -> None:
    n = len(predictions)
    assert n >= 12
    images, origin = parity.parity_images(eye.preprocess, predictions)
    assert (len(images), origin) == (min(n, 32), "images of the predictions")
    other = predictions.sha256.copy()
    other[: n - 9] = "0" * 64
    images, origin = parity.parity_images(eye.preprocess, dataclasses.replace(predictions, sha256=other))
    assert (len(images), origin) == (9, "images of the predictions")
    gone = np.array(["/nowhere/" + str(i) for i in range(n)], dtype=object)
    images, origin = parity.parity_images(eye.preprocess, dataclasses.replace(predictions, path=gone))
    assert (images.shape, origin) == ((32, SIDE, SIDE, 3), "drawn lesions")
    assert len(np.unique(images.reshape(32, -1), axis=0)) == 32


def test_the_cosine_of_zeros_is_a_number() -> None:
    same = np.ones((3, 4), np.float32)  # one embedding for all images: centred, nothing is left
    told = parity.compare(same, {"embedding": same.copy()}, None, "drawn lesions")
    assert told.smallest_centred_cosine == told.smallest_cosine == 1
    off = parity.compare(same, {"embedding": same + np.eye(3, 4, dtype=np.float32)}, None, "drawn lesions")
    assert off.smallest_centred_cosine == 0


# 8-bit arithmetic


def test_8_bits_are_in_the_linear_layers_and_nowhere_else(
    exported: tuple[Path, ExportCard], exported_int8: tuple[Path, ExportCard]
) -> None:
    path, card = exported_int8
    model = onnx.load(path)
    operations = [node.op_type for node in model.graph.node]
    assert card.arithmetic == "int8"
    assert operations.count("MatMulInteger") == 4 * DEPTH  # qkv, projection, two of the MLP
    assert operations.count("Conv") == 1
    assert operations.count("MatMul") == 2 * DEPTH + 1  # attention's own, and the probe
    names = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert names["probe.weight"] == onnx.TensorProto.FLOAT
    assert sum(kind == onnx.TensorProto.INT8 for kind in names.values()) == 4 * DEPTH
    assert path.stat().st_size < 0.45 * exported[0].stat().st_size
    assert card.parity.mean_centred_cosine > 0.98
    assert card.parity.largest_difference > exported[1].parity.largest_difference


def test_with_8_bits_an_image_does_not_depend_on_its_batch(exported_int8: tuple[Path, ExportCard]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)
    rgb[1:3] //= 8  # its neighbours are dark
    opened = session(exported_int8[0])
    together = opened.run(None, {"rgb": rgb})[0]
    alone = np.concatenate([opened.run(None, {"rgb": rgb[i : i + 1]})[0] for i in range(5)])
    assert np.array_equal(together, alone)


def linear(W: np.ndarray, *before: str) -> onnx.ModelProto:
    """Return a graph of ``x`` (n, t, D), an operation or none, and a product with W (D, K)."""
    nodes = [helper.make_node(op, ["x"], ["h"], approximate="none") for op in before]
    nodes.append(helper.make_node("MatMul", ["h" if before else "x", "W"], ["y"]))
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", "t", W.shape[0]])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", "t", W.shape[1]])
    made = helper.make_graph(nodes, "linear", [x], [y], [numpy_helper.from_array(W, "W")])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    return np.asarray(onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0])


def test_8_bit_products_are_exact_on_what_8_bits_hold() -> None:
    rng = np.random.default_rng(0)
    W = rng.integers(-63, 64, (64, 5)).astype(np.float32)
    W[:2] = [[127], [-127]]  # of neighbours those of one sign must not sum to more than 127
    W *= np.array([1, 0.5, 2, 1, 1], np.float32)  # a scale an output
    x = rng.integers(-20, 21, (2, 3, 64)).astype(np.float32)
    x[..., 0] = 127
    x *= np.array([1, 100, 0.01], np.float32)[:, None]  # a scale a row
    model = linear(W)
    assert int8.to_int8(model, name="linear") == 1
    assert np.allclose(run(model, x), x @ W, rtol=1e-5)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("before", [(), ("Gelu",)])
def test_8_bit_products_do_not_saturate_on_any_processor(before: tuple[str, ...], sign: int) -> None:
    """The largest numbers there can be: an AVX2 processor adds two such products in 16 bits."""
    W, x = np.full((65, 3), sign * 0.7, np.float32), np.full((1, 2, 65), 3.0, np.float32)
    model = linear(W, *before)
    assert int8.to_int8(model, name="linear") == 1
    seen = x * 0.99865 if before else x  # Gelu(3)
    assert np.allclose(run(model, x), seen @ W, rtol=0.01)


def test_a_row_of_large_numbers_costs_the_others_nothing() -> None:
    rng = np.random.default_rng(1)
    W, x = rng.normal(size=(64, 8)).astype(np.float32), rng.normal(size=(1, 4, 64)).astype(np.float32)
    model = linear(W)
    int8.to_int8(model, name="linear")
    quiet = run(model, x)
    x[0, 0] *= 1000
    assert np.array_equal(run(model, x)[0, 1:], quiet[0, 1:])
    assert not run(model, np.zeros((1, 2, 64), np.float32)).any()


def test_behind_gelu_the_zero_lies_near_the_end() -> None:
    rng = np.random.default_rng(2)
    W = rng.integers(-63, 64, (256, 8)).astype(np.float32)
    W[:2] = [[127], [-127]]  # 8 bits hold these weights: what is lost is lost in the activations
    x = 3 * rng.normal(size=(4, 16, 256)).astype(np.float32)
    wanted = run(linear(W, "Gelu"), x)
    known, unknown = linear(W, "Gelu"), linear(W, "Gelu")
    int8.to_int8(known, name="linear")
    unknown.graph.node[0].op_type = "Relu"
    int8.to_int8(unknown, name="linear")
    unknown.graph.node[0].op_type = "Gelu"
    error, other = (float(np.square(run(model, x) - wanted).mean()) for model in (known, unknown))
    assert error < 0.5 * other


def test_weights_that_are_kept_stay_as_they_are() -> None:
    W = np.ones((64, 8), np.float32)
    with pytest.raises(UsageError, match="--int8 is for networks of matrix products"):
        int8.to_int8(linear(W), name="linear", keep=("W",))


@pytest.mark.usefixtures("quick")
def test_a_drift_is_warned_of(eye: panderm.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "_DRIFT", 0.9999999)
    with pytest.warns(PandermWarning, match=r"worst has a centred cosine of 0\.\d+ to float32"):
        panderm.export(eye, tmp_path / "a.onnx", int8=True, progress=False)
    assert (tmp_path / "a.onnx").is_file()
    panderm.export(eye, tmp_path / "b.onnx", progress=False)  # float32 has no such warning


# What it refuses


@pytest.mark.parametrize(
    "other",
    [
        {"weights_sha256": "f" * 64, "random": False},
        {"pool": "mean"},
        {"image_size": 80},
        {"preprocess": {"resize": 64}},
        {"dim": 96},
    ],
)
def test_a_probe_of_another_encoder_is_refused(
    eye: panderm.Encoder, predictions: Predictions, tmp_path: Path, other: dict[str, Any]
) -> None:
    record = eye.record.model_copy(update={**other, "name": "other-encoder"})
    stranger = panderm.Encoder(eye.network, eye.preprocess, record, eye.account, eye.device)
    with pytest.raises(ParentsError) as caught:
        panderm.export(stranger, tmp_path / "x.onnx", probe=predictions, progress=False)
    text = str(caught.value)
    assert "fitted on embeddings of random-tiny (pool cls, 64 pixels" in text
    assert "this is other-encoder" in text
    assert f"differ in: {next(iter(other))}" in text
    assert not list(tmp_path.iterdir())


def test_predictions_without_a_probe_are_refused(
    eye: panderm.Encoder, predictions: Predictions, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="must hold the probe that made them"):
        panderm.export(eye, tmp_path / "x.onnx", probe=dataclasses.replace(predictions, fitted=None))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("where", ["encoder", "probe"])
def test_a_file_that_does_not_agree_is_not_kept(
    eye: panderm.Encoder,
    predictions: Predictions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    (tmp_path / "x.onnx").write_bytes(b"what was there")
    whole, add_probe = graph.encoder_graph, graph.add_probe

    def bent(*_: object, **__: object) -> onnx.ModelProto:
        model = whole(torch.nn.Identity(), eye.preprocess, name="")
        norm = next(x for x in model.graph.initializer if x.name.endswith("norm.bias"))
        norm.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(norm) + np.float32(0.01), norm.name))
        return model

    def warm(model: onnx.ModelProto, probe: Any) -> None:
        add_probe(model, dataclasses.replace(probe, temperature=probe.temperature * 1.2))

    monkeypatch.setattr(graph, *(("encoder_graph", bent) if where == "encoder" else ("add_probe", warm)))
    with pytest.raises(ArtifactError, match=r"agree with its encoder(.|\n)*was not kept"):
        panderm.export(eye, tmp_path / "x.onnx", probe=predictions, overwrite=True, progress=False)
    assert [f.read_bytes() for f in tmp_path.iterdir()] == [b"what was there"]


def test_what_is_there_is_not_replaced_unasked(
    eye: panderm.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "parity_images", lambda *_: pytest.fail("work was done before the check"))
    (tmp_path / "x.onnx").write_bytes(b"")
    with pytest.raises(ArtifactError, match="must not exist already"):
        panderm.export(eye, tmp_path / "x.onnx")


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(
    eye: panderm.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError) as caught:
        panderm.export(eye, tmp_path / "x.onnx")
    assert f"not installed: {missing}" in str(caught.value)
    assert "pip install 'panderm[onnx]'" in str(caught.value)


def test_an_encoder_too_large_for_one_file_is_refused(
    eye: panderm.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "MOST_BYTES", 100_000)
    with pytest.raises(UsageError, match="at most 2 GB"):
        panderm.export(eye, tmp_path / "x.onnx", progress=False)
    assert not list(tmp_path.iterdir())


def test_a_network_that_cannot_be_written_is_one_message(eye: panderm.Encoder, tmp_path: Path) -> None:
    class Fickle(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            mean = pixels.mean(dim=(2, 3))
            return mean if float(mean.sum()) > 0 else -mean

    fickle = panderm.Encoder(
        Fickle(), eye.preprocess, eye.record.model_copy(update={"dim": 3}), eye.account, eye.device
    )
    with pytest.raises(UsageError, match="of a kind that ONNX can express"):
        panderm.export(fickle, tmp_path / "x.onnx", progress=False)
    assert not list(tmp_path.iterdir())


# The command line and the page


def test_the_command_line(
    eye: panderm.Encoder,
    predictions: Predictions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("panderm.models.load.load_encoder", lambda *_, **__: eye)
    predictions.save(tmp_path / "probe.pred")
    words = ["export", "random-tiny", str(tmp_path / "x.onnx"), "--with", str(tmp_path / "probe.pred"), "-q"]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0, said.output
    assert "probabilities of keratosis, melanoma, nevus" in said.stdout
    assert f"same class in {min(32, len(predictions))} of" in said.stdout
    assert "Licence of the weights: CC BY-NC-ND 4.0" in said.stdout
    assert said.stderr == ""
    assert capfd.readouterr() == ("", "")  # the exporter and ONNX Runtime keep silent
    again = CliRunner().invoke(app, [*words, "--json"])
    assert again.exit_code == 2
    assert "must not exist already" in json.loads(again.stdout)["error"]["must"]
    monkeypatch.setattr(graph, "encoder_graph", lambda *_, **__: without_probe(tmp_path / "x.onnx"))
    told = CliRunner().invoke(app, [*words, "--json", "--overwrite"])
    assert json.loads(told.stdout)["parity"]["same_class"] == min(32, len(predictions))
    assert json.loads(told.stdout)["bytes"] == (tmp_path / "x.onnx").stat().st_size


@pytest.fixture(scope="module")
def desk(
    encoder: panderm.Encoder, world: DrawnWorld, predictions: Predictions, tmp_path_factory: Any
) -> tuple[Path, Any]:
    """A folder with lesions.onnx of the real input size, 224, and a probe for it."""
    folder = tmp_path_factory.mktemp("desk")
    known = next(c for c in cards.KNOWN if c.name == "random-tiny")
    network = build(known.model_copy(update={"depth": 1}), "cls")
    state = draw_weights({name: value.shape for name, value in network.state_dict().items()}, 0)
    network.load_state_dict(state, strict=True, assign=True)
    eye = panderm.Encoder(network, encoder.preprocess, encoder.record, encoder.account, encoder.device)
    emb = eye.embed(panderm.read_table(world.csv, images=world.images, progress=False), progress=False)
    made = panderm.probe(emb, C=1e-3)
    panderm.export(eye, folder / "lesions.onnx", probe=made, progress=False)
    return folder, lambda path: made.probe.probabilities(  # type: ignore[union-attr]
        eye.encode(eye.preprocess(panderm.read_image(path))[None]).numpy()
    )[0]


@pytest.mark.parametrize(
    ("size", "turned"), [((1024, 768), 1), ((450, 601), 1), ((600, 450), 6), ((333, 333), 1), ((200, 150), 1)]
)
def test_the_ten_lines_of_the_page_give_our_own_probabilities(
    desk: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], turned: int
) -> None:
    folder, ours = desk
    code = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)[1]  # type: ignore[index]
    tree = ast.parse(code)
    named = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    named |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert named == {"json", "os", "numpy", "onnxruntime", "PIL"}
    (path,) = re.findall(r'open\("(.*?)"\)', code)
    monkeypatch.chdir(folder)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    rgb, _ = draw_lesion(np.random.default_rng(sum(size)), label="melanoma", size=size)
    exif = Image.Exif()
    exif[0x0112] = turned
    Image.fromarray(rgb).save(path, quality=92, exif=exif)
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    assert 0.05 < ours(path).max() < 0.95  # not the corner where all files agree
    assert np.abs(names["probabilities"][0] - ours(path)).max() < 1e-3
    assert len(names["card"]["classes"]) == 3
    lines = [line for line in code.splitlines() if line and not line.startswith(("import", "from", "os."))]
    assert len(lines) == 10


def test_onnx_runtime_is_kept_from_reporting_before_it_is_opened() -> None:
    code = (
        "import os, sys; os.environ.pop('ORT_DISABLE_TELEMETRY', None); import panderm.exported.export\n"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1' and 'onnxruntime' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
