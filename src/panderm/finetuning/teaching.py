"""How classes count in what is taught, what undoes it afterwards, and what a user must know of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from panderm.errors import UsageError
from panderm.finetuning.objective import Objective, balanced_weights, log_prior_shift
from panderm.finetuning.recipe import Settings
from panderm.finetuning.rows import Rows
from panderm.training.settings import ClassWeight

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Teaching:
    """What is taught of the training rows.

    Attributes:
        objective: the loss.
        class_weight: ``balanced`` where classes count alike, by the loss or by what is drawn.
        row_weights: float64 (n,), how often each training row is drawn; None: once an epoch.
        shift: float64 (K,), is added to logits so that probabilities are of the rows as they were; None: not.
        words: what a user must know, a sentence each.
    """

    objective: Objective
    class_weight: ClassWeight
    row_weights: Floats | None
    shift: Floats | None
    words: tuple[str, ...]


def teaching_of(rows: Rows, settings: Settings, *, prior_correction: bool) -> Teaching:
    """Return how the classes of the training rows count.

    Args:
        rows: of the run.
        settings: sampler, class weight, smoothing.
        prior_correction: undo in the probabilities what sampler or weights do to them.

    Raises:
        UsageError: a correction where nothing has to be corrected.
    """
    several, K = rows.labels == "several", len(rows.classes)
    link = "sigmoid" if several else "softmax"
    truth = rows.truth[rows.train] if several else rows.codes[rows.train]
    balanced = settings.sampler == "balanced" or settings.class_weight == "balanced"
    if prior_correction and not balanced:
        raise UsageError(
            "--prior-correction undoes --sampler balanced or --class-weight balanced.",
            "found neither",
            "leave it out: the probabilities are of the rows as they are",
        )
    weights = balanced_weights(truth, K, link) if balanced else None  # type: ignore[arg-type]
    in_loss = weights if settings.class_weight == "balanced" else None
    drawn = weights[truth] if weights is not None and settings.sampler == "balanced" else None
    shift = log_prior_shift(weights) if weights is not None and prior_correction else None
    words = []
    if balanced and shift is None:
        words.append(
            "classes are balanced in training: probabilities are those of a world in which they are equally "
            "frequent; --prior-correction, or panderm recalibrate --prior, moves them back"
        )
    elif balanced:
        words.append("classes are balanced in training, and the probabilities moved back to their shares")
    objective = Objective(K, link=link, smoothing=settings.smoothing, weights=in_loss)  # type: ignore[arg-type]
    return Teaching(objective, "balanced" if balanced else "none", drawn, shift, tuple(words))
