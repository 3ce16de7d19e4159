"""A finished folder in other formats: every cell and every bit as their own libraries read them."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import h5py
import lance
import numpy as np
import pandas as pd
import polars
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.embeddings.derive import pieces
from panderm.errors import ArtifactError, UsageError

Made = Callable[..., Path]
ROWS = 23
TEXTS = ("image", "path", "sha256", "split", "label", "patient", "group")
FORMATS = ("npz", "csv", "h5", "hf-datasets", "lance", "parquet")


def of_npz(path: Path) -> tuple[dict[str, Any], np.ndarray, str]:
    with np.load(path, allow_pickle=False) as held:
        return {n: held[n] for n in ("row", *TEXTS)}, held["vectors"], str(held["card"])


def of_csv(path: Path) -> tuple[dict[str, Any], np.ndarray, str]:
    frame = pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str), keep_default_na=False)
    numbers = pd.read_csv(path)[[n for n in frame.columns if n[0] == "v" and n[1:].isdigit()]]
    card = path.with_suffix(".card.json").read_text("utf-8")
    return {n: frame[n].to_numpy() for n in ("row", *TEXTS)}, numbers.to_numpy().astype(np.float32), card


def of_h5(path: Path) -> tuple[dict[str, Any], np.ndarray, str]:
    with h5py.File(path) as file:
        cells = {n: file[n].asstr()[:] for n in TEXTS} | {"row": file["row"][:]}
        return cells, file["vectors"][:], file.attrs["card"]


def of_hf_datasets(path: Path) -> tuple[dict[str, Any], np.ndarray, str]:
    rows = datasets.load_from_disk(str(path))
    cells = {n: np.array(rows[n][:], dtype=object) for n in ("row", *TEXTS)}
    card = json.dumps(json.loads((path / "card.json").read_text("utf-8"))["embeddings"])
    return cells, np.stack(rows.with_format("numpy")["vector"][:]), card


def of_lance(path: Path) -> tuple[dict[str, Any], np.ndarray, str]:
    held = lance.dataset(str(path))
    return (*of_arrow(held.to_table()), held.schema.metadata[b"panderm"].decode())


def of_parquet(path: Path) -> tuple[dict[str, Any], np.ndarray, str]:
    table = pq.read_table(path)
    return (*of_arrow(table), table.schema.metadata[b"panderm"].decode())


def of_arrow(table: Any) -> tuple[dict[str, Any], np.ndarray]:
    cells = {n: np.array(table[n].to_pylist(), dtype=object) for n in ("row", *TEXTS)}
    flat = table["vector"].combine_chunks().flatten().to_numpy()
    return cells, flat.reshape(table.num_rows, -1)


READ = {
    "npz": of_npz,
    "csv": of_csv,
    "h5": of_h5,
    "hf-datasets": of_hf_datasets,
    "lance": of_lance,
    "parquet": of_parquet,
}


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype == np.float32 and a.shape == b.shape and (a.view("u4") == b.view("u4")).all()


@pytest.mark.parametrize("rows_a_part", [None, 4])
@pytest.mark.parametrize("to", FORMATS)
def test_every_cell_and_every_bit_comes_out(
    to: str, rows_a_part: int | None, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where parts and pieces end in the middle of each other, and nothing is asked of the network."""
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a request was made"))
    folder = made(rows_a_part=rows_a_part)
    emb = panderm.open_embeddings(folder)
    assert len(emb.card.parts) == (1 if rows_a_part is None else 6)
    monkeypatch.setattr(pieces, "_BYTES", 3 * emb.dim * 4)  # three rows a piece
    out = folder.with_name(f"out.{to}")
    words = ["embeddings", "export", str(folder), "--to", to, "--out", str(out), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["bytes"] > ROWS * emb.dim * 4
    cells, vectors, card = READ[to](out)
    empty = None if to in ("hf-datasets", "lance", "parquet") else ""
    for name in TEXTS:
        wanted = [empty if x is None else x for x in getattr(emb.rows, name)]
        assert list(cells[name]) == wanted, name
    assert list(cells["row"]) == list(emb.rows.row)
    assert same_bits(np.ascontiguousarray(vectors), np.asarray(emb.vectors))
    assert json.loads(card) == emb.card.model_dump(mode="json")
    assert sorted(p.name for p in folder.parent.iterdir() if p.name.startswith(".")) == []


@pytest.mark.parametrize("to", FORMATS)
def test_infinities_and_nan_come_out(to: str, made: Made, encoder: panderm.Encoder) -> None:
    vectors = np.ones((ROWS, encoder.dim), dtype=np.float32)
    vectors[2, :3] = [np.nan, np.inf, -np.inf]
    folder = made(vectors=vectors)
    out = panderm.export_embeddings(folder, to=to, out=folder.with_name("out.x"), progress=False)  # type: ignore[arg-type]
    np.testing.assert_array_equal(READ[to](out)[1], vectors)


def test_opened_and_chosen_embeddings_go_out_too(made: Made, tmp_path: Path) -> None:
    emb = panderm.open_embeddings(made(rows_a_part=4))
    chosen = emb.select(emb.rows.split == "test")
    panderm.export_embeddings(chosen, to="npz", out=tmp_path / "t.npz", progress=False)
    cells, vectors, _ = of_npz(tmp_path / "t.npz")
    assert set(cells["split"]) == {"test"}
    assert same_bits(vectors, np.asarray(chosen.vectors))


def test_polars_reads_the_csv_to_the_same_bits(made: Made, tmp_path: Path) -> None:
    folder = made()
    panderm.export_embeddings(folder, to="csv", out=tmp_path / "o.csv", progress=False)
    numbers = polars.read_csv(tmp_path / "o.csv").select("^v[0-9]+$").to_numpy().astype(np.float32)
    assert same_bits(np.ascontiguousarray(numbers), np.asarray(panderm.open_embeddings(folder).vectors))


def test_an_archive_is_the_same_bytes_twice(made: Made, tmp_path: Path) -> None:
    folder = made()
    for name in ("a.npz", "b.npz"):
        panderm.export_embeddings(folder, to="npz", out=tmp_path / name, progress=False)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert zipfile.ZipFile(tmp_path / "a.npz").testzip() is None


def test_a_long_card_fits_an_attribute(made: Made, odd_table: panderm.Table, tmp_path: Path) -> None:
    """HDF5 keeps 64 kB of an attribute in an object's header: rows left out soon make more."""
    card = odd_table.card.model_copy(update={"note": "x" * 300_000})
    folder = made(table=type(odd_table)(**{**vars(odd_table), "card": card}))
    panderm.export_embeddings(folder, to="h5", out=tmp_path / "o.h5", progress=False)
    assert json.loads(of_h5(tmp_path / "o.h5")[2])["table"]["note"] == "x" * 300_000


# Patch tokens


@pytest.mark.parametrize("to", ["npz", "h5", "lance", "parquet"])
def test_tokens_go_along(to: str, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = np.random.default_rng(1).normal(size=(ROWS, 2, 3, 5)).astype(np.float16)
    folder = made(tokens=tokens, rows_a_part=8)
    monkeypatch.setattr(pieces, "_BYTES", 3 * (192 * 4 + 60))
    out = panderm.export_embeddings(folder, to=to, out=tmp_path / "out.x", tokens=True, progress=False)  # type: ignore[arg-type]
    if to == "npz":
        with np.load(out) as held:
            found = held["tokens"]
    elif to == "h5":
        with h5py.File(out) as file:
            found = file["tokens"][:]
    else:
        table = lance.dataset(str(out)).to_table() if to == "lance" else pq.read_table(out)
        shape = [int(x) for x in table.schema.metadata[b"token_shape"].split(b",")]
        found = table["tokens"].combine_chunks().flatten().to_numpy().reshape(-1, *shape)
    assert found.dtype == np.float16
    assert (found.view("u2") == tokens.view("u2")).all()
    vectors = np.asarray(panderm.open_embeddings(folder).vectors)
    assert same_bits(np.ascontiguousarray(READ[to](out)[1]), vectors)


def test_tokens_that_are_not_there_or_do_not_fit_are_refused(made: Made, tmp_path: Path) -> None:
    folder = made()
    with pytest.raises(UsageError, match="patch tokens must be there"):
        panderm.export_embeddings(folder, to="npz", out=tmp_path / "o.npz", tokens=True)
    with pytest.raises(UsageError, match="patch tokens can be written to npz, h5, lance, parquet only"):
        panderm.export_embeddings(folder, to="csv", out=tmp_path / "o.csv", tokens=True)
    assert [p.name for p in tmp_path.iterdir()] == ["odd.emb"]


# What is in the way


@pytest.mark.parametrize("to", FORMATS)
def test_an_output_is_replaced_only_when_told_so(to: str, made: Made, tmp_path: Path) -> None:
    folder = made()
    out = tmp_path / f"out.{to}"
    words = ["embeddings", "export", str(folder), "--to", to, "--out", str(out), "-q"]
    assert CliRunner().invoke(app, words).exit_code == 0
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 2
    assert "an output must not exist already" in again.stderr
    assert CliRunner().invoke(app, [*words, "--overwrite"]).exit_code == 0


@pytest.mark.parametrize("to", ["hf-datasets", "lance"])
def test_an_exported_folder_never_replaces_embeddings(to: str, made: Made) -> None:
    """Both hold a card.json: a slip of --out must not cost hours of encoding."""
    folder, other = made(), made("other.emb")
    for out in (folder, other):
        before = {p.name: p.read_bytes() for p in out.iterdir()}
        words = ["embeddings", "export", str(folder), "--to", to, "--out", str(out), "--overwrite", "-q"]
        assert CliRunner().invoke(app, words).exit_code == 2
        assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    with pytest.raises(ArtifactError, match="embeddings must be a folder that panderm wrote"):
        panderm.open_embeddings(
            panderm.export_embeddings(folder, to=to, out=folder.with_name("x"), progress=False)  # type: ignore[arg-type]
        )


@pytest.mark.parametrize("to", FORMATS)
def test_a_disk_that_fills_up_leaves_what_was_there(
    to: str, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = made(), tmp_path / f"out.{to}"
    panderm.export_embeddings(folder, to=to, out=out, progress=False)  # type: ignore[arg-type]

    def listing() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    before = listing()

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("panderm.storage.flush", no_room)
    words = ["embeddings", "export", str(folder), "--to", to, "--out", str(out), "--overwrite", "-q"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "the disk must have room" in result.stderr
    assert listing() == before


@pytest.mark.parametrize(("to", "library"), [("h5", "h5py"), ("hf-datasets", "datasets"), ("lance", "lance")])
def test_a_library_that_is_missing_is_named_with_its_extra(
    to: str, library: str, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == library else find(n, *a))
    with pytest.raises(UsageError) as caught:
        panderm.export_embeddings(made(), to=to, out=tmp_path / "o")  # type: ignore[arg-type]
    assert caught.value.hint == f"pip install 'panderm[{to}]'"
    assert library in str(caught.value)


def test_a_format_nobody_knows_is_refused(made: Made, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--to must be one of npz, csv, .*\n.*did you mean 'parquet'"):
        panderm.export_embeddings(made(), to="parqet", out=tmp_path / "o")  # type: ignore[arg-type]
