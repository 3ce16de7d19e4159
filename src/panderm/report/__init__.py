"""Scores to one self-contained HTML page: numbers with intervals, figures, mistakes, and what was run.

``page`` says what every section of one evaluation holds and pours it into a template; ``several/`` does so
for several, once it has matched their rows; ``multi_label`` makes the page of several labels an image.
``sections`` makes the sections on decisions of one or several, ``crossed`` the tables in them; ``subgroups``
tells the groups of columns, ``image_free`` what the columns give without the images. ``authors/`` holds the
summary and what goes into a manuscript, ``mistakes/`` the errors, seen; ``record`` reads the cards, ``words``
writes names and numbers. ``drawing/`` makes figures, ``tables/`` files of numbers, ``pdf`` paper; ``saving``
says in which forms a page leaves. ``map/``, ``curve/``, ``masks`` and ``check_page`` are pages of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

from panderm.errors import ParentsError, UsageError, plural, some
from panderm.predictions import Predictions, open_either, open_predictions, require_one_class
from panderm.provenance import Provenance
from panderm.report.authors.provenance_chain import provenance_chain
from panderm.report.entry import Entry
from panderm.report.image_free import ImageFreeScores, score_image_free
from panderm.report.mistakes.looks import looks_of
from panderm.report.page import Page, render
from panderm.report.saving import Saved
from panderm.report.section import Section
from panderm.report.several.comparison import render_comparison
from panderm.report.several.side_by_side import differences_said, side_by_side
from panderm.report.several.titles import titles
from panderm.report.tables import Results, Source, of_scores
from panderm.scores import Score, Scores, evaluate
from panderm.scores.compare import compare
from panderm.scores.compared import Comparison

__all__ = ["Report"]

_Predictions = Predictions | Path | str
_Scores = Scores | Path | str


class Report(Saved):
    """One evaluation, or several side by side, as a page that needs no network, no script, no other file.

    Args:
        predictions: a :class:`panderm.Predictions`, or the folder ``X.pred``; or a list of these, all of the
            same rows: the page then compares each with the first.
        scores: a :class:`panderm.Scores` or its file, made from these predictions; of several predictions a
            list, in their order. By default they are scored now, with the usual draws and seed 0.
        by: columns whose levels are scored as subgroups too, where the scores are made now.
        columns: as of :func:`panderm.evaluate`.
        image_column: likewise.
        bands: likewise.
        image_free: score the columns of the table without any image too, on the same rows and draws.
        image_free_columns: which columns; by default all that describe and give nothing away.
        embeddings: the folder that was probed, for neighbours of the mistakes and where they lie together; of
            several predictions a list. By default looked for where it lay, then beside the predictions.
        attention: show each mistake under the attention of its encoder, which is loaded for it.
        weights: of that encoder; of several predictions a list, ``-`` for the file on the card, which is the
            default.
        card: JSON file that describes that encoder, where it is one of your own.
        progress: show progress on standard error.

    Attributes:
        parts: pairs of predictions and scores, one for each that was given.
        titles: what the page calls each of them.
        differences: for each after the first, every score minus the first's, with the 95 % interval of that
            difference on the same bootstrap draws.
        columns_alone: the image-free baseline, or None where none was asked for.

    Raises:
        ArtifactError: a folder or file that is not what it should be.
        ParentsError: scores of other predictions; predictions of other rows; scores of other draws; for
            ``image_free``, a table that is not what it was.
        UsageError: not as many scores as predictions, or the same predictions twice.

    Example:
        >>> panderm.Report("probe.pred").save("report.html")  # doctest: +SKIP
        >>> panderm.Report(["large.pred", "small.pred"]).save_tables("tables")  # doctest: +SKIP
    """

    def __init__(
        self,
        predictions: _Predictions | Sequence[_Predictions],
        scores: _Scores | Sequence[_Scores] | None = None,
        *,
        by: Sequence[str] | None = None,
        columns: Path | str | None = None,
        image_column: str | None = None,
        bands: Mapping[str, Sequence[float]] | None = None,
        image_free: bool = False,
        image_free_columns: Sequence[str] | None = None,
        embeddings: Path | str | Sequence[Path | str] | None = None,
        attention: bool = False,
        weights: Path | str | Sequence[Path | str] | None = None,
        card: Path | str | None = None,
        progress: bool = True,
    ) -> None:
        require_one_class(predictions)
        given = [predictions] if isinstance(predictions, _Predictions) else list(predictions)
        files: list[_Scores | None] = [scores] if isinstance(scores, _Scores) else list(scores or ())
        _require_as_many(given, files)
        if files and (by or columns or image_column or bands):
            raise UsageError(
                "--by must come without --scores: what a scores file holds is shown as it is.",
                f"found {plural(len(files), 'scores file')}",
                "leave the scores out and they are made now, or evaluate with --by",
            )
        make = partial(
            evaluate, by=by, columns=columns, image_column=image_column, bands=bands, progress=progress
        )
        opened = [_opened_predictions(one) for one in given]
        names = [_named(one) for one in given]
        if len(opened) > 1:
            called = _require_different(opened, names)
            opened = side_by_side(opened, called, scored=bool(files))
        self.parts = tuple(
            (one, make(one) if file is None else _opened_scores(file))
            for one, file in zip(opened, files or [None] * len(opened), strict=True)
        )
        for (one, its), name, file in zip(self.parts, names, files or [None] * len(opened), strict=True):
            _require_same(one, name, its, _named(file))
        if opened[0].classes != (order := self.parts[0][1].classes):  # the scores' positive class is last
            opened = [one.in_order(order) for one in opened]
            self.parts = tuple((one, its) for one, (_, its) in zip(opened, self.parts, strict=True))
        self.titles = tuple(titles([one.card for one in opened]))
        self.differences: tuple[dict[str, Score], ...] = ()
        if len(opened) > 1:
            _require_same_draws([its for _, its in self.parts], self.titles)
            draws, seed = self.parts[0][1].draws, self.parts[0][1].seed
            self.differences = differences_said(opened, draws=draws, seed=seed)
        self._progress = progress
        self._looks = looks_of(
            opened,
            embeddings=_each(embeddings),
            attention=attention,
            weights=_each(weights),
            card=card,
        )
        self.columns_alone: ImageFreeScores | None = None
        if image_free or image_free_columns is not None:
            own = self.parts[0][1]
            self.columns_alone = score_image_free(
                opened, columns=image_free_columns, draws=own.draws, seed=own.seed
            )

    @cached_property
    def comparison(self) -> Comparison | None:
        """The tests of :func:`panderm.compare` on the same draws, of several; made when asked for."""
        if len(self.parts) == 1:
            return None
        own = self.parts[0][1]
        given = [one for one, _ in self.parts]
        return compare(given, draws=own.draws, seed=own.seed, progress=self._progress)

    @property
    def predictions(self) -> Predictions:
        """What was predicted, of a report on one set of predictions."""
        return self._only("predictions")[0]

    @property
    def scores(self) -> Scores:
        """The scores, of a report on one set of predictions."""
        return self._only("scores")[1]

    def _made(self) -> Page:
        now = Provenance.now()
        if len(self.parts) == 1:
            return render(
                *self.parts[0],
                created=now.created,
                version=now.panderm,
                columns_alone=self.columns_alone,
                look=self._looks[0],
                learned=self._learned(),
            )
        assert self.comparison is not None
        return render_comparison(
            self._entries(),
            comparison=self.comparison,
            created=now.created,
            version=now.panderm,
            columns_alone=self.columns_alone,
        )

    def _learned(self) -> Sequence[Section]:
        """Return sections on how what predicts was learned; only a run that knows has any."""
        return ()

    def _entries(self) -> list[Entry]:
        differences = ({}, *self.differences)
        parts = zip(self.titles, self.parts, differences, self._looks, strict=True)
        return [Entry(title, *part, difference, look) for title, part, difference, look in parts]

    def _results(self) -> list[Results]:
        return of_scores.results_of(self._entries(), self.columns_alone, self.comparison)

    def _chains(self) -> dict[str, Any]:
        return {e.title: [link.as_dict() for link in provenance_chain(e)] for e in self._entries()}

    def _sources(self) -> list[Source]:
        return [Source(t, part[0].card, part[1]) for t, part in zip(self.titles, self.parts, strict=True)]

    def _only(self, what: str) -> tuple[Predictions, Scores]:
        if len(self.parts) > 1:
            raise UsageError(
                f"a report must show one set of predictions to be asked for its {what}.",
                f"this one compares {len(self.parts)}: {some(self.titles, 6)}",
                "report.parts holds the predictions and scores of each",
            )
        return self.parts[0]


def _opened_predictions(given: Predictions | Path | str) -> Predictions:
    if not isinstance(given, Path | str):
        require_one_class(given)
        return given
    opened = open_either(given) if Path(given).is_file() else open_predictions(given)
    require_one_class(opened, given)
    return cast(Predictions, opened)


def _opened_scores(given: Scores | Path | str) -> Scores:
    return given if isinstance(given, Scores) else Scores.open(given)


def _each(given: Path | str | Sequence[Path | str] | None) -> list[Path | str]:
    return [given] if isinstance(given, Path | str) else list(given or ())


def _named(given: object) -> str | None:
    return str(given) if isinstance(given, Path | str) else None


def _require_as_many(predictions: Sequence[object], scores: Sequence[object]) -> None:
    if not predictions:
        raise UsageError("a report must have predictions to show.", "found none", "panderm report X.pred")
    if scores and len(scores) != len(predictions):
        raise UsageError(
            "--scores must be given once for each set of predictions, in the same order, or not at all.",
            f"found {len(predictions)} of predictions and {len(scores)} of scores",
            "leave the scores out and they are made now",
        )


def _require_different(predictions: Sequence[Predictions], names: Sequence[str | None]) -> list[str]:
    """Return what they are called in messages."""
    called = [name or given.card.model for name, given in zip(names, predictions, strict=True)]
    seen: dict[str, str] = {}
    for given, name in zip(predictions, called, strict=True):
        if given.card.identity in seen:
            raise UsageError(
                "predictions to be compared must differ.",
                f"{seen[given.card.identity]} and {name} are the same: {given.card.identity[:12]}",
                "name each once",
            )
        seen[given.card.identity] = name
    return called


def _require_same_draws(scores: Sequence[Scores], called: Sequence[str]) -> None:
    for one, name in list(zip(scores, called, strict=True))[1:]:
        if one.classes != scores[0].classes:
            told = [f"{called[0]}: {some(scores[0].classes, 12)}", f"{name}: {some(one.classes, 12)}"]
            hint = "evaluate all with the same --positive, or leave the scores out: they are made now"
            raise ParentsError("scores side by side must have their classes in one order.", told, hint)
        if one.intervals_in_words != scores[0].intervals_in_words:
            told = [f"{called[0]}: {scores[0].intervals_in_words}", f"{name}: {one.intervals_in_words}"]
            hint = "evaluate all with the same --interval, or leave the scores out: they are made now"
            raise ParentsError("scores side by side must have intervals of one kind.", told, hint)
        if (one.draws, one.seed) != (scores[0].draws, scores[0].seed):
            told = [f"{called[0]}: {plural(scores[0].draws, 'draw')}, seed {scores[0].seed}"]
            raise ParentsError(
                "scores side by side must rest on the same bootstrap draws.",
                [*told, f"{name}: {plural(one.draws, 'draw')}, seed {one.seed}"],
                "evaluate all with the same --draws and --seed, or leave the scores out: they are made now",
            )


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
