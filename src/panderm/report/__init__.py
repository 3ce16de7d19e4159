"""Scores to one self-contained HTML page: numbers with intervals, figures, mistakes, and what was run.

``page`` says what every section holds and pours it into ``page.html`` and ``page.css``; ``figures`` draws,
``svg`` makes drawings fit to stand in a page, ``mistakes`` finds the pictures, ``record`` reads the cards,
``words`` writes numbers and names.
"""

from __future__ import annotations

from pathlib import Path

from panderm.errors import ParentsError
from panderm.predictions import Predictions, open_predictions
from panderm.provenance import Provenance
from panderm.report.page import render
from panderm.scores import Scores, evaluate
from panderm.storage import refuse_existing, write_text

__all__ = ["Report"]


class Report:
    """One evaluation as a page that needs no network, no script and no other file.

    Args:
        predictions: a :class:`panderm.Predictions`, or the folder ``X.pred``.
        scores: a :class:`panderm.Scores` or its file, made from these predictions; by default they are
            scored now, with the usual draws and seed 0.

    Attributes:
        predictions: what was predicted.
        scores: of these predictions.

    Raises:
        ArtifactError: a folder or file that is not what it should be.
        ParentsError: scores of other predictions.

    Example:
        >>> panderm.Report("probe.pred").save("report.html")  # doctest: +SKIP
    """

    def __init__(
        self, predictions: Predictions | Path | str, scores: Scores | Path | str | None = None
    ) -> None:
        self.predictions = _opened_predictions(predictions)
        self.scores = _opened_scores(self.predictions, scores)
        _require_same(self.predictions, _named(predictions), self.scores, _named(scores))

    def html(self) -> str:
        """Return the complete page."""
        now = Provenance.now()
        return render(self.predictions, self.scores, created=now.created, version=now.panderm)

    def save(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write the page, whole or not at all, and return its path.

        Raises:
            ArtifactError: the file exists and ``overwrite`` is not set, or it cannot be written.
        """
        target = Path(path)
        refuse_existing(target, overwrite=overwrite)  # before the figures are drawn, not after
        write_text(target, self.html(), overwrite=overwrite)
        return target


def _opened_predictions(given: Predictions | Path | str) -> Predictions:
    return given if isinstance(given, Predictions) else open_predictions(given)


def _opened_scores(predictions: Predictions, given: Scores | Path | str | None) -> Scores:
    if isinstance(given, Scores):
        return given
    if given is None:
        return evaluate(predictions)
    return Scores.open(given)


def _named(given: object) -> str | None:
    return str(given) if isinstance(given, Path | str) else None


def _require_same(predictions: Predictions, folder: str | None, scores: Scores, file: str | None) -> None:
    ours, theirs = predictions.card.identity, scores.predictions
    if ours != theirs:
        raise ParentsError(
            "a report must show scores of its own predictions.",
            [
                f"{file or 'the scores'} were made from predictions {theirs[:12]}",
                f"{folder or 'the predictions'} are {ours[:12]} ({predictions.card.split} split)",
            ],
            "evaluate these predictions again, or leave the scores out and they are made now",
        )
