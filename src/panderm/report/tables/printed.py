"""Tables as a manuscript prints them: Markdown, and LaTeX with booktabs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from panderm.report.tables.results import Result, Results
from panderm.report.words import number, score_words, signed, verdict
from panderm.scores import Score

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "→": r"$\rightarrow$",
    "·": r"$\cdot$",
    "…": r"\ldots{}",
    "’": "'",
    "‘": "`",
    "“": "``",
    "”": "''",
    "\u00a0": "~",
    "\u202f": r"\,",
}
# As LaTeX reads a line: [ after \\ would be an optional argument.
_ESCAPES = str.maketrans(_LATEX)


# Of names that only stand in tables.
_WORDS = {
    "p": "p",
    "p_holm": "p, Holm",
    "tp": "TP",
    "fp": "FP",
    "fn": "FN",
    "tn": "TN",
    "support": "Images",
    "size": "Mean size",
    "single": "Sets of one class",
    "empty": "Empty sets",
    "area": "Area under the curve",
    "excess_area": "Above the best order",
}


@dataclass(frozen=True)
class Printed:
    """A table in words: its caption, its head, its rows; the first ``keys`` columns name a row."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    keys: int = 1


def printed(table: Results, rests: str) -> Printed:
    """Put a result table into words.

    Args:
        table: its numbers.
        rests: how its intervals were made, for the caption.
    """
    named = [*(key for key in table.keys if key != table.across), *(["score"] * (table.across != "score"))]
    cells: dict[tuple[str, ...], dict[str, Result]] = {}
    for row in table.rows:
        its = dict(zip(table.keys, row.of, strict=True)) | {"score": row.score}
        cells.setdefault(tuple(its[key] for key in named), {})[its[table.across]] = row
    across = list(dict.fromkeys(head for row in cells.values() for head in row))
    shown = [
        i for i, key in enumerate(named)
        if key not in ("model", "score") or len({of[i] for of in cells}) > 1
    ] or [0]  # fmt: skip
    counts = {of: {one.n for one in row.values() if one.n is not None} for of, row in cells.items()}
    of_all = set().union(*counts.values())
    with_n = len(of_all) > 1 and all(len(n) < 2 for n in counts.values())
    header = [
        *("Score" if named[i] == "score" else named[i].capitalize() for i in shown),
        *(["n"] if with_n else []),
        *(_head(table.across, head, across, signed=table.signed) for head in across),
    ]
    rows = []
    for of, held in cells.items():
        names = [_titled(of[i]) if named[i] in ("score", "of") else _read(of[i]) for i in shown]
        n = [f"{next(iter(counts[of])):,}" if counts[of] else "—"] if with_n else []
        rows.append((*names, *n, *(_cell(held.get(head), table) for head in across)))
    told = [table.title, *([table.note] if table.note else []), rests]
    told += [f"n = {of_all.pop():,}"] if len(of_all) == 1 and table.name != "over_folds" else []
    scores = [row.value for row in table.rows if isinstance(row.value, Score)]
    notes = dict.fromkeys(score.reason for score in scores if score.reason)
    return Printed("; ".join(told) + ".", tuple(header), tuple(rows), tuple(notes), len(shown))


def markdown(table: Printed) -> str:
    """Return a table as GitHub and Pandoc read it."""
    lines = [
        _bar(table.header),
        _bar(["---"] * table.keys + ["---:"] * (len(table.header) - table.keys)),
        *(_bar(row) for row in table.rows),
    ]
    notes = "".join(f"\n- {_one_line(note)}" for note in table.notes)
    return f"{_one_line(table.caption)}\n\n" + "\n".join(lines) + "\n" + (f"{notes}\n" if notes else "")


def latex(table: Printed, name: str) -> str:
    """Return a table as a float of LaTeX; it needs the package booktabs.

    Args:
        table: in words.
        name: what it is called, after ``tab:`` in its label.
    """
    frame = pd.DataFrame(
        [[escaped(cell) for cell in row] for row in table.rows],
        columns=pd.Index([escaped(cell) for cell in table.header]),
    )
    form = "l" * table.keys + "r" * (len(table.header) - table.keys)
    inside = frame.to_latex(index=False, escape=False, column_format=form)
    notes = "".join(f"\\\\\\footnotesize {escaped(note)}\n" for note in table.notes)
    return (
        "\\begin{table}[htbp]\n\\centering\n"
        f"\\caption{{{escaped(table.caption)}}}\n\\label{{tab:{name}}}\n{inside}{notes}\\end{{table}}\n"
    )


def escaped(text: str) -> str:
    """Return a text that LaTeX prints as it is."""
    found = _one_line(text).translate(_ESCAPES)
    return f"{{}}{found}" if found.startswith(("[", "*")) else found


def _head(across: str, name: str, all_of: Sequence[str], *, signed: bool) -> str:
    if across == "model" and len(all_of) == 1 and not signed:
        return "Value"
    return _titled(name) if across == "score" else _read(name)


def _read(name: str) -> str:
    return name.replace(">=", "≥")


def _titled(name: str) -> str:
    if name.startswith("p ("):
        return name
    return _WORDS.get(name) or score_words(name).title


def _cell(row: Result | None, table: Results) -> str:
    if row is None or row.value is None:
        return "—"
    value = row.value
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return "< 0.001" if table.name == "tests" and value < 0.001 else number(value)
    told = signed if table.signed else number
    if value.value is None:
        return verdict(value)
    if value.low is None or value.high is None:
        return f"{told(value.value)} (no interval)"
    between = " to " if table.signed or value.low < 0 else "–"
    return f"{told(value.value)} ({told(value.low)}{between}{told(value.high)})"


def _bar(cells: Sequence[str]) -> str:
    return (
        "| " + " | ".join(_one_line(cell).replace("\\", "\\\\").replace("|", "\\|") for cell in cells) + " |"
    )


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() or c in "\u00a0\u202f" else " " for c in text).split())
