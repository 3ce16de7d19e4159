"""What is asked of an image beside its probabilities, and what validation rows have to say to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from panderm.classifying.calibrated import COVERAGE, NONE, Calibration, SetRule, Threshold
from panderm.errors import UsageError, WeightsError, some
from panderm.fitted import FittedProbe
from panderm.predictions.positive import malignant_classes
from panderm.statistics.targets import DEFAULT_TARGETS, Target


@dataclass(frozen=True)
class Asked:
    """What is to be decided of an image beside its probabilities.

    Attributes:
        at: operating point, as ``--at`` takes it; None: sensitivity ≥ .95 where a class is positive.
        positive: classes that count as positive; None: the second of two.
        coverage: share of images whose set is to hold the truth.
        by_class: each class is to be covered.
    """

    at: str | None = None
    positive: tuple[str, ...] | None = None
    coverage: float = COVERAGE
    by_class: bool = False

    @property
    def target(self) -> Target:
        """The operating point."""
        return DEFAULT_TARGETS[0] if self.at is None else Target.read(self.at)


def read_decided(told: dict[str, Any] | None, file: Path) -> Calibration:
    """Return what a classifier's file says that validation rows decided.

    Raises:
        WeightsError: it is damaged.
    """
    if told is None:
        return NONE
    try:
        return Calibration.model_validate(told)
    except ValidationError as error:
        raise WeightsError(
            "what validation rows decided must be whole in a classifier's file.",
            f"{file}: {error.errors()[0]['msg']}",
            "fine-tune again",
        ) from None


def holds(calibration: Calibration, asked: Asked, target: Target, *, sigmoid: bool) -> bool:
    """Say whether a classifier's file itself has what is asked for, or cannot have it anyhow."""
    if sigmoid or not calibration.rows:
        return True
    sets = not calibration.sets or any(one.coverage == asked.coverage for one in calibration.sets)
    if target.aim == "threshold":
        return sets
    there = {one.at for one in calibration.thresholds}
    same = asked.positive is None or any(
        set(one.positive) == set(asked.positive) for one in calibration.thresholds
    )
    wanted = asked.at is not None or asked.positive is not None
    return sets and same and (target.text in there or not wanted)


def held_in_words(calibration: Calibration) -> str:
    """Return the points and sets that there are."""
    points = sorted({f"{one.at} of {', '.join(one.positive)}" for one in calibration.thresholds})
    sets = sorted({f"sets of {one.coverage:.0%}" for one in calibration.sets})
    return some([*points, *sets], 12) or "neither thresholds nor sets"


def as_given(calibration: Calibration, classes: tuple[str, ...], target: Target) -> Calibration:
    """Return what is decided of several labels: each by a threshold that is given, by default one half."""
    value = target.value if target.aim == "threshold" else 0.5
    at = Target("threshold", value).text
    given = tuple(Threshold(positive=(name,), at=at, threshold=value) for name in classes)
    return calibration.model_copy(update={"thresholds": given})


def positive_named(
    calibration: Calibration, classes: tuple[str, ...], asked: Asked, target: Target
) -> Calibration:
    """Add a threshold that is given to what validation rows decided, which it does not rest on."""
    if target.aim != "threshold" or any(one.at == target.text for one in calibration.thresholds):
        return calibration
    named = asked.positive or (classes[1:] if len(classes) == 2 else ())
    unknown = [one for one in named if one not in classes]
    if not named or unknown:
        raise UsageError(
            "--at threshold=… needs the classes that count as positive.",
            f"found {some(unknown)}" if unknown else f"the classes are {some(classes, 12)}",
            "name them: --positive mel --positive bcc",
        )
    given = Threshold(positive=tuple(named), at=target.text, threshold=target.value)
    return calibration.model_copy(update={"thresholds": (*calibration.thresholds, given)})


def require_decided(calibration: Calibration, asked: Asked, thresholds: tuple[Threshold, ...]) -> None:
    """Raise where what was asked for in words is not there; what is there by itself may be missing."""
    if not thresholds and (asked.at is not None or asked.positive is not None):
        why = calibration.left_out.get("thresholds", "no validation rows")
        raise UsageError(
            "--at and --positive need validation rows beside the predictions, to choose a threshold on.",
            f"{calibration.of}: {why}" if calibration.rows else why,
            "give a threshold of your own: --at threshold=0.3; or name the positive classes: --positive mel",
        )
    if not calibration.sets and asked.by_class:
        raise UsageError(
            "--by-class needs conformal sets.", calibration.left_out.get("sets", "there are none")
        )


def rule_of(calibration: Calibration, asked: Asked) -> SetRule | None:
    """Return the rule of the sets that are asked for; None where there is none."""
    by = "class" if asked.by_class else "all"
    found = [one for one in calibration.sets if one.by == by and one.coverage == asked.coverage]
    return found[0] if found else None


def benign_positive(head: FittedProbe, asked: Asked, thresholds: tuple[Threshold, ...]) -> tuple[str, ...]:
    """Say so where the second of two classes counts as positive, and the first is the malignant one."""
    if asked.positive is not None or not thresholds or head.link == "sigmoid":
        return ()
    try:
        malignant = malignant_classes(head.classes)
    except UsageError:  # classes that the diagnosis map does not know
        return ()
    if set(malignant) & set(thresholds[0].positive):
        return ()
    first, second = malignant[0], thresholds[0].positive[0]
    return (f"{second} counts as positive, being the second class; --positive {first} turns this round",)
