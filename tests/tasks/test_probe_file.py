"""The probe that rides in the predictions, and the temperature that makes its probabilities honest."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.special import log_softmax, softmax
from typer.testing import CliRunner

import panderm
from panderm import probe
from panderm.cli import app
from panderm.errors import ArtifactError, DataError, UsageError
from panderm.statistics.temperature import fit_temperature


@pytest.fixture(scope="module")
def saved(embeddings: panderm.Embeddings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions on disk, calibrated: read them, do not change them."""
    folder = tmp_path_factory.mktemp("saved") / "probe.pred"
    probe(embeddings, C=0.1, calibrate="temperature", out=folder)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return panderm.open_predictions(saved).save(tmp_path / "copy.pred")


def in_test(embeddings: panderm.Embeddings) -> np.ndarray:
    return embeddings.vectors[embeddings.rows.split == "test"]


def test_the_probe_gives_the_stored_probabilities(embeddings: panderm.Embeddings, saved: Path) -> None:
    opened = panderm.open_predictions(saved)
    assert opened.probe is not None
    assert opened.probe.classes == opened.classes
    assert np.abs(opened.probe.probabilities(in_test(embeddings)) - opened.probabilities).max() < 1e-6


@pytest.mark.parametrize("recipe", ["tuned", "paper"])
def test_the_probe_is_the_model_that_was_fitted(embeddings: panderm.Embeddings, recipe: Any) -> None:
    made = probe(embeddings, recipe=recipe, C=0.1)
    train = embeddings.select(embeddings.rows.split == "train")
    model = panderm.LinearProbe(recipe, C=0.1).fit_rows(train)
    order = [made.classes.index(c) for c in model.classes_]
    wanted = model.predict_proba(in_test(embeddings))
    assert made.probe is not None
    assert np.allclose(made.probabilities[:, order], wanted, atol=1e-12)
    assert made.probe.temperature == 1


def test_a_class_never_trained_has_probability_zero(embeddings: panderm.Embeddings, tmp_path: Path) -> None:
    two = embeddings.select(embeddings.rows.label != "keratosis")
    made = probe(two, C=0.1, out=tmp_path / "two.pred")
    column = made.classes.index("keratosis")
    opened = panderm.open_predictions(tmp_path / "two.pred")
    assert opened.probe is not None
    again = opened.probe.probabilities(embeddings.vectors)
    assert made.probabilities.shape[1] == 3
    assert not made.probabilities[:, column].any()
    assert not again[:, column].any()
    assert np.allclose(again.sum(axis=1), 1)
    assert [c for c, t in zip(opened.classes, opened.probe.trained, strict=True) if not t] == ["keratosis"]


def test_saving_what_was_opened_loses_nothing(saved: Path, copied: Path) -> None:
    name = "probe.safetensors"
    assert (copied / name).read_bytes() == (saved / name).read_bytes()
    panderm.open_predictions(copied).save(copied, overwrite=True)  # its own probe is read before it goes
    assert (copied / name).read_bytes() == (saved / name).read_bytes()


def test_a_folder_of_an_earlier_version_opens(copied: Path) -> None:
    (copied / "probe.safetensors").unlink()
    opened = panderm.open_predictions(copied)
    assert opened.probe is None
    assert "accuracy" in panderm.evaluate(opened, draws=20).scores


def test_embeddings_of_another_width_are_refused(saved: Path) -> None:
    fitted = panderm.open_predictions(saved).probe
    assert fitted is not None
    with pytest.raises(DataError, match="takes embeddings of 192 numbers"):
        fitted.probabilities(np.zeros((2, 191)))
    with pytest.raises(DataError, match="finite"):
        fitted.probabilities(np.full((1, 192), np.nan))


def rewrite(path: Path, header: dict[str, Any] | None = None, **tensors: np.ndarray) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        told = json.loads(file.metadata()["panderm"])
    save_file({**load_file(path), **tensors}, path, {"panderm": json.dumps({**told, **(header or {})})})


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-40]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_text("<html>"),
        lambda file: save_file({"weight": np.zeros((3, 192))}, file),
        lambda file: rewrite(file, weight=np.full((3, 192), np.nan)),
        lambda file: rewrite(file, weight=np.zeros((3, 191))),
        lambda file: rewrite(file, weight=np.zeros((3, 192), np.int8)),
        lambda file: rewrite(file, bias=np.array([0.0, np.inf, 0.0])),
        lambda file: rewrite(file, bias=np.array([0.0, -np.inf, -np.inf])),
        lambda file: rewrite(file, temperature=np.array([0.0])),
        lambda file: rewrite(file, temperature=np.array([np.nan])),
        lambda file: rewrite(file, {"classes": ["nevus", "melanoma", "keratosis"]}),
        lambda file: rewrite(file, {"classes": 3}),
        lambda file: rewrite(file, {"predictions": "0" * 64}),
    ],
)
def test_a_damaged_probe_is_refused_when_it_is_asked_for(copied: Path, damage: Any) -> None:
    damage(copied / "probe.safetensors")
    opened = panderm.open_predictions(copied)  # scoring does not need it
    with pytest.raises(ArtifactError, match="the probe of predictions must be"):
        _ = opened.probe


def test_a_probe_of_other_predictions_is_refused(embeddings: panderm.Embeddings, copied: Path) -> None:
    other = probe(embeddings, C=0.1, seed=7).save(copied.with_name("other.pred"))
    (copied / "probe.safetensors").write_bytes((other / "probe.safetensors").read_bytes())
    with pytest.raises(ArtifactError, match="is the probe of other predictions"):
        _ = panderm.open_predictions(copied).probe


# Temperature


def test_the_temperature_that_was_drawn_is_found() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(40_000, 4)) * 3
    codes = (z / 2.5 + rng.gumbel(size=z.shape)).argmax(axis=1)
    found = fit_temperature(z, codes)
    assert found.value == pytest.approx(2.5, rel=0.04)
    assert found.n == 40_000
    assert found.after < found.before


def test_no_other_temperature_has_a_smaller_log_loss() -> None:
    rng = np.random.default_rng(1)
    for scale in (1e-3, 1.0, 1e3):
        z = rng.normal(size=(60, 3)) * scale
        codes = (z / scale + rng.gumbel(size=z.shape)).argmax(axis=1)
        found = fit_temperature(z, codes)

        def loss(temperature: float, z: np.ndarray = z, codes: np.ndarray = codes) -> float:
            return float(-log_softmax(z / temperature, axis=1)[np.arange(60), codes].mean())

        assert found.after == pytest.approx(loss(found.value))
        assert found.before == pytest.approx(loss(1.0))
        assert found.after <= min(loss(found.value * f) for f in (0.2, 0.9, 0.999, 1.001, 1.1, 5.0))


@pytest.mark.parametrize(
    ("codes", "found"),
    [([0, 1, 2], "all of 3 validation rows are predicted rightly"), ([1, 2, 0], "no better than chance")],
)
def test_a_temperature_without_a_best_value_is_refused(codes: list[int], found: str) -> None:
    with pytest.raises(DataError) as caught:
        fit_temperature(np.eye(3) * 2, np.array(codes))
    assert found in str(caught.value)


def test_calibrating_divides_the_logits(embeddings: panderm.Embeddings) -> None:
    plain, made = probe(embeddings, C=0.1), probe(embeddings, C=0.1, calibrate="temperature")
    fitted, done = made.probe, made.card.outcome["calibration"]
    assert fitted is not None
    X = in_test(embeddings).astype(np.float64)
    logits = X @ fitted.weight.T + fitted.bias
    assert np.allclose(plain.probabilities, softmax(logits, axis=1), atol=1e-12)
    assert np.allclose(made.probabilities, softmax(logits / done["temperature"], axis=1), atol=1e-12)
    assert abs(done["temperature"] - 1) > 1e-3
    assert np.array_equal(made.predicted_codes(), plain.predicted_codes())
    val = embeddings.select(embeddings.rows.split == "val")
    codes = val.rows.codes()
    before = log_softmax(val.vectors.astype(np.float64) @ fitted.weight.T + fitted.bias, axis=1)
    assert done["rows"] == len(val)
    assert done["log loss before"] == pytest.approx(-before[np.arange(len(val)), codes].mean())
    assert done["log loss after"] < done["log loss before"]


def test_what_was_not_calibrated_keeps_its_identity(embeddings: panderm.Embeddings) -> None:
    plain, made = probe(embeddings, C=0.1), probe(embeddings, C=0.1, calibrate="temperature")
    assert "calibrate" not in plain.card.method
    assert "calibration" not in plain.card.outcome
    assert plain.card.identity != made.card.identity


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"test": "val"}, "the split that is scored"),
        ({"val": "train"}, "the split that is fitted"),
        ({"val": "dev"}, "no row of .* has the split 'dev'"),
    ],
)
def test_calibration_needs_rows_of_its_own(
    embeddings: panderm.Embeddings, options: dict[str, str], found: str
) -> None:
    with pytest.raises(DataError, match="calibration needs val rows") as caught:
        probe(embeddings, calibrate="temperature", **options)  # type: ignore[arg-type]
    assert re.search(found, str(caught.value))


def test_calibration_needs_classes_that_were_trained(embeddings: panderm.Embeddings) -> None:
    rows = embeddings.rows
    some = embeddings.select((rows.label != "keratosis") | (rows.split == "val"))
    with pytest.raises(DataError, match="rows to calibrate on must be among the training rows"):
        probe(some, C=0.1, calibrate="temperature")


def test_a_calibration_of_another_name_is_refused(embeddings: panderm.Embeddings) -> None:
    with pytest.raises(UsageError, match="calibrate must be none or temperature"):
        probe(embeddings, calibrate="platt")  # type: ignore[arg-type]


def test_the_command_line_says_what_it_did(embeddings: panderm.Embeddings, tmp_path: Path) -> None:
    words = ["probe", str(embeddings.path), "--C", "0.1", "--calibrate", "temperature"]
    said = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "a.pred")])
    assert said.exit_code == 0, said.output
    assert "temperature " in said.stdout
    assert "validation rows from" in said.stdout
    assert panderm.open_predictions(tmp_path / "a.pred").probe is not None
    none = CliRunner().invoke(app, [*words, "--test", "val", "--out", str(tmp_path / "b.pred")])
    assert none.exit_code == 2
    assert not (tmp_path / "b.pred").exists()


def test_a_record_is_frozen(saved: Path) -> None:
    fitted = panderm.open_predictions(saved).probe
    assert fitted is not None
    with pytest.raises(dataclasses.FrozenInstanceError):
        fitted.temperature = 2.0  # type: ignore[misc]
