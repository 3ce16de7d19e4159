"""A fitted linear probe: a weight and a bias for each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from panderm.fitted.probe import FittedProbe, Floats


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedLinear(FittedProbe):
    """Logits x·Wᵀ + b.

    Attributes:
        weight: float64 (K, D), for embeddings as they are, neither centred nor scaled.
        bias: float64 (K,); minus infinity for a class that was never trained.
    """

    kind: ClassVar[str] = "linear"

    weight: Floats
    bias: Floats

    @property
    def dim(self) -> int:
        """Width D of the embeddings it takes."""
        return int(self.weight.shape[1])

    @property
    def trained(self) -> npt.NDArray[np.bool_]:
        """Say of each class whether it was trained, bool (K,)."""
        return np.isfinite(self.bias)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return weight and bias."""
        return {"weight": self.weight, "bias": self.bias}

    @classmethod
    def restored(cls, tensors: dict[str, npt.NDArray[Any]], settings: dict[str, Any], **common: Any) -> Self:  # noqa: ARG003
        """Return the probe of a file; see :class:`FittedProbe`."""
        weight, bias = tensors["weight"], tensors["bias"]
        K = len(common["classes"])
        sound = weight.ndim == 2 and (len(weight), bias.shape) == (K, (K,))
        sound = sound and weight.dtype == bias.dtype == np.float64
        # Minus infinity stands for a class never trained; any other number that is not finite is damage.
        if not (sound and np.isfinite(weight).all() and (np.isfinite(bias) | (bias == -np.inf)).all()):
            raise ValueError("no weight and bias of these classes")
        return cls(weight=weight, bias=bias, **common)

    def _logits(self, X: npt.NDArray[Any]) -> Floats:
        return np.asarray(X, dtype=np.float64) @ self.weight.T + self.bias
