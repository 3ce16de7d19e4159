"""A fitted multilayer perceptron: one hidden layer between an embedding and the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from panderm.fitted.probe import FittedProbe, Floats

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_ROWS = 8192  # at once


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedMLP(FittedProbe):
    """Logits V·gelu(W·(x − mean)·scale + b) + c.

    Attributes:
        learned: arrays by name, all float32 or all float64: ``mean`` (D,) and ``scale`` (D,) of the training
            rows, ``hidden.weight`` (H, D), ``hidden.bias`` (H,), ``output.weight`` (K, H), ``output.bias``
            (K,), minus infinity for a class that was never trained.
        device: where it is computed; no part of what is stored.
    """

    kind: ClassVar[str] = "mlp"

    learned: dict[str, npt.NDArray[Any]]
    device: str = "cpu"

    @property
    def dim(self) -> int:
        """Width D of the embeddings it takes."""
        return len(self.learned["mean"])

    @property
    def trained(self) -> npt.NDArray[np.bool_]:
        """Say of each class whether it was trained, bool (K,)."""
        return np.asarray(np.isfinite(self.learned["output.bias"]))

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return all weights."""
        return dict(self.learned)

    @classmethod
    def restored(cls, tensors: dict[str, npt.NDArray[Any]], settings: dict[str, Any], **common: Any) -> Self:  # noqa: ARG003
        """Return the probe of a file; see :class:`FittedProbe`."""
        hidden, K = tensors["hidden.weight"], len(common["classes"])
        if hidden.ndim != 2:
            raise ValueError("no hidden layer")
        H, D = hidden.shape
        shapes = {"mean": (D,), "scale": (D,), "hidden.weight": (H, D), "hidden.bias": (H,)}
        require_weights(tensors, shapes | {"output.weight": (K, H), "output.bias": (K,)})
        return cls(learned=tensors, **common)

    def _logits(self, X: npt.NDArray[Any]) -> Floats:
        import torch

        weights = {name: torch.tensor(value, device=self.device) for name, value in self.learned.items()}
        rows = np.asarray(X, dtype=self.learned["mean"].dtype)
        with torch.inference_mode():
            made = [
                mlp(torch.tensor(rows[start : start + _ROWS], device=self.device), weights)
                for start in range(0, len(rows), _ROWS)
            ]
        return np.concatenate(
            [np.empty((0, len(self.classes))), *(one.cpu().double().numpy() for one in made)]
        )


def mlp(x: Tensor, weights: dict[str, Tensor], drop: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Return logits (n, K) of embeddings (n, D); ``drop`` is what training does to the hidden layer."""
    from torch.nn.functional import gelu, linear

    standard = (x - weights["mean"]) * weights["scale"]
    hidden = gelu(linear(standard, weights["hidden.weight"], weights["hidden.bias"]))
    return linear(hidden if drop is None else drop(hidden), weights["output.weight"], weights["output.bias"])


def require_weights(tensors: dict[str, npt.NDArray[Any]], shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise where a file's arrays are not these, of one float type and finite.

    The bias of a class never trained is minus infinity; any other number that is not finite is damage.

    Raises:
        ValueError: they are not.
    """
    types = {value.dtype for value in tensors.values()}
    sound = {name: value.shape for name, value in tensors.items()} == shapes
    if not sound or types not in ({np.dtype(np.float32)}, {np.dtype(np.float64)}):
        raise ValueError("no weights of these classes")
    for name, value in tensors.items():
        finite = np.isfinite(value)
        if not (finite | (value == -np.inf) if name == "output.bias" else finite).all():
            raise ValueError(f"{name} is not finite")
