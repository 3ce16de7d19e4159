"""Collections of the ISIC Archive, on miniatures of what its export writes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from miniature import Download, compared

from panderm import read_table
from panderm.errors import TableError

# diagnosis_1, diagnosis_2, diagnosis_3 as the archive words them, and our class of BCN20000.
BCN = (
    ("Benign", "Benign melanocytic proliferations", "Nevus", "nv"),
    ("Malignant", "Malignant melanocytic proliferations (Melanoma)", "Melanoma, NOS", "mel"),
    ("Malignant", "Malignant melanocytic proliferations (Melanoma)", "Melanoma metastasis", "mel"),
    ("Malignant", "Malignant adnexal epithelial proliferations - Follicular", "Basal cell carcinoma", "bcc"),
    ("Indeterminate", "Indeterminate epidermal proliferations", "Solar or actinic keratosis", "ak"),
    ("Malignant", "Malignant epidermal proliferations", "Squamous cell carcinoma, NOS", "scc"),
    ("Benign", "Benign epidermal proliferations", "Seborrheic keratosis", "bkl"),
    ("Benign", "Benign epidermal proliferations", "Solar lentigo", "bkl"),
    ("Benign", "Benign soft tissue proliferations - Fibro-histiocytic", "Dermatofibroma", "df"),
    ("Benign", "Benign soft tissue proliferations - Fibro-histiocytic", "Scar", "scar"),
    ("Benign", "Benign soft tissue proliferations - Vascular", "", "vasc"),
    ("", "", "", ""),
    ("Benign", "Benign soft tissue proliferations - Neural", "Neurofibroma", "Neurofibroma"),
    ("Malignant", "Malignant melanocytic proliferations (Melanoma)", "", "mel"),
)


def bcn_rows() -> list[dict[str, object]]:
    return [
        {
            "isic_id": f"ISIC_{53453 + i:07d}",
            "attribution": "Department of Dermatology, Hospital Clínic de Barcelona",
            "copyright_license": "CC-BY-NC",
            "age_approx": "75",
            "anatom_site_general": "anterior torso",
            "diagnosis_1": first,
            "diagnosis_2": second,
            "diagnosis_3": third,
            "diagnosis_confirm_type": "histopathology",
            "image_type": "dermoscopic",
            "lesion_id": f"IL_{i // 2}",
            "melanocytic": "True",
            "sex": "female",
        }
        for i, (first, second, third, _) in enumerate(BCN)
    ]


def test_bcn20000_has_its_nine_classes(download: Download) -> None:
    download.table("bcn20000_metadata_2025-07-22.csv", bcn_rows())
    download.images(*(f"ISIC-images/ISIC_{53453 + i:07d}.JPG" for i in range(len(BCN))))
    done = download.prepare("bcn20000")
    written = download.written()
    assert [row["label"] for row in written] == [label for *_, label in BCN]
    assert [row["melanoma"] for row in written] == [*"01100000000", "", "0", "1"]
    assert [row["malignancy"] for row in written][:5] == [
        *("benign", "malignant", "malignant", "malignant", "indeterminate"),
    ]
    assert written[0]["licence"] == "CC-BY-NC"
    assert (done.unlabelled, done.unmapped) == (1, {"Neurofibroma": 1})
    kept = "labels that were not published for this dataset, kept as they are: Neurofibroma (1)"
    assert kept in done.findings
    assert compared(done, "images") == (14, 14, False)
    # A count that we could not see published is shown, and never held against a table.
    assert compared(done, "nv images") == (1, 1, None)


def hiba_rows(*, old: bool) -> list[dict[str, object]]:
    diagnoses = (("benign", "nevus", "Nevus"), ("malignant", "melanoma", "Melanoma NOS"), ("benign", "", ""))
    rows = []
    for i, (malignancy, before, now) in enumerate(diagnoses):
        row: dict[str, object] = {
            "isic_id": f"ISIC_{79358 + i:07d}",
            "copyright_license": "CC-BY",
            "fitzpatrick_skin_type": ("II", "IV", "")[i],
            "image_type": ("dermoscopic", "clinical: close-up", "dermoscopic")[i],
            "lesion_id": f"IL_{i}",
            "patient_id": f"IP_{i // 2}",
        }
        if old:
            row |= {"benign_malignant": malignancy, "diagnosis": before}
        else:
            row |= {"diagnosis_1": malignancy.title(), "diagnosis_3": now}
        rows.append(row)
    return rows


@pytest.mark.parametrize("old", [True, False])
def test_hiba_by_both_vocabularies_of_the_archive(download: Download, old: bool) -> None:
    download.table("metadata.csv", hiba_rows(old=old))
    download.images(*(f"ISIC_{79358 + i:07d}.jpg" for i in range(3)))
    done = download.prepare("hiba")
    written = download.written()
    assert [row["label"] for row in written] == ["benign", "malignant", "benign"]
    assert [row["melanoma"] for row in written] == ["0", "1", "" if old else "0"]
    assert [row["tone"] for row in written] == ["2", "4", ""]
    images = next(one for one in done.counts if one.of == "images")
    assert [count.n for count in images.published] == [1_616, 1_635]  # both are told
    assert done.findings == [
        "images: published 1,616 (Ricci Lara 2023, ISIC collection 251) or 1,635 (Yan 2025, the PanDerm "
        "paper), found 3"
    ]
    table = read_table(download.out, images=download.root, progress=False)
    assert table.card.patients == 2


def test_the_melanoma_column_is_a_label_of_its_own(download: Download) -> None:
    download.table("metadata.csv", hiba_rows(old=False))
    download.images(*(f"ISIC_{79358 + i:07d}.jpg" for i in range(3)))
    download.prepare("hiba")
    table = read_table(download.out, images=download.root, label="melanoma", progress=False)
    assert table.classes == ("0", "1")


def test_mskcc_tells_both_published_sizes(download: Download) -> None:
    rows = [{"isic_id": "ISIC_0000001", "copyright_license": "CC-BY", "diagnosis_1": "Indeterminate"}]
    download.table("mskcc_metadata_2026-01-01.csv", rows)
    download.images("ISIC_0000001.jpg")
    done = download.prepare("mskcc")
    (finding,) = done.findings
    assert "4,879 (ISIC collection 413" in finding
    assert "8,984 (Yan 2025" in finding
    assert download.written()[0]["label"] == "indeterminate"


def test_two_tables_that_could_be_the_export(download: Download) -> None:
    rows = [{"isic_id": "ISIC_0000001", "diagnosis_1": "Benign"}]
    download.table("a.csv", rows)
    download.table("b.csv", rows)
    download.images("ISIC_0000001.jpg")
    with pytest.raises(TableError, match="must be clear") as caught:
        download.prepare("mskcc")
    assert "2 files" in str(caught.value)
    assert "a.csv, b.csv" in str(caught.value)


def test_any_collection_on_real_images(shared: Path, download: Download) -> None:
    """UDA-1 as the archive would export it: real ids, diagnoses and images."""
    real = shared / "data/isic_uda1"
    with (real / "labels.csv").open(encoding="utf-8", newline="") as file:
        told = list(csv.DictReader(file))
    level = {"nevus": ("Benign", "Nevus"), "melanoma": ("Malignant", "Melanoma, NOS")}
    rows = [
        {
            "isic_id": row["image"].removesuffix(".jpg"),
            "copyright_license": "CC-0",
            "age_approx": row["age"],
            "sex": row["sex"],
            "diagnosis_1": level[row["dx"]][0],
            "diagnosis_3": level[row["dx"]][1],
        }
        for row in told
    ]
    download.table("isic_metadata_292.csv", rows)
    (download.root / "ISIC-images").symlink_to(real / "images", target_is_directory=True)
    done = download.prepare("isic-archive")
    assert (done.rows, done.missing, done.findings) == (555, (), [])
    written = download.written()
    assert [row["melanoma"] for row in written] == [row["binary_label"] for row in told]
    assert {row["licence"] for row in written} == {"CC-0"}
