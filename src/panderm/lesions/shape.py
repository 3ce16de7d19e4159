"""The shape of one lesion, in pixels: area, diameters, perimeter, and how irregular its border is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from panderm.lesions.region import Mask, Region

Floats = npt.NDArray[np.float64]
Plane = npt.NDArray[np.float32]

SOFT = 1.25  # pixels: standard deviation by which a mask is softened before its border is measured
_SMALL = 16  # pixels of area below which a border has no measure: it is all staircase
_SCALES = 5  # standard deviations at which the border is measured for its dimension
_FINEST, _COARSEST = 0.01, 0.03  # of the equivalent diameter
_SHARPEST = 0.8  # pixels: a finer Gaussian is not one on a grid of pixels


@dataclass(frozen=True)
class Shape:
    """What the outline of a lesion is like; lengths in pixels, None where too small to say.

    Attributes:
        area: pixels, holes included.
        hole_share: of the area, how much the mask leaves open, in [0, 1).
        diameter: the largest (maximum Feret diameter).
        breadth: the smallest distance of two parallel lines that hold the lesion (minimum Feret diameter).
        equivalent_diameter: of a disc of this area.
        perimeter: see :func:`perimeter_of`.
        axis: direction of the long principal axis, degrees in [0, 180), from the image's x axis upwards.
        elongation: standard deviation along the long principal axis by that along the short one, at least 1.
        compactness: perimeter² / (4π area): 1 of a disc, larger the more irregular.
        solidity: area by that of the convex hull, in (0, 1].
        border_dimension: how the perimeter grows with detail: 1 of a smooth border, towards 2 of a rough one.
        ends: the two points (x, y) of the image that lie farthest apart.
        centre: (x, y) of the image.
    """

    area: int
    hole_share: float
    diameter: float
    breadth: float
    equivalent_diameter: float
    perimeter: float | None
    axis: float
    elongation: float
    compactness: float | None
    solidity: float
    border_dimension: float | None
    ends: tuple[tuple[float, float], tuple[float, float]]
    centre: tuple[float, float]


def shape_of(region: Region) -> Shape:
    """Measure the outline of a lesion.

    Diameters are those of the convex hull of the border, which runs between pixels, through the middles of
    their shared edges; of that polygon they are exact. Of drawn discs the diameter is less than a pixel too
    long, of a square's diagonal 0.7 pixels too short.

    Compactness: Golston et al., Comput. Med. Imaging Graph. 16, 1992 ("irregularity index"). Solidity and the
    dimension of the border as measures of melanoma: Claridge et al., J. Biomed. Eng. 14, 1992.
    """
    inside = region.inside
    area = int(np.count_nonzero(inside))
    moments = cv2.moments(inside.astype(np.uint8), binaryImage=True)
    x, y = moments["m10"] / area, moments["m01"] / area
    hull = _hull(inside)
    diameter, (one, other) = _farthest(hull)
    equivalent = 2 * math.sqrt(area / math.pi)
    axis, elongation = _principal(moments, area)
    perimeter = perimeter_of(inside) if area >= _SMALL else None
    held = max(_polygon_area(hull), float(area))
    offset = np.array([region.x, region.y])
    return Shape(
        area=area,
        hole_share=1 - float(np.count_nonzero(region.given)) / area,
        diameter=diameter,
        breadth=_breadth(hull),
        equivalent_diameter=equivalent,
        perimeter=perimeter,
        axis=axis,
        elongation=elongation,
        compactness=None if perimeter is None else perimeter**2 / (4 * math.pi * area),
        solidity=area / held,
        border_dimension=_dimension(inside, equivalent),
        ends=tuple(tuple(float(v) for v in hull[k] + offset) for k in (one, other)),  # type: ignore[arg-type]
        centre=(x + region.x, y + region.y),
    )


def perimeter_of(inside: Mask | Plane, soft: float = SOFT) -> float:
    """Return the length of a border in pixels: the mean length of all contours of the softened mask.

    By the coarea formula (Federer 1959) that mean is the sum of the gradient's length over all pixels. The
    mask is softened by a Gaussian of ``soft`` pixels first, so that its staircase is no border. Discs are
    within 1 % from 10 pixels of radius on, and turned squares of 200 pixels too; each sharp corner loses
    about a pixel, and what is thinner than three pixels is measured too short.

    Args:
        inside: bool (h, w), or float32 from 0 to 1, how much of each pixel is inside.
        soft: standard deviation in pixels, at least 0.8.

    Returns:
        Pixels; of a mask that is smooth and large, whatever way it is turned.
    """
    # The derivative of the Gaussian itself, not a difference of pixels, which would take 5 % off.
    margin = math.ceil(4 * soft)
    plane = np.pad(inside.astype(np.float32), margin)
    at = np.arange(-margin, margin + 1, dtype=np.float64)
    bell = np.exp(-(at**2) / (2 * soft**2))
    bell /= bell.sum()
    slope = -at * bell
    slope /= -(slope * at).sum()  # a ramp of one a pixel has the slope 1
    across = cv2.sepFilter2D(plane, cv2.CV_32F, slope, bell, borderType=cv2.BORDER_CONSTANT)
    down = cv2.sepFilter2D(plane, cv2.CV_32F, bell, slope, borderType=cv2.BORDER_CONSTANT)
    return float(cv2.magnitude(across, down).sum(dtype=np.float64))


def _hull(inside: Mask) -> Floats:
    """Return the convex hull of the middles of the outer pixels' outer edges, (n, 2) x and y."""
    filled = inside.astype(np.uint8)
    rows = np.flatnonzero(filled.any(axis=1))
    # In each row only the first and the last pixel can be of the hull, in each column likewise.
    first, last = filled[rows].argmax(axis=1), filled.shape[1] - 1 - filled[rows, ::-1].argmax(axis=1)
    columns = np.flatnonzero(filled.any(axis=0))
    upper = filled[:, columns].argmax(axis=0)
    lower = filled.shape[0] - 1 - filled[::-1, columns].argmax(axis=0)
    points = np.concatenate(
        [
            np.column_stack([first - 0.5, rows]),
            np.column_stack([last + 0.5, rows]),
            np.column_stack([columns, upper - 0.5]),
            np.column_stack([columns, lower + 0.5]),
        ]
    )
    hull = cv2.convexHull(points.astype(np.float32))
    return np.asarray(hull, dtype=np.float64)[:, 0]


def _farthest(hull: Floats) -> tuple[float, tuple[int, int]]:
    """Return the largest distance of two corners and which they are: of a hull these are few."""
    apart = hull[:, None] - hull[None]
    square = (apart**2).sum(axis=2)
    one, other = np.unravel_index(int(square.argmax()), square.shape)
    return math.sqrt(float(square[one, other])), (int(one), int(other))


def _breadth(hull: Floats) -> float:
    """Return the smallest width: one of the two lines lies on an edge of the hull."""
    along = np.roll(hull, -1, axis=0) - hull
    length = np.hypot(along[:, 0], along[:, 1])
    along = along[length > 0] / length[length > 0, None]
    normal = np.column_stack([-along[:, 1], along[:, 0]])
    reach = normal @ hull.T
    return float((reach.max(axis=1) - reach.min(axis=1)).min())


def _polygon_area(hull: Floats) -> float:
    x, y = hull.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _principal(moments: dict[str, float], area: int) -> tuple[float, float]:
    """Return the direction of the long axis in degrees and the elongation, of second moments."""
    # A pixel is a square, not a point: its own moment is 1/12.
    xx, yy, xy = moments["mu20"] / area + 1 / 12, moments["mu02"] / area + 1 / 12, moments["mu11"] / area
    angle = 0.5 * math.atan2(2 * xy, xx - yy)
    apart = math.hypot(xx - yy, 2 * xy)
    long, short = (xx + yy + apart) / 2, max((xx + yy - apart) / 2, 1e-12)
    return math.degrees(-angle) % 180.0, math.sqrt(long / short)


def _dimension(inside: Mask, equivalent: float) -> float | None:
    """Return 1 less the slope of log perimeter over log scale, from 1 to 3 % of the equivalent diameter.

    A border of dimension D has a length that grows as scale^(1 − D) where it is looked at more finely
    (Mandelbrot 1967). A lesion of less than 80 pixels has none.
    """
    finest = _FINEST * equivalent
    if finest < _SHARPEST:
        return None
    # A large mask is made smaller first: the finest scale is then a pixel and a quarter.
    by = min(1.0, SOFT / finest)
    small = inside.astype(np.float32)
    if by < 1:
        size = (max(1, round(small.shape[1] * by)), max(1, round(small.shape[0] * by)))
        small = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
    scales = np.geomspace(finest * by, _COARSEST * equivalent * by, _SCALES)
    lengths = [perimeter_of(small, float(scale)) for scale in scales]
    slope = np.polyfit(np.log(scales), np.log(lengths), 1)[0]
    return float(1 - slope)
