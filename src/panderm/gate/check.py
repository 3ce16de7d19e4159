"""Every row and every file of a table, looked at once; everything that is wrong with them, told at once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from panderm.data.columns import Column, find_roles, read_cells, read_column, whole_numbers
from panderm.data.examine import Examined, examine_all
from panderm.data.images import MAX_MEGAPIXELS
from panderm.data.rows import images_folder, lesions_of
from panderm.embeddings import Embeddings, open_embeddings
from panderm.errors import plural
from panderm.gate.column_findings import inspect_columns
from panderm.gate.files import check_files, check_pictures, same_file
from panderm.gate.findings import Finding, Inspected
from panderm.gate.labels import check_labels
from panderm.gate.lookalikes import settle
from panderm.gate.shortcut_findings import inspect_shortcuts, require_shortcuts
from panderm.gate.splits import check_splits
from panderm.gate.twins import check_twins, find_twins
from panderm.provenance import Provenance


@dataclass(frozen=True, eq=False)
class Checked:
    """What a check found.

    Attributes:
        inspected: the rows as they stand, and their files.
        findings: what is wrong, or makes numbers wrong.
        notes: what is worth knowing, and stops nothing.
        not_checked: what could not be looked for, and for lack of what; one sentence each.
        provenance: when, by which version, on which machine, in how many seconds.

    Example:
        >>> checked = panderm.check("ham.csv", images="images/")  # doctest: +SKIP
        >>> checked.counts  # doctest: +SKIP
        {'missing-file': 2, 'near-duplicates': 108}
    """

    inspected: Inspected
    findings: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    not_checked: tuple[str, ...]
    provenance: Provenance

    @property
    def ok(self) -> bool:
        """Whether there is no finding."""
        return not self.findings

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each kind of finding and note."""
        counts: Counter[str] = Counter()
        for one in (*self.findings, *self.notes):
            counts[one.kind] += one.count
        return dict(counts)

    @property
    def files(self) -> int:
        """How many files the rows name."""
        return len(same_file(self.inspected.folder, list(self.inspected.image)))

    @property
    def summary(self) -> str:
        """One sentence."""
        looked = f"{plural(len(self.inspected), 'row')}, {plural(self.files, 'file')}"
        found = plural(len(self.findings), "kind of finding", "kinds of findings")
        return f"{looked}: {found if self.findings else 'no findings'}, {plural(len(self.notes), 'note')}"

    def as_dict(self) -> dict[str, Any]:
        """Return everything: plain numbers, text, lists and None."""
        return {
            "table": str(self.inspected.source),
            "images": str(self.inspected.folder),
            "rows": len(self.inspected),
            "files": self.files,
            "roles": self.inspected.roles,
            "ok": self.ok,
            "summary": self.summary,
            "counts": self.counts,
            "findings": [one.model_dump(mode="json") for one in self.findings],
            "notes": [one.model_dump(mode="json") for one in self.notes],
            "not_checked": list(self.not_checked),
            "provenance": self.provenance.model_dump(mode="json"),
        }


def check(
    table: Path | str,
    *,
    images: Path | str | None = None,
    image_column: str = "image",
    label: str | None = None,
    split_column: str = "split",
    patient: str | None = None,
    group: str | None = None,
    classes: Sequence[str] | None = None,
    embeddings: Path | str | None = None,
    shortcuts: Path | str | None = None,
    shortcut_columns: Sequence[str] | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
    workers: int = 2,
    draws: int = 2000,
    seed: int = 0,
    progress: bool = True,
) -> Checked:
    """Look at every row and every file of a table, and collect everything that is wrong with them.

    Unlike :func:`panderm.read_table`, nothing stops at the first problem: bad rows are what is looked for.

    Args:
        table: the CSV; comma, semicolon or tab between columns, UTF-8.
        images: the folder that the image column is relative to; by default the CSV's own folder.
        image_column: column with the file name (or an absolute path).
        label: column with the class; by default ``label`` or ``binary_label``, where there is one.
        split_column: column with train, val or test.
        patient: column that says who is in the picture.
        group: column that says which lesion it is.
        classes: all classes; other labels are findings.
        embeddings: ``X.emb`` of these images: crops and free rotations of one photograph are then found too.
        shortcuts: ``X.emb`` of these images: how well they predict source, device, site, ruler or ink.
        shortcut_columns: the columns they are asked for; by default those whose names say so.
        max_megapixels: pictures of more millions of pixels are findings, and are not decoded.
        workers: threads that decode.
        draws: bootstrap draws of the intervals.
        seed: of folds and bootstrap.
        progress: show progress on standard error.

    Raises:
        TableError: the table cannot be read at all, or a column that was asked for is not there.
        ArtifactError: embeddings that cannot be opened.

    Example:
        >>> panderm.check("ham.csv", images="images/", group="lesion_id").summary  # doctest: +SKIP
        '8,783 rows, 8,783 files: 2 kinds of findings, 1 note'
    """
    begun = time.perf_counter()
    opened = None if embeddings is None else open_embeddings(embeddings)
    seen = None if shortcuts is None else open_embeddings(shortcuts)
    require_shortcuts(seen, shortcut_columns, Path(table), image_column)
    inspected, found = _inspect(
        *(Path(table), images, image_column, label, split_column, patient, group),
        workers=workers,
        max_megapixels=max_megapixels,
        progress=progress,
    )
    found += check_files(inspected)
    found += check_pictures(inspected)
    sure, perhaps = find_twins(inspected, progress=progress)
    twins, beyond = settle(
        *(inspected, sure, perhaps, opened),
        workers=workers,
        max_megapixels=max_megapixels,
        progress=progress,
    )
    found += check_twins(inspected, twins)
    found += check_splits(inspected)
    found += check_labels(inspected, classes)
    found += inspect_columns(inspected, draws=draws, seed=seed, progress=progress)
    if seen is not None:
        found += inspect_shortcuts(
            inspected, seen, columns=shortcut_columns, draws=draws, seed=seed, progress=progress
        )
    return Checked(
        inspected=inspected,
        findings=tuple(one for one in found if one.severity == "finding"),
        notes=tuple(one for one in found if one.severity == "note"),
        not_checked=tuple(_not_checked(inspected, opened, seen, beyond)),
        provenance=Provenance.now(seconds=time.perf_counter() - begun),
    )


def _inspect(
    source: Path,
    images: Path | str | None,
    image_column: str,
    label: str | None,
    split_column: str,
    patient: str | None,
    group: str | None,
    *,
    workers: int,
    max_megapixels: float,
    progress: bool,
) -> tuple[Inspected, list[Finding]]:
    frame = read_cells(source)
    roles = find_roles(frame, source, image_column, label, split_column, patient, group)
    folder = images_folder(source, images)
    columns = {role: read_column(frame, name) for role, name in roles.items()}
    columns["label"] = whole_numbers(columns["label"])
    lesions = lesions_of(columns["patient"], columns["group"])
    found = []
    if lesions is not columns["group"]:
        found.append(
            Finding.of(
                *("lesions-numbered-anew", "note", "labels", "Lesions numbered anew for each patient"),
                f"Lesions of column {roles['group']!r} stand with several patients each: patient and lesion "
                "together were taken as the lesion.",
                count=len({x for x in columns["group"] if x is not None}),
            )
        )
        columns["group"] = lesions
    paths = tuple(folder / (name or "") for name in columns["image"])
    inspected = Inspected(
        source=source,
        folder=folder,
        frame=frame,
        roles=roles,
        row=frame.index.to_numpy(dtype=np.int64),
        path=paths,
        examined=_examined(folder, columns["image"], paths, workers, max_megapixels, progress),
        **columns,
    )
    return inspected, found


def _examined(
    folder: Path,
    names: Column,
    paths: Sequence[Path],
    workers: int,
    max_megapixels: float,
    progress: bool,
) -> tuple[Examined, ...]:
    """Examine every file once, however many rows name it; a row that names none has a problem of its own."""
    files = same_file(folder, list(names))
    every = [Examined(problem="no image is named")] * len(names)
    first = [paths[rows[0]] for rows in files]
    looked = examine_all(first, workers=workers, progress=progress, max_megapixels=max_megapixels)
    for rows, examined in zip(files, looked, strict=True):
        for i in rows:
            every[i] = examined
    return tuple(every)


def _not_checked(
    inspected: Inspected, embeddings: Embeddings | None, shortcuts: Embeddings | None, beyond: int
) -> list[str]:
    lacks = {
        "label": "no label column: missing classes, labels that disagree and columns that give them away "
        "were not looked for; name one with --label",
        "split": "no split column: what crosses splits was not looked for; panderm split makes one",
        "patient": "no patient column: patients in two splits were not looked for; name one with --patient",
        "group": "no lesion column: lesions in two splits, or with different labels, were not looked for; "
        "name one with --group",
    }
    told = [sentence for role, sentence in lacks.items() if inspected.roles[role] is None]
    if embeddings is None:
        told.append(
            "no embeddings: crops and free rotations of one photograph were not looked for; add --embeddings "
            "X.emb"
        )
    else:
        with_one = set(embeddings.rows.image)
        lack = sum(1 for name in inspected.image if name and name not in with_one)
        if lack:
            told.append(
                f"{plural(lack, 'row')} without an embedding: looked for among duplicates by hash only"
            )
    if beyond:
        told.append(f"{plural(beyond, 'pair')} that may be duplicates, the least alike, got no second look")
    if shortcuts is None:
        told.append(
            "what embeddings know of source, device and artefacts was not looked for; add --shortcuts X.emb"
        )
    return told
