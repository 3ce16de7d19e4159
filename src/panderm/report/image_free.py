"""The page's section on the image-free baseline: what the columns alone give, and what the images add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from panderm.errors import UsageError, plural
from panderm.predictions import Predictions
from panderm.report.words import HEADLINES, interval, number, score_words, signed
from panderm.scores import Score, differences
from panderm.scores.scoring import score_rows

# More columns than this are counted in the sentence, not named.
_NAMED = 6


@dataclass(frozen=True)
class ImageFreeScores:
    """What the columns of a table give without a look at any image, beside what predictions give.

    Attributes:
        columns: what was used.
        left_out: every other column, and why.
        giving_away: columns that give the answer away; they are not among ``columns``.
        scores: by name, of ``columns``.
        with_giving_away: likewise, of these columns too; None where there are none.
        gains: for each of the predictions, every score of theirs minus that of the columns, with the 95 %
            interval of that difference on the same draws of the same patients.
        trained: rows the columns were fitted on.
        features: numbers the probe was given for each row.
        chosen_on: how the strength of its penalty was chosen.
        n, clusters, unit, draws, seed: as of the scores beside it.
    """

    columns: tuple[str, ...]
    left_out: dict[str, str]
    giving_away: tuple[str, ...]
    scores: dict[str, Score]
    with_giving_away: dict[str, Score] | None
    gains: tuple[dict[str, Score], ...]
    trained: int
    features: int
    chosen_on: str
    n: int
    clusters: int
    unit: str
    draws: int
    seed: int

    def sentence(self, titles: Sequence[str]) -> str:
        """Return the sentence a reviewer wants, of the first headline score that can be computed."""
        name = next((n for n in HEADLINES if n in self.scores and self.scores[n].value is not None), None)
        many = len(self.columns) > _NAMED
        used = f"{plural(len(self.columns), 'column')} of the table" if many else _and(self.columns)
        if name is None:
            return f"Without a look at any image, {used} alone give no score that can be computed."
        give = f"alone give{'s' if len(self.columns) == 1 else ''} {score_words(name).title}"
        told = f"Without a look at any image, {used} {give} {_in_words(self.scores[name])}."
        parts = []
        for called, gains in zip(titles, self.gains, strict=True):
            parts.append(_gain("the images" if len(titles) == 1 else called, gains[name]))
        adds = "; ".join(parts)
        return f"{told} {adds[:1].upper()}{adds[1:]}."

    def as_dict(self, titles: Sequence[str]) -> dict[str, Any]:
        """Return all of it as plain values; ``titles`` name the predictions."""
        both = self.with_giving_away
        return {
            "columns": list(self.columns),
            "left_out": dict(self.left_out),
            "giving_away": list(self.giving_away),
            "scores": _plain(self.scores),
            "with_giving_away": None if both is None else _plain(both),
            "gains": {t: _plain(gain) for t, gain in zip(titles, self.gains, strict=True)},
            "trained": self.trained,
            "features": self.features,
            "chosen_on": self.chosen_on,
            "n": self.n,
            "clusters": self.clusters,
            "unit": self.unit,
            "draws": self.draws,
            "seed": self.seed,
            "sentence": self.sentence(titles),
        }


def score_image_free(
    predictions: Sequence[Predictions], *, columns: Sequence[str] | None, draws: int, seed: int
) -> ImageFreeScores:
    """Score the columns of the first predictions' table, and all predictions against them.

    Args:
        predictions: of the same rows.
        columns: which to use; by default as :func:`panderm.tasks.image_free.image_free` chooses.
        draws: of the bootstrap, as of the scores.
        seed: of the bootstrap, likewise.

    Raises:
        PandermError: the table has changed, or has no column to use.
    """
    if columns is not None and not list(columns):
        raise UsageError("--image-free-columns must name a column or more.", "found none")
    from panderm.tasks.image_free import image_free  # brings torch: seconds that no other page needs

    made = image_free(predictions[0], columns=columns)
    base = score_rows(made.predictions, draws=draws, seed=seed)
    both = made.with_giving_away
    card = made.predictions.card
    return ImageFreeScores(
        columns=made.columns,
        left_out=made.left_out,
        giving_away=made.giving_away,
        scores=base.scores,
        with_giving_away=None if both is None else score_rows(both, draws=draws, seed=seed).scores,
        gains=differences([made.predictions, *predictions], draws=draws, seed=seed),
        trained=card.method["train rows"],
        features=card.method["features"],
        chosen_on=str(card.outcome["C chosen on"]),
        n=base.n,
        clusters=base.clusters,
        unit=base.unit,
        draws=draws,
        seed=seed,
    )


def _gain(whose: str, gain: Score) -> str:
    add = "add" if whose == "the images" else "adds"
    if gain.value is None or gain.low is None or gain.high is None:
        return f"what {whose} {add} has no interval ({gain.reason})"
    between = f"{signed(gain.value)} ({signed(gain.low)} to {signed(gain.high)})"
    if gain.low > 0:
        return f"{whose} {add} {between}"
    if gain.high < 0:
        return f"the probe on {whose} gives less, {between}"
    return f"whether {whose} {add} anything cannot be told from these rows, {between}"


@dataclass(frozen=True)
class GainCell:
    """A score or a difference in words; ``apart`` where the interval of a difference leaves out 0."""

    value: str | None
    interval: str | None
    reason: str
    apart: bool = False


@dataclass(frozen=True)
class ImageFreeSection:
    """All that the section says."""

    sentence: str
    heads: list[str]
    rows: list[tuple[str, list[GainCell]]]
    with_giving_away: list[tuple[str, GainCell]]
    giving_away: str
    columns: tuple[str, ...]
    left_out: list[tuple[str, str]]
    method: str
    n: int
    clusters: int
    unit: str
    draws: int
    seed: int


def image_free_section(
    held: ImageFreeScores, scores: Sequence[Mapping[str, Score]], titles: Sequence[str], heads: Sequence[str]
) -> ImageFreeSection:
    """Return what the page says of the columns alone.

    Args:
        held: what was scored.
        scores: of each of the predictions, by name.
        titles: what the page calls them.
        heads: the same for the columns of the table: a letter, or a few words.
    """
    rows = []
    for name, base in held.scores.items():
        cells = [_cell(base)]
        for own, gain in zip(scores, held.gains, strict=True):
            cells += [_cell(own[name]), _cell(gain[name], gap=True)]
        rows.append((score_words(name).title, cells))
    both = held.with_giving_away or {}
    return ImageFreeSection(
        sentence=held.sentence(titles),
        heads=["Columns alone", *(head for one in heads for head in (one, f"{one} − columns"))],
        rows=rows,
        with_giving_away=[(score_words(n).title, _cell(both[n])) for n in HEADLINES if n in both],
        giving_away=_and(held.giving_away),
        columns=held.columns,
        left_out=list(held.left_out.items()),
        method=(
            f"A linear probe on {plural(held.features, 'number')} a row (words as 0 and 1, an empty cell as "
            f"a word of its own, numbers as they are and in bands), fitted on the same "
            f"{plural(held.trained, 'training row')}; its strength was chosen by {held.chosen_on}"
        ),
        n=held.n,
        clusters=held.clusters,
        unit=held.unit,
        draws=held.draws,
        seed=held.seed,
    )


def _cell(score: Score, *, gap: bool = False) -> GainCell:
    between = interval(score)
    known = score.low is not None and score.high is not None
    if gap and score.low is not None and score.high is not None:
        between = f"{signed(score.low)} to {signed(score.high)}"
    apart = gap and known and not (score.low or 0) <= 0 <= (score.high or 0)
    value = None if score.value is None else (signed if gap else number)(score.value)
    return GainCell(value, between, (score.reason or "").removeprefix("no interval: "), apart)


def _in_words(score: Score) -> str:
    value = number(score.value) if score.value is not None else "–"
    return f"{value} ({interval(score) or score.reason})"


def _and(words: Sequence[str]) -> str:
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _plain(scores: Mapping[str, Score]) -> dict[str, Any]:
    return {name: score.as_dict() for name, score in scores.items()}
