"""Rows that nobody looks at before a probe is fitted."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import numpy.typing as npt

from panderm.embeddings import Embeddings
from panderm.fitted import FittedProbe

Positions = npt.NDArray[np.intp]


class Sealed:
    """Rows to predict: until a fitted probe opens them, once, no more is known than how many there are.

    Whoever fits is given embeddings without these rows: to tune on them is not forbidden but impossible.

    Args:
        emb: embeddings that hold them.
        rows: their positions.
    """

    def __init__(self, emb: Embeddings, rows: Positions) -> None:
        self._held: tuple[Embeddings, Positions] | None = (emb, rows)
        self._n = len(rows)

    def __len__(self) -> int:
        return self._n

    def opened_by(self, probe: FittedProbe) -> Embeddings:
        """Return the rows, for the one probe that is to predict them.

        Raises:
            PermissionError: something else than a fitted probe, or opened before.
        """
        if not isinstance(probe, FittedProbe) or self._held is None:
            raise PermissionError("rows to predict are opened once, by a probe that is fitted")
        emb, rows = self._held
        self._held = None
        return emb.select(rows, read=False)

    def _refuse(self) -> NoReturn:
        raise PermissionError("rows to predict are sealed until a probe is fitted")

    @property
    def vectors(self) -> NoReturn:
        """Nothing: they are sealed."""
        self._refuse()

    @property
    def tokens(self) -> NoReturn:
        """Nothing: they are sealed."""
        self._refuse()

    @property
    def rows(self) -> NoReturn:
        """Nothing: they are sealed."""
        self._refuse()
