"""What validation rows decide for a finished classifier: temperature, thresholds, and what sets rule out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.special import softmax

from panderm.data.label_cells import PRESENT, UNKNOWN
from panderm.errors import DataError, UsageError, plural
from panderm.fitted import FittedProbe
from panderm.predictions import MultiLabelPredictions, Predictions
from panderm.predictions.positive import as_two, positive_classes
from panderm.provenance import Record
from panderm.statistics.conformal import fewest_rows, strangest
from panderm.statistics.operating import cuts
from panderm.statistics.targets import DEFAULT_TARGETS, Target, reach
from panderm.statistics.temperature import fit_temperature, logs

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
By = Literal["all", "class"]
COVERAGE = 0.9
_Probe = TypeVar("_Probe", bound=FittedProbe)


class Threshold(Record):
    """An operating threshold, chosen on validation rows and locked.

    Attributes:
        positive: the classes whose probabilities are added up; of several labels the one it is for.
        at: what it is to reach, as ``--at`` takes it: ``sensitivity=0.95``.
        threshold: an image is called positive where the probability is so high or higher; None for none.
        reason: why there is none.
        positives, negatives: rows it was chosen on; 0 where it was given.
        sensitivity, specificity: on those rows; None where it was given.
    """

    positive: tuple[str, ...]
    at: str
    threshold: float | None
    reason: str | None = None
    positives: int = 0
    negatives: int = 0
    sensitivity: float | None = None
    specificity: float | None = None

    @property
    def words(self) -> str:
        """What it is to reach, in words."""
        return Target.read(self.at).words


class SetRule(Record):
    """When a class is ruled out of an image's conformal set.

    Attributes:
        coverage: share of new images whose set is to hold the truth.
        by: ``all``, one limit for all classes; ``class``, each class by its own rows: each is covered.
        limits: by class, the largest 1 - probability that stays in the set; None: nothing is ruled out.
        rows: validation rows behind each limit.
    """

    coverage: float
    by: By
    limits: tuple[float | None, ...]
    rows: tuple[int, ...]

    def sets(self, probabilities: Floats) -> Flags:
        """Return which classes are in the set of each row, bool (n, K), of probabilities (n, K)."""
        limits = np.array([np.inf if one is None else one for one in self.limits])
        return np.asarray(1 - probabilities <= limits)


class Calibration(Record):
    """What validation rows decided, and what they could not.

    Attributes:
        rows: how many there were; 0 for none.
        of: which they were, in words.
        temperature: what the logits were divided by after these rows were seen; 1: left as they are.
        log_loss: mean log loss of these rows in nats, before and after; None where nothing was fitted.
        thresholds: for two classes, or for classes named positive; of several labels each has its own.
        sets: conformal sets, by kind.
        left_out: what there is not (temperature, thresholds, sets), with the reason.
        caution: what speaks against believing all this; None where nothing does.
    """

    rows: int = 0
    of: str = "no validation rows"
    temperature: float = 1.0
    log_loss: tuple[float, float] | None = None
    thresholds: tuple[Threshold, ...] = ()
    sets: tuple[SetRule, ...] = ()
    left_out: dict[str, str] = Field(default={})
    caution: str | None = None


NONE = Calibration(left_out=dict.fromkeys(("temperature", "thresholds", "sets"), "no validation rows"))


def calibrated(
    head: _Probe,
    validation: Predictions | MultiLabelPredictions,
    *,
    temperature: bool = True,
    positive: Sequence[str] | None = None,
    targets: Sequence[Target] = DEFAULT_TARGETS,
    coverage: float = COVERAGE,
    caution: str | None = None,
) -> tuple[_Probe, Calibration]:
    """Fit a temperature on validation rows, and choose thresholds and sets for the probabilities after it.

    Args:
        head: what predicted these rows, as it stands.
        validation: rows it was not fitted on.
        temperature: fit one; otherwise probabilities stay as they are.
        positive: classes that count as positive; by default the second of two.
        targets: what thresholds are to reach; none of them is chosen where no class is positive.
        coverage: share of images whose set is to hold the truth.
        caution: what else these rows were used for.

    Returns:
        The head with its temperature, and what was decided.

    Example:
        >>> head, decided = calibrated(head, validation)  # doctest: +SKIP
        >>> decided.temperature, decided.sets[0].limits  # doctest: +SKIP
    """
    value, losses, why = 1.0, None, {}
    if not temperature:
        why["temperature"] = "not asked for"
    elif isinstance(validation, MultiLabelPredictions):
        why["temperature"] = "a temperature is fitted where an image is of one class"
    else:
        try:
            found = fit_temperature(logs(validation.probabilities), validation.truth_codes())
            value, losses = found.value, (found.before, found.after)
        except DataError as error:
            why["temperature"] = error.found[0] if error.found else error.must
    if isinstance(validation, Predictions) and value != 1:
        validation = _softened(validation, value)
    made = decide(validation, positive=positive, targets=targets, coverage=coverage)
    left = {name: reason for name, reason in made.left_out.items() if name != "temperature"}
    told = {"temperature": value, "log_loss": losses, "left_out": {**left, **why}, "caution": caution}
    made = made.model_copy(update=told)
    return replace(head, temperature=head.temperature * value), made


def decide(
    validation: Predictions | MultiLabelPredictions | None,
    *,
    positive: Sequence[str] | None = None,
    targets: Sequence[Target] = DEFAULT_TARGETS,
    coverage: float = COVERAGE,
) -> Calibration:
    """Choose thresholds and sets for probabilities as they are. Arguments as of :func:`calibrated`.

    Raises:
        UsageError: a coverage that is no share, or classes that are not there.
    """
    if not 0 < coverage < 1:
        raise UsageError("--coverage must be a share between 0 and 1.", f"found {coverage:g}", "0.9 is 90 %")
    if validation is None or not len(validation):
        return NONE
    words = f"{plural(len(validation), 'row')} of {validation.card.split}"
    made = Calibration(
        rows=len(validation), of=words, left_out={"temperature": "probabilities stay as they are"}
    )
    if isinstance(validation, MultiLabelPredictions):
        labels = range(len(validation.classes))
        each = tuple(_of_label(validation, k, one) for k in labels for one in targets)
        why = {**made.left_out, "sets": "conformal sets are of images of one class each"}
        return made.model_copy(update={"thresholds": each, "left_out": why})
    why = dict(made.left_out)
    thresholds: tuple[Threshold, ...] = ()
    named = positive_classes(validation, positive)
    if named is None:
        why["thresholds"] = "no class is named positive"
    else:
        thresholds = tuple(_of_classes(validation, named, one) for one in targets)
    sets: tuple[SetRule, ...] = ()
    if len(validation) < fewest_rows(coverage):
        why["sets"] = (
            f"sets of {coverage:.0%} take {plural(fewest_rows(coverage), 'validation row')}, "
            f"there {'is' if len(validation) == 1 else 'are'} {len(validation)}"
        )
    else:
        sets = tuple(_rule(validation, coverage, by) for by in ("all", "class"))
    return made.model_copy(update={"thresholds": thresholds, "sets": sets, "left_out": why})


def _of_classes(rows: Predictions, named: tuple[str, ...], target: Target) -> Threshold:
    truth, probability = as_two(rows, named)
    return _threshold(named, truth, probability, target)


def _of_label(rows: MultiLabelPredictions, k: int, target: Target) -> Threshold:
    known = rows.truth[:, k] != UNKNOWN
    return _threshold(
        (rows.classes[k],), rows.truth[known, k] == PRESENT, rows.probabilities[known, k], target
    )


def _threshold(named: tuple[str, ...], truth: Flags, probability: Floats, target: Target) -> Threshold:
    both = 0 < truth.sum() < len(truth)
    found = reach(target, cuts(truth, probability) if both else None)
    given = target.aim == "threshold"
    return Threshold(
        positive=named,
        at=target.text,
        threshold=found.threshold,
        reason=found.reason,
        positives=0 if given else int(truth.sum()),
        negatives=0 if given else int((~truth).sum()),
        **found.did,
    )


def _rule(rows: Predictions, coverage: float, by: By) -> SetRule:
    codes, p, K = rows.truth_codes(), rows.probabilities, len(rows.classes)
    strange = 1 - p[np.arange(len(codes)), codes]
    parts = [strange if by == "all" else strange[codes == k] for k in range(K)]
    limits = [strangest(part, coverage) for part in parts]
    return SetRule(
        coverage=coverage,
        by=by,
        limits=tuple(None if np.isinf(one) else one for one in limits),
        rows=tuple(len(part) for part in parts),
    )


def _softened(rows: Predictions, value: float) -> Predictions:
    p = softmax(logs(rows.probabilities) / value, axis=1)
    return replace(rows, probabilities=np.where(rows.probabilities > 0, p, 0.0))
