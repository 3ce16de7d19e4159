"""The ISIC 2018 challenge: task 1, where the lesion is, and task 3, what it is."""

from __future__ import annotations

import pandas as pd

from panderm.data.sources.folder import Folder
from panderm.data.sources.ham10000 import CLASSES, LICENCE, TEST_TRUTH, one_hot
from panderm.data.sources.source import Count, File, Prepared, Source
from panderm.errors import TableError, plural

_SPLITS = (("Training", "train"), ("Validation", "val"), ("Test", "test"))
_CHALLENGE = "ISIC 2018 challenge"
_ADDRESS = "https://challenge.isic-archive.com/data/#2018"
_CITATION = (
    "Codella N. et al. Skin Lesion Analysis Toward Melanoma Detection 2018. arXiv:1902.03368 (2019); "
    "Tschandl P. et al. Sci Data 5, 180161 (2018)"
)


def _read_task1(folder: Folder) -> Prepared:
    """Return the images of the three input folders; there is no table, the folders are the split."""
    rows = []
    for part, split in _SPLITS:
        for file in folder.images_below(f"ISIC2018_Task1-2_{part}_Input"):
            stem = file.rpartition("/")[2].rpartition(".")[0]
            if not stem.lower().endswith("_superpixels"):
                rows.append({"image": file, "split": split, "mask": f"{stem}_segmentation"})
    if not rows:
        raise TableError(
            "the input folders of the challenge must be there.",
            [
                "looked for ISIC2018_Task1-2_Training_Input, …_Validation_Input and …_Test_Input below "
                f"{folder.root}",
                f"there: {plural(folder.images, 'image')} in other folders",
            ],
            "unpack the official archives, each into the folder of its own name",
        )
    return Prepared(pd.DataFrame(rows, dtype=str))


TASK1 = Source(
    name="isic2018-task1",
    title="ISIC 2018 task 1: lesion boundary segmentation",
    modality="dermoscopy",
    address=_ADDRESS,
    licence="CC0 1.0",
    non_commercial=False,
    citation=_CITATION,
    files=tuple(
        file
        for part, _ in _SPLITS
        for file in (
            File((f"ISIC2018_Task1-2_{part}_Input",), "photographs", optional=part != "Training"),
            File((f"ISIC2018_Task1_{part}_GroundTruth",), "masks, 255 inside", optional=part != "Training"),
        )
    ),
    classes=(),
    counts=tuple(
        Count(n, _CHALLENGE, unit, split=split)
        for (_, split), n in zip(_SPLITS, (2_594, 100, 1_000), strict=True)
        for unit in ("images", "masks")
    ),
    read=_read_task1,
    splits="train 2,594; val 100; test 1,000",
    note="No diagnosis is published for this task: the table has masks and no label.",
    overlaps=("isic2019",),
)


def _read_task3(folder: Folder) -> Prepared:
    named = {short.upper(): short for short, _ in CLASSES}
    parts = []
    for part, split in _SPLITS:
        names = TEST_TRUTH if part == "Test" else (f"ISIC2018_Task3_{part}_GroundTruth.csv",)
        if part == "Training":
            truth = folder.table(*names, columns=("image", *named))
        else:
            found = folder.optional_table(*names)
            if found is None:
                continue
            truth = found
        parts.append(_labelled(truth, named).assign(split=split))
    rows = pd.concat(parts, ignore_index=True).fillna("")
    groups = folder.optional_table(
        "ISIC2018_Task3_Training_LesionGroupings.csv", columns=("image", "lesion_id")
    )
    if groups is None:
        return Prepared(
            rows,
            (
                "ISIC2018_Task3_Training_LesionGroupings.csv is not there: which images show the same "
                "lesion is not known, and a split of your own would tear lesions apart",
            ),
        )
    groups = groups.rename(columns={"diagnosis_confirm_type": "dx_confirm_type"})
    fresh = [c for c in groups if c == "image" or c not in rows or not (rows[c] != "").any()]
    rows = rows.drop(columns=[c for c in fresh if c != "image"], errors="ignore")
    return Prepared(rows.merge(groups[fresh], on="image", how="left").fillna(""))


def _labelled(truth: pd.DataFrame, named: dict[str, str]) -> pd.DataFrame:
    if "dx" in truth:  # the form in which HAM10000's own archive has the test set
        return truth.rename(
            columns={"image_id": "image", "dx": "label", "dx_type": "dx_confirm_type", "localization": "site"}
        )
    return pd.DataFrame({"image": truth["image"], "label": one_hot(truth, named)})


TASK3 = Source(
    name="isic2018-task3",
    title="ISIC 2018 task 3: lesion diagnosis",
    modality="dermoscopy",
    address=_ADDRESS,
    licence=LICENCE,
    non_commercial=True,
    citation=_CITATION,
    files=(
        File(("ISIC2018_Task3_Training_GroundTruth.csv",), "diagnoses, one column a class"),
        File(("ISIC2018_Task3_Training_Input",), "photographs"),
        File(("ISIC2018_Task3_Training_LesionGroupings.csv",), "which images show one lesion", optional=True),
        File(("ISIC2018_Task3_Validation_GroundTruth.csv",), "diagnoses", optional=True),
        File(("ISIC2018_Task3_Validation_Input",), "photographs", optional=True),
        File(TEST_TRUTH, "diagnoses", optional=True),
        File(("ISIC2018_Task3_Test_Input",), "photographs", optional=True),
    ),
    classes=CLASSES,
    counts=(
        Count(10_015, _CHALLENGE, split="train"),
        Count(193, _CHALLENGE, split="val"),
        Count(1_512, _CHALLENGE, split="test"),
        Count(1_511, "HAM10000 on Dataverse", split="test"),
        Count(7_470, "Tschandl 2018", "lesions", split="train"),
        *(
            Count(n, "Tschandl 2018", split="train", label=label)
            for (label, _), n in zip(CLASSES, (327, 514, 1_099, 115, 1_113, 6_705, 142), strict=True)
        ),
    ),
    read=_read_task3,
    splits="train 10,015; val 193; test 1,512",
    note="The training images are HAM10000.",
    overlaps=("ham10000", "ham10000-clean", "isic2019"),
)

SOURCES = (TASK1, TASK3)
