"""Two views: one crop for both, by torchvision's rules, in its filter and its colours."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional

from panderm.data.crops import resized
from panderm.data.images import ImageError, decode
from panderm.data.jitter import Jitter
from panderm.errors import UsageError
from panderm.pretraining.views import TwoViews


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(
        rng.integers(0, 256, (max(2, height // 12), max(2, width // 12), 3), dtype=np.uint8)
    )
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def saved(rgb: np.ndarray, form: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("size", [224, 64])  # of 64, all begin at every second or fourth pixel
def test_crops_have_the_areas_and_aspects_of_torchvisions(size: int) -> None:
    """The same laws: means and quantiles of crops, of a picture some of whose crops do not fit."""
    views, height, width, n = TwoViews(size, 56), 300, 520, 2000
    ours = np.array([views.draw(height, width, np.random.default_rng([7, i]))[:4] for i in range(n)])
    torch.manual_seed(0)
    blank = torch.zeros(1, height, width)
    theirs = np.array([RandomResizedCrop.get_params(blank, [0.4, 1.0], [3 / 4, 4 / 3]) for _ in range(n)])
    for measure in (
        lambda c: c[:, 2] * c[:, 3] / (height * width),
        lambda c: c[:, 3] / c[:, 2],
        lambda c: c[:, 0] / np.maximum(1, height - c[:, 2]),
        lambda c: c[:, 1] / np.maximum(1, width - c[:, 3]),
    ):
        a, b = measure(ours), measure(theirs)
        error = np.sqrt(a.var() / n + b.var() / n)
        assert abs(a.mean() - b.mean()) < 4 * error
        assert np.abs(np.quantile(a, [0.1, 0.5, 0.9]) - np.quantile(b, [0.1, 0.5, 0.9])).max() < 0.1
    assert (ours[:, 0] + ours[:, 2] <= height).all()
    assert (ours[:, 1] + ours[:, 3] <= width).all()
    assert (ours >= 0).all()


def test_crops_stay_within_pictures_of_every_size() -> None:
    views = TwoViews(16, 8, scale=(0.05, 1.0))
    for seed in range(600):
        rng = np.random.default_rng(seed)
        height, width = (int(side) for side in rng.integers(1, 140, 2))
        top, left, tall, wide, *_ = views.draw(height, width, rng)
        assert 0 <= top < top + tall <= height
        assert 0 <= left < left + wide <= width


def test_the_centre_is_taken_where_no_rectangle_fits() -> None:
    views = TwoViews(64, 56, scale=(0.9, 1.0))
    for height, width in ((40, 400), (400, 40)):
        top, left, tall, wide, *_ = views.draw(height, width, np.random.default_rng(0))
        torch.manual_seed(0)
        assert (top, left, tall, wide) == RandomResizedCrop.get_params(
            torch.zeros(1, height, width), [0.9, 1.0], [3 / 4, 4 / 3]
        )


def test_views_are_pillows_resize_of_one_crop() -> None:
    views, rgb = TwoViews(96, 84), textured(150, 230)
    for seed in range(6):
        crop = views.draw(150, 230, np.random.default_rng(seed))
        made = views(rgb, np.random.default_rng(seed))
        cut = rgb[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
        for view, size in zip(made, (96, 84), strict=True):
            wanted = np.asarray(Image.fromarray(cut).resize((size, size), Image.Resampling.BICUBIC))
            wanted = wanted[:, ::-1] if crop.flip else wanted
            assert view.shape == (size, size, 3)
            assert view.flags.c_contiguous
            assert np.abs(view.astype(int) - wanted).max() <= 2


@pytest.mark.parametrize(
    "turned", [{"flip": 1.0}, {"vertical_flip": 1.0}, {"flip": 1.0, "vertical_flip": 1.0}]
)
def test_flips_and_turns_are_numpys(turned: dict[str, float]) -> None:
    rgb, still = textured(64, 64), {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0}
    plain = TwoViews(32, 24, **still)(rgb, np.random.default_rng(7))  # type: ignore[arg-type]
    made = TwoViews(32, 24, **(still | turned), turn=1.0)(rgb, np.random.default_rng(7))  # type: ignore[arg-type]
    crop = TwoViews(32, 24, **(still | turned), turn=1.0).draw(64, 64, np.random.default_rng(7))  # type: ignore[arg-type]
    assert crop.turns
    for view, other in zip(made, plain, strict=True):
        wanted = other[:, ::-1] if crop.flip else other
        wanted = wanted[::-1] if crop.vertical_flip else wanted
        assert np.array_equal(view, np.rot90(wanted, crop.turns))


def test_how_often_a_picture_is_turned_is_the_probability_asked_for() -> None:
    views, n = TwoViews(32, 24, flip=0.3, vertical_flip=0.1, turn=0.8), 3000
    drawn = [views.draw(60, 60, np.random.default_rng([1, i])) for i in range(n)]
    for share, wanted in (
        (np.mean([d.flip for d in drawn]), 0.3),
        (np.mean([d.vertical_flip for d in drawn]), 0.1),
        (np.mean([d.turns > 0 for d in drawn]), 0.6),
        (np.mean([d.turns == 2 for d in drawn]), 0.2),
    ):
        assert abs(share - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / n)


@pytest.mark.parametrize(
    ("order", "factors", "shift"),
    [((0,), (1.4, 1, 1), 0), ((1,), (1, 0.6, 1), 0), ((2,), (1, 1, 1.4), 0), ((3,), (1, 1, 1), 0.1)],
)
def test_colours_are_torchvisions(order: tuple[int, ...], factors: tuple[float, ...], shift: float) -> None:
    rgb = textured(80, 80)
    pixels = torch.from_numpy(rgb.copy()).permute(2, 0, 1)
    change = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)
    for kind in order:
        pixels = change[kind](pixels, factors[kind]) if kind < 3 else functional.adjust_hue(pixels, shift)
    made = Jitter(order, factors, shift)(rgb)  # type: ignore[arg-type]
    off = np.abs(made.astype(int) - pixels.permute(1, 2, 0).numpy())
    if order == (3,):  # hues have 8 bits here, as in Pillow: a step is 1.4 degrees
        assert np.quantile(off, 0.99) <= 5
        assert off.mean() < 2
    else:
        assert off.max() <= 1


def test_jitter_is_drawn_within_its_bounds_and_once_for_both_views() -> None:
    drawn = [Jitter.draw(0.4, 0.1, np.random.default_rng([2, i])) for i in range(500)]
    factors = np.array([one.factors for one in drawn])
    assert factors.min() >= 0.6
    assert factors.max() <= 1.4
    assert abs(factors.mean() - 1) < 0.03
    assert max(abs(one.shift) for one in drawn) <= 0.1
    assert len({one.order for one in drawn}) == 24
    rgb = textured(100, 100)
    plain = TwoViews(64, 56)(rgb, np.random.default_rng(5))
    both = TwoViews(64, 56, jitter=0.4)(rgb, np.random.default_rng(5))
    only = TwoViews(64, 56, jitter=0.4, student_only=True)(rgb, np.random.default_rng(5))
    assert np.array_equal(only[1], plain[1])
    assert np.array_equal(only[0], both[0])
    moved = [float(b.astype(float).mean() - p.mean()) for b, p in zip(both, plain, strict=True)]
    assert abs(moved[0]) > 1
    assert abs(moved[0] - moved[1]) < 1


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_file_is_seen_as_its_picture_is_scaled_or_not(orientation: int) -> None:
    views = TwoViews(64, 56)
    exif = Image.Exif()
    exif[274] = orientation
    small = saved(textured(100, 140), quality=95, exif=exif)
    for seed in range(4):
        of_file = views.of_file(small, "a.jpg", np.random.default_rng(seed))
        whole = views(decode(small, "a.jpg"), np.random.default_rng(seed))
        assert all(np.array_equal(a, b) for a, b in zip(of_file, whole, strict=True))
    smooth = Image.fromarray(textured(36, 48)).resize((800, 600), Image.Resampling.BICUBIC)
    large = saved(np.asarray(smooth), quality=95, exif=exif)
    for seed in range(4):
        of_file = views.of_file(large, "a.jpg", np.random.default_rng(seed))
        whole = views(decode(large, "a.jpg"), np.random.default_rng(seed))
        for a, b in zip(of_file, whole, strict=True):
            assert np.abs(a.astype(int) - b).mean() < 2


def test_any_file_that_can_be_read_is_seen_and_others_are_named() -> None:
    views, rgb = TwoViews(32, 0), textured(50, 60)
    for content in (saved(rgb, "PNG"), saved(rgb, "TIFF"), saved(rgb[..., 0]), saved(rgb, "WEBP")):
        student, teacher = views.of_file(content, "a", np.random.default_rng(0))
        assert student.shape == (32, 32, 3)
        assert teacher.shape == (0, 0, 3)
    assert views(textured(1, 1), np.random.default_rng(0))[0].shape == (32, 32, 3)
    with pytest.raises(ImageError, match="readable"):
        views.of_file(saved(rgb)[:300], "cut.jpg", np.random.default_rng(0))


def test_the_other_machines_filter_is_the_same_within_two_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = textured(90, 120)
    here = resized(rgb, 64, "bicubic")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert np.abs(resized(rgb, 64, "bicubic").astype(int) - here).max() <= 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": (0.0, 1.0)},
        {"scale": (0.5, 0.4)},
        {"ratio": (2, 1)},
        {"flip": 1.5},
        {"hue": 0.6},
        {"jitter": -1},
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        TwoViews(64, 56, **wrong)
