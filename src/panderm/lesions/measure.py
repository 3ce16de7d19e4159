"""One image and the mask of its lesion to all measures of the lesion."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from panderm.errors import DataError
from panderm.lesions.border import Border, border_of
from panderm.lesions.colour import COLOURS, Colours, colours_of
from panderm.lesions.mirrored import Asymmetry, colour_asymmetry, shape_asymmetry
from panderm.lesions.patch import patch_of
from panderm.lesions.region import Mask, Region, Which, region_of
from panderm.lesions.shape import Shape, shape_of

EMPTY = "the mask is empty"
SMALLEST = 50
"""Pixels of area below which only area and diameters are given: the rest would be of the staircase."""

_NOTHING = np.zeros((0, 0), dtype=bool)

COLUMNS = (
    *("touches_edge", "pieces", "share_measured"),
    *("area_px", "diameter_px", "breadth_px", "equivalent_diameter_px", "perimeter_px"),
    *("mm_per_pixel", "scale", "area_mm2", "diameter_mm", "breadth_mm", "equivalent_diameter_mm"),
    *("perimeter_mm", "axis_degrees", "elongation"),
    *("asymmetry_long", "asymmetry_short", "asymmetry"),
    *("colour_asymmetry_long", "colour_asymmetry_short", "colour_asymmetry"),
    *("compactness", "solidity", "border_dimension", "border_abruptness", "abrupt_segments"),
    *("colours", "colours_relative", "variegation", "contrast"),
    *(f"share_{name}" for name in COLOURS),
    *(f"relative_{name}" for name in COLOURS),
    *("lesion_l", "lesion_a", "lesion_b", "skin_l", "skin_a", "skin_b"),
)
"""What a table has of each lesion, in this order."""


@dataclass(frozen=True)
class Measures:
    """What is measured of one lesion; None where it cannot be, ``reason`` says why.

    Attributes:
        reason: why measures are missing: an empty mask, a lesion of a few pixels, no skin around; "" if none.
        region: what was measured; None where the mask is empty. Its pixels are let go in a table of many.
        shape: outline, in pixels.
        asymmetry: of the shape, shares of the area, 0 to 1.
        colour_asymmetry: of the colours, ΔE*ab.
        border: how sharply it ends.
        colours: which and how varied.
        mm_per_pixel: the scale that was given, in millimetres a pixel.
    """

    reason: str
    region: Region | None = None
    shape: Shape | None = None
    asymmetry: Asymmetry | None = None
    colour_asymmetry: Asymmetry | None = None
    border: Border | None = None
    colours: Colours | None = None
    mm_per_pixel: float | None = None

    def without_pixels(self) -> Measures:
        """Return the same measures; the region keeps its facts, and no pixels."""
        if self.region is None:
            return self
        return replace(self, region=replace(self.region, inside=_NOTHING, given=_NOTHING))

    def as_row(self) -> dict[str, float | int | bool | str | None]:
        """Return the values by the names of ``COLUMNS``; None where not known."""
        row: dict[str, float | int | bool | str | None] = dict.fromkeys(COLUMNS)
        row["mm_per_pixel"] = mm = self.mm_per_pixel
        if self.region is not None:
            row |= {
                "touches_edge": self.region.touches_edge,
                "pieces": self.region.pieces,
                "share_measured": self.region.share,
            }
        if self.shape is not None:
            row |= _of_shape(self.shape, mm)
        for name, one in (("asymmetry", self.asymmetry), ("colour_asymmetry", self.colour_asymmetry)):
            if one is not None:
                row |= {f"{name}_long": one.long, f"{name}_short": one.short, name: one.lowest}
        if self.border is not None:
            row["border_abruptness"] = self.border.abruptness
            row["abrupt_segments"] = self.border.abrupt_segments
        if self.colours is not None:
            row |= _of_colours(self.colours)
        return row


def measure(
    rgb: npt.NDArray[np.uint8], mask: Mask, *, mm_per_pixel: float | None = None, pieces: Which = "largest"
) -> Measures:
    """Measure the lesion that a mask is of.

    Args:
        rgb: uint8 (H, W, 3), RGB.
        mask: bool (H, W), True inside.
        mm_per_pixel: millimetres of skin that a pixel's side is.
        pieces: measure the "largest" piece of the mask alone, or "all" as one lesion.

    Returns:
        All measures; of an empty mask none, with the reason.

    Raises:
        DataError: not an image and a mask of one size, or a scale that is not above 0.

    Example:
        >>> found = measure(rgb, mask, mm_per_pixel=0.02)  # doctest: +SKIP
        >>> found.as_row()["diameter_mm"]  # doctest: +SKIP
        6.31
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise DataError("the image must be RGB, uint8 (H, W, 3).", f"found {rgb.shape} of {rgb.dtype}")
    if mask.shape != rgb.shape[:2]:
        raise DataError("a mask must be as large as its image.", f"found {mask.shape} and {rgb.shape[:2]}")
    if mm_per_pixel is not None and not (math.isfinite(mm_per_pixel) and mm_per_pixel > 0):
        raise DataError("millimetres per pixel must be above 0.", f"found {mm_per_pixel}")
    region = region_of(mask, pieces)
    if region is None:
        return Measures(EMPTY, mm_per_pixel=mm_per_pixel)
    shape = shape_of(region)
    if shape.area < SMALLEST:
        reason = f"only {shape.area} pixels: no more than area and diameters"
        return Measures(reason, region, shape, mm_per_pixel=mm_per_pixel)
    patch = patch_of(rgb, region)
    centre = _centre(patch.inside)
    inside_region = (shape.centre[0] - region.x, shape.centre[1] - region.y)
    return Measures(
        reason="" if patch.skin is not None else "no skin is seen around: no contrast, no relative colours",
        region=region,
        shape=shape,
        asymmetry=shape_asymmetry(region.inside, inside_region, shape.axis),
        colour_asymmetry=colour_asymmetry(patch.lab, patch.inside, centre, shape.axis),
        border=border_of(patch, centre, shape.axis),
        colours=colours_of(patch),
        mm_per_pixel=mm_per_pixel,
    )


def _centre(inside: Mask) -> tuple[float, float]:
    y, x = np.nonzero(inside)
    return float(x.mean()), float(y.mean())


def _of_shape(shape: Shape, mm: float | None) -> dict[str, float | int | bool | str | None]:
    row: dict[str, float | int | bool | str | None] = {
        "area_px": shape.area,
        "axis_degrees": shape.axis,
        "elongation": shape.elongation,
        "compactness": shape.compactness,
        "solidity": shape.solidity,
        "border_dimension": shape.border_dimension,
    }
    row["area_mm2"] = None if mm is None else shape.area * mm * mm
    lengths = {
        "diameter": shape.diameter,
        "breadth": shape.breadth,
        "equivalent_diameter": shape.equivalent_diameter,
        "perimeter": shape.perimeter,
    }
    for name, pixels in lengths.items():
        row[f"{name}_px"] = pixels
        row[f"{name}_mm"] = None if mm is None or pixels is None else pixels * mm
    return row


def _of_colours(colours: Colours) -> dict[str, float | int | bool | str | None]:
    row: dict[str, float | int | bool | str | None] = {
        "colours": colours.count,
        "colours_relative": colours.relative_count,
        "variegation": colours.variegation,
        "contrast": colours.contrast,
    }
    row |= {f"share_{name}": share for name, share in zip(COLOURS, colours.shares, strict=True)}
    if colours.relative_shares is not None:
        row |= {f"relative_{n}": s for n, s in zip(COLOURS, colours.relative_shares, strict=True)}
    for name, lab in (("lesion", colours.lesion), ("skin", colours.skin)):
        if lab is not None:
            row |= {f"{name}_{axis}": value for axis, value in zip("lab", lab, strict=True)}
    return row
