"""PH²: 200 dermoscopic images of melanocytic lesions, with masks."""

from __future__ import annotations

import re

import pandas as pd

from panderm.data.sources.folder import Folder
from panderm.data.sources.source import Count, File, Prepared, Source
from panderm.errors import TableError

_PAPER = "Mendonça 2013"
_CODES = {"0": "Common Nevus", "1": "Atypical Nevus", "2": "Melanoma"}
_TABLE = "PH2_dataset.txt"
_CASE = re.compile(r"IMD\d+")
_HINT = "the download has PH2_dataset.txt beside PH2_dataset.xlsx: copy it there"


def _read(folder: Folder) -> Prepared:
    file = folder.find(_TABLE)
    if file is None:
        raise TableError(
            "the official table must be there.", f"looked for {_TABLE} below {folder.root}", _HINT
        )
    text = (folder.root / file).read_bytes().decode("utf-8", errors="replace")
    lines = [_cells(line) for line in text.splitlines() if line.strip().startswith("|")]
    header = next((cells for cells in lines if "Name" in cells), [])
    cases = [cells for cells in lines if cells and _CASE.fullmatch(cells[0])]
    if "Clinical Diagnosis" not in header or not cases:
        raise TableError(
            f"{file} must be the official table.",
            "it has no header with Name and Clinical Diagnosis, or no row IMD…",
            "download it again from the address that panderm data list shows",
        )
    short = [cells[0] for cells in cases if len(cells) < len(header)]
    if short:
        raise TableError(
            f"every row of {file} must have {len(header)} cells, as its header.", f"{short[0]} has fewer"
        )
    folder.read.append(file)
    rows = pd.DataFrame([cells[: len(header)] for cells in cases], columns=header)
    rows["label"] = [_CODES.get(code, code) for code in rows.pop("Clinical Diagnosis")]
    rows = rows.rename(columns={"Name": "image"})
    rows["mask"] = rows["image"] + "_lesion"
    return Prepared(rows)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"\|+", line.strip())[1:-1]]


PH2 = Source(
    name="ph2",
    title="PH²",
    modality="dermoscopy",
    address="https://www.fc.up.pt/addi/ph2%20database.html",
    licence="for research and education, on request",
    non_commercial=True,
    citation=(
        "Mendonça T. et al. PH² - A dermoscopic image database for research and benchmarking. IEEE EMBC "
        "(2013). doi:10.1109/EMBC.2013.6610779"
    ),
    files=(
        File((_TABLE,), "one row an image, columns between bars"),
        File(("PH2 Dataset images",), "a folder a lesion: IMD…_Dermoscopic_Image and IMD…_lesion"),
    ),
    classes=(
        ("Common Nevus", "common nevus"),
        ("Atypical Nevus", "atypical nevus"),
        ("Melanoma", "melanoma"),
    ),
    counts=(
        Count(200, _PAPER),
        Count(200, _PAPER, "masks"),
        *(Count(n, _PAPER, label=label) for label, n in zip(_CODES.values(), (80, 80, 40), strict=True)),
    ),
    read=_read,
    note="Small: a set to test on, not to train on. No patients are known.",
)

SOURCES = (PH2,)
