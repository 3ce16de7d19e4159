"""Masks without a label: arithmetic on tokens made by hand, an encoder's own tokens, the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.data.drawn import DrawnWorld
from panderm.data.masks import read_mask
from panderm.errors import UsageError
from panderm.segmenting.predicting.answers import Answers, LooksFirst, PromptedAnswers
from panderm.segmenting.predicting.predict import predict_masks
from panderm.segmenting.saliency import (
    Saliency,
    as_probability,
    border_of,
    from_border,
    load_saliency,
    principal_axis,
    together,
    unlike_border,
)

LESION = np.zeros((8, 8), bool)
LESION[2:5, 3:6] = True


def tokens(n: int = 3, *, noise: float = 0.0) -> Any:
    """Skin along the first axis, lesion along the second; of any length."""
    made = np.zeros((n, 8, 8, 4), np.float32)
    made[:, ~LESION, 0], made[:, LESION, 1] = 3.0, 5.0
    return made + noise * np.random.default_rng(0).standard_normal(made.shape).astype(np.float32)


def test_the_border_is_the_edge() -> None:
    assert border_of(3, 4).tolist() == [[True] * 4, [True, False, False, True], [True] * 4]


def test_skin_is_nothing_and_a_lesion_is_unlike_it() -> None:
    apart = from_border(tokens())
    assert not apart[:, ~LESION].any()
    assert np.allclose(apart[:, LESION], [-1, 1, 0, 0])
    assert np.allclose(unlike_border(tokens()), np.broadcast_to(LESION, (3, 8, 8)))


def test_the_first_axis_points_from_skin_to_lesion() -> None:
    assert np.allclose(principal_axis(tokens()), np.array([-1, 1, 0, 0]) / np.sqrt(2))
    noisy = tokens(noise=0.2)
    independent = np.linalg.svd(from_border(noisy).reshape(-1, 4), full_matrices=False)[2][0]
    assert abs(float(independent @ principal_axis(noisy))) == pytest.approx(1, abs=1e-5)


def test_some_of_the_border_may_be_lesion() -> None:
    """Unlike a mean, the most similar quarter is not moved by a lesion that touches the edge."""
    lesion = np.zeros((8, 8), bool)
    lesion[:4, :3] = True
    made = np.zeros((1, 8, 8, 2), np.float32)
    made[0, ~lesion, 0], made[0, lesion, 1] = 1, 1
    assert np.allclose(unlike_border(made)[0, ~lesion], 0)
    # 6 of the 28 places at the edge are lesion: of its nearest 7 tokens 6 are its own kind.
    assert np.allclose(unlike_border(made)[0, lesion], 1 / 7)


def test_maps_count_alike_whatever_their_scale() -> None:
    one, two = np.random.default_rng(0).random((2, 3, 5, 5))
    assert np.allclose(together([one, 1000 * two - 7]), together([one, two]), atol=1e-5)
    assert not together([np.ones((1, 4, 4))]).any()


def test_the_threshold_is_otsus_and_the_ends_are_0_and_1() -> None:
    values = np.concatenate([np.linspace(0, 0.2, 40), np.linspace(0.8, 1, 24)])
    grid = np.random.default_rng(0).permutation(values).reshape(1, 8, 8)
    found = as_probability(100 * grid - 3, 8)
    assert np.array_equal(found[0] >= 0.5, grid[0] >= 0.5)
    assert (float(found.min()), float(found.max())) == (0, 1)
    order = np.argsort(grid, axis=None)
    assert (np.diff(found.ravel()[order]) >= 0).all()
    assert as_probability(grid, 64).shape == (1, 64, 64)
    assert not as_probability(np.ones((1, 8, 8)), 16).any()


@pytest.fixture(scope="module")
def tiny() -> panderm.Encoder:
    return panderm.load_encoder("panderm-tiny", image_size=224)


def test_an_encoder_answers_and_a_batch_changes_nothing(encoder: panderm.Encoder) -> None:
    found = Saliency(encoder)
    assert isinstance(found, Answers)
    assert isinstance(found, LooksFirst)
    assert not isinstance(found, PromptedAnswers)
    side = found.size
    rgb = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    together_, alone = found.probabilities(rgb), found.probabilities(torch.from_numpy(rgb[1:2]))
    assert together_.shape == (3, side, side)
    assert together_.dtype == np.float32
    assert ((together_ >= 0) & (together_ <= 1)).all()
    assert np.allclose(together_[1:2], alone, atol=1e-4)
    attention = Saliency(encoder, "attention").probabilities(rgb[:1])
    own = encoder.attention(encoder.preprocess.normalise(torch.from_numpy(rgb[:1])))
    assert np.array_equal(attention, as_probability(own.mean(dim=1).numpy(), side))


def test_blocks_are_of_half_three_quarters_and_all_of_the_depth(tiny: panderm.Encoder) -> None:
    assert Saliency(tiny).blocks == (5, 8, 11)


def test_pca_must_have_looked(encoder: panderm.Encoder, world: DrawnWorld) -> None:
    found = Saliency(encoder, "pca")
    blank = np.zeros((1, found.size, found.size, 3), np.uint8)
    with pytest.raises(UsageError, match="must have looked at images"):
        found.probabilities(blank)
    paths = sorted(world.images.iterdir())[:5]
    found.learn([*paths, world.csv], progress=False)  # what is no image is passed over
    assert found.fitted_ == 5
    assert found.axes_ is not None
    assert [axis.shape for axis in found.axes_] == [(encoder.dim,)] * len(found.blocks)
    assert found.told()["images_sha256"] is not None
    again = Saliency(encoder, "pca")
    again.learn([*paths, world.csv], progress=False)
    assert again.told() == found.told()
    with pytest.raises(UsageError, match="none of 1 can be read"):
        found.learn([world.csv], progress=False)
    with pytest.raises(UsageError, match="did you mean 'border'"):
        Saliency(encoder, "borders")  # type: ignore[arg-type]


def overlap(folder: Path, world: DrawnWorld) -> float:
    """Mean Dice with the drawn masks."""
    scores = []
    for file in sorted(folder.glob("*.png")):
        found, true = read_mask(file), read_mask(world.masks / file.name)
        scores.append(2 * (found & true).sum() / (found.sum() + true.sum()))
    return float(np.mean(scores))


@pytest.mark.parametrize("method", ["border", "pca"])
def test_drawn_lesions_are_found_without_a_label(
    world: DrawnWorld, tiny: panderm.Encoder, tmp_path: Path, method: Any
) -> None:
    files = sorted(world.images.iterdir())[:6]
    made = predict_masks(Saliency(tiny, method), files, tmp_path / "masks", progress=False)
    assert len(made) == 6
    (note,) = made.card.notes
    assert "no label was used" in note
    assert overlap(tmp_path / "masks", world) > 0.6


def test_the_command_names_an_encoder(world: DrawnWorld, tmp_path: Path) -> None:
    files = [str(one) for one in sorted(world.images.iterdir())[:2]]
    words = ["segment", "predict", "saliency:random-tiny", *files, "--saliency", "attention", "--json"]
    words += ["--image-size", "64"]
    done = CliRunner().invoke(app, [*words, "--quiet", "--out", str(tmp_path / "masks")])
    assert done.exit_code == 0, done.output
    card = json.loads((tmp_path / "masks" / "card.json").read_text())
    assert card["answers"]["method"] == "attention"
    assert card["answers"]["size"] == 64
    assert load_saliency("random-tiny", image_size=64, method="attention").told() == card["answers"]
    refused = CliRunner().invoke(
        app, ["segment", "predict", "run", *files, "--out", str(tmp_path / "no"), "--image-size", "64"]
    )
    assert refused.exit_code == 2
    assert "--image-size must come with saliency:ENCODER" in refused.output
