"""Rows that turn out unreadable late: the table without them is the one that was read without them."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import panderm
from panderm.data.drawn import DrawnWorld
from panderm.data.left_out import as_table, leave_out
from panderm.data.packed import pack_table, unpack_table
from panderm.errors import PandermWarning, TableError


@pytest.fixture
def own(world: DrawnWorld, tmp_path: Path) -> Path:
    """A copy of the drawn world, whose first patient stands in two splits."""
    shutil.copytree(world.images, tmp_path / "images")
    frame = pd.read_csv(world.csv)
    of_one = frame.index[frame["patient_id"] == frame["patient_id"][0]]
    frame.loc[of_one[0], "split"], frame.loc[of_one[1:], "split"] = "train", "test"
    frame.loc[5, "label"] = "seen once"
    frame.to_csv(tmp_path / "skin.csv", index=False)
    return tmp_path


def read(own: Path, **options: bool) -> panderm.Table:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PandermWarning)
        return panderm.read_table(own / "skin.csv", images=own / "images", progress=False, **options)


def test_the_rest_is_the_table_that_would_have_been_read(own: Path) -> None:
    whole = read(own)
    assert whole.card.warnings
    assert "seen once" in whole.classes
    of_one = [i for i, who in enumerate(whole.patient) if who == whole.patient[0]]
    gone = sorted({*of_one[1:], 5, 40})
    for i in gone:
        Path(whole.path[i]).write_bytes(b"no image")
    wanted = read(own, skip_bad=True)
    reasons = {whole.row.tolist().index(bad.row): bad.reason for bad in wanted.card.skipped}
    assert sorted(reasons) == gone
    found = leave_out(whole, reasons, skip_bad=True)
    assert found.card == wanted.card
    assert found.card.warnings == ()
    assert "seen once" not in found.classes
    for column in ("row", "image", "path", "sha256", "split", "label", "patient", "group"):
        assert getattr(found, column).tolist() == getattr(wanted, column).tolist()
    with pytest.raises(TableError) as early:
        read(own)
    with pytest.raises(TableError) as late:
        leave_out(whole, reasons, skip_bad=False)
    assert str(late.value) == str(early.value)


def test_nothing_left_out_and_nothing_left(table: panderm.Table) -> None:
    assert leave_out(table, {}, skip_bad=False) is table
    with pytest.raises(TableError, match="at least one row") as caught:
        leave_out(table, dict.fromkeys(range(len(table)), "damaged"), skip_bad=True)
    assert "and 70 more" in str(caught.value)


def test_a_table_survives_the_way_to_another_process(own: Path) -> None:
    table = read(own).select(slice(3, 40))
    found = unpack_table(pack_table(table))
    assert found.card == table.card
    for column in ("row", "image", "path", "sha256", "split", "label", "patient", "group"):
        assert getattr(found, column).tolist() == getattr(table, column).tolist()
    assert found.row.dtype == table.row.dtype


def test_chosen_rows_have_a_card_of_their_own(table: panderm.Table) -> None:
    assert as_table(table) is table
    choices = [slice(0, 20), slice(1, 21), np.arange(90)[::-1]]
    cards = [as_table(table.select(chosen)).card for chosen in choices]
    assert [card.rows for card in cards] == [20, 20, 90]
    assert len({card.sha256 for card in (*cards, table.card)}) == 4
    test = as_table(table.in_split("test"))
    assert list(test.card.counts) == ["test"]
    assert sum(test.card.counts["test"].values()) == len(test)
    assert test.classes == table.classes
