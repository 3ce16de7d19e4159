"""The card of a predictions folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from panderm.embeddings import EmbeddingsCard
from panderm.errors import ArtifactError
from panderm.provenance import Card, Record, read_card

Labels = Literal["one", "several"]


class PredictionsFile(Record):
    """The file of a user's own that predictions were read from.

    Attributes:
        path: where it is, absolute.
        sha256: hex, of its bytes.
        layout: how it was read: ``columns``, or ``published`` for the published code's result files.
        columns: by role (image, truth, patient, group, split, fold), the column that plays it.
        probabilities: by class, the column with its probability.
        positive_only: whether the file has the probability of the second of two classes alone.
    """

    path: str
    sha256: str
    layout: Literal["columns", "published"]
    columns: dict[str, str]
    probabilities: dict[str, str]
    positive_only: bool = False


class ValidationRows(Record):
    """Rows that the same probe predicted beside those to score, and was not fitted on."""

    split: str
    rows: int


class Recalibration(Record):
    """How probabilities were changed after a predictor had given them.

    Attributes:
        of: identity of the predictions as they were given.
        method: ``temperature``, ``isotonic`` or ``none``.
        fitted_on: identity of the validation rows' predictions; None where nothing was fitted, or each fold
            on the others.
        rows: on which rows, in words.
        parameters: by name: ``temperature``, or of each fold; of isotonic regression the curves by class.
        old, new: shares of the classes that the probabilities were moved from and to; None where not.
        old_from: where the old shares are from, in words.
    """

    of: str
    method: Literal["temperature", "isotonic", "none"]
    fitted_on: str | None = None
    rows: str | None = None
    parameters: dict[str, Any] = Field(default={})
    old: dict[str, float] | None = None
    new: dict[str, float] | None = None
    old_from: str | None = None


class PredictionsCard(Card):
    """The card of a predictions folder: the question, how it was answered, and from what.

    ``method`` holds what was decided, ``outcome`` what the fit then found. ``labels`` says whether an image
    is of one class, or has any number of labels, ``classes`` then being their names. ``embeddings`` are those
    that were predicted, None where the predictions were read from a ``file``; ``fitted_on`` those that the
    probe was fitted on, where they are of another table. ``validation`` tells of rows beside these,
    ``recalibration`` of probabilities that were changed afterwards.
    ``folders`` says, by the identity of embeddings, where they lay when they were predicted.
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
    embeddings: EmbeddingsCard | None = None
    fitted_on: EmbeddingsCard | None = None
    file: PredictionsFile | None = None
    name: str | None = Field(default=None, description="what the user calls the model")
    validation: ValidationRows | None = None
    recalibration: Recalibration | None = None
    folders: dict[str, str] = Field(default={}, description="of the embeddings, by their identity")

    @property
    def model(self) -> str:
        """What the predictor is called: the user's name for it, its encoder, or its file."""
        if self.name:
            return self.name
        return self.embeddings.encoder.name if self.embeddings else Path(self._file.path).stem

    @property
    def dataset(self) -> str:
        """What the rows are called: their table, or the file they were read from."""
        return self.embeddings.table.name if self.embeddings else Path(self._file.path).stem

    @property
    def source(self) -> str:
        """Where the rows are from: a file, and the beginning of its hash."""
        if self.embeddings is None:
            return f"{self._file.path} ({self._file.sha256[:12]})"
        return f"{self.embeddings.table.csv} ({self.embeddings.table.sha256[:12]})"

    def made_of(self, wanted: str) -> EmbeddingsCard:
        """Return the embeddings that were predicted.

        Args:
            wanted: what needs them, as the beginning of a sentence: "An export".

        Raises:
            ArtifactError: the predictions were read from a file.
        """
        if self.embeddings is None:
            raise ArtifactError(
                f"{wanted} needs predictions that panderm made from embeddings.",
                f"these were read from {self._file.path}",
                "make them with: panderm probe",
            )
        return self.embeddings

    @property
    def _file(self) -> PredictionsFile:
        if self.file is None:
            raise ArtifactError("predictions must say what they were made from.", "found neither", "probe")
        return self.file

    def decisive(self) -> dict[str, Any]:
        """Return method, classes, split and the identity of the embeddings, or of the file."""
        parents = {"embeddings", "fitted_on", "file", "folders"}
        derived = {"provenance", "outcome", "name", "validation"} | parents
        kept = self.model_dump(mode="json", exclude=derived)
        if self.labels == "one":
            del kept["labels"]  # predictions of one class keep the identity they always had
        if self.recalibration is None:
            del kept["recalibration"]  # likewise those whose probabilities are as they were given
        if self.fitted_on is not None:
            kept |= {"fitted_on": self.fitted_on.identity}
        if self.embeddings is None:
            return kept | {"file": self._file.model_dump(mode="json", exclude={"path"})}
        return kept | {"embeddings": self.embeddings.identity}


def labels_of(folder: Path) -> Labels:
    """Return which form of predictions a folder holds.

    Raises:
        ArtifactError: it holds no predictions.
    """
    return read_card(folder, PredictionsCard, "predictions").labels
