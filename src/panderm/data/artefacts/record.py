"""The artefacts of one image, and what each flag is: quantity, unit, threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from panderm.errors import UsageError, did_you_mean


class Flag(NamedTuple):
    """One flag: what is measured, and from where on it says yes."""

    name: str
    quantity: str
    unit: str
    threshold: float
    positive: int
    """The grade of the hand labels, 1 or 2, from which the flag should say yes."""
    below: bool = False
    """Yes where the quantity is below the threshold rather than at or above it."""
    digits: int = 2

    def says(self, score: float) -> bool:
        """Return whether a measured quantity, as it is written, is flagged."""
        written = round(score, self.digits)
        return written < self.threshold if self.below else written >= self.threshold


# Thresholds: the largest sum of sensitivity and specificity on the dev half of the hand labels. Of blur:
# 95 % of that half's sharp images lie below it. benchmarks/artefacts.py prints both.
FLAGS = (
    Flag("hair", "length of all hairs, roughly", "short sides", 0.45, 2),
    Flag("ruler", "−log₁₀ of how often chance makes such a row of ticks", "", 1.2, 2),
    Flag("ink", "diagonal of the largest blue or violet stroke", "short sides", 0.03, 1),
    Flag("gel", "the most complete bright ring, above chance", "standard deviations", 17.0, 1),
    Flag("dark_corners", "dark and connected to a corner", "share of the picture", 0.0004, 2, digits=4),
    Flag("blur", "coarse edges to fine edges", "ratio", 1.46, 2),
    Flag("low_contrast", "colour of the lesion from the skin's", "ΔE*ab", 28.0, 1, below=True, digits=1),
    Flag("non_skin", "neither skin nor lesion by its colour", "share of the picture", 0.02, 1, digits=4),
)


@dataclass(frozen=True)
class Artefacts:
    """What simple image analysis finds in one image: hints, each with a known rate of error, no truths.

    Attributes:
        hair: length of all hair-like lines, roughly, in short sides of the image.
        ruler: −log₁₀ of how often chance makes such a row of equally spaced ticks.
        ink: diagonal of the largest stroke of blue or violet ink, in short sides.
        gel: how far the most complete bright ring stands above chance, in standard deviations.
        dark_corners: share of the image that is dark and connected to a corner.
        blur: strength of coarse edges divided by that of fine ones.
        low_contrast: colour distance from lesion to skin, ΔE*ab; low contrast is a small one.
        non_skin: share of the image that is neither skin nor lesion by its colour.
        ita: individual typology angle in degrees; None where the light gives none.
        tone: its category, ``very light`` to ``dark``; None likewise.

    Example:
        >>> found = panderm.find_artefacts(panderm.read_image("lesion.jpg"))  # doctest: +SKIP
        >>> found.says("hair"), found.hair, found.tone  # doctest: +SKIP
        (True, 4.21, 'light')
    """

    hair: float
    ruler: float
    ink: float
    gel: float
    dark_corners: float
    blur: float
    low_contrast: float
    non_skin: float
    ita: float | None
    tone: str | None

    def says(self, flag: str) -> bool:
        """Return whether a flag says yes: its quantity is beyond its threshold in ``FLAGS``.

        Raises:
            UsageError: no flag has this name.
        """
        known = {one.name: one for one in FLAGS}
        if flag not in known:
            raise UsageError(
                f"a flag must be one of {', '.join(known)}.", f"found {flag!r}{did_you_mean(flag, known)}"
            )
        return known[flag].says(getattr(self, flag))
