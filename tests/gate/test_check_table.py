"""The gate: each kind of problem is planted, and found, and nothing else is."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.gate.check import Checked

Rows = list[dict[str, str]]
Plant = Callable[[Rows, Path], None]
LOOK = "--draws 20 -q"
# Of a sound table: all there is to say is what its columns are.
ALWAYS = {"columns-tested", "columns-together", "column-predicts-label", "rows-in-order"}


def texture(seed: int, size: tuple[int, int] = (72, 54)) -> Image.Image:
    """A picture like no other: noise of all scales, as skin has."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((size[1], size[0], 3))
    for cells in (3, 6, 12, 24):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=float) / cells
    low, high = pixels.min(), pixels.max()
    return Image.fromarray((20 + 215 * (pixels - low) / (high - low)).astype(np.uint8))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 pictures of 72 patients: 12 of each of two classes in each split, in no order."""
    folder = tmp_path_factory.mktemp("sound")
    rng = np.random.default_rng(7)
    names = rng.permutation(72)
    rows = []
    for i in range(72):
        name = f"im{100 + names[i]}.png"
        texture(i).save(folder / name)
        rows.append(
            {
                "image": name,
                "split": ("train", "val", "test")[i % 3],
                "label": ("nevus", "melanoma")[i // 3 % 2],
                "patient_id": f"P{i:03}",
                "lesion_id": f"L{i:03}",
            }
        )
    write([rows[i] for i in rng.permutation(72)], folder)
    return folder


def write(rows: Rows, folder: Path) -> None:
    with (folder / "skin.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def read(folder: Path) -> Rows:
    with (folder / "skin.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def look(folder: Path, **options: object) -> Checked:
    return panderm.check(folder / "skin.csv", draws=20, progress=False, **options)  # type: ignore[arg-type]


def kinds(checked: Checked) -> set[str]:
    return set(checked.counts) - ALWAYS


@pytest.fixture
def without_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not test what columns say: that has tests of its own, and takes a second."""
    monkeypatch.setattr("panderm.gate.check.inspect_columns", lambda *_, **__: [])


@pytest.fixture
def planted(sound: Path, tmp_path: Path) -> Callable[[Plant], Path]:
    """Return a folder of its own with a problem planted into it."""

    def plant(how: Plant) -> Path:
        folder = tmp_path / "planted"
        shutil.copytree(sound, folder)
        rows = read(folder)
        how(rows, folder)
        write(rows, folder)
        return folder

    return plant


def save_at(row: int, make: Callable[[Image.Image, Path], None]) -> Plant:
    """Plant another file in the place of a row's."""

    def how(rows: Rows, folder: Path) -> None:
        path = folder / rows[row]["image"]
        with Image.open(path) as opened:
            opened.load()
        make(opened, path)

    return how


def cells(row: int, **values: str) -> Plant:
    def how(rows: Rows, folder: Path) -> None:
        rows[row].update(values)

    return how


def exif(orientation: int) -> Image.Exif:
    header = Image.Exif()
    header[0x0112] = orientation
    return header


def animate(image: Image.Image, path: Path) -> None:
    other = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image.save(path, "GIF", save_all=True, append_images=[other])


def same_as(row: int, other: int, change: Callable[[Image.Image], Image.Image] | None = None) -> Plant:
    """Give a row the picture of another, changed or not; in another file format, so that no byte is alike."""

    def how(rows: Rows, folder: Path) -> None:
        with Image.open(folder / rows[other]["image"]) as opened:
            image = opened.convert("RGB")
        image = change(image) if change else image
        (folder / rows[row]["image"]).unlink()
        rows[row]["image"] = f"copy-of-{other}.bmp"
        image.save(folder / rows[row]["image"])

    return how


def rows_of(rows: Rows, **values: str) -> list[int]:
    return [i for i, row in enumerate(rows) if row.items() >= values.items()]


def twins(how: Callable[[int, int], Plant], first: dict[str, str], second: dict[str, str]) -> Plant:
    """Plant at the first row of one description, and the last of another."""

    def plant(rows: Rows, folder: Path) -> None:
        one, other = rows_of(rows, **first)[0], rows_of(rows, **second)[-1]
        how(one, other)(rows, folder)

    return plant


def both(*plants: Plant) -> Plant:
    def plant(rows: Rows, folder: Path) -> None:
        for one in plants:
            one(rows, folder)

    return plant


def turned(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.TRANSVERSE).resize((108, 144))


def one_lesion(one: int, other: int) -> Plant:
    """Give two rows one patient and one lesion: what they share is then no finding of its own."""
    return both(
        cells(one, patient_id="P999", lesion_id="L999"), cells(other, patient_id="P999", lesion_id="L999")
    )


def copied(one: int, other: int) -> Plant:
    return both(same_as(one, other), one_lesion(one, other))


def copied_turned(one: int, other: int) -> Plant:
    return both(same_as(one, other, turned), one_lesion(one, other))


TRAIN = {"split": "train", "label": "nevus"}
TEST = {"split": "test", "label": "nevus"}
TRAIN_MELANOMA = {"split": "train", "label": "melanoma"}
ACROSS = {"duplicates-cross-splits", "patient-crosses-splits", "lesion-crosses-splits"}

FINDINGS: dict[str, tuple[Plant, set[str]]] = {
    "missing": (save_at(3, lambda _, path: path.unlink()), {"missing-file"}),
    "another name": (cells(3, image="im100"), {"missing-file"}),
    "no bytes": (save_at(3, lambda _, path: path.write_bytes(b"")), {"empty-file"}),
    "truncated": (save_at(3, lambda _, path: path.write_bytes(path.read_bytes()[:-900])), {"damaged-file"}),
    "no image": (save_at(3, lambda _, path: path.write_bytes(b"%PDF-1.7 no image")), {"not-an-image"}),
    "a folder": (save_at(3, lambda _, path: (path.unlink(), path.mkdir())), {"not-an-image"}),  # type: ignore[arg-type, return-value]
    "animated": (save_at(3, animate), {"several-frames"}),
    "one colour": (save_at(3, lambda i, p: Image.new("RGB", i.size, (90, 60, 50)).save(p)), {"one-colour"}),
    "tiny": (save_at(3, lambda i, p: i.resize((40, 31)).save(p)), {"tiny"}),
    "no name": (cells(3, image=" "), {"no-image-named"}),
    "no label": (cells(3, label=""), {"no-label"}),
    "another split": (cells(3, split="Train"), {"unknown-split"}),
    "no split": (cells(3, split=""), {"unknown-split"}),
    "named twice": (twins(lambda a, b: named_as(a, b), TRAIN, TRAIN), {"named-twice"}),
    "a class in other letters": (
        cells(3, label="NEVUS"),
        {"class-spelled-twice", "class-missing", "few-to-learn-from"},
    ),
    "equal pixels": (twins(copied, TRAIN, TRAIN), {"same-pixels"}),
    "equal pixels, two lesions": (
        twins(same_as, TRAIN, TRAIN),
        {"same-pixels", "duplicates-under-two-patients", "duplicates-under-two-lesions"},
    ),
    "equal pixels, two splits": (twins(copied, TRAIN, TEST), {"same-pixels", *ACROSS}),
    "equal pixels, two labels": (
        twins(copied, TRAIN, TRAIN_MELANOMA),
        {"same-pixels", "duplicates-disagree", "lesion-disagrees"},
    ),
    "turned and mirrored": (twins(copied_turned, TRAIN, TRAIN), {"near-duplicates"}),
    "turned, two splits": (twins(copied_turned, TRAIN, TEST), {"near-duplicates", *ACROSS}),
    "a patient in two splits": (
        twins(lambda a, b: both(cells(a, patient_id="P1"), cells(b, patient_id="P1")), TRAIN, TEST),
        {"patient-crosses-splits"},
    ),
    "a lesion in two splits": (
        twins(one_lesion, TRAIN, TEST),
        {"patient-crosses-splits", "lesion-crosses-splits"},
    ),
    "a lesion under two patients": (
        twins(lambda a, b: both(cells(a, lesion_id="L1"), cells(b, lesion_id="L1")), TRAIN, TRAIN),
        {"lesion-under-two-patients"},
    ),
    "a lesion with two labels": (twins(one_lesion, TRAIN, TRAIN_MELANOMA), {"lesion-disagrees"}),
    "sideways": (save_at(3, lambda i, p: i.save(p, exif=exif(6))), {"turned"}),
    "print colours": (save_at(3, lambda i, p: i.convert("CMYK").save(p, "TIFF")), {"cmyk"}),
    "transparent": (save_at(3, lambda i, p: i.convert("RGBA").save(p)), {"alpha"}),
    "grey": (save_at(3, lambda i, p: i.convert("L").save(p)), {"grey"}),
    "16 bits": (
        save_at(3, lambda i, p: Image.fromarray(np.asarray(i.convert("L")).astype(np.uint16) * 257).save(p)),
        {"deep", "grey"},
    ),
    "no patient": (cells(3, patient_id=""), {"no-patient"}),
}
NOTES = {"near-duplicates", "turned", "cmyk", "alpha", "grey", "deep", "no-patient", "few-to-learn-from"}


def named_as(one: int, other: int) -> Plant:
    def how(rows: Rows, folder: Path) -> None:
        rows[one]["image"] = "./" + rows[other]["image"]

    return how


def test_a_sound_table_has_no_findings(sound: Path) -> None:
    checked = look(sound)
    assert checked.findings == ()
    assert kinds(checked) == set()
    assert checked.ok
    assert checked.summary.startswith("72 rows, 72 files: no findings")
    assert len(checked.not_checked) == 2  # for lack of embeddings


@pytest.mark.usefixtures("without_columns")
@pytest.mark.parametrize("name", FINDINGS)
def test_what_is_planted_is_found_and_nothing_else(planted: Callable[[Plant], Path], name: str) -> None:
    plant, wanted = FINDINGS[name]
    checked = look(planted(plant))
    assert kinds(checked) == wanted
    assert {one.kind for one in checked.notes} == wanted & NOTES
    assert checked.ok == (wanted <= NOTES)


@pytest.mark.usefixtures("without_columns")
def test_everything_wrong_is_told_at_once_and_by_row(planted: Callable[[Plant], Path]) -> None:
    folder = planted(
        both(
            save_at(0, lambda _, path: path.unlink()),
            save_at(10, lambda _, path: path.unlink()),
            save_at(20, lambda _, path: path.write_bytes(b"")),
            cells(30, label=""),
            cells(40, split="tset"),
        )
    )
    rows = read(folder)
    found = {one.kind: one for one in look(folder).findings}
    assert set(found) == {"missing-file", "empty-file", "no-label", "unknown-split"}
    assert [place.rows for place in found["missing-file"].places] == [(2,), (12,)]
    assert found["missing-file"].places[1].images == (rows[10]["image"],)
    assert found["missing-file"].places[1].text == "no such file"
    assert found["empty-file"].places[0].text == "an empty file"
    assert found["unknown-split"].places[0].text == "'tset'; did you mean 'test'?"
    assert found["unknown-split"].sentence == "1 row whose split is neither train, val nor test: 'tset'."


@pytest.mark.usefixtures("without_columns")
def test_lesions_numbered_within_patients_are_told_apart(planted: Callable[[Plant], Path]) -> None:
    def number(rows: Rows, _: Path) -> None:
        for i, row in enumerate(rows):
            row["lesion_id"] = str(i % 9)

    checked = look(planted(number))
    assert kinds(checked) == {"lesions-numbered-anew"}
    assert checked.ok


@pytest.mark.usefixtures("without_columns")
def test_a_crop_is_found_by_a_second_look_at_the_pixels(planted: Callable[[Plant], Path]) -> None:
    """The hash leaves it open; without the second look it would be missed."""

    def plant(rows: Rows, folder: Path) -> None:
        one, other = rows_of(rows, **TRAIN)[:2]
        large = texture(999, (288, 216))
        large.save(folder / rows[one]["image"])
        large.crop((6, 5, 281, 212)).save(folder / rows[other]["image"])
        one_lesion(one, other)(rows, folder)

    checked = look(planted(plant))
    assert kinds(checked) == {"near-duplicates"}
    similarity = float(checked.notes[0].places[0].text.removeprefix("similarity "))
    assert 0.88 <= similarity < 0.95


@pytest.mark.usefixtures("without_columns")
def test_pictures_beyond_a_stated_limit_are_not_decoded(sound: Path) -> None:
    checked = look(sound, max_megapixels=0.001)
    assert checked.counts["too-large"] == 72
    assert checked.findings[0].places[0].text == "more than 0.001 million pixels"


@pytest.mark.usefixtures("without_columns")
def test_too_few_to_say_anything(planted: Callable[[Plant], Path]) -> None:
    def plant(rows: Rows, _: Path) -> None:
        for i in rows_of(rows, split="test", label="melanoma")[:3]:
            rows[i]["label"] = "nevus"
        for i in rows_of(rows, split="val", label="melanoma"):
            rows[i]["label"] = "nevus"

    checked = look(planted(plant))
    found = {one.kind: one for one in (*checked.findings, *checked.notes)}
    assert set(found) == {"too-few", "class-missing"}
    assert "9 of melanoma in test" in found["too-few"].sentence
    assert (found["too-few"].measures[0].n, found["too-few"].measures[0].unit) == (9, "patient")
    assert "melanoma in val" in found["class-missing"].sentence


@pytest.mark.usefixtures("without_columns")
def test_ten_pictures_of_one_patient_are_one(planted: Callable[[Plant], Path]) -> None:
    def plant(rows: Rows, _: Path) -> None:
        for i in rows_of(rows, split="test", label="melanoma"):
            rows[i]["patient_id"] = "P1"

    assert kinds(look(planted(plant))) == {"too-few"}


@pytest.mark.usefixtures("without_columns")
def test_scores_on_val_alone_are_no_finding(planted: Callable[[Plant], Path]) -> None:
    def keep(*names: str) -> Plant:
        def plant(rows: Rows, _: Path) -> None:
            rows[:] = [row for row in rows if row["split"] in names]

        return plant

    checked = look(planted(keep("train", "val")))
    assert checked.ok
    assert kinds(checked) == {"no-test"}


@pytest.mark.usefixtures("without_columns")
def test_a_table_of_names_alone_works_and_says_what_was_not_checked(
    planted: Callable[[Plant], Path],
) -> None:
    def plant(rows: Rows, _: Path) -> None:
        rows[:] = [{"image": row["image"]} for row in rows]

    checked = look(planted(plant))
    assert checked.ok
    told = " ".join(checked.not_checked)
    for role in ("label", "split", "patient", "lesion"):
        assert f"no {role} column" in told


@pytest.mark.usefixtures("without_columns")
def test_classes_that_are_stated_are_all_there_are(sound: Path) -> None:
    checked = look(sound, classes=["nevus"])
    assert checked.counts == {"unlisted-class": 36}


def run(folder: Path, more: str = "") -> Result:
    command = ["check", str(folder / "skin.csv"), *LOOK.split(), *more.split()]
    result = CliRunner().invoke(app, command)
    assert "Traceback" not in result.output
    return result


@pytest.mark.usefixtures("without_columns")
def test_the_verb_ends_with_1_on_findings_and_0_on_notes(
    sound: Path, planted: Callable[[Plant], Path]
) -> None:
    assert run(sound).exit_code == 0
    folder = planted(both(FINDINGS["sideways"][0], cells(5, label="")))
    result = run(folder)
    assert result.exit_code == 1
    for words in ("Findings", "Rows without a label", "row 7:", "hint: fill in the label", "Notes", "EXIF"):
        assert words in result.output, words
    told = json.loads(run(folder, "--json").stdout)
    assert (told["ok"], told["counts"]) == (False, {"no-label": 1, "turned": 1})
    assert told["findings"][0]["places"] == [{"rows": [7], "images": [read(folder)[5]["image"]], "text": ""}]
    write([row for row in read(folder) if row["label"]], folder)
    assert run(folder).exit_code == 0


@pytest.mark.usefixtures("without_columns")
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("--label diagnosis", "column 'diagnosis' (label) must exist"),
        ("--images nowhere", "the images folder must exist."),
        ("--embeddings nowhere.emb", "nowhere.emb"),
    ],
)
def test_only_what_cannot_be_checked_at_all_is_an_error(sound: Path, more: str, words: str) -> None:
    result = run(sound, more)
    assert result.exit_code == 2
    assert words in result.output


@pytest.mark.usefixtures("without_columns")
def test_the_page_shows_what_was_found_and_asks_for_nothing(
    planted: Callable[[Plant], Path], tmp_path: Path
) -> None:
    folder = planted(
        both(
            twins(same_as, TRAIN, TEST),
            save_at(30, lambda _, path: path.write_bytes(b"")),
            save_at(31, lambda i, p: Image.new("RGB", i.size, (90, 60, 50)).save(p)),
            cells(32, label="<script>alert(1)</script>"),
        )
    )
    page = tmp_path / "check.html"
    assert run(folder, f"--out {page}").exit_code == 1
    html = page.read_text("utf-8")
    for words in (
        *("Exact duplicates", "Duplicates in two splits", "Empty files", "Pictures of one colour"),
        *("copy-of-", "an empty file", "&lt;script&gt;", "default-src"),
    ):
        assert words in html, words
    assert html.count("data:image/jpeg;base64,") == 3  # the twins, and the one colour
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")
    again = run(folder, f"--out {page}")
    assert again.exit_code == 2
    assert "an output must not exist already." in again.output


@pytest.mark.usefixtures("without_columns")
def test_the_page_of_a_sound_table_says_so_in_every_chapter(sound: Path, tmp_path: Path) -> None:
    panderm.CheckPage(look(sound)).save(tmp_path / "check.html")
    html = (tmp_path / "check.html").read_text("utf-8")
    for words in (
        *("No findings.", "every file can be decoded to its end", "No picture was found twice"),
        *("Nothing stands in two splits", "no lesion contradicts itself", "Not looked for"),
    ):
        assert words in html, words


def test_real_duplicates_are_found(shared: Path, tmp_path: Path) -> None:
    """Two pairs of ISIC UDA-1 are one picture each; nothing else of its first 60 and these four is."""
    data = shared / "data" / "isic_uda1"
    with (data / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    pairs = {"ISIC_0000279.jpg", "ISIC_0000280.jpg", "ISIC_0000477.jpg", "ISIC_0000512.jpg"}
    some = [row for i, row in enumerate(rows) if i < 60 or row["image"] in pairs]
    write([{"image": row["image"], "dx": row["dx"]} for row in some], tmp_path)
    checked = panderm.check(tmp_path / "skin.csv", images=data / "images", progress=False)
    assert checked.counts == {"same-pixels": 2}
    found = checked.findings[0].places
    assert {frozenset(place.images) for place in found} == {
        frozenset({"ISIC_0000279.jpg", "ISIC_0000280.jpg"}),
        frozenset({"ISIC_0000477.jpg", "ISIC_0000512.jpg"}),
    }
