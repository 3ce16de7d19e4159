"""The linear probe: scikit-learn's contract, our embeddings, and the choices it states."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

import panderm
from panderm import LinearProbe, probe
from panderm.errors import DataError, UsageError
from panderm.probing.splits import training_rows


def expected_failures(estimator: LinearProbe) -> dict[str, str]:
    if estimator.recipe == "paper":
        return {
            "check_classifiers_train": "C = D·K/100 on two features is too strong a penalty for 83 %",
            "check_sample_weight_equivalence_on_dense_data": "single precision: equal to 1e-4 only",
        }
    torn = "folds of rows that stand twice are not folds of rows of weight 2; with C given it holds"
    return {"check_sample_weight_equivalence_on_dense_data": torn}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(
    [LinearProbe(), LinearProbe(recipe="paper")], expected_failed_checks=expected_failures
)
def test_scikit_learns_contract(estimator: LinearProbe, check: object) -> None:
    check(estimator)  # type: ignore[operator]


@pytest.fixture(scope="module")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.array(["nevus", "melanoma", "keratosis"], dtype=object)[np.arange(150) % 3]
    shift = {"nevus": 0, "melanoma": 2, "keratosis": -2}
    return rng.normal(size=(150, 8)) + np.array([[shift[c]] * 8 for c in y]) * 0.5, y


@pytest.mark.parametrize("recipe", ["tuned", "paper"])
def test_fitting_again_forgets(blobs: tuple[np.ndarray, np.ndarray], recipe: str) -> None:
    X, y = blobs
    fresh = LinearProbe(recipe).fit(X[:90], y[:90])
    used = LinearProbe(recipe).fit(X[60:] * 3 + 1, y[60:]).fit(X[:90], y[:90])
    assert np.array_equal(fresh.coef_, used.coef_)
    assert np.array_equal(fresh.predict_proba(X), used.predict_proba(X))


def test_permuted_rows_give_permuted_predictions(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = blobs
    model = LinearProbe().fit(X, y)
    order = np.random.default_rng(1).permutation(len(X))
    assert np.allclose(model.predict_proba(X[order]), model.predict_proba(X)[order], atol=1e-12)
    assert np.allclose(model.predict_proba(X).sum(axis=1), 1)


def test_strength_comes_from_validation_rows_when_given(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = blobs
    noise = np.random.default_rng(2).permutation(y[100:])  # labels that no line can learn
    honest = LinearProbe().fit(X[:100], y[:100], validation=(X[100:], y[100:]))
    blind = LinearProbe().fit(X[:100], y[:100], validation=(X[100:], noise))
    assert honest.chosen_on_ == "log loss of 50 validation rows"
    assert blind.C_ < honest.C_


def test_cross_validation_keeps_groups_whole() -> None:
    # Each patient has one class and a signature of their own: only torn patients make it look learnable.
    rng = np.random.default_rng(3)
    patient = np.repeat(np.arange(40), 6)
    y = (np.arange(40) % 2)[patient]
    X = rng.normal(size=(40, 30))[patient] + 0.01 * rng.normal(size=(240, 30))
    torn = LinearProbe().fit(X, y)
    whole = LinearProbe().fit(X, y, groups=patient)
    assert "groups kept whole" in whole.chosen_on_
    assert "groups" not in torn.chosen_on_
    assert whole.C_ < torn.C_ / 10


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    X = np.ones((6, 2))
    X[3, 1] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        LinearProbe().fit(X, [0, 1, 0, 1, 0, 1])


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="at least two classes"):
        LinearProbe().fit(np.eye(4), ["nevus"] * 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"recipe": "best"}, "recipe must be tuned or paper"), ({"C": 0.0}, "C must be greater than 0")],
)
def test_choices_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LinearProbe(**options).fit(np.eye(4), [0, 1, 0, 1])  # type: ignore[arg-type]


def test_not_fitted_is_said() -> None:
    with pytest.raises(NotFittedError):
        LinearProbe().predict(np.eye(2))


def test_embeddings_are_taken_as_they_are(embeddings: panderm.Embeddings) -> None:
    model = LinearProbe(recipe="paper").fit(embeddings)
    rows = embeddings.rows
    train = rows.split == "train"
    by_hand = LinearProbe(recipe="paper").fit(embeddings.vectors[train], rows.label[train].astype(str))
    order = [list(by_hand.classes_).index(c) for c in model.classes_]
    assert np.allclose(model.predict_proba(embeddings), by_hand.predict_proba(embeddings.vectors)[:, order])
    assert model.predict(embeddings).shape == (len(embeddings),)
    with pytest.raises(UsageError):
        LinearProbe().fit(embeddings, rows.label)


def test_predictions_are_those_of_the_test_rows(embeddings: panderm.Embeddings) -> None:
    made = probe(embeddings)
    test = embeddings.rows.in_split("test")
    assert made.image.tolist() == test.image.tolist()
    assert made.truth.tolist() == test.label.tolist()
    assert made.patient.tolist() == test.patient.tolist()
    assert made.classes == embeddings.rows.classes
    assert (made.predicted_codes() == made.truth_codes()).mean() > 0.5
    assert made.card.outcome["converged"]


def test_same_call_same_bytes(embeddings: panderm.Embeddings) -> None:
    one, two = probe(embeddings), probe(embeddings)
    assert np.array_equal(one.probabilities, two.probabilities)
    assert one.card.identity == two.card.identity
    assert probe(embeddings, seed=1).card.identity != one.card.identity


def test_scoring_val_does_not_let_val_choose(embeddings: panderm.Embeddings) -> None:
    made = probe(embeddings, test="val")
    assert "cross-validation on the training rows" in made.card.outcome["C chosen on"]


def test_the_published_subset(table: panderm.Table) -> None:
    # Their rule: filter train, DataFrame.sample(frac=1, random_state=42), head(int(n * part)).
    frame = pd.DataFrame({"image": table.image, "split": table.split})
    train = frame[frame["split"] == "train"]
    theirs = train.sample(frac=1, random_state=42).reset_index(drop=True).head(int(len(train) * 0.4))
    ours = training_rows(table, train="train", test="test", percent_data=0.4)
    assert set(table.image[ours]) == set(theirs["image"])
