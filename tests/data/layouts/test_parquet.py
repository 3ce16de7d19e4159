"""Pictures inside tables: Parquet, Hugging Face exports, and names and files that mean harm."""

from __future__ import annotations

import csv
import io
import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from panderm import import_images, read_table
from panderm.cli import app
from panderm.data.layouts.safe_names import SafeNames, ending_of
from panderm.errors import ArtifactError, PandermError, TableError

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
NAMES = ("melanoma", "nevus")
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": list(NAMES), "_type": "ClassLabel"},
    "age": {"dtype": "int64", "_type": "Value"},
}


def picture(seed: int, kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, kind)
    return written.getvalue()


def hf_table(n: int, *, start: int = 0, features: object = FEATURES, **columns: list[Any]) -> pa.Table:
    """A table as datasets writes it: struct of bytes and path, class numbers, features in the metadata."""
    made: dict[str, Any] = {
        "image": pa.array(
            [{"bytes": picture(start + i), "path": f"lesion {start + i}.jpeg"} for i in range(n)], PICTURE
        ),
        "label": pa.array([i % 2 for i in range(n)], pa.int64()),
        "age": pa.array([50 + i for i in range(n)], pa.int64()),
    }
    made |= {
        name: values if isinstance(values, pa.Array) else pa.array(values) for name, values in columns.items()
    }
    table = pa.table(made)
    if features is None:
        return table.replace_schema_metadata(None)
    return table.replace_schema_metadata(
        {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    )


def write_stream(table: pa.Table, path: Path, *, chunk: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=chunk)


def written(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def bring(source: Path, out: Path, **more: Any) -> Any:
    return import_images(source, layout="parquet", out=out, progress=False, **more)


def test_parquet_files_named_by_split_become_files_and_rows(tmp_path: Path) -> None:
    folder = tmp_path / "export/data"
    folder.mkdir(parents=True)
    pq.write_table(hf_table(4), folder / "train-00000-of-00001.parquet")
    pq.write_table(hf_table(2, start=4), folder / "validation-00000-of-00001.parquet")
    pq.write_table(hf_table(3, start=6), folder / "test-00000-of-00001.parquet")
    done = bring(tmp_path / "export", tmp_path / "made.csv")
    rows = written(tmp_path / "made.csv")
    assert done.splits == {"test": 3, "train": 4, "val": 2}
    assert done.counts == {"melanoma": 5, "nevus": 4}
    assert rows[0] == {
        "image": "made-images/lesion_6.jpg",
        "label": "melanoma",
        "split": "test",
        "original_name": "lesion 6.jpeg",
        "age": "50",
    }
    for i, row in enumerate(sorted(rows, key=lambda r: int(re.findall(r"\d+", r["original_name"])[0]))):
        assert (tmp_path / row["image"]).read_bytes() == picture(i)
    table = read_table(tmp_path / "made.csv", progress=False)
    assert table.classes == NAMES
    assert len(table.in_split("val")) == 2
    assert not done.findings


@pytest.mark.parametrize("in_schema", [True, False])
def test_what_save_to_disk_wrote_is_read_with_its_splits(tmp_path: Path, in_schema: bool) -> None:
    root = tmp_path / "saved"
    for split, n in (("train", 5), ("test", 2)):
        table = hf_table(n, features=FEATURES if in_schema else None)
        write_stream(table, root / split / "data-00000-of-00001.arrow")
        (root / split / "dataset_info.json").write_text(json.dumps({"features": FEATURES}), "utf-8")
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": split}
        (root / split / "state.json").write_text(json.dumps(state), "utf-8")
        write_stream(hf_table(9), root / split / "cache-0123.arrow")  # datasets' own, no part of the table
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}), "utf-8")
    done = bring(root, tmp_path / "made.csv")
    assert done.splits == {"test": 2, "train": 5}
    assert set(done.counts) == set(NAMES)
    assert done.rows == 7


def test_a_dataset_of_one_split_takes_it_from_its_state(tmp_path: Path) -> None:
    write_stream(hf_table(2), tmp_path / "one/data-00000-of-00001.arrow")
    (tmp_path / "one/state.json").write_text(json.dumps({"_split": "train"}), "utf-8")
    assert bring(tmp_path / "one", tmp_path / "made.csv").splits == {"train": 2}
    (tmp_path / "one/state.json").write_text(
        json.dumps({"_indices_data_files": [{"filename": "i"}]}), "utf-8"
    )
    with pytest.raises(TableError, match="rows in their order"):
        bring(tmp_path / "one", tmp_path / "other.csv")


def test_an_arrow_file_that_is_no_stream_is_read_too(tmp_path: Path) -> None:
    table = hf_table(3)
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    assert bring(tmp_path / "t.arrow", tmp_path / "made.csv").rows == 3


def test_a_plain_parquet_file_may_hold_the_bytes_alone(tmp_path: Path) -> None:
    table = pa.table(
        {"img": [picture(0, "PNG"), picture(1, "BMP")], "dx": ["mel", "nv"], "boxes": [[1], [2, 3]]}
    )
    pq.write_table(table, tmp_path / "plain.parquet")
    done = bring(tmp_path / "plain.parquet", tmp_path / "made.csv")
    assert [row["image"] for row in written(tmp_path / "made.csv")] == [
        *("made-images/image_000000.png", "made-images/image_000001.bmp"),
    ]
    assert done.label == "dx"
    assert done.notes == ("columns of lists or the like are left out: boxes",)


def test_a_second_picture_goes_into_a_folder_of_its_own(tmp_path: Path) -> None:
    masks = pa.array(
        [{"bytes": picture(9, "PNG"), "path": "lesion 0.png"}, {"bytes": None, "path": None}], PICTURE
    )
    pq.write_table(hf_table(2, mask=masks), tmp_path / "t.parquet")
    done = bring(tmp_path / "t.parquet", tmp_path / "made.csv")
    rows = written(tmp_path / "made.csv")
    assert [row["mask"] for row in rows] == ["made-images/mask/lesion_0.png", ""]
    assert (tmp_path / rows[0]["mask"]).read_bytes() == picture(9, "PNG")
    assert not done.findings


def test_rows_without_a_picture_or_a_class_are_findings_and_stay(tmp_path: Path) -> None:
    images = [
        {"bytes": picture(0), "path": "a.jpg"},
        {"bytes": None, "path": "/etc/hostname"},
        {"bytes": None, "path": None},
        {"bytes": b"no image at all", "path": "d.jpg"},
    ]
    table = hf_table(4, image=pa.array(images, PICTURE), label=pa.array([0, -1, 7, None], pa.int64()))
    pq.write_table(table, tmp_path / "t.parquet")
    result = CliRunner().invoke(
        app,
        ["data", "import", "huggingface", "--from", str(tmp_path / "t.parquet"), "--json",
         "--out", str(tmp_path / "made.csv")],
    )  # fmt: skip
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["findings"] == [
        "1 row without a picture: row 4",
        "1 row with a path instead of a picture, which is not followed: row 3; "
        "export it again with the pictures inside",
        "1 file of no kind that is known, written as .bin: row 5",
        "column label: 1 row with a class number without a name, left empty",
    ]
    rows = written(tmp_path / "made.csv")
    assert [row["image"] for row in rows] == ["made-images/a.jpg", "", "", "made-images/d.bin"]
    assert [row["label"] for row in rows] == ["melanoma", "", "", ""]


HOSTILE = (
    *(
        "../../x.jpg",
        "/etc/passwd",
        "C:\\Windows\\x.png",
        "..",
        ".",
        "",
        ".bashrc",
        "a/../../b.jpg",
        "CON.jpg",
    ),
    *(
        "nul",
        "x" * 300 + ".jpg",
        "a\x00b.jpg",
        "a\nb.jpg",
        "-rf.jpg",
        "A.JPG",
        "a.jpg",
        "a.jpeg",
        "Ünïcode.png",
    ),
    *(
        "~root/x.jpg",
        "$(touch x).jpg",
        "%2e%2e%2fx.jpg",
        "card.json",
        "\u202egpj.exe",
        "a.jpg.exe",
        "..\\..\\y",
    ),
)


def test_names_that_mean_harm_stay_inside_and_overwrite_nothing(tmp_path: Path) -> None:
    images = [{"bytes": picture(i), "path": name} for i, name in enumerate(HOSTILE)]
    n = len(images)
    table = hf_table(
        n,
        image=pa.array(images, PICTURE),
        label=pa.array(["=cmd()|'a'!A1", 'a\x00b\r\nc,"d'] * (n // 2) + ["x"] * (n % 2)),
        features={},
        **{"original_name": ["theirs"] * n, "image_as_found": ["q"] * n, "../col\numn": ["w"] * n},
    )
    inside = tmp_path / "a/b/inside"
    inside.mkdir(parents=True)
    pq.write_table(table, tmp_path / "t.parquet")
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    bring(tmp_path / "t.parquet", inside / "made.csv")
    new = {p for p in tmp_path.rglob("*") if p.is_file()} - before
    assert {p.parent for p in new} == {inside, inside / "made-images"}
    rows = written(inside / "made.csv")
    names = [row["image"].removeprefix("made-images/") for row in rows]
    assert len({name.casefold() for name in names}) == n
    for i, name in enumerate(names):
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.jpg", name), name
        assert (inside / "made-images" / name).read_bytes() == picture(i)
    assert rows[1]["label"] == 'a b  c,"d'
    assert rows[0]["original_name_as_found"] == "theirs"
    assert rows[0]["../col umn"] == "w"
    assert len(read_table(inside / "made.csv", progress=False)) == n


@given(st.lists(st.text(max_size=300), max_size=8), st.sampled_from([".jpg", ".png", ""]))
def test_every_name_is_safe_and_given_once(wanted: list[str], ending: str) -> None:
    names = SafeNames()
    given_names = [names.name(name, ending, i) for i, name in enumerate(wanted)]
    assert len({name.casefold() for name in given_names}) == len(wanted)
    for name in given_names:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)
        assert len(name) <= 110
        assert name.split(".")[0].casefold() not in ("con", "nul", "aux", "prn", "com1")


def test_endings_are_told_by_content() -> None:
    kinds = (
        ("JPEG", ".jpg"),
        ("PNG", ".png"),
        ("BMP", ".bmp"),
        ("TIFF", ".tif"),
        ("GIF", ".gif"),
        ("WEBP", ".webp"),
    )
    for kind, ending in kinds:
        assert ending_of(picture(0, kind)) == ending
    assert ending_of(b"") is None
    assert ending_of(b"PK\x03\x04") is None


def test_outputs_are_never_overwritten_unasked(tmp_path: Path) -> None:
    pq.write_table(hf_table(2), tmp_path / "t.parquet")
    bring(tmp_path / "t.parquet", tmp_path / "made.csv")
    with pytest.raises(ArtifactError, match="must not exist already"):
        bring(tmp_path / "t.parquet", tmp_path / "made.csv")
    (tmp_path / "made.csv").unlink()
    with pytest.raises(ArtifactError, match="must not exist already"):  # the folder of the images
        bring(tmp_path / "t.parquet", tmp_path / "made.csv")
    bring(tmp_path / "t.parquet", tmp_path / "made.csv", overwrite=True)
    own = tmp_path / "other-images"
    own.mkdir()
    (own / "mine.txt").write_text("mine", "utf-8")
    with pytest.raises(ArtifactError, match="only a folder that panderm wrote may be replaced"):
        bring(tmp_path / "t.parquet", tmp_path / "other.csv", overwrite=True)
    assert not (tmp_path / "other.csv").exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda f: None, "holds no file that ends in"),
        (lambda f: (f / "a.parquet").write_bytes(b"PAR1 no"), "sound Parquet or Arrow file"),
        (lambda f: (f / "a.arrow").write_bytes(b""), "sound Parquet or Arrow file"),
        (lambda f: pq.write_table(pa.table({"dx": ["mel"]}), f / "a.parquet"), "a column must hold pictures"),
        (lambda f: pq.write_table(hf_table(1).slice(0, 0), f / "a.parquet"), "at least one row"),
        (
            lambda f: [pq.write_table(hf_table(1), f / "a.parquet"),
                       pq.write_table(hf_table(1, site=["arm"]), f / "b.parquet")],
            "differ in site",
        ),
        (
            lambda f: [
                pq.write_table(hf_table(1), f / "a.parquet"),
                write_stream(hf_table(1), f / "b.arrow"),
            ],
            "holds both",
        ),
    ],
)  # fmt: skip
def test_what_is_no_such_export_is_an_error_and_leaves_nothing(tmp_path: Path, make: Any, said: str) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    make(folder)
    with pytest.raises(TableError) as caught:
        bring(folder, tmp_path / "made.csv")
    assert said in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["export"]


def test_splits_of_other_names_make_no_split_and_are_told(tmp_path: Path) -> None:
    pq.write_table(hf_table(2, split=["train", "holdout"]), tmp_path / "t.parquet")
    done = bring(tmp_path / "t.parquet", tmp_path / "made.csv")
    assert done.notes == ("no split column: 1 image in neither train, val nor test (holdout)",)
    assert [row["split_as_found"] for row in written(tmp_path / "made.csv")] == ["train", "holdout"]


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_damaged_file_is_an_error_and_never_more(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"t.{kind}"
    table = hf_table(4)
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        write_stream(table, path)
    sound = path.read_bytes()
    rng = random.Random(0)
    seen = set()
    for _ in range(40):
        content = bytearray(sound)
        for _ in range(rng.choice([1, 4, 32])):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content[: rng.randrange(len(content))] if rng.random() < 0.2 else content)
        try:
            bring(path, tmp_path / "made.csv", overwrite=True)
            seen.add("read")
        except PandermError:
            seen.add("refused")
    assert "refused" in seen
    assert {p.name for p in tmp_path.iterdir()} <= {path.name, "made.csv", "made-images"}
