"""A linear probe with scikit-learn's contract, on arrays or on embeddings."""

from __future__ import annotations

from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GroupKFold
from sklearn.utils import Tags, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from panderm.data.table import Table
from panderm.embeddings import Embeddings
from panderm.errors import DataError, UsageError, plural, some
from panderm.training.features import Features, features_of, require_finite
from panderm.training.held_out import stratified_folds
from panderm.training.logistic import fit_paper
from panderm.training.row_weights import checked_weights
from panderm.training.settings import Recipe
from panderm.training.strength import Problem, choose_on_folds, choose_on_rows
from panderm.training.whitened import Link

Array: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float64]
# Fewer validation rows than this choose a strength by luck: cross-validation of the training rows is better.
ENOUGH_VALIDATION_ROWS = 100


class LinearProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Logistic regression on frozen embeddings, with scikit-learn's contract.

    Args:
        recipe: ``tuned``: squared L2 on centred features divided by their root mean square, solved to
            scikit-learn's optimum; strength chosen by log loss on the validation rows, or by
            cross-validation that keeps groups whole. ``paper``: the published probe exactly: raw features,
            un-squared norm, C = D·K/100, one L-BFGS step of at most 1000 iterations in single precision from
            PyTorch's start at seed 0 (Yan et al. 2025, released code).
        C: strength, larger is weaker penalty; by default chosen (tuned) or D·K/100 (paper).
        class_weight: ``balanced``: each class weighs as much as any other, n/(K·n_k) a row; or a dictionary
            of weights; None: each row weighs 1.
        float64: double precision from the start (tuned only). Without it features are taken in single
            precision, as embeddings are stored; the optimum is found in double precision either way.
        device: where a tuned probe is fitted: ``cpu``, ``cuda``, or ``auto``, a GPU where it pays.
        folds: of the cross-validation.
        max_iter: of L-BFGS.
        seed: of the paper's start and of the folds.

    Attributes:
        classes_: (K,) in the order of the probabilities' columns; of several labels 0 … K-1.
        coef_: float64 (K, D); intercept_: float64 (K,); n_features_in_: D.
        C_: the strength used; chosen_on_: what it was chosen on.
        loss_: mean log loss of the rows it was chosen on, weighed as the fit weighs rows; None where nothing
            was chosen.
        fit_: iterations, gradient, objective, precision and whether L-BFGS converged.

    Example:
        >>> probe = panderm.LinearProbe(recipe="paper").fit(X_train, y_train)  # doctest: +SKIP
        >>> probe.predict_proba(X_test).shape  # doctest: +SKIP
        (200, 7)
    """

    def __init__(
        self,
        recipe: Recipe = "tuned",
        *,
        C: float | None = None,
        class_weight: Literal["balanced"] | dict[Any, float] | None = None,
        float64: bool = False,
        device: str = "auto",
        folds: int = 5,
        max_iter: int = 1000,
        seed: int = 0,
    ) -> None:
        self.recipe = recipe
        self.C = C
        self.class_weight = class_weight
        self.float64 = float64
        self.device = device
        self.folds = folds
        self.max_iter = max_iter
        self.seed = seed

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = tags.target_tags.multi_output = self.recipe == "tuned"
        return tags

    def fit(
        self,
        X: Array | Embeddings,
        y: Array | None = None,
        sample_weight: Array | None = None,
        *,
        groups: Array | None = None,
        validation: tuple[Array, Array] | None = None,
    ) -> Self:
        """Fit the probe.

        Args:
            X: (n, D) features; or Embeddings, whose train rows are fitted and whose val rows, where there
                are 100 or more, choose the strength.
            y: (n,) classes; or (n, K) of 0 and 1, K labels that are each there or not (tuned only), which
                share one strength; None with Embeddings.
            sample_weight: (n,) how much each row counts: a row of weight 2 is a row that stands twice, in
                the features' mean and scale too; one of weight 0 is not there.
            groups: (n,) patient or lesion of each row, kept whole in cross-validation.
            validation: (X, y) to choose the strength on (``tuned`` only).

        Raises:
            DataError: fewer than two classes, values that are not finite, validation classes never trained.
            UsageError: a choice that there is not.
        """
        if isinstance(X, Embeddings):
            if y is not None or groups is not None or validation is not None or sample_weight is not None:
                raise UsageError("Embeddings bring their own labels, groups and validation rows.")
            return self.fit_rows(_in_split(X, "train"), _in_split(X, "val"))
        several = y is not None and np.asarray(y).shape[1:] not in ((), (1,))
        kind = np.float64 if self.float64 else np.float32
        features, labels = validate_data(self, X, y, dtype=kind, ensure_min_samples=2, multi_output=several)
        if validation is not None:
            validation = (np.asarray(validation[0], dtype=kind), np.asarray(validation[1]))
        weights = checked_weights(sample_weight, len(features))
        groups = None if groups is None else np.asarray(groups)
        if weights is not None and not weights.all():
            there = weights > 0
            features, labels, weights = features[there], labels[there], weights[there]
            groups = None if groups is None else groups[there]
        if several:
            self._fit_labels(features, labels, groups, validation, weights)
        else:
            check_classification_targets(labels)
            held = None if validation is None else (*validation, None)
            self._fit(features, labels, np.unique(labels), groups, held, weights)
        return self

    def fit_rows(self, train: Embeddings, val: Embeddings | None = None) -> Self:
        """Fit all rows of some embeddings; ``val``, where it has 100 rows or more, chooses the strength.

        Patients, or lesions, are kept whole in cross-validation; ``classes_`` keep the table's order.
        """
        require_labels(train.rows)
        enough = val is not None and len(val) >= ENOUGH_VALIDATION_ROWS
        held = features_of(val) if val is not None and enough else None
        return self.fit_features(features_of(train), held)

    def fit_features(self, train: Features, val: Features | None = None) -> Self:
        """Fit some rows; ``val`` chooses the strength, else cross-validation that keeps groups whole."""
        classes = np.array(train.present, dtype=object)
        held = None if val is None else (val.X, val.labels, val.weights)
        if val is not None and self.C is None and self.recipe == "tuned":
            require_finite(val.X, val.images)
        self._fit(train.X, train.labels, classes, train.groups, held, train.weights, train.images)
        return self

    def _fit(
        self,
        X: Array,
        y: Array,
        classes: Array,
        groups: Array | None,
        validation: tuple[Array, Array, Floats | None] | None,
        weights: Floats | None,
        images: Array | None = None,
    ) -> None:
        self._require_choices()
        require_finite(X, images)
        if len(classes) < 2:
            raise DataError(
                "training rows must have at least two classes.",
                f"found only one class: {some(list(classes))}, in {plural(len(y), 'row')}",
                "check the label column and the split",
            )
        self.classes_, self.link_ = classes, "softmax"
        self.n_features_in_ = X.shape[1]
        codes = _codes(y, classes)
        of_class = self._class_weights(codes, weights)
        total = _product(weights, None if of_class is None else of_class[codes])
        if self.recipe == "paper":
            self.C_ = self.C if self.C is not None else X.shape[1] * len(classes) / 100
            self.chosen_on_ = "given" if self.C is not None else "the published rule, D·K/100"
            self.loss_ = None
            raw = np.ascontiguousarray(X, dtype=np.float32)
            self.fit_ = fit_paper(raw, codes, self.C_, seed=self.seed, max_iter=self.max_iter, weights=total)
            self._finish()
            return
        problem = self._problem(X, codes, len(classes), "softmax", total, weights)
        if self.C is not None:
            self._given()
        elif validation is not None:
            Xv, yv, of_row = validation
            require_finite(Xv)
            unknown = sorted({str(c) for c in np.asarray(yv).tolist()} - {str(c) for c in classes})
            if unknown:
                raise DataError(
                    "every class of the validation rows must be among the training rows.",
                    f"only in validation: {some(unknown)}",
                    "check the split",
                )
            held = _codes(yv, classes)
            counts = _product(of_row, None if of_class is None else of_class[held])
            counts = np.ones(len(held)) if counts is None else counts
            self.C_, self.loss_ = choose_on_rows(problem, Xv, held, counts)
            self.chosen_on_ = f"log loss of {plural(len(held), 'validation row')}"
        else:
            folds, how = stratified_folds(codes, groups, folds=self.folds, seed=self.seed)
            self._by_folds(problem, folds, how, "too few rows of some class to cross-validate")
        self.fit_ = problem.path().fit(self.C_)
        self._finish()

    def _fit_labels(
        self,
        X: Array,
        Y: Array,
        groups: Array | None,
        validation: tuple[Array, Array] | None,
        weights: Floats | None,
    ) -> None:
        self._require_choices()
        if self.recipe == "paper" or isinstance(self.class_weight, dict):
            raise UsageError(
                "several labels are fitted by the recipe tuned, with class_weight balanced or None."
            )
        present = _zeros_and_ones(Y)
        counts = np.ones(len(Y)) if weights is None else weights
        share = (counts @ present) / counts.sum()
        if one := [k for k in range(present.shape[1]) if share[k] in (0.0, 1.0)]:
            raise DataError(
                "of a label there must be training rows that have it and training rows that do not.",
                f"not so of {plural(len(one), 'column')}: {some([str(k) for k in one])}",
            )
        self.classes_, self.link_ = np.arange(present.shape[1]), "sigmoid"
        self.n_features_in_ = X.shape[1]

        def weighed(answers: Floats, of_row: Floats) -> Any:
            if self.class_weight is None:
                return np.repeat(of_row[:, None], answers.shape[1], axis=1)
            return of_row[:, None] / (2.0 * np.where(answers == 1, share, 1 - share))

        problem = self._problem(X, present, len(share), "sigmoid", weighed(present, counts), weights)
        if self.C is not None:
            self._given()
        elif validation is not None:
            require_finite(validation[0])
            held = _zeros_and_ones(validation[1])
            self.C_, self.loss_ = choose_on_rows(
                problem, validation[0], held, weighed(held, np.ones(len(held)))
            )
            self.chosen_on_ = f"log loss of {plural(len(held), 'validation row')}"
        else:
            unit = np.arange(len(Y)) if groups is None else np.unique(groups, return_inverse=True)[1]
            k, folds = min(self.folds, len(np.unique(unit))), []
            if k > 1:
                folds = list(GroupKFold(k, shuffle=True, random_state=self.seed).split(X, groups=unit))
            self._by_folds(
                problem, folds, "at random" if groups is None else "groups kept whole", "too few groups"
            )
        self.fit_ = problem.path().fit(self.C_)
        self._finish()

    def _require_choices(self) -> None:
        if self.recipe not in ("tuned", "paper"):
            raise UsageError(f"recipe must be tuned or paper, not {self.recipe!r}.")
        if self.C is not None and not 0 < self.C < np.inf:
            raise UsageError(f"C must be greater than 0 and finite, not {self.C}.")
        if not (self.class_weight in (None, "balanced") or isinstance(self.class_weight, dict)):
            raise UsageError(f"class_weight must be balanced or None, not {self.class_weight!r}.")
        if self.recipe == "paper" and self.float64:
            raise UsageError("the recipe paper is in single precision: leave float64 out, or take tuned.")

    def _class_weights(self, codes: npt.NDArray[np.int64], weights: Floats | None) -> Floats | None:
        """Return what a row of each class counts, (K,); None for 1 each."""
        if self.class_weight is None:
            return None
        if isinstance(self.class_weight, dict):
            given = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[codes])
            return np.asarray(given, dtype=np.float64)
        held = np.bincount(codes, weights, len(self.classes_))
        return np.asarray(held.sum() / (len(held) * held))

    def _problem(
        self, X: Array, targets: Array, K: int, link: Link, total: Floats | None, weights: Floats | None
    ) -> Problem:
        options = {"float64": self.float64, "device": self.device, "max_iter": self.max_iter}
        total = np.ones(len(targets)) if total is None else total
        return Problem(X, targets, K, link, total, weights, options)

    def _given(self) -> None:
        self.C_, self.chosen_on_, self.loss_ = self.C, "given", None

    def _by_folds(self, problem: Problem, folds: list[tuple[Array, Array]], how: str, why_not: str) -> None:
        if not folds:
            self.C_, self.chosen_on_, self.loss_ = 1.0, f"a default: {why_not}", None
            return
        self.C_, self.loss_ = choose_on_folds(problem, folds)
        self.chosen_on_ = f"log loss of {len(folds)}-fold cross-validation on the training rows, {how}"

    def _finish(self) -> None:
        if not np.isfinite([self.fit_.objective, *self.fit_.bias, *self.fit_.weight.ravel()]).all():
            raise DataError(
                "the fit must arrive at finite numbers.",
                f"it did not, with C {self.C_:g}",
                "choose another C",
            )
        self.coef_, self.intercept_ = self.fit_.weight, self.fit_.bias
        self.n_iter_ = self.fit_.iterations

    def predict_proba(self, X: Array | Embeddings) -> Floats:
        """Return probabilities (n, K), columns as in ``classes_``; of Embeddings, for all their rows."""
        z = self.logits(X)
        return np.asarray(softmax(z, axis=1) if self.link_ == "softmax" else expit(z))

    def logits(self, X: Array | Embeddings) -> Floats:
        """Return x·Wᵀ + b, (n, K), which softmax, or of several labels the sigmoid, makes probabilities."""
        check_is_fitted(self)
        if isinstance(X, Embeddings):
            X = X.vectors
        features = validate_data(self, X, dtype=np.float64 if self.float64 else np.float32, reset=False)
        return np.asarray(features.astype(np.float64) @ self.coef_.T + self.intercept_)

    def predict(self, X: Array | Embeddings) -> Array:
        """Return the likeliest class of each row, (n,); of several labels 1 where one is likely, (n, K)."""
        probabilities = self.predict_proba(X)
        if self.link_ == "sigmoid":
            return np.asarray(probabilities > 0.5, dtype=np.int64)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])


def require_labels(table: Table) -> None:
    """Raise :class:`DataError` where a table was read without a label column."""
    if table.card.roles["label"] is None:
        raise DataError(
            "a probe needs labels.",
            f"{table.card.name} was read without a label column",
            "say which column it is with --label when the table is read",
        )


def _in_split(emb: Embeddings, name: str) -> Embeddings:
    if emb.card.table.roles["split"] is None and name == "train":
        return emb
    return emb.select(emb.rows.split == name)


def _codes(y: Array, classes: Array) -> npt.NDArray[np.int64]:
    position = {c: i for i, c in enumerate(classes.tolist())}
    return np.array([position[c] for c in np.asarray(y).tolist()], dtype=np.int64)


def _product(a: Floats | None, b: Floats | None) -> Floats | None:
    return b if a is None else a if b is None else a * b


def _zeros_and_ones(Y: Array) -> Floats:
    values = np.asarray(Y, dtype=np.float64)
    if not np.isin(values, (0.0, 1.0)).all():
        raise DataError("of several labels each must be 0 or 1 in each row.", "found other values")
    return values
