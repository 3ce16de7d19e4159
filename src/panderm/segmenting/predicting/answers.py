"""What masks are made with: whatever says of each pixel how probably it lies inside a lesion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

Image8: TypeAlias = npt.NDArray[np.uint8]
Probability: TypeAlias = npt.NDArray[np.float32]


class Known(Protocol):
    """What every kind of answer says of itself."""

    @property
    def name(self) -> str:
        """What it is called: on the card and beside the bar."""
        ...

    @property
    def threshold(self) -> float:
        """From which probability on a pixel is inside, 0 to 1, where nothing else is asked for."""
        ...

    def told(self) -> dict[str, Any]:
        """Return all that decides a probability, as JSON: hash of the weights, precision, options.

        A run that was stopped goes on only with an answer that tells the same. A file that it was opened
        from is ``told()["source"]``.
        """
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of it, a sentence each."""
        ...


@runtime_checkable
class Answers(Known, Protocol):
    """Probabilities of whole images that are squashed to a square: a segmenter, or a baseline without labels.

    An image is brought to S×S by ``pixels_of``, the answer to its native size by
    :func:`panderm.segmenting.predicting.native.at_native`.
    """

    @property
    def size(self) -> int:
        """S, the side of the square in pixels."""
        ...

    def pixels_of(self, rgb: Image8) -> Image8:
        """Return an upright RGB image, uint8 (H, W, 3) of any size, as uint8 (S, S, 3). Called in threads."""
        ...

    def probabilities(self, rgb: Image8) -> Probability | torch.Tensor:
        """Return P(lesion), float32 (B, S, S) in [0, 1], of uint8 (B, S, S, 3)."""
        ...


@runtime_checkable
class PromptedAnswers(Known, Protocol):
    """Probabilities of one image at its native size, where a box or a point is known by the image's name."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that it adds to masks.csv."""
        ...

    def require_prompts(self, names: Sequence[str], paths: Sequence[str]) -> None:
        """See that each image has its prompts, within its edges, before any is decoded.

        Args:
            names: of all images, as :meth:`probability_of` gets them.
            paths: of their files, in the same order.

        Raises:
            UsageError: names the first images without one, or those outside of it.
        """
        ...

    def cells_of(self, name: str) -> dict[str, float | int | str]:
        """Return the cells of ``columns`` for the image that :meth:`probability_of` was asked of last."""
        ...

    def probability_of(self, rgb: Image8, name: str) -> Probability:
        """Return P(lesion), float32 (H, W) in [0, 1], of an upright RGB image, uint8 (H, W, 3).

        Args:
            rgb: the image.
            name: as it was asked for: its path below a folder, or its cell of a table.

        Raises:
            UsageError: there is no prompt for an image of this name.
        """
        ...


@runtime_checkable
class LooksFirst(Protocol):
    """What looks at some of the images before it answers for any."""

    def learn(self, paths: Sequence[Path | str], *, max_megapixels: float, progress: bool) -> None:
        """Look at some of them.

        Args:
            paths: of all images.
            max_megapixels: larger images are passed over.
            progress: show progress on standard error.
        """
        ...
