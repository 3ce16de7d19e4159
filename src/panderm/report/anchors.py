"""Where on the page things stand, so that a checklist can point there."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from panderm.report.entry import Entry

_ALWAYS = {
    "scores": "Scores",
    "classes": "Each class",
    "figures": "Figures",
    "mistakes": "Mistakes",
    "run": "What was run",
    "methods": "Methods",
    "model-card": "Model card",
    "provenance": "Provenance",
}


def anchors(entries: Sequence[Entry]) -> dict[str, str]:
    """Return the sections that a page of these entries has, by their id, with what to call them."""
    first = entries[0]
    found = dict(_ALWAYS)
    if all(entry.predictions.card.embeddings for entry in entries):
        found["weights"] = "Weights"
    if all(entry.scores.subgroups is not None for entry in entries):
        groups = [
            [(c.column, [level.level for level in c.levels]) for c in entry.scores.subgroups.columns]
            for entry in entries
            if entry.scores.subgroups is not None
        ]
        if all(one == groups[0] for one in groups):
            found["subgroups"] = "Subgroups"
    if len(entries) > 1:
        return found | {"differences": "Differences"}
    scores = first.scores
    sections = {
        "folds": ("Fold by fold", scores.folds),
        "operating": ("Operating points", scores.operating),
        "calibration": ("Calibration", scores.calibration),
        "sets": ("Prediction sets", scores.prediction_sets),
        "selective": ("Selective prediction", scores.selective),
        "hierarchy": ("Diagnosis hierarchy", scores.hierarchy),
    }
    return found | {name: title for name, (title, held) in sections.items() if held is not None}


def linked(text: str, wanted: Sequence[str], there: dict[str, str]) -> str:
    """Return a text followed by links to those of the wanted sections that there are, fit for the page."""
    links = [f'<a href="#{name}">{escape(there[name])}</a>' for name in wanted if name in there]
    return Markup(f"{escape(text)} {', '.join(links)}".strip())
