"""Test-time augmentation: the eight ways are an exact group, published views have torchvision's laws."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import softmax
from scipy.stats import kstest

import panderm
from panderm.classifying import tta
from panderm.classifying.tta import averaged, probabilities_under, tta_views, turned
from panderm.data.images import read_image
from panderm.errors import ParentsError, UsageError
from panderm.fitted import FittedLinear

K = 3


@pytest.fixture(scope="module")
def encoder() -> panderm.Encoder:
    """A small one, that is soon through with eight views."""
    return panderm.load_encoder("random-tiny", image_size=64, precision="fp32")


@pytest.fixture(scope="module")
def head(encoder: panderm.Encoder) -> FittedLinear:
    rng = np.random.default_rng(0)
    return FittedLinear(
        classes=("a", "b", "c"),
        method={},
        weight=0.05 * rng.normal(size=(K, encoder.dim)),
        bias=rng.normal(size=K),
        temperature=1.5,
    )


@pytest.fixture(scope="module")
def few(table: panderm.Table) -> panderm.Table:
    return table.select(np.arange(7))


def test_the_eight_ways_are_the_dihedral_group() -> None:
    square = torch.arange(48).reshape(4, 4, 3)
    ways = [turned(square, k) for k in range(8)]
    made = {tuple(one.flatten().tolist()) for one in ways}
    assert len(made) == 8
    for count in (2, 4, 8):
        among = {tuple(one.flatten().tolist()) for one in ways[:count]}
        for a in range(count):
            for b in range(count):
                assert tuple(turned(turned(square, a), b).flatten().tolist()) in among
    pixels = square.numpy()
    wanted = (
        *(pixels, pixels[:, ::-1], pixels[::-1], pixels[::-1, ::-1]),
        *(np.rot90(pixels), np.rot90(pixels, 3), pixels.transpose(1, 0, 2)),
        pixels[::-1, ::-1].transpose(1, 0, 2),
    )
    for one, other in zip(ways, wanted, strict=True):
        assert np.array_equal(one.numpy(), other)
    batch = torch.stack([square, square + 100])
    assert all(torch.equal(turned(batch, k)[1], turned(square + 100, k)) for k in range(8))


def test_turns_are_of_the_square_the_encoder_sees(
    encoder: panderm.Encoder, head: FittedLinear, few: panderm.Table
) -> None:
    under = probabilities_under(encoder, head, few, tta_views(8), batch_size=3, progress=False)
    assert under.positions.tolist() == list(range(7))
    assert under.of_views.shape == (7, 8, K)
    assert np.allclose(under.probabilities, under.of_views.mean(axis=1))
    assert np.allclose(under.probabilities.sum(axis=1), 1)
    plain = head.probabilities(encoder.embed(few, progress=False).vectors)
    assert np.allclose(under.of_views[:, 0], plain, atol=1e-5)
    originals = [encoder.preprocess.pixels(read_image(path)) for path in few.path]
    for k, squares in ((1, [one[:, ::-1] for one in originals]), (4, [np.rot90(one) for one in originals])):
        pixels = torch.stack([encoder.preprocess.normalise(torch.from_numpy(one.copy())) for one in squares])
        wanted = head.probabilities(encoder.encode(pixels).numpy())
        assert np.abs(under.of_views[:, k] - wanted).max() < 2e-3  # decoded by another library
    groups = probabilities_under(encoder, head, few, tta_views("8"), batch_size=7, workers=1, progress=False)
    assert np.allclose(groups.probabilities, under.probabilities, atol=1e-6)


def test_the_mean_over_the_group_does_not_see_how_a_picture_lies(
    encoder: panderm.Encoder, head: FittedLinear, table: panderm.Table, tmp_path: Path
) -> None:
    side = encoder.preprocess.crop
    down, across = np.mgrid[0 : side * 2, 0 : side * 2] * 120 // side
    rgb = np.stack([across, down, np.maximum(across - down, 0)], axis=2).astype(np.uint8)
    rows = ["image,split,label"]
    for k in range(8):
        Image.fromarray(turned(torch.from_numpy(rgb), k).numpy().copy()).save(tmp_path / f"{k}.png")
        rows.append(f"{k}.png,test,{'ab'[k % 2]}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    eight = panderm.read_table(tmp_path / "t.csv", progress=False)
    under = probabilities_under(encoder, head, eight, tta_views(8), progress=False)
    assert np.ptp(under.of_views[:, 0], axis=0).max() > 1e-3
    assert np.ptp(under.probabilities, axis=0).max() < 0.1 * np.ptp(under.of_views[:, 0], axis=0).max()


def test_published_views_follow_from_seed_and_file(
    encoder: panderm.Encoder, head: FittedLinear, few: panderm.Table
) -> None:
    views = tta_views("published", seed=4)
    assert len(views) == 5
    under = probabilities_under(encoder, head, few, views, batch_size=2, progress=False)
    order = np.array([6, 0, 3])
    again = probabilities_under(encoder, head, few.select(order), views, batch_size=3, progress=False)
    assert np.allclose(again.of_views, under.of_views[order], atol=1e-6)
    other = probabilities_under(encoder, head, few, tta_views("published"), progress=False)
    assert not np.allclose(other.of_views, under.of_views, atol=1e-6)
    logits = np.log(under.of_views)
    assert np.allclose(under.probabilities, softmax(logits.mean(axis=1), axis=1))
    clean = probabilities_under(
        encoder, head, few, tta_views("published", seed=4, clean=True), progress=False
    )
    assert np.allclose(clean.of_views[:, 1:], under.of_views, atol=1e-6)
    plain = head.probabilities(encoder.embed(few, progress=False).vectors)
    assert np.allclose(clean.of_views[:, 0], plain, atol=1e-5)


def test_published_views_have_their_laws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flips and angles measured in the pixels of a map, colours in those of one colour."""
    down, across = np.mgrid[0:48, 0:48]
    rgb = np.stack([40 + 4 * across, 40 + 4 * down, np.full((48, 48), 128)], axis=2).astype(np.uint8)
    monkeypatch.setattr(tta, "_COLOUR", 0.0)
    inside = np.hypot(across - 23.5, down - 23.5) < 20
    design = np.stack([across[inside], down[inside], np.ones(inside.sum())], axis=1)
    angles, reflected = [], []
    for flips in (0.0, 0.5):
        monkeypatch.setattr(tta, "_FLIP", flips)
        for i in range(300):
            view = tta._random_view(rgb, np.random.default_rng([1, i])).astype(float)
            turn = np.linalg.lstsq(design, view[inside][:, :2] / 4, rcond=None)[0][:2].T
            if flips:
                reflected.append(np.linalg.det(turn) < 0)
            else:  # rows grow downwards: counter-clockwise is seen with this sign
                angles.append(np.degrees(np.arctan2(turn[1, 0], turn[0, 0])) % 360)
    whirled = np.array([angle for angle in angles if 0.5 < angle < 359.5])
    assert abs(len(whirled) / 300 - 0.3) < 4 * np.sqrt(0.21 / 300)
    assert kstest(whirled, "uniform", (0, 270)).pvalue > 1e-3
    assert whirled.max() < 271
    assert abs(np.mean(reflected) - 0.5) < 4 * np.sqrt(0.25 / 300)


def test_published_colours_change_in_three_of_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = np.full((16, 16, 3), (200, 120, 90), np.uint8)
    made = [tta._random_view(rgb, np.random.default_rng([2, i]))[8, 8].astype(int) for i in range(400)]
    other = [one for one in made if one.tolist() != [200, 120, 90]]
    assert abs(len(other) / 400 - 0.3) < 4 * np.sqrt(0.21 / 400)
    monkeypatch.setattr(tta, "_CHANCE", 1.0)
    spread = [int(np.ptp(tta._random_view(rgb, np.random.default_rng([3, i]))[8, 8])) for i in range(200)]
    assert 110 * 0.7 < min(spread) < 110 * 0.85  # saturation within 1 ± 0.25
    assert 110 * 1.1 < max(spread) < 110 * 1.3


def test_means_of_labels_and_of_classes_that_were_never_trained() -> None:
    logits = np.array([[[0.0, 2.0, -np.inf], [4.0, 0.0, -np.inf]]])
    mean, each = averaged(logits, link="softmax", mean="logits")
    assert np.allclose(mean, softmax([[2.0, 1.0, -np.inf]], axis=1))
    assert mean[0, 2] == each[0, 0, 2] == 0
    mean, each = averaged(logits, link="sigmoid", mean="probabilities")
    assert np.allclose(mean[0], (1 / (1 + np.exp(-logits[0]))).mean(axis=0))


def test_bad_files_are_told_and_changed_ones_refused(
    encoder: panderm.Encoder, head: FittedLinear, few: panderm.Table, tmp_path: Path
) -> None:
    path = tmp_path / "a.jpg"
    content = Path(few.path[2]).read_bytes()
    path.write_bytes(content[:150])
    paths, sums = few.path.copy(), few.sha256.copy()
    paths[2], sums[2] = str(path), hashlib.sha256(content[:150]).hexdigest()
    broken = replace(few, path=paths, sha256=sums)
    under = probabilities_under(encoder, head, broken, tta_views(2), batch_size=3, progress=False)
    assert under.positions.tolist() == [0, 1, 3, 4, 5, 6]
    assert len(under.probabilities) == 6
    assert [name for name, _ in under.bad] == [few.image[2]]
    path.write_bytes(content)
    with pytest.raises(ParentsError, match="as they were"):
        probabilities_under(encoder, head, broken, tta_views(2), progress=False)
    none = probabilities_under(encoder, head, few.select(slice(0)), tta_views(4), progress=False)
    assert none.probabilities.shape == (0, K)
    assert none.of_views.shape == (0, 4, K)


def test_views_that_there_are_not_are_refused() -> None:
    for wrong in ("five", 3, 1, "16"):
        with pytest.raises(UsageError, match="2, 4 or 8"):
            tta_views(wrong)
    with pytest.raises(UsageError, match="among them"):
        tta_views(8, clean=False)
    assert tta_views(8).record() == {"kind": "turns", "views": 8, "mean": "probabilities"}
    assert tta_views("published", seed=3, clean=True).record()["views"] == 6
    assert "seed 3" in tta_views("published", seed=3).words()
