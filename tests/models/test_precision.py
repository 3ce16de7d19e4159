"""Fewer bits are used where the hardware has them, and only while the vectors stay what they were."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.errors import PandermWarning, UsageError
from panderm.models import encoder as encoders
from panderm.models import precision


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def drifts(monkeypatch: pytest.MonkeyPatch, by: float) -> None:
    monkeypatch.setattr(encoders, "likeness", lambda *_: by)


def test_the_precision_asked_for_is_checked_once_and_kept(pixels: torch.Tensor) -> None:
    full = panderm.load_encoder("random-tiny", image_size=64, device="cpu").encode(pixels)
    encoder = panderm.load_encoder("random-tiny", image_size=64, precision="bf16", device="cpu")
    assert encoder.drift is None
    found = encoder.encode(pixels)
    assert encoder.record.precision == "bf16"
    assert encoder.drift == pytest.approx(precision.likeness(found, full), abs=1e-6)
    assert precision.LEAST < encoder.drift < 1
    assert not torch.equal(found, full)


def test_what_drifts_falls_back_to_fp32_and_says_so(
    pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    drifts(monkeypatch, 0.5)
    full = panderm.load_encoder("random-tiny", image_size=64, device="cpu").encode(pixels)
    encoder = panderm.load_encoder("random-tiny", image_size=64, precision="bf16", device="cpu")
    with pytest.warns(PandermWarning) as told:
        found = encoder.encode(pixels)
    assert str(told[0].message) == (
        "random-tiny: bf16 changes the vectors (centred cosine to fp32 0.5000 over 8 images, "
        "0.99 is wanted): going on with fp32"
    )
    assert encoder.record.precision == "fp32"
    assert torch.equal(found, full)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode(pixels)  # said once


def test_auto_takes_what_the_hardware_has(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for have, expected in ((True, "bf16"), (False, "fp32")):
        for name in ("avx512_bf16", "amx_tile"):
            monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda have=have: have, raising=False)
        assert precision.choose("auto", cpu) == expected
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 0))
    assert precision.choose("auto", torch.device("cuda")) == "fp16"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert precision.choose("auto", torch.device("cuda")) == "bf16"
    assert precision.choose("auto", torch.device("mps")) == "fp16"
    with pytest.raises(UsageError, match="precision must be auto, fp32, bf16, fp16 or int8"):
        precision.choose("half", cpu)  # type: ignore[arg-type]


@pytest.mark.parametrize(("has", "told"), [(False, True), (True, False)])
def test_who_asks_for_what_the_processor_emulates_is_told(
    has: bool, told: bool, table: panderm.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(precision, "has_bfloat16", lambda: has)
    cpu = torch.device("cpu")
    assert precision.is_emulated("bf16", cpu) is told
    assert not precision.is_emulated("fp32", cpu)
    assert not precision.is_emulated("bf16", torch.device("cuda"))
    csv = tmp_path / "few.csv"
    csv.write_text("image\n" + "\n".join(map(str, table.path[:4])) + "\n")
    words = ["embed", str(csv), "--encoder", "random-tiny", "--image-size", "64", "--precision", "bf16", "-q"]
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "x.emb")])
    assert result.exit_code == 0, result.output
    assert ("this processor has no products in bf16" in result.stderr) is told


def test_auto_stays_in_fp32_until_it_has_seen_enough_images(
    pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    full = panderm.load_encoder("random-tiny", image_size=64, device="cpu")
    encoder = panderm.load_encoder("random-tiny", image_size=64, precision="auto", device="cpu")
    assert torch.equal(encoder.encode(pixels[:2]), full.encode(pixels[:2]))
    assert encoder.drift is None
    encoder.encode(pixels)
    assert encoder.drift is not None
    assert not torch.equal(encoder.encode(pixels[:2]), full.encode(pixels[:2]))


@pytest.mark.parametrize(("drift", "kept"), [(0.999, "bf16"), (0.5, "fp32")])
def test_embeddings_say_what_was_used_and_go_on_with_it(
    drift: float, kept: str, table: panderm.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drifts(monkeypatch, drift)
    few = table.select(slice(0, 12))
    for _ in range(2):  # the second time it finds the folder and goes on with it
        encoder = panderm.load_encoder("random-tiny", image_size=64, precision="bf16", device="cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PandermWarning)
            made = encoder.embed(few, tmp_path / "x.emb", progress=False)
        assert made.card.encoder.precision == kept
        assert made.card.drift == drift


def test_one_image_many_times_over_settles_nothing(pixels: torch.Tensor) -> None:
    encoder = panderm.load_encoder("random-tiny", image_size=64, precision="bf16", device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode(pixels[:1].repeat(6, 1, 1, 1))
    assert encoder.drift is None
    encoder.encode(pixels)
    assert encoder.drift is not None


def test_likeness_sees_what_a_plain_cosine_hides() -> None:
    generator = torch.Generator().manual_seed(0)
    shared, own = torch.randn(1, 64, generator=generator) * 20, torch.randn(16, 64, generator=generator)
    other = torch.randn(16, 64, generator=generator)
    plain = torch.nn.functional.cosine_similarity(shared + own, shared + other)
    assert float(plain.min()) > 0.98
    assert abs(precision.likeness(shared + own, shared + other)) < 0.2
    assert precision.likeness(shared + own, shared + own) == pytest.approx(1)
    assert precision.likeness(shared.repeat(4, 1), shared.repeat(4, 1)) == 0
    assert precision.likeness(torch.full((4, 3), torch.nan), torch.ones(4, 3)) == 0


def test_a_compiled_network_is_what_runs(pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler itself is PyTorch's: what is tested is that what it gives is the one that runs."""
    asked: list[torch.nn.Module] = []

    def compiled(network: torch.nn.Module) -> object:
        asked.append(network)
        return lambda x: network(x) * 2

    monkeypatch.setattr(torch, "compile", compiled)
    plain = panderm.load_encoder("random-tiny", image_size=64, device="cpu").encode(pixels[:4])
    assert not asked
    encoder = panderm.load_encoder("random-tiny", image_size=64, compile=True, device="cpu")
    assert torch.equal(encoder.encode(pixels[:4]), plain * 2)
    assert torch.equal(encoder.encode(pixels[:4]), plain * 2)
    assert len(asked) == 1
    # The short last batch is neither padded nor compiled for.
    torch.testing.assert_close(encoder.encode(pixels[:3]), plain[:3], rtol=0, atol=1e-5)
    assert len(asked) == 1


def test_images_that_only_settle_the_precision_are_not_what_is_compiled_for(
    pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(torch, "compile", lambda network: lambda x: sizes.append(len(x)) or network(x))
    encoder = panderm.load_encoder("random-tiny", image_size=64, compile=True, precision="bf16", device="cpu")
    encoder.settle((torch.randn(8, 64, 64, 3) * 50 + 128).clamp(0, 255).to(torch.uint8))
    assert encoder.drift is not None
    assert not sizes
    encoder.encode(pixels[:5])
    assert sizes == [5]
