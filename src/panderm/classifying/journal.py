"""What a run has predicted so far, line by line: a run that was stopped goes on from there."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from panderm.data.table import Table
from panderm.embeddings.lock import Hold
from panderm.errors import ParentsError
from panderm.storage import explain_write_errors

Floats = npt.NDArray[np.float64]
_ENDING, _ROWS = ".unfinished", "rows.jsonl"


def journal_path(out: Path) -> Path:
    """Return the folder beside an output that holds what is there of it, until it is finished."""
    return out.with_name(out.name + _ENDING)


class InMemory:
    """Rows as they are predicted, for those who write nothing.

    Attributes:
        probabilities: float64 (n, K); NaN where they are still to be made.
        done: bool (n,).
    """

    def __init__(self, rows: int, K: int) -> None:
        self.probabilities: Floats = np.full((rows, K), np.nan)
        self.done = np.zeros(rows, dtype=bool)

    def add(self, positions: npt.NDArray[np.int64], probabilities: Floats) -> None:
        """Keep the probabilities (n, K) of one group."""
        self.probabilities[positions], self.done[positions] = probabilities, True

    def remove(self) -> None:
        """Do nothing: nothing was written."""


class Lines:
    """What a run has made, line by line, each flushed; half a last line counts for nothing.

    The first line says what makes it and how: a run that was stopped goes on with the same alone.

    Args:
        path: the folder of :func:`journal_path`; what is there is gone on with.
        told: what makes the output, and how, as JSON.
        take: is given the value of every whole line behind the first.
        overwrite: begin anew where a run with another maker was stopped; otherwise that is refused.

    Attributes:
        resumed: whether lines of another run are gone on with.

    Raises:
        ParentsError: it is of another maker.
        ArtifactError: it cannot be written, or another process writes it.
    """

    def __init__(
        self, path: Path, told: dict[str, Any], take: Callable[[Any], None], *, overwrite: bool = False
    ) -> None:
        self._folder, self._path = path, path / _ROWS
        with explain_write_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        self._hold = Hold(path, "an output")
        try:
            whole = self._read(told, take, overwrite=overwrite) if self._path.is_file() else 0
        except ParentsError:
            self._hold.release()
            raise
        self.resumed = bool(whole)
        with explain_write_errors(self._path):
            self._file: IO[str] = self._path.open("r+" if whole else "w", encoding="utf-8", newline="\n")
            if whole:
                self._file.truncate(whole)
                self._file.seek(whole)
            else:
                self.add(told)

    def add(self, value: Any) -> None:
        """Keep one line.

        Raises:
            ArtifactError: the disk is full.
        """
        with explain_write_errors(self._path):
            self._file.write(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")
            self._file.flush()  # a process that is killed takes nothing with it

    def remove(self) -> None:
        """Take the journal away: the output is there."""
        self._file.close()
        self._path.unlink(missing_ok=True)
        self._hold.release()
        with contextlib.suppress(OSError):  # what else lies there is not ours
            self._folder.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._file.closed:
            with explain_write_errors(self._path):
                os.fsync(self._file.fileno())
                self._file.close()
        self._hold.release()

    def _read(self, told: dict[str, Any], take: Callable[[Any], None], *, overwrite: bool) -> int:
        """Hand over the lines that are there, and return how many bytes of the file are whole lines."""
        whole = 0
        with self._path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                value = _read(line)
                if value is None:
                    break  # as where the machine stopped, and not all of it was on the disk
                if not whole and value != told:
                    if overwrite:
                        return 0
                    raise ParentsError(
                        "a run that was stopped must go on with what it began with.",
                        [
                            f"{self._path} was begun with another model, or other options",
                            *_apart(value, told),
                        ],
                        "run it as before, choose another --out, or begin anew with --overwrite",
                    )
                if whole:
                    take(value)
                whole += len(line)
        return whole


class Journal(InMemory):
    """Rows as they are predicted, flushed group by group.

    The first line says what predicts and how. Every other holds one group whole: names, the beginnings of
    their files' hashes, probabilities to the last bit.

    Args:
        path: the folder of :func:`journal_path`; what is there is gone on with.
        told: what predicts, and how, as JSON.
        table: the rows asked for.
        K: classes.
        overwrite: begin anew where another run with another predictor was stopped; otherwise that is refused.

    Attributes:
        probabilities: float64 (n, K) of the table's rows; NaN where they are still to be made.
        done: bool (n,).

    Raises:
        ParentsError: it is of another predictor.
        ArtifactError: it cannot be written, or another process writes it.
    """

    def __init__(
        self, path: Path, told: dict[str, Any], table: Table, K: int, *, overwrite: bool = False
    ) -> None:
        super().__init__(len(table), K)
        self._table = table
        self._at = {name: i for i, name in enumerate(table.cells("image"))}
        self._lines = Lines(path, told, self._take, overwrite=overwrite)

    def add(self, positions: npt.NDArray[np.int64], probabilities: Floats) -> None:
        """Keep the probabilities (n, K) of one group.

        Raises:
            ArtifactError: the disk is full.
        """
        super().add(positions, probabilities)
        image, sha256 = self._table.cells("image"), self._table.cells("sha256")
        rows = zip(positions.tolist(), probabilities.tolist(), strict=True)
        self._lines.add([[image[i], str(sha256[i])[:16], p] for i, p in rows])

    def remove(self) -> None:
        """Take the journal away: the output is there."""
        self._lines.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.__exit__(kind, error, trace)

    def _take(self, rows: Any) -> None:
        """Take over the rows that are as they were."""
        sha256 = self._table.cells("sha256")
        for name, digest, p in rows:
            i = self._at.get(name)
            if i is not None and str(sha256[i]).startswith(digest):
                self.probabilities[i], self.done[i] = p, True


def _read(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _apart(before: Any, now: dict[str, Any]) -> list[str]:
    if not isinstance(before, dict):
        return []
    return [
        f"{key}: then {before.get(key)}, now {now.get(key)}"
        for key in now
        if before.get(key) != now[key] and not isinstance(now[key], dict | list)
    ]
