"""Files that are either whole or absent: write beside, flush, rename."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from panderm.errors import ArtifactError

# By one of these a folder of ours is known: no other folder is ever replaced.
_OURS = ("card.json", "world.csv")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # two letters or more: C:/ is a drive
_IN_THE_WAY = {
    errno.EEXIST: "the folder it is to lie in is a file",
    errno.ENOTDIR: "the folder it is to lie in is a file",
    errno.EISDIR: "there is a folder of this name",
}


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise :class:`ArtifactError` where ``path`` exists and may not be replaced."""
    if os.path.lexists(path) and not overwrite:
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
        raise ArtifactError(
            "the output must be writable.",
            f"{path}: {_IN_THE_WAY.get(error.errno or 0) or error.strerror or error}",
            "choose another --out, or mend the permissions of its folder",
        ) from error


def require_local(path: Path) -> None:
    """Raise :class:`ArtifactError` where an output is an address: a folder ``s3:`` would be made here."""
    if _SCHEME.match(str(path)):
        raise ArtifactError(
            "an output must be a path on this machine's disks.",
            f"found {path}",
            "write it here, and copy it there with that storage's own tool",
        )


@contextlib.contextmanager
def new_file(
    path: Path, *, overwrite: bool = False, sweep: bool = True, flushed: bool = True
) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; flush and rename it there if the block succeeds.

    What a run that was killed left half-written under this name is removed; not with ``sweep`` off, for that
    lists the folder, which is slow where there are many files. With ``flushed`` off the system may write it
    later: for many files of one folder, which is flushed as a whole.
    """
    require_local(path)
    refuse_existing(path, overwrite=overwrite)
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if sweep:
            remove_leftovers(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            yield temporary
            if flushed:
                flush(temporary)
            temporary.replace(path)
            if flushed:
                flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; rename it there, whole, if the block succeeds."""
    require_local(path)
    refuse_existing(path, overwrite=overwrite)
    with explain_write_errors(path):
        _require_ours(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        prefix = f".{path.name}.{os.getpid()}."
        temporary = Path(tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=path.parent))
        temporary.chmod(0o777 & ~umask())
        try:
            yield temporary
            for file in temporary.rglob("*"):
                flush(file)
            _put(temporary, path)
        except ArtifactError as error:
            # The user knows nothing of the temporary name.
            found = [line.replace(str(temporary), str(path)) for line in error.found]
            raise type(error)(error.must, found, error.hint) from error
        finally:
            if temporary.exists():
                _remove(temporary)


def put_folder(made: Path, path: Path, *, overwrite: bool = False) -> None:
    """Rename a folder that is whole, on the same disk, to its name; what it holds is on the disk before.

    Raises:
        ArtifactError: ``path`` exists and may not be replaced, or holds what is not ours or of another kind.
    """
    require_replaceable(path, overwrite=overwrite)
    with explain_write_errors(path):
        if hasattr(os, "sync"):
            os.sync()  # at once: file by file, thousands of them take minutes
        _put(made, path)


def require_replaceable(path: Path, *, overwrite: bool) -> None:
    """Raise :class:`ArtifactError` where a folder may not be written under this name, before it is made."""
    require_local(path)
    refuse_existing(path, overwrite=overwrite)
    _require_ours(path)


def _put(made: Path, path: Path) -> None:
    if path.exists():
        _require_same_kind(path, made)
        aside = path.with_name(f".{path.name}.{os.getpid()}.old")
        path.replace(aside)
        made.replace(path)
        _remove(aside)
    else:
        made.replace(path)
    flush(path.parent)


def _require_ours(path: Path) -> None:
    found = None
    if path.is_file():
        found = f"{path} is a file"
    elif path.is_dir() and any(path.iterdir()) and not any((path / name).is_file() for name in _OURS):
        found = f"{path} holds other files, and they would be lost"
    if found:
        raise ArtifactError(
            "only a folder that panderm wrote may be replaced.", found, "choose another --out"
        )


def _require_same_kind(path: Path, new: Path) -> None:
    holds, comes = _kind(path), _kind(new)
    if holds and comes and holds != comes:
        raise ArtifactError(
            "an artifact may be replaced by one of its own kind only.",
            f"{path} holds {holds}, not {comes}",
            "choose another --out",
        )


def _kind(folder: Path) -> str | None:
    """Return what a folder of ours says it holds, or None where its card is damaged."""
    card, world = (folder / name for name in _OURS)
    try:
        return str(json.loads(card.read_bytes())["kind"]) if card.is_file() else world.name
    except (ValueError, KeyError, TypeError):
        return None


def remove_leftovers(path: Path) -> None:
    """Remove what a run that was killed left beside ``path``: temporary names of no living process."""
    left = re.compile(re.escape(f".{path.name}.") + r"(\d+)(\.[a-z0-9_]{8})?\.(tmp|old)")
    for beside in path.parent.iterdir():
        found = left.fullmatch(beside.name)
        if found and not _alive(int(found[1])):
            _remove(beside)


def _alive(pid: int) -> bool:
    """Say whether another process of this number runs on this machine."""
    if pid == os.getpid():
        return False
    if os.name != "posix":
        return True  # elsewhere there is no asking without a signal
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def umask() -> int:
    """Return what the user takes away from the rights of new files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
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
    """Return the hex SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """Return a value as JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def in_a_path(text: str) -> str:
    """Return a name as a file or folder can bear it; empty where nothing of it can stay."""
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.")
