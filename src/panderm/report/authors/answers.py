"""What of a reporting checklist can be answered from the cards and scores: one answer a topic.

An answer is complete, or a part to which the author has to add, or says why a topic does not apply. What has
no answer here only the author knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from panderm.errors import plural, some
from panderm.report.authors import findings, methods
from panderm.report.authors.cautions import cautions
from panderm.report.authors.frequencies import of_100
from panderm.report.entry import Entry
from panderm.report.with_columns import without_image
from panderm.scores import Scores

Status = Literal["filled", "in part", "not applicable"]


@dataclass(frozen=True)
class Answer:
    """What is known of a topic, and which sections of the page say more."""

    text: str
    where: tuple[str, ...] = ()
    status: Status = "filled"


def answers(entries: Sequence[Entry]) -> dict[str, Answer]:
    """Return what is known, by the topic's key in ``checklists.csv``.

    Args:
        entries: one evaluation, or several of the same rows.
    """
    first = entries[0]
    found = _of_results(entries) | _of_data(first)
    if all(entry.predictions.card.embeddings for entry in entries):
        found |= _of_table(first) | _of_models(entries)
    return found


def _of_data(entry: Entry) -> dict[str, Answer]:
    card, scores = entry.predictions.card, entry.scores
    counts = some([f"{name} {one.n:,}" for name, one in scores.per_class.items()], 12)
    scored = f"{plural(scores.n, scores.row)}{scores.of_units} scored ({counts})"
    known = "" if card.embeddings else f"Read from {card.source}. "
    return {
        "sources": Answer(f"{known or f'Table {card.source}. '}{scored}.", ("run", "provenance"), "in part"),
        "outcome": Answer(f"Classes: {some(scores.classes, 12)}.", ("classes",), "in part"),
        "flow": Answer(f"{_left_out(entry)}{scored}.", ("run",), "in part"),
        "numbers": Answer(f"{_fitted(entry)}{scored}.", ("run", "classes")),
        "sample_size": Answer(f"{scored}; no size was computed beforehand here.", (), "in part"),
        "other_diagnoses": Answer(f"Rows by class: {counts}.", ("classes", "figures")),
        "representative": _prevalence(scores),
        "unclear": Answer(
            "Every row has a probability of each class: the test has no unclear result.", (), "in part"
        ),
    }


def _of_table(entry: Entry) -> dict[str, Answer]:
    """Answer what the card of the table knows."""
    card = entry.predictions.card
    table = card.made_of("A checklist").table
    left_out = methods.of_exclusions(table)
    split = methods.of_split(table)
    roles = [noun for noun, role in (("patient", "patient"), ("lesion", "group")) if table.roles.get(role)]
    apart = (
        f"No {' and no '.join(roles)} is in two parts; checked when the table was read."
        if roles
        else "No patient and no lesion is named: only images are known to be apart."
    )
    found = {
        "eligibility": Answer(left_out, ("run",), "in part"),
        "missing": Answer(f"{left_out} No value was filled in.", ("run",), "in part"),
        "preparing": Answer(
            f"Every file was opened and named by its SHA-256; images are unique. {left_out}",
            ("run",),
            "in part",
        ),
        "disjoint": Answer(apart, ("methods",), "filled" if roles else "in part"),
    }
    if entry.predictions.fold is not None:
        found["partition"] = Answer(
            f"Every row was predicted by a probe of the other folds ({card.split}).", ("folds", "run")
        )
    elif card.fitted_on is not None:
        other = card.fitted_on.table
        found["partition"] = Answer(
            f"Fitted on {methods.of_table(other)} of {other.name}; {card.split} was scored.",
            ("methods", "run"),
        )
    elif split:
        found["partition"] = Answer(split, ("run",))
    return found


def _of_models(entries: Sequence[Entry]) -> dict[str, Answer]:
    """Answer what the cards of encoders and probes know."""
    first = entries[0]
    cards = [entry.predictions.card for entry in entries]
    encoders = [c.made_of("A checklist").encoder for c in cards if not without_image(c.method)]
    named = _each(
        f"{e.name}: {e.architecture}, {e.dim} numbers an image of {e.image_size} pixels" for e in encoders
    )
    weights = _each(f"{e.name} {methods.of_weights(e)}" for e in encoders)
    probes = _each((methods.of_probe(entry) or "").rstrip(".") for entry in entries)
    chosen = _each(filter(None, map(methods.chosen, cards)))
    software = methods.of_software(entries)
    columns = next((list(map(str, c.method["columns"])) for c in cards if c.method.get("columns")), [])
    beside = [f"{'column' if len(columns) == 1 else 'columns'} {some(columns, 8)}"] if columns else []
    seen = " and ".join([*(["the pixels of the image"] if encoders else []), *beside])
    blind = f"The model was given {seen}; the truth of the rows scored was kept from it."
    balanced = [str(c.method["class weight"]) for c in cards if c.method.get("class weight")]
    imbalance = (
        f"Classes were weighted: {_each(balanced)}." if balanced else "Nothing was done about rare classes."
    )
    external = [card for card in cards if card.fitted_on is not None]
    found = {
        "model": Answer(f"{named or 'No image'}; then: {probes}.", ("methods", "weights", "run")),
        "software": Answer(software, ("run",)),
        "devices": Answer(software, ("run",), "in part"),
        "training": Answer(f"{probes}.", ("methods", "run")),
        "selection": Answer(
            f"{chosen or 'Settings are given'}.", ("run",), "filled" if chosen else "in part"
        ),
        "ensemble": Answer("One encoder and one probe make each prediction.", (), "not applicable"),
        "blind_index": Answer(blind),
        "predictors": Answer(f"Predictors: {seen}.", (), "in part"),
        "predictor_definition": Answer(f"Predictors: {seen}.", ("methods",), "in part"),
        "imbalance": Answer(imbalance, ("run",)),
        "computed": Answer(
            "By panderm; the probe lies beside its predictions, and commands are given.", ("run",)
        ),
        "specification": Answer(
            f"{weights or 'No encoder'}; the probe lies beside its predictions.",
            ("weights", "run"),
            "in part",
        ),
        "availability": Answer("Commands, versions and hashes are given.", ("run", "provenance"), "in part"),
        "data_sharing": Answer(f"The table is {first.predictions.card.source}.", ("provenance",), "in part"),
        "code_sharing": Answer(
            f"panderm {cards[0].provenance.panderm}; commands are given.", ("run",), "in part"
        ),
        "audit": Answer("Predictions of every row are kept, each file under its hash.", ("provenance",)),
    }
    if encoders:
        told = _each(methods.of_preprocessing(e) for e in encoders)
        found["preprocessing"] = Answer(told, ("run",))
        told = f"{weights}. The encoder was not trained further."
        found["initial"] = Answer(told, ("weights", "provenance"))
    if external:
        fitted = external[0].fitted_on
        assert fitted is not None
        own, other = (methods.named(made.table) for made in (external[0].made_of("A checklist"), fitted))
        found["external"] = Answer(f"Fitted on {other}, scored on {own}.", ("scores", "run"))
        found["differences"] = Answer(f"Fitted on {other}, scored on {own}.", ("run",), "in part")
        found["compared_data"] = Answer("Counts of both tables are given.", ("run",), "in part")
    else:
        same = "No outside data: development and evaluation rows are of one table."
        found["internal"] = Answer(f"Scored on {cards[0].split} of the same table.", ("scores",))
        found["differences"] = Answer(same, (), "not applicable")
        found["compared_data"] = Answer("Counts by class and split are given.", ("run",), "in part")
    return found


def _of_results(entries: Sequence[Entry]) -> dict[str, Answer]:
    """Answer what the scores know."""
    first = entries[0]
    scores = first.scores
    limits = " ".join(dict.fromkeys(one for entry in entries for one in cautions(entry)))
    right = int(scores.confusion.trace())
    crosstab = f"{right:,} of {scores.n:,} rows went to their class; the whole table is given."
    ranked = " ".join(filter(None, (findings.ranking(entry.scores) for entry in entries)))
    found = {
        "metrics": Answer(methods.of_scores(entries), ("scores", "calibration", "operating"), "in part"),
        "uncertainty": Answer(methods.of_intervals(scores), ("scores", "differences", "tests", "methods")),
        "accuracy": Answer(ranked or "All scores have intervals.", ("scores", "classes", "operating")),
        "crosstab": Answer(crosstab, ("figures", "operating")),
        "failures": Answer(
            f"{scores.n - right:,} of {scores.n:,} rows went wrong.", ("mistakes",), "in part"
        ),
        "limitations": Answer(limits, ("model-card",), "in part"),
        "output": _output(scores),
        "robustness": _subgroups(scores, "in part"),
        "fairness": _subgroups(scores, "in part"),
        "variability": _subgroups(scores, "in part"),
        "demographics": _subgroups(scores, "in part"),
        "performance": _performance(scores),
    }
    return {key: answer for key, answer in found.items() if answer is not None} | _updating(scores)


def _performance(scores: Scores) -> Answer:
    groups = _subgroups(scores, "filled")
    told = f"All scores have intervals. {groups.text if groups else 'No subgroup was scored.'}"
    return Answer(told, ("scores", "subgroups"), "filled" if groups else "in part")


def _updating(scores: Scores) -> dict[str, Answer]:
    held = scores.calibration
    if held is None or not held.recalibrated:
        none = Answer("The model was not updated.", (), "not applicable")
        return {"updating": none, "updated": none}
    names = " and ".join(one.of for one in held.recalibrated)
    told = f"Recalibrated on {held.fitted_on} ({names}), beside the probabilities as given."
    return {"updating": Answer(told, ("calibration",)), "updated": Answer(told, ("calibration",))}


def _output(scores: Scores) -> Answer:
    classes = plural(len(scores.classes), "class", "classes")
    told = f"A probability of each of {classes}; the most probable is named."
    thresholds = methods.of_thresholds(scores)
    if thresholds is None:
        return Answer(f"{told} No threshold was chosen.", ("classes",), "in part")
    return Answer(f"{told} {thresholds}", ("operating",), "in part")


def _subgroups(scores: Scores, status: Status) -> Answer | None:
    held = scores.subgroups
    if held is None:
        return None
    told = [f"{c.column} ({some([f'{one.level} {one.n:,}' for one in c.levels], 6)})" for c in held.columns]
    return Answer(f"Scored by {'; '.join(told)}, each with its gap to the rest.", ("subgroups",), status)


def _prevalence(scores: Scores) -> Answer:
    name, one = max(scores.per_class.items(), key=lambda item: item[1].n)
    told = f"Here {of_100(one.n / max(1, scores.n))} of 100 rows are “{name}”."
    return Answer(told, ("classes",), "in part")


def _left_out(entry: Entry) -> str:
    card = entry.predictions.card
    if card.embeddings is None:
        return ""
    table = card.embeddings.table
    return f"{table.rows + len(table.skipped):,} rows read, {len(table.skipped):,} left out; "


def _fitted(entry: Entry) -> str:
    card = entry.predictions.card
    if card.embeddings is None:
        return ""
    beside = f"; {card.validation.rows:,} of {card.validation.split} beside them" if card.validation else ""
    return f"Fitted on {methods.fitted_rows(card)}{beside}; "


def _each(told: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(told))
