"""The card of an embeddings folder: which encoder, which table, how pixels were made, which files."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from panderm.data.table import TableCard
from panderm.provenance import Card, Record

Precision = Literal["fp32", "bf16", "fp16", "int8"]
Engine = Literal["torch", "openvino"]


class EncoderRecord(Record):
    """What embeddings remember of the encoder that made them."""

    name: str
    architecture: str
    dim: int
    weights: str | None
    weights_sha256: str
    account: str
    random: bool
    pool: str
    precision: Precision
    image_size: int
    preprocess: dict[str, Any]
    licence: str
    citation: str
    source: str
    engine: Engine = "torch"
    engine_sha256: str | None = Field(
        default=None, description="of the network as the engine was given it, where it was rewritten for it"
    )


class Decoding(Record):
    """How pixels were made of files: as the reference does, or faster, and how far that was off.

    Attributes:
        exact: every pixel as the reference pipeline (Pillow, torchvision) makes it.
        levels: largest difference to the reference seen on the first images, of 255; None where not compared.
        images: how many images were compared.
    """

    exact: bool = True
    levels: int | None = None
    images: int = 0


class TokensRecord(Record):
    """The patch tokens that lie beside the vectors: float16, (grid rows, grid columns, dim) an image."""

    grid: tuple[int, int]
    dim: int


class Part(Record):
    """One Parquet file of a finished folder; its name holds the beginning of its sha256."""

    name: str
    rows: int
    bytes: int
    sha256: str


class Source(Record):
    """A finished folder that rows were taken from, whole or in part, by merge or select.

    Attributes:
        store: where it was.
        identity: of its card.
        rows: how many rows came from it.
        chosen: how they were chosen; None where all were taken.
    """

    store: str
    identity: str
    rows: int
    chosen: str | None = None


class EmbeddingsCard(Card):
    """The card of an embeddings folder: one encoder, one preprocessing, one table.

    Writing it is what finishes a run: files that it does not name are of no account.
    """

    kind: Literal["embeddings"] = "embeddings"
    format: Literal[2] = 2
    encoder: EncoderRecord
    table: TableCard
    rows: int
    complete: bool = False
    images_per_second: float | None = None
    drift: float | None = Field(
        default=None, description="mean centred cosine of fewer bits to fp32, on some images of the table"
    )
    decoding: Decoding = Decoding()
    batch_size: int | None = None
    tokens: TokensRecord | None = None
    parts: tuple[Part, ...] = ()
    token_parts: tuple[Part, ...] = ()
    sources: tuple[Source, ...] = Field(
        default=(), description="the folders whose rows these are, where no encoder was run for them"
    )

    def decisive(self) -> dict[str, Any]:
        """Return encoder, preprocessing and table: all that decides the vectors and their rows."""
        return {
            "kind": self.kind,
            "format": self.format,
            "encoder": self.encoder.model_dump(mode="json", exclude={"weights", "account"}),
            "table": self.table.sha256,
            "exact": self.decoding.exact,
        }
