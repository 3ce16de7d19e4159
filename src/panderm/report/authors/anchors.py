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
        found |= {"differences": "Differences", "tests": "Tests of the differences"}
    elif first.scores.folds is not None:
        found["folds"] = "Fold by fold"
    sections = {
        "operating": ("Operating points", "operating"),
        "calibration": ("Calibration", "calibration"),
        "sets": ("Prediction sets", "prediction_sets"),
        "selective": ("Selective prediction", "selective"),
        "hierarchy": ("Diagnosis hierarchy", "hierarchy"),
    }
    every = [entry.scores for entry in entries]
    return found | {
        name: title
        for name, (title, held) in sections.items()
        if all(getattr(scores, held) is not None for scores in every)
    }


def linked(text: str, wanted: Sequence[str], there: dict[str, str]) -> str:
    """Return a text followed by links to those of the wanted sections that there are, fit for the page."""
    links = [f'<a href="#{name}">{escape(there[name])}</a>' for name in wanted if name in there]
    return Markup(f"{escape(text)} {', '.join(links)}".strip())
