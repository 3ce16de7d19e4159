"""How sharply a lesion ends: the ABCD rule's eight segments of its border."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.lesions.patch import Patch

SEGMENTS = 8
ABRUPT = 0.6  # share of the contrast, from which on a segment ends abruptly
_STEP = 0.04  # of the equivalent diameter: the width within which an abrupt end is complete
_LEAST = 8.0  # L*: with less contrast grain alone would be abrupt
_FEWEST = 3  # pixels of each distance


@dataclass(frozen=True)
class Border:
    """How sharply a lesion ends.

    Attributes:
        abrupt_segments: of eight segments, how many end abruptly, 0 to 8; None where no segment can be told.
        abruptness: mean over segments of the share of the contrast that is crossed at once, 0 to 1.
        segments: that share of each, from the long principal axis on, counter-clockwise; None where it lies
            at the image's edge. 0 where lesion and skin hardly differ.
    """

    abrupt_segments: int | None
    abruptness: float | None
    segments: tuple[float | None, ...]


def border_of(patch: Patch, centre: tuple[float, float], axis: float) -> Border:
    """Measure how sharply a lesion ends in eight segments around its centre.

    After the B of the ABCD rule (Stolz et al., Eur. J. Dermatol. 4, 1994): in how many of eight segments does
    the pigment end abruptly? Here: of the contrast in L* from 16 % of the equivalent diameter inside the
    border to 16 % outside, the largest part that is crossed from one strip of 4 % to the next, at most 8 %
    from the mask's border, which need not lie exactly. An edge in one step gives 1, a ramp as wide as all of
    it 0.25; from 0.6 on a segment is abrupt.

    Args:
        patch: the lesion and its surroundings.
        centre: (x, y) of the patch.
        axis: the long principal axis, degrees from the x axis upwards.
    """
    width = max(1.0, _STEP * patch.equivalent)
    y, x = np.nonzero(np.abs(patch.away) < 4 * width)
    angle = np.degrees(np.arctan2(-(y - centre[1]), x - centre[0])) - axis
    segment = np.floor(np.mod(angle, 360.0) / (360.0 / SEGMENTS)).astype(int) % SEGMENTS
    # Strips of a quarter of the width, so that an end is found wherever it lies.
    per = 4
    strip = np.clip(np.floor(patch.away[y, x] * per / width).astype(int) + 4 * per, 0, 8 * per - 1)
    place = segment * 8 * per + strip
    count = np.bincount(place, minlength=SEGMENTS * 8 * per).reshape(SEGMENTS, -1)
    total = np.bincount(place, weights=patch.lab[y, x, 0], minlength=SEGMENTS * 8 * per).reshape(SEGMENTS, -1)
    shares = tuple(_share(c, t, per) for c, t in zip(count, total, strict=True))
    known = [share for share in shares if share is not None]
    return Border(
        abrupt_segments=sum(share >= ABRUPT for share in known) if known else None,
        abruptness=math.fsum(known) / len(known) if known else None,
        segments=shares,
    )


def _share(count: npt.NDArray[Any], total: npt.NDArray[Any], per: int) -> float | None:
    """Return which share of a segment's contrast is crossed at once, None where a strip has no pixels."""
    pixels = np.concatenate([[0], np.cumsum(count)])
    light = np.concatenate([[0.0], np.cumsum(total)])

    def mean(first: int) -> float | None:
        """Lightness of the strip as wide as ``per`` quarters."""
        held = pixels[first + per] - pixels[first]
        return None if held < _FEWEST else float(light[first + per] - light[first]) / float(held)

    means = [mean(first) for first in range(7 * per + 1)]
    inner, outer = means[0], means[7 * per]
    if inner is None or outer is None or any(m is None for m in means[per : 6 * per + 1]):
        return None
    contrast = outer - inner
    if contrast < _LEAST:
        return 0.0
    # The border between two strips lies at most two widths from the mask's own.
    crossed = max(means[k + per] - means[k] for k in range(per, 5 * per + 1))  # type: ignore[operator]
    return float(min(1.0, max(0.0, crossed / contrast)))
