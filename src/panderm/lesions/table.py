"""The table of measures: one row a lesion, behind the columns of the table it is of."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from panderm.data.table import Skipped
from panderm.lesions.measure import COLUMNS, Measures
from panderm.lesions.scale import Scale
from panderm.provenance import Provenance, Record
from panderm.storage import new_file, refuse_existing, write_json

ADDED = (*COLUMNS, "scale_note", "not_measured")
"""The columns that are written behind the table's own, in their order."""


class MeasureCard(Record):
    """Beside the table of measures: of what, how, and what is missing."""

    kind: str = "measures"
    source: str
    rows: int
    measured: int
    empty: int
    touching_edge: int
    several_pieces: int
    scales: dict[str, int]
    pieces: str
    ruler_mm: float | None
    colours: dict[str, tuple[float, ...]]
    colour_share: float
    left_out: tuple[Skipped, ...]
    provenance: Provenance


@dataclass(frozen=True, eq=False)
class LesionTable:
    """Rows of a table or folder, each with the measures of its lesion.

    Attributes:
        cells: the table's own cells, strings.
        measures: of each row.
        scales: of each row: millimetres per pixel, and where that is from.
        card: counts, options and provenance.

    Example:
        >>> found = panderm.measure_lesions("ham.csv", images="images/", masks="masks/")  # doctest: +SKIP
        >>> found.frame()["diameter_px"].median()  # doctest: +SKIP
        243.1
    """

    cells: pd.DataFrame
    measures: tuple[Measures, ...]
    scales: tuple[Scale, ...]
    card: MeasureCard

    def __len__(self) -> int:
        return len(self.measures)

    def frame(self) -> pd.DataFrame:
        """Return the table's own columns and behind them ``ADDED``, as numbers, None where not known."""
        rows = [
            one.as_row() | {"scale": scale.source, "scale_note": scale.note, "not_measured": one.reason}
            for one, scale in zip(self.measures, self.scales, strict=True)
        ]
        added = pd.DataFrame(rows, columns=list(ADDED), index=self.cells.index)
        return pd.concat([self.cells, added], axis=1)

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write the table, and ``X.measures.json`` beside ``X.csv``.

        Raises:
            ArtifactError: one of the two exists, or cannot be written.
        """
        out = Path(path)
        require_free(out, None, overwrite=overwrite)
        frame = self.frame()
        with (
            new_file(out, overwrite=overwrite) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(frame.columns)
            for row in frame.astype(object).itertuples(index=False, name=None):
                writer.writerow([_written(cell) for cell in row])
        write_json(card_path(out), self.card.model_dump(mode="json"), overwrite=overwrite)


def card_path(out: Path) -> Path:
    """Return where the card lies: ``x.measures.json`` beside ``x.csv``."""
    return out.with_name(f"{out.stem}.measures.json")


def require_free(out: Path | None, picture: Path | None, *, overwrite: bool) -> None:
    """Refuse, before any work, outputs that exist and may not be replaced."""
    for path in ((out, card_path(out)) if out is not None else ()) + ((picture,) if picture else ()):
        refuse_existing(path, overwrite=overwrite)


def _written(cell: object) -> str:
    """Return a cell as it is written: six digits of a number, yes and no, nothing where not known."""
    if cell is None or (isinstance(cell, float) and cell != cell):
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)
