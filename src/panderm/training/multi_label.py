"""Several labels an image, each there or not: one logistic regression a label, on rows where it is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.data.columns import Column
from panderm.errors import DataError, UsageError, plural
from panderm.fitted import FittedLinear
from panderm.training.features import require_finite
from panderm.training.fit import Fit
from panderm.training.held_out import stratified_folds
from panderm.training.linear_probe import ENOUGH_VALIDATION_ROWS
from panderm.training.settings import ClassWeight, ProbeSettings
from panderm.training.strength import STRENGTHS
from panderm.training.whitened import WhitenedPath

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Rows to fit, or to choose on, each with what is known of K labels.

    Attributes:
        X: float32 (n, D).
        truth: int8 (n, K): 1 present, 0 absent, -1 not known.
        labels: the K names.
        images: (n,) names, for messages.
        groups: int (n,) the patient, or lesion, of each row, kept whole by cross-validation; None where each
            row stands alone.
    """

    X: npt.NDArray[Any]
    truth: npt.NDArray[np.int8]
    labels: tuple[str, ...]
    images: Column
    groups: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, rows: npt.NDArray[Any]) -> LabelledRows:
        """Return some rows (mask or positions)."""
        groups = None if self.groups is None else self.groups[rows]
        return LabelledRows(self.X[rows], self.truth[rows], self.labels, self.images[rows], groups)

    @property
    def present(self) -> Floats:
        """Return 1 where a label is present, else 0, (n, K)."""
        return np.asarray(self.truth == 1, dtype=np.float64)

    def both(self, k: int, rows: npt.NDArray[Any] | slice = slice(None)) -> bool:
        """Say whether some of these rows have a label and others have it not."""
        return {0, 1} <= set(self.truth[rows, k].tolist())

    def weights(self, class_weight: ClassWeight, like: LabelledRows | None = None) -> Floats:
        """Return how much each cell counts, (n, K): 0 where it is not known.

        Args:
            class_weight: ``balanced``: presence and absence of a label weigh the same, and all its cells
                together as many as they are.
            like: the rows whose counts balance them; by default these.
        """
        known = self.truth >= 0
        if class_weight == "none":
            return known.astype(np.float64)
        counted = (self if like is None else like).truth
        rows, present = (counted >= 0).sum(axis=0), (counted == 1).sum(axis=0)
        of_its_kind = np.where(self.truth == 1, present, rows - present)
        return np.where(known, rows / (2 * np.maximum(of_its_kind, 1)), 0.0)


def fit_labels(
    settings: ProbeSettings, train: LabelledRows, val: LabelledRows | None, *, method: dict[str, Any]
) -> Fit:
    """Fit a linear probe of several labels: K logistic regressions that share nothing but the features.

    Each minimises the mean log loss over the n rows where its label is known + ‖w‖²/(2·C·n), on features
    that are centred and divided by one number: scikit-learn's ``LogisticRegression(C=C)``. Its strength is
    chosen by log loss on the validation rows, where 100 or more of them know the label and it is present in
    some and absent in others; else by cross-validation of its training rows.

    Args:
        settings: what was decided: C, class weights, seed.
        train: the rows to fit.
        val: rows that may choose strengths.
        method: what was decided, in words, for the probe's file.

    Raises:
        DataError: features that are not finite, or no label that can be trained.
        UsageError: a strength that is not greater than 0.
    """
    require_finite(train.X, train.images)
    if settings.C is not None and not 0 < settings.C < np.inf:
        raise UsageError(f"C must be greater than 0 and finite, not {settings.C}.")
    trained = [k for k in range(len(train.labels)) if train.both(k)]
    if not trained:
        raise DataError(
            "of a label there must be training rows that have it and training rows that do not.",
            [f"{name!r}: {in_counts(train.truth[:, k])}" for k, name in enumerate(train.labels)],
            "check the label columns and the split",
        )
    chosen = _strengths(settings, train, val, trained)
    weights = train.weights(settings.class_weight)[:, trained]
    C = np.array([chosen[k][0] for k in trained])
    found = WhitenedPath(
        train.X,
        train.present[:, trained],
        len(trained),
        link="sigmoid",
        weights=weights,
        float64=settings.float64,
        device=settings.device,
    ).fit(C)
    weight = np.zeros((len(train.labels), train.X.shape[1]))
    bias = np.full(len(train.labels), -np.inf)  # of a label never trained
    weight[trained], bias[trained] = found.weight, found.bias
    names = train.labels
    outcome: dict[str, Any] = {
        "C": {names[k]: chosen[k][0] for k in trained},
        "C chosen on": {names[k]: chosen[k][1] for k in trained},
        "converged": found.converged,
        "iterations": found.iterations,
        "largest gradient": found.gradient,
        "gradient norm": found.gradient_norm,
        "precision": found.precision,
        "objective": found.objective,
    }
    if never := {name: in_counts(train.truth[:, k]) for k, name in enumerate(names) if k not in chosen}:
        outcome["not trained"] = never
    probe = FittedLinear(classes=names, method=method, weight=weight, bias=bias, link="sigmoid")
    return Fit(probe, outcome)


def in_counts(truth: npt.NDArray[np.int8]) -> str:
    """Return ``"present in 12 rows, absent in 200, not known in 3"``."""
    present, absent, unknown = (int((truth == code).sum()) for code in (1, 0, -1))
    told = f"present in {plural(present, 'row')}, absent in {absent:,}"
    return told + (f", not known in {unknown:,}" if unknown else "")


def _strengths(
    settings: ProbeSettings, train: LabelledRows, val: LabelledRows | None, trained: Sequence[int]
) -> dict[int, tuple[float, str]]:
    """Return for each label the strength to use, and what it was chosen on."""
    if settings.C is not None:
        return dict.fromkeys(trained, (settings.C, "given"))
    weights = train.weights(settings.class_weight)
    chosen: dict[int, tuple[float, str]] = {}
    if val is not None:
        require_finite(val.X, val.images)
        enough = [
            k for k in trained if (val.truth[:, k] >= 0).sum() >= ENOUGH_VALIDATION_ROWS and val.both(k)
        ]
        held = val.weights(settings.class_weight, train)
        best = _best(train, np.array(enough, dtype=np.intp), weights[:, enough], val, held[:, enough])
        for k, C in best.items():
            known = plural(int((val.truth[:, k] >= 0).sum()), "validation row")
            chosen[k] = (C, f"log loss of {known}")
    problems: list[tuple[int, Floats, Floats]] = []
    told: dict[int, str] = {}
    for k in (k for k in trained if k not in chosen):
        rows = np.flatnonzero(train.truth[:, k] >= 0)
        groups = None if train.groups is None else train.groups[rows]
        folds, how = stratified_folds(train.truth[rows, k].astype(np.int64), groups, seed=settings.seed)
        folds = [(fitted, out) for fitted, out in folds if train.both(k, rows[fitted])]
        for _, out in folds:
            fitted, held_out = weights[:, k].copy(), np.zeros(len(train))
            fitted[rows[out]], held_out[rows[out]] = 0.0, weights[rows[out], k]
            problems.append((k, fitted, held_out))
        told[k] = f"log loss of {len(folds)}-fold cross-validation on the training rows, {how}"
        if not folds:
            chosen[k] = (
                1.0,
                "a default: too few training rows with the label, or without it, to cross-validate",
            )
    if problems:
        labels, fitted_on, scored_on = zip(*problems, strict=True)
        best = _best(train, np.array(labels), np.stack(fitted_on, axis=1), train, np.stack(scored_on, axis=1))
        chosen |= {k: (C, told[k]) for k, C in best.items()}
    return chosen


def _best(
    train: LabelledRows, labels: npt.NDArray[np.intp], weights: Floats, held_out: LabelledRows, scored: Floats
) -> dict[int, float]:
    """Return for each label the strength of least log loss, summed over its problems.

    Args:
        train: rows to fit.
        labels: (P,) the label of each problem.
        weights: (n, P) how much each row counts in its fit.
        held_out: rows to score.
        scored: (m, P) how much each of those counts in its loss.
    """
    if not len(labels):
        return {}
    path = WhitenedPath(
        train.X, train.present[:, labels], len(labels), link="sigmoid", weights=weights, rough=True
    )
    X, present = held_out.X.astype(np.float64), held_out.present[:, labels]
    every = np.unique(labels)
    losses: list[Floats] = []
    for strength in STRENGTHS:
        fit = path.fit(np.full(len(labels), strength))
        logits = X @ fit.weight.T + fit.bias
        loss = (scored * (np.logaddexp(0, logits) - present * logits)).sum(axis=0)
        losses.append(np.array([loss[labels == k].sum() for k in every]))
        # Past the valley weaker penalties only overfit more, and take longest.
        if (len(losses) - 1 - np.argmin(losses, axis=0) >= 3).all():
            break
    return {int(k): STRENGTHS[at] for k, at in zip(every, np.argmin(losses, axis=0), strict=True)}
