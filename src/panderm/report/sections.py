"""The page's sections on decisions: operating points, calibration, prediction sets, abstention, hierarchy."""

from __future__ import annotations

from panderm.errors import plural
from panderm.report import bands
from panderm.report.section import Drawing, Rows, Section, told
from panderm.report.words import number, score_words
from panderm.scores import Scores, headline
from panderm.scores.operating import Operating, OperatingPoint, Target


def decision_sections(scores: Scores) -> list[Section]:
    """Return the sections whose data there are, in the page's order."""
    made = (
        operating_section(scores),
        calibration_section(scores),
        sets_section(scores),
        selective_section(scores),
        hierarchy_section(scores),
    )
    return [section for section in made if section is not None]


def operating_section(scores: Scores) -> Section | None:
    """Return thresholds, what they do, the decision curve, and sensitivity by diagnosis."""
    held = scores.operating
    if held is None:
        return None
    chosen = f"{held.chosen_on} ({held.positives:,} of {plural(held.n, 'row')} positive)"
    locked = (
        "they were locked before these rows were scored"
        if held.locked
        else "those are the rows scored: expect less on others"
    )
    intro = [f"Positive: {', '.join(held.positive)}. Thresholds chosen on {chosen}; {locked}."]
    names = list(dict.fromkeys(name for point in held.points for name in point.scores))
    header = ["", *(_aim(point.target) for point in held.points)]
    rows = [["Threshold", *(_threshold(point) for point in held.points)]]
    for side in ("tp", "fp", "fn", "tn"):
        rows.append(
            [
                side.upper(),
                *(f"{getattr(p, side):,}" if p.threshold is not None else "—" for p in held.points),
            ]
        )
    rows += [[score_words(n).title, *(told(p.scores.get(n)) for p in held.points)] for n in names]
    tables = [Rows("Operating points", header, rows)]
    stated = [
        [_aim(p.target), f"{at.prevalence:.1%}", told(at.ppv), told(at.npv), told(at.number_needed_to_biopsy)]
        for p in held.points
        for at in p.at
    ]
    if stated:
        head = ("Point", "Prevalence", "PPV", "NPV", "Number needed to biopsy")
        tables.append(Rows("At stated prevalences", head, stated))
    if held.diagnoses:
        tables.append(_diagnoses(held))
    drawn = []
    if held.decision is not None:
        curve = held.decision
        lines = [("by the model", curve.model), ("everyone", curve.everyone)]
        highest = max((v for _, b in lines for v in b.value if v is not None), default=0.0)
        svg, points = bands.curves(
            curve.thresholds,
            lines,
            across="threshold probability",
            up="net benefit",
            name="decision",
            floor=-0.3 * max(highest, 0.01),
        )
        text = "Dotted: acting on no one. Bands are pointwise intervals."
        drawn.append(Drawing("Decision curve", text, svg, points=points))
    return Section("operating", "Operating points", intro, tables, drawn)


def calibration_section(scores: Scores) -> Section | None:
    """Return scores and reliability of the probabilities as given and after each recalibration."""
    held = scores.calibration
    if held is None:
        return None
    ones = (held.given, *held.recalibrated)
    names = list(held.given.scores)
    rows = [[one.of, *(told(one.scores.get(name)) for name in names)] for one in ones]
    table = Rows("Calibration", ("Probabilities", *(score_words(name).title for name in names)), rows)
    svg, points = bands.reliability(ones, name="reliability")
    caption = (
        f"Probability {held.probability}. On the dotted diagonal it is right as often as it says. "
        "Bins of so few rows that they have no interval are not drawn."
    )
    fitted = (
        f"Recalibrations were fitted on {held.fitted_on}; their own uncertainty is in no interval."
        if held.recalibrated
        else "Nothing was recalibrated."
    )
    meant = (
        "The calibration error is the root mean square over ten bins, less what chance alone adds: 0 says "
    )
    meant += "that it cannot be told from chance, not that there is none."
    drawing = Drawing("Reliability diagram", caption, svg, points=points)
    return Section("calibration", "Calibration", [fitted, meant], [table], [drawing])


def sets_section(scores: Scores) -> Section | None:
    """Return what conformal sets cover, by class and by level, and how large they are."""
    held = scores.prediction_sets
    if held is None:
        return None
    head = ("Rows", "Images", "Coverage", "Mean size", "Of one class", "Empty")
    tables = []
    for kind in held.kinds:
        rows = [
            [
                r.of,
                f"{r.n:,}",
                *map(told, (r.coverage, r.size, r.single, r.empty)),
            ]
            for r in kind.rows
        ]
        sizes = ", ".join(f"{size}: {n:,}" for size, n in sorted(kind.sizes.items()))
        by = "One threshold for all rows" if kind.by == "all" else "A threshold for each class"
        tables.append(Rows(f"{by}; sets by their number of classes: {sizes}", head, rows))
    intro = (
        f"Sets asked to hold the truth of {held.asked:.0%} of rows, fitted on {held.fitted_on} ({held.n:,})."
    )
    return Section("sets", "Prediction sets", [intro], tables)


def selective_section(scores: Scores) -> Section | None:
    """Return errors among the surest rows."""
    held = scores.selective
    if held is None:
        return None
    rows = [[f"{float(share):.0%} answered", told(score)] for share, score in held.at.items()]
    rows += [["Area under the curve", told(held.area)], ["Above the best order", told(held.excess)]]
    svg, points = bands.curves(
        held.coverage, [("risk", held.risk)], across="share answered", up="share wrong", name="risk", floor=0
    )
    drawing = Drawing(
        "Risk-coverage curve", "The surest rows first. The band is pointwise.", svg, points=points
    )
    intro = ["What is left of the errors where the least sure rows go to a person."]
    return Section(
        "selective", "Selective prediction", intro, [Rows("Risk", ("", "Share wrong"), rows)], [drawing]
    )


def hierarchy_section(scores: Scores) -> Section | None:
    """Return the scores of each level, and the sensitivity of each group."""
    held = scores.hierarchy
    if held is None:
        return None
    tables = []
    for level in held.levels:
        rows = [[score_words(name).title, told(score)] for name, score in level.scores.items()]
        rows += [
            [f"Sensitivity, {g} ({level.counts.get(g, 0):,})", told(s)] for g, s in level.per_group.items()
        ]
        left = f"; left out: {', '.join(level.left_out)}" if level.left_out else ""
        tables.append(Rows(f"{level.level}: {level.n:,} rows{left}", ("Score", "Value"), rows))
    intro = [f"Probabilities of a group’s classes are added up. Groups: {held.source}."]
    return Section("hierarchy", "Diagnosis hierarchy", intro, tables)


def subgroup_forest(scores: Scores) -> Drawing | None:
    """Draw the subgroups' score on one line."""
    held = scores.subgroups
    if held is None:
        return None
    name = headline(held)
    rows = [(f"{c.column}: {one.level}", one.scores[name]) for c in held.columns for one in c.levels]
    svg, points = bands.forest(rows, scores.scores[name], across=score_words(name).title, name="forest")
    caption = "Squares are values, lines their intervals; the dotted line is the score of all."
    return Drawing("Subgroups on one line", caption, svg, wide=True, points=points)


def _diagnoses(held: Operating) -> Rows:
    side = {True: "yes", False: "no", None: "differs"}
    rows = [[d.diagnosis, f"{d.n:,}", side[d.positive], *map(told, d.called)] for d in held.diagnoses]
    head = ("Diagnosis", "Images", "Positive", *(f"Called positive: {_aim(p.target)}" for p in held.points))
    return Rows("Share called positive, by diagnosis", head, rows)


def _aim(target: Target) -> str:
    signs = {
        "sensitivity": "sensitivity ≥ ",
        "specificity": "specificity ≥ ",
        "cost": "cost ",
        "threshold": "threshold ",
    }
    return "Youden" if target.value is None else f"{signs.get(target.aim, '')}{target.value:g}"


def _threshold(point: OperatingPoint) -> str:
    return number(point.threshold) if point.threshold is not None else f"none: {point.reason}"
