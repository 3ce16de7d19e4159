"""A small, repeatable run of benchmarks/fuzz_decoder.py: mutated files are pixels or a reason."""

from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from panderm.data.images import ImageError, open_stored

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux tells it")
def test_mutated_files_are_pixels_or_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import fuzz_decoder

    monkeypatch.setattr(fuzz_decoder, "MOST_SECONDS", 60.0)  # a busy machine is no hang
    files = fuzz_decoder.drawn()
    results = [result for _, result in fuzz_decoder.fuzz(files, 150, seed=3)]
    bad = [result for result in results if result.outcome not in ("pixels", "refused")]
    assert not bad, bad
    outcomes = Counter(result.outcome for result in results)
    assert outcomes["pixels"] >= 20
    assert outcomes["refused"] >= 50
    assert {result.name.split("/")[0] for result in results} == {name.split("/")[0] for name in files}


def test_the_run_sees_what_it_looks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that dies, hangs, grows or raises is found out: the watch itself works."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import fuzz_decoder

    bodies = {
        "crash": "os.abort()",
        "hang": "time.sleep(60)",
        "memory": "answer(0, 1_500_000_000)",
        "exception": "answer(2, 1)",
    }
    monkeypatch.setattr(fuzz_decoder, "MOST_SECONDS", 1.0)
    for wanted, body in bodies.items():
        program = (
            "import os, struct, sys, time\n"
            "def answer(outcome, peak):\n"
            "    out = sys.stdout.buffer; out.write(struct.pack('<IIQ', outcome, 0, peak)); out.flush()\n"
            "sys.stdout.buffer.write(b'.'); sys.stdout.buffer.flush()\n"
            "sys.stdin.buffer.read(5)\n" + body
        )
        monkeypatch.setattr(fuzz_decoder, "WORKER", [sys.executable, "-c", program])
        watched = fuzz_decoder.Watched()
        assert watched.decode(b"x", "a/b").outcome == wanted
        watched.stop()


def test_threads_decode_every_kind_as_one_thread_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder runs in pools of threads: no codec may mix up two pictures."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from drawn_files import drawn

    def outcome(content: bytes) -> tuple[bytes, object]:
        try:
            rgb, stored = open_stored(content, "a")
        except ImageError as error:
            return b"", error.reason
        return rgb.tobytes(), stored

    contents = list(drawn().values())
    alone = [outcome(content) for content in contents]
    assert sum(not isinstance(said, str) for _, said in alone) > 50, "all but the films are pictures"
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(outcome, contents * 2)) == alone * 2
