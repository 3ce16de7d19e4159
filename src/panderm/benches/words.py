"""A benchmark in words: the cells of its tables, and the paragraph for a paper's methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from panderm.benches.cells import Cell
from panderm.benches.compared import Column
from panderm.errors import plural, some
from panderm.report.words import interval, number, score_words, signed, units
from panderm.scores import LEVEL, Score

if TYPE_CHECKING:
    from panderm.benches.benchmark import Benchmark

BEST = (
    "the highest score, where the interval of its difference to the second highest leaves out 0; "
    "that interval is not corrected for the number of datasets."
)
BOLD = f"Bold: {BEST}"
_LEVEL = f"{LEVEL:.0%}".replace("%", " %")
_PROBES = {
    "linear": "logistic regression",
    "knn": "a nearest-neighbour classifier",
    "prototypes": "a nearest-class-mean classifier",
    "attentive": "an attentive probe on patch tokens",
    "mlp": "a perceptron with one hidden layer",
}
_RECIPES = {
    "tuned": "an L2 penalty whose strength was chosen on the validation rows (100 or more, and not those "
    "scored), else by grouped cross-validation of the training rows",
    "paper": "the penalty and solver of the published code",
}


def cell_text(score: Score) -> str:
    """Return ``"0.781 (0.752–0.809)"``, a value without interval, or a dash."""
    if score.value is None:
        return "–"
    between = interval(score)
    return number(score.value) if between is None else f"{number(score.value)} ({between})"


def difference_text(score: Score) -> str:
    """Return ``"+0.021 (+0.004 to +0.038)"``, or a dash."""
    if score.value is None:
        return "–"
    if score.low is None or score.high is None:
        return signed(score.value)
    return f"{signed(score.value)} ({signed(score.low)} to {signed(score.high)})"


def p_text(p: float | None) -> str:
    """Return a p-value with three decimals, or what it is smaller than."""
    if p is None:
        return "–"
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def score_title(column: Column) -> str:
    """Return the name of the score a column shows."""
    return "no score" if column.score is None else score_words(column.score).title


def rows_text(column: Column) -> str:
    """Return what was scored: images, split, units and classes."""
    cell = column.scored
    if cell is None or cell.scores is None:
        return "nothing was scored"
    its = cell.scores
    told = f"{plural(its.n, 'image')} of {its.split}"
    if its.unit != "image":
        told += f", {plural(its.clusters, its.unit)}"
    return f"{told}, {plural(len(its.classes), 'class', 'classes')}"


def rank_text(done: Benchmark, encoder: int) -> str:
    """Return an average rank with two decimals, or a dash."""
    rank = float(done.ranks.ranks[encoder])
    return f"{rank:.2f}" if rank == rank else "–"


def ranks_text(done: Benchmark) -> str:
    """Say what the average ranks rest on, and Friedman's test where it can be made."""
    used = [column.dataset for column, in_ in zip(done.columns, done.ranks.used, strict=True) if in_]
    if not used:
        return "No average rank: there is no dataset where every encoder that has any has a score."
    told = f"Average rank over {plural(len(used), 'dataset')} ({some(used, 12)}), 1 the best"
    if done.ranks.p is None:
        return f"{told}; {done.ranks.reason}."
    small = ", an approximation with so few" if len(used) <= 10 else ""
    return f"{told}; Friedman's test that all rank alike: p = {p_text(done.ranks.p)}{small} (Demšar 2006)."


def tests_text(done: Benchmark) -> str:
    """Say how the comparisons with the reference were made."""
    its, tests = done.settings, [one for one in done.comparisons if one.test is not None and one.test.p]
    exact = any(one.test is not None and one.test.exact for one in tests)
    all_of_them = "; where there are fewer different ones, all of them" if exact else ""
    return (
        f"Each difference from {done.reference} has a {_LEVEL} interval on the same {its.draws:,} bootstrap "
        f"draws, and the p-value of a two-sided paired permutation test: both encoders' predictions are "
        f"swapped for whole units, {its.permutations:,} times{all_of_them}, the observed difference counted "
        f"as one of them (Phipson and Smyth 2010); these p-values are corrected after Holm (1979), over "
        f"the {plural(len(tests), 'test')} of this table."
    )


def methods(done: Benchmark) -> str:
    """Return the methods paragraph."""
    its, scored = done.settings, [column for column in done.columns if column.scored is not None]
    told = [
        f"We compared {plural(len(done.encoders), 'frozen image encoder')} ({some(done.encoders, 30)}) on "
        f"{plural(len(scored), 'dataset')}: "
        f"{'; '.join(f'{c.dataset} ({rows_text(c)}; {score_title(c)})' for c in scored) or 'none'}.",
        f"On the embeddings of each encoder {_PROBES[its.kind]} was fitted to the training rows"
        + (f", with {_RECIPES[its.recipe]}" if its.kind == "linear" else "")
        + f" (seed {its.seed}); the rows that are scored took no part in the fit.",
        f"Scores have {_LEVEL} percentile intervals from {its.draws:,} bootstrap draws (seed {its.seed}) of "
        f"whole units: {_units(scored)}.",
    ]
    if len(done.encoders) > 1:
        told += [tests_text(done), ranks_text(done), BOLD]
    if done.failed:
        told.append(f"{plural(len(done.failed), 'cell')} of the table could not be made.")
    versions = ", ".join(f"{name} {version}" for name, version in done.made.versions.items())
    told.append(f"Computed with panderm {done.made.panderm} ({versions}).")
    return " ".join(told)


def failures(done: Benchmark) -> list[tuple[str, str, str]]:
    """Return datasets, encoders and problem of the cells that failed; one problem of many is told once."""
    by_problem: dict[str, list[Cell]] = {}
    for cell in done.failed:
        by_problem.setdefault(cell.problem or "", []).append(cell)
    told: list[tuple[str, str, str]] = []
    for problem, cells in by_problem.items():
        datasets, encoders = ([*dict.fromkeys(names)] for names in zip(*_names(cells), strict=True))
        if len(datasets) * len(encoders) == len(cells):
            told.append((", ".join(datasets), ", ".join(encoders), problem))
        else:
            told += [(*names, problem) for names in _names(cells)]
    return told


def _names(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    return [(cell.dataset, cell.encoder) for cell in cells]


def _units(columns: Sequence[Column]) -> str:
    by_unit: dict[str, list[str]] = {}
    for column in columns:
        if column.scored is not None and column.scored.scores is not None:
            by_unit.setdefault(column.scored.scores.unit, []).append(column.dataset)
    return "; ".join(f"{units(unit)} ({some(names, 30)})" for unit, names in by_unit.items()) or "none"
