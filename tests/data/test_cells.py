"""Columns as they are kept: what they hold is what was given, and few bytes of it."""

from __future__ import annotations

import hashlib
import pickle
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import panderm
from panderm.data.cells import Cells, Hashes, Made, Plain, Texts, hashes, nothing, of_arrow, repeated, texts
from panderm.data.columns import cells_in_turn, read_cells
from panderm.data.images import ImageFacts
from panderm.data.packed import pack_table, unpack_table
from panderm.data.rows import crossing_images, described, lesions_of
from panderm.data.table import check_rows, read_rows
from panderm.errors import TableError
from panderm.storage import sha256_of_json

FEW = ["b", None, "a", "b", ""] * 40
MANY = [f"L{i}" for i in range(199)] + [None]
DIGESTS = [hashlib.sha256(str(i % 150).encode()).hexdigest() for i in range(199)] + [""]


def of(values: list[str | None], kind: str) -> Cells:
    if kind == "plain":
        return Plain(np.array(values, dtype=object))
    if kind == "made":
        return Made(Plain(np.array(values, dtype=object)), lambda x: f"/{x}")
    return hashes((str(x) for x in values), len(values)) if kind == "hashes" else texts([pa.array(values)])


@pytest.mark.parametrize(
    ("values", "kind", "held"),
    [(FEW, "plain", Plain), (FEW, "texts", Texts), (MANY, "texts", Texts), (DIGESTS, "hashes", Hashes)],
)
def test_cells_are_what_was_given(values: list[str | None], kind: str, held: type[Cells]) -> None:
    column = of(values, kind)
    assert isinstance(column, held)
    given = np.array(values, dtype=object)
    assert column.tolist() == column.strings().tolist() == column.arrow().to_pylist() == values
    assert column[-1] == values[-1]
    assert column.distinct() == set(values)
    for chosen in (slice(3, 50), slice(None, None, 7), np.arange(200) % 3 == 1, np.array([5, 5, -1])):
        assert column.take(chosen).tolist() == given[chosen].tolist()
        assert column.take(chosen).distinct() == set(given[chosen])
    for empty in (True, False):
        code, named = column.take(slice(0, 7)).codes(empty=empty)
        told = [None if c < 0 else named[c] for c in code]
        assert told == [x if x or (empty and x == "") else None for x in values[:7]]
        assert len(set(named)) == len(named) == len({x for x in told if x is not None})
    assert column.map(lambda x: x and x.upper()).tolist() == [x and x.upper() for x in values]
    assert pickle.loads(pickle.dumps(column)).tolist() == values
    keys = dict(zip(values, column.keys().tolist(), strict=True))
    assert column.keys().tolist() == [keys[x] for x in values]
    assert len(set(keys.values())) == len({x or "" for x in values})


def test_hashes_that_are_none_stay_as_they_are() -> None:
    odd = [DIGESTS[0], "0", DIGESTS[1].upper(), "0" * 64]
    assert hashes(odd, 4).tolist() == odd
    assert nothing(3).tolist() == [None] * 3
    assert of_arrow(pa.chunked_array([pa.array(DIGESTS)]), "sha256").tolist() == DIGESTS
    assert repeated(np.array([3, 1, 3, 2, 1], dtype=np.uint64)).tolist() == [0, 1, 2, 4]


def test_a_table_has_arrays_of_strings_and_keeps_few_bytes(table: panderm.Table) -> None:
    assert isinstance(table.cells("sha256"), Hashes)
    assert isinstance(table.image, np.ndarray)
    assert table.image.dtype == object
    assert table.image is table.image
    assert table.path.tolist() == [f"{table.card.images}/{name}" for name in table.image]
    label = table.label[::-1]
    turned = replace(table, label=label)
    assert turned.label is label
    assert turned.image.tolist() == table.image.tolist()
    back = unpack_table(pack_table(table))
    assert back.card == table.card
    for name in ("image", "path", "sha256", "split", "label", "patient", "group"):
        assert getattr(back, name).tolist() == getattr(table, name).tolist()
    chosen = table.select(table.split == "test")
    assert set(chosen.split) == {"test"}
    assert chosen.card is table.card


def test_what_a_card_says_does_not_depend_on_how_rows_are_kept(table: panderm.Table) -> None:
    roles = ("image", "sha256", "split", "label", "patient", "group")
    arrays = {role: getattr(table, role) for role in roles}
    told = described({role: table.cells(role) for role in roles}, table.classes)
    assert told == described(arrays, table.classes)
    ordered = [arrays[role].tolist() for role in ("image", "split", "label", "patient", "group", "sha256")]
    assert told["sha256"] == table.card.sha256 == sha256_of_json([list(table.classes), *ordered])


def test_copies_in_two_splits_are_named_and_lesions_made_unique_whoever_holds_them() -> None:
    image = np.array([f"{i}.jpg" for i in range(200)], dtype=object)
    digest = np.array([*DIGESTS[:199], DIGESTS[3]], dtype=object)
    split = np.array(["train"] * 198 + ["val", "test"], dtype=object)
    told = crossing_images(image, hashes(digest, 200), split)
    assert told == crossing_images(image, digest, split)
    assert "3.jpg = 153.jpg = 199.jpg" in " ".join(told)
    patient, group = (
        np.array(["a", "b"] * 5, dtype=object),
        np.array([*"11223344", None, ""], dtype=object),
    )
    assert lesions_of(patient, group)[:3].tolist() == ["a / 1", "b / 1", "a / 2"]
    assert lesions_of(patient, group)[8:].tolist() == [None, ""]


def big(here: Path, n: int) -> Path:
    frame = pd.DataFrame({"image": [f"{i:07d}.jpg" for i in range(n)]})
    frame["label"], frame["split"] = np.where(np.arange(n) % 3, "1.0", "0"), "train"
    frame["patient"] = [f"P{i // 2}" for i in range(n)]
    frame["free text"] = "some words that nobody asked for; "
    frame.to_csv(here / f"{n}.csv", index=False)
    return here / f"{n}.csv"


def test_cells_in_turn_are_those_that_are_read_at_once(tmp_path: Path) -> None:
    file = big(tmp_path, 9000)
    turns = list(cells_in_turn(file))
    assert len(turns) > 2
    whole = read_cells(file)
    assert pd.concat(turns).equals(whole)
    whole.to_parquet(tmp_path / "x.parquet")
    turns = list(cells_in_turn(tmp_path / "x.parquet"))
    assert len(turns) > 2
    assert pd.concat(turns).equals(read_cells(tmp_path / "x.parquet"))
    with file.open("a") as more:
        more.write("a,b,c,d,e,f\n")
    with pytest.raises(TableError, match="row 9002 has 6 cells, the header has 5"):
        list(cells_in_turn(file))


def test_a_row_more_takes_less_than_its_own_names(tmp_path: Path) -> None:
    peaks = []
    for n in (2_000, 12_000):
        file = big(tmp_path, n)
        tracemalloc.start()
        rows = read_rows(file, images=tmp_path)
        facts = (ImageFacts(sha256=hashlib.sha256(str(i).encode()).hexdigest()) for i in range(len(rows)))
        table = check_rows(rows, facts)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert table.classes == ("0", "1")
        arrow = sum(table.cells(name).arrow().nbytes for name in ("image", "patient"))
        peaks.append(kept + arrow)
    # Objects for each cell would be some 800 bytes a row.
    assert (peaks[1] - peaks[0]) / 10_000 < 120
