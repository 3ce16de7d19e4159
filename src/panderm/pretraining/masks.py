"""Which patches the student does not see: rectangles, or single patches, of exactly the wanted count."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from panderm.errors import UsageError

MaskKind = Literal["block", "random"]

SMALLEST = 16  # patches of the smallest rectangle aimed at, of a grid of 14 × 14
FLATTEST = 0.3  # height / width is drawn between this and its inverse
_TRIES = 10


def masked_patches(ratio: float, n: int) -> int:
    """Return how many of ``n`` patches a mask ratio hides: rounded up, 30, 49 and 98 of 196 for 15, 25, 50 %.

    Raises:
        UsageError: a ratio outside [0, 1), or one that leaves no patch to see.
    """
    if not 0 <= ratio < 1:
        raise UsageError(
            "the mask ratio must be at least 0 and below 1.", f"found {ratio}", "0.15, 0.25 and 0.5 are usual"
        )
    masked = math.ceil(ratio * n - 1e-9)  # 0.3 × 10 is a little more than 3 in floating point
    if masked >= n:
        raise UsageError(
            "a mask must leave a patch to see.", f"a ratio of {ratio} hides all {n}", "lower the mask ratio"
        )
    return masked


@dataclass(frozen=True)
class MaskDrawer:
    """Draws masks over a grid of patches, each with exactly ``masked`` of them hidden.

    ``block`` is the mask of BEiT (Bao et al. 2022), which CAE v2 uses: rectangles whose area is uniform
    between 16 patches and the number still wanted, and whose aspect ratio (height / width) is log-uniform
    between 0.3 and 1/0.3, at a uniform place. A rectangle is kept where it hides at least one more patch and
    no more than are wanted; after ten that cannot be kept in a row, single patches at random fill the rest.
    ``random`` hides patches independently of one another.

    Attributes:
        grid: rows and columns of patches, (14, 14) for 224 pixels.
        masked: how many are hidden, 0 to rows × columns - 1.
        kind: ``block`` or ``random``.
    """

    grid: tuple[int, int]
    masked: int
    kind: MaskKind = "block"

    def __post_init__(self) -> None:
        if self.kind not in ("block", "random"):
            raise UsageError("masks must be block or random.", f"found {self.kind!r}")
        rows, columns = self.grid
        if rows < 1 or columns < 1:
            raise UsageError("a grid of patches must have rows and columns.", f"found {self.grid}")
        if not 0 <= self.masked < rows * columns:
            raise UsageError(
                f"a mask over {rows} × {columns} patches must hide 0 to {rows * columns - 1} of them.",
                f"found {self.masked}",
            )

    def draw(self, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        """Draw a mask: bool (rows × columns,), row by row, True where the student sees nothing."""
        hidden = np.zeros(self.grid, dtype=bool)
        wanted = self.masked
        if self.kind == "block":
            while wanted and (found := self._rectangle(hidden, wanted, rng)) is not None:
                place, more = found
                hidden[place] = True
                wanted -= more
        flat = hidden.reshape(-1)
        if wanted:
            flat[rng.choice(np.flatnonzero(~flat), wanted, replace=False)] = True
        return flat

    def _rectangle(
        self, hidden: npt.NDArray[np.bool_], wanted: int, rng: np.random.Generator
    ) -> tuple[tuple[slice, slice], int] | None:
        """Return the first of ten rectangles that fits, and how many patches it adds; None without any."""
        rows, columns = self.grid
        smallest = min(SMALLEST, self.masked)
        draws = rng.random((_TRIES, 4)).tolist()
        for size, shape, down, right in draws:
            area = smallest + size * (wanted - smallest)  # between the two also where fewer are wanted
            aspect = math.exp((2 * shape - 1) * math.log(1 / FLATTEST))
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if not (1 <= height <= rows and 1 <= width <= columns):
                continue
            top, left = int(down * (rows - height + 1)), int(right * (columns - width + 1))
            place = slice(top, top + height), slice(left, left + width)
            more = height * width - int(np.count_nonzero(hidden[place]))
            if 0 < more <= wanted:
                return place, more
        return None
