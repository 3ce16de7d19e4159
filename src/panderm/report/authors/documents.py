"""The page's sections for the manuscript: methods to paste, checklists, model card, provenance."""

from __future__ import annotations

from collections.abc import Sequence

from panderm.report.authors.checklists import checklist_section
from panderm.report.authors.methods import methods_paragraphs
from panderm.report.authors.model_card import model_card_section
from panderm.report.authors.provenance_chain import provenance_section
from panderm.report.authors.references import references
from panderm.report.entry import Entry
from panderm.report.section import Paste, Section
from panderm.scores.compared import Comparison


def document_sections(entries: Sequence[Entry], comparison: Comparison | None = None) -> list[Section]:
    """Return what an author takes from the page.

    Args:
        entries: one, or several of the same rows.
        comparison: the tests of several.
    """
    if not entries:
        return []
    return [
        methods_section(entries, comparison),
        checklist_section(entries),
        model_card_section(entries),
        provenance_section(entries),
    ]


def methods_section(entries: Sequence[Entry], comparison: Comparison | None = None) -> Section:
    """Return the methods and the works to cite, each to be selected with one click."""
    intro = [
        "To be pasted into a manuscript: one click selects a box. What only the author knows stands in "
        "brackets that begin with [AUTHOR."
    ]
    pastes = [
        Paste("Methods", methods_paragraphs(entries, comparison)),
        Paste("References", references(entries, comparison)),
    ]
    return Section("methods", "Methods, ready to paste", intro, pastes=pastes)
