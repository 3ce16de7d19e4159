"""The page's sections on decisions: operating points, calibration, prediction sets, abstention, hierarchy.

Each is made from the entries of a page. One entry has one table a question, whose columns are the answers; of
several, each such column is a table of its own, whose columns are the entries: see ``crossed``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from panderm.errors import plural
from panderm.report.crossed import Cell, Columns, crossed
from panderm.report.drawing import bands
from panderm.report.entry import Entry
from panderm.report.recalibrated import elsewhere, fitted_in_words, recalibrated
from panderm.report.section import Drawing, Folded, Rows, Section
from panderm.report.several.keys import Key, each, keys_of
from panderm.report.words import number, score_words
from panderm.scores import Scores, headline
from panderm.scores.calibration import CalibrationOf
from panderm.scores.hierarchy import HierarchyLevel
from panderm.scores.operating import DecisionCurve, Operating, OperatingPoint, Target
from panderm.scores.prediction_sets import CoverageRow, PredictionSets, SetsBy
from panderm.scores.selective import Selective

_Held = TypeVar("_Held")
_ASIDE = (": Of one class", ": Empty")
_SETS = {"all": "One threshold for all rows", "class": "A threshold for each class"}


def decision_sections(entries: Sequence[Entry]) -> list[Section]:
    """Return the sections whose data there are, in the page's order.

    Args:
        entries: one, or several of the same rows.
    """
    made = (
        operating_section(entries),
        calibration_section(entries),
        sets_section(entries),
        selective_section(entries),
        top_k_section(entries),
        hierarchy_section(entries),
    )
    return [section for section in made if section is not None]


def operating_section(entries: Sequence[Entry]) -> Section | None:
    """Return thresholds, what they do, the decision curve, and sensitivity by diagnosis."""
    keys, held = keys_of(entries), _of(entries, lambda scores: scores.operating)
    if not any(held):
        return None
    tables = crossed("Operating points", keys, _if(held, _points), first="Score")
    tables += crossed("At stated prevalences", keys, _if(held, _stated), first="Point")
    tables += crossed("By diagnosis", keys, _if(held, _diagnoses), first="Diagnosis")
    intro = each(keys, [_chosen(one) if one else _NONE for one in held])
    curves = [one.decision if one else None for one in held]
    drawings = [_decision_curve(keys, curves)] if any(curves) else []
    return Section("operating", "Operating points", intro, tables, drawings)


def calibration_section(entries: Sequence[Entry]) -> Section | None:
    """Return scores and reliability of the probabilities as given and after each recalibration."""
    keys, held = keys_of(entries), _of(entries, lambda scores: scores.calibration)
    if not any(held):
        return None
    by_kind = [{one.of: one for one in (kept.given, *kept.recalibrated)} if kept else {} for kept in held]
    tables = crossed(
        "Calibration",
        keys,
        [
            {
                kind: {score_words(name).title: score for name, score in one.scores.items()}
                for kind, one in kinds.items()
            }
            for kinds in by_kind
        ],
        first="Score",
    )
    tables += crossed(
        "Recalibrated, less as given",
        keys,
        _if(held, recalibrated),
        first="Score",
    )
    tables += crossed("At the shares stated", keys, _if(held, elsewhere), first="Score")
    intro = each(keys, [fitted_in_words(one) if one else _NONE for one in held])
    intro.append(
        "The calibration error is the root mean square over ten bins, less what chance alone adds: 0 says "
        "that it cannot be told from chance, not that there is none."
    )
    probability = next(one.probability for one in held if one)
    return Section("calibration", "Calibration", intro, tables, _reliability(keys, by_kind, probability))


def sets_section(entries: Sequence[Entry]) -> Section | None:
    """Return what conformal sets cover, by class and by level, and how large they are."""
    keys, held = keys_of(entries), _of(entries, lambda scores: scores.prediction_sets)
    if not any(held):
        return None
    tables = []
    for by in dict.fromkeys(_kind(kind) for one in held if one for kind in one.kinds):
        kinds = [next((k for k in one.kinds if _kind(k) == by), None) if one else None for one in held]
        tables += crossed(by, keys, _if(kinds, _covered), first="Rows")
    tables += crossed("Sets by their number of classes", keys, _if(held, _sizes), first="Classes")
    intro = each(keys, [_asked(one) if one else _NONE for one in held])
    # Few ask for these of several entries, whose every column is a table.
    aside = [table for table in tables if table.caption.endswith(_ASIDE)]
    shown = [table for table in tables if table not in aside]
    folded = [Folded(table.caption, table, "values") for table in aside]
    return Section("sets", "Prediction sets", intro, shown, folded=folded)


def selective_section(entries: Sequence[Entry]) -> Section | None:
    """Return errors among the surest rows."""
    keys, held = keys_of(entries), _of(entries, lambda scores: scores.selective)
    if not any(held):
        return None
    tables = crossed("Risk", keys, _if(held, lambda one: {"Share wrong": _risks(one)}), first="Rows")
    lines = [
        bands.Line("risk" if len(keys) == 1 else key.name, one.coverage, one.risk, i, _label(keys, i))
        for i, (key, one) in enumerate(zip(keys, held, strict=True))
        if one
    ]
    svg, points = bands.curves(lines, across="share answered", up="share wrong", name="risk", floor=0)
    caption = f"{_lines(keys, held)}The surest rows first. {_pointwise(lines)}"
    drawing = Drawing("Risk-coverage curve", caption, svg, points=points, name="risk_coverage")
    intro = ["What is left of the errors where the least sure rows go to a person."]
    return Section("selective", "Selective prediction", intro, tables, [drawing])


def top_k_section(entries: Sequence[Entry]) -> Section | None:
    """Return how often the true class is among the most probable ones."""
    keys, held = keys_of(entries), _of(entries, lambda scores: scores.top_k)
    if not any(held):
        return None
    told = _if(held, lambda one: {"Share": {score_words(name).title: score for name, score in one.items()}})
    intro = ["How often the true class is among the two, three or five most probable."]
    return Section("top_k", "Top-k accuracy", intro, crossed("Top-k accuracy", keys, told, first="Score"))


def hierarchy_section(entries: Sequence[Entry]) -> Section | None:
    """Return the scores of each level, and the sensitivity of each group."""
    keys, held = keys_of(entries), _of(entries, lambda scores: scores.hierarchy)
    if not any(held):
        return None
    tables: list[Rows] = []
    for name in dict.fromkeys(level.level for one in held if one for level in one.levels):
        levels = [next((v for v in one.levels if v.level == name), None) if one else None for one in held]
        first = next(level for level in levels if level)
        left = f"; left out: {', '.join(first.left_out)}" if first.left_out else ""
        columns = _if(levels, lambda level: {"Value": _level(level)})
        tables += crossed(f"{name}: {first.n:,} rows{left}", keys, columns, first="Score")
    texts = [
        f"Probabilities of a group’s classes are added up. Groups: {one.source}." if one else _NONE
        for one in held
    ]
    return Section("hierarchy", "Diagnosis hierarchy", each(keys, texts), tables)


def subgroup_forest(entries: Sequence[Entry]) -> Drawing | None:
    """Draw the subgroups' score on one line; None where not all entries have the same groups."""
    keys, held = keys_of(entries), [entry.scores.subgroups for entry in entries]
    groups = [
        [f"{column.column}: {level.level}" for column in one.columns for level in column.levels]
        for one in held
        if one is not None
    ]
    first = held[0]
    if first is None or len(groups) < len(held) or any(one != groups[0] for one in groups):
        return None
    name = headline(first)
    models = [
        (
            key.name if len(keys) > 1 else key.title,
            entry.scores.scores[name],
            [level.scores[name] for column in one.columns for level in column.levels],
        )
        for key, entry, one in zip(keys, entries, held, strict=True)
        if one is not None
    ]
    svg, points = bands.forest(groups[0], models, across=score_words(name).title, name="forest")
    caption = "Squares are values, lines their intervals; the dotted line is the score of all."
    title = "Subgroups on one line"
    return Drawing(title, f"{_lines(keys, held)}{caption}", svg, wide=True, points=points, name="forest")


_NONE = "none of this was scored."


def _if(held: Sequence[_Held | None], made: Callable[[_Held], Columns]) -> list[Columns | None]:
    """Return what is made of each entry's section, None of one that has none."""
    return [None if one is None else made(one) for one in held]


def _of(entries: Sequence[Entry], held: Callable[[Scores], _Held | None]) -> list[_Held | None]:
    return [held(entry.scores) for entry in entries]


def _chosen(held: Operating) -> str:
    on = f"{held.chosen_on} ({held.positives:,} of {plural(held.n, 'row')} positive)"
    locked = (
        "they were locked before these rows were scored"
        if held.locked
        else "those are the rows scored: expect less on others"
    )
    return f"Positive: {', '.join(held.positive)}. Thresholds chosen on {on}; {locked}."


def _points(held: Operating) -> dict[str, dict[str, Cell]]:
    return {_aim(point.target): _point(point) for point in held.points}


def _point(point: OperatingPoint) -> dict[str, Cell]:
    if point.threshold is None:
        return {"Threshold": f"none: {point.reason}"}
    counts = {side.upper(): f"{getattr(point, side):,}" for side in ("tp", "fp", "fn", "tn")}
    scores = {score_words(name).title: score for name, score in point.scores.items()}
    chosen = {
        f"{name.capitalize()} on the rows that chose it": "—" if value is None else number(value)
        for name, value in point.chosen.items()
    }
    return {"Threshold": number(point.threshold), **chosen, **counts, **scores}


def _stated(held: Operating) -> dict[str, dict[str, Cell]]:
    found: dict[str, dict[str, Cell]] = {}
    for point in held.points:
        for at in point.at:
            row = f"{_aim(point.target)}, at {at.prevalence:.1%}".replace("%", " %")
            found.setdefault("PPV", {})[row] = at.ppv
            found.setdefault("NPV", {})[row] = at.npv
            found.setdefault("Number needed to biopsy", {})[row] = at.number_needed_to_biopsy
    return found


def _diagnoses(held: Operating) -> dict[str, dict[str, Cell]]:
    side = {True: "positive", False: "negative", None: "differs"}
    rows = {d: f"{d.diagnosis} ({d.n:,}, {side[d.positive]})" for d in held.diagnoses}
    return {
        f"Called positive at {_aim(point.target)}": {row: d.called[i] for d, row in rows.items()}
        for i, point in enumerate(held.points)
        if rows
    }


def _decision_curve(keys: Sequence[Key], held: Sequence[DecisionCurve | None]) -> Drawing:
    lines = [
        bands.Line(
            "by the model" if len(keys) == 1 else key.name, one.thresholds, one.model, i, _label(keys, i)
        )
        for i, (key, one) in enumerate(zip(keys, held, strict=True))
        if one
    ]
    # Of the same positives it is the same for all; where they differ, each has its own.
    everyone = dict.fromkeys((one.thresholds, one.everyone) for one in held if one)
    lines += [bands.Line("everyone", at, band, None) for at, band in everyone]
    highest = max((v for line in lines for v in line.band.value if v is not None), default=0.0)
    svg, points = bands.curves(
        lines,
        across="threshold probability",
        up="net benefit",
        name="decision",
        floor=-0.3 * max(highest, 0.01),
    )
    caption = f"{_lines(keys, held)}Grey: acting on everyone; dotted: on no one. {_pointwise(lines)}"
    return Drawing("Decision curve", caption, svg, points=points, name="decision_curve")


def _reliability(
    keys: Sequence[Key], by_kind: Sequence[dict[str, CalibrationOf]], probability: str
) -> list[Drawing]:
    """Draw all kinds of probabilities of one entry, or all entries' of each kind."""
    caption = (
        f"Probability {probability}. On the dotted diagonal it is right as often as it says. "
        "Bins of so few rows that they have no interval are not drawn."
    )
    if len(keys) == 1:
        groups = {"": [(name, name, one, i) for i, (name, one) in enumerate(by_kind[0].items())]}
    else:
        groups = {
            kind: [
                (key.name, key.label, kinds[kind], i)
                for i, (key, kinds) in enumerate(zip(keys, by_kind, strict=True))
                if kind in kinds
            ]
            for kind in dict.fromkeys(kind for kinds in by_kind for kind in kinds)
        }
    found = []
    for kind, lines in groups.items():
        name = f"reliability-{kind.replace(' ', '-')}" if kind else "reliability"
        svg, points = bands.reliability(lines, name=name)
        title = f"Reliability, {kind}" if kind else "Reliability diagram"
        held = [kinds if kind in kinds else None for kinds in by_kind]
        text = f"{_lines(keys, held)}{caption}"
        found.append(Drawing(title, text, svg, points=points, name=name.replace("-", "_")))
    return found


def _asked(held: PredictionSets) -> str:
    asked = f"{held.asked:.0%}".replace("%", " %")
    told = [f"Sets asked to hold the truth of {asked} of rows, fitted on {held.fitted_on} ({held.n:,})."]
    for column, reason in held.left_out.items():
        what = "There are no sets" if column == "all" else f"No thresholds by the levels of {column}"
        told.append(f"{what}: {reason}.")
    cautions: dict[str, list[str]] = {}
    for kind in held.kinds:
        for row in kind.rows:
            if row.caution and not row.coverage.too_few:
                cautions.setdefault(row.caution, []).append(row.of)
    told += [f"{', '.join(groups)}: {caution}." for caution, groups in cautions.items()]
    few = dict.fromkeys(
        f"{row.column} {row.of}" for kind in held.kinds for row in kind.rows if row.coverage.too_few
    )
    told += [f"Too few to say what is covered: {', '.join(few)}."] if few else []
    return " ".join(told)


def _covered(kind: SetsBy) -> dict[str, dict[str, Cell]]:
    sides = {"Coverage": "coverage", "Mean size": "size", "Of one class": "single", "Empty": "empty"}
    return {
        title: {
            _covered_rows(row, kind.rows[0].calibrated): getattr(row, side)
            for row in kind.rows
            if not row.coverage.too_few
        }
        for title, side in sides.items()
    }


def _covered_rows(row: CoverageRow, everyone: int) -> str:
    name = row.of if row.column in ("", "class") else f"{row.column}: {row.of}"
    own = f", by {plural(row.calibrated, 'validation row')}" if row.calibrated != everyone else ""
    return f"{name} ({row.n:,}{own})"


def _kind(kind: SetsBy) -> str:
    return _SETS.get(kind.by, f"A threshold for each level of {kind.column}")


def _sizes(held: PredictionSets) -> dict[str, dict[str, Cell]]:
    return {
        _kind(kind): {str(size): f"{n:,}" for size, n in sorted(kind.sizes.items())} for kind in held.kinds
    }


def _risks(held: Selective) -> dict[str, Cell]:
    rows: dict[str, Cell] = {
        f"{float(share):.0%} answered".replace("%", " %"): score for share, score in held.at.items()
    }
    return {**rows, "Area under the curve": held.area, "Above the best order": held.excess}


def _level(level: HierarchyLevel) -> dict[str, Cell]:
    rows: dict[str, Cell] = {score_words(name).title: score for name, score in level.scores.items()}
    return rows | {f"Sensitivity, {g} ({level.counts.get(g, 0):,})": s for g, s in level.per_group.items()}


def _lines(keys: Sequence[Key], held: Sequence[object]) -> str:
    """Name the lines of a drawing of several entries, for those who cannot see its legend."""
    if len(keys) == 1:
        return ""
    return "; ".join(key.name for key, one in zip(keys, held, strict=True) if one) + ". "


def _label(keys: Sequence[Key], position: int) -> str:
    return keys[position].label if len(keys) > 1 else ""


def _pointwise(lines: Sequence[object]) -> str:
    return "The band is pointwise." if len(lines) == 1 else "Bands are pointwise intervals."


def _aim(target: Target) -> str:
    signs = {
        "sensitivity": "sensitivity ≥ ",
        "specificity": "specificity ≥ ",
        "cost": "cost ",
        "threshold": "threshold ",
    }
    return "Youden" if target.value is None else f"{signs.get(target.aim, '')}{target.value:g}"
