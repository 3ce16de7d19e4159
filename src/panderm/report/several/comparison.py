"""The page of several models: what every section says, and the template it is poured into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from panderm.errors import plural
from panderm.predictions import Predictions, PredictionsCard
from panderm.predictions.card import PredictionsFile
from panderm.report.authors.documents import document_sections
from panderm.report.authors.summary import summary_sentences
from panderm.report.drawing import figures, overlays
from panderm.report.entry import Entry
from panderm.report.image_free import ImageFreeScores, image_free_section
from panderm.report.mistakes.gallery import (
    SharedMistake,
    mistakes_of_all,
    mistakes_of_one,
    what_is_beside,
    wrong_rows,
)
from panderm.report.mistakes.patterns import pattern_sections
from panderm.report.page import FEW, Banner, Page, method_in_words, pour, score_row, sentence
from panderm.report.record import Grid, Rows, RunRecord, run_record, weights_rows
from panderm.report.section import Drawing
from panderm.report.sections import decision_sections, subgroup_forest
from panderm.report.several.beside import Beside, Measure, axis_of, difference_row, scale_of
from panderm.report.several.folds import folds_section
from panderm.report.several.keys import Key, keys_of, listed
from panderm.report.several.subgroups import compared_subgroups
from panderm.report.several.tests import tests_section
from panderm.report.validation import scored_where
from panderm.report.with_columns import leaks_in_words
from panderm.report.words import moment, plain, score_words, units
from panderm.scores import LEVEL
from panderm.scores.compared import Comparison
from panderm.scores.score import EXACT


@dataclass(frozen=True)
class Gallery:
    """Images that the same encoders got wrong: how many there are, and the first of them."""

    title: str
    none: str
    total: int
    mistakes: list[SharedMistake]


@dataclass(frozen=True)
class Ran:
    """One entry in "What was run"."""

    key: Key
    weights: Rows
    record: RunRecord


def render_comparison(
    entries: Sequence[Entry],
    *,
    comparison: Comparison,
    created: str,
    version: str,
    columns_alone: ImageFreeScores | None = None,
) -> Page:
    """Return the complete page.

    Args:
        entries: two or more, of the same rows; the first is the one the others are compared with.
        comparison: the tests of their differences.
        created: the page's time, UTC, for its footer.
        version: of panderm, for its footer.
        columns_alone: the image-free baseline, where one was asked for.
    """
    keys = keys_of(entries)
    letters = [key.letter for key in keys]
    alone = columns_alone and image_free_section(
        columns_alone, [entry.scores.scores for entry in entries], letters, letters
    )
    first = entries[0]
    cards = [entry.predictions.card for entry in entries]
    scores = first.scores
    ran = [
        Ran(key, weights_rows(card.embeddings) if card.embeddings else [], run_record(entry.predictions))
        for key, card, entry in zip(keys, cards, entries, strict=True)
    ]
    methods = list(dict.fromkeys(method_in_words(entry.predictions) for entry in entries))
    predictions = [entry.predictions for entry in entries]
    return pour(
        "comparison.html",
        keys=keys,
        findings=summary_sentences(entries, comparison),
        patterns=pattern_sections(entries),
        documents=document_sections(entries, comparison),
        noun=_noun(entries),
        dataset=_scored(entries).card.dataset,
        where=scored_where(_scored(entries)),
        method=" or ".join(methods),
        scores=scores,
        units=plural(scores.clusters, scores.unit),
        level=_level(),
        banners=comparison_banners(entries, keys),
        score_table=score_table(entries, keys),
        difference_table=difference_table(entries, keys),
        columns_alone=alone,
        tests=[tests_section(comparison, keys)],
        folds=[one for one in (folds_section(entries),) if one],
        decisions=decision_sections(entries),
        forest=subgroup_forest(entries),
        intervals=sum(d.low is not None for entry in entries[1:] for d in entry.differences.values()),
        reasons=_reasons(entries),
        class_tables=[class_table(entries, keys, side) for side in ("sensitivity", "specificity")],
        subgroups=compared_subgroups([entry.scores for entry in entries], keys),
        curves=curves(entries, keys),
        titles="; ".join(key.name for key in keys),
        matrices=matrices(entries, keys),
        confusions=[(key, entry.scores.confusion) for key, entry in zip(keys, entries, strict=True)],
        agreement=agreement(predictions, keys),
        galleries=galleries(entries, keys),
        about_mistakes=what_is_beside([entry.look for entry in entries], keys),
        ran=ran,
        weighed=[one for one in ran if one.weights],
        commands=list(dict.fromkeys(run.command for one in ran for run in one.record.runs)),
        same_method=all(one.record.method == ran[0].record.method for one in ran),
        same_versions=all(one.record.versions == ran[0].record.versions for one in ran),
        data=_by_table(entries, ran),
        created=moment(created),
        version=version,
    )


def comparison_banners(entries: Sequence[Entry], keys: Sequence[Key]) -> list[Banner]:
    """Return what a reader must know before the first number, the weightiest first."""
    cards = [entry.predictions.card for entry in entries]
    made = [(key, card, card.embeddings) for key, card in zip(keys, cards, strict=True) if card.embeddings]
    encoders = [(key, embeddings.encoder) for key, _, embeddings in made]
    tables = list({embeddings.table.sha256: embeddings.table for _, _, embeddings in made}.values())
    scores = entries[0].scores
    found = []

    def told(whats: Iterable[tuple[Key, str]]) -> str:
        return "; ".join(f"{key.letter}: {what}" for key, what in whats)

    random = [key.letter for key in keys if key.random]
    if random:
        have = "has weights" if len(random) == 1 else "have weights"
        text = f"{listed(random)} {have} drawn at random: such numbers say nothing about a trained encoder."
        found.append(Banner("stop", "Random encoder", text))
    leaks = dict.fromkeys(leak for card in cards if (leak := leaks_in_words(card.method)))
    found += [Banner("stop", "Columns that give the answer away", sentence(leak)) for leak in leaks]
    if any(card.split == "train" for card in cards):
        text = "The images scored here are those the method learned from. Other images will fare worse."
        found.append(Banner("stop", "Scored on the training split", text))
    if len({(e.image_size, _cut_from(e.preprocess)) for _, e in encoders}) > 1:
        text = told((key, f"{e.image_size} pixels a side{_cut_from(e.preprocess)}") for key, e in encoders)
        kind: Literal["care", "note"] = "care" if len({e.image_size for _, e in encoders}) > 1 else "note"
        more = "A difference may come from that as well as from the encoder"
        found.append(Banner(kind, "Not shown the same", f"What each sees of an image: {text}. {more}."))
    if len({e.precision for _, e in encoders}) > 1:
        text = f"Arithmetic of the encoders: {told((key, e.precision) for key, e in encoders)}."
        found.append(Banner("care", "Different precisions", text))
    if len({_settings(card.method) for _, card, _ in made}) > 1:
        told_of = told((key, _settings(card.method)) for key, card, _ in made)
        text = f"What differs is more than the encoder: {told_of}."
        found.append(Banner("care", "Different methods", text))
    if len(tables) > 1:
        text = "The rows scored are the same, but the tables they come from are not: see “What was run”."
        found.append(Banner("care", "Different tables", text))
    stopped = [
        key.letter for key, card in zip(keys, cards, strict=True) if card.outcome.get("converged") is False
    ]
    if stopped:
        text = f"The fit of {listed(stopped)} stopped before it had converged; see “What was run”."
        found.append(Banner("care", "Not converged", text))
    if scores.clusters < FEW:
        few = plural(scores.clusters, scores.unit)
        text = f"The intervals rest on {few} only; with so few, resampling makes them too narrow."
        found.append(Banner("care", f"Few {units(scores.unit)}", text))
    warned = dict.fromkeys(warning for table in tables for warning in table.warnings)
    found += [Banner("care", "Warning from the table", sentence(warning)) for warning in warned]
    skipped = max((len(table.skipped) for table in tables), default=0)
    if skipped:
        text = f"{plural(skipped, 'row')} of the table could not be used: see “What was run”."
        found.append(Banner("care", "Rows left out", text))
    notes = dict.fromkeys(table.note for table in tables if table.note)
    found += [Banner("note", "Note on the data", sentence(note)) for note in notes]
    found += _of_files(cards, keys)
    return sorted(found, key=lambda banner: ("stop", "care", "note").index(banner.kind))


def score_table(entries: Sequence[Entry], keys: Sequence[Key]) -> Beside:
    """Put every score beside that of the other entries."""
    rows = []
    for name in entries[0].scores.scores:
        words = score_words(name)
        cells = [score_row(name, entry.scores.scores[name]) for entry in entries]
        if any(cell.interval and not cell.bar for cell in cells):  # all on the line, or none
            cells = [replace(cell, bar=None) for cell in cells]
        rows.append(Measure(words.title, words.meaning, None, cells))
    caption = f"All scores {scored_where(_scored(entries))}, with {_level()} intervals"
    return Beside("Score", caption, _heads(keys), ("0", "1"), rows)


def difference_table(entries: Sequence[Entry], keys: Sequence[Key]) -> Beside:
    """Put the differences to the first entry into words, on a scale wide enough for all of them."""
    others = entries[1:]
    scale = scale_of(d for entry in others for d in entry.differences.values())
    rows = []
    for name in others[0].differences:
        cells = [difference_row(entry.differences[name], scale) for entry in others]
        rows.append(Measure(score_words(name).title, "", None, cells))
    caption = (
        f"Each score minus that of {keys[0].letter}, with {_level()} intervals of the difference; "
        f"drawn from −{scale:g} to +{scale:g}"
    )
    heads = [(key, f"{key.letter} − {keys[0].letter}") for key in keys[1:]]
    return Beside("Difference", caption, heads, axis_of(scale), rows)


def class_table(entries: Sequence[Entry], keys: Sequence[Key], side: str) -> Beside:
    """Put every class's sensitivity, or specificity, beside that of the other entries."""
    rows = []
    for name in entries[0].scores.classes:
        ones = [entry.scores.per_class[name] for entry in entries]
        cells = [score_row(side, getattr(one, side)) for one in ones]
        rows.append(Measure(name, "", ones[0].n, cells))
    caption = f"{side.capitalize()} of each class, with {_level()} intervals"
    return Beside("Class", caption, _heads(keys), ("0", "1"), rows, counts=True)


def curves(entries: Sequence[Entry], keys: Sequence[Key]) -> list[Drawing]:
    """Draw ROC and precision-recall curves, one line an entry."""
    predictions = [entry.predictions for entry in entries]
    truth, classes = predictions[0].truth_codes(), predictions[0].classes
    drawn = figures.with_curve(truth, len(classes))
    left_out = [c for i, c in enumerate(classes) if i not in drawn and (len(classes) > 2 or i == 1)]
    beside = ""
    if left_out:
        beside = f" Left out, for want of images inside or outside the class: {', '.join(left_out)}."
    of = (
        f"Positive class: {classes[1]}; "
        if len(classes) == 2
        else "Mean over the classes, each against all others; "
    )
    of = f"{'; '.join(key.name for key in keys)}. {of}"
    roc = f"{of}the AUROC, without interval, is in the legend. The dotted diagonal is guessing.{beside}"
    pr = f"{of}average precision, without interval, is in the legend. The dotted line is guessing.{beside}"
    titles = [f"{key.letter} {key.title}" for key in keys]
    data = (truth, [given.probabilities for given in predictions], classes, titles)
    lines: figures.Drawn = (None, None)
    steps: figures.Drawn = (None, None)
    if drawn:
        lines, steps = overlays.roc_overlay(*data), overlays.precision_recall_overlay(*data)
    return [
        Drawing("ROC curves", roc, lines[0], points=lines[1], name="roc"),
        Drawing("Precision-recall curves", pr, steps[0], points=steps[1], name="precision_recall"),
    ]


def matrices(entries: Sequence[Entry], keys: Sequence[Key]) -> list[tuple[Key, Drawing]]:
    """Draw one confusion matrix an entry; many classes need the whole width."""
    found = []
    for key, entry in zip(keys, entries, strict=True):
        classes = entry.scores.classes
        name = f"confusion-{key.letter}"
        svg, points = figures.confusion_matrix(entry.scores.confusion, classes, name=name)
        found.append((key, Drawing(key.title, "", svg, wide=len(classes) > 9, points=points, name=name)))
    return found


def agreement(predictions: Sequence[Predictions], keys: Sequence[Key]) -> Grid:
    """Count the images that all, none or only one of the entries gets right."""
    wrong = wrong_rows(predictions)
    often, n = wrong.sum(axis=0), wrong.shape[1]
    counts = [("right by all", int((often == 0).sum()))]
    for key, own in zip(keys, wrong, strict=True):
        counts.append((f"wrong by {key.letter} only", int((own & (often == 1)).sum())))
    if len(keys) > 2:
        between = int(((often > 1) & (often < len(keys))).sum())
        counts.append(("wrong by two or more, not all", between))
    counts.append(("wrong by all", int((often == len(keys)).sum())))
    return Grid(("images", "number", "share"), [(name, f"{m:,}", f"{m / n:.1%}") for name, m in counts])


def galleries(entries: Sequence[Entry], keys: Sequence[Key]) -> list[Gallery]:
    """Gather the images that all get wrong, then those that only one does."""
    predictions = [entry.predictions for entry in entries]
    wrong = wrong_rows(predictions)
    often = wrong.sum(axis=0)
    everyone = "both" if len(keys) == 2 else f"all {len(keys)}"
    found = [
        Gallery(
            f"Wrong by {everyone}",
            f"No image was put into a wrong class by {everyone}.",
            int((often == len(keys)).sum()),
            list(mistakes_of_all(predictions, beside=entries[0].look)),
        )
    ]
    for i, (key, own) in enumerate(zip(keys, wrong, strict=True)):
        total = int((own & (often == 1)).sum())
        none = f"No image was put into a wrong class by {key.letter} alone."
        title = f"Wrong by {key.letter} only"
        shown = list(mistakes_of_one(predictions, i, beside=entries[i].look))
        found.append(Gallery(title, none, total, shown))
    return found


def _heads(keys: Sequence[Key]) -> list[tuple[Key, str]]:
    return [(key, key.letter) for key in keys]


def _level() -> str:
    return f"{LEVEL:.0%}".replace("%", " %")


def _noun(entries: Sequence[Entry]) -> str:
    made = [entry.predictions.card.embeddings for entry in entries]
    if any(one is None for one in made):
        return "model"
    return "encoder" if len({one.identity for one in made if one}) == len(entries) else "evaluation"


def _scored(entries: Sequence[Entry]) -> Predictions:
    """Return the predictions that know most of the rows scored: those of a table, else the first."""
    given = [entry.predictions for entry in entries]
    return next((one for one in given if one.card.embeddings), given[0])


def _of_files(cards: Sequence[PredictionsCard], keys: Sequence[Key]) -> list[Banner]:
    """Say what rows that were read from a user's own file are known by."""
    found = []
    read = [(key.letter, card.file) for key, card in zip(keys, cards, strict=True) if card.file]
    named = [letter for letter, file in read if _names_images(file)]
    counted = [letter for letter, file in read if not _names_images(file)]
    if named:
        was = "was" if len(named) == 1 else "were"
        text = (
            f"{listed(named)} {was} read from a file, which holds no hash of an image: that its rows are of "
            "the same images rests on their names, and on the truth, which agrees in every row."
        )
        found.append(Banner("note", "Matched by name", text))
    if counted:
        text = (
            f"The rows of {listed(counted)} are known by their numbers in the file alone: that they are of "
            "the same images rests on their order, and on the truth. Name the column of the images: --image."
        )
        found.append(Banner("care", "Matched by order", text))
    return found


def _names_images(file: PredictionsFile) -> bool:
    return "image" in file.columns


def _cut_from(preprocess: dict[str, object]) -> str:
    before = preprocess.get("resize")
    return "" if before in (None, preprocess.get("crop")) else f", cut from {before}"


def _settings(method: dict[str, object]) -> str:
    """Return the settings of a method in a line; of what follows from the rows, nothing."""
    told = {k: v for k, v in method.items() if isinstance(v, str | int | float)}
    kept = {k: v for k, v in told.items() if k not in ("penalty", "sees")}  # titles say what each sees
    return ", ".join(f"{key.replace('_', ' ')} {plain(value)}" for key, value in kept.items())


def _reasons(entries: Sequence[Entry]) -> list[str]:
    """Say, once each, why scores are not computable or have no interval."""
    every = [score for entry in entries for score in entry.scores.scores.values()]
    every += [s for e in entries for c in e.scores.per_class.values() for s in (c.sensitivity, c.specificity)]
    every += [d for entry in entries for d in entry.differences.values()]
    exact = ["Where no draw changes a share, its interval is exact (Clopper and Pearson), by whole units."]
    known = dict.fromkeys(score.reason for score in every if score.reason)
    return [*known, *(exact if any(score.method == EXACT for score in every) else [])]


def _by_table(entries: Sequence[Entry], ran: Sequence[Ran]) -> list[tuple[list[Key], RunRecord]]:
    """Return each table's record once, with the entries that come from it."""
    found: dict[str, tuple[list[Key], RunRecord]] = {}
    for entry, one in zip(entries, ran, strict=True):
        card = entry.predictions.card
        source = card.embeddings.table.sha256 if card.embeddings else card.identity
        found.setdefault(source, ([], one.record))[0].append(one.key)
    return list(found.values())
