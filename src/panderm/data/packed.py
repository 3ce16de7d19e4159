"""A table as bytes and back, for another process: what one has read, the others need not read again."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from panderm.data.cells import of_arrow
from panderm.data.table import COLUMNS, Table, TableCard

_CARD = b"card"


def pack_table(table: Table) -> bytes:
    """Return a table as an Arrow stream with the card in its schema.

    Example:
        >>> unpack_table(pack_table(table)).card == table.card  # doctest: +SKIP
        True
    """
    columns = {name: table.cells(name).arrow() for name in COLUMNS}
    card = {_CARD: table.card.model_dump_json().encode()}
    arrow = pa.table({"row": pa.array(table.row), **columns}).replace_schema_metadata(card)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, arrow.schema) as stream:
        stream.write_table(arrow)
    return bytes(sink.getvalue())


def unpack_table(content: bytes) -> Table:
    """Return the table that :func:`pack_table` made to bytes."""
    with pa.ipc.open_stream(content) as stream:
        arrow = stream.read_all()
    columns: dict[str, Any] = {name: of_arrow(arrow[name], name) for name in COLUMNS}
    card = TableCard.model_validate_json(arrow.schema.metadata[_CARD])
    return Table(row=arrow["row"].to_numpy(), card=card, **columns)
