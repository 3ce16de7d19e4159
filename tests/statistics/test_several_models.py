"""The paired permutation test, Holm's correction and average ranks: laws, worked examples, exact counts."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import friedmanchisquare, kstest
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from panderm.statistics.classification import classification_scores
from panderm.statistics.holm import holm
from panderm.statistics.permutation import PermutationTest, paired_permutation, ranked_within
from panderm.statistics.ranks import average_ranks


def swapped(
    truth: NDArray[np.int64],
    first: NDArray[np.float64],
    other: NDArray[np.float64],
    clusters: NDArray[np.int64],
    score: str = "accuracy",
    permutations: int = 199,
) -> PermutationTest:
    both, twice = np.concatenate([first, other]), np.tile(truth, 2)
    return paired_permutation(
        lambda weights: classification_scores(twice, both, weights)[score],
        clusters,
        permutations=permutations,
        seed=0,
    )


def drawn(
    seed: int, patients: int, each: int, gain: float = 0.0, share: float = 0.0
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Two predictors of three classes; ``gain`` is how much surer the other is of the truth.

    ``share`` is how much of a predictor's error the images of one patient have in common.
    """
    rng = np.random.default_rng(seed)
    n, clusters = patients * each, np.repeat(np.arange(patients), each)
    truth = rng.permutation(np.arange(patients) % 3)[clusters]
    both = []
    for extra in (0.0, gain):
        own = rng.normal(size=(patients, 3))[clusters]
        logits = share * own + (1 - share) * rng.normal(size=(n, 3))
        logits[np.arange(n), truth] += 0.8 + extra
        both.append(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    return truth, both[0], both[1], clusters


@pytest.mark.parametrize("score", ["accuracy", "weighted_f1", "auroc_ovr"])
def test_few_clusters_are_swapped_in_every_way_and_counted_by_hand(score: str) -> None:
    truth, first, other, clusters = drawn(3, patients=6, each=4, gain=0.8)

    def by_hand(p: NDArray[np.float64]) -> float:
        if score == "auroc_ovr":
            onehot = np.eye(3)[truth]
            return float(np.mean([roc_auc_score(onehot[:, k], p[:, k]) for k in range(3)]))
        called = p.argmax(axis=1)
        if score == "accuracy":
            return float(accuracy_score(truth, called))
        return float(f1_score(truth, called, average="weighted"))

    observed = abs(by_hand(other) - by_hand(first))
    worlds = []
    for flips in product([False, True], repeat=6):
        swap = np.array(flips)[clusters][:, None]
        one, two = np.where(swap, other, first), np.where(swap, first, other)
        worlds.append(abs(by_hand(two) - by_hand(one)))
    expected = np.mean(np.array(worlds) >= observed - 1e-9)
    found = swapped(truth, first, other, clusters, score, permutations=64)
    assert (found.worlds, found.exact) == (64, True)
    assert found.p == pytest.approx(expected, abs=1e-12)
    many = swapped(truth, first, other, np.arange(len(truth)), score, permutations=64)
    assert not many.exact
    assert many.p == pytest.approx(round(many.p * 65) / 65)  # the observed world is one of them


def test_it_is_never_zero_and_the_same_predictions_differ_in_nothing() -> None:
    truth = np.arange(60) % 2
    sure = np.eye(2)[truth] * 0.8 + 0.1
    assert swapped(truth, 1 - sure, sure, np.arange(60)).p == 1 / 200
    assert swapped(truth, sure, sure, np.arange(60)).p == 1.0


def test_swapped_roles_and_renamed_clusters_give_the_same_p() -> None:
    truth, first, other, clusters = drawn(5, patients=8, each=3, gain=0.5)
    exact = swapped(truth, first, other, clusters, permutations=256)
    assert swapped(truth, other, first, clusters, permutations=256).p == exact.p
    assert swapped(truth, first, other, 90 - clusters, permutations=256).p == exact.p


def p_of_certainty(world: tuple[NDArray[np.int64], ...], *, whole: bool = True) -> float:
    """Test the mean probability given to the truth: a score without ties, and quick."""
    truth, first, other, clusters = world
    sure = np.concatenate([one[np.arange(len(truth)), truth] for one in (first, other)])
    found = paired_permutation(
        lambda weights: weights @ sure / len(truth),
        clusters if whole else np.arange(len(truth)),
        permutations=199,
        seed=0,
    )
    return found.p


def test_p_is_uniform_under_the_null_where_patients_have_several_images() -> None:
    found = [p_of_certainty(drawn(seed, patients=20, each=5, share=0.7)) for seed in range(300)]
    assert kstest(np.array(found) - 0.0025, "uniform").pvalue > 0.01
    assert 0.02 < np.mean(np.array(found) <= 0.05) < 0.09


def test_images_of_one_patient_swapped_apart_would_find_differences_that_are_none() -> None:
    """What whole clusters are for: the same null, tested image by image, rejects far too often."""
    worlds = [drawn(seed, patients=12, each=12, share=0.95) for seed in range(100)]
    loose, whole = (np.array([p_of_certainty(w, whole=all_) for w in worlds]) for all_ in (False, True))
    assert np.mean(loose <= 0.05) > 0.15
    assert np.mean(whole <= 0.05) < 0.12


def test_it_has_the_power_to_see_a_better_predictor() -> None:
    found = [swapped(*drawn(seed, patients=40, each=3, gain=1.0), permutations=99).p for seed in range(25)]
    assert np.mean(np.array(found) <= 0.05) > 0.9


def test_two_that_rank_alike_are_exchangeable_once_ranked() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 80)
    p = 1 / (1 + np.exp(-(rng.normal(size=80) + truth)))
    first = np.column_stack([1 - p, p])
    other = np.column_stack([1 - p**9, p**9])  # the same order, other certainty
    ranked = [ranked_within(one) for one in (first, other)]
    assert swapped(truth, *ranked, np.arange(80), "auroc").p == 1.0
    assert roc_auc_score(truth, ranked[0][:, 1]) == pytest.approx(roc_auc_score(truth, p))


@pytest.mark.parametrize(
    ("clusters", "permutations", "seed"),
    [([], 9, 0), ([[0]], 9, 0), ([0.5, 1.0], 9, 0), ([0, 1], 0, 0), ([0, 1], 9, -1)],
)
def test_arguments_out_of_range(clusters: list[float], permutations: int, seed: int) -> None:
    with pytest.raises(ValueError, match="must"):
        paired_permutation(
            lambda w: np.zeros(len(w)), np.array(clusters), permutations=permutations, seed=seed
        )


def test_a_score_that_is_not_computable_has_no_p() -> None:
    found = paired_permutation(lambda w: np.full(len(w), np.nan), np.arange(9), permutations=9, seed=0)
    assert np.isnan(found.p)


def test_holm_agrees_with_a_worked_example_and_with_its_definition() -> None:
    # R: p.adjust(c(.01, .04, .03, .005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, None, 0.04, 0.03, 0.005]) == [
        pytest.approx(p) if p else None for p in (0.03, None, 0.06, 0.06, 0.02)
    ]
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    p = np.random.default_rng(0).random(30) ** 3
    for level in (0.01, 0.05, 0.2):  # step down: reject while p(k) <= level / (m - k)
        ordered = np.sort(p)
        fails = np.flatnonzero(ordered > level / (len(p) - np.arange(len(p))))
        rejected = ordered[: fails[0] if len(fails) else len(p)]
        assert sum(x <= level for x in holm(list(p)) if x is not None) == len(rejected)
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        holm([1.5])


def test_holm_agrees_with_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="statsmodels is not installed")
    p = list(np.random.default_rng(1).random(25) ** 2)
    assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])


def test_ranks_leave_out_datasets_where_one_has_no_score() -> None:
    scores = np.array([[0.9, 0.8, 0.7, 0.6], [0.8, 0.8, np.nan, 0.7], [0.7, 0.6, 0.9, 0.5]])
    found = average_ranks(scores)
    assert found.used.tolist() == [True, True, False, True]
    assert found.ranks == pytest.approx([(1 + 1.5 + 2) / 3, (2 + 1.5 + 1) / 3, 3])
    assert found.p == pytest.approx(friedmanchisquare(*scores[:, found.used]).pvalue)
    assert average_ranks(np.exp(scores)).ranks == pytest.approx(found.ranks)  # ranks see the order alone


def test_a_method_without_any_score_does_not_cost_the_others_their_rank() -> None:
    scores = np.array([[0.9, 0.8, 0.7], [0.7, 0.6, 0.9], [0.8, 0.5, 0.8]])
    alone = average_ranks(scores)
    found = average_ranks(np.insert(scores, 1, np.nan, axis=0))
    assert found.used.all()
    assert np.isnan(found.ranks[1])
    assert np.delete(found.ranks, 1) == pytest.approx(alone.ranks)
    assert found.p == alone.p
    assert np.isnan(average_ranks(np.full((3, 2), np.nan)).ranks).all()


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([[0.9, 0.8], [0.7, 0.9]], "three or more"),
        ([[0.9], [0.8], [0.7]], "two or more datasets"),
        ([[0.9, np.nan], [np.nan, 0.7], [0.1, 0.1]], "no dataset"),
        ([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]], "equal"),
    ],
)
def test_where_friedmans_test_cannot_be_made_it_says_why(scores: list[list[float]], words: str) -> None:
    found = average_ranks(scores)
    assert found.p is None
    assert words in str(found.reason)
