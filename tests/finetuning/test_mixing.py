"""Mixup and CutMix: timm's pixels and labels where it has them, and a law that no generator remembers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import beta, ks_2samp, kstest
from timm.data.mixup import Mixup, rand_bbox

from panderm.errors import UsageError
from panderm.finetuning.mixing import Mix

N, K, SIDE = 6, 4, 24


def batch(n: int = N) -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(1)
    return torch.rand(n, 3, SIDE, SIDE, generator=made), torch.eye(K)[torch.arange(n) % K]


@pytest.mark.parametrize(("mix", "kind"), [(Mix(cutmix=0), "mixup"), (Mix(mixup=0), "cutmix")])
def test_pixels_and_labels_are_timms(mix: Mix, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        pixels, targets = batch()
        drawn = mix.draw((0, 1, number), SIDE, SIDE)
        assert drawn.kind == kind
        theirs = Mixup(label_smoothing=0.0, num_classes=K)
        monkeypatch.setattr(theirs, "_params_per_batch", lambda d=drawn: (d.share, d.kind == "cutmix"))
        box = (drawn.top, drawn.bottom, drawn.left, drawn.right)
        monkeypatch.setattr(
            "timm.data.mixup.cutmix_bbox_and_lam", lambda *_, d=drawn, b=box, **__: (b, d.share)
        )
        wanted, labels = theirs(pixels.clone(), targets.argmax(dim=1))
        made = mix.apply(pixels.clone(), targets, key=(0, 1, number))
        assert made.drawn == drawn
        assert torch.allclose(made.pixels, wanted, atol=1e-6)
        assert torch.allclose(made.targets, labels.float(), atol=1e-6)


def test_shares_boxes_and_kinds_have_their_laws() -> None:
    mix, n = Mix(), 700
    drawn = [mix.draw((3, i), SIDE, SIDE) for i in range(n)]
    mixup = [one.share for one in drawn if one.kind == "mixup"]
    assert kstest(mixup, beta(0.8, 0.8).cdf).pvalue > 1e-3
    assert abs(len(mixup) / n - 0.5) < 4 * np.sqrt(0.25 / n)
    np.random.seed(0)  # noqa: NPY002 (timm draws from it)
    area = []
    for _ in range(n - len(mixup)):
        top, bottom, left, right = rand_bbox((1, 3, SIDE, SIDE), np.random.beta(1, 1))  # noqa: NPY002
        area.append((bottom - top) * (right - left) / SIDE**2)
    cut = [one for one in drawn if one.kind == "cutmix"]
    assert ks_2samp([1 - one.share for one in cut], area).pvalue > 1e-3
    assert all(0 <= o.top <= o.bottom <= SIDE and 0 <= o.left <= o.right <= SIDE for o in cut)
    half = [Mix(probability=0.3).draw((4, i), SIDE, SIDE).kind != "none" for i in range(n)]
    assert abs(np.mean(half) - 0.3) < 4 * np.sqrt(0.21 / n)
    often = [Mix(switch=0.9).draw((5, i), SIDE, SIDE).kind == "cutmix" for i in range(n)]
    assert abs(np.mean(often) - 0.9) < 4 * np.sqrt(0.09 / n)


def test_a_mix_follows_from_its_key_alone() -> None:
    mix = Mix()
    first = mix.draw((1, 2, 3), 224, 224)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    mix.draw((9, 9, 9), 224, 224)
    assert mix.draw((1, 2, 3), 224, 224) == first
    assert len({mix.draw((1, 2, place), 224, 224) for place in range(50)}) > 45  # some boxes are empty
    assert mix.draw((np.int64(1), 2, 3), 224, 224) == first  # type: ignore[arg-type]


@pytest.mark.parametrize("mix", [Mix(cutmix=0), Mix(mixup=0)])
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_batches_of_any_number_are_mixed(mix: Mix, n: int) -> None:
    pixels, targets = batch(n)
    made = mix.apply(pixels.clone(), targets, key=(0, 0, 2))
    assert made.pixels.shape == pixels.shape
    assert torch.allclose(made.targets.sum(dim=1), torch.ones(n))
    if n == 5:  # the middle one has no partner
        assert torch.allclose(made.pixels[2], pixels[2], atol=1e-6)
        assert torch.equal(made.targets[2], targets[2])
        assert not torch.allclose(made.pixels[0], pixels[0])
    else:
        assert torch.equal(made.pixels, pixels) == (n < 2)


def test_what_is_not_known_stays_unknown_and_nothing_mixed_is_left_alone() -> None:
    pixels, targets = batch(4)
    targets[0, 1] = torch.nan
    made = Mix().apply(pixels.clone(), targets, key=(0, 0, 1))
    assert made.drawn.kind != "none"
    assert made.targets.isnan().nonzero().tolist() == [[0, 1], [3, 1]]
    for still in (Mix(probability=0), Mix(mixup=0, cutmix=0)):
        assert not still.active
        same = still.apply(pixels, targets, key=(0, 0, 1))
        assert same.pixels is pixels
        assert same.targets is targets


@pytest.mark.parametrize(
    "wrong", [{"mixup": -1}, {"cutmix": float("inf")}, {"probability": 2}, {"switch": -1}]
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="0 or more"):
        Mix(**wrong)
