"""The picture of masks and predictions: its numbers by hand, its colours by place, its size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

from panderm.pretraining.masks import MaskDrawer
from panderm.pretraining.picture import draw_picture
from panderm.pretraining.student import PretrainingModel

GRID, WIDE, DIM = 4, 64, 8
N = GRID * GRID


@dataclass
class Batch:
    student: torch.Tensor
    teacher: torch.Tensor
    mask: torch.Tensor


class Fixed(torch.nn.Module):
    """Predicts what it is told, whatever it sees."""

    def __init__(self, tokens: torch.Tensor) -> None:
        super().__init__()
        self.tokens = torch.nn.Parameter(tokens)
        self.modes: list[bool] = []

    def forward(self, pixels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        self.modes.append(self.training)
        self.pixels = pixels
        return self.tokens[: len(pixels)]


class Tokens:
    def __init__(self, tokens: torch.Tensor) -> None:
        self.tokens = tokens

    def targets(self, rgb: torch.Tensor) -> torch.Tensor:
        return self.tokens[: len(rgb)]


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (3, WIDE, WIDE, 3), dtype=np.uint8))
    mask = torch.zeros(3, N, dtype=torch.bool)
    mask[:, 5:9] = True
    return Batch(pixels, pixels, mask)


def test_the_numbers_are_means_of_cosines(batch: Batch, tmp_path: Path) -> None:
    target = torch.zeros(3, 1 + N, DIM)
    target[..., 0] = 3.0  # lengths say nothing
    made = target.clone()
    made[:, 0, 1] = 3.0  # class token: 45 degrees
    made[:, 1:][batch.mask] = torch.tensor([0.0, 2.0] + [0.0] * 6)  # masked: a right angle, all alike
    made[0, 1, 0] = -1.0  # one of 36 visible patches points away
    found = draw_picture(Fixed(made), Tokens(target), batch, tmp_path / "a.png")
    assert found["cls"] == pytest.approx(2**-0.5, abs=1e-6)
    assert found["visible"] == pytest.approx(1 - 2 / 36, abs=1e-6)
    assert found["masked"] == pytest.approx(0, abs=1e-6)
    assert found["masked alike"] == pytest.approx(1, abs=1e-6)
    assert found["mean token"] == pytest.approx(1, abs=1e-6)


def test_what_one_token_would_reach_is_the_length_of_the_mean(batch: Batch, tmp_path: Path) -> None:
    target = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 1 + N, DIM)).astype(np.float32))
    found = draw_picture(Fixed(target), Tokens(target), batch, tmp_path / "a.png")
    hidden = torch.nn.functional.normalize(target[:, 1:][batch.mask], dim=1)
    best = torch.nn.functional.normalize(hidden.mean(dim=0), dim=0)
    assert found["mean token"] == pytest.approx(float((hidden @ best).mean()), abs=1e-6)
    assert found["masked"] == pytest.approx(1, abs=1e-6)


def test_maps_lie_where_their_patches_are_and_on_one_scale(batch: Batch, tmp_path: Path) -> None:
    target = torch.zeros(3, 1 + N, DIM)
    target[..., 0] = 1.0
    made = target.clone()
    made[0, 1 + 3] = torch.tensor([0.0, 1.0] + [0.0] * 6)  # the patch in the upper right corner
    draw_picture(Fixed(made), Tokens(target), batch, tmp_path / "a.png", title="epoch 1")
    with Image.open(tmp_path / "a.png") as image:
        picture = np.asarray(image.convert("RGB"))
    assert picture.shape[1] == 1200
    cell = slice(62, 62 + 226)
    left = 15 + 2 * 236
    none, all_ = (np.array(colormaps["cividis"](x)[:3]) * 255 for x in (0.0, 1.0))
    third = picture[cell, left : left + 226]
    assert np.abs(third[20, -20] - none).max() < 3
    assert np.abs(third[20, 20] - all_).max() < 3
    assert np.abs(third[-20, -20] - all_).max() < 3
    seen = picture[cell, 15 + 236 : 15 + 236 + 226]
    middle = 226 // GRID // 2
    hidden = seen[226 // GRID + middle, 226 // GRID + middle]  # patch 5 of 16: second row, second column
    assert np.abs(hidden.astype(int) - (110, 117, 126)).max() < 3


def test_a_real_student_is_left_as_it_was_and_pictures_are_replaced(tmp_path: Path) -> None:
    model = PretrainingModel("tiny", target_dim=DIM, image_size=WIDE)
    model.train()
    rng = np.random.default_rng(0)
    masks = MaskDrawer((GRID, GRID), 6, "block")
    pixels = torch.from_numpy(rng.integers(0, 256, (2, WIDE, WIDE, 3), dtype=np.uint8))
    batch = Batch(pixels, pixels, torch.from_numpy(np.stack([masks.draw(rng) for _ in range(2)])))
    target = torch.from_numpy(rng.normal(size=(2, 1 + N, DIM)).astype(np.float32))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one = draw_picture(model, Tokens(target), batch, tmp_path / "a.png")
    two = draw_picture(model, Tokens(target), batch, tmp_path / "a.png")
    assert one == two
    assert model.training
    assert all((before[name] == value).all() for name, value in model.state_dict().items())
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_the_student_is_asked_in_evaluation_with_imagenets_normalisation(
    batch: Batch, tmp_path: Path
) -> None:
    model = Fixed(torch.ones(3, 1 + N, DIM))
    draw_picture(model, Tokens(torch.ones(3, 1 + N, DIM)), batch, tmp_path / "a.png", images=2)
    assert model.modes == [False]
    assert model.pixels.shape == (2, 3, WIDE, WIDE)
    expected = (batch.student[0, 5, 7, 2] / 255 - 0.406) / 0.225
    assert float(model.pixels[0, 2, 5, 7]) == pytest.approx(float(expected), abs=1e-6)


def test_images_without_masks_have_a_picture_too(batch: Batch, tmp_path: Path) -> None:
    batch.mask[:] = False
    tokens = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 1 + N, DIM)).astype(np.float32))
    found = draw_picture(Fixed(tokens), Tokens(tokens), batch, tmp_path / "a.png")
    assert set(found) == {"cls", "visible"}
