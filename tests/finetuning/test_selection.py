"""The best epoch: the first of equals, by the highest score or the lowest loss; and when it is enough."""

from __future__ import annotations

from typing import Any

import pytest

from panderm.finetuning.selection import score_of
from panderm.training.long.selection import Selection


def look(epoch: int, value: float | None, score: str = "auroc") -> dict[str, Any]:
    return {"epoch": epoch, "val": {"scores": {score: {"value": value}}}}


@pytest.mark.parametrize(
    ("values", "best"),
    [([0.5, 0.7, 0.7, 0.6], 2), ([None, 0.2, 0.1], 2), ([None, None], 1), ([0.9, None, 0.9], 1)],
)
def test_the_first_of_the_best_is_kept(values: list[float | None], best: int) -> None:
    selection = Selection("auroc")
    better = [selection.hear(look(epoch, value)) for epoch, value in enumerate(values, start=1)]
    assert selection.best == best
    assert better[best - 1]
    assert not any(better[best:])


def test_of_a_loss_less_is_better() -> None:
    selection = Selection("loss")
    assert [selection.hear(look(i, x, "loss")) for i, x in enumerate((2.0, 1.0, 1.5), 1)] == [
        True,
        True,
        False,
    ]
    assert selection.value == 1.0


def test_it_is_enough_where_nothing_better_came_for_so_long() -> None:
    selection = Selection("auroc", patience=2)
    said = []
    for epoch, value in enumerate((0.5, 0.6, 0.6, 0.4, 0.9), 1):
        selection.hear(look(epoch, value))
        said.append(selection.enough(epoch))
    assert said == [False, False, False, True, False]


def test_a_run_that_goes_on_hears_an_epoch_again() -> None:
    """What it heard of the time that is to happen again is forgotten."""
    selection = Selection("auroc")
    for epoch, value in ((1, 0.5), (2, 0.9)):
        selection.hear(look(epoch, value))
    selection.hear(look(2, 0.4))
    assert (selection.best, selection.best_by(1)) == (1, 1)


def test_scores_are_named_as_they_are_computed() -> None:
    assert score_of("auroc", 2, several=False) == "auroc"
    assert score_of("auroc", 3, several=False) == "auroc_ovr"
    assert score_of("auroc", 3, several=True) == "macro_auroc"
