"""The page for several encoders: each beside the others, differences on the same draws, nobody crowned."""

import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from test_report import EVIL, Reader, make_predictions, texts

from panderm.data.table import Skipped
from panderm.errors import ArtifactError, ParentsError, UsageError
from panderm.report import Report
from panderm.report.drawing import figures, overlays
from panderm.report.mistakes.gallery import mistakes_of_all, mistakes_of_one, wrong_rows
from panderm.report.sections import decision_sections
from panderm.report.several import comparison
from panderm.report.several.tests import p_value
from panderm.report.several.titles import titles
from panderm.report.words import signed
from panderm.scores import Score, evaluate
from panderm.scores.compare import compare

NAMES = (
    "timm:vit_small_patch14_dinov2",
    "panderm-large",
    "hf-hub:an-organisation/BiomedCLIP-with-a-long-name",
)
DRAWS = 60


def several(k=2, folder=None, *, sharp=(1.6, 0.8), changes=(), **how):
    """Return k sets of predictions of the same rows, each from an encoder of its own."""
    first = make_predictions(folder, **how)
    truth, n_classes = first.truth_codes(), len(first.classes)
    found = []
    for i in range(k):
        rng = np.random.default_rng(100 + i)
        logits = rng.normal(size=(len(first), n_classes)) + sharp[i % len(sharp)] * np.eye(n_classes)[truth]
        odds = np.exp(logits)
        own = {"name": NAMES[i % 3] if i < 3 else f"encoder-{i}", "weights_sha256": f"{i}a" * 32}
        given = replace(first, probabilities=odds / odds.sum(axis=1, keepdims=True))
        found.append(with_encoder(given, **own | (dict(changes[i]) if i < len(changes) else {})))
    return found


def with_encoder(predictions, **changes):
    card = predictions.card
    encoder = card.embeddings.encoder.model_copy(update=changes)
    embeddings = card.embeddings.model_copy(update={"encoder": encoder})
    return replace(predictions, card=card.model_copy(update={"embeddings": embeddings}))


def with_card(predictions, **changes):
    return replace(predictions, card=predictions.card.model_copy(update=changes))


def report(predictions, **how):
    """Return a report on scores of few draws; without thresholds and curves, which take most of the time."""
    how = {"scores_only": True} | how
    scores = [evaluate(given, draws=DRAWS, progress=False, **how) for given in predictions]
    return Report(predictions, scores, progress=False)


def read(predictions):
    return Reader(report(predictions).html())


def rows_of(html, caption):
    """Return a table's body as rows of the text in their cells, without the column of drawings."""
    table = next(t for t in re.findall(r"<table.*?</table>", html, re.S) if f"<caption>{caption}" in t)
    body = table.partition("<tbody")[2]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in body.split("<tr")[1:]]
    return [[" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in row[:-1]] for row in cells]


def banners(page):
    return [a["class"].split()[1] for a in page.all("div") if a.get("class", "").startswith("banner")]


# --- the numbers ---


@pytest.mark.parametrize("classes", [("benign", "melanoma"), ("a", "b", "c", "d")])
def test_every_score_of_every_encoder_stands_in_its_column(classes):
    predictions = several(3, classes=classes, n=120)
    made = report(predictions)
    rows = rows_of(made.html(), "All scores on the test split")
    assert len(rows) == len(made.parts[0][1].scores)
    for row, name in zip(rows, made.parts[0][1].scores, strict=True):
        for cell, (_, scores) in zip(row[1:], made.parts, strict=True):
            score = scores.scores[name]
            assert cell.replace("−", "-").startswith(f"{score.value:.3f} {score.low:.3f}"), (row, name)


def test_differences_stand_with_their_sign_and_interval():
    predictions = several(3, n=120)
    made = report(predictions)
    rows = rows_of(made.html(), "Each score minus that of A")
    assert len(made.differences) == 2
    for row, name in zip(rows, made.differences[0], strict=True):
        for cell, difference in zip(row[1:], made.differences, strict=True):
            d = difference[name]
            assert cell == f"{signed(d.value)} {signed(d.low)} to {signed(d.high)}"
            assert d.value == pytest.approx(
                made.parts[1 + made.differences.index(difference)][1].scores[name].value
                - made.parts[0][1].scores[name].value
            )


def test_only_intervals_that_leave_out_nothing_are_bold_and_nobody_is_crowned():
    row = comparison.difference_row
    assert [row(Score(0.1, *ends), 0.5).holds_zero for ends in [(0.01, 0.2), (-0.01, 0.2), (None, None)]] == [
        *(False, True, True),
    ]
    assert row(Score(-0.1, -0.2, -0.05), 0.2).bar == pytest.approx((0, 25, 37.5))
    html = report(several(2, n=400, sharp=(0.2, 3.0))).html()
    differ = html.partition('id="differences"')[2].partition('id="classes"')[0]
    assert differ.count('<b class="apart">+') == 7
    # No score of the first table is drawn in another way than its neighbours.
    scores = html.partition('id="scores"')[2].partition('id="differences"')[0]
    assert "apart" not in scores
    assert scores.count("<b>") == 2 * 7


def test_a_draw_of_both_at_once_is_said_and_intervals_are_counted():
    text = read(several(3, n=120)).text
    assert "60 draws of whole patients, seed 0, the same draws for all" in text
    assert "this table has 14" in text
    assert "one in twenty" in text


def test_not_computable_is_said_once_with_its_reason():
    predictions = several(2, classes=("a", "b", "ghost"), n=90)
    truth = np.where(predictions[0].truth == "ghost", "a", predictions[0].truth)
    page = read([replace(given, truth=truth) for given in predictions])
    scores = page.text.partition("All scores on the test split")[2].partition("Differences to A")[0]
    assert scores.count("class 'ghost' has no row among those scored") == 1
    assert "not computable" in scores
    assert "None" not in scores
    assert "Left out, for want of images inside or outside the class: ghost." in page.text


def test_sensitivities_stand_side_by_side():
    predictions = several(2, classes=("a", "b", "c"), n=150)
    made = report(predictions)
    for side in ("sensitivity", "specificity"):
        rows = rows_of(made.html(), f"{side.capitalize()} of each class")
        for row, name in zip(rows, ("a", "b", "c"), strict=True):
            ones = [getattr(scores.per_class[name], side) for _, scores in made.parts]
            assert row[0].startswith(f"{name} ")
            assert [cell[:5] for cell in row[1:]] == [f"{one.value:.3f}" for one in ones]


# --- tests ---


def test_tests_and_differences_are_those_of_compare():
    predictions = several(3, n=120, sharp=(1.6, 0.8, 1.5))
    made = report(predictions)
    found = compare(predictions, draws=DRAWS, seed=0, progress=False)
    assert made.comparison == found
    for pair in found.pairs:
        at = [model.name for model in found.models].index(pair.other)
        assert made.differences[at - 1][pair.score] == pair.difference
    rows = body_of(made.html(), "Differences with their 95 % intervals")
    letters = dict(zip((model.name for model in found.models), "ABC", strict=True))
    assert len(rows) == len(found.pairs) == 4
    for row, pair in zip(rows, found.pairs, strict=True):
        d = pair.difference
        assert row[0].endswith(f", {letters[pair.other]} − A")
        assert row[1] == f"{signed(d.value)} ({signed(d.low)} to {signed(d.high)})", "the effect stands first"
        assert row[2:4] == [p_value(pair.p), p_value(pair.p_holm)]
        assert all(p_value(test.p) in row[4] for test in pair.tests)
        assert ("DeLong" in row[4]) == (pair.score == "auroc")
        assert ("McNemar" in row[4]) == (pair.score == "accuracy")


def body_of(html, caption):
    """Return every cell of a table's body as unescaped text."""
    table = next(t for t in re.findall(r"<table.*?</table>", html, re.S) if f"<caption>{caption}" in t)
    rows = re.findall(r"<tr.*?</tr>", table.partition("<tbody")[2], re.S)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in rows]
    return [[unescape(" ".join(re.sub(r"<[^>]+>", " ", cell).split())) for cell in row] for row in cells]


def test_where_too_few_could_show_a_difference_none_is_told():
    predictions = several(2, n=16)  # eight patients
    made = report(predictions)
    assert {d.value for d in made.differences[0].values()} == {None}
    assert all(d.too_few for d in made.differences[0].values())
    html = made.html()
    assert all(row[1] == "too few to say" for row in rows_of(html, "Each score minus that of A"))
    for row in body_of(html, "Differences with their 95 % intervals"):
        assert row[1:] == ["too few to say: 8 patients, and 10 are needed", "–", "–", "–"]
    # Five patients of one class say nothing of what needs it, and something of accuracy.
    first, second = several(2, n=60)
    truth = np.where(np.arange(60) < 10, "melanoma", "benign").astype(object)
    told = report([replace(given, truth=truth) for given in (first, second)]).differences[0]
    assert told["auroc"].too_few
    assert told["accuracy"].low is not None


# --- whatever a page of one shows ---


def test_a_page_of_several_says_every_number_of_each():
    predictions = several(3, n=120)
    made = report(predictions, scores_only=False, prevalence=[0.02])
    html = made.html()
    entries = made._entries()
    for section in decision_sections(entries):
        assert f'id="{section.name}"' in html
        assert f'href="#{section.name}"' in html
        for table in [*section.tables, *(part.table for part in section.folded)]:
            rows = body_of(html, table.caption)
            told = [[cell.replace(" (", " ").removesuffix(")") for cell in row] for row in table.rows]
            assert [[cell.removesuffix(")").replace(" (", " ") for cell in row] for row in rows] == told
    for i, (_, scores) in enumerate(made.parts):
        point = scores.operating.points[0]
        row = next(r for r in body_of(html, "Operating points: sensitivity ≥ 0.95") if r[0] == "PPV")
        assert row[1 + i].startswith(f"{point.scores['ppv'].value:.3f} ")
        row = body_of(html, "At stated prevalences: PPV")[0]
        assert row[1 + i].startswith(f"{point.at[0].ppv.value:.3f} ")
    drawings = [d for section in decision_sections(entries) for d in section.drawings]
    drawings += comparison.curves(entries, comparison.keys_of(entries))
    for drawing in drawings:
        named = {row[0] for row in drawing.points.rows}
        for letter, title in zip("ABC", made.titles, strict=True):
            assert f"{letter} {title}" in drawing.caption
            assert f"{letter} {title}" in named


# --- curves ---


@pytest.mark.parametrize("seed", range(8))
def test_the_mean_curves_have_the_mean_area(seed):
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(4), rng.integers(0, 4, 46)])
    chances = rng.integers(0, 9, (50, 4)) / 9 + 0.2 * np.eye(4)[truth]  # with ties
    curves = [roc_curve(truth == c, chances[:, c])[:2] for c in range(4)]
    false, true = overlays.mean_roc(curves)
    area = (np.diff(false) * (true[1:] + true[:-1])).sum() / 2
    assert area == pytest.approx(np.mean([roc_auc_score(truth == c, chances[:, c]) for c in range(4)]))
    assert (np.diff(false) >= 0).all()
    assert (np.diff(true) >= -1e-12).all()
    assert (true[-1], false[0], false[-1]) == (pytest.approx(1), 0, 1)
    steps = [figures.precision_steps(truth == c, chances[:, c]) for c in range(4)]
    recall, precision = overlays.mean_steps(steps)
    area = (np.diff(recall) * precision[1:]).sum()
    assert area == pytest.approx(
        np.mean([average_precision_score(truth == c, chances[:, c]) for c in range(4)])
    )


@pytest.mark.parametrize("classes", [("benign", "melanoma"), ("a", "b", "c")])
def test_legends_hold_what_the_score_table_holds(classes):
    predictions = several(2, classes=classes, n=200)
    made = report(predictions)
    drawn = comparison.curves(entries := made._entries(), comparison.keys_of(entries))
    for drawing, name in zip(
        drawn, ("auroc" if len(classes) == 2 else "auroc_ovr", "average_precision"), strict=True
    ):
        written = texts(drawing.svg)
        for letter, title, (_, scores) in zip("AB", made.titles, made.parts, strict=True):
            assert f"{scores.scores[name].value:.3f}  {letter} {title}" in written


# --- mistakes ---


def test_images_that_all_or_only_one_get_wrong(tmp_path):
    predictions = several(3, tmp_path, classes=("a", "b", "c"), n=45, sharp=(1.0, 1.5, 0.7))
    wrong = wrong_rows(predictions)
    assert wrong.shape == (3, 45)
    np.testing.assert_array_equal(wrong[1], predictions[1].predicted_codes() != predictions[1].truth_codes())
    names = predictions[0].image
    everyone = list(mistakes_of_all(predictions, 500))
    assert {m.image for m in everyone} == set(names[wrong.all(axis=0)])
    surest = [np.mean([chance for _, they in m.taken for _, chance in they]) for m in everyone]
    assert surest == sorted(surest, reverse=True)
    for i in range(3):
        alone = list(mistakes_of_one(predictions, i, 500))
        assert {m.image for m in alone} == set(names[wrong[i] & (wrong.sum(axis=0) == 1)])
        assert all([who for _, they in m.taken for who, _ in they] == [i] for m in alone)
        for m in alone:
            row = list(names).index(m.image)
            assert m.taken[0][0] == predictions[i].classes[predictions[i].predicted_codes()[row]] != m.truth
            assert m.taken[0][1][0][1] == predictions[i].probabilities[row].max()
    html = report(predictions).html()
    page = Reader(html.partition('id="mistakes"')[2].partition("<section")[0])
    alone = [int((own & (wrong.sum(axis=0) == 1)).sum()) for own in wrong]
    assert len(page.all("img")) == min(24, len(everyone)) + sum(min(12, m) for m in alone)
    between = int((wrong.sum(axis=0) == 2).sum())
    right = int((wrong.sum(axis=0) == 0).sum())
    counts = [row[1] for row in rows_of_grid(html)]
    assert counts == [str(m) for m in (right, *alone, between, wrong.all(axis=0).sum())]


def rows_of_grid(html):
    table = next(t for t in re.findall(r"<table.*?</table>", html, re.S) if "Images by who put them" in t)
    return [
        re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)
        for row in table.partition("<tbody>")[2].split("<tr>")[1:]
    ]


def test_no_mistakes_are_said():
    page = read(several(2, sharp=(50, 50)))
    assert "No image was put into a wrong class by both." in page.text
    assert "No image was put into a wrong class by B alone." in page.text
    assert page.all("img") == []


# --- what must be read first ---


def test_no_banner_without_cause():
    assert banners(read(several(2))) == []


@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        ([{}, {"random": True}], "stop", "B has weights drawn at random"),
        ([{"random": True}, {"random": True}], "stop", "A and B have weights drawn at random"),
        ([{}, {"precision": "bf16"}], "care", "A: fp32; B: bf16"),
        ([{}, {"image_size": 448}], "care", "A: 224 pixels a side, cut from 256; B: 448 pixels a side"),
        ([{}, {"preprocess": {"resize": 224, "crop": 224}}], "note", "B: 224 pixels a side. A difference"),
    ],
)
def test_a_banner_says_how_the_encoders_were_treated_differently(changes, kind, sentence):
    page = read(several(2, changes=changes))
    assert banners(page) == [kind]
    assert sentence in page.text.partition("All scores")[0]


def test_a_banner_says_what_else_differs():
    first, second = several(2)
    method = first.card.method | {"recipe": "paper"}
    page = read([first, with_card(second, method=method, outcome={"converged": False})])
    assert banners(page) == ["care", "care"]
    assert "recipe standard" in page.text
    assert "The fit of B stopped before it had converged" in page.text
    skipped = (Skipped(row=9, image="x.jpg", reason="gone"),)
    page = read(several(2, table={"warnings": ("P7 is in two splits",), "skipped": skipped, "note": "drawn"}))
    assert banners(page) == ["care", "care", "note"]
    assert page.text.count("P7 is in two splits") == 2, "once above, once under what was run"


def test_terms_of_every_encoder_are_told():
    predictions = several(
        2, changes=[{"licence": "CC BY-NC"}, {"licence": "Apache-2.0", "citation": "Doe 2024"}]
    )
    weights = (
        read(predictions).text.rpartition("Weights")[0] + read(predictions).text.rpartition(" Weights ")[2]
    )
    for words in ("CC BY-NC", "Apache-2.0", "Doe 2024", "0a" * 32, "1a" * 32, *NAMES[:2]):
        assert words in weights


# --- the page as a page ---


@pytest.mark.parametrize(
    ("k", "n_classes"), [(2, 2), (6, 2), (3, 7), pytest.param(6, 40, marks=pytest.mark.slow)]
)
def test_the_page_is_well_formed_and_asks_for_nothing(k, n_classes):
    classes = tuple(f"class number {i}" for i in range(n_classes))
    html = report(several(k, classes=classes, n=max(60, 8 * n_classes))).html()
    page = Reader(html)
    assert page.unbalanced == []
    assert page.open == []
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = {a["href"][1:] for _, a in page.tags if (a.get("href") or "").startswith("#")}
    wanted |= {i for _, a in page.tags for i in (a.get("aria-labelledby") or "").split()}
    assert wanted <= set(ids)
    assert all("scope" in a for a in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    for tag, attrs in page.tags:
        assert tag not in {"script", "iframe", "object", "embed", "base", "form", "audio", "video"}
        for name in ("src", "href", "srcset", "action", "poster", "data", "background"):
            assert re.match(r"^(data:|#)", attrs.get(name) or "#"), (tag, name, attrs[name])
    style = re.search(r"<style>(.*?)</style>", html, re.S)[1]
    assert "url(" not in style
    assert page.text.count("timm:vit_small_patch14_dinov2") > 3


def test_everything_from_outside_is_escaped():
    predictions = several(2, classes=("nevus", EVIL), n=40, table={"name": EVIL, "note": EVIL})
    evil = [with_encoder(given, name=f"{EVIL}{i}", licence=EVIL) for i, given in enumerate(predictions)]
    html = report(evil).html()
    assert "<script" not in html
    assert Reader(html).unbalanced == []
    assert Reader(html).text.count(EVIL) > 20


def test_same_input_same_bytes():
    predictions = several(2)
    one, two = (re.sub(r"made \S+ \S+ UTC", "", report(predictions).html()) for _ in range(2))
    assert one == two


# --- titles ---


def test_namesakes_are_told_apart():
    first, second, third = several(3)
    assert titles([first.card, second.card]) == list(NAMES[:2])
    twin = with_encoder(second, name=NAMES[0])
    assert titles([first.card, twin.card, third.card]) == [
        *(f"{NAMES[0]} (weights 0a0a0a0a)", f"{NAMES[0]} (weights 1a1a1a1a)", NAMES[2]),
    ]
    other = with_card(first, method=first.card.method | {"recipe": "paper"})
    assert titles([first.card, other.card]) == [f"{NAMES[0]} (recipe {r})" for r in ("standard", "paper")]
    unlike = with_card(first, method=first.card.method | {"swept": {"C": [1]}})
    assert titles([first.card, unlike.card]) == [
        f"{NAMES[0]} ({p.card.identity[:8]})" for p in (first, unlike)
    ]


# --- what is refused ---


def refused(predictions, scores=None):
    with pytest.raises((ParentsError, UsageError)) as caught:
        Report(predictions, scores)
    return caught.value


def test_other_rows_are_refused_and_both_are_named(tmp_path):
    first, second = several(2)
    turned = np.arange(len(first))[::-1]
    columns = ("image", "path", "sha256", "patient", "group", "truth", "probabilities")
    mixed = replace(second, **{name: getattr(second, name)[turned] for name in columns})
    made = Report([first, mixed], progress=False)
    np.testing.assert_array_equal(made.parts[1][0].probabilities, second.probabilities)
    assert made.differences == Report([first, second], progress=False).differences
    short = second.select(np.arange(59), second.card.model_copy(update={"rows": 59}))
    error = refused([first, short])
    assert isinstance(error, ParentsError)
    assert f"{NAMES[0]}: 60 images, 1 not in all: image_0059.jpg" in str(error)
    assert f"{NAMES[1]}: 59 images, all shared" in str(error)
    assert "--common" not in str(error), "a report has no such option"
    for name, told in (("truth", "truth"), ("patient", "patient"), ("sha256", "file")):
        column = getattr(second, name).copy()
        column[3] = "melanoma" if name == "truth" else "other"
        if name == "sha256":
            first = replace(first, sha256=np.full(60, "5e" * 32, dtype=object))
            column = np.where(np.arange(60) == 3, "other", first.sha256)
        error = str(refused([first, replace(second, **{name: column})]))
        assert f"must agree in the {told} of every image" in error
        assert "image_0003.jpg: " in error
    names = [given.save(tmp_path / f"{i}.pred") for i, given in enumerate((first, short))]
    assert all(f"{name}: " in str(refused(names)) for name in names)
    swapped = with_card(second, classes=second.classes[::-1])
    assert "of the same classes, in one order" in str(refused([first, swapped]))


def test_scores_of_rows_in_another_order_are_refused():
    first, second = several(2)
    turned = np.arange(len(first))[::-1]
    mixed = second.select(turned, second.card)
    scores = [evaluate(given, draws=DRAWS, progress=False, scores_only=True) for given in (first, mixed)]
    error = refused([first, mixed], scores)
    assert "must rest on the same draws of the same units" in str(error)
    assert f"in another order than {NAMES[0]}, or without its patients: {NAMES[1]}" in str(error)


def test_the_same_predictions_twice_are_refused():
    first, _ = several(2)
    assert "are the same" in str(refused([first, first]))


def test_scores_must_match_in_number_parents_and_draws(tmp_path):
    first, second = several(2)
    one, two = (evaluate(given, draws=DRAWS) for given in (first, second))
    assert "found 2 of predictions and 1 of scores" in str(refused([first, second], one))
    assert isinstance(refused([first, second], [two, one]), ParentsError)
    other = evaluate(second, draws=DRAWS, seed=1)
    assert "60 draws, seed 1" in str(refused([first, second], [one, other]))
    files = [scores.save(tmp_path / f"{i}.json") for i, scores in enumerate((one, two))]
    assert Report([first, second], files).parts[1][1].scores == two.scores
    assert "found none" in str(refused([]))


def test_a_report_of_several_has_no_scores_of_its_own(tmp_path):
    made = report(several(2))
    for name in ("predictions", "scores"):
        with pytest.raises(UsageError, match=f"asked for its {name}"):
            getattr(made, name)
    path = made.save(tmp_path / "both.html")
    with pytest.raises(ArtifactError, match="must not exist already"):
        made.save(path)


def test_a_list_of_one_is_the_page_of_one():
    only = make_predictions()
    one, listed = (Report(given, evaluate(only, draws=DRAWS)) for given in (only, [only]))
    assert listed.scores.as_dict() == one.scores.as_dict()
    assert listed.differences == ()
    assert "Evaluation report" in listed.html()
