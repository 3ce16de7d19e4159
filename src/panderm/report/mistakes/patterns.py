"""What the mistakes have in common: which classes are taken for which, and images alike that go wrong."""

from __future__ import annotations

from collections.abc import Sequence

from panderm.report.entry import Entry
from panderm.report.mistakes.confused import confusion_section
from panderm.report.mistakes.together import together_sections
from panderm.report.section import Section


def pattern_sections(entries: Sequence[Entry]) -> list[Section]:
    """Return what the mistakes of each entry have in common.

    Args:
        entries: one, or several of the same rows.
    """
    pairs = confusion_section(entries)
    return [*([] if pairs is None else [pairs]), *together_sections(entries)]
