"""Probes of every kind: parity with others' code, laws, what they learn, and how they are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from scipy.special import softmax
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

import panderm
from panderm import Probe
from panderm.embeddings.vectors import Block, MappedVectors
from panderm.errors import ArtifactError, DataError, UsageError
from panderm.fitted.neighbours import nearest, unit_length
from panderm.training import held_out as held_out_module
from panderm.training.features import Features
from panderm.training.fit import fit_probe
from panderm.training.held_out import stratified_folds
from panderm.training.neighbours import KS, TAUS
from panderm.training.row_weights import row_weights
from panderm.training.settings import ProbeSettings

KINDS = ("knn", "prototypes", "mlp", "attentive")
CLASSES = ("nevus", "melanoma", "keratosis")


def blobs(n: int, seed: int, D: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    y[:6] = np.arange(min(6, n)) % 3
    return (rng.normal(size=(n, D)) + 1.2 * np.eye(3, D)[y] + 0.5).astype(np.float32), y


def tokens(n: int, seed: int, L: int = 4, D: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Return images of which one patch, marked by a key, carries the class; others carry any class."""
    fixed, rng = np.random.default_rng(9), np.random.default_rng(seed)
    key, signs = 2 * fixed.normal(size=D), 2 * fixed.normal(size=(2, D))
    y = np.arange(n) % 2
    X = rng.normal(size=(n, L * L, D))
    for i in range(n):
        where = rng.permutation(L * L)
        X[i, where[:4]] += signs[rng.integers(0, 2, 4)]
        X[i, where[4]] += key + signs[y[i]]
    return X.reshape(n, L, L, D).astype(np.float16), y


def features(X: Any, y: np.ndarray, **more: Any) -> Features:
    names = np.array([f"image {i}" for i in range(len(y))], dtype=object)
    return Features(X, np.array(CLASSES, dtype=object)[y], CLASSES, names, **more)


def settings(kind: str, **more: Any) -> ProbeSettings:
    return ProbeSettings(kind=kind, device="cpu", **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module", autouse=True)
def soon() -> Iterator[pytest.MonkeyPatch]:
    """Let what descends do so for fewer steps than it may."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("mlp", "attentive"):
            patch.setattr(f"panderm.training.{kind}._STEPS", 60)
        yield patch


@pytest.fixture(scope="module")
def attentive(soon: pytest.MonkeyPatch) -> Probe:
    X, y = tokens(160, seed=1)
    with soon.context() as patch:
        patch.setattr("panderm.training.attentive._STEPS", 400)
        patch.setattr("panderm.training.attentive.RATES", (3e-3,))
        return Probe("attentive", device="cpu").fit(X, y)


@pytest.fixture(scope="module")
def fitted(attentive: Probe) -> dict[str, tuple[Probe, np.ndarray]]:
    """A fitted probe of each kind, and what it can predict."""
    X, y = blobs(120, seed=1)
    made = {kind: (Probe(kind, device="cpu").fit(X, y), X) for kind in KINDS[:3]}  # type: ignore[arg-type]
    return {**made, "attentive": (attentive, tokens(20, seed=2)[0])}


# Parity


@pytest.mark.parametrize("tau", [np.inf, 0.05])
@pytest.mark.parametrize("k", [1, 7, 40])
def test_the_votes_are_scikit_learns(k: int, tau: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panderm.training.neighbours.TAUS", (tau,))
    (X, y), (Xt, _) = blobs(150, seed=1), blobs(80, seed=2)
    probe = fit_probe(settings("knn", k=k), features(X, y), None, method={}).probe
    theirs = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / tau)
    )
    wanted = theirs.fit(X.astype(float), y).predict_proba(Xt.astype(float))
    cosines = np.sort(unit_length(Xt) @ unit_length(X).T, axis=1)[:, ::-1][:, :k].astype(float)
    said = np.exp((cosines - cosines[:, :1]) / tau).sum(axis=1, keepdims=True)
    # One vote more is shared by the three classes.
    assert np.allclose(probe.probabilities(Xt), (wanted * said + 1 / 3) / (said + 1), atol=1e-5)
    clear = np.ptp(np.sort(wanted, axis=1)[:, -2:], axis=1) > 1e-5
    assert (probe.probabilities(Xt).argmax(axis=1) == wanted.argmax(axis=1))[clear].all()


def test_the_search_is_exact_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panderm.fitted.neighbours._QUERIES", 7)
    monkeypatch.setattr("panderm.fitted.neighbours._ROWS", 11)
    rows, asked = (unit_length(blobs(n, seed=n)[0]) for n in (64, 30))
    groups, theirs = np.arange(30) % 5, np.arange(64) % 6
    products = (asked @ rows.T).astype(np.float64)
    for apart in (None, (groups, theirs)):
        if apart:
            products[groups[:, None] == theirs] = -np.inf
        found, where = nearest(asked, rows, 20, apart=apart)
        assert np.allclose(found, np.sort(products, axis=1)[:, ::-1][:, :20], atol=1e-6)
        assert np.allclose(np.take_along_axis(products, where, 1), found, atol=1e-6)


def test_prototypes_are_scikit_learns_nearest_centroid() -> None:
    (X, y), (Xt, _) = blobs(150, seed=1), blobs(300, seed=2)
    train = features(X, y)
    probe = fit_probe(settings("prototypes", class_weight="balanced"), train, None, method={}).probe
    weights = row_weights(train, "balanced")

    def normal(rows: np.ndarray) -> np.ndarray:
        shifted = rows - np.average(X, axis=0, weights=weights)
        return shifted / np.linalg.norm(shifted, axis=1, keepdims=True)

    theirs = NearestCentroid().fit(normal(X), y)
    assert np.array_equal(probe.probabilities(Xt).argmax(axis=1), theirs.predict(normal(Xt)))
    plain: Any = fit_probe(settings("prototypes"), train, None, method={}).probe
    squares = (normal_plain := plain.squared_distances(Xt)) / plain.tau
    assert normal_plain.min() >= 0
    assert np.allclose(plain.probabilities(Xt), softmax(np.log(np.bincount(y) / 150) - squares, axis=1))


# Laws


def test_a_weight_is_a_repetition() -> None:
    X, y = blobs(60, seed=3)
    times = np.random.default_rng(0).integers(1, 4, 60)
    weighed = features(X, y, weights=times.astype(float))
    repeated = features(np.repeat(X, times, axis=0), np.repeat(y, times))
    val = features(*blobs(50, seed=4))
    for kind in ("knn", "prototypes"):
        for class_weight in ("none", "balanced"):
            pair = [
                fit_probe(
                    settings(kind, class_weight=class_weight, k=len(one) if kind == "knn" else None),
                    one,
                    val,
                    method={},
                ).probe.probabilities(val.X)
                for one in (weighed, repeated)
            ]
            assert np.allclose(*pair, atol=1e-5), (kind, class_weight)


def test_balanced_classes_weigh_the_same() -> None:
    one = features(*blobs(90, seed=1), weights=np.linspace(0.5, 2, 90))
    weights = row_weights(one, "balanced")
    assert np.allclose(np.bincount(one.codes(), weights), one.weights.sum() / 3)  # type: ignore[union-attr]
    assert np.array_equal(row_weights(one), one.weights)  # type: ignore[arg-type]


def test_tokens_may_come_in_any_order(attentive: Probe) -> None:
    X, _ = tokens(12, seed=5)
    order = np.random.default_rng(0).permutation(16)
    moved = X.reshape(12, 16, -1)[:, order].reshape(X.shape)
    assert np.allclose(attentive.predict_proba(X), attentive.predict_proba(moved), atol=1e-6)
    maps = [attentive.probe_.attention(one).reshape(12, 16) for one in (X, moved)]
    assert np.allclose(maps[0][:, order], maps[1], atol=1e-6)
    assert np.allclose(maps[0].sum(axis=1), 1)


@pytest.mark.parametrize("kind", ["mlp", "attentive"])
def test_one_seed_gives_one_answer(kind: str) -> None:
    X, y = tokens(48, seed=6) if kind == "attentive" else blobs(48, seed=6)
    pair = [Probe(kind, device="cpu", seed=s).fit(X, y).predict_proba(X) for s in (3, 3, 4)]  # type: ignore[arg-type]
    assert np.array_equal(pair[0], pair[1])
    assert not np.array_equal(pair[0], pair[2])


@pytest.mark.parametrize("kind", KINDS)
def test_what_chooses_is_of_other_patients(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = tokens(60, seed=7) if kind == "attentive" else blobs(60, seed=7)
    groups = np.repeat(np.arange(20), 3)
    y = y[groups]
    seen: list[tuple[set[int], set[int]]] = []

    def folds(codes: Any, units: Any, **options: Any) -> Any:
        made = stratified_folds(codes, units, **options)
        seen.extend((set(units[t]), set(units[h])) for t, h in made[0])
        return made

    def search(*words: Any, apart: Any = None, **options: Any) -> Any:
        found = nearest(*words, apart=apart, **options)
        own, theirs = apart
        seen.extend(({*theirs[near[np.isfinite(p)]]}, {g}) for g, p, near in zip(own, *found, strict=True))
        return found

    monkeypatch.setattr(held_out_module, "stratified_folds", folds)
    monkeypatch.setattr("panderm.training.neighbours.nearest", search)
    told = fit_probe(settings(kind), features(X, y, groups=groups), None, method={}).outcome
    assert seen
    assert not any(fitted & held for fitted, held in seen)
    assert "group" in told["chosen on"]


def test_neighbours_of_one_patient_do_not_choose_k() -> None:
    # Twins of each patient are nearest to each other, and all patients' labels are drawn by lot.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 3)
    y = np.arange(60)[groups] % 2
    X = rng.normal(size=(60, 20))[groups] + 0.01 * rng.normal(size=(180, 20))
    torn = fit_probe(settings("knn"), features(X, y), None, method={}).outcome
    whole = fit_probe(settings("knn"), features(X, y, groups=groups), None, method={}).outcome
    assert torn["log loss"] < 0.4
    assert whole["log loss"] > 0.67
    assert whole["k"] > torn["k"]


# What they learn


def test_a_query_finds_the_patch_that_a_mean_cannot(attentive: Probe) -> None:
    (X, y), (Xt, yt) = tokens(160, seed=1), tokens(400, seed=2)
    mean = Probe().fit(X.astype(np.float32).mean((1, 2)), y)
    assert (mean.predict(Xt.astype(np.float32).mean((1, 2))) == yt).mean() < 0.75
    assert (attentive.predict(Xt) == yt).mean() > 0.9
    assert attentive.outcome_["log loss"] < 0.4
    assert {"rate", "epochs", "stopped", "gradient norm"} <= set(attentive.outcome_)


def test_a_hidden_layer_learns_what_no_line_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panderm.training.mlp._STEPS", 800)
    monkeypatch.setattr("panderm.training.mlp.WIDTHS", (64,))
    monkeypatch.setattr("panderm.training.mlp.DECAYS", (0.01,))
    rng = np.random.default_rng(1)
    X = rng.normal(size=(700, 4)).astype(np.float32)
    y = np.where(X[:, 0] * X[:, 1] > 0, "same", "apart")
    made = Probe("mlp", device="cpu").fit(X[:300], y[:300], validation=(X[300:400], y[300:400]))
    assert made.outcome_["chosen on"] == "log loss of 100 validation rows"
    assert made.score(X[400:], y[400:]) > 0.85
    assert Probe().fit(X[:300], y[:300]).score(X[400:], y[400:]) < 0.65


@pytest.mark.parametrize("kind", ["knn", "prototypes", "mlp"])
def test_held_out_rows_choose_what_is_least(kind: str) -> None:
    train, val = features(*blobs(100, seed=1)), features(*blobs(120, seed=2))
    fit = fit_probe(settings(kind), train, val, method={})
    codes = val.codes(CLASSES)

    def loss(probe: Any) -> float:
        return float(-np.log(probe.probabilities(val.X)[np.arange(120), codes]).mean())

    assert fit.loss == pytest.approx(loss(fit.probe), rel=1e-5)
    if kind == "knn":
        from dataclasses import replace

        others = [replace(fit.probe, k=k, tau=tau) for k in KS if k <= 100 for tau in TAUS[::3]]
        assert fit.loss <= min(loss(one) for one in others) + 1e-9


def test_tokens_in_files_are_read_batch_by_batch() -> None:
    X, y = tokens(48, seed=8)
    asked: list[int] = []

    class Watched(MappedVectors):
        def _gather(self, positions: Any) -> Any:
            asked.append(len(positions))
            return super()._gather(positions)

        def select(self, chosen: Any) -> Any:
            mapped = super().select(chosen)
            return Watched(self.held, mapped.shape[1:], mapped.dtype, order=mapped._order)

    mapped = Watched([Block(30, lambda: X[:30]), Block(18, lambda: X[30:])], X.shape[1:], X.dtype)
    one, other = (
        fit_probe(settings("attentive"), features(rows, y), None, method={}) for rows in (X, mapped)
    )
    assert max(asked) <= 16
    assert np.array_equal(one.probe.probabilities(X), other.probe.probabilities(mapped))


# The contract


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_gives_back_the_probe(kind: str, fitted: Any, tmp_path: Path) -> None:
    probe, X = fitted[kind]
    opened = Probe.load(probe.save(tmp_path / "a.safetensors"))
    assert np.array_equal(opened.predict_proba(X), probe.predict_proba(X))
    assert np.array_equal(opened.predict(X), probe.predict(X))
    assert opened.classes_.dtype == probe.classes_.dtype
    assert opened.get_params() == probe.get_params()
    again = opened.save(tmp_path / "b.safetensors")
    assert again.read_bytes() == (tmp_path / "a.safetensors").read_bytes()
    with pytest.raises(ArtifactError, match="must not exist already"):
        probe.save(again)


def damaged(kind: str) -> list[dict[str, Any]]:
    nan = {name: lambda v: np.full_like(v, np.nan) for name in ("vectors", "means", "mean", "query")}
    key = {"knn": "vectors", "prototypes": "means", "mlp": "mean", "attentive": "query"}[kind]
    bias = {"knn": "votes", "prototypes": "prior"}.get(kind, "output.bias")
    return [
        {key: nan[key]},
        {key: lambda v: v[:-1]},
        {key: lambda v: v.astype(np.int16)},
        {bias: lambda v: np.full_like(v, -np.inf)},
        {bias: lambda v: np.full_like(v, np.inf)},
        {bias: None},
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_refused(kind: str, fitted: Any, tmp_path: Path) -> None:
    path = fitted[kind][0].save(tmp_path / "a.safetensors")
    with safe_open(path, framework="numpy") as file:
        told = json.loads(file.metadata()["panderm"])
    whole, bad = load_file(path), tmp_path / "bad.safetensors"
    for change in damaged(kind):
        kept = {k: v for k, v in whole.items() if change.get(k, 0) is not None}
        made = {k: np.ascontiguousarray(change[k](v)) if k in change else v for k, v in kept.items()}
        save_file(made, bad, {"panderm": json.dumps(told)})
        with pytest.raises(ArtifactError):
            Probe.load(bad)
    headers = [{"classes": ["one"]}, {"probe": "linear"}, {"probe": "tree"}, {"method": 3}, {"settings": 3}]
    for header in [
        {**told, **one} for one in headers if kind in ("knn", "prototypes") or "settings" not in one
    ]:
        save_file(whole, bad, {"panderm": json.dumps(header)})
        with pytest.raises(ArtifactError):
            Probe.load(bad)
    bad.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ArtifactError, match="must be whole"):
        Probe.load(bad)
    with pytest.raises(ArtifactError, match="must be whole"):
        Probe.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_never_trained_has_probability_zero(kind: str) -> None:
    X, y = tokens(48, seed=3) if kind == "attentive" else blobs(48, seed=3)
    y = np.where(y == 1, 2, y)
    probe = fit_probe(settings(kind, class_weight="balanced"), features(X, y), None, method={}).probe
    made = probe.probabilities(X)
    assert probe.trained.tolist() == [True, False, True]
    assert not made[:, 1].any()
    assert np.allclose(made.sum(axis=1), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_cannot_be_fitted_are_named(kind: str) -> None:
    X, y = tokens(48, seed=3) if kind == "attentive" else blobs(48, seed=3)
    X = X.copy()
    X[7].flat[0] = np.nan
    with pytest.raises(DataError, match="finite") as caught:
        fit_probe(settings(kind), features(X, y), None, method={})
    assert "image 7" in str(caught.value)
    X[7] = 0
    with pytest.raises(DataError, match="at least two classes"):
        fit_probe(settings(kind), features(X, np.zeros(48, int)), None, method={})
    with pytest.raises(DataError, match="only in validation: keratosis"):
        fit_probe(settings(kind), features(X, y % 2), features(X, np.full(48, 2)), method={})


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_a_class_is_enough(kind: str) -> None:
    X, y = tokens(2, seed=3) if kind == "attentive" else blobs(3, seed=3)
    fit = fit_probe(settings(kind), features(X, y), None, method={})
    assert fit.loss is None
    assert "a default" in fit.outcome["chosen on"]
    assert fit.probe.probabilities(X).argmax(axis=1).tolist() == y.tolist()


def test_what_cannot_be_asked_is_said(embeddings: panderm.Embeddings) -> None:
    X, y = blobs(40, seed=1)
    with pytest.raises(DataError, match="needs patch tokens"):
        Probe("attentive").fit(X, y)
    with pytest.raises(DataError, match="needs patch tokens"):
        Probe("attentive").fit(embeddings)
    with pytest.raises(UsageError, match="--k must be from 1 to"):
        Probe("knn", k=41).fit(X, y)
    with pytest.raises(DataError, match="sample weights"):
        Probe("knn").fit(X, y, np.full(40, -1.0))
    with pytest.raises(UsageError, match="bring their own"):
        Probe("knn").fit(embeddings, y)


def test_embeddings_are_fitted_by_their_splits(embeddings: panderm.Embeddings) -> None:
    rows = embeddings.rows
    made = Probe("knn").fit(embeddings)
    assert made.classes_.tolist() == list(rows.classes)
    assert made.outcome_["vectors kept"] == (rows.split == "train").sum()
    assert made.predict_proba(embeddings).shape == (len(embeddings), len(rows.classes))
    assert np.array_equal(made.predict(embeddings), made.predict(embeddings.vectors))


def test_a_row_of_weight_0_is_not_there() -> None:
    X, y = blobs(60, seed=1)
    weights = np.where(np.arange(60) < 40, 1.0, 0.0)
    for kind in ("knn", "prototypes", "mlp"):
        one = Probe(kind, device="cpu").fit(X, y, weights).predict_proba(X)  # type: ignore[arg-type]
        assert np.array_equal(one, Probe(kind, device="cpu").fit(X[:40], y[:40]).predict_proba(X)), kind  # type: ignore[arg-type]
