"""MILK10k: a close-up and a dermoscopic image of every lesion."""

from __future__ import annotations

from panderm.data.sources.folder import Folder
from panderm.data.sources.ham10000 import one_hot
from panderm.data.sources.source import Count, File, Prepared, Source

_CLASSES = (
    ("akiec", "actinic keratosis or intraepidermal carcinoma"),
    ("bcc", "basal cell carcinoma"),
    ("ben_oth", "other benign proliferation"),
    ("bkl", "benign keratinocytic lesion"),
    ("df", "dermatofibroma"),
    ("inf", "inflammatory or infectious condition"),
    ("mal_oth", "other malignant proliferation"),
    ("mel", "melanoma"),
    ("nv", "melanocytic nevus"),
    ("sccka", "squamous cell carcinoma or keratoacanthoma"),
    ("vasc", "vascular lesion or haemorrhage"),
)
_WHERE = "MILK10k benchmark"
# By the names of the challenge, and by those of the archive's own download.
_METADATA = ("MILK10k_Training_Metadata.csv", "training_input.csv")
_TRUTH = ("MILK10k_Training_GroundTruth.csv", "training_gt.csv")
_SUPPLEMENT = ("MILK10k_Training_Supplement.csv", "training_supp.csv")
_RENAMED = {"isic_id": "image", "age_approx": "age", "copyright_license": "licence"}


def _read(folder: Folder) -> Prepared:
    named = {short.upper(): short for short, _ in _CLASSES}
    rows = folder.table(*_METADATA, columns=("lesion_id", "isic_id"))
    truth = folder.table(*_TRUTH, columns=("lesion_id", *named))
    of = dict(zip(truth["lesion_id"], one_hot(truth, named), strict=True))
    rows["label"] = rows["lesion_id"].map(of).fillna("")
    for name in (*_SUPPLEMENT, "metadata.csv"):
        more = folder.optional_table(name, columns=("isic_id",))
        if more is not None:
            fresh = ["isic_id", *(c for c in more if c not in rows)]
            rows = rows.merge(more[fresh], on="isic_id", how="left").fillna("")
    if "site" not in rows:
        rows = rows.rename(columns={"anatom_site_general": "site"})
    rows = rows.rename(columns={**_RENAMED, "diagnosis_confirm_type": "dx_confirm_type"})
    notes = []
    alone = rows["lesion_id"].value_counts()
    alone = alone[alone != 2]
    if len(alone):
        notes.append(f"{len(alone):,} lesions do not have two images")
    return Prepared(rows, tuple(notes))


MILK10K = Source(
    name="milk10k",
    title="MILK10k",
    modality="dermoscopy and clinical",
    address="https://challenge.isic-archive.com/landing/milk10k",
    licence="CC BY-NC 4.0",
    non_commercial=True,
    citation="MILK study team. MILK10k. ISIC Archive (2025). doi:10.34970/648456",
    files=(
        File(_METADATA, "one row an image: lesion, type of image, tone, site"),
        File(_TRUTH, "one row a lesion, one column a class"),
        File(("MILK10k_Training_Input", "images"), "photographs, a folder a lesion"),
        File(_SUPPLEMENT, "the full diagnosis, and how it was made", optional=True),
    ),
    classes=_CLASSES,
    counts=(
        Count(5_240, _WHERE, "lesions"),
        Count(10_480, _WHERE),
    ),
    read=_read,
    note=(
        "Two images a lesion, column image_type: split by lesion_id. Its skin_tone_class goes from 0, very "
        "dark, to 5, very light, and is not the Fitzpatrick type."
    ),
)

SOURCES = (MILK10K,)
