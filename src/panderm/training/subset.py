"""A part of the training rows, the same whatever is fitted on it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

# The published probe shuffles the training rows with this seed before it takes a part of them.
_SUBSET_SEED = 42


def take_part(rows: npt.NDArray[np.intp], part: float) -> npt.NDArray[np.intp]:
    """Return the part of some rows that the published probe takes, ascending; of 1, all.

    Args:
        rows: positions of the training rows in their table, ascending.
        part: in (0, 1].

    Example:
        >>> len(take_part(np.arange(200), 0.1))
        20
    """
    if part >= 1:
        return rows
    # pandas' own shuffle: the published subset is defined by it.
    shuffled = pd.Series(rows).sample(frac=1, random_state=_SUBSET_SEED).to_numpy()
    return np.asarray(np.sort(shuffled[: int(len(rows) * part)]), dtype=np.intp)
