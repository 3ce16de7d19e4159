"""How alike two encodings of the same images are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.floating]


def cosines(a: Vectors, b: Vectors) -> npt.NDArray[np.float64]:
    """Return the cosine of each row of ``a`` (n, D) with that of ``b``: float64 (n,), NaN of zeros."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (x * y).sum(axis=1) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))
    return np.asarray(found, dtype=np.float64)


def centred_cosines(a: Vectors, b: Vectors) -> npt.NDArray[np.float64]:
    """Return the same after the mean over the images is taken from each: what a probe sees.

    All images of one kind have nearly the same vector; a plain cosine looks at what they share and is near
    1 whatever happens to the rest.

    Args:
        a: (n, D), n of 2 or more.
        b: (n, D), row by row of the same images.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return cosines(x - x.mean(axis=0), y - y.mean(axis=0))
