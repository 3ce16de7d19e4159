"""On the hand-labelled real images the flags are as right as they are said to be."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import panderm
from panderm.data.artefacts.accuracy import read_accuracy
from panderm.data.artefacts.record import FLAGS, Artefacts

LABELS = Path(__file__).parents[2] / "golden" / "artefact_labels.csv"
RARE = ("ruler", "ink", "dark_corners", "non_skin")
# Least sensitivity and specificity, below what was measured on the whole held-out half by about what leaving
# out half of its images may change.
FLOORS = {
    "hair": (0.70, 0.70),
    "ruler": (0.80, 0.80),
    "ink": (0.35, 0.90),
    "gel": (0.30, 0.60),
    "dark_corners": (0.85, 0.85),
    "low_contrast": (0.60, 0.68),
    "non_skin": (0.57, 0.93),
}
Rows = list[dict[str, str]]


def labels() -> Rows:
    with LABELS.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def grade(row: dict[str, str], name: str) -> bool:
    flag = next(flag for flag in FLAGS if flag.name == name)
    return int(row[name]) >= flag.positive


@pytest.fixture(scope="module")
def looked_at() -> tuple[Rows, list[Artefacts]]:
    """Of the held-out half every image with something rare on it, and 40 of the others."""
    held = [row for row in labels() if row["half"] == "held-out"]
    rare = [row for row in held if any(grade(row, name) for name in RARE)]
    others = [row for row in held if row not in rare]
    chosen = rare + [others[i] for i in np.random.default_rng(0).permutation(len(others))[:40]]
    folder = shared_data()
    paths = [folder / row["dataset"] / "images" / row["image"] for row in chosen]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda path: panderm.find_artefacts(panderm.read_image(path)), paths))
    return chosen, found


def shared_data() -> Path:
    import os

    folder = Path(os.environ.get("PANDERM_SHARED", Path(__file__).resolve().parents[4] / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there (set PANDERM_SHARED)")
    return folder


@pytest.mark.parametrize("name", FLOORS)
def test_flags_are_right_at_least_so_often(name: str, looked_at: tuple[Rows, list[Artefacts]]) -> None:
    rows, found = looked_at
    said = np.array([one.says(name) for one in found])
    truth = np.array([grade(row, name) for row in rows])
    sensitivity, specificity = said[truth].mean(), (~said[~truth]).mean()
    assert sensitivity >= FLOORS[name][0], sensitivity
    assert specificity >= FLOORS[name][1], specificity


@pytest.mark.parametrize("name", RARE)
def test_the_stated_sensitivity_is_what_comes_out(name: str, looked_at: tuple[Rows, list[Artefacts]]) -> None:
    rows, found = looked_at
    stated = read_accuracy().flags[name]
    hits = [one.says(name) for row, one in zip(rows, found, strict=True) if grade(row, name)]
    assert len(hits) == stated.positives
    # One image of the rare ones may fall to the other side where another version decodes or rounds.
    assert sum(hits) == pytest.approx((stated.sensitivity.value or 0) * stated.positives, abs=1.01)


def test_blur_is_seen_on_a_real_picture(looked_at: tuple[Rows, list[Artefacts]]) -> None:
    import cv2

    rows, found = looked_at
    sharp = [i for i, row in enumerate(rows) if row["blur"] == "0"][:12]
    assert sum(found[i].says("blur") for i in sharp) <= 3
    folder = shared_data()
    for i in sharp:
        rgb = panderm.read_image(folder / rows[i]["dataset"] / "images" / rows[i]["image"])
        soft = np.asarray(cv2.GaussianBlur(rgb, (0, 0), 2 * min(rgb.shape[:2]) / 256), dtype=np.uint8)
        assert panderm.find_artefacts(soft).says("blur"), rows[i]["image"]


def test_the_labels_are_whole() -> None:
    rows = labels()
    assert len(rows) == 274
    assert len({(row["dataset"], row["image"]) for row in rows}) == 274
    for row in rows:
        assert row["half"] in ("dev", "held-out")
        assert all(row[flag.name] in ("0", "1", "2") for flag in FLAGS)
    for flag in FLAGS:
        stated = read_accuracy().flags[flag.name]
        positives = sum(grade(row, flag.name) for row in rows if row["half"] == "held-out")
        assert stated.positives == positives or stated.truth != "hand labels"
