"""Opening large embeddings: ours, pandas on its parts, NumPy's archive, each in a new process (Linux).

    python benchmarks/open.py [--rows 1000000] [--dim 1024] [--out FOLDER] [--cold]

Vectors are drawn and written by the store's own functions: 4 GB of them, and 4 GB of the archive, for a
million rows of 1,024; removed afterwards, unless ``--out`` says where to keep them. Then, for each way:
seconds from its call to an object whose shape and length are known; memory of its own (anonymous pages) and
pages of files that it has mapped, which the system takes back when it needs them; seconds for one row, for
1,000 rows at random, and for one pass over all, a sum of every column. Imports are not counted. Files are in
the page cache, as they are after they were written; ``--cold`` has them dropped from it before each process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scale import no_encoder

WAYS = {"ours": "panderm.open_embeddings", "pandas": "pandas.read_parquet", "npz": "numpy.load (npz)"}
PEEK = 1000  # rows at random


def write(folder: Path, rows: int, dim: int) -> None:
    """Write the folder, and the archive beside it."""
    import pyarrow as pa

    import panderm
    from panderm.data.table import TableCard
    from panderm.embeddings.card import EmbeddingsCard
    from panderm.embeddings.commit import write_one
    from panderm.embeddings.parts import ROWS, vector_layout
    from panderm.provenance import Provenance
    from panderm.storage import new_folder

    layout = vector_layout(dim)
    rng = np.random.default_rng(0)

    def groups(start: int, stop: int) -> Iterator[tuple[pa.Table, np.ndarray]]:
        for low in range(start, stop, layout.group_rows):
            at = range(low, min(low + layout.group_rows, stop))
            digests = rng.bytes(32 * len(at)).hex()
            names = [f"ISIC_{i:07d}.jpg" for i in at]
            columns = {
                "row": [i + 2 for i in at],
                "image": names,
                "path": [f"/archive/images/{name}" for name in names],
                "sha256": [digests[64 * k : 64 * k + 64] for k in range(len(at))],
                "split": [("train", "val", "test")[i % 3] for i in at],
                "label": [("nv", "mel", "bcc", "bkl")[i % 4] for i in at],
                "patient": [f"P{i // 5:06d}" for i in at],
                "group": [None] * len(at),
            }
            yield pa.table(columns, schema=ROWS), rng.standard_normal((len(at), dim), dtype=np.float32)

    table = TableCard(
        name="drawn",
        csv="drawn.csv",
        csv_sha256="0" * 64,
        images="/archive/images",
        sha256="0" * 64,
        rows=rows,
        roles={"image": "image", "split": "split", "label": "label", "patient": "patient", "group": None},
        classes=("bcc", "bkl", "mel", "nv"),
        counts={},
        patients=(rows + 4) // 5,
        groups=None,
    )
    with new_folder(folder) as temporary:
        parts = tuple(
            write_one(temporary, layout, k, groups(start, min(start + layout.part_rows, rows)))
            for k, start in enumerate(range(0, rows, layout.part_rows))
        )
        EmbeddingsCard(
            provenance=Provenance.now(),
            encoder=no_encoder(dim),
            table=table,
            rows=rows,
            complete=True,
            parts=parts,
        ).write(temporary)
    panderm.export_embeddings(folder, to="npz", out=archive_of(folder), progress=False)


def archive_of(folder: Path) -> Path:
    return folder.with_suffix(".npz")


def memory() -> tuple[float, float]:
    """Return what the kernel says of this process: anonymous pages, and pages of files, in MiB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    own, mapped = (int(lines[key].split()[0]) / 1024 for key in ("RssAnon", "RssFile"))
    return own, mapped


def measure(way: str, folder: Path, rows: int) -> dict[str, float]:
    """Open the vectors one way, in this process, and use them."""
    import pandas as pd

    import panderm
    import panderm.embeddings

    at = np.random.default_rng(1).choice(rows, PEEK, replace=False)
    own, mapped = memory()
    held: Any
    started = time.perf_counter()
    if way == "ours":
        held = panderm.open_embeddings(folder).vectors
    elif way == "npz":
        held = np.load(archive_of(folder))["vectors"]
    else:
        frame = pd.concat(
            [pd.read_parquet(part) for part in sorted(folder.glob("part-*.parquet"))], ignore_index=True
        )
        held = frame["vector"].to_numpy()
    opened = time.perf_counter()
    found = {"open": opened - started, "own": memory()[0] - own, "mapped": memory()[1] - mapped}
    assert len(held) == rows
    for name, chosen in (("one", at[:1]), ("many", at)):
        begun = time.perf_counter()
        some = np.stack(held[chosen]) if way == "pandas" else np.asarray(held[chosen])
        found[name] = time.perf_counter() - begun
    found["check"] = float(some.sum(dtype=np.float64))
    begun = time.perf_counter()
    if way == "ours":
        blocks = getattr(held, "blocks", [held])
        total = sum(float(block.sum(axis=0, dtype=np.float32).sum()) for block in blocks)
    else:
        step = 4096
        pieces = (held[k : k + step] for k in range(0, rows, step))
        stacked = (np.stack(piece) if way == "pandas" else piece for piece in pieces)
        total = sum(float(piece.sum(axis=0, dtype=np.float32).sum()) for piece in stacked)
    found["all"] = time.perf_counter() - begun
    found["own after"] = memory()[0] - own
    return found | {"total": total}


def drop(folder: Path) -> None:
    """Ask the system to forget what it keeps of the files."""
    for path in (*folder.iterdir(), archive_of(folder)):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def in_a_new_process(way: str, folder: Path, rows: int) -> dict[str, float]:
    words = [sys.executable, __file__, "--measure", way, "--rows", str(rows), "--out", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--out", type=Path, help="folder X.emb to write, or to use where it is there")
    parser.add_argument("--cold", action="store_true", help="drop the files from the page cache first")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.out, args.rows)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.out or Path(temporary) / "drawn.emb"
        if not folder.exists():
            started = time.perf_counter()
            write(folder, args.rows, args.dim)
            print(f"written in {time.perf_counter() - started:.0f} s")
        parts = sorted(folder.glob("part-*.parquet"))
        size = sum(part.stat().st_size for part in parts) / 1e9
        state = "dropped from the page cache" if args.cold else "in the page cache"
        print(f"{args.rows:,} × {args.dim:,} float32 in {len(parts)} parts, {size:.2f} GB, {state}")
        print(
            f"{'':24} {'open s':>9} {'own MiB':>9} {'mapped MiB':>11} {'1 row ms':>9} {'1,000 rows ms':>14} "
            f"{'all s':>7} {'own MiB at the end':>19}"
        )
        sums = set()
        for way, name in WAYS.items():
            if args.cold:
                drop(folder)
            got = in_a_new_process(way, folder, args.rows)
            sums.add(round(got["check"], 3))
            cells = (f"{got['open']:9.3f}", f"{got['own']:9.0f}", f"{got['mapped']:11.0f}")
            then = (f"{1e3 * got['one']:9.2f}", f"{1e3 * got['many']:14.1f}", f"{got['all']:7.2f}")
            print(f"{name:24}", *cells, *then, f"{got['own after']:19.0f}")
        print("the same 1,000 rows in all three" if len(sums) == 1 else f"THE ROWS DIFFER: {sums}")


if __name__ == "__main__":
    main()
