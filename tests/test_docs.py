"""If it is written down, it runs: every command and every Python block of README and docs, as written."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models._registry import _model_entrypoints
from typer.testing import CliRunner

from panderm import pipeline
from panderm.cli import app
from panderm.data.drawn import DrawnWorld, draw_world
from panderm.models import cards
from panderm.models.names import find_card
from panderm.models.network import build, draw_weights

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.M | re.S)


def blocks(page: str) -> list[tuple[str, str]]:
    return [(kind, body) for _, kind, body in BLOCK.findall((ROOT / page).read_text("utf-8"))]


@pytest.fixture(scope="module", autouse=True)
def small_networks() -> Iterator[None]:
    """The encoders and the demo of the pages with less in them: the commands run as written, in seconds."""
    small = {"dim": 64, "depth": 2, "heads": 1}
    known = (card.model_copy(update=small) if card.name == "panderm-large" else card for card in cards.KNOWN)
    dino = "vit_small_patch14_dinov2"

    def half_a_world(folder: Path, *, n: int, **options: Any) -> DrawnWorld:
        return draw_world(folder, n=n // 2, size=(160, 120), **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "draw_world", half_a_world)
        patch.setattr(cards, "KNOWN", tuple(known))
        patch.setitem(_model_entrypoints, dino, partial(_model_entrypoints[dino], depth=2))
        yield


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: table, images and weights under the names the pages use."""
    desk = tmp_path_factory.mktemp("desk")
    world = draw_world(desk / "drawn", n=60, size=(120, 90))
    frame = pd.read_csv(world.csv)
    frame["label"] = frame["label"].astype("category").cat.codes
    frame.to_csv(desk / "ham_clean.csv", index=False)
    shutil.copytree(world.images, desk / "images")
    dino = timm.create_model("vit_small_patch14_dinov2", num_classes=0)
    save_file(dino.state_dict(), desk / "dinov2_vits14.safetensors")
    large = build(find_card("panderm-large"), "cls").state_dict()
    shapes = {name: value.shape for name, value in large.items()}
    state = {f"encoder.{name}": value for name, value in draw_weights(shapes, 0).items()}
    torch.save(state, desk / "panderm_ll_data6_checkpoint-499.pth")
    return desk


WHOLE = "docs/tokens-and-attention.md"  # tells where each patch lies


def run_page(page: str) -> int:
    """Run a page's blocks in their order, in the current folder; return how many commands and blocks ran."""
    with pytest.MonkeyPatch.context() as patch:
        if page != WHOLE:  # elsewhere the encoder inside the package looks at smaller images
            known = (cards.sized(card, 112) if card.name == "panderm-tiny" else card for card in cards.KNOWN)
            patch.setattr(cards, "KNOWN", tuple(known))
        return _run_blocks(page)


def _run_blocks(page: str) -> int:
    ran = 0
    for kind, body in blocks(page):
        if kind == "console":
            for line in body.splitlines():
                if line.startswith("$ panderm"):
                    command, _, remark = line[2:].partition("  # ")
                    wanted = int(remark.removeprefix("exit ")) if remark.startswith("exit ") else 0
                    result = CliRunner().invoke(app, shlex.split(command)[1:])
                    assert result.exit_code == wanted, f"{page}: {command}\n{result.output}"
                    ran += 1
        elif kind == "python":
            exec(compile(body, page, "exec"), {})
            ran += 1
    return ran


@pytest.mark.timeout(900)
def test_readme_runs_as_written(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    assert run_page("README.md") >= 8
    for made in ("demo/report.html", "first/report.html", "ham/report.html", "report.html", "tuned.html"):
        assert (desk / made).stat().st_size > 10_000, made


@pytest.mark.timeout(900)  # all pages, one after the other: what one makes, another opens
def test_docs_run_as_written_in_the_order_of_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    index = re.findall(r"\]\(([\w/.-]+\.md)\)", (ROOT / "docs/index.md").read_text("utf-8"))
    assert {f"docs/{name}" for name in index} | {"README.md", "docs/index.md"} == set(PAGES)
    assert sum(run_page(f"docs/{name}") for name in index) >= 10


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / page).read_text("utf-8")):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_commands_of_the_pages_name_real_options() -> None:
    """A console line that is not a panderm command must be a comment or output, never a forgotten command."""
    for page in PAGES:
        for kind, body in blocks(page):
            if kind == "console":
                others = [
                    line for line in body.splitlines() if line.startswith("$") and "panderm" not in line
                ]
                assert not others, f"{page}: {others}"
