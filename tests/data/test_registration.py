"""Two pictures laid over each other: one photograph is found again, cropped, turned, mirrored, scaled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from panderm.data.registration import Points, register

Pixels = npt.NDArray[np.uint8]


def texture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    pixels = np.zeros((240, 320, 3))
    for cells in (4, 10, 25, 60):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += np.asarray(coarse.resize((320, 240), Image.Resampling.BICUBIC), dtype=float) / cells**0.5
    low, high = pixels.min(), pixels.max()
    return Image.fromarray((30 + 200 * (pixels - low) / (high - low)).astype(np.uint8))


def points(image: Image.Image) -> Points:
    return Points(np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    ("change", "scale", "turn", "mirrored"),
    [
        (lambda i: i, 1.0, 0, False),
        (lambda i: i.crop((40, 20, 300, 220)), 1.0, 0, False),
        (lambda i: i.crop((100, 60, 260, 180)), 1.0, 0, False),
        (lambda i: i.rotate(30, Image.Resampling.BICUBIC), 1.0, 30, False),
        (lambda i: i.rotate(-50, Image.Resampling.BICUBIC), 1.0, 310, False),
        (lambda i: i.resize((200, 150), Image.Resampling.BICUBIC), 1.6, 0, False),
        (lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 1.0, 0, True),
        (lambda i: i.resize((1280, 960), Image.Resampling.BICUBIC), 1.0, 0, False),  # shrunk to one size
    ],
)
def test_one_photograph_is_laid_over_itself(
    change: Callable[[Image.Image], Image.Image], scale: float, turn: float, mirrored: bool
) -> None:
    image = texture(1)
    found = register(points(image), points(change(image)))
    assert found is not None
    assert found.mirrored == mirrored
    assert found.scale == pytest.approx(scale, rel=0.02)
    assert abs((found.turn - turn + 180) % 360 - 180) < 1.0
    assert found.correlation > 0.8
    assert found.overlap > 0.5
    assert found.points >= 10


def test_two_photographs_are_not() -> None:
    many = [points(texture(seed)) for seed in range(2, 8)]
    found = [register(a, b) for i, a in enumerate(many) for b in many[i + 1 :]]
    assert all(one is None or one.correlation < 0.3 for one in found)


def test_a_black_frame_alike_makes_no_photograph_alike() -> None:
    """The corners that a turn leaves black are the same in every picture so turned."""
    turned = [texture(seed).rotate(45, Image.Resampling.BICUBIC) for seed in (1, 2, 3)]
    for one in turned[1:]:
        found = register(points(turned[0]), points(one))
        assert found is None or found.correlation < 0.3 or found.points < 10


@pytest.mark.parametrize("shape", [(1, 1), (3, 900), (40, 40)])
def test_nothing_to_be_known_by_is_no_match(shape: tuple[int, int]) -> None:
    flat = Points(np.full((*shape, 3), 90, np.uint8))
    assert len(flat) == 0
    assert register(flat, flat) is None
    assert register(flat, points(texture(1))) is None
