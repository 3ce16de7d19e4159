"""The section on tests of several entries: effect with its interval first, p-value after."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from panderm.errors import plural
from panderm.report.section import Rows, Section
from panderm.report.several.keys import Key
from panderm.report.words import score_words, signed, units, verdict
from panderm.scores import LEVEL, Score
from panderm.scores.compared import ComparedPair, Comparison

_HEADER = ("Compared", "Difference", "p", "p, Holm", "Other tests of the same difference")


def tests_section(found: Comparison, keys: Sequence[Key]) -> Section:
    """Return what :func:`panderm.compare` found.

    Args:
        found: of the entries, in their order.
        keys: of the entries.
    """
    letters = {model.name: key.letter for model, key in zip(found.models, keys, strict=True)}
    rows = [_row(pair, letters[pair.first], letters[pair.other]) for pair in found.pairs]
    scores = list(dict.fromkeys(score_words(pair.score).title for pair in found.pairs))
    whole = units(found.unit)
    worlds = max((pair.worlds for pair in found.pairs), default=0)
    swaps = f"all {worlds:,} swaps there are" if any(p.exact for p in found.pairs) else f"{worlds:,} swaps"
    level = f"{LEVEL:.0%}".replace("%", " %")
    intro = [
        f"{' and '.join(scores)} are tested, as panderm compare does unless it is asked for others. p is of "
        f"a permutation test that swaps the two answers for whole {whole} ({swaps}, seed {found.seed}); the "
        f"second is corrected by Holm for {plural(found.family, 'test')}. Two-sided. A large p does not "
        "show that two are alike: the interval says how far apart they may be."
    ]
    if not worlds:
        intro = [f"{' and '.join(scores)} were to be tested; on these rows nothing can be said."]
    caption = f"Differences with their {level} intervals, and the tests of no difference"
    return Section("tests", "Tests of the differences", intro, [Rows(caption, _HEADER, rows)])


def p_value(p: float | None) -> str:
    """Return a p-value with three decimals, ``"< 0.001"`` below that, a dash where there is none."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _row(pair: ComparedPair, first: str, other: str) -> tuple[str, ...]:
    return (
        f"{score_words(pair.score).title}, {other} − {first}",
        _difference(pair.difference),
        p_value(pair.p),
        p_value(pair.p_holm),
        _others(pair, first, other) or "–",
    )


def _others(pair: ComparedPair, first: str, other: str) -> str:
    """Return other tests in a line, those of the same counts together."""
    found = []
    for note, tests in groupby(pair.tests, key=lambda test: test.note):
        told = note.replace("the first", first).replace("the other", other).replace("-", "−")
        values = [f"{test.name}: p {p_value(test.p)}" for test in tests if test.p is not None]
        found.append(", ".join([*values, told]))
    return "; ".join(found)


def _difference(one: Score) -> str:
    if one.value is None:
        reason = (one.reason or "").replace("too few to say: ", "")
        return f"{verdict(one)}: {reason}"
    if one.low is None or one.high is None:
        return f"{signed(one.value)} ({one.reason or 'no interval'})"
    return f"{signed(one.value)} ({signed(one.low)} to {signed(one.high)})"
