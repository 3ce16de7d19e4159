"""What Ray's processes do with a unit of rows: hash it, decode it, encode it and keep its vectors."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from panderm.cluster.reading import contents
from panderm.cluster.units import group_starts
from panderm.data.preprocess import Preprocess
from panderm.data.stored import ImageError
from panderm.data.table import Table, TableCard
from panderm.embeddings import EmbeddingsCard, EmbeddingsWriter
from panderm.embeddings.made import MADE, shard_path
from panderm.embeddings.making.shards import require_finite
from panderm.embeddings.tokens import require_half
from panderm.errors import ArtifactError, PandermError, PandermWarning
from panderm.provenance import CARD_NAME
from panderm.storage import explain_write_errors

if TYPE_CHECKING:
    from panderm.embeddings.making.settled import Settled

ROLES = ("image", "split", "label", "patient", "group")
# Ray repeats what was killed, for ever; what kills its process each time is given up.
_TRIES = 5
# As many as any engine wants to see before it begins.
FIRST = 48


@dataclass(frozen=True)
class Task:
    """The rows of a run, and how their images are read; the same for every unit.

    Attributes:
        rows: Ray's reference to an Arrow table: position in the whole table, row, path, and the roles.
        bytes_in: as of :class:`panderm.cluster.reading.Given`.
        max_megapixels: an image of more is bad.
        preprocess: what pixels must look like; None before an encoder is known.
        exact: decode as the reference does.
    """

    rows: Any
    bytes_in: str | None
    max_megapixels: float
    preprocess: Preprocess | None = None
    exact: bool = False

    def slice(self, start: int, stop: int) -> pa.Table:
        """Return rows [start, stop); they lie in shared memory."""
        import ray

        return ray.get(self.rows).slice(start, stop - start)

    def contents(self, rows: pa.Table) -> Iterator[bytes | ImageError]:
        """Yield the bytes of the images of some rows."""
        return contents(rows["path"].to_pylist(), self.bytes_in)


def hash_unit(unit: pa.Table, *, task: Task) -> pa.Table:
    """Read a unit's files for their hashes: which of them are as they were."""
    start, stop = _ends(unit)
    hashes: list[str] = []
    problems: list[str] = []
    for content in task.contents(task.slice(start, stop)):
        hashes.append("" if isinstance(content, ImageError) else hashlib.sha256(content).hexdigest())
        problems.append(content.reason if isinstance(content, ImageError) else "")
    return _told(unit, hashes, problems)


def decode_unit(unit: pa.Table, *, task: Task) -> pa.Table:
    """Read, hash and decode a unit's images: their squares as one cell of bytes, bad ones left out."""
    from panderm.data.fast import pixels  # with torch: those who only hash do without

    assert task.preprocess is not None
    start, stop = _ends(unit)
    rows = task.slice(start, stop)
    side = task.preprocess.crop
    rgb = np.empty((stop - start, side, side, 3), dtype=np.uint8)
    hashes: list[str] = []
    problems: list[str] = []
    good = 0
    for content, path in zip(task.contents(rows), rows["path"].to_pylist(), strict=True):
        try:
            if isinstance(content, ImageError):
                raise content
            rgb[good] = pixels(
                content, path, task.preprocess, exact=task.exact, max_megapixels=task.max_megapixels
            )
        except ImageError as error:
            hashes.append("")
            problems.append(error.reason)
        else:
            hashes.append(hashlib.sha256(content).hexdigest())
            problems.append("")
            good += 1
    return _told(unit, hashes, problems).append_column("rgb", _one_cell(rgb[:good]))


@dataclass(frozen=True)
class Begun:
    """What the first images of a table decided, and what had to be said of it."""

    settled: Settled
    preprocess: Preprocess
    device: str
    warnings: tuple[str, ...]


def begin(
    load: dict[str, Any],
    task: Task,
    card: TableCard,
    folder: Path | None,
    *,
    batch_size: int | None,
    threads: int | None,
    exact: bool,
    tokens: bool,
) -> Begun:
    """Load the encoder and settle precision, decoding and groups, as a run without Ray does.

    Args:
        load: of :func:`panderm.load_encoder`.
        task: the rows of the whole table.
        card: of the table.
        folder: that a run may have begun; None where it is to be replaced.
        batch_size: images encoded at once; None for the encoder's own.
        threads: of PyTorch, on a CPU; None for its own choice.
        exact: decode as the reference does.
        tokens: patch tokens are wanted.
    """
    from panderm.embeddings.making.settled import settle
    from panderm.models.load import load_encoder

    with (
        _threads(threads),
        warnings.catch_warnings(record=True) as caught,
        tempfile.TemporaryDirectory() as here,
    ):
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", PandermWarning)
        encoder = load_encoder(**load)
        first = _first_images(task, card, Path(here))
        settled = settle(encoder, first, folder, batch_size=batch_size, exact=exact, tokens=tokens)
    said = tuple(str(one.message) for one in caught)
    return Begun(settled, encoder.preprocess, encoder.device.type, said)


def _first_images(task: Task, card: TableCard, here: Path) -> Table:
    """Bring the first images of a table to this machine, under names of no meaning."""
    rows = task.slice(0, FIRST)
    paths, hashes, there = [], [], []
    for i, content in enumerate(task.contents(rows)):
        if not isinstance(content, ImageError):
            paths.append(str(here / str(i)))
            Path(paths[-1]).write_bytes(content)
            hashes.append(hashlib.sha256(content).hexdigest())
            there.append(i)
    rows = rows.take(pa.array(there, pa.int64()))
    return replace(as_table(rows, np.array(hashes, dtype=object), card), path=np.array(paths, dtype=object))


class Eye:
    """One encoder in one process: units of decoded images in, shards of the store out.

    Args:
        task: the rows to be done.
        load: of :func:`panderm.load_encoder`.
        settled: by :func:`begin`.
        card: of the embeddings in the making.
        folder: ``X.emb``.
        first_rank: shards are numbered from here, one for each unit.
        threads: of PyTorch, on a CPU; None for its own choice.
    """

    def __init__(
        self,
        task: Task,
        load: dict[str, Any],
        settled: Settled,
        card: EmbeddingsCard,
        folder: str,
        first_rank: int,
        threads: int | None,
    ) -> None:
        import torch

        from panderm.models.load import load_encoder

        if threads is not None:
            torch.set_num_threads(threads)
        self._task, self._settled, self._card = task, settled, card
        self._folder, self._first_rank = Path(folder), first_rank
        if not (self._folder / CARD_NAME).is_file():
            raise ArtifactError(
                "--out must lie on a disk that every machine of the cluster shares.",
                f"one of them finds no {self._folder}",
            )
        self._encoder = load_encoder(**{**load, "precision": settled.encoder.precision})
        found, wanted = self._encoder.record.weights_sha256, settled.encoder.weights_sha256
        if found != wanted:
            raise ArtifactError(
                "every machine of the cluster must have the same weights file.",
                f"{self._encoder.record.weights}: {found[:12]} here, {wanted[:12]} where the run began",
            )
        self._encoder.adopt(settled.encoder, settled.drift)

    def __call__(self, unit: pa.Table) -> pa.Table:
        """Encode a unit and keep it; what a task that was repeated finds kept already is not made again."""
        begun = time.monotonic()
        start, stop = _ends(unit)
        rank = self._first_rank + unit["number"][0].as_py()
        hashes, problems = unit["sha256"][0].as_py(), unit["problem"][0].as_py()
        kept = shard_path(self._folder, rank, 0).exists()
        good = np.array([not problem for problem in problems], dtype=bool)
        if good.any() and not kept:
            tried = self._try(rank)
            rows = self._task.slice(start, stop).filter(pa.array(good))
            table = as_table(rows, np.array(hashes, dtype=object)[good], self._card.table)
            vectors, tokens = self._encode(unit["rgb"][0].as_buffer(), rows["position"].to_numpy())
            require_finite(table, vectors)
            if tokens is not None:
                tokens = require_half(table, tokens)
            writer = EmbeddingsWriter(self._folder, self._card, table, rank=rank, lead=False, number=0)
            writer.write(table, vectors, tokens)
            tried.unlink(missing_ok=True)
        told = _told(unit, hashes, problems)
        return told.append_column("seconds", pa.array([time.monotonic() - begun]))

    def _try(self, rank: int) -> Path:
        """Count how often a unit was begun, in a file: who counted before may be dead."""
        tried = self._folder / MADE / f"{rank}.tried"
        with explain_write_errors(tried):
            tried.parent.mkdir(exist_ok=True)
            with tried.open("ab") as file:
                if file.tell() >= _TRIES:
                    raise PandermError(
                        "an encoder must not be killed by the images it is given.",
                        f"{_TRIES} processes ended while they encoded the same images",
                        "most likely memory is too small: use fewer --actors, or a smaller --batch-size",
                    )
                file.write(b".")
        return tried

    def _encode(
        self, cell: Any, positions: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float16] | None]:
        import torch

        side = self._encoder.record.image_size
        rgb = np.frombuffer(cell, dtype=np.uint8).reshape(-1, side, side, 3)
        starts = group_starts(positions, self._settled.batch_size).tolist()
        pinned = self._encoder.device.type == "cuda"
        made, patches = [], []
        for start, stop in zip(starts, [*starts[1:], len(positions)], strict=True):
            # Copied: shared memory is read-only, and a GPU fetches from pinned memory by itself.
            batch = torch.empty((stop - start, side, side, 3), dtype=torch.uint8, pin_memory=pinned)
            np.copyto(batch.numpy(), rgb[start:stop])
            if self._settled.tokens is None:
                made.append(self._encoder.forward_rgb(batch))
            else:
                both = self._encoder.forward_rgb(batch, tokens=True)
                made.append(both[0])
                patches.append(both[1].cpu())
        vectors = torch.cat(made).cpu().numpy()
        return vectors, torch.cat(patches).numpy() if patches else None


def as_table(rows: pa.Table, sha256: npt.NDArray[np.object_], card: TableCard) -> Table:
    """Return Arrow rows as rows of a table."""
    columns = {name: np.array(rows[name].to_pylist(), dtype=object) for name in ("path", *ROLES)}
    return Table(row=rows["row"].to_numpy(), sha256=sha256, card=card, **columns)


@contextlib.contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Have PyTorch compute with so many threads, as the encoders will; then as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _ends(unit: pa.Table) -> tuple[int, int]:
    return unit["start"][0].as_py(), unit["stop"][0].as_py()


def _told(unit: pa.Table, hashes: list[str], problems: list[str]) -> pa.Table:
    """Return a unit with what was found of its files: one row, so that Ray never parts it."""
    words = pa.list_(pa.string())
    told = {name: unit[name] for name in ("number", "start", "stop")}
    return pa.table({**told, "sha256": pa.array([hashes], words), "problem": pa.array([problems], words)})


def _one_cell(rgb: npt.NDArray[np.uint8]) -> pa.Array:
    """Return an array's bytes as a column of one cell, without a copy."""
    offsets = pa.py_buffer(np.array([0, rgb.nbytes], dtype=np.int64))
    return pa.Array.from_buffers(
        pa.large_binary(), 1, [None, offsets, pa.py_buffer(np.ascontiguousarray(rgb))]
    )


def own_error(error: BaseException) -> PandermError | None:
    """Return the error of ours that lies within one of Ray's, if there is one."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        cause = getattr(at, "cause", None)
        if isinstance(cause, PandermError):
            return cause
        if isinstance(at, PandermError):
            return at
        at = cause if isinstance(cause, BaseException) else at.__cause__
    return None
