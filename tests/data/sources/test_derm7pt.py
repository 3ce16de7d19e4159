"""Derm7pt: two tables of one download, the split by row numbers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from miniature import Download, compared

from panderm import read_table
from panderm.errors import TableError

DIAGNOSES = ("basal cell carcinoma", "clark nevus", "melanoma (in situ)", "vascular lesion",
             "seborrheic keratosis", "reed or spitz nevus")  # fmt: skip


def put(
    download: Download,
    *,
    lists: Sequence[Sequence[object]] = ((0, 1, 2), (3,), (4, 5)),
    without: str = "",
    clinic: str = "",
) -> None:
    rows = []
    for i, diagnosis in enumerate(DIAGNOSES):
        derm, near = f"Nel/NEL{i:03d}.jpg", clinic or f"Nel/Nel{i:03d}c.JPG"
        rows.append(
            {
                "case_num": i + 1,
                "diagnosis": diagnosis,
                "seven_point_score": i,
                "streaks": "absent",
                "location": "back",
                "sex": "Female",
                "management": "excision",
                "clinic": near,
                "derm": derm,
                "case_id": "",
                "notes": "",
            }
        )
        download.images(*(f"release_v0/images/{name}" for name in {derm, near} if name != without))
    download.table("release_v0/meta/meta.csv", rows)
    for name, places in zip(("train", "valid", "test"), lists, strict=True):
        path = download.root / f"release_v0/meta/{name}_indexes.csv"
        path.write_text("\n".join(["indexes", *map(str, places), ""]), encoding="utf-8")


@pytest.mark.parametrize("view", ["clinical", "dermoscopic"])
def test_both_views_have_the_same_lesions_split_and_classes(download: Download, view: str) -> None:
    put(download)
    done = download.prepare(f"derm7pt-{view}")
    rows = download.written()
    assert [row["split"] for row in rows] == ["train", "train", "train", "val", "test", "test"]
    assert [row["label"] for row in rows] == ["bcc", "nev", "mel", "misc", "sk", "nev"]
    assert [row["lesion_id"] for row in rows] == [f"case_{i + 1}" for i in range(6)]
    assert rows[0]["site"] == "back"
    ending = "c.JPG" if view == "clinical" else "000.jpg"
    assert rows[0]["image"].endswith(ending)
    assert compared(done, "train: images") == (3, 3, False)
    assert any("management" in note for note in done.notes)
    assert len(read_table(download.out, images=download.root, progress=False)) == 6


def test_a_missing_image_is_a_finding_and_a_diagnosis_of_its_own_is_listed(download: Download) -> None:
    put(download, without="Nel/NEL002.jpg")
    done = download.prepare("derm7pt-dermoscopic")
    assert done.missing == ("Nel/NEL002.jpg",)
    meta = download.root / "release_v0/meta/meta.csv"
    meta.write_text(meta.read_text("utf-8").replace("vascular lesion", "wart"), encoding="utf-8")
    assert download.prepare("derm7pt-dermoscopic").unmapped == {"wart": 1}


def test_cases_that_share_an_image_are_counted(download: Download) -> None:
    put(download, clinic="Nel/same.jpg")
    done = download.prepare("derm7pt-clinical")
    assert done.rows == 1
    assert any(note.startswith("5 cases left out") for note in done.notes)


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        (((0, 1, 2), (3,), (4,)), "1 case of 6 in none of"),
        (((0, 1, 2), (3,), (4, 99)), "test_indexes.csv has row numbers that are not there"),
        (
            ((0, 1, 2), (2, 3), (4, 5)),
            "valid_indexes.csv has row numbers that are not there, or that another",
        ),
        ((("zero", 1, 2), (3,), (4, 5)), "train_indexes.csv has row numbers"),
    ],
)
def test_a_split_that_does_not_fit_is_an_error(
    download: Download, lists: Sequence[Sequence[object]], said: str
) -> None:
    put(download, lists=lists)
    with pytest.raises(TableError, match="must name every case") as caught:
        download.prepare("derm7pt-clinical")
    assert said in str(caught.value)


def test_without_the_lists_there_is_no_split(download: Download) -> None:
    put(download)
    (download.root / "release_v0/meta/valid_indexes.csv").unlink()
    done = download.prepare("derm7pt-clinical")
    assert "split" not in download.written()[0]
    assert any("valid_indexes.csv is not there" in note for note in done.notes)
