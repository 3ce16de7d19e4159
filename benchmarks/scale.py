"""What an archive of millions of images takes: a plan from measured rates, and the limits of one machine.

    python benchmarks/scale.py plan [--images 100000000] [--rate 2500] [--gpus 8] …
    python benchmarks/scale.py rows [--rows 100000 1000000]
    python benchmarks/scale.py files [--shards 1000 10000] [--parts 8 160]

``plan`` is arithmetic, needs nothing but Python, and says which numbers went in. ``rows`` measures what the
process in charge holds for each row of a table, from the CSV to the finished store, each size in a process of
its own (Linux). ``files`` measures what grows with the number of files: the listing of shards in the making,
the card, opening; and how fast SHA-256 is.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from panderm.embeddings import EncoderRecord

MIB = 1 << 20
UNIT_ROWS = 512  # of a shard in the making, as panderm.cluster.units has it
PART_BYTES = 128 * MIB  # of a part, as panderm.embeddings.parts has it


def plan(given: argparse.Namespace) -> dict[str, object]:
    """Return time, bytes, files and bandwidth; every formula is one line."""
    n, rate = given.images, given.rate * given.gpus
    part_rows = 1 << int(math.log2(PART_BYTES / (4 * given.dim)))
    stores = math.ceil(n / given.store_rows)
    rows = min(n, given.store_rows)
    seconds = n / rate
    return {
        "images": n,
        "images a second, all GPUs": rate,
        "hours": seconds / 3600,
        "GPU hours": given.gpus * seconds / 3600,
        "decoding cores a GPU": given.rate / given.decode,
        "decoding cores in all": rate / given.decode,
        "read, MB/s in all": rate * given.image_bytes / 1e6,
        "read, TB": n * given.image_bytes / 1e12,
        "hashing, cores": rate * given.image_bytes / (given.hash * 1e6),
        "vectors, GB": n * given.dim * 4 / 1e9,
        "patch tokens, TB": n * given.grid**2 * given.dim * 2 / 1e12,
        "stores": stores,
        "rows a store": rows,
        "hours a store": rows / rate / 3600,
        "GB a store": rows * given.dim * 4 / 1e9,
        "parts a store": math.ceil(rows / part_rows),
        "parts in all": stores * math.ceil(rows / part_rows),
        "shards in the making, at most": math.ceil(rows / UNIT_ROWS),
        "memory of the process in charge, GB": rows * given.row_bytes / 1e9,
        "lost with one node, seconds": 2 * UNIT_ROWS / given.rate,
        "read again after a stop, TB at most": rows * given.image_bytes / 1e12,
    }


def memory() -> tuple[float, float]:
    """Return resident memory now and at its peak, in MiB."""
    held = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MIB
    return held, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def no_encoder(dim: int) -> EncoderRecord:
    """Return the record of an encoder that there is not: its vectors are drawn."""
    from panderm.embeddings import EncoderRecord

    return EncoderRecord(
        name="drawn",
        architecture="none",
        dim=dim,
        weights=None,
        weights_sha256="0" * 64,
        account="no encoder: numbers drawn at random",
        random=True,
        pool="cls",
        precision="fp32",
        image_size=224,
        preprocess={},
        licence="",
        citation="",
        source="",
    )


def measure_rows(n: int, dim: int) -> dict[str, float]:
    """Go the way of the process in charge with n rows and no image: cells, table, rows for Ray, finish."""
    import numpy as np
    import pyarrow as pa

    from panderm.cluster.stages import ROLES
    from panderm.data.images import ImageFacts
    from panderm.data.table import check_rows, read_rows
    from panderm.embeddings import EmbeddingsCard, EmbeddingsWriter
    from panderm.provenance import Provenance

    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        with (here / "tiles.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "patient_id", "split", "label"])
            for i in range(n):
                slide = f"slide_{i // 5000:05d}"
                writer.writerow([f"{slide}/tile_{i:09d}.jpg", f"P{i // 20000:06d}", "train", str(i % 7)])
        base, _ = memory()
        started = time.monotonic()
        rows = read_rows(here / "tiles.csv", images=here)
        cells = memory()[0]
        read = time.monotonic() - started
        facts = (ImageFacts(sha256=hashlib.sha256(str(i).encode()).hexdigest()) for i in range(n))
        started = time.monotonic()
        table = check_rows(rows, facts)
        del facts
        checked = memory()[0]
        took = time.monotonic() - started
        columns = {name: rows.columns[name].arrow().cast(pa.large_string()) for name in ROLES}
        shared = pa.table({**columns, "path": rows.path.arrow().cast(pa.large_string())}).nbytes
        card = EmbeddingsCard(
            provenance=Provenance.now(), encoder=no_encoder(dim), table=table.card, rows=n, batch_size=64
        )
        out = EmbeddingsWriter(here / "tiles.emb", card, table)
        for start in range(0, n, 8192):
            some = table.select(slice(start, start + 8192))
            out.write(some, np.zeros((len(some), dim), np.float32))
        started = time.monotonic()
        out.finish(table=table, seconds=1.0, images_per_second=None)
        last = memory()[1]
        return {
            "rows": n,
            "cells": (cells - base) * MIB / n,
            "table": (checked - base) * MIB / n,
            "to machines": shared / n,
            "finish, peak": (last - base) * MIB / n,
            "peak MiB": last - base,
            "read s": read,
            "check s": took,
            "finish s": time.monotonic() - started,
        }


def measure_files(shards: int, parts: int) -> dict[str, float]:
    """Measure what a folder with so many files costs."""
    from panderm.data.table import TableCard
    from panderm.embeddings.card import EmbeddingsCard, Part
    from panderm.embeddings.made import MADE
    from panderm.embeddings.made import shards as shards_in
    from panderm.provenance import Provenance, read_card

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / MADE).mkdir()
        for i in range(shards):
            (folder / MADE / f"{i}-00000.parquet").touch()
        started = time.monotonic()
        assert len(shards_in(folder)) == shards
        listing = time.monotonic() - started
        table = TableCard(
            name="t",
            csv="t.csv",
            csv_sha256="0",
            images="",
            sha256="0",
            rows=parts * 32768,
            roles={},
            classes=(),
            counts={},
            patients=None,
            groups=None,
        )
        named = tuple(
            Part(name=f"part-{i:05d}-{i:012x}.parquet", rows=32768, bytes=134_500_000 + i, sha256=f"{i:064x}")
            for i in range(parts)
        )
        card = EmbeddingsCard(
            provenance=Provenance.now(),
            encoder=no_encoder(1024),
            table=table,
            rows=parts * 32768,
            complete=True,
            parts=named,
        )
        card.write(folder)
        started = time.monotonic()
        read_card(folder, EmbeddingsCard, "embeddings")
        return {
            "shards": shards,
            "listing ms": 1000 * listing,
            "parts": parts,
            "card kB": (folder / "card.json").stat().st_size / 1000,
            "card ms": 1000 * (time.monotonic() - started),
        }


def hash_rate() -> float:
    """Return MB of SHA-256 a second on one core."""
    content, best = bytes(64 * MIB), math.inf
    for _ in range(5):
        started = time.process_time()
        hashlib.sha256(content).digest()
        best = min(best, time.process_time() - started)
    return len(content) / best / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    ways = parser.add_subparsers(dest="way", required=True)
    one = ways.add_parser("plan")
    one.add_argument("--images", type=int, default=100_000_000)
    one.add_argument("--dim", type=int, default=1024, help="of a vector: Base 768, Large 1024")
    one.add_argument("--grid", type=int, default=14, help="patches on a side")
    one.add_argument(
        "--rate", type=float, required=True, help="images a second that one GPU encodes, measured"
    )
    one.add_argument("--gpus", type=int, default=8)
    one.add_argument("--decode", type=float, default=1400.0, help="images a second that one core decodes")
    one.add_argument("--image-bytes", type=float, default=10_000.0, help="of a file")
    one.add_argument("--hash", type=float, default=1800.0, help="MB a second of SHA-256, one core")
    one.add_argument("--store-rows", type=int, default=2_000_000)
    one.add_argument(
        "--row-bytes", type=float, default=410.0, help="that the process in charge holds for a row"
    )
    one.add_argument("--json", action="store_true")
    two = ways.add_parser("rows")
    two.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    two.add_argument("--dim", type=int, default=16)
    two.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    three = ways.add_parser("files")
    three.add_argument("--shards", type=int, nargs="+", default=[1000, 10_000, 100_000])
    three.add_argument("--parts", type=int, nargs="+", default=[8, 160, 3200])
    given = parser.parse_args()
    if given.way == "plan":
        found = plan(given)
        if given.json:
            print(json.dumps(found))
        for name, value in found.items() if not given.json else ():
            print(f"{name:40} {value:>16,.1f}" if isinstance(value, float) else f"{name:40} {value:>16,}")
    elif given.way == "rows":
        for n in given.rows:
            if given.here:
                print(json.dumps(measure_rows(n, given.dim)))
                continue
            words = [sys.executable, __file__, "rows", "--here", "--rows", str(n), "--dim", str(given.dim)]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            print({key: round(value, 1) for key, value in json.loads(done.stdout).items()})
    else:
        print(f"SHA-256: {hash_rate():,.0f} MB/s a core")
        for shards, parts in zip(given.shards, given.parts, strict=True):
            print({key: round(value, 1) for key, value in measure_files(shards, parts).items()})


if __name__ == "__main__":
    main()
