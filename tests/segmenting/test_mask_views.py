"""Views of pictures with masks: one geometry for both, to the pixel, however the picture is decoded."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from panderm.data import crops
from panderm.data.images import ImageError, decode
from panderm.data.jitter import Tones
from panderm.data.preprocess import Interpolation
from panderm.errors import DataError, UsageError
from panderm.segmenting.learning import views as views_module
from panderm.segmenting.learning.views import MaskViews
from panderm.segmenting.network import SegmentationInput

SIZE = 48
Array = np.ndarray[Any, Any]
# Everything that moves, and nothing that colours.
MOVING = replace(MaskViews.default(SIZE), jitter=0.0, hue=0.0, rotate=45.0, interpolation="bilinear")


def disc(height: int, width: int, x: float, y: float, radius: float) -> tuple[Array, Array]:
    """Draw a bright disc with its centre between pixels: its rim smooth in the picture, cut in the mask."""
    down, across = np.mgrid[0:height, 0:width]
    inside = radius - np.hypot(across + 0.5 - x, down + 0.5 - y)
    grey = np.round(np.clip(inside + 0.5, 0, 1) * 200 + 30).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1), inside >= 0


def centre(weight: Array) -> tuple[float, float]:
    """Return where something lies, x and y, in pixels from the corner of the view."""
    down, across = np.mgrid[0 : weight.shape[0], 0 : weight.shape[1]]
    total = weight.sum()
    return float(((across + 0.5) * weight).sum() / total), float(((down + 0.5) * weight).sum() / total)


def brightness(rgb: Array) -> Array:
    return (rgb[..., 0].astype(float) - 30).clip(0)


def saved(rgb: Array, form: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, form, **options)
    return buffer.getvalue()


def test_under_thousands_of_views_a_mask_is_what_the_picture_of_it_becomes() -> None:
    mask = np.random.default_rng(0).random((12, 16)).repeat(6, 0).repeat(6, 1) > 0.6
    rgb = np.repeat(mask[..., None].astype(np.uint8) * np.uint8(255), 3, axis=-1)
    ways = set()
    for i in range(2000):
        seen, inside = MOVING(rgb, mask, np.random.default_rng([1, i]))
        assert np.array_equal(seen[..., 0] >= 128, inside), i
        ways.add(inside.tobytes())
    assert len(ways) == 2000


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_disc_in_the_picture_is_the_disc_of_the_mask(interpolation: Any) -> None:
    views = replace(MOVING, interpolation=interpolation)
    rgb, mask = disc(90, 120, 55.3, 47.8, 21.4)
    wrong, beside = [], []
    for i in range(400):
        seen, inside = views(rgb, mask, np.random.default_rng([2, i]))
        wrong.append(int(((seen[..., 0] >= 130) != inside).sum()))
        beside.append(np.subtract(centre(seen[..., 0] >= 130), centre(inside)))
    # On a rim of some 80 pixels a smooth and a cut edge may round to either side: to none more often.
    assert max(wrong) <= 16
    assert np.mean(wrong) < 5
    assert np.abs(beside).max() < 0.25
    assert np.abs(np.mean(beside, axis=0)).max() < 0.02


@pytest.mark.parametrize("shape", [(90, 120), (31, 27), (300, 220), (48, 48)])
def test_nothing_is_moved_by_part_of_a_pixel(shape: tuple[int, int]) -> None:
    height, width = shape
    beside = []
    for x, y, radius in np.random.default_rng(10).uniform([0.4, 0.4, 0.2], [0.6, 0.6, 0.3], (60, 3)):
        rgb, mask = disc(height, width, x * width, y * height, radius * min(shape))
        seen, inside = MaskViews.whole(SIZE)(rgb, mask, np.random.default_rng(0))
        assert centre(brightness(seen)) == pytest.approx((x * SIZE, y * SIZE), abs=0.06)
        native = centre(mask)  # a cut disc lies a little beside its centre
        wanted = native[0] / width * SIZE, native[1] / height * SIZE
        beside.append(np.subtract(centre(inside), wanted))
    # Cut at half a pixel each mask rounds by itself: none of them to one side.
    assert np.abs(beside).max() < 0.4
    assert np.abs(np.mean(beside, axis=0)).max() < 0.04


def test_a_crop_and_a_rotation_lie_where_they_were_drawn() -> None:
    rgb, mask = disc(90, 120, 61.3, 44.6, 16.0)
    for i in range(60):
        views = replace(MOVING, scale=(0.8, 1.0), rotate=0.0, flip=0.0, vertical_flip=0.0, turn=0.0)
        crop = views._draw(90, 120, np.random.default_rng([3, i]))
        wanted = (61.3 - crop.left) / crop.width * SIZE, (44.6 - crop.top) / crop.height * SIZE
        seen, inside = views(rgb, mask, np.random.default_rng([3, i]))
        assert centre(brightness(seen)) == pytest.approx(wanted, abs=0.05)
        assert centre(inside) == pytest.approx(wanted, abs=0.25)
    # About the middle a rotation moves nothing; beside it, by its angle, counter-clockwise.
    views = MaskViews(SIZE, rotate=40.0)
    for i in range(20):
        rng = np.random.default_rng([4, i])
        views._draw(SIZE, SIZE, rng)
        angle = np.radians(40 * (2 * rng.random() - 1))
        for x, y in ((24.0, 24.0), (29.2, 20.5)):
            rgb, mask = disc(SIZE, SIZE, x, y, 9.0)
            seen, inside = views(rgb, mask, np.random.default_rng([4, i]))
            across, down = x - 24, y - 24
            wanted = (
                24 + across * np.cos(angle) + down * np.sin(angle),
                24 - across * np.sin(angle) + down * np.cos(angle),
            )
            assert centre(brightness(seen)) == pytest.approx(wanted, abs=0.06)
            assert centre(inside) == pytest.approx(wanted, abs=0.25)


def test_flips_and_quarter_turns_are_exact() -> None:
    noise = np.random.default_rng(5)
    rgb = noise.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    mask = noise.random((60, 80)) > 0.5
    plain = crops.resized(rgb, SIZE, "bicubic"), MaskViews.whole(SIZE)(rgb, mask, noise)[1]
    for options, turned in (
        ({"flip": 1.0}, lambda a: a[:, ::-1]),
        ({"vertical_flip": 1.0}, lambda a: a[::-1]),
        ({"flip": 1.0, "vertical_flip": 1.0}, lambda a: a[::-1, ::-1]),
    ):
        found = MaskViews(SIZE, **options)(rgb, mask, noise)  # type: ignore[arg-type]
        for one, other in zip(found, plain, strict=True):
            assert np.array_equal(one, turned(other))  # type: ignore[no-untyped-call]
    seen = set()
    for i in range(40):
        picture, inside = MaskViews(SIZE, turn=1.0)(rgb, mask, np.random.default_rng([6, i]))
        (k,) = (k for k in range(4) if np.array_equal(picture, np.rot90(plain[0], k)))
        assert np.array_equal(inside, np.rot90(plain[1], k))
        seen.add(k)
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize("shape", [(600, 800), (437, 611)])
def test_a_jpeg_that_is_decoded_smaller_stays_with_its_mask(
    orientation: int, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    by: list[int] = []

    def noted(*given: Any, **options: Any) -> Any:
        found = crops.decode_scaled(*given, **options)
        by.append(found[1])
        return found

    monkeypatch.setattr(views_module, "decode_scaled", noted)
    exif = Image.Exif()
    exif[274] = orientation
    height, width = shape
    rgb, _ = disc(height, width, 0.46 * width, 0.55 * height, 0.23 * height)
    content = saved(rgb, quality=95, exif=exif)
    upright = decode(content, "a.jpg")
    mask = upright[..., 0] >= 130
    for size in (24, 48):
        views = replace(MOVING, size=size)
        for i in range(25):
            seen, inside = views.of_file(content, mask, "a.jpg", np.random.default_rng([7, i]))
            whole, same = views(upright, mask, np.random.default_rng([7, i]))
            assert np.array_equal(inside, same)
            assert np.abs(seen.astype(int) - whole).mean() < 1.5
            assert ((seen[..., 0] >= 130) != inside).sum() <= 0.1 * size
    assert max(by) >= (8 if shape == (600, 800) else 4 if orientation == 1 else 1)
    by.clear()
    MaskViews.whole(24).of_file(content, mask, "a.jpg", np.random.default_rng(0))
    assert by == [1]


def test_other_files_are_seen_as_their_pixels_are_and_strangers_refused() -> None:
    rgb, mask = disc(70, 100, 40, 30, 20)
    for form in ("PNG", "WEBP", "BMP"):
        content = saved(rgb, form)
        found = MaskViews.default(SIZE).of_file(content, mask, "a", np.random.default_rng(1))
        wanted = MaskViews.default(SIZE)(decode(content, "a"), mask, np.random.default_rng(1))
        assert all(np.array_equal(one, other) for one, other in zip(found, wanted, strict=True))
    with pytest.raises(ImageError, match="100 × 70 pixels, its mask 70 × 100"):
        MOVING.of_file(saved(rgb), mask.T, "a.jpg", np.random.default_rng(0))
    with pytest.raises(DataError, match="of the size of its picture"):
        MOVING(rgb, mask[1:], np.random.default_rng(0))
    with pytest.raises(DataError, match="uint8"):
        MOVING(rgb, mask.astype(np.uint8), np.random.default_rng(0))
    for shape in ((1, 1), (3, 500), (700, 40)):
        seen, inside = MOVING(
            np.full((*shape, 3), 90, np.uint8), np.ones(shape, bool), np.random.default_rng(0)
        )
        assert seen.shape == (SIZE, SIZE, 3)
        assert inside.all()


def test_crops_are_squashed_as_the_whole_picture_is() -> None:
    views = replace(MaskViews.default(SIZE), ratio=(1.0, 1.0))
    for i in range(50):
        crop = views._draw(450, 900, np.random.default_rng(i))
        assert crop.width / crop.height == pytest.approx(2.0, rel=0.02)
        assert 0.49 <= crop.width * crop.height / (450 * 900) <= 1
    rgb, mask = disc(90, 180, 90, 45, 20)
    _, inside = MaskViews.whole(SIZE)(rgb, mask, np.random.default_rng(0))
    given = {"resize": (SIZE, SIZE), "crop": SIZE, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    names: tuple[Interpolation, ...] = ("bicubic", "bilinear", "lanczos")
    for name in names:  # as it is seen when its mask is predicted
        found, _ = MaskViews.whole(SIZE, name)(rgb, mask, np.random.default_rng(0))
        wanted = SegmentationInput.model_validate(given | {"interpolation": name})
        assert np.array_equal(found, wanted.pixels(rgb))
    assert inside.any(axis=0).sum() == pytest.approx(40 / 180 * SIZE, abs=1.1)
    assert inside.any(axis=1).sum() == pytest.approx(40 / 90 * SIZE, abs=1.1)


def test_a_mask_is_inside_where_at_least_half_of_a_pixel_is() -> None:
    mask = np.zeros((96, 96), bool)
    mask[10:50, 21:60] = True  # 21 is in the middle of a pixel of the view
    _, inside = MaskViews.whole(SIZE)(np.zeros((96, 96, 3), np.uint8), mask, np.random.default_rng(0))
    assert np.flatnonzero(inside.any(axis=1)).tolist() == list(range(5, 25))
    assert np.flatnonzero(inside.any(axis=0)).tolist()[1:] == list(range(11, 30))
    for full in (True, False):
        _, inside = MOVING(np.zeros((9, 7, 3), np.uint8), np.full((9, 7), full), np.random.default_rng(0))
        assert (inside == full).all()


def test_published_views_change_colours_alone_and_do_so_as_torchvision() -> None:
    rgb = np.random.default_rng(8).integers(20, 200, (SIZE, SIZE, 3), dtype=np.uint8)
    mask = rgb[..., 0] > 90
    views = MaskViews.published(SIZE)
    drawn = [views(rgb, mask, np.random.default_rng([9, i])) for i in range(300)]
    assert all(np.array_equal(inside, mask) for _, inside in drawn)
    grey = np.mean([(seen.min(-1) == seen.max(-1)).all() for seen, _ in drawn])
    assert grey == pytest.approx(0.2, abs=0.07)
    inverted = [np.corrcoef(seen.mean(-1).ravel(), rgb.mean(-1).ravel())[0, 1] < 0 for seen, _ in drawn]
    assert np.mean(inverted) == pytest.approx(0.2, abs=0.07)
    for only, wanted in (
        (Tones(invert=1.0), 255 - rgb),
        (Tones(stretch=1.0), np.asarray(ImageOps.autocontrast(Image.fromarray(rgb)))),
        (Tones(grey=1.0), np.asarray(ImageOps.grayscale(Image.fromarray(rgb)).convert("RGB"))),
        (Tones(), rgb),
    ):
        found = only(rgb, np.random.default_rng(0))
        assert np.abs(found.astype(int) - wanted).max() <= 1
    flat = np.full((4, 4, 3), 7, np.uint8)
    assert np.array_equal(Tones(stretch=1.0)(flat, np.random.default_rng(0)), flat)


def test_a_view_follows_from_its_generator_and_whole_views_are_still() -> None:
    rgb, mask = disc(90, 120, 50, 40, 20)
    for views in (MaskViews.default(SIZE), MaskViews.published(SIZE)):
        one, two, other = (views(rgb, mask, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert np.array_equal(one[0], two[0])
        assert np.array_equal(one[1], two[1])
        assert not np.array_equal(one[0], other[0])
        assert not views.is_still
    assert MaskViews.whole(SIZE).is_still


@pytest.mark.parametrize(
    "wrong",
    [
        *({"size": 4}, {"scale": (0.9, 0.1)}, {"ratio": (0, 1)}, {"flip": 2}, {"turn": -1}, {"rotate": 200}),
        *({"jitter": -0.1}, {"hue": 0.7}, {"interpolation": "boxy"}),
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        MaskViews(**({"size": 32} | wrong))
    with pytest.raises(UsageError):
        Tones(grey=1.1)
