"""Adds shards to an embeddings folder, and finishes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from panderm.data.table import Table
from panderm.embeddings.card import EmbeddingsCard
from panderm.embeddings.opened import _COLUMNS, _parts, read_shards, require_same_encoder, require_same_table
from panderm.provenance import Provenance, read_card
from panderm.storage import new_file, new_folder


class EmbeddingsWriter:
    """Adds shards to ``X.emb/``; makes the folder, or goes on with one of the same parents."""

    def __init__(self, folder: Path, card: EmbeddingsCard, *, overwrite: bool = False) -> None:
        self.folder = folder
        self.card = card
        self.done: set[str] = set()
        self._next = 0
        if folder.exists() and not overwrite:
            self._go_on()
        else:
            with new_folder(folder, overwrite=overwrite) as temporary:
                card.write(temporary)

    def _go_on(self) -> None:
        before = read_card(
            self.folder, EmbeddingsCard, "an --out that exists", "choose another --out, or mend this one"
        )
        require_same_encoder(self.folder, before.encoder, self.card.encoder)
        require_same_table(self.folder, before.table, self.card.table)
        self.done = set(read_shards(self.folder, before)["image"].to_pylist())
        self._next = 1 + max((int(p.stem.removeprefix("part-")) for p in _parts(self.folder)), default=-1)
        if before.complete and len(self.done) == before.rows:
            self.card = before

    def write(self, rows: Table, vectors: npt.NDArray[np.float32]) -> None:
        """Write one shard: vectors (n, D) float32 and their n rows."""
        columns = {name: pa.array(getattr(rows, name).tolist(), pa.string()) for name in _COLUMNS}
        flat = pa.array(np.ascontiguousarray(vectors).ravel())
        vector = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        shard = pa.table({"row": pa.array(rows.row), **columns, "vector": vector})
        with new_file(self.folder / f"part-{self._next:05d}.parquet") as temporary:
            pq.write_table(shard, temporary, compression="zstd", use_dictionary=list(_COLUMNS[3:]))
        self._next += 1
        self.done.update(rows.image)

    def finish(self, *, seconds: float, images_per_second: float | None) -> None:
        """Mark the folder as complete."""
        self.card = self.card.model_copy(
            update={
                "complete": True,
                "images_per_second": images_per_second,
                "provenance": Provenance.now(seconds=seconds),
            }
        )
        self.card.write(self.folder, overwrite=True)
