"""The card of a predictions folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from panderm.embeddings import EmbeddingsCard
from panderm.provenance import Card, read_card

Labels = Literal["one", "several"]


class PredictionsCard(Card):
    """The card of a predictions folder: the question, how it was answered, and from what.

    ``method`` holds what was decided, ``outcome`` what the fit then found. ``labels`` says whether an image
    is of one class, or has any number of labels, ``classes`` then being their names. ``embeddings`` are those
    that were predicted; ``fitted_on`` those that the probe was fitted on, where they are of another table.
    """

    kind: Literal["predictions"] = "predictions"
    format: Literal[1] = 1
    task: str
    method: dict[str, Any]
    outcome: dict[str, Any]
    classes: tuple[str, ...]
    labels: Labels = "one"
    split: str
    rows: int
    embeddings: EmbeddingsCard
    fitted_on: EmbeddingsCard | None = None

    def decisive(self) -> dict[str, Any]:
        """Return method, classes, split and the embeddings' identity."""
        kept = self.model_dump(mode="json", exclude={"provenance", "embeddings", "fitted_on", "outcome"})
        if self.labels == "one":
            del kept["labels"]  # predictions of one class keep the identity they always had
        if self.fitted_on is not None:
            kept |= {"fitted_on": self.fitted_on.identity}
        return kept | {"embeddings": self.embeddings.identity}


def labels_of(folder: Path) -> Labels:
    """Return which form of predictions a folder holds.

    Raises:
        ArtifactError: it holds no predictions.
    """
    return read_card(folder, PredictionsCard, "predictions").labels
