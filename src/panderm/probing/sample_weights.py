"""How much each row counts in a fit, from a column of the table."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from panderm.data.table import Table
from panderm.errors import DataError, plural
from panderm.probing.table_columns import columns_of

_OPTION = "--sample-weight"


def sample_weights(rows: Table, column: str, used: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Return the weights of rows, float64 (n,): the column's numbers, 1 in the rows that are not used.

    Args:
        rows: n rows, as embeddings have them.
        column: of the table; numbers greater than 0.
        used: positions of the rows to fit or to choose on.

    Raises:
        DataError: a cell of these that is no number greater than 0.
        UsageError: no such column.
        ParentsError: the table is not what it was.
    """
    cells = columns_of(rows.select(used), [column], option=_OPTION)[column]
    weights = np.ones(len(rows))
    bad = []
    for i, cell in zip(used, cells, strict=True):
        try:
            weights[i] = float(cell or "nan")
        except ValueError:
            weights[i] = np.nan
        if not 0 < weights[i] < np.inf:
            bad.append(f"{rows.image[i]}: {cell or 'empty'}")
    if bad:
        raise DataError(
            f"{_OPTION} must name a column of numbers greater than 0.",
            [f"{plural(len(bad), 'row')} of column {column!r} hold none:", *bad[:5]],
            "correct the column, or leave these rows out",
        )
    return weights
