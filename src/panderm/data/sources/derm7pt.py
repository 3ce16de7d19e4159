"""Derm7pt: a clinical and a dermoscopic image of every case, with the seven-point checklist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pandas as pd

from panderm.data.sources.folder import Folder
from panderm.data.sources.source import Count, File, Prepared, Source
from panderm.errors import TableError, plural, some

_PAPER = "Kawahara 2019"
_COLUMNS = ("case_num", "diagnosis", "clinic", "derm")
_INDEXES = (("train", "train_indexes.csv"), ("val", "valid_indexes.csv"), ("test", "test_indexes.csv"))
# The authors' five classes, by the first words of their twenty diagnoses.
_CLASSES = (
    ("bcc", "basal cell carcinoma"),
    ("nev", "nevus"),
    ("mel", "melanoma"),
    ("misc", "dermatofibroma, lentigo, melanosis, vascular lesion, miscellaneous"),
    ("sk", "seborrheic keratosis"),
)
_FIVE = {
    "basal cell carcinoma": "bcc",
    "seborrheic keratosis": "sk",
    **dict.fromkeys(("dermatofibroma", "lentigo", "melanosis", "miscellaneous", "vascular lesion"), "misc"),
}


def _class(diagnosis: str) -> str:
    """Return the class of a diagnosis; one the authors do not have stays as it is."""
    words = diagnosis.strip().lower()
    if words.startswith("melanoma"):
        return "mel"
    return "nev" if words.endswith("nevus") else _FIVE.get(words, words)


def _read(column: Literal["clinic", "derm"]) -> Callable[[Folder], Prepared]:
    def read(folder: Folder) -> Prepared:
        rows = folder.table("meta.csv", columns=_COLUMNS, known_by_columns=True)
        rows = rows.reset_index(drop=True)
        splits = _splits(folder, len(rows))
        if splits is not None:
            rows["split"] = splits
        rows["label"] = [_class(diagnosis) for diagnosis in rows["diagnosis"]]
        rows["lesion_id"] = "case_" + rows["case_num"]
        rows = rows.rename(columns={column: "image", "location": "site"})
        notes = ["management and seven_point_score follow from the diagnosis or stand for it: leave them out"]
        rows, shared = _named_once(rows)
        if shared:
            notes.append(
                f"{plural(shared, 'case')} left out: without an image in column {column}, or with another's"
            )
        return Prepared(rows, tuple(notes))

    return read


def _named_once(rows: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    sound = (rows["image"] != "") & ~rows["image"].duplicated()
    return rows[sound], int((~sound).sum())


def _splits(folder: Folder, n: int) -> list[str] | None:
    """Return each row's split from the lists of row numbers, counted from 0."""
    splits = [""] * n
    for split, name in _INDEXES:
        table = folder.optional_table(name, columns=("indexes",))
        if table is None:
            folder.notes.append(f"{name} is not there: no split column")
            return None
        places = [cell.strip() for cell in table["indexes"]]
        wrong = [cell for cell in places if not cell.isdigit() or int(cell) >= n or splits[int(cell)]]
        if wrong:
            raise TableError(
                "the official split must name every case of meta.csv once.",
                f"{name} has row numbers that are not there, or that another list has too: {some(wrong)}",
                "download the tables again: they do not belong together",
            )
        for cell in places:
            splits[int(cell)] = split
    left = splits.count("")
    if left:
        raise TableError(
            "the official split must name every case of meta.csv once.",
            f"{plural(left, 'case')} of {n:,} in none of {', '.join(name for _, name in _INDEXES)}",
            "download the tables again: they do not belong together",
        )
    return splits


def _source(view: str, column: Literal["clinic", "derm"]) -> Source:
    return Source(
        name=f"derm7pt-{view}",
        title=f"Derm7pt, {view} images",
        modality="clinical" if column == "clinic" else "dermoscopy",
        address="https://derm.cs.sfu.ca",
        licence="for academic research, by registration",
        non_commercial=True,
        citation=(
            "Kawahara J. et al. Seven-Point Checklist and Skin Lesion Classification Using Multitask "
            "Multimodal Neural Nets. IEEE JBHI 23, 538 (2019). doi:10.1109/JBHI.2018.2824327"
        ),
        files=(
            File(("meta/meta.csv",), "one row a case"),
            File(tuple(f"meta/{name}" for _, name in _INDEXES), "the split", optional=True),
            File(("images",), "the images of both kinds"),
        ),
        classes=_CLASSES,
        counts=(
            Count(1_011, _PAPER),
            *(Count(n, _PAPER, split=s) for s, n in (("train", 413), ("val", 203), ("test", 395))),
            *(
                Count(n, _PAPER, label=label, verified=False)
                for (label, _), n in zip(_CLASSES, (42, 575, 252, 97, 45), strict=True)
            ),
        ),
        read=_read(column),
        splits="train 413; val 203; test 395",
        labels=(("diagnosis", "20 diagnoses"),),
        note="Both views of a case have the same lesion_id.",
    )


SOURCES = (_source("clinical", "clinic"), _source("dermoscopic", "derm"))
