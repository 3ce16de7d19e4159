"""The ISIC challenges and MILK10k, on miniatures of their official downloads."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from miniature import Download, compared

from panderm import read_table
from panderm.errors import TableError


def one_hot(ids: list[str], names: list[str], classes: str, **more: object) -> list[dict[str, object]]:
    """Return rows of a challenge's ground truth: image, and 1.0 in the column of its class."""
    return [
        {"image": i} | {c: float(c == name) for c in classes.split()} | more
        for i, name in zip(ids, names, strict=True)
    ]


# 2018


def put_task1(download: Download) -> None:
    for part, ids in (("Training", (0, 1, 3)), ("Validation", (12255,)), ("Test", (12169, 12170))):
        for i in ids:
            download.images(f"ISIC2018_Task1-2_{part}_Input/ISIC_{i:07d}.jpg")
            download.images(f"ISIC2018_Task1_{part}_GroundTruth/ISIC_{i:07d}_segmentation.png")
    download.images("ISIC2018_Task1-2_Training_Input/ISIC_0000000_superpixels.png")
    (download.root / "ISIC2018_Task1-2_Training_Input/ATTRIBUTION.txt").write_text("ISIC")


def test_task1_is_its_folders(download: Download) -> None:
    put_task1(download)
    (download.root / "ISIC2018_Task1_Training_GroundTruth/ISIC_0000003_segmentation.png").unlink()
    done = download.prepare("isic2018-task1")
    assert [(row["split"], row["image"][-11:], row["mask"][-23:]) for row in download.written()] == [
        ("train", "0000000.jpg", "000000_segmentation.png"),
        ("train", "0000001.jpg", "000001_segmentation.png"),
        ("train", "0000003.jpg", ""),
        ("val", "0012255.jpg", "012255_segmentation.png"),
        ("test", "0012169.jpg", "012169_segmentation.png"),
        ("test", "0012170.jpg", "012170_segmentation.png"),
    ]
    assert done.missing_masks == ("ISIC_0000003_segmentation",)
    assert compared(done, "train: masks") == (2, 2, False)
    assert done.unused == {"ISIC2018_Task1-2_Training_Input": 1}  # the superpixels
    assert len(read_table(download.out, images=download.root, progress=False)) == 6


def test_task1_without_its_folders_says_which(download: Download) -> None:
    download.images("pictures/ISIC_0000000.jpg")
    with pytest.raises(TableError, match="input folders") as caught:
        download.prepare("isic2018-task1")
    assert "there: 1 image in other folders" in str(caught.value)


TASK3 = "MEL NV BCC AKIEC BKL DF VASC"


def put_task3(download: Download, *, groups: bool = True) -> None:
    for part, ids, names in (
        ("Training", [24306, 24307, 24308], ["NV", "NV", "MEL"]),
        ("Validation", [34321], ["BKL"]),
        ("Test", [34524, 34525], ["VASC", "AKIEC"]),
    ):
        images = [f"ISIC_{i:07d}" for i in ids]
        download.images(*(f"ISIC2018_Task3_{part}_Input/{image}.jpg" for image in images))
        name = f"ISIC2018_Task3_{part}_GroundTruth"
        download.table(f"{name}/{name}.csv", one_hot(images, names, TASK3))
    if groups:
        rows = [
            {"image": f"ISIC_{i}", "lesion_id": f"HAM_{lesion}", "diagnosis_confirm_type": "histopathology"}
            for i, lesion in (("0024306", "A"), ("0024307", "A"), ("0024308", "B"))
        ]
        download.table("ISIC2018_Task3_Training_LesionGroupings.csv", rows)


def test_task3_has_its_split_and_lesions(download: Download) -> None:
    put_task3(download)
    done = download.prepare("isic2018-task3")
    assert [(r["label"], r["split"], r["lesion_id"]) for r in download.written()] == [
        ("nv", "train", "HAM_A"),
        ("nv", "train", "HAM_A"),
        ("mel", "train", "HAM_B"),
        ("bkl", "val", ""),
        ("vasc", "test", ""),
        ("akiec", "test", ""),
    ]
    assert download.written()[0]["dx_confirm_type"] == "histopathology"
    assert compared(done, "train: lesions") == (2, 2, False)
    assert compared(done, "test: images") == (2, 2, False)


def test_task3_without_lesion_groupings_warns(download: Download) -> None:
    put_task3(download, groups=False)
    done = download.prepare("isic2018-task3")
    assert any("LesionGroupings.csv is not there" in note for note in done.notes)
    assert "lesion_id" not in download.written()[0]


# 2019

C2019 = "MEL NV BCC AK BKL DF VASC SCC UNK"


def put_2019(download: Download, *, test_truth: bool) -> None:
    images = ["ISIC_0000000", "ISIC_0000002_downsampled", "ISIC_0024306", "ISIC_0053500"]
    download.table("ISIC_2019_Training_GroundTruth.csv", one_hot(images, ["NV", "MEL", "NV", "SCC"], C2019))
    lesions = ["", "MSK4_0000002", "HAM_0000550", "BCN_0000900"]
    metadata = [
        {
            "image": i,
            "age_approx": "55.0",
            "anatom_site_general": "anterior torso",
            "lesion_id": x,
            "sex": "female",
        }
        for i, x in zip(images, lesions, strict=True)
    ]
    download.table("ISIC_2019_Training_Metadata.csv", metadata)
    # The archive holds a folder of its own name, as some unpackers make it twice.
    download.images(*(f"ISIC_2019_Training_Input/ISIC_2019_Training_Input/{i}.jpg" for i in images))
    tests = ["ISIC_0034321", "ISIC_0034322"]
    download.images(*(f"ISIC_2019_Test_Input/{i}.jpg" for i in tests))
    download.table(
        "ISIC_2019_Test_Metadata.csv",
        [{"image": i, "age_approx": "", "anatom_site_general": "", "sex": "male"} for i in tests],
    )
    if test_truth:
        rows = one_hot(tests, ["UNK", "BCC"], C2019, score_weight=1.0, validation_weight=0.0)
        download.table("ISIC_2019_Test_GroundTruth.csv", rows)


def test_2019_has_its_test_part_where_the_truth_is_there(download: Download) -> None:
    put_2019(download, test_truth=True)
    done = download.prepare("isic2019")
    assert [(r["label"], r["split"], r["lesion_id"], r["collection"]) for r in download.written()] == [
        ("nv", "train", "", ""),
        ("mel", "train", "MSK4_0000002", "msk"),
        ("nv", "train", "HAM_0000550", "ham10000"),
        ("scc", "train", "BCN_0000900", "bcn20000"),
        ("unk", "test", "", ""),
        ("bcc", "test", "", ""),
    ]
    assert "1 training images have no lesion_id: the challenge published none" in done.notes
    assert not done.unmapped


def test_2019_without_test_truth_leaves_the_test_part_out_and_says_so(download: Download) -> None:
    put_2019(download, test_truth=False)
    done = download.prepare("isic2019")
    assert done.rows == 4
    assert "the test images are left out: ISIC_2019_Test_GroundTruth.csv is not there" in done.notes
    assert done.unused == {"ISIC_2019_Test_Input": 2}
    assert compared(done, "test: images")[2] is None


def test_bcn20000_inside_2019(download: Download) -> None:
    put_2019(download, test_truth=True)
    done = download.prepare("bcn20000-isic2019")
    assert [(r["label"], r["lesion_id"]) for r in download.written()] == [("scc", "BCN_0000900")]
    assert compared(done, "images") == (1, 1, False)


def test_a_row_in_two_classes_has_no_label(download: Download) -> None:
    put_2019(download, test_truth=False)
    rows = one_hot(["ISIC_0000000", "ISIC_0024306"], ["NV", "NV"], C2019)
    rows[1]["MEL"] = 1.0
    download.table("ISIC_2019_Training_GroundTruth.csv", rows)
    done = download.prepare("isic2019")
    assert [row["label"] for row in download.written()] == ["nv", ""]
    assert done.unlabelled == 1


# 2020


def rows_2020() -> list[dict[str, object]]:
    return [
        {
            "image_name": f"ISIC_{2637011 + i}",
            "patient_id": f"IP_{i // 2}",
            "lesion_id": f"IL_{i}",
            "sex": "male",
            "age_approx": "45.0",
            "anatom_site_general_challenge": "head/neck",
            "diagnosis": "melanoma" if i == 3 else "unknown",
            "benign_malignant": "malignant" if i == 3 else "benign",
            "target": int(i == 3),
        }
        for i in range(4)
    ]


def test_2020_names_patients_and_known_duplicates(download: Download) -> None:
    download.table("ISIC_2020_Training_GroundTruth_v2.csv", rows_2020())
    pairs = [{"image_name_1": "ISIC_2637011", "image_name_2": "ISIC_2637013"}]
    download.table("ISIC_2020_Training_Duplicates.csv", pairs)
    download.images(*(f"train/ISIC_{2637011 + i}.jpg" for i in range(4)))
    done = download.prepare("isic2020")
    written = download.written()
    assert [row["label"] for row in written] == ["benign", "benign", "benign", "malignant"]
    assert [row["duplicate_of"] for row in written] == ["", "", "ISIC_2637011", ""]
    assert compared(done, "patients") == (2, 2, False)
    assert compared(done, "malignant images") == (1, 1, False)
    table = read_table(download.out, images=download.root, progress=False)
    assert table.classes == ("benign", "malignant")
    assert table.card.patients == 2


def test_2020_by_the_names_of_kaggle(download: Download) -> None:
    rows = [{k: v for k, v in row.items() if k != "lesion_id"} for row in rows_2020()]
    download.table("train.csv", rows)
    download.images(*(f"jpeg/train/ISIC_{2637011 + i}.jpg" for i in range(4)))
    # The DICOM files of the same images: the JPEG is taken, and that is said.
    (download.root / "train").mkdir()
    (download.root / "train/ISIC_2637011.dcm").write_bytes(b"DICM")
    done = download.prepare("isic2020")
    assert download.written()[0]["image"] == "jpeg/train/ISIC_2637011.jpg"
    assert any("several folders or formats" in note and "ISIC_2637011" in note for note in done.notes)
    assert any("panderm check finds them" in note for note in done.notes)


@pytest.mark.parametrize("official", [True, False])
def test_the_test_part_of_2020_has_patients_and_no_label(download: Download, official: bool) -> None:
    names = ("image", "patient") if official else ("image_name", "patient_id")
    rows = [{names[0]: "ISIC_0052060", names[1]: "IP_3579794", "age_approx": "70.0", "sex": "male"}]
    download.table("ISIC_2020_Test_Metadata.csv" if official else "test.csv", rows)
    download.images("test/ISIC_0052060.jpg")
    done = download.prepare("isic2020-test")
    (row,) = download.written()
    assert (row["patient_id"], row["age"]) == ("IP_3579794", "70")
    assert "label" not in row
    assert done.unlabelled == 1


# 2024


def rows_2024(*, target: bool) -> list[dict[str, object]]:
    rows = []
    for i in range(4):
        row: dict[str, object] = {"isic_id": f"ISIC_{15670 + i:07d}"}
        if target:
            row["target"] = int(i == 2)
        row |= {
            "patient_id": f"IP_{i // 2}",
            "age_approx": "60.0",
            "sex": "male",
            "anatom_site_general": "lower extremity",
            "clin_size_long_diam_mm": "3.04",
            "image_type": "TBP tile: close-up",
            "tbp_tile_type": "3D: white",
            "tbp_lv_A": "20.24",
            "attribution": "Memorial Sloan Kettering Cancer Center",
            "copyright_license": "CC-BY" if i else "CC-BY-NC",
            "lesion_id": "IL_1" if i == 2 else "",
            "iddx_full": "Benign",
            "iddx_1": "Benign",
        }
        rows.append(row)
    return rows


def test_2024_keeps_the_measurements_and_each_rows_licence(download: Download) -> None:
    download.table("train-metadata.csv", rows_2024(target=True))
    download.images(*(f"train-image/image/ISIC_{15670 + i:07d}.jpg" for i in range(4)))
    (download.root / "train-image.hdf5").write_bytes(b"HDF")
    done = download.prepare("isic2024")
    written = download.written()
    assert [row["label"] for row in written] == ["benign", "benign", "malignant", "benign"]
    assert [row["licence"] for row in written] == ["CC-BY-NC", "CC-BY", "CC-BY", "CC-BY"]
    assert written[0]["tbp_lv_A"] == "20.24"
    assert compared(done, "patients") == (2, 2, False)
    assert any("after the diagnosis" in note for note in done.notes)


def test_2024_with_the_ground_truth_apart(download: Download) -> None:
    part = "ISIC_2024_Permissive_Training"
    download.table(f"{part}_Input/metadata.csv", rows_2024(target=False))
    truth = [{"isic_id": f"ISIC_{15670 + i:07d}", "malignant": float(i == 1)} for i in range(4)]
    download.table(f"{part}_GroundTruth.csv", truth)
    extra = [{"isic_id": f"ISIC_{15670 + i:07d}", "mel_thick_mm": "0.4" if i == 1 else ""} for i in range(4)]
    download.table(f"{part}_Supplement.csv", extra)
    download.images(*(f"{part}_Input/ISIC_{15670 + i:07d}.jpg" for i in range(4)))
    done = download.prepare("isic2024-permissive")
    assert [row["label"] for row in download.written()] == ["benign", "malignant", "benign", "benign"]
    assert [row["mel_thick_mm"] for row in download.written()] == ["", "0.4", "", ""]
    assert compared(done, "images") == (4, 4, False)


def test_2024_packed_in_hdf5_says_what_to_unpack(download: Download) -> None:
    download.table("train-metadata.csv", rows_2024(target=True))
    (download.root / "train-image.hdf5").write_bytes(b"HDF")
    with pytest.raises(TableError, match="must be files") as caught:
        download.prepare("isic2024")
    assert "train-image.hdf5 holds them packed" in str(caught.value)


def test_2024_without_diagnoses_says_where_they_are(download: Download) -> None:
    download.table("metadata.csv", rows_2024(target=False))
    download.images("ISIC_0015670.jpg")
    with pytest.raises(TableError, match="diagnoses must be there"):
        download.prepare("isic2024")


# MILK10k

MILK = "AKIEC BCC BEN_OTH BKL DF INF MAL_OTH MEL NV SCCKA VASC"


@pytest.mark.parametrize("layout", ["challenge", "archive"])
def test_milk10k_joins_lesions_to_their_two_images(download: Download, layout: str) -> None:
    rows = [
        {
            "lesion_id": f"IL_{lesion:07d}",
            "image_type": kind,
            "isic_id": f"ISIC_{4671410 + 2 * lesion + (kind == 'dermoscopic')}",
            "copyright_license": "CC-BY-NC",
            "age_approx": "65",
            "sex": "male",
            "skin_tone_class": "3",
            "site": "trunk",
            "MONET_hair": "0.1",
        }
        for lesion in range(2)
        for kind in ("clinical: close-up", "dermoscopic")
    ]
    truth = [
        {"lesion_id": f"IL_{i:07d}"} | {c: float(c == name) for c in MILK.split()}
        for i, name in enumerate(("MAL_OTH", "NV"))
    ]
    extra = [
        {"isic_id": r["isic_id"], "diagnosis_full": "Nevus", "diagnosis_confirm_type": "histopathology"}
        for r in rows
    ]
    if layout == "challenge":
        download.table("MILK10k_Training_Metadata.csv", rows)
        download.table("MILK10k_Training_GroundTruth.csv", truth)
        download.table("MILK10k_Training_Supplement.csv", extra)
        names = [f"MILK10k_Training_Input/{r['lesion_id']}/{r['isic_id']}.jpg" for r in rows]
    else:
        download.table("supplements/training_input.csv", rows)
        download.table("supplements/training_gt.csv", truth)
        download.table("supplements/training_supp.csv", extra)
        download.table("metadata.csv", [{"isic_id": r["isic_id"], "melanocytic": "True"} for r in rows])
        names = [f"images/{r['isic_id']}.jpg" for r in rows]
    download.images(*names[:-1])
    done = download.prepare("milk10k")
    written = download.written()
    assert [row["label"] for row in written] == ["mal_oth", "mal_oth", "nv", "nv"]
    assert [row["image"] for row in written][:3] == names[:3]
    assert written[0]["dx_confirm_type"] == "histopathology"
    assert written[0]["skin_tone_class"] == "3"
    assert done.missing == ("ISIC_4671413",)
    assert compared(done, "lesions") == (2, 2, False)


# The counts agree with themselves


def test_published_counts_add_up() -> None:
    from panderm.data.sources.known import KNOWN

    checked = 0
    for source in KNOWN:
        for split in {c.split for c in source.counts}:
            mine = [c for c in source.counts if c.split == split and c.unit == "images" and c.verified]
            classes = [c.n for c in mine if c.label is not None]
            whole = [c.n for c in mine if c.label is None]
            if len(classes) == len(source.classes) and classes:
                assert sum(classes) in whole, (source.name, split)
                checked += 1
    assert checked >= 6


def test_two_patients_rows_on_real_images(shared: Path, download: Download) -> None:
    """ISIC 2020 by its own columns, on real images of it."""
    with (shared / "data/isic2020_patients/labels.csv").open(encoding="utf-8", newline="") as file:
        rows = [row | {"image_name": row["image"].removesuffix(".jpg")} for row in csv.DictReader(file)][:40]
    columns = list(rows_2020()[0])
    download.table("train.csv", [{c: row[c] for c in columns if c in row} for row in rows])
    (download.root / "jpeg").symlink_to(shared / "data/isic2020_patients/images", target_is_directory=True)
    done = download.prepare("isic2020")
    assert (done.rows, done.missing) == (40, ())
    assert sum(done.unused.values()) == 860
    table = read_table(download.out, images=download.root, progress=False)
    assert len(table) == 40


def test_a_ground_truth_saved_by_a_spreadsheet(download: Download) -> None:
    """Semicolons between cells, commas in numbers: what a German spreadsheet program makes of 1.0."""
    rows = one_hot(["ISIC_0000000", "ISIC_0024306"], ["NV", "SCC"], C2019)
    told = [{c: str(v).replace(".", ",") if c != "image" else v for c, v in row.items()} for row in rows]
    download.table("ISIC_2019_Training_GroundTruth.csv", told, separator=";")
    download.images("ISIC_0000000.jpg", "ISIC_0024306.jpg")
    download.prepare("isic2019")
    assert [row["label"] for row in download.written()] == ["nv", "scc"]


def test_a_ground_truth_without_any_class_is_a_finding(download: Download) -> None:
    rows = one_hot(["ISIC_0000000"], ["none"], C2019)
    download.table("ISIC_2019_Training_GroundTruth.csv", rows)
    download.images("ISIC_0000000.jpg")
    done = download.prepare("isic2019")
    assert "not one row has a label: is the official table as it was downloaded?" in done.findings


def test_task1_on_real_images_and_masks(shared: Path, download: Download) -> None:
    """Images and masks of ISIC 2017, which task 1 of 2018 took over, in the official folders."""
    real = shared / "data/isic2017_seg"
    for name, of in (
        ("ISIC2018_Task1-2_Training_Input", "images"),
        ("ISIC2018_Task1_Training_GroundTruth", "masks"),
    ):
        (download.root / name).symlink_to(real / of, target_is_directory=True)
    done = download.prepare("isic2018-task1")
    assert compared(done, "train: images") == (93, 93, False)
    assert compared(done, "train: masks") == (93, 93, False)
    assert (done.missing, done.missing_masks, done.unused) == ((), (), {})
    for row in download.written():
        assert Path(row["mask"]).stem == f"{Path(row['image']).stem}_segmentation"


def test_overlaps_are_told_by_both() -> None:
    from panderm.data.sources.known import KNOWN

    pairs = {(source.name, other) for source in KNOWN for other in source.overlaps}
    names = {source.name for source in KNOWN}
    assert {other for _, other in pairs} <= names
    assert pairs == {(other, name) for name, other in pairs}
    assert ("ham10000", "isic2019") in pairs
