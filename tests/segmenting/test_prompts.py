"""Boxes and points: from options, tables and first masks, and what is refused of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panderm.errors import PandermError, TableError, UsageError
from panderm.segmenting.prompted.from_masks import box_of_mask, prompts_of_masks
from panderm.segmenting.prompted.prompts import Box, Point, Prompt, Prompts, prompts_of, read_prompts


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "prompts.csv"
    path.write_text(text)
    return path


def test_options_say_one_lesion_or_several() -> None:
    both = prompts_of(boxes=["1,2,30,40"], points=["5,6", "7,8,0"])
    (prompt,) = both.within("any.jpg", 50, 60)
    assert prompt.box is not None
    assert prompt.box.numbers == (1, 2, 30, 40)
    assert [point.numbers for point in prompt.points] == [(5, 6, 1), (7, 8, 0)]
    several = prompts_of(boxes=["1,2,30,40", "31,2,50,40"]).within("any.jpg", 50, 60)
    assert [one.box.numbers for one in several if one.box] == [(1, 2, 30, 40), (31, 2, 50, 40)]


def test_a_whole_image_is_its_own_box() -> None:
    (prompt,) = prompts_of(whole_image=True).within("any.jpg", 50, 60)
    assert prompt.box is not None
    assert prompt.box.numbers == (0, 0, 60, 50)


def test_a_table_says_boxes_and_points_of_each_image(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "image,x0,y0,x1,y1,x,y,label,object\n"
        "a.jpg,1,2,30,40,,,,\n"
        "a.jpg,,,,,5,6,0,\n"
        "b.jpg,1,2,3,4,,,,one\n"
        "b.jpg,,,,,7,8,,two\n"
        "b.jpg,5,6,7,8,,,,two\n",
    )
    found = read_prompts(path)
    assert found.find("a.jpg") == (
        Prompt(
            Box(1, 2, 30, 40, "row 2 of prompts.csv"),
            (Point(5, 6, 0, "row 3 of prompts.csv"),),
        ),
    )
    one, two = found.find("below/b.png")  # by the file's name, without folder and ending
    assert (one.box and one.box.numbers, one.points) == ((1, 2, 3, 4), ())
    assert (two.box and two.box.numbers, [p.numbers for p in two.points]) == ((5, 6, 7, 8), [(7, 8, 1)])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x0,y0,x1,y1\n1,2,3,4\n", "'image'"),
        ("image,x0,y0\na,1,2\n", "x0, y0, x1, y1"),
        ("image,x0,y0,x1,y1\na,1,2,three,4\n", "row 2 of prompts.csv: x1 is 'three'"),
        ("image,x0,y0,x1,y1\na,1,2,,4\n", "row 2 of prompts.csv: x1 is nothing"),
        ("image,x0,y0,x1,y1\na,9,2,3,4\n", "row 2 of prompts.csv: 9,2,3,4"),
        ("image,x0,y0,x1,y1\na,1,2,inf,4\n", "row 2 of prompts.csv"),
        ("image,x,y,label\na,1,2,5\n", "row 2 of prompts.csv: found '5'"),
        ("image,x,y,label\na,1,2,0\n", "row 2 of prompts.csv: 1 point outside it"),
        ("image,x0,y0,x1,y1,x,y\na,1,2,3,4,5,6\n", "row 2 of prompts.csv has both"),
        ("image,x0,y0,x1,y1,x,y\na,1,2,3,4,,\na,,,,,,\n", "row 3 of prompts.csv has neither"),
        ("image,x0,y0,x1,y1\n,1,2,3,4\n", "row 2 of prompts.csv names none"),
        (
            "image,x0,y0,x1,y1,x,y\na,1,2,3,4,,\na,5,6,7,8,,\na,,,,,1,1\n",
            "row 4 of prompts.csv: beside 2 boxes",
        ),
        (
            "image,x0,y0,x1,y1,object\na,1,2,3,4,m\na,5,6,7,8,m\n",
            "row 3 of prompts.csv is another of object m",
        ),
    ],
)
def test_a_table_that_does_not_say_is_refused_with_its_row(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises((TableError, UsageError)) as caught:
        read_prompts(table(tmp_path, text))
    assert says in str(caught.value)


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "", "1,2,1,4", "1,2,nan,4"])
def test_a_box_is_four_numbers_in_order(box: str) -> None:
    with pytest.raises(UsageError, match="x0,y0,x1,y1"):
        prompts_of(boxes=[box])


@pytest.mark.parametrize("point", ["1", "1,2,3", "x,y", "1,2,0,4", "nan,1"])
def test_a_point_is_two_numbers_and_a_label(point: str) -> None:
    with pytest.raises(UsageError):
        prompts_of(points=[point])


def test_no_prompt_is_refused() -> None:
    with pytest.raises(UsageError, match="must have a prompt"):
        prompts_of()


@pytest.mark.parametrize(
    ("prompts", "inside"),
    [
        (prompts_of(boxes=["0,0,60,50"]), True),
        (prompts_of(boxes=["0,0,60.5,50"]), False),
        (prompts_of(boxes=["0,0,60,51"]), False),
        (prompts_of(boxes=["-1,0,60,50"]), False),
        (prompts_of(points=["59,49"]), True),
        (prompts_of(points=["60,49"]), False),
        (prompts_of(points=["59,50"]), False),
        (prompts_of(points=["-1,5"]), False),
    ],
)
def test_what_reaches_outside_is_refused(prompts: Prompts, inside: bool) -> None:
    if inside:
        assert prompts.within("a.jpg", 50, 60)
        return
    with pytest.raises(UsageError, match="within its image") as caught:
        prompts.within("a.jpg", 50, 60)
    assert "a.jpg of 60 x 50 pixels" in str(caught.value)


def test_each_image_has_prompts_of_its_own(tmp_path: Path) -> None:
    found = read_prompts(table(tmp_path, "image,x,y\na.jpg,1,2\nz.jpg,1,2\n"))
    assert found.require(["a.jpg"]) == ["z.jpg"]
    with pytest.raises(UsageError, match="every image must have") as caught:
        found.require(["a.jpg", "b.jpg", "c.jpg"])
    assert "2 of 3 images have none in prompts.csv: b.jpg, c.jpg" in str(caught.value)
    with pytest.raises(UsageError, match="under one name"):
        found.require(["one/a.jpg", "two/a.jpg"])
    whole = read_prompts(tmp_path / "prompts.csv", whole_image=True)
    assert whole.require(["a.jpg", "b.jpg"]) == ["z.jpg"]
    assert whole.find("b.jpg") == ()


def test_identity_is_of_what_is_asked(tmp_path: Path) -> None:
    one = read_prompts(table(tmp_path, "image,x,y\na.jpg,1,2\nb.jpg,3,4\n"))
    same = read_prompts(table(tmp_path, "image,x,y,label\nb.jpg,3,4,1\na.jpg,1,2,1\n"))
    other = read_prompts(table(tmp_path, "image,x,y,label\na.jpg,1,2,1\nb.jpg,3,5,1\n"))
    assert one.identity == same.identity != other.identity


def test_the_box_of_a_mask_is_around_its_largest_part() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:20, 5:25] = True
    mask[35, 50] = True
    tight = box_of_mask(mask, pad=0)
    assert tight is not None
    assert tight.numbers == (5, 10, 25, 20)
    wide = box_of_mask(mask, pad=0.5)  # 10 pixels, half of the longer side, cut off at the image's edges
    assert wide is not None
    assert wide.numbers == (0, 0, 35, 30)
    assert box_of_mask(np.zeros((4, 4), bool)) is None


def write_mask(path: Path, *, empty: bool = False) -> None:
    mask = np.zeros((50, 60), bool)
    mask[10:20, 5:25] = not empty
    Image.fromarray(mask).save(path)


def test_first_masks_give_boxes_by_folder_or_table(tmp_path: Path) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    write_mask(folder / "a.png")
    write_mask(folder / "b_mask.png", empty=True)
    (folder / "masks.csv").write_text("image,mask\na.jpg,a.png\nb.jpg,b_mask.png\n")
    for source in (folder, folder / "masks.csv"):
        found = prompts_of_masks(source, pad=0, progress=False)
        (prompt,) = found.within("a.jpg", 50, 60)
        assert prompt.box is not None
        assert prompt.box.numbers == (5, 10, 25, 20)
        with pytest.raises(UsageError, match="its first mask is empty"):
            found.within("b.jpg", 50, 60)
        with pytest.raises(UsageError, match="its first mask is empty"):
            found.require(["a.jpg", "b.jpg"])
        with pytest.raises(UsageError, match=r"a\.jpg has 61 x 50 pixels, its mask in .* 60 x 50"):
            found.within("a.jpg", 50, 61)


def test_first_masks_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "first" / "a.png")
    with pytest.raises(TableError, match="black and white"):
        prompts_of_masks(tmp_path / "first", progress=False)
    with pytest.raises(UsageError, match="--pad"):
        prompts_of_masks(tmp_path / "first", pad=-1, progress=False)
    with pytest.raises(PandermError):
        prompts_of_masks(tmp_path / "nowhere.csv", progress=False)
    (tmp_path / "masks.csv").write_text("image,picture\na,b\n")
    with pytest.raises(TableError, match="'mask'"):
        prompts_of_masks(tmp_path / "masks.csv", progress=False)
