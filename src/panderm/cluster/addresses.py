"""Files by path or by address (``s3://bucket/a.jpg``): one way to list, open and read them."""

from __future__ import annotations

import re
import time
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from panderm.data.images import read_bytes
from panderm.data.stored import ImageError
from panderm.errors import ArtifactError, UsageError

# Two letters or more: C:/ is a drive.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
_TRIES = 4
_PAUSE = 0.5  # seconds before the second try; doubled each time


class OutOfReach(Exception):  # noqa: N818
    """A storage does not answer: this says nothing about the file that was asked for."""


def as_address(text: Path | str) -> str:
    """Return a path or address as it was typed: as a path, ``s3://bucket`` has lost one of its slashes.

    Example:
        >>> as_address(Path("s3://bucket/a.jpg")), as_address("images/a.jpg")
        ('s3://bucket/a.jpg', 'images/a.jpg')
    """
    typed = str(text)
    found = _SCHEME.match(typed)
    if found is None:
        return typed
    slashes = "///" if found[1] == "file" else "//"
    return f"{found[1]}:{slashes}{typed[found.end() :]}"


def is_address(text: Path | str) -> bool:
    """Say whether a text names a place by its scheme."""
    return _SCHEME.match(str(text)) is not None


def beside(folder: str, name: str) -> str:
    """Return where a file named relative to a folder is; a name may be an address or a whole path.

    Example:
        >>> beside("s3://bucket/skin", "a.jpg"), beside("/data", "b.jpg"), beside("/data", "gs://other/c.jpg")
        ('s3://bucket/skin/a.jpg', '/data/b.jpg', 'gs://other/c.jpg')
    """
    if is_address(name):
        return as_address(name)
    if is_address(folder) and not Path(name).is_absolute():
        return f"{folder.rstrip('/')}/{name}"
    return str(Path(folder) / name)


@lru_cache(maxsize=64)
def _storage(root: str) -> tuple[Any, str]:
    """Return Arrow's file system of ``scheme://authority/`` and what its paths begin with."""
    import pyarrow as pa
    from pyarrow import fs

    try:
        system, base = fs.FileSystem.from_uri(root)
    except pa.ArrowInvalid:
        system, base = _by_fsspec(root)
    except (OSError, pa.ArrowException) as error:
        raise OutOfReach(f"{root}: {_first_line(error)}") from None
    return system, base.rstrip("/")


def _by_fsspec(root: str) -> tuple[Any, str]:
    from pyarrow import fs

    scheme = root.partition(":")[0]
    try:
        import fsspec

        system = fsspec.filesystem(scheme)
    except (ImportError, ValueError) as error:
        raise UsageError(
            "addresses must be of a storage that can be read here.",
            f"{root}: {_first_line(error)}",
            "s3://, gs://, abfs://, hdfs:// and file:// need nothing more; others the library of fsspec "
            "that is named above",
        ) from None
    return fs.PyFileSystem(fs.FSSpecHandler(system)), str(system._strip_protocol(root))


def storage_of(address: str) -> tuple[Any, str]:
    """Return the Arrow file system of a path or address, and the path within it.

    The rest of an address is taken as it is: a key may hold spaces, ``%`` and ``#``.

    Raises:
        UsageError: a scheme that nothing here can read.
        OutOfReach: the storage does not answer.
    """
    from pyarrow import fs

    found = _SCHEME.match(address)
    if found is None:
        return fs.LocalFileSystem(), str(Path(address).expanduser().absolute())
    rest = address[found.end() :]
    if found[1] == "file":
        system, base = _storage("file:///")
        return system, f"{base}/{rest}"
    authority, _, path = rest.partition("/")
    system, base = _storage(f"{found[1]}://{authority}/")
    return system, f"{base}/{path}" if path else base


def open_file(address: str) -> IO[bytes]:
    """Open a file for reading at any place (Arrow's file object).

    Raises:
        OSError: as of the file system.
    """
    system, path = storage_of(address)
    opened: IO[bytes] = system.open_input_file(path)
    return opened


def files_in(address: str, endings: tuple[str, ...]) -> list[str] | None:
    """Return the files of a folder and all folders below it, sorted; None where it is no folder.

    Hidden files, and those of folders that begin with a dot or underscore, are left out.

    Raises:
        ArtifactError: the storage does not answer.
    """
    from pyarrow import fs

    try:
        system, path = storage_of(address)
        if system.get_file_info(path).type != fs.FileType.Directory:
            return None
        every = system.get_file_info(fs.FileSelector(path, recursive=True))
    except (OSError, OutOfReach) as error:
        raise ArtifactError(
            "every file and folder must be within reach.", f"{address}: {_first_line(error)}"
        ) from None
    start = len(path.rstrip("/")) + 1
    names = [info.path[start:] for info in every if info.type == fs.FileType.File]
    shown = [n for n in names if not any(part[:1] in "._" for part in n.split("/"))]
    return [f"{address.rstrip('/')}/{name}" for name in sorted(shown) if name.lower().endswith(endings)]


def read_content(address: str) -> bytes:
    """Return a file's bytes; a storage that does not answer is asked again, four times in all.

    Raises:
        ImageError: no such file, a folder, an empty file.
        OutOfReach: the storage still does not answer.
    """
    if not is_address(address):
        return read_bytes(address)
    pause = _PAUSE
    for left in reversed(range(_TRIES)):
        try:
            system, path = storage_of(address)
            with system.open_input_stream(path) as file:
                content = bytes(file.read())
            break
        except FileNotFoundError:
            raise ImageError(address, "no such file") from None
        except IsADirectoryError:
            raise ImageError(address, "a folder, not a file") from None
        except (OSError, OutOfReach) as error:
            if not left:
                raise OutOfReach(_first_line(error)) from None
            time.sleep(pause)
            pause *= 2
    if not content:
        raise ImageError(address, "an empty file")
    return content


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
