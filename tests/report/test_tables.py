"""What leaves the page as files: every plotted point and every score, whole, and as manuscripts print it."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score
from test_report import make_predictions
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.errors import ArtifactError
from panderm.predictions import MultiLabelPredictions
from panderm.report import Report
from panderm.report.multi_label import MultiLabelReport
from panderm.report.section import Drawing, Points
from panderm.report.tables import as_csv, slug
from panderm.report.tables.printed import escaped
from panderm.scores import evaluate
from panderm.scores.multi_label import evaluate_labels

DRAWS = 40
AWFUL = ("benign | a_b & 50 %", "melanoma {x}$^2$\\\n#~")


def scored(given, folder: Path):
    """Score with everything that a page can show."""
    held = make_predictions(classes=given.classes, n=60, seed=9, card={"split": "val"})
    held = replace(held, image=np.array([f"val {name}" for name in held.image], dtype=object))
    frame = pd.DataFrame({"image": given.image, "sex": np.where(np.arange(len(given)) % 2, "f", "m")})
    frame["finding"] = [f"finding {i % 3}" for i in range(len(given))]
    frame.to_csv(folder / "columns.csv", index=False)
    groups = "class,malignant\n" + as_csv(["a", "b"], [(c, i) for i, c in enumerate(given.classes)])[4:]
    (folder / "groups.csv").write_text(groups, encoding="utf-8")
    return evaluate(
        given, validation=held, positive=[given.classes[-1]], prevalence=[0.02],
        at=["youden", "cost=20", "sensitivity=0.9"],
        hierarchy=folder / "groups.csv", by=["sex"], columns=folder / "columns.csv", image_column="image",
        diagnosis="finding", draws=DRAWS, progress=False,
    )  # fmt: skip


def labels():
    """Return predictions of two labels, some cells not known."""
    one = make_predictions(n=80)
    rng = np.random.default_rng(0)
    truth = rng.integers(-1, 2, (80, 2)).astype(np.int8)
    kept = {name: getattr(one, name) for name in ("image", "path", "sha256", "patient", "group")}
    card = one.card.model_copy(update={"labels": "several", "classes": AWFUL})
    chances = np.clip(0.3 * truth + 0.5 * rng.random((80, 2)), 0, 1)
    return MultiLabelPredictions(**kept, truth=truth, probabilities=chances, card=card)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A report on one set of predictions, its scores, and its folder of tables."""
    folder = tmp_path_factory.mktemp("one")
    given = make_predictions(classes=AWFUL, n=90)
    scores = scored(given, folder)
    report = Report(given, scores, progress=False)
    return report, scores, report.save_tables(folder / "tables")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    both = [make_predictions(n=90, sharp=sharp, encoder={"name": f"e{sharp}"}) for sharp in (1.6, 0.4)]
    both[1] = replace(both[1], truth=both[0].truth)
    report = Report(both, [scored(given, folder) for given in both], progress=False)
    return report, report.save_tables(folder / "tables")


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    given = labels()
    report = MultiLabelReport(given, evaluate_labels(given, draws=DRAWS, seed=0, progress=False))
    return report, report.save_tables(tmp_path_factory.mktemp("labels") / "tables")


def read(files, name):
    return pd.read_csv(
        next(f for f in files if f.name == f"{name}.csv"), keep_default_na=False, na_values=[""]
    )


def points_of(files):
    return {f.stem for f in files if f.suffix == ".csv" and f.with_suffix(".tex") not in files}


def test_every_figure_of_every_page_leaves_its_points(one, two, several):
    for report, files in ((one[0], one[2]), two, several):
        drawn = report.html().count('class="canvas"')
        assert drawn == len(points_of(files)) > 1
        for name in points_of(files):
            assert len(read(files, name)) > 0, name


def test_the_points_are_those_plotted(one):
    report, scores, files = one
    given = report.predictions
    own, chance = given.truth_codes() == 1, given.probabilities[:, 1]
    roc = read(files, "roc")
    assert list(roc) == ["class", "false_positive_rate", "sensitivity", "threshold"]
    area = np.trapezoid(roc["sensitivity"], roc["false_positive_rate"])
    assert area == pytest.approx(roc_auc_score(own, chance), abs=1e-12)
    for row in roc.dropna().itertuples():
        assert row.sensitivity == pytest.approx((chance[own] >= row.threshold).mean(), abs=1e-12)
    steps = read(files, "precision_recall")
    area = (np.diff(steps["recall"]) * steps["precision"][1:]).sum()
    assert area == pytest.approx(average_precision_score(own, chance), abs=1e-12)
    matrix = read(files, "confusion").pivot(index="true", columns="predicted", values="n")
    assert matrix.loc[list(AWFUL), list(AWFUL)].to_numpy().tolist() == scores.confusion.tolist()
    assert list(read(files, "decision_curve"))[-3:] == ["net_benefit", "low", "high"]


def test_curves_of_several_and_of_labels_keep_their_areas(two, several):
    report, files = two
    roc = read(files, "roc")
    for title, (given, _) in zip(report.titles, report.parts, strict=True):
        own = roc[roc["model"].str.endswith(title)]
        area = np.trapezoid(own["sensitivity"], own["false_positive_rate"])
        assert area == pytest.approx(roc_auc_score(given.truth_codes(), given.probabilities[:, 1]), abs=1e-12)
    given = several[0].predictions
    roc = read(several[1], "roc")
    for k, label in enumerate(AWFUL):
        known = given.truth[:, k] >= 0
        own = roc[roc["label"] == label]
        area = np.trapezoid(own["sensitivity"], own["false_positive_rate"])
        wanted = roc_auc_score(given.truth[known, k] == 1, given.probabilities[known, k])
        assert area == pytest.approx(wanted, abs=1e-12)


def values_in(held):
    """Yield every value and end of an interval in the plain form of scores."""
    if isinstance(held, dict):
        if {"value", "low", "high"} <= set(held):
            yield from (held[name] for name in ("value", "low", "high") if isinstance(held[name], float))
        else:
            for part in held.values():
                yield from values_in(part)
    elif isinstance(held, list):
        for part in held:
            yield from values_in(part)


def test_every_score_and_interval_is_in_a_csv_unrounded(one, two, several):
    for scores, files in (
        ([one[1]], one[2]),
        ([its for _, its in two[0].parts], two[1]),
        ([several[0].scores], several[1]),
    ):
        tables = [read(files, f.stem) for f in files if f.suffix == ".csv"]
        there = {x for table in tables for column in table.select_dtypes("number") for x in table[column]}
        for its in scores:
            wanted = set(values_in(its.as_dict()))
            assert len(wanted) > 20
            assert wanted <= there
    gains = [x for gain in two[0].differences for s in gain.values() for x in (s.value, s.low, s.high)]
    assert {x for x in gains if x is not None} <= set(
        read(two[1], "differences")[["value", "low", "high"]].stack()
    )


def test_a_row_says_what_it_rests_on_and_why_there_is_no_value(one):
    _, scores, files = one
    table = read(files, "scores")
    assert list(table) == ["model", "score", "value", "low", "high", "n", "reason"]
    auroc = table.set_index("score").loc["auroc"]
    kept = scores.scores["auroc"]
    assert (auroc["value"], auroc["low"], auroc["high"], auroc["n"]) == (kept.value, kept.low, kept.high, 90)
    points = read(files, "operating_points").set_index(["point", "score"])
    assert set(points.index.get_level_values(0)) == {"youden", "cost = 20", "sensitivity >= 0.9"}
    tp, fn = (points.loc[("youden", side), "value"] for side in ("tp", "fn"))
    assert points.loc[("youden", "sensitivity"), "n"] == tp + fn
    sizes = read(files, "per_class").query("score == 'support'")["value"].tolist()
    assert sizes == scores.confusion.sum(axis=1).tolist()


def columns_of(line):
    return len(re.findall(r"(?<!\\)&", line)) + 1


def test_latex_is_escaped_and_every_row_has_its_columns(one, two, several):
    for files in (one[2], two[1], several[1]):
        for file in (f for f in files if f.suffix == ".tex"):
            text = file.read_text("utf-8")
            form = re.search(r"\\begin{tabular}{([lr]+)}", text)[1]
            rows = text.partition("\\toprule\n")[2].partition("\\bottomrule")[0].splitlines()
            rows = [row for row in rows if row != r"\midrule"]
            assert len(rows) > 1
            assert all(row.endswith(r" \\") and columns_of(row) == len(form) for row in rows), file.name
            caption = re.search(r"\\caption{(.*)}\n\\label{tab:[\w]+}\n", text)[1]
            assert not re.search(r"(?<!\\)[%#&_]", caption), file.name
            assert not re.search("[−–≥→’“]", text), file.name


def test_what_latex_would_read_is_printed_as_it_is():
    assert escaped("50 % & a_b #1") == r"50 \% \& a\_b \#1"
    assert escaped("$x^2$ {a} ~ \\n") == r"\$x\textasciicircum{}2\$ \{a\} \textasciitilde{} \textbackslash{}n"
    assert escaped('[b]\nc < d|"e" −1 ≥ 0–1') == "{}[b] c \\textless{} d\\textbar{}''e'' $-$1 $\\geq$ 0--1"


def test_markdown_rows_have_their_columns_and_hold_intervals(one, two):
    for files in (one[2], two[1]):
        for file in (f for f in files if f.suffix == ".md" and f.with_suffix(".csv") in files):
            bars = [line for line in file.read_text("utf-8").splitlines() if line.startswith("|")]
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in bars}) == 1, file.name
    score = one[1].scores["auroc"]
    text = next(f for f in one[2] if f.name == "scores.md").read_text("utf-8")
    assert f"| AUROC | {score.value:.3f} ({score.low:.3f}–{score.high:.3f}) |" in text
    assert "40 draws of whole patients, seed 0" in text
    assert "n = 90" in text


def test_the_index_names_every_file_and_what_they_rest_on(one):
    _, scores, files = one
    folder = files[0].parent
    said = (folder / "README.md").read_text("utf-8")
    there = {file.name for file in folder.iterdir()}
    assert there == {file.name for file in files}
    assert set(re.findall(r"`([\w.]+\.(?:csv|md|tex|json))`", said)) == there - {"README.md"}
    for words in (scores.predictions, "45 patients", "| 40 | 0 |", "percentile bootstrap"):
        assert words in said
    card = json.loads((folder / "card.json").read_bytes())
    assert set(card["files"]) == there - {"card.json"}
    chain = next(iter(json.loads((folder / "provenance.json").read_bytes()).values()))
    assert chain[-2]["step"] == "scores"


def test_a_folder_is_whole_or_absent(one, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("panderm.report.tables.sha256_of_file", full)
    with pytest.raises(ArtifactError, match="room"):
        one[0].save_tables(tmp_path / "tables")
    assert list(tmp_path.iterdir()) == []


def test_only_what_panderm_wrote_is_replaced(one, tmp_path):
    report, _, files = one
    folder = tmp_path / "tables"
    report.save_tables(folder)
    with pytest.raises(ArtifactError, match="exist already"):
        report.save_tables(folder)
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("mine")
    (folder / "scores.csv").write_text("edited")
    report.save_tables(folder, overwrite=True)
    assert (folder / "notes" / "mine.txt").read_text() == "mine"
    assert (folder / "scores.csv").read_bytes() == files[0].with_name("scores.csv").read_bytes()
    card = json.loads((folder / "card.json").read_bytes())
    del card["files"]["scores.csv"]  # as if another hand had written it
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(ArtifactError, match=r"scores\.csv"):
        report.save_tables(folder, overwrite=True)
    for other in ({"kind": "predictions"}, None):
        strange = tmp_path / f"strange-{other is None}"
        strange.mkdir()
        (strange / "x.txt").write_text("x")
        if other:
            (strange / "card.json").write_text(json.dumps(other))
        with pytest.raises(ArtifactError, match="only a folder of a report"):
            report.save_tables(strange, overwrite=True)
        assert (strange / "x.txt").read_text() == "x"


def test_numbers_are_written_in_full_and_names_are_plain():
    text = as_csv(["a", "b"], [(1 / 3, None), (1e-300, 'x,"y"')])
    back = pd.read_csv(io.StringIO(text))
    assert back["a"].tolist() == [1 / 3, 1e-300]
    assert slug("Risk-coverage curve") == "risk_coverage_curve"
    assert slug("§") == "table"
    assert Drawing("t", "c", None).points is None
    assert Points(("a",), ((1.0,),)).rows == ((1.0,),)


def test_the_command_line_writes_them_and_names_every_path(tmp_path):
    given = make_predictions(n=60)
    given.save(tmp_path / "a.pred")
    scores = evaluate(given, draws=DRAWS, scores_only=True, progress=False).save(tmp_path / "a.json")
    words = ["report", str(tmp_path / "a.pred"), "--scores", str(scores), "--out", str(tmp_path / "a.html")]
    words += ["--tables", str(tmp_path / "tables"), "--json", "--quiet"]
    done = CliRunner().invoke(app, words)
    told = json.loads(done.stdout)
    assert {Path(p).name for p in told["tables"]} == {f.name for f in (tmp_path / "tables").iterdir()}
    assert Path(told["report"]).is_file()
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 2
    assert "must not exist already" in again.output
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.txt").write_text("x")
    new = [str(tmp_path / "b.html") if word == words[5] else word for word in words]
    new[new.index("--tables") + 1] = str(tmp_path / "other")
    other = CliRunner().invoke(app, [*new, "--overwrite"])
    assert other.exit_code == 2
    assert "only a folder of a report" in other.output
    assert not (tmp_path / "b.html").exists()  # refused before the work
    same = CliRunner().invoke(app, [*words[:-4], "--tables", words[5]])
    assert same.exit_code == 2
    assert "three different places" in same.output
    assert panderm.Report(tmp_path / "a.pred", scores).scores.n == 60
