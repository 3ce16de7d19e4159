"""The published code's result files, for those who compare: written, never read by us."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pandas as pd

from panderm.data.table import TableCard
from panderm.errors import ArtifactError
from panderm.predictions import Predictions, require_one_class
from panderm.scores import Scores
from panderm.storage import refuse_existing, write_text

SUMMARY = "summary.csv"
_HEADER = "Dataset,W_F1,AUROC,BACC,ACC,AUPR"


def require_free(folder: Path | str, table: TableCard, *, overwrite: bool = False) -> None:
    """Raise :class:`ArtifactError` where a table's result files cannot be written into this folder."""
    images = Path(folder) / f"{table.name}.csv"
    if images.resolve() == Path(table.csv) or images.name == SUMMARY:
        raise ArtifactError(
            "the published result files must have a place of their own.",
            f"{images} is {'the table itself' if images.resolve() == Path(table.csv) else 'the summary'}",
            "choose another folder for --published-csv, or rename the table",
        )
    refuse_existing(images, overwrite=overwrite)
    if (images.parent / SUMMARY).is_file():
        _read(images.parent / SUMMARY)


def write_published_csv(
    predictions: Predictions, scores: Scores, folder: Path | str, *, overwrite: bool = False
) -> tuple[Path, Path]:
    """Write ``<dataset>.csv`` with the probabilities of every image, and a line in ``summary.csv``.

    ``<dataset>.csv`` has the columns filename, true_label, predicted_label and probability_class_0 …; with
    two classes a single column ``probability``, that of class 1. Labels are positions in the stated order
    of classes. The line holds the dataset, weighted F1, AUROC (of two classes, else one-vs-one), balanced
    accuracy, accuracy and average precision to four decimals; ``nan`` where not computable.

    Returns:
        The two files' paths.

    Raises:
        ArtifactError: ``<dataset>.csv`` exists and ``overwrite`` is not set.
    """
    require_one_class(predictions)
    table = predictions.card.made_of("The published layout").table
    images, summary = Path(folder) / f"{table.name}.csv", Path(folder) / SUMMARY
    require_free(folder, table, overwrite=overwrite)
    name = table.name
    frame = pd.DataFrame(
        {
            "filename": predictions.image,
            "true_label": predictions.truth_codes(),
            "predicted_label": predictions.predicted_codes(),
        }
    )
    if len(predictions.classes) == 2:
        frame["probability"] = predictions.probabilities[:, 1]
    else:
        for k in range(len(predictions.classes)):
            frame[f"probability_class_{k}"] = predictions.probabilities[:, k]
    text = io.StringIO()
    frame.to_csv(text, index=False)
    write_text(images, text.getvalue(), overwrite=overwrite)

    auroc = "auroc" if len(predictions.classes) == 2 else "auroc_ovo"
    line = [name.replace(",", " ")]
    for score in ("weighted_f1", auroc, "balanced_accuracy", "accuracy", "average_precision"):
        value = scores.scores[score].value
        line.append(f"{math.nan if value is None else value:.4f}")
    before = _read(summary) if summary.is_file() else _HEADER + "\n"
    kept = [old for old in before.splitlines() if not (overwrite and old.split(",")[0] == line[0])]
    write_text(summary, "\n".join([*kept, ",".join(line)]) + "\n", overwrite=True)
    return images, summary


def _read(summary: Path) -> str:
    text = summary.read_bytes().decode(errors="replace")
    if not text.startswith(_HEADER):
        raise ArtifactError(
            "the summary must be one that panderm or the published code wrote.",
            f"{summary} does not begin with {_HEADER}",
            "choose another folder for --published-csv",
        )
    return text
