"""The page: what every section says, and the template it is poured into."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from panderm.errors import plural
from panderm.predictions import MultiLabelPredictions, Predictions
from panderm.report.authors.documents import document_sections
from panderm.report.authors.summary import summary_sentences
from panderm.report.drawing import figures
from panderm.report.entry import Entry
from panderm.report.image_free import ImageFreeScores, image_free_section
from panderm.report.mistakes.gallery import count_mistakes, most_confident_mistakes, what_is_beside
from panderm.report.mistakes.looks import Look
from panderm.report.mistakes.patterns import pattern_sections
from panderm.report.record import run_record, weights_rows
from panderm.report.section import Drawing, Section
from panderm.report.sections import decision_sections, subgroup_forest
from panderm.report.subgroups import subgroup_section
from panderm.report.validation import external_notes, fold_section, scored_where
from panderm.report.with_columns import leaks_in_words
from panderm.report.words import HEADLINES, interval, moment, number, score_words, short, units, verdict
from panderm.scores import LEVEL, MultiLabelScores, Score, Scores

# Below this many independent units a bootstrap interval is a guess.
FEW = 10


@dataclass(frozen=True)
class Page:
    """A page as it is read, and what of it leaves as files: its figures, and its sections' tables."""

    html: str
    drawings: tuple[Drawing, ...]
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Banner:
    """A sentence that must be read before any number; ``stop`` weighs most, then ``care``, then ``note``."""

    kind: Literal["stop", "care", "note"]
    title: str
    text: str


@dataclass(frozen=True)
class ScoreRow:
    """One score in words; ``bar`` is (low, value, high) in percent, where they are between 0 and 1.

    ``holds_zero`` speaks of a difference: whether its interval does, or there is none. ``verdict`` stands
    where there is no value.
    """

    title: str
    meaning: str
    value: str | None
    interval: str | None
    reason: str | None
    bar: tuple[float, float, float] | None
    holds_zero: bool = True
    verdict: str = "not computable"


@dataclass(frozen=True)
class ClassRow:
    """One class: its name, how many images, and its two scores."""

    name: str
    n: int
    positive: bool
    sensitivity: ScoreRow
    specificity: ScoreRow


def render(
    predictions: Predictions,
    scores: Scores,
    *,
    created: str,
    version: str,
    columns_alone: ImageFreeScores | None = None,
    look: Look | None = None,
    learned: Sequence[Section] = (),
) -> Page:
    """Return the complete page.

    Args:
        predictions: what was predicted.
        scores: of these predictions.
        created: the page's time, UTC, for its footer.
        version: of panderm, for its footer.
        columns_alone: the image-free baseline, where one was asked for.
        look: the embeddings and the encoder, where they may be looked at.
        learned: how what predicts was learned, where the page is to tell it.
    """
    card, beside = predictions.card, look or Look()
    entries = [Entry(card.model, predictions, scores, look=beside)]
    alone = columns_alone and image_free_section(columns_alone, [scores.scores], [card.model], ["Images"])
    mistakes = list(most_confident_mistakes(predictions, beside=beside))
    return pour(
        "page.html",
        card=card,
        findings=summary_sentences(entries),
        patterns=pattern_sections(entries),
        learned=list(learned),
        documents=document_sections(entries),
        method=method_in_words(predictions),
        scores=scores,
        positive=scores.classes[1] if len(scores.classes) == 2 else None,
        negative=scores.classes[0] if len(scores.classes) == 2 else None,
        units=plural(scores.clusters, scores.unit),
        level=f"{LEVEL:.0%}".replace("%", " %"),
        banners=banners(predictions, scores),
        headlines=[score_row(name, scores.scores[name]) for name in HEADLINES if name in scores.scores][:4],
        score_rows=[score_row(name, score) for name, score in scores.scores.items()],
        class_rows=class_rows(scores),
        subgroups=subgroup_section(scores),
        forest=subgroup_forest(entries),
        decisions=decision_sections(entries),
        folds=fold_section(scores),
        where=scored_where(predictions),
        columns_alone=alone,
        drawings=drawings(predictions, scores),
        wrong=count_mistakes(predictions),
        mistakes=mistakes,
        about_mistakes=what_is_beside([beside]) if mistakes else [],
        record=run_record(predictions),
        weights=weights_rows(card.embeddings) if card.embeddings else [],
        created=moment(created),
        version=version,
    )


def pour(name: str, **content: Any) -> Page:
    """Pour what sections say into a template of this package."""
    html = template(name).render(**content).strip() + "\n"
    found = list(_within(list(content.values())))
    return Page(
        html,
        tuple(one for one in found if isinstance(one, Drawing)),
        tuple(one for one in found if isinstance(one, Section)),
    )


def _within(held: Any) -> Iterator[Drawing | Section]:
    """Yield the drawings and sections in lists of lists, in their order."""
    if isinstance(held, Drawing):
        yield held
    elif isinstance(held, Section):
        yield held
        yield from held.drawings
    elif isinstance(held, list | tuple):
        for one in held:
            yield from _within(one)


def method_in_words(predictions: Predictions) -> str:
    """Return the task, and its recipe where the method names one."""
    card = predictions.card
    recipe = card.method.get("recipe")
    return f"{card.task}, {recipe} recipe" if isinstance(recipe, str) else card.task


def banners(
    predictions: Predictions | MultiLabelPredictions, scores: Scores | MultiLabelScores
) -> list[Banner]:
    """Return what a reader must know before the first number, the weightiest first."""
    card = predictions.card
    table = card.embeddings.table if card.embeddings else None
    found = []
    if card.embeddings and card.embeddings.encoder.random:
        text = "Weights are drawn at random: these numbers say nothing about a trained encoder."
        found.append(Banner("stop", "Random encoder", text))
    found += [Banner("care", title, sentence(text)) for title, text in external_notes(predictions)]
    if leaks := leaks_in_words(card.method):
        found.append(Banner("stop", "Columns that give the answer away", sentence(leaks)))
    if scores.split == "train":
        text = "The images scored here are those the method learned from. Other images will fare worse."
        found.append(Banner("stop", "Scored on the training split", text))
    if unit := card.method.get("unit"):
        text = (
            f"All images of one {unit} were predicted as one, by their mean {card.method.get('unit pool')}. "
            f"It has the name and the picture of the first of them; “image” here means the {unit}."
        )
        found.append(Banner("note", f"Each row is a {unit}", text))
    if card.outcome.get("converged") is False:
        text = "The fit stopped before it had converged; the settings are under “What was run”."
        found.append(Banner("care", "Not converged", text))
    if scores.clusters < FEW:
        few = plural(scores.clusters, scores.unit)
        text = f"The intervals rest on {few} only; with so few, resampling makes them too narrow."
        found.append(Banner("care", f"Few {units(scores.unit)}", text))
    if table is None:
        return found
    found += [Banner("care", "Warning from the table", sentence(warning)) for warning in table.warnings]
    if table.skipped:
        text = f"{plural(len(table.skipped), 'row')} of the table could not be used: see “What was run”."
        found.append(Banner("care", "Rows left out", text))
    if table.note:
        found.append(Banner("note", "Note on the data", sentence(table.note)))
    return found


def score_row(name: str, score: Score) -> ScoreRow:
    """Put one score into words."""
    words = score_words(name)
    bar = None
    if score.value is not None and score.low is not None and score.high is not None:
        low, value, high = (100 * x for x in (score.low, score.value, score.high))
        bar = (low, value, high) if 0 <= low <= high <= 100 else None
    return ScoreRow(
        title=words.title,
        meaning=words.meaning,
        value=None if score.value is None else number(score.value),
        interval=interval(score),
        reason=score.reason and score.reason.removeprefix("no interval: "),
        bar=bar,
        verdict=verdict(score),
    )


def class_rows(scores: Scores) -> list[ClassRow]:
    """Put the classes' scores into words, in the classes' order."""
    rows = []
    for name in scores.classes:
        one = scores.per_class[name]
        rows.append(
            ClassRow(
                name=name,
                n=one.n,
                positive=len(scores.classes) == 2 and name == scores.classes[1],
                sensitivity=score_row("sensitivity", one.sensitivity),
                specificity=score_row("specificity", one.specificity),
            )
        )
    return rows


def drawings(predictions: Predictions, scores: Scores) -> list[Drawing]:
    """Draw all figures of the page."""
    truth, classes = predictions.truth_codes(), predictions.classes
    drawn = figures.with_curve(truth, len(classes))
    left_out = [c for i, c in enumerate(classes) if i not in drawn and (len(classes) > 2 or i == 1)]
    beside = ""
    if left_out:
        beside = f" Left out, for want of images inside or outside the class: {', '.join(left_out)}."
    each = "Each class against all others; its"
    of = f"Positive class: {classes[1]}; its" if len(classes) == 2 else each
    legend = "without interval, is in the legend."
    roc = f"{of} AUROC, {legend} The dotted diagonal is guessing.{beside}"
    guess = " The dotted line is the share of positives: guessing." if len(classes) == 2 else ""
    pr = f"{of} average precision, {legend}{guess}{beside}"
    confusion = "Rows are the truth, columns the most probable class; shades show the share of each row."
    if len(classes) <= 12:
        confusion += " Each cell holds the count and its share of the row."
    elif len(classes) > 25:
        confusion += " With so many classes the counts stand in the table that a screen folds out below."
    matrix, counts = figures.confusion_matrix(scores.confusion, classes)
    data = (truth, predictions.probabilities, classes)
    curves: figures.Drawn = (None, None)
    steps: figures.Drawn = (None, None)
    if drawn:
        curves, steps = figures.roc_curves(*data), figures.precision_recall_curves(*data)
    return [
        Drawing("ROC curves", roc, curves[0], points=curves[1], name="roc"),
        Drawing("Precision-recall curves", pr, steps[0], points=steps[1], name="precision_recall"),
        Drawing("Confusion matrix", confusion, matrix, wide=True, points=counts, name="confusion"),
    ]


def sentence(text: str) -> str:
    """Return a text with a capital at its beginning and a stop at its end."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def css_text(markup: str) -> str:
    """Return a text as it may stand between quotes in a style sheet: all but letters and digits by number."""
    text = short(Markup(markup).unescape(), 90)
    return "".join(c if c.isascii() and c.isalnum() else f"\\{ord(c):06x}" for c in text)


@cache
def template(name: str) -> Template:
    """Return a template of this package."""
    room = files("panderm.report") / "templates"

    def read(file: str) -> str:
        return (room / file).read_text(encoding="utf-8")

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(read),
    )
    environment.filters |= {"number": number, "words": plural, "units": units}
    # All are ours: the style sheets are files of this package, and the figures escape what they are given.
    environment.globals["css"] = Markup(read("page.css") + read("mistakes.css"))
    environment.globals["comparison_css"] = Markup(read("comparison.css"))
    environment.globals["check_css"] = Markup(read("check.css"))
    environment.globals["map_css"] = Markup(read("map.css"))
    environment.filters["drawn"] = Markup
    environment.filters["css_text"] = css_text
    return environment.get_template(name)
