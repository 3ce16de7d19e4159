"""What a network is run as: the same numbers, without the work that nobody asks for."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import beit, vision_transformer

import panderm
from panderm.errors import DataError
from panderm.models import inference
from panderm.models.inference import TorchEngine, class_token_form, inference_form
from panderm.models.precision import autocast, has_bfloat16

CPU = torch.device("cpu")
# ‖found - expected‖ / ‖expected‖: sums in another order, twelve blocks later.
ROUNDING = 1e-5


def drawn(network: torch.nn.Module) -> Any:
    """Give every tensor of a network numbers that matter: nothing is zero, no scale is one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
            if "norm" in name and name.endswith("weight"):
                tensor.add_(1)
    return network.eval().requires_grad_(requires_grad=False)


def small_beit(**options: Any) -> Any:
    given = {"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 3, "num_heads": 3, "num_classes": 0}
    return drawn(beit.Beit(**given | options))


def small_vit(**options: Any) -> Any:
    given = {"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 3, "num_heads": 3, "num_classes": 0}
    return drawn(vision_transformer.VisionTransformer(**given | options))


# The kinds of a Beit and of a plain vision transformer that change what a block computes.
KNOWN = {
    "PanDerm, cls": lambda: small_beit(global_pool="token", use_abs_pos_emb=True, init_values=0.1),
    "PanDerm, mean": lambda: small_beit(global_pool="avg", use_rel_pos_bias=True, init_values=0.1),
    "cls with tables": lambda: small_beit(global_pool="token", use_rel_pos_bias=True, init_values=None),
    "cls, shared table": lambda: small_beit(global_pool="token", use_shared_rel_pos_bias=True),
    "cls, no bias": lambda: small_beit(global_pool="token", qkv_bias=False),
    "cls, SwiGLU": lambda: small_beit(global_pool="token", swiglu_mlp=True, scale_mlp=True),
    "vit": lambda: small_vit(),
    "vit, registers": lambda: small_vit(reg_tokens=4, init_values=0.1, no_embed_class=True),
    "vit, mean": lambda: small_vit(global_pool="avg", class_token=False),
    "vit, mean after norm": lambda: small_vit(global_pool="avg", fc_norm=False),
    "vit, query norm": lambda: small_vit(qk_norm=True, scale_attn_norm=True, scale_mlp_norm=True),
    "vit, first norm": lambda: small_vit(pre_norm=True, qkv_bias=False),
    "vit, attention pool": lambda: small_vit(global_pool="map"),
}


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def off(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm(dim=-1).div(expected.norm(dim=-1)).max())


def run(network: Any, pixels: torch.Tensor, precision: Any = "fp32") -> torch.Tensor:
    with torch.inference_mode(), autocast(precision, CPU):
        return network(pixels).float()


@pytest.mark.parametrize("kind", KNOWN)
def test_the_form_is_the_network_to_rounding(kind: str, pixels: torch.Tensor) -> None:
    network = KNOWN[kind]()
    form = inference_form(network, "fp32", CPU)
    shorter = class_token_form(form, network, "fp32", CPU)
    expected = run(network, pixels)
    assert torch.equal(run(form, pixels), expected)
    assert off(run(shorter, pixels), expected) < ROUNDING
    # Shortened exactly where the vector is the class token's.
    assert (shorter is not form) == ("mean" not in kind and "pool" not in kind)
    # Nothing is copied: the two together hold the network's own memory.
    own = {t.data_ptr() for t in network.parameters()}
    assert {t.data_ptr() for t in form.parameters()} <= own


@pytest.mark.parametrize("kind", KNOWN)
def test_weights_cast_once_are_autocast_bit_for_bit(kind: str, pixels: torch.Tensor) -> None:
    network = KNOWN[kind]()
    fused = [module for module in network.modules() if hasattr(module, "fused_attn")]
    for module in fused:  # as the form has it
        module.fused_attn = False
    expected = run(network, pixels, "bf16")
    assert not torch.equal(expected, run(network, pixels))
    for packed in (True, False):
        form = inference_form(network, "bf16", CPU, packed=packed)
        assert torch.equal(run(form, pixels, "bf16"), expected), packed
        shorter = class_token_form(form, network, "bf16", CPU, packed=packed)
        # bfloat16 keeps 8 bits, and the class token's attention is fused.
        assert off(run(shorter, pixels, "bf16"), expected) < 2**-6
    assert inference._packing_works() or not has_bfloat16()  # emulated, it is another product
    assert all(tensor.dtype == torch.float32 for tensor in network.parameters())


def test_float16_is_cast_once_too(pixels: torch.Tensor) -> None:
    network = KNOWN["PanDerm, cls"]()
    for block in network.blocks:
        block.attn.fused_attn = False
    form = inference_form(network, "fp16", CPU)
    assert torch.equal(run(form, pixels, "fp16"), run(network, pixels, "fp16"))


def test_without_the_packed_product_weights_are_only_cast(
    pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = KNOWN["PanDerm, cls"]()
    expected = run(inference_form(network, "bf16", CPU), pixels, "bf16")
    monkeypatch.setattr(inference, "_packing_works", lambda: False)
    form = inference_form(network, "bf16", CPU)
    assert not [module for module in form.modules() if isinstance(module, inference._Packed)]
    assert torch.equal(run(form, pixels, "bf16"), expected)


def test_fewer_bits_take_half_the_memory_on_top() -> None:
    network = KNOWN["PanDerm, cls"]()
    form = inference_form(network, "bf16", CPU, packed=False)
    shorter = class_token_form(form, network, "bf16", CPU, packed=False)
    own = {t.data_ptr() for t in network.parameters()}
    added = {t.data_ptr(): t.nbytes for t in form.parameters() if t.data_ptr() not in own}
    assert sum(added.values()) <= 0.5 * sum(t.nbytes for t in network.parameters())
    # The shortened form shares all of it but its last block.
    again = {t.data_ptr(): t.nbytes for t in shorter.parameters()}
    again = {at: size for at, size in again.items() if at not in own and at not in added}
    assert 0 < sum(again.values()) < 0.5 * sum(added.values())


def test_long_sequences_keep_fused_attention() -> None:
    short, long = (small_vit(img_size=side, depth=1) for side in (64, 320))
    assert not inference_form(short, "bf16", CPU).blocks[0].attn.fused_attn
    assert inference_form(long, "bf16", CPU).blocks[0].attn.fused_attn
    assert inference_form(short, "fp32", CPU).blocks[0].attn.fused_attn
    assert short.blocks[0].attn.fused_attn  # the network itself is left alone


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_efficientnet", "vit_tiny_r_s16_p8_224", "deit_tiny_distilled_patch16_224"]
)
def test_every_other_network_is_left_as_it_is(name: str) -> None:
    network = timm.create_model(name, num_classes=0)
    known = name.startswith("vit")
    assert inference.is_known(network) == known
    if not known:
        form = inference_form(network, "bf16", CPU)
        assert form is network
        assert class_token_form(form, network, "bf16", CPU) is network


@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_vectors_and_tokens_come_from_one_pass(kind: str, precision: Any, pixels: torch.Tensor) -> None:
    network = KNOWN[kind]()
    preprocess = panderm.Preprocess(
        resize=64, crop=64, interpolation="bicubic", mean=(0.5,) * 3, std=(0.2,) * 3
    )
    engine = TorchEngine(network, preprocess, CPU)
    both = engine.run_with_tokens(pixels, precision)
    assert both is not None
    tolerance = ROUNDING if precision == "fp32" else 2**-6
    assert off(both[0], engine.run(pixels, precision)) < tolerance
    with torch.inference_mode():
        maps = network.forward_intermediates(pixels, indices=1, norm=True, intermediates_only=True)[0]
        expected = maps.permute(0, 2, 3, 1)
        if isinstance(network.norm, torch.nn.Identity):
            expected = network.fc_norm(expected)
    assert both[1].shape == (5, 4, 4, 48)
    assert off(both[1], expected) < (ROUNDING if precision == "fp32" else 0.1)


def test_rgb_is_normalised_as_the_preprocessing_does(table: panderm.Table) -> None:
    encoder = panderm.load_encoder("random-tiny", device="cpu")
    images = [panderm.read_image(path) for path in table.path[:3]]
    rgb = torch.stack([torch.from_numpy(encoder.preprocess.pixels(image)) for image in images])
    pixels = torch.stack([encoder.preprocess(image) for image in images])
    vectors = encoder.forward_rgb(rgb)
    assert vectors.dtype == torch.float32
    assert torch.equal(vectors, encoder.encode(pixels))
    assert off(vectors, run(encoder.network, pixels)) < ROUNDING
    torch.nn.Linear(192, 2)(vectors).sum().backward()  # one may train on it
    both = encoder.forward_rgb(rgb, tokens=True)
    assert off(both[0], vectors) < ROUNDING
    assert (both[1].dtype, tuple(both[1].shape)) == (torch.float16, (3, 14, 14, 192))
    torch.testing.assert_close(both[1].float(), encoder.tokens(pixels), rtol=1e-3, atol=1e-3)
    shape = encoder.token_shape()
    assert (shape.grid, shape.dim) == ((14, 14), 192)
    assert encoder.forward_rgb(rgb[:0]).shape == (0, 192)
    for wrong in (rgb.float(), rgb[:, :100], rgb[0], rgb.permute(0, 3, 1, 2)):
        with pytest.raises(DataError, match=r"images must be uint8 of shape \(n, 224, 224, 3\)"):
            encoder.forward_rgb(wrong)


def test_several_threads_may_encode_while_the_form_is_made(pixels: torch.Tensor) -> None:
    network = KNOWN["PanDerm, cls"]()
    preprocess = panderm.Preprocess(
        resize=64, crop=64, interpolation="bicubic", mean=(0.5,) * 3, std=(0.2,) * 3
    )
    engine = TorchEngine(network, preprocess, CPU)
    found: list[torch.Tensor] = []
    start = threading.Barrier(6)

    def work() -> None:
        start.wait()
        found.append(engine.run(pixels, "bf16"))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(torch.equal(one, found[0]) for one in found)
    assert len(engine._forms) == 2


def test_a_timm_encoder_runs_as_its_form(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    save_file(drawn(timm.create_model("test_vit", num_classes=0)).state_dict(), weights)
    encoder = panderm.load_encoder("timm:test_vit", weights=weights, device="cpu")
    pixels = torch.randn(3, 3, 160, 160)
    assert off(encoder.encode(pixels), run(encoder.network, pixels)) < ROUNDING
    assert encoder._torch.form("fp32") is not encoder.network
