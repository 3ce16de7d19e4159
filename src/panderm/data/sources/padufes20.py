"""PAD-UFES-20: smartphone photographs with the patient's data."""

from __future__ import annotations

from panderm.data.sources.folder import Folder
from panderm.data.sources.source import Count, File, Prepared, Source
from panderm.errors import plural

_CLASSES = (
    ("ACK", "actinic keratosis"),
    ("BCC", "basal cell carcinoma"),
    ("MEL", "melanoma"),
    ("NEV", "nevus"),
    ("SCC", "squamous cell carcinoma, Bowen's disease included"),
    ("SEK", "seborrheic keratosis"),
)
_PAPER = "Pacheco 2020"
_COLUMNS = ("patient_id", "lesion_id", "diagnostic", "img_id", "biopsed")


def _read(folder: Folder) -> Prepared:
    rows = folder.table("metadata.csv", "metadata*.csv", columns=_COLUMNS, known_by_columns=True)
    rows = rows.drop(columns="image", errors="ignore").rename(
        columns={"img_id": "image", "diagnostic": "label", "gender": "sex", "region": "site"}
    )
    # The same lesion number is given to lesions of two patients: only with the patient is it one lesion.
    rows["lesion_number"] = rows["lesion_id"]
    rows["lesion_id"] = rows["patient_id"] + "_" + rows["lesion_number"]
    if "fitspatrick" in rows:
        rows["tone"] = [cell.partition(".")[0] for cell in rows.pop("fitspatrick")]
    shared = rows.groupby("lesion_number")["patient_id"].nunique()
    notes = ["biopsed gives the answer away: every BCC, MEL and SCC was biopsied. Leave it out of any model"]
    twice = int((shared > 1).sum())
    if twice:
        notes.append(
            f"{plural(twice, 'lesion number')} given to lesions of two patients: lesion_id is the patient "
            "and the number"
        )
    return Prepared(rows, tuple(notes))


PADUFES20 = Source(
    name="padufes20",
    title="PAD-UFES-20",
    modality="smartphone",
    address="https://data.mendeley.com/datasets/zr7vgbcyr2/1",
    licence="CC BY 4.0",
    non_commercial=False,
    citation=(
        "Pacheco A.G.C. et al. PAD-UFES-20: a skin lesion dataset composed of patient data and clinical "
        "images collected from smartphones. Data in Brief 32, 106221 (2020). doi:10.1016/j.dib.2020.106221"
    ),
    files=(
        File(("metadata.csv",), "one row an image, with 21 clinical columns"),
        File(("imgs_part_1", "imgs_part_2", "imgs_part_3"), "2,298 photographs, PAT_…png"),
    ),
    classes=_CLASSES,
    counts=(
        Count(2_298, _PAPER),
        Count(1_373, _PAPER, "patients"),
        Count(1_891, "the official table, by patient and number", "lesions"),
        Count(1_641, f"{_PAPER}, by the lesion's number alone", "lesions"),
        *(
            Count(n, _PAPER, label=label)
            for (label, _), n in zip(_CLASSES, (730, 845, 52, 244, 192, 235), strict=True)
        ),
    ),
    read=_read,
    note="Cancer is BCC, MEL and SCC for its authors. Split by patient_id.",
)

SOURCES = (PADUFES20,)
