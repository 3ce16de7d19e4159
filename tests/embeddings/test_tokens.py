"""Patch tokens in a store: what they cost, that each lies in its place, and what refuses."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

import panderm
from panderm.embeddings.card import TokensRecord
from panderm.embeddings.tokens import LARGE, TokensCost, require_half, tell_cost, tokens_cost
from panderm.errors import ArtifactError, DataError, PandermWarning

Usage = namedtuple("Usage", "total used free")


# --- what they cost ----------------------------------------------------


def test_the_cost_is_counted_before_anything_is_made(tmp_path: Path) -> None:
    record = TokensRecord(grid=(14, 14), dim=192)
    cost = tokens_cost(record, images=100, todo=40, vector_dim=192, folder=tmp_path / "not/there/yet.emb")
    assert cost.image_bytes == np.zeros((14, 14, 192), np.float16).nbytes == 75_264
    assert cost.bytes == 7_526_400
    assert cost.vector_bytes == np.zeros((100, 192), np.float32).nbytes
    assert cost.needed == 140 * (75_264 + 768)  # 40 in the making, 100 finished
    assert cost.free is not None
    assert cost.free > 0
    assert cost.sentence().startswith(
        "patch tokens: 14 × 14 × 192 float16 an image, 75.3 kB; 7.5 MB for 100 images, 98 × the vectors"
    )
    assert cost.as_dict() == {
        "grid": [14, 14],
        "dim": 192,
        "bytes_per_image": 75_264,
        "bytes": 7_526_400,
        "vector_bytes": 76_800,
    }


def test_a_disk_without_room_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = TokensCost(10, 10, (14, 14), 192, 192).needed
    folder = tmp_path / "skin.emb"
    for free, refused in ((needed - 1, True), (needed, False)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: Usage(10**9, 0, free))
        cost = tokens_cost(
            TokensRecord(grid=(14, 14), dim=192), images=10, todo=10, vector_dim=192, folder=folder
        )
        if refused:
            with pytest.raises(ArtifactError, match="the disk must have room for the patch tokens") as caught:
                tell_cost(cost, folder)
            assert str(folder) in caught.value.found[0]
            assert "1.5 MB are needed for 10 images" in caught.value.found[0]
        else:
            tell_cost(cost, folder)
    assert capsys.readouterr().err.count("patch tokens:") == 1


def test_a_small_cost_is_silent_where_progress_is_and_a_large_one_never(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tell_cost(TokensCost(10, 10, (14, 14), 192, 192), None, shown=False)
    tell_cost(TokensCost(10**6, 0, (14, 14), 1024, 1024), None)  # all done already
    assert capsys.readouterr().err == ""
    large = TokensCost(20_000, 1, (14, 14), 1024, 1024)
    assert large.bytes > LARGE
    with pytest.warns(PandermWarning, match=r"401\.4 kB; 8\.0 GB for 20,000 images, 98 × the vectors"):
        tell_cost(large, None, shown=False)


# --- what float16 cannot hold ------------------------------------------


@pytest.mark.parametrize(
    ("number", "said", "hint"),
    [(65_536.0, "numbers beyond ±65,504", "encoder.tokens"), (np.nan, "NaN came out", "--precision fp32")],
)
def test_what_float16_cannot_hold_is_named(number: float, said: str, hint: str, table: panderm.Table) -> None:
    rows = table.select(slice(0, 4))
    tokens = np.full((4, 2, 2, 3), 65_504, np.float32)
    assert require_half(rows, tokens.astype(np.float16)).max() == 65_504
    tokens[2, 1, 0, 1] = -number
    with np.errstate(over="ignore"):
        half = tokens.astype(np.float16)
    with pytest.raises(DataError) as caught:
        require_half(rows, half)
    assert caught.value.found == (f"{rows.image[2]}: {said}",)
    assert hint in str(caught.value.hint)
