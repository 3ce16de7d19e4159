"""The page holds every number, asks for nothing from outside, and survives what tables hold."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageDraw

from panderm.data.images import read_image
from panderm.data.lock import LockRecord
from panderm.data.table import Skipped, TableCard
from panderm.embeddings import EmbeddingsCard, EncoderRecord
from panderm.errors import ArtifactError, ParentsError
from panderm.predictions import Predictions, PredictionsCard
from panderm.provenance import Provenance
from panderm.report import Report
from panderm.report.drawing import figures
from panderm.report.mistakes.gallery import count_mistakes, most_confident_mistakes
from panderm.report.mistakes.pictures import thumbnail
from panderm.report.words import duration, moment, number, pairs, plain, short
from panderm.scores import ClassScores, Score, Scores
from panderm.storage import sha256_of_file

EVIL = '<script>alert("x")</script>&"\'>'


def draw_lesion(path, seed, size=(240, 180)):
    """Draw one lesion on skin and keep it as a JPEG."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, (226, 184, 160))
    centre, radius = rng.uniform(0.4, 0.6, 2) * size, rng.uniform(25, 60)
    box = [*(centre - radius), *(centre + radius)]
    ImageDraw.Draw(image).ellipse(box, fill=tuple(int(x) for x in rng.integers(40, 120, 3)))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "JPEG", quality=90)
    return str(path)


def make_predictions(
    folder=None, classes=("benign", "melanoma"), n=60, seed=0, *, sharp=1.2, encoder=(), table=(), card=()
):
    """Build predictions by hand: softmax of noise plus a signal of strength ``sharp``; two a patient."""
    rng = np.random.default_rng(seed)
    k = len(classes)
    truth = np.sort(rng.integers(0, k, n)) if n > k else np.arange(n) % k
    logits = rng.normal(size=(n, k)) + sharp * np.eye(k)[truth]
    odds = np.exp(logits)
    names = np.array([f"image_{i:04d}.jpg" for i in range(n)], dtype=object)
    paths = [str(Path("/nowhere") / name) for name in names]
    if folder is not None:
        paths = [draw_lesion(folder / name, i) for i, name in enumerate(names)]
    provenance = Provenance(
        panderm="0.1.0",
        command="panderm embed skin.csv --encoder small --out skin.emb",
        created="2026-01-02T03:04:05+00:00",
        seconds=91.5,
        versions={"python": "3.11.9", "torch": "2.6.0"},
        machine="Linux x86_64, 8 CPU cores",
    )
    counts = {c: int((truth == i).sum()) for i, c in enumerate(classes)}
    table_card = TableCard(
        name="skin",
        csv="/data/skin.csv",
        csv_sha256="1a" * 32,
        images="/data/images",
        sha256="2b" * 32,
        rows=4 * n,
        roles={
            "image": "image",
            "label": "diagnosis",
            "split": "split",
            "patient": "patient_id",
            "group": None,
        },
        classes=classes,
        counts={"train": dict.fromkeys(classes, 1234), "test": counts},
        patients=2 * n,
        groups=None,
    ).model_copy(update=dict(table))
    record = EncoderRecord(
        name="small",
        architecture="vit_small_patch16_224",
        dim=384,
        weights="/weights/small.safetensors",
        weights_sha256="3c" * 32,
        account="186 of 186 keys used; dropped: head.weight, head.bias",
        random=False,
        pool="mean",
        precision="fp32",
        image_size=224,
        preprocess={"resize": 256, "crop": 224, "interpolation": "bicubic", "mean": [0.485, 0.456, 0.406]},
        licence="CC-BY-NC-ND 4.0",
        citation="Yan et al., Nature Medicine 2025",
        source="https://example.org/weights",
    ).model_copy(update=dict(encoder))
    embeddings = EmbeddingsCard(
        provenance=provenance,
        encoder=record,
        table=table_card,
        rows=4 * n,
        complete=True,
        images_per_second=83.21,
    )
    predictions_card = PredictionsCard(
        provenance=provenance.model_copy(
            update={"command": "panderm probe skin.emb --out skin.pred", "seconds": 4.2}
        ),
        task="probe",
        method={
            "recipe": "standard",
            "C": 0.316227766,
            "train_rows": 12345,
            "swept": {"C": [0.001, 0.01, 0.1]},
        },
        outcome={"chosen on": "val", "converged": True, "iterations": 1213},
        classes=classes,
        split="test",
        rows=n,
        embeddings=embeddings,
    ).model_copy(update=dict(card))
    return Predictions(
        image=names,
        path=np.array(paths, dtype=object),
        sha256=np.array([sha256_of_file(Path(p)) if Path(p).is_file() else "" for p in paths], dtype=object),
        patient=np.array([f"P{i // 2}" for i in range(n)], dtype=object),
        group=np.full(n, None, dtype=object),
        truth=np.array([classes[i] for i in truth], dtype=object),
        probabilities=odds / odds.sum(axis=1, keepdims=True),
        card=predictions_card,
    )


def make_scores(predictions, **changes):
    """Return scores of distinct, made-up values, so that each can be looked for."""
    k = len(predictions.classes)
    auroc = ("auroc",) if k == 2 else ("auroc_ovo", "auroc_ovr")
    names = (
        "accuracy",
        "balanced_accuracy",
        "weighted_f1",
        "macro_f1",
        *auroc,
        "average_precision",
        "quadratic_kappa",
    )
    values = [round(0.611 + 0.031 * i, 3) for i in range(len(names) + 2 * k)]
    made = [Score(v % 1, v % 1 * 0.93, 1 - (1 - v % 1) * 0.81) for v in values]
    truth, predicted = predictions.truth_codes(), predictions.predicted_codes()
    confusion = np.zeros((k, k), dtype=np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    rest = made[len(names) :]
    scores = Scores(
        scores=dict(zip(names, made, strict=False)),
        per_class={
            c: ClassScores(int((truth == i).sum()), rest[2 * i], rest[2 * i + 1])
            for i, c in enumerate(predictions.classes)
        },
        confusion=confusion,
        classes=predictions.classes,
        n=len(predictions),
        clusters=max(1, len(predictions) // 2),
        unit="patient",
        draws=2000,
        seed=7,
        split=predictions.card.split,
        predictions=predictions.card.identity,
    )
    return replace(scores, **changes)


def without_values(scores, reason="one class only"):
    none = Score(None, None, None, reason)
    return replace(
        scores,
        scores=dict.fromkeys(scores.scores, none),
        per_class={c: ClassScores(s.n, none, none) for c, s in scores.per_class.items()},
    )


class Reader(HTMLParser):
    """Collects what a browser would: tags with their attributes, and the text outside ``<style>``."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "wbr", "input"})

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.texts, self.unbalanced = [], [], [], []
        self.feed(page)
        self.close()
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def read(predictions, scores=None):
    return Reader(Report(predictions, scores or make_scores(predictions)).html())


def banners(page):
    return [a["class"] for a in page.all("div") if a.get("class", "").startswith("banner")]


@pytest.fixture
def binary(tmp_path):
    return make_predictions(tmp_path / "images", n=40)


# --- one file, nothing from outside ---


def test_the_page_asks_for_nothing(binary):
    page = read(binary)
    allowed = re.compile(r"^(data:|#)")
    for tag, attrs in page.tags:
        assert tag not in {"script", "iframe", "object", "embed", "base", "form", "audio", "video"}
        for name in ("src", "href", "srcset", "action", "poster", "xlink:href", "data", "background"):
            if attrs.get(name):
                assert allowed.match(attrs[name]), (tag, name, attrs[name])
        assert not [name for name in attrs if name.startswith("on")]
        assert "url(" not in attrs.get("style", "") or "url(#" in attrs["style"]
    style = re.search(r"<style>(.*?)</style>", Report(binary, make_scores(binary)).html(), re.S)[1]
    assert "url(" not in style
    assert "@import" not in style
    policies = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_the_page_is_well_formed_and_its_anchors_lead_somewhere(binary):
    page = read(binary)
    assert page.unbalanced == []
    assert page.open == []
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = {a["href"][1:] for _, a in page.tags if (a.get("href") or "").startswith("#")}
    wanted |= {i for _, a in page.tags for i in (a.get("aria-labelledby") or "").split()}
    wanted |= {i for _, a in page.tags for v in a.values() for i in re.findall(r"url\(#([^)]+)\)", v or "")}
    assert len(wanted) > 10
    assert wanted <= set(ids)
    assert len(page.all("h1")) == 1
    assert all("scope" in a for a in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(a.get("alt") for a in page.all("img"))


def test_same_input_same_bytes(binary):
    scores = make_scores(binary)
    one, two = (re.sub(r"made \S+ \S+ UTC", "", Report(binary, scores).html()) for _ in range(2))
    assert one == two


def test_a_users_own_matplotlib_style_changes_nothing(binary):
    import matplotlib

    data = (binary.truth_codes(), binary.probabilities, binary.classes)
    before = figures.roc_curves(*data)
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "xtick.major.pad": 20}):
        assert figures.roc_curves(*data) == before
        assert matplotlib.rcParams["font.size"] == 30


# --- the numbers ---


@pytest.mark.parametrize(
    "classes", [("benign", "melanoma"), ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")]
)
def test_every_score_stands_in_the_page_with_its_interval(classes):
    predictions = make_predictions(classes=classes, n=1500)
    scores = make_scores(predictions)
    text = read(predictions, scores).text
    per_class = [s for c in scores.per_class.values() for s in (c.sensitivity, c.specificity)]
    for score in scores.scores.values():
        assert f"{score.value:.3f} {score.low:.3f}–{score.high:.3f}" in text
    for score in per_class:
        assert f"{score.value:.3f} ({score.low:.3f}–{score.high:.3f})" in text
    for words in (
        "1,500 images",
        "750 patients",
        "2,000 draws",
        "seed 7",
        "percentile bootstrap",
        "95 % interval",
    ):
        assert words in text
    assert ("The positive class is “melanoma”" in text) == (len(classes) == 2)


def test_headlines_come_first_and_carry_intervals(binary):
    scores = make_scores(binary)
    text = read(binary, scores).text
    auroc = scores.scores["auroc"]
    assert f"AUROC {auroc.value:.3f} 95 % interval {auroc.low:.3f}–{auroc.high:.3f}" in text
    assert text.index("95 % interval") < text.index("All scores on the test split")


def test_not_computable_is_said_with_its_reason_and_never_as_a_number():
    predictions = make_predictions(n=1)
    scores = without_values(make_scores(predictions), "only one class among the rows")
    page = read(predictions, scores)
    before = page.text.partition("To be pasted into a manuscript")[0]
    assert before.count("not computable: only one class among the rows") == len(scores.scores) + 4
    assert "0.000" not in page.text.partition("Most confident mistakes")[0]
    assert "None" not in page.text
    assert "Nothing to draw" in page.text


def test_a_value_without_an_interval_says_so(binary):
    scores = make_scores(binary)
    scores.scores["accuracy"] = Score(0.5, None, None, "no interval: one patient only")
    text = read(binary, scores).text
    assert "0.500 no interval: one patient only" in text


def test_images_resampled_as_independent_are_pointed_out(binary):
    scores = make_scores(binary)
    sentence = "these intervals are too narrow"
    assert sentence in read(binary, replace(scores, unit="image", clusters=40)).text
    assert sentence not in read(binary, scores).text


def test_the_confusion_table_holds_every_count():
    predictions = make_predictions(classes=("a", "b", "c"), n=90)
    scores = make_scores(predictions)
    text = read(predictions, scores).text
    for name, row in zip(predictions.classes, scores.confusion, strict=True):
        assert f" {name} {' '.join(str(x) for x in row)} " in text


# --- what must be read first ---


def test_no_banner_without_cause(binary):
    assert banners(read(binary)) == []


@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        ({"encoder": {"random": True}}, "stop", "these numbers say nothing about a trained encoder"),
        ({"card": {"split": "train"}}, "stop", "Scored on the training split"),
        ({"card": {"outcome": {"converged": False}}}, "care", "Not converged"),
        ({"table": {"warnings": ("a patient must not be in two splits: P7",)}}, "care", "in two splits: P7."),
        (
            {"table": {"skipped": (Skipped(row=9, image="x.jpg", reason="gone"),)}},
            "care",
            "1 row of the table",
        ),
        ({"table": {"note": "the images are drawn"}}, "note", "The images are drawn."),
    ],
)
def test_a_banner_says_what_must_be_known_first(changes, kind, sentence):
    page = read(make_predictions(**changes))
    assert banners(page) == [f"banner {kind}"]
    assert sentence in page.text.partition("95 % interval")[0]


@pytest.mark.parametrize(("clusters", "few"), [(1, True), (9, True), (10, False)])
def test_few_patients_make_a_banner(clusters, few):
    predictions = make_predictions()
    page = read(predictions, make_scores(predictions, clusters=clusters))
    assert banners(page) == (["banner care"] if few else [])
    assert ("Few patients. The intervals rest on" in page.text) == few


def test_the_weightiest_banner_comes_first():
    table = {"note": "the images are drawn", "warnings": ("a patient must not be in two splits",)}
    page = read(make_predictions(table=table, encoder={"random": True}))
    assert banners(page) == ["banner stop", "banner care", "banner note"]


# --- what was run ---


def test_what_was_run_is_told_in_full(binary):
    text = read(binary).text
    card = binary.card
    for words in (
        "panderm embed skin.csv --encoder small --out skin.emb",
        "panderm probe skin.emb --out skin.pred",
        "2026-01-02 03:04:05 UTC",
        "83.2 images per second",
        "1 min 32 s",
        "4.2 s",
        "Linux x86_64, 8 CPU cores",
        "torch 2.6.0",
        card.identity,
        card.embeddings.identity,
        card.embeddings.table.sha256,
        card.embeddings.table.csv_sha256,
        card.embeddings.encoder.weights_sha256,
        "recipe standard",
        "C 0.316228",
        "chosen on val",
        "converged yes",
        "iterations 1,213",
        "train rows 12,345",
        "swept C 0.001, 0.01, 0.1",
        "mean 0.485, 0.456, 0.406",
        "column “diagnosis”",
        "group no column",
        "melanoma 1,234",
        "CC-BY-NC-ND 4.0",
        "Yan et al., Nature Medicine 2025",
        "https://example.org/weights",
        "186 of 186 keys used; dropped: head.weight, head.bias",
        "no request leaves this page",
    ):
        assert words in text, words


def test_the_lock_of_the_split_is_named():
    assert "split lock none: nothing holds this split to what it was" in read(make_predictions()).text
    lock = LockRecord(
        file="skin.lock.json",
        sha256="ab" * 32,
        created="2026-01-02T03:04:05+00:00",
        seed=7,
        method="largest group first",
        column="split",
        joined_by=("patient", "near"),
        groups=1,
        largest=12,
        images_read=False,
    )
    text = read(make_predictions(table={"lock": lock})).text
    assert (
        "split lock skin.lock.json, made 2026-01-02 03:04:05 UTC with seed 7: 1 group joined by patient, "
        "near-duplicates, the largest of 12 rows; images not looked at. Rows and images agreed with it"
        in text
    )
    assert f"split lock {'ab' * 32}" in text


@pytest.mark.parametrize(("count", "folded"), [(20, False), (21, True)])
def test_all_skipped_rows_are_listed_and_many_are_folded(count, folded):
    skipped = tuple(
        Skipped(row=i, image=f"lost_{i}.jpg", reason=f"reason {i}") for i in range(1000, 1000 + count)
    )
    page = read(make_predictions(table={"skipped": skipped}))
    for row in skipped:
        assert f"{row.row:,} {row.image} {row.reason}" in page.text
    for_authors = 5  # three checklists, model card, provenance
    assert len(page.all("details")) == 1 + folded + for_authors


def test_versions_that_differ_stand_side_by_side(binary):
    later = binary.card.provenance.model_copy(update={"versions": {"python": "3.12.1", "torch": "2.6.0"}})
    changed = replace(binary, card=binary.card.model_copy(update={"provenance": later}))
    assert "python 3.11.9 3.12.1" in read(changed).text


# --- mistakes ---


def test_mistakes_are_the_most_confident_first(tmp_path):
    predictions = make_predictions(classes=("a", "b", "c"), n=200, sharp=0.5)
    found = list(most_confident_mistakes(predictions))
    truth, predicted = predictions.truth_codes(), predictions.predicted_codes()
    chances = predictions.probabilities.max(axis=1)
    assert len(found) == 24
    assert [m.probability for m in found] == sorted(chances[truth != predicted], reverse=True)[:24]
    assert count_mistakes(predictions) == (truth != predicted).sum()
    for mistake in found:
        row = list(predictions.image).index(mistake.image)
        assert (mistake.truth, mistake.predicted) == (predictions.truth[row], "abc"[predicted[row]])
        assert mistake.of_truth == predictions.probabilities[row, truth[row]]
    text = read(predictions).text
    assert f"{count_mistakes(predictions)} images of 200 went to another class" in text
    assert "Here are the 24" in text


def test_every_mistake_has_its_picture(binary):
    page = read(binary)
    shown = page.all("img")
    assert len({a["alt"] for a in shown}) == count_mistakes(binary) > 3
    assert all(a["src"].startswith("data:image/jpeg;base64,") for a in shown)
    assert "no picture" not in page.text


def test_a_thumbnail_is_small_and_keeps_its_proportions(tmp_path):
    import base64
    import io

    path = draw_lesion(tmp_path / "a.jpg", 0, size=(800, 400))
    small = Image.open(io.BytesIO(base64.b64decode(thumbnail(read_image(path)).partition(",")[2])))
    assert small.format == "JPEG"
    assert small.size == (192, 96)


def test_a_file_that_changed_since_is_not_shown(tmp_path):
    predictions = make_predictions(folder=tmp_path)
    row = next(iter(np.flatnonzero(predictions.predicted_codes() != predictions.truth_codes())))
    draw_lesion(tmp_path / predictions.image[row], 99)
    mistake = next(m for m in most_confident_mistakes(predictions, 500) if m.image == predictions.image[row])
    assert (mistake.picture, mistake.problem) == (None, "changed since it was embedded")


def test_lost_and_damaged_files_leave_a_placeholder(binary):
    first, second = list(most_confident_mistakes(binary))[:2]
    folder = Path(binary.path[0]).parent
    (folder / first.image).unlink()
    (folder / second.image).write_bytes(b"not a picture")
    page = read(binary)
    assert len({a["alt"] for a in page.all("img")}) == count_mistakes(binary) - 2
    assert "no picture: no such file" in page.text
    assert "no picture: changed since it was embedded" in page.text


def test_no_mistakes_is_said():
    page = read(make_predictions(sharp=50))
    assert "No mistakes: each of 60 images went to its true class." in page.text
    assert page.all("img") == []


# --- whatever tables hold ---


def test_everything_from_outside_is_escaped(tmp_path):
    predictions = make_predictions(
        classes=("nevus", EVIL),
        n=30,
        table={
            "name": EVIL,
            "note": EVIL,
            "warnings": (EVIL,),
            "skipped": (Skipped(row=2, image=EVIL, reason=EVIL),),
            "roles": {"image": EVIL},
        },
        encoder={"name": EVIL, "licence": EVIL, "account": EVIL, "preprocess": {EVIL: EVIL}},
        card={"method": {EVIL: EVIL, "recipe": EVIL}, "task": EVIL},
    )
    predictions.image[:] = [f"{EVIL}{i}" for i in range(30)]
    html = Report(predictions, make_scores(predictions)).html()
    assert "<script" not in html
    page = Reader(html)
    assert page.unbalanced == []
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(EVIL) > 20
    # In the drawings too: the class stands in the legends and on both sides of the matrix.
    drawings = html.partition('class="figures"')[2].partition("<details>")[0]
    assert drawings.count("&lt;script&gt;") >= 4


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("k", [2, 3, 30])
def test_hardly_any_images(n, k):
    predictions = make_predictions(classes=tuple(f"class {i}" for i in range(k)), n=n)
    page = read(predictions, without_values(make_scores(predictions, clusters=1)))
    assert f"{n} image{'s' if n > 1 else ''} of 1 patient" in page.text


@pytest.mark.parametrize("k", [12, 13, 25, 26, 30])
def test_many_classes(k):
    predictions = make_predictions(classes=tuple(f"class {i}" for i in range(k)), n=20 * k)
    page = read(predictions)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    svg, _ = figures.confusion_matrix(make_scores(predictions).confusion, predictions.classes)
    written = [t.text or "" for t in ElementTree.fromstring(svg).iter() if t.tag.endswith("}text")]
    counts = [t for t in written if t.isdigit()]
    assert bool(counts) == (k <= 25)
    assert any(t.endswith("%") for t in written) == (k <= 12)


@pytest.mark.parametrize(
    "classes",
    [
        ("_hidden", "$a_b^{$", "plain"),
        ("色素性母斑", "меланома", "قرحة"),
        ("a" * 300, "b " * 150, "c\x01\nd\u202e"),
        ("naevus 🙂", "x", 'style="#2a64d6"'),
    ],
)
def test_strange_class_names(classes):
    predictions = make_predictions(classes=classes, n=90)
    page = read(predictions)
    svg = ElementTree.fromstring(
        figures.roc_curves(predictions.truth_codes(), predictions.probabilities, classes)[0]
    )
    written = " ".join(t.text or "" for t in svg.iter() if t.tag.endswith("}text"))
    for name in classes:
        assert " ".join(name.split()) in page.text
        assert short(name, 40) in written


def test_a_class_without_images_is_left_out_and_named():
    predictions = make_predictions(classes=("a", "b", "ghost"), n=90)
    truth = np.where(predictions.truth == "ghost", "a", predictions.truth)
    predictions = replace(predictions, truth=truth)
    assert figures.with_curve(predictions.truth_codes(), 3) == [0, 1]
    assert "Left out, for want of images inside or outside the class: ghost." in read(predictions).text


# --- figures as functions ---


def texts(svg):
    return [t.text or "" for t in ElementTree.fromstring(svg).iter() if t.tag.endswith("}text")]


def test_legends_hold_the_areas():
    from sklearn.metrics import average_precision_score, roc_auc_score

    predictions = make_predictions(classes=("a", "b", "c"), n=300)
    truth, chances = predictions.truth_codes(), predictions.probabilities
    roc = texts(figures.roc_curves(truth, chances, predictions.classes)[0])
    pr = texts(figures.precision_recall_curves(truth, chances, predictions.classes)[0])
    for i, name in enumerate(predictions.classes):
        assert f"{roc_auc_score(truth == i, chances[:, i]):.3f}  {name}" in roc
        assert f"{average_precision_score(truth == i, chances[:, i]):.3f}  {name}" in pr


def test_the_area_under_the_precision_steps_is_the_average_precision():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(1)
    for _ in range(20):
        own = np.arange(40) < rng.integers(1, 39)
        score = rng.integers(0, 12, 40) / 12  # with ties
        recall, precision = figures.precision_steps(own, score)
        area = (np.diff(recall) * precision[1:]).sum()
        assert area == pytest.approx(average_precision_score(own, score), abs=1e-12)


def test_of_two_classes_only_the_positive_is_drawn(binary):
    for draw in (figures.roc_curves, figures.precision_recall_curves):
        written = texts(draw(binary.truth_codes(), binary.probabilities, binary.classes)[0])
        assert len([t for t in written if "melanoma" in t]) == 1
        assert not [t for t in written if "benign" in t]


def test_drawings_of_two_models_share_no_id(binary):
    data = (binary.truth_codes(), binary.probabilities, binary.classes)
    ids = [
        set(re.findall(r'\bid="([^"]+)"', figures.roc_curves(*data, name=name)[0])) for name in ("one", "two")
    ]
    assert len(ids[0]) > 3
    assert not ids[0] & ids[1]


def test_a_drawing_styles_nothing_but_itself(binary):
    svg, _ = figures.roc_curves(binary.truth_codes(), binary.probabilities, binary.classes)
    root = ElementTree.fromstring(svg)
    assert not [e for e in root.iter() if e.tag.endswith(("}style", "}metadata", "}script"))]
    assert root.get("role") == "img"
    assert {"title", "desc"} <= {e.tag.rpartition("}")[2] for e in root}
    assert "var(--series-1, #2a64d6)" in svg
    assert "DejaVu" not in svg


# --- the file ---


def test_save_writes_whole_and_refuses_to_overwrite(binary, tmp_path):
    report = Report(binary, make_scores(binary))
    path = report.save(tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    path.write_text("mine")
    with pytest.raises(ArtifactError, match="must not exist already"):
        report.save(path)
    assert path.read_text() == "mine"
    report.save(str(path), overwrite=True)
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_predictions_may_be_a_folder(binary, tmp_path):
    folder = binary.save(tmp_path / "skin.pred")
    assert "image_0" in Report(folder, make_scores(binary)).html()


def test_scores_may_be_a_file_or_made_now(binary, tmp_path):
    made = Report(binary).scores
    assert (made.draws, made.seed, made.predictions) == (2000, 0, binary.card.identity)
    file = made.save(tmp_path / "scores.json")
    assert Report(binary, file).scores.scores == made.scores


def test_scores_of_other_predictions_are_refused(binary):
    others = replace(make_scores(binary), predictions="f" * 64)
    with pytest.raises(ParentsError) as caught:
        Report(binary, others)
    assert binary.card.identity[:12] in str(caught.value)
    assert "f" * 12 in str(caught.value)


# --- words ---


def test_numbers_and_values_in_words():
    assert number(0.12349) == "0.123"
    assert number(-0.0001) == "0.000"
    assert number(-0.25) == "−0.250"
    assert [duration(s) for s in (0.84, 59.6, 200, 7500)] == ["0.8 s", "1 min 0 s", "3 min 20 s", "2 h 5 min"]
    assert [plain(v) for v in (None, True, 12345, 1e-05, [1, 2], [])] == [
        "none",
        "yes",
        "12,345",
        "1e-05",
        "1, 2",
        "none",
    ]
    assert plain([{"a": 1}]) == '[{"a": 1}]'
    assert pairs({"a_b": {"c": 1, "d": None}}) == [("a b", "c 1; d none")]
    assert pairs({"a_b": {"c": 1, "d": {"e": 2}}}) == [("a b: c", "1"), ("a b: d", "e 2")]
    assert moment("2026-01-02T03:04:05+02:00") == "2026-01-02 01:04:05 UTC"
    assert moment("yesterday") == "yesterday"
    assert short("a\nb\x00c", 9) == "a b c"
    assert short("abcdefg", 6) == "abc…fg"
