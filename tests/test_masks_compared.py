"""Masks of several predictors: differences and p-values against plain arithmetic, and what is refused."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner

from panderm.cli import app
from panderm.errors import ArtifactError, PandermError, ParentsError, TableError, UsageError
from panderm.predictions.masks import MaskPredictions, read_masks
from panderm.scores.masks import MaskScores, evaluate_masks
from panderm.scores.masks_compared import MaskComparison, compare_masks, names_of, same_masks
from panderm.statistics.resampling import cluster_bootstrap

N, PATIENTS = 24, 12


def save(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """True masks, two predictors, one of which finds nothing in two images, and a table."""
    place = tmp_path_factory.mktemp("compared")
    rng = np.random.default_rng(5)
    for i in range(N):
        field = ndimage.gaussian_filter(rng.normal(size=(3, 40, 50)), (0, 5, 5))
        truth = field[0] > 0.01
        save(place / "truth" / f"i{i:02d}_segmentation.png", truth)
        save(place / "a" / f"i{i:02d}.png", field[0] + 0.3 * field[1] > 0.01)
        found = field[0] + 0.6 * field[2] > 0.02
        save(place / "b" / f"i{i:02d}.png", found & (i > 1))
    table = pd.DataFrame(
        {
            "image": [f"i{i:02d}.jpg" for i in range(N)],
            "patient_id": [f"p{i % PATIENTS:02d}" for i in range(N)],
            "sex": ["f" if i % PATIENTS < 11 else "m" for i in range(N)],
            "scale": ["0.05" if i % 2 else "" for i in range(N)],
            "age": [20 + i for i in range(N)],
        }
    )
    table.to_csv(place / "table.csv", index=False)
    return place


def read(desk: Path, which: str, **more: object) -> MaskPredictions:
    given = {"truth": desk / "truth", "columns": desk / "table.csv", "progress": False, **more}
    return read_masks(desk / which, **given)  # type: ignore[arg-type]


def test_differences_are_those_of_each_image_averaged_and_their_p_value_is_exact(desk: Path) -> None:
    a, b = read(desk, "a"), read(desk, "b")
    found = compare_masks(a, [b], draws=300, permutations=5000, progress=False)
    assert (found.unit, found.clusters, found.n) == ("patient", PATIENTS, N)
    one, two = a.scores(), b.scores()
    pair = next(pair for pair in found.pairs if pair.score == "dice")
    apart = one["dice"] - two["dice"]
    assert (pair.other, pair.first) == ("a", "b")
    assert pair.difference.value == pytest.approx(apart.mean(), abs=1e-12)
    codes = np.arange(N) % PATIENTS
    weights = np.concatenate(list(cluster_bootstrap(codes, 300, 0)))
    draws = (weights * apart).sum(axis=1) / weights.sum(axis=1)
    assert [pair.difference.low, pair.difference.high] == pytest.approx(np.quantile(draws, [0.025, 0.975]))
    # All 2^12 ways to swap the masks of whole patients, each a change of sign.
    of_patient = np.bincount(codes, weights=apart)
    signs = np.array(list(product((1, -1), repeat=PATIENTS)))
    p = (np.abs(signs @ of_patient) >= abs(of_patient.sum()) - 1e-9).mean()
    assert (pair.exact, pair.worlds, pair.p) == (True, 2**PATIENTS, pytest.approx(p))
    assert all(one.p <= one.p_holm <= 1 for one in found.pairs)  # type: ignore[operator]


def test_distances_are_compared_where_no_mask_is_empty(desk: Path) -> None:
    a, b = read(desk, "a"), read(desk, "b")
    found = compare_masks(a, [b], score=["hd95", "dice"], draws=50, permutations=50, progress=False)
    assert found.images == {"hd95": N - 2, "dice": N}
    apart = (a.distances[:, 0] - b.distances[:, 0])[2:]
    assert found.pairs[0].difference.value == pytest.approx(apart.mean(), abs=1e-12)


def test_the_other_way_round_is_the_same_with_another_sign_and_none_is_none(desk: Path) -> None:
    a, b = read(desk, "a"), read(desk, "b")
    asked = {"draws": 60, "permutations": 60, "progress": False, "score": ["pooled_dice", "boundary_f"]}
    there, back = compare_masks(a, [b], **asked), compare_masks(b, [a], **asked)  # type: ignore[arg-type]
    for one, other in zip(there.pairs, back.pairs, strict=True):
        assert one.difference.value == pytest.approx(-other.difference.value)  # type: ignore[operator]
        assert one.difference.low == pytest.approx(-other.difference.high)  # type: ignore[operator]
        assert one.p == other.p
    none = compare_masks(a, [a], names=["x", "y"], **asked)  # type: ignore[arg-type]
    assert [(pair.difference.value, pair.p) for pair in none.pairs] == [(0, 1), (0, 1)]


def test_several_are_corrected_together_and_the_file_is_read_again(desk: Path, tmp_path: Path) -> None:
    a, b = read(desk, "a"), read(desk, "b")
    truth = read(desk, "truth")
    found = compare_masks(a, [b, truth], draws=60, permutations=200, progress=False)
    assert [model.name for model in found.models] == ["a", "b", "truth"]
    assert found.family == 8
    assert {(pair.other, pair.first) for pair in found.pairs} == {("a", "b"), ("a", "truth")}
    assert found.models[2].scores["boundary_f"].value == 1
    assert MaskComparison.open(found.save(tmp_path / "c.json")) == found
    with pytest.raises(ArtifactError, match="a file that panderm wrote"):
        MaskScores.open(tmp_path / "c.json")
    assert "evaluate-masks --against" in str(_error(lambda: MaskComparison.open(desk / "table.csv")))


def _error(what: object) -> PandermError:
    with pytest.raises(PandermError) as caught:
        what()  # type: ignore[operator]
    return caught.value


def test_masks_of_other_cases_are_refused(desk: Path, tmp_path: Path) -> None:
    a, b = read(desk, "a"), read(desk, "b")
    few = b.select(np.arange(3, N))
    told = str(_error(lambda: compare_masks(a, [few], progress=False)))
    assert "must be of the same images" in told
    assert "a: 24 images, 3 not in all" in told
    found = compare_masks(a, [few], common=True, draws=20, permutations=20, progress=False)
    assert (found.n, [model.left_out for model in found.models]) == (N - 3, [3, 0])
    for i in range(N):
        truth = np.asarray(Image.open(desk / "truth" / f"i{i:02d}_segmentation.png"))
        save(tmp_path / "truth" / f"i{i:02d}.png", ~truth if i == 7 else truth)
    other = read(desk, "b", truth=tmp_path / "truth")
    with pytest.raises(ParentsError, match="true masks must agree") as caught:
        same_masks([a, other])
    assert "i07" in str(caught.value)
    table = pd.read_csv(desk / "table.csv")
    table.loc[3, "patient_id"] = "p99"
    table.to_csv(tmp_path / "table.csv", index=False)
    with pytest.raises(ParentsError, match="patient must agree"):
        same_masks([a, read(desk, "b", columns=tmp_path / "table.csv")])
    with pytest.raises(ParentsError, match="tolerance must agree"):
        same_masks([a, read(desk, "b", tolerance=0.01)])
    with pytest.raises(UsageError, match="no score of these masks is called 'dise'"):
        compare_masks(a, [b], score=["dise"], progress=False)
    with pytest.raises(UsageError, match="two sets of masks or more"):
        compare_masks(a, [], progress=False)
    with pytest.raises(UsageError, match="a name of its own"):
        same_masks([a, b], ["x", "x"])


def test_too_few_patients_say_nothing(desk: Path) -> None:
    a, b = (read(desk, which).select(np.arange(8)) for which in "ab")
    found = compare_masks(a, [b], draws=20, permutations=20, progress=False)
    assert {pair.p for pair in found.pairs} == {None}
    assert "8 patients, and 10 are needed" in str(found.pairs[0].difference.reason)


def test_names_are_as_much_of_the_path_as_tells_them_apart(desk: Path) -> None:
    a = read(desk, "a")
    assert names_of([a, read(desk, "b")]) == ("a", "b")
    one, two = (_at(a, folder) for folder in ("run1/masks", "run2/masks"))
    assert names_of([one, two]) == ("run1/masks", "run2/masks")
    assert names_of([one, one]) == ("masks (1)", "masks (2)")


def _at(masks: MaskPredictions, folder: str) -> MaskPredictions:
    chosen = masks.select(np.arange(len(masks)))
    object.__setattr__(chosen, "source", Path("/") / folder)
    return chosen


def test_scores_by_a_column_are_those_of_its_rows(desk: Path, tmp_path: Path) -> None:
    masks = read(desk, "a", keep=["sex", "age"])
    scores = evaluate_masks(masks, by=["sex", "age"], bands={"age": [30]}, draws=100)
    assert scores.by is not None
    sex, age = scores.by.columns
    rows = masks.per_image()
    dice = rows["dice"]
    young = age.levels[0]
    assert (young.level, young.n) == ("under 30", 10)
    assert young.scores["dice"].value == pytest.approx(dice[:10].mean())
    assert young.gaps["dice"].value == pytest.approx(dice[:10].mean() - dice[10:].mean())
    assert young.gaps["dice"].low is not None
    assert "1 patient, and 10 are needed" in str(sex.levels[1].scores["dice"].reason)
    assert "all other images" in str(sex.levels[0].gaps["dice"].reason)
    assert MaskScores.open(scores.save(tmp_path / "m.json")) == scores
    with pytest.raises(UsageError, match="must come with the masks"):
        evaluate_masks(masks, by=["patient_id"])
    with pytest.raises(TableError, match="column 'sexe' must be there once"):
        read(desk, "a", keep=["sexe"])


def test_distances_in_millimetres(desk: Path) -> None:
    plain, scaled = read(desk, "a"), read(desk, "a", mm_per_pixel=0.02)
    np.testing.assert_allclose(scaled.scores()["hd95_mm"], plain.distances[:, 0] * 0.02)
    by_column = read(desk, "a", mm_column="scale")
    scores = evaluate_masks(by_column, draws=20)
    assert scores.images["hd95_mm"] == N // 2  # the others have no scale
    assert scores.images["hd95"] == N
    expected = (plain.distances[1::2, 1] * 0.05).mean()
    assert scores.per_image["surface_distance_mm"].value == pytest.approx(expected)
    assert "hd95_mm" not in evaluate_masks(plain, draws=2).per_image
    with pytest.raises(TableError, match="must hold millimetres per pixel"):
        read(desk, "a", mm_column="sex")
    with pytest.raises(UsageError, match="given once"):
        read(desk, "a", mm_per_pixel=0.1, mm_column="scale")
    with pytest.raises(UsageError, match="above 0"):
        read(desk, "a", mm_per_pixel=0.0)


def test_the_verb_compares_and_writes(desk: Path, tmp_path: Path) -> None:
    out, csv, page = (tmp_path / name for name in ("c.json", "each.csv", "c.html"))
    asked = ["evaluate-masks", str(desk / "a"), "--against", str(desk / "b"), "--truth", str(desk / "truth")]
    asked += ["--columns", str(desk / "table.csv"), "--draws", "40", "--permutations", "40", "--quiet"]
    made = CliRunner().invoke(
        app, [*asked, "--out", str(out), "--per-image", str(csv), "--report", str(page)]
    )
    assert made.exit_code == 0, made.output
    assert "a − b" in made.output
    assert "hd95: of the 22 images in which no mask is empty" in made.output
    rows = pd.read_csv(csv)
    assert list(rows["masks"]) == ["a"] * N + ["b"] * N
    assert MaskComparison.open(out).n == N
    text = page.read_text()
    assert "://" not in text.replace("http://www.w3.org", "")
    apart = rows["dice"][:N].to_numpy() - rows["dice"][N:].to_numpy()
    best = rows["image"][int(np.argmax(apart))]
    first = text.index("A better than B by most")
    assert text.index(f'title="{best}"') == text.index('title="i', first)
    for wrong in (["--by", "sex"], ["--per-image", str(out), "--out", str(out), "--overwrite"]):
        assert CliRunner().invoke(app, [*asked, *wrong]).exit_code == 2
    alone = [*asked[:2], *asked[4:]]
    assert CliRunner().invoke(app, [*alone, "--score", "dice"]).exit_code == 2
    by = CliRunner().invoke(app, [*alone, "--by", "sex", "--per-image", str(tmp_path / "one.csv")])
    assert by.exit_code == 0, by.output
    assert "sex" in pd.read_csv(tmp_path / "one.csv")
