"""What both forms of predictions write and read alike: who and where each row is, and the probe beside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from panderm.data.columns import Column
from panderm.embeddings import unreadable
from panderm.errors import ArtifactError
from panderm.fitted import FittedProbe, read_fitted, write_fitted
from panderm.predictions.card import PredictionsCard
from panderm.storage import new_folder

ROW = ("image", "path", "sha256", "patient", "group")
FILE = "predictions.parquet"
VALIDATION = "validation.parquet"
_PROBE_FILE = "probe.safetensors"


def write_predictions(
    folder: Path,
    columns: Mapping[str, pa.Array],
    card: PredictionsCard,
    probe: FittedProbe | None,
    *,
    beside: Mapping[str, Mapping[str, pa.Array]] | None = None,
    overwrite: bool,
) -> Path:
    """Write a predictions folder, whole or not at all, and return it."""
    with new_folder(folder, overwrite=overwrite) as temporary:
        for file, its in {FILE: columns, **(beside or {})}.items():
            pq.write_table(pa.table(dict(its)), temporary / file)
        if probe is not None:
            write_fitted(probe, temporary / _PROBE_FILE, predictions=card.identity)
        card.write(temporary)
    return folder


def read_predictions(
    folder: Path, schema: pa.Schema, *, optional: tuple[str, ...] = (), file: str = FILE
) -> pa.Table:
    """Return the columns of a predictions folder.

    Args:
        folder: ``X.pred``.
        schema: names and types.
        optional: names of columns that earlier versions, or other questions, do without.
        file: which of its files.

    Raises:
        ArtifactError: they cannot be read.
    """
    try:
        there = pq.read_schema(folder / file).names
        wanted = pa.schema([f for f in schema if f.name in there or f.name not in optional])
        return pq.read_table(folder / file).select(wanted.names).cast(wanted)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ArtifactError(
            "predictions must be readable.", unreadable(folder / file, error), "probe again"
        ) from None


def probe_beside(folder: Path) -> Path | None:
    """Return the file of the probe that lies beside predictions; folders of earlier versions hold none."""
    beside = folder / _PROBE_FILE
    return beside.absolute() if beside.exists() else None


def probe_of(fitted: FittedProbe | Path | None, card: PredictionsCard) -> FittedProbe | None:
    """Return the probe that made some predictions, read and checked where it still lies in its file.

    Raises:
        ArtifactError: its file is damaged or of other predictions.
    """
    if not isinstance(fitted, Path):
        return fitted
    dim = card.made_of("A probe").encoder.dim
    return read_fitted(fitted, predictions=card.identity, classes=card.classes, dim=dim)


def texts(column: Column) -> pa.Array:
    """Return a column of strings, some of them None, as Arrow has it."""
    return pa.array(column.tolist(), pa.string())


def cells(table: pa.Table, name: str) -> Column:
    """Return a column of strings as an object array."""
    return np.array(table[name].to_pylist(), dtype=object)


def lists(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> pa.Array:
    """Return float64 (n, K) as a list of K numbers a row."""
    flat = pa.array(np.ascontiguousarray(values).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
