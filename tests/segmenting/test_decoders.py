"""Decoders: each part against arithmetic written out anew; counts, a batch of one, several processes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from panderm.segmenting.decoders.batch_norm import BatchNorm
from panderm.segmenting.decoders.convolutional import ConvolutionalDecoder
from panderm.segmenting.decoders.grids import resized
from panderm.segmenting.decoders.linear import LinearDecoder
from panderm.segmenting.decoders.upernet import UPerNetDecoder

WIDTHS = (6, 6, 6, 6)


def drawn(decoder: nn.Module, seed: int = 0) -> nn.Module:
    """Every tensor off its starting value, running means and variances among them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, one in decoder.state_dict().items():
            if name.endswith("running_var"):
                one.copy_(0.5 + torch.rand(one.shape, generator=generator))
            elif one.is_floating_point():
                one.copy_(0.3 * torch.randn(one.shape, generator=generator))
    return decoder.eval()


def maps(side: int = 7, n: int = 2, widths: tuple[int, ...] = WIDTHS) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(n, D, side, side, generator=generator) for D in widths]


def bilinear(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels are areas: the middle of pixel i lies at (i + 1/2) · old / new - 1/2 of the old grid."""
    for axis, new in ((-2, height), (-1, width)):
        old = x.shape[axis]
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        high, part = np.minimum(low + 1, old - 1), at - low
        shape = [1] * x.ndim
        shape[axis] = new
        part = part.reshape(shape)
        x = np.take(x, low, axis) * (1 - part) + np.take(x, high, axis) * part
    return x


def convolved(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A convolution that keeps the grid, with zeros around, and no bias."""
    out, _, side, _ = weight.shape
    pad = side // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    made = np.zeros((len(x), out, *x.shape[-2:]))
    for i in range(side):
        for j in range(side):
            part = padded[:, :, i : i + x.shape[-2], j : j + x.shape[-1]]
            made += np.einsum("oc,nchw->nohw", weight[:, :, i, j], part)
    return made


def doubled(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A transposed convolution of 2×2 with stride 2: each pixel becomes four."""
    n, _, height, width = x.shape
    made = np.zeros((n, weight.shape[1], 2 * height, 2 * width))
    for i in range(2):
        for j in range(2):
            made[:, :, i::2, j::2] = np.einsum("co,nchw->nohw", weight[:, :, i, j], x)
    return made + bias[:, None, None]


def pooled(x: np.ndarray, side: int) -> np.ndarray:
    """Means over side × side parts, which overlap where the grid is no multiple."""
    n, channels, height, width = x.shape
    made = np.zeros((n, channels, side, side))
    for i in range(side):
        for j in range(side):
            rows = slice(i * height // side, -((-(i + 1) * height) // side))
            columns = slice(j * width // side, -((-(j + 1) * width) // side))
            made[:, :, i, j] = x[:, :, rows, columns].mean((-2, -1))
    return made


class ByHand:
    """UPerNet in evaluation, in numpy, from the tensors' published names alone."""

    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        self.w = {name: one.double().numpy() for name, one in state.items()}

    def normed(self, x: np.ndarray, name: str) -> np.ndarray:
        mean, var, weight, bias = (
            self.w[f"{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / np.sqrt(var + 1e-5) * weight + bias

    def conv(self, x: np.ndarray, name: str) -> np.ndarray:
        return np.maximum(self.normed(convolved(x, self.w[f"{name}.conv.weight"]), f"{name}.bn"), 0)

    def psp(self, x: np.ndarray) -> np.ndarray:
        context = [
            bilinear(self.conv(pooled(x, side), f"psp_modules.{i}.1"), *x.shape[-2:])
            for i, side in enumerate((1, 2, 3, 6))
        ]
        return self.conv(np.concatenate([x, *context], axis=1), "bottleneck")

    def __call__(self, taps: list[torch.Tensor]) -> np.ndarray:
        x = [one.double().numpy() for one in taps]
        up = self.normed(doubled(x[0], self.w["fpn1.0.weight"], self.w["fpn1.0.bias"]), "fpn1.1")
        up = functional.gelu(torch.from_numpy(up)).numpy()
        n, D, height, width = x[3].shape
        even = x[3][:, :, : height // 2 * 2, : width // 2 * 2]
        pyramid = [
            doubled(up, self.w["fpn1.3.weight"], self.w["fpn1.3.bias"]),
            doubled(x[1], self.w["fpn2.0.weight"], self.w["fpn2.0.bias"]),
            x[2],
            even.reshape(n, D, height // 2, 2, width // 2, 2).max((3, 5)),
        ]
        levels = [self.conv(pyramid[i], f"lateral_convs.{i}") for i in range(3)] + [self.psp(pyramid[3])]
        for i in (2, 1, 0):
            levels[i] = levels[i] + bilinear(levels[i + 1], *levels[i].shape[-2:])
        outs = [self.conv(levels[i], f"fpn_convs.{i}") for i in range(3)] + [levels[3]]
        whole = np.concatenate([bilinear(one, *outs[0].shape[-2:]) for one in outs], axis=1)
        logits = convolved(self.conv(whole, "fpn_bottleneck"), self.w["conv_seg.weight"])
        return logits + self.w["conv_seg.bias"][:, None, None]


def test_resizing_is_of_areas() -> None:
    x = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(1))
    for size in ((10, 14), (9, 23), (5, 7), (3, 2)):
        made = resized(x, size)
        assert tuple(made.shape) == (2, 3, *size)
        assert np.abs(made.numpy() - bilinear(x.double().numpy(), *size)).max() < 1e-5
    row = resized(torch.tensor([[[[0.0, 4.0]]]]), (1, 4))
    assert row.flatten().tolist() == [0, 1, 3, 4]  # a quarter of the way in, and the ends stay


def test_a_linear_decoder_is_a_product_that_can_be_counted() -> None:
    decoder = LinearDecoder([3], 2)
    assert sum(one.numel() for one in decoder.parameters()) == 3 * 2 + 2
    with torch.no_grad():
        decoder.conv_seg.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 2, -1]])[..., None, None])
        decoder.conv_seg.bias.copy_(torch.tensor([0.5, -0.5]))
    tokens = torch.tensor([[[[1.0, 2]], [[3, 4]], [[5, 6]]]])  # (1, 3, 1, 2): two patches side by side
    assert decoder([tokens]).tolist() == [[[[1.5, 2.5]], [[0.5, 1.5]]]]


def test_a_linear_decoder_puts_taps_side_by_side_on_the_finest_grid() -> None:
    decoder = drawn(LinearDecoder([2, 3], 2))
    fine, coarse = maps(6, widths=(2,))[0], maps(3, widths=(3,))[0]
    made = decoder([coarse.new_tensor(fine.numpy()), coarse]).detach().numpy()
    both = np.concatenate([fine.numpy(), bilinear(coarse.numpy(), 6, 6)], axis=1)
    wanted = convolved(both, decoder.conv_seg.weight.detach().numpy())
    assert np.abs(made - wanted - decoder.conv_seg.bias.detach().numpy()[:, None, None]).max() < 1e-5


def test_pyramid_pooling_equals_means_written_out() -> None:
    decoder = drawn(UPerNetDecoder(WIDTHS, 2, width=4))
    for side in (1, 4, 6, 7):
        x = maps(side)[0]
        made = decoder.pooled(x).detach().numpy()  # type: ignore[operator]
        wanted = ByHand(decoder.state_dict()).psp(x.double().numpy())
        assert np.abs(made - wanted).max() < 1e-5 * max(1, np.abs(wanted).max())


@pytest.mark.parametrize("side", [2, 4, 7])
def test_upernet_equals_arithmetic_written_out(side: int) -> None:
    decoder = drawn(UPerNetDecoder(WIDTHS, 3, width=5))
    made = decoder(maps(side)).detach().numpy()
    wanted = ByHand(decoder.state_dict())(maps(side))
    assert made.shape == (2, 3, 4 * side, 4 * side)
    assert np.abs(wanted).max() > 1
    assert np.abs(made - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_upernet_of_the_published_size_has_the_published_count() -> None:
    """12.59 million in the pyramid's operators, 120.61 million in the head."""
    with torch.device("meta"):
        decoder = UPerNetDecoder([1024] * 4, 2, width=1024)
    pyramid = sum(one.numel() for name, one in decoder.named_parameters() if name.startswith("fpn1."))
    pyramid += sum(one.numel() for name, one in decoder.named_parameters() if name.startswith("fpn2."))
    whole = sum(one.numel() for one in decoder.parameters())
    up = 4 * 1024 * 1024 + 1024
    assert pyramid == 3 * up + 2 * 1024
    assert (round(pyramid / 1e6, 2), round((whole - pyramid) / 1e6, 2)) == (12.59, 120.61)


def test_the_convolutional_decoder_equals_its_pyramid_written_out() -> None:
    decoder = drawn(ConvolutionalDecoder(WIDTHS, 2, width=8))
    w = {name: one.double().numpy() for name, one in decoder.state_dict().items()}

    def normed(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean((1, 2, 3), keepdims=True)  # 8 channels are one group
        scaled = centred / np.sqrt(x.var((1, 2, 3), keepdims=True) + 1e-5)
        return scaled * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]

    def smooth(x: np.ndarray, name: str) -> np.ndarray:
        return np.maximum(normed(convolved(x, w[f"{name}.0.weight"]), f"{name}.1"), 0)

    taps = [one.double().numpy() for one in maps(7)]
    x = [normed(convolved(one, w[f"lateral.{i}.0.weight"]), f"lateral.{i}.1") for i, one in enumerate(taps)]
    up = doubled(x[0], w["rescale.0.0.weight"], w["rescale.0.0.bias"])
    up = functional.gelu(torch.from_numpy(normed(up, "rescale.0.1"))).numpy()
    x[0] = doubled(up, w["rescale.0.3.weight"], w["rescale.0.3.bias"])
    x[1] = doubled(x[1], w["rescale.1.weight"], w["rescale.1.bias"])
    x[3] = x[3][:, :, :6, :6].reshape(2, 8, 3, 2, 3, 2).max((3, 5))
    for i in (2, 1, 0):
        x[i] = x[i] + bilinear(x[i + 1], *x[i].shape[-2:])
    whole = sum(bilinear(smooth(one, f"smooth.{i}"), 28, 28) for i, one in enumerate(x))
    wanted = convolved(smooth(np.asarray(whole), "fuse"), w["conv_seg.weight"])
    wanted += w["conv_seg.bias"][:, None, None]
    made = decoder(maps(7)).detach().numpy()
    assert np.abs(made - wanted).max() < 1e-5 * max(1, np.abs(wanted).max())


def test_stages_with_grids_of_their_own_keep_them() -> None:
    stages = [torch.randn(1, D, side, side) for D, side in ((4, 16), (6, 8), (8, 4), (10, 2))]
    for kind in (ConvolutionalDecoder, UPerNetDecoder):
        decoder = kind([4, 6, 8, 10], 2, width=8, rescale=False).eval()
        assert decoder(stages).shape == (1, 2, 16, 16)


@pytest.mark.parametrize("kind", [LinearDecoder, ConvolutionalDecoder, UPerNetDecoder])
def test_a_batch_of_one_learns(kind: type[nn.Module]) -> None:
    options = {} if kind is LinearDecoder else {"width": 8}
    decoder = kind(WIDTHS, 2, **options).train()
    target = torch.zeros(1, 7, 7, dtype=torch.long)
    target[:, 2:5, 2:5] = 1
    losses = []
    for _ in range(20):
        logits = resized(decoder(maps(7, n=1)), (7, 7))
        loss = functional.cross_entropy(logits, target)
        decoder.zero_grad()
        loss.backward()
        with torch.no_grad():  # signs alone: an optimiser of PyTorch's takes seconds to be imported
            for one in decoder.parameters():
                one.sub_(0.01 * one.grad.sign())  # type: ignore[union-attr]
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert all(bool(one.isfinite().all()) for one in decoder.state_dict().values())


def test_batch_norm_of_one_number_a_channel_keeps_what_it_knew() -> None:
    norm, plain = BatchNorm(3), nn.BatchNorm2d(3)
    with torch.no_grad():
        for one in (norm, plain):
            one.running_mean.copy_(torch.tensor([1.0, 2, 3]))  # type: ignore[union-attr]
            one.running_var.copy_(torch.tensor([4.0, 1, 9]))  # type: ignore[union-attr]
    x = torch.tensor([3.0, 2, 0])[None, :, None, None]
    with pytest.raises(ValueError, match="more than 1 value"):
        plain.train()(x)
    wanted = plain.eval()(x)
    assert torch.equal(norm.train()(x), wanted)
    assert norm.running_mean.tolist() == [1, 2, 3]  # type: ignore[union-attr]
    more = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(norm(more), plain.train()(more))
    assert torch.equal(norm.running_var, plain.running_var)  # type: ignore[arg-type]


def test_batch_norm_of_two_processes_is_that_of_all_their_images(tmp_path: Path) -> None:
    code = """
        import sys, torch, torch.distributed as dist
        from panderm.segmenting.decoders.batch_norm import BatchNorm
        rank, folder = int(sys.argv[1]), sys.argv[2]
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
        made = {}
        for case, sizes in {"even": (2, 2), "uneven": (1, 3), "ones": (1, 1)}.items():
            generator = torch.Generator().manual_seed(0)
            side = 1 if case == "ones" else 2
            x = torch.randn(sum(sizes), 3, side, side, generator=generator)
            weight = torch.randn(x.shape, generator=generator)
            norm = BatchNorm(3)
            with torch.no_grad():
                norm.weight.copy_(torch.tensor([1.0, 2, -1]))
                norm.bias.copy_(torch.tensor([0.5, 0, 1]))
            part = slice(0, sizes[0]) if rank == 0 else slice(sizes[0], None)
            own = x[part].clone().requires_grad_()
            (norm(own) * weight[part]).sum().backward()
            made[case] = (own.grad, norm.running_mean, norm.running_var, norm(own).detach())
        torch.save(made, f"{folder}/{rank}.pt")
        dist.destroy_process_group()
        """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen([*command, "1", str(tmp_path)]) as other:
        subprocess.run([*command, "0", str(tmp_path)], check=True, timeout=120)
        assert other.wait(timeout=120) == 0
    made = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for case, side in (("even", 2), ("uneven", 2), ("ones", 1)):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(2 if case == "ones" else 4, 3, side, side, generator=generator, requires_grad=True)
        weight = torch.randn(x.shape, generator=generator)
        norm = nn.BatchNorm2d(3)
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([1.0, 2, -1]))
            norm.bias.copy_(torch.tensor([0.5, 0, 1]))
        (norm(x) * weight).sum().backward()
        grad = torch.cat([one[case][0] for one in made])
        assert (grad - x.grad).abs().max() < 1e-5  # type: ignore[operator]
        out = torch.cat([one[case][3] for one in made])
        assert (out - norm(x)).abs().max() < 1e-5
        for one in made:
            assert (one[case][1] - norm.running_mean).abs().max() < 1e-6
            assert (one[case][2] - norm.running_var).abs().max() < 1e-5
