"""The student: the encoder of every other reader, the method re-derived plainly, and published names."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import panderm
from panderm.errors import DataError, UsageError
from panderm.models.network import draw_weight, position_table
from panderm.pretraining.masks import MaskDrawer
from panderm.pretraining.objective import alignment
from panderm.pretraining.regressor import RegressorShape
from panderm.pretraining.student import STUDENTS, PretrainingModel, Student, VisibleEncoder, find_student

SMALL = Student("small one", 24, 3, 2, 2, layer_scale=0.1, mask_ratio=0.5, drop_path=0.0)
SIDE = 64  # 4 × 4 patches
TOLERANCE = 1e-5

Array = npt.NDArray[np.float64]


def model_of(width: int = 24, **options: Any) -> PretrainingModel:
    """A small model with every tensor drawn, so that none is at 0 or 1, where a mistake would not show."""
    shape = RegressorShape(width, 2, 3, 5)
    model = PretrainingModel(SMALL, target_dim=10, image_size=SIDE, regressor=shape, **options)
    fill(model)
    return model


def fill(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                value.copy_(draw_weight("norm.weight", value.shape, len(name)))
            elif not name.endswith("pos_embed"):
                value.copy_(draw_weight(name, value.shape, 1))


def batch(b: int = 3, *, masked: int = 7, side: int = SIDE) -> tuple[torch.Tensor, torch.Tensor]:
    grid = side // 16, side // 16
    rng = np.random.default_rng(0)
    mask = np.stack([MaskDrawer(grid, masked, "random").draw(rng) for _ in range(b)])
    pixels = torch.randn(b, 3, side, side, generator=torch.Generator().manual_seed(0))
    return pixels, torch.from_numpy(mask)


# The method once more, from its description: NumPy, one image at a time, no batch, no gather.


class Plain:
    """The forward pass of one image in double precision, by the names of the published tensors."""

    def __init__(self, model: PretrainingModel) -> None:
        self.w = {k: v.detach().double().numpy() for k, v in model.state_dict().items()}

    def norm(self, x: Array, name: str) -> Array:
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / np.sqrt(var + 1e-6) * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def linear(self, x: Array, name: str) -> Array:
        return x @ self.w[f"{name}.weight"].T + self.w.get(f"{name}.bias", np.zeros(()))

    def mlp(self, x: Array, name: str) -> Array:
        inner = self.linear(x, f"{name}.fc1")
        erf = np.vectorize(math.erf)
        return self.linear(inner * 0.5 * (1 + erf(inner / math.sqrt(2))), f"{name}.fc2")

    def attend(self, q: Array, k: Array, v: Array, heads: int) -> Array:
        out = []
        for a, b, c in zip(*(np.split(each, heads, axis=-1) for each in (q, k, v)), strict=True):
            scores = a @ b.T / math.sqrt(a.shape[-1])
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            out.append(weights / weights.sum(-1, keepdims=True) @ c)
        return np.concatenate(out, axis=-1)

    def encoder(self, pixels: Array, seen: list[int], heads: int) -> Array:
        grid = pixels.shape[-1] // 16
        kernel = self.w["encoder.patch_embed.proj.weight"]
        tokens = [self.w["encoder.cls_token"][0, 0] + self.w["encoder.pos_embed"][0, 0]]
        for n in seen:
            top, left = n // grid * 16, n % grid * 16
            patch = pixels[:, top : top + 16, left : left + 16]
            embedded = np.einsum("dchw,chw->d", kernel, patch) + self.w["encoder.patch_embed.proj.bias"]
            tokens.append(embedded + self.w["encoder.pos_embed"][0, 1 + n])
        x = np.stack(tokens)
        i = 0
        while f"encoder.blocks.{i}.gamma_1" in self.w:
            at = f"encoder.blocks.{i}"
            q, k, v = np.split(self.norm(x, f"{at}.norm1") @ self.w[f"{at}.attn.qkv.weight"].T, 3, axis=-1)
            mixed = self.attend(q + self.w[f"{at}.attn.q_bias"], k, v + self.w[f"{at}.attn.v_bias"], heads)
            x = x + self.w[f"{at}.gamma_1"] * self.linear(mixed, f"{at}.attn.proj")
            x = x + self.w[f"{at}.gamma_2"] * self.mlp(self.norm(x, f"{at}.norm2"), f"{at}.mlp")
            i += 1
        return self.norm(x, "encoder.norm")

    def __call__(self, pixels: Array, mask: list[bool], heads: int, regressor_heads: int) -> Array:
        seen = [n for n, hidden in enumerate(mask) if not hidden]
        unseen = [n for n, hidden in enumerate(mask) if hidden]
        latents = self.encoder(pixels, seen, heads)
        if "encoder_to_regresser.weight" in self.w:
            latents = self.norm(self.linear(latents, "encoder_to_regresser"), "encoder_to_regresser_norm")
        positions = self.w["rd_pos_embed"][0, 1:]
        z = np.stack([self.w["mask_token"][0, 0]] * len(unseen))
        j = 0
        while f"regresser.regressor_blocks.{j}.gamma_1_cross" in self.w:
            at = f"regresser.regressor_blocks.{j}"
            both = np.concatenate([latents[1:], z])  # without CLS
            where = np.concatenate([positions[seen], positions[unseen]])
            attn = f"{at}.cross_attn"
            q = self.linear(self.norm(z + positions[unseen], f"{at}.norm1_q"), f"{attn}.q")
            k = self.linear(self.norm(both + where, f"{at}.norm1_k"), f"{attn}.k")
            v = self.linear(self.norm(both, f"{at}.norm1_v"), f"{attn}.v")
            mixed = self.attend(
                q + self.w[f"{attn}.q_bias"], k, v + self.w[f"{attn}.v_bias"], regressor_heads
            )
            z = z + self.w[f"{at}.gamma_1_cross"] * self.linear(mixed, f"{attn}.proj")
            z = self.norm(z, f"{at}.norm2_cross")
            z = z + self.w[f"{at}.gamma_2_cross"] * self.mlp(z, f"{at}.mlp_cross")
            j += 1
        tokens: list[Array] = [latents[0], *[np.zeros(0)] * len(mask)]
        for row, n in zip(latents[1:], seen, strict=True):
            tokens[1 + n] = row
        for row, n in zip(z, unseen, strict=True):
            tokens[1 + n] = row
        return self.linear(self.norm(np.stack(tokens), "decoder.norm"), "decoder.head")


@pytest.mark.parametrize("width", [24, 16])
@pytest.mark.parametrize("masked", [1, 7, 15])
def test_the_method_re_derived_plainly_gives_the_same_tokens(width: int, masked: int) -> None:
    """Where the regressor is narrower, the visible tokens go through a linear map and a norm first."""
    model = model_of(width).eval()
    pixels, mask = batch(masked=masked)
    plain = Plain(model)
    expected = np.stack(
        [plain(x.double().numpy(), m.tolist(), 2, 3) for x, m in zip(pixels, mask, strict=True)]
    )
    with torch.no_grad():
        assert abs(model(pixels, mask).numpy() - expected).max() < 2e-5
        assert abs(model.double()(pixels.double(), mask).numpy() - expected).max() < 1e-12


def test_whole_images_are_encoded_as_by_the_encoder_everyone_loads() -> None:
    """panderm's encoder is timm's ``Beit``; the tokens are those after its final norm."""
    model = PretrainingModel("tiny", target_dim=8).eval()
    fill(model)
    encoder = panderm.load_encoder("random-tiny")
    own = {k.removeprefix("encoder."): v for k, v in model.state_dict().items() if k.startswith("encoder.")}
    encoder.network.load_state_dict(own, strict=True)
    pixels, _ = batch(2, side=224)
    with torch.no_grad():
        ours, theirs = model.encode(pixels), encoder.network.forward_features(pixels)
        assert ours.shape == (2, 197, 192)
        assert float((ours - theirs).abs().max()) < TOLERANCE
        exact = encoder.network.double().forward_features(pixels.double())
        assert float((copy.deepcopy(model).double().encode(pixels.double()) - exact).abs().max()) < 1e-12
        nothing = torch.zeros(2, 196, dtype=torch.bool)
        assert torch.equal(model(pixels, nothing), model.decoder(ours))


def test_what_is_masked_cannot_be_seen() -> None:
    model = model_of().eval()
    pixels, mask = batch()
    other = pixels.clone()
    for b, n in mask.nonzero().tolist():
        top, left = n // 4 * 16, n % 4 * 16
        other[b, :, top : top + 16, left : left + 16] = 1e6
    with torch.no_grad():
        assert torch.equal(model(pixels, mask), model(other, mask))


def test_the_order_of_a_batch_and_its_neighbours_do_not_matter() -> None:
    model = model_of().eval()
    pixels, mask = batch(4)
    turned = [2, 0, 3, 1]
    with torch.no_grad():
        whole = model(pixels, mask)
        assert torch.allclose(model(pixels[turned], mask[turned]), whole[turned], atol=TOLERANCE)
        assert torch.allclose(model(pixels[1:2], mask[1:2]), whole[1:2], atol=TOLERANCE)


# Published names


def published(
    dim: int, depth: int, width: int, inner: int, blocks: int, out: int
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published pretraining model, from their description."""
    linear = lambda name, o, i: {f"{name}.weight": (o, i), f"{name}.bias": (o,)}  # noqa: E731
    norm = lambda name, d: {f"{name}.weight": (d,), f"{name}.bias": (d,)}  # noqa: E731
    made: dict[str, tuple[int, ...]] = {"rd_pos_embed": (1, 197, width), "mask_token": (1, 1, width)}
    made |= {"encoder.cls_token": (1, 1, dim), "encoder.pos_embed": (1, 197, dim)}
    made |= {"encoder.patch_embed.proj.weight": (dim, 3, 16, 16), "encoder.patch_embed.proj.bias": (dim,)}
    for i in range(depth):
        at = f"encoder.blocks.{i}"
        made |= {f"{at}.gamma_1": (dim,), f"{at}.gamma_2": (dim,)}
        made |= {f"{at}.attn.q_bias": (dim,), f"{at}.attn.v_bias": (dim,)}
        made |= {f"{at}.attn.qkv.weight": (3 * dim, dim)} | linear(f"{at}.attn.proj", dim, dim)
        made |= norm(f"{at}.norm1", dim) | norm(f"{at}.norm2", dim)
        made |= linear(f"{at}.mlp.fc1", 4 * dim, dim) | linear(f"{at}.mlp.fc2", dim, 4 * dim)
    made |= norm("encoder.norm", dim)
    if width != dim:
        made |= linear("encoder_to_regresser", width, dim) | norm("encoder_to_regresser_norm", width)
    for j in range(blocks):
        at = f"regresser.regressor_blocks.{j}"
        made |= {f"{at}.gamma_1_cross": (width,), f"{at}.gamma_2_cross": (width,)}
        for which in ("norm1_q", "norm1_k", "norm1_v", "norm2_cross"):
            made |= norm(f"{at}.{which}", width)
        made |= {f"{at}.cross_attn.q_bias": (inner,), f"{at}.cross_attn.v_bias": (inner,)}
        made |= {f"{at}.cross_attn.{which}.weight": (inner, width) for which in "qkv"}
        made |= linear(f"{at}.cross_attn.proj", width, inner)
        made |= linear(f"{at}.mlp_cross.fc1", 4 * width, width) | linear(
            f"{at}.mlp_cross.fc2", width, 4 * width
        )
    return (
        made
        | norm("regresser.norm", width)
        | norm("decoder.norm", width)
        | linear("decoder.head", out, width)
    )


def undrawn(monkeypatch: pytest.MonkeyPatch, *args: Any, **options: Any) -> PretrainingModel:
    """A model without numbers: a Large has 350 million."""
    monkeypatch.setattr(PretrainingModel, "to_empty", lambda *_, **__: None)
    monkeypatch.setattr(PretrainingModel, "draw", lambda *_: None)
    return PretrainingModel(*args, **options)


@pytest.mark.parametrize(
    ("name", "shape", "inner", "tensors"),
    [
        ("tiny", None, 192, 186 + 2 + 23 + 4),
        ("small", None, 384, 186 + 2 + 23 + 4),
        ("base", None, 768, 186 + 2 + 86 + 4),
        ("large", None, 1020, 458),  # as counted in the published file
        ("large", RegressorShape(768, 4, 12, 64), 768, 462),
    ],
)
def test_names_and_shapes_are_the_published_ones(
    monkeypatch: pytest.MonkeyPatch, name: str, shape: RegressorShape | None, inner: int, tensors: int
) -> None:
    model = undrawn(monkeypatch, name, target_dim=768, regressor=shape)
    student = model.student
    width = shape.dim if shape else student.dim
    expected = published(student.dim, student.depth, width, inner, student.regressor_depth, 768)
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == expected
    assert len(expected) == tensors


@pytest.mark.parametrize(("name", "form"), [("large", "L_LP"), ("base", "B_LP")])
def test_the_encoder_has_the_released_tensors(name: str, form: str, shared: Path) -> None:
    shapes = json.loads((shared / "spec/state_dict_shapes.json").read_text("utf-8"))[form]
    released = {k: tuple(v) for k, v in shapes.items() if not k.startswith("head.")}
    with torch.device("meta"):
        encoder = VisibleEncoder(find_student(name), 196)
    assert {k: tuple(v.shape) for k, v in encoder.state_dict().items()} == released


def test_sizes_are_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {}
    for student in STUDENTS:
        model = undrawn(monkeypatch, student, target_dim=768)
        parts[student.name] = [
            sum(p.numel() for p in part.parameters()) for part in (model.encoder, model.regresser)
        ]
    assert [parts[name][0] for name in ("tiny", "base", "large")] == [5_526_720, 85_807_872, 303_326_208]
    assert parts["large"][1] / 1e6 == pytest.approx(50.4, abs=0.1)


def test_an_unknown_student_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="tiny, small, base, large"):
        find_student("smal")


# Weights at the start


@pytest.mark.parametrize("start", ["xavier", "truncated"])
def test_weights_start_as_published(start: Any) -> None:
    model = PretrainingModel("tiny", target_dim=384, start=start)
    state = model.state_dict()
    for key, value in state.items():
        kind = key.rpartition(".")[2]
        if "norm" in key:
            assert bool((value == (kind == "weight")).all()), key
        elif kind.startswith("gamma"):
            assert bool((value == 0.1).all()), key
        elif kind.endswith("pos_embed"):
            assert torch.equal(value, position_table(192, 14))
        elif "patch_embed" in key:
            assert float(value.abs().max()) == pytest.approx(768**-0.5, rel=0.02)
        elif kind.endswith("bias"):
            assert not bool(value.any()), key
        elif value.ndim == 2 and start == "xavier":
            reach = (6 / sum(value.shape)) ** 0.5
            assert float(value.abs().max()) == pytest.approx(reach, rel=0.01), key
            assert float(value.std()) == pytest.approx(reach / 3**0.5, rel=0.03), key
    if start == "truncated":
        assert float(state["encoder.blocks.3.mlp.fc1.weight"].std()) == pytest.approx(0.02, rel=0.03)
        assert float(state["encoder.blocks.7.mlp.fc2.weight"].std()) == pytest.approx(0.02 / 4, rel=0.03)
        cross = state["regresser.regressor_blocks.0.cross_attn.proj.weight"]
        assert float(cross.std()) == pytest.approx(0.02 / 2**0.5, rel=0.03)
    assert STUDENTS[-1].layer_scale == 1e-5


def test_drawing_weights_follows_from_the_seed_and_disturbs_nobody() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, second, third = (
        PretrainingModel(SMALL, target_dim=10, image_size=SIDE, seed=s) for s in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(first.mask_token, third.mask_token)
    wider = PretrainingModel(SMALL, target_dim=99, image_size=SIDE)
    assert torch.equal(first.encoder.blocks[2].mlp.fc1.weight, wider.encoder.blocks[2].mlp.fc1.weight)


# Training


def learned(model: PretrainingModel, seed: int = 0) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    pixels, mask = batch()
    target = torch.randn(3, 17, 10, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(seed)
    loss = alignment(model(pixels, mask), target, mask).loss
    model.zero_grad(set_to_none=True)
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("width", [24, 16])
def test_all_learns_but_the_fixed_tables_and_the_norm_that_nothing_uses(width: int) -> None:
    model = model_of(width)
    _, gradients = learned(model)
    still = {"encoder.pos_embed", "rd_pos_embed", "regresser.norm.weight", "regresser.norm.bias"}
    assert gradients.keys() == {name for name, _ in model.named_parameters()} - still
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == still
    assert all(bool(gradient.any()) for gradient in gradients.values())


def test_without_masks_all_that_may_learn_has_a_gradient() -> None:
    model = model_of(16)
    model.freeze_regressor()
    pixels, mask = batch(masked=0)
    model(pixels, mask).sum().backward()
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all(p.grad is not None for p in named.values())
    assert not any(name.startswith("regresser.") for name in named)
    assert "encoder_to_regresser.weight" in named


@pytest.mark.parametrize("drop_path", [0.0, 0.4])
def test_blocks_computed_twice_learn_the_same_to_the_bit(drop_path: float) -> None:
    kept, twice = (model_of(drop_path=drop_path) for _ in range(2))
    twice.checkpointed = True
    assert copy.deepcopy(twice).checkpointed
    (a, left), (b, right) = learned(kept), learned(twice)
    assert torch.equal(a, b)
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_stochastic_depth_rises_to_its_rate_and_keeps_the_mean() -> None:
    model = PretrainingModel(Student("deep", 24, 5, 2, 1, 0.1, 0.5, 0.4), target_dim=10, image_size=SIDE)
    torch.manual_seed(0)
    kept = model._kept(torch.zeros(4000, 3, 1, 1))
    assert kept is not None
    assert kept.shape == (5, 2, 4000)
    rates = (kept == 0).float().mean((1, 2))
    assert rates.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=0.02)
    assert kept.mean((1, 2)).tolist() == pytest.approx([1] * 5, abs=0.03)
    assert not torch.equal(kept[3, 0], kept[3, 1])  # each branch by itself


def test_a_dropped_branch_is_left_out_for_its_image_alone() -> None:
    model = model_of()
    block = model.encoder.blocks[1]
    x = torch.randn(3, 9, 24)
    kept = torch.tensor([[0.0, 2.0, 1.0], [0.0, 1.0, 0.0]])
    with torch.no_grad():
        made = block(x, kept)
        assert torch.equal(made[0], x[0])
        first = x + block.gamma_1 * block.attn(block.norm1(x))
        assert torch.allclose(made[2], first[2], atol=1e-6)
        doubled = x[1:2] + 2 * block.gamma_1 * block.attn(block.norm1(x[1:2]))
        doubled = doubled + block.gamma_2 * block.mlp(block.norm2(doubled))
        assert torch.allclose(made[1:2], doubled, atol=1e-6)


def test_stochastic_depth_draws_from_the_default_generator_in_training_only() -> None:
    model = model_of(drop_path=0.5)
    same, again, other = (learned(model, seed)[0] for seed in (0, 0, 1))
    assert torch.equal(same, again)
    assert not torch.equal(same, other)
    pixels, mask = batch()
    before = torch.random.get_rng_state()
    with torch.no_grad():
        encoded = model.encode(pixels)  # in training mode
        model.eval()
        assert torch.equal(encoded, model.encode(pixels))
        model(pixels, mask)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_bfloat16_changes_the_loss_by_its_rounding_only() -> None:
    model = model_of()
    exact, gradients = learned(model)
    with torch.autocast("cpu", torch.bfloat16):
        loss, rough = learned(model)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(exact), abs=0.01)
    for name, gradient in gradients.items():
        assert rough[name].dtype == torch.float32
        off = float((rough[name] - gradient).norm() / gradient.norm())
        if not name.endswith("norm1_k.bias"):  # the same for all keys: softmax does not see it
            assert off < 0.15, f"{name}: {off}"


def test_a_few_steps_make_the_loss_smaller() -> None:
    model = PretrainingModel(SMALL, target_dim=10, image_size=SIDE)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(40):
        losses.append(float(learned(model)[0]))
        optimizer.step()
    assert losses[0] == pytest.approx(1, abs=0.15)
    assert losses[-1] < 0.5


# What does not fit


@pytest.mark.parametrize("counts", [(3, 4), (16, 16)])
def test_masks_must_hide_equally_many_and_leave_some(counts: tuple[int, int]) -> None:
    mask = torch.stack([torch.arange(16) < count for count in counts])
    with pytest.raises(DataError, match="equally many"):
        model_of()(batch(2)[0], mask)


def test_pixels_and_masks_of_another_size_are_refused() -> None:
    model = model_of()
    pixels, mask = batch(2)
    with pytest.raises(DataError, match="64, 64"):
        model(pixels[:, :, :48, :48], mask)
    with pytest.raises(DataError, match="64, 64"):
        model.encode(pixels[0])
    with pytest.raises(DataError, match="masks must be bool"):
        model(pixels, mask.float())
    with pytest.raises(DataError, match="masks must be bool"):
        model(pixels, mask[:, :9])


@pytest.mark.parametrize(
    "options",
    [{"image_size": 100}, {"image_size": 16}, {"target_dim": 0}, {"drop_path": 1.0}, {"start": "normal"}],
)
def test_numbers_outside_their_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        PretrainingModel(SMALL, **({"target_dim": 8, "image_size": 32} | options))
