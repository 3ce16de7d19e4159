"""A fitted attentive probe: a learned query looks over the patch tokens of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from panderm.errors import DataError
from panderm.fitted.mlp import require_weights
from panderm.fitted.probe import FittedProbe, Floats
from panderm.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

_IMAGES = 64  # at once


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedAttentive(FittedProbe):
    """Logits of what a multi-head query gathers from patch tokens.

    Cross-attention of one learned query, layer norm, a linear layer: the pooling of CoCa (Yu et al., TMLR
    2022), as AIM (El-Nouby et al., ICML 2024) and V-JEPA (Bardes et al., TMLR 2024) probe frozen encoders.
    The query does not depend on the image: what it asks of the keys of a head is one vector of D numbers,
    and the values may be projected after they are summed. Neither is then formed for each token, which
    gives the same functions at a small part of the arithmetic.

    Attributes:
        learned: arrays by name, all float32 or all float64, of H heads: ``query`` (H, D), ``value.weight``
            (H, D/H, D), ``value.bias`` (D,), ``output.weight`` (K, D), ``output.bias`` (K,), minus infinity
            for a class that was never trained.
        device: where it is computed; no part of what is stored.
        progress: show a bar; no part of what is stored.
    """

    kind: ClassVar[str] = "attentive"
    takes: ClassVar[Literal["vectors", "tokens"]] = "tokens"

    learned: dict[str, npt.NDArray[Any]]
    device: str = "cpu"
    progress: bool = False

    @property
    def dim(self) -> int:
        """Width D of the tokens it takes."""
        return len(self.learned["value.bias"])

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
        query, K = tensors["query"], len(common["classes"])
        if query.ndim != 2 or not len(query):
            raise ValueError("no query")
        H, D = query.shape
        shapes = {"query": (H, D), "value.weight": (H, D // H, D), "value.bias": (D,)}
        require_weights(tensors, shapes | {"output.weight": (K, D), "output.bias": (K,)})
        return cls(learned=tensors, **common)

    def attention(self, tokens: npt.ArrayLike) -> Floats:
        """Return where the query looks, (n, h, w): the mean over its heads; each image sums to 1.

        Args:
            tokens: (n, h, w, D).

        Raises:
            DataError: tokens of another width, or values that are not finite.
        """
        n, h, w = self._checked(tokens).shape[:3]
        maps = self._of_each(tokens, lambda t, weights: attention(normed(t), weights).mean(dim=1))
        return np.concatenate([np.empty((0, h * w)), *maps]).reshape(n, h, w)

    def _logits(self, X: npt.NDArray[Any]) -> Floats:
        return np.concatenate([np.empty((0, len(self.classes))), *self._of_each(X, attend)])

    def _of_each(self, X: Any, function: Callable[[Tensor, dict[str, Tensor]], Tensor]) -> Iterator[Floats]:
        """Yield what a function makes of some images at a time."""
        import torch

        X = self._checked(X)
        weights = {name: torch.tensor(value, device=self.device) for name, value in self.learned.items()}
        with torch.inference_mode(), Progress(len(X), "attending", "image", shown=self.progress) as bar:
            for start in range(0, len(X), _IMAGES):
                some = np.asarray(X[start : start + _IMAGES])
                if not np.isfinite(some).all():
                    raise DataError("patch tokens must be finite.", "found NaN or infinite numbers")
                tokens = torch.tensor(some, device=self.device).to(weights["query"].dtype)
                yield function(tokens.flatten(1, 2), weights).cpu().double().numpy()
                bar.advance(len(some))

    def _checked(self, tokens: Any) -> Any:
        X = tokens if hasattr(tokens, "shape") else np.asarray(tokens)
        if X.ndim != 4 or X.shape[-1] != self.dim:
            must = f"this probe takes patch tokens of {self.dim} numbers, (n, h, w, {self.dim})."
            raise DataError(must, f"found shape {X.shape}")
        return X


def attend(
    tokens: Tensor, weights: dict[str, Tensor], drop: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Return logits (n, K) of tokens (n, L, D) in any order; ``drop`` is what training does to the pooled."""
    import torch
    from torch.nn.functional import layer_norm, linear

    seen = normed(tokens)
    gathered = attention(seen, weights) @ seen
    values = (
        torch.einsum("nhd,hed->nhe", gathered, weights["value.weight"]).flatten(1) + weights["value.bias"]
    )
    pooled = layer_norm(values, values.shape[-1:])
    return linear(pooled if drop is None else drop(pooled), weights["output.weight"], weights["output.bias"])


def attention(seen: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """Return how much of each head's sum each token is, (n, H, L), of normalised tokens (n, L, D)."""
    return (weights["query"] @ seen.transpose(1, 2)).softmax(dim=-1)


def normed(tokens: Tensor) -> Tensor:
    """Return tokens of mean 0 and variance 1 each: what gains and shifts would add, the weights can."""
    from torch.nn.functional import layer_norm

    return layer_norm(tokens, tokens.shape[-1:])
