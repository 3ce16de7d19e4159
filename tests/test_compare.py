"""Comparing predictors: brute force, laws, what is refused, and how often there is a false alarm."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.errors import DataError, ParentsError, UsageError
from panderm.predictions import MultiLabelPredictions, Predictions
from panderm.scores.compare import compare
from panderm.statistics.permutation import paired_permutation

FEW = {"draws": 200, "permutations": 199, "progress": False}


@pytest.fixture(scope="module")
def base(embeddings: panderm.Embeddings) -> Predictions:
    """A card to draw predictions under."""
    return panderm.probe(embeddings, progress=False)


def predictor(
    base: Predictions, truth: np.ndarray, patients: np.ndarray, *, seed: int, skill: float, name: str
) -> Predictions:
    """Return predictions of drawn rows by a predictor that sees the truth through noise."""
    rng = np.random.default_rng(seed)
    classes = tuple(f"c{k}" for k in range(truth.max() + 1))
    logits = rng.normal(size=(len(truth), len(classes))) + skill * np.eye(len(classes))[truth]
    chances = np.exp(logits)
    card = base.card.model_copy(
        update={"classes": classes, "rows": len(truth), "validation": None, "name": name}
    )
    blank = np.full(len(truth), None, dtype=object)
    return Predictions(
        image=np.array([f"{i}.png" for i in range(len(truth))], dtype=object),
        path=blank,
        sha256=blank,
        patient=patients.astype(object),
        group=blank,
        truth=np.array([classes[k] for k in truth], dtype=object),
        probabilities=chances / chances.sum(axis=1, keepdims=True),
        card=card,
    )


def rows(given: Predictions, at: np.ndarray) -> Predictions:
    return given.select(at, given.card.model_copy(update={"rows": len(at)}))


@pytest.fixture(scope="module")
def two(base: Predictions) -> tuple[Predictions, Predictions]:
    """A worse and a better predictor of 120 rows of 40 patients, two classes."""
    truth, patients = np.arange(120) % 2, np.array([f"p{i // 3}" for i in range(120)])
    return (
        predictor(base, truth, patients, seed=1, skill=0.3, name="worse"),
        predictor(base, truth, patients, seed=2, skill=2.5, name="better"),
    )


def test_the_difference_is_that_of_scikit_learn_and_found(two: tuple[Predictions, Predictions]) -> None:
    found = compare(two, score=["auroc", "balanced_accuracy"], margin=0.02, **FEW)
    aucs = [roc_auc_score(one.truth == "c1", one.probabilities[:, 1]) for one in two]
    balanced = [balanced_accuracy_score(one.truth_codes(), one.predicted_codes()) for one in two]
    for pair, values in zip(found.pairs, (aucs, balanced), strict=True):
        assert pair.difference.value == pytest.approx(values[1] - values[0])
        assert pair.difference.low is not None
        assert pair.difference.low > 0
        assert pair.p == 1 / 200  # the fewest that 199 swaps allow
        assert pair.p_holm == 2 / 200
        assert pair.non_inferiority is not None
        assert pair.non_inferiority.holds
    assert (found.n, found.clusters, found.unit, found.family) == (120, 40, "patient", 2)


def test_swaps_of_few_patients_are_all_of_them(base: Predictions) -> None:
    truth, patients = np.arange(22) % 2, np.array([f"p{i // 2}" for i in range(22)])
    pair = [predictor(base, truth, patients, seed=s, skill=1, name=str(s)) for s in (5, 6)]
    found = compare(pair, score=["accuracy"], draws=50, permutations=3000, progress=False).pairs[0]
    right = [one.predicted_codes() == truth for one in pair]
    gained = (right[1].astype(int) - right[0]).reshape(11, 2).sum(axis=1)
    worlds = [abs(gained @ signs) for signs in itertools.product((1, -1), repeat=11)]
    assert (found.exact, found.worlds) == (True, 2048)
    assert found.p == np.mean(np.array(worlds) >= abs(gained.sum()))


def test_swapped_the_other_way_round(two: tuple[Predictions, Predictions]) -> None:
    there, back = compare(two, **FEW).pairs, compare(two[::-1], **FEW).pairs
    for one, other in zip(there, back, strict=True):
        assert one.difference.value == pytest.approx(-other.difference.value)
        assert one.difference.low == pytest.approx(-other.difference.high)
        assert one.p == other.p
        assert [t.p for t in one.tests] == [t.p for t in other.tests]


def test_one_and_the_same_predictor_does_not_differ(two: tuple[Predictions, Predictions]) -> None:
    for pair in compare([two[0], two[0]], **FEW).pairs:
        assert (pair.difference.value, pair.difference.low, pair.difference.high) == (0, 0, 0)
        assert pair.p == pair.p_holm == 1
    assert [m.name for m in compare([two[0], two[0]], **FEW).models] == ["worse (1)", "worse (2)"]


def test_the_order_of_the_others_rows_does_not_matter(two: tuple[Predictions, Predictions]) -> None:
    shuffled = rows(two[1], np.random.default_rng(0).permutation(120))
    assert compare([two[0], shuffled], **FEW) == compare(two, **FEW)


def test_other_images_are_refused_or_the_common_ones_kept(two: tuple[Predictions, Predictions]) -> None:
    fewer = rows(two[1], np.arange(6, 120))
    with pytest.raises(ParentsError, match=r"(?s)worse: 120 images, 6 not in all: 0\.png.*--common"):
        compare([two[0], fewer], **FEW)
    found = compare([two[0], fewer], common=True, **FEW)
    assert (found.n, [m.left_out for m in found.models]) == (114, [6, 0])
    same = compare([rows(two[0], np.arange(6, 120)), fewer], **FEW)
    assert found.pairs == same.pairs
    with pytest.raises(DataError, match="in common"):
        compare([rows(two[0], np.arange(6)), fewer], common=True, **FEW)


def test_what_does_not_agree_is_refused(two: tuple[Predictions, Predictions]) -> None:
    one, other = two
    truth = other.truth.copy()
    truth[3] = "c0"
    with pytest.raises(ParentsError, match=r"(?s)truth of every image.*3\.png: c1 in worse, c0 in better"):
        compare([one, replace(other, truth=truth)], common=True, **FEW)
    patient = other.patient.copy()
    patient[7] = "someone else"
    with pytest.raises(ParentsError, match=r"(?s)patient of every image.*7\.png: p2 in worse"):
        compare([one, replace(other, patient=patient)], common=True, **FEW)
    card = other.card.model_copy(update={"classes": ("c1", "c0")})
    with pytest.raises(ParentsError, match="same classes"):
        compare([one, replace(other, card=card)], **FEW)
    with pytest.raises(DataError, match=r"1\.png has several"):
        compare([one, rows(other, np.array([0, 1, 1, 2]))], common=True, **FEW)
    with pytest.raises(ParentsError, match="all be out of fold"):
        compare([one, replace(other, fold=other.image)], **FEW)
    for asked, told in (
        ({"score": ["auroc_ovo"]}, "no score"),
        ({"pairs": "some"}, "--pairs"),
        ({"margin": 0}, "--margin"),
        ({"margin": float("nan")}, "--margin"),
        ({"draws": 0}, "--draws"),
    ):
        with pytest.raises(UsageError, match=told):
            compare(two, **{**FEW, **asked})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="two predictions or more"):
        compare([one], **FEW)


def test_patients_known_to_one_are_told_to_the_other(two: tuple[Predictions, Predictions]) -> None:
    blank = np.full(120, None, dtype=object)
    assert compare([two[0], replace(two[1], patient=blank)], **FEW).pairs == compare(two, **FEW).pairs
    alone = compare([replace(one, patient=blank) for one in two], score=["accuracy"], **FEW)
    assert (alone.unit, alone.clusters) == ("image", 120)
    assert [test.name for test in alone.pairs[0].tests] == ["McNemar, mid-p", "McNemar, exact"]


def test_too_few_to_say_is_said(two: tuple[Predictions, Predictions]) -> None:
    fewest = [rows(one, np.arange(27)) for one in two]
    for pair in compare(fewest, margin=0.1, **FEW).pairs:
        assert pair.difference.too_few
        assert pair.difference.reason == "too few to say: 9 patients, and 10 are needed"
        assert pair.p is pair.p_holm is pair.non_inferiority is None
    rare = np.flatnonzero((two[0].truth == "c0") | (np.arange(120) < 12))
    auroc, accuracy = compare([rows(one, rare) for one in two], **FEW).pairs
    assert auroc.difference.reason == "too few to say: 4 patients of class 'c1', and 10 are needed"
    assert accuracy.p is not None
    assert accuracy.p_holm == accuracy.p  # a test that could not be made does not count


def test_several_pairs_are_one_family(base: Predictions, two: tuple[Predictions, Predictions]) -> None:
    third = predictor(base, two[0].truth_codes(), two[0].patient, seed=3, skill=0.5, name="third")
    first = compare([*two, third], score=["accuracy"], **FEW)
    every = compare([*two, third], score=["accuracy"], pairs="all", **FEW)
    assert [(p.first, p.other) for p in first.pairs] == [("worse", "better"), ("worse", "third")]
    assert [(p.first, p.other) for p in every.pairs][2] == ("better", "third")
    assert [p.difference for p in every.pairs[:2]] == [p.difference for p in first.pairs]
    assert (first.family, every.family) == (2, 3)


def test_several_labels_an_image(base: Predictions, two: tuple[Predictions, Predictions]) -> None:
    given = []
    truth = np.random.default_rng(0).integers(-1, 2, (120, 3)).astype(np.int8)
    for seed, skill in ((1, 0.2), (2, 2.0)):
        noise = np.random.default_rng(seed).normal(size=(120, 3))
        chances = 1 / (1 + np.exp(-(noise + skill * truth)))
        card = two[0].card.model_copy(
            update={"classes": ("a", "b", "c"), "labels": "several", "name": str(seed)}
        )
        held = {name: getattr(two[0], name) for name in ("image", "path", "sha256", "patient", "group")}
        given.append(MultiLabelPredictions(**held, truth=truth, probabilities=chances, card=card))
    found = compare(given, **FEW)
    assert [pair.score for pair in found.pairs] == ["macro_auroc", "macro_average_precision"]
    known = truth >= 0
    aucs = [
        np.mean([roc_auc_score(truth[known[:, k], k], g.probabilities[known[:, k], k]) for k in range(3)])
        for g in given
    ]
    assert found.pairs[0].difference.value == pytest.approx(aucs[1] - aucs[0])
    assert found.pairs[0].p == 1 / 200
    with pytest.raises(ParentsError, match="several labels"):
        compare([given[0], two[0]], **FEW)


def test_the_verb_writes_what_opens_again(tmp_path: Path, two: tuple[Predictions, Predictions]) -> None:
    paths = [str(one.save(tmp_path / f"{one.card.name}.pred")) for one in two]
    out = tmp_path / "comparison.json"
    asked = [
        "compare",
        *paths,
        "--out",
        str(out),
        "--draws",
        "200",
        "--permutations",
        "199",
        "--margin",
        "0.02",
    ]
    told = CliRunner().invoke(app, [*asked, "--json"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout) == json.loads(out.read_text("utf-8"))
    assert panderm.Comparison.open(out) == compare(two, margin=0.02, **FEW)
    shown = CliRunner().invoke(app, [*asked, "--overwrite"])
    assert "better − worse" in shown.output
    assert "McNemar, clustered (Obuchowski)" in shown.output
    assert "40 patients resampled, 200 draws, seed 0" in " ".join(shown.output.split())
    assert CliRunner().invoke(app, asked).exit_code == 2  # nothing is replaced unasked
    out.write_text("{}", "utf-8")
    with pytest.raises(panderm.PandermError, match="panderm compare --out"):
        panderm.Comparison.open(out)


def test_false_alarms_keep_their_level_where_patients_are_swapped_whole() -> None:
    rng, studies = np.random.default_rng(0), 200
    patients = np.repeat(np.arange(30), 4)
    alarms = 0
    for seed in range(studies):
        taste = np.repeat(rng.normal(0, 1.5, 30), 4)
        right = np.concatenate([rng.normal(0.5 + taste) > 0, rng.normal(0.5 - taste) > 0]).astype(float)
        alarms += paired_permutation(lambda w, r=right: w @ r, patients, permutations=99, seed=seed).p <= 0.05
    assert 3 <= alarms <= 19  # of 200, at 5 %: 10 expected
