"""The findings of one evaluation, each a plain sentence whose numbers are those of the scores."""

from __future__ import annotations

from collections.abc import Sequence

from panderm.data.diagnoses import read_map
from panderm.errors import plural, some
from panderm.report.authors.frequencies import hundred, of_100, plainly, quoted
from panderm.report.entry import Entry
from panderm.report.words import number, score_words, units
from panderm.scores import LevelScores, Score, Scores, headline
from panderm.scores.operating import Operating, OperatingPoint

# More classes than this are counted, the commonest named.
_NAMED = 8


def asked(entry: Entry) -> str:
    """Say what was asked of how many images of how many patients, and how common each answer is."""
    scores = entry.scores
    counts = {name: one.n for name, one in scores.per_class.items()}
    by_size = sorted(counts.items(), key=lambda one: -one[1])
    if len(counts) == 2:
        first = dangerous(scores.classes)[:1] or (positive_of(scores) or scores.classes)[:1]
        n = counts[first[0]]
        told = f"{n:,} of them are “{first[0]}”, {of_100(n / scores.n)} of 100"
    else:
        told = "the truth: " + some([f"“{name}” {n:,}" for name, n in by_size], _NAMED)
    question = quoted(scores.classes) if len(counts) <= _NAMED else f"one of {len(counts)} classes"
    return (
        f"Asked of {plural(scores.n, scores.row)}{scores.of_units}: {question}? {told[0].upper()}{told[1:]}. "
        f"Brackets hold 95 % intervals, from {plural(scores.draws, 'draw')} of {_units(scores)}."
    )


def ranking(scores: Scores) -> str | None:
    """Say the AUROC as pairs that are ranked the right way round."""
    name = "auroc" if "auroc" in scores.scores else "auroc_ovo"
    score = scores.scores.get(name)
    if score is None:
        return None
    if score.value is None:
        return f"{score_words(name).title} cannot be told: {score.reason}."
    within = " of one fold" if scores.folds is not None else ""
    if name == "auroc":
        both = dangerous(scores.classes)
        ordered = sorted(scores.classes, key=lambda one: one not in both)
        pairs = f"100 pairs{within}, one “{ordered[0]}” and one “{ordered[1]}”"
    else:
        pairs = f"100 pairs{within} of two classes, averaged over all pairs of classes"
    told = f"Ranking: of {pairs}, {hundred(score)} are put the right way round (AUROC); guessing gives 50."
    if score.low is not None and score.low <= 0.5:
        told += " The interval holds 50: that it guesses is not ruled out."
    return told


def naming(scores: Scores) -> str | None:
    """Say how often the true class is the most probable one, beside always naming the commonest."""
    right = hundred(scores.scores.get("accuracy"))
    if len(scores.classes) == 2 or right is None:
        return None
    name, n = max(((name, one.n) for name, one in scores.per_class.items()), key=lambda one: one[1])
    told = f"Naming: the most probable class is the true one in {right} of 100 {scores.row}s; "
    told += f"always saying “{name}” would be right in {of_100(n / scores.n)}."
    balanced = scores.scores.get("balanced_accuracy")
    alike = hundred(balanced)
    if alike is None:
        return told
    return f"{told} Each class counting alike, it is {alike}; guessing gives {100 / len(scores.classes):.0f}."


def at_the_threshold(scores: Scores) -> str | None:
    """Say what the first operating point finds and what it calls in vain, in natural frequencies."""
    held = scores.operating
    if held is None:
        return None
    point = first_point(held)
    if point is None:
        return f"No threshold: {held.points[0].reason}." if held.points else None
    positive, row = quoted(held.positive), scores.row
    found = hundred(point.scores.get("sensitivity"), note=f"{point.tp:,} of {point.tp + point.fn:,} here")
    alarms = hundred(
        point.scores.get("specificity"), others=True, note=f"{point.fp:,} of {point.fp + point.tn:,} here"
    )
    told = (
        f"At the threshold {aimed(held, point)}: of 100 {positive} {row}s it finds {found or '?'}, "
        f"and of 100 others it calls {alarms or '?'} positive."
    )
    mind = mind_the_positive(scores)
    return f"{told} {mind}" if mind else told


def mind_the_positive(scores: Scores) -> str | None:
    """Say that what counts as positive is nothing malignant, where another class is."""
    bad, positive = dangerous(scores.classes), positive_of(scores)
    if not bad or not positive or set(positive) & set(bad):
        return None
    named = bad[0] if len(bad) == 1 else "malignant"
    return f"Mind that {quoted(positive)} counts as positive; to count what is malignant: --positive {named}."


def when_called(scores: Scores) -> str | None:
    """Say how many of those called are positive, at each stated prevalence or at that of these rows."""
    held = scores.operating
    point = None if held is None else first_point(held)
    if held is None or point is None:
        return None
    positive = quoted(held.positive)
    if point.at:
        told = []
        for at in point.at:
            called = hundred(at.ppv, fine=(at.ppv.value or 0) < 0.1)
            if called is None:
                continue
            needed = plainly(at.number_needed_to_biopsy, 1)
            each = f", {needed} called for each that is" if needed else ""
            told.append(f"Were {at.prevalence:.1%}".replace(".0%", "%").replace("%", " %") + f" {positive}: "
                        f"of 100 called positive, {called} are{each}.")  # fmt: skip
        return " ".join(told) or None
    called = hundred(point.scores.get("ppv"))
    if called is None:
        return None
    share = (point.tp + point.fn) / max(1, point.tp + point.fp + point.fn + point.tn)
    return (
        f"Of 100 called positive, {called} are {positive}, at {of_100(share)} of 100 among these "
        f"{scores.row}s. Where they are rarer it is less: name a clinic’s share with --prevalence."
    )


def honesty(scores: Scores) -> str | None:
    """Say in a sentence whether probabilities are right as often as they say."""
    held = scores.calibration
    if held is None:
        return None
    told = held.given.scores
    slope, intercept, off = (told.get(n) for n in ("calibration_slope", "calibration_intercept", "ece"))
    parts = []
    if plainly(slope):
        parts.append(f"slope {plainly(slope)}, 1 being right: {_sureness(slope)}")
    if plainly(intercept):
        parts.append(f"intercept {plainly(intercept)}, 0 being right: {_level(intercept)}")
    if plainly(off):
        parts.append(f"calibration error {plainly(off)}, 0 being no more than chance")
    return f"Probabilities {held.probability}: {'; '.join(parts)}." if parts else None


def malignant_found(scores: Scores) -> str | None:
    """Say how many of each malignant class are found, by the most probable class."""
    told = []
    for name in dangerous(scores.classes):
        one = scores.per_class[name]
        found = hundred(one.sensitivity, note=plural(one.n, scores.row))
        told.append(f"“{name}” {found}" if found else f"“{name}” cannot be told ({one.sensitivity.reason})")
    if not told:
        return None
    return f"Taken by the most probable class, of 100 of a malignant class it finds: {', '.join(told)}."


def weakest(scores: Scores) -> str | None:
    """Say which subgroup fares worst, how far from the rest, and how sure that is."""
    held = scores.subgroups
    if held is None:
        return None
    name = headline(held)
    every = [(column.column, level) for column in held.columns for level in column.levels]
    told = [(column, level) for column, level in every if level.scores[name].value is not None]
    silent = len(every) - len(told)
    few = f" Of {plural(silent, 'group')} nothing can be said: too few." if silent else ""
    if len(told) < 2:
        return f"Subgroups: too few to compare.{few}"
    column, level = min(told, key=lambda one: one[1].scores[name].value or 0)
    return f"{_of_weakest(column, level, name, len(told))}{few}"


def _of_weakest(column: str, level: LevelScores, name: str, groups: int) -> str:
    score, gap = level.scores[name], level.gaps[name]
    title = score_words(name).title
    told = f"Weakest of {groups} subgroups: {column} {level.level} ({level.n:,}), {title} {plainly(score)}, "
    if gap.value is None:
        return f"{told}with no gap to the rest: {gap.reason}."
    told += f"{plainly(gap)} from all others. "
    if gap.low is None or gap.high is None:
        return f"{told}How sure that is cannot be told."
    if gap.low <= 0 <= gap.high:
        return f"{told}That interval holds 0: chance alone may do this."
    return f"{told}That interval leaves out 0, as one in twenty does by chance; {groups} were looked at."


def dangerous(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the classes that the diagnosis map calls malignant, in whichever dataset's words."""
    return tuple(
        name for name in classes if {r.malignant for r in read_map() if r.label == name} == {"malignant"}
    )


def positive_of(scores: Scores) -> tuple[str, ...]:
    """Return the classes that count as positive; none where no one said and there are more than two."""
    if scores.operating is not None:
        return scores.operating.positive
    return scores.classes[1:] if len(scores.classes) == 2 else ()


def first_point(held: Operating) -> OperatingPoint | None:
    """Return the first operating point that has a threshold."""
    return next((point for point in held.points if point.threshold is not None), None)


def aimed(held: Operating, point: OperatingPoint) -> str:
    """Return what a threshold is, what it was to reach, and on which rows it was chosen."""
    assert point.threshold is not None
    if point.target.aim == "threshold":
        return f"{number(point.threshold)}, which was given"
    chosen = (
        f"chosen on {held.chosen_on} and locked" if held.locked else "chosen on the rows scored themselves"
    )
    return f"{number(point.threshold)}, {chosen} ({point.target.words})"


def _units(scores: Scores) -> str:
    return "images" if scores.unit == "image" else f"whole {units(scores.unit)}"


def _sureness(slope: Score | None) -> str:
    if slope is None or slope.low is None or slope.high is None:
        return "how sure that is cannot be told"
    if slope.high < 1:
        return "surer than it is right"
    return (
        "less sure than it could be"
        if slope.low > 1
        else "neither too sure nor too cautious, as far as can be told"
    )


def _level(intercept: Score | None) -> str:
    if intercept is None or intercept.low is None or intercept.high is None:
        return "how sure that is cannot be told"
    if intercept.low > 0:
        return "too low on the whole"
    return (
        "too high on the whole"
        if intercept.high < 0
        else "neither too high nor too low, as far as can be told"
    )
