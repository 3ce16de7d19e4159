"""One image to its artefacts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from panderm.data.artefacts.gel import gel
from panderm.data.artefacts.hair import hair
from panderm.data.artefacts.ink import ink
from panderm.data.artefacts.quality import blur, contrast, dark_corners, non_skin
from panderm.data.artefacts.record import Artefacts
from panderm.data.artefacts.ruler import ruler
from panderm.data.artefacts.tone import tone_of, typology_angle
from panderm.data.artefacts.working import prepare


def find_artefacts(rgb: npt.NDArray[np.uint8], *, lesion: npt.NDArray[np.bool_] | None = None) -> Artefacts:
    """Look for hair, ruler, ink, gel, dark corners, blur, low contrast and non-skin; estimate skin tone.

    Each is a hint with a known rate of error, measured on hand-labelled images: see ``docs/artefacts.md``.
    Everything is looked at with a short side of 256 pixels, so that the same picture in another size gives
    nearly the same; below 256 pixels it is soft, and small things are lost.

    Args:
        rgb: uint8 (H, W, 3), RGB order, values in [0, 255].
        lesion: bool (H, W), the lesion, where it is known; otherwise it is guessed, roughly.

    Raises:
        DataError: an image of another shape or type, or a mask of another size.

    Example:
        >>> found = panderm.find_artefacts(panderm.read_image("lesion.jpg"))  # doctest: +SKIP
        >>> found.says("ruler"), found.ita  # doctest: +SKIP
        (False, 47.3)
    """
    working = prepare(rgb, lesion=lesion)
    length, hairs = hair(working)
    angle = typology_angle(working, hairs)
    return Artefacts(
        hair=length,
        ruler=ruler(working),
        ink=ink(working),
        gel=gel(working),
        dark_corners=dark_corners(working),
        blur=blur(working),
        low_contrast=contrast(working),
        non_skin=non_skin(working),
        ita=angle,
        tone=None if angle is None else tone_of(angle),
    )
