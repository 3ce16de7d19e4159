"""Predictions on disk: ``X.pred/`` holds one Parquet file and ``card.json``: all that scoring may read.

Beside them lies the probe that was fitted, ``probe.safetensors``, for those who want to use it again.
``one_class`` holds those where an image is of one class, ``multi_label`` those where each of several labels
is there or not; ``card`` their card, ``stored`` what both write and read alike; ``read`` reads those of any
model from a CSV or Parquet file.
"""

from __future__ import annotations

from pathlib import Path

from panderm.errors import UsageError
from panderm.predictions.card import PredictionsCard, labels_of
from panderm.predictions.multi_label import (
    MultiLabelPredictions,
    open_multi_label,
)
from panderm.predictions.one_class import Predictions, open_predictions, require_one_class
from panderm.predictions.read import SUFFIXES, FileColumns, read_predictions

__all__ = [
    "FileColumns",
    "MultiLabelPredictions",
    "Predictions",
    "PredictionsCard",
    "open_either",
    "open_multi_label",
    "open_predictions",
    "read_predictions",
    "require_one_class",
]


def open_either(
    path: Path | str, *, columns: FileColumns | None = None
) -> Predictions | MultiLabelPredictions:
    """Open a predictions folder of either form, or read a CSV or Parquet file, and check it.

    Args:
        path: the folder or the file.
        columns: which columns of a file play which part; the published result files need none.

    Raises:
        ArtifactError: not such a folder, or damaged.
        TableError: a file that cannot be read as predictions.
        UsageError: columns of a folder.
    """
    source = Path(path)
    if not source.is_dir() and (source.is_file() or source.suffix.lower() in SUFFIXES):
        return read_predictions(source, columns)
    if columns is not None:
        raise UsageError(
            "columns are named of a CSV or Parquet file.",
            f"{source} is no such file",
            "leave --truth, --proba and the other columns out",
        )
    return open_multi_label(path) if labels_of(source) == "several" else open_predictions(path)
