"""The cache of downloaded weights: which files are here, from where, under which licence, with which hash.

    CACHE/weights/panderm-base/pulled.json             the record
    CACHE/weights/panderm-base/panderm_bb_….pth        the file it speaks of
    CACHE/weights/.panderm-base.partial/               what is still on its way
    CACHE/fingerprints/                                of weights, by their sha256

The record is written once, at the first download, and believed ever after: a file that differs from it is
not used.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from panderm.errors import ArtifactError, UsageError, WeightsError
from panderm.provenance import Record
from panderm.storage import sha256_of_file, write_json

RECORD_NAME = "pulled.json"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_WHERE = {"drive": r"[\w-]{10,}", "hub": r"[\w.-]+/[\w.-]+(@[\w./-]+)?", "url": r"https?://[!-.0-~]+[!-~]*"}
_AS_RECORDED = "weights must be those recorded when they were first downloaded."


class Source(Record):
    """Where one file of an encoder can be had.

    Attributes:
        kind: ``drive`` (Google Drive), ``hub`` (Hugging Face Hub), ``url``.
        where: a Drive id · ``ORG/NAME`` or ``ORG/NAME@REVISION`` · an http(s) address.
        file: its name in the cache, folders with ``/``; for ``hub`` also its path in the repository.
        size: bytes, where known beforehand.
        sha256: 64 hex digits, where known beforehand.
    """

    kind: Literal["drive", "hub", "url"]
    where: str
    file: str
    size: int | None = Field(default=None, gt=0)
    sha256: Sha256 | None = None

    @field_validator("sha256", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("file")
    @classmethod
    def _stays_in_its_folder(cls, value: str) -> str:
        parts = value.split("/")
        hidden = any(part.startswith(".") or part.endswith((".part", ".part.json")) for part in parts)
        if not all(parts) or hidden or value == RECORD_NAME or re.search(r"[\\:\x00-\x1f]", value):
            raise ValueError("must be a plain file name")
        return value

    @model_validator(mode="after")
    def _is_an_address(self) -> Source:
        if not re.fullmatch(_WHERE[self.kind], self.where):
            raise ValueError(f"where: {self.where!r} is no address of kind {self.kind}")
        return self

    @property
    def location(self) -> str:
        """Return the address at which a person finds the file with a browser."""
        if self.kind == "drive":
            return f"https://drive.google.com/file/d/{self.where}/view"
        if self.kind == "hub":
            repository, _, revision = self.where.partition("@")
            return f"https://huggingface.co/{repository}/resolve/{revision or 'main'}/{self.file}"
        return self.where


class PulledFile(Record):
    """One downloaded file: what it was on the day it came. ``revision`` is the Hub's commit."""

    source: Source
    size: int
    sha256: Sha256
    at: str = Field(description="UTC, ISO 8601")
    revision: str | None = None


class Pulled(Record):
    """All downloaded files of one encoder, and the licence that was accepted for them."""

    format: Literal[1] = 1
    name: str
    licence: str
    accepted: str = Field(description="UTC, ISO 8601")
    files: tuple[PulledFile, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Held:
    """Weights in the cache."""

    folder: Path
    record: Pulled

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return where the files lie, in the order of their sources."""
        return tuple(self.folder / file.source.file for file in self.record.files)

    @property
    def path(self) -> Path:
        """Return where the first file lies: of most encoders the only one."""
        return self.paths[0]


def cache_folder() -> Path:
    """Return where downloads are kept; the folder need not exist yet.

    Returns:
        ``$XDG_CACHE_HOME/panderm`` where that is set, else ``~/.cache/panderm`` (macOS:
        ``~/Library/Caches/panderm``, Windows: ``%LOCALAPPDATA%/panderm/cache``).

    Raises:
        UsageError: this account has no home folder, and ``XDG_CACHE_HOME`` is not set.
    """
    named = os.environ.get("XDG_CACHE_HOME", "")
    if Path(named).is_absolute():  # by its specification a relative one is to be ignored
        return Path(named) / "panderm"
    local = os.environ.get("LOCALAPPDATA", "")
    if platform.system() == "Windows" and local:
        return Path(local) / "panderm" / "cache"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise UsageError(
            "there must be a folder for downloads.",
            "this account has no home folder",
            "set XDG_CACHE_HOME to a folder of yours",
        ) from error
    return home / ("Library/Caches/panderm" if platform.system() == "Darwin" else ".cache/panderm")


def folder_of(name: str) -> Path:
    """Return the folder of an encoder's downloads, ``weights/panderm-base``; it need not exist."""
    return cache_folder() / "weights" / slug(name)


def partial_of(name: str) -> Path:
    """Return the hidden folder beside it where an encoder's downloads are kept until they are whole."""
    folder = folder_of(name)
    return folder.with_name(f".{folder.name}.partial")


def slug(name: str) -> str:
    """Return a folder's name for an encoder's name: readable, never that of another encoder.

    A name of small letters, digits, dots and single hyphens stays as it is; of any other what can be read
    is kept, and a part of its hash follows: disks may hold capitals for small letters.
    """
    if re.fullmatch(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?", name) and "--" not in name and len(name) <= 80:
        return name
    readable = re.sub(r"[:/\\]+", "--", name)
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", readable).strip("._-")[:80]
    return f"{readable or 'encoder'}--{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def read_record(name: str) -> Pulled | None:
    """Return what was recorded of an encoder's downloads, or None where nothing was.

    Raises:
        ArtifactError: the record is damaged. It is not passed over: with it the hash would be lost that
            the next download is to be compared with.
    """
    path = folder_of(name) / RECORD_NAME
    try:
        record = Pulled.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        found = f"{path} cannot be read ({error.strerror})"
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        found = f"{path}: {where + ': ' if where else ''}{problem['msg']}"
    else:
        if record.name == name:
            return record
        found = f"{path} speaks of {record.name}"
    raise ArtifactError(
        f"the record of the downloaded weights of {name} must be whole.",
        found,
        f"delete the folder {path.parent} and run: panderm models pull {name}",
    )


_R = TypeVar("_R", bound=Record)


def read_if_whole(kind: type[_R], path: Path) -> _R | None:
    """Return a small record of what is on its way; a missing or damaged one counts as none."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def write_record(record: Pulled) -> None:
    """Write an encoder's record into its folder."""
    write_json(folder_of(record.name) / RECORD_NAME, record.model_dump(mode="json"), overwrite=True)


def held(name: str) -> Held | None:
    """Return what the cache holds of an encoder, or None where a file or the record is not there.

    Looks at names and sizes only; :func:`verify` reads the files.

    Raises:
        ArtifactError: the record is damaged.
        WeightsError: a file has another size than was recorded.
    """
    record = read_record(name)
    if record is None:
        return None
    found = Held(folder_of(name), record)
    for file, path in zip(record.files, found.paths, strict=True):
        if not path.is_file():
            return None
        size = path.stat().st_size
        if size != file.size:
            raise _changed(name, path, f"{file.size:,} bytes were recorded, it has {size:,}")
    return found


def verify(found: Held) -> None:
    """Compare every held file's SHA-256 with the recorded one; reads the files whole.

    Raises:
        WeightsError: a file has changed since it was downloaded.
    """
    for file, path in zip(found.record.files, found.paths, strict=True):
        verify_file(found.record.name, path, file)


def verify_file(name: str, path: Path, recorded: PulledFile) -> None:
    """Raise :class:`WeightsError` where a file's SHA-256 is not the recorded one."""
    sha256 = sha256_of_file(path)
    if sha256 != recorded.sha256:
        what = f"sha256 {recorded.sha256[:12]}… was recorded, it has {sha256[:12]}…"
        raise _changed(name, path, what)


def refuse_other(name: str, recorded: PulledFile, sha256: str, address: str) -> None:
    """Raise :class:`WeightsError` where a new download is not the file that was recorded at the first."""
    if recorded.sha256 != sha256:
        raise WeightsError(
            _AS_RECORDED,
            f"{address}: sha256 {recorded.sha256[:12]}… was recorded on {recorded.at[:10]}, "
            f"what came now has {sha256[:12]}…",
            f"ask its authors which one is right; to trust the new one, delete {folder_of(name)} "
            "and run the same command again",
        )


def _changed(name: str, path: Path, what: str) -> WeightsError:
    return WeightsError(
        _AS_RECORDED, f"{path}: {what}", f"delete this file and run: panderm models pull {name}"
    )


@contextlib.contextmanager
def alone(name: str, *, shown: bool = True) -> Iterator[Path]:
    """Hold an encoder's lock and yield the hidden folder of its downloads that are on their way.

    Another process that wants the same encoder waits; ``shown`` says for whom, on standard error.
    """
    from filelock import FileLock, Timeout

    folder, partial = folder_of(name), partial_of(name)
    owner, locked = (folder.with_name(f".{folder.name}.{what}") for what in ("owner", "lock"))
    with explain_cache_errors(folder):
        partial.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locked)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if shown:
                sys.stderr.write(f"waiting for {_who(owner)}, which is downloading {name}\n")
                sys.stderr.flush()
            lock.acquire(poll_interval=0.2)
    try:
        with explain_cache_errors(folder):
            partial.mkdir(exist_ok=True)  # who held the lock may have cleared it away
            owner.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield partial
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _who(owner: Path) -> str:
    try:
        return owner.read_text(encoding="utf-8") or "another process"
    except OSError:  # it has this moment begun, or ended
        return "another process"


@contextlib.contextmanager
def explain_cache_errors(path: Path, what: str = "the download") -> Iterator[None]:
    """Turn a full disk, a read-only folder and the like into one sentence for the user."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ArtifactError(
                f"the disk must have room for {what}.",
                f"no space left while writing {path}; what has arrived is kept",
                "free some space and run the same command again: it goes on where this one stopped",
            ) from error
        raise ArtifactError(
            "the cache folder must be writable.",
            f"{path}: {error.strerror or error}",
            "mend its permissions, or set XDG_CACHE_HOME to a folder of yours",
        ) from error
