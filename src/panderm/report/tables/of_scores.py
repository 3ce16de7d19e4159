"""The result tables of one evaluation, or of several side by side: models are rows of every table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from panderm.report.entry import Entry
from panderm.report.image_free import ImageFreeScores
from panderm.report.tables.results import Result, Results, Value, numbers, results
from panderm.scores import Score, Scores
from panderm.scores.compared import Comparison
from panderm.scores.operating import OperatingPoint, Target
from panderm.scores.selective import Selective


def results_of(
    entries: Sequence[Entry],
    columns_alone: ImageFreeScores | None = None,
    comparison: Comparison | None = None,
) -> list[Results]:
    """Return every result table of a page.

    Args:
        entries: one, or several of the same rows; the first is the one the others are compared with.
        columns_alone: the image-free baseline, where one was asked for.
        comparison: the tests of several.
    """
    held = [(entry.title, entry.scores) for entry in entries]
    return [
        *_whole(held),
        *_differences(entries),
        *(() if comparison is None else _tests(comparison, [name for name, _ in held])),
        *results("per_class", "Each class against the rest", ("model", "class"), _per_class(held)),
        *_operating(held),
        *_calibration(held),
        *_sets(held),
        *_selective(held),
        *_hierarchy(held),
        *_subgroups(held),
        *_folds(held),
        *(() if columns_alone is None else _columns_alone(columns_alone, [name for name, _ in held])),
    ]


_Held = Sequence[tuple[str, Scores]]


def _whole(held: _Held) -> list[Results]:
    rows = (numbers((model,), {**one.scores, **(one.top_k or {})}, one.n) for model, one in held)
    return results("scores", "Scores", ("model",), chain.from_iterable(rows), across="model")


def _differences(entries: Sequence[Entry]) -> list[Results]:
    rows = (numbers((e.title,), e.differences, e.scores.n) for e in entries[1:])
    title = f"Difference to {entries[0].title}, on the same draws"
    return results("differences", title, ("model",), chain.from_iterable(rows), across="model", signed=True)


def _tests(found: Comparison, titles: Sequence[str]) -> list[Results]:
    called = {one.name: title for one, title in zip(found.models, titles, strict=True)}
    rows = []
    for pair in found.pairs:
        of = (called[pair.other], called[pair.first], pair.score)
        rows.append(Result(of, "difference", pair.difference, found.n))
        rows += numbers(of, {"p": pair.p, "p_holm": pair.p_holm}, found.n)
        rows += [Result(of, f"p ({test.name})", test.p, found.n) for test in pair.tests]
    note = (
        f"p of a permutation test that swaps answers for whole {found.unit}s, seed {found.seed}; p_holm "
        f"corrected for {found.family} tests"
    )
    keys = ("other", "minus", "of")
    return results("tests", "Tests of the differences", keys, rows, signed=True, note=note)


def _per_class(held: _Held) -> Iterator[Result]:
    for model, one in held:
        for name, of in one.per_class.items():
            yield Result((model, name), "support", of.n, one.n)
            yield Result((model, name), "sensitivity", of.sensitivity, of.n)
            yield Result((model, name), "specificity", of.specificity, one.n - of.n)


def _operating(held: _Held) -> list[Results]:
    ones = [(model, one.operating) for model, one in held if one.operating is not None]
    points = (r for model, one in ones for p in one.points for r in _point(model, p))
    stated = (
        r
        for model, one in ones
        for p in one.points
        for at in p.at
        for r in numbers(
            (model, point_name(p.target), f"{at.prevalence:g}"),
            {"ppv": at.ppv, "npv": at.npv, "number_needed_to_biopsy": at.number_needed_to_biopsy},
            p.tp + p.fp + p.fn + p.tn,
        )
    )
    diagnoses = (
        Result((model, d.diagnosis, point_name(p.target)), "called_positive", called, d.n)
        for model, one in ones
        for d in one.diagnoses
        for p, called in zip(one.points, d.called, strict=True)
    )
    note = "; ".join(
        f"{f'{model}: ' if len(held) > 1 else ''}positive is {', '.join(one.positive)}, thresholds chosen on "
        f"{one.chosen_on}"
        for model, one in ones
    )
    keys = ("model", "point")
    return [
        *results("operating_points", "Operating points", keys, points, across="point", note=note),
        *results(
            "at_prevalence",
            "Predictive values at stated prevalences",
            ("model", "point", "prevalence"),
            stated,
            note=note,
        ),
        *results(
            "diagnoses",
            "Share called positive, by diagnosis",
            ("model", "diagnosis", "point"),
            diagnoses,
            across="point",
            note=note,
        ),
    ]


def point_name(target: Target) -> str:
    """Return ``"sensitivity >= 0.95"``, ``"youden"``, ``"cost = 20"``: plain ASCII, for a spreadsheet."""
    sign = ">=" if target.aim in ("sensitivity", "specificity") else "="
    return target.aim if target.value is None else f"{target.aim} {sign} {target.value:g}"


def _point(model: str, point: OperatingPoint) -> list[Result]:
    of, n = (model, point_name(point.target)), point.tp + point.fp + point.fn + point.tn
    if point.threshold is None:
        return [Result(of, "threshold", Score(None, None, None, point.reason))]
    rests = {
        "sensitivity": point.tp + point.fn,
        "specificity": point.fp + point.tn,
        "ppv": point.tp + point.fp,
        "npv": point.fn + point.tn,
    }
    chosen: dict[str, Value] = {f"{name}_where_chosen": value for name, value in point.chosen.items()}
    counts: dict[str, Value] = {side: getattr(point, side) for side in ("tp", "fp", "fn", "tn")}
    return [
        *numbers(of, {"threshold": point.threshold, **chosen}, None),
        *numbers(of, counts, n),
        *(Result(of, name, score, rests.get(name, n)) for name, score in point.scores.items()),
    ]


def _calibration(held: _Held) -> list[Results]:
    ones = [(model, one.n, one.calibration) for model, one in held if one.calibration is not None]
    rows = (
        r for model, n, one in ones for of in (one.given, *one.recalibrated)
        for r in numbers((model, of.of), of.scores, n)
    )  # fmt: skip
    gains = (
        r for model, n, one in ones for of, scores in (one.differences or {}).items()
        for r in numbers((model, of), scores, n)
    )  # fmt: skip
    moved = (
        r
        for model, n, one in ones
        if (p := one.prior) is not None
        for of, scores in (
            ("as given", p.given.scores), ("moved", p.moved.scores), ("moved less as given", p.differences)
        )
        for r in numbers((model, of), scores, n)
    )  # fmt: skip
    note = "; ".join(dict.fromkeys(f"fitted on {one.fitted_on}" for *_, one in ones if one.recalibrated))
    keys = ("model", "probabilities")
    return [
        *results("calibration", "Calibration", keys, rows, across="probabilities", note=note),
        *results(
            "calibration_differences",
            "Each recalibration less the probabilities as given, on the same draws",
            keys,
            gains,
            across="probabilities",
            signed=True,
            note=note,
        ),
        *results(
            "calibration_stated_shares",
            "Calibration at stated shares of the classes",
            keys,
            moved,
            across="probabilities",
        ),
    ]


def _sets(held: _Held) -> list[Results]:
    ones = [(model, one.prediction_sets) for model, one in held if one.prediction_sets is not None]
    by = {"all": "one threshold", "class": "one for each class"}
    own = ("", "class")
    rows = (
        r
        for model, one in ones
        for kind in one.kinds
        for row in kind.rows
        for r in numbers(
            (
                model,
                by.get(kind.by) or f"one for each level of {kind.column}",
                row.of if row.column in own else f"{row.column}: {row.of}",
            ),
            {"coverage": row.coverage, "size": row.size, "single": row.single, "empty": row.empty},
            row.n,
        )
    )
    told = dict.fromkeys(
        f"asked to hold the truth of {100 * one.asked:g} % of rows; fitted on {one.fitted_on} ({one.n:,})"
        for _, one in ones
    )
    return results(
        "prediction_sets",
        "Conformal prediction sets",
        ("model", "thresholds", "rows"),
        rows,
        note="; ".join(told),
    )


def _selective(held: _Held) -> list[Results]:
    def of(one: Selective) -> dict[str, Value]:
        at = {f"risk_at_{share}": score for share, score in one.at.items()}
        return {**at, "area": one.area, "excess_area": one.excess}

    rows = (numbers((m,), of(one.selective), one.n) for m, one in held if one.selective is not None)
    note = "risk_at_0.8 is the share wrong among the 80 % of rows of the highest probability"
    title = "Selective prediction"
    return results("selective", title, ("model",), chain.from_iterable(rows), across="model", note=note)


def _hierarchy(held: _Held) -> list[Results]:
    ones = [(model, one.hierarchy) for model, one in held if one.hierarchy is not None]
    rows = (r for m, one in ones for lv in one.levels for r in numbers((m, lv.level), lv.scores, lv.n))
    groups = (
        Result((model, level.level, group), "sensitivity", score, level.counts.get(group))
        for model, one in ones
        for level in one.levels
        for group, score in level.per_group.items()
    )
    note = "; ".join(dict.fromkeys(f"groups of {one.source}" for _, one in ones))
    keys = ("model", "level")
    return [
        *results("hierarchy", "Scores of each level", keys, rows, across="level", note=note),
        *results("hierarchy_groups", "Each group of each level", (*keys, "group"), groups, note=note),
    ]


def _subgroups(held: _Held) -> list[Results]:
    levels = [
        ((model, column.column, level.level), level)
        for model, one in held
        if one.subgroups is not None
        for column in one.subgroups.columns
        for level in column.levels
    ]
    scores = (r for of, level in levels for r in numbers(of, level.scores, level.n))
    gaps = (r for of, level in levels for r in numbers(of, level.gaps, level.n))
    keys = ("model", "column", "group")
    title = "Each subgroup less all other rows, on the same draws"
    return [
        *results("subgroups", "Scores by subgroup", keys, scores),
        *results("subgroup_gaps", title, keys, gaps, signed=True),
    ]


def _folds(held: _Held) -> list[Results]:
    ones = [(model, one.folds) for model, one in held if one.folds is not None]
    over = (
        Result((model,), name, Score(of.mean, of.low, of.high, of.reason), of.folds)
        for model, one in ones
        for name, of in one.over.items()
    )
    each = (
        Result((model, fold.fold), name, _reasoned(value, fold.reasons.get(name)), fold.n)
        for model, one in ones
        for fold in one.each
        for name, value in fold.scores.items()
    )
    note = "intervals by Student’s t; n is the number of folds"
    return [
        *results("over_folds", "Mean over the folds", ("model",), over, across="model", note=note),
        *results("folds", "Each fold", ("model", "fold"), each, across="fold"),
    ]


def _reasoned(value: float | None, reason: str | None) -> Value:
    return Score(None, None, None, reason) if value is None else value


def _columns_alone(held: ImageFreeScores, titles: Sequence[str]) -> list[Results]:
    rows = numbers(("columns alone",), held.scores, held.n)
    if held.with_giving_away is not None:
        rows += numbers(("with columns that give the answer away",), held.with_giving_away, held.n)
    gains = (numbers((t,), gain, held.n) for t, gain in zip(titles, held.gains, strict=True))
    note = f"columns used: {', '.join(held.columns)}"
    return [
        *results("columns_alone", "The columns alone", ("seen",), rows, across="seen", note=note),
        *results(
            "gain_over_columns",
            "What the images add to the columns, on the same draws",
            ("model",),
            chain.from_iterable(gains),
            across="model",
            signed=True,
            note=note,
        ),
    ]
