"""The page of a benchmark: encoders down the rows, datasets across, differences, and published numbers."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from markupsafe import Markup

from panderm.report.page import Banner, ScoreRow, template
from panderm.report.words import moment


@dataclass(frozen=True)
class Head:
    """One dataset: its name, the score shown, and what was scored."""

    name: str
    score: str
    rows: str


@dataclass(frozen=True)
class Shown:
    """One cell: its score in words, whether it is best beyond doubt, and its problem where it has none."""

    score: ScoreRow
    best: bool
    problem: str | None


@dataclass(frozen=True)
class Line:
    """One encoder: its name, facts, cells in the datasets' order, and average rank."""

    name: str
    facts: str
    random: bool
    reference: bool
    cells: list[Shown]
    rank: str


@dataclass(frozen=True)
class Difference:
    """One encoder against the reference on one dataset."""

    dataset: str
    encoder: str
    difference: ScoreRow
    p: str
    corrected: str
    holds: bool


@dataclass(frozen=True)
class Beside:
    """A published number and ours."""

    dataset: str
    score: str
    published: str
    source: str
    ours: str
    difference: str
    inside: str
    why_not: str


@dataclass(frozen=True)
class BenchmarkPage:
    """All that the page says; ``scale`` is how far the line of differences reaches to either side of 0."""

    heads: list[Head]
    lines: list[Line]
    differences: list[Difference]
    reference: str
    scale: float
    banners: list[Banner]
    problems: list[tuple[str, str, str]]
    published: list[Beside]
    beneath: list[str]
    tests: str
    methods: str
    command: str
    versions: list[tuple[str, str]]
    created: str
    version: str


def render_benchmark(page: BenchmarkPage) -> str:
    """Return the complete page."""
    style = (files("panderm.report") / "templates" / "benchmark.css").read_text(encoding="utf-8")
    rendered = template("benchmark.html").render(
        page=page,
        ends=(f"−{page.scale:g}", "0", f"+{page.scale:g}"),
        benchmark_css=Markup(style),  # ours, a file of this package
        created=moment(page.created),
        version=page.version,
    )
    return rendered.strip() + "\n"
