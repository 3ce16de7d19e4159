"""Nothing that a probe learns, chooses or calibrates depends on the rows it is to predict: a test tries."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import panderm
from panderm.embeddings import Embeddings
from panderm.embeddings.card import TokensRecord
from panderm.embeddings.vectors import Block, MappedVectors
from panderm.errors import DataError
from panderm.fitted import FittedProbe
from panderm.probing.answer import Asked, answer, learn, predict
from panderm.probing.pooled import inputs_for
from panderm.probing.sealed import Sealed
from panderm.probing.splits import asked_by_split
from panderm.training.settings import ProbeSettings

KINDS = ("linear", "knn", "prototypes", "mlp")
WAYS: list[dict[str, Any]] = [
    *({"kind": kind} for kind in KINDS),
    {"recipe": "paper"},
    {"pooling": "choose"},
    {"pooling": "both", "calibrate": "temperature"},
    {"kind": "attentive"},
    {"unit": "lesion", "class_weight": "balanced"},
    {"unit": "lesion", "unit_pool": "probability"},
]


def spoiled(emb: Embeddings, test: np.ndarray, seed: int) -> Embeddings:
    """Return the embeddings with other vectors, tokens, labels, patients and lesions in some rows."""
    rng = np.random.default_rng(seed)
    vectors = emb.vectors.copy()
    vectors[test] = rng.normal(size=(len(test), emb.dim)) * 1e3
    tokens = np.array(emb.tokens)
    tokens[test] = rng.normal(size=tokens[test].shape) * 1e3
    table = emb.rows
    label, classes = table.label.copy(), table.classes
    label[test] = [classes[(classes.index(c) + 1) % len(classes)] for c in label[test]]
    return Embeddings(vectors, replace(table, label=label), emb.card, tokens=tokens)


def learned_from(emb: Embeddings, way: dict[str, Any]) -> str:
    """Return a hash of all that a probe learned, and of all that its card says of it."""
    kinds = {k: v for k, v in way.items() if k in ("kind", "recipe", "class_weight")}
    settings = ProbeSettings(**kinds, device="cpu")
    asks = {k: v for k, v in way.items() if k in ("calibrate", "pooling", "unit", "unit_pool")}
    asked = asked_by_split(emb.rows, settings, train="train", val="val", test="test", **asks)
    if settings.kind in ("mlp", "attentive"):  # folds would take long
        asked = replace(asked, val=np.flatnonzero(emb.rows.split == "val"))
    inputs = inputs_for(emb, settings.kind, way.get("pooling", "stored"))
    made = answer(emb, asked, settings, inputs=inputs)
    probe = made.probe
    assert probe is not None
    told = {k: v for k, v in made.card.outcome.items() if k != "units"}
    held = json.dumps([probe.settings(), probe.inputs, probe.temperature, made.card.method, told])
    digest = hashlib.sha256(held.encode())
    for name, array in sorted(probe.tensors().items()):
        digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def with_tokens(embeddings: Embeddings) -> Embeddings:
    """The drawn world's embeddings with small tokens beside them, that hold what the vectors do not."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(len(embeddings), 2, 2, 8))
    told = np.array([embeddings.rows.classes.index(c) for c in embeddings.rows.label])
    tokens = (noise + 0.5 * told[:, None, None, None] * np.eye(8)[0]).astype(np.float16)
    card = embeddings.card.model_copy(update={"tokens": TokensRecord(grid=(2, 2), dim=8)})
    return Embeddings(np.asarray(embeddings.vectors), embeddings.rows, card, tokens=tokens)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
def test_rows_to_predict_change_no_byte_of_what_is_learned(
    with_tokens: Embeddings, way: dict[str, Any]
) -> None:
    test = np.flatnonzero(with_tokens.rows.split == "test")
    assert learned_from(with_tokens, way) == learned_from(spoiled(with_tokens, test, 1), way)


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_same_change_in_rows_that_may_be_seen_is_seen(with_tokens: Embeddings, split: str) -> None:
    some = np.flatnonzero(with_tokens.rows.split == split)
    way = {"calibrate": "temperature"}
    assert learned_from(with_tokens, way) != learned_from(spoiled(with_tokens, some[:3], 1), way)


def test_sealed_rows_are_read_by_none_but_a_fitted_probe(embeddings: Embeddings) -> None:
    rows = np.flatnonzero(embeddings.rows.split == "test")
    sealed = Sealed(embeddings, rows)
    assert len(sealed) == len(rows)
    for name in ("vectors", "rows", "tokens"):
        with pytest.raises(PermissionError, match="sealed until a probe is fitted"):
            getattr(sealed, name)
    with pytest.raises(PermissionError, match="by a probe that is fitted"):
        sealed.opened_by(None)  # type: ignore[arg-type]
    probe = panderm.probe(embeddings).probe
    assert isinstance(probe, FittedProbe)
    assert sealed.opened_by(probe).rows.image.tolist() == embeddings.rows.image[rows].tolist()
    with pytest.raises(PermissionError, match="once"):
        sealed.opened_by(probe)


def test_a_row_that_is_fitted_and_predicted_is_refused(embeddings: Embeddings) -> None:
    rows = np.arange(len(embeddings))
    for part in ("train", "val", "calibration"):
        parts = {"train": rows[:60], "val": None, "calibration": None} | {part: rows[:61]}
        with pytest.raises(ValueError, match="must not be fitted, nor choose"):
            learn(embeddings, Asked(test=rows[60:], split="test", **parts), ProbeSettings())


def test_vectors_in_files_are_not_read_before_the_fit(
    embeddings: Embeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, table = np.asarray(embeddings.vectors), embeddings.rows
    read: list[int] = []

    class Spied(MappedVectors):
        def select(self, chosen: Any) -> MappedVectors:
            order = np.arange(len(self)) if self._order is None else self._order
            return Spied(self.held, self.shape[1:], self.dtype, order=order[chosen])

        def _gather(self, positions: Any) -> Any:
            read.extend((positions if self._order is None else self._order[positions]).tolist())
            return super()._gather(positions)

    blocks = [Block(10, lambda s=s: X[s : s + 10]) for s in range(0, len(X), 10)]
    emb = Embeddings(Spied(blocks, X.shape[1:], np.float32), table, embeddings.card)
    test = set(np.flatnonzero(table.split == "test").tolist())
    before: list[set[int]] = []
    opened_by = Sealed.opened_by

    def watched(sealed: Sealed, probe: FittedProbe) -> Embeddings:
        before.append(set(read))
        return opened_by(sealed, probe)

    monkeypatch.setattr(Sealed, "opened_by", watched)
    made = panderm.probe(emb, calibrate="temperature")
    assert before == [set(np.flatnonzero(np.isin(table.split, ("train", "val"))).tolist())]
    assert not before[0] & test
    assert test <= set(read)
    assert np.array_equal(
        made.probabilities, panderm.probe(embeddings, calibrate="temperature").probabilities
    )


def test_a_vector_that_is_no_number_is_named_by_its_image(embeddings: Embeddings) -> None:
    for split in ("train", "test"):
        at = np.flatnonzero(embeddings.rows.split == split)[3]
        X = np.asarray(embeddings.vectors).copy()
        X[at, 5] = np.nan
        with pytest.raises(DataError) as told:
            panderm.probe(Embeddings(X, embeddings.rows, embeddings.card))
        assert embeddings.rows.image[at] in str(told.value)


def test_predict_is_what_the_probe_told(with_tokens: Embeddings, tmp_path: Any) -> None:
    panderm.probe(with_tokens, pooling="both", out=tmp_path / "both.pred", progress=False)
    made = panderm.open_predictions(tmp_path / "both.pred")
    assert made.probe is not None
    rows = np.flatnonzero(with_tokens.rows.split == "test")
    assert np.array_equal(predict(made.probe, with_tokens, rows), made.probabilities)
