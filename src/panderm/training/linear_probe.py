"""A linear probe with scikit-learn's contract, on arrays or on embeddings."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from panderm.data.table import Table
from panderm.embeddings import Embeddings
from panderm.errors import DataError, UsageError, plural, some
from panderm.statistics.resampling import cluster_codes
from panderm.training.features import Features, require_finite
from panderm.training.logistic import RidgePath, fit_paper
from panderm.training.settings import Recipe

Array: TypeAlias = npt.NDArray[Any]
# Half decades, strongest penalty first: each fit begins at the one before.
STRENGTHS = tuple(float(c) for c in np.logspace(-6, 2, 17))
# Fewer validation rows than this choose a strength by luck: cross-validation of the training rows is better.
ENOUGH_VALIDATION_ROWS = 100


class LinearProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Multinomial logistic regression on frozen embeddings, with scikit-learn's contract.

    Args:
        recipe: ``tuned``: squared L2 on centred features, strength chosen by log loss on the validation
            rows, or by cross-validation that keeps groups whole. ``paper``: the published
            probe exactly: raw features, un-squared norm, C = D·K/100, one L-BFGS step of at most 1000
            iterations from PyTorch's start at seed 0 (Yan et al. 2025, released code).
        C: strength, larger is weaker penalty; by default chosen (tuned) or D·K/100 (paper).
        folds: of the cross-validation.
        max_iter: of L-BFGS.
        seed: of the paper's start and of the folds.

    Attributes:
        classes_: (K,) in the order of the probabilities' columns.
        coef_: float64 (K, D); intercept_: float64 (K,); n_features_in_: D.
        C_: the strength used; chosen_on_: what it was chosen on.
        fit_: iterations, gradient, objective and whether L-BFGS converged.

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
        folds: int = 5,
        max_iter: int = 1000,
        seed: int = 0,
    ) -> None:
        self.recipe = recipe
        self.C = C
        self.folds = folds
        self.max_iter = max_iter
        self.seed = seed

    def fit(
        self,
        X: Array | Embeddings,
        y: Array | None = None,
        *,
        groups: Array | None = None,
        validation: tuple[Array, Array] | None = None,
    ) -> Self:
        """Fit the probe.

        Args:
            X: (n, D) features; or Embeddings, whose train rows are fitted and whose val rows, where there
                are 100 or more, choose the strength.
            y: (n,) classes; None with Embeddings.
            groups: (n,) patient or lesion of each row, kept whole in cross-validation.
            validation: (X, y) to choose the strength on (``tuned`` only).

        Raises:
            DataError: fewer than two classes, values that are not finite, validation classes never trained.
        """
        if isinstance(X, Embeddings):
            if y is not None or groups is not None or validation is not None:
                raise UsageError("Embeddings bring their own labels, groups and validation rows.")
            return self.fit_rows(_in_split(X, "train"), _in_split(X, "val"))
        features, labels = validate_data(self, X, y, dtype=np.float32, ensure_min_samples=2)
        check_classification_targets(labels)
        self._fit(features, labels, np.unique(labels), groups, validation)
        return self

    def fit_rows(self, train: Embeddings, val: Embeddings | None = None) -> Self:
        """Fit all rows of some embeddings; ``val``, where it has 100 rows or more, chooses the strength.

        Patients, or lesions, are kept whole in cross-validation; ``classes_`` keep the table's order.
        """
        require_labels(train.rows)
        enough = val is not None and len(val) >= ENOUGH_VALIDATION_ROWS
        return self.fit_features(
            _as_features(train), _as_features(val) if val is not None and enough else None
        )

    def fit_features(self, train: Features, val: Features | None = None) -> Self:
        """Fit some rows; ``val`` chooses the strength, else cross-validation that keeps groups whole."""
        classes = np.array(train.present, dtype=object)
        validation = None if val is None else (val.X, val.labels)
        self._fit(train.X, train.labels, classes, train.groups, validation, train.images)
        return self

    def _fit(
        self,
        X: Array,
        y: Array,
        classes: Array,
        groups: Array | None,
        validation: tuple[Array, Array] | None,
        images: Array | None = None,
    ) -> None:
        if self.recipe not in ("tuned", "paper"):
            raise UsageError(f"recipe must be tuned or paper, not {self.recipe!r}.")
        if self.C is not None and not 0 < self.C < np.inf:
            raise UsageError(f"C must be greater than 0 and finite, not {self.C}.")
        require_finite(X, images)
        if len(classes) < 2:
            raise DataError(
                "training rows must have at least two classes.",
                f"found only one class: {some(list(classes))}, in {plural(len(y), 'row')}",
                "check the label column and the split",
            )
        self.classes_ = classes
        self.n_features_in_ = X.shape[1]
        codes = _codes(y, classes)
        if self.recipe == "paper":
            self.C_ = self.C if self.C is not None else X.shape[1] * len(classes) / 100
            self.chosen_on_ = "given" if self.C is not None else "the published rule, D·K/100"
            raw = np.ascontiguousarray(X, dtype=np.float32)
            self.fit_ = fit_paper(raw, codes, self.C_, seed=self.seed, max_iter=self.max_iter)
        else:
            self.C_, self.chosen_on_ = self._choose(X, codes, groups, validation)
            with threadpool_limits(1, "blas"):
                self.fit_ = RidgePath(X, codes, len(classes), max_iter=self.max_iter).fit(self.C_)
        if not np.isfinite([self.fit_.objective, *self.fit_.bias, *self.fit_.weight.ravel()]).all():
            raise DataError(
                "the fit must arrive at finite numbers.",
                f"it did not, with C {self.C_:g}",
                "choose another C",
            )
        self.coef_, self.intercept_ = self.fit_.weight, self.fit_.bias
        self.n_iter_ = self.fit_.iterations

    def _choose(
        self, X: Array, y: Array, groups: Array | None, validation: tuple[Array, Array] | None
    ) -> tuple[float, str]:
        if self.C is not None:
            return self.C, "given"
        if validation is not None:
            Xv, yv = np.asarray(validation[0], dtype=np.float32), np.asarray(validation[1])
            require_finite(Xv)
            unknown = sorted({str(c) for c in yv} - {str(c) for c in self.classes_})
            if unknown:
                raise DataError(
                    "every class of the validation rows must be among the training rows.",
                    f"only in validation: {some(unknown)}",
                    "check the split",
                )
            best = self._best([(X, y, Xv, _codes(yv, self.classes_))])
            return best, f"log loss of {plural(len(yv), 'validation row')}"
        folds, how = self._folds(y, groups)
        if not folds:
            return 1.0, "a default: too few rows of some class to cross-validate"
        best = self._best([(X[t], y[t], X[h], y[h]) for t, h in folds])
        return best, f"log loss of {len(folds)}-fold cross-validation on the training rows, {how}"

    def _best(self, parts: list[tuple[Array, Array, Array, Array]]) -> float:
        """Return the strength of least log loss summed over held-out rows: (X, y, X held out, y held out)."""
        K = len(self.classes_)
        # A fold a thread: many small products gain nothing from threads of their own.
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
            paths = list(
                pool.map(lambda p: RidgePath(p[0], p[1], K, max_iter=self.max_iter, rough=True), parts)
            )
            losses: list[float] = []
            for strength in STRENGTHS:
                fits = pool.map(lambda path, C=strength: path.fit(C), paths)
                loss = 0.0
                for fit, (_, _, held_out, codes) in zip(fits, parts, strict=True):
                    likelihood = fit.probabilities(held_out.astype(np.float64))[np.arange(len(codes)), codes]
                    loss -= float(np.log(np.maximum(likelihood, 1e-15)).sum())
                losses.append(loss)
                # Past the valley weaker penalties only overfit more, and take longest.
                if len(losses) - 1 - int(np.argmin(losses)) >= 3:
                    break
        return STRENGTHS[int(np.argmin(losses))]

    def _folds(self, y: Array, groups: Array | None) -> tuple[list[tuple[Array, Array]], str]:
        """Return folds in which every class is trained on and no group is torn, and say so in words."""
        unit = np.arange(len(y)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
        rarest = min(len(np.unique(unit[y == code])) for code in np.unique(y))
        k = min(self.folds, rarest)
        if k < 2:
            return [], ""
        if groups is None:
            splitter, how = StratifiedKFold(k, shuffle=True, random_state=self.seed), "stratified"
        else:
            splitter = StratifiedGroupKFold(k, shuffle=True, random_state=self.seed)
            how = "stratified, groups kept whole"
        folds = list(splitter.split(unit, y, None if groups is None else unit))
        # Whole groups cannot always be spread so that every class is in every training part.
        return [(t, h) for t, h in folds if len(h) and len(np.unique(y[t])) == len(np.unique(y))], how

    def predict_proba(self, X: Array | Embeddings) -> npt.NDArray[np.float64]:
        """Return probabilities (n, K), columns as in ``classes_``; of Embeddings, for all their rows."""
        return np.asarray(softmax(self.logits(X), axis=1))

    def logits(self, X: Array | Embeddings) -> npt.NDArray[np.float64]:
        """Return x·Wᵀ + b, (n, K), whose softmax are the probabilities; of Embeddings, for all their rows."""
        check_is_fitted(self)
        if isinstance(X, Embeddings):
            X = X.vectors
        features = validate_data(self, X, dtype=np.float32, reset=False)
        return np.asarray(features.astype(np.float64) @ self.coef_.T + self.intercept_)

    def predict(self, X: Array | Embeddings) -> Array:
        """Return the most probable class of each row, (n,)."""
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])


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


def _as_features(emb: Embeddings) -> Features:
    codes, unit = cluster_codes(emb.rows.patient, emb.rows.group, len(emb))
    groups = None if unit == "image" else codes
    return Features(emb.vectors, emb.rows.label, emb.rows.classes, emb.rows.image, groups)


def _codes(y: Array, classes: Array) -> npt.NDArray[np.int64]:
    position = {c: i for i, c in enumerate(classes.tolist())}
    return np.array([position[c] for c in np.asarray(y).tolist()], dtype=np.int64)
