"""Predictors of the same rows held against each other: differences with intervals first, p-values after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from panderm.errors import UsageError, did_you_mean, plural
from panderm.predictions import MultiLabelPredictions, Predictions, open_either
from panderm.progress import Progress
from panderm.scores.compared import ComparedModel, ComparedPair, Comparison, OtherTest
from panderm.scores.folds import fold_codes
from panderm.scores.paired_test import PERMUTATIONS, ranked
from panderm.scores.pairs import compared_pairs
from panderm.scores.resampled import Resampling
from panderm.scores.same_cases import Either, same_cases
from panderm.scores.score import TOO_FEW
from panderm.scores.scoring import DRAWS
from panderm.scores.subgroups import FEWEST_UNITS
from panderm.statistics import classification, multi_label
from panderm.statistics.delong import delong_test
from panderm.statistics.mcnemar import clustered_mcnemar, mcnemar
from panderm.statistics.non_inferiority import non_inferiority
from panderm.statistics.resampling import cluster_codes

Floats = npt.NDArray[np.float64]
Scorer = Callable[[npt.NDArray[np.int32] | None], dict[str, Floats]]
Pairs = Literal["first", "all"]
_LOWER_IS_BETTER = ("macro_brier", "hamming_loss")
_NEEDS_NO_CLASS = (*classification.NEED_NO_CLASS, "subset_accuracy", "hamming_loss")


def compare(
    predictions: Sequence[Predictions | MultiLabelPredictions | Path | str],
    *,
    score: Sequence[str] | None = None,
    pairs: Pairs = "first",
    common: bool = False,
    margin: float | None = None,
    draws: int = DRAWS,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    progress: bool = True,
) -> Comparison:
    """Compare predictors of the same rows; every difference comes with a 95 % interval.

    The interval is of the difference on the same bootstrap draws of whole patients (lesion groups, images),
    percentiles of them, the p-value of a permutation test that swaps the answers of whole patients, corrected
    by Holm for all pairs and scores asked. Beside AUROC stands DeLong's test, beside accuracy McNemar's. With
    fewer than 10 units, or fewer that show a class which the score needs, nothing is said.

    Args:
        predictions: two or more, or their folders or files. Rows are matched by the names of their images.
        score: names of scores, as of :func:`panderm.evaluate`; by default AUROC and accuracy of two classes,
            balanced accuracy and accuracy of more, macro AUROC and macro average precision of several labels.
        pairs: ``first``: all others against the first; ``all``: each against each.
        common: keep the images that all have, where they are not of the same.
        margin: the largest loss that would not matter, in units of the scores, chosen before looking: says
            whether the other is not inferior to the first.
        draws: bootstrap draws; 1,000 or more for numbers to publish.
        permutations: swaps to draw, 1,000 or more for a p-value to publish.
        seed: of both.
        progress: show progress on standard error.

    Raises:
        UsageError: fewer than two predictions, an unknown score, or numbers out of range.
        ParentsError: predictions of other images, classes, truths or patients.
        DataError: an image twice, or none that all have.

    Example:
        >>> panderm.compare(["a.pred", "b.pred"], score=["auroc"]).pairs[0].difference  # doctest: +SKIP
        Score(value=0.031, low=0.004, high=0.060, reason=None)
    """
    _require(pairs, margin, draws, permutations, seed)
    given = [open_either(one) if isinstance(one, Path | str) else one for one in predictions]
    names = _names(given, predictions)
    same = same_cases(given, names, common=common)
    held = same.predictions[0]
    clusters, unit = cluster_codes(held.patient, held.group, len(held))
    rows = [_Rows(one) for one in same.predictions]
    asked = _scores(rows[0], score)
    reasons = rows[0].reasons(asked, clusters, unit)
    units = int(clusters.max()) + 1
    every = range(len(rows))
    chosen = list(combinations(every, 2)) if pairs == "all" else [(0, other) for other in every[1:]]
    with Progress(len(rows) + len(chosen) * len(asked), "comparing", "step", shown=progress) as bar:
        engine, each = Resampling(clusters, unit, draws, seed), []
        for one in rows:
            each.append(engine.drawn(partial(one.compute, asked=asked)))
            bar.advance()

        found = compared_pairs(
            engine,
            each,
            names,
            chosen,
            asked,
            lambda i, j, name: rows[i].with_other(rows[j], name),
            reasons=reasons,
            permutations=permutations,
            advance=bar.advance,
        )

    def further(pair: ComparedPair, i: int, j: int) -> ComparedPair:
        name, margins = pair.score, None
        if pair.difference.value is None:
            return pair
        if margin is not None:
            apart = each[j].draws[name] - each[i].draws[name]
            ends = {"low": pair.difference.low, "high": pair.difference.high}
            margins = non_inferiority(apart, margin, **ends, lower_is_better=name in _LOWER_IS_BETTER)
        tests = _other_tests(rows[i], rows[j], name, clusters, unit)
        return replace(pair, tests=tests, non_inferiority=margins)

    places = [(i, j) for i, j in chosen for _ in asked]
    models = tuple(
        ComparedModel(
            name=names[i],
            predictions=given[i].card.identity,
            split=given[i].card.split,
            left_out=same.left_out[i],
            scores={name: each[i].score(name, reasons.get(name)) for name in asked},
        )
        for i in every
    )
    return Comparison(
        models=models,
        pairs=tuple(further(one, *at) for one, at in zip(found, places, strict=True)),
        classes=held.classes,
        n=len(clusters),
        clusters=units,
        unit=unit,
        draws=draws,
        permutations=permutations,
        seed=seed,
        family=sum(one.p_holm is not None for one in found),
        margin=margin,
    )


def too_few(given: Either) -> dict[str, str]:
    """Return the scores of which no difference is told on these rows, each with the reason.

    With fewer than 10 independent units, or fewer that show a class which the score needs, nothing is said.
    """
    rows = _Rows(given)
    clusters, unit = cluster_codes(given.patient, given.group, len(given))
    return {name: why for name, why in rows.reasons(rows.names, clusters, unit).items() if TOO_FEW in why}


@dataclass(frozen=True, eq=False)
class _Rows:
    """Predictions of either form, as what a score is computed from."""

    given: Either

    @cached_property
    def truth(self) -> npt.NDArray[np.int64]:
        held = self.given
        return held.truth_codes() if isinstance(held, Predictions) else held.truth.astype(np.int64)

    @cached_property
    def folds(self) -> npt.NDArray[np.int64] | None:
        return fold_codes(self.given) if isinstance(self.given, Predictions) else None

    @property
    def names(self) -> tuple[str, ...]:
        if isinstance(self.given, Predictions):
            return classification.score_names(len(self.given.classes))
        return multi_label.WHOLE_SCORES

    @cached_property
    def _scorer(self) -> Scorer:
        return self._scorer_of(self.truth, self.given.probabilities, self.folds)

    def compute(self, weights: npt.NDArray[np.int32] | None, asked: Sequence[str]) -> dict[str, Floats]:
        found = self._scorer(weights)
        return {name: found[name] for name in asked}

    def with_other(self, other: _Rows, name: str) -> Callable[[npt.NDArray[np.int32]], Floats]:
        """Return a score of these rows and, end to end with them, another's, by (b, 2n) weights."""
        truth = np.concatenate([self.truth, other.truth])
        both = np.concatenate([ranked(one.given.probabilities, name) for one in (self, other)])
        folds = None if self.folds is None else np.tile(self.folds, 2)
        scorer = self._scorer_of(truth, both, folds)
        return lambda weights: scorer(weights)[name]

    def reasons(self, asked: Sequence[str], clusters: npt.NDArray[np.int64], unit: str) -> dict[str, str]:
        """Say which scores there cannot be on these rows, and why: a class absent, or too few to say."""
        held, found = self.given, {}
        if isinstance(held, Predictions):
            shown = {f"class {c!r}": self.truth == k for k, c in enumerate(held.classes)}
            undefined = classification.not_computable(
                self.truth,
                len(held.classes),
                held.classes,
                predicted=held.predicted_codes(),
                folds=self.folds,
            )
        else:
            shown = {}
            for k, c in enumerate(held.classes):
                shown[f"with {c!r}"], shown[f"without {c!r}"] = self.truth[:, k] == 1, self.truth[:, k] == 0
            undefined = multi_label.not_computable(held.truth, held.classes, held.trained)[1]
        units = {what: len(np.unique(clusters[rows])) for what, rows in shown.items()}
        rarest = min(units, key=lambda what: units[what])
        few = None
        if (n := int(clusters.max()) + 1) < FEWEST_UNITS:
            few = f"{TOO_FEW}: {plural(n, unit)}, and {FEWEST_UNITS} are needed"
        elif units[rarest] < FEWEST_UNITS:
            of = rarest if rarest.startswith("with") else f"of {rarest}"
            few = f"{TOO_FEW}: {plural(units[rarest], unit)} {of}, and {FEWEST_UNITS} are needed"
        for name in asked:
            if name in undefined:
                found[name] = undefined[name]
            elif few and (n < FEWEST_UNITS or name not in _NEEDS_NO_CLASS):
                found[name] = few
        return found

    def right(self) -> npt.NDArray[np.bool_]:
        assert isinstance(self.given, Predictions)
        return np.asarray(self.given.predicted_codes() == self.truth)

    def _scorer_of(
        self,
        truth: npt.NDArray[np.int64],
        probabilities: Floats,
        folds: npt.NDArray[np.int64] | None,
    ) -> Scorer:
        if isinstance(self.given, Predictions):
            return classification.classification_scorer(truth, probabilities, folds=folds)
        return multi_label.multi_label_scorer(truth, probabilities)


def _other_tests(
    first: _Rows, other: _Rows, name: str, clusters: npt.NDArray[np.int64], unit: str
) -> tuple[OtherTest, ...]:
    if name == "auroc" and first.folds is None:
        return (_delong(first, other, clusters),)
    if name != "accuracy":
        return ()
    one, two = first.right(), other.right()
    plain = mcnemar(one, two)
    counted = f"{plain.only_first:,} rows right by the first alone, {plain.only_other:,} by the other alone"
    if int(clusters.max()) + 1 == len(clusters):
        return (
            OtherTest("McNemar, mid-p", plain.mid_p, counted),
            OtherTest("McNemar, exact", plain.exact, counted),
        )
    clustered = clustered_mcnemar(one, two, clusters)
    called = "McNemar, clustered (Obuchowski)"
    if clustered.discordant < FEWEST_UNITS:
        told = (
            f"{TOO_FEW}: {plural(clustered.discordant, unit)} on which they differ, of {FEWEST_UNITS} needed"
        )
        return (OtherTest(called, None, told),)
    return (OtherTest(called, clustered.obuchowski, counted),)


def _delong(first: _Rows, other: _Rows, clusters: npt.NDArray[np.int64]) -> OtherTest:
    alone = int(clusters.max()) + 1 == len(clusters)
    one, two = (rows.given.probabilities[:, 1] for rows in (first, other))
    found = delong_test(first.truth == 1, one, two, None if alone else clusters)
    p = float(found.p) if np.isfinite(found.p) else None
    told = f"{found.low:+.3f} to {found.high:+.3f}" if np.isfinite(found.low) else "no variance"
    return OtherTest("DeLong" if alone else "DeLong, clustered (Obuchowski)", p, f"95 % interval {told}")


def _scores(rows: _Rows, asked: Sequence[str] | None) -> tuple[str, ...]:
    if not asked:
        if "macro_auroc" in rows.names:
            return ("macro_auroc", "macro_average_precision")
        return ("auroc" if "auroc" in rows.names else "balanced_accuracy", "accuracy")
    for name in asked:
        if name not in rows.names:
            raise UsageError(
                f"no score of these predictions is called {name!r}{did_you_mean(name, rows.names)}",
                f"there are: {', '.join(rows.names)}",
            )
    return tuple(dict.fromkeys(asked))


def _names(given: Sequence[Either], asked: Sequence[object]) -> tuple[str, ...]:
    """Call each by its model, or by its folder or file where two are of one model."""
    found = [one.card.model for one in given]
    if len(set(found)) < len(found):
        found = [
            Path(path).stem if isinstance(path, Path | str) else name
            for path, name in zip(asked, found, strict=True)
        ]
    if len(set(found)) < len(found):
        found = [f"{name} ({i + 1})" for i, name in enumerate(found)]
    return tuple(found)


def _require(pairs: str, margin: float | None, draws: int, permutations: int, seed: int) -> None:
    if pairs not in ("first", "all"):
        raise UsageError("--pairs must be first or all.", f"found {pairs!r}")
    if margin is not None and not (np.isfinite(margin) and 0 < margin < 1):
        raise UsageError("--margin must be between 0 and 1, in units of the score.", f"found {margin}")
    if draws < 1 or permutations < 1 or seed < 0:
        raise UsageError(
            "--draws and --permutations must be at least 1 and --seed not negative.",
            f"found {draws}, {permutations} and {seed}",
        )
