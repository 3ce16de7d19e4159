"""A map lies where the network saw its patches, to the pixel; what it never saw is greyed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import panderm
from panderm.errors import DataError, UsageError

RED, BLUE = (200, 30, 20), (20, 30, 200)


def preprocess(resize: int | tuple[int, int], crop: int) -> panderm.Preprocess:
    return panderm.Preprocess(
        resize=resize, crop=crop, interpolation="bilinear", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )


def plain(height: int, width: int, colour: tuple[int, int, int] = BLUE) -> np.ndarray[Any, Any]:
    return np.full((height, width, 3), colour, np.uint8)


def cells_of_colour(rgb: np.ndarray[Any, Any], seen: panderm.Preprocess, cells: int) -> np.ndarray[Any, Any]:
    """Return how red each patch is, as the network sees it."""
    pixels = seen(rgb).numpy()
    step = seen.crop // cells
    return pixels[0].reshape(cells, step, cells, step).mean(axis=(1, 3))


# height, width, resize, crop: wide, tall, scaled up and down, uneven margins, squashed, padded.
@pytest.mark.parametrize(
    ("height", "width", "resize", "crop"),
    [
        (64, 96, 64, 64),
        (96, 64, 64, 64),
        (128, 192, 64, 64),
        (32, 48, 64, 64),
        (80, 80, 80, 64),
        (64, 83, 64, 64),
        (64, 81, 64, 32),
        (64, 128, (64, 64), 64),
        (48, 48, 48, 64),
        (45, 64, 45, 64),
    ],
)
def test_a_cell_is_painted_where_its_patch_was_seen(
    height: int, width: int, resize: int | tuple[int, int], crop: int
) -> None:
    """Paint one patch, then show the painted image to the network: that patch, whole, and no other."""
    seen = preprocess(resize, crop)
    cells = 4
    for row, column in ((1, 2), (2, 1), (2, 2)):
        colours = np.zeros((cells, cells, 3), np.uint8)
        colours[:] = BLUE
        colours[row, column] = RED
        painted = panderm.overlay(plain(height, width), colours, preprocess=seen, opacity=1)
        redness = cells_of_colour(painted, seen, cells) * 255
        expected = np.full((cells, cells), BLUE[0], float)
        expected[row, column] = RED[0]
        inside = np.zeros((cells, cells), bool)
        inside[1:3, 1:3] = True  # the outer cells may lie in what padding added
        # Where nothing was resized the pixels agree exactly; elsewhere the filter reaches over the edge.
        exact = (height, width) in {(64, 96), (96, 64), (80, 80), (64, 83), (64, 81), (48, 48), (45, 64)}
        off = np.abs(redness - expected)[inside]
        assert off.max() <= (0.01 if exact else 30), (row, column)


def test_the_part_never_seen_is_greyed_to_the_pixel() -> None:
    image = plain(64, 97)  # 33 columns are cut off: 16 on the left, 17 on the right
    laid = panderm.overlay(image, np.ones((4, 4)), preprocess=preprocess(64, 64), opacity=0)
    seen = (laid == image).all(axis=(0, 2))
    assert np.flatnonzero(seen).tolist() == list(range(16, 80))
    assert len(np.unique(laid[:, ~seen].reshape(-1, 3), axis=0)) == 1
    assert np.ptp(laid[0, 0]) == 0


def test_a_panderm_crop_of_an_ordinary_image() -> None:
    """Shorter side 450 → 256, centre 224: 450 · 16 / 256 = 28.1 pixels are cut above and below."""
    image = plain(450, 600)
    laid = panderm.overlay(image, np.ones((14, 14)), preprocess=preprocess(256, 224), opacity=0)
    seen = (laid == image).all(axis=2)
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    assert (rows[0], rows[-1]) == (28, 421)
    assert (columns[0], columns[-1]) == (102, 495)  # 58 to 282 of 341: 102.05 to 496.2


def test_the_longer_side_is_rounded_down_and_its_margin_to_even() -> None:
    """159 · 64 / 100 = 101.76 is resized to 101; the margin of 18.5 becomes 18: columns 18 to 82 of 101."""
    image = plain(100, 159)
    laid = panderm.overlay(image, np.ones((4, 4)), preprocess=preprocess(64, 64), opacity=0)
    columns = np.flatnonzero((laid == image).all(axis=(0, 2)))
    assert (columns[0], columns[-1]) == (28, 128)  # 28.3 to 129.1


def test_numbers_are_painted_from_dark_to_bright() -> None:
    seen = preprocess(64, 64)
    grid = np.arange(16, dtype=np.float32).reshape(4, 4)
    laid = panderm.overlay(plain(64, 64), grid, preprocess=seen, opacity=1)
    light = laid[8::16, 8::16].astype(float) @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(light.ravel()) > 0).all()
    same = panderm.overlay(plain(64, 64), grid * 3 + 5, preprocess=seen, opacity=1)
    np.testing.assert_array_equal(laid, same)
    dim = panderm.overlay(plain(64, 64), grid, preprocess=seen, opacity=1, limits=(0, 150))
    assert dim[60, 60].astype(float).mean() < laid[60, 60].astype(float).mean()
    over = panderm.overlay(plain(64, 64), grid, preprocess=seen, opacity=1, limits=(0, 7))
    np.testing.assert_array_equal(over[40, 40], over[60, 60])


def test_opacity_mixes() -> None:
    seen = preprocess(64, 64)
    colours = plain(4, 4, RED)
    half = panderm.overlay(plain(64, 64), colours, preprocess=seen)
    assert half[0, 0].tolist() == [110, 30, 110]
    assert panderm.overlay(plain(64, 64), colours, preprocess=seen, opacity=0)[0, 0].tolist() == list(BLUE)


def test_a_map_that_is_the_same_everywhere() -> None:
    laid = panderm.overlay(plain(64, 64), np.full((4, 4), 3.0), preprocess=preprocess(64, 64), opacity=1)
    assert len(np.unique(laid.reshape(-1, 3), axis=0)) == 1


def test_a_tensor_is_a_map_and_the_image_is_not_changed(encoder: panderm.Encoder) -> None:
    image = plain(240, 320)
    image[60:180, 100:220] = RED
    before = image.copy()
    rolled = encoder.attention(encoder.preprocess(image)[None], rollout=True)[0]
    laid = panderm.overlay(image, rolled, preprocess=encoder.preprocess)
    assert laid.shape == image.shape
    assert laid.dtype == np.uint8
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("image", "cells", "options", "message"),
    [
        (np.zeros((4, 4), np.uint8), np.ones((2, 2)), {}, "must be RGB, uint8"),
        (np.zeros((4, 4, 3)), np.ones((2, 2)), {}, "must be RGB, uint8"),
        (np.zeros((0, 4, 3), np.uint8), np.ones((2, 2)), {}, "must be RGB, uint8"),
        (plain(4, 4), np.ones((3, 2, 2)), {}, "a map must be numbers"),
        (plain(4, 4), np.ones((0, 2)), {}, "a map must be numbers"),
        (plain(4, 4), np.array([["a"]]), {}, "a map must be numbers"),
        (plain(4, 4), np.ones((2, 2, 3)), {}, "a map must be numbers"),
        (plain(4, 4), np.array([[np.nan]]), {}, "must be finite"),
        (plain(4, 4), np.ones((2, 2)), {"opacity": 1.1}, "opacity must be from 0 to 1"),
        (plain(4, 4), np.ones((2, 2)), {"opacity": float("nan")}, "opacity must be from 0 to 1"),
        (plain(4, 4), np.ones((2, 2)), {"limits": (1, 1)}, "limits must rise"),
    ],
)
def test_what_cannot_be_laid_over(image: Any, cells: Any, options: Any, message: str) -> None:
    with pytest.raises((DataError, UsageError), match=message):
        panderm.overlay(image, cells, preprocess=preprocess(4, 4), **options)
