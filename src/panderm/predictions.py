"""Predictions on disk: ``X.pred/`` holds one Parquet file and ``card.json``: all that scoring may read.

Beside them lies the probe that was fitted, ``probe.safetensors``, for those who want to use it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from panderm.data.columns import Column
from panderm.embeddings import EmbeddingsCard, unreadable
from panderm.errors import ArtifactError
from panderm.fitted import FittedProbe, read_fitted, write_fitted
from panderm.provenance import Card, read_card
from panderm.storage import new_folder

_FILE = "predictions.parquet"
_PROBE_FILE = "probe.safetensors"
_COLUMNS = ("image", "path", "sha256", "patient", "group", "truth")


class PredictionsCard(Card):
    """The card of a predictions folder: the question, how it was answered, and from what.

    ``method`` holds what was decided, ``outcome`` what the fit then found.
    """

    kind: Literal["predictions"] = "predictions"
    format: Literal[1] = 1
    task: str
    method: dict[str, Any]
    outcome: dict[str, Any]
    classes: tuple[str, ...]
    split: str
    rows: int
    embeddings: EmbeddingsCard

    def decisive(self) -> dict[str, Any]:
        """Return method, classes, split and the embeddings' identity."""
        kept = self.model_dump(mode="json", exclude={"provenance", "embeddings", "outcome"})
        return kept | {"embeddings": self.embeddings.identity}


@dataclass(frozen=True, eq=False)
class Predictions:
    """Probabilities of K classes for n images, beside the truth.

    Attributes:
        image: names, (n,) strings.
        path: absolute paths of the files, for thumbnails.
        sha256: hex SHA-256 of the files as they were embedded.
        patient: (n,) strings or None.
        group: (n,) lesion or other group, strings or None.
        truth: (n,) the true class, one of ``classes``.
        probabilities: float64 (n, K), rows sum to 1, columns in the order of ``classes``.
        card: what made them.
        probe: the :class:`FittedProbe` that made them, or None where none was kept. Of an opened folder it
            is read, and checked, when it is first asked for.

    Example:
        >>> pred = panderm.open_predictions("probe.pred")  # doctest: +SKIP
        >>> pred.probabilities[:, pred.classes.index("mel")]  # doctest: +SKIP
    """

    image: Column
    path: Column
    sha256: Column
    patient: Column
    group: Column
    truth: Column
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
        if not isinstance(self.fitted, Path):
            return self.fitted
        dim = self.card.embeddings.encoder.dim
        return read_fitted(self.fitted, predictions=self.card.identity, classes=self.classes, dim=dim)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes in their stated order; of two, the second is the positive one."""
        return self.card.classes

    def truth_codes(self) -> npt.NDArray[np.int64]:
        """Return the truth as positions in ``classes``, int64 (n,)."""
        position = {name: i for i, name in enumerate(self.classes)}
        return np.array([position[name] for name in self.truth], dtype=np.int64)

    def predicted_codes(self) -> npt.NDArray[np.int64]:
        """Return the most probable class of each row, the first of equals, as positions in ``classes``."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    def save(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write the folder, whole or not at all, and return it."""
        folder = Path(path)
        probe = self.probe
        columns = {name: pa.array(getattr(self, name).tolist(), pa.string()) for name in _COLUMNS}
        flat = pa.array(np.ascontiguousarray(self.probabilities).ravel())
        probabilities = pa.FixedSizeListArray.from_arrays(flat, len(self.classes))
        with new_folder(folder, overwrite=overwrite) as temporary:
            pq.write_table(pa.table({**columns, "probabilities": probabilities}), temporary / _FILE)
            if probe is not None:
                write_fitted(probe, temporary / _PROBE_FILE, predictions=self.card.identity)
            self.card.write(temporary)
        return folder


def open_predictions(path: Path | str) -> Predictions:
    """Open a predictions folder and check it.

    Raises:
        ArtifactError: not such a folder, damaged, rows missing, a truth that is no class, or
            probabilities that do not sum to 1.

    Example:
        >>> pred = panderm.open_predictions("probe.pred")  # doctest: +SKIP
    """
    folder = Path(path)
    card = read_card(folder, PredictionsCard, "predictions")
    schema = pa.schema(
        [
            *((name, pa.string()) for name in _COLUMNS),
            ("probabilities", pa.list_(pa.float64(), len(card.classes))),
        ]
    )
    try:
        table = pq.read_table(folder / _FILE).select(schema.names).cast(schema)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ArtifactError(
            "predictions must be readable.", unreadable(folder / _FILE, error), "probe again"
        ) from None
    columns = {name: np.array(table[name].to_pylist(), dtype=object) for name in _COLUMNS}
    flat = table["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    probabilities = np.asarray(flat, dtype=np.float64).reshape(-1, len(card.classes))
    strange = sorted({str(x) for x in columns["truth"]} - set(card.classes))
    sound = bool(np.isfinite(probabilities).all() and (probabilities >= 0).all())
    sound = sound and bool(np.allclose(probabilities.sum(axis=1), 1, atol=1e-6))
    if len(probabilities) != card.rows or strange or not sound:
        found = (
            f"{len(probabilities)} of {card.rows} rows"
            if len(probabilities) != card.rows
            else (
                f"truth {strange[0]!r} is none of {', '.join(card.classes)}"
                if strange
                else "rows that do not sum to 1"
            )
        )
        raise ArtifactError(
            "predictions must be whole and sum to 1 in every row.", f"{folder}: {found}", "probe again"
        )
    beside = folder / _PROBE_FILE
    fitted = beside.absolute() if beside.exists() else None  # folders of earlier versions hold none
    return Predictions(**columns, probabilities=probabilities, card=card, fitted=fitted)
