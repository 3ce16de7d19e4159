"""A fine-tuned classifier's file and run predict new images, and are exported with their head."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import panderm
from panderm.classifying.calibrated import calibrated
from panderm.classifying.classifier import Classifier, load_classifier
from panderm.classifying.file import (
    NAME,
    ClassifierRecord,
    amend_classifier,
    finetuned_card,
    write_classifier,
)
from panderm.classifying.predict import predict
from panderm.cli import app
from panderm.data.drawn import DrawnWorld
from panderm.errors import UsageError
from panderm.exported import graph
from panderm.exported.export import export
from panderm.exported.parity import resized
from panderm.finetuning.network import Started, network_for
from panderm.fitted import FittedLinear
from panderm.models import network as layout
from panderm.models.names import find_card
from panderm.predictions import Predictions

CLASSES = ("keratosis", "melanoma", "nevus")


def started(folder: Path) -> Started:
    """Two blocks of 48 numbers in PanDerm's layout, somewhere else than where they began.

    Numbers of their own: what a file answers is remembered by its bytes.
    """
    card = find_card("dermlip-panderm-base", image_size=32)
    card = card.model_copy(update={"name": "mine", "dim": 48, "depth": 2, "heads": 3, "files": ()})
    shapes = {name: one.shape for name, one in layout.build(card, "mean").state_dict().items()}
    state = {k: v for k, v in layout.draw_weights(shapes, 5).items() if not k.startswith("fc_norm")}
    save_file(state, folder / "mine.safetensors")
    (folder / "mine.json").write_text(card.model_dump_json())
    return network_for(weights=folder / "mine.safetensors", card=folder / "mine.json", classes=len(CLASSES))


def written(path: Path, made: Started, **record: Any) -> Path:
    plain = made.network.plain()
    write_classifier(
        path,
        encoder=plain.encoder,
        weight=plain.weight,
        bias=plain.bias,
        card=finetuned_card(made.card, made.record),
        pool=made.pool,
        record=ClassifierRecord(classes=CLASSES, began=made.record, **record),
        self_test=False,
        overwrite=True,
    )
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Started:
    return started(tmp_path_factory.mktemp("started"))


@pytest.fixture(scope="module")
def run(
    made: Started,
    table: panderm.Table,
    probed: tuple[Path, Predictions],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A run's folder: the classifier calibrated on val rows, and its test predictions with these beside."""
    folder = tmp_path_factory.mktemp("finetuned") / "run"
    folder.mkdir()
    emb = load_classifier(written(folder / NAME, made), device="cpu").encoder.embed(table, progress=False)
    fitted = panderm.probe(emb, C=0.1, progress=False).probe
    assert isinstance(fitted, FittedLinear)
    with torch.no_grad():  # a head that knows something: of any other there is no best temperature
        made.network.head.weight.copy_(torch.from_numpy(fitted.weight))
        made.network.head.bias.copy_(torch.from_numpy(fitted.bias))
    file = written(folder / NAME, made)
    opened = load_classifier(file, device="cpu")
    held = probed[1].validation
    assert held is not None
    of = {split: emb.vectors[np.asarray(table.split == split)] for split in ("val", "test")}
    val = dataclasses.replace(held, probabilities=opened.head.probabilities(of["val"]))
    head, decided = calibrated(
        opened.head, val, positive=["melanoma"], caution="these rows also chose the epoch"
    )
    amend_classifier(file, temperature=head.temperature, calibration=decided.model_dump(mode="json"))
    val = dataclasses.replace(val, probabilities=head.probabilities(of["val"]))
    test = dataclasses.replace(probed[1], probabilities=head.probabilities(of["test"]), validation=val)
    dataclasses.replace(test, fitted=None).save(folder / "test.pred")
    return folder


@pytest.fixture(scope="module")
def classifier(run: Path) -> Classifier:
    return load_classifier(run, device="cpu")


def test_a_classifier_predicts_with_what_its_file_holds(
    run: Path, classifier: Classifier, world: DrawnWorld, tmp_path: Path
) -> None:
    asked = sorted(world.images.iterdir())[:5]
    new = predict(run, asked, tmp_path / "new.csv", positive=["melanoma"], exact=True, progress=False)
    read = [classifier.encoder.preprocess(panderm.read_image(path)) for path in asked]
    assert np.abs(new.probabilities - classifier.probabilities(torch.stack(read))).max() < 1e-6
    assert classifier.record.temperature != 1
    stored = classifier.record.calibration
    assert stored is not None
    assert new.card.decision[0].model_dump(mode="json") == stored["thresholds"][0]
    assert any("these rows also chose the epoch" in note for note in new.card.notes)
    alone = predict(run / NAME, asked, progress=False)  # no class is named, and the file names one
    assert [one.positive for one in alone.card.decision] == [("melanoma",)]


def test_what_the_file_does_not_hold_the_rows_beside_it_say(
    run: Path, world: DrawnWorld, tmp_path: Path
) -> None:
    asked = min(world.images.iterdir())
    new = predict(run, asked, at="cost=5", positive=["melanoma", "keratosis"], coverage=0.7, progress=False)
    assert new.card.decision[0].at == "cost=5"
    assert new.card.sets is not None
    assert new.card.sets.coverage == 0.7
    lone = tmp_path / "lone.safetensors"
    lone.write_bytes((run / NAME).read_bytes())
    with pytest.raises(UsageError, match="must be in the classifier's file") as caught:
        predict(lone, asked, at="cost=5", positive=["melanoma"], progress=False)
    assert "sensitivity=0.95 of melanoma" in str(caught.value)
    given = predict(lone, asked, at="threshold=0.4", positive=["nevus"], progress=False)
    assert given.card.decision[0].threshold == 0.4
    with pytest.raises(UsageError, match="--weights and --card are of the encoder behind"):
        predict(run, asked, weights=lone, progress=False)


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "run.onnx"
    done = CliRunner().invoke(app, ["export", str(run), str(out), "-q"])
    assert done.exit_code == 0, done.output
    assert f"probabilities of {', '.join(CLASSES)}" in done.stdout
    return out


def test_a_run_is_exported_with_its_head(
    run: Path, exported: Path, classifier: Classifier, table: panderm.Table, tmp_path: Path
) -> None:
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    card = json.loads(session.get_modelmeta().custom_metadata_map["panderm"])
    assert card["classes"] == list(CLASSES)
    assert card["probe"]["classifier"] == classifier.encoder.record.weights_sha256
    assert card["probe"]["temperature"] == classifier.record.temperature
    assert card["parity"]["images"] == "images of the predictions"
    rgb = np.stack(
        [resized(panderm.read_image(path), classifier.encoder.preprocess) for path in table.path[:3]]
    )
    found = session.run(["probabilities"], {"rgb": rgb})[0]
    vectors = classifier.encoder.forward_rgb(torch.from_numpy(rgb)).numpy()
    assert np.abs(found - classifier.head.probabilities(vectors)).max() < 1e-5
    for more in (["--weights", str(run / NAME)], ["--with", str(run / "test.pred")]):
        done = CliRunner().invoke(app, ["export", str(run / NAME), str(tmp_path / "b.onnx"), "-q", *more])
        assert done.exit_code == 2, done.output
        assert "a classifier " in done.stderr


def test_labels_of_their_own_are_exported_each_by_itself(
    made: Started, run: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(exported)  # of the same encoder: it is not written again
    kept = [node for node in model.graph.node if not node.name.startswith("probe.")]
    tensors = [one for one in model.graph.initializer if not one.name.startswith("probe.")]
    del model.graph.node[:], model.graph.initializer[:], model.graph.output[1:], model.metadata_props[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(tensors)
    monkeypatch.setattr(graph, "encoder_graph", lambda *_, **__: model)
    file = written(tmp_path / NAME, made, link="sigmoid")
    card = export(file, tmp_path / "signs.onnx", progress=False)
    assert card.probe is not None
    assert card.probe.link == "sigmoid"
    assert (card.parity.largest_probability_difference or 1) < 1e-5
    assert card.parity.images == "drawn lesions"
