"""Columns as numbers: what the training rows hold decides how, and no other row has a say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from panderm.data.encoding import ColumnEncoder, Numbers, Words, read_numbers


def cells(*values: str | None) -> np.ndarray:
    return np.array(values, dtype=object)


@pytest.fixture
def table() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    n = 300
    age = [None if rng.random() < 0.1 else str(int(a)) for a in rng.integers(18, 90, n)]
    site = rng.choice(["arm", "back", "face", "toe"], n, p=[0.4, 0.4, 0.195, 0.005])
    itch = [None if rng.random() < 0.2 else x for x in rng.choice(["True", "False"], n)]
    return {"age": cells(*age), "site": cells(*site), "itch": cells(*itch)}


def test_agrees_with_scikit_learn(table: dict[str, np.ndarray]) -> None:
    train = np.arange(200)
    encoder = ColumnEncoder().fit(table, train)
    X = dict(zip(encoder.features_, encoder.transform(table).T, strict=True))
    age = np.array([np.nan if x is None else float(x) for x in table["age"]])[:, None]
    imputer = SimpleImputer(strategy="median", add_indicator=True).fit(age[train])
    filled = imputer.transform(age)
    value = StandardScaler().fit(filled[train, :1]).transform(filled[:, :1])
    assert np.allclose(X["age"], np.clip(value[:, 0], -3, 3), atol=1e-6)
    assert np.array_equal(X["age: (empty)"], filled[:, 1])
    site = table["site"].astype(str)[:, None]
    hot = OneHotEncoder(min_frequency=5, handle_unknown="infrequent_if_exist", sparse_output=False)
    theirs = hot.fit(site[train]).transform(site)
    ours = np.column_stack([X[f"site: {x}"] for x in ("arm", "back", "face", "(other)")])
    assert np.array_equal(ours, theirs)
    bands = np.column_stack([v for k, v in X.items() if "under" in k or "over" in k])
    known = ~np.isnan(age[:, 0])
    assert np.array_equal(bands.sum(axis=1), known)
    assert np.ptp(bands[train].sum(axis=0)) < 15  # of about as many rows each


def test_rows_that_are_not_trained_have_no_say(table: dict[str, np.ndarray]) -> None:
    train = np.arange(0, 300, 2)
    before = json.dumps(ColumnEncoder().fit(table, train).record())
    changed = {name: column.copy() for name, column in table.items()}
    for column, wild in zip(changed.values(), ("many years", "9", None), strict=True):
        column[1::2] = wild
    assert json.dumps(ColumnEncoder().fit(changed, train).record()) == before
    changed["age"][0] = "44"
    assert json.dumps(ColumnEncoder().fit(changed, train).record()) != before


def test_rare_and_unknown_levels_share_one_and_an_empty_cell_is_a_level() -> None:
    site = cells(*["arm"] * 6, *["leg"] * 5, *["toe"] * 4, *[None] * 5)
    encoder = ColumnEncoder().fit({"site": site})
    assert encoder.features_ == ["site: (empty)", "site: arm", "site: leg", "site: (other)"]
    later = encoder.transform({"site": cells("leg", "toe", "moon", None, "")})
    assert later.tolist() == [[0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 1]]


def test_few_numbers_are_levels_however_they_are_written() -> None:
    grade = cells(*["1", "1.0", "2", "2,0", "3"] * 4)
    (one,) = ColumnEncoder().fit({"grade": grade}).columns_
    assert one == Words("grade", ("1", "2"), numbers=True)
    codes = cells(*["1", "1.0", "x"] * 6)  # words that look like numbers are no numbers
    assert ColumnEncoder().fit({"code": codes}).columns_ == (Words("code", ("1", "1.0", "x"), numbers=False),)


@pytest.mark.parametrize(
    ("written", "unit", "unread"),
    [
        ([f"{i},5" for i in range(20)], "", []),
        ([f"{i}" for i in range(20)] + ["unknown", "45-50", "<5", "nan", "inf", "1e400"], "", 6),
        ([f"{i} mm" for i in range(20)] + ["7", "2 cm", "12mm"], "mm", ["2 cm"]),
        ([f"{i} years" for i in range(20)] + [None, None], "years", []),
        ([f"{i}e300" for i in range(1, 5)] + [str(i) for i in range(20)], "", 4),
    ],
)
def test_numbers_as_people_write_them(written: list[str], unit: str, unread: list[str] | int) -> None:
    column = {"size": cells(*written)}
    encoder = ColumnEncoder().fit(column)
    (one,) = encoder.columns_
    assert isinstance(one, Numbers)
    assert one.unit == unit
    told = encoder.unread(column).get("size", [])
    assert (len(told) if isinstance(unread, int) else told) == unread
    X = encoder.transform(column)
    assert np.isfinite(X).all()
    assert np.abs(X).max() <= 3
    assert X[:, -1].sum() == len(told) + written.count(None)


def test_numbers_that_are_less_than_half_are_words() -> None:
    mixed = cells(*[str(i) for i in range(20)], *["unknown"] * 21)
    (one,) = ColumnEncoder().fit({"size": mixed}).columns_
    assert one == Words("size", ("unknown",), numbers=False)
    assert np.isnan(read_numbers(cells("3 mm", "x", None))).all()


def test_an_empty_column_and_one_of_a_single_level_have_features_that_do_not_vary() -> None:
    columns = {"none": cells(*[None] * 8), "same": cells(*["a"] * 8)}
    X = ColumnEncoder().fit(columns).transform(columns)
    assert X.tolist() == [[1, 0, 1, 0]] * 8


def test_a_record_restores_it(table: dict[str, np.ndarray]) -> None:
    encoder = ColumnEncoder().fit(table, np.arange(100))
    again = ColumnEncoder.restored(json.loads(json.dumps(encoder.record())))
    assert again.columns_ == encoder.columns_
    assert np.array_equal(again.transform(table), encoder.transform(table))
    with pytest.raises(KeyError):
        ColumnEncoder.restored([{"as": "sounds", "name": "x"}])
