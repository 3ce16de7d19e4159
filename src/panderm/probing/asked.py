"""Which rows play which part in a question, and what a probe is given of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.embeddings import Embeddings
from panderm.probing.inputs import Inputs, Positions
from panderm.probing.units import Unit, UnitPool, Units, units_of
from panderm.training.features import Features, groups_of


@dataclass(frozen=True, eq=False)
class Asked:
    """Which rows of some embeddings are fitted, choose, calibrate and are predicted; positions, ascending.

    Attributes:
        train: rows to fit.
        test: rows to predict; none of the others.
        split: what the predicted rows are called on the predictions' card.
        val: rows that choose what is left to be chosen; None: cross-validation of the training rows.
        calibration: rows for the temperature; None for none.
        validation: the name of a split whose rows, neither fitted nor scored, are predicted too, for
            thresholds that are chosen later; None for none.
        method: what else was decided, for the card, in the order in which it is told.
        task: the question, for the card; by default the name of the probe's kind.
        weights: float64 (n,) of all rows of the embeddings, how much each counts in the fit; None for 1 each.
        unit: what is taken together (:func:`panderm.probing.units.require_agreement` says whether it can be).
        unit_pool: where: ``embedding``, before the fit, or ``probability``, after it.
    """

    train: Positions
    test: Positions
    split: str
    val: Positions | None = None
    calibration: Positions | None = None
    validation: str | None = None
    method: dict[str, Any] = field(default_factory=dict)
    task: str | None = None
    weights: npt.NDArray[np.float64] | None = None
    unit: Unit = "image"
    unit_pool: UnitPool = "embedding"


@dataclass(frozen=True, eq=False)
class Known:
    """All that a fit may see: embeddings of the rows to fit, to choose and to calibrate on, and no others.

    Attributes:
        emb: these rows.
        asked: which of them play which part; ``test`` is empty.
        units: of these rows, where units are pooled before the fit.
    """

    emb: Embeddings
    asked: Asked
    units: Units | None

    def features(self, rows: Positions, inputs: Inputs) -> Features:
        """Return some rows, or their units, as a probe is fitted on them."""
        X, weights = inputs.of(self.emb, rows), self.asked.weights
        weights = None if weights is None else weights[rows]
        if self.units is not None:
            units = self.units.select(rows)
            X, rows = units.mean(X), rows[units.first()]
            weights = None if weights is None else units.mean(weights)
        table = self.emb.rows.select(rows)
        return Features(X, table.label, table.classes, table.image, groups_of(table), weights)


def known(emb: Embeddings, asked: Asked) -> Known:
    """Return what a fit may see of a question.

    Raises:
        ValueError: a row to predict is among the others.
    """
    parts = [rows for rows in (asked.train, asked.val, asked.calibration) if rows is not None]
    every = np.unique(np.concatenate(parts))
    if np.isin(asked.test, every).any():
        raise ValueError("rows to predict must not be fitted, nor choose, nor calibrate")
    units = units_of(emb.rows, asked.unit) if asked.unit_pool == "embedding" else None

    def place(rows: Positions | None) -> Any:
        return None if rows is None else np.searchsorted(every, rows)

    within = replace(
        asked,
        train=place(asked.train),
        test=np.empty(0, dtype=np.intp),
        val=place(asked.val),
        calibration=place(asked.calibration),
        weights=None if asked.weights is None else asked.weights[every],
    )
    return Known(emb.select(every, read=False), within, None if units is None else units.select(every))
