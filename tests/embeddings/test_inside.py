"""What is inside a finished folder; and that parts, images and numbers that are not as written are found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.embeddings.card import EmbeddingsCard
from panderm.embeddings.derive.numbers import numbers_of
from panderm.embeddings.opened import Embeddings
from panderm.embeddings.writer import EmbeddingsWriter
from panderm.errors import ArtifactError
from panderm.provenance import Provenance


def store(
    folder: Path,
    table: panderm.Table,
    vectors: np.ndarray,
    like: EmbeddingsCard,
    *,
    finished: bool = True,
) -> Path:
    """A folder as a run leaves it, with the vectors given."""
    changed = {"complete": False, "parts": (), "rows": len(table), "table": table.card}
    card = like.model_copy(update={**changed, "provenance": Provenance.now()})
    with EmbeddingsWriter(folder, card, table) as writer:
        half = len(table) // 2
        writer.write(table.select(slice(0, half)), vectors[:half])
        if finished:
            writer.write(table.select(slice(half, None)), vectors[half:])
            writer.finish(table=table, seconds=1.0, images_per_second=None)
    return folder


def told(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["embeddings", "info", *words, "-q"])
    return result.exit_code, result.output


def test_ten_lines_say_what_is_inside(embeddings: panderm.Embeddings) -> None:
    code, said = told(str(embeddings.path))
    assert code == 0
    counts = embeddings.card.table.counts
    lines = said.splitlines()
    assert len(lines) <= 11
    assert f"90 images × {embeddings.dim}, finished" in lines[0]
    for word in (
        "random-tiny",
        "drawn at random",
        "cut from",
        "mean 0.",
        "fp32",
        "world.csv",
        "1 part",
        "norms",
    ):
        assert word in said, word
    for split, classes in counts.items():
        assert f"{split} {sum(classes.values())} (" in said
        assert all(f"{name} {n}" in said for name, n in classes.items())


def test_json_says_the_same(embeddings: panderm.Embeddings) -> None:
    code, said = told(str(embeddings.path), "--json")
    found = json.loads(said)
    norms = np.linalg.norm(np.asarray(embeddings.vectors, dtype=np.float64), axis=1)
    assert code == 0
    assert (found["rows"], found["made"], found["waiting"], found["finished"]) == (90, 90, 0, True)
    assert found["numbers"]["norm_min"] == pytest.approx(norms.min())
    assert found["numbers"]["norm_median"] == pytest.approx(np.median(norms))
    assert found["numbers"]["norm_max"] == pytest.approx(norms.max())
    assert found["bytes"] == sum(part["bytes"] for part in found["parts"])
    assert found["card"]["encoder"]["weights_sha256"] == embeddings.card.encoder.weights_sha256


def test_what_is_no_folder_of_embeddings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text('{"kind": "predictions"}')
    for folder, word in ((tmp_path / "none.emb", "found no folder"), (tmp_path, "holds predictions")):
        code, said = told(str(folder), "--verify")
        assert code == 2
        assert "embeddings must be a folder that panderm wrote" in said
        assert word in said


def test_an_unfinished_folder_says_how_far_it_is(
    embeddings: panderm.Embeddings, table: panderm.Table, tmp_path: Path
) -> None:
    folder = store(
        tmp_path / "half.emb", table, np.asarray(embeddings.vectors), embeddings.card, finished=False
    )
    code, said = told(str(folder))
    assert code == 0
    assert "NOT finished: 45 of 90 rows made" in said
    code, said = told(str(folder), "--verify")
    assert code == 1
    assert "is not finished: 45 of 90 rows" in said


def test_a_finished_folder_that_grows_says_so(
    embeddings: panderm.Embeddings, table: panderm.Table, tmp_path: Path
) -> None:
    vectors = np.asarray(embeddings.vectors)
    few = panderm.select_embeddings(embeddings, out=tmp_path / "few.emb", where="split=train", progress=False)
    card = embeddings.card.model_copy(update={"complete": False, "parts": ()})
    with EmbeddingsWriter(tmp_path / "few.emb", card, table) as writer:
        rest = np.flatnonzero(writer.todo)
        writer.write(table.select(rest[:7]), vectors[rest[:7]])
    code, said = told(str(tmp_path / "few.emb"))
    assert code == 0
    assert f"{len(few)} images × {few.dim}, finished; a run that is not finished has made 7 rows more" in said


@pytest.fixture
def copied(embeddings: panderm.Embeddings, tmp_path: Path) -> Path:
    return Path(shutil.copytree(embeddings.path or "", tmp_path / "copy.emb"))


def test_a_changed_byte_is_found(copied: Path) -> None:
    assert told(str(copied), "--verify")[0] == 0
    (part,) = copied.glob("part-*.parquet")
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(bytes(content))
    code, said = told(str(copied), "--verify")
    assert code == 1
    assert f"NOT AS WRITTEN: {part}: sha256" in said


@pytest.mark.parametrize("how", ["short", "gone"])
def test_a_part_that_is_short_or_gone_is_found(how: str, copied: Path) -> None:
    (part,) = copied.glob("part-*.parquet")
    part.write_bytes(part.read_bytes()[:-9]) if how == "short" else part.unlink()
    code, said = told(str(copied), "--verify")
    assert code == 1
    assert f"{part} {'has' if how == 'short' else 'is not there'}" in said
    code, said = told(str(copied))  # not asked to verify: it cannot be opened
    assert code == 2
    assert "Error" in said


def test_images_that_changed_or_are_gone_are_found(encoder: panderm.Encoder, tmp_path: Path) -> None:
    rows = ["image,split,label"]
    for k in range(6):
        Image.new("RGB", (40, 30), (40 * k, 90, 10)).save(tmp_path / f"{k}.png")
        rows.append(f"{k}.png,train,{'ab'[k % 2]}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    table = panderm.read_table(tmp_path / "t.csv", progress=False)
    vectors = np.random.default_rng(0).normal(size=(6, encoder.dim)).astype(np.float32)
    card = EmbeddingsCard(provenance=Provenance.now(), encoder=encoder.record, table=table.card, rows=6)
    folder = store(tmp_path / "t.emb", table, vectors, card)
    assert panderm.describe_embeddings(folder, verify=True, progress=False).findings == ()
    Image.new("RGB", (40, 30), "red").save(tmp_path / "2.png")
    (tmp_path / "4.png").unlink()
    found = panderm.describe_embeddings(folder, verify=True, progress=False).findings
    assert len(found) == 2
    assert found[0].startswith(f"{tmp_path / '2.png'}: another file than was embedded (sha256 ")
    assert found[1] == f"{tmp_path / '4.png'}: no such file"
    assert told(str(folder), "--verify")[0] == 1


# Numbers


def with_vectors(embeddings: panderm.Embeddings, vectors: np.ndarray) -> panderm.Embeddings:
    return Embeddings(vectors, embeddings.rows, embeddings.card)


def test_equal_vectors_of_different_images_are_named(embeddings: panderm.Embeddings) -> None:
    vectors = np.array(embeddings.vectors)
    assert numbers_of(embeddings, progress=False).equal == 0
    vectors[17] = vectors[3]
    vectors[60] = vectors[3]
    vectors[80] = vectors[79]
    found = numbers_of(with_vectors(embeddings, vectors), progress=False)
    names = embeddings.rows.image
    assert found.equal == 5
    assert found.equal_images == ((names[3], names[17], names[60]), (names[79], names[80]))


def test_one_file_under_two_names_may_have_one_vector(embeddings: panderm.Embeddings) -> None:
    vectors = np.array(embeddings.vectors)
    vectors[17] = vectors[3]
    sha256 = embeddings.rows.sha256.copy()
    sha256[17] = sha256[3]
    emb = Embeddings(vectors, replace(embeddings.rows, sha256=sha256), embeddings.card)
    assert numbers_of(emb, progress=False).equal == 0


def test_vectors_that_are_not_finite_are_named_and_have_no_norm(embeddings: panderm.Embeddings) -> None:
    vectors = np.array(embeddings.vectors)
    vectors[5, 0], vectors[9, 3] = np.nan, np.inf
    found = numbers_of(with_vectors(embeddings, vectors), progress=False)
    assert found.not_finite == 2
    assert found.not_finite_images == (embeddings.rows.image[5], embeddings.rows.image[9])
    assert found.norm_max is not None
    assert np.isfinite(found.norm_max)


def test_the_square_of_a_large_number_does_not_overflow(embeddings: panderm.Embeddings) -> None:
    vectors = np.full((90, embeddings.dim), 1e30, dtype=np.float32)
    vectors[:, 0] = np.arange(90) * 1e28
    found = numbers_of(with_vectors(embeddings, vectors), progress=False)
    assert found.not_finite == 0
    assert found.norm_min == pytest.approx(np.linalg.norm(vectors[0].astype(float)), rel=1e-6)


def test_a_bad_folder_in_python(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="embeddings must be a folder that panderm wrote"):
        panderm.describe_embeddings(tmp_path / "none.emb")


def test_images_that_are_no_files_here_are_counted_not_missed(
    embeddings: panderm.Embeddings, table: panderm.Table, tmp_path: Path
) -> None:
    """Of an archive in object storage, or in Parquet files, only the parts can be read again."""
    path = table.path.copy()
    path[0], path[1] = "s3://bucket/a.jpg", f"{tmp_path}/tiles.parquet#17"
    away = replace(table, path=path)
    folder = store(tmp_path / "away.emb", away, np.asarray(embeddings.vectors), embeddings.card)
    code, said = told(str(folder), "--verify")
    assert code == 0
    assert "every part and every image is as it was, but for 2 images not on this machine" in said


def test_shards_that_are_in_the_parts_already_do_not_wait(
    embeddings: panderm.Embeddings, table: panderm.Table, tmp_path: Path
) -> None:
    """A run that was killed between its card and its last sweep has left nothing undone."""
    folder = tmp_path / "left.emb"
    half = store(folder, table, np.asarray(embeddings.vectors), embeddings.card, finished=False)
    shutil.copytree(half / "made", tmp_path / "made")
    shutil.rmtree(half)
    store(folder, table, np.asarray(embeddings.vectors), embeddings.card)
    shutil.copytree(tmp_path / "made", folder / "made")
    found = panderm.describe_embeddings(folder, progress=False)
    assert (found.finished, found.made, found.waiting) == (True, 90, 0)


def test_tokens_and_sources_are_told_and_verified(made: Callable[..., Path], tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).normal(size=(23, 2, 3, 5)).astype(np.float16)
    panderm.select_embeddings(made(tokens=tokens), out=tmp_path / "s.emb", where="split=test", progress=False)
    code, said = told(str(tmp_path / "s.emb"), "--verify")
    assert code == 0
    assert "in 1 part, patch tokens 2 × 3 × 5 in 1 part" in said
    assert f"from:      {tmp_path / 'odd.emb'}: 6 rows: split=test" in said
    (part,) = (tmp_path / "s.emb").glob("tokens-*.parquet")
    part.unlink()
    code, said = told(str(tmp_path / "s.emb"), "--verify")
    assert code == 1
    assert f"NOT AS WRITTEN: {part} is not there" in said
