"""One process at a time writes an embeddings folder; the lock ends with the process that holds it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from panderm.errors import ArtifactError, PandermWarning
from panderm.storage import explain_write_errors

LOCK_NAME = "lock"


class Hold:
    """The lock of one folder, held until it is released or the process ends, however it ends.

    Raises:
        ArtifactError: another process holds it, or the folder cannot be written.
    """

    def __init__(self, folder: Path, noun: str = "an embeddings folder") -> None:
        self._path = folder / LOCK_NAME
        self._own: tuple[int, int] | None = None
        # Not of one thread: who makes shards and who finishes need not be the same.
        self._lock = FileLock(self._path, timeout=0, thread_local=False)
        with explain_write_errors(folder):
            try:
                self._lock.acquire()
            except Timeout:
                raise ArtifactError(
                    f"one process at a time may write {noun}.",
                    f"{folder} is being written by {_holder(self._path)}",
                    "wait until it has ended, or choose another --out",
                ) from None
            except NotImplementedError:
                warnings.warn(
                    f"{folder} lies on a disk that knows no locks: see that one process at a time writes it",
                    PandermWarning,
                    stacklevel=4,
                )
                return
        with contextlib.suppress(OSError):  # a full disk must not hinder a run that only frees space
            self._path.write_text(json.dumps(_self()), encoding="utf-8")
        self._own = _file(self._path)

    def release(self) -> None:
        """Let others write."""
        if not self._lock.is_locked:
            return
        # While it is held: afterwards, or where the folder was replaced, it may be another's.
        if os.name == "posix" and _file(self._path) == self._own:
            with contextlib.suppress(OSError):
                self._path.unlink()
        self._lock.release()


def _self() -> dict[str, Any]:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return {"host": socket.gethostname(), "process": os.getpid(), "since": since}


def _holder(path: Path) -> str:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return f"process {held['process']} on {held['host']}, since {held['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _file(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
