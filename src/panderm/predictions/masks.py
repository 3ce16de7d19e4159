"""Predicted masks beside the true ones: what scoring may read of them, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.data.columns import Column, read_cells, read_column
from panderm.data.images import ImageError
from panderm.data.masks import masks_in, name_of_image, paired, read_mask
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.errors import TableError, UsageError, did_you_mean, plural, some
from panderm.progress import in_threads
from panderm.statistics.masks import COUNTS, DISTANCES, boundary_distances, mask_counts, overlaps
from panderm.storage import sha256_of_json

_PATIENT, _GROUP = ("patient_id", "patient"), ("lesion_id", "lesion")


@dataclass(frozen=True, eq=False)
class MaskPredictions:
    """Predicted masks and the true ones, counted.

    Attributes:
        image: (n,) str.
        patient: (n,) str or None; None where no table names them.
        group: (n,) str or None, the lesion; None where no table names it.
        counts: int64 (n, 4) pixels: true positive, false positive, false negative, true negative.
        distances: (n, 2) pixels: HD95 and mean surface distance, NaN where either mask is empty.
        truth: (n,) files of the true masks.
        predicted: (n,) files of the predicted ones.
        left_out: images that had one of the two masks only, left out because that was asked for.

    Example:
        >>> masks = panderm.read_masks("predicted/", truth="masks/")  # doctest: +SKIP
        >>> masks.per_image().nsmallest(3, "jaccard")  # doctest: +SKIP
    """

    image: Column
    patient: Column | None
    group: Column | None
    counts: npt.NDArray[np.int64]
    distances: npt.NDArray[np.float64]
    truth: tuple[Path, ...]
    predicted: tuple[Path, ...]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.image)

    @property
    def identity(self) -> str:
        """Hex SHA-256 of the images and their counted pixels."""
        return sha256_of_json({"images": self.image.tolist(), "counts": self.counts.tolist()})

    def per_image(self) -> pd.DataFrame:
        """Return one row an image: names, counts, scores and distances; NaN where not defined."""
        frame = pd.DataFrame({"image": self.image})
        for role, column in (("patient", self.patient), ("group", self.group)):
            if column is not None:
                frame[role] = column
        columns = {**dict(zip(COUNTS, self.counts.T, strict=True)), **overlaps(self.counts)}
        return frame.assign(**columns, **dict(zip(DISTANCES, self.distances.T, strict=True)))


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
        common: of two folders, leave out what one alone has.
        max_megapixels: a file of more millions of pixels is refused.
        workers: threads that read.
        progress: show progress on standard error.

    Raises:
        TableError: masks that do not pair, cannot be read, are not binary, or differ in size; a table that
            lacks a column or an image.
        UsageError: options that do not go together.

    Example:
        >>> panderm.read_masks("predicted/", truth="masks/").counts[0]  # doctest: +SKIP
        array([ 9120,   388,   611, 77177])
    """
    source = Path(predicted)
    if workers < 1:
        raise UsageError("--workers must be at least 1.", f"found {workers}")
    if truth is not None:
        theirs, ours = masks_in(truth, "true"), masks_in(source, "predicted")
        images = paired(theirs, ours, common=common)
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
        images, pairs = _pairs_of_table(source, truth_column, predicted_column, image_column)
        left_out, table = 0, source
    asked = {"patient": (patient, _PATIENT), "group": (group, _GROUP)}
    if table is None and (patient or group):
        raise UsageError(
            "--patient and --group must come with a table.", "found no --columns", "--columns table.csv"
        )
    roles = {} if table is None else _roles(table, images, image_column, asked)

    def look(pair: tuple[Path, Path]) -> tuple[tuple[int, ...], tuple[float, ...]] | str:
        return _look(*pair, max_megapixels)

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
    return MaskPredictions(
        image=np.array(images, dtype=object),
        patient=roles.get("patient"),
        group=roles.get("group"),
        counts=np.array([counts for counts, _ in good], dtype=np.int64),
        distances=np.array([distances for _, distances in good], dtype=np.float64),
        truth=tuple(one for one, _ in pairs),
        predicted=tuple(two for _, two in pairs),
        left_out=left_out,
    )


def _look(truth: Path, predicted: Path, most: float) -> tuple[tuple[int, ...], tuple[float, ...]] | str:
    """Return counts and distances of a pair, or what is wrong with it."""
    try:
        one, two = (read_mask(file, max_megapixels=most) for file in (truth, predicted))
    except ImageError as error:
        return f"{error.path}: {error.reason}"
    if one.shape != two.shape:
        sizes = (f"{mask.shape[1]} x {mask.shape[0]}" for mask in (two, one))
        return "{}: {} pixels, the true mask {}".format(predicted, *sizes)
    return mask_counts(one, two), boundary_distances(one, two)


def _pairs_of_table(
    source: Path, truth: str, predicted: str, image: str
) -> tuple[Sequence[str], list[tuple[Path, Path]]]:
    cells = read_cells(source)
    for name, option in ((truth, "--truth-column"), (predicted, "--predicted-column")):
        _require_column(cells, source, name, option)
    masks = [read_column(cells, name) for name in (truth, predicted)]
    empty = [int(cells.index[i]) for i in range(len(cells)) if masks[0][i] is None or masks[1][i] is None]
    if empty or not len(cells):
        found = (
            f"{plural(len(empty), 'row')} of {source.name} lack one: {some(empty)}"
            if empty
            else "found no row"
        )
        raise TableError("every row must name a true and a predicted mask.", found)
    named = read_column(cells, image if image in cells.columns else truth)
    images = [name_of_image(str(name)) for name in named]
    _require_once(images, source)
    return images, [(source.parent / one, source.parent / two) for one, two in zip(*masks, strict=True)]


def _roles(
    table: Path, images: Sequence[str], image: str, asked: Mapping[str, tuple[str | None, tuple[str, ...]]]
) -> dict[str, Column]:
    """Return patient and group of each image, those of the two that the table has."""
    cells = read_cells(table)
    wanted = {}
    for role, (name, usual) in asked.items():
        chosen = name or next((one for one in usual if one in cells.columns), None)
        if chosen is not None:
            _require_column(cells, table, chosen, f"--{role}")
            wanted[role] = read_column(cells, chosen)
    if not wanted:
        return {}
    column = image if image in cells.columns else None
    if column is None and len(cells) == len(images) and table.suffix and "mask" in cells.columns:
        column = "mask"
    if column is None:
        _require_column(cells, table, image, "--image-column")
    names = [name_of_image(str(name)) for name in read_column(cells, column)]
    position = {name: i for i, name in enumerate(names)}
    missing = [name for name in images if name not in position]
    if missing:
        found = f"{len(missing):,} of {plural(len(images), 'image')} are not in {table.name}: {some(missing)}"
        raise TableError(
            "every mask must have a row in the table.", found, "name its column with --image-column"
        )
    _require_once([name for name in names if name in set(images)], table)
    at = [position[name] for name in images]
    return {role: values[at] for role, values in wanted.items()}


def _require_column(cells: pd.DataFrame, source: Path, name: str, option: str) -> None:
    if list(cells.columns).count(name) != 1:
        raise TableError(
            f"column {name!r} must be there once{did_you_mean(name, cells.columns)}",
            f"{source.name} has: {', '.join(cells.columns)}",
            f"name the column with {option}",
        )


def _require_once(images: Sequence[str], source: Path) -> None:
    seen: set[str] = set()
    twice = [name for name in images if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if twice:
        raise TableError("an image must have one row.", f"{source.name} has more of {some(twice)}")
