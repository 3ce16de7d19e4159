"""Pairs of predictors of the same rows: differences on the same draws, and p-values corrected together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from panderm.scores.compared import ComparedPair
from panderm.scores.resampled import Drawn, Resampling
from panderm.scores.score import Score
from panderm.statistics.holm import holm
from panderm.statistics.permutation import paired_permutation

Floats = npt.NDArray[np.float64]
OfBoth = Callable[[npt.NDArray[np.int32]], Floats]


def compared_pairs(
    engine: Resampling,
    each: Sequence[Drawn],
    names: Sequence[str],
    chosen: Sequence[tuple[int, int]],
    asked: Sequence[str],
    of_both: Callable[[int, int, str], OfBoth],
    *,
    reasons: Mapping[str, str],
    permutations: int,
    advance: Callable[[], None] | None = None,
) -> list[ComparedPair]:
    """Return every score of every pair: the other's minus that of the first, with its interval and p-values.

    Args:
        engine: how units are drawn; its units are swapped whole.
        each: every predictor's scores on the same draws.
        names: what they are called.
        chosen: positions of the first and of the other.
        asked: names of scores.
        of_both: from two positions and a score to what computes it, by (b, 2n) weights, of the rows of both
            end to end.
        reasons: by score, why it is not computable on these rows.
        permutations: swaps to draw.
        advance: told when a score of a pair is done.
    """
    found = []
    for i, j in chosen:
        for name in asked:
            difference = each[j].minus(each[i], name)
            if name in reasons:
                difference = Score(None, None, None, reasons[name])
            pair = ComparedPair(names[i], names[j], name, difference, None, None, 0, exact=False)
            if difference.value is not None:
                tested = paired_permutation(
                    of_both(i, j, name), engine.clusters, permutations=permutations, seed=engine.seed
                )
                p = float(tested.p) if np.isfinite(tested.p) else None
                pair = replace(pair, p=p, worlds=tested.worlds, exact=tested.exact)
            found.append(pair)
            if advance is not None:
                advance()
    corrected = holm([one.p for one in found])
    return [replace(one, p_holm=p) for one, p in zip(found, corrected, strict=True)]
