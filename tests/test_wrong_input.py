"""Words: what a user reads who got something wrong. Every message whole and literal, exit code 2."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

import panderm
from panderm import pipeline
from panderm.cli import app
from panderm.models import load

EYE = "--encoder random-tiny --images images -q"
Rows = list[dict[str, str]]
# Split, class and patient of the twelve images a.png … l.png of skin.csv.
WORLD = (
    *("train nevus P1", "train nevus P1", "train nevus P2", "train mel P3", "train mel P3", "train mel P4"),
    *("val nevus P5", "val mel P6", "test nevus P7", "test nevus P7", "test mel P8", "test mel P9"),
)
COLUMNS = "image, split, label, patient_id, age"


def rows_of_the_world() -> Rows:
    rows = []
    for name, line in zip("abcdefghijkl", WORLD, strict=True):
        split, label, patient = line.split()
        rows.append(
            {"image": f"{name}.png", "split": split, "label": label, "patient_id": patient, "age": "50"}
        )
    return rows


def write(rows: Rows, name: str = "skin.csv") -> None:
    with Path(name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def invoke(command: str) -> Result:
    result = CliRunner().invoke(app, command.split())
    assert "Traceback" not in result.output
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(autouse=True, scope="module")
def _one_encoder() -> object:
    """Load each encoder once for all tests of this file; errors are raised anew each time."""
    with pytest.MonkeyPatch.context() as patch:
        cached = functools.cache(load.load_encoder)
        patch.setattr(load, "load_encoder", cached)
        patch.setattr(pipeline, "load_encoder", cached)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder after the four verbs."""
    folder = tmp_path_factory.mktemp("finished")
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for row in rows_of_the_world():
            light = 200 if row["label"] == "nevus" else 60
            pixels = rng.integers(light - 40, light + 40, (24, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / row["image"])
        write(rows_of_the_world())
        for command in (
            f"embed skin.csv {EYE} --out skin.emb",
            "probe skin.emb --out skin.pred",
            "probe skin.emb --recipe paper --out paper.pred",
            "evaluate skin.pred --out skin.json --draws 50",
            "report skin.pred --scores skin.json --out skin.html",
        ):
            result = invoke(command)
            assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder to spoil, as the current one."""
    copy = shutil.copytree(finished, tmp_path / "here")
    monkeypatch.chdir(copy)
    return copy


def snapshot(folder: Path) -> dict[str, str]:
    """Return every file and folder below, hidden ones too, and what is in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


# What a user may do to the folder before the command.


def table(change: Callable[[Rows], Rows]) -> Callable[[], None]:
    return lambda: write(change(rows_of_the_world()))


def cells(*changes: tuple[int, str, str]) -> Callable[[], None]:
    """Change single cells: the row as a spreadsheet shows it, the column, the new text."""

    def spoil() -> None:
        rows = rows_of_the_world()
        for row, column, value in changes:
            rows[row - 2][column] = value
        write(rows)

    return spoil


def without(column: str) -> Callable[[], None]:
    return table(lambda rows: [{k: v for k, v in row.items() if k != column} for row in rows])


def text(name: str, content: str | bytes) -> Callable[[], None]:
    def spoil() -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def the_one(pattern: str) -> Path:
    """Return the one file of a pattern: the name of a part ends with its hash."""
    [path] = Path().glob(pattern)
    return path


def cut(name: str, part: float = 0.5) -> Callable[[], None]:
    def spoil() -> None:
        path = the_one(name)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * part)])

    return spoil


def one_byte_changed(name: str) -> Callable[[], None]:
    def spoil() -> None:
        content = bytearray(the_one(name).read_bytes())
        content[len(content) // 2] ^= 1
        the_one(name).write_bytes(content)

    return spoil


def gone(name: str) -> Callable[[], None]:
    return lambda: shutil.rmtree(name) if Path(name).is_dir() else the_one(name).unlink()


def all_of(*spoils: Callable[[], None]) -> Callable[[], None]:
    return lambda: [spoil() for spoil in spoils] and None


def card(name: str, **changes: object) -> Callable[[], None]:
    def spoil() -> None:
        path = Path(name) / "card.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


def nothing() -> None:
    pass


def of_other_images() -> None:
    """Write a table that shares no row with the other: the same files under other names."""
    rows = rows_of_the_world()
    for row in rows:
        shutil.copy(f"images/{row['image']}", f"images/other-{row['image']}")
        row["image"] = f"other-{row['image']}"
    write(rows, "other.csv")


class Case(NamedTuple):
    """A command, what was done to the folder before it, and the message. ``{here}`` is the folder."""

    name: str
    command: str
    before: Callable[[], None]
    says: str


EMBED = f"embed skin.csv {EYE} --out new.emb"
RUN = f"run skin.csv {EYE} --out new"
PROBE = "probe skin.emb --out new.pred"

CASES = [
    # Columns
    Case(
        "unknown column, near name",
        f"{EMBED} --label lable",
        nothing,
        f"""TableError: column 'lable' (label) must exist; did you mean 'label'?
  skin.csv has: {COLUMNS}
  hint: name the column with --label""",
    ),
    Case(
        "unknown column, no near name",
        f"{EMBED} --patient who",
        nothing,
        f"""TableError: column 'who' (patient) must exist
  skin.csv has: {COLUMNS}
  hint: name the column with --patient""",
    ),
    Case(
        "no image column",
        EMBED,
        table(lambda rows: [{"Image": row.pop("image"), **row} for row in rows]),
        """TableError: column 'image' (image) must exist; did you mean 'Image'?
  skin.csv has: Image, split, label, patient_id, age
  hint: name the column with --image-column""",
    ),
    Case(
        "unknown split column",
        f"{EMBED} --split-column splits",
        nothing,
        f"""TableError: column 'splits' (split) must exist; did you mean 'split'?
  skin.csv has: {COLUMNS}
  hint: name the column with --split-column""",
    ),
    Case(
        "a column twice",
        EMBED,
        text("skin.csv", "image,split,label,label\na.png,train,mel,nevus\n"),
        """TableError: column 'label' must be there once.
  skin.csv has: image, split, label, label
  hint: rename or remove the others""",
    ),
    # The file
    Case(
        "no table",
        f"embed skim.csv {EYE} --out new.emb",
        nothing,
        """TableError: the table must exist.
  found no file skim.csv""",
    ),
    Case(
        "the table is a folder",
        f"embed images {EYE} --out new.emb",
        nothing,
        """TableError: the table must be a CSV file.
  images is a folder""",
    ),
    Case(
        "empty file",
        EMBED,
        text("skin.csv", ""),
        """TableError: a table must have a header and at least one row.
  skin.csv is empty""",
    ),
    Case(
        "blank lines only",
        RUN,
        text("skin.csv", "\n\n \n"),
        """TableError: a table must have a header and at least one row.
  skin.csv is empty""",
    ),
    Case(
        "header only",
        RUN,
        text("skin.csv", "image,split,label\n"),
        """TableError: a table must have at least one row.
  skin.csv has a header only""",
    ),
    Case(
        "not UTF-8",
        EMBED,
        text("skin.csv", "image,split,label\na.png,train,nävus\n".encode("latin-1")),
        """TableError: a table must be UTF-8 text.
  skin.csv is not
  hint: in a spreadsheet program, save it as 'CSV UTF-8'""",
    ),
    Case(
        "UTF-16, as some spreadsheets save it",
        EMBED,
        text("skin.csv", "image,split,label\na.png,train,mel\n".encode("utf-16")),
        """TableError: a table must be UTF-8 text.
  skin.csv is not
  hint: in a spreadsheet program, save it as 'CSV UTF-8'""",
    ),
    Case(
        "a row with too many cells",
        EMBED,
        text("skin.csv", "image,split,label\na.png,train,mel\nb.png,train,mel,\n"),
        """TableError: a table must be a CSV file.
  skin.csv: row 3 has 4 cells, the header has 3""",
    ),
    # The cells
    Case(
        "a split nobody expects",
        EMBED,
        table(lambda rows: [row | {"split": row["split"].replace("test", "tset")} for row in rows]),
        """TableError: a split must be one of train, val, test.
  column 'split' of skin.csv has:
  'tset' in 4 rows (10, 11, 12, 13); did you mean 'test'?
  hint: correct the column, or name another with --split-column""",
    ),
    Case(
        "several splits nobody expects",
        RUN,
        cells((2, "split", ""), (3, "split", "Train"), (4, "split", "fold1")),
        """TableError: a split must be one of train, val, test.
  column 'split' of skin.csv has:
  '' in 1 row (2)
  'Train' in 1 row (3); did you mean 'train'?
  'fold1' in 1 row (4)
  hint: correct the column, or name another with --split-column""",
    ),
    Case(
        "duplicate images",
        EMBED,
        table(lambda rows: [*rows, rows[0], rows[3], rows[0]]),
        """TableError: every image must be named once in column 'image'.
  2 images named more than once: a.png, d.png
  a.png: rows 2, 14, 16
  d.png: rows 5, 15
  hint: remove the repeated rows""",
    ),
    Case(
        "one image under several names",
        EMBED,
        cells((3, "image", "./a.png"), (4, "image", "../images/a.png")),
        """TableError: every image must be named once in column 'image'.
  1 image named more than once: a.png
  a.png: rows 2, 3, 4
  hint: remove the repeated rows""",
    ),
    Case(
        "missing labels and an unnamed image",
        EMBED,
        cells((3, "label", ""), (6, "label", " "), (9, "image", "")),
        """TableError: every row must have a readable image and a label.
  3 rows of skin.csv do not:
  row 3: b.png: no label
  row 6: e.png: no label
  row 9: (empty): no image is named
  hint: mend them, or add --skip-bad to leave these rows out""",
    ),
    Case(
        "classes incomplete",
        f"{EMBED} --classes nevus,bcc",
        nothing,
        """TableError: --classes must list every class of the label column, each once.
  not listed: mel""",
    ),
    Case(
        "no class listed",
        f"{EMBED} --classes ,,",
        nothing,
        """TableError: --classes must list every class of the label column, each once.
  not listed: mel, nevus""",
    ),
    Case(
        "a class listed twice",
        f"{RUN} --classes mel,nevus,mel",
        nothing,
        """TableError: --classes must list every class of the label column, each once.
  listed: mel, nevus, mel""",
    ),
    # Images
    Case(
        "no images folder",
        "embed skin.csv --encoder random-tiny --images pictures --out new.emb",
        nothing,
        """TableError: the images folder must exist.
  pictures is not there
  hint: name the folder that the image column is relative to with --images""",
    ),
    Case(
        "the images folder is a file",
        "run skin.csv --encoder random-tiny --images skin.html --out new",
        nothing,
        """TableError: the images folder must exist.
  skin.html is a file
  hint: name the folder that the image column is relative to with --images""",
    ),
    Case(
        "one missing image",
        RUN,
        gone("images/c.png"),
        """TableError: every row must have a readable image and a label.
  1 row of skin.csv does not:
  row 4: c.png: no such file
  hint: mend them, or add --skip-bad to leave these rows out""",
    ),
    Case(
        "all bad images at once, of every kind",
        EMBED,
        all_of(
            gone("images/b.png"),
            cut("images/d.png"),
            text("images/f.png", ""),
            text("images/h.png", "a consent form"),
            cells((12, "image", "k"), (13, "image", "../images")),
        ),
        """TableError: every row must have a readable image and a label.
  6 rows of skin.csv do not:
  row 3: b.png: no such file
  row 5: d.png: damaged (image file is truncated)
  row 7: f.png: an empty file
  row 9: h.png: not an image that can be read
  row 12: k: no such file; k.png exists: the column must hold the whole file name
  row 13: ../images: a folder, not a file
  hint: mend them, or add --skip-bad to leave these rows out""",
    ),
    Case(
        "bad images of a table without labels",
        EMBED,
        all_of(without("label"), gone("images/b.png")),
        """TableError: every row must have a readable image.
  1 row of skin.csv does not:
  row 3: b.png: no such file
  hint: mend them, or add --skip-bad to leave these rows out""",
    ),
    Case(
        "nothing is left to embed",
        "embed skin.csv --encoder random-tiny --images skin.emb --out new.emb -q --skip-bad",
        table(lambda rows: rows[:2]),
        """TableError: a table must have at least one row with a readable image and a label.
  none of 2 rows of skin.csv has:
  row 2: a.png: no such file
  row 3: b.png: no such file
  hint: images are looked for in {here}/skin.emb: name their folder with --images""",
    ),
    # The question
    Case(
        "a label that appears only in test",
        RUN,
        cells((13, "label", "bcc")),
        """DataError: every class of the test rows must be among the training rows.
  'bcc': 1 test row, no training row
  hint: correct the split, or leave these rows out""",
    ),
    Case(
        "one class only",
        RUN,
        table(lambda rows: [row | {"label": "nevus"} for row in rows]),
        """DataError: training rows must have at least two classes.
  found only: nevus, in 6 rows
  hint: check the label column and the split""",
    ),
    Case(
        "no label column, run",
        RUN,
        without("label"),
        """DataError: a probe needs labels.
  skin was read without a label column
  hint: say which column it is with --label when the table is read""",
    ),
    Case(
        "no split column",
        RUN,
        without("split"),
        """DataError: the train split must have rows.
  no row of skin has the split 'train'
  found: no split column
  hint: correct the split column""",
    ),
    Case(
        "no row of the split to score",
        f"{RUN} --test val",
        table(lambda rows: [row for row in rows if row["split"] != "val"]),
        """DataError: the test split must have rows.
  no row of skin has the split 'val'
  found: train (6), test (4)
  hint: --test test scores that split""",
    ),
    Case(
        "a split to score that nobody knows",
        f"{PROBE} --test tset",
        nothing,
        """DataError: the test split must have rows.
  no row of skin has the split 'tset'
  found: train (6), val (2), test (4)
  hint: --test val scores that split""",
    ),
    Case(
        "no row to fit",
        f"{PROBE} --train trian",
        nothing,
        """DataError: the train split must have rows.
  no row of skin has the split 'trian'
  found: train (6), val (2), test (4)
  hint: correct the split column""",
    ),
    Case(
        "scored on the rows it was fitted on",
        f"{PROBE} --test train",
        nothing,
        """UsageError: a probe must not be scored on the rows it was fitted on.
  --train and --test: train""",
    ),
    Case(
        "percent-data 0",
        f"{PROBE} --percent-data 0",
        nothing,
        """UsageError: --percent-data must be a part of 1, greater than 0.
  found 0.0
  hint: 0.1 is 10 %""",
    ),
    Case(
        "percent-data 2",
        f"{RUN} --percent-data 2",
        nothing,
        """UsageError: --percent-data must be a part of 1, greater than 0.
  found 2.0
  hint: 0.1 is 10 %""",
    ),
    Case(
        "percent-data so small that nothing is left",
        f"{RUN} --percent-data 0.1",
        nothing,
        """DataError: training rows must have at least two classes.
  found only: none, in 0 rows
  hint: take a larger --percent-data""",
    ),
    Case(
        "percent-data so small that a class is lost",
        f"{RUN} --percent-data 0.5",
        cells((5, "label", "bcc"), (10, "label", "bcc")),
        """DataError: every class of the test rows must be among the training rows.
  'bcc': 1 test row, no training row
  hint: take a larger --percent-data: 0.5 leaves 3 training rows""",
    ),
    Case(
        "C 0",
        f"{PROBE} --C 0",
        nothing,
        "UsageError: C must be greater than 0 and finite, not 0.0.",
    ),
    Case(
        "C without end",
        f"{PROBE} --C inf",
        nothing,
        "UsageError: C must be greater than 0 and finite, not inf.",
    ),
    # The encoder
    Case(
        "unknown encoder",
        "embed skin.csv --encoder random-tyni --out new.emb",
        nothing,
        """UsageError: encoder 'random-tyni' must be a known one; did you mean 'random-tiny'?
  known: panderm-large, panderm-base, dermlip-panderm-base, dermlip-vit-base, monet, biomedclip, """
        """medsiglip, clip-large, panderm-tiny, random-tiny
  and: timm:NAME, hf-hub:ORG/NAME, open_clip:ARCH/TAG, transformers:ID, or a file that panderm convert wrote
  hint: panderm models lists them""",
    ),
    Case(
        "an encoder of timm without its prefix",
        "run skin.csv --encoder vit_small_patch14_dinov2 --out new",
        nothing,
        """UsageError: encoder 'vit_small_patch14_dinov2' must be a known one
  known: panderm-large, panderm-base, dermlip-panderm-base, dermlip-vit-base, monet, biomedclip, """
        """medsiglip, clip-large, panderm-tiny, random-tiny
  and: timm:NAME, hf-hub:ORG/NAME, open_clip:ARCH/TAG, transformers:ID, or a file that panderm convert wrote
  hint: did you mean timm:vit_small_patch14_dinov2?""",
    ),
    Case(
        "no weights",
        "embed skin.csv --encoder panderm-base --out new.emb",
        nothing,
        """UsageError: panderm-base needs its weights file.
  its source: panderm_bb_data6_checkpoint-499.pth, Google Drive 17J4MjsZu3gdBP6xAQi_NMDVvH65a00HB; """
        """licence: CC BY-NC-ND 4.0 (non-commercial, no derivatives)
  hint: panderm models pull panderm-base, or download it and name it with --weights FILE""",
    ),
    Case(
        "weights for the encoder that draws its own",
        f"{EMBED} --weights skin.html",
        nothing,
        """UsageError: random-tiny draws its weights at random: it takes no --weights.
  found skin.html""",
    ),
    Case(
        "a weights file that is not there",
        "run skin.csv --encoder panderm-base --weights base.pth --out new",
        nothing,
        """WeightsError: the weights file must exist.
  found no file base.pth
  hint: correct --weights""",
    ),
    Case(
        "weights that are a web page",
        "run skin.csv --encoder panderm-base --weights skin.html --out new",
        nothing,
        """WeightsError: a weights file must hold weights.
  skin.html is a web page: the download was answered by a notice instead of the file
  hint: download it again in a browser""",
    ),
    Case(
        "an image size the encoder does not take",
        f"{EMBED} --image-size 450",
        nothing,
        """UsageError: random-tiny takes images whose side is a multiple of 16 pixels, 32 or more.
  found --image-size 450
  hint: --image-size 448 or 464; it was trained at 224""",
    ),
    # Outputs in the way
    *(
        Case(
            f"the output exists: {command.split()[0]}",
            command,
            nothing,
            f"""ArtifactError: an output must not exist already.
  found {command.rpartition(" ")[2]}
  hint: choose another --out, or add --overwrite to replace it""",
        )
        for command in (
            "probe skin.emb --out skin.pred",
            "evaluate skin.pred --out skin.json",
            "report skin.pred --out skin.html",
            "demo --out images",
        )
    ),
    Case(
        "the output exists: run",
        f"run skin.csv {EYE} --out new",
        text("new/report.html", "an older report"),
        """ArtifactError: an output must not exist already.
  found new/report.html
  hint: choose another --out, or add --overwrite to replace it""",
    ),
    Case(
        "the output is a file: run",
        f"run skin.csv {EYE} --out skin.html --overwrite",
        nothing,
        """ArtifactError: --out must be a folder.
  skin.html is a file
  hint: choose another --out""",
    ),
    Case(
        "the output is a file: demo",
        "demo --out skin.html --overwrite",
        nothing,
        """UsageError: --out must be a folder.
  skin.html is a file
  hint: choose another --out""",
    ),
    Case(
        "the output is a file: embed",
        f"embed skin.csv {EYE} --out skin.html",
        nothing,
        """ArtifactError: an --out that exists must be a folder that panderm wrote.
  skin.html is a file
  hint: choose another --out, or mend this one""",
    ),
    Case(
        "the output is a file: embed, overwrite",
        f"embed skin.csv {EYE} --out skin.csv --overwrite",
        nothing,
        """ArtifactError: only a folder that panderm wrote may be replaced.
  skin.csv is a file
  hint: choose another --out""",
    ),
    Case(
        "overwriting a folder of the user's own",
        f"embed skin.csv {EYE} --out images --overwrite",
        nothing,
        """ArtifactError: only a folder that panderm wrote may be replaced.
  images holds other files, and they would be lost
  hint: choose another --out""",
    ),
    Case(
        "overwriting the folder one stands in",
        "probe skin.emb --out . --overwrite",
        nothing,
        """ArtifactError: only a folder that panderm wrote may be replaced.
  . holds other files, and they would be lost
  hint: choose another --out""",
    ),
    Case(
        "overwriting embeddings with predictions",
        "probe skin.emb --out skin.emb --overwrite",
        nothing,
        """ArtifactError: an artifact may be replaced by one of its own kind only.
  skin.emb holds embeddings, not predictions
  hint: choose another --out""",
    ),
    Case(
        "overwriting predictions with embeddings",
        f"embed skin.csv {EYE} --out skin.pred --overwrite",
        nothing,
        """ArtifactError: an artifact may be replaced by one of its own kind only.
  skin.pred holds predictions, not embeddings
  hint: choose another --out""",
    ),
    Case(
        "a whole run inside embeddings",
        f"run skin.csv {EYE} --out skin.emb",
        nothing,
        """ArtifactError: --out must be a folder of its own for the whole run.
  skin.emb is itself one that panderm wrote: it has a card.json
  hint: choose another --out""",
    ),
    Case(
        "the output is a folder: report",
        "report skin.pred --out images --overwrite",
        nothing,
        """ArtifactError: the output must be writable.
  images: there is a folder of this name
  hint: choose another --out, or mend the permissions of its folder""",
    ),
    Case(
        "the output is to lie in a file",
        "evaluate skin.pred --out skin.csv/scores.json",
        nothing,
        """ArtifactError: the output must be writable.
  skin.csv/scores.json: the folder it is to lie in is a file
  hint: choose another --out, or mend the permissions of its folder""",
    ),
    Case(
        "published files that exist",
        "evaluate skin.pred --out new.json --published-csv published",
        text("published/skin.csv", "filename\n"),
        """ArtifactError: an output must not exist already.
  found published/skin.csv
  hint: choose another --out, or add --overwrite to replace it""",
    ),
    Case(
        "published files that exist, before hours of embedding",
        f"{RUN} --published-csv published",
        text("published/skin.csv", "filename\n"),
        """ArtifactError: an output must not exist already.
  found published/skin.csv
  hint: choose another --out, or add --overwrite to replace it""",
    ),
    Case(
        "a summary of something else",
        f"{RUN} --published-csv published",
        text("published/summary.csv", b"\xff\xfe\0"),
        """ArtifactError: the summary must be one that panderm or the published code wrote.
  published/summary.csv does not begin with Dataset,W_F1,AUROC,BACC,ACC,AUPR
  hint: choose another folder for --published-csv""",
    ),
    Case(
        "published files in place of the table",
        f"{RUN} --published-csv . --overwrite",
        nothing,
        """ArtifactError: the published result files must have a place of their own.
  skin.csv is the table itself
  hint: choose another folder for --published-csv, or rename the table""",
    ),
    # Artifacts that are none
    Case(
        "no embeddings",
        "probe skin.meb --out new.pred",
        nothing,
        """ArtifactError: embeddings must be a folder that panderm wrote.
  found no folder skin.meb
  hint: make it with: panderm embed""",
    ),
    Case(
        "embeddings that are a folder of images",
        "probe images --out new.pred",
        nothing,
        """ArtifactError: embeddings must be a folder that panderm wrote.
  images has no card.json
  hint: make it with: panderm embed""",
    ),
    Case(
        "a table for predictions",
        "evaluate skin.csv",
        nothing,
        """UsageError: a file of predictions needs the column of the truth and those of the probabilities.
  skin.csv has: image, split, label, patient_id, age
  hint: --truth dx --proba 'p_*'""",
    ),
    Case(
        "embeddings for predictions",
        "evaluate skin.emb",
        nothing,
        """ArtifactError: predictions must be a folder that panderm wrote.
  skin.emb holds embeddings
  hint: make it with: panderm probe""",
    ),
    Case(
        "predictions for embeddings",
        "probe skin.pred --out new.pred",
        nothing,
        """ArtifactError: embeddings must be a folder that panderm wrote.
  skin.pred holds predictions
  hint: make it with: panderm embed""",
    ),
    Case(
        "embedding into predictions",
        f"embed skin.csv {EYE} --out skin.pred",
        nothing,
        """ArtifactError: an --out that exists must be a folder that panderm wrote.
  skin.pred holds predictions
  hint: choose another --out, or mend this one""",
    ),
    Case(
        "a damaged card",
        "report skin.pred --out new.html",
        text("skin.pred/card.json", '{"kind": "predictions", "rows": '),
        """ArtifactError: predictions must be a folder that panderm wrote.
  skin.pred has a damaged card.json: Invalid JSON: EOF while parsing a value at line 1 column 32
  hint: make it with: panderm probe""",
    ),
    Case(
        "an empty card",
        PROBE,
        text("skin.emb/card.json", ""),
        """ArtifactError: embeddings must be a folder that panderm wrote.
  skin.emb has a damaged card.json: Invalid JSON: EOF while parsing a value at line 1 column 0
  hint: make it with: panderm embed""",
    ),
    Case(
        "a card with a field of the wrong kind",
        PROBE,
        card("skin.emb", rows=None),
        """ArtifactError: embeddings must be a folder that panderm wrote.
  skin.emb has a damaged card.json: rows: Input should be a valid integer
  hint: make it with: panderm embed""",
    ),
    Case(
        "a card of a later version",
        PROBE,
        card("skin.emb", format=3),
        """ArtifactError: embeddings must be a folder that panderm wrote.
  skin.emb was written by another version of panderm (card.json: format 3)
  hint: make it with: panderm embed""",
    ),
    Case(
        "unfinished embeddings",
        PROBE,
        card("skin.emb", complete=False),
        """ArtifactError: embeddings must be complete before they are used.
  skin.emb was stopped before its end
  hint: run the same panderm embed command again; it goes on where it stopped""",
    ),
    Case(
        "embedding into a folder of an earlier version",
        f"embed skin.csv {EYE} --out skin.emb",
        card("skin.emb", format=1),
        """ArtifactError: an --out that exists must be a folder that panderm wrote.
  skin.emb was written by another version of panderm (card.json: format 1)
  hint: choose another --out, or mend this one""",
    ),
    Case(
        "a part deleted",
        PROBE,
        gone("skin.emb/part-*.parquet"),
        """ArtifactError: an embeddings folder must hold every row its card names.
  skin.emb holds 0 of 12 rows
  hint: run panderm embed again; it makes only what is missing""",
    ),
    Case(
        "a part cut short",
        PROBE,
        cut("skin.emb/part-*.parquet"),
        """ArtifactError: every part of an embeddings folder must be readable.
  skin.emb/{part} is damaged
  hint: remove this file and run panderm embed again; it makes only what is missing""",
    ),
    Case(
        "a part of which one byte changed",
        PROBE,
        one_byte_changed("skin.emb/part-*.parquet"),
        """ArtifactError: every part of an embeddings folder must be readable.
  skin.emb/{part} is damaged: it is not what was written
  hint: remove this file and run panderm embed again; it makes only what is missing""",
    ),
    Case(
        "embedding into a folder with a part cut short",
        f"embed skin.csv {EYE} --out skin.emb",
        cut("skin.emb/part-*.parquet"),
        """ArtifactError: every part of an embeddings folder must be readable.
  skin.emb/{part} is damaged
  hint: remove this file and run panderm embed again; it makes only what is missing""",
    ),
    Case(
        "predictions cut short",
        "evaluate skin.pred",
        cut("skin.pred/predictions.parquet"),
        """ArtifactError: predictions must be readable.
  skin.pred/predictions.parquet is damaged
  hint: probe again""",
    ),
    Case(
        "predictions without their rows",
        "evaluate skin.pred",
        gone("skin.pred/predictions.parquet"),
        """ArtifactError: predictions must be readable.
  skin.pred/predictions.parquet is not there
  hint: probe again""",
    ),
    # Parents
    Case(
        "embedding into a folder of another encoder",
        f"embed skin.csv {EYE} --pool mean --out skin.emb",
        nothing,
        """ParentsError: embeddings of one folder must come from one encoder.
  skin.emb was made by random-tiny (pool cls, 224 pixels, fp32, weights random, seed 0)
  this is random-tiny (pool mean, 224 pixels, fp32, weights random, seed 0)
  they differ in: pool
  hint: choose another --out, or add --overwrite to replace the folder""",
    ),
    Case(
        "embedding into a folder of another table",
        f"embed other.csv {EYE} --out skin.emb",
        of_other_images,
        """ParentsError: embeddings of one folder must come from one table.
  skin.emb was made from {made}/skin.csv (12 rows, {table})
  this is {here}/other.csv (12 rows, {other}): other rows, roles or images
  hint: choose another --out, or add --overwrite to replace the folder""",
    ),
    Case(
        "scores of other predictions",
        "report paper.pred --scores skin.json --out new.html",
        nothing,
        """ParentsError: a report must show scores of its own predictions.
  skin.json were made from predictions {skin.pred}
  paper.pred are {paper.pred} (test split)
  hint: evaluate these predictions again, or leave the scores out and they are made now""",
    ),
    Case(
        "scores that are a table",
        "report skin.pred --scores skin.csv --out new.html",
        nothing,
        """ArtifactError: scores must be a file that panderm wrote.
  skin.csv: Invalid JSON: expected value at line 1 column 1
  hint: make it with: panderm evaluate""",
    ),
    Case(
        "scores that are a folder",
        "report skin.pred --scores skin.pred --out new.html",
        nothing,
        """ArtifactError: scores must be a file that panderm wrote.
  skin.pred: Is a directory
  hint: make it with: panderm evaluate""",
    ),
    Case(
        "no scores",
        "report skin.pred --scores scroes.json --out new.html",
        nothing,
        """ArtifactError: scores must exist.
  found no file scroes.json
  hint: make them: panderm evaluate""",
    ),
    Case(
        "a demo too small to show anything, in a folder of the user's own",
        "demo --out images/world --n 60 -q --overwrite",
        text("images/world/world/notes.txt", "mine"),
        """ArtifactError: only a folder that panderm wrote may be replaced.
  images/world/world holds other files, and they would be lost
  hint: choose another --out""",
    ),
]


def identities(folder: Path) -> dict[str, str]:
    """Return the short hashes that stand in messages."""
    known = {
        name: panderm.open_predictions(folder / name).card.identity[:12]
        for name in ("skin.pred", "paper.pred")
    }
    known["table"] = panderm.open_embeddings(folder / "skin.emb").card.table.sha256[:12]
    if (folder / "other.csv").is_file():
        other = panderm.read_table(folder / "other.csv", images=folder / "images", progress=False)
        known["other"] = other.card.sha256[:12]
    return known


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_message_is_literal_and_nothing_is_written(case: Case, here: Path, finished: Path) -> None:
    case.before()
    part = json.loads((finished / "skin.emb/card.json").read_text())["parts"][0]["name"]
    known = {"here": str(here), "made": str(finished), "part": part}
    if "{table}" in case.says or ".pred}" in case.says:
        known |= identities(here)
    wanted = functools.reduce(lambda said, name: said.replace(f"{{{name}}}", known[name]), known, case.says)
    before = snapshot(here)

    result = invoke(case.command)
    assert result.stderr == wanted + "\n"
    assert result.stdout == ""
    assert result.exit_code == 2

    result = invoke(f"{case.command} --json")
    assert result.exit_code == 2
    assert result.stderr == wanted + "\n"
    told = json.loads(result.stdout)
    assert list(told) == ["error"]
    error = told["error"]
    parts = [f"{error['type']}: {error['must']}", *(f"  {line}" for line in error["found"])]
    assert "\n".join(parts + ([f"  hint: {error['hint']}"] if error["hint"] else [])) == wanted
    assert snapshot(here) == before, "something was written"


def test_the_names_of_the_cases_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def plain(box: str) -> str:
    """Return a message of typer's without its frame."""
    return " ".join("".join(" " if c in "│╭╮╰╯─" else c for c in box).split())


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("embde skin.csv", "No such command 'embde'. Did you mean 'embed'?"),
        (f"{PROBE} --lable dx", "No such option: --lable"),
        ("probe skin.emb", "Missing option '--out'"),
        ("probe --out new.pred", "Missing argument"),
        (f"{PROBE} --recipe best", "'best' is not one of 'tuned', 'paper'."),
        ("evaluate skin.pred --draws 0", "Invalid value for '--draws'"),
        ("evaluate skin.pred --draws many", "Invalid value for '--draws'"),
        (f"{PROBE} --seed 5000000000", "Invalid value for '--seed'"),
        (f"{PROBE} --seed -1", "Invalid value for '--seed'"),
        ("demo --n 3", "Invalid value for '--n'"),
    ],
)
def test_what_typer_says_itself(command: str, says: str, here: Path) -> None:
    before = snapshot(here)
    result = invoke(command)
    assert result.exit_code == 2
    assert says in plain(result.stderr)
    assert result.stdout == ""
    assert snapshot(here) == before


def test_a_device_this_machine_does_not_have(here: Path) -> None:
    result = invoke(f"{EMBED} --device quantum")
    assert result.exit_code == 2
    first, *_, last = result.stderr.splitlines()
    assert first == "UsageError: device 'quantum' must exist on this machine."
    assert last == "  hint: --device auto picks one"
    assert not Path("new.emb").exists()


def test_a_patient_in_two_splits_is_a_warning_that_names_them(here: Path) -> None:
    """The work goes on; standard error, the card, the report and the JSON say who it is."""
    rows = rows_of_the_world()
    for row, patient in ((8, "P1"), (9, "P3"), (6, "P4")):
        rows[row]["patient_id"] = patient
    write(rows)
    worse = "Scores on {} will look better than they are"
    leaks = [
        "a patient must not be in two splits: 1 patient in both train and val: P4. " + worse.format("val"),
        "a patient must not be in two splits: 2 patients in both train and test: P1, P3. "
        + worse.format("test"),
    ]
    result = invoke(f"{RUN} --draws 50 --json")
    assert result.exit_code == 0
    assert result.stderr == "".join(f"warning: {leak}\n" for leak in leaks)
    assert json.loads(result.stdout)["warnings"] == leaks
    held = json.loads(Path("new/embeddings.emb/card.json").read_text())
    assert held["table"]["warnings"] == leaks
    page = Path("new/report.html").read_text()
    for leak in leaks:
        assert leak[1:] in page
    # Said on every run, whatever Python is told to do with warnings.
    assert invoke(f"embed skin.csv {EYE} --out again.emb").stderr == result.stderr


@pytest.mark.parametrize("filter_", ["ignore", "error"])
def test_the_warning_is_shown_whatever_the_filters(
    filter_: str, here: Path, recwarn: pytest.WarningsRecorder
) -> None:
    rows = rows_of_the_world()
    rows[8]["patient_id"] = "P1"
    write(rows)
    with warnings.catch_warnings():
        warnings.simplefilter(filter_)
        result = invoke(EMBED)
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: a patient must not be in two splits: 1 patient")
    assert not recwarn.list


def test_what_the_hints_promise_comes_true(here: Path) -> None:
    """Advice that does not help is worse than none: follow each hint once and see it work."""
    again = f"embed skin.csv {EYE} --out skin.emb"
    whole = panderm.open_embeddings("skin.emb").vectors

    gone("skin.emb/part-*.parquet")()
    assert invoke(PROBE).exit_code == 2
    assert invoke(again).exit_code == 0
    np.testing.assert_allclose(panderm.open_embeddings("skin.emb").vectors, whole, atol=1e-6)

    for spoil in (cut, one_byte_changed):
        spoil("skin.emb/part-*.parquet")()
        assert invoke(again).exit_code == 2
        gone("skin.emb/part-*.parquet")()
        assert invoke(again).exit_code == 0
        np.testing.assert_allclose(panderm.open_embeddings("skin.emb").vectors, whole, atol=1e-6)
    assert invoke(PROBE).exit_code == 0

    part = the_one("skin.emb/part-*.parquet")
    shutil.copy(part, part.with_name("a copy.parquet"))
    shutil.copy(part, part.with_name("part-00001-0123456789ab.parquet"))
    assert invoke(f"{PROBE} --overwrite").exit_code == 0, "what the card does not name is not read"
    assert invoke(again).exit_code == 0
    assert part.with_name("a copy.parquet").exists(), "a user's file is left alone"
    assert not part.with_name("part-00001-0123456789ab.parquet").exists(), "one that a kill left goes"

    assert invoke("evaluate new.pred --out skin.json --overwrite").exit_code == 0
    assert invoke("report new.pred --scores skin.json --out skin.html --overwrite").exit_code == 0


def test_overwriting_a_damaged_run(here: Path, no_figures: None) -> None:
    assert invoke(f"{RUN} --draws 50").exit_code == 0
    for spoil in (
        text("new/probe.pred/card.json", "{"),
        text("new/embeddings.emb/card.json", "{"),
        cut("new/embeddings.emb/part-*.parquet"),
        gone("new/embeddings.emb/part-*.parquet"),
    ):
        spoil()
        assert invoke(f"{RUN} --draws 50").exit_code == 2
        assert invoke(f"{RUN} --draws 50 --overwrite").exit_code == 0
        assert len(panderm.open_embeddings("new/embeddings.emb")) == 12
