"""Colours, skin and the eight segments of the border, on painted lesions."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from drawn_shapes import BROWN, SKIN, Image8, disc, framed, grid, painted

from panderm.lesions.border import border_of
from panderm.lesions.colour import COLOURS, REFERENCES, Colours, colours_of
from panderm.lesions.patch import Patch, patch_of
from panderm.lesions.region import region_of


def rgb_of(lab: np.ndarray) -> tuple[int, int, int]:
    rgb = cv2.cvtColor(np.asarray(lab, np.float32)[None, None], cv2.COLOR_Lab2RGB)[0, 0]
    r, g, b = (int(v) for v in np.rint(rgb * 255))
    return r, g, b


def patch(rgb: Image8, mask: np.ndarray) -> Patch:
    region = region_of(mask)
    assert region is not None
    return patch_of(rgb, region)


def sectors(radius: int, colours: list[tuple[int, int, int]]) -> tuple[Image8, np.ndarray]:
    """A disc of sectors of equal size, one colour each."""
    mask = framed(disc(radius, off=0), radius)
    along, across = grid(mask.shape[0], mask.shape[0] / 2, mask.shape[0] / 2, 0)
    part = ((np.arctan2(across, along) / (2 * np.pi) + 0.5) * len(colours)).astype(int) % len(colours)
    image = painted(mask)
    for k, colour in enumerate(colours):
        image[mask & (part == k)] = colour
    return image, mask


@pytest.mark.parametrize("radius", [20, 120])
@pytest.mark.parametrize("number", [1, 3, 6])
def test_each_reference_is_its_own_colour(radius: int, number: int) -> None:
    image, mask = sectors(radius, [rgb_of(lab) for lab in REFERENCES[:number]])
    found = colours_of(patch(image, mask))
    assert found.count == number
    for name, share in zip(COLOURS, found.shares, strict=True):
        wanted = 1 / number if COLOURS.index(name) < number else 0
        assert share == pytest.approx(wanted, abs=0.08), name
    assert sum(found.shares) == pytest.approx(1)


def test_a_colour_of_less_than_a_twentieth_does_not_count() -> None:
    image, mask = sectors(60, [BROWN] * 30 + [(8, 5, 5)])
    assert colours_of(patch(image, mask)).count == 1
    image, mask = sectors(60, [BROWN] * 9 + [(8, 5, 5)])
    assert colours_of(patch(image, mask)).count == 2


def test_variegation_of_two_halves_is_half_their_distance() -> None:
    one, other = rgb_of(np.array([60, 10, 20])), rgb_of(np.array([30, 10, 20]))
    image, mask = sectors(70, [one, other])
    found = colours_of(patch(image, mask))
    assert found.variegation == pytest.approx(15, abs=0.8)
    assert found.lesion[0] == pytest.approx(45, abs=1)
    plain = colours_of(patch(painted(mask), mask))
    assert plain.variegation < 0.01


def test_skin_is_that_around_the_lesion_and_not_the_frame() -> None:
    image, mask = sectors(50, [BROWN])
    height = image.shape[0]
    along, across = grid(height, height / 2, height / 2, 0)
    image[np.hypot(along, across) > 62] = (0, 0, 0)  # the end of the tube
    found = patch(image, mask)
    assert found.skin is not None
    assert np.allclose(found.skin * 255, SKIN, atol=1)


def test_relative_colours_stay_under_another_light_and_absolute_ones_do_not() -> None:
    image, mask = sectors(70, [rgb_of(REFERENCES[k]) for k in (2, 3, 5)])
    bluish = linear(image) * np.array([0.55, 0.7, 1.0])
    bluish_image = np.rint(
        255 * np.where(bluish <= 0.0031308, 12.92 * bluish, 1.055 * bluish ** (1 / 2.4) - 0.055)
    )
    one, other = (colours_of(patch(i, mask)) for i in (image, bluish_image.astype(np.uint8)))
    assert one.relative_shares is not None
    assert other.relative_shares is not None
    assert np.allclose(one.relative_shares, other.relative_shares, atol=0.03)
    assert one.relative_count == other.relative_count
    assert one.skin is not None
    assert other.skin is not None
    assert one.skin[2] - other.skin[2] > 10


def linear(image: Image8) -> np.ndarray:
    value = image / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def test_a_lesion_of_the_skin_s_colour_has_no_relative_colour() -> None:
    mask = framed(disc(40), 40)
    found = colours_of(patch(painted(mask, SKIN), mask))
    assert found.relative_count == 0
    assert found.contrast == pytest.approx(0, abs=0.1)


def test_a_mask_that_fills_its_image_has_no_skin() -> None:
    mask = np.ones((80, 80), dtype=bool)
    found: Colours = colours_of(patch(painted(mask), mask))
    assert (found.skin, found.contrast, found.relative_count, found.relative_shares) == (None,) * 4
    assert found.count == 1


@pytest.mark.parametrize("sharp", [0, 1, 4, 8])
@pytest.mark.parametrize("radius", [40, 110])
def test_abrupt_segments_are_counted(sharp: int, radius: int) -> None:
    """Some of eight segments end in one step, the others fade over 40 % of the diameter."""
    mask = framed(disc(radius, off=0), radius)
    size = mask.shape[0]
    along, across = grid(size, size / 2, size / 2, 0)
    away = np.hypot(along, across) - radius
    segment = (np.mod(np.degrees(np.arctan2(-across, along)), 360) / 45).astype(int)
    inside = np.where(segment < sharp, away < 0, np.clip(0.5 - away / (0.8 * radius), 0, 1))
    image = np.array(SKIN) * (1 - inside[..., None]) + np.array(BROWN) * inside[..., None]
    found = border_of(patch(image.astype(np.uint8), mask), centre_of(image, mask), 0.0)
    assert found.abrupt_segments == sharp
    assert sum(s is not None for s in found.segments) == 8


def centre_of(image: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    y, x = np.nonzero(patch(image.astype(np.uint8), mask).inside)
    return float(x.mean()), float(y.mean())


def test_a_border_without_contrast_is_not_abrupt_and_one_at_the_edge_is_not_told() -> None:
    mask = framed(disc(40, off=0), 40)
    plain = painted(mask, SKIN)
    assert border_of(patch(plain, mask), centre_of(plain, mask), 0.0).abrupt_segments == 0
    half, image = mask[80:], painted(mask)[80:]
    found = border_of(patch(image, half), centre_of(image, half), 0.0)
    assert any(s is None for s in found.segments)
    full = np.ones((60, 60), dtype=bool)
    nothing = border_of(patch(painted(full), full), (29.5, 29.5), 0.0)
    assert (nothing.abrupt_segments, nothing.abruptness) == (None, None)
