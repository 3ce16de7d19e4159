"""Images in tar files, as WebDataset writes them: found once by their headers, then read where they lie."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from panderm.data.stored import ImageError
from panderm.data.streams.folder import ENDINGS
from panderm.data.streams.source import ImageSource, SourceRecord, packed, sha256_of_names
from panderm.errors import DataError, plural, some
from panderm.progress import in_threads

_BLOCK = 512


class ShardSource(ImageSource):
    """The images of tar files that are not compressed; members with other endings are passed over.

    A shard that is damaged counts as far as it can be read.

    Args:
        files: the shards, in the order wanted.
        where: what they are called together, for messages; by default the first, and how many more.
        progress: show progress on standard error.

    Raises:
        DataError: none of them holds an image.
    """

    def __init__(self, files: Sequence[Path], *, where: str | None = None, progress: bool = True) -> None:
        self._files = [str(file) for file in files]
        found = list(
            in_threads(partial(_index), list(files), "reading shards", "shards", workers=4, shown=progress)
        )
        self._names = packed([shard.names for shard in found])
        self._offset = np.concatenate([shard.offset for shard in found])
        self._size = np.concatenate([shard.size for shard in found])
        self._ends = np.cumsum([len(shard.names) for shard in found])
        damaged = [
            f"{Path(file).name} ({s.problem})" for file, s in zip(files, found, strict=True) if s.problem
        ]
        place = where or some([str(Path(file).resolve()) for file in files], 1)
        if not len(self._names):
            raise DataError(
                "a source must have at least one image.",
                [f"{plural(len(files), 'tar file')} hold none: {place}", *damaged[:5]],
                f"members are taken for images by their endings: {some(ENDINGS, 8)}",
            )
        self.record = SourceRecord(
            kind="shards",
            where=place,
            count=len(self._names),
            sha256=sha256_of_names(self._names, [self._offset, self._size, self._ends]),
            notes=[f"{plural(len(damaged), 'shard')} damaged: {some(damaged)}"] if damaged else [],
            parts=[],
        )

    def _shard(self, i: int) -> str:
        return self._files[int(np.searchsorted(self._ends, i, side="right"))]

    def name(self, i: int) -> str:
        return f"{Path(self._shard(i)).name}/{self._names[i]}"

    def read(self, i: int) -> bytes:
        wanted = int(self._size[i])
        try:
            with Path(self._shard(i)).open("rb", buffering=0) as file:
                file.seek(int(self._offset[i]))
                content = file.read(wanted)
        except FileNotFoundError:
            raise ImageError(self.name(i), "its shard is gone") from None
        except OSError as error:
            raise ImageError(self.name(i), f"cannot be read ({error.strerror})") from None
        if not wanted:
            raise ImageError(self.name(i), "an empty file")
        if content is None or len(content) != wanted:
            raise ImageError(self.name(i), "its shard is shorter than it was")
        return content

    def size(self, i: int) -> int:
        return int(self._size[i])


@dataclass(frozen=True, eq=False)
class _Shard:
    """Where the images of one tar file lie, in bytes; and what is wrong with it."""

    names: pa.LargeStringArray
    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    problem: str | None


def _index(path: Path) -> _Shard:
    names: list[str] = []
    places: list[tuple[int, int]] = []
    problem = None
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                tar.members.clear()  # type: ignore[attr-defined]
                if not member.isreg() or member.issparse():
                    continue
                if Path(member.name).suffix.lower() in ENDINGS and _is_photograph(member.name):
                    names.append(member.name.encode("utf-8", "replace").decode())
                    places.append((member.offset_data, member.size))
            end = tar.offset
        problem = _rest(path, end)
    except (tarfile.TarError, OSError, ValueError) as error:
        problem = (str(error).splitlines() or [type(error).__name__])[0]
    where = np.array(places, dtype=np.int64).reshape(-1, 2)
    return _Shard(packed([names]), where[:, 0].copy(), where[:, 1].copy(), problem)


def _rest(path: Path, end: int) -> str | None:
    """Say what is wrong where the reader stopped: it takes a header that is damaged for the end."""
    size = path.stat().st_size
    if end >= size:
        return None if end == size else "cut off in its last member"
    with path.open("rb") as file:
        file.seek(end)
        block = file.read(_BLOCK)
    return f"no header at byte {end:,} of {size:,}; what follows is left out" if block.strip(b"\0") else None


def _is_photograph(name: str) -> bool:
    """Say whether a member is no mask by its ending (``key.mask.png``), and not hidden."""
    last = name.rpartition("/")[2]
    return not last.startswith(".") and last.split(".")[-2] not in ("mask", "seg")
