"""A folder a class, and folders of DICOM files."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from panderm import import_images, read_table
from panderm.cli import app
from panderm.errors import TableError, UsageError

pydicom = pytest.importorskip("pydicom")


def draw(root: Path, *names: str) -> None:
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 10 * i, dtype=np.uint8)).save(path)


def places(root: Path, out: Path) -> list[tuple[str, str, str]]:
    import_images(root, layout="folders", out=out)
    with out.open(encoding="utf-8", newline="") as file:
        return [(row["image"], row["label"], row.get("split", "-")) for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("mel/a.jpg", "nv/a.jpg"), [("mel", "-"), ("nv", "-")]),
        (("all/mel/a.jpg", "all/nv/b.jpg"), [("mel", "-"), ("nv", "-")]),
        (
            ("Train/mel/a.jpg", "Train/nv/P1/b.jpg", "valid/mel/c.jpg", "testing/nv/d.jpg"),
            [("mel", "train"), ("nv", "train"), ("nv", "test"), ("mel", "val")],
        ),
        (("set/train/mel/a.jpg", "set/test/nv/b.jpg"), [("nv", "test"), ("mel", "train")]),
        (("mel/P1/a.jpg", "mel/P2/b.jpg", "nv/P3/deep/c.jpg"), [("mel", "-"), ("mel", "-"), ("nv", "-")]),
        (("mel/a.jpg", "mel/b.jpg"), [("mel", "-"), ("mel", "-")]),
    ],
)
def test_the_class_is_the_first_folder_that_tells_images_apart(
    tmp_path: Path, names: tuple[str, ...], expected: list[tuple[str, str]]
) -> None:
    root = tmp_path / "lesions"
    draw(root, *names)
    found = places(root, tmp_path / "made.csv")
    assert sorted((label, split) for _, label, split in found) == sorted(expected)
    for image, _, _ in found:
        assert (root / image).is_file()
    assert len(read_table(tmp_path / "made.csv", images=root, progress=False)) == len(names)


def test_images_outside_every_class_are_findings(tmp_path: Path) -> None:
    draw(tmp_path / "lesions", "mel/a.jpg", "nv/b.jpg", "stray.jpg")
    done = import_images(tmp_path / "lesions", layout="folders", out=tmp_path / "made.csv")
    assert done.findings == ("1 image in no folder of a class: stray.jpg",)
    assert done.counts == {"mel": 1, "nv": 1}


def test_folders_that_are_hardly_classes_are_findings(tmp_path: Path) -> None:
    draw(tmp_path / "lesions", "images/a.jpg", "masks/a.png")
    done = import_images(tmp_path / "lesions", layout="folders", out=tmp_path / "made.csv")
    assert done.findings == (
        "folders were read as a class that may be none: images, masks; keep it out of the --from folder",
    )
    draw(tmp_path / "skin", "train/Basal cell/a.jpg", "test/basal_cell/b.jpg", "test/mel/c.jpg")
    done = import_images(tmp_path / "skin", layout="folders", out=tmp_path / "skin.csv")
    assert done.findings == ("classes that differ in nothing but case and spaces: Basal cell, basal_cell",)


def test_a_split_that_covers_some_images_only_is_none(tmp_path: Path) -> None:
    draw(tmp_path / "lesions", "train/mel/a.jpg", "test/nv/b.jpg", "more/nv/c.jpg")
    done = import_images(tmp_path / "lesions", layout="folders", out=tmp_path / "made.csv")
    assert "split" not in done.columns
    assert done.notes == ("no split column: 1 image in neither train, val nor test (none)",)


def test_what_is_no_folder_of_classes_is_an_error(tmp_path: Path) -> None:
    draw(tmp_path / "flat", "a.jpg", "b.jpg")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.md").write_text("no images", "utf-8")
    for name, said in (("flat", "there must be one folder a class"), ("empty", "a folder must hold images"),
                       ("nowhere", "must exist")):  # fmt: skip
        with pytest.raises(TableError, match=said):
            import_images(tmp_path / name, layout="folders", out=tmp_path / "made.csv")
    with pytest.raises(UsageError, match="did you mean 'folders'"):
        import_images(tmp_path / "flat", layout="folder", out=tmp_path / "made.csv")  # type: ignore[arg-type]
    assert not (tmp_path / "made.csv").exists()


def put_dicom(path: Path, *, patient: str = "P1", date: str = "20240503") -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    image = Dataset()
    image.file_meta = meta
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    image.PatientID, image.StudyDate, image.Modality = patient, date, "XC"
    image.Laterality, image.BodyPartExamined = "L", "SKIN"
    image.Rows = image.Columns = 4
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation = 7, 0
    image.PixelData = np.random.default_rng(len(patient)).integers(0, 256, 48, dtype=np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image.save_as(path, enforce_file_format=True)


def test_dicom_files_become_rows_whatever_they_are_called(tmp_path: Path) -> None:
    root = tmp_path / "pacs"
    put_dicom(root / "study1/IM000001", patient="P1")
    put_dicom(root / "study2/lesion.dcm", patient="P\n2", date="20240601")
    (root / "study2/readme.txt").write_text("not a picture" * 20, "utf-8")
    put_dicom(root / "DICOMDIR", patient="index")
    done = import_images(root, layout="dicom", out=tmp_path / "made.csv", progress=False)
    with (tmp_path / "made.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["patient_id"], row["study_date"]) for row in rows] == [
        ("study1/IM000001", "P1", "2024-05-03"),
        ("study2/lesion.dcm", "P 2", "2024-06-01"),
    ]
    assert rows[0]["laterality"] == "L"
    assert "mm_per_pixel" not in rows[0]  # no header says it
    assert "may leave the hospital" in done.notes[0]
    table = read_table(tmp_path / "made.csv", images=root, progress=False)
    assert table.card.patients == 2


def test_a_damaged_dicom_file_is_a_finding(tmp_path: Path) -> None:
    root = tmp_path / "pacs"
    put_dicom(root / "a.dcm")
    content = (root / "a.dcm").read_bytes()
    (root / "b.dcm").write_bytes(content[:128] + b"DICM" + b"\xff" * 60)
    result = CliRunner().invoke(
        app,
        ["data", "import", "dicom", "--from", str(root), "--out", str(tmp_path / "m.csv"), "--json", "-q"],
    )
    told = json.loads(result.stdout)
    assert result.exit_code == 1
    assert told["rows"] == 1
    assert told["findings"][0].startswith("1 file cannot be read and is not in the table: b.dcm: damaged")
    draw(tmp_path / "others", "mel/a.jpg")
    with pytest.raises(TableError, match="a folder must hold DICOM files"):
        import_images(tmp_path / "others", layout="dicom", out=tmp_path / "n.csv", progress=False)
