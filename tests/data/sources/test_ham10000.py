"""HAM10000 and the published clean split, on miniatures and on the real table where it is at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from miniature import Download, compared

from panderm import read_table
from panderm.data.sources.prepare import prepare
from panderm.errors import TableError

DX = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")


def ham_rows(n: int = 14) -> list[dict[str, object]]:
    """Rows of HAM10000_metadata.csv: two images a lesion."""
    return [
        {
            "lesion_id": f"HAM_{i // 2:07d}",
            "image_id": f"ISIC_{24306 + i:07d}",
            "dx": DX[i // 2 % 7],
            "dx_type": "histo",
            "age": "80.0" if i else "",
            "sex": "male" if i else "unknown",
            "localization": "scalp" if i else "unknown",
            "dataset": "vidir_modern",
        }
        for i in range(n)
    ]


def put_ham(download: Download, *, without: str = "") -> None:
    rows = ham_rows()
    download.table("dataverse_files/HAM10000_metadata.csv", rows)
    for i, row in enumerate(rows):
        if row["image_id"] != without:
            download.images(f"dataverse_files/HAM10000_images_part_{1 + i % 2}/{row['image_id']}.jpg")
        download.images(f"HAM10000_segmentations_lesion_tschandl/{row['image_id']}_segmentation.png")


def test_rows_take_our_names_and_find_their_files(download: Download) -> None:
    put_ham(download)
    done = download.prepare("ham10000")
    first, second = download.written()[:2]
    assert first == {
        "image": "dataverse_files/HAM10000_images_part_1/ISIC_0024306.jpg",
        "label": "akiec",
        "label_name": "actinic keratosis or intraepithelial carcinoma",
        "lesion_id": "HAM_0000000",
        "mask": "HAM10000_segmentations_lesion_tschandl/ISIC_0024306_segmentation.png",
        "age": "",
        "sex": "",
        "site": "",
        "dx_confirm_type": "histo",
        "source": "ham10000",
        "licence": "CC BY-NC 4.0",
        "dataset": "vidir_modern",
    }
    assert (second["age"], second["sex"], second["site"]) == ("80", "male", "scalp")
    assert done.read == ("dataverse_files/HAM10000_metadata.csv",)
    assert done.notes == ("only the train part is here: no split column; panderm split makes one",)


def test_the_table_goes_straight_on(download: Download) -> None:
    put_ham(download)
    download.prepare("ham10000")
    table = read_table(download.out, images=download.root, progress=False)
    assert len(table) == 14
    assert table.classes == DX
    assert table.card.groups == 7
    assert table.card.roles["group"] == "lesion_id"


def test_published_counts_stand_beside_what_is_found(download: Download) -> None:
    put_ham(download)
    done = download.prepare("ham10000")
    assert compared(done, "train: images") == (14, 14, False)
    assert compared(done, "train: lesions") == (7, 7, False)
    assert compared(done, "train: mel images") == (2, 2, False)
    assert compared(done, "test: images") == (0, 0, None)
    assert "train: images: published 10,015 (Tschandl 2018), found 14" in done.findings


def test_a_missing_image_is_named_and_its_row_stays(download: Download) -> None:
    put_ham(download, without="ISIC_0024308")
    done = download.prepare("ham10000")
    assert done.missing == ("ISIC_0024308",)
    assert compared(done, "train: images") == (14, 13, False)
    assert [row["image"] for row in download.written()].count("ISIC_0024308.jpg") == 1
    assert any(finding.endswith("ISIC_0024308") for finding in done.findings)
    with pytest.raises(TableError, match="readable"):
        read_table(download.out, images=download.root, progress=False)


def test_skip_missing_leaves_the_row_out_and_says_so(download: Download) -> None:
    put_ham(download, without="ISIC_0024308")
    done = download.prepare("ham10000", skip_missing=True)
    assert (done.rows, done.missing, done.skipped) == (13, ("ISIC_0024308",), True)
    assert len(read_table(download.out, images=download.root, progress=False)) == 13


@pytest.mark.parametrize("form", ["dataverse", "challenge"])
def test_the_test_set_makes_the_official_split(download: Download, form: str) -> None:
    put_ham(download)
    if form == "dataverse":
        rows = [{**row, "image_id": f"ISIC_{34524 + i:07d}"} for i, row in enumerate(ham_rows(2))]
        download.table("ISIC2018_Task3_Test_GroundTruth.tab", rows, separator="\t")
    else:
        columns = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
        rows = [
            {"image": f"ISIC_{34524 + i:07d}"} | {c: float(c == "AKIEC") for c in columns} for i in (0, 1)
        ]
        download.table("ISIC2018_Task3_Test_GroundTruth/ISIC2018_Task3_Test_GroundTruth.csv", rows)
    download.images(
        "ISIC2018_Task3_Test_Images/ISIC_0034524.jpg", "ISIC2018_Task3_Test_Images/ISIC_0034525.jpg"
    )
    done = download.prepare("ham10000")
    written = download.written()
    assert [row["split"] for row in written].count("train") == 14
    assert [(row["split"], row["label"]) for row in written[14:]] == [("test", "akiec")] * 2
    assert compared(done, "test: images") == (2, 2, False)
    assert done.missing_masks == ()  # nobody published masks of the test set


def test_a_renamed_table_is_known_by_its_columns(download: Download) -> None:
    put_ham(download)
    (download.root / "dataverse_files/HAM10000_metadata.csv").rename(download.root / "mine.csv")
    done = download.prepare("ham10000")
    assert done.rows == 14
    assert "mine.csv was taken for the official table by its columns" in done.notes


def test_what_was_looked_for_is_said(download: Download) -> None:
    download.images("images/ISIC_0024306.jpg")
    (download.root / "HAM10000_metadata.zip").write_bytes(b"PK")
    with pytest.raises(TableError) as caught:
        download.prepare("ham10000")
    assert str(caught.value) == (
        "the official table must be there.\n"
        f"  looked for HAM10000_metadata.csv or HAM10000_metadata.tab or HAM10000_metadata "
        f"below {download.root}\n"
        "  and for any table with the columns lesion_id, image_id, dx, dx_type, age, sex, localization\n"
        "  there: 1 image, 0 tables\n"
        "  hint: HAM10000_metadata.zip must be unpacked first"
    )
    assert not download.out.exists()


def clean_rows() -> list[dict[str, object]]:
    return [
        {
            **row,
            "split": ("train", "val", "test")[i % 3],
            "label": DX.index(str(row["dx"])),
            "image": f"{row['image_id']}.jpg",
            "binary_label": int(row["dx"] == "mel"),
            "age_group": "old",
            "mask": f"{row['image_id']}_segmentation.png",
        }
        for i, row in enumerate(ham_rows())
    ]


def test_the_clean_split_keeps_its_split_and_gives_names(download: Download) -> None:
    rows = clean_rows()
    download.table("ham_clean.csv", rows)
    download.images(*(f"images/{row['image']}" for row in rows), *(f"masks/{row['mask']}" for row in rows))
    done = download.prepare("ham10000-clean")
    written = download.written()
    assert [row["split"] for row in written] == [row["split"] for row in rows]
    assert [row["label"] for row in written] == [row["dx"] for row in rows]
    assert [row["label_index"] for row in written] == [str(row["label"]) for row in rows]
    assert compared(done, "train: images") == (5, 5, False)
    assert not done.unmapped


def test_the_real_clean_table(shared: Path, tmp_path: Path) -> None:
    done = prepare("ham10000-clean", shared / "data/ham10000", out=tmp_path / "ham.csv")
    assert (done.rows, done.missing, done.missing_masks, done.unused) == (8783, (), (), {})
    # One training image more than the published run had, a benign keratosis. The test part is kept away.
    assert done.findings == [
        "train: images: published 8,207 (log of the published run), found 8,208",
        "train: bkl images: published 941 (log of the published run), found 942",
    ]
    assert compared(done, "val: images") == (575, 575, True)
    assert compared(done, "test: images") == (0, 0, None)
