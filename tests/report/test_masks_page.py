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
from panderm.report.masks_sections import dice_histogram, mask_sections


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


def test_outlines_of_several_predictors_each_have_a_colour_and_are_found_at_the_size_of_the_mask() -> None:
    island = square(0, 0)
    island[40, 60] = True  # one pixel: scaled to a quarter without smoothing it could vanish
    rgb = np.full((60, 80, 3), 128, np.uint8)
    laid = contours(rgb, square(0, 0), square(5, 30), island, square(8, 20))
    assert len(np.unique(laid.reshape(-1, 3), axis=0)) >= 4  # the ground, the rims and three colours
    small = contours(rgb, island, square(0, 0), side=20)
    assert (small[10, 15] == TRUTH).all()
    with pytest.raises(DataError, match="can be told apart"):
        contours(rgb, *[island] * 5)


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


def test_a_page_of_any_kind_takes_the_sections_with_files_by_name(
    world: DrawnWorld, predicted: Path, tmp_path: Path
) -> None:
    masks = panderm.read_masks(
        predicted, truth=world.masks, columns=world.csv, keep=["label"], mm_per_pixel=0.01, progress=False
    )
    scores = panderm.evaluate_masks(masks, by=["label"], draws=30)
    files = {str(name): world.images / f"{name}.jpg" for name in masks.image}
    files[str(masks.image[3])] = tmp_path / "gone.jpg"
    sections = mask_sections(
        masks, scores, images=files, where="the test images", worst=len(masks), typical=3
    )
    names = ["masks-scores", "masks-spread", "masks-subgroups", "masks-seen"]
    assert [section.name for section in sections] == names
    rows = {row[0]: row for row in sections[0].tables[0].rows}
    assert set(rows) >= {"Dice", "Boundary F", "HD95, pixels", "HD95, mm", "Pooled Jaccard"}
    value = scores.per_image["hd95"].value
    assert value is not None
    assert rows["HD95, pixels"][1].startswith(f"{value:.1f} (")
    assert [row[0] for row in sections[2].tables[0].rows] == [
        level.level
        for level in scores.by.columns[0].levels  # type: ignore[union-attr]
    ]
    (lowest,) = sections[3].sheets  # all are the lowest: none is left for the middle
    missing = [shown.name for shown in lowest.pictures if shown.picture.data is None]
    assert missing == [masks.image[3]]


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
