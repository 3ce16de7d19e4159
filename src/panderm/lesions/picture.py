"""A lesion with what was measured of it: outline, largest diameter, principal axes, and the ruler's ticks."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np

from panderm.errors import ArtifactError
from panderm.lesions.measure import Measures
from panderm.lesions.patch import Image8
from panderm.lesions.scale import Scale

_SIDE = 1024  # pixels of the longer side at most
_LEAST = 512  # pixels, to which a small image is enlarged
_OUTLINE, _DIAMETER, _AXES = (0, 255, 255), (255, 255, 255), (255, 150, 0)
_TICK, _MARK, _REFUSED = (60, 220, 60), (255, 0, 255), (230, 40, 40)


def lesion_picture(rgb: Image8, measures: Measures, scale: Scale | None = None) -> Image8:
    """Draw what was measured on an image.

    Cyan: the outline measured. White: the largest diameter. Orange: the principal axes. Of a ruler each tick
    is ringed, green, the long marks magenta; a row of which no scale was taken is red.

    Args:
        rgb: uint8 (H, W, 3), the image.
        measures: of its lesion.
        scale: with the ruler, if one was looked for.

    Returns:
        uint8 (h, w, 3), at most 1,024 pixels long.
    """
    longest = max(rgb.shape[:2])
    by = min(1.0, _SIDE / longest) if longest > _LEAST else min(_LEAST / longest, 4.0)
    size = (max(1, round(rgb.shape[1] * by)), max(1, round(rgb.shape[0] * by)))
    way = cv2.INTER_AREA if by < 1 else cv2.INTER_CUBIC
    laid: Image8 = np.array(cv2.resize(rgb, size, interpolation=way), dtype=np.uint8)

    def at(x: float, y: float) -> tuple[int, int]:
        return round((x + 0.5) * by - 0.5), round((y + 0.5) * by - 0.5)

    region, shape = measures.region, measures.shape
    if region is not None and shape is not None:
        found, _ = cv2.findContours(region.inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        shift = np.array([region.x, region.y])
        lines = [np.rint((piece[:, 0] + shift + 0.5) * by - 0.5).astype(np.int32) for piece in found]
        for colour, width in (((0, 0, 0), 3), (_OUTLINE, 2)):
            cv2.polylines(laid, lines, True, colour, width)
        angle = math.radians(shape.axis)
        for turn, length in ((angle, shape.diameter / 2), (angle + math.pi / 2, shape.breadth / 2)):
            x, y = shape.centre
            dx, dy = math.cos(turn) * length, -math.sin(turn) * length
            _line(laid, at(x - dx, y - dy), at(x + dx, y + dy), _AXES)
        _line(laid, at(*shape.ends[0]), at(*shape.ends[1]), _DIAMETER)
    if scale is not None and scale.ruler is not None:
        ruler, taken = scale.ruler, scale.source == "ruler"
        for tick, mark in zip(ruler.ticks, ruler.marks, strict=True):
            colour = (_MARK if mark else _TICK) if taken else _REFUSED
            cv2.circle(laid, at(*tick), 6 if mark else 4, (0, 0, 0), 3)
            cv2.circle(laid, at(*tick), 6 if mark else 4, colour, 1)
    return laid


def write_picture(path: Path, picture: Image8) -> None:
    """Write a picture as PNG."""
    done, content = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise ArtifactError("a picture must be written.", f"{path} cannot be encoded")
    path.write_bytes(content.tobytes())


def _line(laid: Image8, start: tuple[int, int], end: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.line(laid, start, end, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.line(laid, start, end, colour, 1)
