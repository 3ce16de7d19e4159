"""Loading holds little more than the file: peaks are the kernel's, of a process of its own."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from weigh import weigh

from panderm.models.network import emptied
from panderm.weights.account import Account, match
from panderm.weights.checkpoint import read_state

MIB = 1 << 20
SHARE = 1.3  # of the file: the most that loading it may hold at once
Seen = dict[tuple[str, str], tuple[float, float, str]]
linux = pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from Linux's /proc")


def drawn(mib: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """A state dict of so many MiB: one tensor of a third of it, and forty that share the rest."""
    numbers = mib * MIB // dtype.itemsize
    generator = torch.Generator().manual_seed(0)
    state = {"large": torch.randn(numbers // 3, generator=generator).to(dtype)}
    for i in range(40):
        state[f"blocks.{i}.weight"] = torch.randn(numbers // 60, generator=generator).to(dtype)
    return state


def save(path: Path, content: object, *, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """Every job on every file, done in one process: its growth and the file's size in MiB, what it said."""
    folder = tmp_path_factory.mktemp("large")
    state, small = drawn(72), drawn(48)
    moments = {i: {"exp_avg": v.clone(), "exp_avg_sq": v.clone()} for i, v in enumerate(small.values())}
    trained = {"model": small, "optimizer": {"state": moments, "param_groups": []}, "epoch": "best"}
    network = timm.create_model("vit_small_patch16_224", num_classes=0)
    save_file(state, folder / "safetensors", metadata={"who": "a test"})
    save_file(network.state_dict(), folder / "timm")
    save(folder / "zip", state)
    save(folder / "legacy", state, legacy=True)
    save(folder / "wrapped", {"model": state, "args": argparse.Namespace(lr=1)})
    save(folder / "trained", trained)
    save(folder / "trained, legacy", trained, legacy=True)
    save(folder / "half", drawn(72, torch.float16))
    jobs = [("match", name) for name in ("safetensors", "zip", "legacy", "wrapped", "half")]
    jobs += [("read", "trained"), ("read", "trained, legacy"), ("timm_network", "timm"), ("load", "timm")]
    jobs += [(job, name) for job in ("outline", "header") for name in ("safetensors", "zip", "legacy")]
    found = weigh([(job, folder / name) for job, name in jobs])
    sizes = [(folder / name).stat().st_size / MIB for _, name in jobs]
    shutil.rmtree(folder)  # half a GB
    return {
        job: (one["grown"] / MIB, size, one["said"])
        for job, one, size in zip(jobs, found, sizes, strict=True)
    }


@linux
@pytest.mark.parametrize("name", ["safetensors", "zip", "legacy", "wrapped"])
def test_reading_holds_less_than_a_third_more_than_the_file(seen: Seen, name: str) -> None:
    grown, size, said = seen["match", name]
    assert said == "dict kept"
    # From below too: numbers that are only mapped do not count until they are touched.
    assert 0.9 * size < grown < SHARE * size


@linux
@pytest.mark.parametrize("name", ["trained", "trained, legacy"])
def test_what_stands_beside_the_weights_is_not_read(seen: Seen, name: str) -> None:
    grown, size, _ = seen["read", name]
    assert 0.9 * 48 < grown < SHARE * 48 < size / 2


@linux
def test_numbers_of_half_the_width_are_not_held_twice(seen: Seen) -> None:
    """72 MiB of float16 become 144 MiB of float32; held side by side they would be 216."""
    assert 0.9 * 144 < seen["match", "half"][0] < SHARE * 144


@linux
@pytest.mark.parametrize("name", ["safetensors", "zip", "legacy"])
@pytest.mark.parametrize("job", ["outline", "header"])
def test_outlines_and_headers_read_no_tensor(seen: Seen, job: str, name: str) -> None:
    grown, _, said = seen[job, name]
    assert said == "dict kept"
    assert grown < 8


@linux
@pytest.mark.parametrize("job", ["timm_network", "load"])
def test_a_network_that_timm_draws_is_emptied_before_the_file_is_read(seen: Seen, job: str) -> None:
    grown, size, said = seen[job, "timm"]
    assert said in ("VisionTransformer kept", "Encoder kept")
    assert 0.9 * size < grown < SHARE * size


# --- Tensors are memory of their own -----------------------------


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_a_file_changed_afterwards_changes_nothing(tmp_path: Path, kind: str) -> None:
    state, path = {"a": torch.arange(5000.0), "b": torch.ones(3, 4)}, tmp_path / "weights"
    save_file(state, path) if kind == "safetensors" else save(path, state, legacy=kind == "legacy")
    read = read_state(path, Account())
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert all(torch.equal(read[key], value) for key, value in state.items())


def test_numbers_of_the_right_width_are_handed_on_not_copied() -> None:
    state = {"a": torch.ones(3), "b": torch.ones(3, dtype=torch.float64)}
    places = {key: value.data_ptr() for key, value in state.items()}
    wanted = {key: torch.empty(3, device="meta") for key in state}
    loaded = match(state, wanted, Account(), path=Path("x"), name="x", hint="")
    assert loaded["a"].data_ptr() == places["a"]
    assert loaded["b"].dtype == torch.float32
    assert state == {}


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_an_outline_has_the_names_shapes_and_types(tmp_path: Path, kind: str) -> None:
    state = {
        "a": torch.zeros(2, 3),
        "b": torch.zeros(4, dtype=torch.float16),
        "c": torch.zeros((), dtype=torch.int64),
        "d": torch.zeros(0, 5, dtype=torch.bfloat16),
    }
    path = tmp_path / "weights"
    save_file(state, path) if kind == "safetensors" else save(path, {"model": state}, legacy=kind == "legacy")
    account = Account()
    outline = read_state(path, account, data=False)
    assert all(value.device.type == "meta" for value in outline.values())
    assert {k: (v.shape, v.dtype) for k, v in outline.items()} == {
        k: (v.shape, v.dtype) for k, v in state.items()
    }
    assert account.notes == ([] if kind == "safetensors" else ["unwrapped from 'model'"])


# --- Networks without their numbers ------------------------------


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "swin"])
def test_an_emptied_network_takes_its_numbers_back(name: str) -> None:
    torch.manual_seed(0)
    if name == "swin":  # holds buffers that no state dict has
        network = timm.models.swin_transformer.SwinTransformer(
            img_size=56, embed_dim=8, depths=(2,), num_heads=(1,), num_classes=0
        ).eval()
    else:
        network = timm.create_model(name, num_classes=0).eval()
    pixels = torch.randn(1, 3, 56 if name == "swin" else 160, 56 if name == "swin" else 160)
    with torch.no_grad():
        before = network(pixels)
        state = {key: value.clone() for key, value in network.state_dict().items()}
        assert emptied(network) is network
        assert all(value.device.type == "meta" for value in network.state_dict().values())
        assert {k: v.shape for k, v in network.state_dict().items()} == {k: v.shape for k, v in state.items()}
        network.load_state_dict(state, strict=True, assign=True)
        assert torch.equal(network(pixels), before)
