"""A probe of the drawn world at few pixels, which many tests use and none changes."""

from __future__ import annotations

from pathlib import Path

import pytest

import panderm
from panderm.predictions import Predictions


@pytest.fixture(scope="session")
def small_eye() -> panderm.Encoder:
    """An encoder of 32 pixels: 90 images are encoded in a moment."""
    return panderm.load_encoder("random-tiny", image_size=32, device="cpu")


@pytest.fixture(scope="session")
def small_embedded(small_eye: panderm.Encoder, table: panderm.Table) -> panderm.Embeddings:
    return small_eye.embed(table, progress=False)


@pytest.fixture(scope="session")
def probed(
    small_embedded: panderm.Embeddings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Predictions]:
    """Predictions of the test rows by a linear probe, with val rows beside them, and their folder."""
    out = tmp_path_factory.mktemp("probed") / "probe.pred"
    return out, panderm.probe(small_embedded, C=0.1, out=out, progress=False)
