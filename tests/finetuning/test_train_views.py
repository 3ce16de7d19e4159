"""Augmented views: the published ones have the laws of torchvision's own transforms, measured in pixels."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chisquare, ks_2samp
from torchvision import transforms

from panderm.data.images import ImageError, decode
from panderm.errors import UsageError
from panderm.finetuning.views import TrainViews

SIZE = 56
DRAWS = 160
Floats = np.ndarray[Any, np.dtype[np.float64]]


def map_picture(height: int, width: int) -> np.ndarray:
    """A picture whose red says which column a pixel is of, and green which row."""
    down, across = np.mgrid[0:height, 0:width]
    rgb = np.full((height, width, 3), 128.0)
    rgb[..., 0], rgb[..., 1] = 40 + 200 * across / width, 40 + 200 * down / height
    return np.round(rgb).astype(np.uint8)


def placed(view: np.ndarray, height: int, width: int) -> Floats:
    """Measure where a view of a map picture lies: widths of its crop, centre, angle mod 180, reflected."""
    side = view.shape[0]
    v, u = (np.mgrid[0:side, 0:side] + 0.5) / side - 0.5
    inside = np.hypot(u, v) < 0.45  # where no rotation leaves a black corner
    design = np.stack([u[inside], v[inside], np.ones(inside.sum())], axis=1)
    fit = np.linalg.lstsq(design, view[inside][:, :2].astype(float), rcond=None)[0]
    matrix = (fit[:2].T - 0) / 200 * np.array([[width], [height]])  # from view to picture, in pixels
    centre = (fit[2] - 40) / 200
    wide, tall = np.sqrt(np.diag(matrix @ matrix.T))  # a rotation after the resizing leaves them
    turn = matrix / np.array([[wide], [tall]])
    reflected = np.linalg.det(turn) < 0
    if reflected:
        turn = turn @ np.diag([-1.0, 1.0])
    angle = np.degrees(np.arctan2(turn[1, 0], turn[0, 0]))
    angle = (angle + 90) % 180 - 90
    return np.array([wide * tall, wide / tall, *centre, abs(angle), reflected])


def measured(draw: Callable[[int], np.ndarray], height: int, width: int, n: int = DRAWS) -> Floats:
    return np.array([placed(draw(i), height, width) for i in range(n)])


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def saved(rgb: np.ndarray, form: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("height", "width"), [(150, 200), (190, 90)])
def test_published_views_lie_as_torchvisions(height: int, width: int) -> None:
    rgb = map_picture(height, width)
    views = replace(TrainViews.published(SIZE), hue=0.0)
    assert views.shorter == 64
    theirs = transforms.Compose(
        [
            transforms.Resize(64),
            transforms.RandomResizedCrop(SIZE, scale=(0.75, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomVerticalFlip(),
            transforms.RandomRotation(45),
        ]
    )
    image = Image.fromarray(rgb)
    ours = measured(lambda i: views(rgb, np.random.default_rng([5, i])), height, width)
    other = measured(lambda _: np.asarray(theirs(image)), height, width)
    for column in range(5):  # area, aspect, centre, angle
        assert ks_2samp(ours[:, column], other[:, column]).pvalue > 1e-3, column
    assert abs(ours[:, 5].mean() - other[:, 5].mean()) < 4 * np.sqrt(0.5 / DRAWS)
    assert ours[:, 4].max() > 42
    assert ours[:, 4].max() < 46.5


def hue_of(rgb: np.ndarray) -> float:
    return colorsys.rgb_to_hsv(*(rgb.reshape(-1, 3).mean(axis=0) / 255))[0]


def test_published_colours_are_torchvisions() -> None:
    rgb = np.full((40, 40, 3), (200, 120, 90), np.uint8)
    views = replace(TrainViews.published(SIZE), rotate=0.0)
    jitter, image = transforms.ColorJitter(hue=0.2), Image.fromarray(rgb)
    was = hue_of(rgb)

    def shift(made: np.ndarray) -> float:
        return (hue_of(made) - was + 0.5) % 1 - 0.5

    ours = [shift(views(rgb, np.random.default_rng([6, i]))) for i in range(DRAWS)]
    theirs = [shift(np.asarray(jitter(image))) for _ in range(DRAWS)]
    assert ks_2samp(ours, theirs).pvalue > 1e-3
    assert 0.18 < max(ours) < 0.21
    assert -0.21 < min(ours) < -0.18
    made = views(rgb, np.random.default_rng(1))
    assert made.max() == pytest.approx(200, abs=2)  # value and saturation stay
    assert made.min() == pytest.approx(90, abs=4)


def test_the_published_chain_is_pillows_pixel_for_pixel() -> None:
    height, width = 150, 230
    noise = np.random.default_rng(0).integers(0, 256, (15, 23, 3), dtype=np.uint8)
    rgb = np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))
    views = replace(TrainViews.published(SIZE), rotate=0.0, hue=0.0)
    whole = Image.fromarray(rgb).resize((int(64 * width / height), 64), Image.Resampling.BILINEAR)
    for seed in range(8):
        crop = views.draw(whole.height, whole.width, np.random.default_rng(seed))
        box = (crop.left, crop.top, crop.left + crop.width, crop.top + crop.height)
        wanted = np.asarray(whole.crop(box).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        wanted = wanted[:, ::-1] if crop.flip else wanted
        wanted = wanted[::-1] if crop.vertical_flip else wanted
        made = views(rgb, np.random.default_rng(seed))
        assert np.abs(made.astype(int) - wanted).max() <= 3


def test_a_rotation_is_pillows_and_its_corners_are_black() -> None:
    white = np.full((64, 64, 3), 255, np.uint8)
    views = TrainViews(64, scale=(1, 1), ratio=(1, 1), flip=0, vertical_flip=0, rotate=30)
    for seed in range(5):
        made = views(white, np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        views.draw(64, 64, rng)
        angle = 30 * (2 * rng.random() - 1)
        assert np.array_equal(made, np.asarray(Image.fromarray(white).rotate(angle)))
        assert made[32, 32].tolist() == [255] * 3
    assert (made == 0).any()


def test_default_views_lie_in_all_eight_ways_and_have_no_black_corners() -> None:
    rgb = map_picture(80, 80)
    views = replace(TrainViews.default(SIZE), jitter=0.0, hue=0.0)
    ways: dict[tuple[int, ...], int] = {}
    for i in range(400):
        view = views(rgb, np.random.default_rng([8, i])).astype(int)
        edges = (view[0].mean(0), view[-1].mean(0), view[:, 0].mean(0), view[:, -1].mean(0))
        red, green = (int(np.argmax([edge[k] for edge in edges])) for k in (0, 1))
        ways[red, green] = ways.get((red, green), 0) + 1
    assert len(ways) == 8
    assert chisquare(list(ways.values())).pvalue > 1e-3
    white = np.full((90, 120, 3), 255, np.uint8)
    assert min(int(views(white, np.random.default_rng([9, i])).min()) for i in range(50)) == 255
    coloured = TrainViews.default(SIZE)
    drawn = [coloured(np.full((9, 9, 3), 128, np.uint8), np.random.default_rng(i)).mean() for i in range(60)]
    assert 0.8 * 128 - 1 <= min(drawn) < 110
    assert 146 < max(drawn) <= 1.2 * 128 + 1


@pytest.mark.parametrize("views", [TrainViews.published(SIZE), TrainViews.default(SIZE)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_file_is_seen_as_its_picture_is(views: TrainViews, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    smooth = Image.fromarray(map_picture(30, 40)).resize((640, 480), Image.Resampling.BICUBIC)
    for rgb, most in ((map_picture(70, 100), 0.0), (np.asarray(smooth), 2.0)):
        content = saved(rgb, quality=95, exif=exif)
        for seed in range(3):
            of_file = views.of_file(content, "a.jpg", np.random.default_rng(seed))
            whole = views(decode(content, "a.jpg"), np.random.default_rng(seed))
            again = views.of_file(content, "a.jpg", np.random.default_rng(seed))
            assert of_file.shape == (SIZE, SIZE, 3)
            assert of_file.flags.c_contiguous
            assert np.abs(of_file.astype(int) - whole).mean() <= most
            assert np.array_equal(of_file, again)


def test_pictures_of_every_shape_and_kind_are_seen_and_others_named() -> None:
    views = TrainViews.published(SIZE)
    for shape in ((1, 1), (3, 500), (700, 40), (64, 64)):
        made = views(np.full((*shape, 3), 90, np.uint8), np.random.default_rng(0))
        assert made.shape == (SIZE, SIZE, 3)
    grey = map_picture(50, 60)[..., 0]
    for content in (saved(grey), saved(grey, "PNG"), saved(map_picture(50, 60), "WEBP")):
        assert views.of_file(content, "a", np.random.default_rng(0)).shape == (SIZE, SIZE, 3)
    with pytest.raises(ImageError, match="readable"):
        views.of_file(saved(grey)[:200], "cut.jpg", np.random.default_rng(0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 4},
        {"shorter": 0},
        {"scale": (0.9, 0.1)},
        {"ratio": (0, 1)},
        {"flip": 2},
        {"turn": -1},
        {"rotate": 200},
        {"jitter": -0.1},
        {"hue": 0.7},
        {"interpolation": "nearest"},
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        TrainViews(**({"size": 32} | wrong))
