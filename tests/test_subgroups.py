"""Subgroups: every number is a plain loop's, a planted gap is found, and what cannot be said is not said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from click.testing import Result
from scipy.stats import norm
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    f1_score,
    recall_score,
    roc_auc_score,
)
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.data.artefacts.accuracy import read_accuracy
from panderm.data.drawn import DrawnWorld
from panderm.data.levels import Levels, cross, cut_into_levels
from panderm.errors import PandermError, TableError, UsageError
from panderm.scores import Score, Scores, headline
from panderm.scores.resampled import Resampling
from panderm.scores.subgroups import score_subgroups
from panderm.statistics.resampling import cluster_bootstrap

FLOAT_TOLERANCE = 1e-12
TWO, THREE = ("benign", "malignant"), ("akiec", "bcc", "mel")


@pytest.fixture(scope="module")
def predictions(embeddings: panderm.Embeddings) -> panderm.Predictions:
    return panderm.probe(embeddings)


def made_of(
    card: panderm.Predictions,
    classes: Sequence[str],
    truth: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float64],
    patient: npt.NDArray[np.int64] | None,
) -> panderm.Predictions:
    """Return predictions of our own numbers under a real card."""
    n = len(truth)
    names = np.array([f"{i}.png" for i in range(n)], dtype=object)
    people = [None] * n if patient is None else [f"P{i}" for i in patient]
    return panderm.Predictions(
        image=names,
        path=names,
        sha256=names,
        patient=np.array(people, dtype=object),
        group=np.full(n, None, dtype=object),
        truth=np.array([classes[i] for i in truth], dtype=object),
        probabilities=probabilities,
        card=card.card.model_copy(update={"classes": tuple(classes), "rows": n}),
    )


def drawn_study(
    card: panderm.Predictions, classes: Sequence[str], seed: int, *, patients: int = 60
) -> tuple[panderm.Predictions, Levels]:
    """Return predictions of one to four images a patient, and a column with levels within patients."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    truth = rng.integers(0, len(classes), patients)[person]
    logits = rng.normal(0, 1, (len(person), len(classes))) + 0.9 * np.eye(len(classes))[truth]
    chances = np.exp(logits.round(1))  # rounded, so that some rows tie
    chances /= chances.sum(axis=1, keepdims=True)
    given = made_of(card, classes, truth, chances, person)
    return given, Levels(("face", "hand", "trunk"), rng.integers(0, 3, len(person)), None)


# Against a plain loop


def by_scikit_learn(
    classes: int, truth: npt.NDArray[np.int64], chances: npt.NDArray[np.float64]
) -> dict[str, float]:
    called = chances.argmax(axis=1)
    found = {
        "accuracy": accuracy_score(truth, called),
        "weighted_f1": f1_score(truth, called, average="weighted", labels=range(classes), zero_division=0),
        "quadratic_kappa": cohen_kappa_score(truth, called, weights="quadratic", labels=range(classes)),
    }
    all_there = len(set(truth)) == classes
    one_hot = np.eye(classes)[truth]
    if all_there:
        found["balanced_accuracy"] = balanced_accuracy_score(truth, called)
        found["macro_f1"] = f1_score(truth, called, average="macro", labels=range(classes), zero_division=0)
        if classes == 2:
            found["auroc"] = roc_auc_score(truth, chances[:, 1])
            found["average_precision"] = average_precision_score(truth, chances[:, 1])
        else:
            for way in ("ovo", "ovr"):
                found[f"auroc_{way}"] = roc_auc_score(truth, chances, multi_class=way)
            found["average_precision"] = average_precision_score(one_hot, chances, average="macro")
    if classes == 2:
        for name, positive in (("sensitivity", 1), ("specificity", 0)):
            if (truth == positive).any():
                found[name] = recall_score(truth, called, pos_label=positive, zero_division=0)
    return found


@pytest.mark.parametrize("classes", [TWO, THREE])
def test_scores_and_gaps_are_those_of_a_plain_loop(
    predictions: panderm.Predictions, classes: tuple[str, ...]
) -> None:
    given, levels = drawn_study(predictions, classes, seed=len(classes), patients=150)
    draws, K = 10, len(classes)
    told = score_subgroups(given, {"site": levels}, Resampling.of(given, draws=draws, seed=3))[0].levels
    truth, chances = given.truth_codes(), given.probabilities
    codes = pd.factorize(given.patient)[0]
    weights = np.concatenate(list(cluster_bootstrap(codes, draws, seed=3)))

    def one_side(mask: npt.NDArray[np.bool_]) -> tuple[dict[str, float], list[dict[str, float]]]:
        rows = np.flatnonzero(mask)
        drawn = [np.repeat(rows, w[rows]) for w in weights]
        return by_scikit_learn(K, truth[rows], chances[rows]), [
            by_scikit_learn(K, truth[r], chances[r]) for r in drawn
        ]

    for code, level in enumerate(told):
        own, own_drawn = one_side(levels.codes == code)
        rest, rest_drawn = one_side(levels.codes != code)
        assert set(level.scores) == set(level.gaps) == set(own)
        for name, score in level.scores.items():
            values = [d[name] for d in own_drawn if name in d]
            gaps = [a[name] - b[name] for a, b in zip(own_drawn, rest_drawn, strict=True) if name in a]
            for found, value, drawn in (
                (score, own[name], values),
                (level.gaps[name], own[name] - rest[name], gaps),
            ):
                assert found.value == pytest.approx(value, abs=FLOAT_TOLERANCE), (level.level, name)
                assert len(drawn) == draws
                low, high = np.quantile(drawn, [0.025, 0.975])
                assert (found.low, found.high) == pytest.approx((low, high), abs=FLOAT_TOLERANCE)


def test_counts_are_the_groups_own(predictions: panderm.Predictions) -> None:
    given, levels = drawn_study(predictions, THREE, seed=1)
    (column,) = score_subgroups(given, {"site": levels}, Resampling.of(given, draws=5, seed=0))
    assert [level.level for level in column.levels] == ["face", "hand", "trunk"]
    for code, level in enumerate(column.levels):
        mine = levels.codes == code
        assert level.n == mine.sum()
        assert level.clusters == len(set(given.patient[mine]))
        assert level.classes == {c: int((given.truth[mine] == c).sum()) for c in THREE}
    assert sum(level.n for level in column.levels) == len(given)


def test_a_planted_gap_is_found_on_its_side(predictions: panderm.Predictions) -> None:
    """In one group every label is guessed; outside it the probabilities are right nine times in ten."""
    rng = np.random.default_rng(0)
    n = 600
    truth, hair = rng.integers(0, 2, n), rng.integers(0, 2, n)
    right = rng.random(n) < np.where(hair, 0.5, 0.9)
    high = rng.uniform(0.6, 0.9, n)
    chance = np.where(right == truth, high, 1 - high)
    given = made_of(predictions, TWO, truth, np.column_stack([1 - chance, chance]), None)
    (column,) = score_subgroups(
        given,
        {"hair": Levels(("no", "yes"), hair.astype(np.int64), None)},
        Resampling.of(given, draws=300, seed=0),
    )
    no, yes = column.levels
    for name in ("accuracy", "auroc", "sensitivity", "specificity"):
        gap = yes.gaps[name]
        assert gap.value is not None
        assert gap.low is not None
        assert gap.high is not None
        assert gap.low < gap.value < gap.high < -0.2, name
        mirrored = no.gaps[name]
        assert (mirrored.value, mirrored.low, mirrored.high) == pytest.approx(
            (-gap.value, -gap.high, -gap.low), abs=FLOAT_TOLERANCE
        )


# What cannot be said is not said


def test_a_group_without_positives_is_never_fair(predictions: panderm.Predictions) -> None:
    given, levels = drawn_study(predictions, TWO, seed=2)
    keep = ~((levels.codes == 1) & (given.truth == "malignant"))
    columns = {
        name: getattr(given, name)[keep]
        for name in ("image", "path", "sha256", "patient", "group", "truth", "probabilities")
    }
    cut = Levels(levels.names, levels.codes[keep], None)
    (column,) = score_subgroups(
        replace(given, **columns), {"site": cut}, Resampling.of(replace(given, **columns), draws=50, seed=0)
    )
    hand = column.levels[1]
    assert hand.classes == {"benign": hand.n, "malignant": 0}
    absent = Score(None, None, None, "no image of class 'malignant'")
    for name in ("auroc", "average_precision", "balanced_accuracy", "macro_f1", "sensitivity"):
        assert hand.scores[name] == hand.gaps[name] == absent
        assert not hand.gaps[name].too_few
    assert hand.scores["accuracy"].value is not None
    assert hand.gaps["specificity"].value is not None


def test_too_few_to_say(predictions: panderm.Predictions) -> None:
    """Nine patients are too few; ten are enough, but not for a score of a class that few of them show."""
    rng = np.random.default_rng(5)
    person = np.arange(100)
    truth = (person % 2).astype(np.int64)
    truth[9:19] = 0
    truth[9:12] = 1
    chance = np.clip(0.5 + (truth - 0.5) * 0.4 + rng.normal(0, 0.3, 100), 0.01, 0.99)
    given = made_of(predictions, TWO, truth, np.column_stack([1 - chance, chance]), person)
    codes = np.where(person < 9, 0, np.where(person < 19, 1, 2)).astype(np.int64)
    (column,) = score_subgroups(
        given, {"x": Levels(("a", "b", "c"), codes, None)}, Resampling.of(given, draws=200, seed=0)
    )
    a, b, c = column.levels
    few = Score(None, None, None, "too few to say: 9 patients, and 10 are needed")
    assert set(a.scores.values()) == set(a.gaps.values()) == {few}
    assert few.too_few
    assert b.scores["accuracy"].low is not None
    assert b.gaps["accuracy"].low is not None
    assert b.scores["auroc"].reason == "too few to say: 3 patients of class 'malignant', and 10 are needed"
    assert b.scores["specificity"].reason == "too few to say: 7 patients of class 'benign', and 10 are needed"
    # Of c much can be said; its rest is a and b: 19 patients, of whom 7 are malignant.
    assert c.scores["auroc"].value is not None
    reason = "all other images: too few to say: 7 patients of class 'malignant', and 10 are needed"
    assert c.gaps["auroc"] == Score(None, None, None, reason)
    assert c.gaps["auroc"].too_few


def test_one_level_has_nobody_to_be_compared_with(predictions: panderm.Predictions) -> None:
    given, levels = drawn_study(predictions, TWO, seed=3)
    alone = Levels(("yes",), np.zeros_like(levels.codes), None)
    (column,) = score_subgroups(given, {"hair": alone}, Resampling.of(given, draws=30, seed=0))
    assert column.levels[0].scores["auroc"].low is not None
    assert column.levels[0].gaps["auroc"] == Score(None, None, None, "all other images: there are none")


def test_a_score_that_no_draw_moves_has_no_interval(predictions: panderm.Predictions) -> None:
    """All right in a group: its bootstrap knows no doubt, and the gap would only carry that of the others."""
    rng = np.random.default_rng(1)
    truth = np.arange(80) % 2
    chance = np.where(np.arange(80) < 30, np.where(truth, 0.9, 0.1), rng.uniform(0, 1, 80))
    given = made_of(predictions, TWO, truth, np.column_stack([1 - chance, chance]), None)
    codes = (np.arange(80) >= 30).astype(np.int64)
    (column,) = score_subgroups(
        given, {"x": Levels(("a", "b"), codes, None)}, Resampling.of(given, draws=100, seed=0)
    )
    one, other = column.levels
    exact = one.scores["accuracy"]
    assert (exact.value, exact.high) == (1, 1)
    assert exact.low == pytest.approx(0.025 ** (1 / 30))  # 30 of 30: Clopper and Pearson
    assert exact.method == "exact (Clopper and Pearson)"
    assert one.scores["auroc"] == Score(1.0, None, None, "no interval: it is the same in every draw")
    assert one.gaps["accuracy"].value == pytest.approx(1 - other.scores["accuracy"].value)
    assert one.gaps["accuracy"].low is None
    assert one.gaps["accuracy"].reason == "no interval: of this group, it is the same in every draw"
    assert other.gaps["accuracy"].reason == "no interval: of all other images, it is the same in every draw"


# Levels


def cells(*values: str | None) -> npt.NDArray[np.object_]:
    return np.array(values, dtype=object)


def named(levels: Levels) -> list[str]:
    return [levels.names[code] for code in levels.codes]


def test_levels_in_order_and_empty_cells_as_one_of_their_own() -> None:
    words = cut_into_levels(
        cells("trunk", None, "face", "Face"), column="site", whole_table=["trunk", "scalp"]
    )
    assert words.names == ("Face", "face", "trunk", "(empty)")
    assert named(words) == ["trunk", "(empty)", "face", "Face"]
    assert words.unseen == ("scalp",)
    numbers = cut_into_levels(cells("10.0", "2", None, "2.0"), column="tone", whole_table=["2", "10", "6.0"])
    assert numbers.names == ("2", "10", "(empty)")
    assert named(numbers) == ["10", "2", "(empty)", "2"]
    assert numbers.unseen == ("6",)
    empty = cut_into_levels(cells(None, None), column="tone")
    assert (empty.names, empty.unseen) == (("(empty)",), ())


def test_ages_in_decades() -> None:
    ages = [str(age) for age in range(0, 90, 5)]
    levels = cut_into_levels(cells(*ages, None), column="age_approx")
    assert levels.cut == "in decades"
    assert levels.names[:2] == ("0–9", "10–19")
    assert levels.names[-2:] == ("80 and over", "(empty)")
    assert named(levels)[:3] == ["0–9", "0–9", "10–19"]
    assert named(levels)[16] == "80 and over"
    # Twelve different numbers stand as they are; a column that only ends in the letters is no age.
    assert cut_into_levels(cells(*ages[:12]), column="age").cut is None
    image = cut_into_levels(cells(*ages), column="image_number")
    assert image.cut == "at the quartiles of these rows"
    assert cut_into_levels(cells(*ages[:12]), column="age", whole_table=ages).cut == "in decades"


def test_quartiles_hold_about_a_quarter_each() -> None:
    rng = np.random.default_rng(0)
    values = rng.gamma(2, 3, 400)
    levels = cut_into_levels(cells(*(f"{v:.4f}" for v in values)), column="blur")
    assert len(levels.names) == 4
    assert np.bincount(levels.codes).tolist() == pytest.approx([100] * 4, abs=2)
    low, high = (float(x) for x in levels.names[1].split(" to under "))
    inside = levels.codes == 1
    assert (values[inside].round(4) >= low).all()
    assert (values[inside].round(4) < high).all()
    # Most of them 0: no band is empty, and 0 is one of its own.
    many = cut_into_levels(cells(*["0"] * 300, *(str(i) for i in range(1, 51))), column="hairs")
    assert many.names == ("under 1", "1 and over")
    assert np.bincount(many.codes).tolist() == [300, 50]


def test_bands_as_asked() -> None:
    levels = cut_into_levels(cells("29", "30", "49.5", "70", None), column="age", edges=[30, 50, 70])
    assert levels.cut == "in bands as asked"
    assert levels.names == ("under 30", "30 to under 50", "70 and over", "(empty)")
    whole = cut_into_levels(cells("29", "30", "31", "69"), column="age", edges=[30, 31, 50])
    assert named(whole) == ["under 30", "30", "31–49", "50 and over"]


def test_too_many_levels_are_refused() -> None:
    many = [f"site {i:02}" for i in range(21)]
    with pytest.raises(TableError) as raised:
        cut_into_levels(cells(*many), column="site", source="ham.csv")
    assert str(raised.value) == (
        "a column of subgroups must have at most 20 different values.\n"
        "  column 'site' of ham.csv has 21 in these rows: "
        "site 00, site 01, site 02, site 03, site 04 and 16 more\n"
        "  hint: merge them in a column of their own, and name that one"
    )
    ages = [str(i) for i in range(30)]
    with pytest.raises(TableError, match="where no other value is among them: empty unknown"):
        cut_into_levels(cells(*ages, "unknown"), column="age")
    with pytest.raises(TableError, match="only a column of numbers can be cut"):
        cut_into_levels(cells("1", "nan"), column="age", edges=[3])


def test_pairs_of_levels_are_those_that_have_rows_in_order() -> None:
    sex = cut_into_levels(cells("m", "f", "f", None, "f"), column="sex", whole_table=["x"])
    age = cut_into_levels(cells("61", "9", "30", "30", "30"), column="age", edges=[18, 60])
    crossed = cross(sex, age, columns=("sex", "age"))
    assert crossed.names == ("f:under 18", "f:18–59", "m:60 and over", "(empty):18–59")
    assert named(crossed) == ["m:60 and over", "f:under 18", "f:18–59", "(empty):18–59", "f:18–59"]
    assert crossed.cut == "age in bands as asked"
    assert crossed.unseen == ("f:60 and over", "m:under 18", "m:18–59", "sex x")


def test_too_many_pairs_are_refused() -> None:
    rng = np.random.default_rng(0)
    one, two = (cut_into_levels(cells(*rng.choice(list("abcdef"), 300)), column=c) for c in "xy")
    with pytest.raises(TableError) as raised:
        cross(one, two, columns=("x", "y"), source="ham.csv")
    assert str(raised.value) == (
        "a crossing of subgroups must have at most 20 pairs that have rows.\n"
        "  in these rows of ham.csv, column 'x' has 6 levels and column 'y' has 6 levels: 36 pairs\n"
        "  hint: cut numbers into fewer bands, as --bands age=40,65, or merge values in a column of their own"
    )


def test_other_cells_find_the_levels_that_were_cut() -> None:
    age = cut_into_levels(cells("29", "30", "69", None), column="age", edges=[30, 50])
    assert age.place(cells("12", "49", "50", "99", None, "old")).tolist() == [0, 1, 2, 2, 3, -1]
    tone = cut_into_levels(cells("1.0", "2"), column="tone")
    assert tone.place(cells("1", "2.0", "3", None, "dark")).tolist() == [0, 1, -1, -1, -1]
    decades = cut_into_levels(cells(*map(str, range(20, 60, 2))), column="age")
    assert decades.place(cells("21", "59", "9")).tolist() == [0, 3, -1]


# The verbs


@pytest.fixture(scope="module")
def desk(predictions: panderm.Predictions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: predictions of two classes, and a table of flags for their images in another order."""
    folder = tmp_path_factory.mktemp("desk")
    given, _ = drawn_study(predictions, TWO, seed=9, patients=90)
    given.save(folder / "probe.pred")
    n = len(given)
    hair = np.random.default_rng(0).choice(["no", "yes"], n)
    flags = pd.DataFrame({"image": given.image, "hair": hair, "blur": np.arange(n) / 7})
    extra = pd.DataFrame({"image": ["of another set.png"], "hair": ["perhaps"], "blur": [0.5]})
    pd.concat([flags, extra]).sample(frac=1, random_state=0).to_csv(folder / "flagged.csv", index=False)
    return folder


def invoke(command: str) -> Result:
    result = CliRunner().invoke(app, command.split())
    assert "Traceback" not in result.output
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def refused(command: str) -> str:
    result = invoke(command)
    assert result.exit_code == 2, result.output
    return result.stderr.rstrip("\n")


def test_evaluate_by_columns_of_another_table(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    done = invoke(
        "evaluate probe.pred --by hair --by blur --columns flagged.csv --draws 60 --out by.json --overwrite"
    )
    assert done.exit_code == 0
    shown = " ".join(done.stdout.split())
    assert "hair images patients" in shown
    assert "blur, at the quartiles of these rows" in shown
    assert "gap: " in shown
    told = json.loads((desk / "by.json").read_text("utf-8"))["subgroups"]
    assert told["file"] == str((desk / "flagged.csv").resolve())
    assert told["image_column"] == "image"
    hair, blur = told["columns"]
    assert [level["level"] for level in hair["levels"]] == ["no", "yes"]
    # Joined by name, not by row.
    flags = pd.read_csv("flagged.csv", index_col="image")["hair"]
    opened = panderm.open_predictions("probe.pred")
    for level in hair["levels"]:
        assert level["n"] == (flags[opened.image.tolist()] == level["level"]).sum()
    assert len(blur["levels"]) == 4
    again = json.loads(
        invoke("evaluate probe.pred --by hair --by blur --columns flagged.csv --draws 60 --json").stdout
    )
    assert again["subgroups"] == told


def test_a_crossing_is_a_column_of_pairs(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its numbers are those of a column in which a user wrote the pairs; such a column comes first."""
    monkeypatch.chdir(desk)
    flags = pd.read_csv("flagged.csv")
    half = np.where(flags["blur"] < 10, "under 10", "10 and over")
    flags.assign(pair=flags["hair"] + ":" + half, site="s" + (flags.index % 2).astype(str)).to_csv(
        "pairs.csv", index=False
    )
    words = "--columns pairs.csv --bands blur=10 --draws 60 --json"
    told = json.loads(invoke(f"evaluate probe.pred --by hair:blur --by pair {words}").stdout)["subgroups"]
    crossed, own = ({one["level"]: one for one in column["levels"]} for column in told["columns"])
    assert told["columns"][0]["column"] == "hair:blur"
    assert list(crossed) == ["no:under 10", "no:10 and over", "yes:under 10", "yes:10 and over"]
    assert crossed == own
    pd.read_csv("pairs.csv").rename(columns={"site": "hair:blur"}).to_csv("named.csv", index=False)
    words = "--columns named.csv --draws 10 --scores-only --json"
    told = json.loads(invoke(f"evaluate probe.pred --by hair:blur {words}").stdout)["subgroups"]
    assert [one["level"] for one in told["columns"][0]["levels"]] == ["s0", "s1"]
    shown = invoke("evaluate probe.pred --by hair:blur --columns flagged.csv --draws 20").stdout
    assert "hair:blur, blur at the quartiles of these rows" in " ".join(shown.split())


def test_words_of_a_crossing(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    assert refused("evaluate probe.pred --by hairy:blur --columns flagged.csv") == (
        "TableError: both columns of the crossing 'hairy:blur' must exist, 'hairy' and 'blur'.\n"
        "  flagged.csv has no 'hairy'; did you mean 'hair'?; it has: image, hair, blur\n"
        "  hint: two columns can be crossed, --by sex:age"
    )
    assert refused("evaluate probe.pred --by hair:hair --columns flagged.csv") == (
        "UsageError: --by must cross two different columns.\n  found 'hair:hair'\n  hint: --by hair"
    )


def test_sets_of_a_group_rest_on_its_own_validation_rows(tmp_path: Path) -> None:
    """Checked by hand: the set of a row holds the classes that its own level's held-out rows leave in."""
    rng = np.random.default_rng(0)
    rows = 300
    truth, tone = rng.integers(0, 2, rows), rng.choice(["dark", "light", "rare"], rows, p=[0.3, 0.68, 0.02])
    noise = rng.normal(0, np.where(tone == "dark", 2.5, 0.8), rows)
    p = 1 / (1 + np.exp(-2 * (2 * truth - 1) - noise))
    part = np.where(np.arange(rows) < 150, "val", "test")
    frame = pd.DataFrame(
        {"dx": truth, "p_1": p, "tone": tone, "part": part, "sex": rng.choice(["f", "m"], rows)}
    )
    frame.to_csv(tmp_path / "all.csv", index=False)
    words = "--truth dx --proba p_1 --split-column part --classes 0,1 --draws 30 --json"
    told = json.loads(invoke(f"evaluate {tmp_path / 'all.csv'} --by tone --by tone:sex {words}").stdout)
    sets = told["prediction_sets"]
    kind = next(one for one in sets["kinds"] if one["column"] == "tone")
    assert [one["by"] for one in sets["kinds"]] == ["all", "class", "level", "level"]
    by_level = {row["of"]: row for row in kind["rows"] if row["column"] == "tone"}
    strange = np.where(truth == 1, 1 - p, p)
    val = part == "val"
    for name, row in by_level.items():
        own, theirs = val & (tone == name), ~val & (tone == name)
        enough = own.sum() >= 10
        held = strange[own] if enough else strange[val]
        share = [(1 + (held >= x).sum()) / (1 + len(held)) for x in strange[theirs]]
        covered = np.mean(np.array(share) >= 0.1 - 1e-12)
        assert row["calibrated"] == (own.sum() if enough else val.sum())
        assert (row["caution"] is None) == enough
        if row["coverage"]["value"] is None:
            assert row["coverage"]["reason"].startswith("too few to say: ")
        else:
            assert row["coverage"]["value"] == pytest.approx(covered)
    assert by_level["dark"]["caution"] is None
    assert by_level["rare"]["caution"] is not None


def test_columns_of_the_table_that_was_embedded(predictions: panderm.Predictions) -> None:
    scores = panderm.evaluate(predictions, by=["area", "tone"], bands={"area": [900, 2000]}, draws=20)
    assert scores.subgroups is not None
    table = predictions.card.embeddings.table
    assert (scores.subgroups.file, scores.subgroups.sha256) == (table.csv, table.csv_sha256)
    area, tone = scores.subgroups.columns
    assert (area.cut, tone.cut) == ("in bands as asked", None)
    frame = pd.read_csv(table.csv, index_col="image").loc[predictions.image.tolist()]
    counts = {level.level: level.n for level in area.levels}
    wanted = {
        "under 900": (frame["area"] < 900).sum(),
        "900–1999": ((frame["area"] >= 900) & (frame["area"] < 2000)).sum(),
        "2000 and over": (frame["area"] >= 2000).sum(),
    }
    assert counts == {name: n for name, n in wanted.items() if n}
    assert len(counts) > 1
    assert {level.level: level.n for level in tone.levels} == frame["tone"].value_counts().to_dict()


def test_whole_and_groups_rest_on_the_same_draws(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for subgroups changes no number of the whole; a group of everyone has the whole's."""
    monkeypatch.chdir(desk)
    pd.read_csv("flagged.csv").assign(all="x").to_csv("all.csv", index=False)
    plain = panderm.evaluate("probe.pred", draws=80, seed=4)
    by = panderm.evaluate("probe.pred", by=["all"], columns="all.csv", draws=80, seed=4, progress=False)
    assert by.scores == plain.scores
    assert by.subgroups is not None
    (level,) = by.subgroups.columns[0].levels
    for name, score in plain.scores.items():
        assert level.scores[name] == score
    assert level.scores["sensitivity"] == plain.per_class["malignant"].sensitivity
    assert level.scores["specificity"] == plain.per_class["malignant"].specificity


def test_written_and_opened_again(desk: Path, tmp_path: Path) -> None:
    scores = panderm.evaluate(
        desk / "probe.pred", by=["hair"], columns=desk / "flagged.csv", draws=20, progress=False
    )
    path = scores.save(tmp_path / "scores.json")
    opened = Scores.open(path)
    assert opened.subgroups == scores.subgroups
    assert opened.as_dict() == scores.as_dict() == json.loads(path.read_text("utf-8"))
    assert "NaN" not in path.read_text("utf-8")


def test_scores_of_earlier_versions_open(desk: Path, tmp_path: Path) -> None:
    told = panderm.evaluate(desk / "probe.pred", draws=10).as_dict()
    assert "subgroups" not in told
    (tmp_path / "old.json").write_text(json.dumps(told), "utf-8")
    assert Scores.open(tmp_path / "old.json").subgroups is None


# Words


def test_words_of_a_column_that_is_not_there(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    assert refused("evaluate probe.pred --by hairy --columns flagged.csv") == (
        "TableError: column 'hairy' must exist; did you mean 'hair'?\n"
        "  flagged.csv has: image, hair, blur\n"
        "  hint: name the column with --by"
    )
    pd.read_csv("flagged.csv").rename(columns={"image": "img_id"}).to_csv("renamed.csv", index=False)
    assert refused("evaluate probe.pred --by hair --columns renamed.csv") == (
        "TableError: column 'image' must exist\n"
        "  renamed.csv has: img_id, hair, blur\n"
        "  hint: name the column with --image-column"
    )
    assert invoke("evaluate probe.pred --by hair --columns renamed.csv --image-column img_id").exit_code == 0


def test_words_of_images_that_are_not_there(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    given = panderm.open_predictions("probe.pred")
    flags = pd.read_csv("flagged.csv")
    gone = sorted(given.image)[:2]
    left = flags[~flags["image"].isin(gone)]
    left.to_csv("short.csv", index=False)
    order = [name for name in given.image if name in gone]
    assert refused("evaluate probe.pred --by hair --columns short.csv") == (
        "TableError: every image must have a row in the table of the columns.\n"
        f"  2 of {len(given)} images are not in column 'image' of short.csv: {', '.join(order)}\n"
        f"  it has: {', '.join(left['image'][:3])} and {len(left) - 3} more\n"
        "  hint: names must be the same to the letter; name the column that holds them with --image-column"
    )
    twice = flags[flags["image"] == gone[0]].assign(hair="maybe")
    pd.concat([flags, twice]).to_csv("twice.csv", index=False)
    first = flags.index[flags["image"] == gone[0]][0] + 2
    assert refused("evaluate probe.pred --by hair --columns twice.csv") == (
        "TableError: every image must have one row in the table of the columns.\n"
        f"  1 image with more than one in column 'image' of twice.csv: {gone[0]}\n"
        f"  {gone[0]}: rows {first}, {len(flags) + 2}\n"
        "  hint: remove the repeated rows"
    )


def test_words_of_a_table_that_changed_or_went(
    predictions: panderm.Predictions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = predictions.card.embeddings.table
    moved = table.model_copy(update={"csv": str(tmp_path / "gone.csv")})
    embeddings = predictions.card.embeddings.model_copy(update={"table": moved})
    card = predictions.card.model_copy(update={"embeddings": embeddings})
    replace(predictions, card=card, fitted=None).save("probe.pred")
    assert refused("evaluate probe.pred --by tone") == (
        "ParentsError: the table of the predictions must be there as it was embedded.\n"
        f"  found no file {tmp_path / 'gone.csv'}\n"
        "  hint: name it where it is now, or another table of these images: --columns FILE"
    )
    Path("gone.csv").write_bytes(Path(table.csv).read_bytes() + b"\n")
    said = refused("evaluate probe.pred --by tone")
    now = panderm.storage.sha256_of_file(tmp_path / "gone.csv")
    assert said == (
        "ParentsError: the table of the predictions must be there as it was embedded.\n"
        f"  {tmp_path / 'gone.csv'}: sha256 {table.csv_sha256[:12]} when it was embedded, {now[:12]} now\n"
        "  hint: where the columns are still right, say so: --columns FILE"
    )
    assert invoke("evaluate probe.pred --by tone --columns gone.csv --draws 10").exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "--columns flagged.csv",
            "--columns must come with --by.\n  found no --by\n  hint: name a column: --by sex",
        ),
        ("--bands age=3,4", "--bands must come with --by.\n  found no --by\n  hint: name a column: --by sex"),
        ("--by age --by age", "--by must name a column once.\n  named more than once: age"),
        (
            "--by age --bands aeg=3,4",
            "--bands must be of a column that --by names.\n  found 'aeg'; did you mean 'age'?\n"
            "  hint: --by aeg",
        ),
        (
            "--by age --bands age=50,30",
            "--bands must be numbers that ascend.\n  found for 'age': 50, 30\n  hint: --bands age=30,50,70",
        ),
        (
            "--by age --bands age=thirty",
            "--bands must name a column once, and where to cut it.\n  found 'age=thirty'\n"
            "  hint: --bands age=30,50,70",
        ),
        (
            "--by age --bands age=3 --bands age=4",
            "--bands must name a column once, and where to cut it.\n  found 'age=4'\n"
            "  hint: --bands age=30,50,70",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["evaluate probe.pred", "report probe.pred --out page.html"])
def test_words_of_options(
    desk: Path, monkeypatch: pytest.MonkeyPatch, verb: str, options: str, message: str
) -> None:
    monkeypatch.chdir(desk)
    assert refused(f"{verb} {options}") == f"UsageError: {message}"
    assert not Path("page.html").exists()


def test_scores_that_are_there_are_shown_as_they_are(desk: Path) -> None:
    scores = panderm.evaluate(desk / "probe.pred", draws=10)
    with pytest.raises(UsageError, match="--by must come without --scores"):
        panderm.Report(desk / "probe.pred", scores, by=["age"])


# The page


class Texts(HTMLParser):
    """The text of a page, and its tags in balance."""

    VOID = ("meta", "link", "img", "br", "wbr", "rect", "path", "use")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)


def shown(gap: Score) -> str:
    """Return a gap as a page shows it."""
    assert gap.value is not None
    assert gap.low is not None
    assert gap.high is not None
    return f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})".replace("-", "−")


def words_of(page: str) -> str:
    parser = Texts()
    parser.feed(page)
    assert not parser.open
    return " ".join(" ".join(parser.text).split())


def test_the_report_shows_them(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    pd.read_csv("flagged.csv").assign(odd="<b>&").to_csv("odd.csv", index=False)
    by = "--by hair --by odd --columns odd.csv -q"
    assert invoke(f"report probe.pred --out by.html {by}").exit_code == 0
    page = Path("by.html").read_text("utf-8")
    said = words_of(page)
    scores = panderm.evaluate("probe.pred", by=["hair", "odd"], columns="odd.csv", progress=False)
    assert scores.subgroups is not None
    name = headline(scores.subgroups)
    yes = scores.subgroups.columns[0].levels[1]
    assert yes.level == "yes"
    assert name == "auroc"
    assert f"yes {yes.n} {yes.clusters} {yes.classes['benign']} {yes.classes['malignant']} " in said
    assert shown(yes.gaps[name]) in said
    assert "one in twenty does so by chance alone" in said
    assert "Too few to say: fewer than 10 patients in the group" in said
    assert "<b>&" in said  # as text, not as markup
    assert "all other images: there are none" in said
    assert 'id="subgroups"' not in panderm.Report("probe.pred").html()


def test_several_encoders_side_by_side(desk: Path) -> None:
    given = panderm.open_predictions(desk / "probe.pred")
    card = given.card.model_copy(update={"method": {**given.card.method, "seed": 99}})
    chances = np.sqrt(given.probabilities)
    other = replace(given, card=card, probabilities=chances / chances.sum(axis=1, keepdims=True))
    worse = replace(other, probabilities=other.probabilities[:, ::-1].copy())
    report = panderm.Report([given, worse], by=["hair"], columns=desk / "flagged.csv", progress=False)
    said = words_of(report.html())
    assert "Gap by hair, with 95 % intervals; drawn from" in said
    for _, scores in report.parts:
        assert scores.subgroups is not None
        for level in scores.subgroups.columns[0].levels:
            assert shown(level.gaps["auroc"]).replace("(", "").replace(")", "") in said
    assert "4 gaps with an interval" in said
    # Scores with other groups, or with none, cannot stand side by side.
    plain = [scores if i else panderm.evaluate(given) for i, (_, scores) in enumerate(report.parts)]
    assert 'id="subgroups"' not in panderm.Report([given, worse], plain).html()


def test_flags_come_with_their_errors(
    predictions: panderm.Predictions, world: DrawnWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From images to flags to subgroups, and how often the flags are right stands beside every number."""
    monkeypatch.chdir(tmp_path)
    predictions.save("probe.pred")
    assert invoke(f"artefacts {world.csv} --images {world.images} --out flagged.csv -q").exit_code == 0
    by = "--by hair --by tone_ita --by blur_score --by site --by hair:tone_ita --columns flagged.csv"
    done = invoke(f"evaluate probe.pred {by} --draws 20 --out by.json")
    assert done.exit_code == 0
    rate = read_accuracy().flags["hair"].sensitivity
    assert rate.value is not None
    told = f"hair is estimated by panderm artefacts; on {read_accuracy().labels}, held against"
    assert told in " ".join(done.stdout.split())
    scores = Scores.open("by.json")
    assert scores.subgroups is not None
    hair, tone, blur, site, both = scores.subgroups.columns
    assert both.error == f"made of hair, {hair.error}; and of tone_ita, {tone.error}"
    assert f"sensitivity {rate.value:.2f} (" in (hair.error or "")
    assert "rank correlation with the Fitzpatrick type" in (tone.error or "")
    assert "AUROC" in (blur.error or "")
    assert site.error is None
    said = words_of(panderm.Report("probe.pred", scores).html())
    assert f"{hair.error}." in said
    assert "usually makes a gap look smaller than it is" in said
    # Without the card beside it, a table's columns are what its owner says they are.
    Path("flagged.artefacts.json").write_text("{}", "utf-8")
    plain = panderm.evaluate("probe.pred", by=["hair"], columns="flagged.csv", draws=20)
    assert plain.subgroups is not None
    assert plain.subgroups.columns[0].error is None


def test_errors_are_ours(desk: Path) -> None:
    with pytest.raises(PandermError, match="the table must exist"):
        panderm.evaluate(desk / "probe.pred", by=["hair"], columns=desk / "none.csv")


# Coverage: a study has 120 patients outside a group and 40 in it, 10 of them of the positive class, the
# fewest of which anything is said. Every image of a patient scores ±d + u + e (as in test_coverage);
# in the group d is smaller. AUROC in the population is Φ(d√2), so the true gap is known.

REPETITIONS, DRAWS = 150, 200
OUTSIDE, INSIDE = 0.8, 0.5


def study(card: panderm.Predictions, rng: np.random.Generator) -> tuple[panderm.Predictions, Levels]:
    positive = np.r_[np.arange(120) % 2, np.arange(40) < 10].astype(int)
    inside = np.arange(160) >= 120
    person = np.repeat(np.arange(160), rng.integers(1, 4, 160))
    shift, noise = rng.normal(0, np.sqrt(0.6), 160)[person], rng.normal(0, np.sqrt(0.4), len(person))
    d = np.where(inside[person], INSIDE, OUTSIDE)
    chance = norm.cdf(np.where(positive[person], d, -d) + shift + noise)
    given = made_of(
        card, ("benign", "malignant"), positive[person], np.column_stack([1 - chance, chance]), person
    )
    return given, Levels(("out", "in"), inside[person].astype(np.int64), None)


def test_the_interval_of_a_gap_covers(predictions: panderm.Predictions) -> None:
    true = norm.cdf(INSIDE * np.sqrt(2)) - norm.cdf(OUTSIDE * np.sqrt(2))
    rng = np.random.default_rng(7)
    held = found = below = 0
    for repetition in range(REPETITIONS):
        given, levels = study(predictions, rng)
        gap = (
            score_subgroups(given, {"site": levels}, Resampling.of(given, draws=DRAWS, seed=repetition))[0]
            .levels[1]
            .gaps["auroc"]
        )
        if gap.value is not None and gap.low is not None and gap.high is not None:
            found += 1
            held += gap.low <= true <= gap.high
            below += gap.value < 0
    assert found >= 0.95 * REPETITIONS
    assert 0.86 <= held / found <= 0.99  # 0.91 in long runs; three standard errors of 150 studies
    assert below / found > 0.75  # the planted gap is -0.11
    assert true == pytest.approx(-0.111, abs=0.001)
