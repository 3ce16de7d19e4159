"""Fixtures every room shares: a drawn world, and the real data where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import panderm
from panderm.data.drawn import DrawnWorld, draw_world

SHARED = Path(os.environ.get("PANDERM_SHARED", Path(__file__).resolve().parents[2] / "shared"))
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> DrawnWorld:
    """A drawn world of 90 small images: read it, do not change it."""
    return draw_world(tmp_path_factory.mktemp("drawn") / "world", n=90, size=(120, 90))


@pytest.fixture(scope="session")
def table(world: DrawnWorld) -> panderm.Table:
    return panderm.read_table(world.csv, images=world.images, progress=False)


@pytest.fixture(scope="session")
def encoder() -> panderm.Encoder:
    return panderm.load_encoder("random-tiny")


@pytest.fixture(scope="session")
def embeddings(
    encoder: panderm.Encoder, table: panderm.Table, tmp_path_factory: pytest.TempPathFactory
) -> panderm.Embeddings:
    """The drawn world's embeddings, on disk."""
    return encoder.embed(table, tmp_path_factory.mktemp("embedded") / "world.emb", progress=False)


@pytest.fixture
def shared() -> Path:
    """The folder of real data, or a skip that says so."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no real data: {SHARED} is not there (set PANDERM_SHARED)")
    return SHARED
