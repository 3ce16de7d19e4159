"""A fitted prototype probe: the mean of each class on the unit sphere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from panderm.fitted.neighbours import unit_length
from panderm.fitted.probe import FittedProbe, Floats


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedPrototypes(FittedProbe):
    """Logits −‖x̂ − μ_c‖²/τ + log π_c, x̂ an embedding less the training mean, at length 1.

    Nearest class means (Snell et al., NeurIPS 2017) of centred and normalised features, CL2N of SimpleShot
    (Wang et al., arXiv:1911.04623).

    Attributes:
        centre: float64 (D,), what is subtracted from an embedding.
        means: float64 (K, D), the mean of each class after centring and normalising; 0 for one never trained.
        prior: float64 (K,), log π; minus infinity for a class that was never trained.
        tau: τ, greater than 0.
    """

    kind: ClassVar[str] = "prototypes"

    centre: Floats
    means: Floats
    prior: Floats
    tau: float

    @property
    def dim(self) -> int:
        """Width D of the embeddings it takes."""
        return len(self.centre)

    @property
    def trained(self) -> npt.NDArray[np.bool_]:
        """Say of each class whether it was trained, bool (K,)."""
        return np.isfinite(self.prior)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return centre, means and prior."""
        return {"centre": self.centre, "means": self.means, "prior": self.prior}

    def settings(self) -> dict[str, Any]:
        """Return τ."""
        return {"tau": self.tau}

    @classmethod
    def restored(cls, tensors: dict[str, npt.NDArray[Any]], settings: dict[str, Any], **common: Any) -> Self:
        """Return the probe of a file; see :class:`FittedProbe`."""
        centre, means, prior = (tensors[name] for name in ("centre", "means", "prior"))
        tau, K = float(settings["tau"]), len(common["classes"])
        sound = centre.ndim == 1 and means.shape == (K, len(centre)) and prior.shape == (K,)
        sound = sound and centre.dtype == means.dtype == prior.dtype == np.float64 and 0 < tau < np.inf
        sound = sound and bool(np.isfinite(centre).all() and np.isfinite(means).all())
        if not (sound and (np.isfinite(prior) | (prior == -np.inf)).all()):
            raise ValueError("no prototypes of these classes")
        return cls(centre=centre, means=means, prior=prior, tau=tau, **common)

    def squared_distances(self, X: npt.ArrayLike) -> Floats:
        """Return ‖x̂ − μ_c‖² of embeddings (n, D), float64 (n, K)."""
        x = centred(X, self.centre)
        cross = x @ self.means.T
        squares = (x**2).sum(axis=1)[:, None] - 2 * cross + (self.means**2).sum(axis=1)
        return np.asarray(np.maximum(squares, 0))

    def _logits(self, X: npt.NDArray[Any]) -> Floats:
        return self.prior - self.squared_distances(X) / self.tau


def centred(X: npt.ArrayLike, centre: Floats) -> Floats:
    """Return embeddings (n, D) less a centre, at length 1, float64."""
    return unit_length(np.asarray(X, dtype=np.float64) - centre).astype(np.float64)
