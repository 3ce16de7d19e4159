"""``journal.jsonl``: one line a step, and what else happened; a run that goes on cuts it back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from panderm.errors import ArtifactError
from panderm.storage import explain_write_errors

JOURNAL_NAME = "journal.jsonl"


class Journal:
    """A file of JSON lines that grows.

    Args:
        path: the file.
        at: its length in bytes at the checkpoint a run goes on from: what was written later is dropped, for
            it is going to happen again.

    Raises:
        ArtifactError: the file is shorter, or cannot be written.
    """

    def __init__(self, path: Path, *, at: int = 0) -> None:
        self.path = path
        with explain_write_errors(path):
            held = path.stat().st_size if path.exists() else 0
            if held < at:
                raise ArtifactError(
                    "the journal of a run must be whole.",
                    f"{path} has {held:,} bytes; at the checkpoint it had {at:,}",
                    "put the file back, or begin again with --overwrite",
                )
            self._file: BinaryIO = path.open("r+b" if path.exists() else "x+b")
            self._file.truncate(at)
            self._file.seek(at)

    def write(self, line: dict[str, Any]) -> None:
        """Write a line; a reader of the file sees it at once."""
        with explain_write_errors(self.path):
            self._file.write(json.dumps(line, allow_nan=False, ensure_ascii=False).encode() + b"\n")
            self._file.flush()

    def keep(self) -> int:
        """Put what was written on the disk, and return the length in bytes."""
        with explain_write_errors(self.path):
            os.fsync(self._file.fileno())
            return self._file.tell()

    def close(self) -> None:
        self._file.close()


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a journal; a last one that is only half written is left out."""
    with path.open("rb") as file:
        for raw in file:
            if raw.endswith(b"\n"):
                yield json.loads(raw)
