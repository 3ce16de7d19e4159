"""The index of a folder of tables: what each file is, and what its numbers rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from panderm.provenance import Provenance
from panderm.report.tables.printed import Printed, markdown
from panderm.report.words import moment
from panderm.scores import LEVEL

_SOURCES = ("Model", "Split", "n", "Units resampled", "Draws", "Seed", "Identity of the predictions")


@dataclass(frozen=True)
class Listed:
    """One table or figure: its name, kinds of files, what it holds, its columns, its rows."""

    name: str
    kinds: tuple[str, ...]
    what: str
    columns: tuple[str, ...]
    rows: int

    @property
    def files(self) -> str:
        """The files' names, as Markdown."""
        return ", ".join(f"`{self.name}.{kind}`" for kind in self.kinds)


def read_me(listed: Sequence[Listed], sources: Sequence[tuple[str, ...]], how: str, made: Provenance) -> str:
    """Return ``README.md``.

    Args:
        listed: every table and figure.
        sources: what the numbers rest on.
        how: how intervals were made.
        made: now.
    """
    level = f"{LEVEL:.0%}".replace("%", " %")
    texts = [(one.files, one.what) for one in listed if "csv" not in one.kinds]
    tables = [(one.files, one.what, f"{one.rows:,}") for one in listed if "tex" in one.kinds]
    points = [
        (one.files, one.what, ", ".join(one.columns), f"{one.rows:,}")
        for one in listed
        if one.kinds == ("csv",)
    ]
    parts = [
        "# Tables and points of a report\n",
        f"Made by panderm {made.panderm}, {moment(made.created)}.\n",
        "## What the numbers rest on\n",
        markdown(Printed(f"{level} intervals: {how}.", _SOURCES, tuple(sources), keys=len(_SOURCES))),
        "## Result tables\n",
        "One row a number: `value` with the ends of its interval, `low` and `high`, unrounded; `n` is the "
        "rows it rests on, and `reason` says why there is no value or no interval. The same as "
        "`value (low–high)` in Markdown, and in LaTeX, which needs `booktabs`; names in other scripts need "
        "XeLaTeX or LuaLaTeX.\n",
        markdown(Printed("", ("File", "Holds", "Rows"), tuple(tables), keys=2)),
        "## Points of figures\n",
        "One row a point, as plotted.\n",
        markdown(Printed("", ("File", "Holds", "Columns", "Rows"), tuple(points), keys=3)),
        "## The other files\n",
        *(f"- {files}: {what}." for files, what in texts),
        "- `provenance.json`: every file that the numbers rest on, with its hash.",
        "- `card.json`: version, command, machine, time, and the SHA-256 of every file here.\n",
    ]
    return "\n".join(parts)
