"""Outlines measured against shapes whose measures are known."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from drawn_shapes import Mask, disc, ellipse, rectangle
from hypothesis import given, settings
from hypothesis import strategies as st

from panderm.errors import DataError
from panderm.lesions.region import region_of
from panderm.lesions.shape import Shape, perimeter_of, shape_of


def shape(mask: Mask) -> Shape:
    region = region_of(mask)
    assert region is not None
    return shape_of(region)


@pytest.mark.parametrize("radius", [10, 25, 60, 140])
def test_a_disc(radius: int) -> None:
    found = shape(disc(radius))
    assert found.area == pytest.approx(math.pi * radius**2, rel=0.02)
    assert 0 <= found.diameter - 2 * radius < 1.1
    assert abs(found.breadth - 2 * radius) < 0.8
    assert found.equivalent_diameter == pytest.approx(2 * radius, abs=0.2)
    assert found.perimeter == pytest.approx(2 * math.pi * radius, rel=0.011)
    assert found.compactness == pytest.approx(1, abs=0.025)
    assert found.elongation == pytest.approx(1, abs=0.015)
    assert found.solidity > 0.97
    if radius >= 60:
        assert found.border_dimension == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("turn", [0, 17, 45, 80, 135])
def test_an_ellipse_however_it_is_turned(turn: float) -> None:
    long, short = 90, 35
    found = shape(ellipse(long, short, turn))
    h = ((long - short) / (long + short)) ** 2
    around = (
        math.pi * (long + short) * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))
    )  # Ramanujan's second formula
    assert found.area == pytest.approx(math.pi * long * short, rel=0.005)
    assert abs(found.diameter - 2 * long) < 1.1
    assert abs(found.breadth - 2 * short) < 1.1
    assert found.perimeter == pytest.approx(around, rel=0.01)
    assert found.elongation == pytest.approx(long / short, rel=0.005)
    assert abs((found.axis - turn + 90) % 180 - 90) < 0.5
    assert found.compactness == pytest.approx(around**2 / (4 * math.pi**2 * long * short), rel=0.02)


@pytest.mark.parametrize("turn", [3, 10, 22.5, 45])
def test_a_turned_square_has_its_perimeter(turn: float) -> None:
    """Crofton's formula with four directions is 5 % too short to 3 % too long here, as the square turns."""
    found = shape(rectangle(160, 160, turn))
    assert found.perimeter == pytest.approx(640, rel=0.01)
    assert found.diameter == pytest.approx(160 * math.sqrt(2), abs=1.2)
    assert found.compactness == pytest.approx(4 / math.pi, rel=0.02)


def test_an_upright_square_is_exact_to_the_corner() -> None:
    mask = np.zeros((80, 90), dtype=bool)
    mask[10:60, 20:70] = True
    found = shape(mask)
    assert (found.area, found.breadth, found.solidity) == (2500, 50, 1)
    # The border runs through the middles of edges, which cuts half a pixel off each corner.
    assert found.diameter == pytest.approx(math.hypot(50, 49), abs=1e-4)
    assert found.centre == (44.5, 34.5)
    assert found.perimeter == pytest.approx(200, rel=0.025)


def test_diameter_against_opencvs_own() -> None:
    """OpenCV's smallest circle holds the diameter; its hull of pixel centres is a pixel smaller."""
    rng = np.random.default_rng(3)
    for _ in range(5):
        noise = cv2.GaussianBlur(rng.normal(size=(120, 120)), (0, 0), 8)
        region = region_of(np.ascontiguousarray(noise > 0.01))
        assert region is not None
        contours, _ = cv2.findContours(
            region.inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        hull = cv2.convexHull(np.concatenate(contours))[:, 0].astype(float)
        centres = np.sqrt(((hull[:, None] - hull[None]) ** 2).sum(axis=2)).max()
        found = shape_of(region)
        assert centres + 0.4 < found.diameter < centres + 1.1
        assert found.diameter <= 2 * cv2.minEnclosingCircle(hull.astype(np.float32))[1] + 1.5
        assert found.area == int(region.inside.sum())


def test_a_ring_is_filled_and_says_so() -> None:
    ring = disc(40) & ~np.pad(disc(20), 20)
    found = shape(ring)
    assert found.area == disc(40).sum()
    assert found.hole_share == pytest.approx(0.25, abs=0.01)
    assert found.perimeter == pytest.approx(80 * math.pi, rel=0.01)


def test_koch_s_snowflake_is_rough_and_a_smooth_border_is_not() -> None:
    flake = koch(300)
    rough = shape(flake).border_dimension
    assert rough is not None
    assert 1.2 < rough < 1.42
    smooth = shape(ellipse(120, 80, 20)).border_dimension
    assert smooth is not None
    assert smooth < 1.02
    assert shape(disc(30)).border_dimension is None  # too small for a hundredth of it to be seen


def koch(size: int) -> Mask:
    corners = np.array([0.5 + math.sqrt(3) / 2 * 1j, 1, 0, 0.5 + math.sqrt(3) / 2 * 1j])
    for _ in range(5):
        step = np.diff(corners) / 3
        a = corners[:-1]
        parts = [a, a + step, a + step + step * np.exp(1j * math.pi / 3), a + 2 * step]
        corners = np.append(np.stack(parts, axis=1).ravel(), corners[-1])
    corners = corners - (corners.real.min() + 1j * corners.imag.min())
    corners *= size / max(corners.real.max(), corners.imag.max())
    points = np.rint((np.stack([corners.real, corners.imag], axis=1) + 5) * 16).astype(np.int32)
    mask = np.zeros((size + 12, size + 12), np.uint8)
    cv2.fillPoly(mask, [points], 1, shift=4)
    return mask > 0


@settings(max_examples=25, deadline=None)
@given(
    turn=st.floats(0, 180),
    long=st.floats(30, 80),
    ratio=st.floats(0.4, 0.95),
    off=st.floats(-0.5, 0.5),
)
def test_turning_and_shifting_change_nothing(turn: float, long: float, ratio: float, off: float) -> None:
    straight, turned = shape(ellipse(long, long * ratio)), shape(ellipse(long, long * ratio, turn, off=off))
    assert straight.area == pytest.approx(turned.area, rel=0.015)
    assert abs(straight.diameter - turned.diameter) < 1.5
    assert straight.perimeter == pytest.approx(turned.perimeter, rel=0.015)
    assert straight.elongation == pytest.approx(turned.elongation, rel=0.02)
    assert straight.compactness == pytest.approx(turned.compactness, rel=0.03)


@settings(max_examples=15, deadline=None)
@given(times=st.integers(2, 4), seed=st.integers(0, 1000))
def test_enlarging_multiplies_lengths(times: int, seed: int) -> None:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(90, 90)), (0, 0), 10)
    small = np.ascontiguousarray(noise > 0)
    large = np.kron(small, np.ones((times, times), dtype=bool))
    one, other = shape(small), shape(large)
    assert other.area == one.area * times**2
    assert other.diameter == pytest.approx(one.diameter * times, abs=1.5 * times)
    assert other.axis == pytest.approx(one.axis, abs=0.2) or one.elongation < 1.05
    assert other.solidity == pytest.approx(one.solidity, abs=0.03)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), smooth=st.floats(0.5, 8))
def test_what_always_holds(seed: int, smooth: float) -> None:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(48, 61)), (0, 0), smooth)
    region = region_of(np.ascontiguousarray(noise > 0))
    assert region is not None
    found = shape_of(region)
    assert 0 < found.solidity <= 1
    assert found.breadth <= found.diameter + 1e-6
    assert found.equivalent_diameter <= found.diameter + 1.5
    assert math.dist(*found.ends) == pytest.approx(found.diameter)
    assert 0 <= found.axis < 180
    assert found.elongation >= 1
    assert found.perimeter is None or found.perimeter > 0


def test_several_pieces() -> None:
    mask = np.zeros((60, 200), dtype=bool)
    mask[10:50, 10:50] = True
    mask[20:30, 180:190] = True
    one, all_of_them = region_of(mask), region_of(mask, "all")
    assert one is not None
    assert all_of_them is not None
    assert (one.pieces, one.share) == (2, 1600 / 1700)
    assert (all_of_them.pieces, all_of_them.share) == (2, 1)
    assert shape_of(one).area == 1600
    assert shape_of(all_of_them).area == 1700
    assert shape_of(all_of_them).diameter > 170


def test_the_edge_is_told() -> None:
    mask = np.zeros((40, 40), dtype=bool)
    mask[10:20, 5:30] = True
    inner, outer = region_of(mask), region_of(mask[10:])
    assert inner is not None
    assert outer is not None
    assert not inner.touches_edge
    assert outer.touches_edge
    assert shape_of(inner).diameter == shape_of(outer).diameter


def test_empty_and_other_masks() -> None:
    assert region_of(np.zeros((10, 10), dtype=bool)) is None
    with pytest.raises(DataError, match="bool"):
        region_of(np.zeros((10, 10)))  # type: ignore[arg-type]
    one = np.zeros((9, 9), dtype=bool)
    one[4, 4] = True
    assert shape(one).perimeter is None


def test_a_straight_edge_has_its_length() -> None:
    """Of a long bar, without its ends: the estimator itself, on a line of any slope."""
    for turn in (5.0, 11.0, 30.0, 45.0):
        lengths = [perimeter_of(rectangle(long, 20, turn)) for long in (100, 200)]
        assert lengths[1] - lengths[0] == pytest.approx(200, rel=0.01)
