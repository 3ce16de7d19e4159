"""The loop alone: what it decides once and keeps, what it lists, and what it keeps when it is stopped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

import panderm
from panderm.data.feed import Feed
from panderm.embeddings.card import EncoderRecord, TokensRecord
from panderm.embeddings.making import loop, settled, shards
from panderm.embeddings.making.loop import extract
from panderm.errors import ArtifactError, DataError, PandermWarning, ParentsError, TableError, UsageError

IMAGES = 42


class Eye:
    """An encoder of mean colours that remembers what it was asked; its precision is a matter of words."""

    def __init__(self, like: panderm.Encoder, *, precision: str = "fp32", drift: float = 0.999) -> None:
        self.preprocess, self.device = like.preprocess, torch.device("cpu")
        self.record: EncoderRecord = like.record.model_copy(update={"precision": precision, "dim": 48})
        self.name, self.dim, self.batch_size = "means", 48, 4
        self.first_images = 0 if precision == "fp32" else 16
        self.drift: float | None = None
        self._found = drift
        self.settled_on: list[int] = []
        self.batches: list[int] = []
        self.stops: Any = None

    def settle(self, rgb: torch.Tensor) -> None:
        self.settled_on.append(len(rgb))
        self.drift, self.first_images = self._found, 0
        if self._found < 0.99:
            self.record = self.record.model_copy(update={"precision": "fp32"})

    def adopt(self, record: EncoderRecord, drift: float | None) -> None:
        self.record, self.drift, self.first_images = record, drift, 0

    def token_shape(self) -> TokensRecord:
        return TokensRecord(grid=(2, 2), dim=3)

    def forward_rgb(self, rgb: torch.Tensor, *, tokens: Any = False) -> Any:
        self.batches.append(len(rgb))
        if self.stops is not None and len(self.batches) == 7:
            raise self.stops
        pixels = rgb.permute(0, 3, 1, 2).float()
        vectors = torch.nn.functional.adaptive_avg_pool2d(pixels, 4).flatten(1)
        return (vectors, vectors[:, :12].reshape(-1, 2, 2, 3).half()) if tokens else vectors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEG files and their table."""
    here = tmp_path_factory.mktemp("skin")
    rng = np.random.default_rng(1)
    for i in range(IMAGES):
        small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC).save(here / f"{i:02d}.jpg")
    write_table(here, range(IMAGES))
    return here


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder, tmp_path / "skin")
    return tmp_path / "skin"


def write_table(here: Path, numbers: Any) -> None:
    rows = [f"{i:02d}.jpg,{('train', 'val', 'test')[i % 3]},{'ab'[i % 2]}" for i in numbers]
    (here / "skin.csv").write_text("\n".join(["image,split,label", *rows]) + "\n")


def read(here: Path) -> panderm.Table:
    return panderm.read_table(here / "skin.csv", decode=False, progress=False)


def run(eye: Any, table: panderm.Table, out: Path | None, **options: Any) -> loop.Extraction:
    return extract(eye, table, out, progress=False, **options)


def damage(file: Path) -> None:
    """Make a hole in the middle of a JPEG: only decoding shows it."""
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = b"\xff\xd8" * 200
    file.write_bytes(content)


def test_no_batch_is_padded_and_all_rows_are_there(
    folder: Path, encoder: panderm.Encoder, tmp_path: Path
) -> None:
    eye, table = Eye(encoder), read(folder)
    done = run(eye, table, tmp_path / "a.emb", exact=True)
    assert eye.batches == [4] * 10 + [2]
    wanted = []
    for path in table.path:
        square = eye.preprocess.pixels(panderm.read_image(path))
        pixels = torch.from_numpy(square).permute(2, 0, 1).float()
        wanted.append(torch.nn.functional.adaptive_avg_pool2d(pixels, 4).flatten().numpy())
    np.testing.assert_allclose(done.embeddings.vectors, np.stack(wanted), atol=1e-3)
    assert done.embeddings.rows.image.tolist() == table.image.tolist()
    told = done.told
    assert (told.embedded, told.new, told.changed, told.removed, told.ranks) == (42, 42, (), (), (42,))
    assert told.rate == pytest.approx(42 / told.seconds)
    assert 0 <= (told.waited or 0) <= 1
    in_memory = run(Eye(encoder), table, None, exact=True).embeddings
    np.testing.assert_array_equal(in_memory.vectors, done.embeddings.vectors)
    assert in_memory.card.identity == done.embeddings.card.identity


def test_the_batch_size_a_folder_was_begun_with_stays(
    folder: Path, encoder: panderm.Encoder, tmp_path: Path
) -> None:
    eye, out = Eye(encoder), tmp_path / "a.emb"
    eye.stops = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run(eye, read(folder), out, batch_size=5)
    again = Eye(encoder)
    assert run(again, read(folder), out).embeddings.card.batch_size == 5
    assert again.batches == [5, 5, 2]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), DataError("no.")])
def test_what_was_made_is_kept_when_it_is_stopped(
    stop: BaseException, folder: Path, encoder: panderm.Encoder, tmp_path: Path
) -> None:
    eye, out = Eye(encoder), tmp_path / "a.emb"
    eye.stops = stop
    with pytest.raises(type(stop)):
        run(eye, read(folder), out)
    assert len(panderm.open_embeddings(out, partial=True)) == 24, "six groups that were finished"
    done = run(Eye(encoder), read(folder), out)
    assert (done.told.embedded, len(done.embeddings)) == (18, 42)


def test_precision_is_settled_once_and_kept(folder: Path, encoder: panderm.Encoder, tmp_path: Path) -> None:
    out, table = tmp_path / "a.emb", read(folder)
    eye = Eye(encoder, precision="bf16")
    eye.stops = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run(eye, table, out)
    assert eye.settled_on == [16]
    # Another machine would find otherwise; the folder has vectors of bf16.
    again = Eye(encoder, precision="bf16", drift=0.5)
    card = run(again, table, out).embeddings.card
    assert again.settled_on == []
    assert (card.encoder.precision, card.drift) == ("bf16", 0.999)
    # And the other way round.
    out = tmp_path / "b.emb"
    run(Eye(encoder, precision="bf16", drift=0.5), table.select(slice(0, 20)), out)
    again = Eye(encoder, precision="bf16")
    card = run(again, table, out).embeddings.card
    assert (again.settled_on, card.encoder.precision, card.drift) == ([], "fp32", 0.5)
    with pytest.raises(ParentsError, match="one encoder"):
        run(Eye(encoder, precision="fp16"), table, tmp_path / "a.emb")


def test_decoding_is_compared_once_and_kept(
    folder: Path, encoder: panderm.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, table = tmp_path / "a.emb", read(folder)
    asked = []

    def compared(levels: int) -> Any:
        def compare(_: Any, __: Any, positions: npt.NDArray[np.int64]) -> tuple[int, int]:
            asked.append(len(positions))
            return levels, len(positions)

        return compare

    ways = []

    class Watched(Feed):
        def __init__(self, *args: Any, **options: Any) -> None:
            ways.append(options["exact"])
            super().__init__(*args, **options)

    monkeypatch.setattr("panderm.embeddings.making.encoding.Feed", Watched)
    monkeypatch.setattr(settled, "compare_decoding", compared(1))
    card = run(Eye(encoder), table.select(slice(0, 20)), out).embeddings.card
    assert (card.decoding.exact, card.decoding.levels, card.decoding.images) == (False, 1, 16)
    monkeypatch.setattr(settled, "compare_decoding", compared(9))
    assert run(Eye(encoder), table, out).embeddings.card.decoding == card.decoding
    assert (asked, ways) == ([16], [False, False])
    with pytest.raises(ParentsError, match="made in one way"):
        run(Eye(encoder), table, out, exact=True)
    with pytest.warns(PandermWarning, match="differs from the reference by 9 levels of 255 on the first 16"):
        card = run(Eye(encoder), table, tmp_path / "b.emb").embeddings.card
    assert (card.decoding.exact, card.decoding.levels, ways[-1]) == (True, 9, True)
    asked.clear()
    card = run(Eye(encoder), table, tmp_path / "c.emb", exact=True).embeddings.card
    assert (card.decoding.exact, card.decoding.levels, asked) == (True, None, [])


def test_images_that_cannot_be_decoded_are_listed_once_all_others_are_embedded(
    own: Path, encoder: panderm.Encoder, tmp_path: Path
) -> None:
    for i in (0, 8, 9, 10, 11, 41):  # of one group, all
        damage(own / f"{i:02d}.jpg")
    out, eye, table = tmp_path / "a.emb", Eye(encoder), read(own)
    with pytest.raises(TableError) as caught:
        run(eye, table, out)
    assert sum(eye.batches) == 36
    lines = str(caught.value).splitlines()
    assert lines[:2] == ["every row must have a readable image and a label.", "  6 rows of skin.csv do not:"]
    assert [line.split(":")[0] for line in lines[2:8]] == [f"  row {i}" for i in (2, 10, 11, 12, 13, 43)]
    assert "36 other images embedded and kept" in lines[-1]
    again = Eye(encoder)
    done = run(again, table, out, skip_bad=True)
    assert again.batches == [], "nothing is left to encode"
    card = done.embeddings.card
    assert (card.rows, card.table.rows, len(card.table.skipped)) == (36, 36, 6)
    whole = panderm.read_table(own / "skin.csv", skip_bad=True, progress=False)
    assert card.table == whole.card
    assert done.embeddings.rows.image.tolist() == whole.image.tolist()
    # In memory it is the same.
    with pytest.raises(TableError, match="every row"):
        run(Eye(encoder), table, None)
    in_memory = run(Eye(encoder), table, None, skip_bad=True).embeddings
    np.testing.assert_array_equal(in_memory.vectors, done.embeddings.vectors)
    assert in_memory.card.table == whole.card
    # Mended, they are embedded, and nothing else is.
    for i in (8, 41):
        Image.new("RGB", (160, 120), "tan").save(own / f"{i:02d}.jpg")
    mended = Eye(encoder)
    assert len(run(mended, read(own), out, skip_bad=True).embeddings) == 38
    assert mended.batches == [1, 1]


def test_not_one_image_that_can_be_decoded(own: Path, encoder: panderm.Encoder, tmp_path: Path) -> None:
    for file in own.glob("*.jpg"):
        damage(file)
    for skip_bad in (False, True):
        with pytest.raises(TableError, match="at least one row") as caught:
            run(Eye(encoder), read(own), tmp_path / "a.emb", skip_bad=skip_bad)
        assert "and 22 more" in str(caught.value)


def test_rows_come_change_and_go(own: Path, encoder: panderm.Encoder, tmp_path: Path) -> None:
    out = tmp_path / "a.emb"
    write_table(own, range(30))
    before = run(Eye(encoder), read(own), out).embeddings.vectors.copy()
    Image.new("RGB", (160, 120), "tan").save(own / "05.jpg")
    write_table(own, [i for i in range(IMAGES) if i not in (7, 8)])
    told = run(Eye(encoder), read(own), out).told
    assert (told.embedded, told.new, told.changed, told.removed) == (
        13,
        12,
        ("05.jpg",),
        ("07.jpg", "08.jpg"),
    )
    emb = panderm.open_embeddings(out)
    assert emb.rows.image.tolist() == [f"{i:02d}.jpg" for i in range(IMAGES) if i not in (7, 8)]
    kept = [i for i in range(28) if i != 5]
    np.testing.assert_array_equal(emb.vectors[kept], np.delete(before, (5, 7, 8), axis=0))


def test_tokens_go_with_the_vectors(folder: Path, encoder: panderm.Encoder, tmp_path: Path) -> None:
    done = run(Eye(encoder), read(folder), tmp_path / "a.emb", tokens=True)
    emb = done.embeddings
    assert emb.tokens is not None
    wanted = np.asarray(emb.vectors)[:, :12].reshape(-1, 2, 2, 3).astype(np.float16)
    np.testing.assert_array_equal(np.asarray(emb.tokens), wanted)
    assert done.told.tokens is not None
    assert done.told.tokens["grid"] == [2, 2]
    with pytest.raises(UsageError, match="folder to be written to"):
        run(Eye(encoder), read(folder), None, tokens=True)


def test_numbers_that_are_not_finite_name_their_images(
    folder: Path, encoder: panderm.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Eye.forward_rgb

    def spoilt(self: Eye, rgb: torch.Tensor, *, tokens: Any = False) -> Any:
        vectors = forward(self, rgb)
        if len(self.batches) == 3:
            vectors[1, 7] = torch.nan
        return vectors

    monkeypatch.setattr(Eye, "forward_rgb", spoilt)
    with pytest.raises(DataError, match="must be finite") as caught:
        run(Eye(encoder), read(folder), tmp_path / "a.emb")
    assert "09.jpg: NaN" in str(caught.value)


def test_chosen_rows_of_one_table_are_not_taken_for_all(
    folder: Path, encoder: panderm.Encoder, tmp_path: Path
) -> None:
    out, table = tmp_path / "a.emb", read(folder)
    assert len(run(Eye(encoder), table.select(slice(0, 20)), out).embeddings) == 20
    done = run(Eye(encoder), table, out)
    assert (len(done.embeddings), done.told.embedded) == (42, 22)
    assert done.embeddings.card.table == table.card


@pytest.mark.parametrize(("device", "dim", "size"), [("cpu", 768, 8), ("cpu", 1024, 4), ("cuda", 1024, 64)])
def test_the_batch_size_is_that_of_device_and_width(
    device: str, dim: int, size: int, encoder: panderm.Encoder
) -> None:
    record = encoder.record.model_copy(update={"dim": dim})
    eye = panderm.Encoder(
        torch.nn.Identity(), encoder.preprocess, record, encoder.account, torch.device("cpu")
    )
    eye.device = torch.device(device)
    assert eye.batch_size == size


# Shards


class Writer:
    """Writes nothing, and remembers; fails from a given shard on."""

    def __init__(self, fails: int = 99) -> None:
        self.rows: list[list[str]] = []
        self.fails = fails

    def write(self, rows: panderm.Table, vectors: Any, tokens: Any = None) -> None:
        if len(self.rows) == self.fails:
            raise ArtifactError("the disk must have room.")
        assert len(rows) == len(vectors)
        self.rows.append(rows.image.tolist())


def add_groups(kept: shards.Shards, n: int) -> None:
    for start in range(0, n, 4):
        at = np.arange(start, start + 4)
        kept.add(at, np.zeros((4, 3), dtype=np.float32), None)


@pytest.mark.parametrize(
    ("limit", "value"), [("_SHARD_ROWS", 7), ("_SHARD_BYTES", 7 * 12), ("_SHARD_SECONDS", -1.0)]
)
def test_shards_hold_whole_groups(
    limit: str, value: float, table: panderm.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, limit, value)
    writer = Writer()
    with shards.Shards(writer, table) as kept:
        add_groups(kept, 20)
    sizes = [4] * 5 if limit == "_SHARD_SECONDS" else [8, 8, 4]
    assert [len(rows) for rows in writer.rows] == sizes
    assert [image for rows in writer.rows for image in rows] == table.image[:20].tolist()


def test_a_shard_that_cannot_be_written_stops_the_loop(
    table: panderm.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "_SHARD_ROWS", 4)
    writer = Writer(fails=2)
    with pytest.raises(ArtifactError, match="must have room"), shards.Shards(writer, table) as kept:
        add_groups(kept, 80)
    assert len(writer.rows) == 2
    late = Writer(fails=0)
    with pytest.raises(ArtifactError, match="must have room"), shards.Shards(late, table) as kept:
        add_groups(kept, 4)


def test_left_by_an_error_it_writes_what_was_made(table: panderm.Table) -> None:
    writer = Writer()

    def stopped() -> None:
        with shards.Shards(writer, table) as kept:
            add_groups(kept, 12)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert [len(rows) for rows in writer.rows] == [12]
