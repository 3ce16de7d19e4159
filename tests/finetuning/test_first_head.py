"""Where the head begins: the linear probe of the same encoder on the same rows, and of those rows alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import panderm
from panderm.embeddings.making.ranks import Ranks
from panderm.finetuning import first_head
from panderm.finetuning.first_head import begin_as_probe, probed_head
from panderm.finetuning.network import Started, network_for
from panderm.finetuning.rows import Rows, rows_of
from panderm.finetuning.views import TrainViews
from panderm.training.long.checkpoint import write_checkpoint

# A view that moves nothing: the image as it is scored.
STILL = TrainViews(32, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, vertical_flip=0.0)


@pytest.fixture(scope="module")
def rows(table: panderm.Table) -> Rows:
    return rows_of(table)


def started(K: int) -> Started:
    return network_for("random-tiny", image_size=32, classes=K)


def test_it_is_the_probe_of_the_same_encoder(rows: Rows) -> None:
    begun = started(len(rows.classes))
    found = probed_head(begun.network, rows, begun.preprocess, STILL, progress=False)
    mean = panderm.load_encoder("random-tiny", pool="mean", image_size=32)
    seen = [
        STILL(panderm.read_image(Path(path)), np.random.default_rng(5))
        for path in rows.table.select(rows.train).path
    ]
    X = mean.encode(begun.preprocess.normalise(torch.from_numpy(np.stack(seen)))).numpy()
    fitted = panderm.LinearProbe().fit(
        X, rows.codes[rows.train], groups=rows.table.select(rows.train).patient
    )
    assert np.isclose(fitted.C_, float(found["told"].split("C ")[1].split(",")[0]), rtol=1e-2)
    close: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-4}
    np.testing.assert_allclose(found["weight"], fitted.coef_, **close)
    np.testing.assert_allclose(found["bias"], fitted.intercept_, **close)


def test_no_other_row_is_looked_at(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = started(len(rows.classes))
    whole = probed_head(begun.network, rows, begun.preprocess, STILL, progress=False)
    truth = rows.truth.copy()
    truth[np.concatenate([rows.val, rows.test])] = truth[0]
    assert (
        probed_head(begun.network, replace(rows, truth=truth), begun.preprocess, STILL, progress=False)
        == whole
    )
    monkeypatch.setattr(first_head, "MOST", 30)
    some = probed_head(begun.network, rows, begun.preprocess, STILL, progress=False)
    assert " 30 training images" in some["told"]
    assert some["weight"] != whole["weight"]


def test_it_is_fitted_on_what_the_first_step_sees(rows: Rows) -> None:
    def found(views: TrainViews, drop_path: float | None) -> list[list[float]]:
        begun = network_for("random-tiny", image_size=32, classes=len(rows.classes), drop_path=drop_path)
        network = begun.network.train()
        weight = probed_head(network, rows, begun.preprocess, views, progress=False)["weight"]
        assert network.training
        return weight  # type: ignore[no-any-return]

    still, dropped = found(STILL, None), found(STILL, 0.5)
    assert still != dropped
    assert found(STILL, 0.5) == dropped
    assert found(TrainViews.default(32), None) != still


def test_of_several_labels_each_is_learned_where_it_is_known(rows: Rows) -> None:
    truth = np.stack([rows.codes == 0, rows.codes == 1, np.ones(len(rows.codes))], axis=1).astype(np.int8)
    truth[rows.train[:5], 0] = -1
    several = replace(rows, truth=truth, classes=("a", "b", "always"), labels="several")
    begun = started(3)
    found = probed_head(begun.network, several, begun.preprocess, STILL, progress=False)
    blind = replace(several, truth=np.where(np.arange(len(truth))[:, None] == rows.train[0], -1, truth))
    other = probed_head(begun.network, blind, begun.preprocess, STILL, progress=False)
    assert other["weight"][0] == pytest.approx(found["weight"][0])  # it was not known before
    assert other["weight"][1] != pytest.approx(found["weight"][1])
    assert not np.any([*found["weight"][2], found["bias"][2]])  # nothing tells what is always there


def test_balanced_classes_move_the_bias(rows: Rows) -> None:
    begun = started(len(rows.classes))
    plain = probed_head(begun.network, rows, begun.preprocess, STILL, progress=False)
    even = probed_head(begun.network, rows, begun.preprocess, STILL, class_weight="balanced", progress=False)
    rarest = int(np.bincount(rows.codes[rows.train]).argmin())
    assert even["bias"][rarest] - np.mean(even["bias"]) > plain["bias"][rarest] - np.mean(plain["bias"])


def test_a_run_that_goes_on_has_its_head(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = started(len(rows.classes))

    def begin(folder: Path) -> torch.Tensor:
        begin_as_probe(
            begun.network,
            rows,
            begun.preprocess,
            STILL,
            folder=folder,
            class_weight="none",
            seed=0,
            workers=1,
            ranks=Ranks(),
            progress=True,
        )
        return begun.network.head.weight.detach().clone()

    drawn = begun.network.head.weight.detach().clone()
    first = begin(tmp_path / "new")
    assert not torch.equal(first, drawn)
    assert "the head begins as a linear probe" in capsys.readouterr().err
    write_checkpoint(tmp_path / "old", 3, {"x": torch.zeros(1)}, {})
    monkeypatch.setattr(first_head, "probed_head", None)  # would fail
    assert torch.equal(begin(tmp_path / "old"), first)
