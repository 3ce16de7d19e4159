"""The page's sections for the manuscript: methods to paste, checklists, model card, provenance."""

from __future__ import annotations

from collections.abc import Sequence

from panderm.report.entry import Entry
from panderm.report.section import Section


def document_sections(entries: Sequence[Entry]) -> list[Section]:
    """Return what an author takes from the page.

    Args:
        entries: one, or several of the same rows.
    """
    return [] if entries else []
