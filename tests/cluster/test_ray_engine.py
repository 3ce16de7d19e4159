"""Embedding on Ray, on an instance of this machine: the store is that of one process, to the last byte."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import panderm
from panderm.cluster.ray_engine import embed_with_ray
from panderm.cluster.session import _require_answer, require_ray, session
from panderm.errors import TableError, UsageError

LOAD = {"name": "random-tiny"}
IMAGES = 24
BAD = "08.png"


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    """One instance for all tests here; a verb that finds it leaves it running."""
    with session(None, cpus=1):
        yield


@pytest.fixture(scope="module")
def skin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with skin.csv and 24 images, of which one looks whole and is not."""
    folder = tmp_path_factory.mktemp("skin")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(IMAGES):
        name = f"{i:02d}.{'jpg' if i % 2 else 'png'}"
        small = rng.integers(40, 220, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((80, 60), Image.Resampling.BICUBIC).save(folder / name)
        rows.append({"image": name, "split": ("train", "val", "test")[i % 3], "label": "ab"[i % 2]})
    spoilt = bytearray((folder / BAD).read_bytes())
    spoilt[41:-64] = b"\xff" * (len(spoilt) - 105)
    (folder / BAD).write_bytes(spoilt)
    pd.DataFrame(rows).to_csv(folder / "skin.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def plain(skin: Path, tmp_path_factory: pytest.TempPathFactory) -> panderm.Embeddings:
    """The same embeddings by one process, with as many threads as the actor has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        table = panderm.read_table(skin / "skin.csv", decode=False, progress=False)
        assert len(table) == IMAGES, "the bad image must look whole"
        out = tmp_path_factory.mktemp("plain") / "skin.emb"
        eye = panderm.load_encoder("random-tiny")
        return eye.embed(table, out, batch_size=4, skip_bad=True, progress=False)
    finally:
        torch.set_num_threads(threads)


def parts(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.rglob("*.parquet"))}


def encoders(below: int) -> list[int]:
    """Return the processes that hold an encoder and were started by Ray for a process."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                names[int(entry.name)] = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])

    def ours(process: int) -> bool:
        return process == below or (process in parents and ours(parents[process]))

    return [
        process for process, name in names.items() if name.startswith(b"ray::MapWorker") and ours(process)
    ]


@pytest.mark.slow
def test_killed_resumed_and_with_a_bad_image_it_is_the_store_of_one_process(
    skin: Path, plain: panderm.Embeddings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ray.emb"
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while not killed and not over.is_set():
            if list((out / "made").glob("*.parquet")):
                for process in encoders(os.getpid())[:1]:
                    os.kill(process, signal.SIGKILL)
                    killed.append(process)
            time.sleep(0.002)

    hand = threading.Thread(target=kill)
    hand.start()
    try:
        with pytest.raises(TableError, match="every row must have") as caught:
            embed_with_ray(skin / "skin.csv", out, load=LOAD, batch_size=4, progress=False)
    finally:
        over.set()
        hand.join()
    assert killed, "no encoder was found to be killed"
    assert len(caught.value.found) == 2
    assert caught.value.found[1].startswith(f"row 10: {BAD}: damaged")
    made = sorted((out / "made").glob("*.parquet"))
    assert len(made) == IMAGES // 4, "a unit that was repeated has one shard"
    assert not panderm.open_embeddings(out, partial=True).card.complete

    made[1].unlink()  # as if the run had been stopped before it
    done = embed_with_ray(skin / "skin.csv", out, load=LOAD, skip_bad=True, progress=False)
    assert done.told.embedded == 4
    assert [bad.image for bad in done.embeddings.card.table.skipped] == [BAD]
    assert plain.path is not None
    assert parts(out) == parts(plain.path)
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in plain.path.iterdir())
    ours, theirs = done.embeddings.card, plain.card
    assert ours.identity == theirs.identity
    left_out = {"provenance", "images_per_second"}
    assert ours.model_dump(exclude=left_out) == theirs.model_dump(exclude=left_out)
    assert capfd.readouterr().out == "", "what Ray has to say spoils no JSON"


def test_ray_is_alone_on_this_machine_and_reports_to_nobody() -> None:
    import ray
    from ray._common.usage.usage_lib import usage_stats_enabled

    assert ray.util.get_node_ip_address() == "127.0.0.1"
    assert not usage_stats_enabled()
    assert "RAY_AUTH_TOKEN" in os.environ, "nobody without the token of this run"


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError) as caught:
        require_ray()
    assert str(caught.value).startswith("--engine ray needs Ray.")
    assert caught.value.hint == "install it with: pip install 'panderm[ray]'"


def test_an_address_where_nobody_listens_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        with pytest.raises(UsageError, match="that of a Ray cluster") as caught:
            _require_answer(address)
        assert caught.value.found[0].startswith(f"{address}: ")
    _require_answer("auto")
