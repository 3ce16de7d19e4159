"""The table with its new columns: every cell kept, every row there, nothing read that cannot be."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.data.artefacts.record import FLAGS
from panderm.data.artefacts.table import ADDED
from panderm.errors import ArtifactError, TableError

NAMES = tuple(flag.name for flag in FLAGS)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def desk(tmp_path: Path, world: panderm.data.drawn.DrawnWorld, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three images of the drawn world, one that is no image, one that is not there, and one unnamed."""
    monkeypatch.chdir(tmp_path)
    rows = read(world.csv)[:3]
    for row in rows:
        shutil.copy(world.images / row["image"], tmp_path)
        shutil.copy(world.masks / row["mask"], tmp_path)
    Path("broken.jpg").write_bytes(b"no image")
    names = [*(row["image"] for row in rows), "broken.jpg", "gone.jpg", ""]
    masks = [rows[0]["mask"], "gone.png", "", "", "", ""]
    with Path("skin.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["image", "mask", "note", "note"])
        for name, mask in zip(names, masks, strict=True):
            writer.writerow([name, mask, 'says "ä, b"', "007"])
    return tmp_path


def test_all_cells_are_kept_and_a_bad_image_has_empty_ones(desk: Path) -> None:
    flagged = panderm.flag_artefacts("skin.csv", progress=False)
    flagged.save("flagged.csv")
    lines = list(csv.reader((desk / "flagged.csv").read_text("utf-8").splitlines()))
    assert lines[0] == ["image", "mask", "note", "note", *ADDED]
    assert [line[2:4] for line in lines[1:]] == [['says "ä, b"', "007"]] * 6
    assert [line[0] for line in lines[1:]][3:] == ["broken.jpg", "gone.jpg", ""]
    for line in lines[1:4]:
        assert set(line[4:12]) <= {"yes", "no"}
        assert all(float(cell) == float(cell) for cell in line[12:20])
    for line in lines[4:]:
        assert set(line[4:]) == {""}
    bad = [(one.row, one.image, one.reason) for one in flagged.card.unreadable]
    assert bad == [
        (5, "broken.jpg", "not an image that can be read"),
        (6, "gone.jpg", "no such file"),
        (7, "", "no image is named"),
    ]


def test_the_columns_are_what_one_image_gives(desk: Path) -> None:
    flagged = panderm.flag_artefacts("skin.csv", masks=".", progress=False)
    name, mask = read_first(desk)
    inside = np.asarray(Image.open(mask).convert("L")) > 127
    alone = panderm.find_artefacts(panderm.read_image(name), lesion=inside)
    assert flagged.artefacts[0] == alone
    columns = flagged.columns()
    assert columns["hair"][0] == ("yes" if alone.says("hair") else "no")
    assert columns["ita"][0] == f"{alone.ita:.1f}"
    assert (flagged.card.masks, flagged.card.masks_unusable) == (1, 1)


def read_first(desk: Path) -> tuple[str, str]:
    first = (desk / "skin.csv").read_text("utf-8").splitlines()[1].split(";")
    return first[0], first[1]


def test_what_a_flag_says_follows_from_what_is_written(
    world: panderm.data.drawn.DrawnWorld, tmp_path: Path
) -> None:
    """A reader who applies the card's thresholds to the written scores gets the written flags."""
    lines = world.csv.read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "some.csv").write_text("".join(lines[:25]), "utf-8")
    flagged = panderm.flag_artefacts(tmp_path / "some.csv", images=world.images, progress=False)
    flagged.save(tmp_path / "flagged.csv")
    rows = read(tmp_path / "flagged.csv")
    for flag in FLAGS:
        for row in rows:
            score = float(row[f"{flag.name}_score"])
            beyond = score < flag.threshold if flag.below else score >= flag.threshold
            assert row[flag.name] == ("yes" if beyond else "no")
        assert flagged.card.yes[flag.name] == sum(row[flag.name] == "yes" for row in rows)


def test_the_card_says_how_often_flags_are_right(desk: Path) -> None:
    panderm.flag_artefacts("skin.csv", progress=False).save("flagged.csv")
    card = json.loads((desk / "flagged.artefacts.json").read_text("utf-8"))
    assert list(card["accuracy"]["flags"]) == list(NAMES)
    for one in card["accuracy"]["flags"].values():
        for rate in ("sensitivity", "specificity", "auroc"):
            assert one[rate]["low"] <= one[rate]["value"] <= one[rate]["high"]
        assert one["n"] >= 137
        assert one["positives"] > 0
    tone = card["accuracy"]["tone"]
    assert sum(tone["n_by_type"].values()) == tone["n"]
    assert card["rows"] == 6


def test_the_command_line_states_the_errors_where_it_shows_flags(desk: Path) -> None:
    done = CliRunner().invoke(app, ["artefacts", "skin.csv", "--out", "flagged.csv", "-q"])
    assert done.exit_code == 0, done.output
    text = " ".join(done.output.split())
    for name in NAMES:
        assert name in text
    for words in (
        "sensitivity (95 % interval)",
        "Flags are hints",
        "graded by one reader, a vision model, no dermatologist",
        "rank correlation with the Fitzpatrick type",
        "light is not calibrated",
        "3 images not readable, cells left empty:",
        "row 6: gone.jpg: no such file",
        "flagged.csv: 6 rows, 3 images looked at",
    ):
        assert words in text, words
    again = CliRunner().invoke(app, ["artefacts", "skin.csv", "--out", "flagged.csv", "-q"])
    assert again.exit_code == 2
    assert "an output must not exist already" in again.output


def test_json_is_one_object(desk: Path) -> None:
    done = CliRunner().invoke(app, ["artefacts", "skin.csv", "--out", "flagged.csv", "-q", "--json"])
    told = json.loads(done.stdout)
    assert told["out"] == "flagged.csv"
    assert told["card"] == "flagged.artefacts.json"
    assert set(told["yes"]) == set(NAMES)
    assert (desk / "flagged.csv").is_file()


def test_the_same_table_twice_is_the_same_bytes_whatever_the_threads(desk: Path) -> None:
    for name, workers in (("a.csv", 1), ("b.csv", 4)):
        panderm.flag_artefacts("skin.csv", workers=workers, progress=False).save(name)
    assert (desk / "a.csv").read_bytes() == (desk / "b.csv").read_bytes()


def test_a_flagged_table_is_not_flagged_again(desk: Path) -> None:
    panderm.flag_artefacts("skin.csv", progress=False).save("flagged.csv")
    with pytest.raises(TableError) as caught:
        panderm.flag_artefacts("flagged.csv", progress=False)
    assert str(caught.value) == (
        "the columns to be written must not be there already.\n"
        "  flagged.csv has 18 columns of these names: hair, ruler, ink, gel, dark_corners and 13 more\n"
        "  hint: rename or remove them, or use the table as it was before"
    )
    assert (desk / "flagged.csv").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_column": "imge"}, "column 'imge' (image) must exist; did you mean 'image'?"),
        ({"images": "nowhere"}, "--images must be a folder."),
        ({"masks": "nowhere"}, "--masks must be a folder."),
        (
            {"masks": ".", "mask_column": "maks"},
            "column 'maks' (mask) must be there once; did you mean 'mask'?",
        ),
    ],
)
def test_what_cannot_be_is_refused_first(desk: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(TableError) as caught:
        panderm.flag_artefacts("skin.csv", progress=False, **options)  # type: ignore[arg-type]
    assert caught.value.must == message


def test_the_card_in_the_way_is_refused_before_any_work(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (desk / "flagged.artefacts.json").write_text("mine", "utf-8")
    monkeypatch.setattr("panderm.data.artefacts.table.find_artefacts", lambda *_, **__: pytest.fail("worked"))
    done = CliRunner().invoke(app, ["artefacts", "skin.csv", "--out", "flagged.csv", "-q"])
    assert done.exit_code == 2
    assert (desk / "flagged.artefacts.json").read_text("utf-8") == "mine"
    with pytest.raises(ArtifactError):
        panderm.data.artefacts.table.require_free(desk / "flagged.csv", overwrite=False)
