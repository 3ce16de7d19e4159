"""DDI, Fitzpatrick17k and PH²: each on a miniature of its official layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from miniature import Download, compared

from panderm import map_table, read_table
from panderm.errors import TableError

DISEASES = ("melanoma-in-situ", "melanocytic-nevi", "verruca-vulgaris", "actinic-keratosis")


def put_ddi(download: Download, *, without: str = "", word: str = "") -> None:
    rows = []
    for i, disease in enumerate(DISEASES):
        name = f"{i + 1:06d}.png"
        truth = word or str(i == 0)
        rows.append({"": i, "DDI_ID": i + 1, "DDI_file": name, "skin_tone": (12, 34, 56, 12)[i],
                     "malignant": truth, "disease": disease})  # fmt: skip
        if name != without:
            download.images(f"ddidiversedermatologyimages/{name}")
    download.table("ddidiversedermatologyimages/ddi_metadata.csv", rows)


def test_ddi_has_two_classes_and_keeps_the_disease(download: Download, tmp_path: Path) -> None:
    put_ddi(download)
    done = download.prepare("ddi")
    rows = download.written()
    assert rows[0] == {
        "image": "ddidiversedermatologyimages/000001.png",
        "label": "malignant",
        "label_name": "malignant",
        "tone": "12",
        "source": "ddi",
        "licence": done.source.licence,
        "DDI_ID": "1",
        "disease": "melanoma-in-situ",
    }
    assert compared(done, "images") == (4, 4, False)
    assert compared(done, "malignant images") == (1, 1, False)
    mapped = map_table(download.out, out=tmp_path / "m.csv", label="disease", to="group")
    assert list(mapped.values) == ["melanocytic", "melanocytic", "infectious", "keratinocytic"]
    assert read_table(download.out, images=download.root, progress=False).classes == ("benign", "malignant")


def test_ddi_says_what_is_missing_and_refuses_another_truth(download: Download) -> None:
    put_ddi(download, without="000003.png")
    done = download.prepare("ddi")
    assert done.missing == ("000003.png",)
    put_ddi(download, word="perhaps")
    with pytest.raises(TableError, match="must be True or False"):
        download.prepare("ddi")


def put_fitzpatrick(download: Download, *, named: str = "md5hash") -> None:
    cases = (("drug induced pigmentary changes", "inflammatory", "non-neoplastic", 3),
             ("melanoma", "malignant melanoma", "malignant", -1),
             ("actinic keratosis", "malignant epidermal", "malignant", 5))  # fmt: skip
    rows = []
    for i, (label, nine, three, tone) in enumerate(cases):
        row = {
            "md5hash": f"{i:032x}",
            "fitzpatrick_scale": tone,
            "fitzpatrick_centaur": tone,
            "label": label,
            "nine_partition_label": nine,
            "three_partition_label": three,
            "qc": "",
            "url": f"https://example.org/m{i}.jpg",
            "url_alphanum": f"httpsexampleorgm{i}jpg.jpg",
        }
        rows.append(row)
        if i != 2:  # its address no longer answers
            download.images(f"images/{str(row[named]).removesuffix('.jpg')}.jpg")
    download.table("fitzpatrick17k.csv", rows)


@pytest.mark.parametrize("named", ["md5hash", "url_alphanum"])
def test_fitzpatrick17k_finds_images_by_hash_or_by_address(download: Download, named: str) -> None:
    put_fitzpatrick(download, named=named)
    done = download.prepare("fitzpatrick17k")
    rows = download.written()
    assert done.missing == (f"{2:032x}",)
    assert compared(done, "images") == (3, 2, False)
    assert [row["tone"] for row in rows] == ["3", "", "5"]
    assert not done.unmapped
    assert len(done.source.classes) == 114
    assert rows[1]["image"].startswith("images/")


HEADER = (
    "||   Name   ||   Histological Diagnosis   || Clinical Diagnosis || Asymmetry | Pigment Network |"
    " Dots/Globules | Streaks | Regression Areas | Blue-Whitish Veil ||  Colors  ||"
)
PH2_ROWS = (("IMD003", "", 0), ("IMD009", "", 0), ("IMD002", "", 1), ("IMD058", "Melanoma (0.8 mm)", 2))


def put_ph2(download: Download, *, text: str | None = None) -> None:
    root = "PH2Dataset/PH2 Dataset images"
    lines = [HEADER]
    for name, histology, code in PH2_ROWS:
        lines.append(f"|| {name} || {histology} ||   {code} ||  0 | T | A | A | A | A ||   4   ||")
        download.images(f"{root}/{name}/{name}_Dermoscopic_Image/{name}.bmp")
        if name != "IMD009":
            download.images(f"{root}/{name}/{name}_lesion/{name}_lesion.bmp")
    lines += ["", "Legends:", "|| 0 - Common Nevus ||"]
    path = download.root / "PH2Dataset/PH2_dataset.txt"
    path.write_text(text if text is not None else "\n".join(lines), encoding="utf-8")


def test_ph2_is_read_from_its_bars(download: Download) -> None:
    put_ph2(download)
    done = download.prepare("ph2")
    rows = download.written()
    assert [row["label"] for row in rows] == ["Common Nevus", "Common Nevus", "Atypical Nevus", "Melanoma"]
    assert rows[3]["Histological Diagnosis"] == "Melanoma (0.8 mm)"
    assert rows[0]["Pigment Network"] == "T"
    assert rows[0]["mask"].endswith("IMD003_lesion/IMD003_lesion.bmp")
    assert done.missing_masks == ("IMD009_lesion",)
    assert compared(done, "images") == (4, 4, False)
    assert read_table(download.out, images=download.root, progress=False).classes == (
        *("Atypical Nevus", "Common Nevus", "Melanoma"),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "it has no header"), (HEADER, "or no row IMD"), (HEADER + "\n|| IMD003 || ||\n", "fewer")],
)
def test_a_ph2_table_that_is_none_is_an_error(download: Download, text: str, said: str) -> None:
    put_ph2(download, text=text)
    with pytest.raises(TableError) as caught:
        download.prepare("ph2")
    assert said in str(caught.value)


def test_ph2_without_its_text_says_where_it_is(download: Download) -> None:
    download.images("IMD003/IMD003_Dermoscopic_Image/IMD003.bmp")
    with pytest.raises(TableError, match="the official table must be there") as caught:
        download.prepare("ph2")
    assert "PH2_dataset.txt beside PH2_dataset.xlsx" in str(caught.value)
