"""What is inside an embeddings folder: encoder, table, files, numbers; whether all is as written."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from panderm.data.images import ImageError, read_bytes
from panderm.embeddings.card import EmbeddingsCard, Part
from panderm.embeddings.derive.numbers import Numbers, numbers_of
from panderm.embeddings.made import shards
from panderm.embeddings.opened import Embeddings, open_embeddings
from panderm.embeddings.parts import unreadable
from panderm.errors import ArtifactError, plural, some
from panderm.progress import Progress
from panderm.provenance import read_card
from panderm.storage import sha256_of_file

_ELSEWHERE = re.compile(r"^[a-z0-9+.-]+://|\.parquet#\d+$")
"""A path that is an address, or a row of a Parquet file."""
_AT_ONCE = 4096  # images that wait for a thread


@dataclass(frozen=True)
class Described:
    """What an embeddings folder holds.

    Attributes:
        path: the folder.
        card: what made it.
        made: rows that have vectors: all of a finished folder, those so far of an unfinished one.
        waiting: rows that a run has made and not yet put into the finished parts.
        bytes: size of the finished parts, tokens included; of an unfinished folder, of its shards.
        numbers: norms, vectors that are not finite, equal vectors of different images; None where
            the folder is unfinished.
        verified: whether parts and images were read again.
        unseen: images that were not, because they are no files of this machine: in object storage, or in
            Parquet files.
        findings: what is not as the card says, by name; empty where all is, or where it was not asked.
    """

    path: Path
    card: EmbeddingsCard
    made: int
    waiting: int
    bytes: int
    numbers: Numbers | None
    verified: bool = False
    unseen: int = 0
    findings: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether every row of the table has its vector in a finished part."""
        return self.card.complete

    def as_dict(self) -> dict[str, Any]:
        """Return all of it in JSON's types."""
        card = self.card.model_dump(mode="json")
        parts, token_parts = card.pop("parts"), card.pop("token_parts")
        return {
            "embeddings": str(self.path),
            "identity": self.card.identity,
            "finished": self.finished,
            "rows": self.card.rows,
            "made": self.made,
            "waiting": self.waiting,
            "dim": self.card.encoder.dim,
            "bytes": self.bytes,
            "parts": parts,
            "token_parts": token_parts,
            "numbers": None if self.numbers is None else asdict(self.numbers),
            "verified": self.verified,
            "unseen": self.unseen,
            "findings": list(self.findings),
            "card": card,
        }


def describe_embeddings(embeddings: Path | str, *, verify: bool = False, progress: bool = True) -> Described:
    """Say what is inside an embeddings folder, finished or not.

    Args:
        embeddings: the folder, ``X.emb``.
        verify: read every part and every image again, and compare their sha256 with what is written of them.
        progress: show progress on standard error.

    Raises:
        ArtifactError: not such a folder, or one that cannot be opened (with ``verify`` a finding, where its
            card can be read).

    Example:
        >>> told = panderm.describe_embeddings("ham.emb", verify=True)  # doctest: +SKIP
        >>> told.made, told.numbers.norm_median, told.findings  # doctest: +SKIP
        (8783, 45.3, ())
    """
    folder = Path(embeddings)
    card = read_card(folder, EmbeddingsCard, "embeddings")
    making = shards(folder)
    waiting = len(_keys(making) - _keys([folder / part.name for part in card.parts])) if making else 0
    if not card.complete:
        stopped = (f"{folder} is not finished: {waiting:,} of {plural(card.rows, 'row')}",) * verify
        size = sum(shard.stat().st_size for shard in folder.glob("made/*.parquet"))
        return Described(folder, card, waiting, waiting, size, None, verify, 0, stopped)
    findings: list[str] = []
    numbers: Numbers | None = None
    unseen = 0
    if verify:
        findings += _parts_that_differ(folder, (*card.parts, *card.token_parts), progress=progress)
    try:
        opened = open_embeddings(folder)
        if verify:
            differ, unseen = _images_that_differ(opened, progress=progress)
            findings += differ
        numbers = numbers_of(opened, progress=progress)
    except ArtifactError as error:
        if not verify:
            raise
        findings += [] if findings else error.found  # a part that is damaged has been named
    if verify and numbers is not None and numbers.not_finite:
        names = some(numbers.not_finite_images)
        findings.append(f"{plural(numbers.not_finite, 'vector')} not finite: {names}")
    size = sum(part.bytes for part in (*card.parts, *card.token_parts))
    return Described(folder, card, card.rows, waiting, size, numbers, verify, unseen, tuple(findings))


def _keys(files: Sequence[Path]) -> set[tuple[str, str]]:
    """Return image and sha256 of every row; a damaged file counts for none, as for the run that goes on."""
    found: set[tuple[str, str]] = set()
    for path in files:
        try:
            rows = pq.read_table(path, columns=["image", "sha256"])
        except (pa.ArrowException, OSError):
            continue
        found |= set(zip(rows["image"].to_pylist(), rows["sha256"].to_pylist(), strict=True))
    return found


def _parts_that_differ(folder: Path, parts: tuple[Part, ...], *, progress: bool) -> list[str]:
    found = []
    with Progress(sum(part.bytes for part in parts), "reading parts", "B", shown=progress) as bar:
        for part in parts:
            path = folder / part.name
            try:
                size, now = path.stat().st_size, sha256_of_file(path)
            except OSError as error:
                found.append(unreadable(path, error))
                continue
            if size != part.bytes:
                found.append(f"{path} has {size:,} bytes, {part.bytes:,} when it was written")
            elif now != part.sha256:
                found.append(f"{path}: sha256 {part.sha256[:12]} when it was written, {now[:12]} now")
            bar.advance(part.bytes)
    return found


def _images_that_differ(emb: Embeddings, *, progress: bool) -> tuple[list[str], int]:
    """Name the images whose files are gone or others than were embedded; count those that are no files."""
    rows = emb.rows
    files = [i for i, path in enumerate(rows.path) if not _ELSEWHERE.search(path)]

    def problem(i: int) -> str | None:
        try:
            now = hashlib.sha256(read_bytes(rows.path[i])).hexdigest()
        except ImageError as error:
            return "; ".join(error.found)
        if now != rows.sha256[i]:
            was = rows.sha256[i][:12]
            return f"{rows.path[i]}: another file than was embedded (sha256 {was}, now {now[:12]})"
        return None

    found = []
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        with Progress(len(files), "reading images", "images", shown=progress) as bar:
            for start in range(0, len(files), _AT_ONCE):
                for told in pool.map(problem, files[start : start + _AT_ONCE]):
                    found += [] if told is None else [told]
                    bar.advance()
    finally:
        pool.shutdown(cancel_futures=True)
    return found, len(rows) - len(files)
