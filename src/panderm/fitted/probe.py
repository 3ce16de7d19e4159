"""What every fitted probe can do, whatever it learned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

from panderm.errors import DataError

Link = Literal["softmax", "sigmoid"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedProbe(ABC):
    """A probe after its fit: from an embedding to the probability of each class.

    Attributes:
        classes: the K classes, in the order of the columns of what it returns.
        method: what was decided before the fit, as on the predictions' card.
        temperature: what the logits are divided by, greater than 0; 1 where nothing was calibrated.
        link: ``softmax``: a row is of one class; ``sigmoid``: each class on its own, none or several.
        inputs: what it takes where that is not the stored vectors, for :mod:`panderm.probing.inputs`.

    Example:
        >>> probe = panderm.open_predictions("probe.pred").probe  # doctest: +SKIP
        >>> probe.probabilities(encoder.encode(pixels).numpy()).shape  # doctest: +SKIP
        (2, 7)
    """

    kind: ClassVar[str]
    takes: ClassVar[Literal["vectors", "tokens"]] = "vectors"

    classes: tuple[str, ...]
    method: dict[str, Any]
    temperature: float = 1.0
    link: Link = "softmax"
    inputs: dict[str, Any] = field(default_factory=dict)

    @property
    @abstractmethod
    def dim(self) -> int:
        """Width D of what it takes."""

    @property
    @abstractmethod
    def trained(self) -> npt.NDArray[np.bool_]:
        """Say of each class whether it was trained, bool (K,); one that was not has the probability 0."""

    @abstractmethod
    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return all that it learned, by name, as its file holds it."""

    def settings(self) -> dict[str, Any]:
        """Return what is no array but must be known again, as JSON."""
        return {}

    @classmethod
    @abstractmethod
    def restored(cls, tensors: dict[str, npt.NDArray[Any]], settings: dict[str, Any], **common: Any) -> Self:
        """Return the probe whose ``tensors`` and ``settings`` these are; ``common`` are the attributes above.

        Raises:
            ValueError: they are no sound probe; KeyError: one is missing.
        """

    @abstractmethod
    def _logits(self, X: npt.NDArray[Any]) -> Floats:
        """Return (n, K) before the temperature, of checked embeddings; -inf for a class never trained."""

    def logits(self, vectors: npt.ArrayLike) -> Floats:
        """Return (n, K), divided by the temperature; minus infinity for a class that was never trained.

        Args:
            vectors: (n, D), or (n, h, w, D) of a probe that takes tokens.

        Raises:
            DataError: embeddings of another width, or values that are not finite.
        """
        # Tokens may lie in files, many gigabytes: they are taken and checked batch by batch.
        X: Any = vectors if self.takes == "tokens" else np.asarray(vectors)
        dims = 4 if self.takes == "tokens" else 2
        if X.ndim != dims or X.shape[-1] != self.dim:
            what = "patch tokens" if dims == 4 else "embeddings"
            raise DataError(
                f"this probe takes {what} of {self.dim} numbers, one row an image.",
                f"found shape {X.shape}",
            )
        if self.takes == "vectors" and not np.isfinite(X).all():
            raise DataError("embeddings must be finite.", "found NaN or infinite numbers")
        return np.asarray(self._logits(X) / self.temperature, dtype=np.float64)

    def probabilities(self, vectors: npt.ArrayLike) -> Floats:
        """Return probabilities (n, K) of what ``logits`` takes; rows sum to 1 where the link is softmax."""
        z = self.logits(vectors)
        return np.asarray(softmax(z, axis=1) if self.link == "softmax" else expit(z))
