"""What the linter of columns found, in the shape that the gate tells things in."""

from __future__ import annotations

from collections.abc import Sequence

from panderm.errors import plural, some
from panderm.gate.columns import ColumnLint, LintedColumn, lint_columns
from panderm.gate.cross_validated import DRAWS, Auroc
from panderm.gate.file_facts import file_facts
from panderm.gate.findings import Finding, Inspected, Measure


def inspect_columns(
    inspected: Inspected, /, *, draws: int = DRAWS, seed: int = 0, progress: bool = False
) -> list[Finding]:
    """Tell which columns, names and facts of files predict the label by themselves.

    A table without a label column has nothing to be predicted: an empty list.

    Args:
        inspected: the table and its files.
        draws: of the bootstrap.
        seed: of the folds and of the bootstrap.
        progress: show progress on standard error.
    """
    roles = inspected.roles
    label = roles["label"]
    if label is None:
        return []
    facts = file_facts(inspected.path, inspected.examined, progress=progress)
    lint = lint_columns(
        inspected.frame,
        label=label,
        image=roles["image"],
        split=roles["split"],
        patient=roles["patient"],
        group=roles["group"],
        facts=facts,
        draws=draws,
        seed=seed,
        progress=progress,
    )
    return column_findings(lint)


def column_findings(lint: ColumnLint) -> list[Finding]:
    """Put what the linter found into findings and notes."""
    if lint.reason:
        title = "Columns not tested"
        sentence = f"whether columns predict {lint.label} was not tested: {lint.reason}"
        return [_note("columns-not-tested", title, sentence, 0)]
    found = [_gives_away(one) for one in lint.giving_away]
    basis = lint.columns[0].auroc.basis if lint.columns else ""
    predicting = [
        one for one in lint.columns if one.verdict == "predicts the label" and one.source != "order"
    ]
    if predicting:
        sentence = f"AUROC of each alone for {lint.label}: {_each(predicting)}; {basis}"
        title = "Columns that predict the label"
        found.append(_note("column-predicts-label", title, sentence, len(predicting), measured=predicting))
    for one in lint.columns:
        if one.source == "order" and one.sentence:
            found.append(
                _note("rows-in-order", "Rows in an order", one.sentence, one.auroc.n, measured=[one])
            )
    if lint.together is not None:
        used = lint.used_together
        sentence = (
            f"without a look at any image, {plural(len(used), 'column')} ({some(used, 12)}) give "
            f"{lint.together} for {lint.label}; {lint.together.basis}"
        )
        measure = auroc_measure("all columns together", lint.together)
        title = "What the columns say together"
        found.append(_note("columns-together", title, sentence, len(used), measures=[measure]))
    if lint.other_names:
        told = "; ".join(f"{name} is {how}" for name, how in lint.other_names.items())
        hint = "leave them out of whatever a method is given"
        title = "Other names of the label"
        found.append(_note("label-alias", title, told, len(lint.other_names), hint=hint))
    silent = [one for one in lint.columns if one.verdict == "nothing"]
    if silent:
        sentence = f"AUROC of each alone for {lint.label}: {_each(silent)}; {basis}"
        found.append(
            _note("columns-tested", "Columns that say little", sentence, len(silent), measured=silent)
        )
    if lint.left_out:
        few = plural(len(lint.left_out), "class", "classes")
        sentence = f"{few} of {lint.label} have too few rows to test columns on: {some(lint.left_out)}"
        found.append(
            _note("classes-not-tested", "Classes left out of this test", sentence, len(lint.left_out))
        )
    return found


def _gives_away(one: LintedColumn) -> Finding:
    hints = {
        "column": "never give it to a method; ask why it goes with the label, and mend or drop it",
        "name": "give files and rows names that say nothing, and ask how the classes were gathered",
        "file": "a network can see it: ask how the classes were gathered, or make all files alike",
        "order": "",
    }
    return Finding(
        kind="column-gives-answer-away",
        severity="finding",
        chapter="columns",
        title=f"{one.name} gives the answer away",
        sentence=f"{one.sentence.removeprefix(f'{one.name} gives the answer away: ')}; {one.auroc.basis}",
        hint=hints[one.source],
        count=sum(level.rows for level in one.levels) or one.auroc.n,
        measures=(auroc_measure(one.name, one.auroc),),
    )


def _note(
    kind: str,
    title: str,
    sentence: str,
    count: int,
    *,
    hint: str = "",
    measured: Sequence[LintedColumn] = (),
    measures: Sequence[Measure] = (),
) -> Finding:
    every = [*measures, *(auroc_measure(one.name, one.auroc) for one in measured)]
    return Finding.of(kind, "note", "columns", title, sentence, hint, count=count, measures=every)


def _each(columns: Sequence[LintedColumn]) -> str:
    return some([f"{one.name} {one.auroc.figures}" for one in columns], 12)


def auroc_measure(name: str, auroc: Auroc) -> Measure:
    return Measure(
        name=name,
        of="AUROC",
        value=auroc.value,
        low=auroc.low,
        high=auroc.high,
        n=auroc.n,
        unit=auroc.unit,
        clusters=auroc.clusters,
        draws=auroc.draws,
        seed=auroc.seed,
        reason=auroc.reason,
    )
