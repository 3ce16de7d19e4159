"""One walk over a user's folder: what is found, by which name, and which of several."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from miniature import Download

from panderm.data.sources.folder import Folder
from panderm.errors import TableError


def put(root: Path, *names: str) -> Folder:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return Folder(root)


@pytest.mark.parametrize("asked", ["ISIC_1", "ISIC_1.jpg", "isic_1.PNG", "train/ISIC_1", "other/ISIC_1.jpeg"])
def test_an_image_is_found_by_its_id_whatever_the_ending_and_case(tmp_path: Path, asked: str) -> None:
    assert put(tmp_path, "deep/er/ISIC_1.JPG").image(asked) == "deep/er/ISIC_1.JPG"


def test_an_id_with_a_dot_is_not_cut(tmp_path: Path) -> None:
    folder = put(tmp_path, "a.b.jpg", "a.jpg")
    assert folder.image("a.b") == "a.b.jpg"
    assert folder.image("a.c") is None


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        ("x/one.jpg", "x/one.jpg"),  # the folders of the path
        ("y/one", "y/one.png"),
        ("one.png", "y/one.png"),  # the ending asked for
        ("one", "x/one.jpg"),  # JPEG before PNG, and the least deep
        ("two", "two.jpg"),
    ],
)
def test_which_of_several_is_taken(tmp_path: Path, asked: str, taken: str) -> None:
    folder = put(tmp_path, "x/one.jpg", "x/y/z/one.jpg", "y/one.png", "two.jpg", "a/two.jpg", "two.dcm")
    assert folder.image(asked) == taken


def test_hidden_files_and_what_macs_add_are_no_images(tmp_path: Path) -> None:
    folder = put(tmp_path, "a.jpg", "__MACOSX/a.jpg", "._a.jpg", ".cache/b.jpg")
    assert folder.images == 1
    assert folder.image("b") is None


def test_images_below_a_folder(tmp_path: Path) -> None:
    folder = put(tmp_path, "train/BCC/a.jpg", "test/BCC/a.jpg", "train/MEL/b.jpg", "train.txt")
    assert folder.images_below("bcc") == ["test/BCC/a.jpg", "train/BCC/a.jpg"]
    assert folder.images_below("train/bcc") == ["train/BCC/a.jpg"]
    assert len(folder.images_below()) == 3


def test_tables_by_name_and_by_pattern_the_least_deep_first(tmp_path: Path) -> None:
    folder = put(tmp_path, "a/Meta.csv", "meta.CSV", "x_metadata_2024.csv")
    assert folder.find("meta.csv") == "meta.CSV"
    assert folder.find("none.csv", "*_metadata_*.csv") == "x_metadata_2024.csv"
    assert folder.find("none.csv") is None


def test_a_table_of_other_columns_is_refused(download: Download) -> None:
    download.table("HAM10000_metadata.csv", [{"image_id": "a", "diagnosis": "nv"}])
    with pytest.raises(TableError) as caught:
        download.prepare("ham10000")
    assert str(caught.value).splitlines()[:2] == [
        "HAM10000_metadata.csv must have the columns of the official table.",
        "  not there: lesion_id, dx, dx_type, age, sex and 1 more",
    ]


def test_an_official_table_that_names_an_image_twice_is_refused(download: Download) -> None:
    row = {"isic_id": "ISIC_1", "diagnosis_1": "Benign"}
    download.table("metadata.csv", [row, row])
    download.images("ISIC_1.jpg")
    with pytest.raises(TableError, match="name every image once"):
        download.prepare("hiba")


@pytest.mark.parametrize("kind", ["nothing", "a file", "an empty folder"])
def test_no_folder_no_table(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "down"
    if kind == "a file":
        path.write_text("x")
    elif kind == "an empty folder":
        path.mkdir()
    with pytest.raises(TableError, match="official download must"):
        Folder(path)


def test_a_link_back_up_is_walked_once(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/up").symlink_to(tmp_path, target_is_directory=True)
    folder = put(tmp_path, "a/one.jpg", "a/b/two.jpg")
    assert folder.images == 2
    assert folder.times("one") == 1


def test_a_name_that_is_no_text_is_left_aside_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system keeps such names out")
    folder = Folder(tmp_path)
    assert folder.images == 1
    assert folder.notes == ["1 file left aside: names that are not UTF-8 cannot stand in a table"]


def test_archives_that_were_not_unpacked_are_named(download: Download) -> None:
    download.table("metadata.csv", [{"isic_id": "ISIC_1", "diagnosis_1": "Benign"}])
    (download.root / "ISIC-images.zip").write_bytes(b"PK")
    done = download.prepare("hiba")
    assert done.missing == ("ISIC_1",)
    assert "ISIC-images.zip: packed, and not looked into" in done.notes
