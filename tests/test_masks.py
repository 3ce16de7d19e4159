"""Masks: overlaps and distances against others' implementations, and files that are not what they seem."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.metrics import f1_score, jaccard_score, recall_score

from panderm.data.masks import read_mask
from panderm.errors import ArtifactError, TableError, UsageError
from panderm.predictions.masks import read_masks
from panderm.scores.masks import MaskScores, evaluate_masks
from panderm.statistics.boundaries import boundary_distances
from panderm.statistics.masks import mask_counts, mask_scores, overlaps

Mask = npt.NDArray[np.bool_]


def blobs(seed: int, n: int, size: tuple[int, int] = (40, 50)) -> list[tuple[Mask, Mask]]:
    """Pairs of smooth blobs, some of which reach the border of the image."""
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.normal(size=(2, *size)), (0, 5, 5)) for _ in range(n)]
    return [(a > 0.02, a + 0.6 * b > 0.03) for a, b in fields]


def columns(distances: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    return {"hd95": distances[:, 0], "surface_distance": distances[:, 1]}


def save(folder: Path, name: str, mask: npt.NDArray[np.generic]) -> None:
    folder.mkdir(exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * (255 if mask.dtype == bool else 1)).save(folder / name)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for i, (truth, predicted) in enumerate(blobs(3, 12)):
        save(tmp_path / "truth", f"ISIC_{i:07d}_segmentation.png", truth)
        save(tmp_path / "predicted", f"ISIC_{i:07d}.png", predicted)
    return tmp_path / "truth", tmp_path / "predicted"


def test_overlaps_are_scikit_learns() -> None:
    pairs = blobs(0, 8)
    found = overlaps([mask_counts(*pair) for pair in pairs])
    flat = [(truth.ravel(), predicted.ravel()) for truth, predicted in pairs]
    for name, theirs in (("dice", f1_score), ("jaccard", jaccard_score), ("sensitivity", recall_score)):
        assert found[name] == pytest.approx([theirs(*pair) for pair in flat], abs=1e-12)
    assert found["specificity"] == pytest.approx([recall_score(~t, ~p) for t, p in flat], abs=1e-12)


def test_distances_are_those_of_a_distance_transform() -> None:
    for truth, predicted in blobs(1, 10):
        edges = [mask & ~ndimage.binary_erosion(mask) for mask in (truth, predicted)]
        there, back = (ndimage.distance_transform_edt(~edges[1 - i])[edges[i]] for i in (0, 1))
        hd95, mean = boundary_distances(truth, predicted)
        assert hd95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), abs=1e-9)
        assert mean == pytest.approx(np.concatenate([there, back]).mean(), abs=1e-9)


def test_a_shifted_square_lies_as_far_as_it_was_shifted() -> None:
    truth = np.zeros((60, 60), dtype=bool)
    truth[10:30, 10:30] = True
    moved = np.roll(truth, 25, axis=1)
    assert boundary_distances(truth, truth) == (0.0, 0.0)
    assert boundary_distances(truth, moved)[0] == pytest.approx(25.0, abs=1.5)
    assert boundary_distances(truth, moved) == boundary_distances(moved, truth)


def test_empty_masks_are_scored_as_said() -> None:
    nothing, something = np.zeros((6, 6), dtype=bool), np.eye(6, dtype=bool)
    pairs = [(nothing, nothing), (nothing, something), (something, nothing), (~nothing, ~nothing)]
    found = overlaps([mask_counts(*pair) for pair in pairs])
    assert found["dice"].tolist() == found["jaccard"].tolist() == [1, 0, 0, 1]
    np.testing.assert_array_equal(found["sensitivity"], [np.nan, np.nan, 0, 1])
    np.testing.assert_array_equal(found["specificity"], [1, 5 / 6, 1, np.nan])
    assert np.isnan(boundary_distances(nothing, something)).all()


def test_weights_are_copies_of_images() -> None:
    pairs = blobs(2, 9)
    counts = np.array([mask_counts(*pair) for pair in pairs])
    distances = np.array([boundary_distances(*pair) for pair in pairs])
    distances[3] = np.nan
    weights = np.random.default_rng(0).integers(0, 4, size=(5, 9)).astype(np.int32)
    drawn = mask_scores(columns(distances), counts, weights)
    for b, times in enumerate(weights):
        rows = np.repeat(np.arange(9), times)
        copied = mask_scores(columns(distances[rows]), counts[rows])
        for name, values in copied.items():
            assert drawn[name][b] == pytest.approx(values[0], nan_ok=True, abs=1e-12), name


def test_scores_are_kept_and_patients_are_resampled(folders: tuple[Path, Path], tmp_path: Path) -> None:
    truth, predicted = folders
    table = pd.DataFrame(
        {"image": [f"ISIC_{i:07d}.jpg" for i in range(12)], "patient_id": list("aabbccddeeff")}
    )
    table.to_csv(tmp_path / "table.csv", index=False)
    masks = read_masks(predicted, truth=truth, columns=tmp_path / "table.csv", progress=False)
    scores = evaluate_masks(masks, draws=200)
    assert (scores.n, scores.clusters, scores.unit) == (12, 6, "patient")
    for score in (*scores.per_image.values(), *scores.pooled.values()):
        assert score.low <= score.value <= score.high  # type: ignore[operator]
    kept = scores.save(tmp_path / "masks.json")
    assert MaskScores.open(kept) == scores
    kept.write_text(json.dumps({"kind": "masks"}))
    with pytest.raises(ArtifactError, match="a file that panderm wrote"):
        MaskScores.open(kept)


def test_a_table_of_both_masks_is_the_two_folders(folders: tuple[Path, Path], tmp_path: Path) -> None:
    names = [f"ISIC_{i:07d}" for i in range(12)]
    rows = {
        "mask": [f"truth/{name}_segmentation.png" for name in names],
        "predicted_mask": [f"predicted/{name}.png" for name in names],
    }
    pd.DataFrame(rows).to_csv(tmp_path / "pairs.csv", index=False)
    by_table = read_masks(tmp_path / "pairs.csv", progress=False)
    by_folder = read_masks(folders[1], truth=folders[0], progress=False)
    assert by_table.identity == by_folder.identity


def test_values_of_masks(tmp_path: Path) -> None:
    ones = np.eye(5, dtype=np.uint8)
    save(tmp_path, "ones.png", ones)
    Image.fromarray(ones * 255).convert("1").save(tmp_path / "bits.png")
    for name in ("ones.png", "bits.png"):
        assert (read_mask(tmp_path / name) == np.eye(5, dtype=bool)).all()


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (
            lambda f: save(f.parent, f.name, np.arange(2000, dtype=np.uint8).reshape(40, 50) % 251),
            "has the values",
        ),
        (lambda f: save(f.parent, f.name, np.eye(9, dtype=bool)), "9 x 9 pixels, the true mask 50 x 40"),
        (lambda f: f.write_bytes(b""), "an empty file"),
        (lambda f: f.write_bytes(f.read_bytes()[:60]), "damaged"),
        (lambda f: Image.new("RGB", (50, 40), (255, 0, 0)).save(f), "has colours"),
        (lambda f: f.unlink(), "1 true masks without a predicted one: ISIC_0000004"),
        (lambda f: save(f.parent, f.stem + "_mask.png", np.eye(9, dtype=bool)), "1 image has more"),
    ],
)
def test_what_is_wrong_with_a_mask_is_told(folders: tuple[Path, Path], harm: object, told: str) -> None:
    harm(folders[1] / "ISIC_0000004.png")  # type: ignore[operator]
    with pytest.raises(TableError) as caught:
        read_masks(folders[1], truth=folders[0], progress=False)
    assert told in str(caught.value)


def test_common_leaves_out_and_counts(folders: tuple[Path, Path]) -> None:
    (folders[1] / "ISIC_0000004.png").unlink()
    masks = read_masks(folders[1], truth=folders[0], common=True, progress=False)
    assert (len(masks), masks.left_out) == (11, 1)
    with pytest.raises(UsageError, match="needs the true ones"):
        read_masks(folders[1])


@pytest.mark.filterwarnings("ignore")  # its own, on a newer pandas
def test_the_isic_challenges_own_scoring_agrees_on_masks(folders: tuple[Path, Path]) -> None:
    theirs = pytest.importorskip("isic_challenge_scoring.segmentation").SegmentationScore
    truth, predicted = folders
    ours = evaluate_masks(read_masks(predicted, truth=truth, progress=False), draws=2).per_image
    average = theirs.from_dir(truth, predicted).macro_average
    renamed = {"threshold_jaccard": "thresholded_jaccard"}
    assert 0 < average["threshold_jaccard"] < average["jaccard"]  # the threshold has something to do
    for name, value in average.items():
        assert ours[renamed.get(name, name)].value == pytest.approx(value, abs=1e-12), name


@pytest.mark.filterwarnings("ignore")  # its own, on a newer pandas
def test_the_isic_challenges_own_scoring_agrees_on_seven_classes() -> None:
    theirs = pytest.importorskip("isic_challenge_scoring.classification")
    from sklearn.metrics import roc_auc_score

    from panderm.statistics.classification import classification_scores

    rng = np.random.default_rng(0)
    classes = ["MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
    truth = rng.choice(7, size=400, p=[0.1, 0.5, 0.1, 0.05, 0.15, 0.05, 0.05])
    logits = rng.normal(size=(400, 7)) + 2 * np.eye(7)[truth]
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    images = [f"ISIC_{i:07d}" for i in range(400)]
    frames = [pd.DataFrame(x, columns=classes, index=images) for x in (np.eye(7)[truth], proba)]
    ones = pd.DataFrame({"score_weight": 1.0, "validation_weight": 1.0}, index=images)
    scored = theirs.ClassificationScore(*frames, ones, theirs.ClassificationMetric.BALANCED_ACCURACY)
    ours = classification_scores(truth, proba)
    assert ours["balanced_accuracy"][0] == pytest.approx(scored.overall, abs=1e-12)
    assert ours["auroc_ovr"][0] == pytest.approx(scored.macro_average["auc"], abs=1e-12)
    assert scored.macro_average["auc"] == pytest.approx(roc_auc_score(truth, proba, multi_class="ovr"))


def test_real_masks_against_themselves_grown(shared: Path, tmp_path: Path) -> None:
    """A mask grown by three pixels all round lies three pixels away, and loses no sensitivity."""
    files = sorted((shared / "data/isic2017_seg/masks").glob("*.png"))[:12]
    if not files:
        pytest.skip("no ISIC 2017 masks here")
    for file in files:
        mask = np.asarray(Image.open(file).convert("L")) > 0
        save(tmp_path / "truth", file.name, mask)
        save(
            tmp_path / "grown",
            file.name.replace("_segmentation", ""),
            ndimage.binary_dilation(mask, iterations=3),
        )
    masks = read_masks(tmp_path / "grown", truth=tmp_path / "truth", progress=False)
    scores = evaluate_masks(masks, draws=50).per_image
    assert scores["sensitivity"].value == 1
    assert 2 <= (scores["hd95"].value or 0) <= 4  # a narrow bay is filled, and its bottom lies farther
    assert 0.8 < (scores["dice"].value or 0) < 1
