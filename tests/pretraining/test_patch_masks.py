"""Masks of patches: exact counts, and the distribution of an independent simulation."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from panderm.errors import UsageError
from panderm.pretraining.masks import MaskDrawer, MaskKind, masked_patches

GRID = (14, 14)
MASKS = 1200
ALPHA = 1e-3  # of a fixed seed: it holds or does not


@pytest.mark.parametrize(
    ("ratio", "n", "wanted"),
    [(0.15, 196, 30), (0.25, 196, 49), (0.5, 196, 98), (0.0, 196, 0), (0.3, 10, 3), (0.75, 49, 37)],
)
def test_a_ratio_hides_the_published_numbers_of_patches(ratio: float, n: int, wanted: int) -> None:
    assert masked_patches(ratio, n) == wanted


@pytest.mark.parametrize(("ratio", "n"), [(-0.1, 196), (1.0, 196), (0.9, 4), (float("nan"), 196)])
def test_a_ratio_that_leaves_nothing_is_refused(ratio: float, n: int) -> None:
    with pytest.raises(UsageError):
        masked_patches(ratio, n)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.integers(1, 16),
    columns=st.integers(1, 16),
    share=st.floats(0, 1, exclude_max=True),
    kind=st.sampled_from(["block", "random"]),
    seed=st.integers(0, 2**32),
)
def test_exactly_as_many_are_hidden_as_wanted(
    rows: int, columns: int, share: float, kind: MaskKind, seed: int
) -> None:
    masked = int(share * rows * columns)
    mask = MaskDrawer((rows, columns), masked, kind).draw(np.random.default_rng(seed))
    assert mask.dtype == bool
    assert mask.shape == (rows * columns,)
    assert mask.sum() == masked


def test_a_mask_follows_from_its_generator_alone() -> None:
    drawer = MaskDrawer(GRID, 98)
    draws = [drawer.draw(np.random.default_rng([0, 3, i])) for i in (5, 5, 6)]
    assert (draws[0] == draws[1]).all()
    assert (draws[0] != draws[2]).any()


@pytest.mark.parametrize(
    ("grid", "masked", "kind"),
    [(GRID, 196, "block"), (GRID, -1, "block"), ((0, 5), 0, "block"), (GRID, 5, "blocks")],
)
def test_what_cannot_be_drawn_is_refused(grid: tuple[int, int], masked: int, kind: MaskKind) -> None:
    with pytest.raises(UsageError):
        MaskDrawer(grid, masked, kind)


# An independent simulation: sets of places and Python's own generator, from the words of the method.


def simulated(rng: random.Random, wanted: int) -> set[tuple[int, int]]:
    """Rectangles of area U[16, remaining], log-uniform aspect in [0.3, 1/0.3], ten tries each."""
    hidden: set[tuple[int, int]] = set()
    while len(hidden) < wanted:
        remaining = wanted - len(hidden)
        for _ in range(10):
            area = rng.uniform(16, remaining)
            aspect = math.exp(rng.uniform(math.log(0.3), -math.log(0.3)))
            height, width = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
            if not (0 < height <= 14 and 0 < width <= 14):
                continue
            top, left = rng.randint(0, 14 - height), rng.randint(0, 14 - width)
            more = {(top + i, left + j) for i in range(height) for j in range(width)} - hidden
            if 0 < len(more) <= remaining:
                hidden |= more
                break
        else:
            free = [(i, j) for i in range(14) for j in range(14) if (i, j) not in hidden]
            hidden |= set(rng.sample(free, remaining))
    return hidden


def neighbours(masks: np.ndarray) -> np.ndarray:
    """Pairs of hidden patches that share an edge, of each mask (n, 14, 14)."""
    return (masks[:, 1:] & masks[:, :-1]).sum((1, 2)) + (masks[:, :, 1:] & masks[:, :, :-1]).sum((1, 2))


@pytest.mark.parametrize("wanted", [30, 98])
def test_block_masks_are_those_of_an_independent_simulation(wanted: int) -> None:
    rng, other = np.random.default_rng(0), random.Random(1)
    ours = np.stack([MaskDrawer(GRID, wanted).draw(rng).reshape(GRID) for _ in range(MASKS)])
    theirs = np.zeros_like(ours)
    for mask in theirs:
        for place in simulated(other, wanted):
            mask[place] = True
    for measure in (
        neighbours,
        lambda m: m.any(2).sum(1),  # rows touched
        lambda m: m.any(1).sum(1),
        lambda m: m[:, 3:11, 3:11].sum((1, 2)),  # how much of the middle
    ):
        assert stats.ks_2samp(measure(ours), measure(theirs)).pvalue > ALPHA
    # The place of every patch: how often it is hidden, over all masks, in two samples of MASKS.
    off = (ours.mean(0) - theirs.mean(0)) / np.sqrt(2 * ours.mean(0) * (1 - ours.mean(0)) / MASKS)
    assert abs(off).max() < 4.5
    assert 0.8 < off.std() < 1.2


def test_the_first_rectangle_has_the_area_and_aspect_of_the_method() -> None:
    rng = np.random.default_rng(0)
    ours = []
    for _ in range(2000):
        hidden = np.zeros(GRID, dtype=bool)
        found = MaskDrawer(GRID, 98)._rectangle(hidden, 98, rng)
        assert found is not None
        (rows, columns), more = found
        shape = rows.stop - rows.start, columns.stop - columns.start
        assert more == shape[0] * shape[1]
        ours.append(shape)
    draws = np.random.default_rng(1).random((6000, 2))
    area, aspect = 16 + draws[:, 0] * 82, np.exp((draws[:, 1] * 2 - 1) * np.log(10 / 3))
    height, width = np.round(np.sqrt(area * aspect)), np.round(np.sqrt(area / aspect))
    fits = (height <= 14) & (width <= 14) & (height * width <= 98)
    height, width = height[fits], width[fits]
    tall, broad = np.array(ours).T
    assert stats.ks_2samp(tall * broad, height * width).pvalue > ALPHA
    assert stats.ks_2samp(tall / broad, height / width).pvalue > ALPHA


def test_random_masks_hide_patches_independently() -> None:
    rng = np.random.default_rng(0)
    masks = np.stack([MaskDrawer(GRID, 98, "random").draw(rng).reshape(GRID) for _ in range(MASKS)])
    # 364 edges of the grid, each hidden at both ends with probability 98 · 97 / (196 · 195).
    pairs = neighbours(masks)
    expected = 364 * 98 * 97 / (196 * 195)
    assert abs(pairs.mean() - expected) < 4 * pairs.std() / MASKS**0.5
    blocks = np.stack([MaskDrawer(GRID, 98).draw(rng).reshape(GRID) for _ in range(100)])
    assert neighbours(blocks).min() > pairs.max()
