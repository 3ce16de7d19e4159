"""Mutated image files through the decoder: pixels or a reason in words, never a crash, a hang, a full memory.

    python benchmarks/fuzz_decoder.py [--images FOLDER …] [--mutations 10000] [--seed 0] [--keep FOLDER]

Real files (some of every folder named) and drawn ones of every format are mutated: bits flipped, runs of
bytes overwritten, repeated, dropped, spliced from other files, files cut, lengths in headers set to extremes;
half of the PNGs get their check sums mended. Each file is decoded in a process that is watched: more than
5 seconds, more than 1 GB of resident memory, a signal, or any exception but ImageError is a failure, and its
file is kept. Exit code 1 where there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import resource
import select
import struct
import subprocess
import sys
import time
import warnings
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from drawn_files import drawn

MOST_SECONDS = 5.0
MOST_BYTES = 1_000_000_000
WORKER = [sys.executable, __file__, "--worker"]
Outcome = Literal["pixels", "refused", "crash", "hang", "memory", "exception"]
FAILURES = ("crash", "hang", "memory", "exception")


@dataclass(frozen=True)
class Result:
    """What became of one mutated file; ``said`` is the reason, the exception or the signal."""

    name: str
    outcome: Outcome
    said: str
    seconds: float
    peak_bytes: int


def main() -> int:
    """Parse the options, fuzz, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path, nargs="*", default=[], help="folders of real files")
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz_failures"), help="where failures are kept")
    options = parser.parse_args()

    files = {**drawn(), **real(options.images, options.seed)}
    results = []
    started = time.perf_counter()
    for i, (content, result) in enumerate(fuzz(files, options.mutations, options.seed)):
        results.append(result)
        if result.outcome in FAILURES:
            options.keep.mkdir(parents=True, exist_ok=True)
            kept = options.keep / f"{options.seed}-{i:05}-{result.outcome}-{Path(result.name).name}"
            kept.write_bytes(content)
            print(f"{kept}: {result.outcome}: {result.said}", flush=True)
    print(table(results))
    failures = sum(r.outcome in FAILURES for r in results)
    print(f"highest resident memory: {max(r.peak_bytes for r in results) / 1e6:.0f} MB")
    print(
        f"{len(results):,} mutations of {len(files)} files, seed {options.seed}: {failures} failures, "
        f"{time.perf_counter() - started:.0f} s in all"
    )
    return int(failures > 0)


def table(results: list[Result]) -> str:
    """Return counts a format as a Markdown table."""
    rows = defaultdict(list)
    for result in results:
        rows[result.name.split("/")[0]].append(result)
    # libheif and GDCM decode in a process of their own: where that dies, the file is refused.
    lines = [
        "| files | mutations | pixels | refused | its codec crashed, contained | failures | slowest, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, of in [*sorted(rows.items()), ("all", results)]:
        count = Counter(r.outcome for r in of)
        bad = sum(count[o] for o in FAILURES)
        contained = sum("crashed on it" in r.said for r in of)
        whats = f"{len(of):,} | {count['pixels']:,} | {count['refused']:,} | {contained} | {bad}"
        lines.append(f"| {name} | {whats} | {max(r.seconds for r in of):.2f} |")
    return "\n".join(lines)


def fuzz(files: dict[str, bytes], mutations: int, seed: int) -> Iterator[tuple[bytes, Result]]:
    """Yield every mutated file and what became of it; the same seed gives the same files."""
    names = sorted(files)
    watched = Watched()
    try:
        for i in range(mutations):
            rng = random.Random(f"{seed} {i}")
            # Every format as often as any other, however many files there are of it.
            kind = rng.choice(sorted({name.split("/")[0] for name in names}))
            name = rng.choice([n for n in names if n.split("/")[0] == kind])
            content = mutated(files[name], files[rng.choice(names)], rng)
            yield content, watched.decode(content, name)
    finally:
        watched.stop()


class Watched:
    """A process that decodes what it is sent; a new one is started where the last one did not live."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def decode(self, content: bytes, name: str) -> Result:
        """Decode one file over there."""
        process = self.process = self.process or self._start()
        assert process.stdin
        assert process.stdout
        started = time.perf_counter()
        try:
            process.stdin.write(struct.pack("<I", len(content)) + content)
            process.stdin.flush()
        except BrokenPipeError:
            return self._crashed(name, started)
        if not select.select([process.stdout], [], [], MOST_SECONDS)[0]:
            self.stop()
            return Result(name, "hang", f"no answer in {MOST_SECONDS:.0f} s", MOST_SECONDS, 0)
        head = process.stdout.read(16)
        seconds = time.perf_counter() - started
        if len(head) < 16:
            return self._crashed(name, started)
        outcome, length, peak = struct.unpack("<IIQ", head)
        said = process.stdout.read(length).decode()
        if peak > MOST_BYTES:
            self.stop()  # the highest mark of a process never falls
            return Result(name, "memory", f"{peak / 1e6:.0f} MB: {said}", seconds, peak)
        kinds: tuple[Outcome, ...] = ("pixels", "refused", "exception")
        return Result(name, kinds[outcome], said, seconds, peak)

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout
        if not process.stdout.read(1):  # what it sends once it has imported what it needs
            raise RuntimeError("the decoding process does not start")
        return process

    def _crashed(self, name: str, started: float) -> Result:
        assert self.process
        code = self.process.wait()
        self.stop()
        return Result(name, "crash", f"exit code {code}", time.perf_counter() - started, 0)

    def stop(self) -> None:
        """End the process."""
        if self.process:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(OSError):
                    if pipe:
                        pipe.close()
            self.process = None


def work() -> None:
    """Decode what comes in, and answer with the outcome, the highest memory so far, and a sentence."""
    from panderm.data.images import ImageError, open_stored

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (8 * MOST_BYTES, 8 * MOST_BYTES))  # the machine is not to suffer
    answers = sys.stdout.buffer
    answers.write(b".")
    answers.flush()
    while head := sys.stdin.buffer.read(4):
        content = sys.stdin.buffer.read(*struct.unpack("<I", head))
        try:
            rgb, stored = open_stored(content, "mutated")
            right = rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.size
            outcome, said = (0, f"{stored}") if right else (2, f"{rgb.dtype} {rgb.shape}")
        except ImageError as error:
            outcome, said = 1, error.reason
        except BaseException as error:
            outcome, said = 2, repr(error)
        text = said.encode()
        peak = _peak_of_all()
        answers.write(struct.pack("<IIQ", outcome, len(text), peak) + text)
        answers.flush()


def _peak_of_all() -> int:
    """Return the highest resident memory that this process and those it has started have had, bytes."""
    # Of this process not ru_maxrss: it begins with what the process that started it held.
    mine = _peak("self")
    ended = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    living = []
    for children in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread or a process that has just ended
            for pid in children.read_text().split():
                living.append(_peak(pid))
    return 1024 * (mine + max([ended, *living]))


def _peak(pid: str) -> int:
    marks = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(marks[1]) if marks else 0


def mutated(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Return a file with one to three mutations."""
    out = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 3])):
        if rng.random() < 0.125:
            _splice(out, other, rng)
        else:
            rng.choice([_flip, _overwrite, _cut, _repeat, _drop, _extreme, _extreme])(out, rng)
        if len(out) < 2:
            break
    mend = content.startswith(b"\x89PNG") and rng.random() < 0.5
    return _with_check_sums(bytes(out)) if mend else bytes(out)


def _place(out: bytearray, rng: random.Random) -> int:
    """Return a place in the file, in its first bytes as often as not: there lie the sizes and lengths."""
    return rng.randrange(min(len(out), 600) if rng.random() < 0.5 else len(out))


def _flip(out: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 2, 8, 64])):
        out[_place(out, rng)] ^= 1 << rng.randrange(8)


def _overwrite(out: bytearray, rng: random.Random) -> None:
    at, n = _place(out, rng), rng.choice([1, 2, 4, 16, 64])
    out[at : at + n] = rng.choice([bytes(n), b"\xff" * n, rng.randbytes(n)])[: len(out) - at]


def _cut(out: bytearray, rng: random.Random) -> None:
    del out[rng.randrange(1, len(out)) :]


def _splice(out: bytearray, other: bytes, rng: random.Random) -> None:
    at, start = _place(out, rng), rng.randrange(len(other))
    piece = other[start : start + rng.choice([4, 64, 1024, 65536])]
    out[at : at + rng.choice([0, len(piece)])] = piece


def _repeat(out: bytearray, rng: random.Random) -> None:
    at, n = _place(out, rng), rng.choice([4, 32, 512])
    out[at:at] = out[at : at + n] * rng.choice([1, 2, 50])


def _drop(out: bytearray, rng: random.Random) -> None:
    at = _place(out, rng)
    del out[at : at + rng.choice([1, 4, 32, 512])]


def _extreme(out: bytearray, rng: random.Random) -> None:
    size, order = rng.choice([1, 2, 4, 4]), rng.choice(["big", "little"])
    at = _place(out, rng)
    if at + size > len(out):
        return
    now = int.from_bytes(out[at : at + size], order)  # type: ignore[arg-type]
    most = 256**size - 1
    value = rng.choice(
        [0, 1, most, most // 2, most // 2 + 1, now + 1, now - 1, now * 2, now * 256, now // 2, 16384, 60000]
    )
    out[at : at + size] = (value & most).to_bytes(size, order)  # type: ignore[arg-type]


def _with_check_sums(content: bytes) -> bytes:
    """Mend the check sums of a PNG's chunks, so that what is behind them is reached."""
    out, at = bytearray(content), 8
    while at + 12 <= len(out):
        length = int.from_bytes(out[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(out):
            break
        out[end : end + 4] = struct.pack(">I", zlib.crc32(bytes(out[at + 4 : end])))
        at = end + 4
    return bytes(out)


def real(folders: list[Path], seed: int, each: int = 40) -> dict[str, bytes]:
    """Return some files of every folder, drawn by the seed."""
    files = {}
    for folder in folders:
        paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size < 2_000_000)
        for path in random.Random(seed).sample(paths, min(each, len(paths))):
            files[f"real {path.suffix.lower().lstrip('.')}/{path.name}"] = path.read_bytes()
    return files


if __name__ == "__main__":
    if sys.argv[1:] == ["--worker"]:
        work()
    else:
        sys.exit(main())
