"""The store: what lies in its files, how it is mapped, follows a table, and is written by one at a time."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars
import pyarrow.parquet as pq
import pytest

from panderm.data.table import Table, TableCard
from panderm.embeddings import (
    EmbeddingsCard,
    EmbeddingsWriter,
    EncoderRecord,
    MappedVectors,
    TokensRecord,
    open_embeddings,
    parts,
)
from panderm.embeddings.card import Decoding
from panderm.embeddings.parts import PartFile, vector_layout
from panderm.errors import ArtifactError, PandermWarning, ParentsError
from panderm.provenance import Provenance

DIM = 6
GRID = TokensRecord(grid=(2, 3), dim=DIM)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Parts of 16 rows, row groups of 4: many of them without gigabytes."""
    monkeypatch.setattr(parts, "_PART_BYTES", {"vector": 16 * 4 * DIM, "tokens": 8 * 2 * 6 * DIM})
    monkeypatch.setattr(parts, "_GROUP_BYTES", 4 * 4 * DIM)
    yield
    parts._head.cache_clear()


def table_of(names: list[str], *, labels: str = "ab", changed: tuple[str, ...] = ()) -> Table:
    """Return rows of images that are nowhere; a sha256 follows from the name and whether it changed."""
    hashes = [hashlib.sha256(f"{name}{name in changed}".encode()).hexdigest() for name in names]
    told = [labels[i % len(labels)] for i in range(len(names))]
    card = TableCard(
        name="skin",
        csv="skin.csv",
        csv_sha256="0",
        images="images",
        sha256=hashlib.sha256(json.dumps([names, hashes, told]).encode()).hexdigest(),
        rows=len(names),
        roles={},
        classes=tuple(sorted(set(labels))),
        counts={},
        patients=None,
        groups=None,
    )
    columns = {"image": names, "path": [f"images/{n}" for n in names], "sha256": hashes, "label": told}
    columns |= dict.fromkeys(("split", "patient", "group"), [None] * len(names))
    arrays = {name: np.array(values, dtype=object) for name, values in columns.items()}
    return Table(row=np.arange(len(names), dtype=np.int64) + 2, card=card, **arrays)


def card_of(table: Table, *, dim: int = DIM, tokens: bool = False, exact: bool = True) -> EmbeddingsCard:
    encoder = EncoderRecord(
        name="drawn",
        architecture="none",
        dim=dim,
        weights=None,
        weights_sha256="0",
        account="",
        random=True,
        pool="cls",
        precision="fp32",
        image_size=224,
        preprocess={},
        licence="",
        citation="",
        source="",
    )
    return EmbeddingsCard(
        provenance=Provenance.now(),
        encoder=encoder,
        table=table.card,
        rows=len(table),
        decoding=Decoding(exact=exact),
        tokens=GRID if tokens else None,
    )


def vectors_of(table: Table) -> np.ndarray:
    """Return the numbers that belong to each row: they follow from its file."""
    seeds = [int(sha256[:8], 16) for sha256 in table.sha256]
    return np.stack([np.random.default_rng(s).standard_normal(DIM, dtype=np.float32) for s in seeds])


def tokens_of(table: Table) -> np.ndarray:
    return np.stack([np.full((2, 3, DIM), v[0], dtype=np.float16) for v in vectors_of(table)])


def fill(writer: EmbeddingsWriter, table: Table, *, size: int = 5, tokens: bool = False) -> int:
    """Make what is to be made, in shards of some rows; return how many rows that were."""
    left = np.flatnonzero(writer.todo)
    for start in range(0, len(left), size):
        rows = table.select(left[start : start + size])
        writer.write(rows, vectors_of(rows), tokens_of(rows) if tokens else None)
    return len(left)


def store(folder: Path, table: Table, *, tokens: bool = False) -> EmbeddingsCard:
    """Bring a folder to a table, as a run does."""
    with EmbeddingsWriter(folder, card_of(table, tokens=tokens), table) as writer:
        if writer.complete:
            return writer.card
        fill(writer, table, tokens=tokens)
        return writer.finish(table=table, seconds=1.0, images_per_second=1.0)


def require_whole(folder: Path, table: Table) -> None:
    emb = open_embeddings(folder, table=table)
    assert emb.rows.image.tolist() == table.image.tolist()
    assert emb.rows.label.tolist() == table.label.tolist()
    assert emb.rows.row.tolist() == table.row.tolist()
    np.testing.assert_array_equal(np.asarray(emb.vectors), vectors_of(table))
    if emb.tokens is not None:
        np.testing.assert_array_equal(np.asarray(emb.tokens), tokens_of(table))
    named = {part.name for part in (*emb.card.parts, *emb.card.token_parts)}
    there = {p.name for p in folder.iterdir() if not p.name.startswith("removed-")}
    assert there == named | {"card.json"}
    for part in (*emb.card.parts, *emb.card.token_parts):
        content = (folder / part.name).read_bytes()
        assert part.sha256 == hashlib.sha256(content).hexdigest()
        assert part.sha256[:12] in part.name
        assert part.bytes == len(content)


NAMES = [f"{i:02d}.jpg" for i in range(50)]


# What lies in the files


def test_parts_hold_a_fixed_number_of_rows_in_the_tables_order(tmp_path: Path) -> None:
    table = table_of(NAMES)
    card = store(tmp_path / "x.emb", table, tokens=True)
    assert [part.rows for part in card.parts] == [16, 16, 16, 2]
    assert [part.rows for part in card.token_parts] == [8] * 6 + [2]
    require_whole(tmp_path / "x.emb", table)


def test_the_size_of_a_part_follows_from_the_width_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    rows = {dim: vector_layout(dim).part_rows for dim in (192, 384, 768, 1024, 1536)}
    assert rows == {192: 131_072, 384: 65_536, 768: 32_768, 1024: 32_768, 1536: 16_384}
    assert all(n * dim * 4 <= 2**27 < 2 * n * dim * 4 for dim, n in rows.items())


def test_other_readers_read_the_same(tmp_path: Path) -> None:
    table = table_of(NAMES)
    store(tmp_path / "x.emb", table)
    files = str(tmp_path / "x.emb/part-*.parquet")
    wanted = vectors_of(table)
    frame = pd.concat(pd.read_parquet(p) for p in sorted((tmp_path / "x.emb").glob("part-*.parquet")))
    np.testing.assert_array_equal(np.stack(frame["vector"].tolist()), wanted)
    assert frame["image"].tolist() == NAMES
    lazy = polars.read_parquet(files)
    np.testing.assert_array_equal(lazy["vector"].to_numpy(), wanted)
    found = duckdb.sql(f"select image, vector from '{files}' order by row").fetchnumpy()
    np.testing.assert_array_equal(np.stack([np.asarray(v) for v in found["vector"]]), wanted)


def test_the_vectors_lie_in_the_file_as_in_memory(tmp_path: Path) -> None:
    table = table_of(NAMES)
    card = store(tmp_path / "x.emb", table)
    at = 0
    for part in card.parts:
        path = tmp_path / "x.emb" / part.name
        file = PartFile(path, vector_layout(DIM))
        assert file.mapped
        assert file.sound()
        metadata = pq.read_metadata(path)
        for k in range(metadata.num_row_groups):
            group = metadata.row_group(k)
            chunk = group.column(metadata.num_columns - 1)
            size = group.num_rows * DIM * 4
            end = chunk.data_page_offset + chunk.total_compressed_size
            raw = path.read_bytes()[end - size : end]
            wanted = vectors_of(table.select(slice(at, at + group.num_rows)))
            assert raw == wanted.tobytes()
            assert (end - size) % 64 == 0
            at += group.num_rows
    assert at == len(table)


def test_a_large_page_is_one_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than pyarrow puts in a page by itself, and more bytes."""
    monkeypatch.undo()
    layout = vector_layout(64)
    vectors = np.random.default_rng(0).standard_normal((40_000, 64), dtype=np.float32)
    rows = parts.rows_of(table_of([f"{i}.jpg" for i in range(len(vectors))]))
    step = layout.group_rows
    groups = [(rows.slice(i, step), vectors[i : i + step]) for i in range(0, len(vectors), step)]
    assert len(groups) == 2
    assert parts.write_part(tmp_path / "x.parquet", layout, groups) == len(vectors)
    file = PartFile(tmp_path / "x.parquet", layout)
    assert file.mapped
    assert file.sound()
    for block, (_, wanted) in zip(file.blocks(), groups, strict=True):
        found = block.load()
        assert not found.flags.owndata
        assert found.flags.aligned
        np.testing.assert_array_equal(found, wanted)


def by_pandas(path: Path) -> None:
    pd.read_parquet(path).to_parquet(path)


def by_polars(path: Path) -> None:
    polars.read_parquet(path).write_parquet(path)


def by_duckdb(path: Path) -> None:
    other = path.with_name("other")
    duckdb.sql(f"copy (from '{path}') to '{other}' (format parquet)")
    other.replace(path)


def by_pyarrow(path: Path) -> None:
    """It keeps what the file says of itself, and packs the vectors otherwise."""
    table = pq.read_table(path)
    meta = {**(table.schema.metadata or {}), **pq.read_metadata(path).metadata}
    pq.write_table(table.replace_schema_metadata(meta), path, row_group_size=4, compression="zstd")


@pytest.mark.parametrize("again", [by_pandas, by_polars, by_duckdb, by_pyarrow])
def test_a_part_that_another_tool_wrote_again_is_read(again: Callable[[Path], None], tmp_path: Path) -> None:
    table = table_of(NAMES)
    card = store(tmp_path / "x.emb", table)
    path = tmp_path / "x.emb" / card.parts[1].name
    again(path)
    assert not PartFile(path, vector_layout(DIM)).mapped
    emb = open_embeddings(tmp_path / "x.emb")
    np.testing.assert_array_equal(np.asarray(emb.vectors), vectors_of(table))
    np.testing.assert_array_equal(emb.vectors[[20, 3]], vectors_of(table)[[20, 3]])
    assert emb.rows.image.tolist() == NAMES
    # The next run that changes anything takes its vectors, and writes the part as it should be.
    longer = table_of([*NAMES, "more.jpg"])
    with EmbeddingsWriter(tmp_path / "x.emb", card_of(longer), longer) as writer:
        assert fill(writer, longer) == 1
        writer.finish(table=longer, seconds=1.0, images_per_second=1.0)
    require_whole(tmp_path / "x.emb", longer)


def test_tokens_sorted_by_another_tool_are_not_taken_for_others(tmp_path: Path) -> None:
    card = store(tmp_path / "x.emb", table_of(NAMES), tokens=True)
    path = tmp_path / "x.emb" / card.token_parts[0].name
    polars.read_parquet(path).sort("image", descending=True).write_parquet(path)
    with pytest.raises(ArtifactError, match="in another order"):
        _ = open_embeddings(tmp_path / "x.emb").tokens


# Arrays that lie in files


def test_mapped_vectors_are_indexed_as_an_array_is(tmp_path: Path) -> None:
    table = table_of(NAMES)
    store(tmp_path / "x.emb", table)
    mapped, plain = open_embeddings(tmp_path / "x.emb").vectors, vectors_of(table)
    assert isinstance(mapped, MappedVectors)
    assert (mapped.shape, mapped.dtype, mapped.ndim, len(mapped)) == (plain.shape, plain.dtype, 2, 50)
    assert (mapped.size, mapped.nbytes) == (plain.size, plain.nbytes)
    mask = np.arange(50) % 3 == 0
    keys = [
        0,
        -1,
        np.int64(17),
        slice(None),
        slice(3, 40),
        slice(40, 3, -7),
        slice(9, 2),
        slice(15, 17),
        mask,
    ]
    keys += [mask.tolist(), [3, 3, -1, 20], np.array([], dtype=int), np.array([49, 0, 16, 15]), (3, 2)]
    keys += [(slice(2, 33), 1), (slice(None), slice(1, 4)), (mask, 2), ([1, 2], [0, 1]), (..., 0), None]
    keys += [np.array([[1, 2], [3, 4]]), (mask[:, None] & np.ones(DIM, bool))]
    for key in keys:
        np.testing.assert_array_equal(mapped[key], plain[key], err_msg=str(key))  # type: ignore[index]
        assert type(mapped[key]) is type(plain[key])  # type: ignore[index]
    for key in (50, -51, [0, 50], [-51]):
        with pytest.raises(IndexError):
            mapped[key]
    np.testing.assert_array_equal(list(mapped), plain)
    np.testing.assert_array_equal(mapped * 2 + 1, plain * 2 + 1)
    np.testing.assert_array_equal(1 - mapped, 1 - plain)
    np.testing.assert_array_equal(mapped @ plain.T, plain @ plain.T)
    np.testing.assert_array_equal(mapped > 0, plain > 0)
    np.testing.assert_array_equal(np.linalg.norm(mapped, axis=1), np.linalg.norm(plain, axis=1))
    np.testing.assert_array_equal(mapped.mean(axis=0), plain.mean(axis=0))
    np.testing.assert_array_equal(mapped.T, plain.T)
    assert mapped.astype(np.float64).dtype == np.float64
    assert np.asarray(mapped).flags.writeable
    with pytest.raises(AttributeError):
        _ = mapped.no_such_thing


def test_blocks_are_read_only_and_in_the_file(tmp_path: Path) -> None:
    table = table_of(NAMES)
    store(tmp_path / "x.emb", table)
    vectors = open_embeddings(tmp_path / "x.emb").vectors
    assert isinstance(vectors, MappedVectors)
    np.testing.assert_array_equal(np.concatenate(vectors.blocks), vectors_of(table))
    for block in vectors.blocks:
        assert not block.flags.writeable
        assert not block.flags.owndata
        assert block.ctypes.data % 64 == 0
    chosen = vectors.select(np.array([40, 2, 17]))
    np.testing.assert_array_equal(np.asarray(chosen), vectors_of(table)[[40, 2, 17]])
    np.testing.assert_array_equal(np.concatenate(chosen.blocks), vectors_of(table)[[40, 2, 17]])
    np.testing.assert_array_equal(chosen[1:], vectors_of(table)[[2, 17]])


def test_choosing_rows_reads_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(NAMES)
    store(tmp_path / "x.emb", table, tokens=True)
    opened: list[int] = []
    one = PartFile._map
    monkeypatch.setattr(PartFile, "_map", lambda self, at, n: opened.append(at) or one(self, at, n))
    rows_read: list[Path] = []
    rows = PartFile.read_rows
    monkeypatch.setattr(
        PartFile, "read_rows", lambda self, schema: rows_read.append(self.path) or rows(self, schema)
    )
    emb = open_embeddings(tmp_path / "x.emb")
    assert len(emb) == len(table)
    assert opened == []
    few = emb.select(np.array([33, 34]))
    assert len(opened) == 1
    assert rows_read == []
    np.testing.assert_array_equal(few.vectors, vectors_of(table)[[33, 34]])
    assert few.tokens is not None
    assert few.tokens.shape == (2, 2, 3, DIM)
    assert len(opened) == 1, "tokens stay unread"
    np.testing.assert_array_equal(np.asarray(few.tokens), tokens_of(table)[[33, 34]])
    assert few.rows.image.tolist() == ["33.jpg", "34.jpg"]
    again = few.select(np.array([False, True]))
    np.testing.assert_array_equal(np.asarray(again.tokens), tokens_of(table)[[34]])


def test_a_folder_of_one_part_is_an_array_that_may_be_written_to(tmp_path: Path) -> None:
    store(tmp_path / "x.emb", table_of(NAMES[:9]))
    vectors = open_embeddings(tmp_path / "x.emb").vectors
    assert type(vectors) is np.ndarray
    vectors[:] = 0
    require_whole(tmp_path / "x.emb", table_of(NAMES[:9]))


def test_parts_that_went_while_they_were_read(tmp_path: Path) -> None:
    store(tmp_path / "x.emb", table_of(NAMES))
    emb = open_embeddings(tmp_path / "x.emb")
    store(tmp_path / "x.emb", table_of(NAMES[::-1]))
    with pytest.raises(ArtifactError, match="must stay as it is while it is read"):
        np.asarray(emb.vectors)


# The end is the same, whoever made what


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "card.json"}


@pytest.mark.parametrize("tokens", [False, True])
def test_the_parts_do_not_say_which_shards_they_came_from(tmp_path: Path, *, tokens: bool) -> None:
    table = table_of(NAMES)
    store(tmp_path / "one.emb", table, tokens=tokens)
    rng = np.random.default_rng(0)
    # Three processes, of which two come back after a crash; groups fall to whoever takes them.
    groups = rng.permutation(10)
    turns = [(groups[:4], 3), (groups[4:7], 2), (groups[7:], 1)]
    out = tmp_path / "many.emb"
    for taken, ranks in turns:
        with EmbeddingsWriter(out, card_of(table, tokens=tokens), table) as lead:
            others = [
                EmbeddingsWriter(out, card_of(table, tokens=tokens), table, rank=r, lead=False)
                for r in range(1, ranks)
            ]
            for g in taken:
                writer = [lead, *others][int(rng.integers(ranks))]
                rows = table.select(slice(5 * int(g), 5 * int(g) + 5))
                assert lead.todo[5 * g : 5 * g + 5].all()
                writer.write(rows, vectors_of(rows), tokens_of(rows) if tokens else None)
            if ranks == 1:
                lead.finish(table=table, seconds=1.0, images_per_second=1.0)
    require_whole(out, table)
    assert files_of(out) == files_of(tmp_path / "one.emb")


def test_rows_made_twice_are_kept_once(tmp_path: Path) -> None:
    table = table_of(NAMES[:10])
    out = tmp_path / "x.emb"
    with EmbeddingsWriter(out, card_of(table), table) as lead:
        other = EmbeddingsWriter(out, card_of(table), table, rank=1, lead=False)
        lead.write(table.select(slice(0, 7)), vectors_of(table)[:7])
        other.write(table.select(slice(5, 10)), vectors_of(table)[5:])
        with pytest.warns(PandermWarning, match=r"2 images were embedded twice \(05.jpg, 06.jpg\)"):
            lead.finish(table=table, seconds=1.0, images_per_second=1.0)
    require_whole(out, table)


def test_a_row_that_nobody_made_stops_the_end(tmp_path: Path) -> None:
    table = table_of(NAMES[:10])
    with EmbeddingsWriter(tmp_path / "x.emb", card_of(table), table) as writer:
        writer.write(table.select(slice(0, 9)), vectors_of(table)[:9])
        with pytest.raises(ArtifactError, match=r"1 row of .*x.emb have none: 09.jpg"):
            writer.finish(table=table, seconds=1.0, images_per_second=1.0)
    assert len(open_embeddings(tmp_path / "x.emb", partial=True)) == 9
    # Rows that turned out to be unreadable are left out by a table that lacks them.
    fewer = dataclasses.replace(table_of(NAMES[:9]), row=table.row[:9])
    with EmbeddingsWriter(tmp_path / "x.emb", card_of(table), table) as writer:
        assert writer.todo.sum() == 1
        card = writer.finish(table=fewer, seconds=1.0, images_per_second=1.0)
    assert card.rows == card.table.rows == 9
    require_whole(tmp_path / "x.emb", fewer)


def test_an_unfinished_folder_shows_what_it_has_in_the_tables_order(tmp_path: Path) -> None:
    table = table_of(NAMES)
    with EmbeddingsWriter(tmp_path / "x.emb", card_of(table, tokens=True), table) as writer:
        for at in (slice(30, 40), slice(0, 7)):
            rows = table.select(at)
            writer.write(rows, vectors_of(rows), tokens_of(rows))
    with pytest.raises(ArtifactError, match="must be complete"):
        open_embeddings(tmp_path / "x.emb")
    emb = open_embeddings(tmp_path / "x.emb", partial=True)
    held = table.select(np.r_[0:7, 30:40])
    assert emb.rows.image.tolist() == held.image.tolist()
    np.testing.assert_array_equal(np.asarray(emb.vectors), vectors_of(held))
    np.testing.assert_array_equal(np.asarray(emb.tokens), tokens_of(held))


# A table that changed


def test_rows_that_are_appended_leave_the_parts_before_them_alone(tmp_path: Path) -> None:
    out, table = tmp_path / "x.emb", table_of(NAMES)
    before = store(out, table, tokens=True)
    written = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    longer = table_of([*NAMES, *(f"new-{i}.jpg" for i in range(20))])
    with EmbeddingsWriter(out, card_of(longer, tokens=True), longer) as writer:
        assert (writer.new, writer.changed, writer.removed, writer.complete) == (20, [], [], False)
        assert np.flatnonzero(writer.todo).tolist() == list(range(50, 70))
        fill(writer, longer, tokens=True)
        # Until the end the old folder is what is read.
        require_same_rows(out, table)
        after = writer.finish(table=longer, seconds=1.0, images_per_second=1.0)
    require_whole(out, longer)
    assert after.parts[:3] == before.parts[:3]
    assert after.token_parts[:6] == before.token_parts[:6]
    for part in (*after.parts[:3], *after.token_parts[:6]):
        assert (out / part.name).stat().st_mtime_ns == written[part.name], "not written again"
    store(tmp_path / "fresh.emb", longer, tokens=True)
    assert files_of(out) == files_of(tmp_path / "fresh.emb")


def require_same_rows(folder: Path, table: Table) -> None:
    emb = open_embeddings(folder)
    assert emb.rows.image.tolist() == table.image.tolist()
    np.testing.assert_array_equal(np.asarray(emb.vectors), vectors_of(table))


@pytest.mark.parametrize("tokens", [False, True])
def test_a_folder_follows_its_table(tmp_path: Path, *, tokens: bool) -> None:
    out = tmp_path / "x.emb"
    store(out, table_of(NAMES), tokens=tokens)
    names = ["a.jpg", *NAMES[9:4:-1], *NAMES[10:45], "b.jpg"]
    other = table_of(names, labels="bca", changed=("11.jpg", "30.jpg"))
    with EmbeddingsWriter(out, card_of(other, tokens=tokens), other) as writer:
        assert writer.new == 2
        assert writer.changed == ["11.jpg", "30.jpg"]
        assert writer.removed == [*NAMES[:5], *NAMES[45:]]
        assert other.image[writer.todo].tolist() == ["a.jpg", "11.jpg", "30.jpg", "b.jpg"]
        fill(writer, other, tokens=tokens)
        writer.finish(table=other, seconds=1.0, images_per_second=1.0)
    require_whole(out, other)
    assert len(list(out.glob("removed-*.parquet"))) == 1 + tokens
    # What comes back was kept: nothing is embedded.
    back = table_of(NAMES)
    with EmbeddingsWriter(out, card_of(back, tokens=tokens), back) as writer:
        assert not writer.todo.any()
        assert not writer.complete
        assert writer.removed == ["a.jpg", "b.jpg"]
        writer.finish(table=back, seconds=None, images_per_second=None)
    require_whole(out, back)
    assert open_embeddings(out).card.images_per_second == 1.0
    # Unless the files kept aside are removed, or damaged.
    for path in out.glob("removed-*.parquet"):
        path.write_bytes(b"PAR1 nothing")
    with EmbeddingsWriter(out, card_of(other, tokens=tokens), other) as writer:
        assert writer.todo.sum() == 4


def test_labels_that_changed_cost_no_compute(tmp_path: Path) -> None:
    out = tmp_path / "x.emb"
    before = store(out, table_of(NAMES))
    relabelled = table_of(NAMES, labels="abc")
    with EmbeddingsWriter(out, card_of(relabelled), relabelled) as writer:
        assert not writer.todo.any()
        assert (writer.new, writer.changed, writer.removed, writer.complete) == (0, [], [], False)
        after = writer.finish(table=relabelled, seconds=None, images_per_second=None)
    require_whole(out, relabelled)
    assert not {p.name for p in after.parts[:3]} & {p.name for p in before.parts}
    assert after.parts[3] == before.parts[3], "the last two rows are labelled as they were"


def test_shards_of_a_table_that_is_gone_back_from_are_kept(tmp_path: Path) -> None:
    """A run for a longer table is killed, the old table is asked for, then the longer one again."""
    out, table, longer = tmp_path / "x.emb", table_of(NAMES), table_of([*NAMES, "x.jpg", "y.jpg"])
    store(out, table)
    with EmbeddingsWriter(out, card_of(longer), longer) as writer:
        rows = longer.select(np.array([50]))
        writer.write(rows, vectors_of(rows))
    (out / "part-00007-0123456789ab.parquet").write_bytes(b"left by a kill")
    with EmbeddingsWriter(out, card_of(table), table) as writer:
        assert writer.complete
    assert not (out / "part-00007-0123456789ab.parquet").exists()
    with EmbeddingsWriter(out, card_of(longer), longer) as writer:
        assert longer.image[writer.todo].tolist() == ["y.jpg"]
        fill(writer, longer)
        writer.finish(table=longer, seconds=1.0, images_per_second=1.0)
    require_whole(out, longer)


def test_another_table_encoder_decoding_or_tokens_refuse(tmp_path: Path) -> None:
    out, table = tmp_path / "x.emb", table_of(NAMES)
    store(out, table)
    before = files_of(out)
    other = table_of([f"other-{name}" for name in NAMES])
    with pytest.raises(ParentsError, match="must come from one table"):
        EmbeddingsWriter(out, card_of(other), other)
    with pytest.raises(ParentsError, match="without --exact") as caught:
        EmbeddingsWriter(out, card_of(table, exact=False), table)
    assert caught.value.found[0] == f"{out} was made with --exact, without tokens"
    with pytest.raises(ParentsError, match=r"this is with --exact, with tokens \(2 × 3 × 6\)"):
        EmbeddingsWriter(out, card_of(table, tokens=True), table)
    with pytest.raises(ParentsError, match="they differ in: dim"):
        EmbeddingsWriter(out, card_of(table, dim=7), table)
    assert files_of(out) == before, "neither a lock nor anything else is left"


# One at a time, and what is damaged


HOLD = """
import sys, time
from pathlib import Path
from panderm.embeddings.lock import Hold
hold = Hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_two_processes_on_one_folder(tmp_path: Path) -> None:
    out, table = tmp_path / "x.emb", table_of(NAMES)
    longer = table_of([*NAMES, "more.jpg"])
    store(out, table)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        for overwrite in (False, True):
            with pytest.raises(ArtifactError, match="one process at a time") as caught:
                EmbeddingsWriter(out, card_of(longer), longer, overwrite=overwrite)
            told = json.loads((out / "lock").read_text())
            assert told["process"] == other.pid
            assert caught.value.found == (
                f"{out} is being written by process {other.pid} on {told['host']}, since {told['since']}",
            )
        # What is finished is read all the same, and nothing needs to be written.
        assert len(open_embeddings(out)) == len(table)
        assert EmbeddingsWriter(out, card_of(table), table).complete
        other.kill()
    assert (out / "lock").exists()
    assert EmbeddingsWriter(out, card_of(table), table).complete
    assert not (out / "lock").exists(), "what a kill left goes"
    store(out, longer)
    require_whole(out, longer)


def test_an_error_frees_the_folder(tmp_path: Path) -> None:
    out, table = tmp_path / "x.emb", table_of(NAMES)
    with pytest.raises(ZeroDivisionError), EmbeddingsWriter(out, card_of(table), table):
        _ = 1 / 0
    other = table_of(["z.jpg"])
    store(out, table)
    with pytest.raises(ParentsError):
        EmbeddingsWriter(out, card_of(other), other)
    assert not (out / "lock").exists()


@pytest.mark.parametrize(
    ("how", "tokens"),
    [("cut", False), ("flipped", False), ("empty", True), ("flipped", True), ("without tokens", True)],
)
def test_a_damaged_shard_is_set_aside_and_made_again(tmp_path: Path, how: str, *, tokens: bool) -> None:
    out, table = tmp_path / "x.emb", table_of(NAMES)
    with EmbeddingsWriter(out, card_of(table, tokens=tokens), table) as writer:
        for start in (0, 5, 10):
            rows = table.select(slice(start, start + 5))
            writer.write(rows, vectors_of(rows), tokens_of(rows) if tokens else None)
    shard = out / "made/0-00001.parquet"
    content = bytearray(shard.read_bytes())
    if how == "cut":
        shard.write_bytes(content[:-50])
    elif how == "flipped":
        at = bytes(content).index(vectors_of(table)[7].tobytes())
        content[at] ^= 1
        shard.write_bytes(content)
    elif how == "empty":
        shard.write_bytes(b"")
    else:
        (out / "made/0-00001.tokens.parquet").unlink()
    with pytest.warns(PandermWarning, match=r"0-00001\.(tokens\.)?parquet .*its rows are made again"):
        writer = EmbeddingsWriter(out, card_of(table, tokens=tokens), table)
    with writer:
        assert (out / "made/0-00001.parquet.damaged").exists()
        assert np.flatnonzero(writer.todo).tolist() == [*range(5, 10), *range(15, 50)]
        fill(writer, table, tokens=tokens)
        writer.finish(table=table, seconds=1.0, images_per_second=1.0)
    require_whole(out, table)


def test_a_part_that_is_gone_is_made_again(tmp_path: Path) -> None:
    out, table = tmp_path / "x.emb", table_of(NAMES)
    card = store(out, table, tokens=True)
    whole = files_of(out)
    for gone, rows in ((card.parts[1], range(16, 32)), (card.token_parts[6], range(48, 50))):
        (out / gone.name).unlink()
        with pytest.warns(PandermWarning, match=f"lacks {gone.name}: the rows it held are made again"):
            writer = EmbeddingsWriter(out, card_of(table, tokens=True), table)
        with writer:
            assert np.flatnonzero(writer.todo).tolist() == list(rows)
            fill(writer, table, tokens=True)
            writer.finish(table=table, seconds=1.0, images_per_second=1.0)
        require_whole(out, table)
        assert files_of(out) == whole


def test_a_part_with_other_rows_is_named(tmp_path: Path) -> None:
    out, table = tmp_path / "x.emb", table_of(NAMES)
    card = store(out, table)
    path = out / card.parts[2].name
    pd.read_parquet(path).iloc[:3].to_parquet(path)
    with pytest.raises(ArtifactError, match=f"{path.name} holds 3 of 16 rows"):
        open_embeddings(out)
    pd.read_parquet(path).drop(columns="vector").to_parquet(path)
    with pytest.raises(ArtifactError, match=f"{path.name} is damaged"):
        open_embeddings(out)
    frame = pd.DataFrame({"vector": [[1.0, 2.0]] * 16, "image": ["x"] * 16})
    frame.to_parquet(path)
    with pytest.raises(ArtifactError, match=f"{path.name} holds other columns"):
        open_embeddings(out)


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
def test_a_finished_folder_need_not_be_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, table = tmp_path / "x.emb", table_of(NAMES)
    store(out, table)
    (out / "made").mkdir()

    def refused(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    assert EmbeddingsWriter(out, card_of(table), table).complete


# Memory


def test_the_end_of_a_run_holds_a_row_group_not_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What NumPy allocates while a folder of 48 MB is finished: a few row groups of 1 MiB."""
    monkeypatch.undo()
    monkeypatch.setattr(parts, "_GROUP_BYTES", 1 << 20)
    monkeypatch.setattr(parts, "_PART_BYTES", {"vector": 8 << 20})
    table = table_of([f"{i}.jpg" for i in range(12_000)])
    card = card_of(table, dim=1024)
    rng = np.random.default_rng(0)
    with EmbeddingsWriter(tmp_path / "x.emb", card, table) as writer:
        for start in range(0, len(table), 3000):
            writer.write(table.select(slice(start, start + 3000)), rng.random((3000, 1024), dtype=np.float32))
        tracemalloc.start()
        writer.finish(table=table, seconds=1.0, images_per_second=1.0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert len(open_embeddings(tmp_path / "x.emb").card.parts) == 6
    assert peak < 16 << 20
