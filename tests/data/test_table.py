"""The gate: a CSV becomes rows with roles, or says by row what is wrong."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import panderm
from panderm.data.columns import read_cells
from panderm.data.feed import Feed
from panderm.errors import PandermWarning, TableError

NAMES = tuple("abcdefgh")


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder of eight small images, each of another colour."""
    (tmp_path / "images").mkdir()
    for i, name in enumerate(NAMES):
        Image.new("RGB", (8, 8), (20 * i, 90, 60)).save(tmp_path / "images" / f"{name}.png")
    return tmp_path


def read(desk: Path, text: str | bytes, **options: object) -> panderm.Table:
    path = desk / "skin.v2.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return panderm.read_table(path, images=desk / "images", progress=False, **options)  # type: ignore[arg-type]


def lines(header: str, *rows: str) -> str:
    return "\n".join([header, *rows]) + "\n"


PLAIN = lines("image,split,label", "a.png,train,nevus", "b.png,val,mel", "c.png,test,nevus")


def refused(desk: Path, text: str | bytes, **options: object) -> str:
    with pytest.raises(TableError) as caught:
        read(desk, text, **options)
    return str(caught.value)


def test_the_published_contract_without_options(desk: Path) -> None:
    table = read(desk, PLAIN)
    assert table.image.tolist() == ["a.png", "b.png", "c.png"]
    assert table.split.tolist() == ["train", "val", "test"]
    assert table.label.tolist() == ["nevus", "mel", "nevus"]
    assert table.classes == ("mel", "nevus")
    assert table.codes().tolist() == [1, 0, 1]
    assert table.patient.tolist() == table.group.tolist() == [None, None, None]
    assert table.path.tolist() == [str(desk / "images" / name) for name in table.image]
    assert table.card.name == "skin"
    assert table.card.csv == str(desk / "skin.v2.csv")
    assert table.card.roles == {
        "image": "image",
        "label": "label",
        "split": "split",
        "patient": None,
        "group": None,
    }
    assert (table.card.patients, table.card.groups, table.card.rows) == (None, None, 3)
    assert table.card.skipped == table.card.warnings == ()
    assert [len(digest) for digest in table.sha256] == [64] * 3


def test_counts_per_split_and_class(desk: Path) -> None:
    rows = ("a.png,train,2", "b.png,train,10", "c.png,train,2", "d.png,test,10", "e.png,val,2")
    table = read(desk, lines("image,split,label", *rows))
    assert table.card.counts == {
        "train": {"2": 2, "10": 1},
        "val": {"2": 1, "10": 0},
        "test": {"2": 0, "10": 1},
    }
    assert list(table.card.counts) == ["train", "val", "test"]
    assert len(table.in_split("train")) == 3
    assert table.in_split("train").card is table.card


def test_roles_by_option(desk: Path) -> None:
    header = "file,set,label,dx,patient,who,lesion,spot"
    text = lines(header, "a.png,train,0,mel,P1,Q1,L1,S1", "b.png,test,1,nev,P1,Q2,L1,S2")
    options = {
        "image_column": "file",
        "split_column": "set",
        "label": "dx",
        "patient": "who",
        "group": "spot",
    }
    table = read(desk, text, **options)
    assert table.card.roles == {
        "image": "file",
        "label": "dx",
        "split": "set",
        "patient": "who",
        "group": "spot",
    }
    assert table.label.tolist() == ["mel", "nev"]
    assert table.patient.tolist() == ["Q1", "Q2"]
    assert table.group.tolist() == ["S1", "S2"]
    assert (table.card.patients, table.card.groups) == (2, 2)


@pytest.mark.parametrize(
    ("columns", "role", "column"),
    [
        ("binary_label", "label", "binary_label"),
        ("binary_label,label", "label", "label"),
        ("label,patient", "patient", "patient"),
        ("label,patient,patient_id", "patient", "patient_id"),
        ("label,lesion", "group", "lesion"),
        ("label,lesion,lesion_id", "group", "lesion_id"),
    ],
)
def test_roles_by_name(desk: Path, columns: str, role: str, column: str) -> None:
    values = ",".join(str(i) for i in range(columns.count(",") + 1))
    table = read(desk, lines(f"image,split,{columns}", f"a.png,train,{values}"))
    assert table.card.roles[role] == column


@pytest.mark.parametrize("role", ["label", "patient", "group"])
def test_an_option_that_names_no_column_is_refused(desk: Path, role: str) -> None:
    said = refused(desk, PLAIN, **{role: "lable"})
    assert said.startswith(f"column 'lable' ({role}) must exist; did you mean 'label'?")


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["10", "2", "1"], ("1", "2", "10")),
        (["1.0", "0.0", "10.0"], ("0", "1", "10")),
        (["1", "0.0", "2."], ("0", "1", "2")),
        (["-1", "3", "-10"], ("-10", "-1", "3")),
        (["mel", "Nevus", "bcc"], ("Nevus", "bcc", "mel")),
        (["10", "2", "b"], ("10", "2", "b")),
        (["1.5", "1.0", "2"], ("1.0", "1.5", "2")),
        (["01", "1", "2"], ("01", "1", "2")),
        (["1_0", "10", "1e1"], ("10", "1_0", "1e1")),
        (["12345678901234567890", "12345678901234567891", "1"], None),
        (["²", "--5", "-"], ("-", "--5", "²")),
        (["nan", "inf", "1"], ("1", "inf", "nan")),
    ],
)
def test_classes_have_a_stated_order_and_none_is_merged(
    desk: Path, labels: list[str], order: tuple[str, ...] | None
) -> None:
    table = read(
        desk, lines("image,split,label", *(f"{n}.png,train,{x}" for n, x in zip("abc", labels, strict=True)))
    )
    assert table.classes == (order or ("1", "12345678901234567890", "12345678901234567891"))
    assert len(set(table.label)) == 3


def test_classes_in_the_order_asked_for(desk: Path) -> None:
    assert read(desk, PLAIN, classes=["nevus", "mel"]).classes == ("nevus", "mel")
    assert read(desk, PLAIN, classes=["nevus", "bcc", "mel"]).classes == ("nevus", "bcc", "mel")
    numbered = lines("image,split,label", "a.png,train,1.0", "b.png,train,0.0")
    assert read(desk, numbered, classes=["1", "0"]).classes == ("1", "0")
    assert read(desk, numbered, classes=["1.0", "0.0"]).classes == ("1", "0")
    must = "--classes must list every class of the label column, each once."
    assert refused(desk, PLAIN, classes=["nevus"]) == f"{must}\n  not listed: mel"
    assert refused(desk, PLAIN, classes=["mel", "nevus", "mel"]) == f"{must}\n  listed: mel, nevus, mel"


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace(",", ";"),
        lambda t: t.replace(",", "\t"),
        lambda t: "\ufeff" + t,
        lambda t: t.replace("\n", "\r\n"),
        lambda t: t.replace("\n", "\r"),
        lambda t: t.rstrip("\n"),
        lambda t: t.replace(",", ", "),
        lambda t: t.replace("nevus", '"nevus"').replace("image", '"image"'),
        lambda t: "\n\n" + t,
        lambda t: t.replace("\n", "\n\n"),
        lambda t: t + ",,\n,,\n",
    ],
    ids=[
        *("semicolon", "tab", "bom", "crlf", "cr", "unended", "spaces", "quotes"),
        *("blank-first", "blank-between", "empty-last"),
    ],
)
def test_tables_as_programs_write_them(desk: Path, change: object) -> None:
    table = read(desk, change(PLAIN))  # type: ignore[operator]
    assert table.image.tolist() == ["a.png", "b.png", "c.png"]
    assert table.split.tolist() == ["train", "val", "test"]
    assert table.label.tolist() == ["nevus", "mel", "nevus"]
    assert table.card.sha256 == read(desk, PLAIN).card.sha256


def test_a_comma_inside_quotes_and_letters_of_all_languages(desk: Path) -> None:
    text = lines(
        "image,split,label",
        'a.png,train,"nevus, blue"',
        "b.png,test,Basalzellkarzinom (größer)",
        "c.png,val,黑色素瘤",
    )
    assert read(desk, text).label.tolist() == ["nevus, blue", "Basalzellkarzinom (größer)", "黑色素瘤"]


def test_rows_are_numbered_as_a_spreadsheet_shows_them(desk: Path) -> None:
    text = lines('\n\nimage,split,label,note\na.png,train,mel,"two', 'lines"', "", ",,,")
    text += lines("b.png,train,nevus,", "x.png,train,mel,")
    said = refused(desk, text)
    # rows 1 and 2 are blank, 3 the header, 4 holds a note of two lines, 5 and 6 are empty, 7 is b, 8 is x
    assert "row 8: x.png: no such file" in said
    table = read(desk, text, skip_bad=True)
    assert table.row.tolist() == [4, 7]
    assert [(bad.row, bad.image, bad.reason) for bad in table.card.skipped] == [(8, "x.png", "no such file")]
    assert read(desk, PLAIN).row.tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("cells", "said"),
    [("a.png,train", "row 3: a.png: no label"), ("a.png", "'' in 1 row (3)")],
)
def test_a_row_cut_short_lacks_its_last_cells(desk: Path, cells: str, said: str) -> None:
    assert said in refused(desk, lines("image,split,label", "b.png,train,mel", cells))


def test_a_row_with_more_cells_never_shifts_the_others(desk: Path) -> None:
    for rows in (("a.png,train,mel,", "b.png,test,nevus,"), ("a.png,train,mel,x", "b.png,test,nevus,y")):
        said = refused(desk, lines("image,split,label", *rows))
        assert said == (
            f"a table must be a CSV file.\n  {desk / 'skin.v2.csv'}: row 2 has 4 cells, the header has 3"
        )


def test_columns_that_stand_twice(desk: Path) -> None:
    text = lines("image,split,label,label,site,site", "a.png,train,mel,nev,arm,leg")
    assert refused(desk, text).startswith("column 'label' must be there once.")
    plays_no_part = lines("image,split,label,site,site", "a.png,train,mel,arm,leg")
    assert read(desk, plays_no_part).label.tolist() == ["mel"]


def test_without_a_split_or_a_label_column(desk: Path) -> None:
    table = read(desk, lines("image", "a.png", "b.png"))
    assert table.classes == ()
    assert table.split.tolist() == table.label.tolist() == [None, None]
    assert table.card.counts == {"all": {"": 2}}


def test_images_beside_the_csv_in_folders_and_by_absolute_path(desk: Path) -> None:
    (desk / "images" / "deep").mkdir()
    shutil.move(desk / "images" / "a.png", desk / "images" / "deep" / "a.png")
    csv = desk / "skin.csv"
    absolute = desk / "images" / "b.png"
    csv.write_text(lines("image,split,label", "images/deep/a.png,train,mel", f"{absolute},test,mel"))
    table = panderm.read_table(csv, progress=False)
    assert table.path.tolist() == [str(desk / "images/deep/a.png"), str(absolute)]


@pytest.fixture
def identity(desk: Path) -> str:
    return read(desk, PLAIN).card.sha256


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a.png,train,nevus", "a.png,train,mel"),
        ("a.png,train", "a.png,test"),
        ("a.png", "d.png"),
        ("c.png,test,nevus\n", ""),
        ("a.png,train,nevus\nb.png,val,mel", "b.png,val,mel\na.png,train,nevus"),
    ],
    ids=["label", "split", "image", "row", "order"],
)
def test_identity_changes_with_what_the_numbers_depend_on(
    desk: Path, identity: str, old: str, new: str
) -> None:
    assert old in PLAIN
    assert read(desk, PLAIN.replace(old, new)).card.sha256 != identity


def test_identity_changes_with_an_images_content(desk: Path, identity: str) -> None:
    Image.new("RGB", (8, 8), (1, 2, 3)).save(desk / "images" / "b.png")
    assert read(desk, PLAIN).card.sha256 != identity


def test_identity_changes_with_patients_and_classes(desk: Path, identity: str) -> None:
    with_patient = "\n".join(
        line + end for line, end in zip(PLAIN.splitlines(), [",patient_id", ",P1", ",P2", ",P3"], strict=True)
    )
    assert read(desk, with_patient).card.sha256 != identity
    assert read(desk, PLAIN, classes=["nevus", "mel"]).card.sha256 != identity


def test_identity_does_not_change_with_what_plays_no_part(desk: Path, identity: str) -> None:
    more = "\n".join(line + f",{i}" for i, line in enumerate(PLAIN.splitlines()))
    table = read(desk, more.replace(",0", ",age", 1))
    assert table.card.sha256 == identity
    renamed = PLAIN.replace("image,split,label", "file,set,dx")
    options = {"image_column": "file", "split_column": "set", "label": "dx"}
    assert read(desk, renamed, **options).card.sha256 == identity
    assert read(desk, PLAIN, note="a note").card.sha256 == identity
    elsewhere = shutil.copytree(desk / "images", desk / "moved")
    csv = desk / "other.csv"
    csv.write_text(PLAIN)
    assert panderm.read_table(csv, images=elsewhere, progress=False).card.sha256 == identity


@pytest.mark.filterwarnings("default::panderm.PandermWarning")
def test_units_in_two_splits_are_named(desk: Path) -> None:
    rows = ("a.png,train,0,P1,L1", "b.png,test,0,P1,L1", "c.png,val,1,P2,L2", "d.png,test,1,P2,L3")
    with pytest.warns(PandermWarning) as caught:
        table = read(
            desk, lines("image,split,label,patient_id,lesion_id", *rows, "e.png,train,1,,", "f.png,test,0,,")
        )
    worse = "Scores on test will look better than they are"
    assert table.card.warnings == (
        f"a patient must not be in two splits: 1 patient in both train and test: P1. {worse}",
        f"a patient must not be in two splits: 1 patient in both val and test: P2. {worse}",
        f"a group must not be in two splits: 1 group in both train and test: L1. {worse}",
    )
    assert tuple(str(warning.message) for warning in caught) == table.card.warnings
    assert (table.card.patients, table.card.groups) == (2, 3)


@pytest.mark.filterwarnings("default::panderm.PandermWarning")
def test_one_file_under_two_names_in_two_splits_is_named(desk: Path) -> None:
    shutil.copy(desk / "images" / "a.png", desk / "images" / "z.png")
    rows = ("a.png,train,0", "z.png,test,0", "b.png,train,1", "c.png,test,1")
    with pytest.warns(PandermWarning) as caught:
        table = read(desk, lines("image,split,label", *rows))
    assert table.card.warnings == (
        "an image must not be in two splits: 1 image in both train and test under several names: "
        "a.png = z.png. Scores on test will look better than they are",
    )
    assert [str(warning.message) for warning in caught] == list(table.card.warnings)
    shutil.copy(desk / "images" / "a.png", desk / "images" / "b.png")  # twice in one split is no leak
    table = read(desk, lines("image,split,label", "a.png,train,0", "b.png,train,1", "c.png,test,1"))
    assert table.card.warnings == ()


def test_lesions_numbered_within_patients_are_no_leak(desk: Path) -> None:
    rows = [
        f"{name}.png,{s},0,{p},{i % 4}"
        for i, (name, s, p) in enumerate(zip(NAMES, _SETS, "PPPPQQQQ", strict=True))
    ]
    table = read(desk, lines("image,split,label,patient_id,lesion_id", *rows))
    assert table.card.warnings == ()
    assert (table.card.patients, table.card.groups) == (2, 8)


_SETS = ("train",) * 4 + ("test",) * 4


def test_rows_held_back_are_in_no_other_split(desk: Path) -> None:
    rows = ("a.png,train,0", "b.png,held,1", "c.png,test,1", "d.png,held,1")
    table = read(desk, lines("image,split_1,label", *rows), split_column="split_1")
    assert table.card.counts == {
        "train": {"0": 1, "1": 0},
        "test": {"0": 0, "1": 1},
        "held": {"0": 0, "1": 2},
    }
    assert len(table.in_split("train")) + len(table.in_split("test")) == 2


def test_more_pixels_than_allowed_are_refused_until_more_are_allowed(desk: Path) -> None:
    Image.new("RGB", (200, 100)).save(desk / "images" / "a.png")
    found = refused(desk, PLAIN, max_megapixels=0.01)
    assert "row 2: a.png: more than 0.01 million pixels" in found
    table = read(desk, PLAIN, max_megapixels=0.05)
    assert table.card.max_megapixels == 0.05
    assert read(desk, PLAIN).card.sha256 == table.card.sha256


def test_the_limit_of_pixels_reaches_the_feed(desk: Path, encoder: panderm.Encoder) -> None:
    table = read(desk, PLAIN, max_megapixels=0.05)
    small = replace(table, card=table.card.model_copy(update={"max_megapixels": 1e-6}))
    for given, bad in ((table, []), (small, [0, 1, 2])):
        (batch,) = Feed(given, encoder.preprocess, groups=[np.arange(3)], workers=1)
        assert list(batch.bad) == bad
        assert all("million pixels" in reason for reason in batch.bad.values())


def parquet(desk: Path, **columns: object) -> Path:
    path = desk / "skin.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_a_parquet_table_is_a_table(desk: Path) -> None:
    held = {"image": ["a.png", "b.png", "c.png"], "split": ["train", "val", "test"], "label": [1, 0, None]}
    path = parquet(
        desk,
        **held,
        patient_id=pa.array([12, None, 14]),
        age=pa.array([45.0, 2.5, None]),
        site=pa.array(["arm", None, "leg"]).dictionary_encode(),
        day=pa.array([date(2024, 1, 31), None, None]),
        pixels=pa.array([b"a", b"b", b"c"]),
        boxes=pa.array([[1], [2], [3]]),
    )
    frame = read_cells(path)
    assert frame.index.tolist() == [1, 2, 3]
    assert frame.iloc[0].tolist() == ["a.png", "train", "1", "12", "45", "arm", "2024-01-31"]
    assert frame.iloc[2].tolist() == ["c.png", "test", "", "14", "", "leg", ""]
    with pytest.raises(TableError, match=r"row 3: c.png: no label"):
        panderm.read_table(path, images=desk / "images", progress=False)
    table = panderm.read_table(path, images=desk / "images", skip_bad=True, progress=False)
    assert table.label.tolist() == ["1", "0"]
    assert table.patient.tolist() == ["12", None]
    with pytest.raises(
        TableError, match=r"column 'pixels' .label. must hold text or numbers.\n.*it holds binary"
    ):
        panderm.read_table(path, images=desk / "images", label="pixels", progress=False)
    (desk / "no.parquet").write_text("a,b\n")
    with pytest.raises(TableError, match="a table must be a CSV or Parquet file"):
        panderm.read_table(desk / "no.parquet", progress=False)
    with pytest.raises(TableError, match="found no file"):
        panderm.read_table(desk / "none.parquet", progress=False)


def test_a_parquet_table_is_split_into_a_csv(desk: Path) -> None:
    path = parquet(desk, image=[f"{n}.png" for n in NAMES], label=list("aabbaabb"), box=[[1]] * 8)
    with pytest.warns(PandermWarning, match="skin_split.csv is a CSV and lacks box"):
        done = panderm.split(path, images=desk / "images", val=0.25, test=0.25, progress=False)
    assert done.csv.name == "skin_split.csv"
    table = panderm.read_table(done.csv, images=desk / "images", progress=False)
    assert table.card.lock is not None
    assert {s: sum(n.values()) for s, n in table.card.counts.items()} == {"train": 4, "val": 2, "test": 2}


def test_skipped_rows_take_no_part(desk: Path) -> None:
    (desk / "images" / "b.png").write_text("text")
    rows = ("a.png,train,mel", "b.png,train,nevus", "c.png,test,", ",test,mel", "d.png,test,mel")
    table = read(desk, lines("image,split,label", *rows), skip_bad=True)
    assert table.image.tolist() == ["a.png", "d.png"]
    assert table.classes == ("mel",)
    assert table.card.counts == {"train": {"mel": 1}, "test": {"mel": 1}}
    assert [(bad.row, bad.reason) for bad in table.card.skipped] == [
        (3, "not an image that can be read"),
        (4, "no label"),
        (5, "no image is named"),
    ]


def test_select_takes_masks_positions_and_slices(desk: Path) -> None:
    table = read(desk, PLAIN)
    for chosen in (np.array([True, False, True]), np.array([0, 2]), slice(0, 3, 2)):
        assert table.select(chosen).image.tolist() == ["a.png", "c.png"]
    assert table.select(np.array([2, 0])).row.tolist() == [4, 2]


def test_a_drawn_world_is_read_whole(table: panderm.Table) -> None:
    assert len(table) == 90
    assert table.card.roles["patient"] == "patient_id"
    assert table.card.roles["group"] == "lesion_id"
    assert table.card.warnings == ()
    assert sum(n for split in table.card.counts.values() for n in split.values()) == 90
