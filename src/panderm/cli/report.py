"""The verb that writes a report: the page, and what leaves it as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer import Argument, Option

from panderm.cli import options as opt
from panderm.cli import predictions_file as of
from panderm.cli.evaluate import read_bands
from panderm.cli.frame import verb

if TYPE_CHECKING:
    from panderm.report import Report
    from panderm.report.multi_label import MultiLabelReport


@verb
def report(
    predictions: Annotated[
        list[Path],
        Argument(
            help="Predictions, X.pred or a CSV; several are compared with the first.", show_default=False
        ),
    ],
    out: Annotated[Path, Option(help="HTML file to write.", show_default=False)],
    tables: Annotated[
        Path | None,
        Option(
            help="Folder to write: every plotted point as CSV, every table as CSV, Markdown and LaTeX.",
            show_default=False,
        ),
    ] = None,
    pdf: Annotated[
        Path | None,
        Option(help="PDF file to write; needs Chromium, Chrome or Edge.", show_default=False),
    ] = None,
    scores: Annotated[
        list[Path] | None,
        Option(
            help="What evaluate --out wrote of these predictions, in their order, with all that it was asked "
            "for (--at, --prevalence, --hierarchy, …); default: scored now.",
            show_default=False,
        ),
    ] = None,
    truth: of.Truth = None,
    proba: of.Proba = None,
    patient: of.Patient = None,
    group: of.Group = None,
    image: of.Image = None,
    classes: of.Classes = None,
    by: opt.By = None,
    columns: opt.ColumnsFile = None,
    image_column: opt.ColumnsImage = None,
    bands: opt.Bands = None,
    image_free: opt.ImageFree = False,
    image_free_columns: opt.ImageFreeColumns = None,
    embeddings: Annotated[
        list[Path] | None,
        Option(
            help="Folder that was probed, of each in their order; default: where it lay, or beside them.",
            show_default=False,
        ),
    ] = None,
    attention: Annotated[
        bool, Option("--attention", help="Show mistakes under the attention of their encoder.")
    ] = False,
    weights: Annotated[
        list[str] | None,
        Option(
            help="For --attention: local weights file, of each in their order; - or none: that on the card.",
            show_default=False,
        ),
    ] = None,
    card: opt.CardFile = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Write predictions and scores as one self-contained HTML page; several side by side.

    Example: panderm report probe.pred --out report.html --tables tables --pdf report.pdf
    """
    from panderm.predictions import MultiLabelPredictions, Predictions, require_one_class
    from panderm.report import Report
    from panderm.report.pdf import find_browser
    from panderm.report.tables import require_free
    from panderm.storage import refuse_existing

    _require_apart(out, tables, pdf)
    for path in filter(None, (out, pdf)):
        refuse_existing(path, overwrite=overwrite)
    # Before the work, not after.
    if tables is not None:
        require_free(tables, overwrite=overwrite)
    if pdf is not None:
        find_browser()
    plain = not (by or columns or image_column or bands or image_free or image_free_columns)
    plain = plain and not (embeddings or attention or weights or card)
    opened = of.opened(
        predictions,
        of.columns_of(truth=truth, proba=proba, patient=patient, group=group, image=image, classes=classes),
    )
    only = opened[0]
    of_labels = isinstance(only, MultiLabelPredictions) or (isinstance(only, Path) and _several(only))
    if len(opened) == 1 and len(scores or ()) < 2 and plain and of_labels:
        from panderm.report.multi_label import MultiLabelReport

        given = cast(Path | MultiLabelPredictions, only)
        page = MultiLabelReport(given, scores[0] if scores else None, progress=not quiet)
        return _saved(page, out, tables, pdf, overwrite=overwrite, as_json=as_json)
    require_one_class(next((one for one in opened if isinstance(one, MultiLabelPredictions)), None))
    made = Report(
        cast(list[Path | Predictions], opened),
        scores,
        by=by,
        columns=columns,
        image_column=image_column,
        bands=read_bands(bands),
        image_free=image_free,
        image_free_columns=opt.listed(image_free_columns),
        embeddings=embeddings,
        attention=attention,
        weights=weights,
        card=card,
        progress=not quiet,
    )
    alone = made.columns_alone
    if alone is not None and not as_json:
        typer.echo(alone.sentence(made.titles))
    told = _saved(made, out, tables, pdf, overwrite=overwrite, as_json=as_json)
    return told if alone is None else {**told, "image_free": alone.as_dict(made.titles)}


def _saved(
    made: Report | MultiLabelReport,
    out: Path,
    tables: Path | None,
    pdf: Path | None,
    *,
    overwrite: bool,
    as_json: bool,
) -> dict[str, Any]:
    """Write all that was asked for, and return the paths."""
    told: dict[str, Any] = {"report": str(made.save(out, overwrite=overwrite))}
    lines = [f"report: {out.resolve()}"]
    if tables is not None:
        files = made.save_tables(tables, overwrite=overwrite)
        told["tables"] = [str(file) for file in files]
        lines.append(f"tables: {tables.resolve()} ({len(files)} files, README.md says what each is)")
    if pdf is not None:
        told["pdf"] = str(made.save_pdf(pdf, overwrite=overwrite))
        lines.append(f"pdf: {pdf.resolve()}")
    if not as_json:
        typer.echo("\n".join(lines))
    return told


def _require_apart(*paths: Path | None) -> None:
    from panderm.errors import UsageError

    given = [path.resolve() for path in paths if path is not None]
    if len(set(given)) < len(given):
        raise UsageError(
            "--out, --tables and --pdf must name three different places.",
            f"found one twice: {', '.join(map(str, filter(None, paths)))}",
        )


def _several(path: Path) -> bool:
    """Say whether a folder holds several labels an image; a file is asked when it is read."""
    from panderm.predictions.card import labels_of

    return not path.is_file() and labels_of(path) == "several"
