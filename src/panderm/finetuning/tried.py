"""What came of each setting of a search: a table and a few lines, paired on the validation rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from panderm.errors import plural
from panderm.finetuning.finished import Finetuned
from panderm.finetuning.grid import Settings, in_words
from panderm.finetuning.scoring import scorer_of
from panderm.predictions import MultiLabelPredictions
from panderm.scores.resampled import Drawn, Resampling
from panderm.scores.score import Score

Floats = npt.NDArray[np.float64]

_TINY = 1e-12  # the least probability that has a logit


@dataclass(frozen=True)
class Tried:
    """What came of one setting.

    Attributes:
        settings: by the options' names.
        names: of its runs' folders, one a repeat.
        values: of each run, the score of its best epoch.
        epochs: that each run kept.
        score: mean of the runs', with an interval over the rows' units: what the runs differ by besides, is
            not in it.
        against: it minus that of the best setting, on the same draws; None of the best itself.
    """

    settings: Settings
    names: tuple[str, ...]
    values: tuple[float, ...]
    epochs: tuple[int, ...]
    score: Score
    against: Score | None = None

    @property
    def sd(self) -> float | None:
        """Standard deviation between the runs, by n - 1; None of one run."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None

    def as_dict(self) -> dict[str, Any]:
        return {
            "settings": self.settings,
            "runs": list(self.names),
            "values": list(self.values),
            "epochs": list(self.epochs),
            "score": self.score.as_dict(),
            "sd": self.sd,
            "against the best": None if self.against is None else self.against.as_dict(),
        }


def compared(
    settings: Sequence[Settings], made: Sequence[Sequence[Finetuned]], *, draws: int, seed: int
) -> tuple[list[Tried], Resampling, str]:
    """Compare settings by the validation rows of their runs, paired.

    Args:
        settings: that were tried.
        made: the runs of each.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        What came of each, in the order given; how units were drawn; the score's name.
    """
    first = made[0][0].predictions
    # Within classes, as after each epoch: of a class of three, plain draws would often have none.
    within = None
    if not isinstance(first, MultiLabelPredictions):
        within = first.truth_codes()[:, None] == np.arange(len(first.classes))
    engine = Resampling.of(first, draws=draws, seed=seed, within=within)
    score = result_of(made[0][0])["score"]
    each = [[_statistic(one, score) for one in runs] for runs in made]

    def means(weights: Any) -> dict[str, Floats]:
        return {str(i): np.mean([of(weights) for of in runs], axis=0) for i, runs in enumerate(each)}

    drawn: Drawn = engine.drawn(means)
    worth = [worth_of(float(drawn.values[str(i)][0]), less=score == "loss") for i in range(len(each))]
    best = int(np.argmax(worth))
    tried = [
        Tried(
            settings=one,
            names=tuple(run.folder.name for run in made[i]),
            values=tuple(float(of(None)[0]) for of in each[i]),
            epochs=tuple(int(result_of(run)["best"]) for run in made[i]),
            score=drawn.score(str(i)),
            against=None if i == best else drawn.minus(drawn, str(best), other=str(i)),
        )
        for i, one in enumerate(settings)
    ]
    return tried, engine, score


def _statistic(run: Finetuned, score: str) -> Callable[[Any], Floats]:
    made = run.predictions
    p = np.clip(made.probabilities, _TINY, 1 - _TINY)
    several = isinstance(made, MultiLabelPredictions)
    if isinstance(made, MultiLabelPredictions):
        truth, logits = made.truth, logit(p)
    else:
        truth = (made.truth_codes()[:, None] == np.arange(len(made.classes))).astype(np.int8)
        logits = np.log(p)
    statistic, _ = scorer_of(truth, logits, made.classes, several=several)
    return lambda weights: np.asarray(statistic(weights)[score], dtype=np.float64)


def worth_of(value: float | None, *, less: bool) -> float:
    """Return a value so that more is better; of one that cannot be computed the least."""
    if value is None or not np.isfinite(value):
        return -np.inf
    return -value if less else value


def result_of(run: Finetuned) -> dict[str, Any]:
    """Return what came of a finished run, as its card tells it."""
    assert run.card.result is not None
    return run.card.result


def table_of(ranked: Sequence[Tried], facts: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return the table as CSV, a setting a row, in the order given."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    told = ("value", "low", "high", "sd_of_repeats", "least", "most", "difference", "difference_low")
    writer.writerow(
        [*names, "score", *told, "difference_high", "reason", "repeats", "values", "epochs_kept", "runs"]
        + [key for key in facts if key != "score"]
    )
    for one in ranked:
        against = one.against or Score(None, None, None)
        writer.writerow(
            [*(one.settings[name] for name in names), facts["score"]]
            + [one.score.value, one.score.low, one.score.high, one.sd, min(one.values), max(one.values)]
            + [against.value, against.low, against.high, one.score.reason, len(one.values)]
            + [" ".join(map(str, many)) for many in (one.values, one.epochs, one.names)]
            + [value for key, value in facts.items() if key != "score"]
        )
    return text.getvalue()


def words_of(ranked: Sequence[Tried], facts: Mapping[str, Any]) -> list[str]:
    """Return what the table says, for the terminal."""
    repeats = len(ranked[0].values)
    mean = f", mean of {repeats} repeats" if repeats > 1 else ""
    lines = [
        f"{facts['score']} of {plural(facts['n'], 'validation row')}{mean} (95 % interval over "
        f"{plural(facts['units'], facts['unit'])}, {facts['draws']:,} draws"
        f"{' within classes' if facts['strata'] else ''}, seed {facts['bootstrap_seed']}):"
    ]
    close = []
    for one in ranked:
        text = f"  {in_words(one.settings)}: {_value(one.score)}"
        if repeats > 1:
            text += f", repeats {min(one.values):.3f} to {max(one.values):.3f}"
        text += f", epoch {' '.join(map(str, one.epochs))}"
        if one.against is not None:
            text += f"; to the best {_value(one.against, sign='+')}"
            low, high = one.against.low, one.against.high
            if low is None or high is None or low <= 0 <= high:
                close.append(in_words(one.settings))
        lines.append(text)
    if close:
        lines.append(f"these rows do not tell the best from {plural(len(close), 'other setting')}")
    lines.append(
        f"the best of {len(ranked)} looks better on the rows it was chosen by than on others: "
        "what it is worth, the test rows say"
    )
    return lines


def _value(score: Score, sign: str = "") -> str:
    if score.value is None:
        return score.reason or "not computable"
    ends = "" if score.low is None else f" ({score.low:{sign}.3f} to {score.high:{sign}.3f})"
    return f"{score.value:{sign}.3f}{ends}"
