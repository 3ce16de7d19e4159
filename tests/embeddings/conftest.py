"""A small finished folder of odd things: empty cells, commas, other alphabets, extreme numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import panderm
from panderm.embeddings import parts
from panderm.embeddings.card import EmbeddingsCard, TokensRecord
from panderm.embeddings.writer import EmbeddingsWriter
from panderm.provenance import Provenance

Made = Callable[..., Path]
ROWS = 23


def odd_vectors(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Return float32 (n, D) with the largest and smallest numbers, signed zeros, a NaN and infinities."""
    vectors = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    tiny, huge = np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max
    vectors[1, :8] = [0.0, -0.0, tiny, -tiny, huge, -huge, 0.1, 16777217.0]
    return vectors


@pytest.fixture(scope="session")
def odd_table(tmp_path_factory: pytest.TempPathFactory) -> panderm.Table:
    """Rows whose cells need care, with columns beside the roles."""
    folder = tmp_path_factory.mktemp("odd")
    lines = ["image,split,label,patient_id,lesion,site,age"]
    labels = ("naevus, blue", "Mélanome", "bcc")
    for k in range(ROWS):
        name = f"bild {k} é.png"
        Image.new("RGB", (12, 9), (10 * k, 200 - 3 * k, k)).save(folder / name)
        split = ("train", "train", "test", "val")[k % 4]
        patient = "" if k % 5 == 0 else f"P{k}"
        lesion = "" if k % 3 else f"L{k}"
        lines.append(
            f'{name},{split},"{labels[k % 3]}",{patient},{lesion},{("arm", "", "leg")[k % 3]},{20 + k}'
        )
    (folder / "odd.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return panderm.read_table(folder / "odd.csv", progress=False)


@pytest.fixture
def made(tmp_path: Path, odd_table: panderm.Table, encoder: panderm.Encoder) -> Made:
    """Write a finished folder of some rows; of several parts where ``rows_a_part`` says so."""

    def make(
        name: str = "odd.emb",
        *,
        table: panderm.Table = odd_table,
        vectors: np.ndarray | None = None,
        tokens: np.ndarray | None = None,
        record: object = encoder.record,
        rows_a_part: int | None = None,
        **changed: object,
    ) -> Path:
        dim = encoder.dim
        numbers = odd_vectors(len(table), dim) if vectors is None else vectors
        told = None
        if tokens is not None:
            told = TokensRecord(grid=(tokens.shape[1], tokens.shape[2]), dim=tokens.shape[3])
        card = EmbeddingsCard(
            provenance=Provenance.now(),
            encoder=record,
            table=table.card,
            rows=len(table),
            tokens=told,
            **changed,
        )
        with pytest.MonkeyPatch.context() as patch:
            if rows_a_part is not None:
                wide = max(dim * 4, 0 if told is None else int(np.prod(tokens.shape[1:])) * 2)
                patch.setattr(
                    parts, "_PART_BYTES", {"vector": rows_a_part * dim * 4, "tokens": rows_a_part * wide}
                )
            with EmbeddingsWriter(tmp_path / name, card, table) as writer:
                writer.write(table, numbers, tokens)
                writer.finish(table=table, seconds=1.0, images_per_second=None)
        return tmp_path / name

    return make
