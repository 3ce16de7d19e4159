"""What a curve leaves on disk beside its page: every point, the summary, and all of it as JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from panderm.scores.label_efficiency import METHOD, LabelEfficiency
from panderm.statistics.label_efficiency import Crossing, Spread

_POINT = ("encoder", "labels", "percent of rows", "rows", "units")
_INTERVALS = ("labels", "test", "total")


def points_csv(given: LabelEfficiency) -> str:
    """Return every fit and score as a line: encoder, labels, rows of each class, repeat, value."""
    header: list[object] = [*_POINT, *(f"rows of {c}" for c in given.classes), "repeat", "score", "value"]
    lines: list[list[object]] = [header, *_point_lines(given)]
    return _csv(lines)


def _point_lines(given: LabelEfficiency) -> Iterator[list[object]]:
    for curve in given.points:
        for point in curve:
            for r, rows in enumerate(point.rows):
                share = 100 * rows / given.trained
                counts = [point.classes[r][c] for c in given.classes]
                head = [point.encoder, given.point_title(point.value), f"{share:.4g}", rows, point.units[r]]
                for name, values in point.values.items():
                    yield [*head, *counts, r + 1, name, _cell(values[r])]


def summary_csv(given: LabelEfficiency) -> str:
    """Return every encoder, number of labels and score as a line, with both kinds of doubt."""
    header: list[object] = [*_POINT, "repeats", "score", "mean", "sd_labels", "sd_test"]
    header += [f"{part}_{end}" for part in _INTERVALS for end in ("low", "high")]
    lines: list[list[object]] = [header]
    for curve in given.points:
        for point in curve:
            head = [
                point.encoder,
                given.point_title(point.value),
                f"{point.percent:.4g}",
                _range(point.rows),
                _range(point.units),
                len(point.rows),
            ]
            for name, spread in point.spreads.items():
                ends = [_cell(end) for part in _INTERVALS for end in getattr(spread, part)]
                numbers = [_cell(x) for x in (spread.mean, spread.sd_labels, spread.sd_test)]
                lines.append([*head, name, *numbers, *ends])
    return _csv(lines)


def as_dict(given: LabelEfficiency) -> dict[str, Any]:
    """Return all of it as plain values; what is not a number is None, what is never is ``"never"``."""
    return {
        "score": given.score,
        "encoders": [
            {
                "encoder": title,
                "points": [
                    {
                        "labels": given.point_title(point.value),
                        "percent": point.percent,
                        "rows": list(point.rows),
                        "units": list(point.units),
                        "repeats": len(point.rows),
                        "fits_converged": point.converged,
                        "fits_not_tuned": point.untuned,
                        "scores": {name: _spread(spread) for name, spread in point.spreads.items()},
                    }
                    for point in curve
                ],
            }
            for title, curve in zip(given.titles, given.points, strict=True)
        ],
        "equal": [
            {
                "encoder": reach.encoder,
                "other": reach.other,
                "target": _number(reach.target),
                **_crossing(reach.found),
                "sentence": given.sentence(reach),
            }
            for reach in given.reaches
        ],
        "cannot": {given.point_title(value): why for value, why in given.cannot.items()},
        "not_computable": given.reasons,
        "classes": list(given.classes),
        "training_rows": given.trained,
        "label_unit": given.label_unit,
        "split": given.split,
        "n": given.n,
        "unit": given.unit,
        "clusters": given.clusters,
        "repeats": given.repeats,
        "draws": given.draws,
        "seed": given.seed,
        "intervals": METHOD,
        "method": given.method,
    }


def _spread(spread: Spread) -> dict[str, Any]:
    told: dict[str, Any] = {
        "mean": _number(spread.mean),
        "sd_labels": _number(spread.sd_labels),
        "sd_test": _number(spread.sd_test),
    }
    return told | {part: [_number(end) for end in getattr(spread, part)] for part in _INTERVALS}


def _crossing(found: Crossing) -> dict[str, Any]:
    told = {name: _number(getattr(found, name)) for name in ("value", "low", "high")}
    return {**told, "draws": found.draws, "at_first_point": found.at_first, "never": found.never}


def _number(value: float) -> float | str | None:
    if np.isnan(value):
        return None
    return "never" if np.isinf(value) else float(value)


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6f}"


def _range(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least}-{most}"


def _csv(lines: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
