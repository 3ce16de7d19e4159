"""Patch tokens in a store: what they cost, that each lies in its place, and what refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.data.drawn import DrawnWorld
from panderm.embeddings.card import TokensRecord
from panderm.embeddings.making import shards
from panderm.embeddings.tokens import LARGE, TokensCost, require_half, tell_cost, tokens_cost
from panderm.errors import ArtifactError, DataError, PandermWarning, ParentsError, UsageError
from panderm.weights.account import Account

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


# --- each in its place -------------------------------------------------


def rows_of(world: DrawnWorld, chosen: Sequence[int] | range | slice, folder: Path) -> panderm.Table:
    """Return a table of some of the drawn world's rows, in the order given."""
    csv = folder / "some.csv"
    pd.read_csv(world.csv).iloc[chosen].to_csv(csv, index=False)
    return panderm.read_table(csv, images=world.images, progress=False)


def listing(folder: Path) -> dict[str, bytes]:
    """Return every file of a store but its card, which holds times."""
    return {
        p.name: p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name not in ("card.json", "lock")
    }


def small_swin() -> nn.Module:
    shape: dict[str, Any] = {"img_size": 64, "patch_size": 4, "window_size": 4, "embed_dim": 16}
    network: nn.Module = SwinTransformer(num_classes=0, depths=(1, 1), num_heads=(2, 2), **shape)
    return network


class Pooled(nn.Module):
    """What a wrapper of another library's network comes to."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        out = self.inner(pixels)
        return getattr(out, "pooler_output", out)


def open_clip_tower() -> nn.Module:
    towers = pytest.importorskip("open_clip.transformer")
    return Pooled(towers.VisionTransformer(64, 16, 48, 2, 4, 4.0, output_dim=32))


def transformers_model(family: str) -> nn.Module:
    library = pytest.importorskip("transformers")
    config = getattr(library, f"{family}Config")(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        image_size=64,
        patch_size=16,
    )
    return Pooled(getattr(library, f"{family}Model")(config))


SMALL: dict[str, Any] = {"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 4}
# A network of each family, how many pixels it takes, its vector's width, its tokens' grid and width.
FAMILIES: dict[str, tuple[Callable[[], Any], int, int, tuple[int, int, int]]] = {
    "registers": (
        lambda: VisionTransformer(num_classes=0, reg_tokens=4, no_embed_class=True, **SMALL),
        64,
        48,
        (4, 4, 48),
    ),
    "mean of patches": (
        lambda: VisionTransformer(num_classes=0, class_token=False, global_pool="avg", **SMALL),
        64,
        48,
        (4, 4, 48),
    ),
    "swin": (small_swin, 64, 32, (8, 8, 32)),
    "convnext": (lambda: timm.create_model("test_convnext", num_classes=0), 160, 64, (5, 5, 64)),
    "open_clip": (open_clip_tower, 64, 32, (4, 4, 48)),
    "transformers": (lambda: transformers_model("Dinov2WithRegisters"), 64, 48, (4, 4, 48)),
    "transformers, no class token": (lambda: transformers_model("SiglipVision"), 64, 48, (4, 4, 48)),
}


def encoder_of(network: Any, side: int, dim: int, like: panderm.Encoder) -> panderm.Encoder:
    """Make an encoder of any network, its weights drawn away from an initialisation near zero."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1 or "gamma" in name or "token" in name:
            with torch.no_grad():
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    record = like.record.model_copy(update={"name": "drawn", "image_size": side, "dim": dim})
    preprocess = like.preprocess.model_copy(update={"resize": side, "crop": side})
    return panderm.Encoder(network, preprocess, record, Account(), torch.device("cpu"))


def require_in_place(emb: panderm.Embeddings, encoder: panderm.Encoder, chosen: Sequence[int]) -> None:
    """Compare stored tokens with those of the images themselves, one at a time, to float16's rounding."""
    for i in chosen:
        pixels = encoder.preprocess(panderm.read_image(emb.rows.path[i]))[None]
        wanted = encoder.tokens(pixels).numpy()[0]
        found = emb.tokens[i]
        assert found.dtype == np.float16
        assert found.shape == wanted.shape == (*emb.card.tokens.grid, emb.card.tokens.dim)
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(found.astype(np.float32), wanted, rtol=2**-10, atol=2e-5 * scale)
        np.testing.assert_allclose(emb.vectors[i], encoder.encode(pixels).numpy()[0], rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_tokens_of_panderm_lie_in_their_place(pool: Any, world: DrawnWorld, tmp_path: Path) -> None:
    """Not turned, not mirrored, not of another image: in both of its forms."""
    encoder = panderm.load_encoder("random-tiny", pool=pool, device="cpu")
    table = rows_of(world, range(9), tmp_path)
    emb = encoder.embed(table, tmp_path / "skin.emb", batch_size=8, tokens=True, exact=True, progress=False)
    assert emb.tokens.shape == (9, 14, 14, 192)
    require_in_place(emb, encoder, [0, 7, 8])
    # No two of them are alike, and none is symmetric: what lies elsewhere would be seen.
    first = emb.tokens[0].astype(np.float32)
    for other in (first.transpose(1, 0, 2), first[::-1], first[:, ::-1], emb.tokens[1].astype(np.float32)):
        assert np.abs(first - other).max() > 0.1 * np.abs(first).max()


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_of_every_family(
    family: str, encoder: panderm.Encoder, world: DrawnWorld, tmp_path: Path
) -> None:
    make, side, dim, shape = FAMILIES[family]
    eye = encoder_of(make(), side, dim, encoder)
    table = rows_of(world, range(5), tmp_path)
    emb = eye.embed(table, tmp_path / "skin.emb", batch_size=2, tokens=True, exact=True, progress=False)
    assert emb.tokens.shape == (5, *shape)
    require_in_place(emb, eye, [0, 4])


# --- a store that has them ---------------------------------------------


@pytest.fixture
def quick(encoder: panderm.Encoder, monkeypatch: pytest.MonkeyPatch) -> panderm.Encoder:
    """An encoder of 16 patches that takes no time, and shards of eight rows."""
    monkeypatch.setattr(shards, "_SHARD_ROWS", 8)
    return encoder_of(VisionTransformer(num_classes=0, **SMALL), 64, 48, encoder)


def embedded(
    encoder: panderm.Encoder, table: panderm.Table, out: Path | None, *, tokens: bool = True
) -> panderm.Embeddings:
    return encoder.embed(table, out, batch_size=4, tokens=tokens, exact=True, progress=False)


def test_some_tokens_are_read_and_not_all(
    quick: panderm.Encoder, table: panderm.Table, tmp_path: Path
) -> None:
    embedded(quick, table, tmp_path / "skin.emb")
    emb = panderm.open_embeddings(tmp_path / "skin.emb")
    assert not isinstance(emb.tokens, np.ndarray)
    assert emb.tokens.shape == (len(table), 4, 4, 48)
    assert emb.tokens.dtype == np.float16
    whole = np.asarray(emb.tokens)
    np.testing.assert_array_equal(emb.tokens[3], whole[3])
    np.testing.assert_array_equal(emb.tokens[-1], whole[-1])
    np.testing.assert_array_equal(emb.tokens[10:20], whole[10:20])
    np.testing.assert_array_equal(emb.tokens[emb.rows.split == "test"], whole[emb.rows.split == "test"])
    np.testing.assert_array_equal(emb.tokens[[5, 2, 5]], whole[[5, 2, 5]])
    test = emb.select(emb.rows.split == "test")
    assert len(test.tokens) == len(test) == len(test.rows)
    np.testing.assert_array_equal(test.tokens[1], whole[np.flatnonzero(emb.rows.split == "test")[1]])
    require_in_place(test, quick, [0, len(test) - 1])


def test_tokens_need_a_folder(quick: panderm.Encoder, table: panderm.Table) -> None:
    with pytest.raises(UsageError, match="patch tokens must have a folder"):
        embedded(quick, table, None)
    assert embedded(quick, table, None, tokens=False).tokens is None


@pytest.mark.parametrize("has", [True, False])
def test_a_store_with_tokens_and_one_without_are_two(
    has: bool, quick: panderm.Encoder, table: panderm.Table, tmp_path: Path
) -> None:
    out = tmp_path / "skin.emb"
    embedded(quick, table, out, tokens=has)
    before = listing(out)
    with pytest.raises(ParentsError, match="tokens"):
        embedded(quick, table, out, tokens=not has)
    assert listing(out) == before


@pytest.mark.parametrize("batches", [1, 3, 9])
def test_a_run_that_was_stopped_goes_on_with_its_tokens(
    batches: int,
    quick: panderm.Encoder,
    table: panderm.Table,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    embedded(quick, table, tmp_path / "whole.emb")
    forward, left = quick.forward_rgb, [batches]

    def stopped(*given: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return forward(*given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(quick, "forward_rgb", stopped)
        with pytest.raises(KeyboardInterrupt):
            embedded(quick, table, tmp_path / "skin.emb")
    with pytest.raises(ParentsError, match="tokens"):
        embedded(quick, table, tmp_path / "skin.emb", tokens=False)
    embedded(quick, table, tmp_path / "skin.emb")
    assert listing(tmp_path / "skin.emb") == listing(tmp_path / "whole.emb")


def test_new_rows_bring_their_tokens(quick: panderm.Encoder, world: DrawnWorld, tmp_path: Path) -> None:
    out = tmp_path / "skin.emb"
    first = embedded(quick, rows_of(world, range(10, 40), tmp_path), out)
    before = dict(zip(first.rows.image, np.asarray(first.tokens), strict=True))
    grown = embedded(quick, rows_of(world, range(50), tmp_path), out)
    assert grown.tokens.shape[0] == 50
    for i, image in enumerate(grown.rows.image):
        if image in before:
            np.testing.assert_array_equal(grown.tokens[i], before[image])
    require_in_place(grown, quick, [0, 25, 49])


def test_what_float16_cannot_hold_stops_the_run_and_names_the_image(
    quick: panderm.Encoder, table: panderm.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, called = quick.forward_rgb, [0]

    def huge(*given: Any, **options: Any) -> Any:
        vectors, tokens = forward(*given, **options)
        called[0] += 1
        if called[0] == 4:
            tokens[2, 1, 1, 7] = float("inf")
        return vectors, tokens

    monkeypatch.setattr(quick, "token_shape", lambda: TokensRecord(grid=(4, 4), dim=48))
    monkeypatch.setattr(quick, "forward_rgb", huge)
    with pytest.raises(DataError, match="numbers that float16 can hold") as caught:
        embedded(quick, table, tmp_path / "skin.emb")
    assert table.image[14] in caught.value.found[0]
    with pytest.raises(ArtifactError):
        panderm.open_embeddings(tmp_path / "skin.emb")


def test_no_room_is_said_before_any_image_is_encoded(
    quick: panderm.Encoder, table: panderm.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(10**9, 0, 1000))
    shape = quick.token_shape()
    monkeypatch.setattr(quick, "token_shape", lambda: shape)

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("an image was encoded")

    monkeypatch.setattr(quick, "forward_rgb", never)
    with pytest.raises(ArtifactError, match="the disk must have room for the patch tokens"):
        embedded(quick, table, tmp_path / "skin.emb")
    assert not (tmp_path / "skin.emb").exists(), "an empty folder would be in the way of a run without tokens"


def test_an_encoder_without_patch_tokens_says_so(
    encoder: panderm.Encoder, table: panderm.Table, tmp_path: Path
) -> None:
    class Means(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return nn.functional.adaptive_avg_pool2d(pixels, 4).flatten(1)

    eye = encoder_of(Means(), 64, 48, encoder)
    with pytest.raises(UsageError, match="no patch tokens"):
        embedded(eye, table, tmp_path / "skin.emb")
    assert not (tmp_path / "skin.emb").exists()


KILLS = """
import os, random, signal, sys, time

import torch

torch.set_num_threads(1)  # threads do not survive a fork
import panderm
from panderm.embeddings.making import shards
from timm.models.vision_transformer import VisionTransformer

shards._SHARD_ROWS = 8
like = panderm.load_encoder("random-tiny", device="cpu")
torch.manual_seed(0)
network = VisionTransformer(
    img_size=64, patch_size=16, embed_dim=48, depth=2, num_heads=4, num_classes=0
).eval()
eye = panderm.Encoder(
    network,
    like.preprocess.model_copy(update={"resize": 64, "crop": 64}),
    like.record.model_copy(update={"name": "drawn", "image_size": 64, "dim": 48}),
    like.account,
    like.device,
)
forward = eye.forward_rgb

def slow(*given, **options):
    time.sleep(0.01)
    return forward(*given, **options)

eye.forward_rgb = slow
table = panderm.read_table(sys.argv[1], images=sys.argv[2], progress=False)

def start(out):
    child = os.fork()
    if not child:
        try:
            torch.set_num_threads(1)
            eye.embed(table, out, batch_size=4, tokens=True, progress=False)
            os._exit(0)
        finally:
            os._exit(99)
    return child

started = time.monotonic()
assert os.waitstatus_to_exitcode(os.waitpid(start("whole.emb"), 0)[1]) == 0
long = time.monotonic() - started
chance, kills = random.Random(int(sys.argv[3])), 0
while True:
    child = start("skin.emb")
    time.sleep(chance.uniform(0, long * (0.8 + kills / 4)))
    os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0:
        break
    assert status == -signal.SIGKILL, status
    kills += 1
print(kills)
"""


# Any moment is held for vectors by tests/test_unkillable.py, and a stop between groups for tokens above.
@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")
def test_killed_at_random_moments_the_store_is_the_same(world: DrawnWorld, tmp_path: Path) -> None:
    rows_of(world, range(42), tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path / "some.csv"), str(world.images), "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1
    assert listing(tmp_path / "skin.emb") == listing(tmp_path / "whole.emb")


# --- the command line --------------------------------------------------


def test_the_command_line_tells_the_cost_first(world: DrawnWorld, tmp_path: Path) -> None:
    out = tmp_path / "skin.emb"
    rows_of(world, range(16), tmp_path)
    words = (
        f"embed {tmp_path}/some.csv --images {world.images} --encoder random-tiny --image-size 32 --out {out}"
    )
    result = CliRunner().invoke(app, [*words.split(), "--tokens", "--json"])
    assert result.exit_code == 0, result.output
    assert "patch tokens: 2 × 2 × 192 float16 an image, 1.5 kB; 24.6 kB for 16 images" in result.stderr
    told = json.loads(result.stdout)
    assert told["tokens"] == {
        "grid": [2, 2],
        "dim": 192,
        "bytes_per_image": 1536,
        "bytes": 16 * 1536,
        "vector_bytes": 16 * 768,
    }
    assert panderm.open_embeddings(out).tokens.shape == (16, 2, 2, 192)
    done = CliRunner().invoke(app, [*words.split(), "--tokens"])
    assert "patch tokens: 2 × 2 × 192 float16 an image, " in done.stdout
    again = CliRunner().invoke(app, [*words.split(), "--json"])
    assert again.exit_code == 2
    assert json.loads(again.stdout)["error"]["type"] == "ParentsError"
    assert "tokens" in again.stderr
