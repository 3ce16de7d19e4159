"""The SIIM-ISIC 2020 challenge: many lesions a patient, melanoma or not."""

from __future__ import annotations

import pandas as pd

from panderm.data.sources.folder import Folder
from panderm.data.sources.source import Count, File, Prepared, Source

_PAPER = "Rotemberg 2021"
_LICENCE = "CC BY-NC 4.0"
_ADDRESS = "https://challenge.isic-archive.com/data/#2020"
_CITATION = (
    "Rotemberg V. et al. A patient-centric dataset of images and metadata for identifying melanomas using "
    "clinical context. Sci Data 8, 34 (2021). doi:10.1038/s41597-021-00815-z"
)
_RENAMED = {
    "image_name": "image",
    "patient": "patient_id",
    "age_approx": "age",
    "anatom_site_general_challenge": "site",
    "anatom_site_general": "site",
}


def _read(folder: Folder) -> Prepared:
    rows = folder.table(
        *("ISIC_2020_Training_GroundTruth_v2.csv", "ISIC_2020_Training_GroundTruth.csv", "train.csv"),
        columns=("image_name", "patient_id", "target"),
        known_by_columns=True,
    ).rename(columns=_RENAMED)
    target = rows.pop("target")
    rows["label"] = target.map({"0": "benign", "1": "malignant", "0.0": "benign", "1.0": "malignant"}).fillna(
        ""
    )
    twins = folder.optional_table(
        "ISIC_2020_Training_Duplicates.csv", columns=("image_name_1", "image_name_2")
    )
    if twins is None:
        return Prepared(
            rows,
            (
                "ISIC_2020_Training_Duplicates.csv is not there: which images are the same picture is not "
                "known; panderm check finds them",
            ),
        )
    of = dict(zip(twins["image_name_2"], twins["image_name_1"], strict=True))
    rows["duplicate_of"] = rows["image"].map(of).fillna("")
    n = int((rows["duplicate_of"] != "").sum())
    return Prepared(rows, (f"{n:,} images are listed as duplicates of another: column duplicate_of",))


ISIC2020 = Source(
    name="isic2020",
    title="SIIM-ISIC 2020 challenge",
    modality="dermoscopy",
    address=_ADDRESS,
    licence=_LICENCE,
    non_commercial=True,
    citation=_CITATION,
    files=(
        File(
            ("ISIC_2020_Training_GroundTruth_v2.csv", "ISIC_2020_Training_GroundTruth.csv", "train.csv"),
            "one row an image; v2 knows the lesions",
        ),
        File(("ISIC_2020_Training_JPEG", "train"), "photographs"),
        File(("ISIC_2020_Training_Duplicates.csv",), "pairs of the same picture", optional=True),
    ),
    classes=(("benign", "benign"), ("malignant", "malignant: melanoma")),
    counts=(
        Count(33_126, _PAPER),
        Count(2_056, _PAPER, "patients"),
        Count(584, _PAPER, label="malignant"),
        Count(33_126 - 584, _PAPER, label="benign"),
    ),
    read=_read,
    labels=(("diagnosis", "the diagnosis, unknown for most"),),
    note="Many images a patient: split by patient_id. The ground truth of the test part is not published.",
)


def _read_test(folder: Folder) -> Prepared:
    rows = folder.table("ISIC_2020_Test_Metadata.csv", "test.csv").rename(columns=_RENAMED)
    return Prepared(pd.DataFrame(rows).drop(columns="target", errors="ignore"))


ISIC2020_TEST = Source(
    name="isic2020-test",
    title="SIIM-ISIC 2020 challenge, the test part",
    modality="dermoscopy",
    address=_ADDRESS,
    licence=_LICENCE,
    non_commercial=True,
    citation=_CITATION,
    files=(
        File(("ISIC_2020_Test_Metadata.csv", "test.csv"), "one row an image"),
        File(("ISIC_2020_Test_JPEG", "test"), "photographs"),
    ),
    classes=(),
    counts=(Count(10_982, "ISIC 2020 challenge"),),
    read=_read_test,
    note="Images and patients without a diagnosis, which is not published: to embed, not to score.",
)

SOURCES = (ISIC2020, ISIC2020_TEST)
