"""PAD-UFES-20: lesion numbers that two patients share, and the real table where it is at hand."""

from __future__ import annotations

from pathlib import Path

from miniature import Download, compared

from panderm import map_table, read_table
from panderm.data.sources.prepare import prepare

# Patient, lesion number, image number, diagnosis, Fitzpatrick type: number 1003 is given to two patients.
CASES = (
    (38, 1003, 68, "BCC", "1.0"),
    (38, 1003, 226, "BCC", "1.0"),
    (1288, 1003, 553, "ACK", ""),
    (46, 881, 939, "NEV", "3.0"),
)


def put(download: Download, *, without: str = "") -> None:
    rows = []
    for i, (patient, lesion, image, label, tone) in enumerate(CASES):
        name = f"PAT_{patient}_{lesion}_{image}.png"
        rows.append(
            {
                "patient_id": f"PAT_{patient}",
                "lesion_id": lesion,
                "smoke": "",
                "age": 53,
                "gender": "FEMALE" if tone else "",
                "fitspatrick": tone,
                "region": "ARM",
                "diagnostic": label,
                "itch": "UNK",
                "img_id": name,
                "biopsed": label == "BCC",
            }
        )
        if name != without:
            download.images(f"imgs_part_{1 + i % 3}/imgs_part_{1 + i % 3}/{name}")
    download.table("metadata.csv", rows)


def test_a_lesion_is_a_number_and_its_patient(download: Download) -> None:
    put(download)
    done = download.prepare("padufes20")
    rows = download.written()
    assert [row["lesion_id"] for row in rows] == [
        *("PAT_38_1003", "PAT_38_1003", "PAT_1288_1003", "PAT_46_881"),
    ]
    assert [row["lesion_number"] for row in rows] == ["1003", "1003", "1003", "881"]
    assert any(note.startswith("1 lesion number given to lesions of two patients") for note in done.notes)
    assert any("biopsed gives the answer away" in note for note in done.notes)
    assert rows[0] == rows[0] | {"tone": "1", "sex": "female", "site": "ARM", "biopsed": "True"}
    assert rows[0]["image"] == "imgs_part_1/imgs_part_1/PAT_38_1003_68.png"


def test_what_is_missing_and_what_differs_is_said(download: Download) -> None:
    put(download, without="PAT_46_881_939.png")
    done = download.prepare("padufes20")
    assert done.missing == ("PAT_46_881_939.png",)
    assert compared(done, "images") == (4, 3, False)
    assert compared(done, "BCC images") == (2, 2, False)
    assert "images: published 2,298 (Pacheco 2020), found 4" in done.findings
    assert len(download.prepare("padufes20", skip_missing=True).csv.read_text("utf-8").splitlines()) == 4


def test_the_table_goes_straight_on_to_the_gate_and_the_map(download: Download, tmp_path: Path) -> None:
    put(download)
    download.prepare("padufes20")
    table = read_table(download.out, images=download.root, progress=False)
    assert table.classes == ("ACK", "BCC", "NEV")
    assert (table.card.patients, table.card.groups) == (3, 3)
    mapped = map_table(download.out, out=tmp_path / "mapped.csv")
    assert list(mapped.values) == ["malignant", "malignant", "indeterminate", "benign"]


def test_the_real_table_has_every_published_count(shared: Path, tmp_path: Path) -> None:
    done = prepare("padufes20", shared / "data/padufes20", out=tmp_path / "pad.csv")
    assert {one.of: one.agrees for one in done.counts} == dict.fromkeys(
        ["images", "patients", "lesions", *(f"{c} images" for c, _ in done.source.classes)], True
    )
    assert compared(done, "lesions")[0] == 1891
    assert len(done.missing) == 2298 - 190
    skipped = prepare("padufes20", shared / "data/padufes20", out=tmp_path / "here.csv", skip_missing=True)
    table = read_table(tmp_path / "here.csv", images=skipped.images, progress=False)
    assert len(table) == skipped.rows == 190
    assert not skipped.findings
