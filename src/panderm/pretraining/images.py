"""The images a run learns from: its sources, without those that must not be learned from."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from panderm.data.streams.opened import open_source
from panderm.data.streams.source import ImageSource, require_files
from panderm.embeddings.making.ranks import Ranks
from panderm.errors import ParentsError, UsageError
from panderm.pretraining.exclusion import Excluded, read_excluded
from panderm.pretraining.exclusion import exclude as leave_out


@dataclass(frozen=True)
class Images:
    """What a run learns from.

    Attributes:
        source: the images.
        record: of what was left out, JSON-able; None where nothing was to be.
        excluded: the same with every image, where it was sought now, in the first process.
        words: lines for the user.
    """

    source: ImageSource
    record: dict[str, Any] | None
    excluded: Excluded | None
    words: tuple[str, ...]


def images_of(
    source: Path | str | Sequence[Path | str],
    ranks: Ranks,
    *,
    images: Path | str | None,
    image_column: str,
    split: str | None,
    split_column: str,
    patient: str | None,
    exclude: Sequence[Path | str],
    exclude_images: Path | str | None,
    exclude_split: str | None,
    exclude_patients: Path | str | None,
    near: bool,
    known: tuple[Path, dict[str, Any]] | None,
    workers: int | None,
    progress: bool,
) -> Images:
    """Open the images, and leave out what must not be learned from; one process seeks it for all.

    Args:
        source: as of :func:`panderm.data.streams.opened.open_source`.
        ranks: the processes.
        images: folder of a table's images.
        image_column: its column with the file.
        split: which rows of a table.
        split_column: its column with the split.
        patient: its column with the patient.
        exclude: what to stay clear of, as of :func:`panderm.pretraining.exclusion.exclude`.
        exclude_images: the folder of their images.
        exclude_split: which of their rows.
        exclude_patients: a text file, a patient a line.
        near: look for near-duplicates.
        known: the list that an earlier start of this run wrote, and its record: it is not sought again.
        workers: threads.
        progress: show it.

    Raises:
        ParentsError: the processes see different images.
    """
    columns = {"image_column": image_column, "split_column": split_column, "patient": patient}
    opened = open_source(source, images=images, split=split, progress=progress, **columns)  # type: ignore[arg-type]
    require_files(opened)
    seen = ranks.agree(lambda: opened.record["sha256"])
    if seen != opened.record["sha256"]:
        raise ParentsError(
            "all processes of a run must see the same images.",
            f"process {ranks.rank} sees others in {opened.record['where']}",
        )
    words = opened.summary().splitlines()
    patients = _patients(exclude_patients)
    if not exclude and not patients:
        return Images(opened, None, None, tuple(words))
    found: list[Excluded] = []

    def seek() -> dict[str, Any]:
        if known is not None:
            read_excluded(known[0], opened)  # of this source, and whole
            rows = csv.DictReader(known[0].read_text("utf-8").splitlines())
            return {"record": known[1], "out": [int(row["position"]) for row in rows]}
        _, excluded = leave_out(
            opened,
            list(exclude),
            patients=patients,
            near=near,
            images=exclude_images,
            split=exclude_split,
            workers=workers,
            progress=progress,
            **columns,  # type: ignore[arg-type]
        )
        found.append(excluded)
        return {"record": excluded.record, "out": [m.position for m in excluded.matches]}

    told = ranks.agree(seek)
    out = np.array(told["out"], dtype=np.int64)
    rest = opened
    if len(out):
        keep = np.setdiff1d(np.arange(len(opened), dtype=np.int64), out)
        rest = opened.select(keep, f"{len(out):,} left out")
    words += found[0].sentences() if found else [f"{len(out):,} images left out, as before"]
    return Images(rest, told["record"], found[0] if found else None, tuple(words))


def _patients(file: Path | str | None) -> list[str]:
    if file is None:
        return []
    try:
        lines = Path(file).read_text("utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise UsageError(
            "patients to leave out must be a text file, one a line.", f"{file}: {error}"
        ) from None
    return [line.strip() for line in lines if line.strip()]
