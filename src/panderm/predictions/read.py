"""Predictions of any model, read from a CSV or Parquet file: the truth and the probabilities are enough."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.data.columns import Column, in_order, read_cells, read_column, whole_numbers
from panderm.data.label_cells import read_label_cells
from panderm.errors import PandermWarning, TableError, UsageError, did_you_mean, plural, some
from panderm.predictions.card import PredictionsCard, PredictionsFile, ValidationRows
from panderm.predictions.multi_label import MultiLabelPredictions
from panderm.predictions.one_class import Predictions
from panderm.provenance import Provenance
from panderm.storage import sha256_of_file

Floats = npt.NDArray[np.float64]
SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
_ROUNDING = 0.0005  # of each probability, where they were written with three decimals
_PUBLISHED = ("filename", "true_label", "predicted_label")


@dataclass(frozen=True)
class FileColumns:
    """Which columns of a file play which part.

    Attributes:
        truth: the column with the true class; several columns of 1 and 0 are several labels.
        proba: the columns with the probabilities, or one pattern whose star is the class: ``"p_*"``. A single
            column has the probability of the second of two classes.
        predicted: the predicted class; where it is not the most probable one, the card says how often.
        patient, group: whose rows belong together.
        image: names, each there once; by default the rows' numbers.
        split_column: column that says which rows to score.
        split, val: its values for the rows to score, and for those beside them, if there are any.
        fold: which fold each row was held out in.
        classes: in their order; needed where the columns do not name them.
        name: what the model is called.
    """

    truth: Sequence[str] = ()
    proba: Sequence[str] = ()
    predicted: str | None = None
    patient: str | None = None
    group: str | None = None
    image: str | None = None
    split_column: str | None = None
    split: str = "test"
    val: str = "val"
    fold: str | None = None
    classes: Sequence[str] | None = None
    name: str | None = None


def read_predictions(
    path: Path | str, columns: FileColumns | None = None
) -> Predictions | MultiLabelPredictions:
    """Read predictions from a CSV or Parquet file; the published result files need no columns named.

    Probabilities that miss a sum of 1 by no more than rounding at three decimals are divided by their sum,
    with a warning; others are refused.

    Args:
        path: the file.
        columns: which column plays which part.

    Raises:
        TableError: a column that is not there, an empty or strange cell, an image twice, a truth that is no
            class, or rows that do not sum to 1.
        UsageError: columns that do not go together.

    Example:
        >>> read_predictions("preds.csv", FileColumns(truth=["dx"], proba=["p_*"]))  # doctest: +SKIP
    """
    source, asked = Path(path), columns or FileColumns()
    frame = read_cells(source)
    published = not (asked.truth or asked.proba) and set(_PUBLISHED) <= set(frame.columns)
    if published:
        several = [c for c in frame.columns if re.fullmatch(r"probability_class_\d+", c)]
        several.sort(key=lambda column: int(column.rpartition("_")[2]))
        asked = replace(
            asked,
            truth=["true_label"],
            proba=several or ["probability"],
            predicted="predicted_label",
            image="filename",
        )
    if not (asked.truth and asked.proba):
        raise UsageError(
            "a file of predictions needs the column of the truth and those of the probabilities.",
            f"{source.name} has: {', '.join(map(str, frame.columns))}",
            "--truth dx --proba 'p_*'",
        )
    roles = ("predicted", "patient", "group", "image", "split_column", "fold")
    parts = {role: name for role in roles if (name := getattr(asked, role)) is not None}
    for column in (*asked.truth, *parts.values()):
        _require_column(frame, column, source)
    file = PredictionsFile(
        path=str(source.resolve()),
        sha256=sha256_of_file(source),
        layout="published" if published else "columns",
        columns={"truth": ", ".join(asked.truth)} | {r.removesuffix("_column"): c for r, c in parts.items()},
        probabilities={},
    )
    whole = frame
    if asked.split_column is not None:
        cells = read_column(frame, asked.split_column)
        frame = _rows_of(whole, cells, asked.split, asked.split_column, source)
    if len(asked.truth) > 1:
        return _several(frame, asked, file, source)
    opened = _one(frame, asked, file, source)
    if asked.split_column is None or not (cells == asked.val).any() or asked.val == asked.split:
        return opened
    beside = replace(asked, split=asked.val, classes=opened.classes)
    held = _one(_rows_of(whole, cells, asked.val, asked.split_column, source), beside, file, source)
    note = ValidationRows(split=asked.val, rows=len(held))
    return replace(opened, validation=held, card=opened.card.model_copy(update={"validation": note}))


def _require_column(frame: pd.DataFrame, name: str, source: Path) -> None:
    have = list(frame.columns)
    if have.count(name) != 1:
        must = "be there once." if name in have else f"exist{did_you_mean(name, have)}"
        raise TableError(f"column {name!r} must {must}", f"{source.name} has: {', '.join(map(str, have))}")


def _rows_of(frame: pd.DataFrame, cells: Column, split: str, column: str, source: Path) -> pd.DataFrame:
    chosen = cells == split
    if not chosen.any():
        there = sorted({str(x) for x in cells if x is not None})
        raise TableError(
            f"split {split!r} must have rows.",
            f"column {column!r} of {source.name} has: {some(there)}",
            "name one with --split",
        )
    kept: pd.DataFrame = frame[chosen]
    kept.attrs = frame.attrs
    return kept


def _one(frame: pd.DataFrame, asked: FileColumns, file: PredictionsFile, source: Path) -> Predictions:
    truth = whole_numbers(read_column(frame, asked.truth[0]))
    _require_full(truth, frame, asked.truth[0], source)
    by_class = _columns_of_classes(frame, asked, truth, source, published=file.layout == "published")
    names = list(by_class)
    if file.layout == "published":  # labels are positions
        position = {str(k): name for k, name in enumerate(names)}
        truth = np.array([position.get(x, x) for x in truth], dtype=object)
    strange = [i for i, x in enumerate(truth) if x not in by_class]
    if strange:
        raise TableError(
            "the truth must be one of the classes.",
            [
                f"{plural(len(strange), 'row')} of {source.name} from row {frame.index[strange[0]]} on: "
                f"{some(sorted({truth[i] for i in strange}))}",
                f"the classes are: {some(names)}",
            ],
            "name a column of probabilities for each class",
        )
    single = by_class[names[0]] is None
    given = {name: column for name, column in by_class.items() if column is not None}
    p = _numbers(frame, list(given.values()), source)
    if single:
        p = np.column_stack([1 - p[:, 0], p[:, 0]])
    p, outcome = _summing_to_one(p, frame, source)
    if asked.predicted is not None:
        said = whole_numbers(read_column(frame, asked.predicted))
        if file.layout == "published":
            said = np.array([position.get(x, x) for x in said], dtype=object)
        apart = int((said != np.array(names, dtype=object)[p.argmax(axis=1)]).sum())
        if apart:
            outcome["rows predicted otherwise than most probable"] = apart
    file = file.model_copy(update={"probabilities": given, "positive_only": single})
    fold = None
    if asked.fold is not None:
        fold = read_column(frame, asked.fold)
        _require_full(fold, frame, asked.fold, source)
    who: dict[str, Any] = dict(_who(frame, asked, source))
    return Predictions(
        **who,
        truth=truth,
        probabilities=p,
        card=_card(frame, asked, file, tuple(names), outcome),
        fold=fold,
    )


def _several(
    frame: pd.DataFrame, asked: FileColumns, file: PredictionsFile, source: Path
) -> MultiLabelPredictions:
    labels = list(asked.truth)
    found = _matched(frame, asked.proba, source)
    named = {name: found[name] for name in labels if name in found} if "*" in asked.proba[0] else {}
    if not named and "*" not in asked.proba[0] and len(found) == len(labels):
        named = dict(zip(labels, found.values(), strict=True))
    if len(named) != len(labels):
        raise UsageError(
            "every label needs a column of probabilities.",
            f"labels: {some(labels)}; probabilities: {some(list(found))}",
            "name them in the same order, or with a pattern whose star is the label's column",
        )
    p = _numbers(frame, list(named.values()), source)
    _require_shares(p, frame, source)
    rows = frame.index.to_numpy(dtype=np.int64)
    truth = [
        read_label_cells(read_column(frame, name), rows, column=name, table=source.name) for name in labels
    ]
    who: dict[str, Any] = dict(_who(frame, asked, source))
    return MultiLabelPredictions(
        **who,
        truth=np.column_stack(truth),
        probabilities=p,
        card=_card(
            frame, asked, file.model_copy(update={"probabilities": named}), tuple(labels), {}, several=True
        ),
    )


def _columns_of_classes(
    frame: pd.DataFrame, asked: FileColumns, truth: Column, source: Path, *, published: bool
) -> dict[str, str | None]:
    """Return by class, in order, its column; None for the first of two without one."""
    found = _matched(frame, asked.proba, source)
    star = "*" in asked.proba[0]
    stated = list(asked.classes or ())
    if len(found) == 1:
        seen = set(truth)
        if not stated and published:
            stated = ["0", "1"]
        elif not stated and star and len(seen - set(found)) == 1:
            stated = [*(seen - set(found)), *found]
        elif not stated and seen <= {"0", "1"}:
            stated = ["0", "1"]
        if len(stated) != 2:
            raise UsageError(
                "one column of probabilities needs two classes, the second being the one it is of.",
                f"column {asked.truth[0]!r} of {source.name} has: {some(list(in_order(seen)))}",
                "state them in order: --classes benign,malignant",
            )
        return {stated[0]: None, stated[1]: next(iter(found.values()))}
    if star or (not published and not stated):
        if stated and set(stated) != set(found):
            raise UsageError(
                "--classes must name the classes that the columns have.",
                f"--classes: {some(stated)}; columns: {some(list(found))}",
            )
        return {name: found[name] for name in stated or found}
    stated = stated or [str(k) for k in range(len(found))]
    if len(stated) != len(found):
        raise UsageError(
            "--classes must name one class for each column of probabilities.",
            f"{plural(len(stated), 'class', 'classes')}, {plural(len(found), 'column')}",
        )
    return dict(zip(stated, found.values(), strict=True))


def _matched(frame: pd.DataFrame, proba: Sequence[str], source: Path) -> dict[str, str]:
    """Return columns by what the star stands for, or by their own names."""
    if not any("*" in one for one in proba):
        for column in proba:
            _require_column(frame, column, source)
        return {column: column for column in proba}
    before, _, after = proba[0].partition("*")
    pattern = re.compile(re.escape(before) + "(.+)" + re.escape(after))
    found = {m[1]: str(c) for c in frame.columns if (m := pattern.fullmatch(str(c)))}
    if len(proba) > 1 or "*" in after or not found:
        raise UsageError(
            "--proba must match columns: one pattern with one star, or their names.",
            f"found {' '.join(proba)!r}; {source.name} has: {', '.join(map(str, frame.columns))}",
            "--proba 'p_*'",
        )
    for column in found.values():
        _require_column(frame, column, source)
    return found


def _numbers(frame: pd.DataFrame, columns: list[str], source: Path) -> Floats:
    found = np.empty((len(frame), len(columns)))
    for k, column in enumerate(columns):
        cells = frame[column].astype(str).str.strip()
        if frame.attrs.get("separator", ",") != ",":
            cells = cells.str.replace(",", ".", regex=False)
        found[:, k] = pd.to_numeric(cells, errors="coerce")
        bad = np.flatnonzero(~np.isfinite(found[:, k]))
        if len(bad):
            raise TableError(
                "a probability must be a number in every row.",
                f"{plural(len(bad), 'row')} of column {column!r} of {source.name}: "
                f"row {frame.index[bad[0]]} has {str(frame[column].iloc[bad[0]])!r}",
            )
    return found


def _require_shares(p: Floats, frame: pd.DataFrame, source: Path) -> None:
    bad = np.flatnonzero(((p < 0) | (p > 1)).any(axis=1))
    if not len(bad):
        return
    percent = bool(((p >= 0) & (p <= 100)).all() and p.max() > 1.5)
    row = ", ".join(f"{x:g}" for x in p[bad[0]][:5])
    raise TableError(
        "probabilities must be from 0 to 1.",
        f"{plural(len(bad), 'row')} of {source.name} are not: row {frame.index[bad[0]]} has {row}",
        "these may be percentages: divide them by 100"
        if percent
        else "these may be logits: take the softmax",
    )


def _summing_to_one(p: Floats, frame: pd.DataFrame, source: Path) -> tuple[Floats, dict[str, object]]:
    _require_shares(p, frame, source)
    sums = p.sum(axis=1)
    off = np.abs(sums - 1)
    worst = int(off.argmax())
    if off[worst] <= 1e-6:
        return p, {}
    if off[worst] > _ROUNDING * p.shape[1] + 1e-9:
        raise TableError(
            "the probabilities of a row must sum to 1.",
            f"{plural(int((off > 1e-6).sum()), 'row')} of {source.name} do not: "
            f"row {frame.index[worst]} sums to {sums[worst]:.4g}",
            "name the columns of all classes with --proba; several labels an image need a --truth for each",
        )
    n = int((off > 1e-6).sum())
    warnings.warn(
        f"{plural(n, 'row')} of {source.name} sum to 1 only up to {off[worst]:.2g}: divided by their sum",
        PandermWarning,
        stacklevel=2,
    )
    return p / sums[:, None], {"rows divided by their sum": n, "largest distance from 1": float(off[worst])}


def _require_full(cells: Column, frame: pd.DataFrame, column: str, source: Path) -> None:
    empty = [i for i, cell in enumerate(cells) if cell is None]
    if empty:
        raise TableError(
            f"column {column!r} must be filled in every row.",
            f"{plural(len(empty), 'row')} of {source.name} are empty, first row {frame.index[empty[0]]}",
        )


def _who(frame: pd.DataFrame, asked: FileColumns, source: Path) -> dict[str, Column]:
    if asked.image is None:
        image = np.array([f"row {i}" for i in frame.index], dtype=object)
    else:
        image = read_column(frame, asked.image)
        _require_full(image, frame, asked.image, source)
        twice = pd.unique(image[pd.Series(image).duplicated().to_numpy()])
        if len(twice):
            raise TableError(
                "an image must be there once.",
                f"{plural(len(twice), 'image')} more than once in column {asked.image!r} of {source.name}: "
                f"{some([str(x) for x in twice])}",
                "remove the repeated rows",
            )
    none = np.full(len(frame), None, dtype=object)
    who = {"image": image, "path": none, "sha256": none}
    for role in ("patient", "group"):
        who[role] = read_column(frame, getattr(asked, role))
        if getattr(asked, role) is not None:
            _require_full(who[role], frame, getattr(asked, role), source)
    return who


def _card(
    frame: pd.DataFrame,
    asked: FileColumns,
    file: PredictionsFile,
    classes: tuple[str, ...],
    outcome: dict[str, object],
    *,
    several: bool = False,
) -> PredictionsCard:
    return PredictionsCard(
        provenance=Provenance.now(),
        task="predictions of a file",
        method={},
        outcome=outcome,
        classes=classes,
        labels="several" if several else "one",
        split=asked.split if asked.split_column else "all",
        rows=len(frame),
        file=file,
        name=asked.name,
    )
