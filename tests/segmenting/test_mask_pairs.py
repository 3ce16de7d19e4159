"""Which mask is of which image: by column or by name, and what is refused, named with its sizes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import panderm
from panderm.data.drawn import DrawnWorld
from panderm.errors import TableError
from panderm.segmenting.learning.pairs import Pairs, pairs_of

SIZE = (30, 20)  # width and height


class Few:
    """A small folder: images a to f, their masks, a table that names neither split nor mask."""

    def __init__(self, root: Path) -> None:
        self.root, self.images, self.masks = root, root / "images", root / "masks"
        self.images.mkdir()
        self.masks.mkdir()
        for k, name in enumerate("abcdef"):
            rgb = np.random.default_rng(k).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
            Image.fromarray(rgb).save(self.images / f"{name}.jpg")
            self.mask(f"{name}_segmentation.png", first=k)
        self.table("image", [[f"{name}.jpg"] for name in "abcdef"])

    def mask(self, file: str, first: int = 0, size: tuple[int, int] = SIZE) -> Path:
        mask = np.zeros(size[::-1], bool)
        mask[first:10, 5:15] = True
        Image.fromarray(mask).save(self.masks / file)
        return self.masks / file

    def table(self, header: str, rows: list[list[str]]) -> None:
        lines = [header, *(",".join(row) for row in rows)]
        (self.root / "t.csv").write_text("\n".join(lines) + "\n")

    def pairs(self, **options: Any) -> Pairs:
        given: dict[str, Any] = {"images": self.images, "masks": self.masks, "progress": False} | options
        return pairs_of(self.root / "t.csv", **given)


@pytest.fixture
def few(tmp_path: Path) -> Few:
    return Few(tmp_path)


def test_masks_are_found_by_name_and_kept_with_their_rows(few: Few) -> None:
    few.mask("nobody_segmentation.png")
    pairs = few.pairs()
    assert [Path(file).name for file in pairs.mask] == [f"{name}_segmentation.png" for name in "abcdef"]
    assert pairs.inside.tolist() == [10 * (10 - k) for k in range(6)]
    assert (pairs.height.tolist(), pairs.width.tolist()) == ([20] * 6, [30] * 6)
    assert pairs.share[0] == pytest.approx(100 / 600)
    rgb, mask = pairs.read(3)
    assert rgb.shape == (20, 30, 3)
    assert mask.sum() == 70
    assert "6 images with masks" in pairs.words[0]
    assert pairs.words[1] == f"1 mask in {few.masks} of no row"
    chosen = pairs.select(np.array([4, 1]))
    assert [Path(file).name[0] for file in chosen.mask] == ["e", "b"] == [x[0] for x in chosen.table.image]
    assert chosen.identity != pairs.identity
    few.mask("a_segmentation.png", first=2)
    assert few.pairs().identity != pairs.identity


def test_a_column_names_masks_wherever_they_lie(few: Few) -> None:
    (few.masks / "a_segmentation.png").rename(few.masks / "other.png")
    rows = [["a.jpg", "other.png", "p1", "train"], ["b.jpg", "b_segmentation.png", "p2", "test"]]
    few.table("image,mask,patient_id,split", rows)
    pairs = few.pairs()
    assert [Path(file).name for file in pairs.mask] == ["other.png", "b_segmentation.png"]
    assert pairs.table.patient.tolist() == ["p1", "p2"]
    assert pairs.in_split("test").table.image.tolist() == ["b.jpg"]
    # Relative to the folder of the download, as panderm data prepare writes it; or of the table.
    few.table("image,mask", [["images/b.jpg", "masks/b_segmentation.png"]])
    for options in ({"images": few.root, "masks": None}, {"images": few.root}):
        assert few.pairs(**options).mask.tolist() == [str(few.masks / "b_segmentation.png")]
    few.table(
        "image,outline", [["b.jpg", "masks/b_segmentation.png"], ["a.jpg", str(few.masks / "other.png")]]
    )
    pairs = few.pairs(masks=None, mask_column="outline")
    assert [Path(file).name for file in pairs.mask] == ["b_segmentation.png", "other.png"]
    table = panderm.read_table(few.root / "t.csv", images=few.images, progress=False)
    again = pairs_of(table.select(np.array([1])), mask_column="outline", progress=False)
    assert [Path(file).name for file in again.mask] == ["other.png"]


def test_masks_of_one_image_only(few: Few) -> None:
    for name in ("x/a.jpg", "y/a.jpg"):
        (few.images / name).parent.mkdir()
        shutil.copy(few.images / "a.jpg", few.images / name)
    few.table("image", [["x/a.jpg"], ["y/a.jpg"]])
    with pytest.raises(TableError, match="must be of one image"):
        few.pairs()
    few.table("image", [["b_mask.jpg"], ["a.jpg"]])  # an image may be called so itself
    shutil.copy(few.images / "b.jpg", few.images / "b_mask.jpg")
    assert [Path(file).name[0] for file in few.pairs().mask] == ["b", "a"]


def test_what_is_not_there_is_named_and_left_out_only_when_that_is_asked(few: Few) -> None:
    (few.masks / "c_segmentation.png").unlink()
    with pytest.raises(TableError, match=r"row 4: c\.jpg: no mask is named") as caught:
        few.pairs()
    assert "1 of 6 rows of t.csv does not" in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    pairs = few.pairs(skip_bad=True)
    assert "".join(name[0] for name in pairs.table.image) == "abdef"
    assert pairs.inside.tolist() == [100, 90, 70, 60, 50]
    (skipped,) = pairs.table.card.skipped
    assert (skipped.row, skipped.image, skipped.reason) == (4, "c.jpg", "no mask is named")
    assert pairs.table.card.rows == 5
    assert pairs.words[1] == "1 row left out: no mask that could be used"
    few.table("image,mask", [["a.jpg", ""], ["b.jpg", "gone.png"], ["c.jpg", ""]])
    with pytest.raises(TableError, match="none of 3 rows") as caught:
        few.pairs(skip_bad=True)
    assert f"{few.masks / 'gone.png'}: no such file" in str(caught.value)
    assert "--masks" in str(caught.value)


def test_masks_that_do_not_fit_are_named_with_both_sizes(few: Few) -> None:
    small = few.mask("a_segmentation.png", size=(15, 10))
    grey = few.masks / "b_segmentation.png"
    Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30)).save(grey)
    (few.masks / "c_segmentation.png").write_bytes(b"no picture")
    other = few.mask("d_segmentation.png", size=(30, 21))
    with pytest.raises(TableError, match="4 of 6 rows") as caught:
        few.pairs()
    told = str(caught.value)
    assert f"a.jpg: {small}: 15 × 10 pixels, its image 30 × 20: the same shape at another scale" in told
    assert f"b.jpg: {grey}: has the values" in told
    assert f"c.jpg: {few.masks / 'c_segmentation.png'}: not an image that can be read" in told
    assert f"d.jpg: {other}: 30 × 21 pixels, its image 30 × 20\n" in told
    assert few.pairs(skip_bad=True).table.image.tolist() == ["e.jpg", "f.jpg"]


def test_an_image_that_exif_turns_wants_a_mask_that_is_upright(few: Few) -> None:
    exif = Image.Exif()
    exif[274] = 6
    with Image.open(few.images / "a.jpg") as opened:
        opened.save(few.images / "a.jpg", exif=exif)
    with pytest.raises(TableError, match="once its EXIF orientation 6 is applied: turn the mask likewise"):
        few.pairs()
    few.mask("a_segmentation.png", size=SIZE[::-1])
    pairs = few.pairs()
    assert (pairs.height[0], pairs.width[0]) == (30, 20)
    rgb, mask = pairs.read(0)
    assert rgb.shape[:2] == mask.shape == (30, 20)
    assert pairs.words[1].startswith("1 image turned by an EXIF orientation")
    exif[274] = 3  # upside down: sizes do not tell
    Image.open(few.images / "b.jpg").save(few.images / "b.jpg", exif=exif)
    assert few.pairs().words[1].startswith("2 images turned")
    png = Image.open(few.images / "c.jpg")
    (few.images / "c.jpg").unlink()
    exif[274] = 8
    png.save(few.images / "c.png", exif=exif)
    few.table("image", [["c.png"]])
    with pytest.raises(TableError, match="EXIF orientation 8"):
        few.pairs()


def test_what_looks_wrong_is_said(few: Few) -> None:
    for name in "abcd":
        inside = np.ones(SIZE[::-1], bool)
        inside[5:9, 5:9] = name == "a"
        Image.fromarray(inside).save(few.masks / f"{name}_segmentation.png")
    Image.fromarray(np.zeros(SIZE[::-1], bool)).save(few.masks / "e_segmentation.png")
    words = few.pairs().words
    assert words[1:3] == ("1 mask with nothing inside", "1 mask with nothing outside")
    assert words[3].startswith("4 of 6 masks hold all four corners")


def test_labels_are_not_asked_for(few: Few) -> None:
    few.table("image,label,split", [["a.jpg", "nv", "train"], ["b.jpg", "", "val"]])
    pairs = few.pairs()
    assert pairs.table.label.tolist() == [None, None]
    assert pairs.table.split.tolist() == ["train", "val"]
    few.table("image,label", [["a.jpg", "nv"], ["b.jpg", "mel"]])
    assert few.pairs().table.label.tolist() == ["nv", "mel"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"masks": None}, "column 'mask' must be there once"),
        ({"mask_column": "outlin"}, "did you mean"),
        ({"masks": "nowhere"}, "the folder of the masks must exist"),
    ],
)
def test_masks_that_nobody_names_are_asked_for(few: Few, options: dict[str, Any], match: str) -> None:
    few.table("image,outline", [["a.jpg", "a_segmentation.png"]])
    with pytest.raises(TableError, match=match):
        few.pairs(**options)


def test_a_table_that_changed_meanwhile_is_refused(few: Few) -> None:
    few.table("image,mask", [["a.jpg", "a_segmentation.png"], ["b.jpg", "b_segmentation.png"]])
    table = panderm.read_table(few.root / "t.csv", images=few.images, progress=False)
    few.table("image,mask", [["b.jpg", "b_segmentation.png"], ["a.jpg", "a_segmentation.png"]])
    with pytest.raises(TableError, match="changed since"):
        pairs_of(table, masks=few.masks, progress=False)


def test_the_drawn_world_has_masks_of_every_split(world: DrawnWorld) -> None:
    pairs = pairs_of(world.csv, images=world.images, masks=world.masks, progress=False)
    assert len(pairs) == 90
    assert sum(len(pairs.in_split(part)) for part in ("train", "val", "test")) == 90
    area = [int(line.split(",")[7]) for line in world.csv.read_text().splitlines()[1:]]
    assert pairs.inside.tolist() == area
