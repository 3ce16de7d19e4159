"""A folder of DICOM files: one row a file, with what its header says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from panderm.data.dicom import is_dicom, read_dicom_columns
from panderm.data.layouts.layout import Found, printable
from panderm.data.stored import ImageError
from panderm.errors import TableError, plural
from panderm.progress import Progress

_DIRECTORY = "dicomdir"  # a list of files, no picture
_MOST = 20
_TOLD = "patient_id and dates are as the headers have them: see that they may leave the hospital"


def read_dicom_folder(root: Path | str, *, progress: bool = True) -> Found:
    """Read the headers of every DICOM file below a folder, whatever the files are called.

    Raises:
        TableError: no such folder, or no DICOM file in it.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise TableError(
            "the folder of the images must exist.",
            f"{folder} {'is a file' if folder.exists() else 'is not there'}",
            "name it with --from",
        )
    files = list(_dicom_files(folder))
    if not files:
        raise TableError(
            "a folder must hold DICOM files.",
            f"{folder} holds none",
            "name the folder they lie in with --from; panderm data import folders reads other images",
        )
    rows, bad = [], []
    with Progress(len(files), "reading headers", "files", shown=progress) as bar:
        for file in files:
            try:
                columns = read_dicom_columns(folder / file)
                rows.append({"image": file, **{k: printable(v) for k, v in columns.items()}})
            except ImageError as error:
                bad.append(f"{file}: {error.reason}")
            bar.advance()
    if not rows:
        raise TableError("at least one DICOM file must be readable.", bad[:_MOST])
    table = pd.DataFrame(rows, dtype=str)
    empty = [c for c in table if c != "image" and not (table[c] != "").any()]
    findings = []
    if bad:
        more = [f"and {len(bad) - _MOST:,} more"] if len(bad) > _MOST else []
        verb = "is" if len(bad) == 1 else "are"
        told = "; ".join([*bad[:_MOST], *more])
        findings.append(f"{plural(len(bad), 'file')} cannot be read and {verb} not in the table: {told}")
    notes = [_TOLD] if "patient_id" not in empty else []
    return Found(table.drop(columns=empty), tuple(notes), tuple(findings))


def _dicom_files(folder: Path) -> Iterator[str]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(here, name)
            if not name.startswith(".") and name.casefold() != _DIRECTORY and _begins_as_dicom(path):
                yield path.relative_to(folder).as_posix()


def _begins_as_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(132))
    except OSError:
        return False
