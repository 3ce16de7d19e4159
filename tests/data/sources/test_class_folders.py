"""MED-NODE, DermNet and PATCH16: a folder a class."""

from __future__ import annotations

import pytest
from miniature import Download, compared

from panderm import read_table
from panderm.errors import PandermWarning, TableError

ACNE, MOLES = "Acne and Rosacea Photos", "Melanoma Skin Cancer Nevi and Moles"


def test_mednode(download: Download) -> None:
    download.images("complete/Melanoma/896.jpg", "complete/naevus/19085.jpg", "complete/naevus/896.jpg")
    download.images("complete/other/1.jpg")
    done = download.prepare("mednode")
    rows = download.written()
    assert [(row["image"], row["label"]) for row in rows] == [
        ("complete/Melanoma/896.jpg", "melanoma"),
        ("complete/naevus/19085.jpg", "naevus"),
        ("complete/naevus/896.jpg", "naevus"),
    ]
    assert compared(done, "naevus images") == (2, 2, False)
    assert done.unused == {"complete/other": 1}
    assert "split" not in rows[0]
    assert len(read_table(download.out, images=download.root, progress=False)) == 3


def test_mednode_without_its_folders_is_an_error(download: Download) -> None:
    download.images("images/896.jpg")
    with pytest.raises(TableError, match="the folders of the classes must be there"):
        download.prepare("mednode")


def test_dermnet_takes_the_split_from_the_folders(download: Download) -> None:
    download.images(f"train/{ACNE}/a-1.jpg", f"train/{MOLES}/a-1.jpg", f"test/{ACNE.lower()}/a-1.jpg")
    download.images("test/Lumps/b.jpg", "elsewhere/c.jpg")
    done = download.prepare("dermnet")
    rows = download.written()
    assert [(row["split"], row["label"]) for row in rows] == [
        *(("test", "Lumps"), ("test", ACNE), ("train", ACNE), ("train", MOLES)),
    ]
    assert rows[2]["label_name"] == "Acne and Rosacea"
    assert done.unmapped == {"Lumps": 1}
    assert compared(done, "train: images") == (2, 2, False)
    assert compared(done, "images") == (4, 4, False)
    assert done.unused == {"elsewhere": 1}
    assert len(done.source.classes) == 23
    assert not any("several folders" in note for note in done.notes)
    # Files of one name are drawn alike here: the gate sees through it.
    with pytest.warns(PandermWarning, match="an image must not be in two splits"):
        table = read_table(download.out, images=download.root, progress=False)
    assert len(table) == 4


def test_dermnet_without_its_split_is_an_error(download: Download) -> None:
    download.images(f"{ACNE}/a.jpg")
    with pytest.raises(TableError, match="the folders train and test must be there"):
        download.prepare("dermnet")


TISSUES = ("nontumor_skin_dermis_dermis", "tumor_skin_epithelial_bcc")


def put_patch16(download: Download, *, word: str = "Validation", table: bool = True) -> None:
    rows = []
    for i, split in enumerate(("Train", word, "Test", "Train")):
        kind = TISSUES[i % 2]
        name = f"data/tiles/{kind}/{kind}_ws_{44 + i // 2}_{i}.jpg"
        rows.append({"file": name, "class": kind, "malignicy": kind.partition("_")[0], "set": split})
        if i != 3:
            download.images(name)
    if table:
        download.table("data/tiles-v2.csv", rows)


def test_patch16_has_its_split_and_its_slides(download: Download) -> None:
    put_patch16(download)
    done = download.prepare("patch16")
    rows = download.written()
    assert [row["split"] for row in rows] == ["train", "val", "test", "train"]
    assert [row["lesion_id"] for row in rows] == ["ws_44", "ws_44", "ws_45", "ws_45"]
    assert rows[1]["label_name"] == "basal cell carcinoma"
    assert done.missing == ("data/tiles/tumor_skin_epithelial_bcc/tumor_skin_epithelial_bcc_ws_45_3.jpg",)
    assert compared(done, "images") == (4, 3, False)
    assert compared(done, "lesions")[2] is None  # not verified


def test_patch16_by_its_folders_alone(download: Download) -> None:
    put_patch16(download, table=False)
    done = download.prepare("patch16")
    assert done.rows == 3
    assert "split" not in download.written()[0]
    assert done.notes[0].startswith("tiles-v2.csv is not there")


def test_patch16_with_an_unknown_set_is_an_error(download: Download) -> None:
    put_patch16(download, word="Holdout")
    with pytest.raises(TableError, match="must be Train, Validation or Test"):
        download.prepare("patch16")
