"""From files to a table of measures: scales, edges, empty masks, bad rows, pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn_shapes import SKIN, disc, ellipse, framed, painted, ruler
from PIL import Image
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.errors import ArtifactError, DataError, TableError, UsageError
from panderm.lesions.measure import COLUMNS, EMPTY, measure

run = CliRunner()


def write(folder: Path, name: str, image: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / name)
    return folder / name


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """Three lesions: a disc, an ellipse cut by the edge, and one that nobody outlined."""
    masks = {"a": framed(disc(40), 40), "b": framed(ellipse(50, 30), 40)[:, 70:], "c": framed(disc(20), 50)}
    for name, mask in masks.items():
        write(tmp_path / "images", f"{name}.png", painted(mask))
        write(tmp_path / "masks", f"{name}_mask.png", mask if name != "c" else np.zeros_like(mask))
    pd.DataFrame(
        {
            "image": ["a.png", "b.png", "c.png"],
            "mask": ["a_mask.png", "b_mask.png", "c_mask.png"],
            "dx": ["nv", "mel", "nv"],
            "mm": ["0.1", "", "0.2"],
        }
    ).to_csv(tmp_path / "table.csv", index=False)
    return tmp_path


def measured(desk: Path, *words: str, code: int = 0) -> dict:
    out = desk / "out.csv"
    command = ["segment", "measure", str(desk / "table.csv"), "--images", str(desk / "images")]
    result = run.invoke(app, [*command, "--masks", str(desk / "masks"), "--out", str(out), "--json", *words])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_a_table(desk: Path) -> None:
    card = measured(desk, "--mm-per-pixel", "0.05")
    frame = pd.read_csv(desk / "out.csv")
    assert list(frame["dx"]) == ["nv", "mel", "nv"]
    a, b, c = (frame.iloc[k] for k in range(3))
    assert a["area_mm2"] == pytest.approx(np.pi * 2**2, rel=0.01)
    assert a["diameter_mm"] == pytest.approx(4, abs=0.06)
    assert a["perimeter_mm"] == pytest.approx(4 * np.pi, rel=0.02)
    assert a["asymmetry"] < 0.01
    assert a["solidity"] > 0.98
    assert a["abrupt_segments"] == 8
    assert (a["touches_edge"], b["touches_edge"]) == ("no", "yes")
    assert (a["scale"], a["colours"]) == ("stated", 1)
    assert c["not_measured"] == EMPTY
    assert np.isnan(c["area_px"])
    assert np.isnan(c["colours"])
    assert (card["rows"], card["measured"], card["empty"], card["touching_edge"]) == (3, 2, 1, 1)
    assert json.loads((desk / "out.measures.json").read_text())["kind"] == "measures"


def test_a_folder_and_masks_by_name(desk: Path) -> None:
    found = panderm.measure_lesions(desk / "images", masks=desk / "masks", progress=False)
    frame = found.frame()
    assert list(frame["image"]) == ["a.png", "b.png", "c.png"]
    assert list(frame["mask"]) == ["a_mask.png", "b_mask.png", "c_mask.png"]
    assert frame["area_mm2"].isna().all()
    assert frame["scale"].eq("").all()
    assert set(COLUMNS) <= set(frame.columns)
    table = panderm.measure_lesions(
        desk / "table.csv", images=desk / "images", masks=desk / "masks", progress=False
    )
    assert table.frame()["area_px"].equals(frame["area_px"])


def test_a_column_of_scales(desk: Path) -> None:
    card = measured(desk, "--mm-column", "mm")
    frame = pd.read_csv(desk / "out.csv")
    assert frame.loc[0, "diameter_mm"] == pytest.approx(8, abs=0.12)
    assert np.isnan(frame.loc[1, "diameter_mm"])
    assert frame.loc[1, "diameter_px"] > 0
    assert card["scales"] == {"column": 2, "none": 1}


def test_a_ruler_is_found_shown_and_refused(tmp_path: Path) -> None:
    scale = ruler(20.0, 13, 0, length=12)
    mask = np.zeros((400, 400), dtype=bool)
    mask[20:101, 60:141] = disc(40)[4:85, 4:85]
    scale[mask] = (110, 70, 50)
    write(tmp_path / "images", "with.png", scale)
    write(tmp_path / "images", "without.png", painted(mask))
    for name in ("with", "without"):
        write(tmp_path / "masks", f"{name}.png", mask)
    found = panderm.measure_lesions(
        tmp_path / "images",
        tmp_path / "m.csv",
        masks=tmp_path / "masks",
        ruler=1.0,
        picture=tmp_path / "seen",
        progress=False,
    ).frame()
    assert found.loc[2, "mm_per_pixel"] == pytest.approx(0.05, rel=0.01)
    assert found.loc[2, "diameter_mm"] == pytest.approx(4, rel=0.03)
    assert found.loc[2, "scale"] == "ruler"
    assert "ticks" in found.loc[2, "scale_note"]
    assert found["mm_per_pixel"].isna()[3]
    assert "no ruler" in found.loc[3, "scale_note"]
    seen = panderm.read_image(tmp_path / "seen" / "with.png")
    assert (seen == (255, 0, 255)).all(axis=2).sum() > 20  # a ring around each mark
    assert (seen == (0, 255, 255)).all(axis=2).sum() > 100  # the outline
    assert not (panderm.read_image(tmp_path / "seen" / "without.png") == (255, 0, 255)).all(axis=2).any()


def test_dicom_knows_its_spacing(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    mask = framed(disc(30), 30)
    image = painted(mask)
    header = pydicom.dataset.FileMetaDataset()
    header.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    header.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    header.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data = pydicom.Dataset()
    data.file_meta = header
    data.SOPClassUID, data.SOPInstanceUID = header.MediaStorageSOPClassUID, header.MediaStorageSOPInstanceUID
    data.Rows, data.Columns, data.SamplesPerPixel = *image.shape[:2], 3
    data.PhotometricInterpretation, data.PlanarConfiguration = "RGB", 0
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelSpacing = [0.04, 0.04]
    data.PixelData = image.tobytes() + b"\0" * (image.size % 2)
    (tmp_path / "images").mkdir()
    data.save_as(tmp_path / "images" / "x.dcm", enforce_file_format=True)
    write(tmp_path / "masks", "x.png", mask)
    found = panderm.measure_lesions(tmp_path / "images", masks=tmp_path / "masks", ruler=1.0, progress=False)
    row = found.frame().iloc[0]
    assert row["scale"] == "dicom"
    assert row["diameter_mm"] == pytest.approx(60 * 0.04, rel=0.02)


def test_bad_rows_are_named_or_left_out(desk: Path) -> None:
    (desk / "masks" / "b_mask.png").unlink()
    write(desk / "masks", "c_mask.png", np.zeros((5, 5), dtype=bool))
    told = measured(desk, code=2)
    assert told["error"]["type"] == "TableError"
    assert any("row 3: b.png: its mask b_mask.png: no such file" in line for line in told["error"]["found"])
    assert not (desk / "out.csv").exists()
    assert not (desk / "out.measures.json").exists()
    card = measured(desk, "--skip-bad")
    assert [each["row"] for each in card["left_out"]] == [3, 4]
    assert "5 × 5" in card["left_out"][1]["reason"]
    assert len(pd.read_csv(desk / "out.csv")) == 1


def test_outputs_are_not_replaced_unless_asked(desk: Path) -> None:
    first = measured(desk, "--picture", str(desk / "seen"))
    assert (desk / "seen" / "b.png").is_file()
    assert first["picture"] == str(desk / "seen")
    told = measured(desk, code=2)
    assert told["error"]["type"] == "ArtifactError"
    measured(desk, "--picture", str(desk / "seen"), "--overwrite", "--pieces", "all")
    assert json.loads((desk / "out.measures.json").read_text())["pieces"] == "all"
    with pytest.raises(ArtifactError, match="exist already"):
        panderm.measure_lesions(desk / "images", masks=desk / "masks", picture=desk / "seen", progress=False)


def test_what_contradicts_itself_is_refused(desk: Path) -> None:
    folders = {"images": desk / "images", "masks": desk / "masks", "progress": False}
    table = desk / "table.csv"
    for words in (
        {"mm_per_pixel": 0.1, "mm_column": "mm"},
        {"mm_per_pixel": 0.0},
        {"ruler": -1.0},
        {"ruler": 1.0, "mm_per_pixel": 0.1},
    ):
        with pytest.raises(UsageError):
            panderm.measure_lesions(table, **folders, **words)  # type: ignore[arg-type]
    with pytest.raises(TableError, match="did you mean 'mm'"):
        panderm.measure_lesions(table, **folders, mm_column="mmm")  # type: ignore[arg-type]
    with pytest.raises(TableError, match="numbers above 0"):
        panderm.measure_lesions(table, **folders, mm_column="dx")  # type: ignore[arg-type]
    with pytest.raises(TableError, match="must be there once"):
        panderm.measure_lesions(table, **folders, image_column="picture")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="folder of images must have one of masks"):
        panderm.measure_lesions(desk / "images", progress=False)
    with pytest.raises(UsageError, match="found no"):
        panderm.measure_lesions(desk / "nothing.csv", progress=False)
    measured(desk)
    with pytest.raises(TableError, match="must not be there already"):
        panderm.measure_lesions(
            desk / "out.csv", images=desk / "images", masks=desk / "masks", progress=False
        )


def test_one_lesion() -> None:
    mask = framed(disc(2), 20)
    few = measure(painted(mask), mask)
    assert few.shape is not None
    assert few.colours is None
    assert "pixels" in few.reason
    full = np.ones((90, 90), dtype=bool)
    found = measure(np.full((90, 90, 3), SKIN, np.uint8), full, mm_per_pixel=0.1).as_row()
    assert found["touches_edge"]
    assert found["area_mm2"] == pytest.approx(81)
    assert found["colours_relative"] is None
    assert found["contrast"] is None
    assert found["abrupt_segments"] is None
    with pytest.raises(DataError, match="as large"):
        measure(painted(mask), mask[1:])
    with pytest.raises(DataError, match="above 0"):
        measure(painted(mask), mask, mm_per_pixel=float("nan"))
    with pytest.raises(DataError, match="RGB"):
        measure(painted(mask)[..., 0], mask)


def test_the_words_for_a_reader(desk: Path) -> None:
    command = ["segment", "measure", str(desk / "images"), "--masks", str(desk / "masks"), "--quiet"]
    result = run.invoke(app, [*command, "--out", str(desk / "words.csv")])
    assert result.exit_code == 0, result.output
    assert "1 with an empty mask" in result.output
    assert "lower bounds" in result.output
    assert "no millimetres" in result.output
