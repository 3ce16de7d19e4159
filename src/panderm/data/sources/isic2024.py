"""SLICE-3D, the training set of ISIC 2024: crops of total-body photographs, with measurements."""

from __future__ import annotations

import pandas as pd

from panderm.data.sources.folder import Folder
from panderm.data.sources.source import Count, File, Prepared, Source
from panderm.errors import TableError

_WHERE = "ISIC 2024 challenge"
_RENAMED = {
    "isic_id": "image",
    "age_approx": "age",
    "anatom_site_general": "site",
    "copyright_license": "licence",
}
_CITATION = (
    "Kurtansky N. R. et al. The SLICE-3D dataset: 400,000 skin lesion image crops extracted from 3D TBP for "
    "skin cancer detection. Sci Data 11, 884 (2024). doi:10.1038/s41597-024-03743-w"
)
_CLASSES = (("benign", "benign or never biopsied"), ("malignant", "malignant by biopsy"))


def _read(folder: Folder) -> Prepared:
    packed = folder.find("*.hdf5", "*.h5")
    if packed and not folder.images:
        raise TableError(
            "the images must be files.",
            f"{packed} holds them packed, and no image file is below {folder.root}",
            "unpack the folder train-image of the same download, or ISIC_2024_Training_Input, beside it",
        )
    rows = folder.table(
        *("train-metadata.csv", "ISIC_2024_Training_Metadata.csv", "metadata.csv"),
        columns=("isic_id", "patient_id"),
        known_by_columns=True,
    )
    truth = folder.optional_table("*Training_GroundTruth.csv", columns=("isic_id", "malignant"))
    if "target" in rows:
        target = rows.pop("target")
    elif truth is not None:
        target = rows["isic_id"].map(dict(zip(truth["isic_id"], truth["malignant"], strict=True))).fillna("")
    else:
        raise TableError(
            "the diagnoses must be there.",
            f"looked for a column target, and for ISIC_2024_Training_GroundTruth.csv below {folder.root}",
            "download the ground truth from the address that panderm data list shows",
        )
    rows["label"] = target.map({"0": "benign", "1": "malignant", "0.0": "benign", "1.0": "malignant"}).fillna(
        ""
    )
    more = folder.optional_table("*Training_Supplement.csv", columns=("isic_id",))
    if more is not None:
        fresh = ["isic_id", *(c for c in more if c not in rows)]
        rows = rows.merge(more[fresh], on="isic_id", how="left").fillna("")
    return Prepared(pd.DataFrame(rows.rename(columns=_RENAMED)), _NOTES)


_NOTES = (
    "iddx_*, mel_*, tbp_lv_dnn_lesion_confidence and lesion_id are known after the diagnosis: give no model "
    "these columns",
)


def _source(name: str, title: str, licence: str, counts: tuple[Count, ...], *, permissive: bool) -> Source:
    part = "Permissive_Training" if permissive else "Training"
    return Source(
        name=name,
        title=title,
        modality="total-body crops",
        address="https://challenge.isic-archive.com/data/#2024",
        licence=licence,
        non_commercial=not permissive,
        citation=_CITATION,
        files=(
            File(("train-metadata.csv", "metadata.csv"), "one row a crop, with its measurements"),
            File((f"ISIC_2024_{part}_Input", "train-image"), "the crops, as files (not train-image.hdf5)"),
            File((f"ISIC_2024_{part}_GroundTruth.csv",), "diagnoses, where metadata.csv has no target"),
            File((f"ISIC_2024_{part}_Supplement.csv",), "what is known after a biopsy", optional=True),
        ),
        classes=_CLASSES,
        counts=counts,
        read=_read,
        overlaps=("isic2024" if permissive else "isic2024-permissive",),
        note="Hundreds of crops a patient: split by patient_id.",
    )


ISIC2024 = _source(
    "isic2024",
    "ISIC 2024, SLICE-3D",
    "CC BY-NC 4.0",
    (
        Count(401_059, _WHERE),
        Count(1_042, "Kurtansky 2024", "patients"),
        Count(393, _WHERE, label="malignant"),
        Count(401_059 - 393, _WHERE, label="benign"),
    ),
    permissive=False,
)
PERMISSIVE = _source(
    "isic2024-permissive",
    "ISIC 2024, SLICE-3D Permissive",
    "CC BY 4.0",
    (Count(217_477, _WHERE),),
    permissive=True,
)

SOURCES = (ISIC2024, PERMISSIVE)
