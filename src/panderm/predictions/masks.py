"""Predicted masks beside the true ones: what scoring may read of them, image by image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.data.columns import Column
from panderm.data.images import ImageError
from panderm.data.join import Joined
from panderm.data.masks import masks_in, paired, read_mask
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.errors import TableError, UsageError, plural
from panderm.predictions.mask_tables import Beside, pairs_of_table, read_beside
from panderm.progress import in_threads
from panderm.statistics.boundaries import TOLERANCE, Boundaries, boundaries
from panderm.statistics.masks import BOUNDARY_F, COUNTS, DISTANCES, MILLIMETRES, mask_counts, overlaps
from panderm.storage import sha256_of_json, write_text

Floats = npt.NDArray[np.float64]
_OF_ROWS = ("image", "patient", "group", "counts", "distances", "boundary_f", "size", "mm_per_pixel")
_FILES = ("truth", "predicted", "truth_sha256")


@dataclass(frozen=True, eq=False)
class MaskPredictions:
    """Predicted masks and the true ones, counted at the size they have.

    Attributes:
        image: (n,) str.
        patient: (n,) str or None; None where no table names them.
        group: (n,) str or None, the lesion; None where no table names it.
        counts: int64 (n, 4) pixels: true positive, false positive, false negative, true negative.
        distances: (n, 2) pixels: HD95 and mean surface distance, NaN where either mask is empty.
        boundary_f: (n,) in [0, 1].
        size: int64 (n, 2) height and width, pixels.
        truth: (n,) files of the true masks.
        predicted: (n,) files of the predicted ones.
        truth_sha256: (n,) hex SHA-256 of the true masks' size and pixels.
        source: the folder of the predicted masks, or the CSV that named them.
        tolerance: of ``boundary_f``, a share of the image's diagonal.
        left_out: images that had one of the two masks only, left out because that was asked for.
        mm_per_pixel: (n,) NaN where it is not known; None where no scale was given.
        beside: further columns of the table, in the order of the images.

    Example:
        >>> masks = panderm.read_masks("predicted/", truth="masks/")  # doctest: +SKIP
        >>> masks.per_image().nsmallest(3, "jaccard")  # doctest: +SKIP
    """

    image: Column
    patient: Column | None
    group: Column | None
    counts: npt.NDArray[np.int64]
    distances: Floats
    boundary_f: Floats
    size: npt.NDArray[np.int64]
    truth: tuple[Path, ...]
    predicted: tuple[Path, ...]
    truth_sha256: tuple[str, ...]
    source: Path
    tolerance: float = TOLERANCE
    left_out: int = 0
    mm_per_pixel: Floats | None = None
    beside: Joined | None = None

    def __len__(self) -> int:
        return len(self.image)

    @property
    def identity(self) -> str:
        """Hex SHA-256 of the images and their counted pixels."""
        return sha256_of_json({"images": self.image.tolist(), "counts": self.counts.tolist()})

    def scores(self) -> dict[str, Floats]:
        """Return each image's scores by name, (n,) each, NaN where it has none.

        Overlaps and ``boundary_f`` are in [0, 1]; ``hd95`` and ``surface_distance`` are pixels, and where a
        scale was given ``hd95_mm`` and ``surface_distance_mm`` millimetres.
        """
        found = {**overlaps(self.counts), BOUNDARY_F: self.boundary_f}
        found |= dict(zip(DISTANCES, self.distances.T, strict=True))
        if self.mm_per_pixel is not None:
            found |= dict(zip(MILLIMETRES, (self.distances * self.mm_per_pixel[:, None]).T, strict=True))
        return found

    def select(self, rows: npt.NDArray[np.intp]) -> MaskPredictions:
        """Return some images, in the order given, (m,) positions."""
        held: dict[str, Any] = {
            name: None if (values := getattr(self, name)) is None else values[rows] for name in _OF_ROWS
        }
        held |= {name: tuple(getattr(self, name)[i] for i in rows) for name in _FILES}
        if self.beside is not None:
            columns = {name: values[rows] for name, values in self.beside.columns.items()}
            held["beside"] = replace(self.beside, columns=columns)
        return replace(self, **held)

    def per_image(self) -> pd.DataFrame:
        """Return one row an image: names, further columns, size, counts and scores; NaN where not defined."""
        frame = pd.DataFrame({"image": self.image})
        for role, column in (("patient", self.patient), ("group", self.group)):
            if column is not None:
                frame[role] = column
        for name, column in (self.beside.columns if self.beside else {}).items():
            if name not in frame:
                frame[name] = column
        frame = frame.assign(height=self.size[:, 0], width=self.size[:, 1])
        if self.mm_per_pixel is not None:
            frame["mm_per_pixel"] = self.mm_per_pixel
        return frame.assign(**dict(zip(COUNTS, self.counts.T, strict=True)), **self.scores())

    def save_per_image(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write :meth:`per_image` as CSV, whole or not at all, and return its path.

        Raises:
            ArtifactError: the file exists and ``overwrite`` is not set, or it cannot be written.
        """
        write_text(Path(path), self.per_image().to_csv(index=False), overwrite=overwrite)
        return Path(path)


def read_masks(
    predicted: Path | str,
    *,
    truth: Path | str | None = None,
    truth_column: str = "mask",
    predicted_column: str = "predicted_mask",
    columns: Path | str | None = None,
    image_column: str = "image",
    patient: str | None = None,
    group: str | None = None,
    keep: Sequence[str] = (),
    mm_per_pixel: float | None = None,
    mm_column: str | None = None,
    tolerance: float = TOLERANCE,
    common: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    workers: int = 4,
    progress: bool = True,
) -> MaskPredictions:
    """Read predicted masks and the true ones, pair by pair, and count their pixels.

    The masks of two folders meet by name, whatever stands behind it: ``ISIC_0027419_segmentation.png`` and
    ``ISIC_0027419.png``. White, or 1, is inside.

    Args:
        predicted: folder of predicted masks; or a CSV with both masks of each image, paths relative to it.
        truth: folder of true masks, of the same sizes.
        truth_column: of a CSV, the column with the true mask.
        predicted_column: of a CSV, the column with the predicted mask.
        columns: a table with patient or lesion of each image; rows of other images are left aside.
        image_column: of that table or of the CSV, the column with the image.
        patient: its column with the patient; by default patient_id or patient.
        group: its column with the lesion; by default lesion_id or lesion.
        keep: its further columns to keep, for scores by them; ``sex:age`` keeps two.
        mm_per_pixel: the scale of all images: distances are given in millimetres too.
        mm_column: its column with the scale of each image; a cell may be empty.
        tolerance: of the boundary F score, a share of the image's diagonal.
        common: of two folders, leave out what one alone has.
        max_megapixels: a file of more millions of pixels is refused.
        workers: threads that read.
        progress: show progress on standard error.

    Raises:
        TableError: masks that do not pair, cannot be read, are not binary, or differ in size; a table that
            lacks a column or an image.
        UsageError: options that do not go together, or numbers out of range.

    Example:
        >>> panderm.read_masks("predicted/", truth="masks/").counts[0]  # doctest: +SKIP
        array([ 9120,   388,   611, 77177])
    """
    source = Path(predicted)
    if mm_per_pixel is not None and mm_column is not None:
        raise UsageError("the scale must be given once.", "found --mm-per-pixel and --mm-column")
    if mm_per_pixel is not None and not 0 < mm_per_pixel < np.inf:
        raise UsageError("--mm-per-pixel must be above 0.", f"found {mm_per_pixel}")
    if truth is not None:
        theirs, ours = masks_in(truth, "true"), masks_in(source, "predicted")
        images = paired(theirs, ours, common=common, place=source)
        left_out = len(theirs) + len(ours) - 2 * len(images)
        pairs = [(theirs[name], ours[name]) for name in images]
        table = None if columns is None else Path(columns)
    else:
        if source.is_dir():
            raise UsageError(
                "a folder of predicted masks needs the true ones.", "found no --truth", "--truth masks/"
            )
        if columns is not None or common:
            raise UsageError(
                "--columns and --common must come with --truth, of two folders.", f"found {source}"
            )
        images, pairs = pairs_of_table(source, truth_column, predicted_column, image_column)
        left_out, table = 0, source
    if table is None and (patient or group or keep or mm_column):
        raise UsageError(
            "--patient, --group, --by and --mm-column must come with a table.",
            "found no --columns",
            "--columns table.csv",
        )
    beside = Beside()
    if table is not None:
        wanted = {"patient": patient, "group": group, "mm_column": mm_column}
        beside = read_beside(table, images, image=image_column, keep=keep, **wanted)
    scale = beside.mm_per_pixel if mm_per_pixel is None else np.full(len(images), mm_per_pixel)
    return count_masks(
        images,
        [one for one, _ in pairs],
        [two for _, two in pairs],
        patient=beside.roles.get("patient"),
        group=beside.roles.get("group"),
        mm_per_pixel=scale,
        beside=beside.columns,
        source=source,
        tolerance=tolerance,
        left_out=left_out,
        max_megapixels=max_megapixels,
        workers=workers,
        progress=progress,
    )


def count_masks(
    images: Sequence[str],
    truth: Sequence[Path],
    predicted: Sequence[Path],
    *,
    patient: Column | None = None,
    group: Column | None = None,
    mm_per_pixel: Floats | None = None,
    beside: Joined | None = None,
    source: Path | None = None,
    tolerance: float = TOLERANCE,
    left_out: int = 0,
    max_megapixels: float = MAX_MEGAPIXELS,
    workers: int = 4,
    progress: bool = True,
) -> MaskPredictions:
    """Read both masks of each image from their files, and count their pixels.

    Args:
        images: n names, each once.
        truth: n files of the true masks.
        predicted: n files of the predicted ones, of the same sizes.
        patient: (n,) str or None.
        group: (n,) str or None, the lesion.
        mm_per_pixel: (n,) NaN where it is not known.
        beside: further columns, n rows.
        source: what the predicted masks go by; by default the folder of the first.
        tolerance: of the boundary F score, a share of the image's diagonal.
        left_out: images that were left out before, for what is said of the scores.
        max_megapixels: a file of more millions of pixels is refused.
        workers: threads that read.
        progress: show progress on standard error.

    Raises:
        TableError: masks that cannot be read, are not binary, or differ in size.
        UsageError: numbers out of range.
    """
    if workers < 1:
        raise UsageError("--workers must be at least 1.", f"found {workers}")
    if not 0 <= tolerance < 1:
        raise UsageError(
            "--tolerance must be a share of the image's diagonal, from 0 to below 1.", f"found {tolerance}"
        )
    pairs = list(zip(truth, predicted, strict=True))

    def look(pair: tuple[Path, Path]) -> _Looked | str:
        return _look(*pair, tolerance, max_megapixels)

    looked = list(in_threads(look, pairs, "comparing masks", "images", workers=workers, shown=progress))
    problems = [one for one in looked if isinstance(one, str)]
    if problems:
        raise TableError(
            "masks must be readable, black and white, and of the same size as the true ones.",
            [f"{len(problems):,} of {plural(len(looked), 'pair')} are not:", *problems[:10]]
            + ([f"and {len(problems) - 10:,} more"] if len(problems) > 10 else []),
            "save masks as PNG, white inside and black outside, as large as the true ones",
        )
    good = [one for one in looked if not isinstance(one, str)]
    apart = np.array([one.apart for one in good], dtype=np.float64).reshape(-1, 3)
    return MaskPredictions(
        image=np.array(images, dtype=object),
        patient=patient,
        group=group,
        counts=np.array([one.counts for one in good], dtype=np.int64).reshape(-1, 4),
        distances=apart[:, :2],
        boundary_f=apart[:, 2],
        size=np.array([one.size for one in good], dtype=np.int64).reshape(-1, 2),
        truth=tuple(truth),
        predicted=tuple(predicted),
        truth_sha256=tuple(one.truth_sha256 for one in good),
        source=source or (predicted[0].parent if predicted else Path()),
        tolerance=tolerance,
        left_out=left_out,
        mm_per_pixel=mm_per_pixel,
        beside=beside,
    )


class _Looked(NamedTuple):
    counts: tuple[int, int, int, int]
    apart: Boundaries
    size: tuple[int, ...]
    truth_sha256: str


def _look(truth: Path, predicted: Path, tolerance: float, most: float) -> _Looked | str:
    """Return what is counted of a pair, or what is wrong with it."""
    try:
        one, two = (read_mask(file, max_megapixels=most) for file in (truth, predicted))
    except ImageError as error:
        return f"{error.path}: {error.reason}"
    if one.shape != two.shape:
        sizes = (f"{mask.shape[1]} x {mask.shape[0]}" for mask in (two, one))
        return "{}: {} pixels, the true mask {}".format(predicted, *sizes)
    bits = hashlib.sha256(f"{one.shape}".encode() + np.packbits(one).tobytes()).hexdigest()
    return _Looked(mask_counts(one, two), boundaries(one, two, tolerance=tolerance), one.shape, bits)
