"""An output never takes the place of what it is made from, nor of a user's own files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import panderm
from panderm.cli import app

Made = Callable[..., Path]


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*map(str, words), "-q"])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stderr


@pytest.fixture
def own(odd_table: panderm.Table, tmp_path: Path) -> panderm.Table:
    """A table and images that a test may lose."""
    copy = shutil.copytree(Path(odd_table.card.csv).parent, tmp_path / "own")
    return panderm.read_table(copy / "odd.csv", progress=False)


@pytest.fixture
def emb(made: Made, own: panderm.Table) -> Path:
    vectors = np.random.default_rng(0).normal(size=(len(own), 192)).astype(np.float32)
    return made(table=own, vectors=vectors)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    "words",
    [
        ["embeddings", "export", "{emb}", "--to", "csv", "--out", "{at}"],
        ["embeddings", "export", "{emb}", "--to", "npz", "--out", "{at}"],
        ["map", "{emb}", "--method", "pca", "--out", "{at}", "--png", "{new}.png"],
        ["map", "{emb}", "--method", "pca", "--out", "{new}", "--csv", "{at}"],
    ],
)
def test_neither_the_table_nor_an_image_nor_the_folder_is_overwritten(
    words: list[str], emb: Path, own: panderm.Table, tmp_path: Path
) -> None:
    before = everything(tmp_path)
    for at, what in (
        (own.card.csv, "is the table that was embedded"),
        (own.path[3], "is an image that was embedded"),
        (emb / "new.csv", f"is {emb} or lies in it"),
    ):
        code, said = run(*(w.format(emb=emb, at=at, new=tmp_path / "new.html") for w in words), "--overwrite")
        assert code == 2
        assert "an output must not be what it is made from" in said
        assert what in said
    assert everything(tmp_path) == before


def test_a_map_never_replaces_the_file_of_its_columns(emb: Path, tmp_path: Path) -> None:
    columns = tmp_path / "columns.csv"
    columns.write_text("image,site\n")
    words = ["map", emb, "--method", "pca", "--columns", columns, "--csv", columns, "--overwrite"]
    code, said = run(*words, "--out", tmp_path / "map.html")
    assert code == 2
    assert "is the file of --columns" in said
    assert columns.read_text() == "image,site\n"


def test_a_picture_is_a_png(emb: Path, tmp_path: Path) -> None:
    words = ["map", emb, "--method", "pca", "--out", tmp_path / "map.html"]
    code, said = run(*words, "--png", tmp_path / "map.pdf")
    assert code == 2
    assert "--png must name a PNG file" in said
    assert not (tmp_path / "map.html").exists()


def test_a_users_own_files_in_a_folder_are_not_lost(emb: Path, own: panderm.Table, made: Made) -> None:
    other = made("other.emb", table=own)
    notes = emb / "notes.txt"
    notes.write_text("two weeks of reading")
    before = everything(emb)
    embed = ["embed", own.card.csv, "--images", Path(own.card.csv).parent, "--encoder", "random-tiny"]
    for words in (
        [*embed, "--label", "label"],
        ["embeddings", "select", other, "--where", "split=test"],
        ["embeddings", "merge", other, other],
    ):
        code, said = run(*words, "--out", emb, "--overwrite")
        assert code == 2
        assert f"{emb} holds other files too, and they would be lost: notes.txt" in said
        assert everything(emb) == before
    notes.unlink()
    for droppings in (".DS_Store", "._part", "Thumbs.db"):
        (emb / droppings).touch()
    code, said = run("embeddings", "select", other, "--where", "split=test", "--out", emb, "--overwrite")
    assert code == 0, said


@pytest.mark.parametrize("engine", ["torch", "ray"])
def test_a_folder_is_not_written_to_an_address(
    engine: str, own: panderm.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["embed", own.card.csv, "--images", Path(own.card.csv).parent, "--encoder", "random-tiny"]
    code, said = run(*words, "--engine", engine, "--out", "s3://bucket/x.emb")
    assert code == 2
    assert "an output must be a path on this machine's disks" in said
    assert not (tmp_path / "s3:").exists()


def test_who_names_addresses_is_told_of_ray(own: panderm.Table) -> None:
    for words in (["s3://bucket/t.csv"], [own.card.csv, "--images", "gs://bucket/images"]):
        code, said = run("embed", *words, "--encoder", "random-tiny", "--out", "x.emb")
        assert code == 2
        assert f"found {words[-1]}\n  hint: --engine ray" in said
