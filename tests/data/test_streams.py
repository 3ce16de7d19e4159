"""Sources of many images: folders, lists, tar shards, several at once; nothing damaged ends them."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from panderm.data.drawn import DrawnWorld
from panderm.data.stored import ImageError
from panderm.data.streams import join, open_source
from panderm.data.streams.opened import expand
from panderm.data.streams.source import require_files
from panderm.errors import DataError, PandermError, TableError, UsageError


@pytest.fixture(scope="module")
def files(world: DrawnWorld) -> list[Path]:
    return sorted(p for p in world.images.rglob("*") if p.is_file())


def write_tar(path: Path, members: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1.5  # a fraction: WebDataset's own headers have one
            tar.addfile(info, io.BytesIO(content))
    return path


def test_a_folder_is_its_images_however_deep_but_not_its_masks(files: list[Path], tmp_path: Path) -> None:
    places = ("b/one.jpg", "a.PNG", "b/c/two.tiff", "masks/one.png", ".hidden/x.jpg")
    for place, file in zip(places, files[:5], strict=True):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(file.read_bytes())
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "b" / "up").symlink_to(tmp_path, target_is_directory=True)  # round and round
    source = open_source(tmp_path)
    assert list(source.names()) == ["a.PNG", "b/one.jpg", "b/c/two.tiff"]
    assert source.read(1) == files[0].read_bytes()
    assert source.size(1) == files[0].stat().st_size
    assert source.summary() == f"3 images of folder {tmp_path.resolve()} (left out as masks: masks)"
    assert json.loads(json.dumps(source.record))["count"] == 3
    assert open_source(tmp_path).record == source.record


def test_a_table_is_the_images_of_its_rows(world: DrawnWorld, tmp_path: Path) -> None:
    table = pd.read_csv(world.csv, dtype=str)
    every = open_source(world.csv, images=world.images)
    assert list(every.names()) == table.image.tolist()
    train = open_source(world.csv, images=world.images, split="train")
    wanted = table[table.split == "train"]
    assert list(train.names()) == wanted.image.tolist()
    assert train.read(3) == (world.images / wanted.image.iloc[3]).read_bytes()
    assert f"{len(table) - len(wanted)} rows of other splits left out" in train.summary()
    both = open_source(world.csv, images=world.images, split=("val", "test"))
    assert len(both) + len(train) == len(every)
    as_parquet = tmp_path / "world.parquet"
    table.astype({"split": "category"}).to_parquet(as_parquet)
    again = open_source(as_parquet, images=world.images, split="train")
    assert again.record["sha256"] == train.record["sha256"]
    listed = tmp_path / "some.txt"
    listed.write_text("\n".join(["", *wanted.image[:4], f"{world.images / wanted.image.iloc[5]}"]))
    named = open_source(listed, images=world.images)
    assert len(named) == 5
    assert named.read(4) == (world.images / wanted.image.iloc[5]).read_bytes()


def test_rows_that_cannot_be_used_are_left_out_and_told(tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text(
        "\ufeffpatient_id; image ;note\nP1;a.jpg;'x'\nP2;;no image\nP3;b.jpg;\"two\nlines\"\n"
        "P4;c.jpg\nP5; a.jpg;again\n;d.jpg;nobody\n",
        encoding="utf-8",
    )
    source = open_source(tmp_path / "odd.csv")
    assert list(source.names()) == ["a.jpg", "b.jpg", "d.jpg"]
    assert source.patients is not None
    assert source.patients.to_pylist() == ["P1", "P3", None]
    notes = " ".join(source.record["notes"])
    assert "1 row left out that name no image" in notes
    assert "1 row left out whose image was named before" in notes
    assert "1 row left out: row 5 has 2 cells of 3" in notes
    with pytest.raises(ImageError, match="readable") as told:
        source.read(0)
    assert told.value.reason == "no such file"
    assert source.size(0) == -1


def test_shards_are_read_where_their_images_lie(files: list[Path], tmp_path: Path) -> None:
    contents = {f"s{k:02d}": file.read_bytes() for k, file in enumerate(files[:6])}
    keys = list(contents)
    for number, own in enumerate((keys[:3], keys[3:])):
        members = {
            f"{key}.{end}": value for key in own for end, value in (("jpg", contents[key]), ("json", b"{}"))
        }
        members[f"{own[0]}.mask.png"] = b"no photograph"
        write_tar(tmp_path / f"tiles-{number:03d}.tar", members)
    source = open_source(str(tmp_path / "tiles-{000..001}.tar"), progress=False)
    assert list(source.names())[2:4] == ["tiles-000.tar/s02.jpg", "tiles-001.tar/s03.jpg"]
    assert [source.read(i) for i in range(6)] == list(contents.values())
    assert [source.size(i) for i in range(6)] == [len(one) for one in contents.values()]
    for same in (tmp_path, str(tmp_path / "*.tar")):
        assert open_source(same, progress=False).record["sha256"] == source.record["sha256"]
    (tmp_path / "tiles-001.tar").unlink()
    with pytest.raises(ImageError) as told:
        source.read(5)
    assert told.value.reason == "its shard is gone"


def test_a_damaged_shard_counts_as_far_as_it_can_be_read(files: list[Path], tmp_path: Path) -> None:
    members = {f"{k}.jpg": file.read_bytes() for k, file in enumerate(files[:8])}
    whole = write_tar(tmp_path / "whole.tar", members, tarfile.USTAR_FORMAT).read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as tar:
        fourth = tar.getmember("4.jpg").offset
    damaged = bytearray(whole)
    damaged[fourth : fourth + 512] = b"\x55" * 512
    (tmp_path / "bad.tar").write_bytes(damaged)
    (tmp_path / "cut.tar").write_bytes(whole[: fourth + 700])
    (tmp_path / "none.tar").write_bytes(b"")
    source = open_source([tmp_path / "bad.tar", tmp_path / "cut.tar"], progress=False)
    assert source.summary().count("1 shard damaged") == 2
    assert source.name(4) == "cut.tar/0.jpg"
    bad = open_source(tmp_path / "bad.tar", progress=False)
    assert len(bad) == 4
    assert "what follows is left out" in bad.summary()
    cut = open_source(tmp_path / "cut.tar", progress=False)
    assert len(cut) in (4, 5)  # of the last there is a header, and no whole content
    for i in range(4):
        assert cut.read(i) == files[i].read_bytes()
    with pytest.raises(DataError, match="at least one image"):
        open_source(tmp_path / "none.tar", progress=False)


def test_several_sources_follow_each_other(world: DrawnWorld, files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "x.jpg").write_bytes(files[0].read_bytes())
    one, two = open_source(tmp_path / "more"), open_source(world.csv, images=world.images)
    both = open_source([tmp_path / "more", world.csv], images=world.images)
    assert len(both) == 1 + len(two)
    assert both.record["sha256"] == join([one, two]).record["sha256"]
    assert both.name(0) == "more/x.jpg"
    assert both.read(1) == two.read(0)
    assert both.read(len(two)) == two.read(len(two) - 1)
    assert [part["kind"] for part in both.record["parts"]] == ["folder", "table"]
    with pytest.raises(IndexError):
        both.name(len(both))
    some = both.select(np.array([5, 0, 7]), "4 of them")
    assert [some.name(i) for i in range(3)] == [both.name(i) for i in (5, 0, 7)]
    assert some.read(1) == both.read(0)
    assert some.record["count"] == 3
    assert some.record["sha256"] != both.record["sha256"]


def test_a_million_names_take_their_bytes_and_eight_more_each(tmp_path: Path) -> None:
    n = 100_000
    (tmp_path / "many.csv").write_text("image,x\n" + "".join(f"site/ISIC_{i:07d}.jpg,1\n" for i in range(n)))
    source = open_source(tmp_path / "many.csv")
    assert source.name(n - 1) == "site/ISIC_0099999.jpg"
    held = sum(one.nbytes for one in vars(source).values() if isinstance(one, pa.Array))
    assert held <= n * (len("site/ISIC_0099999.jpg") + 8) + 4096


@pytest.mark.parametrize(
    ("made", "kind", "says"),
    [
        (lambda d: d / "nowhere", DataError, "must exist"),
        (lambda d: d, DataError, "must hold images"),
        (lambda d: d / "*.tar", DataError, "fit at least one file"),
        (lambda d: "s3://bucket/a", UsageError, "on this machine"),
        (lambda d: written(d / "a.tar.gz", b"x"), UsageError, "plain tar"),
        (lambda d: written(d / "a.jpg", b"x"), UsageError, "come from a folder"),
        (lambda d: written(d / "a.csv", b"name\nx.jpg\n"), TableError, "'image'"),
        (lambda d: written(d / "a.csv", b"image\n"), TableError, "at least one image"),
        (lambda d: written(d / "a.csv", b""), TableError, "header"),
        (lambda d: written(d / "a.csv", "image\nä.jpg\n".encode("latin-1")), TableError, "UTF-8"),
        (lambda d: written(d / "a.txt", b"\n\n"), TableError, "at least one image"),
        (lambda d: written(d / "a.parquet", b"PAR1"), TableError, "Parquet"),
    ],
)
def test_what_is_no_source_is_told_in_one_line(
    made, kind: type[PandermError], says: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=says.replace("(", r"\(")):
        open_source(made(tmp_path), progress=False)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_split_that_nobody_has_is_told_with_those_there_are(world: DrawnWorld, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="at least one image") as told:
        open_source(world.csv, images=world.images, split="training")
    assert "test, train, val" in str(told.value)
    bare = written(tmp_path / "bare.csv", b"image\na.jpg\n")
    with pytest.raises(TableError, match="where one split is asked for"):
        open_source(bare, split="train")


def test_files_that_are_nowhere_are_told_before_any_work(world: DrawnWorld, tmp_path: Path) -> None:
    require_files(open_source(world.csv, images=world.images))
    with pytest.raises(DataError, match="must be there") as told:
        require_files(open_source(world.csv, images=tmp_path))
    assert "--images" in str(told.value)


def test_images_inside_parquet_are_sent_to_the_import(files: list[Path], tmp_path: Path) -> None:
    cells = [{"bytes": file.read_bytes(), "path": file.name} for file in files[:3]]
    pq.write_table(pa.table({"image": cells}), tmp_path / "held.parquet")
    with pytest.raises(TableError, match="names of files") as told:
        open_source(tmp_path / "held.parquet")
    assert "panderm data import parquet" in str(told.value)


def test_braces_open_up_as_in_a_shell() -> None:
    assert [str(p) for p in expand("{a,b}/t-{08..10}.tar")] == [
        f"{folder}/t-{number}.tar".replace("/", os.sep) for folder in "ab" for number in ("08", "09", "10")
    ]
    assert [str(p) for p in expand("t{x}.tar")] == ["t{x}.tar"]
