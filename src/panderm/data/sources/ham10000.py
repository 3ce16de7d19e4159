"""HAM10000, as its authors distribute it and as the published clean split lists it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from panderm.data.sources.folder import Folder
from panderm.data.sources.source import Count, File, Prepared, Source

CLASSES = (
    ("akiec", "actinic keratosis or intraepithelial carcinoma"),
    ("bcc", "basal cell carcinoma"),
    ("bkl", "benign keratosis"),
    ("df", "dermatofibroma"),
    ("mel", "melanoma"),
    ("nv", "melanocytic nevus"),
    ("vasc", "vascular lesion"),
)
_PAPER = "Tschandl 2018"
LICENCE = "CC BY-NC 4.0"
_CITATION = (
    "Tschandl P., Rosendahl C., Kittler H. The HAM10000 dataset. Sci Data 5, 180161 (2018). "
    "doi:10.1038/sdata.2018.161"
)
_COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
_RENAMED = {"image_id": "image", "dx": "label", "dx_type": "dx_confirm_type", "localization": "site"}
TEST_TRUTH = ("ISIC2018_Task3_Test_GroundTruth.csv", "ISIC2018_Task3_Test_GroundTruth.tab")


def one_hot(frame: pd.DataFrame, classes: dict[str, str]) -> list[str]:
    """Return each row's class from columns that hold 1 (or 1.0) in one class and 0 in all others.

    ``classes`` names each column's class. A row with no 1, or with several, has the label "".
    """
    # A spreadsheet program may have saved 1.0 as 1,0.
    numbers = frame[list(classes)].apply(lambda c: pd.to_numeric(c.str.replace(",", "."), errors="coerce"))
    values = numbers.to_numpy() == 1
    names = list(classes.values())
    return [names[row.argmax()] if row.sum() == 1 else "" for row in values]


def _read(folder: Folder) -> Prepared:
    rows = folder.table(
        "HAM10000_metadata.csv",
        "HAM10000_metadata.tab",
        "HAM10000_metadata",
        columns=_COLUMNS,
        known_by_columns=True,
        without=("split", "MEL"),
    ).rename(columns=_RENAMED)
    rows["split"] = "train"
    rows["mask"] = rows["image"] + "_segmentation"
    test = folder.optional_table(*TEST_TRUTH)
    if test is not None:
        rows = pd.concat([rows, _test(test)], ignore_index=True).fillna("")
    return Prepared(rows)


def _test(truth: pd.DataFrame) -> pd.DataFrame:
    """Return the ISIC 2018 task 3 test set from either of its two published forms."""
    if "dx" in truth:
        rows = truth.rename(columns=_RENAMED)
    else:
        named = {short.upper(): short for short, _ in CLASSES}
        rows = pd.DataFrame({"image": truth["image"], "label": one_hot(truth, named)})
    return rows.assign(split="test")


HAM10000 = Source(
    name="ham10000",
    title="HAM10000",
    modality="dermoscopy",
    address="https://doi.org/10.7910/DVN/DBW86T",
    licence=LICENCE,
    non_commercial=True,
    citation=_CITATION,
    files=(
        File(("HAM10000_metadata.csv", "HAM10000_metadata.tab"), "one row an image"),
        File(("HAM10000_images_part_1", "HAM10000_images_part_2"), "10,015 photographs"),
        File(("HAM10000_segmentations_lesion_tschandl",), "masks of the lesions", optional=True),
        File(TEST_TRUTH, "diagnoses of the ISIC 2018 task 3 test set", optional=True),
        File(("ISIC2018_Task3_Test_Images", "ISIC2018_Task3_Test_Input"), "its photographs", optional=True),
    ),
    classes=CLASSES,
    counts=(
        Count(10_015, _PAPER, split="train"),
        Count(7_470, _PAPER, "lesions", split="train"),
        *(
            Count(n, _PAPER, split="train", label=label)
            for label, n in zip(
                (short for short, _ in CLASSES), (327, 514, 1_099, 115, 1_113, 6_705, 142), strict=True
            )
        ),
        Count(1_511, "HAM10000 on Dataverse", split="test"),
        Count(1_512, "ISIC 2018 challenge", split="test"),
    ),
    read=_read,
    splits="train 10,015; test 1,511",
    note=(
        "Many lesions have several images: split by lesion_id. The test part is that of ISIC 2018 task "
        "3, where its ground truth is in the folder."
    ),
    overlaps=("ham10000-clean", "isic2018-task3", "isic2019"),
)


def _read_clean(folder: Folder) -> Prepared:
    columns = ("image", "label", "split", "dx", "lesion_id")
    rows = folder.table("HAM_clean.csv", "ham_clean*.csv", columns=columns, known_by_columns=True)
    rows = rows.rename(columns={"label": "label_index"}).drop(columns="image_id", errors="ignore")
    if "mask" not in rows:
        rows["mask"] = [f"{Path(image).stem}_segmentation" for image in rows["image"]]
    names = {"dx": "label", "dx_type": "dx_confirm_type", "localization": "site"}
    return Prepared(rows.rename(columns=names))


_LOG = "log of the published run"
HAM_CLEAN = Source(
    name="ham10000-clean",
    title="HAM10000, the published clean split",
    modality="dermoscopy",
    address="https://github.com/SiyuanYan1/PanDerm",
    licence=LICENCE,
    non_commercial=True,
    citation=_CITATION,
    files=(
        File(("HAM_clean.csv",), "one row an image, with its split"),
        File(("HAM10000_images_part_1", "HAM10000_images_part_2"), "10,015 photographs"),
        File(("HAM10000_segmentations_lesion_tschandl",), "masks of the lesions", optional=True),
    ),
    classes=CLASSES,
    counts=(
        Count(8_207, _LOG, split="train"),
        Count(575, _LOG, split="val"),
        Count(1_232, _LOG, split="test"),
        *(
            Count(n, _LOG, split=split, label=label)
            for split, numbers in (
                ("train", (273, 448, 941, 102, 1_021, 5_304, 118)),
                ("test", (35, 44, 107, 8, 70, 951, 17)),
            )
            for label, n in zip((short for short, _ in CLASSES), numbers, strict=True)
        ),
    ),
    read=_read_clean,
    splits="train 8,207; val 575; test 1,232",
    labels=(("binary_label", "1 = melanoma"),),
    overlaps=("ham10000", "isic2018-task3", "isic2019"),
)

SOURCES = (HAM10000, HAM_CLEAN)
