"""Rows to choose on that were not fitted: the validation rows, or folds that keep groups whole."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from panderm.errors import DataError, plural, some
from panderm.training.features import Features

Rows = npt.NDArray[Any]


def held_out(
    train: Features, val: Features | None, *, folds: int = 5, seed: int = 0
) -> tuple[list[tuple[Features, Features]], str]:
    """Return pairs (rows to fit, rows to choose on) and what they are in words; no pairs where none can be.

    Args:
        train: the training rows.
        val: the validation rows; None: folds of the training rows.
        folds: at most so many.
        seed: of the folds.

    Raises:
        DataError: a class of the validation rows was never trained.
    """
    if val is not None:
        require_trained(train, val)
        return [(train, val)], plural(len(val), "validation row")
    pairs, how = stratified_folds(train.codes(), train.groups, folds=folds, seed=seed)
    told = f"{len(pairs)}-fold cross-validation on the training rows, {how}"
    return [(train.take(t), train.take(h)) for t, h in pairs], told


def stratified_folds(
    codes: npt.NDArray[np.int64], groups: Rows | None, *, folds: int = 5, seed: int = 0
) -> tuple[list[tuple[Rows, Rows]], str]:
    """Return folds that tear no group, and how they were made.

    A held-out row whose class the rest of its folds does not have says nothing about a probe: it is left out.

    Args:
        codes: (n,) classes.
        groups: (n,) what belongs together; None where each row stands alone.
        folds: at most so many, and no more than two classes have groups for; none where that is fewer than 2.
        seed: of the shuffle.

    Returns:
        Positions (fitted, held out) of each fold, and words.
    """
    unit = np.arange(len(codes)) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = sorted(len(np.unique(unit[codes == code])) for code in np.unique(codes))
    k = min(folds, units[-2]) if len(units) > 1 else 0
    if k < 2:
        return [], ""
    if groups is None:
        splitter, how = StratifiedKFold(k, shuffle=True, random_state=seed), "stratified"
    else:
        splitter = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
        how = "stratified, groups kept whole"
    with warnings.catch_warnings():  # of classes with fewer rows than folds, which is no news
        warnings.simplefilter("ignore", UserWarning)
        made = list(splitter.split(unit, codes, None if groups is None else unit))
    known = [(t, h[np.isin(codes[h], codes[t])]) for t, h in made]
    return [(t, h) for t, h in known if len(h) and len(np.unique(codes[t])) > 1], how


def require_trained(train: Features, val: Features) -> None:
    """Raise :class:`DataError` where a class of the validation rows was never trained."""
    never = sorted(set(val.present) - set(train.present))
    if never:
        raise DataError(
            "every class of the validation rows must be among the training rows.",
            f"only in validation: {some(never)}",
            "check the split",
        )


def require_two_classes(train: Features) -> None:
    """Raise :class:`DataError` where there is nothing to tell apart."""
    if len(train.present) < 2:
        raise DataError(
            "training rows must have at least two classes.",
            f"found only one class: {some(train.present)}, in {plural(len(train), 'row')}",
            "check the label column and the split",
        )
