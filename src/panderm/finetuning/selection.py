"""Which score of the validation rows chooses the epoch that is kept."""

from __future__ import annotations

from collections.abc import Sequence

from panderm.errors import UsageError, some
from panderm.finetuning.recipe import Monitor
from panderm.statistics.classification import score_names

RANKED_OF_SEVERAL = "macro_auroc"


def score_of(monitor: Monitor, classes: int, *, several: bool) -> str:
    """Return the name of the score that a monitor means.

    Example:
        >>> score_of("auroc", 7, several=False)
        'auroc_ovr'
    """
    if monitor != "auroc":
        return monitor
    if several:
        return RANKED_OF_SEVERAL
    return "auroc" if "auroc" in score_names(classes) else "auroc_ovr"


def chosen_by(
    monitor: Monitor, classes: Sequence[str], missing: Sequence[str], *, several: bool, asked: bool
) -> tuple[str, list[str]]:
    """Return the score that chooses the epoch, and what is to be said of it.

    Args:
        monitor: what is to choose.
        classes: K names.
        missing: of them, those that the validation rows do not have.
        several: whether an image has several labels.
        asked: whether the user named the monitor; otherwise the loss chooses where it cannot.

    Raises:
        UsageError: a monitor that was named and cannot be computed.
    """
    score = score_of(monitor, len(classes), several=several)
    if not missing or score in ("loss", "accuracy", "macro_recall"):
        return score, []
    without = f"no validation row shows {some(missing)}"
    if asked:
        raise UsageError(
            f"--monitor {monitor} needs validation rows of every class.",
            without,
            "--monitor loss, or a split that has them: panderm split",
        )
    return "loss", [f"{without}: the loss chooses the epoch, not {monitor}"]
