"""Files that are either whole or absent: write beside, flush, rename."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from panderm.errors import ArtifactError


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise :class:`ArtifactError` where ``path`` exists and may not be replaced."""
    if path.exists() and not overwrite:
        raise ArtifactError(
            "an output must not exist already.",
            f"found {path}",
            "choose another --out, or add --overwrite to replace it",
        )


@contextlib.contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a read-only folder and the like into one sentence for the user."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ArtifactError(
                "the disk must have room for the output.",
                f"no space left while writing {path}; nothing half-written was kept",
                "free some space, or choose an --out on another disk, and run the same command again",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR):
            raise ArtifactError(
                "the output must be writable.",
                f"{path}: {error.strerror}",
                "choose another --out, or mend the permissions of its folder",
            ) from error
        raise


@contextlib.contextmanager
def new_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; flush and rename it there if the block succeeds."""
    refuse_existing(path, overwrite=overwrite)
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            yield temporary
            flush(temporary)
            temporary.replace(path)
            flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; rename it there, whole, if the block succeeds."""
    refuse_existing(path, overwrite=overwrite)
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        temporary.chmod(0o777 & ~_umask())
        try:
            yield temporary
            for file in temporary.rglob("*"):
                flush(file)
            if path.exists():
                aside = path.with_name(f".{path.name}.{os.getpid()}.old")
                path.replace(aside)
                temporary.replace(path)
                _remove(aside)
            else:
                temporary.replace(path)
            flush(path.parent)
        finally:
            if temporary.exists():
                _remove(temporary)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def flush(path: Path) -> None:
    """Ask the operating system to put a file's or folder's content on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Write a text file, whole or not at all."""
    with new_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, *, overwrite: bool = False) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", overwrite=overwrite)


def sha256_of_file(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_json(value: Any) -> str:
    """Return the hex SHA-256 of a value's canonical JSON: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
