"""Principal components are scikit-learn's, block by block; what a map keeps of the neighbourhood, too."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from panderm.errors import DataError
from panderm.statistics.neighbourhood import nearest_on_plane, neighbourhood_kept
from panderm.statistics.projection import (
    BLOCK,
    principal_components,
    project,
    reduced,
    require_finite,
    spread,
)


def vectors(n=400, d=24, seed=0):
    """Some clusters, far from 0."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(6, d)) * 2
    return (centres[rng.integers(0, 6, n)] + rng.normal(size=(n, d)) + 50).astype(np.float32)


class Mapped:
    """Vectors that can be sliced and picked from, and are no array: as those of a file are."""

    def __init__(self, held):
        self._held = held
        self.shape = held.shape
        self.most = 0

    def __len__(self):
        return len(self._held)

    def __getitem__(self, chosen):
        found = self._held[chosen]
        self.most = max(self.most, len(found))
        return found


@pytest.mark.parametrize("n", [3, 400, 2 * BLOCK + 7])
def test_principal_components_are_scikit_learns(n):
    X = vectors(n, 12)
    ours = principal_components(X, 2)
    theirs = PCA(n_components=2, svd_solver="full").fit(X.astype(np.float64))
    np.testing.assert_allclose(ours.shares, theirs.explained_variance_ratio_, rtol=1e-5)
    signs = np.sign((ours.axes * theirs.components_).sum(axis=1))
    np.testing.assert_allclose(ours.axes * signs[:, None], theirs.components_, atol=1e-4)
    plane = project(X, ours)
    np.testing.assert_allclose(plane * signs, theirs.transform(X.astype(np.float64)), atol=2e-3)
    assert (ours.axes[np.arange(2), np.abs(ours.axes).argmax(axis=1)] > 0).all()


def test_no_more_than_a_block_of_mapped_vectors_is_held():
    X = Mapped(vectors(2 * BLOCK + 7, 8))
    np.testing.assert_array_equal(
        project(X, principal_components(X)), project(X[:], principal_components(X[:]))
    )
    X.most = 0
    neighbourhood_kept(X, project(X, principal_components(X)), most=100)
    assert 0 < X.most <= BLOCK


def test_cosine_looks_at_directions_only():
    X = vectors() - 50
    longer = X * np.random.default_rng(1).uniform(0.1, 9, (len(X), 1)).astype(np.float32)
    first, second = (principal_components(one, metric="cosine") for one in (X, longer))
    np.testing.assert_allclose(first.shares, second.shares, rtol=1e-4)
    X[3] = 0  # no direction at all
    assert np.isfinite(project(X, principal_components(X, metric="cosine"), metric="cosine")).all()


def test_equal_vectors_have_no_direction():
    assert principal_components(np.ones((9, 4), np.float32)).shares == (0.0, 0.0)
    assert principal_components(np.array([[1.0], [2.0], [4.0]], np.float32)).shares == (1.0,)


def test_what_components_hold_is_told_where_they_come_before_something_else():
    X = vectors()
    kept, held = reduced(X, 5, metric="euclidean")
    assert kept.shape == (400, 5)
    assert held == pytest.approx(PCA(5).fit(X).explained_variance_ratio_.sum(), abs=1e-4)


def test_numbers_that_are_not_finite_are_counted():
    X = vectors()
    X[[3, 7], 2] = np.nan, np.inf
    with pytest.raises(DataError, match="finite") as raised:
        require_finite(X)
    assert "2 vectors of 400" in str(raised.value)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("k", [1, 10, 30])
def test_trustworthiness_is_scikit_learns(k, metric):
    X = vectors(300)
    measured = normalize(X) if metric == "cosine" else X
    for plane in (PCA(2).fit_transform(measured), np.random.default_rng(0).normal(size=(300, 2))):
        kept = neighbourhood_kept(X, plane, k=k, metric=metric)
        theirs = trustworthiness(measured.astype(np.float64), plane, n_neighbors=k)
        assert kept.trustworthiness == pytest.approx(theirs, abs=2e-4)
        assert (kept.low, kept.high, kept.asked, kept.n, kept.k) == (None, None, 300, 300, k)
        near, among = (
            NearestNeighbors(n_neighbors=k).fit(one).kneighbors(return_distance=False)
            for one in (plane, measured)
        )
        shared = np.mean([len(set(a) & set(b)) / k for a, b in zip(near, among, strict=True)])
        assert kept.shared == pytest.approx(shared, abs=2e-3)


def test_a_sample_says_what_all_would():
    X = vectors(2000, 16)
    plane = project(X, principal_components(X))
    every = neighbourhood_kept(X, plane, most=2000)
    some = [neighbourhood_kept(X, plane, most=200, seed=seed) for seed in range(40)]
    held = [one.low < every.trustworthiness < one.high for one in some]
    assert {one.asked for one in some} == {200}
    assert sum(held) >= 34  # 38 are expected of 40
    assert np.mean([one.trustworthiness for one in some]) == pytest.approx(every.trustworthiness, abs=0.003)


def test_perfect_and_chance_are_told_apart():
    plane = np.random.default_rng(0).normal(size=(500, 2))
    perfect = neighbourhood_kept(plane.astype(np.float32), plane)
    assert perfect.trustworthiness == pytest.approx(1, abs=1e-5)
    assert perfect.shared == pytest.approx(1, abs=1e-3)
    mixed = neighbourhood_kept(plane.astype(np.float32), np.random.default_rng(1).normal(size=(500, 2)))
    assert mixed.trustworthiness == pytest.approx(0.5, abs=0.03)


def test_of_few_rows_fewer_neighbours_are_asked_after():
    X = vectors(4, 3)
    assert neighbourhood_kept(X, X[:, :2].astype(float)).k == 1
    assert neighbourhood_kept(vectors(12), vectors(12)[:, :2].astype(float)).k == 5


def test_rows_on_one_spot_are_no_neighbours_of_themselves():
    plane = np.repeat(np.arange(3.0)[:, None], 8, axis=0) * np.ones(2)
    near = nearest_on_plane(plane, np.arange(24), 5)
    assert not (near == np.arange(24)[:, None]).any()
    assert (near // 8 == (np.arange(24) // 8)[:, None]).all()
    X = np.repeat(vectors(3), 8, axis=0)
    assert neighbourhood_kept(X, plane, k=5).trustworthiness > 0.9


def test_a_scale_of_colours_leaves_the_extremes_out():
    assert spread(np.r_[np.linspace(0, 1, 99), 1e6]) == pytest.approx((0.0198, 1.0), abs=0.02)
    assert spread([3, 3, 3]) == (3, 3)
    assert spread([1] * 99 + [2]) == (1, 2)
