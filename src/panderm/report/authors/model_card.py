"""The model card (Mitchell et al., 2019, doi:10.1145/3287560.3287596): what is known, and what is left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from panderm.errors import plural, some
from panderm.report.authors import findings, methods
from panderm.report.authors.cautions import cautions, voiding
from panderm.report.authors.frequencies import quoted
from panderm.report.entry import Entry
from panderm.report.section import Folded, Rows, Section, told
from panderm.report.with_columns import without_image
from panderm.report.words import duration, plain, score_words, verdict
from panderm.scores import Score, headline

_AUTHOR = "Author must write: "


def model_card_section(entries: Sequence[Entry]) -> Section:
    """Return one card for each entry: open where there is one, folded where there are several."""
    cards = [
        Rows(f"Model card: {entry.title}", ("Part", "What is known"), card_rows(entry)) for entry in entries
    ]
    folded = [
        Folded("The whole card" if len(entries) == 1 else entry.title, card, "card-rows")
        for entry, card in zip(entries, cards, strict=True)
    ]
    intro = (
        "A card of the model, in the parts that Mitchell et al. (2019, doi:10.1145/3287560.3287596) proposed."
    )
    return Section("model-card", "Model card", [intro], folded=folded)


def card_rows(entry: Entry) -> list[list[str]]:
    """Return the parts of the card and what is known of each."""
    scores = entry.scores
    return [
        ["Model", _model(entry)],
        ["Version and date", _version(entry)],
        ["Intended use", f"{_AUTHOR}who is to use it on whom, for which decision."],
        [
            "Not to be used for",
            f"{_AUTHOR}what it must not decide. It was made for research, not approved for care.",
        ],
        ["Factors", _factors(entry)],
        ["Data of evaluation", methods.of_data(entry).partition(methods.AUTHOR)[0].strip()],
        ["Data of training", _training(entry)],
        *[[score_words(name).title, told(score)] for name, score in scores.scores.items()],
        *[
            [f"Sensitivity, {name} ({one.n:,})", told(one.sensitivity)]
            for name, one in scores.per_class.items()
        ],
        *_operating(entry),
        ["Intervals", methods.of_intervals(scores)],
        ["Subgroups", findings.weakest(scores) or "Not scored: panderm evaluate --by COLUMN."],
        *_further_groups(entry),
        ["Limits", " ".join([*voiding(entry), *cautions(entry)])],
        ["Ethics", f"{_AUTHOR}consent, committee, who may be harmed by a miss or a false alarm."],
        ["Licence of the weights", _licence(entry)],
        ["Licence of the data", f"{_AUTHOR}the licence of the images and of their labels."],
        ["Computing", _computing(entry)],
        ["Contact", f"{_AUTHOR}whom to ask."],
    ]


def _model(entry: Entry) -> str:
    card = entry.predictions.card
    if card.embeddings is None:
        return f"{card.model}, read from a file. {_AUTHOR}what the model is."
    probe = methods.of_probe(entry)
    if without_image(card.method):
        return f"Columns of the table, without any image; {probe}"
    encoder = card.embeddings.encoder
    return f"{encoder.name} ({encoder.architecture}), {methods.of_weights(encoder)}; {probe}"


def _version(entry: Entry) -> str:
    made = entry.predictions.card.provenance
    return f"{made.created[:10]}, panderm {made.panderm}; predictions {entry.predictions.card.identity[:12]}"


def _factors(entry: Entry) -> str:
    held = entry.scores.subgroups
    asked = (
        f"Scored by {quoted([c.column for c in held.columns], 'and')}." if held else "No subgroup was scored."
    )
    return f"{asked} {_AUTHOR}skin tones, sites, ages, devices that matter for the use."


def _training(entry: Entry) -> str:
    card = entry.predictions.card
    if card.embeddings is None:
        return f"{_AUTHOR}the data the model was trained on."
    own = f"The probe: {methods.fitted_rows(card)}."
    if card.embeddings.encoder.random:
        return f"{own} The encoder: none, its weights are drawn at random."
    return f"{own} The encoder: {card.embeddings.encoder.citation or card.embeddings.encoder.source}."


def _operating(entry: Entry) -> list[list[str]]:
    held = entry.scores.operating
    point = None if held is None else findings.first_point(held)
    if held is None or point is None:
        return []
    at = f"At {findings.aimed(held, point)}"
    names = ("sensitivity", "specificity", "ppv", "npv")
    of = "; ".join(f"{score_words(n).title} {told(point.scores.get(n))}" for n in names)
    return [["Threshold", f"{at}, positive {quoted(held.positive)}: {of}."]]


def _further_groups(entry: Entry) -> list[list[str]]:
    held = entry.scores.subgroups
    if held is None:
        return []
    name = headline(held)
    rows = []
    for column in held.columns:
        levels = [f"{level.level} ({level.n:,}) {_briefly(level.scores[name])}" for level in column.levels]
        rows.append([f"{score_words(name).title} by {column.column}", f"{some(levels, 20)}."])
    return rows


def _briefly(score: Score) -> str:
    return told(score) if score.value is not None else verdict(score)


def _licence(entry: Entry) -> str:
    card = entry.predictions.card
    if card.embeddings is None:
        return f"{_AUTHOR}the licence of the model."
    encoder = card.embeddings.encoder
    if encoder.random:
        return "No licence is needed: they are drawn at random."
    file = Path(encoder.weights).name if encoder.weights else encoder.name
    return f"{encoder.licence or 'not stated'} ({file}; {encoder.source or 'source not stated'})"


def _computing(entry: Entry) -> str:
    card = entry.predictions.card
    if card.embeddings is None:
        return f"{_AUTHOR}time, machine and energy of training and prediction."
    embed, probe = card.embeddings.provenance, card.provenance
    parts = []
    if embed.seconds is not None:
        speed = card.embeddings.images_per_second
        rate = f", {plain(round(speed, 1))} images per second" if speed else ""
        parts.append(
            f"embedding {plural(card.embeddings.rows, 'image')} took {duration(embed.seconds)}{rate}"
        )
    if probe.seconds is not None:
        parts.append(f"fitting and predicting {duration(probe.seconds)}")
    parts.append(f"on {probe.machine}")
    whole = ", ".join(parts)
    return f"{whole[0].upper()}{whole[1:]}. Energy was not measured; pretraining is not counted."
