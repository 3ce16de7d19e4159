"""A probe of any kind behind one contract: fit, predict, save, load; on arrays or on embeddings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from panderm.embeddings import Embeddings
from panderm.errors import ArtifactError, DataError, UsageError
from panderm.fitted import read_fitted, write_fitted
from panderm.storage import new_file
from panderm.training.features import Features, groups_of
from panderm.training.fit import fit_probe
from panderm.training.linear_probe import ENOUGH_VALIDATION_ROWS, require_labels
from panderm.training.row_weights import checked_weights
from panderm.training.settings import ClassWeight, ProbeKind, ProbeSettings, Recipe

Array: TypeAlias = npt.NDArray[Any]


class Probe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of frozen embeddings, with scikit-learn's contract.

    Args:
        kind: ``linear``: see :class:`panderm.LinearProbe`. ``knn``: the k most similar training rows vote
            (Caron et al., ICCV 2021). ``prototypes``: the nearest class mean of centred, normalised features
            (Snell et al., NeurIPS 2017; Wang et al., arXiv:1911.04623). ``mlp``: one hidden layer.
            ``attentive``: a learned query over patch tokens, as AIM and V-JEPA probe frozen encoders.
        recipe: of a linear probe, ``tuned`` or ``paper``.
        C: strength of a linear probe; by default chosen.
        k: neighbours; by default chosen.
        class_weight: ``balanced``: each class counts as much as any other.
        float64: double precision throughout, where a kind has a choice.
        device: ``auto``, ``cpu``, ``cuda``, …
        seed: of starts, of the order of rows and of folds.

    Attributes:
        classes_: (K,) in the order of the probabilities' columns; of embeddings all classes of their table.
        probe_: the :class:`panderm.fitted.FittedProbe`; an attentive one has ``attention(tokens)``.
        outcome_: what was chosen, on what, and how the fit ended.

    Example:
        >>> probe = panderm.Probe("knn").fit(X_train, y_train, groups=patients)  # doctest: +SKIP
        >>> probe.save("knn.safetensors")  # doctest: +SKIP
        >>> panderm.Probe.load("knn.safetensors").predict(X_test)  # doctest: +SKIP
    """

    def __init__(
        self,
        kind: ProbeKind = "linear",
        *,
        recipe: Recipe = "tuned",
        C: float | None = None,
        k: int | None = None,
        class_weight: ClassWeight = "none",
        float64: bool = False,
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        self.kind = kind
        self.recipe = recipe
        self.C = C
        self.k = k
        self.class_weight = class_weight
        self.float64 = float64
        self.device = device
        self.seed = seed

    def fit(
        self,
        X: Array | Embeddings,
        y: Array | None = None,
        sample_weight: Array | None = None,
        *,
        groups: Array | None = None,
        validation: tuple[Array, Array] | None = None,
    ) -> Self:
        """Fit the probe, and choose what is left to be chosen.

        Args:
            X: (n, D) features, or tokens (n, h, w, D) of an attentive probe; or Embeddings, whose train rows
                are fitted and whose val rows, where there are 100 or more, choose.
            y: (n,) classes; None with Embeddings.
            sample_weight: (n,) how much each row counts; one of weight 0 is not there.
            groups: (n,) patient or lesion of each row, never torn where training rows choose.
            validation: (X, y) to choose on; without it training rows do.

        Raises:
            DataError: fewer than two classes, values that are not finite, validation classes never trained.
            UsageError: a choice that there is not.
        """
        if isinstance(X, Embeddings):
            if any(given is not None for given in (y, sample_weight, groups, validation)):
                raise UsageError("Embeddings bring their own labels, groups and validation rows.")
            require_labels(X.rows)
            held = self._of(X, "val")
            return self._fit(self._of(X, "train"), held if len(held) >= ENOUGH_VALIDATION_ROWS else None)
        rows, labels = self._checked(X, y)
        check_classification_targets(labels)
        weights = checked_weights(sample_weight, len(rows))
        there = np.arange(len(rows)) if weights is None else np.flatnonzero(weights)
        codes = None if groups is None else np.unique(groups, return_inverse=True)[1]
        named, known = _named(labels), np.unique(labels[there])
        train = _features(rows, named, known, codes, weights).take(there)
        val = None
        if validation is not None:
            val = _features(np.asarray(validation[0]), _named(np.asarray(validation[1])), known)
        return self._fit(train, val, known)

    def _fit(self, train: Features, val: Features | None, classes: Array | None = None) -> Self:
        settings = ProbeSettings(**self.get_params())
        self.classes_ = np.array(train.classes, dtype=object) if classes is None else classes
        self.n_features_in_ = int(train.X.shape[-1])
        method = {
            **settings.record(),
            "asked": self.get_params(),
            "labels": self.classes_.tolist(),
            "labels type": self.classes_.dtype.str,
        }
        fit = fit_probe(settings, train, val, method=method)
        self.probe_, self.outcome_ = fit.probe, fit.outcome
        return self

    def predict_proba(self, X: Array | Embeddings) -> npt.NDArray[np.float64]:
        """Return probabilities (n, K), columns as in ``classes_``; of Embeddings, for all their rows."""
        check_is_fitted(self)
        if isinstance(X, Embeddings):
            return self.probe_.probabilities(self._seen(X))
        rows: Array = (
            X if self.kind == "attentive" else validate_data(self, X, dtype=self._dtype, reset=False)
        )
        return self.probe_.probabilities(rows)

    def predict(self, X: Array | Embeddings) -> Array:
        """Return the most probable class of each row, (n,)."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def save(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write one file, whole or not at all, and return it: weights as safetensors, which runs nothing."""
        check_is_fitted(self)
        with new_file(Path(path), overwrite=overwrite) as temporary:
            write_fitted(self.probe_, temporary)
        return Path(path)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Open what ``save`` wrote; what it predicts is the same to the last bit on the same processor.

        Raises:
            ArtifactError: no such file, or a damaged one.
        """
        fitted = read_fitted(Path(path))
        told = fitted.method
        try:  # the probe of predictions tells less
            made = cls(**told.get("asked", {"kind": fitted.kind}))
            labels = np.array(told.get("labels", fitted.classes), dtype=told.get("labels type", "O"))
        except (TypeError, ValueError) as error:
            raise ArtifactError(
                "a probe's file must be whole.", f"{path}: {error}", "save it again"
            ) from None
        if made.kind != fitted.kind or labels.shape != (len(fitted.classes),):
            raise ArtifactError("a probe's file must be whole.", f"{path} is of two kinds", "save it again")
        made.probe_, made.classes_, made.n_features_in_ = fitted, labels, fitted.dim
        made.outcome_ = {}
        return made

    @property
    def _dtype(self) -> type[np.floating[Any]]:
        return np.float64 if self.float64 else np.float32

    def _checked(self, X: Array, y: Array | None) -> tuple[Array, Array]:
        if self.kind != "attentive":
            rows, labels = validate_data(self, X, y, dtype=self._dtype, ensure_min_samples=2)
            return rows, labels
        labels = np.asarray(y)
        if labels.shape != (len(X),):
            raise DataError("every row must have one class.", f"found {len(X):,} rows, y of {labels.shape}")
        return X, labels

    def _of(self, emb: Embeddings, split: str) -> Features:
        """Return the rows of a split; without a split column all are train."""
        rows = np.flatnonzero(emb.rows.split == split)
        if emb.card.table.roles["split"] is None and split == "train":
            rows = np.arange(len(emb))
        table = emb.rows.select(rows)
        whole = Features(self._seen(emb), emb.rows.label, table.classes, emb.rows.image).take(rows)
        return replace(whole, groups=groups_of(table))

    def _seen(self, emb: Embeddings) -> Array:
        if self.kind != "attentive":
            return emb.vectors
        if emb.tokens is None:
            raise DataError(
                "an attentive probe needs patch tokens.",
                f"{emb.path or 'these embeddings'}: made without",
                "embed again with --tokens",
            )
        return emb.tokens


def _features(
    X: Array, named: Array, known: Array, groups: Array | None = None, weights: Array | None = None
) -> Features:
    images = np.array([f"row {i}" for i in range(len(X))], dtype=object)
    return Features(X, named, tuple(_named(known)), images, groups, weights)


def _named(labels: Array) -> Array:
    return np.array([str(label) for label in labels.tolist()], dtype=object)
