"""Fixtures every room shares: a drawn world, and the real data where they are at hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache as once
from html import escape
from pathlib import Path

import pytest
import typer.testing

# ONNX Runtime reports its use to its maker unless it is told not to before it is opened.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# Two processes share the cores already (make test): more threads in each would only wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    # numba, once it starts, tells OpenMP, and so torch, to have as many threads as it has.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"

    # What a test forks must not hold the worker's pipes: the run would not notice that the worker has died.
    FDS = [p for p in Path("/proc/self/fd").glob("*") if int(p.name) > 2 and os.path.lexists(p)]
    PIPES = [int(p.name) for p in FDS if str(p.readlink()).startswith("pipe:")]

    def let_go() -> None:
        nothing = os.open(os.devnull, os.O_RDWR)
        for pipe in PIPES:
            os.dup2(nothing, pipe, inheritable=False)
        os.close(nothing)

    os.register_at_fork(after_in_child=let_go)

import panderm
from panderm.data.drawn import DrawnWorld, draw_world

# One tree of commands serves every call: making it takes longer than many a verb.
typer.testing._get_command = once(typer.testing._get_command)  # type: ignore[attr-defined]

SHARED = Path(os.environ.get("PANDERM_SHARED", Path(__file__).resolve().parents[2] / "shared"))
GOLDEN = Path(__file__).parent / "golden"
# A file is one process's: the longest come first, so that no process is left alone with one at the end.
LONGEST = (
    "test_docs.py",
    "test_ranks.py",
    "test_journeys.py",
    "test_unkillable.py",
    "test_several_encoders.py",
    "test_long.py",
    "test_notebook.py",
    "test_accessible.py",
    "test_export.py",
    "test_openvino.py",
    "test_finetune.py",
    "test_train_segmenter.py",
    "test_benchmark.py",
    "test_hostile.py",
    "test_pretrain.py",
    "test_long_together.py",
    "test_feed.py",
    "test_columns.py",
    "test_wrong_input.py",
    "test_offline.py",
    "test_sealed.py",
    "test_tokens.py",
    "test_map.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


class Loud:
    """Names a failed test when it fails, not only at the end: a run may be cut off before its summary."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(f"FAILED {report.nodeid} ({report.when})", flush=True)


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        config.pluginmanager.register(Loud(config))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the tests' own: nothing of theirs is left in the user's, and nothing found in it."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> DrawnWorld:
    """A drawn world of 90 small images: read it, do not change it."""
    return draw_world(tmp_path_factory.mktemp("drawn") / "world", n=90, size=(120, 90))


@pytest.fixture(scope="session")
def table(world: DrawnWorld) -> panderm.Table:
    return panderm.read_table(world.csv, images=world.images, progress=False)


@pytest.fixture(scope="session")
def encoder() -> panderm.Encoder:
    return panderm.load_encoder("random-tiny")


@pytest.fixture(scope="session")
def embeddings(
    encoder: panderm.Encoder, table: panderm.Table, tmp_path_factory: pytest.TempPathFactory
) -> panderm.Embeddings:
    """The drawn world's embeddings, on disk."""
    return encoder.embed(table, tmp_path_factory.mktemp("embedded") / "world.emb", progress=False)


def _no_figure(draw: object, *, name: str, title: str, description: str) -> str:
    return f'<svg role="img" style="--natural: 400px"><title>{escape(title)}</title></svg>'


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without curves and matrices, half of what a page takes: tests/report draws and reads them."""
    for module in ("bands", "figures", "label_figures", "overlays"):
        monkeypatch.setattr(f"panderm.report.drawing.{module}.to_svg", _no_figure)


@pytest.fixture
def shared() -> Path:
    """The folder of real data, or a skip that says so."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no real data: {SHARED} is not there (set PANDERM_SHARED)")
    return SHARED
