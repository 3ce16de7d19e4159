"""Folders of the Hub: whose configuration lies there decides which library reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from panderm.errors import UsageError, WeightsError
from panderm.models.names import find_card

OPEN_CLIP = {"model_cfg": {"embed_dim": 32, "vision_cfg": {"layers": 2, "width": 64, "image_size": 64}}}
TIMM = {
    "architecture": "vit_tiny_patch16_224",
    "pretrained_cfg": {"input_size": [3, 224, 224], "crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.5] * 3},
}
TRANSFORMERS = {"model_type": "vit", "hidden_size": 48, "image_size": 64}
PIXELS = {"size": 64, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("files", "layout", "size"),
    [
        ({"open_clip_config": OPEN_CLIP}, "open_clip", 64),
        ({"config": TIMM}, "timm", 224),
        ({"config": TRANSFORMERS, "preprocessor_config": PIXELS}, "transformers", 64),
        ({"open_clip_config": OPEN_CLIP, "config": TRANSFORMERS}, "open_clip", 64),
    ],
)
def test_each_library_s_folder_is_known(
    files: dict[str, Any], layout: str, size: int, tmp_path: Path
) -> None:
    for library in ("open_clip", "transformers"):
        pytest.importorskip(library)
    card = find_card("hf-hub:me/mine", folder=write(tmp_path, **files))
    assert (card.name, card.layout, card.image_size) == ("hf-hub:me/mine", layout, size)
    assert find_card("hf-hub:me/mine", folder=tmp_path, image_size=96).preprocess.crop == 96


def test_the_hub_s_name_of_a_known_encoder_needs_no_configuration(tmp_path: Path) -> None:
    card = find_card("hf-hub:redlessone/DermLIP_PanDerm-base-w-PubMed-256", folder=tmp_path)
    assert card.double_norm
    with pytest.raises(UsageError, match="must be at hand"):  # open_clip's, not a model of transformers
        find_card("transformers:redlessone/DermLIP_ViT-B-16", folder=tmp_path)


@pytest.mark.parametrize(
    ("files", "says"),
    [({}, "has no config.json"), ({"config": {"hello": 1}}, "names neither an architecture nor")],
)
def test_a_folder_of_nobody_s_is_explained(files: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says):
        find_card("hf-hub:me/mine", folder=write(tmp_path, **files))


def test_a_damaged_configuration_is_explained(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[1")
    with pytest.raises(WeightsError, match="must be a JSON object"):
        find_card("hf-hub:me/mine", folder=tmp_path)


def test_what_was_not_downloaded_is_named_with_the_command() -> None:
    with pytest.raises(UsageError, match="panderm models pull hf-hub:me/mine"):
        find_card("hf-hub:me/mine")
