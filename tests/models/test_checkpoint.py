"""Weights files, right and wrong: every tensor is accounted for, nothing is run, every refusal is worded.

The networks are small (the cards are swapped for the test), the layouts are the published ones.
"""

from __future__ import annotations

import argparse
import io
import os
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

import panderm
from panderm.errors import UsageError, WeightsError
from panderm.models import cards, load

State = dict[str, torch.Tensor]
BASE, LARGE = (64, 2, 1), (128, 3, 2)  # width, blocks, heads
HALF_TOLERANCE = 1e-3  # float16 keeps 11 bits


@pytest.fixture(autouse=True)
def small_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """The known encoders by their own names, but of a size that loads in a moment."""
    sizes = {"panderm-base": BASE, "panderm-large": LARGE}
    small = tuple(
        card.model_copy(update=dict(zip(("dim", "depth", "heads"), sizes[card.name], strict=True)))
        if card.name in sizes
        else card
        for card in cards.KNOWN
    )
    monkeypatch.setattr(cards, "KNOWN", small)
    monkeypatch.setattr(load, "KNOWN", small)


def sine_cosine(dim: int) -> torch.Tensor:
    omega = 10000 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    row, column = (
        grid.flatten()[:, None] * omega for grid in torch.meshgrid(*[torch.arange(14.0)] * 2, indexing="ij")
    )
    table = torch.cat([row.sin(), row.cos(), column.sin(), column.cos()], dim=1)
    return torch.cat([torch.zeros(1, dim), table])[None].float()


def published(size: tuple[int, int, int] = BASE, *, form: str = "lp", classes: int = 0) -> State:
    """A state dict under the published names: linear-probe or fine-tuning form."""
    dim, depth, heads = size
    norm = "norm" if form == "lp" else "fc_norm"
    vectors = ("gamma_1", "gamma_2", "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias")
    vectors += ("attn.q_bias", "attn.v_bias", "attn.proj.bias", "mlp.fc2.bias")
    block: dict[str, tuple[int, ...]] = dict.fromkeys(vectors, (dim,))
    block |= {"attn.qkv.weight": (3 * dim, dim), "attn.proj.weight": (dim, dim)}
    block |= {"mlp.fc1.weight": (4 * dim, dim), "mlp.fc1.bias": (4 * dim,), "mlp.fc2.weight": (dim, 4 * dim)}
    if form == "ft":
        block["attn.relative_position_bias_table"] = (732, heads)
    shapes: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, dim)}
    shapes |= {"patch_embed.proj.weight": (dim, 3, 16, 16), "patch_embed.proj.bias": (dim,)}
    shapes |= {f"blocks.{i}.{key}": shape for i in range(depth) for key, shape in block.items()}
    shapes |= {f"{norm}.weight": (dim,), f"{norm}.bias": (dim,)}
    if classes:
        shapes |= {"head.weight": (classes, dim), "head.bias": (classes,)}
    generator = torch.Generator().manual_seed(0)
    state = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    state["pos_embed"] = sine_cosine(dim)
    if form == "ft":
        for i in range(depth):
            state[f"blocks.{i}.attn.relative_position_index"] = torch.zeros(197, 197, dtype=torch.int64)
    return state


def prefixed(state: State, prefix: str = "encoder.") -> State:
    return {prefix + key: value for key, value in state.items()}


def as_parallel(state: State) -> State:
    return prefixed(state, "module.")


def pretraining(dim: int) -> State:
    """Leftovers of pretraining, one of each kind (all of them: tests/parity/test_golden_encoder.py)."""
    names = ["regresser.regressor_blocks.0.gamma_1_cross", "regresser.norm.weight", "rd_pos_embed"]
    names += ["mask_token", "decoder.head.weight", "teacher.norm.weight", "alignment_encoder.norm.bias"]
    names += ["encoder_to_regresser.weight", "encoder_to_regresser_norm.weight"]
    return {name: torch.ones(dim) for name in names}


def trained(state: State) -> dict[str, Any]:
    """A training checkpoint: the weights in a wrapper, beside what a run keeps."""
    return {
        "model": OrderedDict(state),
        "epoch": 499,
        "best": np.float64(0.5),
        "step": np.int64(7),
        "done": np.bool_(True),
        "args": argparse.Namespace(lr=1e-4, model="panderm_large_patch16_224", dist=None),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": np.float32(0.1)}]},
    }


def save(path: Path, content: Any, *, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def spell_numpy(path: Path, spelling: bytes) -> None:
    """Rewrite the scalars of a zipped file as numpy 1 (numpy.core) or numpy 2 (numpy._core) names them."""
    with zipfile.ZipFile(path) as before:
        entries = {name: before.read(name) for name in before.namelist()}
    with zipfile.ZipFile(path, "w") as after:
        for name, content in entries.items():
            content = re.sub(rb"numpy\._?core\.multiarray", spelling + b".multiarray", content)
            after.writestr(name, content)
    assert any(spelling + b".multiarray" in content for content in entries.values()) or any(
        re.search(rb"numpy\._?core\.multiarray", content) for content in entries.values()
    )


def loaded_state(encoder: panderm.Encoder) -> State:
    return dict(encoder._network.state_dict())


def assert_holds(encoder: panderm.Encoder, state: State) -> None:
    """The network holds exactly these tensors."""
    ours = loaded_state(encoder)
    assert ours.keys() == state.keys()
    for key, value in state.items():
        assert ours[key].dtype == torch.float32
        assert torch.equal(ours[key], value), key


def refusal(error: type[panderm.PandermError], call: Callable[..., Any], *args: Any, **options: Any) -> str:
    with pytest.raises(error) as caught:
        call(*args, **options)
    assert type(caught.value) is error
    return str(caught.value)


# --- The published layouts -------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_flat_file(tmp_path: Path, legacy: bool) -> None:
    state = published()
    path = save(tmp_path / "base.pth", OrderedDict(state), legacy=legacy)
    encoder = panderm.load_encoder("panderm-base", weights=path, device="cpu")
    assert_holds(encoder, state)
    assert (encoder.account.used, encoder.account.dropped, encoder.account.notes) == (36, {}, [])
    assert str(encoder.account) == encoder.record.account == "36 tensors used"
    assert repr(encoder) == "Encoder(panderm-base, dim=64, pool=cls, 36 tensors used)"
    assert encoder.record.random is False
    assert encoder.record.weights == str(path)
