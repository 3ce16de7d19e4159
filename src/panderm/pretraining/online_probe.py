"""A probe that watches pretraining: labelled images, decoded once, put to the student every few epochs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from panderm.data.columns import Column
from panderm.data.feed import Feed
from panderm.data.preprocess import Preprocess
from panderm.data.split import assign, name_groups, strata_of
from panderm.data.table import Table
from panderm.errors import DataError, UsageError, plural, some
from panderm.fitted.neighbours import FittedNeighbours, unit_length
from panderm.progress import Progress
from panderm.scores.resampled import Resampling
from panderm.scores.score import intervals_in_words
from panderm.statistics.classification import classification_scorer, not_computable
from panderm.statistics.resampling import cluster_codes
from panderm.training.features import Features, require_finite
from panderm.training.fit import fit_probe
from panderm.training.neighbours import DEFAULT_TAU
from panderm.training.row_weights import row_weights
from panderm.training.settings import ProbeSettings

Pixels: TypeAlias = npt.NDArray[np.uint8]
Encode: TypeAlias = Callable[[Pixels], npt.NDArray[np.float32]]

IMAGES, K, DRAWS = 2000, 20, 1000
_SCORED = 0.4  # of the images, at most, where a val split says which may be scored
_HELD_OUT = 0.3  # of the images, where none does
_FEWEST = 2  # units of a class on either side: of one alone, drawn again, there is always the same
_BATCH = 64
INTERVAL = intervals_in_words("percentile", stratified=True)


class OnlineProbe:
    """Labelled images of a table, and what a probe of the student's features says of them.

    Two probes are fitted on rows of ``train``: k nearest neighbours, by cosine similarity of features less
    their mean, every class with as many votes as any other; and the logistic probe of ``panderm probe``,
    whose strength is chosen on the rows it is fitted on. They are scored on rows of ``val``. Rows of ``test``
    are never looked at: what watches a run decides, in the end, which run is kept. Without ``val``, or with
    one that cannot tell two classes apart, a part of the other rows is held out, whole patients (or lesions)
    at a time and every class in its share; the record says so. A class with fewer than two patients (lesions,
    images) on either side is left out, and named. Intervals are percentiles of bootstrap draws of whole
    patients within classes.

    Args:
        table: from :func:`panderm.read_table`, with a label of two classes or more.
        preprocess: from file to pixels, the student's.
        images: at most so many are kept in memory, 150 kB each at 224 pixels: drawn by whole patients (or
            lesions), every class in its share.
        k: neighbours that vote; fewer where there are fewer rows.
        draws: of the bootstrap.
        seed: of what is drawn, of the folds, and of the bootstrap.
        workers: threads that decode; by default measured.
        progress: show a bar.

    Attributes:
        rgb: uint8 (n, S, S, 3), the images: first those that are fitted, then those that are scored.
        record: where they come from and how they were drawn, JSON-able.

    Raises:
        DataError: fewer than two classes that can be fitted and scored.
        UsageError: a number below 1, or a seed below 0.

    Example:
        >>> probe = OnlineProbe(table, encoder.preprocess, images=500)  # doctest: +SKIP
        >>> probe.measure(encode)["linear"]["scores"]["balanced_accuracy"]  # doctest: +SKIP
        {'value': 0.61, 'low': 0.55, 'high': 0.67}
    """

    def __init__(
        self,
        table: Table,
        preprocess: Preprocess,
        *,
        images: int = IMAGES,
        k: int = K,
        draws: int = DRAWS,
        seed: int = 0,
        workers: int | None = None,
        progress: bool = True,
    ) -> None:
        if min(images, k, draws) < 1 or seed < 0:
            raise UsageError(
                "images, k and draws of the online probe must be at least 1, and its seed not negative.",
                f"found {images}, {k}, {draws} and {seed}",
            )
        fitted, scored, how = _rows_to_use(table, images, seed)
        chosen = table.select(np.concatenate([fitted, scored]))
        is_scored = np.arange(len(chosen)) >= len(fitted)
        self.rgb, bad = _decoded(chosen, preprocess, workers, progress)
        good = np.ones(len(chosen), dtype=bool)
        good[list(bad)] = False
        chosen, is_scored = chosen.select(good), is_scored[good]
        chosen, is_scored, kept, classes = _shared_classes(chosen, is_scored, table)
        self.rgb = np.ascontiguousarray(self.rgb[kept])
        self._k, self._draws, self._seed = k, draws, seed
        codes, unit = cluster_codes(chosen.patient, chosen.group, len(chosen))
        groups = None if unit == "image" else codes
        self._fitted = _Rows(
            chosen.select(~is_scored), classes, None if groups is None else groups[~is_scored]
        )
        self._scored = _Rows(chosen.select(is_scored), classes, None if groups is None else groups[is_scored])
        # Within classes: of a class of three, plain draws would often have none, and no balanced accuracy.
        shown = self._scored.codes[:, None] == np.arange(len(classes))
        self._engine = Resampling.of(self._scored.table, draws=draws, seed=seed, within=shown)
        left = [c for c in table.classes if c not in classes]
        self.record: dict[str, Any] = {
            "table": table.card.name,
            "sha256": table.card.csv_sha256,
            "images": len(self.rgb),
            "fitted": len(self._fitted.table),
            "scored": len(self._scored.table),
            "unit": self._engine.unit,
            "units": self._engine.units,
            "scored by class": {c: int((self._scored.table.label == c).sum()) for c in classes},
            "classes left out": left,
            "rows": how,
            "bad": len(bad),
            "seed": seed,
            "draws": draws,
            "interval": f"95 %, {INTERVAL}",
        }

    def measure(self, encode: Encode, *, batch: int = _BATCH) -> dict[str, Any]:
        """Fit and score both probes on features of these images.

        Args:
            encode: from uint8 (n, S, S, 3) to finite float32 (n, D).
            batch: images a call of it.

        Returns:
            ``knn`` and ``linear``, each with ``scores`` by name (``value``, ``low``, ``high``, or why not)
            and what was chosen; ``n``, ``unit``, ``units``, ``seed``, ``draws``, ``seconds``.

        Raises:
            DataError: features that are not finite.
        """
        return self.score(self.features(encode, batch=batch))

    def features(self, encode: Encode, *, batch: int = _BATCH) -> npt.NDArray[np.float32]:
        """Return the features of all images, (n, D), in the order of ``rgb``; called as :meth:`measure`."""
        parts = [encode(self.rgb[start : start + batch]) for start in range(0, len(self.rgb), batch)]
        return np.concatenate([np.asarray(part, dtype=np.float32) for part in parts])

    def score(self, features: npt.NDArray[np.float32]) -> dict[str, Any]:
        """Fit and score both probes on features (n, D), in the order of ``rgb``; see :meth:`measure`."""
        began = time.perf_counter()
        n = len(self._fitted.table)
        if features.ndim != 2 or len(features) != len(self.rgb):
            raise DataError(
                "the probe must get one vector for each of its images.",
                f"found shape {features.shape} for {plural(len(self.rgb), 'image')}",
            )
        train, test = self._fitted.features(features[:n]), self._scored.features(features[n:])
        near = self._neighbours(train)
        linear = ProbeSettings(device="cpu", seed=self._seed)
        fit = fit_probe(linear, train, None, method=linear.record())
        told: dict[str, Any] = {
            "knn": {
                "scores": self._scores(near.probabilities(test.X - train.X.mean(axis=0))),
                "k": near.k,
                "tau": near.tau,
            },
            "linear": {
                "scores": self._scores(fit.probe.probabilities(test.X)),
                "C": fit.outcome["C"],
                "converged": fit.outcome["converged"],
            },
        }
        return told | {
            "n": len(test),
            "fitted": n,
            "unit": self._engine.unit,
            "units": self._engine.units,
            "seed": self._seed,
            "draws": self._draws,
            "seconds": round(time.perf_counter() - began, 3),
        }

    def _neighbours(self, train: Features) -> FittedNeighbours:
        """Return nearest neighbours of features less their mean, at DINO's temperature, every class alike.

        A mean that all share brings all cosines near 1. And of the neighbours in a table where seven of ten
        are naevi most are naevi, whatever the features.
        """
        require_finite(train.X, train.images)
        return FittedNeighbours(
            classes=train.classes,
            method={},
            vectors=unit_length(train.X - train.X.mean(axis=0)),
            codes=train.codes(train.classes).astype(np.int32),
            votes=row_weights(train, "balanced"),
            k=min(self._k, len(train)),
            tau=DEFAULT_TAU,
        )

    def _scores(self, probabilities: npt.NDArray[np.float64]) -> dict[str, Any]:
        truth, classes = self._scored.codes, self._scored.classes
        names = ("balanced_accuracy", "auroc" if len(classes) == 2 else "auroc_ovo")
        every = classification_scorer(truth, probabilities)
        reasons = not_computable(truth, len(classes), classes, predicted=probabilities.argmax(axis=1))
        drawn = self._engine.drawn(lambda weights: {name: every(weights)[name] for name in names})
        return {name: drawn.score(name, reasons.get(name)).as_dict() for name in names}


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of the table, the classes that are told apart, and what belongs together."""

    table: Table
    classes: tuple[str, ...]
    groups: npt.NDArray[np.int64] | None

    @property
    def codes(self) -> npt.NDArray[np.int64]:
        """Labels as positions in ``classes``."""
        position = {name: i for i, name in enumerate(self.classes)}
        return np.array([position[label] for label in self.table.label], dtype=np.int64)

    def features(self, X: npt.NDArray[np.float32]) -> Features:
        """Return these rows with their vectors."""
        return Features(X, self.table.label, self.classes, self.table.image, self.groups)


def _rows_to_use(
    table: Table, images: int, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], str]:
    """Return the positions that are fitted, those that are scored, and how they were chosen in words."""
    split: Column = table.split
    labelled = np.array([label is not None for label in table.label])
    if len({label for label in table.label if label is not None}) < 2:
        raise DataError(
            "the table of the online probe must have a label of at least two classes.",
            f"{table.card.name} has {len({label for label in table.label if label is not None})}",
            "name the column with --probe-label",
        )
    val = np.flatnonzero(labelled & (split == "val"))
    train = np.flatnonzero(labelled & np.array([name in (None, "train") for name in split]))
    if not len(train):
        raise DataError(
            "the online probe must have rows to fit.", f"{table.card.name} has no labelled row of train"
        )
    if len(_enough(table.select(val))) > 1:
        scored, few = _drawn(table, val, min(len(val), round(_SCORED * images)), seed, "scored")
        fitted, fewer = _drawn(table, train, min(len(train), images - len(scored)), seed, "fitted")
        how = f"{_part(few, val, 'val')} scored, {_part(fewer, train, 'train')} fitted"
    else:
        rows = np.sort(np.concatenate([train, val]))
        kept, few = _drawn(table, rows, min(len(rows), images), seed, "all")
        scored, _ = _drawn(table, kept, round(_HELD_OUT * len(kept)), seed, "scored")
        fitted = np.setdiff1d(kept, scored)
        _, unit = cluster_codes(table.patient, table.group, len(table))
        whole = "stratified" if unit == "image" else f"stratified, each {unit} whole"
        found, names = ("val is too small", "train and val") if len(val) else ("no val split", "train")
        if not (split == "train").any():
            names = "the table"
        how = f"{found}: {_part(few, rows, names)}, of which a part was held out ({whole}) and scored"
    if (split == "test").any():
        how += "; test was not looked at"
    return fitted, scored, how


def _enough(rows: Table) -> set[str]:
    """Return the classes that enough patients (or lesions, images) of some rows show."""
    codes, _ = cluster_codes(rows.patient, rows.group, len(rows))
    found = {label for label in rows.label if label is not None}
    return {c for c in found if len(np.unique(codes[rows.label == c])) >= _FEWEST}


def _part(drawn: int, of: npt.NDArray[np.int64], name: str) -> str:
    return f"{drawn:,} of {len(of):,} rows of {name}" if drawn < len(of) else f"all {drawn:,} rows of {name}"


def _drawn(
    table: Table, rows: npt.NDArray[np.int64], wanted: int, seed: int, what: str
) -> tuple[npt.NDArray[np.int64], int]:
    """Return about ``wanted`` of some rows, whole groups and classes in their shares; and how many."""
    if wanted >= len(rows):
        return rows, len(rows)
    some_of = table.select(rows)
    groups, _ = cluster_codes(some_of.patient, some_of.group, len(rows))
    strata = strata_of(groups, [str(label) for label in some_of.label])
    share = max(wanted, 1) / len(rows)
    names = name_groups(groups, [str(image) for image in some_of.image])
    part = assign(strata, names, [share, 1 - share], seed=f"online probe {what} {seed}")
    drawn = rows[part[groups] == 0]
    return drawn, len(drawn)


def _shared_classes(
    chosen: Table, is_scored: npt.NDArray[np.bool_], table: Table
) -> tuple[Table, npt.NDArray[np.bool_], npt.NDArray[np.bool_], tuple[str, ...]]:
    """Leave out classes that one side has none or only one unit of, and say which are left."""
    sides = [_enough(chosen.select(side)) for side in (~is_scored, is_scored)]
    classes = tuple(c for c in table.classes if c in sides[0] & sides[1])
    if len(classes) < 2:
        raise DataError(
            "the online probe must have two classes, each of two patients (lesions, images) or more, among "
            "the rows fitted and among the rows scored.",
            f"fitted: {some(sorted(sides[0])) or 'none'}; scored: {some(sorted(sides[1])) or 'none'}",
            "give it a larger table, or more of its images",
        )
    kept = np.array([label in classes for label in chosen.label])
    return chosen.select(kept), is_scored[kept], kept, classes


def _decoded(
    chosen: Table, preprocess: Preprocess, workers: int | None, progress: bool
) -> tuple[Pixels, dict[int, str]]:
    """Return the pixels of all rows that can be read, in their order, and why others cannot."""
    groups = [np.arange(s, min(s + _BATCH, len(chosen))) for s in range(0, len(chosen), _BATCH)]
    parts: list[Pixels] = []
    bad: dict[int, str] = {}
    with (
        Feed(chosen, preprocess, groups=groups, workers=workers, kind="threads") as feed,
        Progress(len(chosen), "probe images", "image", shown=progress) as bar,
    ):
        for batch in feed:
            parts.append(batch.rgb.numpy().copy())
            bad |= batch.bad
            bar.advance(len(batch.positions) + len(batch.bad))
    return np.concatenate(parts), bad
