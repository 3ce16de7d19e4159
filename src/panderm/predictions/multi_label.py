"""Predictions where an image has any number of labels: a probability for each, beside what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from panderm.data.columns import Column
from panderm.data.label_cells import PRESENT, UNKNOWN
from panderm.errors import ArtifactError, some
from panderm.fitted import FittedProbe
from panderm.predictions.card import PredictionsCard
from panderm.predictions.stored import (
    ROW,
    cells,
    lists,
    probe_beside,
    probe_of,
    read_predictions,
    texts,
    write_predictions,
)
from panderm.provenance import read_card


@dataclass(frozen=True, eq=False)
class MultiLabelPredictions:
    """The probability of each of K labels for n images, beside the truth as far as it is known.

    Attributes:
        image: names, (n,) strings.
        path: absolute paths of the files.
        sha256: hex SHA-256 of the files as they were embedded.
        patient: (n,) strings or None.
        group: (n,) lesion or other group, strings or None.
        truth: int8 (n, K): 1 present, 0 absent, -1 not known.
        probabilities: float64 (n, K), each in [0, 1] and by itself: a row does not sum to 1. Columns in the
            order of ``classes``; 0 throughout for a label that was never trained.
        card: what made them.
        probe: the :class:`FittedProbe` that made them, or None where none was kept. Of an opened folder it
            is read, and checked, when it is first asked for.

    Example:
        >>> pred = panderm.open_multi_label("signs.pred")  # doctest: +SKIP
        >>> pred.probabilities[:, pred.classes.index("bleeds")]  # doctest: +SKIP
    """

    image: Column
    path: Column
    sha256: Column
    patient: Column
    group: Column
    truth: npt.NDArray[np.int8]
    probabilities: npt.NDArray[np.float64]
    card: PredictionsCard
    fitted: FittedProbe | Path | None = None

    def __len__(self) -> int:
        return len(self.image)

    @cached_property
    def probe(self) -> FittedProbe | None:
        """The probe that made these predictions, or None where none was kept.

        Raises:
            ArtifactError: its file is damaged or of other predictions.
        """
        return probe_of(self.fitted, self.card)

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels in their stated order."""
        return self.card.classes

    @property
    def trained(self) -> npt.NDArray[np.bool_]:
        """Say of each label whether the probe was trained on it, bool (K,)."""
        never = set(self.card.outcome.get("not trained", ()))
        return np.array([name not in never for name in self.classes])

    def save(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write the folder, whole or not at all, and return it."""
        known = pa.array((self.truth == PRESENT).ravel(), mask=(self.truth == UNKNOWN).ravel())
        columns = {name: texts(getattr(self, name)) for name in ROW}
        columns["truth"] = pa.FixedSizeListArray.from_arrays(known, len(self.classes))
        columns["probabilities"] = lists(self.probabilities)
        return write_predictions(Path(path), columns, self.card, self.probe, overwrite=overwrite)


def open_multi_label(path: Path | str) -> MultiLabelPredictions:
    """Open a predictions folder of several labels an image and check it.

    Raises:
        ArtifactError: not such a folder, damaged, rows missing, probabilities outside of 0 to 1, or a
            folder of one class an image.

    Example:
        >>> pred = panderm.open_multi_label("signs.pred")  # doctest: +SKIP
    """
    folder = Path(path)
    card = read_card(folder, PredictionsCard, "predictions")
    if card.labels == "one":
        raise ArtifactError(
            "this needs predictions of several labels an image.",
            f"{folder} holds one class an image: {some(card.classes)}",
            "open it with panderm.open_predictions",
        )
    K = len(card.classes)
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ROW),
            ("truth", pa.list_(pa.bool_(), K)),
            ("probabilities", pa.list_(pa.float64(), K)),
        ]
    )
    table = read_predictions(folder, schema)
    cells_of_truth = table["truth"].combine_chunks().flatten().cast(pa.int8()).fill_null(UNKNOWN)
    flat = table["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    truth = cells_of_truth.to_numpy(zero_copy_only=False)
    found = None
    if len(table) != card.rows or len(truth) != card.rows * K or len(flat) != card.rows * K:
        found = f"{len(table)} of {card.rows} rows"
    elif not ((flat >= 0) & (flat <= 1)).all():  # false for what is not a number, too
        found = "probabilities outside of 0 to 1"
    if found:
        raise ArtifactError(
            "predictions must be whole, every probability from 0 to 1.", f"{folder}: {found}", "probe again"
        )
    return MultiLabelPredictions(
        **{name: cells(table, name) for name in ROW},
        truth=np.asarray(truth, dtype=np.int8).reshape(-1, K),
        probabilities=np.asarray(flat, dtype=np.float64).reshape(-1, K),
        card=card,
        fitted=probe_beside(folder),
    )
