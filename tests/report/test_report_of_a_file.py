"""A report of predictions that were read from a user's own file: no table, no encoder, no weights."""

import numpy as np

from panderm.predictions import Predictions
from panderm.predictions.card import PredictionsCard, PredictionsFile
from panderm.provenance import Provenance
from panderm.report import Report

SHA = "5e" * 32


def read_from_a_file(name: str | None = None) -> Predictions:
    rng = np.random.default_rng(0)
    truth = np.array(["nv", "mel"], dtype=object)[(rng.random(80) < 0.4).astype(int)]
    positive = np.clip(0.4 * (truth == "mel") + 0.6 * rng.random(80), 0, 1)
    file = PredictionsFile(
        path="/data/model-x.csv",
        sha256=SHA,
        layout="columns",
        columns={"truth": "dx", "patient": "id"},
        probabilities={"nv": "p_nv", "mel": "p_mel"},
    )
    card = PredictionsCard(
        provenance=Provenance.now(),
        task="predictions of a file",
        method={},
        outcome={},
        classes=("nv", "mel"),
        split="test",
        rows=80,
        file=file,
        name=name,
    )
    none = np.array([None] * 80, dtype=object)
    return Predictions(
        image=np.array([f"image-{i}" for i in range(80)], dtype=object),
        path=none,
        sha256=none,
        patient=np.array([f"p{i // 2}" for i in range(80)], dtype=object),
        group=none,
        truth=np.array(list(truth), dtype=object),
        probabilities=np.column_stack([1 - positive, positive]),
        card=card,
    )


def test_the_page_names_the_file_its_hash_and_its_columns_and_no_weights() -> None:
    page = Report(read_from_a_file(), progress=False).html()
    for told in ("/data/model-x.csv", SHA, "column “p_mel”", "column “id”", "model-x", "no file is named"):
        assert told in page
    for absent in ('id="weights"', 'href="#weights"', "Preprocessing"):
        assert absent not in page


def test_the_users_own_name_for_the_model_heads_the_page() -> None:
    assert "<h1>Model X " in Report(read_from_a_file("Model X"), progress=False).html()
