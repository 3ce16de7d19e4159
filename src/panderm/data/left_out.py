"""Fewer rows than a table's card names, and the card that is true of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from panderm.data.cells import Cells
from panderm.data.columns import in_order
from panderm.data.rows import described
from panderm.data.table import Skipped, Table, refuse_bad


def leave_out(table: Table, bad: Mapping[int, str], *, skip_bad: bool) -> Table:
    """Return a table without some rows, under a card that is true of the rest and lists what was left out.

    It is the table that :func:`panderm.read_table` gives with ``skip_bad`` where it finds the same.

    Args:
        table: as it was read.
        bad: positions in it, each with the reason.
        skip_bad: whether rows may be left out at all.

    Raises:
        TableError: with every bad row, where none may be left out, or where none would be left.

    Example:
        >>> fewer = leave_out(table, {13: "damaged"}, skip_bad=True)  # doctest: +SKIP
    """
    if not bad:
        return table
    card, image = table.card, table.cells("image")
    found = [Skipped(row=int(table.row[i]), image=image[i] or "", reason=bad[i]) for i in sorted(bad)]
    refuse_bad(found, Path(card.csv).name, card.images, card.roles, of=len(table), skip_bad=skip_bad)
    keep = np.ones(len(table), dtype=bool)
    keep[list(bad)] = False
    kept = table.select(keep)
    classes = card.classes
    if classes == in_order(_labels(table)):  # not stated: as found
        classes = in_order(_labels(kept))
    skipped = tuple(sorted((*card.skipped, *found), key=lambda one: one.row))
    new, old = described(_columns(kept), classes), described(_columns(table), card.classes)
    others = [told for told in card.warnings if told not in old["warnings"]]
    update = {**new, "warnings": (*new["warnings"], *others), "skipped": skipped}
    return kept.under(card.model_copy(update=update))


def as_table(rows: Table) -> Table:
    """Return chosen rows of a table under a card of their own; a whole table is returned as it is.

    Rows chosen with :meth:`panderm.Table.select` keep the card of the table they come from: two choices of
    the same table would be taken for the same.

    Example:
        >>> as_table(table.select(slice(0, 20))).card.rows  # doctest: +SKIP
        20
    """
    in_turn = bool((np.diff(rows.row) > 0).all())
    if len(rows) == rows.card.rows and in_turn:
        return rows
    update = described(_columns(rows), rows.card.classes)
    update["warnings"] = rows.card.warnings  # they speak of the table that the rows come from
    return rows.under(rows.card.model_copy(update=update))


def _labels(table: Table) -> set[str]:
    return {x for x in table.cells("label").distinct() if x is not None}


def _columns(table: Table) -> dict[str, Cells]:
    return {role: table.cells(role) for role in ("image", "sha256", "split", "label", "patient", "group")}
