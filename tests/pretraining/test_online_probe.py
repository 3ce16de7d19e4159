"""The probe that watches: which rows it takes, and what it says of features that know the label or do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

import panderm
from panderm.data.preprocess import Preprocess
from panderm.errors import DataError, UsageError
from panderm.pretraining.online_probe import OnlineProbe

SMALL = Preprocess(resize=18, crop=16, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)


def make(table: panderm.Table, **options: int) -> OnlineProbe:
    return OnlineProbe(table, SMALL, draws=200, progress=False, **options)


def without_split(table: panderm.Table) -> panderm.Table:
    return replace(table, split=np.full(len(table), None, dtype=object))


@pytest.fixture(scope="module")
def lesions(table: panderm.Table) -> panderm.Table:
    """The drawn world without its patients: 22 of them are few for three splits."""
    return replace(table, patient=np.full(len(table), None, dtype=object))


@pytest.fixture(scope="module")
def probe(lesions: panderm.Table) -> OnlineProbe:
    return make(lesions)


@pytest.fixture(scope="module")
def larger(lesions: panderm.Table) -> OnlineProbe:
    return make(without_split(lesions))


def told(probe: OnlineProbe, *, signal: float) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Score features of which the class is one direction, as strong as ``signal``."""
    codes = np.concatenate([probe._fitted.codes, probe._scored.codes])
    drawn = np.random.default_rng(1).normal(size=(len(codes), 12))
    drawn[np.arange(len(codes)), codes] += signal
    return probe.score(drawn.astype(np.float32))


def test_train_is_fitted_val_is_scored_and_test_is_never_looked_at(probe: OnlineProbe) -> None:
    record = probe.record
    assert set(probe._fitted.table.split) == {"train"}
    assert set(probe._scored.table.split) == {"val"}
    assert "test was not looked at" in record["rows"]
    assert probe.rgb.shape == (record["images"], 16, 16, 3)
    assert probe.rgb.dtype == np.uint8
    first = SMALL.pixels(panderm.read_image(probe._fitted.table.path[0]))
    assert np.abs(probe.rgb[0].astype(int) - first).max() <= 2


def test_without_val_whole_patients_are_held_out(table: panderm.Table) -> None:
    probe = make(without_split(table))
    ours, theirs = probe._fitted.table, probe._scored.table
    assert probe.record["rows"].startswith(
        "no val split: all 90 rows of the table, of which a part was held out"
    )
    assert not set(ours.patient) & set(theirs.patient)
    assert 0.15 < len(theirs) / (len(ours) + len(theirs)) < 0.45
    assert probe.record["unit"] == "patient"


def test_a_val_split_of_too_few_patients_joins_train(table: panderm.Table) -> None:
    probe = make(table)
    assert probe.record["rows"].startswith("val is too small: all 69 rows of train and val")
    assert not {*probe._fitted.table.image, *probe._scored.table.image} & set(table.in_split("test").image)
    assert not set(probe._fitted.table.patient) & set(probe._scored.table.patient)


def test_fewer_images_are_drawn_by_whole_groups_and_by_class(lesions: panderm.Table) -> None:
    table = lesions
    probe = make(without_split(table), images=45)
    assert 35 <= probe.record["images"] <= 55
    kept = {*probe._fitted.table.image, *probe._scored.table.image}
    unit = np.array([group or image for group, image in zip(table.group, table.image, strict=True)])
    torn = [one for one in set(unit) if 0 < len(kept & set(table.image[unit == one])) < (unit == one).sum()]
    assert torn == []
    assert " of 90 rows" in probe.record["rows"]
    again = make(without_split(table), images=45)
    assert (again.rgb == probe.rgb).all()
    other = make(without_split(table), images=45, seed=1)
    assert set(other._fitted.table.image) != set(probe._fitted.table.image)


def test_features_that_know_the_label_score_higher_than_those_that_hardly_do(larger: OnlineProbe) -> None:
    strong, weak = told(larger, signal=8.0), told(larger, signal=1.5)
    for kind in ("knn", "linear"):
        good, bad = (one[kind]["scores"]["balanced_accuracy"] for one in (strong, weak))
        assert good["value"] > 0.9 > bad["value"] > 0.2
        assert bad["low"] < bad["value"] < bad["high"]
    assert strong["linear"]["converged"]


def test_the_numbers_are_those_of_a_plain_vote(probe: OnlineProbe) -> None:
    codes = np.concatenate([probe._fitted.codes, probe._scored.codes])
    drawn = np.random.default_rng(5).normal(size=(len(codes), 12))
    drawn[np.arange(len(codes)), codes] += 1.2
    drawn += 5  # a mean that all share says nothing
    found = probe.score(drawn.astype(np.float32))["knn"]
    n, tau = len(probe._fitted.codes), found["tau"]
    drawn -= drawn[:n].mean(axis=0)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    share = 1 / np.bincount(codes[:n])
    called = []
    for similar in drawn[n:] @ drawn[:n].T:
        votes = np.zeros(len(share))
        for i in np.argsort(-similar)[: found["k"]]:
            votes[codes[i]] += share[codes[i]] * np.exp((similar[i] - 1) / tau)
        called.append(int(votes.argmax()))
    score = balanced_accuracy_score(codes[n:], called)
    assert found["scores"]["balanced_accuracy"]["value"] == pytest.approx(score)


def test_measure_puts_the_images_to_the_student_in_batches(probe: OnlineProbe) -> None:
    seen: list[int] = []

    def encode(rgb: np.ndarray) -> np.ndarray:
        seen.append(len(rgb))
        return rgb.reshape(len(rgb), -1)[:, :40].astype(np.float32)

    line = probe.measure(encode, batch=32)
    assert sum(seen) == len(probe.rgb)
    assert max(seen) == 32
    assert line["n"] == probe.record["scored"]
    assert {"unit", "units", "seed", "draws"} <= set(line)


def test_a_class_of_one_unit_is_left_out_and_named(lesions: panderm.Table) -> None:
    table = lesions
    label = table.label.copy()
    label[0] = "rare"
    odd = replace(
        table, label=label, card=table.card.model_copy(update={"classes": (*table.classes, "rare")})
    )
    probe = make(odd)
    assert "rare" in probe.record["classes left out"]
    assert "rare" not in probe._fitted.table.label


@pytest.mark.parametrize("options", [{"images": 0}, {"k": 0}, {"seed": -1}])
def test_numbers_that_cannot_be_are_refused(table: panderm.Table, options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        make(table, **options)


def test_one_class_or_no_training_rows_are_refused(table: panderm.Table, probe: OnlineProbe) -> None:
    one = table.select(table.label == table.label[0])
    with pytest.raises(DataError, match="at least two classes"):
        make(one)
    with pytest.raises(DataError, match="rows to fit"):
        make(table.in_split("val"))
    with pytest.raises(DataError, match="one vector"):
        probe.score(np.zeros((3, 2), dtype=np.float32))


def test_features_that_are_no_numbers_are_refused(probe: OnlineProbe) -> None:
    with pytest.raises(DataError, match="finite"):
        probe.score(np.full((len(probe.rgb), 4), np.nan, dtype=np.float32))
