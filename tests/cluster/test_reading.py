"""Tables, lists and Parquet with images, here and at addresses: what is read, and what is said else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import panderm
from panderm.cluster import addresses
from panderm.cluster.addresses import OutOfReach, as_address, beside, files_in, read_content
from panderm.cluster.reading import contents, read_given
from panderm.data.images import inspect
from panderm.data.stored import ImageError
from panderm.data.table import check_rows
from panderm.errors import ArtifactError, TableError, UsageError


@pytest.fixture(scope="module")
def skin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("skin")
    for i in range(7):
        pixels = np.full((20, 30, 3), 20 + 30 * i, dtype=np.uint8)
        Image.fromarray(pixels).save(
            folder / f"{i} #100%.png"
        )  # a name with all that an address may trip over
    frame = pd.DataFrame({"image": [f"{i} #100%.png" for i in range(7)], "label": list("abababa")})
    frame.to_csv(folder / "skin.csv", index=False)
    return folder


def test_addresses_survive_being_paths() -> None:
    assert as_address(Path("s3://bucket/a/b.jpg")) == "s3://bucket/a/b.jpg"
    assert as_address(Path("file:///data/a.jpg")) == "file:///data/a.jpg"
    assert as_address("C:/images/a.jpg") == "C:/images/a.jpg"
    assert as_address("images/a.jpg") == "images/a.jpg"
    assert beside("s3://b/skin/", "x/a.jpg") == "s3://b/skin/x/a.jpg"
    assert beside("s3://b/skin", "/data/a.jpg") == "/data/a.jpg"
    assert beside("/skin", "s3://b/a.jpg") == "s3://b/a.jpg"


def test_a_table_here_is_the_table_of_one_process(skin: Path) -> None:
    rows = read_given(skin / "skin.csv", {"image_column": "image"}).rows
    table = check_rows(rows, [inspect(Path(path)) for path in rows.path])
    wanted = panderm.read_table(skin / "skin.csv", progress=False)
    assert table.card == wanted.card
    assert table.path.tolist() == wanted.path.tolist()


def test_a_table_and_its_images_at_an_address(skin: Path) -> None:
    given = read_given(f"file://{skin}/skin.csv", {"label": "label"})
    assert given.rows.path[3] == f"file://{skin}/3 #100%.png"
    assert given.rows.columns["label"].tolist() == list("abababa")
    found = list(contents(given.rows.path.tolist(), given.bytes_in))
    assert found == [(skin / f"{i} #100%.png").read_bytes() for i in range(7)]
    elsewhere = read_given(skin / "skin.csv", {"images": Path(f"file://{skin}")})
    assert elsewhere.rows.path[3] == f"file://{skin}/3 #100%.png"
    assert elsewhere.rows.csv_sha256 == hashlib.sha256((skin / "skin.csv").read_bytes()).hexdigest()


def test_a_list_of_files_is_numbered_by_its_lines(skin: Path, tmp_path: Path) -> None:
    listed = tmp_path / "tiles.txt"
    listed.write_text(f"\ufeff{skin}/0 #100%.png\n\n  file://{skin}/1 #100%.png\n", encoding="utf-8")
    given = read_given(listed, {})
    assert given.rows.row.tolist() == [1, 3]
    assert given.rows.path.tolist() == [f"{skin}/0 #100%.png", f"file://{skin}/1 #100%.png"]
    assert [len(x) for x in contents(given.rows.path.tolist(), None) if isinstance(x, bytes)] == [
        (skin / f"{i} #100%.png").stat().st_size for i in range(2)
    ]
    listed.write_text("a.png\nb.png\na.png\n")
    with pytest.raises(TableError, match="every image must be named once"):
        read_given(listed, {})
    listed.write_text("\n\n")
    with pytest.raises(TableError, match="must name at least one"):
        read_given(listed, {})


@pytest.mark.parametrize("form", ["bytes", "structures"])
def test_images_in_parquet_are_read_row_by_row(form: str, skin: Path, tmp_path: Path) -> None:
    every = [(skin / f"{i} #100%.png").read_bytes() for i in range(7)]
    cells = every if form == "bytes" else [{"bytes": b, "path": f"{i}.png"} for i, b in enumerate(every)]
    whole = pa.table({"image": cells, "label": list("abababa"), "site": [1, 2, 3, 4, 5, 6, 7]})
    (tmp_path / "in/deep").mkdir(parents=True)
    pq.write_table(whole.slice(0, 4), tmp_path / "in/a.parquet", row_group_size=3)
    pq.write_table(whole.slice(4), tmp_path / "in/deep/b.parquet")
    (tmp_path / "in/_SUCCESS").write_text("")
    given = read_given(tmp_path / "in", {"label": "label"})
    assert given.bytes_in == ("image" if form == "bytes" else "image.bytes")
    places = [*(f"in/a.parquet#{i}" for i in range(4)), *(f"in/deep/b.parquet#{i}" for i in range(3))]
    assert given.rows.path.tolist() == [str(tmp_path / place) for place in places]
    names = (
        [place.removeprefix("in/") for place in places] if form == "bytes" else [f"{i}.png" for i in range(7)]
    )
    assert given.rows.columns["image"].tolist() == names
    assert given.rows.columns["label"].tolist() == list("abababa")
    for chosen in (slice(None), slice(2, 6), slice(5, 7), slice(1, 7, 3)):
        assert list(contents(given.rows.path.take(chosen).tolist(), given.bytes_in)) == every[chosen]
    one = read_given(tmp_path / "in/a.parquet", {"label": "label"})
    assert one.rows.columns["image"].tolist()[:1] == (["a.parquet#0"] if form == "bytes" else ["0.png"])


def test_cells_without_an_image_are_bad_rows(skin: Path, tmp_path: Path) -> None:
    good = (skin / "0 #100%.png").read_bytes()
    pq.write_table(pa.table({"image": pa.array([good, None, b""], pa.binary())}), tmp_path / "a.parquet")
    given = read_given(tmp_path / "a.parquet", {})
    first, second, third = contents(given.rows.path.tolist(), given.bytes_in)
    assert first == good
    assert isinstance(second, ImageError)
    assert (second.reason, third.reason) == ("an empty cell", "an empty file")  # type: ignore[union-attr]


def test_structures_without_bytes_stand_for_their_files(skin: Path, tmp_path: Path) -> None:
    good = skin / "0 #100%.png"
    (tmp_path / "near.png").write_bytes(good.read_bytes())
    paths = [str(good), "near.png", "gone.png"]
    cells = pa.array([{"bytes": None, "path": path} for path in paths], _struct())
    pq.write_table(pa.table({"image": cells}), tmp_path / "a.parquet")
    given = read_given(tmp_path / "a.parquet", {})
    assert given.rows.columns["image"].tolist() == paths
    first, second, third = contents(given.rows.path.tolist(), given.bytes_in)
    assert first == second == good.read_bytes()
    assert isinstance(third, ImageError)
    assert third.reason == "no such file"


def _struct() -> pa.DataType:
    return pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def test_what_is_no_table_is_refused(skin: Path, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="must exist"):
        read_given(tmp_path / "none.csv", {})
    with pytest.raises(TableError, match="must exist"):
        read_given(f"file://{tmp_path}/none.csv", {})
    with pytest.raises(TableError, match="must exist"):
        read_given(tmp_path / "none.txt", {})
    with pytest.raises(TableError, match="must exist"):
        read_given(tmp_path / "none.parquet", {})
    with pytest.raises(TableError, match="must hold Parquet files"):
        read_given(skin, {})
    (tmp_path / "names").mkdir()
    pq.write_table(pa.table({"image": ["a.png"]}), tmp_path / "names/a.parquet")
    with pytest.raises(TableError, match="must hold images"):
        read_given(tmp_path / "names", {})
    (tmp_path / "broken.parquet").write_text("no")
    with pytest.raises(TableError, match="must be a CSV or Parquet file"):
        read_given(tmp_path / "broken.parquet", {})


def test_a_storage_of_fsspec() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe({"/tiles/a b.png": b"one", "/tiles/deep/c.parquet": b"two", "/tiles/.hidden.parquet": b"no"})
    assert read_content("memory://tiles/a b.png") == b"one"
    assert files_in("memory://tiles", (".parquet",)) == ["memory://tiles/deep/c.parquet"]
    assert files_in("memory://tiles/a b.png", (".parquet",)) is None
    with pytest.raises(ImageError, match="no such file"):
        read_content("memory://tiles/none.png")
    with pytest.raises(UsageError, match="that can be read here"):
        read_content("nowhere://tiles/a.png")


def test_a_storage_that_does_not_answer_is_asked_again_and_then_stops_the_run(
    skin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "_PAUSE", 0.0)
    asked: list[str] = []
    real = addresses.storage_of

    def shaky(address: str) -> tuple[object, str]:
        asked.append(address)
        if len(asked) < 3:
            raise OutOfReach("slow down")
        return real(address)

    monkeypatch.setattr(addresses, "storage_of", shaky)
    path = f"file://{skin}/0 #100%.png"
    assert read_content(path) == (skin / "0 #100%.png").read_bytes()
    assert len(asked) == 3

    def gone(address: str) -> tuple[object, str]:
        raise OutOfReach("no route to host")

    monkeypatch.setattr(addresses, "storage_of", gone)
    with pytest.raises(ArtifactError, match="must answer"):
        list(contents([f"file://{skin}/{i} #100%.png" for i in range(7)], None))

    def picky(address: str) -> tuple[object, str]:
        return gone(address) if address.endswith("3 #100%.png") else real(address)

    monkeypatch.setattr(addresses, "storage_of", picky)
    found = list(contents([f"file://{skin}/{i} #100%.png" for i in range(7)], None))
    bad = [i for i, one in enumerate(found) if isinstance(one, ImageError)]
    assert bad == [3], "one file that is refused is a bad file"
