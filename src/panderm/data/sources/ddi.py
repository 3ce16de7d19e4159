"""DDI, Diverse Dermatology Images: biopsied lesions, balanced over three bands of skin tone."""

from __future__ import annotations

from panderm.data.sources.folder import Folder
from panderm.data.sources.source import Count, File, Prepared, Source
from panderm.errors import TableError, some

_PAPER = "Daneshjou 2022"
_COLUMNS = ("DDI_ID", "DDI_file", "skin_tone", "malignant", "disease")
_TRUTH = {"true": "malignant", "1": "malignant", "false": "benign", "0": "benign"}


def _read(folder: Folder) -> Prepared:
    rows = folder.table("ddi_metadata.csv", columns=_COLUMNS, known_by_columns=True)
    said = [cell.strip().lower().removesuffix(".0") for cell in rows["malignant"]]
    unknown = sorted(set(said) - set(_TRUTH))
    if unknown:
        raise TableError(
            "column malignant of the official table must be True or False.", f"found {some(unknown)}"
        )
    rows["label"] = [_TRUTH[cell] for cell in said]
    rows = rows.drop(columns=["malignant", ""], errors="ignore")
    return Prepared(rows.rename(columns={"DDI_file": "image", "skin_tone": "tone"}))


DDI = Source(
    name="ddi",
    title="DDI, Diverse Dermatology Images",
    modality="clinical",
    address="https://ddi-dataset.github.io",
    licence="Stanford University Dataset Research Use Agreement",
    non_commercial=True,
    citation=(
        "Daneshjou R. et al. Disparities in dermatology AI performance on a diverse, curated clinical image "
        "set. Sci Adv 8, eabq6147 (2022). doi:10.1126/sciadv.abq6147"
    ),
    files=(
        File(("ddi_metadata.csv",), "one row an image"),
        File(("000001.png",), "656 photographs, 000001.png to 000656.png"),
    ),
    classes=(("benign", "benign"), ("malignant", "malignant")),
    counts=(
        Count(656, _PAPER),
        Count(171, _PAPER, label="malignant"),
        Count(485, _PAPER, label="benign"),
        Count(647, "ddi_clean, Yan 2025", verified=False),
    ),
    read=_read,
    labels=(("disease", "78 diseases"),),
    note=(
        "tone is a band: 12, 34 or 56 for Fitzpatrick I-II, III-IV, V-VI. Several images may be of one "
        "patient, and nobody published which."
    ),
)

SOURCES = (DDI,)
