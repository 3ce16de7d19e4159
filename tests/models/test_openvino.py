"""OpenVINO as the engine: PyTorch's vectors, none depends on its batch; 8 bits are calibrated and told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

import panderm
from panderm.embeddings import EncoderRecord
from panderm.errors import ArtifactError, DataError, PandermWarning, ParentsError, UsageError
from panderm.models import encoder as encoders
from panderm.models import quantised
from panderm.models.openvino_engine import OpenVINOEngine
from panderm.models.precision import CHECKED
from panderm.models.quantised import CALIBRATION
from panderm.statistics.similarity import centred_cosines
from panderm.weights.account import Account

if find_spec("openvino") is None or find_spec("nncf") is None:
    pytest.skip("openvino and nncf are not installed", allow_module_level=True)
# Largest difference of a number of size 1 to 10: sums in another order.
ROUNDING = 1e-4


PREPROCESS = panderm.Preprocess(
    resize=72, crop=64, interpolation="bicubic", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)


def load(precision: Any = "fp32", engine: Any = "openvino") -> panderm.Encoder:
    """Make what load_encoder makes, of a vision transformer of two blocks: quick to convert."""
    network = VisionTransformer(64, 16, embed_dim=64, depth=2, num_heads=2, num_classes=0, init_values=0.5)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.requires_grad_(requires_grad=False).named_parameters():
        scaled = 0.1 * torch.randn(tensor.shape, generator=generator)
        tensor.copy_(scaled + ("norm" in name and "weight" in name))
    record = EncoderRecord(
        name="eye",
        architecture="vit",
        dim=64,
        weights=None,
        weights_sha256="drawn",
        account="",
        random=True,
        pool="cls",
        precision=precision,
        image_size=64,
        preprocess=PREPROCESS.model_dump(mode="json"),
        licence="",
        citation="",
        source="",
        engine=engine,
    )
    cpu = torch.device("cpu")
    runner = OpenVINOEngine(network.eval(), PREPROCESS, record) if engine == "openvino" else None
    return panderm.Encoder(network, PREPROCESS, record, Account(), cpu, engine=runner)


@pytest.fixture(scope="module")
def rgb(table: panderm.Table) -> torch.Tensor:
    """50 drawn lesions as the encoder takes them, uint8 (50, 64, 64, 3)."""
    images = [PREPROCESS.pixels(panderm.read_image(path)) for path in table.path[:50]]
    return torch.stack([torch.from_numpy(image) for image in images])


@pytest.fixture(scope="module")
def full(rgb: torch.Tensor) -> torch.Tensor:
    return load(engine="torch").forward_rgb(rgb)


@pytest.fixture(scope="module")
def int8(rgb: torch.Tensor) -> panderm.Encoder:
    """Quantised once for all tests: it takes seconds."""
    encoder = load("int8")
    assert encoder.first_images == CHECKED + CALIBRATION
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PandermWarning)
        encoder.settle(rgb[:48])
    return encoder


def alike(encoder: panderm.Encoder, rgb: torch.Tensor) -> None:
    """Alone, among others, backwards, in short batches: the same bits."""
    together = encoder.forward_rgb(rgb[:7])
    alone = torch.cat([encoder.forward_rgb(rgb[i : i + 1]) for i in range(7)])
    assert torch.equal(alone, together)
    assert torch.equal(encoder.forward_rgb(rgb[:7].flip(0)).flip(0), together)
    assert torch.equal(encoder.forward_rgb(torch.cat([rgb[:3], 255 - rgb[3:7]]))[:3], together[:3])


def test_the_vectors_are_pytorchs(rgb: torch.Tensor, full: torch.Tensor) -> None:
    encoder = load()
    assert (encoder.record.engine, encoder.record.precision, encoder.device.type) == (
        "openvino",
        "fp32",
        "cpu",
    )
    assert encoder.record.engine_sha256 is None
    encoder.settle(rgb[: encoder.first_images])
    assert encoder.first_images == 0
    assert encoder.drift == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(encoder.forward_rgb(rgb), full, rtol=ROUNDING, atol=ROUNDING)
    pixels = encoder.preprocess.normalise(rgb[:3])
    torch.testing.assert_close(encoder.encode(pixels), full[:3], rtol=ROUNDING, atol=ROUNDING)
    assert encoder.forward_rgb(rgb[:0]).shape == (0, 64)
    alike(encoder, rgb)


def test_bfloat16_is_compared_with_float32(rgb: torch.Tensor, full: torch.Tensor) -> None:
    encoder = load("bf16")
    encoder.settle(rgb[:16])
    assert encoder.record.precision == "bf16"
    found = centred_cosines(encoder.forward_rgb(rgb[:16]).numpy(), full[:16].numpy()).mean()
    assert encoder.drift == pytest.approx(found, abs=1e-6)
    assert 0.99 < encoder.drift < 1
    alike(encoder, rgb)


def test_bits_that_drift_give_way_to_float32(
    rgb: torch.Tensor, full: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "likeness", lambda *_: 0.5)
    encoder = load("bf16")
    with pytest.warns(PandermWarning, match="bf16 changes the vectors .* going on with fp32"):
        encoder.settle(rgb[:16])
    torch.testing.assert_close(encoder.forward_rgb(rgb[:2]), full[:2], rtol=ROUNDING, atol=ROUNDING)
    with pytest.raises(DataError) as caught:
        load().settle(rgb[:16])
    assert str(caught.value) == (
        "openvino must give the vectors that PyTorch gives.\n"
        "  eye: centred cosine 0.5000 over 16 images\n"
        "  hint: leave out --engine"
    )


def test_8_bits_are_calibrated_on_the_first_images_and_compared_on_others(
    int8: panderm.Encoder, rgb: torch.Tensor, full: torch.Tensor
) -> None:
    assert int8.record.precision == "int8"
    assert int8.record.engine_sha256 is not None
    vectors = int8.forward_rgb(rgb)
    others = centred_cosines(vectors[32:48].numpy(), full[32:48].numpy()).mean()
    assert int8.drift == pytest.approx(others, abs=1e-6)
    assert 0.8 < int8.drift < 0.99999
    assert int8.first_images == 0
    alike(int8, rgb)


def test_what_was_quantised_once_is_found_again(
    int8: panderm.Encoder, rgb: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("quantised again")

    monkeypatch.setattr(quantised, "_in_a_child", never)
    expected = int8.forward_rgb(rgb[:2])
    again, adopting = load("int8"), load("int8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PandermWarning)
        again.settle(rgb[:48])
    assert again.record == int8.record
    assert torch.equal(again.forward_rgb(rgb[:2]), expected)
    adopting.adopt(int8.record, int8.drift)
    assert (adopting.record, adopting.drift, adopting.first_images) == (int8.record, int8.drift, 0)
    assert torch.equal(adopting.forward_rgb(rgb[:2]), expected)
    with pytest.raises(AssertionError, match="quantised again"):  # other images, other scales
        load("int8").settle(rgb[1:49])
    with pytest.raises(ArtifactError, match=r"the 8-bit network .* must be in the cache") as caught:
        adopting.adopt(int8.record.model_copy(update={"engine_sha256": "0" * 64}), None)
    assert "--overwrite" in str(caught.value)


def test_a_store_goes_on_with_its_quantisation_and_refuses_another(
    int8: panderm.Encoder,
    table: panderm.Table,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = quantised.held(int8.record.engine_sha256 or "", int8.record).path
    xml, weights_of = held.read_bytes(), bytearray(held.with_suffix(".bin").read_bytes())
    seen = []

    def made(_: str, source: Path, pixels: Path, out: Path) -> None:
        seen.append(np.load(pixels, allow_pickle=False))
        out.write_bytes(xml)
        out.with_suffix(".bin").write_bytes(bytes(weights_of))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(quantised, "_in_a_child", made)
    warnings.simplefilter("ignore", PandermWarning)
    first = load("int8").embed(table, tmp_path / "x.emb", progress=False)
    assert first.card.encoder.engine_sha256 == int8.record.engine_sha256
    assert first.card.drift is not None
    # From all over the table: tables are sorted.
    assert seen[0].shape == (CALIBRATION, 3, 64, 64)
    firsts = [PREPROCESS(panderm.read_image(path)).numpy() for path in table.path[:CALIBRATION]]
    assert 10 < sum(any(np.array_equal(one, other) for other in firsts) for one in seen[0]) < 60
    # Found in the cache; and where the cache is lost, made again.
    for lost in (False, True):
        if lost:
            shutil.rmtree(tmp_path / "cache")
        again = load("int8").embed(table, tmp_path / "x.emb", progress=False)
        assert again.card.identity == first.card.identity
        assert len(seen) == 1 + lost
    assert np.array_equal(seen[1], seen[0])
    weights_of[-1] ^= 1  # what NNCF makes now is another network
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(ParentsError, match="embeddings of one folder must come from one encoder") as caught:
        load("int8").embed(table, tmp_path / "x.emb", progress=False)
    assert "they differ in: engine_sha256" in str(caught.value)


def test_a_damaged_network_in_the_cache_is_made_again(
    int8: panderm.Encoder,
    rgb: torch.Tensor,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path / "cache" / "panderm" / "openvino"
    shutil.copytree(cache / "panderm" / "openvino", home)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    damaged = quantised.held(int8.record.engine_sha256 or "", int8.record).path.with_suffix(".bin")
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1])
    left = home / ".0123.partial"
    left.mkdir()  # of a process that was killed
    asked = []

    def fails(name: str, source: Path, pixels: Path, out: Path) -> None:
        asked.append((source.is_file(), pixels.is_file()))
        raise ArtifactError("no.")

    monkeypatch.setattr(quantised, "_in_a_child", fails)
    with pytest.raises(ArtifactError, match=r"no\."):
        load("int8").settle(rgb[:48])
    assert asked == [(True, True)]
    assert "quantising eye to 8 bits on 32 images" in capsys.readouterr().err
    assert not list(home.glob(".*.partial"))


def test_a_child_that_fails_is_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        quantised._in_a_child("eye", tmp_path / "none.xml", tmp_path / "none.npy", tmp_path / "out.xml")
    assert str(caught.value).startswith(
        "eye must be quantised to 8 bits before it is used so.\n  NNCF did not end well: FileNotFoundError"
    )


@pytest.mark.skipif(os.name != "posix", reason="kills processes")
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", np.zeros((12, 3, 8, 8), dtype=np.float32))
    os.mkfifo(tmp_path / "float.xml")  # it waits there for ever
    code = (
        "import sys; from pathlib import Path; from panderm.models import quantised as q; "
        "old = q.subprocess.Popen; q.subprocess.Popen = lambda *a, **k: (c := old(*a, **k), "
        "print(c.pid, flush=True))[0]; f = Path(sys.argv[1]); "
        "q._in_a_child('eye', f / 'float.xml', f / 'pixels.npy', f / 'out.xml')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(300):
        state = Path(f"/proc/{child}/stat")
        try:
            os.kill(child, 0)
            if state.is_file() and state.read_text().rpartition(")")[2].split()[0] == "Z":
                break
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        os.kill(child, 9)
        raise AssertionError("it went on alone")


def test_what_the_engine_cannot_do_is_refused_before_any_work(
    rgb: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options, must in (
        ({"precision": "fp16"}, "the OpenVINO engine computes in fp32, bf16 or int8."),
        ({"precision": "int8", "engine": "torch"}, "precision int8 needs the OpenVINO engine."),
        ({"compile": True}, "the OpenVINO engine runs on the CPU, and compiles by itself."),
        ({"device": "meta"}, "device 'meta' must exist on this machine."),
    ):
        with pytest.raises(UsageError) as caught:
            panderm.load_encoder("random-tiny", **{"engine": "openvino"} | options)  # type: ignore[arg-type]
        assert caught.value.must == must
    with pytest.raises(UsageError, match="patch tokens need the PyTorch engine"):
        load().token_shape()
    fresh = load("int8")
    with pytest.raises(UsageError, match="a network of 8 bits must be calibrated on images first"):
        fresh.forward_rgb(rgb[:2])
    with pytest.raises(UsageError, match="at least 12 images") as caught:
        fresh.settle(rgb[:17])
    assert caught.value.found == ("found 17: 11 to calibrate on, the others to compare with float32",)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UsageError) as caught:
        panderm.load_encoder("random-tiny", engine="openvino")
    assert caught.value.must == "this engine needs the library openvino."
    assert caught.value.hint == "pip install 'panderm[openvino]'"


SIGNALLED = """
import faulthandler, gc, os, signal
import torch
import panderm

faulthandler.enable()  # as pytest does: signals have a stack of their own
signal.signal(signal.SIGINT, lambda *_: print("heard", flush=True))
for _ in range(2):
    encoder = panderm.load_encoder("random-tiny", engine="openvino", image_size=32)
    encoder.encode(torch.zeros(1, 3, 32, 32))
    last, encoder = encoder, None
last = None
gc.collect()
os.kill(os.getpid(), signal.SIGINT)
print("lives")
"""


def test_a_signal_is_heard_after_engines_have_come_and_gone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "heard\nlives\n"), done.stderr


def test_nothing_is_reported_to_anyone() -> None:
    encoder = panderm.load_encoder("random-tiny", engine="openvino")
    assert (encoder.record.engine, encoder.record.precision, encoder.first_images) == ("openvino", "fp32", 16)
    assert sys.modules["openvino_telemetry"] is None


def test_a_network_that_openvino_cannot_express_is_refused(
    rgb: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load()
    assert encoder._openvino is not None

    def fails(*_: Any, example_input: Any = None) -> None:
        raise RuntimeError("Summary:\n-- No conversion rule found for operations: aten.odd")

    monkeypatch.setattr(encoder._openvino._openvino, "convert_model", fails)
    with pytest.raises(UsageError) as caught:
        encoder.forward_rgb(rgb[:1])
    assert str(caught.value) == (
        "eye must be of a kind that OpenVINO can express.\n"
        "  -- No conversion rule found for operations: aten.odd\n"
        "  hint: leave --engine out"
    )
