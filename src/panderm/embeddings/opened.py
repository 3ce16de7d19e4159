"""Embeddings on disk: ``X.emb/`` holds Parquet shards, one row per image, and ``card.json``.

A shard is written whole or not at all, so that a killed run keeps what it had and goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from panderm.data.table import Table, TableCard
from panderm.embeddings.card import EmbeddingsCard, EncoderRecord
from panderm.errors import ArtifactError, ParentsError, plural
from panderm.provenance import read_card

_COLUMNS = ("image", "path", "sha256", "split", "label", "patient", "group")


@dataclass(frozen=True)
class Embeddings:
    """N vectors of D numbers, joined to the rows of the table they came from.

    Attributes:
        vectors: float32 (n, D).
        rows: the n rows, in the table's order: image, path, sha256, split, label, patient, group.
        card: what made them.
        path: the folder, or None where they were never written.

    Example:
        >>> emb = panderm.open_embeddings("ham.emb")  # doctest: +SKIP
        >>> X, y = emb.vectors, emb.rows.label  # doctest: +SKIP
    """

    vectors: npt.NDArray[np.float32]
    rows: Table
    card: EmbeddingsCard
    path: Path | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        """Width D of a vector."""
        return int(self.vectors.shape[1])

    def select(self, chosen: npt.NDArray[Any]) -> Embeddings:
        """Return the chosen rows (boolean mask or positions) under the same card."""
        return Embeddings(self.vectors[chosen], self.rows.select(chosen), self.card, self.path)


def open_embeddings(
    path: Path | str, *, encoder: Any = None, table: Table | None = None, partial: bool = False
) -> Embeddings:
    """Open an embeddings folder.

    Args:
        path: the folder, ``X.emb``.
        encoder: where given, an :class:`panderm.Encoder`: the folder must hold its embeddings.
        table: where given, a :class:`panderm.Table`: the folder must hold the embeddings of its rows.
        partial: accept a folder whose run was stopped before its end.

    Raises:
        ArtifactError: not such a folder, unfinished, damaged, or of another encoder or table.

    Example:
        >>> emb = panderm.open_embeddings("ham.emb")  # doctest: +SKIP
        >>> emb.vectors.shape  # doctest: +SKIP
        (8783, 384)
    """
    folder = Path(path)
    card = read_card(folder, EmbeddingsCard, "embeddings")
    if encoder is not None:
        require_same_encoder(folder, card.encoder, encoder.record)
    if table is not None:
        require_same_table(folder, card.table, table.card)
    if not card.complete and not partial:
        raise ArtifactError(
            "embeddings must be complete before they are used.",
            f"{folder} was stopped before its end",
            "run the same panderm embed command again; it goes on where it stopped",
        )
    shards = read_shards(folder, card)
    if shards.num_rows > card.rows or (shards.num_rows < card.rows and not partial):
        raise ArtifactError(
            "an embeddings folder must hold every row its card names.",
            f"{folder} holds {shards.num_rows:,} of {plural(card.rows, 'row')}",
            "run panderm embed again; it makes only what is missing"
            if shards.num_rows < card.rows
            else "embed again with --overwrite",
        )
    order = np.argsort(shards["row"].to_numpy(), kind="stable")
    columns = {name: np.array(shards[name].to_pylist(), dtype=object)[order] for name in _COLUMNS}
    rows = Table(row=shards["row"].to_numpy()[order], card=card.table, **columns)
    return Embeddings(_vectors(shards)[order], rows, card, folder)


def read_shards(folder: Path, card: EmbeddingsCard) -> pa.Table:
    """Read all shards of a folder as one Arrow table, checking each against the card."""
    wanted = pa.list_(pa.float32(), card.encoder.dim)
    schema = pa.schema([("row", pa.int64()), *((name, pa.string()) for name in _COLUMNS), ("vector", wanted)])
    shards = []
    for part in _parts(folder):
        try:
            shard = pq.read_table(part)
            shards.append(shard.select(schema.names).cast(schema))
        except (pa.ArrowException, OSError, KeyError) as error:
            raise ArtifactError(
                "every shard of an embeddings folder must be readable.",
                unreadable(part, error),
                "remove this shard and run panderm embed again; it makes only what is missing",
            ) from None
    return pa.concat_tables(shards) if shards else schema.empty_table()


def unreadable(path: Path, error: Exception) -> str:
    """Say of a Parquet file why it cannot be read; pyarrow's own words are for programmers."""
    if isinstance(error, FileNotFoundError):
        return f"{path} is not there"
    if isinstance(error, OSError) and error.strerror:
        return f"{path}: {error.strerror}"
    return f"{path} is damaged"


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"part-{'[0-9]' * 5}.parquet"))


def _vectors(shards: pa.Table) -> npt.NDArray[np.float32]:
    vectors = shards["vector"].combine_chunks()
    flat = vectors.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(len(vectors), vectors.type.list_size)


def require_same_encoder(folder: Path, holds: EncoderRecord, wanted: EncoderRecord) -> None:
    """Raise :class:`ParentsError` naming both where a folder's encoder is not the one wanted."""
    ours, theirs = (r.model_dump(exclude={"weights", "account"}) for r in (holds, wanted))
    differ = [key for key in ours if ours[key] != theirs[key]]
    if differ:
        raise ParentsError(
            "embeddings of one folder must come from one encoder.",
            [
                f"{folder} was made by {_named(holds)}",
                f"this is {_named(wanted)}",
                f"they differ in: {', '.join(differ)}",
            ],
            "choose another --out, or add --overwrite to replace the folder",
        )


def require_same_table(folder: Path, holds: TableCard, wanted: TableCard) -> None:
    """Raise :class:`ParentsError` naming both where a folder's table is not the one wanted."""
    if holds.sha256 != wanted.sha256:
        raise ParentsError(
            "embeddings of one folder must come from one table.",
            [
                f"{folder} was made from {_sized(holds)}",
                f"this is {_sized(wanted)}: other rows, roles or images",
            ],
            "choose another --out, or add --overwrite to replace the folder",
        )


def _named(encoder: EncoderRecord) -> str:
    form = f"pool {encoder.pool}, {encoder.image_size} pixels, {encoder.precision}"
    weights = encoder.weights_sha256 if encoder.random else encoder.weights_sha256[:12]
    return f"{encoder.name} ({form}, weights {weights})"


def _sized(table: TableCard) -> str:
    return f"{table.csv} ({plural(table.rows, 'row')}, {table.sha256[:12]})"
