"""The page of masks shows what was scored, the worst first, and outlines lie where the masks end."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.data.contours import PREDICTED, TRUTH, contours
from panderm.data.drawn import DrawnWorld
from panderm.errors import DataError, TableError
from panderm.report.masks import MaskReport
from panderm.report.masks_pictures import images_in
from panderm.report.masks_sections import dice_histogram


def square(low: int, high: int) -> np.ndarray:
    mask = np.zeros((60, 80), dtype=bool)
    mask[low:high, low:high] = True
    return mask


def test_outlines_lie_on_the_edges_of_the_masks_the_predicted_one_broken() -> None:
    rgb = np.full((60, 80, 3), 128, np.uint8)
    laid = contours(rgb, square(10, 30), square(35, 55))
    assert laid.shape == rgb.shape
    assert (laid[20, 10] == TRUTH).all()
    assert (laid[20, 20] == 128).all()  # inside nothing is painted
    truth, predicted = ((laid == colour).all(axis=2) for colour in (TRUTH, PREDICTED))
    assert truth[10:30, 10].all()
    assert 0.2 < predicted[36:54, 35].mean() < 0.9
    assert contours(rgb, square(10, 30), square(0, 0), side=40).shape == (30, 40, 3)


def test_what_is_no_image_or_no_pair_of_masks_is_refused() -> None:
    with pytest.raises(DataError, match="must be RGB"):
        contours(np.zeros((4, 4), np.uint8), square(0, 1), square(0, 1))
    with pytest.raises(DataError, match="of one shape"):
        contours(np.zeros((4, 4, 3), np.uint8), square(0, 1), square(0, 1)[:5])


@pytest.fixture(scope="module")
def predicted(world: DrawnWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    for file in sorted(world.images.iterdir()):
        grey = panderm.read_image(file).mean(axis=2)
        Image.fromarray(grey < grey.mean()).save(folder / f"{file.stem}.png")
    return folder


def test_the_page_shows_the_images_of_lowest_dice_in_their_order(world: DrawnWorld, predicted: Path) -> None:
    masks = panderm.read_masks(predicted, truth=world.masks, progress=False)
    scores = panderm.evaluate_masks(masks, draws=50)
    page = MaskReport(masks, scores, images=world.images).html()
    worst = masks.per_image().nsmallest(12, "dice")
    places = [page.index(f'title="{name}"') for name in worst["image"]]
    assert places == sorted(places)
    assert page.count("data:image/jpeg") == 20
    assert f"<b>{scores.per_image['dice'].value:.3f}</b>" in page
    points = dice_histogram(masks.per_image()["dice"].to_numpy()).points
    assert points is not None
    assert sum(row[2] for row in points.rows) == len(masks)  # type: ignore[misc]
    assert "://" not in page.replace("http://www.w3.org", "")


def test_the_verb_writes_the_page_and_refuses_what_it_cannot_show(
    world: DrawnWorld, predicted: Path, tmp_path: Path
) -> None:
    asked = ["evaluate-masks", str(predicted), "--truth", str(world.masks), "--draws", "20", "--quiet"]
    page = tmp_path / "m.html"
    made = CliRunner().invoke(app, [*asked, "--report", str(page)])
    assert made.exit_code == 0
    assert page.read_text().count("data:image/jpeg") == 20  # outlines alone
    assert CliRunner().invoke(app, [*asked, "--images", str(world.images)]).exit_code == 2
    masks = panderm.read_masks(predicted, truth=world.masks, progress=False)
    with pytest.raises(TableError, match="no such folder"):
        images_in(tmp_path / "none", masks)
    with pytest.raises(TableError, match="none of"):
        images_in(tmp_path, masks)
