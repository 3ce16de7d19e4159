"""A benchmark: every cell once, the same numbers as by hand, and nothing lost when it is stopped."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import panderm
from panderm.benches import cells, reproduced
from panderm.benches.benchmark import Benchmark
from panderm.benches.files import table_latex, table_markdown
from panderm.benches.published import Number, PublishedDataset, PublishedSplit
from panderm.cli import app
from panderm.errors import ArtifactError, PandermError, UsageError
from panderm.predictions import open_predictions
from panderm.scores import differences, evaluate
from panderm.scores.paired_test import paired_test
from panderm.statistics.holm import holm

AWKWARD = r"a_b & 50 % | $x$ #1 {y} ~^\ <i>"
LOG: list[str] = []


class ColourMeans(torch.nn.Module):
    """Mean colours of a side × side grid, repeated or cut to 192 numbers an image; no time at all."""

    def __init__(self, side: int, name: str) -> None:
        super().__init__()
        self.side, self.name = side, name

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        LOG.append(self.name)
        means = torch.nn.functional.adaptive_avg_pool2d(pixels, self.side).flatten(1)
        return means.repeat(1, -(-192 // means.shape[1]))[:, :192]


class Shelf:
    """Stands for load_encoder: small networks by name; ``versions`` says which weights each has."""

    def __init__(self) -> None:
        self.eye = panderm.load_encoder("random-tiny")
        self.versions: dict[str, str] = {}

    def load(self, name: str | None, **_: Any) -> panderm.Encoder:
        sides = {"coarse": 1, "fine": 8, "middling": 4}
        if name not in sides:
            raise UsageError(f"{name} needs its weights file.", "found none", "panderm models pull it")
        said = self.versions.get(name, name).encode().hex()
        record = self.eye.record.model_copy(
            update={"name": name, "weights_sha256": f"{said:0<64}", "random": False}
        )
        network = ColourMeans(sides[name], name)
        return panderm.Encoder(network, self.eye.preprocess, record, self.eye.account, self.eye.device)


def draw(folder: Path, classes: str, seed: int) -> None:
    """Write 48 small images of 24 patients, lighter or darker by class, and their table."""
    folder.mkdir(parents=True)
    rng, rows = np.random.default_rng(seed), []
    for i in range(48):
        label = classes[(i // 2) % len(classes)]
        light = 90 + 40 * classes.index(label) + 30 * rng.normal()
        pixels = np.clip(rng.normal(light, 40, (24, 32, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
        split = ("train", "test", "train", "test", "val", "train", "test")[(i // 2) % 7]
        rows.append({"image": f"{i:02d}.png", "split": split, "label": label, "patient": f"p{i // 2}"})
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)


def ask(desk: Path, **others: Any) -> Benchmark:
    """Run the benchmark of a desk."""
    given = {"tables": "tables.csv", "encoders": "encoders.csv", "out": "bench", "draws": 60}
    given |= {"permutations": 99, "progress": False, **others}
    for name in ("tables", "encoders", "out", "data"):
        if given.get(name) is not None:
            given[name] = desk / str(given[name])
    return panderm.benchmark(**given)


def write(desk: Path, name: str, rows: list[dict[str, str]]) -> None:
    pd.DataFrame(rows).fillna("").to_csv(desk / name, index=False)


@pytest.fixture(scope="module")
def shelf() -> Iterator[Shelf]:
    shelf = Shelf()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "load_encoder", shelf.load)
        yield shelf


@pytest.fixture(scope="module")
def first(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Benchmark]:
    """A desk with two datasets and three encoders, and its benchmark: read it, do not change it."""
    desk = tmp_path_factory.mktemp("desk")
    draw(desk / "two", "ab", 0)
    draw(desk / "three", "abc", 1)
    write(
        desk,
        "tables.csv",
        [{"name": "two", "csv": "two/table.csv"}, {"name": AWKWARD, "csv": "three/table.csv"}],
    )
    write(desk, "encoders.csv", [{"name": n, "encoder": n} for n in ("coarse", "fine", "middling")])
    return desk, ask(desk)


@pytest.fixture
def desk(first: tuple[Path, Benchmark], tmp_path: Path) -> Path:
    """A copy of that desk, of one's own."""
    shutil.copytree(first[0], tmp_path / "desk")
    LOG.clear()
    return tmp_path / "desk"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was computed: probes and evaluations, in their order."""
    done: list[str] = []

    def count(name: str) -> None:
        own = getattr(cells, name)
        monkeypatch.setattr(cells, name, lambda *a, **k: (done.append(name), own(*a, **k))[1])

    count("probe")
    count("score_rows")
    return done


def read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


# --- the numbers ---


def test_every_number_is_the_one_made_by_hand(first: tuple[Path, Benchmark]) -> None:
    desk, done = first
    assert [column.score for column in done.columns] == ["auroc", "weighted_f1"]
    p_values = []
    for column in done.columns:
        folder = next(
            p for p in (desk / "bench/cells").iterdir() if (p.name == "two") == (column.dataset == "two")
        )
        held = [open_predictions(folder / name / "probe.pred") for name in done.encoders]
        for i, one in enumerate(held):
            alone = evaluate(one, draws=60, progress=False)
            assert column.value(i) == alone.scores[column.score or ""]
            assert alone.unit == "patient"
        apart = differences(held, draws=60)
        for i, one in enumerate(o for o in done.comparisons if o.dataset == column.dataset):
            assert one.test is not None
            assert one.test.difference == apart[i][column.score or ""]
            assert one.test == paired_test(held[0], held[i + 1], one.test.score, draws=60, permutations=99)
            p_values.append(one.test.p)
        values = [column.value(i).value or 0 for i in range(3)]
        best, second = sorted(range(3), key=lambda i: -values[i])[:2]
        low = paired_test(
            held[second], held[best], column.score or "", draws=60, permutations=9
        ).difference.low
        assert column.best == (done.encoders[best] if low and low > 0 else None)
    assert [one.corrected for one in done.comparisons] == pytest.approx(holm(p_values))
    rows = read(desk / "bench/cells.csv")
    shown = [row for row in rows if row["shown"] == "yes"]
    assert len(shown) == 6
    assert float(shown[0]["value"]) == done.columns[0].value(0).value
    assert {row["seed"] for row in rows} == {"0"}
    assert len(read(desk / "bench/comparisons.csv")) == 4


def test_names_are_escaped_and_the_latex_table_is_whole(first: tuple[Path, Benchmark]) -> None:
    desk, done = first
    text = table_latex(done)
    assert text == (desk / "bench/table.tex").read_text("utf-8")
    bare = re.sub(r"\\[&%$#_{}]", "", text.split("\n", 1)[1])  # without the comment
    assert bare.count("{") == bare.count("}")
    assert not set(re.sub(r"\\\\\n|[a-z0-9]+:[a-z]+", "", bare)) & set('$#_~^<>|"')
    assert "%" not in bare
    for table in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", bare, re.S):
        lines = [line for line in table[1].splitlines() if line.endswith(r"\\")]
        assert {line.count("&") for line in lines} == {len(table[0]) - 1}
    for environment in ("table", "tabular"):
        assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") == 2
    markdown = [line for line in table_markdown(done).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in markdown} == {5, 6}
    page = (desk / "bench/benchmark.html").read_text("utf-8")
    assert "&lt;i&gt;" in page
    assert "<i>" not in page
    assert not re.search(r"(src|href)=\"(?!#|data:)", page)
    assert (desk / "bench/methods.txt").read_text("utf-8").strip() in page.replace("&#39;", "'").replace(
        "&amp;", "&"
    ).replace("&lt;", "<").replace("&gt;", ">")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_the_latex_table_compiles(first: tuple[Path, Benchmark], tmp_path: Path) -> None:
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs}\begin{document}"
    body = head + table_latex(first[1]) + r"\end{document}"
    (tmp_path / "t.tex").write_text(body, encoding="utf-8")
    subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True, capture_output=True)


# --- what is kept ---


def test_only_what_depends_on_a_change_is_made_again(
    desk: Path, shelf: Shelf, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (desk / "bench/cells.csv").read_text("utf-8")
    with pytest.raises(ArtifactError, match="must not exist"):
        ask(desk)
    ask(desk, overwrite=True)
    assert (LOG, counted) == ([], [])
    assert (desk / "bench/cells.csv").read_text("utf-8") == before

    ask(desk, overwrite=True, draws=61)
    assert (LOG, counted) == ([], ["score_rows"] * 6)
    counted.clear()

    monkeypatch.setitem(shelf.versions, "fine", "other weights")
    ask(desk, overwrite=True, draws=61)
    assert (set(LOG), counted) == ({"fine"}, ["probe", "score_rows"] * 2)
    LOG.clear()
    counted.clear()

    rows = pd.read_csv(desk / "two/table.csv", dtype=str)
    rows.loc[rows["split"] == "val", "split"] = "train"
    rows.to_csv(desk / "two/table.csv", index=False)
    ask(desk, overwrite=True, draws=61)
    assert (LOG, counted) == ([], ["probe", "score_rows"] * 3)  # the same images: their vectors are kept


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_benchmark as tests
from panderm.benches import cells
cells.load_encoder = tests.Shelf().load
own, made = cells.write_json, []
def write_json(file, *args, **kwargs):
    made.append(file)
    if len(made) == 3:
        os.kill(os.getpid(), signal.SIGKILL)  # after its predictions, before they are known to be whole
    own(file, *args, **kwargs)
cells.write_json = write_json
tests.ask(Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_and_gives_the_same(
    first: tuple[Path, Benchmark], desk: Path, counted: list[str]
) -> None:
    shutil.rmtree(desk / "bench")
    arguments = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(desk)]
    killed = subprocess.run(
        arguments, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (desk / "bench/benchmark.html").exists()
    ask(desk)  # no --overwrite: it was never finished
    assert counted.count("probe") == 4
    assert "coarse" not in LOG
    for name in ("cells.csv", "comparisons.csv", "table.md"):
        assert (desk / "bench" / name).read_text() == (first[0] / "bench" / name).read_text()


# --- cells that fail ---


def test_a_cell_that_fails_says_why_and_the_rest_goes_on(desk: Path) -> None:
    draw(desk / "one", "aa", 2)
    draw(desk / "broken", "ab", 3)
    (desk / "broken/07.png").write_bytes(b"no image")
    held = str(next((desk / "bench/embeddings/two").glob("fine.emb")))
    write(
        desk,
        "tables.csv",
        [
            {"name": "two", "csv": "two/table.csv"},
            {"name": "one class", "csv": "one/table.csv"},
            {"name": "broken", "csv": "broken/table.csv"},
            {"name": "absent", "csv": "absent.csv"},
            {"name": "kept", "csv": "two/table.csv", "embeddings": held.replace("fine", "{encoder}")},
            {"name": "not its own", "csv": "two/table.csv", "embeddings": held},
        ],
    )
    write(desk, "encoders.csv", [{"name": n, "encoder": n} for n in ("coarse", "fine", "panderm-large")])
    words = (
        f"benchmark --tables {desk}/tables.csv --encoders {desk}/encoders.csv --out {desk}/new -q --draws 60"
    )
    told = CliRunner().invoke(app, [*words.split(), "--permutations", "99", "--json"])
    assert told.exit_code == 1, told.output
    problems = {
        (dataset["name"], cell["encoder"]): cell["problem"]
        for dataset in json.loads(told.stdout)["datasets"]
        for cell in dataset["cells"]
    }
    made = {key for key, problem in problems.items() if problem is None}
    whole = {
        ("two", "coarse"),
        ("two", "fine"),
        ("kept", "coarse"),
        ("kept", "fine"),
        ("not its own", "fine"),
    }
    assert made == whole
    for key, said in {
        ("two", "panderm-large"): "needs its weights file",
        ("one class", "fine"): "at least two classes",
        ("broken", "fine"): "07.png",
        ("absent", "coarse"): "absent.csv",
        ("not its own", "coarse"): "one encoder",
    }.items():
        assert said in str(problems[key]), (key, problems[key])
    assert not (desk / "new/embeddings/kept").exists()
    rows = read(desk / "new/cells.csv")
    assert {(r["dataset"], r["encoder"]) for r in rows if not r["score"]} == set(problems) - made
    assert "weights file" in (desk / "new/benchmark.html").read_text("utf-8")
    # One problem of many cells is told once.
    table = (desk / "new/table.md").read_text("utf-8")
    assert table.count("needs its weights file") == 1
    assert "broken × coarse, fine, panderm-large: every row must have" in table


@pytest.mark.parametrize(
    ("tables", "encoders", "others", "words"),
    [
        ([{"name": "x", "csvv": "a"}], None, {}, "'csvv' is none of its columns; did you mean 'csv'?"),
        ([{"csv": "a"}], None, {}, "column 'name' is missing"),
        ([{"name": "x"}], None, {}, "neither csv nor embeddings"),
        ([{"name": "x/y", "csv": "a"}, {"name": "X y", "csv": "a"}], None, {}, "'x/y' and 'X y'"),
        ([{"name": "x", "csv": "a", "skip_bad": "y"}], None, {}, "skip_bad must be one of yes, no"),
        (None, [{"name": "x", "encoder": "fine", "pool": "men"}], {}, "did you mean 'mean'?"),
        (None, [{"name": "x", "encoder": "fine", "image_size": "big"}], {}, "a whole number of pixels"),
        (None, [{"name": n, "encoder": "fine"} for n in "xy"], {}, "x and y are the same"),
        (None, None, {"reference": "fin"}, "did you mean 'fine'?"),
        (None, None, {"score": "auc"}, "did you mean 'auroc'?"),
        (None, None, {"out": "two"}, "holds other files"),
        (None, None, {"encoders": None}, "one of them is missing"),
        (None, None, {"data": "two"}, "--data goes with --published"),
    ],
)
def test_what_cannot_be_asked_is_said_at_once(
    desk: Path, tables: Any, encoders: Any, others: dict[str, Any], words: str
) -> None:
    for name, rows in (("tables.csv", tables), ("encoders.csv", encoders)):
        if rows is not None:
            write(desk, name, rows)
    with pytest.raises(PandermError) as caught:
        ask(desk, **{"out": "new", **others})
    assert words in str(caught.value)
    assert not LOG


# --- the published evaluation ---


def test_ours_stands_beside_the_published_number_of_the_same_rows_only(
    desk: Path, first: tuple[Path, Benchmark], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = first[1].columns[0].value(0).value or 0
    rows = pd.read_csv(desk / "two/table.csv", dtype=str)
    by = {s: rows[rows["split"] == s]["label"].value_counts() for s in ("train", "test")}
    split = PublishedSplit(
        "clean",
        "log",
        rows={name: int(n.sum()) for name, n in by.items()},
        per_class={name: (int(n["a"]), int(n["b"])) for name, n in by.items()},
        numbers=(Number("coarse", "auroc", ours, "log"), Number("fine", "auroc", 0.001, "log")),
    )
    known = PublishedDataset("two", "two", "drawn", 2, 48, "two.csv", ("a", "b"), splits=(split,))
    monkeypatch.setattr(reproduced, "NINE", (known,))
    given = {"tables": None, "data": ".", "published": True, "kind": "linear", "recipe": "tuned"}
    write(desk, "encoders.csv", [{"name": n, "encoder": n} for n in ("coarse", "fine")])
    done = ask(desk, out="same", **given)
    assert {(one.encoder, one.difference == 0, one.inside) for one in done.reproduced} == {
        ("coarse", True, True),
        ("fine", False, False),
    }
    text = (desk / "same/published.csv").read_text("utf-8")
    assert text.count("\n") == 3
    at = rows.index[rows["split"] == "test"][0]
    rows.loc[at, "label"] = "ba"[rows["label"][at] == "b"]
    rows.to_csv(desk / "two/table.csv", index=False)
    looked = reproduced.look(data=desk)[0]
    assert looked.split is None
    assert any(line.startswith("test:") for line in looked.differences)
    done = ask(desk, out="other", **given)
    assert {one.ours for one in done.reproduced} == {None}
    assert "not the published split" in done.reproduced[0].why_not


def test_ham10000_without_its_test_part_is_found_and_not_compared(shared: Path) -> None:
    looked = {one.published.name: one for one in reproduced.look(data=shared / "data")}
    ham = looked["ham10000"]
    assert ham.asked is not None
    assert ham.split is None
    assert "no test rows" in ham.why_not
    assert any("8,208" in line and "8,207" in line for line in ham.differences)
    assert looked["patch16"].asked is None


def test_looking_ends_with_0_and_something_missing_with_1(tmp_path: Path) -> None:
    listed = CliRunner().invoke(app, ["benchmark", "--published", "--list", "--json"])
    assert listed.exit_code == 0
    told = json.loads(listed.stdout)
    assert len(told["published"]) == 9
    assert "panderm models pull panderm-large" in told["weights_missing"]
    asked = CliRunner().invoke(app, ["benchmark", "--published", "--data", str(tmp_path)])
    assert asked.exit_code == 1
    assert "panderm data show patch16" in asked.output
    assert CliRunner().invoke(app, ["benchmark", "--list"]).exit_code == 2
