"""Weights files, right and wrong: every tensor is accounted for, nothing is run, every refusal is worded.

The networks are small (the cards are swapped for the test), the layouts are the published ones.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
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
from panderm.models import cards
from panderm.weights.account import Account
from panderm.weights.checkpoint import read_state

State = dict[str, torch.Tensor]
BASE, LARGE = (64, 2, 1), (128, 3, 2)  # width, blocks, heads
DAMAGES = 150  # of each kind of file


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
    pickled = next(name for name in entries if name.endswith("data.pkl"))
    entries[pickled], n = re.subn(rb"numpy\._?core\.", spelling + b".", entries[pickled])
    assert n, "no numpy scalar in the file"
    with zipfile.ZipFile(path, "w") as after:
        for name, content in entries.items():
            after.writestr(name, content)


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


# --- Files that load: what was used, what was left out, and why ---


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_flat_file(tmp_path: Path, legacy: bool) -> None:
    state = published()
    path = save(tmp_path / "base.pth", OrderedDict(state), legacy=legacy)
    encoder = panderm.load_encoder("panderm-base", weights=path, device="cpu")
    assert_holds(encoder, state)
    assert (encoder.account.used, encoder.account.dropped, encoder.account.notes) == (36, {}, [])
    assert str(encoder.account) == encoder.record.account == "36 tensors used"
    assert repr(encoder) == "Encoder(panderm-base, dim=64, pool=cls, 36 tensors used)"
    assert encoder.record.weights == str(path)
    assert encoder.record.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_prefixed_file_with_the_leftovers_of_pretraining(tmp_path: Path, legacy: bool) -> None:
    state = published(LARGE)
    path = save(tmp_path / "large.pth", prefixed(state) | pretraining(LARGE[0]), legacy=legacy)
    encoder = panderm.load_encoder("panderm-large", weights=path, device="cpu")
    assert_holds(encoder, state)
    assert encoder.account.used == 51
    assert encoder.account.dropped == {
        "pretraining regressor": [
            "regresser.regressor_blocks.0.gamma_1_cross",
            "regresser.norm.weight",
            "rd_pos_embed",
            "mask_token",
            "encoder_to_regresser.weight",
            "encoder_to_regresser_norm.weight",
        ],
        "pretraining decoder": ["decoder.head.weight"],
        "pretraining teacher": ["teacher.norm.weight"],
        "pretraining alignment encoder": ["alignment_encoder.norm.bias"],
    }
    assert str(encoder.account) == (
        "51 tensors used; 6 dropped (pretraining regressor); 1 dropped (pretraining decoder); "
        "1 dropped (pretraining teacher); 1 dropped (pretraining alignment encoder)"
    )


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("inside", [prefixed, as_parallel, dict], ids=["encoder.", "module.", "flat"])
def test_a_training_checkpoint(tmp_path: Path, inside: Callable[[State], State], legacy: bool) -> None:
    state = published()
    path = save(tmp_path / "checkpoint-499.pth", trained(inside(state)), legacy=legacy)
    encoder = panderm.load_encoder("panderm-base", weights=path, device="cpu")
    assert_holds(encoder, state)
    beside = ["epoch", "best", "step", "done", "args", "optimizer"]
    assert encoder.account.dropped == {"beside 'model'": beside}
    assert encoder.account.notes == ["unwrapped from 'model'"]
    assert str(encoder.account) == "36 tensors used; 6 dropped (beside 'model'); unwrapped from 'model'"


@pytest.mark.parametrize("spelling", [b"numpy.core", b"numpy._core"], ids=["numpy 1", "numpy 2"])
def test_numpy_scalars_of_either_numpy(tmp_path: Path, spelling: bytes) -> None:
    path = save(tmp_path / "checkpoint.pth", trained(published()))
    spell_numpy(path, spelling)
    assert panderm.load_encoder("panderm-base", weights=path, device="cpu").account.used == 36


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "module"])
def test_every_known_wrapper(tmp_path: Path, wrapper: str) -> None:
    state = published()
    path = save(tmp_path / "wrapped.pth", {wrapper: state})
    encoder = panderm.load_encoder("panderm-base", weights=path, device="cpu")
    assert_holds(encoder, state)
    assert str(encoder.account) == f"36 tensors used; unwrapped from '{wrapper}'"


def test_a_file_saved_from_data_parallel(tmp_path: Path) -> None:
    state = published()
    path = save(tmp_path / "parallel.pth", as_parallel(prefixed(state)))
    encoder = panderm.load_encoder("panderm-base", weights=path, device="cpu")
    assert_holds(encoder, state)
    assert str(encoder.account) == "36 tensors used"


def test_parameters_that_ask_for_gradients(tmp_path: Path) -> None:
    state = {key: torch.nn.Parameter(value) for key, value in published().items()}
    encoder = panderm.load_encoder("panderm-base", weights=save(tmp_path / "p.pth", state), device="cpu")
    assert_holds(encoder, state)
    assert not any(value.requires_grad for value in encoder._network.parameters())


@pytest.mark.parametrize("inside", [prefixed, dict], ids=["encoder.", "flat"])
def test_a_safetensors_file(tmp_path: Path, inside: Callable[[State], State]) -> None:
    state = published()
    path = tmp_path / "base.safetensors"
    save_file(inside(state), path, metadata={"author": "a test"})
    encoder = panderm.load_encoder("panderm-base", weights=path, device="cpu")
    assert_holds(encoder, state)
    assert str(encoder.account) == "36 tensors used"


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    state = published()
    torch_file, safetensors_file = tmp_path / "a.safetensors", tmp_path / "b.pth"
    save(torch_file, state)
    save_file(state, safetensors_file)
    for path in (torch_file, safetensors_file):
        assert_holds(panderm.load_encoder("panderm-base", weights=path, device="cpu"), state)


def test_a_safetensors_header_that_begins_like_a_web_page(tmp_path: Path) -> None:
    """Its first eight bytes are the header's length: 15,392 reads as a space and "<"."""
    state, path = published(), tmp_path / "base.safetensors"
    save_file(state, path, metadata={"pad": ""})
    short = int.from_bytes(path.read_bytes()[:8], "little")
    save_file(state, path, metadata={"pad": "x" * (0x3C20 - short)})
    assert path.read_bytes()[:2] == b" <"
    assert_holds(panderm.load_encoder("panderm-base", weights=path, device="cpu"), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_other_floating_point_numbers_become_float32(tmp_path: Path, dtype: torch.dtype, kind: str) -> None:
    state = {key: value.to(dtype) for key, value in published().items()}
    if dtype == torch.bfloat16:
        state["pos_embed"] = published()["pos_embed"]  # 8 bits are too few for the fixed table
    path = tmp_path / "weights"
    if kind == "safetensors":
        save_file(state, path)
    else:
        save(path, state, legacy=kind == "legacy")
    encoder = panderm.load_encoder("panderm-base", weights=path, device="cpu")
    assert_holds(encoder, {key: value.float() for key, value in state.items()})


def test_a_path_as_text_and_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "base.pth", published())
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for given in (str(path), "~/base.pth", "base.pth"):
        encoder = panderm.load_encoder("panderm-base", weights=given, device="cpu")
        assert encoder.record.weights == str(path.resolve())


# --- Linear-probe form, fine-tuning form -------------------------


def test_a_fine_tuned_file_in_its_own_form(tmp_path: Path) -> None:
    state = published(form="ft", classes=7)
    path = save(tmp_path / "ft.pth", trained(state))
    encoder = panderm.load_encoder("panderm-base", weights=path, pool="mean", device="cpu")
    used = {key: value for key, value in state.items() if not key.endswith("index") and "head." not in key}
    assert_holds(encoder, used)
    assert encoder.account.used == 38
    assert encoder.account.dropped["classifier"] == ["head.weight", "head.bias"]
    index = [f"blocks.{i}.attn.relative_position_index" for i in range(2)]
    assert encoder.account.dropped["computed, not learned"] == index
    assert encoder.record.pool == "mean"


def test_a_fine_tuned_file_is_refused_under_cls(tmp_path: Path) -> None:
    path = save(tmp_path / "ft.pth", published(form="ft", classes=7))
    said = refusal(WeightsError, panderm.load_encoder, "panderm-base", weights=path)
    assert said == (
        "weights in the fine-tuning form must be loaded in that form.\n"
        f"  {path} holds fc_norm or relative-position tables, which pool='cls' would leave out\n"
        '  hint: panderm.load_encoder("panderm-base", weights=…, pool="mean"), or --pool mean'
    )


def test_a_linear_probe_file_under_mean_says_what_is_new(tmp_path: Path) -> None:
    state = published()
    path = save(tmp_path / "lp.pth", state)
    encoder = panderm.load_encoder("panderm-base", weights=path, pool="mean", device="cpu")
    expected = {f"fc_{key}" if key.startswith("norm.") else key: value for key, value in state.items()}
    for i in range(2):
        expected[f"blocks.{i}.attn.relative_position_bias_table"] = torch.zeros(732, 1)
    assert_holds(encoder, expected)
    assert str(encoder.account) == (
        "38 tensors used; norm used as fc_norm; 2 relative-position tables start at zero: the file has none"
    )


def test_a_fine_tuned_file_with_one_table_missing_is_refused(tmp_path: Path) -> None:
    state = published(form="ft")
    del state["blocks.1.attn.relative_position_bias_table"]
    path = save(tmp_path / "ft.pth", state)
    said = refusal(WeightsError, panderm.load_encoder, "panderm-base", weights=path, pool="mean")
    assert said == (
        "every tensor of a weights file must fit panderm-base.\n"
        f"  {path}: 37 of 38 tensors fit\n"
        "  1 missing: blocks.1.attn.relative_position_bias_table\n"
        "  hint: give the weights file of panderm-base, or name the encoder it belongs to with --encoder"
    )


# --- Tensors that do not fit -------------------------------------


def without(key: str, state: State) -> State:
    return {name: value for name, value in state.items() if name != key}


def renamed(old: str, new: str, state: State) -> State:
    return {new if name == old else name: value for name, value in state.items()}


def timm_vit(**options: Any) -> State:
    network = timm.models.vision_transformer.VisionTransformer(
        embed_dim=64, depth=2, num_heads=1, num_classes=0, **options
    )
    return dict(network.state_dict())


GIVE_ITS_FILE = "give the weights file of panderm-base, or name the encoder it belongs to with --encoder"
# what is given, to which encoder, what is said after "every tensor of a weights file must fit …"
MISFITS: dict[str, tuple[Callable[[], State], str, list[str]]] = {
    "base for large": (
        published,
        "panderm-large",
        [
            "0 of 51 tensors fit",
            "36 tensors of another shape: cls_token is (1, 1, 64) instead of (1, 1, 128)",
            "15 missing: blocks.2.gamma_1, blocks.2.gamma_2, blocks.2.norm1.weight, blocks.2.norm1.bias, "
            "blocks.2.attn.q_bias and 10 more",
            "hint: this looks like a file of panderm-base: --encoder panderm-base",
        ],
    ),
    "large for base": (
        lambda: without("mask_token", prefixed(published(LARGE)) | pretraining(128)),
        "panderm-base",
        [
            "0 of 36 tensors fit",
            "36 tensors of another shape: cls_token is (1, 1, 128) instead of (1, 1, 64)",
            "15 that cannot be explained: blocks.2.gamma_1, blocks.2.gamma_2, blocks.2.norm1.weight, "
            "blocks.2.norm1.bias, blocks.2.norm2.weight and 10 more; did you mean 'blocks.1.gamma_1'?",
            "hint: this looks like a file of panderm-large: --encoder panderm-large",
        ],
    ),
    "a plain vision transformer for base": (
        timm_vit,
        "panderm-base",
        [
            "28 of 36 tensors fit",
            "8 missing: blocks.0.gamma_1, blocks.0.gamma_2, blocks.0.attn.q_bias, blocks.0.attn.v_bias, "
            "blocks.1.gamma_1 and 3 more",
            "2 that cannot be explained: blocks.0.attn.qkv.bias, blocks.1.attn.qkv.bias; "
            "did you mean 'blocks.0.attn.v_bias'?",
            "hint: this looks like a timm or DINOv2 vision transformer: --encoder timm:NAME",
        ],
    ),
    "a typo": (
        lambda: renamed("blocks.0.gamma_1", "blocks.0.gama_1", published()),
        "panderm-base",
        [
            "35 of 36 tensors fit",
            "1 missing: blocks.0.gamma_1",
            "1 that cannot be explained: blocks.0.gama_1; did you mean 'blocks.0.gamma_1'?",
            f"hint: {GIVE_ITS_FILE}",
        ],
    ),
    "one missing": (
        lambda: without("encoder.norm.bias", prefixed(published())),
        "panderm-base",
        ["35 of 36 tensors fit", "1 missing: norm.bias", f"hint: {GIVE_ITS_FILE}"],
    ),
    "one too many": (
        lambda: published() | {"blocks.0.attn.k_bias": torch.zeros(64)},
        "panderm-base",
        [
            "36 of 36 tensors fit",
            "1 that cannot be explained: blocks.0.attn.k_bias; did you mean 'blocks.0.attn.v_bias'?",
            f"hint: {GIVE_ITS_FILE}",
        ],
    ),
    "one outside encoder.": (
        lambda: renamed("encoder.cls_token", "cls_token", prefixed(published())),
        "panderm-base",
        [
            "35 of 36 tensors fit",
            "1 missing: cls_token",
            "1 that cannot be explained: cls_token (outside encoder.)",
            f"hint: {GIVE_ITS_FILE}",
        ],
    ),
    "encoder. inside a name": (
        lambda: renamed("encoder.cls_token", "encoder.cls_encoder.token", prefixed(published())),
        "panderm-base",
        [
            "35 of 36 tensors fit",
            "1 missing: cls_token",
            "1 that cannot be explained: cls_encoder.token; did you mean 'cls_token'?",
            f"hint: {GIVE_ITS_FILE}",
        ],
    ),
    "one inside and outside encoder.": (
        lambda: prefixed(published()) | {"cls_token": torch.zeros(1, 1, 64)},
        "panderm-base",
        [
            "36 of 36 tensors fit",
            "1 that cannot be explained: cls_token (outside encoder.)",
            f"hint: {GIVE_ITS_FILE}",
        ],
    ),
    "one of another shape": (
        lambda: published() | {"blocks.1.attn.q_bias": torch.zeros(1, 64)},
        "panderm-base",
        [
            "35 of 36 tensors fit",
            "1 tensor of another shape: blocks.1.attn.q_bias is (1, 64) instead of (64,)",
            f"hint: {GIVE_ITS_FILE}",
        ],
    ),
    "a number for a CLS token": (
        lambda: published() | {"cls_token": torch.tensor(1.0)},
        "panderm-base",
        [
            "35 of 36 tensors fit",
            "1 tensor of another shape: cls_token is () instead of (1, 1, 64)",
            f"hint: {GIVE_ITS_FILE}",
        ],
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_tensors_that_do_not_fit(tmp_path: Path, case: str) -> None:
    make, name, lines = MISFITS[case]
    path = save(tmp_path / "weights.pth", make())
    said = refusal(WeightsError, panderm.load_encoder, name, weights=path)
    expected = [f"every tensor of a weights file must fit {name}.", f"{path}: {lines[0]}", *lines[1:]]
    assert said == "\n  ".join(expected)


def test_timms_names_are_known_but_not_another_models_positions(tmp_path: Path) -> None:
    path = save(tmp_path / "weights.pth", timm_vit(init_values=1.0))
    said = refusal(WeightsError, panderm.load_encoder, "panderm-base", weights=path)
    assert said.startswith(
        "the position table of PanDerm weights must be the fixed sine-cosine one.\n"
        f"  {path}: pos_embed differs from it by up to "
    )


def test_timms_names_are_known_but_a_bias_on_the_keys_is_not(tmp_path: Path) -> None:
    state = timm_vit(init_values=1.0)
    state["blocks.1.attn.qkv.bias"][64:128] = 0.5
    path = save(tmp_path / "weights.pth", state)
    assert refusal(WeightsError, panderm.load_encoder, "panderm-base", weights=path) == (
        "attention keys must have no bias in PanDerm's layout.\n  blocks.1.attn.qkv.bias has one\n"
        "  hint: these are weights of another vision transformer: --encoder timm:NAME"
    )


@pytest.mark.parametrize(
    ("state", "hint"),
    [
        (published(), "this looks like a file of panderm-base: --encoder panderm-base"),
        (prefixed(published(LARGE)), "this looks like a file of panderm-large: --encoder panderm-large"),
        (
            published((64, 5, 1)),
            "this looks like weights in PanDerm's layout: --encoder panderm-base or panderm-large",
        ),
        (
            {"fc.weight": torch.zeros(2, 3)},
            "give the weights file of timm:test_vit, or name the encoder it belongs to with --encoder",
        ),
    ],
    ids=["base", "large", "another size", "something else"],
)
def test_panderms_weights_for_a_timm_encoder(tmp_path: Path, state: State, hint: str) -> None:
    path = save(tmp_path / "weights.pth", state)
    said = refusal(WeightsError, panderm.load_encoder, "timm:test_vit", weights=path)
    assert said.splitlines()[0] == "every tensor of a weights file must fit timm:test_vit."
    assert said.splitlines()[-1] == f"  hint: {hint}"


@pytest.mark.parametrize("inside", [prefixed, dict], ids=["encoder.", "flat"])
def test_no_tensor_can_be_missing_or_misspelt(tmp_path: Path, inside: Callable[[State], State]) -> None:
    """Nothing may stay as it was drawn, whichever name it is: the silent failure of the published code."""
    state = inside(published())
    for key in state:
        for wrong in (without(key, state), renamed(key, f"{key}_", state)):
            path = save(tmp_path / "weights.pth", wrong)
            said = refusal(WeightsError, panderm.load_encoder, "panderm-base", weights=path)
            assert f"1 missing: {key.removeprefix('encoder.')}\n" in said


# --- Numbers that are none ---------------------------------------


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), 1e300], ids=["nan", "inf", "-inf", "beyond float32"]
)
def test_numbers_that_are_not_finite(tmp_path: Path, value: float) -> None:
    state = published()
    key = "blocks.1.mlp.fc2.weight"
    state[key] = state[key].double()
    state[key][3, 5] = value
    path = save(tmp_path / "weights.pth", state)
    assert refusal(WeightsError, panderm.load_encoder, "panderm-base", weights=path) == (
        "weights of panderm-base must be finite.\n"
        f"  {path}: blocks.1.mlp.fc2.weight holds NaN or infinite values\n"
        "  hint: download the file again, or ask its authors"
    )


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64], ids=str)
def test_numbers_of_another_kind(tmp_path: Path, dtype: torch.dtype) -> None:
    state = published()
    state["blocks.0.attn.proj.weight"] = torch.ones(64, 64).to(dtype)
    path = save(tmp_path / "weights.pth", state)
    assert refusal(WeightsError, panderm.load_encoder, "panderm-base", weights=path) == (
        "weights of panderm-base must be floating-point numbers.\n"
        f"  {path}: blocks.0.attn.proj.weight is {dtype}\n"
        f"  hint: {GIVE_ITS_FILE}"
    )


def swapped(table: torch.Tensor) -> torch.Tensor:
    half = table.shape[-1] // 2
    return torch.cat([table[..., half:], table[..., :half]], dim=-1)


@pytest.mark.parametrize(
    "spoil",
    [
        swapped,  # columns first, rows second
        lambda table: table.roll(1, dims=1),
        lambda table: torch.cat([torch.ones(1, 1, 64), table[:, 1:]], dim=1),  # a CLS position
        lambda table: torch.randn(1, 197, 64, generator=torch.Generator().manual_seed(0)) * 0.02,
        torch.zeros_like,
    ],
    ids=["rows and columns swapped", "shifted", "CLS", "noise", "zeros"],
)
def test_positions_that_are_not_the_fixed_ones(
    tmp_path: Path, spoil: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    state = published()
    state["pos_embed"] = spoil(state["pos_embed"])
    off = float((state["pos_embed"] - sine_cosine(64)).abs().max())
    path = save(tmp_path / "weights.pth", state)
    assert refusal(WeightsError, panderm.load_encoder, "panderm-base", weights=path) == (
        "the position table of PanDerm weights must be the fixed sine-cosine one.\n"
        f"  {path}: pos_embed differs from it by up to {off:.3g}\n"
        "  hint: these weights are of another model, or their table was overwritten"
    )


# --- Files that are no weights -----------------------------------

NO_WEIGHTS: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "is empty", "download it again"),
    "a web page": (
        b"<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title>",
        "is a web page: the download was answered by a notice instead of the file",
        "download it again in a browser",
    ),
    "a web page after blanks": (
        b"\xef\xbb\xbf\r\n  <html>",
        "is a web page: the download was answered by a notice instead of the file",
        "download it again in a browser",
    ),
    "a Git LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4665\nsize 1217563821\n",
        "is a Git LFS pointer",
        "fetch the file itself: git lfs pull",
    ),
    **{
        case: (
            content,
            "is neither a PyTorch nor a safetensors file",
            "name the encoder's weights file, or download it again",
        )
        for case, content in {
            "random bytes": np.random.default_rng(1).bytes(5000),
            "text": b"These are not the weights you are looking for.\n",
            "a CSV": b"epoch,loss\n1,0.5\n",
            "JSON": b'{"error": "not found"}',
            "a PNG": b"\x89PNG\r\n\x1a\n" + bytes(100),
            "a pickle of protocol 0": b"cposix\nsystem\n(S'true'\ntR.",
            "a few bytes": b"\x03\x00\x00",
        }.items()
    },
}


@pytest.mark.parametrize("case", NO_WEIGHTS)
@pytest.mark.parametrize("name", ["panderm-base", "timm:test_vit"])
def test_files_that_are_no_weights(tmp_path: Path, case: str, name: str) -> None:
    content, found, hint = NO_WEIGHTS[case]
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    assert refusal(WeightsError, panderm.load_encoder, name, weights=path) == (
        f"a weights file must hold weights.\n  {path} {found}\n  hint: {hint}"
    )


def test_no_such_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    assert refusal(WeightsError, panderm.load_encoder, "panderm-base", weights=path) == (
        f"the weights file must exist.\n  found no file {path}\n  hint: correct --weights"
    )


def test_a_folder(tmp_path: Path) -> None:
    said = refusal(UsageError, panderm.load_encoder, "panderm-base", weights=tmp_path)
    assert said == (
        f"a folder of weights must hold one weights file.\n  {tmp_path} holds none\n"
        "  hint: name the file itself with --weights"
    )


CONTENTS: dict[str, tuple[Callable[[], Any], str, str]] = {
    "a list": (
        lambda: [torch.zeros(2)],
        "a weights file must hold named tensors.\n  {path} holds a list",
        "give a state dict",
    ),
    "one tensor": (
        lambda: torch.zeros(2),
        "a weights file must hold named tensors.\n  {path} holds a Tensor",
        "give a state dict",
    ),
    "nothing": (
        dict,
        "a weights file must hold named tensors only.\n  {path} holds none",
        "give the file of the encoder's weights",
    ),
    "an empty wrapper": (
        lambda: {"model": {}, "epoch": 3},
        "a weights file must hold named tensors only.\n  {path} holds none",
        "give the file of the encoder's weights",
    ),
    "an unknown wrapper": (
        lambda: {"weights": published(), "epoch": 3},
        "a weights file must hold named tensors only.\n  {path} holds weights, epoch",
        "give the file of the encoder's weights",
    ),
    "a number among tensors": (
        lambda: published() | {"epoch": 3},
        "a weights file must hold named tensors only.\n  {path} holds epoch",
        "give the file of the encoder's weights",
    ),
    "a sparse tensor": (
        lambda: published() | {"cls_token": torch.eye(3).to_sparse()},
        "a weights file must hold named tensors only.\n  {path} holds cls_token",
        "give the file of the encoder's weights",
    ),
    "a tensor without numbers": (
        lambda: published() | {"cls_token": torch.empty(1, 1, 64, device="meta")},
        "a weights file must hold named tensors only.\n  {path} holds cls_token",
        "give the file of the encoder's weights",
    ),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_torch_files_that_are_no_weights(tmp_path: Path, case: str) -> None:
    make, found, hint = CONTENTS[case]
    path = save(tmp_path / "weights.pth", make())
    said = refusal(WeightsError, panderm.load_encoder, "panderm-base", weights=path)
    assert said == f"{found.format(path=path)}\n  hint: {hint}"


def bytes_of(kind: str, state: State, folder: Path) -> bytes:
    path = folder / "whole"
    if kind == "safetensors":
        save_file(state, path)
    else:
        save(path, state, legacy=kind == "legacy")
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.5, 0.9, 0.999])
def test_a_file_cut_short(tmp_path: Path, kind: str, part: float) -> None:
    whole = bytes_of(kind, published(), tmp_path)
    path = tmp_path / "weights.pth"
    path.write_bytes(whole[: int(part * len(whole))])
    size = path.stat().st_size
    said = refusal(WeightsError, panderm.load_encoder, "panderm-base", weights=path).splitlines()
    assert said[0] == "a weights file must be whole."
    assert said[1].startswith(f"  {path} ({size:,} bytes) is damaged, cut short or no weights file: ")
    assert said[2] == "  hint: download it again and compare the size"
    assert len(said) == 3
    assert "weights_only" not in said[1]  # torch's advice to trust the file


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_damaged_file_never_ends_in_another_error(tmp_path: Path, kind: str) -> None:
    """Bytes changed at random: it is read, or refused in our words."""
    rng = np.random.default_rng(5)
    state = {f"blocks.{i}.weight": torch.randn(3, 4) for i in range(5)}
    content = bytes_of(kind, state if kind == "safetensors" else trained(state), tmp_path)
    path, refused = tmp_path / "damaged", 0
    for _ in range(DAMAGES):
        damaged = bytearray(content)
        for place in rng.integers(len(content), size=rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_state(path, Account())
        except WeightsError:
            refused += 1
    assert refused


# --- Files that hold code ----------------------------------------


class Command:
    """Unpickled by a careless reader, it runs a shell command."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"echo ran > {self.mark}",)


class Evaluated(Command):
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.mark)!r}, 'w').close()",)


HIDING_PLACES: dict[str, Callable[[Any], Any]] = {
    "alone": lambda code: code,
    "beside the tensors": lambda code: published() | {"epoch": code},
    "in a list beside the tensors": lambda code: {"model": published(), "log": [1, [code]]},
    "in the arguments": lambda code: {"model": published(), "args": argparse.Namespace(lr=code)},
    "as a key": lambda code: {"model": published(), code: 1},
}
DANGER = {Command: f"{os.name}.system", Evaluated: "eval"}


@pytest.mark.parametrize("place", HIDING_PLACES)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", DANGER)
def test_code_is_named_and_not_run(tmp_path: Path, kind: type[Command], legacy: bool, place: str) -> None:
    mark = tmp_path / "mark"
    path = save(tmp_path / "weights.pth", HIDING_PLACES[place](kind(mark)), legacy=legacy)
    for name in ("panderm-base", "timm:test_vit"):
        assert refusal(WeightsError, panderm.load_encoder, name, weights=path) == (
            "a weights file must hold tensors, not code.\n"
            f"  {path} asks to run {DANGER[kind]}; nothing was run\n"
            "  hint: do not trust this file; get it from its authors again, best as .safetensors"
        )
    assert not mark.exists()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", DANGER)
def test_the_trap_is_real(tmp_path: Path, kind: type[Command], legacy: bool) -> None:
    """Read carelessly, the same files do run: else the test above would prove nothing."""
    mark = tmp_path / "mark"
    path = save(tmp_path / "weights.pth", {"model": published(), "log": [kind(mark)]}, legacy=legacy)
    torch.load(path, weights_only=False)
    assert mark.exists()


def test_a_whole_network_is_code_too(tmp_path: Path) -> None:
    path = save(tmp_path / "weights.pth", {"model": torch.nn.Linear(2, 2)})
    assert refusal(WeightsError, panderm.load_encoder, "panderm-base", weights=path) == (
        "a weights file must hold tensors, not code.\n"
        f"  {path} asks to run torch.nn.modules.linear.Linear; nothing was run\n"
        "  hint: do not trust this file; get it from its authors again, best as .safetensors"
    )


def test_a_name_that_would_write_to_the_terminal_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"\x80\x02cos\n\x1b[2Jsystem\nU\x04true\x85R.")
    said = refusal(WeightsError, panderm.load_encoder, "panderm-base", weights=path)
    assert f"{path} asks to run something without a plain name; nothing was run" in said
    assert "\x1b" not in said


# --- Names and options -------------------------------------------

KNOWN = (
    "known: panderm-large, panderm-base, dermlip-panderm-base, dermlip-vit-base, monet, biomedclip, "
    "medsiglip, clip-large, panderm-tiny, random-tiny\n"
    "  and: timm:NAME, hf-hub:ORG/NAME, open_clip:ARCH/TAG, transformers:ID, "
    "or a file that panderm convert wrote"
)
LISTS_THEM = "python -c \"import timm; print(timm.list_models('*small*'))\" lists them"
OPTIONS: list[tuple[str, dict[str, Any], str]] = [
    (
        "panderm-larg",
        {},
        "encoder 'panderm-larg' must be a known one; did you mean 'panderm-large'?\n"
        f"  {KNOWN}\n  hint: panderm models lists them",
    ),
    (
        "PanDerm-Base",
        {},
        "encoder 'PanDerm-Base' must be a known one; did you mean 'panderm-base'?\n"
        f"  {KNOWN}\n  hint: panderm models lists them",
    ),
    (
        "xyz",
        {},
        f"encoder 'xyz' must be a known one\n  {KNOWN}\n  hint: panderm models lists them",
    ),
    (
        "resnet18",
        {},
        f"encoder 'resnet18' must be a known one\n  {KNOWN}\n  hint: did you mean timm:resnet18?",
    ),
    (
        "vit_small_patch14_dinov2.lvd142m",
        {},
        f"encoder 'vit_small_patch14_dinov2.lvd142m' must be a known one\n  {KNOWN}\n"
        "  hint: did you mean timm:vit_small_patch14_dinov2.lvd142m?",
    ),
    (
        "timm:resnet_18",
        {},
        f"encoder 'timm:resnet_18' must be one that timm {timm.__version__} has; "
        f"did you mean 'resnet18'?\n  hint: {LISTS_THEM}",
    ),
    (
        "timm:vit_tiny_patch16_224.nobody",
        {},
        f"encoder 'timm:vit_tiny_patch16_224.nobody' must be one that timm {timm.__version__} has; "
        f"did you mean 'vit_tiny_patch16_224'?\n  hint: {LISTS_THEM}",
    ),
    ("timm:", {}, f"encoder 'timm:' must be one that timm {timm.__version__} has\n  hint: {LISTS_THEM}"),
    (
        "panderm-base",
        {"image_size": 250},
        "panderm-base takes images whose side is a multiple of 16 pixels, 32 or more.\n"
        "  found --image-size 250\n  hint: --image-size 240 or 256; it was trained at 224",
    ),
    ("timm:resnet18", {"image_size": 0}, "images must be at least 14 pixels wide.\n  found --image-size 0"),
    ("random-tiny", {"pool": "avg"}, "pool must be cls or mean, not 'avg'."),
    (
        "timm:resnet18",
        {"pool": "cls", "weights": "resnet18.pth"},
        "timm:resnet18 must be able to take 224 pixels and pool cls.\n  Invalid pool type: token\n"
        "  hint: choose another --image-size, or leave --image-size and --pool out",
    ),
    (
        "random-tiny",
        {"precision": "float32"},
        "precision must be auto, fp32, bf16, fp16 or int8, not 'float32'.",
    ),
    (
        "random-tiny",
        {"weights": "weights.pth"},
        "random-tiny draws its weights at random: it takes no --weights.\n  found weights.pth",
    ),
]


@pytest.mark.parametrize(("name", "options", "message"), OPTIONS)
def test_names_and_options_that_cannot_be(name: str, options: dict[str, Any], message: str) -> None:
    assert refusal(UsageError, panderm.load_encoder, name, **options) == message


@pytest.mark.parametrize("device", ["gpu", "", "cuda:99", "meta"])
def test_devices_that_are_not_there(device: str) -> None:
    said = refusal(UsageError, panderm.load_encoder, "random-tiny", device=device).splitlines()
    assert said[0] == f"device {device!r} must exist on this machine."
    assert said[-1] == "  hint: --device auto picks one"
    assert len(said) == 3


# --- Nothing is random unasked -----------------------------------


def test_no_weights_is_an_error_that_says_where_they_are() -> None:
    assert refusal(UsageError, panderm.load_encoder, "panderm-large") == (
        "panderm-large needs its weights file.\n"
        "  its source: panderm_ll_data6_checkpoint-499.pth, Google Drive 1SwEzaOlFV_gBKf2UzeowMC8z9UH7AQbE; "
        "licence: CC BY-NC-ND 4.0 (non-commercial, no derivatives)\n"
        "  hint: panderm models pull panderm-large, or download it and name it with --weights FILE"
    )


@pytest.mark.parametrize("name", [*(card.name for card in cards.KNOWN), "timm:resnet18", "timm:test_vit"])
def test_a_random_network_says_so_everywhere_or_does_not_come_to_be(name: str) -> None:
    if name == "panderm-tiny":
        assert not panderm.load_encoder(name).record.random  # its weights come with the package
        return
    if "random" not in name:
        assert refusal(UsageError, panderm.load_encoder, name).startswith(f"{name} needs its weights file.\n")
        return
    encoder = panderm.load_encoder(name)
    assert encoder.record.random
    assert "random" in repr(encoder)
    assert "random" in encoder.record.weights_sha256
    assert "random" in encoder.record.account
    assert encoder.record.weights is None


def test_loaded_weights_are_not_called_random(tmp_path: Path) -> None:
    encoder = panderm.load_encoder(
        "panderm-base", weights=save(tmp_path / "w.pth", published()), device="cpu"
    )
    assert not encoder.record.random
    assert "random" not in repr(encoder)
