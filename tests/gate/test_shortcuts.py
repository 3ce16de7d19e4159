"""Embeddings in which a shortcut was planted tell it, others do not, and whose table they are is checked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.data.columns import read_cells
from panderm.data.drawn import DrawnWorld
from panderm.data.examine import Examined
from panderm.errors import DataError, ParentsError, UsageError
from panderm.gate.findings import Inspected, Measure
from panderm.gate.shortcut_findings import inspect_shortcuts, require_shortcuts, shortcut_findings
from panderm.gate.shortcuts import PERSONAL, TECHNICAL, ShortcutProbe, probe_shortcuts

N = 200


def world(seed: int = 0, *, tied: float = 0.9, seen: float = 2.0) -> tuple[np.ndarray, pd.DataFrame]:
    """Return embeddings that know the scanner, and a table where it goes with the label."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, N)
    scanner = np.where(rng.random(N) < tied, label, 1 - label)
    vectors = rng.normal(size=(N, 12)).astype(np.float32)
    vectors[:, 3] += seen * scanner
    frame = pd.DataFrame(
        {
            "image": [f"{i}.png" for i in range(N)],
            "patient_id": [f"P{i // 2}" for i in range(N)],
            "label": np.where(label == 1, "mel", "nv"),
            "scanner": np.where(scanner == 1, "A", "B"),
            "ruler": rng.choice(["0", "1"], N),
            "sex": rng.choice(["f", "m", ""], N),
            "age": [str(x) for x in rng.integers(20, 90, N)],
            "comment": [f"text {i}" for i in range(N)],
        }
    )
    return vectors, frame


def asked(vectors: np.ndarray, frame: pd.DataFrame, **options: object) -> ShortcutProbe:
    given = {"label": "label", "patient": "patient_id", "draws": 200} | options
    return probe_shortcuts(vectors, frame, encoder="eye", **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def probed() -> ShortcutProbe:
    """The planted shortcut, and three columns that say nothing."""
    return asked(*world())


def test_what_is_in_the_embeddings_and_tied_to_the_label_could_matter(probed: ShortcutProbe) -> None:
    found = {one.name: one for one in probed.columns}
    assert set(found) == {"scanner", "ruler", "sex", "age"}
    scanner = found.pop("scanner")
    assert scanner.could_matter
    assert scanner.technical
    assert scanner.seen.low is not None
    assert scanner.seen.low > 0.8
    assert scanner.tied is not None
    assert scanner.tied.value == pytest.approx(0.9, abs=0.06)
    assert not any(one.could_matter for one in found.values())
    assert not found["sex"].technical
    assert found["sex"].levels.keys() == {"f", "m"}, "an empty cell is no level here"
    assert all(one.seen.low is not None and one.seen.low < 0.6 for one in found.values())
    assert len(found["age"].levels) == 3


@pytest.mark.parametrize(("tied", "seen"), [(0.5, 2.0), (0.9, 0.0)])
def test_what_is_only_seen_or_only_tied_does_not(tied: float, seen: float) -> None:
    probe = asked(*world(tied=tied, seen=seen), columns=["scanner"])
    assert not probe.columns[0].could_matter
    assert [one.severity for one in shortcut_findings(probe, "label")] == ["note"]


def test_findings_say_both_numbers_and_on_what_they_rest(probed: ShortcutProbe) -> None:
    found = shortcut_findings(probed, "label")
    assert [(one.kind, one.severity) for one in found] == [
        ("shortcut", "finding"),
        ("embeddings-know", "note"),
    ]
    assert found[0].sentence.startswith("the embeddings predict scanner with AUROC 0.")
    assert ", and scanner alone predicts label with AUROC 0." in found[0].sentence
    assert found[0].sentence.endswith("; 200 rows of 100 patients, 200 draws, seed 0")
    for measure in (m for one in found for m in one.measures):
        assert isinstance(measure, Measure)
        assert (measure.n, measure.unit, measure.draws, measure.seed) == (measure.n, "patient", 200, 0)
    assert {m.name for m in found[0].measures} == {"scanner, from the embeddings", "the label, from scanner"}


def test_without_a_label_nothing_is_called_a_shortcut() -> None:
    vectors, frame = world()
    found = asked(vectors, frame.drop(columns="label"), label=None, columns=["scanner"])
    assert all(one.tied is None and not one.could_matter for one in found.columns)
    assert "there is none to ask" in shortcut_findings(found, None)[0].sentence


def test_a_patient_is_not_learned_by_heart() -> None:
    """Twenty images a patient, each patient a direction of its own: torn patients would give scanner away."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(20), 20)
    vectors = (rng.normal(size=(20, 32))[patient] * 3 + rng.normal(size=(400, 32))).astype(np.float32)
    frame = pd.DataFrame(
        {"patient": [f"P{p}" for p in patient], "scanner": np.where(patient % 2 == 0, "A", "B")}
    )
    known, unknown = (
        probe_shortcuts(vectors, frame, encoder="eye", patient=column, columns=["scanner"], draws=50).columns[
            0
        ]
        for column in ("patient", None)
    )
    assert known.seen.value is not None
    assert unknown.seen.value is not None
    assert known.seen.value < 0.75
    assert unknown.seen.value > 0.95
    assert (known.seen.clusters, known.seen.unit) == (20, "patient")


def test_facts_of_files_are_asked_for_too() -> None:
    vectors, frame = world()
    facts = {
        "width": np.where(frame["scanner"] == "A", "600", "1024").astype(object),
        "orientation": frame["sex"],
    }
    found = {one.name: one for one in asked(vectors, frame[["patient_id", "label"]], facts=facts).columns}
    assert found["file: width"].could_matter
    assert "file: orientation" not in found


def test_columns_that_cannot_be_probed_say_why() -> None:
    vectors, frame = world()
    frame["site"] = ["back"] * (N - 4) + ["arm"] * 4
    frame["clinic"] = [f"C{i % 45}" for i in range(N)]
    found = asked(vectors, frame, columns=["site", "clinic"])
    assert found.columns == ()
    assert found.not_probed == dict.fromkeys(
        ("site", "clinic"), "fewer than two values have 10 rows of 5 patients"
    )
    assert [one.kind for one in shortcut_findings(found, "label")] == ["shortcut-not-probed"]


def test_columns_are_chosen_by_their_names() -> None:
    technical = "source dataset device hair ruler ink gel_bubbles dark_corners camera_model tfrec institution"
    personal = "site anatom_site_general localization sex age_approx fitspatrick skin_tone region"
    assert all(TECHNICAL.search(name) for name in technical.split())
    assert all(PERSONAL.search(name) for name in personal.split())
    others = "drink smoke label biopsed stage clinical_notes image pathologist elevation itch"
    assert not [name for name in others.split() if TECHNICAL.search(name) or PERSONAL.search(name)]


def test_a_table_without_such_columns_is_told_what_to_do() -> None:
    vectors, frame = world()
    with pytest.raises(DataError, match="must stand in a column") as error:
        asked(vectors, frame[["image", "patient_id", "label"]])
    assert "panderm artefacts" in str(error.value)
    with pytest.raises(UsageError, match="did you mean 'scanner'"):
        asked(vectors, frame, columns=["scaner"])


def test_thousands_of_rows_are_drawn_by_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panderm.gate.shortcuts.MOST_ROWS", 121)
    found = asked(*world(), columns=["scanner"])
    assert found.rows == 120
    assert (found.columns[0].seen.n, found.columns[0].seen.clusters) == (120, 60)


def test_embeddings_must_be_of_the_table(
    embeddings: panderm.Embeddings, world: DrawnWorld, tmp_path: Path
) -> None:
    require_shortcuts(embeddings, None, world.csv, "image")
    require_shortcuts(None, None, world.csv, "image")
    other = tmp_path / "other.csv"
    other.write_text("image,label\na.png,nv\nb.png,mel\n")
    with pytest.raises(ParentsError) as error:
        require_shortcuts(embeddings, None, other, "image")
    said = str(error.value)
    assert str(other) in said
    assert embeddings.card.table.csv in said
    assert "not in it: " in said
    with pytest.raises(UsageError, match="must come with --shortcuts"):
        require_shortcuts(None, ["sex"], world.csv, "image")
    with pytest.raises(UsageError, match="must name columns of the table"):
        require_shortcuts(embeddings, ["scanner"], world.csv, "image")


def test_the_check_asks_embeddings(embeddings: panderm.Embeddings, world: DrawnWorld) -> None:
    """The drawn skin has a tone, which goes with no class: even random weights see it, and it is a note."""
    folder = str(embeddings.path)
    words = ["check", str(world.csv), "--images", str(world.images), "--shortcuts", folder, "--draws", "50"]
    done = CliRunner().invoke(app, [*words, "--shortcut-columns", "tone,site", "--json", "-q"])
    notes = {one["kind"]: one for one in json.loads(done.stdout)["notes"]}
    measures = {one["name"]: one for one in notes["embeddings-know"]["measures"]}
    assert measures["tone, from the embeddings"]["low"] > 0.55
    assert measures["tone, from the embeddings"]["clusters"] < 25, "of two dozen patients only"
    assert measures["the label, from tone"]["low"] < 0.6


def test_a_check_without_such_columns_goes_on(embeddings: panderm.Embeddings, world: DrawnWorld) -> None:
    table = read_cells(world.csv)[["image", "label", "patient_id"]]
    n = len(table)
    inspected = Inspected(
        source=world.csv,
        folder=world.images,
        frame=table,
        roles={"image": "image", "label": "label", "split": None, "patient": "patient_id", "group": None},
        row=np.arange(n) + 2,
        image=table["image"].to_numpy(dtype=object),
        path=tuple(world.images / name for name in table["image"]),
        examined=(Examined(problem="no such file"),) * n,
        **dict.fromkeys(("split", "label", "patient", "group"), np.full(n, None, dtype=object)),
    )
    found = inspect_shortcuts(inspected, embeddings, draws=20)
    assert [(one.kind, one.severity) for one in found] == [("no-shortcut-columns", "note")]
    assert "panderm artefacts" in found[0].hint
