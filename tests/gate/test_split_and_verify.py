"""A table to its split and its lock, and back: what is written, what it says, and what moves it."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.data.lock import lock_path, name_hash, read_lock
from panderm.errors import ArtifactError, DataError, PandermWarning, TableError, UsageError
from panderm.gate.twins import Twin

N = 24
FIELDS = ["image", "label", "patient_id", "lesion_id", "site", "note"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures: 1 has the pixels of 0 in another file, 3 is 2 turned, all others are their own."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(N):
        small = Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8))
        picture = small.resize((96, 72), Image.Resampling.BICUBIC)
        if i == 1:
            picture = Image.open(folder / "00.png")
        if i == 3:
            picture = ImageOps.mirror(Image.open(folder / "02.png").rotate(90, expand=True))
        picture.save(folder / f"{i:02d}.png", compress_level=1 if i == 1 else 9)
    return folder


@pytest.fixture
def desk(pictures: Path, tmp_path: Path) -> Path:
    """A folder of its own with skin.csv and its images."""
    for file in pictures.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write(tmp_path / "skin.csv", rows())
    return tmp_path


def rows() -> list[dict[str, str]]:
    return [
        {
            "image": f"{i:02d}.png",
            "label": "mel" if i % 3 == 0 else "nevus",
            "patient_id": f"Meyer-{100 + i // 2 if i > 7 else i}",
            "lesion_id": "Les-9" if i in (5, 6) else "",
            "site": "AB"[i % 2],
            "note": 'said "itches", twice\nsince May' if i == 4 else " ",
        }
        for i in range(N)
    ]


def write(path: Path, table: list[dict[str, str]], fields: list[str] | None = None) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields or list(table[0]))
        writer.writeheader()
        writer.writerows(table)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def split(desk: Path, **options: Any) -> Any:
    return panderm.split(desk / "skin.csv", progress=False, **options)


def verify(desk: Path, **options: Any) -> list[str]:
    found = panderm.verify_split(desk / "skin_split.csv", progress=False, **options)
    assert found.holds == (not found.moved)
    return [str(one) for one in found.moved]


def test_table_and_lock_lie_beside_the_table(desk: Path) -> None:
    before = (desk / "skin.csv").read_bytes()
    done = split(desk)
    assert done.csv == desk / "skin_split.csv"
    assert done.lock == desk / "skin_split.lock.json"
    assert (desk / "skin.csv").read_bytes() == before
    table = read(done.csv)
    assert [{k: row[k] for k in FIELDS} for row in table] == rows()
    assert list(table[0]) == [*FIELDS, "split"]
    held = [row["split"] for row in table]
    assert done.counts["split"]["test"] == {
        name: sum(r["split"] == "test" and r["label"] == name for r in table) for name in ("mel", "nevus")
    }
    assert set(held) == {"train", "val", "test"}
    assert verify(desk) == []


def test_groups_are_patients_lesions_and_images_that_are_one(desk: Path) -> None:
    done = split(desk)
    lock = read_lock(done.lock)
    group = [row.group for row in lock.rows]
    together = [{i for i in range(N) if group[i] == g} for g in dict.fromkeys(group)]
    assert together == [{0, 1}, {2, 3}, {4}, {5, 6}, {7}, *({i, i + 1} for i in range(8, N, 2))]
    why = [(pair.first, pair.second, pair.why) for pair in lock.pairs]
    assert why == [(2, 3, "same pixels"), (4, 5, "near")]  # rows, the header being row 1
    assert done.groups.joined == {"patient": 8, "lesion": 1, "same pixels": 1, "near": 1}
    assert (done.groups.groups, done.groups.largest) == (13, 2)
    part = [row["split"] for row in read(done.csv)]
    assert all(len({part[i] for i in rows}) == 1 for rows in together)
    alone = split(desk, no_images=True, out=desk / "blind.csv")
    assert alone.groups.joined_by == ("patient", "lesion")
    assert alone.groups.groups == 15
    assert not read_lock(alone.lock).head.images_read


def test_embeddings_join_what_no_hash_finds(
    desk: Path, encoder: panderm.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = panderm.read_table(desk / "skin.csv", progress=False)
    encoder.embed(table, desk / "skin.emb", progress=False)
    handed = []

    def settled(inspected: Any, sure: Any, perhaps: Any, embeddings: Any, **_: Any) -> Any:
        handed.append(embeddings)
        return [*sure, *([Twin(10, 20, "embeddings", 0.91)] if embeddings else [])], 2

    monkeypatch.setattr("panderm.gate.split.settle", settled)
    with pytest.warns(
        PandermWarning, match="2 pairs that may be duplicates, the least alike, got no second look"
    ):
        done = split(desk, embeddings=desk / "skin.emb")
    assert len(handed[0]) == N
    lock = read_lock(done.lock)
    assert (12, 22, "embeddings", 0.91) in lock.pairs
    assert lock.rows[10].group == lock.rows[20].group == lock.rows[11].group
    assert lock.head.method["embeddings"] == handed[0].card.identity
    with pytest.raises(UsageError, match="--embeddings only says which images to look at"):
        split(desk, embeddings=desk / "skin.emb", no_images=True)


# What a cell may hold: letters of all languages, and what means something to a CSV.
CELL = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), whitelist_characters="\n\t,;\"' "), max_size=8
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(CELL, CELL), min_size=4, max_size=9), separator=st.sampled_from(",;\t"))
def test_whatever_a_cell_holds_it_is_kept(
    tmp_path: Path, rows: list[tuple[str, str]], separator: str
) -> None:
    target = io.StringIO(newline="")
    table = [["image", "x", "y"], *([f"{i}.png", *cells] for i, cells in enumerate(rows))]
    csv.writer(target, delimiter=separator).writerows(table)
    (tmp_path / "t.csv").write_bytes(target.getvalue().encode())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PandermWarning)
        done = panderm.split(tmp_path / "t.csv", no_images=True, overwrite=True, progress=False)
    made = csv.reader(io.StringIO(done.csv.read_bytes().decode(), newline=""), delimiter=separator)
    assert [row[:3] for row in made] == table
    assert panderm.verify_split(done.csv, progress=False).holds


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_every_cell_is_kept_and_the_split_is_put_in_its_place(desk: Path, separator: str) -> None:
    target = io.StringIO()
    given = [
        ["image", "split", "label", "Größe, mm"],
        *([f"{i:02d}.png", "old", "1.0", '3,5; "x"'] for i in range(N)),
    ]
    csv.writer(target, delimiter=separator).writerows(given)
    (desk / "skin.csv").write_bytes(b"\xef\xbb\xbf" + target.getvalue().encode())
    done = split(desk)
    content = done.csv.read_bytes()
    assert content.startswith(b"image")
    assert b"\r" not in content
    made = list(csv.reader(io.StringIO(content.decode(), newline=""), delimiter=separator))
    assert [[x for i, x in enumerate(row) if i != 1] for row in made] == [
        [x for i, x in enumerate(row) if i != 1] for row in given
    ]
    assert {row[1] for row in made[1:]} == {"train", "val", "test"}
    assert verify(desk) == []


def test_folds_are_usable_at_once(desk: Path) -> None:
    done = split(desk, folds=4, test=0.25)
    table = read(done.csv)
    assert list(table[0]) == [*FIELDS, "split", "fold", "split_1", "split_2", "split_3", "split_4"]
    assert {row["fold"] for row in table if row["split"] == "test"} == {""}
    assert {row["split_1"] for row in table if row["split"] == "test"} == {"held"}
    opened = panderm.read_table(done.csv, split_column="split_2", progress=False)
    assert opened.card.lock is not None
    assert opened.card.lock.column == "split_2"
    assert opened.card.counts["test"] == done.counts["split_2"]["test"]
    assert len(opened.in_split("held")) == sum(row["split"] == "test" for row in table)
    table[3]["split_3"] = {"train": "test"}.get(table[3]["split_3"], "train")
    table[9]["fold"] = "9"
    write(done.csv, table)
    moved = verify(desk)
    assert moved[0].startswith("row 5: 03.png: split_3 was ")
    assert moved[1].startswith("row 11: 09.png: fold was ")
    assert moved[1].endswith(", is 9")
    assert moved[2].startswith("group 1 is torn apart in column 'split_3': ")


def test_what_is_held_back_from_folds_is_told_where_it_falls_short(desk: Path) -> None:
    table = [row | {"patient_id": "Meyer" if i < 20 else f"Huber-{i}"} for i, row in enumerate(rows())]
    write(desk / "skin.csv", table)
    with pytest.warns(PandermWarning) as caught:
        split(desk, folds=2, test=0.5, no_images=True)
    told = [str(warning.message) for warning in caught]
    assert told[0].startswith("train holds 83% of the rows, not 50%; test holds 17% of the rows, not 50%. ")
    assert "The largest group, patient Meyer, has 83%" in told[0]
    assert any(text.startswith("fold 1 holds") for text in told[1:])


def test_nothing_of_the_table_leaves_with_the_lock(desk: Path) -> None:
    done = split(desk)
    text = done.lock.read_text("utf-8")
    for word in ("Meyer", "Les-9", ".png", "itches"):
        assert word not in text
    assert name_hash("Meyer-0") in text
    assert "mel" in text
    assert len(text.splitlines()) < 120 + N  # a line a row


def test_another_order_of_rows_is_the_same_split(desk: Path) -> None:
    one = split(desk, seed=3)
    part = {row["image"]: row["split"] for row in read(one.csv)}
    write(desk / "skin.csv", rows()[::-1])
    two = split(desk, seed=3, out=desk / "other.csv")
    assert {row["image"]: row["split"] for row in read(two.csv)} == part
    write(one.csv, read(one.csv)[::-1])
    assert verify(desk) == []


def test_keeping_a_published_test_split(desk: Path) -> None:
    table = [row | {"split": "test" if i in (0, 8, 23) else "train"} for i, row in enumerate(rows())]
    write(desk / "skin.csv", table)
    with pytest.warns(
        PandermWarning, match="3 rows joined test, being of one group with rows of test: rows 3, 11, 24"
    ):
        done = split(desk, keep_test=True)
    part = [row["split"] for row in read(done.csv)]
    assert [i for i, x in enumerate(part) if x == "test"] == [0, 1, 8, 9, 22, 23]
    assert set(part) == {"train", "val", "test"}
    with pytest.raises(UsageError, match="--keep-test keeps the test rows there are"):
        split(desk, keep_test=True, test=0.1, overwrite=True)
    with pytest.raises(DataError, match="a split must leave rows to train on"):
        split(desk, keep_test=True, val=0.8, overwrite=True)
    write(desk / "skin.csv", rows())
    with pytest.raises(TableError, match="--keep-test needs rows that are test"):
        split(desk, keep_test=True, overwrite=True)


# What moves it

Change = Callable[[list[dict[str, str]]], object]
CHANGES: dict[str, tuple[Change, str]] = {
    "label": (lambda t: t[4].update(label="bcc"), "row 6: 04.png: label was nevus, is bcc"),
    "no label": (lambda t: t[4].update(label=""), "row 6: 04.png: label was nevus, is empty"),
    "patient": (lambda t: t[4].update(patient_id="Huber"), "row 6: 04.png: another patient than before"),
    "lesion": (lambda t: t[4].update(lesion_id="Les-1"), "row 6: 04.png: another lesion than before"),
    "image": (
        lambda t: t[4].update(image="4.png"),
        "row 6: 4.png: not in the lock: a new row, or another image name|"
        "row 6 of the table as it was split is gone",
    ),
    "gone": (lambda t: t.pop(4), "row 6 of the table as it was split is gone"),
    "new": (
        lambda t: t.append(dict(t[4], image="new.png")),
        "row 26: new.png: not in the lock: a new row, or another image name",
    ),
    "twice": (lambda t: t.append(dict(t[4])), "row 26: 04.png: a second row of this image"),
    "column": (lambda t: [row.pop("patient_id") for row in t], "column 'patient_id' (patient) is gone"),
    "split column": (lambda t: [row.pop("split") for row in t], "column 'split' (split) is gone"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_moved_is_named_by_row(desk: Path, change: str) -> None:
    done = split(desk)
    table = read(done.csv)
    act, wanted = CHANGES[change]
    act(table)
    write(done.csv, table)
    assert verify(desk, no_images=True) == wanted.split("|")
    with pytest.raises(TableError) as caught:
        panderm.read_table(done.csv, progress=False)
    if change == "twice":
        assert caught.value.must == "every image must be named once in column 'image'."
        return
    assert caught.value.must == "a table must be as its lock says."
    assert list(caught.value.found) == [
        "skin_split.csv is not as it was when it was split:",
        *wanted.split("|"),
    ]
    assert caught.value.hint == ("panderm split skin_split.csv --verify lists all; or split the table again")


def test_a_row_moved_to_another_part_tears_its_group(desk: Path) -> None:
    done = split(desk)
    table = read(done.csv)
    was, now = table[0]["split"], "val" if table[0]["split"] != "val" else "test"
    table[0]["split"] = now
    write(done.csv, table)
    first, torn = verify(desk)
    assert first == f"row 2: 00.png: split was {was}, is {now}"
    assert torn.startswith("group 0 is torn apart in column 'split': ")


def test_images_that_moved(desk: Path) -> None:
    done = split(desk)
    Image.open(desk / "05.png").save(desk / "05.png", compress_level=0)
    Image.new("RGB", (96, 72), "red").save(desk / "07.png")
    (desk / "08.png").unlink()
    (desk / "09.png").write_bytes((desk / "09.png").read_bytes()[:200])
    moved = verify(desk)
    assert moved[:3] == [
        "row 7: 05.png: its file is another, with the same pixels",
        "row 9: 07.png: its pixels are others",
        "row 10: 08.png: its file cannot be read: no such file",
    ]
    assert moved[3].startswith("row 11: 09.png: its file cannot be read: damaged")
    assert len(moved) == 4
    assert verify(desk, no_images=True) == []
    with pytest.raises(TableError) as caught:
        panderm.read_table(done.csv, skip_bad=True, progress=False)
    assert list(caught.value.found[1:]) == [
        "row 7: 05.png: its file is another",
        "row 9: 07.png: its file is another",
    ]


def test_other_columns_and_renamed_columns_move_nothing(desk: Path) -> None:
    done = split(desk)
    table = [
        {
            "photo": r["image"],
            "dx": r["label"],
            "who": r["patient_id"],
            "lesion_id": r["lesion_id"],
            "split": r["split"],
        }
        for r in read(done.csv)
    ]
    write(done.csv, table)
    named = {"image_column": "photo", "label": "dx", "patient": "who"}
    assert verify(desk, **named) == []
    assert panderm.read_table(done.csv, progress=False, **named).card.lock is not None  # type: ignore[arg-type]
    assert verify(desk) == [
        "column 'image' (image) is gone",
        "column 'label' (label) is gone",
        "column 'patient_id' (patient) is gone",
    ]


def test_a_split_column_that_the_lock_does_not_hold_is_told(desk: Path) -> None:
    done = split(desk)
    write(done.csv, [row | {"mine": "train" if i else "test"} for i, row in enumerate(read(done.csv))])
    with pytest.warns(
        PandermWarning, match=r"skin_split.lock.json holds column split: column 'mine' is not locked"
    ):
        card = panderm.read_table(done.csv, split_column="mine", progress=False).card
    assert card.lock is None
    assert any("is not locked" in text for text in card.warnings)


DAMAGES: dict[str, Callable[[str], str]] = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "a part changed": lambda text: text.replace('"T",0', '"E",0', 1),
    "a count changed": lambda text: text.replace('"seed": 0', '"seed": 1'),
    "another format": lambda text: text.replace('"format": 1', '"format": 2'),
    "a list": lambda text: "[]",
    "a row cut short": lambda text: text.replace('[2,"', '["', 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_lock_is_refused(desk: Path, damage: str) -> None:
    done = split(desk)
    text = done.lock.read_text("utf-8")
    assert DAMAGES[damage](text) != text
    done.lock.write_text(DAMAGES[damage](text), "utf-8")
    for act in (verify, lambda desk: panderm.read_table(done.csv, progress=False)):
        with pytest.raises(ArtifactError, match="the lock of a split must be as panderm wrote it"):
            act(desk)


def test_the_lock_reaches_the_card_and_old_cards_open_without_it(desk: Path) -> None:
    done = split(desk, seed=7)
    card = panderm.read_table(done.csv, progress=False).card
    assert card.lock is not None
    assert (card.lock.file, card.lock.seed, card.lock.groups) == ("skin_split.lock.json", 7, 13)
    assert card.lock.joined_by == ("patient", "lesion", "same pixels", "near")
    assert len(card.lock.sha256) == 64
    held = card.model_dump(mode="json")
    assert type(card).model_validate(held) == card
    del held["lock"], held["max_megapixels"]
    assert type(card).model_validate(held).lock is None
    # The rows decide what a table is, with a lock or without.
    done.lock.unlink()
    assert panderm.read_table(done.csv, progress=False).card.sha256 == card.sha256


# What cannot be split


def test_bad_rows_are_refused_or_told(desk: Path) -> None:
    (desk / "11.png").unlink()
    table = rows()
    table[12]["label"] = ""
    write(desk / "skin.csv", table)
    with pytest.raises(TableError) as caught:
        split(desk)
    assert str(caught.value).splitlines()[:4] == [
        "every row must have a readable image and a label.",
        "  2 rows of 24 of skin.csv do not:",
        "  row 13: 11.png: no such file",
        "  row 14: 12.png: no label",
    ]
    assert not (desk / "skin_split.csv").exists()
    with pytest.warns(PandermWarning, match="2 rows of skin.csv split without image or label"):
        done = split(desk, skip_bad=True)
    assert len(read(done.csv)) == N
    assert verify(desk) == []
    card = panderm.read_table(done.csv, skip_bad=True, progress=False).card
    assert card.lock is not None
    assert [bad.row for bad in card.skipped] == [13, 14]


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "shares": ({"test": 0.8, "val": 0.2}, UsageError, "leave rows to train on"),
    "no shares": ({"test": 0.0, "val": 0.0}, UsageError, "leave rows to train on"),
    "negative": ({"test": -0.1}, UsageError, "leave rows to train on"),
    "not a number": ({"test": float("nan")}, UsageError, "leave rows to train on"),
    "one fold": ({"folds": 1}, UsageError, "--folds must be 2 or more"),
    "val of folds": ({"folds": 2, "val": 0.5}, UsageError, "leave rows to train on"),
    "balance": ({"balance": ["sit"]}, TableError, "column 'sit' .balance. must exist; did you mean 'site'"),
    "out": ({"out": "skin.csv", "overwrite": True}, UsageError, "the table that is split is never changed"),
    "parquet": ({"out": "x.parquet"}, UsageError, "--out must be a CSV file"),
    "fold": ({"split_column": "fold", "folds": 3}, UsageError, "column 'fold' holds the fold"),
    "written and read": ({"split_column": "site", "balance": ["site"]}, UsageError, "cannot be read as well"),
    "label": ({"label": "lable"}, TableError, "column 'lable' .label. must exist; did you mean 'label'"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_input_is_refused_before_any_image_is_read(
    desk: Path, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk)
    monkeypatch.setattr("panderm.gate.split.examine_all", lambda *_, **__: pytest.fail("images were read"))
    options, kind, words = WRONG[wrong]
    before = {p.name: p.read_bytes() for p in desk.iterdir()}
    with pytest.raises(kind, match=words):
        panderm.split("skin.csv", progress=False, **options)
    assert {p.name: p.read_bytes() for p in desk.iterdir()} == before


def test_columns_of_measurements_are_no_classes(tmp_path: Path) -> None:
    table = [{"image": f"{i}.png", "label": "ab"[i % 2], "age": f"{i}.5", "id": f"x{i}"} for i in range(1200)]
    write(tmp_path / "skin.csv", table)
    with pytest.raises(TableError, match=r"column 'age' of skin.csv has 1,200"):
        panderm.split(tmp_path / "skin.csv", balance=["age"], no_images=True, progress=False)
    with pytest.raises(TableError, match=r"column 'id' of skin.csv has 1,200 values in 1,200 rows"):
        panderm.split(tmp_path / "skin.csv", label="id", no_images=True, progress=False)


def test_existing_outputs_are_kept(desk: Path) -> None:
    done = split(desk)
    for gone, kept in ((done.csv, done.lock), (done.lock, done.csv)):
        before = kept.read_bytes()
        gone.unlink()
        with pytest.raises(ArtifactError, match="an output must not exist already"):
            split(desk)
        assert kept.read_bytes() == before
        split(desk, overwrite=True)
    assert verify(desk) == []


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("n", [1, 2])
def test_both_files_or_neither(desk: Path, n: int, existing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if existing:
        split(desk, seed=1)
    before = {p.name: p.read_bytes() for p in desk.iterdir()}
    replace, left = Path.replace, [n]

    def fails(self: Path, target: Path) -> Path:
        left[0] -= 1
        if not left[0]:
            raise PermissionError(13, "Permission denied")
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fails)
        with pytest.raises(ArtifactError, match="the output must be writable"):
            split(desk, seed=2, overwrite=True)
    assert left == [0]
    assert {p.name: p.read_bytes() for p in desk.iterdir()} == before


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_what_was_there(
    desk: Path, existing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if existing:
        split(desk, seed=1)
    before = {p.name: p.read_bytes() for p in desk.iterdir()}

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_room)
        result = run("split", desk / "skin.csv", "--overwrite", "-q")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[:2] == [
        "ArtifactError: the disk must have room for the output.",
        f"  no space left while writing {desk}/skin_split.csv; nothing half-written was kept",
    ]
    assert {p.name: p.read_bytes() for p in desk.iterdir()} == before


KILLED = """
import os, signal, sys
from pathlib import Path
from panderm import storage
from panderm.gate import locking
from panderm.gate.split import split

for n in range(1, 8):
    folder = Path(sys.argv[1], str(n))
    folder.mkdir()
    (folder / "skin.csv").write_bytes(Path(sys.argv[1], "skin.csv").read_bytes())
    pid = os.fork()
    if not pid:
        left, flush = [n], storage.flush
        def dies(path):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            flush(path)
        storage.flush = locking.flush = dies
        split(folder / "skin.csv", no_images=True, progress=False)
        os._exit(0)
    print(n, os.waitpid(pid, 0)[1])
"""


def test_killed_while_writing_leaves_no_half_file(desk: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(desk)], capture_output=True, text=True, check=True, timeout=100
    )
    ends = [int(line.split()[1]) for line in done.stdout.splitlines()]
    assert ends.count(9) == 5  # two files, their folder after each, and the table before its lock
    assert ends[-2:] == [0, 0]
    for n in range(1, 8):
        folder = desk / str(n)
        table, lock = folder / "skin_split.csv", folder / "skin_split.lock.json"
        if lock.exists():
            read_lock(lock)
        if table.exists():
            assert lock.exists()
            assert panderm.verify_split(table, progress=False).holds
        again = panderm.split(folder / "skin.csv", no_images=True, overwrite=True, progress=False)
        assert panderm.verify_split(again.csv, progress=False).holds
        assert sorted(p.name for p in folder.iterdir()) == [
            "skin.csv",
            "skin_split.csv",
            "skin_split.lock.json",
        ]


# The command line


def run(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_verb_and_its_json(desk: Path) -> None:
    done = run("split", desk / "skin.csv", "--val", 0.2, "--balance", "site", "--json", "--quiet")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["csv"] == str(desk / "skin_split.csv")
    assert (told["rows"], told["seed"], told["groups"]["groups"]) == (N, 0, 13)
    held = run("split", told["csv"], "--verify", "--json", "-q")
    assert held.exit_code == 0
    assert json.loads(held.stdout)["holds"] is True
    one = run("split", told["csv"], "--verify", "-q")
    assert one.stdout == f"{told['csv']}: as it was split: 24 rows and 24 images agree with its lock\n"
    table = read(Path(told["csv"]))
    table[4]["label"] = "bcc"
    write(Path(told["csv"]), table)
    found = run("split", told["csv"], "--verify", "--json", "-q")
    assert found.exit_code == 1
    assert json.loads(found.stdout)["moved"] == [
        {"row": 6, "image": "04.png", "what": "label was nevus, is bcc"}
    ]
    shown = run("split", told["csv"], "--verify", "-q")
    assert (shown.exit_code, shown.stdout.splitlines()[1]) == (1, "  row 6: 04.png: label was nevus, is bcc")


def test_verify_without_a_lock_is_a_wrong_use(desk: Path) -> None:
    none = run("split", desk / "skin.csv", "--verify")
    assert none.exit_code == 2
    assert "a split must have its lock beside it" in none.stderr
    split(desk)
    near = run("split", desk / "skin.csv", "--verify")
    assert "did you mean skin_split.csv?" in near.stderr
    assert run("split", desk / "skin_split.csv", "--verify", "--folds", 3).exit_code == 2
    elsewhere = run("split", desk / "skin_split.csv", "--verify", "--images", desk.parent)
    assert elsewhere.exit_code == 2
    assert "none of 24 files is in" in elsewhere.stderr


def test_the_demonstration_world_splits_by_its_patients(world: Any, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PandermWarning)
        done = panderm.split(world.csv, images=world.images, out=tmp_path / "w.csv", progress=False)
        table = panderm.read_table(done.csv, images=world.images, progress=False)
    frame = pd.read_csv(done.csv, dtype=str)
    assert (frame.groupby("patient_id").split.nunique() == 1).all()
    assert table.card.lock is not None
    assert table.card.warnings == ()
    assert lock_path(done.csv) == done.lock
