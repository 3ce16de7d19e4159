"""Collections of the ISIC Archive, as its export writes them: one metadata CSV and the images."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from panderm.data.sources.folder import Folder
from panderm.data.sources.source import Count, File, Prepared, Source

MALIGNANCY = (("benign", "benign"), ("indeterminate", "indeterminate"), ("malignant", "malignant"))
_METADATA = File(("metadata.csv", "*_metadata_*.csv"), "the export's table, one row an image, isic_id first")
_IMAGES = File(("ISIC-images",), "the images, ISIC_0000000.jpg")
_PANDERM = "Yan 2025, the PanDerm paper"
_LEVELS = ("diagnosis_5", "diagnosis_4", "diagnosis_3", "diagnosis_2", "diagnosis_1")
_FITZPATRICK = {"I": "1", "II": "2", "III": "3", "IV": "4", "V": "5", "VI": "6"}
_RENAMED = {
    "isic_id": "image",
    "age_approx": "age",
    "anatom_site_general": "site",
    "copyright_license": "licence",
    "diagnosis_confirm_type": "dx_confirm_type",
}

# The nine classes of BCN20000, by the words of the archive. Metastases of a melanoma count as melanoma,
# seborrheic keratosis and solar lentigo as benign keratosis, as in ISIC 2019.
_BCN = {
    "solar or actinic keratosis": "ak",
    "actinic keratosis": "ak",
    "basal cell carcinoma": "bcc",
    "seborrheic keratosis": "bkl",
    "solar lentigo": "bkl",
    "lichen planus like keratosis": "bkl",
    "lichenoid keratosis": "bkl",
    "pigmented benign keratosis": "bkl",
    "dermatofibroma": "df",
    "melanoma": "mel",
    "melanoma, nos": "mel",
    "melanoma nos": "mel",
    "melanoma metastasis": "mel",
    "malignant melanocytic proliferations (melanoma)": "mel",
    "nevus": "nv",
    "scar": "scar",
    "squamous cell carcinoma": "scc",
    "squamous cell carcinoma, nos": "scc",
    "squamous cell carcinoma nos": "scc",
    "benign soft tissue proliferations - vascular": "vasc",
    "vascular lesion": "vasc",
}


def read_export(folder: Folder) -> pd.DataFrame:
    """Return an export's rows under our column names, with two columns made from its diagnosis.

    ``diagnosis`` is the most particular one there is: of ``diagnosis_5`` to ``diagnosis_1``, or the older
    exports' own ``diagnosis``. ``malignancy`` is benign, indeterminate or malignant, from ``diagnosis_1`` or
    ``benign_malignant``; "" where the archive has neither.
    """
    table = folder.table(
        *("metadata.csv", "*_metadata_*.csv", "*metadata*.csv"),
        columns=("isic_id",),
        known_by_columns=True,
    )
    table = table.rename(columns=_RENAMED)
    levels = [name for name in _LEVELS if name in table]
    finest = _first_filled(table, levels)
    if "diagnosis" not in table:
        table["diagnosis"] = finest
    else:
        table["diagnosis"] = table["diagnosis"].where(table["diagnosis"] != "", finest)
    coarse = [name for name in ("diagnosis_1", "benign_malignant") if name in table]
    said = _first_filled(table, coarse).str.lower()
    unsure = said.str.startswith(("indeterminate", "pre-malignant"))
    table["malignancy"] = said.where(~unsure, "indeterminate")
    table["melanoma"] = [
        _melanoma(words) for words in zip(*(table[n] for n in [*levels, "diagnosis"]), strict=True)
    ]
    if "fitzpatrick_skin_type" in table:
        table["tone"] = table["fitzpatrick_skin_type"].map(_FITZPATRICK).fillna("")
    return table


def _first_filled(table: pd.DataFrame, names: list[str]) -> pd.Series:
    first = pd.Series("", index=table.index, dtype=str)
    for name in names:
        first = first.where(first != "", table[name].str.strip())
    return first


def _melanoma(words: tuple[str, ...]) -> str:
    """Return "1" where a level says melanoma, "0" where they say something else, "" where all are empty."""
    low = [word.strip().lower() for word in words]
    if any(word.startswith("melanoma") or word.endswith("(melanoma)") for word in low):
        return "1"
    return "0" if any(low) else ""


def _by(label: Callable[[pd.DataFrame], list[str]], *, note: str = "") -> Callable[[Folder], Prepared]:
    def read(folder: Folder) -> Prepared:
        rows = read_export(folder)
        rows["label"] = label(rows)
        return Prepared(rows, (note,) if note else ())

    return read


def _malignancy(rows: pd.DataFrame) -> list[str]:
    return list(rows["malignancy"])


def _bcn(rows: pd.DataFrame) -> list[str]:
    """Return the nine classes; a diagnosis that is none of them stays as the archive words it."""
    levels = ["diagnosis", *(name for name in _LEVELS if name in rows)]
    found = []
    for words in zip(*(rows[name] for name in levels), strict=True):
        known = [_BCN[word.strip().lower()] for word in words if word.strip().lower() in _BCN]
        found.append(known[0] if known else words[0])
    return found


BCN20000 = Source(
    name="bcn20000",
    title="BCN20000",
    modality="dermoscopy",
    address="https://api.isic-archive.com/collections/249/",
    licence="CC BY-NC 4.0",
    non_commercial=True,
    citation=(
        "Hernández-Pérez C. et al. BCN20000: Dermoscopic Lesions in the Wild. Sci Data 11, 641 (2024). "
        "doi:10.1038/s41597-024-03387-w"
    ),
    files=(File(("bcn20000_metadata_*.csv", "metadata.csv"), _METADATA.what), _IMAGES),
    classes=(
        ("mel", "melanoma"),
        ("nv", "melanocytic nevus"),
        ("bcc", "basal cell carcinoma"),
        ("ak", "actinic keratosis"),
        ("bkl", "benign keratosis"),
        ("df", "dermatofibroma"),
        ("vasc", "vascular lesion"),
        ("scc", "squamous cell carcinoma"),
        ("scar", "scar"),
    ),
    counts=(
        Count(18_946, "Hernández-Pérez 2024"),
        *(
            Count(n, "an export of the archive, May 2026", label=label, verified=False)
            for label, n in (
                *(("mel", 4_636), ("nv", 5_647), ("bcc", 3_676), ("ak", 1_088), ("bkl", 1_551)),
                *(("df", 168), ("vasc", 151), ("scc", 559), ("scar", 314)),
            )
        ),
    ),
    read=_by(_bcn),
    labels=(("malignancy", "benign, indeterminate, malignant"), ("melanoma", "1 = melanoma")),
    note=(
        "The archive publishes no diagnosis for part of it. Its 12,413 images of ISIC 2019 are "
        "bcn20000-isic2019."
    ),
    overlaps=("bcn20000-isic2019", "isic2019"),
)

HIBA = Source(
    name="hiba",
    title="Hospital Italiano de Buenos Aires, Skin Lesions Images (2019-2022)",
    modality="dermoscopy and clinical",
    address="https://doi.org/10.34970/587329",
    licence="CC BY 4.0",
    non_commercial=False,
    citation=(
        "Ricci Lara M. A. et al. A dataset of skin lesion images collected in Argentina for the evaluation "
        "of AI tools in this population. Sci Data 10, 712 (2023). doi:10.1038/s41597-023-02630-0"
    ),
    files=(_METADATA, _IMAGES),
    classes=MALIGNANCY,
    counts=(
        Count(1_616, "Ricci Lara 2023, ISIC collection 251"),
        Count(1_635, _PANDERM),
        Count(623, "Ricci Lara 2023", "patients", verified=False),
        Count(1_246, "Ricci Lara 2023", "lesions", verified=False),
    ),
    read=_by(_malignancy),
    labels=(("melanoma", "1 = melanoma"), ("diagnosis", "the diagnosis in the archive's words")),
    note=(
        "Dermoscopic and clinical images of the same lesions: column image_type. Published numbers differ: "
        "1,616 at the source, 1,635 in the PanDerm paper. The archive also has older collections, 175 and "
        "176: take 251."
    ),
)

MSKCC = Source(
    name="mskcc",
    title="Images of Memorial Sloan Kettering in the ISIC Archive",
    modality="dermoscopy",
    address="https://api.isic-archive.com/collections/413/",
    licence="CC BY 4.0 (collection 413)",
    non_commercial=False,
    citation="Memorial Sloan Kettering Cancer Center, ISIC Archive; doi:10.34970/962049 for collection 413",
    files=(_METADATA, _IMAGES),
    classes=MALIGNANCY,
    counts=(
        Count(4_879, "ISIC collection 413, MSKCC Skin Tone Labeling"),
        Count(8_984, _PANDERM),
    ),
    read=_by(_malignancy),
    labels=(("melanoma", "1 = melanoma"), ("diagnosis", "the diagnosis in the archive's words")),
    note=(
        "Published numbers differ, and may be of different things: the PanDerm paper counts 8,984 images, "
        "melanoma against other; collection 413, which users compare it with, has 4,879 and was made to "
        "label skin tone. Say which export you used."
    ),
)

ARCHIVE = Source(
    name="isic-archive",
    title="Any collection of the ISIC Archive",
    modality="as exported",
    address="https://api.isic-archive.com/collections/",
    licence="as each row says",
    non_commercial=True,
    citation="as the collection's page asks",
    files=(_METADATA, _IMAGES),
    classes=MALIGNANCY,
    counts=(),
    read=_by(_malignancy),
    labels=(("melanoma", "1 = melanoma"), ("diagnosis", "the diagnosis in the archive's words")),
    note="Take the licence of each row seriously: collections mix CC0, CC BY and CC BY-NC.",
)

SOURCES = (BCN20000, HIBA, MSKCC, ARCHIVE)
