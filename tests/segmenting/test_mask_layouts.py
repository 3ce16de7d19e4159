"""From the official download of a dataset with masks to pairs: ISIC 2018 task 1, HAM10000, PH²."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import panderm
from panderm.errors import TableError
from panderm.segmenting.learning.pairs import Pairs, pairs_of


def put(path: Path, k: int, *, mask: bool = False) -> None:
    """Write a small image, or a mask with k pixels inside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if mask:
        inside = np.arange(20 * 30).reshape(20, 30) < k
        Image.fromarray(inside.astype(np.uint8) * np.uint8(255)).save(path)
        return
    Image.fromarray(np.full((20, 30, 3), 40 + k, np.uint8)).save(path)


def prepared(name: str, root: Path, *, skip_bad: bool = False) -> tuple[panderm.Preparation, Pairs]:
    csv_file = root.parent / f"{name}.csv"
    done = panderm.prepare(name, root, out=csv_file, overwrite=True, progress=False)
    return done, pairs_of(csv_file, images=root, skip_bad=skip_bad, progress=False)


def table(path: Path, rows: Sequence[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_task_1_of_isic_2018(tmp_path: Path) -> None:
    root = tmp_path / "isic"
    splits = {"Training": (1, 2, 3), "Validation": (4,), "Test": (5, 6)}
    for part, numbers in splits.items():
        for k in numbers:
            put(root / f"ISIC2018_Task1-2_{part}_Input" / f"ISIC_000000{k}.jpg", k)
            truth = root / f"ISIC2018_Task1_{part}_GroundTruth" / f"ISIC_000000{k}_segmentation.png"
            put(truth, 10 * k, mask=True)
        (root / f"ISIC2018_Task1-2_{part}_Input" / "LICENSE.txt").write_text("CC0")
    done, pairs = prepared("isic2018-task1", root)
    assert (done.missing, done.missing_masks) == ((), ())
    assert pairs.inside.tolist() == [10, 20, 30, 40, 50, 60]
    assert [len(pairs.in_split(part)) for part in ("train", "val", "test")] == [3, 1, 2]
    named = [Path(file).stem for file in pairs.table.path]
    assert [Path(file).stem for file in pairs.mask] == [f"{name}_segmentation" for name in named]


HAM = ("HAM_1", "HAM_1", "HAM_2", "HAM_3")


def put_ham(root: Path) -> list[str]:
    names = [f"ISIC_002430{k}" for k in range(len(HAM))]
    for k, name in enumerate(names):
        put(root / f"HAM10000_images_part_{1 + k % 2}" / f"{name}.jpg", k)
        put(root / "HAM10000_segmentations_lesion_tschandl" / f"{name}_segmentation.png", 5 + k, mask=True)
    return names


def test_ham10000_as_its_authors_distribute_it(tmp_path: Path) -> None:
    root = tmp_path / "ham"
    names = put_ham(root)
    facts = {"dx": "nv", "dx_type": "histo", "age": "40", "sex": "male", "localization": "back"}
    rows = [{"lesion_id": lesion, "image_id": name, **facts} for lesion, name in zip(HAM, names, strict=True)]
    table(root / "HAM10000_metadata.csv", rows)
    _, pairs = prepared("ham10000", root)
    assert pairs.inside.tolist() == [5, 6, 7, 8]
    assert pairs.table.group.tolist() == list(HAM)
    # Nobody published masks of the test set: its rows are left out when that is asked for.
    table(
        root / "ISIC2018_Task3_Test_GroundTruth.csv",
        [rows[0] | {"image_id": "ISIC_0099999", "lesion_id": "HAM_9"}],
    )
    put(root / "ISIC2018_Task3_Test_Input" / "ISIC_0099999.jpg", 9)
    with pytest.raises(TableError, match=r"1 of 5 rows of ham10000\.csv does not"):
        prepared("ham10000", root)
    _, pairs = prepared("ham10000", root, skip_bad=True)
    assert len(pairs) == 4
    assert pairs.table.split.tolist() == ["train"] * 4


def test_the_clean_split_of_ham10000_has_its_masks(tmp_path: Path) -> None:
    root = tmp_path / "clean"
    names = put_ham(root)
    rows = [
        {"image": f"{name}.jpg", "label": "5", "split": split, "dx": "nv", "lesion_id": lesion}
        for name, lesion, split in zip(names, HAM, ("train", "train", "val", "test"), strict=True)
    ]
    table(root / "HAM_clean.csv", rows)
    done, pairs = prepared("ham10000-clean", root)
    assert done.missing_masks == ()
    assert pairs.inside.tolist() == [5, 6, 7, 8]
    assert pairs.table.split.tolist() == ["train", "train", "val", "test"]


def test_ph2(tmp_path: Path) -> None:
    root = tmp_path / "PH2Dataset"
    lines = ["|| Name || Histological Diagnosis || Clinical Diagnosis || Asymmetry ||"]
    for k, name in enumerate(("IMD003", "IMD009", "IMD058")):
        folder = root / "PH2 Dataset images" / name
        put(folder / f"{name}_Dermoscopic_Image" / f"{name}.bmp", k)
        put(folder / f"{name}_lesion" / f"{name}_lesion.bmp", 12 + k, mask=True)
        put(folder / f"{name}_roi" / f"{name}_R1_Label4.bmp", 3, mask=True)
        lines.append(f"|| {name} || || {min(k, 2)} || 0 ||")
    (root / "PH2_dataset.txt").write_text("\n".join(lines))
    _, pairs = prepared("ph2", root)
    assert pairs.inside.tolist() == [12, 13, 14]
    assert [Path(file).name for file in pairs.table.path] == ["IMD003.bmp", "IMD009.bmp", "IMD058.bmp"]
    assert pairs.table.label.tolist() == ["Common Nevus", "Atypical Nevus", "Melanoma"]
