"""Several encoders in one run: the same rows, the same draws, one report, and nothing made twice."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from typer.testing import CliRunner

import panderm
from panderm import pipeline
from panderm.cli import app
from panderm.cli.frame import in_a_cell, show_comparison
from panderm.data.drawn import DrawnWorld
from panderm.errors import ArtifactError, ParentsError, UsageError, WeightsError
from panderm.models import encoder as encoder_module
from panderm.scores import Score, differences, evaluate
from panderm.statistics.resampling import cluster_bootstrap, cluster_codes, paired_interval

SHARPNESS = {"coarse": 2, "fine": 8, "middling": 4}
FILES = ("embeddings.emb", "probe.pred", "scores.json")


class ColourMeans(torch.nn.Module):
    """Mean colours of a side × side grid, repeated or cut to 192 numbers an image."""

    def __init__(self, side: int, log: list[str], name: str) -> None:
        super().__init__()
        self.side, self.log, self.name = side, log, name

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.log.append(f"embed {self.name}")
        means = torch.nn.functional.adaptive_avg_pool2d(pixels, self.side).flatten(1)
        return means.repeat(1, -(-192 // means.shape[1]))[:, :192]


class Shelf:
    """Stands for load_encoder: small networks by name, and a log of what was done when."""

    def __init__(self, encoder: panderm.Encoder) -> None:
        self.encoder = encoder
        self.log: list[str] = []
        self.asked: list[dict[str, Any]] = []
        self.networks: list[weakref.ref[torch.nn.Module]] = []
        self.contents: dict[str, str] = {}  # of a weights file, by its name

    def load(self, name: str | None, *, weights: Path | str | None = None, **others: Any) -> panderm.Encoder:
        self.asked.append({"name": name, "weights": weights, **others})
        self.log.append(f"load {name}")
        if name not in SHARPNESS:
            raise UsageError(f"no encoder {name}")
        content = self.contents.get(str(weights), str(weights))
        network = ColourMeans(SHARPNESS[name] + (2 if weights else 0), self.log, name)
        self.networks.append(weakref.ref(network))
        record = self.encoder.record.model_copy(
            update={
                "name": name,
                "weights_sha256": f"{content.encode().hex():0<64}",
                "random": False,
                "precision": others.get("precision", "fp32"),
            }
        )
        eye = self.encoder
        return panderm.Encoder(network, eye.preprocess, record, eye.account, eye.device)

    def embedded(self) -> list[str]:
        """Return the names that images went through, once each in a row, and forget them."""
        names = [line.removeprefix("embed ") for line in self.log if line.startswith("embed ")]
        self.log.clear()
        return [name for i, name in enumerate(names) if not i or names[i - 1] != name]


@pytest.fixture
def shelf(encoder: panderm.Encoder, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    shelf = Shelf(encoder)
    monkeypatch.setattr(pipeline, "load_encoder", shelf.load)
    return shelf


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: DrawnWorld, no_figures: None) -> Path:
    monkeypatch.chdir(tmp_path)
    write_table(world)
    return tmp_path


def write_table(world: DrawnWorld) -> None:
    rows = pd.read_csv(world.csv, dtype=str)[["image", "split", "label", "patient_id", "lesion_id"]]
    rows = rows.groupby(["split", "label"]).head(5)
    rows["image"] = [str(world.images / name) for name in rows["image"]]
    rows.to_csv("skin.csv", index=False)


def run(encoder: str | Sequence[str] | None, out: str = "all", **others: Any) -> pipeline.Run:
    """Run with the recipe that has no strength to choose: which one a probe has is not the question here."""
    asked = {"recipe": "paper", "draws": 50, "progress": False} | others
    return panderm.run("skin.csv", encoder=encoder, out=out, **asked)


def typed(words: str) -> Any:
    return CliRunner().invoke(app, words.split())


def cli(words: str) -> dict[str, Any]:
    result = typed(f"{words} --json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def files(out: str) -> list[str]:
    return sorted(str(p.relative_to(out)) for p in Path(out).rglob("*") if p.name in (*FILES, "report.html"))


# --- which encoders, with which weights ---


@pytest.mark.parametrize(
    ("given", "others", "told"),
    [
        (None, {}, ["found neither --encoder nor --card"]),
        ([], {"weights": ["a.pth", None]}, ["found neither --encoder nor --card"]),
        (["coarse", "fine"], {"weights": "a.pth"}, ["2 encoders: coarse, fine", "1 weights file: a.pth"]),
        (
            ["coarse", "fine", "middling"],
            {"weights": ["a.pth", None]},
            ["found 3 encoders", "found 2 weights files: a.pth, -"],
        ),
        ("coarse", {"weights": ["a.pth", "b.pth"]}, ["found 1 encoder: coarse", "found 2 weights files"]),
        (["coarse", "fine"], {"card": "my.json"}, ["found 2 encoders: coarse, fine"]),
        (["coarse", "coarse"], {}, ["found coarse twice"]),
        (["coarse", "coarse"], {"weights": ["a.pth", "a.pth"]}, ["found coarse twice"]),
    ],
)
def test_encoders_and_weights_must_fit_together(
    desk: Path, shelf: Shelf, given: Any, others: dict[str, Any], told: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        run(given, **others)
    for words in told:
        assert words in str(caught.value)
    assert caught.value.hint
    assert not Path("all").exists()


def test_each_gets_its_own_weights_and_all_the_same_options(desk: Path, shelf: Shelf) -> None:
    pairs = "--encoder coarse --weights - --encoder fine --weights b.pth"
    cli(f"run skin.csv {pairs} -q --draws 20 --out all --pool mean --device cpu --compile")
    pairs = [(asked["name"], asked["weights"]) for asked in shelf.asked[:2]]
    assert pairs == [("coarse", None), ("fine", "b.pth")]
    for asked in shelf.asked:
        assert {k: asked[k] for k in ("pool", "image_size", "precision", "device", "compile", "card")} == {
            "pool": "mean",
            "image_size": None,
            "precision": shelf.asked[0]["precision"],
            "device": "cpu",
            "compile": True,
            "card": None,
        }


def test_a_card_stands_for_a_name(desk: Path, shelf: Shelf) -> None:
    with pytest.raises(UsageError, match="no encoder"):
        run(None, card="my.json", weights="a.pth")
    asked = shelf.asked[0]
    assert (asked["name"], asked["card"], asked["weights"]) == (None, "my.json", "a.pth")
    shelf.asked.clear()
    with pytest.raises(UsageError, match="no encoder"):
        run(None, weights=["a.safetensors", "b.safetensors"])
    assert (shelf.asked[0]["name"], shelf.asked[0]["weights"]) == (None, "a.safetensors")


def test_a_wrong_encoder_or_table_is_refused_before_the_first_image(desk: Path, shelf: Shelf) -> None:
    with pytest.raises(UsageError, match="no encoder wrong"):
        run(["coarse", "wrong"])
    with pytest.raises(panderm.PandermError):
        panderm.run("gone.csv", encoder=["coarse", "fine"], out="all", progress=False)
    assert shelf.embedded() == []
    assert not Path("all").exists()


def test_all_are_checked_first_and_one_network_is_held_at_a_time(
    desk: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = []
    read = pipeline.read_table
    embed = panderm.Encoder.embed

    def read_table(*args: Any, **others: Any) -> panderm.Table:
        shelf.log.append("table")
        return read(*args, **others)

    def watched(self: panderm.Encoder, *args: Any, **others: Any) -> panderm.Embeddings:
        gc.collect()
        alive.append(sum(one() is not None for one in shelf.networks))
        return embed(self, *args, **others)

    monkeypatch.setattr(pipeline, "read_table", read_table)
    monkeypatch.setattr(panderm.Encoder, "embed", watched)
    run(["coarse", "fine", "middling"])
    assert shelf.log[:4] == ["load coarse", "load fine", "load middling", "table"]
    assert alive == [1, 1, 1]


def test_a_weights_file_that_changes_meanwhile_is_refused(
    desk: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = pipeline.read_table

    def read_table(*args: Any, **others: Any) -> panderm.Table:
        shelf.contents["b.pth"] = "written over"
        return read(*args, **others)

    monkeypatch.setattr(pipeline, "read_table", read_table)
    with pytest.raises(WeightsError, match="must not change while a run uses it"):
        run(["coarse", "fine"], weights=[None, "b.pth"])
    assert shelf.embedded() == ["coarse"]


# --- where it all lies ---


def test_one_encoder_lies_where_it_always_did(desk: Path, shelf: Shelf) -> None:
    for i, encoder in enumerate(("coarse", ["coarse"])):
        made = run(encoder, f"all{i}")
        assert files(f"all{i}") == ["embeddings.emb", "probe.pred", "report.html", "scores.json"]
        assert made.scores.as_dict() == made.parts[0].scores.as_dict()
        assert made.predictions is made.parts[0].predictions
        assert made.differences == ()
        assert "Evaluation report" in made.report.read_text("utf-8")
    assert len(shelf.asked) == 2, "a single encoder is loaded once"


def test_several_have_a_folder_each_and_one_report(desk: Path, shelf: Shelf) -> None:
    made = run(["coarse", "fine"])
    wanted = [f"{name}/{file}" for name in ("coarse", "fine") for file in FILES]
    assert files("all") == sorted([*wanted, "report.html"])
    assert [part.title for part in made.parts] == ["coarse", "fine"]
    assert [part.folder for part in made.parts] == [Path("all/coarse"), Path("all/fine")]
    for part in made.parts:
        opened = panderm.open_predictions(part.folder / "probe.pred")
        assert opened.card.embeddings.encoder.name == part.title
        assert panderm.Scores.open(part.folder / "scores.json").as_dict() == part.scores.as_dict()
    assert "Comparison report" in made.report.read_text("utf-8")
    for name in ("embeddings", "predictions", "scores"):
        with pytest.raises(UsageError, match=f"asked for its {name}") as caught:
            getattr(made, name)
        assert "coarse, fine" in str(caught.value)


def test_one_of_several_gives_what_it_gives_alone(desk: Path, shelf: Shelf) -> None:
    both, alone = run(["coarse", "fine"], seed=3), run("fine", "alone", seed=3)
    assert both.parts[1].scores.as_dict() == alone.scores.as_dict()
    np.testing.assert_array_equal(both.parts[1].embeddings.vectors, alone.embeddings.vectors)


def test_namesakes_are_told_apart_by_their_weights(desk: Path, shelf: Shelf) -> None:
    made = run(["fine", "fine"], weights=["a.pth", "b.pth"])
    hashes = [part.embeddings.card.encoder.weights_sha256[:8] for part in made.parts]
    assert [part.title for part in made.parts] == [f"fine (weights {sha})" for sha in hashes]
    assert [part.folder.name for part in made.parts] == [f"fine-{sha}" for sha in hashes]
    page = made.report.read_text("utf-8")
    assert all(f"fine (weights {sha})" in page for sha in hashes)


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (["timm:vit_tiny.in1k", "hf-hub:a/b c"], ["timm-vit_tiny.in1k", "hf-hub-a-b-c"]),
        (["../../etc", "/"], ["etc", "encoder"]),
        (["Probe.Pred", "x"], ["Probe.Pred-1a1a1a1a", "x"]),
        (["A", "a"], ["A-1a1a1a1a", "a-2a2a2a2a"]),
        (["Netz für Haut", "皮肤"], ["Netz-für-Haut", "皮肤"]),
    ],
)
def test_names_of_folders(encoder: panderm.Encoder, names: list[str], folders: list[str]) -> None:
    records = [
        encoder.record.model_copy(update={"name": name, "weights_sha256": f"{i}a" * 32})
        for i, name in enumerate(names, start=1)
    ]
    assert pipeline._folder_names(records) == folders


def test_two_names_of_one_file_still_have_two_folders(encoder: panderm.Encoder) -> None:
    records = [encoder.record.model_copy(update={"name": name}) for name in ("a:b", "a/b")]
    names = pipeline._folder_names(records)
    assert len(set(names)) == 2
    assert all(name.startswith("a-b-") for name in names)


def test_published_files_of_each(desk: Path, shelf: Shelf) -> None:
    run(["coarse", "fine"], published_csv="published")
    assert sorted(str(p) for p in Path("published").rglob("*.csv")) == [
        f"published/{name}/{file}.csv" for name in ("coarse", "fine") for file in ("skin", "summary")
    ]


# --- going on ---


def test_a_run_that_stopped_goes_on_and_repeats_nothing(
    desk: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = ColourMeans.forward

    def stopped(self: ColourMeans, pixels: torch.Tensor) -> torch.Tensor:
        if self.name == "fine":
            raise KeyboardInterrupt
        return forward(self, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(ColourMeans, "forward", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(["coarse", "fine"])
    assert shelf.embedded() == ["coarse"]
    shelf.asked.clear()
    made = run(["coarse", "fine"])
    assert shelf.embedded() == ["fine"]
    assert [asked["name"] for asked in shelf.asked] == ["coarse", "fine", "fine"]
    assert made.report.is_file()
    with pytest.raises(ArtifactError, match="must not exist already"):
        run(["coarse", "fine"])


@pytest.mark.parametrize(
    ("before", "after", "new"),
    [
        (["coarse", "fine"], ["coarse", "fine", "middling"], ["middling"]),
        (["coarse"], ["coarse", "fine"], ["fine"]),
        (["coarse"], ["fine", "coarse"], ["fine"]),
        (["coarse", "fine"], ["fine"], []),
    ],
)
def test_an_encoder_added_later_leaves_the_others_as_they_are(
    desk: Path, shelf: Shelf, before: list[str], after: list[str], new: list[str]
) -> None:
    old = {part.title: part for part in run(before).parts}
    assert shelf.embedded() == before
    made = run(after, overwrite=True)
    assert shelf.embedded() == new
    for part in made.parts:
        if part.title in old:
            assert part.scores.as_dict() == old[part.title].scores.as_dict()
    kept = [] if len(after) > 1 else [f"coarse/{file}" for file in FILES]
    own = [f"{name}/{file}" for name in after for file in FILES] if len(after) > 1 else [*FILES]
    assert files("all") == sorted([*own, *kept, "report.html"])


def test_a_fine_tuned_namesake_added_later(desk: Path, shelf: Shelf) -> None:
    run(["fine", "coarse"], weights=["a.pth", None])
    assert shelf.embedded() == ["fine", "coarse"]
    made = run(["fine", "fine", "coarse"], weights=["a.pth", "b.pth", None], overwrite=True)
    assert shelf.embedded() == ["fine"]
    assert not Path("all/fine").exists(), "moved to the folder that names its weights"
    assert len({part.folder for part in made.parts}) == 3


def test_a_users_own_files_stay_where_they_are(desk: Path, shelf: Shelf) -> None:
    run(["fine", "coarse"], weights=["a.pth", None])
    Path("all/fine/notes.txt").write_text("mine")
    run(["fine", "fine"], weights=["a.pth", "b.pth"], overwrite=True)
    assert Path("all/fine/notes.txt").read_text() == "mine"


def test_a_folder_of_another_encoder_is_refused_before_the_first_image(desk: Path, shelf: Shelf) -> None:
    run(["coarse", "fine"], weights=[None, "a.pth"])
    Path("all/report.html").unlink()
    shelf.embedded()
    with pytest.raises(ParentsError, match="must come from one encoder"):
        run(["middling", "fine"], weights=[None, "b.pth"])
    assert shelf.embedded() == []
    Path("all/middling").write_text("a file")
    with pytest.raises(ArtifactError, match="must be a folder"):
        run(["fine", "middling"], weights=["a.pth", None])
    assert shelf.embedded() == []


# With --overwrite the second half of the first asks the same.
@pytest.mark.parametrize("overwrite", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:.*going on with fp32")
def test_fewer_bits_that_did_not_do_are_gone_on_with_in_fp32(
    desk: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, *, overwrite: bool
) -> None:
    monkeypatch.setattr(encoder_module, "likeness", lambda *_: 0.5)
    run(["coarse", "fine"], precision="bf16")
    shards = sorted(Path("all").rglob("part-*.parquet"))
    written = [shard.stat().st_mtime_ns for shard in shards]
    Path("all/report.html").unlink()
    made = run(["coarse", "fine"], precision="bf16", overwrite=overwrite)
    assert [part.embeddings.card.encoder.precision for part in made.parts] == ["fp32", "fp32"]
    assert [shard.stat().st_mtime_ns for shard in shards] == written, "nothing is embedded again"
    # What was settled stays so, even where another measurement would say otherwise.
    monkeypatch.setattr(encoder_module, "likeness", lambda *_: 1.0)
    made = run(["coarse", "fine"], precision="bf16", overwrite=True)
    assert [part.embeddings.card.encoder.precision for part in made.parts] == ["fp32", "fp32"]
    assert [shard.stat().st_mtime_ns for shard in shards] == written, "nothing is embedded again"
    shutil.rmtree("all")
    made = run(["coarse", "fine"], precision="bf16")
    assert [part.embeddings.card.encoder.precision for part in made.parts] == ["bf16", "bf16"]


# --- the numbers ---


@pytest.fixture(scope="module")
def predicted(
    encoder: panderm.Encoder, world: DrawnWorld, tmp_path_factory: pytest.TempPathFactory
) -> list[panderm.Predictions]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("predicted"))
        patch.setattr(pipeline, "load_encoder", Shelf(encoder).load)
        write_table(world)
        return [part.predictions for part in run(["coarse", "fine", "middling"]).parts]


def direct(
    first: panderm.Predictions,
    other: panderm.Predictions,
    score: Callable[[np.ndarray, np.ndarray], float],
    draws: int,
    seed: int,
) -> tuple[float, float]:
    """Resample whole patients by copying their rows, and score both on each copy."""
    clusters, _ = cluster_codes(first.patient, first.group, len(first))
    truth, found = first.truth_codes(), []
    for weights in np.concatenate(list(cluster_bootstrap(clusters, draws, seed))):
        rows = np.repeat(np.arange(len(first)), weights)
        if len(set(truth[rows])) == len(first.classes):
            one, two = (score(truth[rows], given.probabilities[rows]) for given in (first, other))
            found.append(two - one)
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def test_differences_are_those_of_a_direct_computation(predicted: list[panderm.Predictions]) -> None:
    made = differences(predicted, draws=80, seed=5)
    scored = [evaluate(given, draws=80, seed=5).scores for given in predicted]
    assert len(made) == 2
    for which, found in enumerate(made, start=1):
        for name, score in (
            ("balanced_accuracy", lambda truth, p: balanced_accuracy_score(truth, p.argmax(axis=1))),
            ("auroc_ovo", lambda truth, p: roc_auc_score(truth, p, multi_class="ovo")),
        ):
            low, high = direct(predicted[0], predicted[which], score, 80, 5)
            wanted = scored[which][name].value - scored[0][name].value
            assert found[name].value == pytest.approx(wanted, abs=1e-12)
            assert (found[name].low, found[name].high) == pytest.approx((low, high), abs=1e-12)
        assert list(found) == list(scored[0])


def test_a_pair_is_closer_than_its_two_intervals_say(predicted: list[panderm.Predictions]) -> None:
    """An encoder beside a copy of itself that differs in one row: alike on nearly every draw."""
    rng = np.random.default_rng(0)
    columns = ("image", "path", "sha256", "group", "truth")
    rows = rng.integers(0, len(predicted[0]), 80)
    first = replace(
        predicted[0],
        **{name: getattr(predicted[0], name)[rows] for name in columns},
        patient=np.array([f"P{i // 2}" for i in range(80)], dtype=object),
        probabilities=rng.dirichlet(np.ones(3), 80),
    )
    row = int(np.flatnonzero(first.predicted_codes() == first.truth_codes())[0])
    chances = first.probabilities.copy()
    chances[row] = np.roll(chances[row], 1)
    copy = replace(first, probabilities=chances)
    found = differences([first, copy], draws=400, seed=0)[0]["accuracy"]
    own = evaluate(first, draws=400, seed=0).scores["accuracy"]
    assert found.value == pytest.approx(-1 / len(first))
    assert found.high - found.low < 0.5 * (own.high - own.low)
    same = differences([first, first], draws=50)[0]
    assert {(d.value, d.low, d.high) for d in same.values()} == {(0.0, 0.0, 0.0)}


def test_differences_that_cannot_be_computed_say_why(predicted: list[panderm.Predictions]) -> None:
    missing = predicted[0].classes[0]
    keep = predicted[0].truth != missing
    columns = ("image", "path", "sha256", "patient", "group", "truth", "probabilities")
    fewer = [replace(p, **{name: getattr(p, name)[keep] for name in columns}) for p in predicted[:2]]
    found = differences(fewer, draws=30)[0]
    assert found["auroc_ovo"] == Score(None, None, None, f"class {missing!r} has no row among those scored")
    assert found["accuracy"].value is not None
    alone = [replace(p, patient=np.full(len(p), "P1", dtype=object)) for p in predicted[:2]]
    assert differences(alone, draws=20)[0]["accuracy"].reason == (
        "no interval: there is one unit only to resample"
    )
    with pytest.raises(ParentsError, match="the same images"):
        differences([predicted[0], fewer[1]])


def test_paired_interval_is_that_of_the_differences() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 500))
    low, high, used = paired_interval(one, two)
    assert (low, high) == pytest.approx(tuple(np.quantile(two - one, [0.025, 0.975])))
    assert used == 500
    one[:10], two[5:20] = np.nan, np.nan
    finite = np.isfinite(one) & np.isfinite(two)
    low, high, used = paired_interval(one, two, 0.8)
    assert (low, high) == pytest.approx(tuple(np.quantile((two - one)[finite], [0.1, 0.9])))
    assert used == 480
    one[:300] = np.nan
    assert np.isnan(paired_interval(one, two)[:2]).all()
    with pytest.raises(ValueError, match="paired draws must both be"):
        paired_interval(one, two[:-1])


# --- what a user is told ---


def test_json_of_several(desk: Path, shelf: Shelf) -> None:
    one = cli("run skin.csv --encoder coarse -q --draws 50 --out one")
    said = cli("run skin.csv --encoder coarse --encoder fine -q --draws 50 --out all")
    assert set(said) == {"encoders", "report"}
    assert said["report"] == "all/report.html"
    assert set(said["encoders"][0]) == set(one) - {"report"}
    assert [told["encoder"] for told in said["encoders"]] == ["coarse", "fine"]
    assert [told["scores_file"] for told in said["encoders"]] == [
        *("all/coarse/scores.json", "all/fine/scores.json"),
    ]
    assert said["encoders"][0]["scores"] == one["scores"]
    first, second = (told["scores"] for told in said["encoders"])
    for name, difference in said["encoders"][1]["differences_to_first"].items():
        assert name in first
        assert name in second
        assert difference["value"] is None  # so few patients cannot show one
        assert "too few to say: " in difference["reason"]


def test_a_terminal_shows_scores_as_rows_and_encoders_as_columns(
    desk: Path, shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    result = typed("run skin.csv --encoder coarse --encoder fine -q --draws 50 --out all")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["score", "A", "coarse", "B", "fine"]
    opened = [panderm.Scores.open(f"all/{name}/scores.json") for name in ("coarse", "fine")]
    scores = [one.scores for one in opened]
    for line, name in zip(lines[1:9], scores[0], strict=True):
        assert " ".join(line) == " ".join([name, *(in_a_cell(s[name]) for s in scores)])
    assert lines[10] == ["difference", "B", "−", "A"]
    assert [line[0] for line in lines[11:19]] == list(scores[0])
    assert {line[1] for line in lines[11:19]} == {"–"}
    assert "–: too few to say: " in result.stdout
    show_comparison(["coarse", "fine"], opened, [dict.fromkeys(scores[0], Score(0.25, -0.125, 0.5))])
    assert "+0.250 (-0.125 to +0.500)" in capsys.readouterr().out
    assert "the same for all" in result.stdout
    assert result.stdout.splitlines()[-1] == f"report: {desk / 'all/report.html'}"


def test_the_report_verb_takes_several(desk: Path, shelf: Shelf) -> None:
    run(["coarse", "fine"])
    said = cli("report all/fine/probe.pred all/coarse/probe.pred --out both.html")
    assert said == {"report": "both.html"}
    page = Path("both.html").read_text("utf-8")
    assert "Differences to A" in page
    assert page.index("fine") < page.index("coarse")
    scores = "--scores all/coarse/scores.json --scores all/fine/scores.json"
    cli(f"report all/coarse/probe.pred all/fine/probe.pred {scores} --out again.html")
    assert "50 draws" in Path("again.html").read_text("utf-8")
    for words in (
        "report all/coarse/probe.pred all/fine/probe.pred --scores all/fine/scores.json --out x.html",
        "report all/coarse/probe.pred all/coarse/probe.pred --out x.html",
    ):
        result = typed(words)
        assert result.exit_code == 2
        assert result.stderr.startswith("UsageError: ")
    assert not Path("x.html").exists()
