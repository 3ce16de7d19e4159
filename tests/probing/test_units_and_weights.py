"""Lesions and patients as one row, weights of rows, pooled tokens: against the same done by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.embeddings import Embeddings
from panderm.embeddings.card import TokensRecord
from panderm.errors import DataError, UsageError
from panderm.probing.pooled import patch_mean
from panderm.probing.sample_weights import sample_weights
from panderm.probing.units import Units


def with_rows(emb: Embeddings, **columns: Any) -> Embeddings:
    table = emb.rows
    changed = {name: np.array(values, dtype=object) for name, values in columns.items()}
    return Embeddings(np.asarray(emb.vectors), replace(table, **changed), emb.card)


def by_hand(emb: Embeddings) -> pd.DataFrame:
    """Return the mean embedding of each lesion, in the order of their first images."""
    rows = emb.rows
    frame = pd.DataFrame(np.asarray(emb.vectors, dtype=np.float64))
    frame["unit"] = [g or f"alone {i}" for i, g in enumerate(rows.group)]
    return frame.groupby("unit", sort=False).mean()


def test_a_lesion_is_the_mean_of_its_images(embeddings: Embeddings) -> None:
    group = embeddings.rows.group.copy()
    group[:4] = None  # each of these stands alone
    emb = with_rows(embeddings, group=group)
    made = panderm.probe(emb, unit="lesion", C=0.1)
    means = by_hand(emb)
    first = np.array([np.flatnonzero(by_name(group) == name)[0] for name in means.index])
    order = np.argsort(first)
    one = panderm.Embeddings(means.to_numpy(np.float32)[order], emb.rows.select(first[order]), emb.card)
    same = panderm.probe(one, C=0.1)
    assert made.image.tolist() == same.image.tolist()
    assert len(made) < (emb.rows.split == "test").sum()
    assert np.allclose(made.probabilities, same.probabilities, atol=1e-6)
    told = made.card.outcome["units"]
    test = emb.rows.split == "test"
    assert told["images"] == test.sum()
    assert told["lesions"] == len(made)
    assert told["images of no known lesion"] == sum(g is None for g in group[test])


def by_name(group: np.ndarray) -> np.ndarray:
    return np.array([g or f"alone {i}" for i, g in enumerate(group)], dtype=object)


def test_mean_probability_is_that_of_the_images(embeddings: Embeddings) -> None:
    plain = panderm.probe(embeddings, C=0.1)
    made = panderm.probe(embeddings, C=0.1, unit="lesion", unit_pool="probability")
    frame = pd.DataFrame(plain.probabilities).groupby(plain.group, sort=False).mean()
    assert np.allclose(made.probabilities, frame.to_numpy(), atol=1e-12)
    assert made.group.tolist() == frame.index.tolist()
    scores = panderm.evaluate(made, draws=20, progress=False)
    assert (scores.row, scores.n, scores.unit) == ("lesion", len(frame), "patient")


def test_means_of_units_do_not_depend_on_the_order_of_rows(embeddings: Embeddings) -> None:
    order = np.random.default_rng(0).permutation(len(embeddings))
    here, there = Units(embeddings.rows, "lesion"), Units(embeddings.rows.select(order), "lesion")
    X = np.asarray(embeddings.vectors)
    one = dict(zip(here.names[here.first()], here.mean(X), strict=True))
    two = dict(zip(there.names[there.first()], there.mean(X[order]), strict=True))
    assert one.keys() == two.keys()
    assert all(np.allclose(one[name], two[name], atol=1e-6) for name in one)


def test_units_that_are_torn_are_named(embeddings: Embeddings) -> None:
    rows = embeddings.rows
    twice = next(g for g in rows.group if (rows.group == g).sum() > 1)
    at = np.flatnonzero(rows.group == twice)[0]
    split, label = rows.split.copy(), rows.label.copy()
    split[at] = "test" if split[at] != "test" else "train"
    label[at] = next(c for c in rows.classes if c != label[at])
    for columns, must in (({"split": split}, "in one split"), ({"label": label}, "one label")):
        with pytest.raises(DataError, match=must) as told:
            panderm.probe(with_rows(embeddings, **columns), unit="lesion")
        assert twice in str(told.value)
    with pytest.raises(DataError, match="take lesions instead: --unit lesion"):
        panderm.probe(with_rows(embeddings, label=label), unit="patient")
    with pytest.raises(DataError, match="which lesion they show"):
        panderm.probe(with_rows(embeddings, group=[None] * len(rows)), unit="lesion")


def test_a_weight_of_two_is_the_row_twice(embeddings: Embeddings, table: panderm.Table) -> None:
    # The table's own column of months is a weight as good as any.
    frame = pd.read_csv(table.card.csv)
    numbers = [c for c in frame if pd.api.types.is_numeric_dtype(frame[c]) and (frame[c] > 0).all()]
    used = np.flatnonzero(embeddings.rows.split == "train")
    weights = sample_weights(embeddings.rows, numbers[0], used)
    assert np.allclose(weights[used], frame.set_index("image")[numbers[0]][embeddings.rows.image[used]])
    assert (np.delete(weights, used) == 1).all()
    with pytest.raises(DataError, match="numbers greater than 0"):
        sample_weights(embeddings.rows, "image", used)
    with pytest.raises(UsageError, match="did you mean"):
        sample_weights(embeddings.rows, numbers[0] + "x", used)


def test_the_mean_of_tokens_is_theirs_and_the_best_pooling_is_taken(embeddings: Embeddings) -> None:
    rng = np.random.default_rng(0)
    codes = embeddings.rows.codes()
    tokens = rng.normal(size=(len(embeddings), 3, 2, 5)).astype(np.float16)
    tokens[..., 0] += 3 * codes[:, None, None]  # the tokens tell the class, the vectors do not
    card = embeddings.card.model_copy(update={"tokens": TokensRecord(grid=(3, 2), dim=5)})
    noise = rng.normal(size=(len(embeddings), 5)).astype(np.float32)
    emb = Embeddings(noise, embeddings.rows, card, tokens=tokens)
    rows = np.array([3, 5, 80])
    assert np.allclose(patch_mean(emb, rows), tokens[rows].astype(float).mean(axis=(1, 2)), atol=1e-5)
    made = panderm.probe(emb, pooling="choose", progress=False)
    told = made.card.outcome
    assert told["inputs"] in ("mean", "both")
    losses = told["log loss of inputs"]
    assert losses[told["inputs"]] == min(losses.values())
    assert losses["mean"] < losses["cls"]
    assert "5-fold cross-validation" in told["inputs chosen on"]
    alone = panderm.probe(emb, pooling=told["inputs"], progress=False)
    assert np.array_equal(made.probabilities, alone.probabilities)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--unit lesion --percent-data 0.5", ("--percent-data", "--unit")),
        ("--unit-pool probability", ("--unit-pool", "--unit image")),
        ("--kind knn --C 1", ("--C", "--kind knn")),
        ("--kind knn --recipe paper", ("--recipe paper", "--kind knn")),
        ("--k 5", ("--k", "--kind linear")),
        ("--pooling mean", ("--pooling mean", "--tokens")),
        ("--kind attentive", ("--kind attentive", "--tokens")),
        ("--folds 3 --labels a,b", ("--folds", "--labels")),
    ],
)
def test_options_that_make_no_sense_together_name_both(
    embeddings: Embeddings, tmp_path: Path, words: str, named: tuple[str, str]
) -> None:
    out = tmp_path / "x.pred"
    done = CliRunner().invoke(app, ["probe", str(embeddings.path), *words.split(), "--out", str(out)])
    assert done.exit_code == 2
    assert all(name in done.output for name in named), done.output
    assert not out.exists()
