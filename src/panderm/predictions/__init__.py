"""Predictions on disk: ``X.pred/`` holds one Parquet file and ``card.json``: all that scoring may read.

Beside them lies the probe that was fitted, ``probe.safetensors``, for those who want to use it again.
``one_class`` holds those where an image is of one class, ``multi_label`` those where each of several labels
is there or not; ``card`` their card, ``stored`` what both write and read alike.
"""

from __future__ import annotations

from pathlib import Path

from panderm.predictions.card import PredictionsCard, labels_of
from panderm.predictions.multi_label import (
    MultiLabelPredictions,
    open_multi_label,
)
from panderm.predictions.one_class import Predictions, open_predictions, require_one_class

__all__ = [
    "MultiLabelPredictions",
    "Predictions",
    "PredictionsCard",
    "open_either",
    "open_multi_label",
    "open_predictions",
    "require_one_class",
]


def open_either(path: Path | str) -> Predictions | MultiLabelPredictions:
    """Open a predictions folder of either form and check it.

    Raises:
        ArtifactError: not such a folder, or damaged.
    """
    return open_multi_label(path) if labels_of(Path(path)) == "several" else open_predictions(path)
