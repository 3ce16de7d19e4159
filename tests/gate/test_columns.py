"""The linter finds every leak that is planted, keeps quiet about noise, and its intervals cover."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from panderm.cli import app
from panderm.data.columns import read_csv
from panderm.data.examine import examine
from panderm.gate.candidates import as_numbers, candidate, is_identifier, name_patterns
from panderm.gate.column_findings import column_findings
from panderm.gate.columns import ColumnLint, lint_columns
from panderm.gate.cross_validated import aurocs, column_scores, folds_of
from panderm.gate.file_facts import file_facts
from panderm.gate.label_names import relation
from panderm.statistics.within_folds import WithinFolds, level_scores

N = 240


def strings(values: object) -> np.ndarray:
    return np.array([None if v in (None, "") else str(v) for v in values], dtype=object)  # type: ignore[attr-defined]


def world(seed: int = 0, n: int = N, share: float = 0.5, a_patient: int = 1) -> pd.DataFrame:
    """Return a table whose columns say nothing: label, image, patient, sex, age, a camera, a comment."""
    rng = np.random.default_rng(seed)
    patients = n // a_patient
    label = np.where(rng.random(patients) < share, "melanoma", "nevus")
    return pd.DataFrame(
        {
            "image": [f"IMG_{i:05d}.jpg" for i in rng.permutation(n)],
            "patient": np.repeat([f"P{i:04d}" for i in rng.permutation(patients)], a_patient),
            "label": np.repeat(label, a_patient),
            "sex": rng.choice(["f", "m", ""], n),
            "age": [str(x) for x in rng.integers(18, 90, n)],
            "camera": rng.choice([f"C{i}" for i in range(12)], n),
            "diameter": [f"{x:.2f}" for x in rng.gamma(2, 3, n)],
            "lot": np.repeat(rng.choice([f"L{i}" for i in range(6)], patients), a_patient),
        }
    )


def lint(frame: pd.DataFrame, *, draws: int = 200, seed: int = 0, **facts: np.ndarray) -> ColumnLint:
    return lint_columns(
        frame, label="label", image="image", patient="patient", facts=facts, draws=draws, seed=seed
    )


def alarms(found: ColumnLint) -> list[str]:
    return [one.name for one in found.columns if one.verdict != "nothing"]


# Leaks that are planted


def test_a_perfect_column_gives_the_answer_away() -> None:
    frame = world()
    frame["camera"] = np.where(frame["label"] == "melanoma", "Canon", "Nikon")
    found = lint(frame)
    one = found.of("camera")
    assert one is not None
    assert one.verdict == "gives the answer away"
    assert one.auroc.value == 1
    assert one.sentence == (
        "camera gives the answer away: it goes with label one to one; "
        "alone it predicts label with AUROC 1.00 (1.00–1.00)"
    )
    assert alarms(found) == ["camera"]
    assert "camera" not in found.used_together


def test_one_value_of_a_column_gives_the_answer_away() -> None:
    """As dx_type=follow_up does: the rest of the column says nothing, and its AUROC is far from .90."""
    frame = world()
    nevi = frame.index[frame["label"] == "nevus"][:45]
    frame["confirmed"] = np.random.default_rng(1).choice(["histology", "consensus"], N)
    frame.loc[nevi, "confirmed"] = "follow-up"
    one = lint(frame).of("confirmed")
    assert one is not None
    assert one.verdict == "gives the answer away"
    assert one.auroc.high is not None
    assert one.auroc.high < 0.9
    assert one.sentence.startswith(
        "confirmed gives the answer away: 45 of 45 rows with confirmed=follow-up are nevus; alone it"
    )
    assert one.levels[0].ruled_out == ("melanoma",)


def test_a_value_that_leaves_a_few_classes_names_those_it_rules_out() -> None:
    rng = np.random.default_rng(0)
    frame = world(n=600)
    frame["label"] = rng.choice(["ACK", "BCC", "NEV", "SCC"], 600)
    malignant = frame["label"].isin(["BCC", "SCC"])
    frame["biopsed"] = np.where(malignant | (rng.random(600) < 0.3), "True", "False")
    one = lint(frame).of("biopsed")
    assert one is not None
    rows = int((frame["biopsed"] == "False").sum())
    assert f"{rows} of {rows} rows with biopsed=False are ACK or NEV, none BCC or SCC" in one.sentence


def test_that_a_cell_is_empty_can_be_what_tells() -> None:
    frame = world()
    benign = frame["label"] == "nevus"
    for name in ("itch", "family"):
        frame[name] = np.where(benign, "", np.random.default_rng(2).choice(["yes", "no"], N))
    frame.loc[frame.index[benign][:20], ["itch", "family"]] = ["no", "yes"]
    frame.loc[frame.index[benign][20:40], ["itch", "family"]] = ["yes", "no"]
    found = lint(frame)
    one = found.of("itch")
    assert one is not None
    assert one.verdict == "gives the answer away"
    assert "rows with itch=(empty) are nevus" in one.sentence
    assert one.sentence.endswith("in the same rows: family")
    assert found.of("family") is one
    assert found.used_together == ("sex", "age", "camera", "diameter", "lot")


@pytest.mark.parametrize("pattern", ["number", "beginning", "folder", "zeros"])
def test_names_of_files_are_read(pattern: str) -> None:
    frame = world()
    melanoma = (frame["label"] == "melanoma").to_numpy()
    place = np.argsort(np.argsort(melanoma, kind="stable"), kind="stable")
    names = {
        "number": [f"IMG_{i:05d}.jpg" for i in place],
        "beginning": [f"{'A' if m else 'B'}_{i:05d}.jpg" for i, m in enumerate(melanoma)],
        "folder": [f"{'batch7' if m else 'batch8'}/IMG_{i:05d}.jpg" for i, m in enumerate(melanoma)],
        "zeros": [f"IMG_{i:0{6 if m else 5}d}.jpg" for i, m in enumerate(melanoma)],
    }
    column = {"number": "last number", "zeros": "length"}.get(pattern, pattern)
    frame["image"] = names[pattern]
    one = lint(frame).of(f"image: {column}")
    assert one is not None
    assert one.verdict == "gives the answer away"


def test_a_folder_named_as_the_class_is_a_name_of_the_label() -> None:
    frame = world()
    frame["image"] = frame["label"] + "/" + frame["image"]
    found = lint(frame)
    assert alarms(found) == []
    assert found.other_names["image: folder"] == "another name of label: one value a class"


def test_a_sorted_table_is_a_note() -> None:
    frame = world().sort_values("label")
    found = lint(frame)
    assert found.giving_away == ()
    assert [one.name for one in found.columns if one.sentence] == ["order of the rows"]
    assert column_findings(found)[0].severity == "note"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, list[Path]]:
    """Return 120 photographs: melanomas wider, more compressed, and by another camera."""
    folder = tmp_path_factory.mktemp("photographs")
    frame, rng = world(n=120), np.random.default_rng(0)
    paths = []
    for name, label in zip(frame["image"], frame["label"], strict=True):
        bad = label == "melanoma"
        pixels = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((80 if bad else 64, 48))
        exif = Image.Exif()
        exif[0x010F], exif[0x0110] = "Canon", "EOS 5" if bad else "EOS 6"
        image.save(folder / name, quality=70 if bad else 92, exif=exif)
        paths.append(folder / name)
    return frame, paths


def test_files_say_what_they_are(photographs: tuple[pd.DataFrame, list[Path]]) -> None:
    frame, paths = photographs
    facts = file_facts(paths, [examine(path) for path in paths])
    found = lint(frame, **facts)
    for name in ("width", "aspect", "JPEG quality", "camera", "bytes per pixel"):
        one = found.of(f"file: {name}")
        assert one is not None, name
        assert one.verdict == "gives the answer away", name
    assert set(facts["camera"]) == {"Canon EOS 5", "Canon EOS 6"}
    assert set(facts["JPEG quality"]) == {"70", "92"}
    assert found.of("file: format") is None, "the same in every row says nothing"
    assert alarms(lint(frame)) == []


def test_the_check_tells_it_and_fails(
    photographs: tuple[pd.DataFrame, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, paths = photographs
    monkeypatch.chdir(tmp_path)
    frame.assign(split=np.where(np.arange(len(frame)) % 3 == 0, "test", "train")).to_csv(
        "skin.csv", index=False
    )
    words = f"check skin.csv --images {paths[0].parent} --draws 50 --json -q"
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 1, done.output
    told = json.loads(done.stdout)
    leaks = {one["title"]: one for one in told["findings"] if one["kind"] == "column-gives-answer-away"}
    assert {"file: width gives the answer away", "file: camera gives the answer away"} <= set(leaks)
    measure = leaks["file: width gives the answer away"]["measures"][0]
    assert (measure["n"], measure["unit"], measure["draws"], measure["seed"]) == (120, "patient", 50, 0)
    assert {"columns-together", "columns-tested"} <= {one["kind"] for one in told["notes"]}
    alone = CliRunner().invoke(app, [*words.split(), "--shortcut-columns", "sex"])
    assert alone.exit_code == 2
    assert "--shortcut-columns must come with --shortcuts" in alone.output


def test_a_file_that_cannot_be_read_has_no_facts(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    paths = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    facts = file_facts(paths, [examine(path) for path in paths])
    assert all(value is None for values in facts.values() for value in values)


# The label's other names


def test_other_names_of_the_label_are_no_leaks() -> None:
    rng = np.random.default_rng(0)
    frame = world(n=600)
    dx = rng.choice(["nv", "mel", "bcc"], 600)
    frame["label"] = [{"nv": "0", "mel": "1", "bcc": "2"}[x] for x in dx]
    frame["dx"] = dx
    frame["benign_malignant"] = np.where(dx == "nv", "benign", "malignant")
    frame["diagnosis"] = [f"{x}_{rng.integers(2)}" for x in dx]
    frame["ward"] = np.where(dx == "nv", "East", "West")
    follow_up = frame.index[dx == "nv"][:60]
    frame["how"] = "histology"
    frame.loc[follow_up, "how"] = "follow-up"
    found = lint(frame)
    assert found.other_names == {
        "dx": "another name of label: one value a class",
        "benign_malignant": "a coarser name of label: each class has one value",
        "diagnosis": "a finer name of label: each value has one class",
    }
    assert [one.name for one in found.giving_away] == ["ward", "how"]
    ward, how = found.giving_away
    assert "each class of label has one value of it" in ward.sentence
    assert "60 of 60 rows with how=follow-up are 0 (nv)" in how.sentence


def test_relations_need_rows() -> None:
    codes = np.array([0, 1] * 10)
    assert relation(strings(["a", "b"] * 10), codes) == "same"
    assert relation(strings(["a", "b"] * 5 + [""] * 10), codes) is None, "half of the cells are empty"
    assert relation(strings(range(20)), codes) is None, "a name for every row is no name of the class"
    assert relation(strings(["a"] * 20), codes) is None


# Noise


@pytest.mark.slow
def test_noise_raises_no_alarm() -> None:
    raised = [seed for seed in range(50) if alarms(lint(world(seed, n=150), draws=100, seed=seed))]
    assert len(raised) <= 5, raised


def test_noise_raises_no_alarm_where_one_class_is_rare() -> None:
    raised = [seed for seed in range(12) if alarms(lint(world(seed, n=300, share=0.08), draws=100))]
    assert len(raised) <= 1, raised


def test_a_column_constant_in_each_patient_is_no_leak() -> None:
    """Eight images a patient, all of one class: torn patients would make lot and patient number tell."""
    tables = [world(seed, n=320, a_patient=8) for seed in range(8)]
    for frame in tables:
        frame["ward"] = frame["patient"].map(
            dict(zip(frame["patient"].unique(), np.arange(40) % 20, strict=True))
        )
        frame["ward"] = "W" + frame["ward"].astype(str)
    together = [lint(frame, draws=100).of("ward") for frame in tables]
    assert np.mean([one.auroc.value for one in together if one]) == pytest.approx(0.5, abs=0.1)
    assert sum(one is not None and one.verdict != "nothing" for one in together) <= 1
    # The same column, its patients unknown: what the test above guards against.
    torn = [lint_columns(frame, label="label", image="image", draws=20).of("ward") for frame in tables[:3]]
    assert all(one is not None and one.auroc.value is not None and one.auroc.value > 0.6 for one in torn)


def test_cross_validation_is_not_biased_below_a_half() -> None:
    """In one ranking of all folds a column that knows nothing falls below 0.5; within folds it does not."""
    within, pooled = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        truth, folds = rng.permutation(np.arange(100) % 2), np.arange(100) // 2 % 5
        levels = rng.integers(0, 8, 100)
        scores = level_scores(levels, truth, folds, 2)
        within.append(WithinFolds(truth, scores, folds).auroc()[0])
        pooled.append(roc_auc_score(truth, scores[:, 1]))
    error = np.std(within) / np.sqrt(len(within))
    assert abs(np.mean(within) - 0.5) < 3 * error
    assert np.mean(pooled) < 0.5 - 3 * error


# Numbers


def test_within_folds_is_the_mean_of_the_folds_weighted_by_their_pairs() -> None:
    rng = np.random.default_rng(0)
    n, K = 300, 4
    truth, folds, scores = rng.integers(0, K, n), rng.integers(0, 3, n), rng.random((n, K)).round(1)
    weights = rng.integers(0, 3, (5, n))
    found = WithinFolds(truth, scores, folds).auroc(weights)
    for draw, w in zip(found, weights, strict=True):
        classes = []
        for c in range(K):
            won = pairs = 0.0
            for f in range(3):
                here = (folds == f) & (w > 0)
                own = truth[here] == c
                m = w[here][own].sum() * w[here][~own].sum()
                pairs += m
                won += m * roc_auc_score(own, scores[here, c], sample_weight=w[here])
            classes.append(won / pairs)
        assert draw == pytest.approx(np.mean(classes), abs=1e-12)


def test_within_folds_is_not_computable_without_a_pair() -> None:
    one = WithinFolds([0, 0, 1, 1], np.full((4, 2), 0.5), [0, 0, 1, 1])
    assert np.isnan(one.auroc()).all()
    assert one.auroc([[1, 1, 1, 1]]).shape == (1,)
    with pytest.raises(ValueError, match="scores must be"):
        WithinFolds([0, 1], np.zeros((3, 2)), [0, 0])


@pytest.mark.parametrize("a_patient", [1, 4])
def test_intervals_cover(a_patient: int) -> None:
    """A sign seen in 8 of 10 melanomas and 3 of 10 nevi has AUROC .5 + (.8 − .3) / 2 = .75."""
    held = tried = 0
    for seed in range(80 if a_patient == 1 else 40):
        rng = np.random.default_rng(seed)
        patient = np.repeat(np.arange(150), a_patient)
        codes = rng.integers(0, 2, 150)
        sign = strings(rng.random(150) < np.where(codes == 1, 0.8, 0.3))
        rows = codes[patient]
        folds = folds_of(rows, patient, seed)
        assert folds is not None
        scores = column_scores(candidate("sign", "column", sign[patient]), rows, folds, 2)
        one = aurocs({"": scores}, rows, folds, patient, "patient", draws=200, seed=seed)[""]
        assert one.low is not None
        assert one.high is not None
        held, tried = held + (one.low <= 0.75 <= one.high), tried + 1
    assert held >= 0.88 * tried, (held, tried)


def test_numbers_are_cut_where_they_tell() -> None:
    """An island in the middle, which neither a threshold nor a straight line finds."""
    frame = world(n=600)
    age = np.array([float(x) for x in frame["age"]])
    middle = (age > 40) & (age < 60)
    rng = np.random.default_rng(3)
    frame["label"] = np.where(rng.random(600) < np.where(middle, 0.9, 0.1), "melanoma", "nevus")
    one = lint(frame).of("age")
    assert one is not None
    assert one.auroc.value is not None
    assert one.auroc.value > 0.8
    assert one.verdict == "predicts the label"
    assert one.sentence.startswith("age alone predicts label: AUROC 0.")


def test_the_same_seed_gives_the_same_numbers_and_says_it() -> None:
    frame = world()
    one, two, other = (lint(frame, seed=seed).as_dict() for seed in (3, 3, 4))
    assert one == two != other
    auroc = one["columns"][0]["auroc"]
    assert (auroc["n"], auroc["clusters"], auroc["unit"], auroc["draws"], auroc["seed"]) == (
        *(N, N, "patient", 200, 3),
    )


def test_rare_classes_are_left_out_and_named() -> None:
    frame = world()
    frame.loc[[3, 4, 5], "label"] = "vascular"
    assert lint(frame).left_out == ("vascular",)
    few = lint(frame.iloc[:12])
    assert few.columns == ()
    assert few.reason == "fewer than two classes of label have 10 rows of 5 patients"
    told = column_findings(few)
    assert [one.kind for one in told] == ["columns-not-tested"]


def test_rows_without_a_label_are_left_out() -> None:
    frame = world()
    frame.loc[frame.index[:40], "label"] = ""
    found = lint(frame)
    assert found.columns[0].auroc.n == N - 40


# Columns as they come


def test_what_names_rows_is_not_a_column_of_words() -> None:
    assert is_identifier("comment", strings(f"text {i}" for i in range(30)))
    assert is_identifier("lesion_id", strings(range(30)))
    assert not is_identifier("age", strings(range(30)))
    assert not is_identifier("mask_frac", strings(i / 10 for i in range(30)))
    assert not is_identifier("site", strings(["back", "arm"] * 15))


def test_numbers_are_read_as_they_are_written() -> None:
    assert as_numbers(strings(["1,5", "2", ""])).tolist()[:2] == [1.5, 2.0]  # type: ignore[union-attr]
    assert as_numbers(strings(["1", "about 2"])) is None
    assert as_numbers(strings(["", ""])) is None
    assert as_numbers(strings(["1", "inf"])) is None
    few = candidate("grade", "column", strings(["1", "2"] * 10))
    assert few.numbers is None


def test_patterns_of_names() -> None:
    names = strings([f"day{i % 3}/DSC_{i:04d}_v{i % 2}.JPG" for i in range(40)] + [None])
    found = {one.name: one for one in name_patterns("image", names)}
    assert set(found) >= {"image: folder", "image: first number", "image: last number"}
    assert found["image: folder"].values[:2].tolist() == ["day0", "day1"]
    assert found["image: first number"].values[39] == "39"
    assert found["image: folder"].values[40] is None


# Real tables


def test_ham10000_says_how_it_was_confirmed(shared: Path) -> None:
    frame = read_csv(shared / "data/ham10000/ham_clean.csv")
    found = lint_columns(frame, label="label", image="image", split="split", group="lesion_id", draws=100)
    assert [one.name for one in found.giving_away] == ["dx_type"]
    assert "2,964 of 2,964 rows with dx_type=follow_up are 5 (nv)" in found.giving_away[0].sentence
    assert set(found.other_names) == {"dx", "binary_label"}
    assert {one.name for one in found.columns if one.verdict == "predicts the label"} >= {"age", "dataset"}


def test_pad_ufes_20_says_who_was_biopsed(shared: Path) -> None:
    """On the whole table, whose images are not there; empty cells stand where nothing was biopsed."""
    frame = read_csv(shared / "data/padufes20/metadata_full_2298.csv")
    found = lint_columns(
        frame, label="diagnostic", image="img_id", patient="patient_id", group="lesion_id", draws=100
    )
    biopsed = found.of("biopsed")
    assert biopsed is not None
    assert biopsed.verdict == "gives the answer away"
    assert "956 of 956 rows with biopsed=False are ACK, NEV or SEK, none BCC, MEL or SCC" in biopsed.sentence
    smoke = found.of("smoke")
    assert smoke is not None
    assert "804 of 804 rows with smoke=(empty)" in smoke.sentence
    assert {"gender", "fitspatrick"} <= set(smoke.others)
