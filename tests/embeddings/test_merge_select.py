"""Finished folders as one, and some rows of one: true cards, every column, and what refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.data.lock import LockRecord
from panderm.data.table import read_table
from panderm.embeddings.card import Decoding, EmbeddingsCard
from panderm.embeddings.lock import Hold
from panderm.embeddings.writer import EmbeddingsWriter
from panderm.errors import ArtifactError, PandermWarning, ParentsError, TableError, UsageError

Made = Callable[..., Path]
DIM = 192


def vectors(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, DIM)).astype(np.float32)


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["embeddings", *map(str, words)])
    return result.exit_code, result.output


def table_of(folder: Path, rows: str, *, csv: str = "t.csv", **roles: str) -> panderm.Table:
    """Draw the images that a CSV names, a colour each, and read it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / csv).write_text(rows, encoding="utf-8")
    for name in pd.read_csv(folder / csv, dtype=str)["image"]:
        colour = tuple(crc32(name.encode()).to_bytes(4)[:3])
        Image.new("RGB", (8, 6), colour).save(folder / name)
    return read_table(folder / csv, progress=False, **roles)  # type: ignore[arg-type]


A = """image,split,label,patient_id,site
a1.png,train,mel,p1,arm
a2.png,train,nv,p1,
a3.png,test,mel,p2,leg
a4.png,test,nv,p3,leg
"""
B = "image,split,dx,patient_id,age\nb1.png,train,bcc,q1,50\nb2.png,test,nv,q2,60\nb3.png,val,mel,,70\n"


@pytest.fixture
def a(made: Made, tmp_path: Path) -> Path:
    return made("a.emb", table=table_of(tmp_path / "a", A), vectors=vectors(4, 1))


@pytest.fixture
def b(made: Made, tmp_path: Path) -> Path:
    return made("b.emb", table=table_of(tmp_path / "b", B, label="dx"), vectors=vectors(3, 2))


# Merge


def test_two_folders_become_one(a: Path, b: Path, tmp_path: Path) -> None:
    code, said = run("merge", a, b, "--out", tmp_path / "c.emb", "-q")
    assert code == 0, said
    assert f"from {a}: 4 rows" in said
    emb = panderm.open_embeddings(tmp_path / "c.emb")
    np.testing.assert_array_equal(emb.vectors, np.concatenate([vectors(4, 1), vectors(3, 2)]))
    card = emb.card.table
    assert list(emb.rows.image) == ["a1.png", "a2.png", "a3.png", "a4.png", "b1.png", "b2.png", "b3.png"]
    assert list(emb.rows.patient) == ["p1", "p1", "p2", "p3", "q1", "q2", None]
    assert card.classes == ("bcc", "mel", "nv")
    assert card.counts == {
        "train": {"bcc": 1, "mel": 1, "nv": 1},
        "val": {"bcc": 0, "mel": 1, "nv": 0},
        "test": {"bcc": 0, "mel": 1, "nv": 2},
    }
    assert (card.rows, card.patients, card.name) == (7, 5, "c")
    # the roles' names that all give, else the role's own
    assert card.roles == {
        "image": "image", "split": "split", "label": "label", "patient": "patient_id", "group": None,
    }  # fmt: skip
    assert [(s.store, s.rows, s.chosen) for s in emb.card.sources] == [(str(a), 4, None), (str(b), 3, None)]
    assert [s.identity for s in emb.card.sources] == [
        panderm.open_embeddings(x).card.identity for x in (a, b)
    ]
    assert panderm.describe_embeddings(tmp_path / "c.emb", verify=True, progress=False).findings == ()


def test_every_column_of_both_tables_comes_along(a: Path, b: Path, tmp_path: Path) -> None:
    emb = panderm.merge_embeddings([a, b], out=tmp_path / "c.emb", progress=False)
    frame = pd.read_csv(emb.card.table.csv, dtype=str, keep_default_na=False)
    assert list(frame.columns) == ["image", "split", "label", "patient_id", "site", "age"]
    assert list(frame["site"]) == ["arm", "", "leg", "leg", "", "", ""]
    assert list(frame["age"]) == ["", "", "", "", "50", "60", "70"]
    assert list(emb.rows.row) == [2, 3, 4, 5, 6, 7, 8]  # as a spreadsheet numbers them


def test_the_card_is_that_of_its_own_table_read_again(a: Path, tmp_path: Path) -> None:
    """One folder of images: the table that lies in the merged folder is a table like any other."""
    halves = [
        panderm.select_embeddings(a, out=tmp_path / f"{s}.emb", where=f"split={s}", progress=False)
        for s in ("train", "test")
    ]
    both = panderm.merge_embeddings(halves, out=tmp_path / "c.emb", progress=False)
    again = read_table(both.card.table.csv, images=tmp_path / "a", progress=False)
    ours = both.card.table
    for field in ("sha256", "rows", "classes", "counts", "patients", "groups", "csv_sha256", "roles"):
        assert getattr(again.card, field) == getattr(ours, field), field
    assert ours.sha256 == panderm.open_embeddings(a).card.table.sha256  # and that of the whole it came from


def test_a_merged_folder_probes_and_scores_by_any_column(
    embeddings: panderm.Embeddings, tmp_path: Path
) -> None:
    parts = []
    for split in ("train", "val", "test"):
        out = tmp_path / f"{split}.emb"
        parts.append(panderm.select_embeddings(embeddings, out=out, where=f"split={split}", progress=False))
    both = panderm.merge_embeddings(parts, out=tmp_path / "c.emb", progress=False)
    made = panderm.probe(both, C=0.1, test="test", out=tmp_path / "c.pred")
    whole = panderm.probe(embeddings, C=0.1, test="test", out=tmp_path / "w.pred")
    order = [list(made.image).index(name) for name in whole.image]
    np.testing.assert_allclose(made.probabilities[order], whole.probabilities, atol=1e-4)
    csv = pd.read_csv(both.card.table.csv)
    assert "site" in csv.columns
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path / "c.pred"), "--by", "site", "--draws", "20"])
    assert result.exit_code == 0, result.output


def test_an_image_of_both_is_kept_once(a: Path, made: Made, tmp_path: Path) -> None:
    more = table_of(
        tmp_path / "a",
        A.replace("a1.png,train,mel,p1,arm\n", "").replace(",\n", ",head\n") + "a5.png,val,nv,p9,arm\n",
        csv="more.csv",
    )
    numbers = np.concatenate([vectors(4, 1)[1:] * np.float32(1 + 1e-6), vectors(1, 9)])
    other = made("d.emb", table=more, vectors=numbers)
    with pytest.warns(PandermWarning, match="3 images in several of the folders: kept once"):
        emb = panderm.merge_embeddings([a, other], out=tmp_path / "c.emb", progress=False)
    assert list(emb.rows.image) == ["a1.png", "a2.png", "a3.png", "a4.png", "a5.png"]
    np.testing.assert_array_equal(emb.vectors, np.concatenate([vectors(4, 1), vectors(1, 9)]))
    assert [s.rows for s in emb.card.sources] == [4, 1]
    # A cell that is empty in the first is filled from the second.
    assert list(pd.read_csv(emb.card.table.csv)["site"]) == ["arm", "head", "leg", "leg", "arm"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("vector", "another vector of the same file: 1 image: a3.png"),
        ("sha256", "another file of the same name: 1 image: a3.png"),
        ("label", "another label: 1 image: a3.png"),
        ("split", "another split: 1 image: a3.png"),
        ("patient", "another patient: 1 image: a3.png"),
    ],
)
def test_an_image_that_differs_is_named(spoil: str, words: str, a: Path, made: Made, tmp_path: Path) -> None:
    emb = panderm.open_embeddings(a)
    numbers, rows = vectors(4, 1), emb.rows
    if spoil == "vector":
        numbers[2] *= np.float32(1.01)
    else:
        column = getattr(rows, spoil).copy()
        column[2] = {"sha256": "0" * 64, "label": "nv", "split": "val", "patient": "p7"}[spoil]
        rows = replace(rows, **{spoil: column})
    other = made("d.emb", table=rows, vectors=numbers)
    with pytest.raises(ParentsError) as caught:
        panderm.merge_embeddings([a, other], out=tmp_path / "c.emb", progress=False)
    assert caught.value.found == (f"{a} and {other}: {words}",)
    assert not (tmp_path / "c.emb").exists()


def test_another_encoder_is_refused_and_what_differs_is_named(
    a: Path, made: Made, encoder: panderm.Encoder, tmp_path: Path
) -> None:
    record = encoder.record.model_copy(
        update={"pool": "mean", "weights_sha256": "f" * 64, "weights": "x.pth"}
    )
    other = made("d.emb", record=record, decoding=Decoding(exact=False, levels=2, images=8))
    code, said = run("merge", a, other, "--out", tmp_path / "c.emb")
    assert code == 2
    assert "embeddings of one folder must come from one encoder" in said
    assert f"{a} and {other} differ in pool: cls, mean" in said
    assert "differ in weights_sha256" in said
    assert "differ in exact decoding: True, False" in said
    assert "differ in weights:" not in said  # where the file lay is of no account


def test_a_patient_in_two_splits_is_warned_of(a: Path, made: Made, tmp_path: Path) -> None:
    rows = "image,split,label,patient_id\nd1.png,test,mel,p1\nd2.png,test,nv,p8\n"
    other = made("d.emb", table=table_of(tmp_path / "d", rows), vectors=vectors(2, 3))
    with pytest.warns(
        PandermWarning, match="a patient must not be in two splits: 1 patient in both train and test"
    ):
        emb = panderm.merge_embeddings([a, other], out=tmp_path / "c.emb", progress=False)
    assert len(emb.card.table.warnings) == 1


def test_one_file_under_two_names_in_two_splits_is_warned_of(a: Path, made: Made, tmp_path: Path) -> None:
    other = table_of(tmp_path / "d", "image,split,label\nd1.png,val,mel\nd2.png,val,nv\n")
    sha256 = other.sha256.copy()
    sha256[0] = panderm.open_embeddings(a).rows.sha256[0]
    folder = made("d.emb", table=replace(other, sha256=sha256), vectors=vectors(2, 3))
    with pytest.warns(PandermWarning, match="an image must not be in two splits"):
        panderm.merge_embeddings([a, folder], out=tmp_path / "c.emb", progress=False)


def test_labels_in_one_of_two_are_refused(a: Path, made: Made, tmp_path: Path) -> None:
    other = made("d.emb", table=table_of(tmp_path / "d", "image,split\nd1.png,val\n"), vectors=vectors(1))
    with pytest.raises(ParentsError, match=r"must have a label[\s\S]*without: .*d.emb"):
        panderm.merge_embeddings([a, other], out=tmp_path / "c.emb", progress=False)


def test_classes_keep_a_stated_order_or_refuse(made: Made, tmp_path: Path) -> None:
    def of(name: str, *classes: str) -> Path:
        rows = "image,split,label\n" + "".join(f"{name}{c}.png,train,{c}\n" for c in classes)
        table = table_of(tmp_path / name, rows, classes=list(classes))  # type: ignore[arg-type]
        return made(f"{name}.emb", table=table, vectors=vectors(len(classes), ord(name)))

    one, two, three = of("x", "nv", "mel"), of("y", "nv", "akiec", "mel"), of("z", "mel", "nv")
    emb = panderm.merge_embeddings([one, two], out=tmp_path / "c.emb", progress=False)
    assert emb.rows.classes == ("nv", "akiec", "mel")
    with pytest.raises(ParentsError) as caught:
        panderm.merge_embeddings([one, three], out=tmp_path / "d.emb", progress=False)
    assert caught.value.found == (f"{one}: nv, mel", f"{three}: mel, nv")


def test_folders_that_share_no_class_are_told(a: Path, made: Made, tmp_path: Path) -> None:
    rows = "image,split,label\nd1.png,val,melanoma\n"
    other = made("d.emb", table=table_of(tmp_path / "d", rows), vectors=vectors(1))
    with pytest.warns(PandermWarning, match=r"no class is in two of the folders .*panderm data map"):
        panderm.merge_embeddings([a, other], out=tmp_path / "c.emb", progress=False)


def test_a_column_that_is_a_role_elsewhere_keeps_its_cells(a: Path, made: Made, tmp_path: Path) -> None:
    """One table's diagnosis is another's label: neither is lost."""
    rows = "image,split,dx,label\nd1.png,val,mel,0\nd2.png,val,nv,1\n"
    other = made("d.emb", table=table_of(tmp_path / "d", rows, label="dx"), vectors=vectors(2))
    emb = panderm.merge_embeddings([a, other], out=tmp_path / "c.emb", progress=False)
    frame = pd.read_csv(emb.card.table.csv, dtype=str, keep_default_na=False)
    assert list(frame["label"]) == ["mel", "nv", "mel", "nv", "mel", "nv"]
    assert list(frame["label (t)"]) == ["", "", "", "", "0", "1"]


def test_a_table_that_is_gone_leaves_the_roles(a: Path, b: Path, tmp_path: Path) -> None:
    (tmp_path / "a/t.csv").unlink()
    with pytest.warns(PandermWarning, match=r"only image, split, label.*found no file .*a/t.csv"):
        emb = panderm.merge_embeddings([a, b], out=tmp_path / "c.emb", progress=False)
    frame = pd.read_csv(emb.card.table.csv, dtype=str)
    assert list(frame.columns) == ["image", "split", "label", "patient_id", "age"]


def test_several_parts_and_tokens_are_those_of_one_run(
    made: Made, odd_table: panderm.Table, tmp_path: Path
) -> None:
    """Bytes and names of the parts are those that a run over the merged table would have left."""
    n = len(odd_table)
    tokens = np.random.default_rng(5).normal(size=(n, 2, 2, 4)).astype(np.float16)
    whole = made("whole.emb", table=odd_table, vectors=vectors(n), tokens=tokens)
    halves = []
    for k, chosen in enumerate((slice(0, 9), slice(9, None))):
        halves.append(
            made(
                f"h{k}.emb",
                table=odd_table.select(chosen),
                vectors=vectors(n)[chosen],
                tokens=tokens[chosen],
                rows_a_part=4,
            )
        )
    emb = panderm.merge_embeddings(halves, out=tmp_path / "c.emb", progress=False)
    assert emb.tokens is not None
    np.testing.assert_array_equal(emb.tokens, tokens)
    np.testing.assert_array_equal(emb.vectors, vectors(n))
    wanted = panderm.open_embeddings(whole).card
    assert emb.card.parts == wanted.parts
    assert emb.card.token_parts == wanted.token_parts


def test_tokens_of_some_only_stay_behind(
    made: Made, b: Path, odd_table: panderm.Table, tmp_path: Path
) -> None:
    tokens = np.zeros((len(odd_table), 1, 1, 4), dtype=np.float16)
    with pytest.warns(PandermWarning) as told:
        emb = panderm.merge_embeddings([made(tokens=tokens), b], out=tmp_path / "c.emb", progress=False)
    assert f"no patch tokens: {b} has none" in [str(w.message) for w in told]
    assert emb.card.tokens is None
    assert emb.tokens is None


def test_fewer_than_two_are_refused(a: Path, tmp_path: Path) -> None:
    code, said = run("merge", a, "--out", tmp_path / "c.emb")
    assert code == 2
    assert "two folders or more can be merged" in said


# Select


def test_rows_are_chosen_by_values(made: Made, odd_table: panderm.Table, tmp_path: Path) -> None:
    folder = made(rows_a_part=4)
    emb = panderm.open_embeddings(folder)
    cases = {
        ("split=test",): emb.rows.split == "test",
        ("split=test,val",): np.isin(emb.rows.split.astype(str), ["test", "val"]),
        ("label=naevus, blue",): emb.rows.label == "naevus, blue",  # the value holds a comma itself
        ("label=bcc,Mélanome", "split=train"): (emb.rows.label != "naevus, blue")
        & (emb.rows.split == "train"),
        ("patient=",): emb.rows.patient == None,  # noqa: E711
        ("patient_id=P1,P2",): np.isin(emb.rows.patient.astype(str), ["P1", "P2"]),
        ("group=L3",): emb.rows.group == "L3",
        ("site=leg", "age=22,25,28"): np.isin(np.arange(len(emb)), [2, 5, 8]),
    }
    for k, (where, wanted) in enumerate(cases.items()):
        out = tmp_path / f"{k}.emb"
        words = [w for condition in where for w in ("--where", condition)]
        code, said = run("select", folder, "--out", out, *words, "-q")
        assert code == 0, said
        got = panderm.open_embeddings(out)
        assert list(got.rows.image) == list(emb.rows.image[wanted]), where
        np.testing.assert_array_equal(got.vectors, np.asarray(emb.vectors)[wanted])
        assert got.card.sources[0].chosen == " and ".join(where)
        assert got.card.table.rows == got.card.rows == int(wanted.sum())
        assert sum(sum(c.values()) for c in got.card.table.counts.values()) == int(wanted.sum())


def test_classes_are_those_of_the_whole_unless_labels_are_chosen(a: Path, b: Path, tmp_path: Path) -> None:
    both = panderm.merge_embeddings([a, b], out=tmp_path / "c.emb", progress=False)
    test = panderm.select_embeddings(both, out=tmp_path / "t.emb", where="split=test", progress=False)
    assert test.card.table.counts == {"test": {"bcc": 0, "mel": 1, "nv": 2}}
    two = panderm.select_embeddings(both, out=tmp_path / "u.emb", where=["label=nv,mel"], progress=False)
    assert two.rows.classes == ("mel", "nv")


def test_rows_are_chosen_by_a_file(a: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("name;why\na4.png;x\na1.png;y\na1.png;z\n")
    words = [
        "select",
        a,
        "--out",
        tmp_path / "c.emb",
        "--rows",
        tmp_path / "ids.csv",
        "--image-column",
        "name",
    ]
    code, said = run(*words, "--json", "-q")
    told = json.loads(said)
    assert code == 0
    assert told["rows"] == 2
    assert told["sources"] == [
        {
            "store": str(a),
            "identity": panderm.open_embeddings(a).card.identity,
            "rows": 2,
            "chosen": "2 images named in ids.csv",
        }
    ]
    assert list(panderm.open_embeddings(tmp_path / "c.emb").rows.image) == [
        "a1.png",
        "a4.png",
    ]  # the table's order


def test_names_that_are_not_there_are_listed(a: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("image\na1.png\na11.png\nzz.png\n")
    words = ["select", a, "--out", tmp_path / "c.emb", "--rows", tmp_path / "ids.csv"]
    code, said = run(*words)
    assert code == 2
    assert "2 images of ids.csv not there: a11.png, zz.png; did you mean 'a1.png'?" in said
    assert run(*words, "--skip-missing")[0] == 0
    assert list(panderm.open_embeddings(tmp_path / "c.emb").rows.image) == ["a1.png"]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], "found neither --where nor --rows"),
        (["--where", "lable=mel"], "there is no column 'lable'; did you mean 'label'?"),
        (["--where", "label"], "--where label: found no = in it"),
        (["--where", "group=L1"], "there is no column 'group'"),
        (["--where", "label=mel,nvv"], "no row has 'nvv'; did you mean 'nv'?"),
        (["--where", "split=train", "--where", "site=leg"], "none of 4 rows meets: split=train and site=leg"),
        (
            ["--rows", "{here}/a/t.csv", "--image-column", "imge"],
            "column 'imge' must be there; did you mean 'image'?",
        ),
        (["--rows", "{here}/none.csv"], "found no file"),
        (["--where", "split=train", "--skip-missing"], "found --skip-missing, and no --rows"),
        (["--where", "split=train", "--image-column", "name"], "found --image-column name, and no --rows"),
    ],
)
def test_what_chooses_nothing_is_refused(words: list[str], wanted: str, a: Path, tmp_path: Path) -> None:
    given = [word.format(here=tmp_path) for word in words]
    code, said = run("select", a, "--out", tmp_path / "c.emb", *given)
    assert code == 2
    assert wanted in said
    assert not (tmp_path / "c.emb").exists()


def test_a_folder_is_not_replaced_by_what_is_made_of_it(a: Path, b: Path, tmp_path: Path) -> None:
    before = {p.name: p.read_bytes() for p in a.iterdir()}
    for words in (("select", a, "--where", "split=test"), ("merge", a, b)):
        code, said = run(*words, "--out", a, "--overwrite")
        assert code == 2
        assert "an output must not be what it is made from" in said
        code, said = run(*words, "--out", b)
        assert code == 2
        assert "an output must not exist already" in said
    assert {p.name: p.read_bytes() for p in a.iterdir()} == before


def test_a_folder_that_a_run_writes_is_not_replaced(a: Path, b: Path) -> None:
    hold = Hold(b)
    try:
        code, said = run("select", a, "--where", "split=test", "--out", b, "--overwrite")
    finally:
        hold.release()
    assert code == 2
    assert "one process at a time may write an embeddings folder" in said
    assert len(panderm.open_embeddings(b)) == 3


def test_selected_embeddings_are_gone_on_with(a: Path, tmp_path: Path) -> None:
    """A folder like any other: a run over the whole table finds what is there and makes the rest."""
    panderm.select_embeddings(a, out=tmp_path / "c.emb", where="split=test", progress=False)
    emb = panderm.open_embeddings(a)
    card = emb.card.model_copy(update={"complete": False, "parts": ()})
    with EmbeddingsWriter(tmp_path / "c.emb", card, emb.rows) as writer:
        assert list(writer.todo) == [True, True, False, False]
        writer.write(emb.rows.select(writer.todo), np.asarray(emb.vectors)[writer.todo])
        writer.finish(table=emb.rows, seconds=1.0, images_per_second=None)
    np.testing.assert_array_equal(panderm.open_embeddings(tmp_path / "c.emb").vectors, emb.vectors)


def test_an_unfinished_folder_is_refused(a: Path, b: Path, tmp_path: Path) -> None:
    card = EmbeddingsCard.model_validate_json((a / "card.json").read_bytes())
    card.model_copy(update={"complete": False}).write(a, overwrite=True)
    for words in (("select", a, "--where", "split=test"), ("merge", b, a), ("export", a, "--to", "npz")):
        code, said = run(*words, "--out", tmp_path / "c")
        assert code == 2
        assert "was stopped before its end" in said


def test_errors_in_python_are_of_the_house(a: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        panderm.select_embeddings(a, out=tmp_path / "c.emb", where="label=x")
    with pytest.raises(TableError):
        panderm.select_embeddings(a, out=tmp_path / "c.emb", rows=tmp_path / "no.csv")
    with pytest.raises(ArtifactError):
        panderm.merge_embeddings([a, tmp_path / "no.emb"], out=tmp_path / "c.emb")


def test_the_lock_of_the_table_goes_along_where_it_holds_all_rows(
    a: Path, b: Path, made: Made, tmp_path: Path
) -> None:
    lock = LockRecord(
        file="t.lock.json",
        sha256="1" * 64,
        created="2026-01-01T00:00:00+00:00",
        seed=0,
        method="groups",
        column="split",
        joined_by=("patient",),
        groups=3,
        largest=2,
        images_read=True,
    )
    rows = panderm.open_embeddings(a).rows
    locked = replace(rows, card=rows.card.model_copy(update={"lock": lock}))
    whole = made("l.emb", table=locked, vectors=vectors(4, 1))
    halves = [
        panderm.select_embeddings(whole, out=tmp_path / f"{s}.emb", where=f"split={s}", progress=False)
        for s in ("train", "test")
    ]
    assert [half.card.table.lock for half in halves] == [lock, lock]
    again = panderm.merge_embeddings(halves, out=tmp_path / "c.emb", progress=False)
    assert again.card.table.lock == lock
    mixed = panderm.merge_embeddings([whole, b], out=tmp_path / "d.emb", progress=False)
    assert mixed.card.table.lock is None
