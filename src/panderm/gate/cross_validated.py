"""How well something known of every row tells the classes apart, on rows that it did not learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.errors import plural
from panderm.gate.candidates import Candidate
from panderm.statistics.resampling import cluster_bootstrap, percentile_interval
from panderm.statistics.within_folds import WithinFolds, level_scores

FOLDS = 5
DRAWS = 2000
LEVEL = 0.95
# Of a class with fewer rows, or fewer patients, an AUROC says more about chance than about the column.
FEWEST_ROWS = 10
FEWEST_UNITS = 5

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Auroc:
    """A cross-validated AUROC with its 95 % interval; all None, and a reason, where not computable.

    Attributes:
        value, low, high: in [0, 1]; 0.5 is guessing. Of more than two classes, the mean over each against
            the rest. Rows are compared within a fold.
        n: rows scored.
        clusters: independent units resampled.
        unit: patient, lesion group or image.
        draws, seed: of the bootstrap; the seed is that of the folds too.
        reason: why there is no value, or no interval.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int
    unit: str
    draws: int
    seed: int
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, the reason where there is one."""
        told = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "reason"}
        return told if self.reason is None else {**told, "reason": self.reason}

    def __str__(self) -> str:
        return f"AUROC {self.figures}"

    @property
    def figures(self) -> str:
        """``0.76 (0.75–0.77)``, or why there is none."""
        if self.value is None:
            return f"not computable: {self.reason}"
        between = f"{self.low:.2f}–{self.high:.2f}" if self.low is not None else self.reason
        return f"{self.value:.2f} ({between})"

    @property
    def basis(self) -> str:
        """``8,783 rows of 6,316 lesion groups, 2,000 draws, seed 0``."""
        of = "" if self.unit == "image" else f" of {plural(self.clusters, self.unit)}"
        return f"{plural(self.n, 'row')}{of}, {plural(self.draws, 'draw')}, seed {self.seed}"


def folds_of(codes: Integers, clusters: Integers, seed: int) -> Integers | None:
    """Deal rows to five folds, classes spread evenly, no cluster torn; fewer folds where units are few.

    Args:
        codes: (n,) class codes, 0..K-1.
        clusters: (n,) numbers of the patient, or lesion, or row.
        seed: of the shuffle.

    Returns:
        (n,) fold of each row; None where some class has fewer than two clusters.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    units = [len(np.unique(clusters[codes == c])) for c in np.unique(codes)]
    k = min(FOLDS, *units) if units else 0
    if k < 2 or len(units) < 2:
        return None
    torn = len(np.unique(clusters)) < len(clusters)
    splitter = (StratifiedGroupKFold if torn else StratifiedKFold)(k, shuffle=True, random_state=seed)
    fold = np.empty(len(codes), dtype=np.int64)
    for f, (_, held) in enumerate(splitter.split(codes, codes, clusters if torn else None)):
        fold[held] = f
    return fold


def column_scores(one: Candidate, codes: Integers, folds: Integers, n_classes: int) -> Floats:
    """Predict each row's class from one column, learned from the other folds, (n, K).

    Words, flags and few numbers are taken level by level: the smoothed frequency of the classes among the
    rows of that level, an empty cell being a level too. It needs no assumption, has nothing to tune, and a
    level that was never seen says nothing. More than a few numbers are first cut into levels by a small tree
    grown on the other folds (at most 16 leaves of at least 2 % of the rows, classes weighted alike): it finds
    a single threshold as well as an island in the middle, which a straight line would miss.
    """
    if one.numbers is None:
        return level_scores(one.levels()[0], codes, folds, n_classes)
    return level_scores(_leaves(one.numbers, codes, folds), codes, folds, n_classes)


def _leaves(numbers: Floats, codes: Integers, folds: Integers) -> Integers:
    """Return each row's leaf of the tree that each fold grows, (n, F); 0 where there is no number."""
    from sklearn.tree import DecisionTreeClassifier

    known = np.isfinite(numbers)
    # By rank: a tree sees the order only, and its own numbers are too short for long file numbers.
    rank = np.zeros((len(numbers), 1), dtype=np.float32)
    rank[known, 0] = np.unique(numbers[known], return_inverse=True)[1]
    count = int(folds.max()) + 1
    leaves = np.zeros((len(numbers), count), dtype=np.int64)
    for f in range(count):
        learned = known & (folds != f)
        often = np.bincount(codes[learned])
        if (often > 0).sum() < 2:
            continue
        tree = DecisionTreeClassifier(
            max_leaf_nodes=16, min_samples_leaf=max(5, int(learned.sum()) // 50), random_state=0
        )
        alike = 1 / often[codes[learned]]
        tree.fit(rank[learned], codes[learned], sample_weight=alike, check_input=False)
        leaves[known, f] = 1 + tree.apply(rank[known], check_input=False)
    return leaves


def aurocs(
    scores: Mapping[str, Floats],
    codes: Integers,
    folds: Integers,
    clusters: Integers,
    unit: str,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Auroc]:
    """Score out-of-fold predictions, each with an interval; all on the same draws of whole clusters.

    Args:
        scores: by name, (n, K).
        codes: (n,) class codes, 0..K-1, each with rows.
        folds: (n,) as of :func:`folds_of`.
        clusters: (n,) what is resampled.
        unit: what a cluster is.
        draws: of the bootstrap.
        seed: of the bootstrap, and told as that of the folds.
    """
    sorted_once = {name: WithinFolds(codes, values, folds) for name, values in scores.items()}
    drawn: dict[str, list[Floats]] = {name: [] for name in scores}
    for weights in cluster_bootstrap(clusters, draws, seed):
        for name, one in sorted_once.items():
            drawn[name].append(one.auroc(weights))
    n, units = len(codes), len(np.unique(clusters))
    found = {}
    for name, one in sorted_once.items():
        found[name] = _told(one, np.concatenate(drawn[name]), n=n, clusters=units, unit=unit, seed=seed)
    return found


def _told(one: WithinFolds, drawn: Floats, *, n: int, clusters: int, unit: str, seed: int) -> Auroc:
    value = float(one.auroc()[0])
    bounds = percentile_interval(drawn, LEVEL)
    low: float | None = bounds[0]
    high: float | None = bounds[1]
    reason = None
    if not np.isfinite(value):
        reason = "no fold has rows of every class"
        return Auroc(None, None, None, n, clusters, unit, len(drawn), seed, reason)
    if not np.isfinite(bounds[0]):
        low = high = None
        reason = f"no interval: it can be computed in {bounds[2]} of {len(drawn)} draws only"
    return Auroc(value, low, high, n, clusters, unit, len(drawn), seed, reason)


def usable_classes(codes: Integers, clusters: Integers) -> Integers:
    """Return the classes with rows and clusters enough to be scored, ascending."""
    kept = [
        c
        for c in np.unique(codes[codes >= 0])
        if (codes == c).sum() >= FEWEST_ROWS and len(np.unique(clusters[codes == c])) >= FEWEST_UNITS
    ]
    return np.array(kept, dtype=np.int64)
