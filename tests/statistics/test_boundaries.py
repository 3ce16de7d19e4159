"""Boundaries of masks: against pixels counted one by one, a distance transform, and laws that must hold."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from panderm.statistics.boundaries import TOLERANCE, boundaries, boundary_distances, boundary_points

Mask = npt.NDArray[np.bool_]
_SIZES = arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Mask, Mask]:
    shape = draw(_SIZES)
    return draw(arrays.arrays(bool, shape)), draw(arrays.arrays(bool, shape))


def by_hand(mask: Mask) -> set[tuple[int, int]]:
    """The pixels inside with a neighbour, up, down, left or right, that is outside or beyond the image."""
    height, width = mask.shape

    def inside(y: int, x: int) -> bool:
        return 0 <= y < height and 0 <= x < width and bool(mask[y, x])

    return {
        (y, x)
        for y, x in product(range(height), range(width))
        if mask[y, x] and not all(inside(y + dy, x + dx) for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)))
    }


def f_by_hand(truth: Mask, predicted: Mask, pixels: float) -> float:
    one, two = by_hand(truth), by_hand(predicted)
    if not one or not two:
        return float(not one and not two)

    def met(here: set[tuple[int, int]], there: set[tuple[int, int]]) -> float:
        near = [min((y - v) ** 2 + (x - u) ** 2 for v, u in there) <= pixels**2 for y, x in here]
        return sum(near) / len(near)

    precision, recall = met(two, one), met(one, two)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


@settings(max_examples=80, deadline=None)
@given(pairs(), st.sampled_from([0.0, TOLERANCE, 0.1, 0.13, 0.25, 0.4]))
def test_the_f_score_is_that_of_pixels_counted_one_by_one(pair: tuple[Mask, Mask], share: float) -> None:
    truth, predicted = pair
    assert set(map(tuple, boundary_points(truth).tolist())) == by_hand(truth)
    found = boundaries(truth, predicted, tolerance=share).boundary_f
    assert found == pytest.approx(f_by_hand(truth, predicted, share * np.hypot(*truth.shape)), abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(pairs())
def test_laws_of_boundaries(pair: tuple[Mask, Mask]) -> None:
    one, two = pair
    found = boundaries(one, two, tolerance=0.2)
    for other in (boundaries(two, one, tolerance=0.2), boundaries(one.T, two.T, tolerance=0.2)):
        np.testing.assert_allclose(found, other, atol=1e-12)  # symmetric, and of no direction
    assert 0 <= found.boundary_f <= 1
    wider = [boundaries(one, two, tolerance=share).boundary_f for share in (0, 0.05, 0.1, 0.3, 0.999)]
    assert wider == sorted(wider)
    assert wider[-1] == float(one.any() == two.any())
    same = boundaries(one, one, tolerance=0)
    assert same.boundary_f == 1
    assert same.hd95 == same.surface_distance == 0 if one.any() else np.isnan(same[:2]).all()


def test_distances_are_those_of_distance_transforms() -> None:
    """As MedPy finds them: borders by erosion, distances by a transform; it pools both directions."""
    rng = np.random.default_rng(4)
    for size in ((40, 50), (90, 61)):
        a, b = ndimage.gaussian_filter(rng.normal(size=(2, *size)), (0, 6, 6)) > 0.01
        cross = ndimage.generate_binary_structure(2, 1)
        edges = [mask ^ ndimage.binary_erosion(mask, cross) for mask in (a, b)]
        there, back = (ndimage.distance_transform_edt(~edges[1 - i])[edges[i]] for i in (0, 1))
        hd95, mean = boundary_distances(a, b)
        assert hd95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), abs=1e-9)
        assert mean == pytest.approx(np.hstack([there, back]).mean(), abs=1e-9)
        assert np.percentile(np.hstack([there, back]), 95) <= hd95 + 1e-9
        tolerance = TOLERANCE * np.hypot(*size)
        recall, precision = (there <= tolerance).mean(), (back <= tolerance).mean()
        f = 2 * recall * precision / (recall + precision)
        assert boundaries(a, b).boundary_f == pytest.approx(f, abs=1e-12)


def test_a_square_moved_by_less_than_the_tolerance_is_met_everywhere() -> None:
    truth = np.zeros((300, 400), dtype=bool)  # diagonal 500: 0.75 % are 3.75 pixels
    truth[100:200, 100:200] = True
    near, far = np.roll(truth, 3, axis=1), np.roll(truth, 4, axis=1)
    assert boundaries(truth, near).boundary_f == 1
    # Of 396 pixels of either boundary the two upright sides miss each other, but for their ends.
    assert boundaries(truth, far).boundary_f == pytest.approx(f_by_hand(truth, far, 3.75), abs=1e-12)
    assert 0.4 < boundaries(truth, far).boundary_f < 0.6


def test_empty_and_full_masks() -> None:
    nothing, all_of_it = np.zeros((6, 8), dtype=bool), np.ones((6, 8), dtype=bool)
    assert boundaries(nothing, nothing).boundary_f == 1
    assert boundaries(nothing, all_of_it).boundary_f == boundaries(all_of_it, nothing).boundary_f == 0
    assert boundaries(all_of_it, all_of_it) == (0, 0, 1)
    assert len(boundary_points(all_of_it)) == 24  # the border of the image


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_tolerance_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share of the diagonal"):
        boundaries(np.eye(3, dtype=bool), np.eye(3, dtype=bool), tolerance=share)
