"""The ISIC 2019 challenge, and the part of it that is BCN20000."""

from __future__ import annotations

import pandas as pd

from panderm.data.sources.folder import Folder
from panderm.data.sources.ham10000 import one_hot
from panderm.data.sources.source import Count, File, Prepared, Source

_CHALLENGE = "ISIC 2019 challenge"
_CLASSES = (
    ("mel", "melanoma"),
    ("nv", "melanocytic nevus"),
    ("bcc", "basal cell carcinoma"),
    ("ak", "actinic keratosis"),
    ("bkl", "benign keratosis"),
    ("df", "dermatofibroma"),
    ("vasc", "vascular lesion"),
    ("scc", "squamous cell carcinoma"),
    ("unk", "none of these"),
)
_FROM = {"HAM": "ham10000", "BCN": "bcn20000", "MSK": "msk"}
_CITATION = (
    "Tschandl P. et al. Sci Data 5, 180161 (2018); Codella N. et al. arXiv:1710.05006 (2017); "
    "Combalia M. et al. BCN20000. arXiv:1908.02288 (2019)"
)


def _part(folder: Folder, part: str, split: str) -> pd.DataFrame | None:
    """Return one part with its metadata, None where its ground truth is not there (of the test only)."""
    truth_name, metadata_name = f"ISIC_2019_{part}_GroundTruth.csv", f"ISIC_2019_{part}_Metadata.csv"
    named = {short.upper(): short for short, _ in _CLASSES}
    columns = ("image", *named)
    if part == "Training":
        truth = folder.table(truth_name, columns=columns)
    else:
        found = folder.optional_table(truth_name, columns=columns)
        if found is None:
            return None
        truth = found
    rows = pd.DataFrame({"image": truth["image"], "label": one_hot(truth, named), "split": split})
    metadata = folder.optional_table(metadata_name, columns=("image",))
    if metadata is None:
        folder.notes.append(f"{metadata_name} is not there: no lesion, age, sex or site of these images")
        return rows
    rows = rows.merge(metadata, on="image", how="left").fillna("")
    return rows.rename(columns={"age_approx": "age", "anatom_site_general": "site"})


def _read(folder: Folder) -> Prepared:
    train = _part(folder, "Training", "train")
    test = _part(folder, "Test", "test")
    rows = pd.concat([part for part in (train, test) if part is not None], ignore_index=True).fillna("")
    notes = []
    if test is None and folder.find("ISIC_2019_Test_Metadata.csv"):
        notes.append("the test images are left out: ISIC_2019_Test_GroundTruth.csv is not there")
    if "lesion_id" in rows:
        rows["collection"] = [_FROM.get(lesion[:3].upper(), "") for lesion in rows["lesion_id"]]
        none = int((rows["lesion_id"][rows["split"] == "train"] == "").sum())
        if none:
            notes.append(f"{none:,} training images have no lesion_id: the challenge published none")
    return Prepared(rows, tuple(notes))


def _read_bcn(folder: Folder) -> Prepared:
    rows = _part(folder, "Training", "train")
    assert rows is not None  # of the training part a missing file is an error
    if "lesion_id" not in rows:
        rows["lesion_id"] = ""
    mine = rows["lesion_id"].str.upper().str.startswith("BCN")
    return Prepared(rows[mine].drop(columns="split"))


_FILES = (
    File(("ISIC_2019_Training_GroundTruth.csv",), "diagnoses, one column a class"),
    File(("ISIC_2019_Training_Metadata.csv",), "age, sex, site and lesion of every image"),
    File(("ISIC_2019_Training_Input",), "photographs"),
)
ISIC2019 = Source(
    name="isic2019",
    title="ISIC 2019 challenge",
    modality="dermoscopy",
    address="https://challenge.isic-archive.com/data/#2019",
    licence="CC BY-NC 4.0",
    non_commercial=True,
    citation=_CITATION,
    files=(
        *_FILES,
        File(("ISIC_2019_Test_GroundTruth.csv",), "diagnoses of the test images", optional=True),
        File(("ISIC_2019_Test_Metadata.csv",), "age, sex and site of the test images", optional=True),
        File(("ISIC_2019_Test_Input",), "photographs", optional=True),
    ),
    classes=_CLASSES,
    counts=(
        Count(25_331, _CHALLENGE, split="train"),
        Count(8_238, _CHALLENGE, split="test"),
        *(
            Count(n, _CHALLENGE, split="train", label=label)
            for (label, _), n in zip(
                _CLASSES, (4_522, 12_875, 3_323, 867, 2_624, 239, 253, 628, 0), strict=True
            )
        ),
    ),
    read=_read,
    splits="train 25,331; test 8,238",
    note="Holds HAM10000, part of BCN20000 and older images of the archive: column collection says which.",
    overlaps=(
        "ham10000",
        "ham10000-clean",
        "isic2018-task3",
        "bcn20000",
        "bcn20000-isic2019",
        "isic2018-task1",
    ),
)

BCN_OF_2019 = Source(
    name="bcn20000-isic2019",
    title="BCN20000, the part of it in ISIC 2019",
    modality="dermoscopy",
    address="https://challenge.isic-archive.com/data/#2019",
    licence="CC BY-NC 4.0",
    non_commercial=True,
    citation=_CITATION,
    files=_FILES,
    classes=_CLASSES[:-1],
    counts=(Count(12_413, "Yan 2025, the PanDerm paper"),),
    read=_read_bcn,
    note="The rows of ISIC 2019 whose lesion is named BCN_…: the size the PanDerm paper gives for BCN20000.",
    overlaps=("bcn20000", "isic2019"),
)

SOURCES = (ISIC2019, BCN_OF_2019)
