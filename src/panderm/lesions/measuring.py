"""A table or folder of images with masks to measures, one row a lesion."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from panderm.data.images import MAX_MEGAPIXELS, ImageError, decode, read_bytes
from panderm.data.masks import read_mask
from panderm.data.table import Skipped
from panderm.errors import TableError, plural, some
from panderm.lesions.colour import COLOURS, REFERENCES, SHARE, SKIN
from panderm.lesions.measure import EMPTY, Measures, measure
from panderm.lesions.picture import lesion_picture, write_picture
from panderm.lesions.region import Which
from panderm.lesions.rows import Rows, read_rows
from panderm.lesions.scale import Scale, require_ruler, scale_of_image, scales_of_rows
from panderm.lesions.table import ADDED, LesionTable, MeasureCard, require_free
from panderm.progress import in_threads
from panderm.provenance import Provenance
from panderm.storage import in_a_path, new_folder, write_json

_SHOWN = 20


def measure_lesions(
    source: Path | str,
    out: Path | str | None = None,
    *,
    images: Path | str | None = None,
    masks: Path | str | None = None,
    image_column: str = "image",
    mask_column: str = "mask",
    pieces: Which = "largest",
    mm_per_pixel: float | None = None,
    mm_column: str | None = None,
    ruler: float | None = None,
    picture: Path | str | None = None,
    skip_bad: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    workers: int = 2,
    overwrite: bool = False,
    progress: bool = True,
) -> LesionTable:
    """Measure lesions: area, diameters, perimeter, asymmetry, border and colours, one row a mask.

    A mask of several pieces is one lesion: its largest piece is measured, or all of them as one. A mask that
    touches the edge of its image is flagged: its lengths are lower bounds. An empty mask has a row without
    values, and the reason.

    Args:
        source: a CSV or Parquet file with a row for each image, or a folder of images.
        out: CSV to write, the card beside it; None writes nothing.
        images: of a table, the folder that the image column is relative to; by default the table's own.
        masks: the folder of masks: those that the table's column names, else of the images' names.
        image_column: column with the image's file name.
        mask_column: column with the mask's file name, where there is one.
        pieces: "largest" or "all".
        mm_per_pixel: millimetres of skin that a pixel's side is, of all images alike.
        mm_column: column with that of each image.
        ruler: look for a ruler in each image, whose long marks are so many millimetres apart. A DICOM header
            that gives the spacing of pixels comes first.
        picture: folder for a PNG of each lesion with what was measured, and of the ruler.
        skip_bad: leave out rows whose image or mask cannot be used.
        max_megapixels: an image of more millions of pixels is refused.
        workers: threads.
        overwrite: replace outputs that exist.
        progress: show progress on standard error.

    Raises:
        UsageError: options that contradict each other.
        TableError: rows whose image or mask cannot be read or which differ in size, without ``skip_bad``; a
            column that is not there, or that is to be written and is there already.
        ArtifactError: an output exists or cannot be written.

    Example:
        >>> found = panderm.measure_lesions("ham.csv", "measures.csv", masks="masks/")  # doctest: +SKIP
        >>> found.card.touching_edge  # doctest: +SKIP
        61
    """
    to, pictures = (None if path is None else Path(path) for path in (out, picture))
    require_free(to, pictures, overwrite=overwrite)
    require_ruler(ruler, mm_per_pixel, mm_column)
    rows = read_rows(source, images=images, masks=masks, image_column=image_column, mask_column=mask_column)
    _require_new_columns(rows)
    stated = scales_of_rows(rows.cells, rows.source, mm_per_pixel=mm_per_pixel, mm_column=mm_column)
    if not skip_bad:
        _require_good(_not_there(rows), rows, hint=True)
    with _pictures(pictures, overwrite=overwrite) as folder:
        one = _One(rows, stated, pieces, ruler, max_megapixels, folder, _names(rows))
        found = list(
            in_threads(one, range(len(rows)), "measuring lesions", "lesions", workers=workers, shown=progress)
        )
        bad = {i: each for i, each in enumerate(found) if isinstance(each, str)}
        if not skip_bad or len(bad) == len(found):
            _require_good(bad, rows, hint=not skip_bad)
        good = [(i, *each) for i, each in enumerate(found) if not isinstance(each, str)]
        table = _table(rows, good, bad, pieces, ruler)
        if folder is not None:
            write_json(folder / "card.json", table.card.model_dump(mode="json"))
    if to is not None:
        table.save(to, overwrite=overwrite)
    return table


@dataclass(frozen=True)
class _One:
    """What is done for one row, by any thread; what is returned is small."""

    rows: Rows
    stated: list[Scale]
    pieces: Which
    ruler: float | None
    max_megapixels: float
    folder: Path | None
    names: list[str]

    def __call__(self, i: int) -> tuple[Measures, Scale] | str:
        """Return a row's measures, or why it cannot be used."""
        image, mask = self.rows.images[i], self.rows.masks[i]
        if image is None or mask is None:
            return _missing(image)
        try:
            content = read_bytes(image)
            rgb = decode(content, image, max_megapixels=self.max_megapixels)
        except ImageError as error:
            return error.reason
        try:
            inside = read_mask(mask, max_megapixels=self.max_megapixels)
        except ImageError as error:
            return f"its mask {mask.name}: {error.reason}"
        if inside.shape != rgb.shape[:2]:
            sizes = f"{inside.shape[1]} × {inside.shape[0]}, the image {rgb.shape[1]} × {rgb.shape[0]}"
            return f"its mask {mask.name} is {sizes}"
        scale = scale_of_image(self.stated[i], content, image, rgb, inside, ruler=self.ruler)
        found = measure(rgb, inside, mm_per_pixel=scale.mm_per_pixel, pieces=self.pieces)
        if self.folder is not None:
            picture = lesion_picture(rgb, found, scale)
            write_picture(self.folder / self.names[i], picture)
        return found.without_pixels(), scale


def _missing(image: Path | None) -> str:
    return "no image is named" if image is None else "no mask is of it"


def _not_there(rows: Rows) -> dict[int, str]:
    """Return why rows cannot be used, as far as that is seen without opening a file."""
    bad = {}
    for i, (image, mask) in enumerate(zip(rows.images, rows.masks, strict=True)):
        if image is None or mask is None:
            bad[i] = _missing(image)
        elif not image.is_file():
            bad[i] = "no such file"
        elif not mask.is_file():
            bad[i] = f"its mask {mask.name}: no such file"
    return bad


def _require_good(bad: Mapping[int, str], rows: Rows, *, hint: bool) -> None:
    if not bad:
        return
    folder = rows.source.is_dir()  # whose images have no row that a user could look up
    what = "image" if folder else "row"
    of_row = ["" if folder else f"row {row}: " for row in rows.cells.index]
    lines = [f"{of_row[i]}{rows.image[i]}: {reason}" for i, reason in bad.items()]
    more = [f"and {len(lines) - _SHOWN:,} more"] if len(lines) > _SHOWN else []
    raise TableError(
        f"every {what} must have {'' if folder else 'an image and '}a mask of its size.",
        [f"{len(bad):,} of {plural(len(rows), what)} of {rows.source.name} do not:", *lines[:_SHOWN], *more],
        f"mend them, or add --skip-bad to leave these {what}s out" if hint else None,
    )


def _require_new_columns(rows: Rows) -> None:
    there = [name for name in ADDED if name in set(rows.cells.columns)]
    if there:
        raise TableError(
            "the columns to be written must not be there already.",
            f"{rows.source.name} has {plural(len(there), 'column')} of these names: {some(there)}",
            "rename or remove them, or measure the table as it was before",
        )


@contextlib.contextmanager
def _pictures(folder: Path | None, *, overwrite: bool) -> Iterator[Path | None]:
    if folder is None:
        yield None
        return
    with new_folder(folder, overwrite=overwrite) as temporary:
        yield temporary


def _names(rows: Rows) -> list[str]:
    """Return a name for each row's picture: of its image, with the row's number where several have one."""
    stems = [in_a_path("-".join(PurePath(name).with_suffix("").parts)) or "image" for name in rows.image]
    times = Counter(stems)
    numbered = zip(stems, rows.cells.index, strict=True)
    return [f"{stem}.png" if times[stem] == 1 else f"{stem}-row{row}.png" for stem, row in numbered]


def _table(
    rows: Rows,
    good: list[tuple[int, Measures, Scale]],
    bad: Mapping[int, str],
    pieces: Which,
    ruler: float | None,
) -> LesionTable:
    measures, scales = tuple(m for _, m, _ in good), tuple(s for _, _, s in good)
    regions = [m.region for m in measures if m.region is not None]
    reported = Counter(scale.source or "none" for scale in scales)
    colours = {name: tuple(lab) for name, lab in zip(COLOURS, REFERENCES.tolist(), strict=True)}
    card = MeasureCard(
        source=rows.source.name,
        rows=len(rows),
        measured=sum(m.shape is not None for m in measures),
        empty=sum(m.reason == EMPTY for m in measures),
        touching_edge=sum(r.touches_edge for r in regions),
        several_pieces=sum(r.pieces > 1 for r in regions),
        scales=dict(reported),
        pieces=pieces,
        ruler_mm=ruler,
        colours=colours | {"skin": tuple(SKIN.tolist())},
        colour_share=SHARE,
        left_out=tuple(
            Skipped(row=int(rows.cells.index[i]), image=rows.image[i], reason=reason)
            for i, reason in bad.items()
        ),
        provenance=Provenance.now(),
    )
    return LesionTable(rows.cells.iloc[[i for i, _, _ in good]], measures, scales, card)
