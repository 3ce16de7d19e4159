"""Cross-validation: every row out of fold, patients whole, and what is told of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.errors import DataError, ParentsError, UsageError
from panderm.scores import differences
from panderm.tasks import folds as task
from panderm.tasks.folds import cross_validate, deal_folds
from panderm.tasks.image_free import image_free


@pytest.fixture(scope="module")
def made(embeddings: panderm.Embeddings) -> panderm.Predictions:
    return cross_validate(embeddings, folds=3, progress=False)


def test_every_row_is_predicted_once_and_no_patient_is_torn(
    embeddings: panderm.Embeddings, made: panderm.Predictions
) -> None:
    rows = embeddings.rows
    for name, ours in (("image", made.image), ("label", made.truth), ("patient", made.patient)):
        assert ours.tolist() == getattr(rows, name).tolist()
    assert set(made.fold) == {"1", "2", "3"}
    for unit in (rows.patient, rows.group, rows.sha256):
        assert all(len(set(made.fold[unit == one])) == 1 for one in set(unit))
    assert all(set(rows.label[made.fold == f]) == set(rows.classes) for f in "123")
    assert np.allclose(made.probabilities.sum(axis=1), 1)
    assert made.probe is None


def test_a_fold_is_predicted_by_a_probe_of_the_others(
    embeddings: panderm.Embeddings, made: panderm.Predictions
) -> None:
    rows = embeddings.rows
    held = made.fold == "2"
    by_hand = panderm.LinearProbe().fit(
        embeddings.vectors[~held], rows.label[~held], groups=rows.patient[~held]
    )
    order = [by_hand.classes_.tolist().index(c) for c in made.classes]
    theirs = by_hand.predict_proba(embeddings.vectors[held])[:, order]
    assert np.allclose(made.probabilities[held], theirs, atol=1e-6)
    assert made.card.outcome["fold 2"]["C"] == by_hand.C_


def test_labels_of_a_fold_have_no_part_in_its_predictions(
    embeddings: panderm.Embeddings, made: panderm.Predictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "deal_folds", lambda *_, **__: made.fold)
    held = np.flatnonzero(made.fold == "1")
    label = embeddings.rows.label.copy()
    label[held] = label[held][::-1]
    rows = replace(embeddings.rows, label=label)
    other = panderm.Embeddings(embeddings.vectors, rows, embeddings.card)
    again = cross_validate(other, folds=3, progress=False)
    assert np.array_equal(again.probabilities[held], made.probabilities[held])
    assert not np.array_equal(again.probabilities, made.probabilities)


def test_the_seed_deals_and_the_order_of_rows_does_not(embeddings: panderm.Embeddings) -> None:
    rows = embeddings.rows
    order = np.random.default_rng(0).permutation(len(rows))
    assert np.array_equal(deal_folds(rows.select(order), 4), deal_folds(rows, 4)[order])
    assert not np.array_equal(deal_folds(rows, 4), deal_folds(rows, 4, seed=1))


def test_folds_of_the_users_own(
    embeddings: panderm.Embeddings, made: panderm.Predictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = np.array([{"1": "b", "2": "a", "3": None}[f] for f in made.fold], dtype=object)
    monkeypatch.setattr(task, "columns_of", lambda rows, names, **_: {names[0]: named})
    two = cross_validate(embeddings, fold_column="site", progress=False)
    assert two.fold.tolist() == [f for f in named if f is not None]
    assert two.card.method["folds by"] == "column site"
    seen = [who for who, f in zip(embeddings.rows.patient, named, strict=True) if f is not None]
    several = next(who for who in seen if seen.count(who) > 1)
    named[np.flatnonzero(embeddings.rows.patient == several)[0]] = "c"
    with pytest.raises(DataError, match="must be of one fold"):
        cross_validate(embeddings, fold_column="site", progress=False)


def test_what_cannot_be_cross_validated(embeddings: panderm.Embeddings) -> None:
    patients = len(set(embeddings.rows.patient))
    with pytest.raises(UsageError, match=f"found {patients + 1}, and {patients} groups"):
        cross_validate(embeddings, folds=patients + 1, progress=False)
    with pytest.raises(UsageError, match="must name splits"):
        cross_validate(embeddings, folds_of=["trian"], progress=False)
    label = embeddings.rows.label.copy()
    label[embeddings.rows.patient == embeddings.rows.patient[0]] = "rare"
    card = embeddings.card.table.model_copy(update={"classes": (*embeddings.rows.classes, "rare")})
    rows = replace(embeddings.rows, label=label, card=card)
    with pytest.raises(DataError, match="two folds or more") as raised:
        cross_validate(panderm.Embeddings(embeddings.vectors, rows, embeddings.card), progress=False)
    assert "'rare'" in raised.value.found[0]


def test_scores_of_folds_are_kept_and_read_again(made: panderm.Predictions, tmp_path: Path) -> None:
    opened = panderm.open_predictions(made.save(tmp_path / "cv.pred"))
    assert opened.fold.tolist() == made.fold.tolist()
    assert opened.card.identity == made.card.identity
    scores = panderm.evaluate(opened, draws=50)
    again = panderm.Scores.open(scores.save(tmp_path / "cv.json"))
    assert again.folds == scores.folds is not None
    by_hand = [
        (made.truth == np.array(made.classes)[made.predicted_codes()])[made.fold == f].mean() for f in "123"
    ]
    assert scores.folds.over["accuracy"].mean == pytest.approx(np.mean(by_hand))
    assert [one.n for one in scores.folds.each] == [(made.fold == f).sum() for f in "123"]
    html = panderm.Report(opened, scores).html()
    assert "Fold by fold" in html
    assert "scored out of fold, in 3 folds" in html
    assert "scored on the 3 folds split" not in html


def test_a_fold_without_a_class_has_no_score_that_needs_it(made: panderm.Predictions) -> None:
    kept = ~((made.fold == "1") & (made.truth == "melanoma"))
    part = replace(
        made,
        **{
            name: getattr(made, name)[kept]
            for name in ("image", "path", "sha256", "patient", "group", "truth", "probabilities", "fold")
        },
    )
    found = panderm.evaluate(part, draws=20).folds
    assert found is not None
    assert found.each[0].scores["auroc_ovo"] is None
    assert found.each[0].reasons["auroc_ovo"] == "class 'melanoma' has no row among those scored"
    over = found.over["auroc_ovo"]
    assert (over.folds, over.reason) == (2, "computable in 2 of 3 folds")
    assert over.mean == pytest.approx(np.mean([one.scores["auroc_ovo"] for one in found.each[1:]]))


def test_side_by_side_only_where_the_folds_are_the_same(made: panderm.Predictions) -> None:
    (same,) = differences([made, made], draws=20)
    assert same["auroc_ovo"].value == 0
    with pytest.raises(ParentsError, match="side by side"):
        differences([made, replace(made, fold=np.roll(made.fold, 1))], draws=20)
    with pytest.raises(ParentsError, match="side by side"):
        differences([made, replace(made, fold=None)], draws=20)


def test_an_image_free_baseline_says_that_it_cannot(made: panderm.Predictions) -> None:
    with pytest.raises(DataError, match="image-free baseline"):
        image_free(made)


def test_the_command_line(embeddings: panderm.Embeddings, tmp_path: Path) -> None:
    folder, out = str(embeddings.path), str(tmp_path / "cv.pred")
    ask = ["probe", folder, "--out", out, "-q"]
    done = CliRunner().invoke(app, [*ask, "--folds", "3", "--unit", "lesion", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["method"]["folds"] == 3
    assert told["rows"] == len(set(embeddings.rows.group)) < len(embeddings)
    shown = CliRunner().invoke(app, ["evaluate", out, "--draws", "20"])
    assert "mean ± 1.96·SE" in shown.output
    for wrong in (
        ["--folds-of", "train"],
        ["--folds", "3", "--test-on", folder],
        ["--folds", "3", "--val", "x"],
    ):
        assert CliRunner().invoke(app, [*ask, "--overwrite", *wrong]).exit_code == 2
