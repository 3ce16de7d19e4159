"""What was found in some images: a row each, and a card that says by what."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field as Filled

from panderm.data.table import Skipped
from panderm.provenance import Card, Record
from panderm.segmenting.predicting.answers import Probability
from panderm.segmenting.predicting.files import MASKS_CSV, entropy
from panderm.segmenting.predicting.native import Field
from panderm.segmenting.predicting.packed import PackedMask
from panderm.storage import new_file, sha256_of_file

if TYPE_CHECKING:
    import pandas as pd

USE = "For research. Not a medical device: it must not decide about a patient."


class MaskRow(Record):
    """What was found in one image.

    Attributes:
        image: its name, as it was asked for.
        mask: the file of its mask, below the output.
        width: of image and mask, pixels; height: likewise.
        area: pixels inside.
        share: of the image, 0 to 1.
        empty: nothing is inside.
        components: parts of the mask, pixels meeting at sides or corners.
        confidence: mean of P(lesion) over the pixels inside; None where it is empty.
        highest: the greatest P(lesion) of any pixel: of an empty mask, how near it was to being none.
        uncertainty: mean entropy of P(lesion) over the image's pixels, in bits; None where its maps are not
            asked for.
        disagreement: mean over the pixels inside of the standard deviation over views; None where there is
            one view, or it is empty.
        more: what a prompted model says of it, by column.
    """

    image: str
    mask: str
    width: int
    height: int
    area: int
    share: float
    empty: bool
    components: int
    confidence: float | None
    highest: float
    uncertainty: float | None = None
    disagreement: float | None = None
    more: dict[str, float | int | str] = Filled(default_factory=dict)


def described(
    image: str,
    file: str,
    mask: PackedMask,
    field: Field,
    components: int,
    *,
    uncertainty: bool,
    more: Mapping[str, float | int | str],
) -> MaskRow:
    """Return the row of an image.

    Args:
        image: its name.
        file: of its mask.
        mask: what is inside, whatever was dropped and filled.
        field: its probabilities.
        components: of the mask.
        uncertainty: whether its mean is told.
        more: further columns.
    """
    area, inside, apart, unsure, highest, views = mask.area, 0.0, 0.0, 0.0, 0.0, False
    for band in field.bands():
        highest = max(highest, float(band.probability.max()))
        if uncertainty:
            unsure += float(entropy(band.probability).sum(dtype=np.float64))
        views = views or band.spread is not None
        if not mask.bits[band.top : band.top + len(band.probability)].any():
            continue
        rows = mask.rows(band.top, band.top + len(band.probability)).view(np.uint8)
        inside += _sum(band.probability, rows)
        if band.spread is not None:
            apart += _sum(band.spread, rows)
    pixels = mask.shape[0] * mask.shape[1]
    return MaskRow(
        image=image,
        mask=file,
        width=mask.shape[1],
        height=mask.shape[0],
        area=area,
        share=area / pixels,
        empty=not area,
        components=components,
        confidence=inside / area if area else None,
        highest=highest,
        uncertainty=unsure / pixels if uncertainty else None,
        disagreement=apart / area if area and views else None,
        more=dict(more),
    )


def _sum(values: Probability, inside: npt.NDArray[np.uint8]) -> float:
    """Return the sum of the values inside, row by row, so that it does not hang on how large it is."""
    return float(np.einsum("rw,rw->r", values, inside, dtype=np.float64, casting="unsafe").sum())


class MasksCard(Card):
    """What made some masks, and how; ``card.json`` beside them.

    Attributes:
        use: what the masks are for.
        model: its name; answers: all that decides a probability.
        threshold: a pixel is inside from this P(lesion) on.
        tidying: what of a thresholded mask was kept.
        tta: views whose probabilities were averaged; None for the image as it is.
        tiles: side of the windows in pixels of the image, None for whole images; overlap: of them.
        beside: what else was written, and with how many bits.
        orientation: how masks lie.
        images: what was asked for; images_sha256: over names and files.
        rows: of ``masks.csv``; empty: of them without anything inside.
        skipped: images that could not be read.
        csv_sha256: of the CSV's bytes.
        images_per_second: of this run.
        notes: what a user should know.
    """

    kind: Literal["predicted masks"] = "predicted masks"
    format: Literal[1] = 1
    use: str = USE
    model: str
    answers: dict[str, Any]
    threshold: float
    tidying: dict[str, Any]
    tta: str | None = None
    tiles: int | None = None
    overlap: float | None = None
    beside: dict[str, Any]
    orientation: str = (
        "masks lie on the image as it is shown, its EXIF orientation applied, and are as large as that"
    )
    images: str
    images_sha256: str
    rows: int
    empty: int
    skipped: tuple[Skipped, ...] = ()
    csv_sha256: str | None = None
    images_per_second: float | None = None
    notes: tuple[str, ...] = Filled(default=())


@dataclass(frozen=True, eq=False)
class Masked:
    """Masks of n images, on disk.

    Attributes:
        folder: they lie in.
        rows: what was found in each, in the order they were asked for.
        card: what made them.
        resumed: how many of them a run that was stopped had left behind.

    Example:
        >>> found = panderm.predict_masks("run/", "images/", "masks/")  # doctest: +SKIP
        >>> found.per_image().nlargest(3, "share")  # doctest: +SKIP
    """

    folder: Path
    rows: tuple[MaskRow, ...]
    card: MasksCard
    resumed: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def empty(self) -> tuple[str, ...]:
        """Names of the images in which nothing was found."""
        return tuple(row.image for row in self.rows if row.empty)

    @property
    def masks(self) -> tuple[Path, ...]:
        """The files of the masks."""
        return tuple(self.folder / row.mask for row in self.rows)

    def per_image(self) -> pd.DataFrame:
        """Return the rows as a table, NaN where there is no value."""
        import pandas as pd

        return pd.DataFrame([_flat(row) for row in self.rows], columns=_columns(self.rows))


def write_csv(folder: Path, rows: Sequence[MaskRow]) -> str:
    """Write ``masks.csv`` and return the SHA-256 of its bytes."""
    columns = _columns(rows)
    with new_file(folder / MASKS_CSV, overwrite=True) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([_cell(cells.get(name)) for name in columns] for cells in map(_flat, rows))
        return sha256_of_file(temporary)


def _flat(row: MaskRow) -> dict[str, Any]:
    return {**row.model_dump(exclude={"more"}), **row.more}


def _columns(rows: Sequence[MaskRow]) -> list[str]:
    """Return the columns of a table of rows: what no row has is none."""
    empty = [
        name for name in ("uncertainty", "disagreement") if all(getattr(row, name) is None for row in rows)
    ]
    own = [name for name in MaskRow.model_fields if name not in ("more", *empty)]
    return [*own, *dict.fromkeys(name for row in rows for name in row.more)]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return format(value, ".6g") if isinstance(value, float) else str(value)
