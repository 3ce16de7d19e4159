"""The decoders' own process: it may die, be late, be asked by many; the caller only reads a reason."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pillow_heif
import pytest

from panderm.data import apart
from panderm.data.images import ImageError, decode


def heic(value: int) -> bytes:
    file = pillow_heif.from_bytes("RGB", (64, 48), bytes([value]) * 64 * 48 * 3)
    target = io.BytesIO()
    file.save(target, quality=90)
    return target.getvalue()


@pytest.fixture
def no_children() -> Iterator[None]:
    """Neither one of another test before, nor one of this test after."""
    apart._end_all()
    yield
    apart._end_all()


def test_a_decoder_that_dies_costs_its_picture_only(
    no_children: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(apart, "_START", "import os, sys; sys.stdin.buffer.read(40); os.abort()")
        with pytest.raises(ImageError) as caught:
            decode(heic(90), "a.heic")
        assert caught.value.reason == "damaged (the HEIC decoder crashed on it)"
    assert apart._idle == []
    assert np.abs(decode(heic(90), "a.heic").astype(int) - 90).max() <= 2


def test_a_decoder_that_lost_its_way_is_ended(no_children: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "_START", "import time; time.sleep(100)")
    monkeypatch.setattr(apart, "_MOST_SECONDS", 0.3)
    with pytest.raises(ImageError) as caught:
        decode(heic(90), "a.heic")
    assert caught.value.reason == "damaged (the HEIC decoder took longer than two minutes)"


def test_one_that_died_between_two_pictures_is_replaced(no_children: None) -> None:
    decode(heic(90), "a.heic")
    (child,) = apart._idle
    child.process.kill()
    child.process.wait()
    assert np.abs(decode(heic(40), "a.heic").astype(int) - 40).max() <= 2
    assert apart._idle[0].process.pid != child.process.pid


def test_a_refusal_does_not_cost_the_process(no_children: None) -> None:
    decode(heic(90), "a.heic")
    first = apart._idle[0].process.pid
    for content, why in ((heic(90)[:-200], "damaged"), (heic(90), "more than 0.001 million pixels")):
        with pytest.raises(ImageError) as caught:
            decode(content, "a.heic", max_megapixels=0.001 if why.startswith("more") else 1)
        assert caught.value.reason.startswith(why)
    assert [child.process.pid for child in apart._idle] == [first]


def test_many_threads_get_each_their_own_picture(no_children: None) -> None:
    contents = [heic(10 * k) for k in range(20)]
    with ThreadPoolExecutor(3) as pool:
        for k, rgb in enumerate(pool.map(lambda content: decode(content, "a.heic"), contents * 2)):
            assert np.abs(rgb.astype(int) - 10 * (k % 20)).max() <= 3
    assert len(apart._idle) <= 3


@pytest.mark.skipif(os.name != "posix", reason="asks whether a process lives by a signal")
def test_children_end_with_their_parent(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(heic(90))
    program = (
        "import sys; sys.path[:] = "
        + json.dumps(sys.path)
        + "; import panderm; from panderm.data import apart; "
        f"panderm.read_image({str(tmp_path / 'a.heic')!r}); print(apart._idle[0].process.pid)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)
