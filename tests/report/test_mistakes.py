"""Mistakes are seen beside what was learned near them; pairs, groups and regions hold to their numbers."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

import panderm
from panderm.errors import ArtifactError, ParentsError, UsageError
from panderm.report import Report
from panderm.report.attention import Attention
from panderm.report.confused import confusion_section, malignancy_of, pairs_of
from panderm.report.entry import Entry
from panderm.report.looks import look, looks_of
from panderm.report.mistakes import most_confident_mistakes, what_is_beside
from panderm.report.nearest import nearest_training
from panderm.report.space import Space, find_space
from panderm.report.together import groups_of_mistakes, regions_of, together_sections
from panderm.scores import evaluate
from panderm.statistics.nearest import mean_vector, nearest_rows
from panderm.statistics.regions import kmeans_regions, region_errors, share_test

DRAWS = 100


@pytest.fixture(scope="module")
def predicted(embeddings: panderm.Embeddings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions of the drawn world's test rows, beside the embeddings they were made of."""
    return panderm.probe(
        embeddings, out=tmp_path_factory.mktemp("predicted") / "w.pred", progress=False
    ) and (tmp_path_factory.getbasetemp())


# -- arithmetic ---------------------------------------------------------------------------------------------


def test_nearest_rows_are_those_of_the_whole_matrix_of_cosines() -> None:
    rng = np.random.default_rng(0)
    vectors, asked = rng.normal(2, 1, (9000, 5)).astype(np.float32), rng.normal(2, 1, (3, 5))
    rows = np.sort(rng.choice(9000, 8500, replace=False))
    centre = mean_vector(vectors, rows)
    assert centre == pytest.approx(vectors[rows].mean(axis=0), abs=1e-5)
    at, cosine = nearest_rows(asked, vectors, rows, 4, centre=centre)
    x, y = asked - centre, vectors[rows] - centre
    whole = (x @ y.T) / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(y, axis=1)
    assert np.array_equal(at, rows[np.argsort(-whole, axis=1)[:, :4]])
    assert cosine == pytest.approx(-np.sort(-whole, axis=1)[:, :4])


def test_a_few_rows_are_all_neighbours_and_a_vector_of_zeros_has_the_cosine_0() -> None:
    vectors = np.array([[1.0, 0], [0, 0]])
    at, cosine = nearest_rows([[2.0, 0]], vectors, np.arange(2), 5)
    assert at.tolist() == [[0, 1]] and cosine.tolist() == [[1, 0]]
    with pytest.raises(ValueError, match="k must"):
        nearest_rows([[1.0]], np.ones((1, 1)), np.arange(1), 0)
    with pytest.raises(ValueError, match="at least one row"):
        mean_vector(vectors, np.arange(0))


def test_regions_find_blobs_number_them_by_size_and_place_rows_by_distance() -> None:
    rng = np.random.default_rng(1)
    centres = 5 * np.eye(3)
    blob = np.repeat([0, 1, 2], (30, 20, 10))
    vectors = centres[blob] + rng.normal(0, 0.1, (60, 3))
    region, distance = kmeans_regions(vectors, np.arange(60), 3)
    assert np.array_equal(region, blob) and (distance >= 0).all()
    assert len(np.unique(kmeans_regions(np.ones((8, 2)), np.arange(8), 3)[0])) == 1  # vectors that repeat
    with pytest.raises(ValueError, match="k must"):
        kmeans_regions(vectors, np.arange(2), 3)


def test_regions_of_more_rows_than_are_fitted_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    blob = np.repeat([0, 1], (300, 200))
    vectors = 5 * np.eye(2)[blob] + rng.normal(0, 0.1, (500, 2))
    monkeypatch.setattr("panderm.statistics.regions.FITTED", 50)
    assert np.array_equal(kmeans_regions(vectors, np.arange(500), 2)[0], blob)


def test_rates_and_gaps_of_regions_are_those_of_repeated_rows() -> None:
    rng = np.random.default_rng(3)
    wrong, region = rng.random(40) < 0.4, rng.integers(0, 3, 40)
    weights = rng.integers(0, 3, (5, 40)).astype(np.int32)
    found = region_errors(wrong, region)(weights)
    for b in range(5):
        rows = np.repeat(np.arange(40), weights[b])
        for i in range(3):
            inside = region[rows] == i
            assert found[f"rate {i}"][b] == pytest.approx(wrong[rows][inside].mean())
            rest = wrong[rows][~inside].mean()
            assert found[f"gap {i}"][b] == pytest.approx(wrong[rows][inside].mean() - rest)


def test_the_test_of_a_share_is_close_to_pearson_and_honest_under_the_null() -> None:
    wrong = np.repeat([1, 0, 1, 0], (40, 60, 50, 150))
    inside = np.repeat([True, False], (100, 200))
    table = [[40, 60], [50, 150]]
    ours = share_test(wrong, inside, np.arange(300))
    assert ours == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue, abs=0.01)
    rng = np.random.default_rng(4)
    cluster = np.repeat(np.arange(100), 3)
    ps = []
    for _ in range(400):
        bad = (rng.random(100) < 0.3)[cluster]  # a patient's images go wrong together
        ps.append(share_test(bad, np.repeat(rng.random(100) < 0.4, 3), cluster))
    rejected = np.mean([p < 0.05 for p in ps if p is not None])
    assert 0.02 < rejected < 0.09
    naive = np.mean([share_test(b, s, np.arange(300)) < 0.05 for b, s in _pairs(rng, cluster)])  # type: ignore[operator]
    assert naive > 0.15  # images as if they were independent


def _pairs(rng: np.random.Generator, cluster: np.ndarray):  # type: ignore[no-untyped-def,type-arg]
    for _ in range(200):
        yield (rng.random(100) < 0.3)[cluster], np.repeat(rng.random(100) < 0.4, 3)


def test_too_few_errors_have_no_p() -> None:
    wrong = np.zeros(200, dtype=bool)
    assert share_test(wrong, np.arange(200) < 100, np.arange(200)) is None
    wrong[:4] = True
    assert share_test(wrong, np.arange(200) < 50, np.arange(200)) is None
