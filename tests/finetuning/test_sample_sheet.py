"""The sheet of samples: all classes, labels with their shares, bad files passed by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import panderm
from panderm.finetuning import sheet
from panderm.finetuning.mixing import Mix
from panderm.finetuning.objective import Objective
from panderm.finetuning.sheet import draw_sheet
from panderm.finetuning.views import TrainViews

VIEWS = TrainViews.published(32)


def drawn(
    monkeypatch: pytest.MonkeyPatch, table: panderm.Table, encoder: panderm.Encoder, **options: Any
) -> list[tuple[str, Any, list[str]]]:
    """Return what a sheet shows: heading, pictures and texts of each column."""
    seen: list[list[tuple[str, Any, list[str]]]] = []
    figure = sheet._figure

    def noted(columns: Any, words: str) -> Any:
        seen.append(columns)
        return figure(columns, words)

    monkeypatch.setattr(sheet, "_figure", noted)
    targets = Objective(len(table.classes)).targets(table.codes())
    given: dict[str, Any] = {"classes": table.classes, "preprocess": encoder.preprocess, **options}
    assert draw_sheet(given.pop("path"), table, targets, VIEWS, **given)
    return seen[0]


def test_a_sheet_shows_every_class_what_is_scored_and_what_is_learned(
    table: panderm.Table, encoder: panderm.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sheet.png"
    columns = drawn(monkeypatch, table, encoder, path=path, mix=Mix(), seed=1)
    assert [heading for heading, _, _ in columns] == [
        *("as it is", "as it is scored", "view of epoch 1", "view of epoch 2", "view of epoch 3"),
        *("epoch 4, by mixup", "epoch 5, by CutMix"),
    ]
    labels = [text.split("\n")[1] for text in columns[0][2]]
    assert len(labels) == 8
    assert set(labels) == set(table.classes)
    image = columns[0][2][0].split("\n")[0]
    row = list(table.image).index(image)
    original = panderm.read_image(table.path[row])
    assert np.array_equal(columns[0][1][0], original)
    assert np.array_equal(columns[1][1][0], encoder.preprocess.pixels(original))
    assert not any(columns[2][2])
    shares = [
        float(line.split(" ")[-1]) for text in columns[5][2] for line in text.split("\n") if "." in line
    ]
    assert shares
    assert all(0 < share < 1 for share in shares)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert 1000 < picture.width < 1500


def test_without_mixing_all_views_are_plain_and_bad_files_are_passed_by(
    table: panderm.Table, encoder: panderm.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = table.select(np.arange(4))
    path = [tmp_path / "nowhere.jpg", *few.path[1:]]
    few = replace(few, path=np.array([str(one) for one in path], dtype=object))
    columns = drawn(monkeypatch, few, encoder, path=tmp_path / "a.png", mix=Mix(probability=0))
    assert [heading for heading, _, _ in columns[2:]] == [f"view of epoch {k}" for k in range(1, 6)]
    assert len(columns[0][1]) == 3
    none = replace(few, path=np.array([str(tmp_path / "nowhere.jpg")] * 4, dtype=object))
    targets = Objective(3).targets(none.codes())
    options: dict[str, Any] = {"classes": table.classes, "preprocess": encoder.preprocess}
    assert draw_sheet(tmp_path / "none.png", none, targets, VIEWS, **options) is None
    assert not (tmp_path / "none.png").exists()


def test_labels_are_told_with_their_shares() -> None:
    classes = ("a" * 60, "b", "c", "d")
    told = sheet._told
    assert told(torch.tensor([0, 1.0, 0, 0]), classes, "softmax") == "b"
    assert told(torch.tensor([0, 0.25, 0.75, 0]), classes, "softmax") == "c 0.75\nb 0.25"
    assert told(torch.tensor([1.0, 0, 0, 0]), classes, "softmax") == "a" * 23 + "…"
    assert told(torch.tensor([0, 1.0, 0.5, torch.nan]), classes, "sigmoid") == "b\nc 0.50\n1 not known"
    assert told(torch.zeros(4), classes, "sigmoid") == "none"
    assert told(torch.tensor([0.1, 0.9]), ("0", "1"), "softmax") == "class 1 0.90\nclass 0 0.10"
    assert told(torch.ones(4), ("p", "q", "r", "s"), "sigmoid") == "s\nr\nand 2 more"
