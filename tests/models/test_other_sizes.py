"""PanDerm at other input sizes: positions are stretched, relative tables too, and the account says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import panderm
from panderm.errors import UsageError
from panderm.models import cards
from panderm.models.names import find_card
from panderm.models.network import build, draw_weights, position_table


@pytest.fixture(autouse=True)
def small_base(monkeypatch: pytest.MonkeyPatch) -> None:
    small = [
        card.model_copy(update={"dim": 64, "depth": 2, "heads": 2}) if card.name == "panderm-base" else card
        for card in cards.KNOWN
    ]
    monkeypatch.setattr(cards, "KNOWN", tuple(small))


def weights(path: Path, pool: str) -> Path:
    network = build(find_card("panderm-base"), pool)  # type: ignore[arg-type]
    save_file(draw_weights({k: v.shape for k, v in network.state_dict().items()}, 1), path)
    return path


@pytest.mark.parametrize("size", [32, 112, 160, 240, 448])
@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_any_multiple_of_sixteen(pool: str, size: int, tmp_path: Path) -> None:
    path = weights(tmp_path / "base.safetensors", pool)
    encoder = panderm.load_encoder("panderm-base", weights=path, pool=pool, image_size=size)  # type: ignore[arg-type]
    side = size // 16
    assert encoder.record.image_size == size
    assert encoder.preprocess.crop == size
    assert encoder.preprocess.resize == round(256 * size / 224)
    notes = [f"position table resampled from 14×14 to {side}×{side}, bicubic"]
    notes += [f"2 relative-position tables resampled to {side}×{side}"] if pool == "mean" else []
    assert encoder.account.notes == notes
    pixels = encoder.preprocess(np.zeros((300, 500, 3), np.uint8))[None]
    assert encoder.encode(pixels).shape == (1, 64)
    assert encoder.tokens(pixels).shape == (1, side, side, 64)


@pytest.mark.parametrize("size", [17, 16, 220, 226])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(UsageError, match="takes images whose side is a multiple of 16 pixels, 32 or more"):
        panderm.load_encoder("panderm-base", image_size=size)


def test_its_own_size_is_untouched(tmp_path: Path) -> None:
    path = weights(tmp_path / "base.safetensors", "mean")
    pixels = torch.randn(2, 3, 224, 224)
    asked = panderm.load_encoder("panderm-base", weights=path, pool="mean", image_size=224)
    plain = panderm.load_encoder("panderm-base", weights=path, pool="mean")
    assert torch.equal(asked.encode(pixels), plain.encode(pixels))
    assert not asked.account.notes


def test_positions_are_stretched_and_stay_in_their_order(tmp_path: Path) -> None:
    """Twice as fine: two neighbouring new positions lie about where one of the old did, rows first."""
    path = weights(tmp_path / "base.safetensors", "cls")
    encoder = panderm.load_encoder("panderm-base", weights=path, image_size=448)
    new = encoder.network.state_dict()["pos_embed"][0, 1:].reshape(28, 28, 64)
    old = position_table(64, 14)[0, 1:].reshape(14, 14, 64)
    means = new.reshape(14, 2, 14, 2, 64).mean(dim=(1, 3))
    assert float((means - old)[1:-1, 1:-1].abs().max()) < 0.1
    assert float((means - old.transpose(0, 1))[1:-1, 1:-1].abs().max()) > 1


def test_relative_tables_keep_what_is_near(tmp_path: Path) -> None:
    """A patch's bias to itself and to its neighbours does not change with the grid."""
    path = weights(tmp_path / "base.safetensors", "mean")
    tables = {}
    for size in (224, 320):
        encoder = panderm.load_encoder("panderm-base", weights=path, pool="mean", image_size=size)
        tables[size] = encoder.network.state_dict()["blocks.0.attn.relative_position_bias_table"]
    old, new = tables[224][:-3].reshape(27, 27, 2), tables[320][:-3].reshape(39, 39, 2)
    assert torch.allclose(old[12:15, 12:15], new[18:21, 18:21], atol=1e-3)
    assert torch.equal(tables[224][-3:], tables[320][-3:])  # to, from and among the class token
