"""Does it hold elsewhere? A probe of one table, scored on another that it has never seen anything of."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.data.common_labels import CommonLabels, common_labels, names_at, read_label_map
from panderm.data.diagnoses import Indeterminate, Level
from panderm.data.table import SPLITS, Table, TableCard
from panderm.embeddings import Embeddings, open_embeddings, require_one_encoder
from panderm.errors import PandermWarning, UsageError, plural, some
from panderm.gate.overlap import find_shared, require_apart
from panderm.predictions import Predictions
from panderm.probing.answer import Asked, answer
from panderm.probing.pooled import Pooling, inputs_for
from panderm.probing.sample_weights import sample_weights
from panderm.probing.splits import (
    Calibrate,
    require_calibration_rows,
    training_rows,
    what_differs,
    what_is_fitted,
)
from panderm.probing.units import Unit, UnitPool, require_agreement
from panderm.provenance import Provenance
from panderm.training.linear_probe import ENOUGH_VALIDATION_ROWS, require_labels
from panderm.training.settings import ClassWeight, ProbeKind, ProbeSettings, Recipe


def probe_external(
    embeddings: Embeddings | Path | str,
    test_on: Embeddings | Path | str,
    *,
    test_split: str | None = None,
    level: Level | None = None,
    taxonomy: str | None = None,
    test_taxonomy: str | None = None,
    indeterminate: Indeterminate = "keep",
    label_map: Path | str | None = None,
    keep_absent: bool = False,
    allow_overlap: bool = False,
    kind: ProbeKind = "linear",
    recipe: Recipe = "tuned",
    train: str = "train",
    val: str = "val",
    percent_data: float = 1.0,
    C: float | None = None,
    k: int | None = None,
    class_weight: ClassWeight = "none",
    sample_weight: str | None = None,
    pooling: Pooling = "stored",
    unit: Unit = "image",
    unit_pool: UnitPool = "embedding",
    float64: bool = False,
    device: str = "auto",
    calibrate: Calibrate = "none",
    seed: int = 0,
    out: Path | str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Predictions:
    """Fit a probe on one table and predict the rows of another.

    All that is chosen is chosen on the first table. Labels are matched by name, through the diagnosis map
    (``level``), or by a map of the user's own. Rows of a class that the probe was never trained on are left
    out, and counted on the card: no answer of it can be right. Classes of which the other table has no row
    are left out of the answers, whose probabilities are divided by their sum: accuracy is then easier than
    where they might be given, AUROC is fair to both (``keep_absent`` keeps them).

    Args:
        embeddings: Embeddings or the folder that holds them: to be fitted.
        test_on: embeddings of another table by the same encoder: to be predicted.
        test_split: its split to predict; by default all its rows.
        level: see :func:`panderm.data.common_labels.common_labels`; likewise the next two.
        taxonomy: likewise.
        test_taxonomy: likewise.
        indeterminate: at level malignant, as of :func:`panderm.map_labels`.
        label_map: CSV of two columns: a label of the other table and the class it is, empty to leave it out.
        keep_absent: keep classes of which the other table has no row among the answers.
        allow_overlap: go on where the two tables share images, patients or lesions.
        kind: as of :func:`panderm.probe`; likewise all that follow.
        recipe: likewise.
        train: the split to fit; all rows where the table has no splits.
        val: the split that chooses, where it has 100 rows or more.
        percent_data: likewise.
        C: likewise.
        k: likewise.
        class_weight: likewise.
        sample_weight: likewise.
        pooling: likewise.
        unit: likewise, of both tables.
        unit_pool: likewise.
        float64: likewise.
        device: likewise.
        calibrate: likewise, on ``val`` of the first table.
        seed: likewise.
        out: folder to write, ``X.pred``.
        overwrite: replace an ``out`` that exists.
        progress: show progress on standard error.

    Raises:
        ParentsError: the two were embedded by different encoders, or in different form.
        LeakError: the two tables share images, patients or lesions.
        DataError: no class in common, no rows to fit or to predict, one class only to fit.
        UsageError: labels of no known dataset, or a split that is not there.

    Example:
        >>> panderm.probe_external("ham.emb", "pad.emb", level="diagnosis")  # doctest: +SKIP
    """
    started = time.monotonic()
    emb, other = (
        one if isinstance(one, Embeddings) else open_embeddings(one) for one in (embeddings, test_on)
    )
    called = tuple(str(one.path or one.card.table.csv) for one in (emb, other))
    require_one_encoder(emb.card, other.card, (called[0], called[1]))
    settings = ProbeSettings(kind, recipe, C, k, class_weight, float64, device, seed)
    if train == val:
        raise UsageError("rows that are fitted must not choose.", f"--train and --val: {train}")
    fitted = training_rows(emb.rows, train=train, test=None, percent_data=percent_data)
    held = np.flatnonzero(emb.rows.split == val)
    chooses = (settings.chooses or pooling == "choose") and len(held) >= ENOUGH_VALIDATION_ROWS
    require_calibration_rows(emb.rows, calibrate, train=train, val=val, test=None)
    used = np.union1d(fitted, held) if chooses or calibrate != "none" else fitted
    scored = _rows_to_score(other, test_split)
    if not allow_overlap:
        require_apart(emb.rows.select(used), other.rows.select(scored))
    common = _common(
        emb,
        other.rows.select(scored),
        fitted,
        level=level,
        taxonomy=taxonomy,
        test_taxonomy=test_taxonomy,
        indeterminate=indeterminate,
        label_map=label_map,
        keep_absent=keep_absent,
    )
    scored = scored[common.truth != None]  # noqa: E711 (an array)
    require_agreement(emb.rows.select(used), unit)
    require_agreement(other.rows.select(scored), unit, np.full(len(scored), "scored", dtype=object))
    whole = _named(other.card.table)
    method = {
        **what_is_fitted(emb.rows, fitted, settings, train=train, percent_data=percent_data),
        **what_differs(sample_weight=sample_weight, pooling=pooling, unit=unit, unit_pool=unit_pool),
        **({} if calibrate == "none" else {"calibrate": calibrate}),
        "scored on": f"{plural(len(scored), 'row')} of {whole if test_split is None else test_split}",
        **common.method,
        **_told(common),
        "overlap": _overlap(emb.rows.select(used), other.rows.select(scored)) if allow_overlap else "none",
    }
    asked = Asked(
        train=fitted,
        test=scored,
        split=whole if test_split is None else f"{test_split} of {whole}",
        val=held if chooses else None,
        calibration=held if calibrate == "temperature" else None,
        method=method,
        weights=None if sample_weight is None else sample_weights(emb.rows, sample_weight, used),
        unit=unit,
        unit_pool=unit_pool,
    )
    made = answer(emb, asked, settings, inputs=inputs_for(emb, kind, pooling), other=other, progress=progress)
    made = _in_common(made, emb, fitted, common, seconds=time.monotonic() - started)
    for sentence in _warnings(common, whole):
        warnings.warn(sentence, PandermWarning, stacklevel=2)
    if out is not None:
        made.save(out, overwrite=overwrite)
    return made


def _rows_to_score(other: Embeddings, test_split: str | None) -> npt.NDArray[np.intp]:
    require_labels(other.rows)
    if test_split is None:
        return np.arange(len(other))
    found = np.flatnonzero(other.rows.split == test_split)
    if not len(found):
        there = [name for name in SPLITS if (other.rows.split == name).any()]
        raise UsageError(
            "--test-split must name a split of the other table.",
            f"found {test_split!r}; {other.card.table.name} has: {some(there) or 'no split'}",
            "leave it out and all rows are predicted",
        )
    return found


def _common(
    emb: Embeddings,
    scored: Table,
    fitted: npt.NDArray[np.intp],
    *,
    level: Level | None,
    taxonomy: str | None,
    test_taxonomy: str | None,
    indeterminate: Indeterminate,
    label_map: Path | str | None,
    keep_absent: bool,
) -> CommonLabels:
    there = set(emb.rows.label[fitted])
    trained = [c for c in emb.rows.classes if c in there]
    places = (emb.card.table.csv, scored.card.csv)
    own_map = None
    if label_map is not None:
        names = names_at(trained, level, taxonomy, indeterminate, places[0])
        own_map = read_label_map(label_map, sorted(set(scored.label)), names)
    return common_labels(
        trained,
        scored.label,
        level=level,
        taxonomy=taxonomy,
        test_taxonomy=test_taxonomy,
        indeterminate=indeterminate,
        label_map=own_map,
        keep_absent=keep_absent,
        names=places,
    )


def _in_common(
    made: Predictions,
    emb: Embeddings,
    fitted: npt.NDArray[np.intp],
    common: CommonLabels,
    *,
    seconds: float,
) -> Predictions:
    """Return predictions under the common names; the probe stays where its classes are those names."""
    there = set(emb.rows.label[fitted])
    trained = [i for i, c in enumerate(emb.rows.classes) if c in there]
    probabilities, none = common.probabilities(made.probabilities[:, trained])
    now = {str(label): truth for label, truth in zip(common.labels, common.truth, strict=True)}
    outcome = dict(made.card.outcome)
    if common.absent and not set(common.absent) & set(common.classes):
        best = made.probabilities[:, trained].argmax(axis=1)
        away = int((common.place[best] < 0).sum())
        outcome["most probable class was one that is left out"] = f"{away:,} of {plural(len(made), 'row')}"
    if none:
        outcome["no class that is kept had any probability"] = plural(none, "row")
    same = common.classes == made.card.classes
    card = made.card.model_copy(
        update={
            "task": f"{made.card.task}, external validation",
            "classes": common.classes,
            "outcome": outcome,
            "provenance": Provenance.now(seconds=seconds),
        }
    )
    truth = np.array([now[str(label)] for label in made.truth], dtype=object)
    return replace(
        made, truth=truth, probabilities=probabilities, card=card, fitted=made.fitted if same else None
    )


def _told(common: CommonLabels) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if common.left_out:
        told["left out of scoring"] = {label: f"{n:,} ({why})" for label, (n, why) in common.left_out.items()}
    if common.absent:
        kept = set(common.absent) <= set(common.classes)
        told["no row of"] = f"{', '.join(common.absent)}: {'kept' if kept else 'left out of the answers'}"
    return told


def _named(table: TableCard) -> str:
    """Return a table's file with its folder: many are called labels.csv."""
    path = Path(table.csv)
    return f"{path.parent.name}/{path.name}"


def _overlap(first: Table, other: Table) -> str:
    found = find_shared(first, other)
    return "; ".join(str(one) for one in found) + ", allowed" if found else "none"


def _warnings(common: CommonLabels, name: str) -> list[str]:
    told = []
    if common.left_out:
        n = sum(rows for rows, _ in common.left_out.values())
        which = some([f"{label} ({rows:,})" for label, (rows, _) in common.left_out.items()], 12)
        told.append(
            f"{plural(n, 'row')} of {name} are left out, as the probe was never trained on their class: "
            f"{which}. Scores say nothing of them"
        )
    if common.absent and not set(common.absent) & set(common.classes):
        told.append(
            f"{name} has no row of {some(common.absent, 12)}: left out of the answers, whose other "
            "probabilities are divided by their sum (--keep-absent keeps them)"
        )
    return told
