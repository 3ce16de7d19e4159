"""Options that say which columns of a CSV or Parquet file are predictions, for all verbs that read some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

if TYPE_CHECKING:
    from panderm.predictions import FileColumns, MultiLabelPredictions, Predictions

Truth = Annotated[
    list[str] | None,
    Option(
        help="Of a CSV: column with the true class; several times: labels of 1 and 0.", show_default=False
    ),
]
Proba = Annotated[
    list[str] | None,
    Option(
        help="Of a CSV: columns with the probabilities, or 'p_*', the star being the class.",
        show_default=False,
    ),
]
Predicted = Annotated[
    str | None, Option(help="Of a CSV: column with the predicted class.", show_default=False)
]
Patient = Annotated[str | None, Option(help="Of a CSV: column with the patient.", show_default=False)]
Group = Annotated[str | None, Option(help="Of a CSV: column with the lesion.", show_default=False)]
Image = Annotated[str | None, Option(help="Of a CSV: column with the image's name.", show_default=False)]
SplitColumn = Annotated[
    str | None, Option(help="Of a CSV: column that says which rows to score.", show_default=False)
]
Split = Annotated[str | None, Option(help="Its value for those rows; default: test.", show_default=False)]
Val = Annotated[
    str | None, Option(help="Its value for the validation rows; default: val.", show_default=False)
]
Fold = Annotated[str | None, Option(help="Of a CSV: column with the fold.", show_default=False)]
Classes = Annotated[
    str | None, Option(help="Of a CSV: the classes in their order, a,b,c.", show_default=False)
]
Name = Annotated[str | None, Option(help="Of a CSV: what the model is called.", show_default=False)]


def columns_of(
    *,
    truth: list[str] | None = None,
    proba: list[str] | None = None,
    predicted: str | None = None,
    patient: str | None = None,
    group: str | None = None,
    image: str | None = None,
    split_column: str | None = None,
    split: str | None = None,
    val: str | None = None,
    fold: str | None = None,
    classes: str | None = None,
    name: str | None = None,
) -> FileColumns | None:
    """Return the columns that options name, None where they name none."""
    from panderm.predictions import FileColumns

    named = (truth, proba, predicted, patient, group, image, split_column, split, val, fold, classes, name)
    if not any(named):
        return None
    return FileColumns(
        truth=_apart(truth),
        proba=_apart(proba),
        predicted=predicted,
        patient=patient,
        group=group,
        image=image,
        split_column=split_column,
        split=split or "test",
        val=val or "val",
        fold=fold,
        classes=_apart([classes]) if classes else None,
        name=name,
    )


def opened(
    paths: Sequence[Path], columns: FileColumns | None
) -> list[Path | Predictions | MultiLabelPredictions]:
    """Read the files among some paths by the columns named; folders stand as they are.

    Raises:
        UsageError: columns named, and no file to read by them.
    """
    from panderm.errors import UsageError
    from panderm.predictions import open_either

    if columns is not None and all(path.is_dir() for path in paths):
        raise UsageError(
            "columns are named of a CSV or Parquet file.",
            f"found folders only: {', '.join(map(str, paths))}",
            "leave --truth, --proba and the other columns out",
        )
    return [open_either(path, columns=columns) if path.is_file() else path for path in paths]


def validation_of(
    path: Path | None, columns: FileColumns | None, scored: Predictions | MultiLabelPredictions
) -> Predictions | None:
    """Open validation rows, of a file by the columns of the rows scored, of which all rows are taken.

    Raises:
        ArtifactError: several labels an image.
    """
    from panderm.predictions import Predictions, open_either, require_one_class

    if path is None:
        return None
    same = None if columns is None else replace(columns, split_column=None, classes=scored.classes)
    held = open_either(path, columns=None if path.is_dir() else same)
    require_one_class(held, path)
    return held if isinstance(held, Predictions) else None


def _apart(given: list[str] | None) -> list[str]:
    return [part.strip() for one in given or () for part in one.split(",") if part.strip()]
