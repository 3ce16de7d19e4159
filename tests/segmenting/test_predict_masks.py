"""New images to masks: the files, the table, stops and wrong use, in Python and at the command line."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import panderm
from panderm.classifying.journal import Lines, journal_path
from panderm.cli import app
from panderm.data.drawn import DrawnWorld
from panderm.data.masks import read_mask
from panderm.errors import ArtifactError, ParentsError, TableError, UsageError
from panderm.segmenting.file import record_of, write_segmenter
from panderm.segmenting.network import segmenter_for
from panderm.segmenting.predicting import opened
from panderm.segmenting.predicting.masked import Masked
from panderm.segmenting.predicting.native import at_native
from panderm.segmenting.predicting.predict import predict_masks

from darkness import BoxOf, Darkness, LeftIsSure  # isort: skip


def quiet(*args: Any, **kwargs: Any) -> Masked:
    return predict_masks(*args, progress=False, **kwargs)


def below(folder: Path) -> dict[str, bytes]:
    """Every file but the card, whose time differs."""
    files = sorted(one for one in folder.rglob("*") if one.is_file() and one.name != "card.json")
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in files}


@pytest.fixture(scope="module")
def few(world: DrawnWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 images of the drawn world, some of them in a folder below."""
    folder = tmp_path_factory.mktemp("few") / "images"
    (folder / "below").mkdir(parents=True)
    for i, file in enumerate(sorted(world.images.iterdir())[:12]):
        (folder / ("below" if i >= 9 else "") / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture(scope="module")
def segmenter_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real segmenter that has learned nothing."""
    started = segmenter_for("random-tiny", image_size=32, decoder="linear")
    file = tmp_path_factory.mktemp("segmenter") / "segmenter.safetensors"
    write_segmenter(file, state=started.network.state_dict(), started=started, record=record_of(started))
    return file


# What is written


def test_a_mask_is_the_thresholded_answer_at_native_size(few: Path, tmp_path: Path) -> None:
    model = Darkness()
    made = quiet(model, few, tmp_path / "out", threshold=0.6, batch_size=5)
    assert len(made) == len(made.masks) == 12
    assert made.rows[0].image.startswith("below/") is False
    for row, file in zip(made.rows, made.masks, strict=True):
        rgb = panderm.read_image(few / row.image)
        p = at_native(model.probabilities(model.pixels_of(rgb)[None])[0], *rgb.shape[:2])
        mask = read_mask(file)
        np.testing.assert_array_equal(mask, p >= np.float32(0.6))
        with Image.open(file) as image:
            assert (image.mode, image.size) == ("1", (row.width, row.height))
        assert row.area == mask.sum()
        assert row.share == pytest.approx(mask.mean())
        assert row.confidence == pytest.approx(p[mask].mean(), rel=1e-5)
        assert row.highest == pytest.approx(p.max(), rel=1e-6)
        assert row.components == cv2.connectedComponents(mask.view(np.uint8), connectivity=8)[0] - 1
    with (tmp_path / "out" / "masks.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [one["image"] for one in cells] == [row.image for row in made.rows]
    assert (tmp_path / "out" / cells[-1]["mask"]).is_file()
    assert made.per_image()["area"].tolist() == [int(one["area"]) for one in cells]
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert (card["kind"], card["rows"], card["threshold"]) == ("predicted masks", 12, 0.6)
    assert not journal_path(tmp_path / "out").exists()


def test_masks_of_the_drawn_world_are_scored_as_any_folder(world: DrawnWorld, tmp_path: Path) -> None:
    quiet(Darkness(size=96, level=140), world.images, tmp_path / "out", largest=True, fill_holes=True)
    found = panderm.read_masks(tmp_path / "out", truth=world.masks, progress=False)
    assert len(found) == 90
    assert found.per_image()["dice"].median() > 0.85  # of dark skin all is dark


def test_nothing_found_stays_nothing_and_is_said(few: Path, tmp_path: Path) -> None:
    made = quiet(
        Darkness(level=-500),
        few,
        tmp_path / "out",
        largest=True,
        fill_holes=True,
        contours="geojson",
        overlays=True,
    )
    assert len(made.empty) == made.card.empty == 12
    for row, file in zip(made.rows, made.masks, strict=True):
        assert (row.empty, row.area, row.components, row.confidence) == (True, 0, 0, None)
        assert not read_mask(file).any()
    with (tmp_path / "out" / "masks.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert {(one["empty"], one["confidence"], one["share"]) for one in cells} == {("true", "", "0")}
    told = json.loads(
        (tmp_path / "out" / "contours" / cells[0]["mask"].replace(".png", ".geojson")).read_text()
    )
    assert told["features"] == []


def test_all_that_is_asked_for_lies_beside(few: Path, tmp_path: Path) -> None:
    made = quiet(
        LeftIsSure(), few, tmp_path / "out", tta="2", overlays=True, contours="csv", confidence=True,
        uncertainty=True, depth=16, threshold=0.4,
    )  # fmt: skip
    row = made.rows[0]
    stem = row.mask.removesuffix(".png")
    folder = tmp_path / "out"
    maps = {
        kind: cv2.imread(str(folder / kind / row.mask), cv2.IMREAD_UNCHANGED)
        for kind in ("confidence", "uncertainty", "disagreement")
    }
    for kind, value in (("confidence", 32768), ("uncertainty", 65535), ("disagreement", 65535)):
        assert maps[kind].dtype == np.uint16
        assert maps[kind].shape == (row.height, row.width)
        assert np.unique(maps[kind]).tolist() == [value], kind
    assert (row.confidence, row.uncertainty, row.disagreement) == (0.5, 1.0, 0.5)
    with Image.open(folder / "overlays" / f"{stem}.jpg") as image:
        assert image.size == (row.width, row.height)
    assert (folder / "contours" / f"{stem}.csv").read_text().count("\n") == 5
    assert (folder / "overlays" / "below").is_dir()


def test_the_mask_lies_on_the_image_as_it_is_shown(few: Path, tmp_path: Path) -> None:
    source = next(iter(sorted(few.glob("*.*"))))
    rgb = panderm.read_image(source)
    exif = Image.Exif()
    exif[274] = 6
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(rgb).save(folder / "plain.png")
    Image.fromarray(np.rot90(rgb)).save(folder / "turned.png", exif=exif)
    made = quiet(Darkness(size=96), folder, tmp_path / "out")
    plain, turned = (read_mask(file) for file in made.masks)
    assert plain.shape == turned.shape == rgb.shape[:2]
    np.testing.assert_array_equal(plain, turned)
    assert "EXIF" in made.card.orientation


def test_windows_see_what_the_whole_image_hides(tmp_path: Path) -> None:
    """A small dark spot in a large pale picture: squashed to 32 pixels it is lost."""
    rgb = np.full((400, 700, 3), 230, dtype=np.uint8)
    cv2.circle(rgb, (500, 300), 5, (20, 20, 20), -1)
    (tmp_path / "in").mkdir()
    Image.fromarray(rgb).save(tmp_path / "in" / "a.png")
    assert quiet(Darkness(), tmp_path / "in", tmp_path / "whole").empty == ("a.png",)
    made = quiet(
        Darkness(),
        tmp_path / "in",
        tmp_path / "tiled",
        tiles=64,
        overlap=0.5,
        batch_size=4,
        tta="2",
        overlays=True,
    )
    (row,) = made.rows
    y, x = np.nonzero(read_mask(made.masks[0]))
    assert (row.components, made.card.tiles, made.card.overlap) == (1, 64, 0.5)
    assert abs(x.mean() - 500) < 1
    assert abs(y.mean() - 300) < 1
    assert 40 < row.area < 140


def test_a_large_image_by_strips_has_the_mask_of_the_whole(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "LARGE", 1000)
    by_strips = quiet(Darkness(size=16), few, tmp_path / "strips", tiles=40)
    monkeypatch.setattr(opened, "reads_strips", lambda: False)
    whole = quiet(Darkness(size=16), few, tmp_path / "whole", tiles=40)
    assert below(by_strips.folder) == below(whole.folder)


def test_a_prompted_model_is_asked_by_name(few: Path, tmp_path: Path) -> None:
    names = [file.relative_to(few).as_posix() for file in sorted(few.rglob("*.*")) if file.is_file()]
    made = quiet(BoxOf(dict.fromkeys(names, (10, 20, 30, 25))), few, tmp_path / "out")
    assert {row.area for row in made.rows} == {100}
    assert made.per_image()["sure"].tolist() == [len(row.image) for row in made.rows]
    with (tmp_path / "out" / "masks.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["sure"] == str(len(made.rows[0].image))
    with pytest.raises(UsageError, match="must have a prompt"):
        quiet(BoxOf(dict.fromkeys(names[1:], (1, 2, 3, 4))), few, tmp_path / "without")
    assert not journal_path(tmp_path / "without").exists()
    with pytest.raises(UsageError, match="see whole images"):
        quiet(BoxOf({}), few, tmp_path / "other", tta="2")


def test_a_segmenters_file_answers(segmenter_file: Path, few: Path, tmp_path: Path) -> None:
    segmenter = panderm.load_segmenter(segmenter_file, device="cpu")
    one = quiet(segmenter_file, few, tmp_path / "one", device="cpu", confidence=True)
    two = quiet(segmenter, few, tmp_path / "two", confidence=True)
    assert below(one.folder) == below(two.folder)
    assert one.card.answers["sha256"]
    row = one.rows[0]
    rgb = panderm.read_image(few / row.image)
    looked = [segmenter.pixels_of(panderm.read_image(few / r.image)) for r in one.rows[:8]]
    p = at_native(segmenter.probabilities(np.stack(looked))[0], *rgb.shape[:2])
    found = cv2.imread(str(one.folder / "confidence" / row.mask), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(found, np.rint(p * 255))


def test_an_open_table_is_a_source(table: panderm.Table, tmp_path: Path) -> None:
    rows = table.in_split("test")
    made = quiet(Darkness(), rows, tmp_path / "out")
    assert [row.image for row in made.rows] == rows.image.tolist()


# Stops, and images that cannot be read


def test_a_run_that_was_killed_ends_with_the_same_bytes(few: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"batch_size": 2, "contours": "geojson", "confidence": True}
    whole = quiet(Darkness(), few, tmp_path / "whole", **options)
    out = tmp_path / "killed"
    code = (
        "import sys, time\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from darkness import Darkness\n"
        "from panderm.classifying.journal import Lines\n"
        "from panderm.segmenting.predicting.predict import predict_masks\n"
        "add = Lines.add\n"
        "def slowly(self, value):\n"
        "    add(self, value)\n"
        "    time.sleep(0.3)\n"
        "Lines.add = slowly\n"
        f"predict_masks(Darkness(), *sys.argv[1:], progress=False, **{options!r})\n"
    )
    rows = journal_path(out) / "rows.jsonl"
    with subprocess.Popen([sys.executable, "-c", code, str(few), str(out)]) as process:
        while process.poll() is None and (not rows.is_file() or rows.read_bytes().count(b"\n") < 3):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert not out.exists()
    made = journal_path(out) / "made"
    (made / ".left.png.1.tmp").write_bytes(b"half")
    with rows.open("ab") as file:
        file.write(b'[["half a li')
    done = next(made.glob("*.png"))
    again = quiet(Darkness(), few, out, **options)
    assert 2 <= again.resumed < 12
    assert below(out) == below(whole.folder)
    assert not journal_path(out).exists()
    assert (out / done.name).is_file()


def test_a_mask_that_is_not_whole_is_made_anew(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    whole = quiet(Darkness(), few, tmp_path / "whole", batch_size=1)
    stop_at(7, few, out)
    made = sorted((journal_path(out) / "made").glob("*.png"))
    made[0].write_bytes(made[0].read_bytes()[:40])
    again = quiet(Darkness(), few, out, batch_size=1)
    assert 0 < again.resumed < 7
    assert below(out) == below(whole.folder)


def stop_at(line: int, few: Path, out: Path) -> None:
    """Stop a run as by Ctrl-C while it notes its n-th group."""
    add, seen = Lines.add, 0

    def count(self: Lines, value: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == line:
            raise KeyboardInterrupt
        add(self, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lines, "add", count)
        with pytest.raises(KeyboardInterrupt):
            quiet(Darkness(), few, out, batch_size=1)


def test_a_stopped_run_leaves_no_half_file_and_goes_on_with_what_it_began_with(
    few: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    stop_at(4, few, out)
    assert not out.exists()
    assert not [one for one in journal_path(out).rglob("*") if one.name.endswith(".tmp")]
    with pytest.raises(ParentsError, match="must go on with what it began") as caught:
        quiet(Darkness(), few, out, batch_size=1, threshold=0.7)
    assert "threshold: then 0.5, now 0.7" in str(caught.value)
    with pytest.raises(ParentsError):
        quiet(Darkness(level=100), few, out, batch_size=1)
    anew = quiet(Darkness(), few, out, batch_size=1, threshold=0.7, overwrite=True)
    assert (anew.resumed, anew.card.threshold) == (0, 0.7)


def test_two_processes_do_not_meet(few: Path, tmp_path: Path) -> None:
    class Rival(Darkness):
        def probabilities(self, rgb: np.ndarray) -> np.ndarray:
            with pytest.raises(ArtifactError, match="one process at a time"):
                quiet(Darkness(), few, tmp_path / "out")
            return super().probabilities(rgb)

    assert len(quiet(Rival(), few, tmp_path / "out")) == 12


def test_an_output_is_replaced_only_where_that_is_asked_for(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = quiet(Darkness(), few, out, overlays=True)
    with pytest.raises(ArtifactError, match="must not exist"):
        quiet(Darkness(), few, out)
    second = quiet(Darkness(level=90), few, out, overwrite=True)
    assert not (out / "overlays").exists()
    assert [row.area for row in first.rows] != [row.area for row in second.rows]
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("a user's")
    with pytest.raises(ArtifactError, match="only a folder that panderm wrote"):
        quiet(Darkness(), few, other, overwrite=True)


@pytest.fixture
def damaged(few: Path, tmp_path: Path) -> Path:
    """Three images, the second damaged where only decoding shows it."""
    folder = tmp_path / "damaged"
    folder.mkdir()
    rgb = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(rgb).save(folder / name)
    content = bytearray((folder / "b.png").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (folder / "b.png").write_bytes(content)
    return folder


@pytest.mark.parametrize("options", [{}, {"tiles": 32}])
def test_images_that_cannot_be_read_are_told_once_the_others_are_done(
    damaged: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    with pytest.raises(TableError, match="every image must be readable") as caught:
        quiet(Darkness(), damaged, out, **options)
    assert "2 other images predicted and kept" in str(caught.value)
    assert not out.exists()
    made = quiet(Darkness(), damaged, out, skip_bad=True, **options)
    assert (made.resumed, len(made), [one.image for one in made.card.skipped]) == (2, 2, ["b.png"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.0}, "threshold must be a probability"),
        ({"threshold": 1.5}, "threshold must be a probability"),
        ({"tiles": 8}, "at least 16 pixels"),
        ({"tiles": 64, "overlap": 0.95}, "overlap by 0 to 0.9"),
        ({"min_area": -1}, "number of pixels"),
        ({"batch_size": 0}, "batch size"),
        ({"contours": "svg"}, "geojson or csv"),
        ({"images": "."}, "a table's images"),
    ],
)
def test_wrong_use_is_one_sentence_before_anything_is_made(
    few: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        quiet(Darkness(), few, tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_what_answers_for_nothing_is_refused(few: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="asked of a segmenter"):
        quiet(object(), few, tmp_path / "out")


# The command line


def test_the_verb_says_what_it_made_and_what_it_did_not_find(
    segmenter_file: Path, few: Path, tmp_path: Path
) -> None:
    words = [
        "segment",
        "predict",
        str(segmenter_file),
        str(few),
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
        "-q",
    ]
    done = CliRunner().invoke(app, [*words, "--json", "--threshold", "1", "--min-area", "5", "--tta", "8"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["rows"], len(told["empty"]), told["tidying"]["min_area"]) == (12, 12, 5)
    assert "nothing found in 12 images, whose masks are empty" in done.stderr
    again = CliRunner().invoke(app, words)
    assert (again.exit_code, "must not exist" in again.stderr) == (2, True)
    plain = CliRunner().invoke(app, [*words, "--overwrite", "--fill-holes", "--tiles", "50"])
    assert plain.exit_code == 0, plain.output
    assert "windows of 50 pixels" in plain.stdout
    assert "EXIF orientation applied" in plain.stdout
    missing = CliRunner().invoke(app, ["segment", "predict", "none", str(few), "--out", str(tmp_path / "no")])
    assert (missing.exit_code, "a segmenter's file must exist" in missing.stderr) == (2, True)
