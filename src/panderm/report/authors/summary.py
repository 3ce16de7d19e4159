"""What a clinician reads first: the findings in plain sentences, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from panderm.errors import plural
from panderm.report.authors import findings
from panderm.report.authors.cautions import cautions, voiding
from panderm.report.authors.frequencies import hundred, plainly, quoted
from panderm.report.entry import Entry
from panderm.report.several.keys import letter_of
from panderm.report.several.tests import p_value
from panderm.report.words import HEADLINES, score_words
from panderm.scores import LEVEL, Score
from panderm.scores.compared import ComparedPair, Comparison

# Of more entries than this, sentences name those that lie apart only.
_NAMED = 6


def summary_sentences(entries: Sequence[Entry], comparison: Comparison | None = None) -> list[str]:
    """Return the findings of a page, the most important first.

    Shares are told as natural frequencies, each with its interval; nothing is called good or bad. What takes
    all meaning from the numbers comes first, what they must not be taken for comes last.

    Args:
        entries: one, or several of the same rows; the first is the one the others are compared with.
        comparison: tests of several, in the entries' order; without them, intervals alone tell entries apart.
    """
    if not entries:
        return []
    return _of_one(entries[0]) if len(entries) == 1 else _of_several(entries, comparison)


def _of_one(entry: Entry) -> list[str]:
    scores = entry.scores
    told = (
        findings.ranking(scores),
        findings.naming(scores),
        findings.at_the_threshold(scores),
        findings.when_called(scores),
        findings.honesty(scores),
        findings.malignant_found(scores),
        findings.weakest(scores),
    )
    found = [*voiding(entry), findings.asked(entry), *(one for one in told if one)]
    return [*found, f"What these numbers are not. {' '.join(cautions(entry))}"]


def _of_several(entries: Sequence[Entry], comparison: Comparison | None) -> list[str]:
    first = entries[0]
    known_as = [letter_of(i) for i in range(len(entries))]
    void: dict[str, list[str]] = {}
    for letter, entry in zip(known_as, entries, strict=True):
        for sentence in voiding(entry):
            void.setdefault(sentence, []).append(letter)
    found = [f"{', '.join(who)}: {sentence}" for sentence, who in void.items()]
    found.append(findings.asked(first))
    name = next((n for n in HEADLINES if n in first.scores.scores), None)
    if name is None:
        return found
    found.append(_beside(entries, known_as, name))
    tested = None if comparison is None else _apart_by_test(comparison, known_as, name)
    found.append(tested or _apart(entries, known_as, name))
    if tested is None and comparison is not None:  # where too few show a class, another score may be tested
        scores = dict.fromkeys(pair.score for pair in comparison.pairs if pair.score != name)
        others = (_apart_by_test(comparison, known_as, score) for score in scores)
        found += [other for other in others if other is not None][:1]
    found += _thresholds(entries, known_as)
    found += [malignant] if (malignant := _malignant(entries, known_as)) else []
    found += [mind] if (mind := findings.mind_the_positive(first.scores)) else []
    # All are of the same rows: a user's own file of them is no dataset of its own beside their table.
    of_table = [entry.predictions.card.embeddings is not None for entry in entries]
    named = of_table if any(of_table) else [entry is first for entry in entries]
    every = dict.fromkeys(
        sentence
        for entry, its in zip(entries, named, strict=True)
        for sentence in cautions(entry, dataset=its)
    )
    return [*found, f"What these numbers are not. {' '.join(every)}"]


def _beside(entries: Sequence[Entry], known_as: Sequence[str], name: str) -> str:
    title = score_words(name).title
    told = []
    for letter, entry in zip(known_as, entries, strict=True):
        score = entry.scores.scores[name]
        told.append(f"{letter} {_value(score, name)}")
    if name.startswith("auroc"):
        pairs = f"of 100 pairs of two classes, put the right way round ({title}; guessing gives 50)"
        return f"Ranking: {pairs}: {', '.join(told)}."
    return f"{title}: {', '.join(told)}."


def _value(score: Score, name: str) -> str:
    told = hundred(score) if name.startswith("auroc") else plainly(score)
    return told or f"cannot be told ({score.reason})"


def _apart(entries: Sequence[Entry], known_as: Sequence[str], name: str) -> str:
    """Say whose difference to the first leaves out 0, in the score to read first, and in any other."""
    title, others = score_words(name).title, list(zip(known_as, entries, strict=True))[1:]
    apart, held = [], 0
    for letter, entry in others:
        one = entry.differences.get(name)
        if one is None or one.low is None or one.high is None:
            continue
        held += 1
        if not one.low <= 0 <= one.high:
            apart.append(f"{letter} − {known_as[0]} {plainly(one, 3)}")
    if not held:
        return f"Differences in {title} have no interval: none can be told from A."
    against = f"the difference to {known_as[0]}" if held == 1 else f"{held} differences to {known_as[0]}"
    if not apart:
        told = [
            f"{letter} − {known_as[0]} {plainly(entry.differences.get(name), 3)}" for letter, entry in others
        ]
        shown = f" ({'; '.join(told)})" if len(told) <= _NAMED else ""
        verb = "holds" if held == 1 else "all hold"
        none = f"None can be told apart in {title}: the interval of {against} {verb} 0{shown}"
        return f"{none}. That does not show that they are equal."
    more = (
        ""
        if held == 1
        else " They are not corrected for being several: see panderm compare for p after Holm."
    )
    return f"Differing in {title}, the interval leaving out 0: {'; '.join(apart)}.{more}"


def _apart_by_test(comparison: Comparison, known_as: Sequence[str], name: str) -> str | None:
    """Say whose difference to the first is there after Holm's correction; None where this was not tested."""
    letters = {model.name: letter for model, letter in zip(comparison.models, known_as, strict=True)}
    pairs = [p for p in comparison.pairs if p.score == name and p.first == comparison.models[0].name]
    pairs = [p for p in pairs if p.p_holm is not None and p.difference.low is not None]
    if not pairs:
        return None
    apart = [p for p in pairs if p.p_holm is not None and p.p_holm < 1 - LEVEL]
    shown = apart or pairs[:_NAMED]
    told = [f"{letters[p.other]} − {known_as[0]} {plainly(p.difference, 3)}, {_p(p)}" for p in shown]
    title = score_words(name).title
    corrected = f"p corrected by Holm for {plural(comparison.family, 'test')}"
    if apart:
        return f"Differing from {known_as[0]} in {title} ({corrected}): {'; '.join(told)}."
    none = f"None can be told from {known_as[0]} in {title} ({corrected}): {'; '.join(told)}"
    return f"{none}. That does not show that they are equal."


def _malignant(entries: Sequence[Entry], known_as: Sequence[str]) -> str | None:
    """Say how many of each malignant class each finds, by the most probable class."""
    told = []
    for name in findings.dangerous(entries[0].scores.classes):
        every = [entry.scores.per_class[name] for entry in entries]
        shares = [f"{a} {hundred(one.sensitivity) or '—'}" for a, one in zip(known_as, every, strict=True)]
        told.append(f"“{name}” ({every[0].n:,}) {', '.join(shares)}")
    if not told:
        return None
    return f"Taken by the most probable class, of 100 of a malignant class found: {'; '.join(told)}."


def _thresholds(entries: Sequence[Entry], known_as: Sequence[str]) -> list[str]:
    """Say what each finds and calls at its first operating point, where that is of one target for all."""
    held = [entry.scores.operating for entry in entries]
    points = [None if one is None else findings.first_point(one) for one in held]
    first, told = held[0], []
    if first is None or any(p is None or points[0] is None or p.target != points[0].target for p in points):
        return []
    for letter, point in zip(known_as, points, strict=True):
        assert point is not None
        found = hundred(point.scores.get("sensitivity"))
        alarms = hundred(point.scores.get("specificity"), others=True)
        told.append(f"{letter} finds {found or '—'} and calls {alarms or '—'}")
    assert points[0] is not None
    where = (
        "other rows, and locked"
        if all(one is not None and one.locked for one in held)
        else "the rows scored in part"
    )
    aim = points[0].target.words
    each = f"Each at its own threshold ({aim}; chosen on {where})"
    positive = quoted(first.positive)
    return [f"{each}, of 100 {positive} and of 100 others: {'; '.join(told)}."]


def _p(pair: ComparedPair) -> str:
    told = p_value(pair.p_holm)
    return f"p {told}" if told.startswith("<") else f"p = {told}"
