"""Asymmetry of shape and colour against shapes and patches that have a known one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drawn_shapes import Mask, disc, ellipse, grid, rectangle
from hypothesis import given, settings
from hypothesis import strategies as st

from panderm.lesions.mirrored import Asymmetry, colour_asymmetry, shape_asymmetry
from panderm.lesions.region import region_of
from panderm.lesions.shape import shape_of


def asymmetry(mask: Mask) -> Asymmetry:
    region = region_of(mask)
    assert region is not None
    found = shape_of(region)
    return shape_asymmetry(
        region.inside, (found.centre[0] - region.x, found.centre[1] - region.y), found.axis
    )


@pytest.mark.parametrize("mask", [disc(12), disc(60), ellipse(60, 30, 20), rectangle(120, 50, 33)])
def test_symmetric_shapes_have_none_but_for_the_grid(mask: Mask) -> None:
    found = asymmetry(mask)
    assert max(found.long, found.short, found.lowest) < (0.01 if mask.sum() > 1000 else 0.03)


def test_a_square_s_principal_axes_lie_anywhere_and_the_lowest_do_not() -> None:
    for turn in (0, 17, 40):
        assert asymmetry(rectangle(90, 90, turn)).lowest < 0.01


@pytest.mark.parametrize("turn", [0, 25, 90, 160])
def test_half_a_disc_is_symmetric_about_one_axis(turn: float) -> None:
    along, across = grid(200, 100.2, 99.7, turn)
    found = asymmetry((along**2 + across**2 <= 80**2) & (across > 0))
    assert found.short < 0.01
    assert found.long == pytest.approx(half_disc(), abs=0.01)
    assert found.lowest == pytest.approx(half_disc() / 2, abs=0.01)


def half_disc() -> float:
    """Share of a half disc that is off itself, folded through its centroid along the flat side."""
    centroid = 4 / (3 * math.pi)
    y = (np.arange(200_000) + 0.5) / 200_000
    width = 2 * np.sqrt(1 - y**2)
    other = 2 * centroid - y
    mirrored = np.where((other >= 0) & (other <= 1), 2 * np.sqrt(np.clip(1 - other**2, 0, 1)), 0)
    return float(1 - np.minimum(width, mirrored).sum() / width.sum())


def test_against_folding_pixel_by_pixel() -> None:
    """About the two axes of the image a mirror image needs no interpolation."""
    mask = np.zeros((101, 141), dtype=bool)
    mask[20:81, 20:121] = True
    mask[60:81, 90:121] = False
    y, x = np.nonzero(mask)
    centre = (float(x.mean()), float(y.mean()))
    found = shape_asymmetry(mask, centre, 0.0)
    for value, axis in ((found.long, 1), (found.short, 0)):
        middle = (centre[1], centre[0])[1 - axis]
        at = (y, x)[1 - axis]
        other = (x, y)[1 - axis]
        held = set(zip(at.tolist(), other.tolist(), strict=True))
        folded = [(2 * middle - a, b) for a, b in zip(at, other, strict=True)]
        # Between two pixels a folded one lies on both in part.
        lost = 0.0
        for a, b in folded:
            low = math.floor(a)
            part = a - low
            lost += 1 - (1 - part) * ((low, b) in held) - part * ((low + 1, b) in held)
        assert value == pytest.approx(lost / len(y), abs=0.015)


@settings(max_examples=15, deadline=None)
@given(turn=st.floats(0, 180), size=st.floats(35, 90))
def test_turning_and_scaling_change_nothing(turn: float, size: float) -> None:
    def drawn(turn: float, size: float) -> Mask:
        along, across = grid(int(4 * size), 2 * size, 2 * size, turn)
        body = (along / (1.6 * size)) ** 2 + (across / size) ** 2 <= 1
        return body & ~((along > 0.4 * size) & (across > 0.1 * size))

    one, other = asymmetry(drawn(0, 60)), asymmetry(drawn(turn, size))
    assert other.long == pytest.approx(one.long, abs=0.02)
    assert other.short == pytest.approx(one.short, abs=0.02)
    assert other.lowest == pytest.approx(one.lowest, abs=0.015)
    assert other.lowest <= (other.long + other.short) / 2 + 0.005


@pytest.mark.parametrize("turn", [0, 30, 120])
def test_two_colours_side_by_side(turn: float) -> None:
    """Split across the long axis: mirrored at the short one every point meets the other colour."""
    mask = ellipse(70, 45, turn)
    size = mask.shape[0]
    along, across = grid(size, size / 2 + 0.3, size / 2 - 0.3, turn)
    lab = np.zeros((*mask.shape, 3), np.float32)
    lab[..., 0] = np.where(along > 0, 60, 30)
    y, x = np.nonzero(mask)
    found = colour_asymmetry(lab, mask, (float(x.mean()), float(y.mean())), float(turn))
    assert found.long < 1.5
    assert found.short == pytest.approx(30, rel=0.1)
    plain = colour_asymmetry(np.full_like(lab, 40), mask, (float(x.mean()), float(y.mean())), float(turn))
    assert max(plain.long, plain.short, plain.lowest) < 0.01
    lab[..., 0] = np.where(np.hypot(along, across) < 25, 20, 50)  # a dark middle is symmetric
    dark = colour_asymmetry(lab, mask, (float(x.mean()), float(y.mean())), float(turn))
    assert max(dark.long, dark.short, dark.lowest) < 1.5
