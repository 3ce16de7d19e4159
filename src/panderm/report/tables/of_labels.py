"""The result tables of several labels an image."""

from __future__ import annotations

from panderm.report.tables.results import Result, Results, Value, numbers, results
from panderm.scores import MultiLabelScores


def label_results(model: str, scores: MultiLabelScores) -> list[Results]:
    """Return every result table of a page of several labels; n is the images where a label is known."""
    rows: list[Result] = []
    for label, one in scores.per_label.items():
        counts: dict[str, Value] = {"positives": one.positives, "unknown": one.unknown}
        rows += numbers((model, label), counts | one.scores, one.n)
    note = f"a label is called present where its probability is {scores.threshold:g} or more"
    whole = numbers((model,), scores.scores, scores.n)
    return [
        *results("scores", "Scores of all labels", ("model",), whole, across="model", note=note),
        *results("per_label", "Each label", ("model", "label"), rows, note=note),
    ]
