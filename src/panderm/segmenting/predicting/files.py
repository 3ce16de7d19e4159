"""The files that are written for one image: its mask, and whatever else is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from panderm.data.contours import contours as drawn
from panderm.errors import TableError, UsageError
from panderm.segmenting.predicting.answers import Image8, Probability
from panderm.segmenting.predicting.contours import Contours, contours_text
from panderm.segmenting.predicting.native import Band, Field, bands_of
from panderm.segmenting.predicting.packed import PackedMask
from panderm.segmenting.predicting.png import Bits, write_png
from panderm.storage import new_file

OVERLAY_SIDE = 1600
"""Longest side of an overlay, pixels."""
MASKS_CSV = "masks.csv"
_QUALITY = 90


@dataclass(frozen=True)
class Wanted:
    """What is written beside masks.

    Attributes:
        overlays: ``overlays/NAME.jpg``, the outline on the image, its longest side at most 1,600 pixels.
        contours: ``contours/NAME.geojson`` or ``.csv``; None: neither.
        confidence: ``confidence/NAME.png``, P(lesion): black 0, white 1.
        uncertainty: ``uncertainty/NAME.png``, the entropy of P(lesion): black 0, white 1 bit, where it is
            0.5; of several views also ``disagreement/NAME.png``, their standard deviation: white is 0.5.
        depth: bits of a pixel of these maps, 8 or 16.
        views: how many views there are.
    """

    overlays: bool = False
    contours: Contours | None = None
    confidence: bool = False
    uncertainty: bool = False
    depth: Bits = 8
    views: int = 1

    def __post_init__(self) -> None:
        if self.contours not in (None, "geojson", "csv"):
            raise UsageError("contours are written as geojson or csv.", f"found {self.contours}")
        if self.depth not in (8, 16):
            raise UsageError("a map must have 8 or 16 bits a pixel.", f"found {self.depth}")

    def told(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    def files(self, mask: str) -> dict[str, str]:
        """Return what is written for an image, by kind, as paths below the output; ``mask`` is its mask's."""
        stem = mask.removesuffix(".png")
        made = {"mask": mask}
        if self.overlays:
            made["overlay"] = f"overlays/{stem}.jpg"
        if self.contours:
            made["contours"] = f"contours/{stem}.{self.contours}"
        if self.confidence:
            made["confidence"] = f"confidence/{stem}.png"
        if self.uncertainty:
            made["uncertainty"] = f"uncertainty/{stem}.png"
            if self.views > 1:
                made["disagreement"] = f"disagreement/{stem}.png"
        return made


def mask_names(images: Sequence[str], wanted: Wanted) -> list[str]:
    """Return the path of each image's mask below the output: the image's own, with the suffix ``.png``.

    The folders that all images have in common are left out, and what leads out of the output too.

    Raises:
        TableError: two images would have a file in common.
    """
    places = [_within(image) for image in images]
    ends = [place[:-1] for place in places]
    shared = os.path.commonprefix([min(ends), max(ends)])  # noqa: RUF071 - of lists, it compares their parts
    names, owners = [], dict[str, str]()
    for image, place in zip(images, places, strict=True):
        name = PurePosixPath(*place[len(shared) :]).with_suffix(".png").as_posix()
        for file in wanted.files(name).values():
            other = owners.setdefault(file.casefold(), image)
            if other != image:
                raise TableError(
                    "every image must have a mask of its own.",
                    f"{other} and {image} would both be {file}",
                    "predict them one after the other, each with its own --out",
                )
        names.append(name)
    return names


def _within(image: str) -> tuple[str, ...]:
    plain = PureWindowsPath(image).as_posix() if "\\" in image else image
    parts = [part for part in PurePosixPath(plain).parts if part not in ("/", "..") and ":" not in part]
    return tuple(parts or ["image"])


def write_files(
    folder: Path,
    files: dict[str, str],
    image: str,
    mask: PackedMask,
    field: Field,
    base: Image8 | None,
    wanted: Wanted,
) -> None:
    """Write what is wanted for one image; what a stopped run left there is replaced.

    Args:
        folder: the output.
        files: as :meth:`Wanted.files` names them.
        image: its name.
        mask: its mask.
        field: its probabilities.
        base: the image, or a scaled one, uint8 (h, w, 3), for an overlay.
        wanted: what is written.
    """
    height, width = mask.shape
    for file in files.values():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).unlink(missing_ok=True)
    maps = {"confidence": _as_it_is, "uncertainty": _entropy, "disagreement": _spread}
    for kind, value in maps.items():
        if kind in files:
            write_png(folder / files[kind], width, height, wanted.depth, _levels(field, value, wanted.depth))
    if "contours" in files:
        assert wanted.contours is not None
        text = contours_text(mask, image, wanted.contours)
        with new_file(folder / files["contours"], sweep=False, flushed=False) as temporary:
            temporary.write_text(text, encoding="utf-8")
    if "overlay" in files:
        assert base is not None
        _write_jpeg(folder / files["overlay"], drawn(base, _at(mask, base.shape), side=OVERLAY_SIDE))
    bands = (mask.bits[top:bottom] for top, bottom in bands_of(height, width))
    write_png(folder / files["mask"], width, height, 1, bands)


def entropy(probability: npt.ArrayLike) -> Probability:
    """Return the entropy of a yes or no of which yes has a probability, in bits, 0 to 1, float32.

    Example:
        >>> entropy([0.0, 0.5, 1.0]).tolist()
        [0.0, 1.0, 0.0]
    """
    p = np.asarray(probability, dtype=np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        made = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return np.asarray(np.nan_to_num(made, nan=0.0), dtype=np.float32)


def _as_it_is(band: Band) -> Probability:
    return band.probability


def _entropy(band: Band) -> Probability:
    return entropy(band.probability)


def _spread(band: Band) -> Probability:
    assert band.spread is not None
    return np.asarray(2 * band.spread, dtype=np.float32)


def _levels(field: Field, value: Callable[[Band], Probability], bits: Bits) -> Iterator[npt.NDArray[Any]]:
    """Yield values from 0 to 1 as whole numbers from 0 to 255 or 65,535, to the nearest."""
    kind = np.uint16 if bits == 16 else np.uint8
    most = float(np.iinfo(kind).max)
    for band in field.bands():
        yield np.rint(value(band) * most).clip(0, most).astype(kind)


def _at(mask: PackedMask, shape: Iterable[int]) -> npt.NDArray[np.bool_]:
    """Return a mask as large as a scaled image: the value at each pixel's centre."""
    h, w = tuple(shape)[:2]
    if (h, w) == mask.shape:
        return mask.whole()
    y, x = (
        ((np.arange(n) + 0.5) * (full / n)).astype(np.int64)
        for n, full in zip((h, w), mask.shape, strict=True)
    )
    rows = np.unpackbits(mask.bits[y], axis=1, count=mask.shape[1])
    return rows[:, x].astype(bool)


def _write_jpeg(path: Path, rgb: Image8) -> None:
    with new_file(path, sweep=False, flushed=False) as temporary:
        Image.fromarray(rgb).save(temporary, format="JPEG", quality=_QUALITY)
