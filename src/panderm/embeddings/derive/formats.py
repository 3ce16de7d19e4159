"""Embeddings written as other programs read them: rows, vectors and card, a piece at a time."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from panderm.embeddings.derive.pieces import Leaving
from panderm.embeddings.parts import COLUMNS, ROWS

Writer = Callable[[Leaving, Path], None]


def write_npz(leaving: Leaving, to: Path) -> None:
    """Write a NumPy archive: vectors (n, D), one array a column, and the card as one string.

    Text is of fixed width, an empty cell an empty string, so that nothing in it is pickled; members are
    neither compressed nor dated.
    """
    n = len(leaving)
    with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        _member(archive, "card", "U", (), [np.array(leaving.card)])
        _member(archive, "vectors", np.float32, (n, leaving.dim), leaving.vectors())
        if leaving.tokens:
            _member(archive, "tokens", np.float16, (n, *leaving.token_shape), leaving.token_grids())
        rows = (table["row"].to_numpy() for table in leaving.columns(["row"]))
        _member(archive, "row", np.int64, (n,), rows)
        for name in COLUMNS:
            longest = (pc.max(pc.utf8_length(t[name])).as_py() or 0 for t in leaving.columns([name]))
            kind = np.dtype(f"<U{max(1, *longest)}")
            _member(archive, name, kind, (n,), (_texts(t[name], kind) for t in leaving.columns([name])))


def _member(
    archive: zipfile.ZipFile,
    name: str,
    dtype: npt.DTypeLike,
    shape: tuple[int, ...],
    pieces: Iterable[npt.NDArray[Any]],
) -> None:
    """Add one array of which only a piece at a time is in memory."""
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
        begun = False
        for piece in pieces:
            if not begun:
                _header(file, piece.dtype if dtype == "U" else np.dtype(dtype), shape)
                begun = True
            file.write(np.ascontiguousarray(piece).tobytes())


def _header(file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    told = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, told)


def _texts(column: pa.ChunkedArray, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.array(["" if text is None else text for text in column.to_pylist()], dtype=kind)


def write_csv(leaving: Leaving, to: Path) -> None:
    """Write the rows' columns, then v0, v1, …: numbers as short as can be and still the same float32."""
    schema = pa.schema([*ROWS, *(pa.field(f"v{i}", pa.float32()) for i in range(leaving.dim))])
    with pyarrow.csv.CSVWriter(to, schema) as file:
        for columns, vectors in zip(leaving.columns(), leaving.vectors(), strict=True):
            numbers = [pa.array(np.ascontiguousarray(column)) for column in vectors.T]
            file.write_table(pa.table([*columns.columns, *numbers], schema=schema))


def write_h5(leaving: Leaving, to: Path) -> None:
    """Write HDF5: datasets ``vectors`` (n, D), ``tokens`` (n, h, w, D), one a column; attribute ``card``."""
    import h5py

    n = len(leaving)
    with h5py.File(to, "w") as file:
        file.attrs["card"] = leaving.card
        vectors = file.create_dataset("vectors", (n, leaving.dim), np.float32)
        _fill(vectors, leaving.vectors())
        if leaving.tokens:
            shape = leaving.token_shape
            tokens = file.create_dataset("tokens", (n, *shape), np.float16, chunks=(1, *shape))
            _fill(tokens, leaving.token_grids())
        row = file.create_dataset("row", (n,), np.int64)
        _fill(row, (table["row"].to_numpy() for table in leaving.columns(["row"])))
        for name in COLUMNS:
            column = file.create_dataset(name, (n,), h5py.string_dtype())
            pieces = (table[name].to_pylist() for table in leaving.columns([name]))
            _fill(column, (np.array([x or "" for x in piece], dtype=object) for piece in pieces))


def _fill(dataset: Any, pieces: Iterable[npt.NDArray[Any]]) -> None:
    start = 0
    for piece in pieces:
        dataset[start : start + len(piece)] = piece
        start += len(piece)


def write_parquet(leaving: Leaving, to: Path) -> None:
    """Write one Parquet file; the card lies in the schema's metadata under ``panderm``."""
    schema = leaving.schema()
    texts = [name for name in COLUMNS if name not in ("image", "path", "sha256")]
    with pq.ParquetWriter(to, schema, compression="zstd", use_dictionary=texts) as file:
        for batch in leaving.batches():
            file.write_batch(batch)


def write_lance(leaving: Leaving, to: Path) -> None:
    """Write a Lance dataset; the card lies in the schema's metadata under ``panderm``, and beside as JSON."""
    import lance

    schema = leaving.schema()
    reader = pa.RecordBatchReader.from_batches(schema, leaving.batches())
    lance.write_dataset(reader, str(to), mode="create")
    _beside(leaving, to, "lance")


def write_hf_datasets(leaving: Leaving, to: Path) -> None:
    """Write a folder for ``datasets.load_from_disk``; the card lies beside as JSON."""
    import datasets

    schema = leaving.schema()
    passing = to / "passing" / "rows.arrow"  # saving copies it, and not into its own folder
    passing.parent.mkdir()
    with pa.OSFile(str(passing), "wb") as sink, pa.ipc.new_stream(sink, schema) as file:
        for batch in leaving.batches():
            file.write_batch(batch)
    encoder = leaving.emb.card.encoder
    info = datasets.DatasetInfo(
        description=f"{len(leaving):,} embeddings by {encoder.name}; card.json says how they were made",
        citation=encoder.citation,
        license=encoder.licence,
    )
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()  # it has one of its own, which --quiet would not know
    try:
        datasets.Dataset.from_file(str(passing), info=info).save_to_disk(str(to))
    finally:
        if shown:
            datasets.enable_progress_bars()
    passing.unlink()
    passing.parent.rmdir()
    _beside(leaving, to, "hf-datasets")


def _beside(leaving: Leaving, folder: Path, to: str) -> None:
    """Write the card into an exported folder, under a kind of its own: it is no embeddings folder of ours."""
    told = {"kind": f"embeddings as {to}", "embeddings": json.loads(leaving.card)}
    (folder / "card.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
