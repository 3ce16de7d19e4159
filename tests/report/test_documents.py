"""The summary and the manuscript's parts: numbers are those of the scores, and no gap is passed over."""

import re
from dataclasses import replace

import pytest
from test_report import make_predictions, make_scores
from test_report_of_a_file import read_from_a_file
from test_sections import BAND, S

import panderm
from panderm.report import Report
from panderm.report.authors.answers import answers
from panderm.report.authors.checklists import GUIDELINES, filled, items
from panderm.report.authors.documents import document_sections
from panderm.report.authors.frequencies import hundred, of_100, quoted
from panderm.report.authors.methods import AUTHOR, methods_paragraphs
from panderm.report.authors.provenance_chain import provenance_chain
from panderm.report.authors.references import references
from panderm.report.authors.summary import summary_sentences
from panderm.report.entry import Entry
from panderm.scores import LevelScores, Score, SubgroupColumn, Subgroups
from panderm.scores.calibration import Calibration, CalibrationOf
from panderm.scores.compared import ComparedModel, ComparedPair, Comparison
from panderm.scores.operating import AtPrevalence, DecisionCurve, Operating, OperatingPoint, Target
from panderm.storage import sha256_of_file

SENSITIVITY = Score(0.906, 0.783, 1.0)
SPECIFICITY = Score(0.612, 0.501, 0.718)
POINT = OperatingPoint(
    Target("sensitivity", 0.95), 0.125, None, {}, 29, 31, 3, 49,
    {"sensitivity": SENSITIVITY, "specificity": SPECIFICITY, "ppv": Score(0.483, 0.36, 0.61)},
    (AtPrevalence(0.02, Score(0.045, 0.032, 0.061), S, Score(22.2, 16.4, 31.1)),),
)  # fmt: skip


def decided(predictions, *, locked=True, point=POINT, **changes):
    """Return scores with an operating point and calibration, of made-up values."""
    operating = Operating(
        ("melanoma",), "55 rows of val", locked, 55, 16, (point,), DecisionCurve((0.1, 0.2, 0.3), BAND, BAND)
    )
    told = {"calibration_slope": Score(0.61, 0.42, 0.83), "ece": Score(0.052, 0.011, 0.094)}
    calibration = Calibration("of melanoma", CalibrationOf("as given", "", told, (), {}))
    return replace(make_scores(predictions), operating=operating, calibration=calibration, **changes)


@pytest.fixture(scope="module")
def predictions():
    return make_predictions()


@pytest.fixture(scope="module")
def entry(predictions):
    return Entry("small", predictions, decided(predictions))


def told(*entries):
    return "\n".join(summary_sentences(entries))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.754, "75"), (0, "0"), (1, "100"), (0.996, "99.6"), (0.004, "0.4"), (0.0001, "under 0.1"),
        (0.99999, "over 99.9"),
    ],
)  # fmt: skip
def test_a_share_is_never_told_as_none_or_all_of_what_is_not(value, words):
    assert of_100(value) == words


def test_the_share_that_is_left_turns_its_interval_around():
    assert hundred(SPECIFICITY, others=True) == "39 (28 to 50)"
    assert hundred(Score(0.5, None, None, "no interval: one unit")) == "50 (no interval: one unit)"
    assert hundred(Score(None, None, None, "too few")) is None
    assert quoted(("a", "b", "c")) == "“a”, “b” or “c”"


def test_the_summary_says_what_was_asked_and_found_with_the_numbers_of_the_scores(entry):
    scores, text = entry.scores, told(entry)
    n = scores.per_class["melanoma"].n
    assert f"Asked of 60 images of 30 patients: “benign” or “melanoma”? {n} of them are “melanoma”" in text
    auroc = scores.scores["auroc"]
    assert f"{hundred(auroc)} are put the right way round (AUROC)" in text
    assert f"{100 * auroc.value:.0f} ({100 * auroc.low:.0f} to {100 * auroc.high:.0f})" in text
    assert "0.125, chosen on 55 rows of val and locked (sensitivity ≥ 0.95)" in text
    assert (
        "it finds 91 (78 to 100; 29 of 32 here), and of 100 others it calls 39 (28 to 50; 31 of 80 here)"
        in text
    )
    assert (
        "Were 2 % “melanoma”: of 100 called positive, 4.5 (3.2 to 6.1) are, 22.2 (16.4 to 31.1) called"
        in text
    )
    assert "slope 0.61 (0.42 to 0.83), 1 being right: surer than it is right" in text
    found = scores.per_class["melanoma"].sensitivity
    assert f"“melanoma” {hundred(found, note=f'{n} images')}" in text
    assert "Mind that" not in text
    assert not re.search(r"\b(good|excellent|poor|acceptable|fair)\b", text, re.IGNORECASE)


def test_what_the_numbers_are_not_is_said_last_and_what_voids_them_first(predictions):
    random = make_predictions(encoder={"random": True})
    first = summary_sentences([Entry("r", random, make_scores(random))])[0]
    assert first.startswith("The encoder’s weights are drawn at random")
    trained = summary_sentences([Entry("t", predictions, replace(make_scores(predictions), split="train"))])
    assert trained[0].startswith("The images scored are those that were learned from")
    few = decided(predictions, locked=False, split="val", clusters=4)
    last = summary_sentences([Entry("f", predictions, few)])[-1]
    for caution in (
        "Thresholds were chosen on the very rows",
        "The validation split was scored",
        "rest on 4 patients",
    ):
        assert caution in last
    assert "learned from" not in last
    tuned = make_predictions(card={"outcome": {"C chosen on": "log loss of 124 validation rows"}})
    assert "settings of the probe were chosen on it" in told(Entry("x", tuned, replace(few, n=60)))
    folded = make_predictions(
        card={"outcome": {"C chosen on": "5-fold cross-validation on the training rows"}}
    )
    assert "settings of the probe were chosen on it" not in told(Entry("x", folded, few))


def test_a_benign_class_that_counts_as_positive_is_pointed_out():
    given = make_predictions(classes=("melanoma", "nevus"))
    assert "Mind that “nevus” counts as positive" in told(
        Entry(
            "x",
            given,
            replace(decided(given), operating=replace(decided(given).operating, positive=("nevus",))),
        )
    )


def test_of_more_classes_naming_stands_beside_always_naming_the_commonest():
    given = make_predictions(classes=("bcc", "mel", "nv"), n=90)
    scores = make_scores(given)
    text = told(Entry("x", given, scores))
    assert f"is the true one in {hundred(scores.scores['accuracy'])} of 100 images; always saying" in text
    assert "guessing gives 33" in text
    named = text.partition("malignant class")[2]
    assert "“bcc” " in named
    assert "“mel” " in named
    nothing = replace(scores, scores=scores.scores | {"auroc_ovo": Score(None, None, None, "no row of “nv”")})
    assert "AUROC, one-vs-one cannot be told: no row of “nv”." in told(Entry("x", given, nothing))


@pytest.mark.parametrize(
    ("gap", "words"),
    [
        (Score(-0.11, -0.2, -0.02), "That interval leaves out 0"),
        (Score(-0.11, -0.2, 0.02), "chance alone may do this"),
        (Score(-0.11, None, None, "no interval"), "How sure that is cannot be told"),
    ],
)
def test_the_weakest_subgroup_says_how_sure_that_is(predictions, gap, words):
    few = Score(None, None, None, "too few to say: 3 patients")
    levels = [("f", Score(0.91, 0.8, 0.95), gap), ("m", Score(0.71, 0.6, 0.8), gap), ("x", few, few)]
    made = tuple(LevelScores(n, 9, 9, {}, {"auroc": s}, {"auroc": g}) for n, s, g in levels)
    held = Subgroups((SubgroupColumn("sex", made, error="off by 3"),), "t.csv", "0" * 64, "image", 5)
    text = told(Entry("x", predictions, replace(make_scores(predictions), subgroups=held)))
    assert "Weakest of 2 subgroups: sex m (9), AUROC 0.71 (0.60 to 0.80), −0.11" in text
    assert words in text
    assert "Of 1 group nothing can be said" in text
    assert "“sex” is an estimate of a program" in text


def test_several_are_told_apart_only_where_the_interval_leaves_out_0(predictions):
    first = Entry("a", predictions, decided(predictions))
    held, apart = Score(0.02, -0.03, 0.07), Score(-0.12, -0.2, -0.04)
    same = told(first, replace(first, title="b", differences={"auroc": held}))
    assert (
        "None can be told apart in AUROC: the interval of the difference to A holds 0 (B − A 0.020 (−0.030"
        in same
    )
    assert "does not show that they are equal" in same
    others = [replace(first, differences={"auroc": d}) for d in (held, apart)]
    text = told(first, *others)
    assert "Differing in AUROC, the interval leaving out 0: C − A −0.120 (−0.200 to −0.040)" in text
    assert "not corrected for being several" in text
    assert "A finds 91 (78 to 100) and calls 39 (28 to 50)" in text
    found = hundred(first.scores.per_class["melanoma"].sensitivity)
    assert f"“melanoma” (34) A {found}, B {found}, C {found}" in text


def test_tests_corrected_by_holm_decide_where_there_are_any(predictions):
    first = Entry("a", predictions, make_scores(predictions))
    entries = [first, replace(first, title="b", differences={"auroc": Score(-0.12, -0.2, -0.04)})]
    models = tuple(ComparedModel(name, "0" * 64, "test", 0, {}) for name in "ab")
    pair = ComparedPair("a", "b", "auroc", Score(-0.12, -0.2, -0.04), 0.02, 0.06, 5000, False)
    found = Comparison(models, (pair,), predictions.classes, 60, 30, "patient", 2000, 5000, 0, 3)
    text = "\n".join(summary_sentences(entries, found))
    assert (
        "None can be told from A in AUROC (p corrected by Holm for 3 tests): B − A −0.120 (−0.200 to" in text
    )
    assert "p = 0.060" in text
    sure = replace(found, pairs=(replace(pair, p_holm=0.0002),))
    assert "Differing from A in AUROC" in "\n".join(summary_sentences(entries, sure))
    assert "p < 0.001" in "\n".join(summary_sentences(entries, sure))
    assert "corrected by Holm for 3 tests" in "\n".join(methods_paragraphs(entries, found))
    assert any(work.startswith("Holm S.") for work in references(entries, found))
    other = replace(found, pairs=(replace(pair, score="accuracy"),))
    assert "not corrected" not in "\n".join(summary_sentences(entries, other))
    assert "Differing in AUROC, the interval leaving out 0" in "\n".join(summary_sentences(entries, other))


def test_every_item_of_each_checklist_is_there_once_by_its_number(entry):
    def numbers(*spans):
        return [f"{n}{letter}" for n, letters in spans for letter in (letters or [""])]

    wanted = {
        "CLAIM": [str(n) for n in range(1, 45)],
        "TRIPOD+AI": numbers(
            (1, ""), (2, ""), (3, "abc"), (4, ""), (5, "ab"), (6, "abc"), (7, ""), (8, "abc"), (9, "abc"),
            (10, ""), (11, ""), (12, "abcdefg"), *((n, "") for n in range(13, 18)), (18, "abcdef"), (19, ""),
            (20, "abc"), (21, ""), (22, ""), (23, "ab"), (24, ""), (25, ""), (26, ""), (27, "abc"),
        ),
        "STARD-AI": numbers(
            *((n, "") for n in range(1, 15)), (15, "abcd"), (16, "abc"), (17, "ab"),
            *((n, "") for n in range(18, 26)), (26, "ab"), *((n, "") for n in range(27, 40)), (40, "ab"),
        ),
    }  # fmt: skip
    assert {g.name: [i.item for i in items(g.name)] for g in GUIDELINES} == wanted
    shown = {s.name: s for s in document_sections([entry])}["checklists"].folded
    assert [[row[0] for row in one.table.rows] for one in shown] == list(wanted.values())
    for one, guideline in zip(shown, GUIDELINES, strict=True):
        counts = [int(n) for n in re.findall(r"(\d+) (?:filled|in part|left|not)", one.title)]
        assert sum(counts) == len(wanted[guideline.name])
        assert len(counts) == 4


def test_what_is_known_is_filled_and_the_rest_is_left_to_the_author_by_name(entry):
    known = answers([entry])
    assert set(known) <= {item.key for item in items()}
    every = [one for guideline in GUIDELINES for one in filled(guideline.name, known)]
    for one in every:
        assert (one.status == "author") == (one.item.key not in known)
        assert bool(one.author) == (one.status in ("author", "in part"))
        assert one.text or one.author
    for key in (
        "preprocessing",
        "model",
        "software",
        "training",
        "selection",
        "uncertainty",
        "accuracy",
        "disjoint",
    ):
        assert known[key].status == "filled"
    assert "SHA-256 3c3c3c3c3c3c" in known["initial"].text
    assert "No patient is in two parts" in known["disjoint"].text
    for key in ("ethics", "funding", "reference", "conflicts"):
        assert key not in known


def test_methods_hold_the_numbers_and_mark_what_only_the_author_knows(entry):
    text = "\n".join(methods_paragraphs([entry]))
    for part in (
        "skin (data/skin.csv, SHA-256 1a1a1a1a1a1a)", "60 images of 30 patients",
        "no patient is in two of them",
        "vit_small_patch16_224", "small.safetensors, SHA-256 3c3c3c3c3c3c", "crop 224",
        "chosen on 55 rows of val (16 positive) and locked",
        f"{entry.scores.draws:,} draws of whole patients",
        f"seed {entry.scores.seed}", "PyTorch 2.6.0", "Python 3.11.9", "panderm 0.1.0",
    ):  # fmt: skip
        assert part in text, part
    assert text.count(AUTHOR) == 1
    cited = "\n".join(references([entry]))
    for part in (
        "10.1038/s41591-025-03747-y",
        "Yan et al., Nature Medicine 2025",
        "10.1177/0272989X06295361",
    ):
        assert part in cited
    assert "10.1561/2200000101" not in cited  # no sets were made


def test_what_was_chosen_in_folds_is_told_and_a_probe_of_columns_saw_no_image():
    how = "log loss of 5-fold cross-validation on the training rows"
    outcome = {f"fold {i}": {"C": c, "C chosen on": how} for i, c in ((1, 0.01), (2, 0.1))}
    folded = make_predictions(card={"outcome": outcome, "method": {"folds": 2, "recipe": "tuned"}})
    one = Entry("f", replace(folded, fold=folded.truth), make_scores(folded))
    text = "\n".join(methods_paragraphs([one]))
    assert f"by fold: C = 0.01, by {how}; C = 0.1, by {how}" in text
    assert "They were split into" not in text
    blind = make_predictions(
        card={"method": {"sees": "columns alone", "columns": ["age"], "C": 0.5}, "outcome": {}}
    )
    one = Entry("c", blind, make_scores(blind))
    text = "\n".join(methods_paragraphs([one]))
    assert "No image was shown to it" in text
    assert "shown the column age and no image; C = 0.5, not chosen from data" in text
    known = answers([one])
    assert "preprocessing" not in known
    assert known["blind_index"].text.startswith("The model was given column age;")


def test_random_weights_are_said_wherever_the_encoder_is_named():
    given = make_predictions(encoder={"random": True, "weights": None, "licence": "", "citation": ""})
    one = Entry("r", given, make_scores(given))
    assert "with weights drawn at random" in "\n".join(methods_paragraphs([one]))
    assert "drawn at random" in answers([one])["initial"].text
    assert not any("r:" in line for line in references([one]))
    card = {s.name: s for s in document_sections([one])}["model-card"].folded[0].table.rows
    assert "drawn at random" in dict(card)["Limits"]
    assert dict(card)["Licence of the weights"].startswith("No licence is needed")
    assert (
        next(link for link in provenance_chain(one) if link.step == "weights").what == "none: drawn at random"
    )


def test_predictions_of_a_file_leave_the_model_to_the_author(tmp_path):
    given = read_from_a_file("Model X")
    one = Entry("Model X", given, make_scores(given))
    text = "\n".join(methods_paragraphs([one]))
    assert "Predictions were read from a file (model-x.csv, SHA-256" in text
    assert f"{AUTHOR}the model, its training and validation data" in text
    known = answers([one])
    for key in ("model", "training", "preprocessing", "initial", "partition"):
        assert key not in known
    for key in ("accuracy", "crosstab", "uncertainty"):
        assert known[key].status == "filled"
    assert [link.step for link in provenance_chain(one)] == [
        "file of predictions",
        "predictions",
        "scores",
        "page",
    ]
    assert "how they were made is not known here" in told(one)
    file = tmp_path / "p.csv"
    file.write_text("a\n")
    held = given.card.file.model_copy(update={"path": str(file), "sha256": sha256_of_file(file)})
    there = replace(given, card=given.card.model_copy(update={"file": held}))
    assert provenance_chain(replace(one, predictions=there))[0].sound is True
    file.write_text("b\n")
    assert provenance_chain(replace(one, predictions=there))[0].sound is False
    changed = {s.name: s for s in document_sections([replace(one, predictions=there)])}["provenance"]
    assert "No longer what was used: file of predictions p.csv" in changed.intro[0]


def test_the_chain_of_real_files_is_checked_link_by_link(embeddings, table, tmp_path):
    from panderm.tasks.probe import probe

    given = probe(embeddings, out=tmp_path / "p.pred", progress=False)
    scores = panderm.evaluate(given, draws=50, progress=False, scores_only=True)
    chain = {link.step: link for link in provenance_chain(Entry("x", given, scores))}
    assert list(chain) == ["table", "images", "weights", "embeddings", "predictions", "scores", "page"]
    assert chain["table"].sha256 == table.card.csv_sha256
    assert chain["table"].sound is True
    assert chain["embeddings"].sha256 == embeddings.card.identity
    assert chain["predictions"].sha256 == given.card.identity
    assert chain["scores"].sound is True
    assert chain["images"].sound is None
    other = replace(scores, predictions="0" * 64)
    assert {k.step: k for k in provenance_chain(Entry("x", given, other))}["scores"].sound is False
    assert all(isinstance(link.as_dict()["step"], str) for link in chain.values())


def test_links_of_the_page_lead_somewhere_for_one_and_for_several(predictions):
    scores = decided(predictions)
    other = make_predictions(seed=1, encoder={"name": "large"})
    other = replace(other, truth=predictions.truth, patient=predictions.patient, image=predictions.image)
    pages = [Report(predictions, scores, progress=False).html()]
    pages.append(
        Report([predictions, other], [make_scores(predictions), make_scores(other)], progress=False).html()
    )
    for page in pages:
        ids = re.findall(r'\bid="([^"]+)"', page)
        assert len(ids) == len(set(ids))
        assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
        assert 'class="findings"' in page
        assert 'class="paste"' in page
        assert page.count("<h2") >= 10


def test_what_a_table_holds_cannot_break_the_page():
    evil = '<b>"&'
    given = make_predictions(classes=("benign", evil), table={"name": evil}, encoder={"name": evil})
    page = Report(given, make_scores(given), progress=False).html()
    assert evil not in page
    assert page.count("&lt;b&gt;") > 10
