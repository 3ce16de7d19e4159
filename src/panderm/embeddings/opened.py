"""Embeddings on disk, opened: vectors joined to the rows of the table they came from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from panderm.data.cells import of_arrow
from panderm.data.table import Table, TableCard
from panderm.embeddings.card import EmbeddingsCard, EncoderRecord, Part
from panderm.embeddings.known import Known, open_part
from panderm.embeddings.parts import COLUMNS, KEYS, ROWS, PartFile, token_layout, vector_layout
from panderm.embeddings.vectors import Block, MappedVectors
from panderm.errors import ArtifactError, ParentsError, plural
from panderm.provenance import read_card


class Embeddings:
    """N vectors of D numbers, joined to the rows of the table they came from.

    Attributes:
        vectors: float32 (n, D). Of a folder of one part an array in memory; of more parts a
            :class:`panderm.embeddings.MappedVectors`, which is indexed and computed with as an array is, and
            read where it is asked for.
        rows: the n rows, in the table's order: image, path, sha256, split, label, patient, group; read when
            they are first asked for.
        tokens: patch tokens, float16 (n, h, w, D), mapped as vectors are; None where there are none.
        card: what made them.
        path: the folder, or None where they were never written.

    Example:
        >>> emb = panderm.open_embeddings("ham.emb")  # doctest: +SKIP
        >>> X, y = emb.vectors, emb.rows.label  # doctest: +SKIP
    """

    def __init__(
        self,
        vectors: npt.NDArray[np.float32] | MappedVectors,
        rows: Table | Callable[[], Table],
        card: EmbeddingsCard,
        path: Path | None = None,
        *,
        tokens: npt.NDArray[np.float16] | MappedVectors | Callable[[], MappedVectors] | None = None,
        read: bool = False,
    ) -> None:
        self._held = vectors
        self.card = card
        self.path = path
        self._read = read  # mapped vectors when they are first asked for
        self._rows = rows
        self._tokens = tokens

    @cached_property
    def vectors(self) -> npt.NDArray[np.float32]:
        """The vectors, float32 (n, D); those of one part are read when they are first asked for."""
        if isinstance(self._held, MappedVectors) and self._read:
            self._held = np.asarray(self._held)
        # Whoever computes with them need not know which of the two they are.
        return cast("npt.NDArray[np.float32]", self._held)

    @cached_property
    def rows(self) -> Table:
        """The n rows, in the table's order."""
        return self._rows if isinstance(self._rows, Table) else self._rows()

    @cached_property
    def tokens(self) -> npt.NDArray[np.float16] | None:
        """Patch tokens, float16 (n, h, w, D), mapped; None where there are none."""
        mapped = isinstance(self._tokens, MappedVectors)
        found = self._tokens() if callable(self._tokens) and not mapped else self._tokens
        return cast("npt.NDArray[np.float16] | None", found)

    def __len__(self) -> int:
        return len(self._held)

    def __repr__(self) -> str:
        tokens = "" if self._tokens is None else ", with patch tokens"
        return f"Embeddings({len(self):,} images × {self.dim} by {self.card.encoder.name}{tokens})"

    @property
    def dim(self) -> int:
        """Width D of a vector."""
        return int(self._held.shape[1])

    def select(self, chosen: npt.NDArray[Any], *, read: bool = True) -> Embeddings:
        """Return the chosen rows (boolean mask or positions) under the same card.

        Of mapped vectors only the chosen rows are read, or none yet where not ``read``; tokens stay unread.
        """

        def rows() -> Table:
            return self.rows.select(chosen)

        def unread(held: Any) -> Any:
            return held.select(chosen) if isinstance(held, MappedVectors) else held[chosen]

        vectors = self.vectors[chosen] if read else unread(self.vectors)
        tokens = None if self._tokens is None else lambda: unread(self.tokens)
        return Embeddings(vectors, rows, self.card, self.path, tokens=tokens)


def open_embeddings(
    path: Path | str, *, encoder: Any = None, table: Table | None = None, partial: bool = False
) -> Embeddings:
    """Open an embeddings folder.

    A folder of one part (128 MiB of vectors) is read and compared with the sha256 on its card; one of more
    parts is mapped, and opened without reading it, however large.

    Args:
        path: the folder, ``X.emb``.
        encoder: where given, an :class:`panderm.Encoder`: the folder must hold its embeddings.
        table: where given, a :class:`panderm.Table`: the folder must hold the embeddings of its rows.
        partial: accept a folder whose first run was stopped before its end: the rows it has so far.

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
    return _finished(folder, card) if card.complete else _unfinished(folder, card)


def _finished(folder: Path, card: EmbeddingsCard) -> Embeddings:
    held = sum(part.rows for part in card.parts if (folder / part.name).exists())
    if held != card.rows:
        raise ArtifactError(
            "an embeddings folder must hold every row its card names.",
            f"{folder} holds {held:,} of {plural(card.rows, 'row')}",
            "run panderm embed again; it makes only what is missing",
        )
    layout = vector_layout(card.encoder.dim)
    files = [open_part(folder, part, layout) for part in card.parts]
    blocks = [block for file in files for block in file.blocks()]
    one = len(files) == 1
    if one:
        _require_as_written(files[0], card.parts[0])
        # Mapped from now on: they can be read when the folder has been written again, or is gone.
        blocks = [_kept(block) for block in blocks]
    vectors: npt.NDArray[np.float32] | MappedVectors = MappedVectors(blocks, layout.tail, layout.dtype)
    if one and os.name != "posix":  # where a file that is mapped cannot be replaced
        vectors = np.asarray(vectors)
    tokens: Callable[[], MappedVectors] | None = None
    if card.tokens is not None:
        of_tokens = token_layout(card.tokens)

        def tokens() -> MappedVectors:
            beside = [open_part(folder, part, of_tokens) for part in card.token_parts]
            _require_same_rows(files, beside, card)
            blocks = [block for file in beside for block in file.blocks()]
            return MappedVectors(blocks, of_tokens.tail, of_tokens.dtype)

    return Embeddings(vectors, lambda: _table(files, card), card, folder, tokens=tokens, read=one)


def _kept(block: Block) -> Block:
    held = block.load()
    return Block(block.rows, lambda: held)


def _unfinished(folder: Path, card: EmbeddingsCard) -> Embeddings:
    """Return what the shards of an unfinished first run hold."""
    known = Known(folder, card)
    rows, vectors, tokens = known.made()
    return Embeddings(vectors, as_table(rows, card), card, folder, tokens=tokens)


def _table(files: list[PartFile], card: EmbeddingsCard) -> Table:
    return as_table(pa.concat_tables([ROWS.empty_table(), *(file.read_rows(ROWS) for file in files)]), card)


def as_table(rows: pa.Table, card: EmbeddingsCard) -> Table:
    """Return Arrow columns as rows of the card's table."""
    columns: dict[str, Any] = {name: of_arrow(rows[name], name) for name in COLUMNS}
    return Table(row=rows["row"].to_numpy(), card=card.table, **columns)


def _require_as_written(file: PartFile, part: Part) -> None:
    """Raise where a part of the card's size is not of its sha256; another tool makes another size."""
    if file.path.stat().st_size != part.bytes:
        return
    with file.path.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != part.sha256:
        raise file.damaged(f"{file.path} is damaged: it is not what was written")


def _require_same_rows(files: list[PartFile], beside: list[PartFile], card: EmbeddingsCard) -> None:
    """Raise where tokens lie in another order than vectors: a tool may have sorted one of them."""
    pairs = ((files, card.parts), (beside, card.token_parts))
    if all(
        file.path.stat().st_size == part.bytes
        for held, parts in pairs
        for file, part in zip(held, parts, strict=True)
    ):
        return
    ours, theirs = (pa.concat_tables([file.read_rows(KEYS) for file in held]) for held in (files, beside))
    if not ours.equals(theirs):
        raise ArtifactError(
            "patch tokens must lie in the order of their vectors.",
            f"{files[0].path.parent}: another tool has written its files again, in another order",
            "embed again with --overwrite",
        )


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


def require_one_encoder(first: EmbeddingsCard, other: EmbeddingsCard, called: tuple[str, str]) -> None:
    """Raise :class:`ParentsError` naming both where two folders were not made by one encoder in one form.

    Where its file of weights lies does not matter.

    Args:
        first: one folder's card.
        other: that of the other.
        called: what the user calls them.
    """
    ours, theirs = (card.encoder.model_dump(exclude={"weights", "account"}) for card in (first, other))
    differ = [key for key in ours if ours[key] != theirs[key]]
    if differ:
        raise ParentsError(
            "a probe must be scored on embeddings by the encoder it was fitted on, in the same form.",
            [
                *(
                    f"{name} was made by {_named(card.encoder)}"
                    for name, card in zip(called, (first, other), strict=True)
                ),
                f"they differ in: {', '.join(differ)}",
            ],
            "embed one of the two again with the other's encoder, weights and options",
        )


def require_same_making(folder: Path, holds: EmbeddingsCard, wanted: EmbeddingsCard) -> None:
    """Raise :class:`ParentsError` where a folder's encoder, decoding or tokens are not those wanted."""
    require_same_encoder(folder, holds.encoder, wanted.encoder)
    ours, theirs = (_making(card) for card in (holds, wanted))
    if ours != theirs:
        raise ParentsError(
            "embeddings of one folder must be made in one way.",
            [f"{folder} was made {ours}", f"this is {theirs}"],
            "choose another --out, or add --overwrite to replace the folder",
        )


def _making(card: EmbeddingsCard) -> str:
    decoding = "with --exact" if card.decoding.exact else "without --exact"
    tokens = "without tokens"
    if card.tokens is not None:
        rows, columns = card.tokens.grid
        tokens = f"with tokens ({rows} × {columns} × {card.tokens.dim})"
    return f"{decoding}, {tokens}"


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
