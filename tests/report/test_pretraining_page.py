"""The page of a pretraining run: what its journal and card say, in full, unfinished, and with odd names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panderm.errors import ArtifactError
from panderm.pretraining.curves import thinned
from panderm.pretraining.followed import follow
from panderm.pretraining.page import write_page

ODD = '<script>alert("x")</script>&.jpg'
STEPS, EPOCHS = 6, 4


def probed(value: float) -> dict[str, Any]:
    score = {"value": value, "low": value - 0.1, "high": value + 0.1}
    scores = {"balanced_accuracy": score, "auroc_ovo": {**score, "value": min(0.9, value + 0.05)}}
    return {
        "knn": {"scores": scores, "k": 20, "tau": 0.07},
        "linear": {"scores": scores, "C": 1.0, "converged": True},
        "n": 99,
        "fitted": 160,
        "unit": "patient",
        "units": 40,
        "seed": 0,
        "draws": 1000,
    }


def write_run(folder: Path, *, epochs: int = EPOCHS, looks: bool = True, alarm: str | None = None) -> Path:
    """Write a run as the loop and what watches it do."""
    card = {
        "kind": "pretraining",
        "provenance": {
            "panderm": "0.1.0",
            "command": "panderm pretrain images/ --out run",
            "machine": "a laptop",
            "created": "2026-01-02T03:04:05+00:00",
            "versions": {"torch": "2.9"},
        },
        "source": {
            "kind": "folder",
            "where": "/data/images",
            "count": 96,
            "sha256": "ab",
            "notes": ["2 left out"],
        },
        "excluded": {
            "of": 98,
            "excluded": 2,
            "by": {"same file": 1, "near-duplicate": 1},
            "near": True,
            "examples": {"same file": [{"image": ODD, "like": "a.jpg"}], "near-duplicate": []},
            "against": [{"kind": "table", "where": "test.csv", "count": 20}],
        },
        "student": {"name": "tiny", "dim": 192, "regressor": {"dim": 192, "depth": 1}},
        "teacher": {"name": "timm:vit_small_patch14_dinov2", "dim": 384},
        "init": None,
        "plan": {
            "images": 96,
            "epochs": EPOCHS,
            "batch": 16,
            "rate": 1e-4,
            "least_rate": 1e-5,
            "warm_up": 0.2,
            "decay": 0.05,
            "clip": 3.0,
            "precision": "fp32",
            "seed": 0,
        },
        "masks": {"kind": "block", "masked": 30, "grid": [14, 14]},
        "probe": {"table": "watched", "rows": "all 99 rows of val scored, all 160 rows of train fitted"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").write_text(json.dumps(card))
    lines: list[dict[str, Any]] = []
    for step in range(1, STEPS * epochs + 1):
        loss = 1 - 0.02 * step
        parts = {"loss": loss, "cls": loss + 0.05, "visible": loss - 0.1, "masked": loss + 0.2}
        line = {
            "step": step,
            "epoch": (step - 1) // STEPS + 1,
            **parts,
            "rate": 1e-4,
            "norm": 4.0 - step / 10,
        }
        lines.append({**line, "weight": 16.0, "seconds": 2.0, "waited": 0.5})
        if step == 2:
            lines[-1] |= {"left_out": 1, "unreadable": [[ODD, "damaged (truncated)"]]}
        if looks and step % STEPS == 0:
            spread = {
                "n": 259,
                "dim": 192,
                "effective_rank": 20.0,
                "std": 0.03,
                "std_share": 0.4,
                "cosine": 0.7,
            }
            look = {"step": step, "epoch": step // STEPS, "probe": probed(0.3 + step / 100), "spread": spread}
            lines.append({**look, "alarms": [alarm] if alarm and step == STEPS * epochs else []})
            (folder / "pictures").mkdir(exist_ok=True)
            pixels = np.random.default_rng(step).integers(0, 255, (40, 1300, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / f"epoch-{step // STEPS:04d}.png")
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    def make(**options: Any) -> Path:
        return write_run(tmp_path / "run", **options)

    return make


def text_of(page: Path) -> str:
    """Return what a reader sees: no tags, no styles."""
    html = re.sub(r"<style>.*?</style>", "", page.read_text("utf-8"), flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_the_page_says_what_the_journal_says(run: Callable[..., Path]) -> None:
    seen = text_of(write_page(run()))
    assert "96 images without labels of folder images, 30 of 196 patches hidden (block)" in seen
    assert "4 of 4 epochs, 24 steps of 16 images" in seen
    last = 1 - 0.02 * np.arange(19, 25).mean()
    assert f"{last:.3f} (first epoch {1 - 0.02 * np.arange(1, 7).mean():.3f})" in seen
    assert f"loss, masked patches {last + 0.2:.3f}" in seen
    assert "images a second 8.0" in seen
    assert "25 %" in seen  # waiting
    assert "0.540 (0.440–0.640)" in seen
    assert "1,000 bootstrap draws of patients within classes, seed 0; 99 images of 40 patients scored" in seen
    assert "Larger ones are scaled down to 3: 38 % of the steps" in seen  # 9 of 24
    assert "20.0 of 192 directions" in seen
    assert "No alarm" in seen
    assert "Not finished" not in seen


def test_what_was_left_out_is_named_and_names_are_harmless(run: Callable[..., Path]) -> None:
    page = write_page(run())
    seen = text_of(page)
    assert "Images left out. 1 image could not be read" in seen
    assert "1 image: damaged" in seen
    assert "images left out 2 of 98" in seen
    assert "held against 20 images of test.csv" in seen
    assert "<script" not in page.read_text("utf-8")


def test_nothing_leaves_the_page(run: Callable[..., Path]) -> None:
    html = write_page(run()).read_text("utf-8")
    assert "default-src 'none'" in html
    found = re.findall(r"""(?:src|href)=["']?([^"'\s>]+)""", html) + re.findall(r"url\(([^)]+)\)", html)
    assert [one[:60] for one in found if not one.startswith(("data:", "#"))] == []


def test_three_pictures_at_most_the_last_first(run: Callable[..., Path]) -> None:
    html = write_page(run()).read_text("utf-8")
    titles = re.findall(r"<h3>(After epoch \d+)</h3>", html)
    assert titles == ["After epoch 4", "After epoch 3", "After epoch 1"]
    assert html.count("data:image/jpeg") == 3


def test_an_alarm_and_an_unfinished_run_come_first(run: Callable[..., Path]) -> None:
    seen = text_of(write_page(run(epochs=2, alarm="the features of all images point one way")))
    assert "Not finished. 12 steps of 24 are done" in seen
    assert "Alarm after epoch 2. The features of all images point one way." in seen
    assert "Epoch 2: The features of all images point one way." in seen
    assert "2 of 4 epochs" in seen


def test_a_run_that_nobody_watched_or_that_hardly_began_has_a_page(run: Callable[..., Path]) -> None:
    seen = text_of(write_page(run(looks=False)))
    assert "Online probe" not in seen
    assert "Learning" in seen
    folder = run(epochs=0)
    assert "No step was taken yet" in text_of(write_page(folder))


def test_a_last_line_that_is_half_written_is_no_matter(run: Callable[..., Path]) -> None:
    folder = run()
    with (folder / "journal.jsonl").open("a") as file:
        file.write('{"step": 25, "epo')
    assert len(follow(folder).step) == 24
    (folder / "card.json").write_text("{")
    with pytest.raises(ArtifactError, match="must be readable"):
        follow(folder)
    (folder / "card.json").unlink()
    with pytest.raises(ArtifactError, match=r"found no .*card\.json"):
        follow(folder)


def test_epochs_count_what_was_seen_of_the_images(run: Callable[..., Path]) -> None:
    folder = run(epochs=2)
    lines = (folder / "journal.jsonl").read_text().splitlines()
    (folder / "journal.jsonl").write_text("\n".join(lines[:-3]) + "\n")  # within the second epoch
    epochs = follow(folder).epochs
    assert epochs[STEPS - 1] == 1
    assert epochs[-1] == pytest.approx(1 + (len(epochs) - STEPS) / STEPS)
    assert (np.diff(epochs) > 0).all()


def test_long_runs_are_drawn_as_means_of_equal_parts() -> None:
    x = np.arange(10_000.0)
    y = np.where(x % 7 == 0, np.nan, np.sin(x / 900))
    short, means = thinned(x, y)
    assert len(short) == 300
    assert np.abs(means - np.sin((short - 15) / 900)).max() < 0.02
    assert [list(part) for part in thinned(np.zeros(0), np.zeros(0))] == [[], []]
