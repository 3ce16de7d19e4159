"""Which rows are labelled: nested, stratified, whole units, the published rule."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panderm.training.subsets import nested_parts, nested_shots, published_parts

PERCENTS = [1, 5, 10, 20, 50, 100]


def ham_like(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """3,000 rows of 5 classes, 1 to 4 rows a unit, one class a unit: shares as uneven as in HAM10000."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice([1, 1, 1, 2, 3, 4], size=2000)
    labels = np.repeat(rng.choice(5, p=[0.66, 0.16, 0.11, 0.05, 0.02], size=2000), sizes)[:3000]
    return labels, np.repeat(np.arange(2000), sizes)[:3000]


def test_parts_are_nested_of_whole_units_and_of_every_class() -> None:
    labels, units = ham_like()
    for parts in nested_parts(labels, units, PERCENTS, repeats=3, seed=0):
        for smaller, larger in itertools.pairwise(parts):
            assert set(smaller.rows) < set(larger.rows)
        for subset in parts:
            inside = np.isin(np.arange(3000), subset.rows)
            assert not set(units[inside]) & set(units[~inside])
            assert set(labels[subset.rows]) == set(range(5))
        assert np.array_equal(parts[-1].rows, np.arange(3000))


def test_each_class_keeps_its_share_as_far_as_whole_units_allow() -> None:
    labels, units = ham_like()
    largest = np.bincount(units).max()
    for parts in nested_parts(labels, units, PERCENTS, repeats=5, seed=1):
        for percent, subset in zip(PERCENTS, parts, strict=True):
            wanted = np.bincount(labels) * percent / 100
            held = np.bincount(labels[subset.rows], minlength=5)
            # Not further from its share than half the largest unit; of a rare class one unit at least.
            assert (np.abs(held - wanted) <= np.maximum(largest / 2, largest - wanted)).all()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=2, max_size=60), st.integers(0, 99)
)
def test_units_of_several_classes_stay_whole_and_parts_nested(rows: list[tuple[int, int]], seed: int) -> None:
    labels, units = (np.array(column) for column in zip(*rows, strict=True))
    for parts in nested_parts(labels, units, [3, 20, 60, 100], repeats=2, seed=seed):
        assert all(set(a.rows) <= set(b.rows) for a, b in itertools.pairwise(parts))
        for subset in parts:
            inside = np.isin(np.arange(len(rows)), subset.rows)
            assert not set(units[inside]) & set(units[~inside])
            assert set(labels[inside]) == set(labels)


def test_a_seed_gives_the_same_draws_and_fewer_are_the_first_of_more() -> None:
    labels, units = ham_like()

    def rows(repeats: int, seed: int) -> list[list[int]]:
        return [
            p.rows.tolist()
            for parts in nested_parts(labels, units, [5, 50], repeats=repeats, seed=seed)
            for p in parts
        ]

    assert rows(4, 0)[:4] == rows(2, 0)
    assert rows(2, 0) != rows(2, 1)
    assert rows(2, 0)[0] != rows(2, 0)[2]


def test_every_unit_of_a_class_is_as_likely_as_any_other() -> None:
    labels, units = np.repeat([0, 1], 20), np.arange(40)
    drawn = nested_parts(labels, units, [10], repeats=2000, seed=3)
    often = np.bincount(np.concatenate([parts[0].rows for parts in drawn]), minlength=40)
    # 2 of 20 each time: 200 are expected, with a standard deviation of 13.
    assert np.abs(often - 200).max() < 5 * 13.5


def test_the_published_subset_is_pandas_own_shuffle() -> None:
    labels = np.arange(200) % 3
    (parts,) = published_parts(labels, [1.5, 10, 100])
    table = pd.DataFrame({"row": np.arange(200)}).sample(frac=1, random_state=42).reset_index(drop=True)
    for percent, subset in zip((1.5, 10), parts, strict=False):
        assert set(subset.rows) == set(table.head(int(200 * percent / 100))["row"])
    assert len(parts[2].rows) == 200
    rare = np.where(np.arange(200) == table["row"][199], 9, 0)  # the last of the shuffle
    assert published_parts(rare, [50])[0][0].lacking == (9,)


def test_shots_are_nested_of_different_units_and_name_the_classes_that_lack_them() -> None:
    labels = np.repeat([0, 1, 2], [40, 20, 3])
    units = np.concatenate([np.arange(40) // 4, 100 + np.arange(20), 200 + np.arange(3)])
    for one, four, sixteen in nested_shots(labels, units, [1, 4, 16], repeats=3, seed=0):
        assert set(one.rows) < set(four.rows)
        assert np.bincount(labels[one.rows]).tolist() == [1, 1, 1]
        assert np.bincount(labels[four.rows])[:2].tolist() == [4, 4]
        assert (one.lacking, four.lacking, sixteen.lacking) == ((), (2,), (2,))
        own = units[sixteen.rows][labels[sixteen.rows] == 0]
        # Ten units of four rows: sixteen rows come from all ten, none twice more than another.
        assert np.bincount(own, minlength=10).min() == 1
        assert np.bincount(own, minlength=10).max() == 2


@pytest.mark.parametrize("percent", [0.001, 99.9])
def test_the_ends_of_the_axis(percent: float) -> None:
    labels, units = np.repeat([0, 1], 50), np.arange(100)
    ((subset,),) = nested_parts(labels, units, [percent], repeats=1, seed=0)
    assert len(subset.rows) == (2 if percent < 1 else 100)
