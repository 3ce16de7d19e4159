"""Which findings does an image show? Several labels at once, each a column of the table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.data.label_cells import read_label_cells, read_label_lists
from panderm.data.table import Table
from panderm.embeddings import Embeddings, open_embeddings
from panderm.errors import DataError, UsageError, some
from panderm.predictions import MultiLabelPredictions, PredictionsCard
from panderm.probing.splits import rows_to_fit
from panderm.probing.table_columns import columns_of
from panderm.provenance import Provenance
from panderm.training.features import groups_of
from panderm.training.multi_label import LabelledRows, fit_labels, in_counts
from panderm.training.settings import ClassWeight, ProbeSettings


def probe_labels(
    embeddings: Embeddings | Path | str,
    labels: Sequence[str],
    *,
    separator: str | None = None,
    train: str = "train",
    val: str = "val",
    test: str = "test",
    percent_data: float = 1.0,
    C: float | None = None,
    class_weight: ClassWeight = "none",
    float64: bool = False,
    device: str = "auto",
    seed: int = 0,
    out: Path | str | None = None,
    overwrite: bool = False,
) -> MultiLabelPredictions:
    """Fit a linear probe of several labels an image on one split and predict another.

    Each label is a column of the table that was embedded, with 1, true, yes or present; 0, false, no or
    absent, in capitals or not. An empty cell, ``unknown`` or ``unk`` is not known: it is left out of the fit
    and of the scores of that label, and counted on the card. The labels share nothing but the embeddings:
    none, one or all of them may be present in an image. One that all training rows have, or none, is not
    trained, and its scores are not computable.

    Args:
        embeddings: Embeddings or the folder that holds them.
        labels: names of columns; with ``separator`` the one column that lists each image's labels.
        separator: what stands between the labels of one cell, ``";"``; an empty cell lists none.
        train: the split to fit.
        val: the split that chooses each label's strength, where it is not ``test`` and 100 rows or more know
            the label; else grouped cross-validation of the training rows does.
        test: the split to predict.
        percent_data: part of the training rows to fit, in (0, 1], as of :func:`panderm.probe`.
        C: strength of all labels, where it is not to be chosen.
        class_weight: ``balanced``: presence and absence of a label count the same.
        float64: double precision throughout.
        device: where to fit: ``auto``, ``cpu``, ``cuda``, …
        seed: of the folds.
        out: folder to write, ``X.pred``.
        overwrite: replace an ``out`` that exists.

    Raises:
        UsageError: no such column, one named twice, or several with a separator.
        ParentsError: the table is gone, or is another than it was.
        TableError: a cell that says something else.
        DataError: no rows in a split, or no label that can be trained.

    Example:
        >>> pred = panderm.probe_labels("pad.emb", ["itch", "bleed"], out="signs.pred")  # doctest: +SKIP
        >>> panderm.evaluate(pred).per_label["bleed"].scores["auroc"]  # doctest: +SKIP
        Score(value=0.81, low=0.66, high=0.93, reason=None)
    """
    started = time.monotonic()
    emb = embeddings if isinstance(embeddings, Embeddings) else open_embeddings(embeddings)
    rows = emb.rows
    fitted = rows_to_fit(rows, train=train, test=test, percent_data=percent_data)
    names, truth = truth_of_labels(rows, labels, separator)
    everything = LabelledRows(emb.vectors, truth, names, rows.image, groups_of(rows))
    held = np.flatnonzero(rows.split == val)
    choosing = C is None and val not in (train, test) and len(held) > 0
    settings = ProbeSettings(C=C, class_weight=class_weight, float64=float64, device=device, seed=seed)
    scored = np.flatnonzero(rows.split == test)
    method: dict[str, Any] = {
        **settings.record(),
        "labels": list(names),
        **({} if separator is None else {"listed in": labels[0], "separator": separator}),
        "train split": train,
        "train rows": len(fitted),
        "train rows per label": {name: in_counts(truth[fitted, k]) for k, name in enumerate(names)},
        "percent of training data": 100 * percent_data,
        "seed": seed,
    }
    fit = fit_labels(
        settings, everything.take(fitted), everything.take(held) if choosing else None, method=method
    )
    card = PredictionsCard(
        task="linear probe of several labels",
        method=method,
        outcome=fit.outcome,
        classes=names,
        labels="several",
        split=test,
        rows=len(scored),
        embeddings=emb.card,
        provenance=Provenance.now(seconds=time.monotonic() - started),
    )
    there = rows.select(scored)
    predictions = MultiLabelPredictions(
        **{name: getattr(there, name) for name in ("image", "path", "sha256", "patient", "group")},
        truth=truth[scored],
        probabilities=fit.probe.probabilities(emb.vectors[scored]),
        card=card,
        fitted=fit.probe,
    )
    if out is not None:
        predictions.save(out, overwrite=overwrite)
    return predictions


def truth_of_labels(
    rows: Table, labels: Sequence[str], separator: str | None
) -> tuple[tuple[str, ...], npt.NDArray[np.int8]]:
    """Return the labels' names and what is known of them, (n, K)."""
    if not labels or len(set(labels)) < len(labels):
        raise UsageError(
            "--labels must name columns, each once.", f"found {some(labels) or 'none'}", "--labels itch,bleed"
        )
    if separator is None:
        cells = columns_of(rows, labels, option="--labels")
        table = Path(rows.card.csv).name
        known = [read_label_cells(cells[name], rows.row, column=name, table=table) for name in labels]
        return tuple(labels), np.stack(known, axis=1)
    if len(labels) > 1 or not separator.strip():
        raise UsageError(
            "--separator must be what stands between the labels that one column lists.",
            f"found {separator!r}, and --labels {','.join(labels)}",
            '--labels findings --separator ";"',
        )
    names, truth = read_label_lists(columns_of(rows, labels, option="--labels")[labels[0]], separator)
    if not names:
        raise DataError("a column of --labels must list labels.", f"every cell of {labels[0]!r} is empty")
    return names, truth
