"""One process at a time writes an embeddings folder; the lock ends with the process that holds it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from panderm.errors import ArtifactError
from panderm.storage import explain_write_errors

LOCK_NAME = "lock"


class Hold:
    """The lock of one folder, held until it is released or the process ends, however it ends.

    Raises:
        ArtifactError: another process holds it, or the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self._lock: BaseFileLock = FileLock(self._path, timeout=0)
        with explain_write_errors(folder):
            try:
                self._lock.acquire()
            except Timeout:
                raise ArtifactError(
                    "one process at a time may write an embeddings folder.",
                    f"{folder} is being written by {_holder(self._path)}",
                    "wait until it has ended, or choose another --out",
                ) from None
            self._path.write_text(
                json.dumps(
                    {
                        "host": socket.gethostname(),
                        "process": os.getpid(),
                        "since": datetime.now(UTC).isoformat(timespec="seconds"),
                    }
                ),
                encoding="utf-8",
            )

    def release(self, *, tidy: bool = True) -> None:
        """Let others write; ``tidy=False`` where another folder has come to lie in this one's place."""
        if self._lock.is_locked:
            if tidy and os.name == "posix":  # while it is held: afterwards it may be another's
                with contextlib.suppress(OSError):
                    self._path.unlink()
            self._lock.release()


def _holder(path: Path) -> str:
    try:
        held: Any = json.loads(path.read_text(encoding="utf-8"))
        return f"process {held['process']} on {held['host']}, since {held['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
