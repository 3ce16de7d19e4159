"""Several classes as two: those that count as positive, their probabilities added up, and all others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from panderm.data.diagnoses import read_map
from panderm.errors import UsageError, did_you_mean, some
from panderm.predictions import Predictions

Floats = npt.NDArray[np.float64]


def positive_classes(given: Predictions, positive: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the classes that count as positive; None where none is named and there are more than two.

    Args:
        given: predictions.
        positive: names of classes, or ``malignant`` for all that are so in the diagnosis map.

    Raises:
        UsageError: no such class, all of them, or classes that the map does not know.
    """
    classes = given.classes
    if not positive:
        return classes[1:] if len(classes) == 2 else None
    named = list(dict.fromkeys(positive))
    if named == ["malignant"] and "malignant" not in classes:
        named = malignant_classes(classes)
    unknown = [name for name in named if name not in classes]
    if unknown:
        raise UsageError(
            "--positive must name classes of the predictions.",
            f"found {unknown[0]!r}{did_you_mean(unknown[0], classes)}; there are: {some(classes, 12)}",
        )
    if len(named) == len(classes):
        raise UsageError("--positive must leave a class that is not.", f"all are named: {some(classes, 12)}")
    return tuple(name for name in classes if name in named)


def malignant_classes(classes: Sequence[str]) -> list[str]:
    """Return the classes that the diagnosis map calls malignant, in whichever dataset's words.

    Raises:
        UsageError: classes that the map does not know, or knows in two ways; none that is malignant.
    """
    meant = {name: {row.malignant for row in read_map() if row.label == name} for name in classes}
    told = {name: words for name, words in meant.items() if words}
    unclear = [name for name, words in told.items() if len(words) > 1]
    found = [name for name, words in told.items() if words == {"malignant"}]
    if len(told) < len(classes) or unclear or not found:
        missing = [name for name in classes if name not in told] or unclear or list(classes)
        raise UsageError(
            "--positive malignant needs classes that the diagnosis map knows.",
            f"not known, or known in two ways, there: {some(missing, 8)}",
            "name the classes: --positive mel --positive bcc",
        )
    return found


def as_two(given: Predictions, positive: Sequence[str]) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Return which rows are positive, bool (n,), and the positive classes' probabilities added up, (n,)."""
    columns = [given.classes.index(name) for name in positive]
    added = given.probabilities[:, columns].sum(axis=1)
    return np.isin(given.truth_codes(), columns), np.asarray(added, dtype=np.float64)
