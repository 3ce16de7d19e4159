"""Preprocess in its two halves: bit for bit what torchvision makes of Pillow's pixels."""

from __future__ import annotations

from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from panderm.data.preprocess import Interpolation, Preprocess

SIDE = st.integers(1, 60)


def torchvisions(preprocess: Preprocess, rgb: npt.NDArray[np.uint8]) -> torch.Tensor:
    """The transforms as a researcher writes them."""
    size = [preprocess.resize] if isinstance(preprocess.resize, int) else list(preprocess.resize)
    image = tv.resize(Image.fromarray(rgb), size, tv.InterpolationMode(preprocess.interpolation))
    cropped = tv.center_crop(image, [preprocess.crop, preprocess.crop])
    pixels = tv.pil_to_tensor(cropped).to(torch.float32).div(255)
    return tv.normalize(pixels, list(preprocess.mean), list(preprocess.std))


@settings(deadline=None, max_examples=300)
@given(
    height=SIDE,
    width=SIDE,
    resize=st.one_of(SIDE, st.tuples(SIDE, SIDE)),
    crop=SIDE,
    interpolation=st.sampled_from(get_args(Interpolation)),
    seed=st.integers(0, 1000),
)
def test_both_halves_are_the_whole_and_torchvisions(
    height: int,
    width: int,
    resize: int | tuple[int, int],
    crop: int,
    interpolation: Interpolation,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mean, std = tuple(rng.uniform(0, 1, 3)), tuple(rng.uniform(0.1, 1, 3))
    preprocess = Preprocess(resize=resize, crop=crop, interpolation=interpolation, mean=mean, std=std)
    square = preprocess.pixels(rgb)
    assert square.shape == (crop, crop, 3)
    assert square.dtype == np.uint8
    assert square.flags.c_contiguous
    assert square.flags.writeable
    made = preprocess.normalise(torch.from_numpy(square))
    assert made.is_contiguous()
    wanted = torchvisions(preprocess, rgb)
    assert torch.equal(made, wanted)
    assert torch.equal(preprocess(rgb), wanted)


def test_a_batch_is_normalised_as_its_images_are() -> None:
    rng = np.random.default_rng(0)
    preprocess = Preprocess(
        resize=20, crop=16, interpolation="bicubic", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    batch = torch.from_numpy(rng.integers(0, 256, (2, 3, 16, 16, 3), dtype=np.uint8))
    before = batch.clone()
    made = preprocess.normalise(batch)
    assert made.shape == (2, 3, 3, 16, 16)
    assert torch.equal(batch, before)
    for i in range(2):
        for j in range(3):
            assert torch.equal(made[i, j], preprocess.normalise(batch[i, j]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same_bits() -> None:
    preprocess = Preprocess(
        resize=20, crop=16, interpolation="bicubic", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    every = torch.arange(256, dtype=torch.uint8).reshape(16, 16, 1).repeat(1, 1, 3)
    assert torch.equal(preprocess.normalise(every), preprocess.normalise(every.cuda()).cpu())
