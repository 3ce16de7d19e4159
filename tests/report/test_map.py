"""A map says what it keeps, takes its colours from the table, and is one page that asks for nothing."""

import base64
import hashlib
import io
import json
import re
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.embeddings import Embeddings
from panderm.errors import ArtifactError, DataError, PandermWarning, TableError, UsageError
from panderm.report.map.columns import Categories, Numbers, read_colourings
from panderm.report.map.picture import draw_map, marker_area
from panderm.report.map.thumbnails import blanks, make_thumbnails

EVIL = "</script><script>alert('x')</script><!-- &amp; \" ' \\ \u2028"


def run(*words):
    return CliRunner().invoke(app, ["map", *map(str, words)])


@pytest.fixture(scope="module")
def folder(embeddings):
    return embeddings.path


@pytest.fixture(scope="module")
def drawn(embeddings):
    """The drawn world's map; principal components, which need no compiler."""
    return panderm.map_embeddings(embeddings, method="pca")


def data_of(html):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)[1])


def with_columns(embeddings, tmp_path, **columns):
    """Return the embeddings, and a CSV beside them with these columns."""
    csv = tmp_path / "columns.csv"
    pd.DataFrame({"image": embeddings.rows.image, **columns}).to_csv(csv, index=False)
    return csv


def colourings(embeddings, tmp_path, **columns):
    asked = list(columns)
    csv = with_columns(embeddings, tmp_path, **columns)
    found = read_colourings(embeddings.rows, asked, columns=csv, only=True)
    return dict(zip(asked, found.columns, strict=True))


# --- the map ---


def test_principal_components_say_what_they_show(drawn, embeddings):
    assert drawn.coordinates.shape == (90, 2)
    assert 0 < drawn.explained_variance[1] <= drawn.explained_variance[0] < 1
    assert drawn.parameters == {"metric": "euclidean"}
    assert drawn.trustworthiness == drawn.kept.trustworthiness
    assert 0.5 < drawn.trustworthiness <= 1
    assert drawn.rows.image.tolist() == embeddings.rows.image.tolist()
    again = panderm.map_embeddings(embeddings.path, method="pca", metric="cosine")
    assert not np.allclose(again.coordinates, drawn.coordinates)


@pytest.mark.slow
def test_umap_has_the_published_settings_and_the_same_seed_gives_the_same_map(embeddings):
    pytest.importorskip("umap")
    first = panderm.map_embeddings(embeddings)
    assert first.parameters == {"n_neighbors": 10, "min_dist": 0.2, "metric": "euclidean", "seed": 42}
    assert first.explained_variance is None
    again = panderm.map_embeddings(embeddings)
    np.testing.assert_array_equal(first.coordinates, again.coordinates)
    other = panderm.map_embeddings(embeddings, seed=1)
    assert not np.allclose(first.coordinates, other.coordinates)
    # An independent call of the library, with the notebook's words.
    import umap

    with pytest.warns(UserWarning, match="n_jobs"):
        theirs = umap.UMAP(n_neighbors=10, min_dist=0.2, random_state=42).fit_transform(embeddings.vectors)
    np.testing.assert_allclose(first.coordinates, theirs, atol=1e-5)
    smaller = panderm.map_embeddings(embeddings, pca=5, metric="cosine")
    assert smaller.parameters["pca"] == 5
    assert 0 < smaller.parameters["pca_variance"] < 1
    assert np.isfinite(smaller.coordinates).all()


@pytest.mark.parametrize("n", [4, 5, 7, 11])
def test_fewer_rows_than_neighbours_are_mapped_and_said(embeddings, n):
    pytest.importorskip("umap")
    few = embeddings.select(np.arange(n))
    if n < 11:
        with pytest.warns(PandermWarning, match=f"n_neighbors is {n - 1}, not 10"):
            found = panderm.map_embeddings(few)
    else:
        found = panderm.map_embeddings(few)
    assert found.parameters["n_neighbors"] == n - 1
    assert np.isfinite(found.coordinates).all()
    assert found.kept.k == (n - 1) // 2


def test_equal_vectors_are_mapped_where_there_are_others(embeddings):
    pytest.importorskip("umap")
    vectors = np.repeat(np.asarray(embeddings.vectors)[:3], 30, axis=0)
    found = panderm.map_embeddings(Embeddings(vectors, embeddings.rows, embeddings.card))
    assert np.isfinite(found.coordinates).all()


def test_what_cannot_be_mapped_is_refused(embeddings, monkeypatch):
    with pytest.raises(DataError, match="at least 4"):
        panderm.map_embeddings(embeddings.select(np.arange(3)), method="pca")
    same = Embeddings(np.ones((90, 4), np.float32), embeddings.rows, embeddings.card)
    with pytest.raises(DataError, match="differ"):
        panderm.map_embeddings(same, method="pca")
    broken = np.array(embeddings.vectors)
    broken[5] = np.nan
    with pytest.raises(DataError, match="finite"):
        panderm.map_embeddings(Embeddings(broken, embeddings.rows, embeddings.card), method="pca")
    for wrong in ({"n_neighbors": 1}, {"min_dist": 1.5}, {"seed": -1}, {"pca": 1}, {"method": "tsne"}):
        with pytest.raises(UsageError, match=f"--{next(iter(wrong)).replace('_', '-')}"):
            panderm.map_embeddings(embeddings, **wrong)
    with pytest.raises(UsageError, match="--pca"):
        panderm.map_embeddings(embeddings, method="pca", pca=5)
    for name, value in {"n_neighbors": 5, "min_dist": 0.1, "seed": 7}.items():
        with pytest.raises(
            UsageError, match=f"--{name.replace('_', '-')} must be left out with --method pca"
        ):
            panderm.map_embeddings(embeddings, method="pca", **{name: value})


def test_umap_is_announced_once_nothing_can_be_refused(folder, tmp_path):
    pytest.importorskip("umap")
    refused = run(folder, "--out", tmp_path / "map.html", "--color", "nothing")
    assert refused.exit_code == 2
    assert "numba" not in refused.stderr


def test_without_umap_learn_nothing_is_changed_silently(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    result = run(folder, "--out", tmp_path / "map.html")
    assert result.exit_code == 2
    assert "pip install 'panderm[map]'" in result.stderr
    assert "--method pca" in result.stderr
    assert not list(tmp_path.iterdir())
    assert run(folder, "--out", tmp_path / "map.html", "--method", "pca", "--no-thumbnails").exit_code == 0


# --- colours ---


def test_the_label_comes_first_and_the_other_columns_of_the_table_follow(embeddings):
    found = read_colourings(embeddings.rows)
    names = [one.name for one in found.columns]
    assert found.asked == 1
    assert names[0] == "label"
    assert {"split", "site", "tone"} <= set(names)
    label = found.columns[0]
    assert label.names == embeddings.rows.classes  # in the table's order
    assert [label.names[c] for c in label.codes] == embeddings.rows.label.tolist()
    first = read_colourings(embeddings.rows, ["site", "label"])
    assert [one.name for one in first.columns][:2] == ["site", "label"]
    assert first.asked == 2
    only = read_colourings(embeddings.rows, ["site"], only=True)
    assert [one.name for one in only.columns] == ["site"]
    unlabelled = replace(embeddings.rows, label=np.full(90, None, dtype=object))
    assert read_colourings(unlabelled).columns[0].name == "split"


def test_a_roles_column_is_its_role(embeddings):
    card = embeddings.rows.card.model_copy(update={"roles": {**embeddings.rows.card.roles, "label": "dx"}})
    rows = replace(embeddings.rows, card=card)
    found = read_colourings(rows, ["dx"], only=True)
    assert [one.name for one in found.columns] == ["label (dx)"]
    # A lesion's number is no number.
    numbered = replace(rows, group=np.array([str(i) for i in range(90)], dtype=object))
    assert isinstance(read_colourings(numbered, ["group"], only=True).columns[0], Categories)


def test_what_a_column_holds_decides_how_it_is_coloured(embeddings, tmp_path):
    n = len(embeddings)
    found = colourings(
        embeddings,
        tmp_path,
        age=[None, *np.linspace(1, 90, n - 1).round(2)],
        grade=[f"{i % 3 + 1}.0" for i in range(n)],
        scanner=[f"s{min(i, 40)}" for i in range(n)],
        mixed=["7", "eight", *["9"] * (n - 2)],
    )
    age = found["age"]
    assert isinstance(age, Numbers)
    assert np.isnan(age.values[0])
    assert 1 < age.low < 5
    assert 85 < age.high < 90
    assert found["grade"].names == ("1", "2", "3")
    scanner = found["scanner"]
    assert isinstance(scanner, Categories)
    assert (len(scanner.names), scanner.own) == (41, 20)
    assert "s40" in scanner.names[:20]  # fifty rows
    assert [scanner.names[c] for c in scanner.codes] == [f"s{min(i, 40)}" for i in range(n)]
    assert isinstance(found["mixed"], Categories)


def test_columns_that_name_rows_are_left_out_and_said(embeddings, tmp_path):
    n = len(embeddings)
    csv = with_columns(
        embeddings,
        tmp_path,
        file=[f"f{i}" for i in range(n)],
        number=[1000 + i for i in range(n)],
        hospital=["one"] * n,
        nothing=[None] * n,
        sex=["f", "m"] * (n // 2),
    )
    found = read_colourings(embeddings.rows, columns=csv)
    assert {one.name for one in found.columns} & {"file", "number", "hospital", "nothing", "sex"} == {"sex"}
    assert len(found.left_out) == 4
    assert "file (90 values in 90 rows)" in found.left_out
    asked = read_colourings(embeddings.rows, ["file"], columns=csv, only=True)
    assert asked.columns[0].names[:2] == ("f0", "f1")


def test_columns_that_are_not_there_are_named(embeddings, tmp_path):
    with pytest.raises(TableError, match="did you mean 'site'"):
        read_colourings(embeddings.rows, ["siet"])
    with pytest.raises(UsageError, match="once"):
        read_colourings(embeddings.rows, ["site", "site"])
    short = tmp_path / "short.csv"
    pd.DataFrame({"image": embeddings.rows.image[:50], "x": 1}).to_csv(short, index=False)
    with pytest.raises(TableError, match="every image"):
        read_colourings(embeddings.rows, ["x"], columns=short)


def test_a_table_that_changed_gives_no_columns(embeddings, tmp_path):
    csv = tmp_path / "moved.csv"
    shutil.copy(embeddings.card.table.csv, csv)
    csv.write_text(csv.read_text() + "\n")
    card = embeddings.rows.card.model_copy(update={"csv": str(csv)})
    rows = replace(embeddings.rows, card=card)
    with pytest.warns(PandermWarning, match="only: "):
        found = read_colourings(rows)
    assert {one.name.split(" (")[0] for one in found.columns} <= {"label", "split", "patient", "group"}
    with pytest.raises(ArtifactError, match="as it was"):
        read_colourings(rows, ["site"])
    # A role needs no table.
    assert read_colourings(rows, ["patient"], only=True).columns[0].name == "patient (patient_id)"


# --- pictures ---


def test_thumbnails_are_the_images(embeddings):
    made = make_thumbnails(embeddings.rows, progress=False)
    assert made.count == 90
    assert made.side == 96
    assert made.bytes == sum(len(one) for one in made.pictures)
    small = Image.open(io.BytesIO(base64.b64decode(made.pictures[4])))
    assert small.format == "JPEG"
    assert small.size == (96, 72)
    whole = Image.open(embeddings.rows.path[4]).convert("RGB").resize((96, 72))
    assert np.abs(np.asarray(small, int) - np.asarray(whole, int)).mean() < 12
    other = Image.open(embeddings.rows.path[5]).convert("RGB").resize((96, 72))
    assert np.abs(np.asarray(small, int) - np.asarray(other, int)).mean() > 12


def test_an_image_that_is_gone_or_changed_is_a_word(embeddings, tmp_path):
    rows = embeddings.rows
    path = rows.path.copy()
    path[0] = str(tmp_path / "gone.jpg")
    path[1] = path[2]
    made = make_thumbnails(replace(rows, path=path), progress=False)
    assert made.words[:3] == ("no such file", "changed since it was embedded", None)
    assert made.pictures[:2] == (None, None)
    assert blanks(made.words) == {"no such file": 1, "changed since it was embedded": 1}


def test_a_large_photograph_is_upright_and_whole(embeddings, tmp_path):
    """Decoded scaled, and turned as its EXIF orientation says."""
    rng = np.random.default_rng(0)
    quarters = np.array([[[200, 40, 40], [40, 200, 40]], [[40, 40, 200], [180, 180, 60]]], np.uint8)
    stored = np.kron(quarters, np.ones((1000, 1500, 1), np.uint8))
    stored[::7] = np.clip(stored[::7] + rng.integers(-20, 20, stored[::7].shape), 0, 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    file = tmp_path / "large.jpg"
    Image.fromarray(stored).save(file, quality=92, exif=exif)
    rows = embeddings.rows.select(np.array([0]))
    sha256 = np.array([hashlib.sha256(file.read_bytes()).hexdigest()], dtype=object)
    rows = replace(rows, path=np.array([str(file)], dtype=object), sha256=sha256)
    made = make_thumbnails(rows, progress=False)
    small = np.asarray(Image.open(io.BytesIO(base64.b64decode(made.pictures[0]))), int)
    assert small.shape == (96, 64, 3)
    corners = small[[[24, 24], [72, 72]], [[16, 48], [16, 48]]]
    assert np.abs(corners - np.rot90(quarters, -1).astype(int)).max() < 12


def test_no_more_thumbnails_than_asked_for(embeddings):
    made = make_thumbnails(embeddings.rows, 30, progress=False)
    assert made.count == 30
    assert blanks(made.words) == {"no picture: 30 of 90 images have one": 60}
    again = make_thumbnails(embeddings.rows, 30, progress=False)
    assert made.pictures == again.pictures
    assert make_thumbnails(embeddings.rows, 0).count == 0


# --- the page ---


class Reader(HTMLParser):
    """Collects tags, and the text a reader sees."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.text, self._silent = [], "", False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._silent = tag in ("style", "script")

    def handle_endtag(self, tag):
        self._silent = False

    def handle_data(self, data):
        if not self._silent:
            self.text += data


@pytest.fixture(scope="module")
def html(drawn):
    return drawn.html(thumbnails=make_thumbnails(drawn.rows, progress=False))


def test_the_page_asks_for_nothing_and_runs_no_script_but_its_own(html):
    page = Reader(html)
    for tag, attrs in page.tags:
        assert tag not in {"iframe", "object", "embed", "base", "form", "audio", "video"}
        for name in ("src", "href", "srcset", "action"):
            assert re.match("^(data:|#)", attrs.get(name) or "#"), (tag, attrs)
        assert not [name for name in attrs if name.startswith("on") or name == "style"]
    assert "@import" not in html
    assert "url(" not in html
    script = html[html.rindex("<script>") + 8 : html.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policies = [a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    ]
    for word in ("fetch(", "XMLHttpRequest", "innerHTML", "eval(", "import(", "localStorage", "sendBeacon"):
        assert word not in script
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'at\("([\w-]+)"\)', script))
    assert len(used) > 20
    assert used <= set(ids)


def test_the_page_holds_every_point(html, drawn):
    data = data_of(html)
    np.testing.assert_allclose(np.c_[data["x"], data["y"]], drawn.coordinates, atol=1e-5)
    assert data["image"] == drawn.rows.image.tolist()
    label = data["columns"][0]
    assert [label["names"][c] for c in label["codes"]] == drawn.rows.label.tolist()
    assert all(isinstance(one, str) for one in data["pictures"])


def test_the_page_says_what_was_done_and_what_may_be_read(html, drawn):
    text = " ".join(Reader(html).text.split())
    x, y = (f"{share:.1%}".replace("%", " %") for share in drawn.explained_variance)
    assert f"{x} across, {y} upwards" in text
    assert f"rustworthiness {drawn.trustworthiness:.3f}, k = 10, all 90 images asked after" in text
    assert "Random encoder" in text
    assert "90 small pictures" in text
    assert "share it as you would share the images" in text
    assert drawn.card.encoder.weights_sha256 in text
    without = " ".join(Reader(drawn.html()).text.split())
    assert "holds no pictures" in without


def test_names_in_a_table_are_no_code(embeddings, tmp_path):
    rows = embeddings.rows
    label = np.array([EVIL if i % 2 else x for i, x in enumerate(rows.label)], dtype=object)
    classes = tuple(sorted(set(label)))
    card = rows.card.model_copy(update={"classes": classes, "name": EVIL, "csv": "/gone.csv", "note": EVIL})
    image = rows.image.copy()
    image[3] = EVIL + "\udc80.jpg"  # half a character
    whole = embeddings.card.model_copy(update={"table": card})
    evil = Embeddings(embeddings.vectors, replace(rows, label=label, card=card, image=image), whole)
    with pytest.warns(PandermWarning, match="no file"):
        found = panderm.map_embeddings(evil, method="pca")
    html = found.html()
    assert html.count("<script") == 2
    assert html.count("</script") == 2
    assert "<!--" not in html
    data = data_of(html)
    assert data["image"][3] == image[3]
    assert EVIL in data["columns"][0]["names"]
    assert data["name"] == EVIL
    assert len(draw_map(found, dpi=40)) > 1000


# --- the files ---


def test_the_picture_is_made_for_print(drawn, tmp_path):
    drawn.save_png(tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as picture:
        assert round(picture.info["dpi"][0]) == 300
        assert min(picture.size) > 1000
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    # Every class's colour is there.
    for colour in ("#2a64d6", "#dd5425", "#0f9478"):
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        assert (np.abs(pixels.astype(int) - rgb).max(axis=1) < 4).any(), colour
    assert draw_map(drawn, dpi=50) == draw_map(drawn, dpi=50)
    with pytest.raises(ArtifactError, match="must not exist"):
        drawn.save_png(tmp_path / "map.png")


def test_a_panel_for_each_column_asked_for(embeddings, tmp_path):
    n = len(embeddings)
    columns = {"age": [None, *range(n - 1)], **{f"c{i}": ["a", "b"] * (n // 2) for i in range(6)}}
    csv = with_columns(embeddings, tmp_path, **columns)
    one = panderm.map_embeddings(embeddings, method="pca", columns=csv, color=["age"])
    two = panderm.map_embeddings(embeddings, method="pca", columns=csv, color=["age", "label", "c1"])
    small, large = (Image.open(io.BytesIO(draw_map(found, dpi=60))).size for found in (one, two))
    assert large[0] > 1.8 * small[0]
    assert large[1] > 1.6 * small[1]
    many = panderm.map_embeddings(embeddings, method="pca", columns=csv, color=list(columns))
    with pytest.raises(UsageError, match="at most 6"):
        draw_map(many)
    assert marker_area(100) > marker_area(10_000) > marker_area(1_000_000) > 0


def test_the_verb_writes_page_picture_and_coordinates(folder, tmp_path):
    result = run(
        folder, "--out", tmp_path / "map.html", "--csv", tmp_path / "map.csv", "--method", "pca", "--json"
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.csv", "map.html", "map.png"]
    assert told["bytes"] == (tmp_path / "map.html").stat().st_size
    assert told["method"] == "pca"
    assert told["thumbnails"] == 90
    assert len(told["explained_variance"]) == 2
    assert told["neighbourhood"]["k"] == 10
    frame = pd.read_csv(tmp_path / "map.csv")
    page = data_of((tmp_path / "map.html").read_text("utf-8"))
    np.testing.assert_allclose(frame[["x", "y"]], np.c_[page["x"], page["y"]], atol=1e-5)
    assert list(frame["image"]) == page["image"]
    assert Path(frame["path"][0]).is_file()
    again = run(folder, "--out", tmp_path / "map.html", "--method", "pca")
    assert again.exit_code == 2
    assert "must not exist" in again.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "map.png"], "different files"),
        (["--out", "map.html", *(w for c in "abcdefg" for w in ("--color", c))], "at most 6"),
        (["--out", "map.html", "--csv", "map.html"], "different files"),
        (["--out", "map.html", "--color", "siet"], "did you mean"),
        (["--out", "map.html", "--columns", "nowhere.csv", "--color", "x"], "must exist"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_written(folder, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    result = run(folder, *words, "--method", "pca")
    assert result.exit_code == 2
    assert said in result.stderr
    assert not list(tmp_path.iterdir())


def test_the_page_can_do_without_pictures_and_other_columns(folder, tmp_path):
    out = tmp_path / "map.html"
    result = run(
        folder, "--out", out, "--method", "pca", "--no-thumbnails", "--color", "split", "--only-color"
    )
    assert result.exit_code == 0, result.output
    data = data_of(out.read_text("utf-8"))
    assert [one["name"] for one in data["columns"]] == ["split"]
    assert set(data["pictures"]) == {0}
    assert "base64," not in out.read_text("utf-8").replace('"data:image/jpeg;base64,"', "")
