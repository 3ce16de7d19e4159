"""The starter notebook runs from top to bottom, and again, warns of nothing, and does what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import panderm

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs/notebooks/first_steps.ipynb"
MISSING = [name for name in ("nbclient", "nbformat", "ipykernel") if find_spec(name) is None]


# One kernel for both runs: the second is to meet the files of the first. Its world is of small images, and
# its map that of a machine without umap-learn: tests/report/test_map.py holds UMAP, which takes longer than
# all the rest.
EXECUTE = """
import json, sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

notebook, folder, made = sys.argv[1:]
read = nbformat.read(notebook, as_version=4)
code = [cell for cell in read["cells"] if cell["cell_type"] == "code"]
first = next(cell for cell in code if "import panderm" in cell["source"])
first["source"] += "\\n\\nfrom functools import partial\\n"
first["source"] += "panderm.draw_world = partial(panderm.draw_world, size=(160, 120))\\n"
first["source"] += "find_spec = {}.get"
where = {"metadata": {"path": folder}}
client = NotebookClient(read, timeout=250, kernel_name="python3", resources=where)
with client.setup_kernel():
    for name in ("first", "again"):
        for index, cell in enumerate(read["cells"]):
            client.execute_cell(cell, index)
        Path(made, name + ".json").write_text(json.dumps(read), "utf-8")
"""


class Executed(NamedTuple):
    """The notebook with its outputs of two runs in one folder."""

    first: Any
    again: Any
    folder: Path


def of_kind(notebook: Any, kind: str) -> list[Any]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def as_text(lines: str | list[str]) -> str:
    """Return text that a notebook file keeps as lines."""
    return lines if isinstance(lines, str) else "".join(lines)


def shown(cell: Any, *streams: str) -> str:
    """Return what a cell wrote to these streams; of ``result`` what it showed as text."""
    texts = []
    for output in cell["outputs"]:
        if output["output_type"] == "stream" and output["name"] in streams:
            texts.append(output["text"])
        elif "data" in output and "result" in streams:
            texts.append(output["data"].get("text/plain", ""))
    return "".join(texts)


def of_cell(notebook: Any, words: str) -> str:
    """Return what the one cell with these words in its source showed."""
    (cell,) = (cell for cell in of_kind(notebook, "code") if words in cell["source"])
    return shown(cell, "stdout", "result")


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Executed:
    if MISSING:
        pytest.skip(f"not installed, and needed to run the notebook: {', '.join(MISSING)}")
    folder = tmp_path_factory.mktemp("notebook")
    made = tmp_path_factory.mktemp("executed")
    # In a process of its own, as a user's Jupyter is: what other tests have loaded is not beside it.
    # One thread: more would only wait for the other tests.
    command = [sys.executable, "-c", EXECUTE, str(NOTEBOOK), str(folder), str(made)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert not done.returncode, done.stderr
    runs = [json.loads((made / f"{name}.json").read_text("utf-8")) for name in ("first", "again")]
    return Executed(*runs, folder)


def test_what_is_committed_holds_no_outputs() -> None:
    """They would go stale, and name the machine they were made on."""
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    for cell in of_kind(notebook, "code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert NOTEBOOK.stat().st_size < 200_000


def test_its_links_lead_somewhere() -> None:
    texts = [as_text(cell["source"]) for cell in of_kind(json.loads(NOTEBOOK.read_text("utf-8")), "markdown")]
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", "\n".join(texts))
    assert len(links) >= 4
    for link in links:
        assert link.startswith("http") or (NOTEBOOK.parent / link).exists(), link


def test_the_index_names_it() -> None:
    assert "(notebooks/first_steps.ipynb)" in (ROOT / "docs/index.md").read_text("utf-8")


@pytest.mark.parametrize("run", ["first", "again"])
def test_it_runs_from_top_to_bottom_and_warns_of_nothing(run: str, executed: Executed) -> None:
    for cell in of_kind(getattr(executed, run), "code"):
        assert cell["execution_count"], cell["source"]
        said = shown(cell, "stderr")
        assert not re.search("warn|error", said, re.IGNORECASE), f"{cell['source']}\n{said}"


def test_it_does_what_it_says(executed: Executed) -> None:
    one, folder = executed.first, executed.folder
    assert of_cell(one, "load_encoder") == ("Encoder(panderm-tiny, dim=192, pool=cls, 186 tensors used)\n")
    assert "became a vector of 192 numbers" in of_cell(one, "encoder.encode")
    assert "120 images of 30 patients" in of_cell(one, 'read_table("lesions.csv"')
    assert "120 vectors of 192 numbers in lesions.emb" in of_cell(one, "encoder.embed")
    emb = panderm.open_embeddings(folder / "lesions.emb")
    assert len(emb) == 120
    assert f"nevi: ({(emb.rows.label == 'nevus').sum()}, 192)" in of_cell(one, "select")
    for file in ("map.html", "lesions.html"):
        assert (folder / file).stat().st_size > 50_000, file
    pictures = [
        output
        for cell in of_kind(one, "code")
        for output in cell["outputs"]
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 2, "the image with its vector, and the map"


def test_an_unreadable_image_is_named_and_never_replaced(executed: Executed) -> None:
    name = sorted(path.name for path in (executed.folder / "world/images").iterdir())[1]
    told = of_cell(executed.first, "except panderm.PandermError")
    assert "every row must have a readable image" in told
    assert f"row 3: {name}: damaged" in told
    left = of_cell(executed.first, "skip_bad=True")
    assert f"left out: row 3, {name}" in left
    assert left.endswith("2 images are left\n")


def test_the_scores_have_their_intervals(executed: Executed) -> None:
    shown_scores = of_cell(executed.first, "panderm.evaluate")
    scores = panderm.evaluate(panderm.open_predictions(executed.folder / "lesions.pred"))
    score = scores.scores["balanced_accuracy"]
    assert score.low is not None
    assert score.value is not None
    assert f"{score.value:.3f}" in shown_scores
    assert f"{score.low:.3f}" in shown_scores
    assert f"{scores.n} test images of {scores.clusters} patients" in shown_scores


def test_run_again_nothing_is_embedded_twice(executed: Executed) -> None:
    assert of_cell(executed.again, "encoder.embed") == of_cell(executed.first, "encoder.embed")
    assert of_cell(executed.again, "panderm.evaluate") == of_cell(executed.first, "panderm.evaluate")
