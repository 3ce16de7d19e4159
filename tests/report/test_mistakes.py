"""Mistakes are seen beside what was learned near them; pairs, groups and regions hold to their numbers."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import panderm
from panderm.errors import ArtifactError, ParentsError, UsageError
from panderm.predictions import FileColumns, read_predictions
from panderm.report import Report
from panderm.report.entry import Entry
from panderm.report.mistakes.attention import Attention
from panderm.report.mistakes.confused import confusion_section, malignancy_of, pairs_of
from panderm.report.mistakes.gallery import most_confident_mistakes, what_is_beside
from panderm.report.mistakes.looks import look, looks_of
from panderm.report.mistakes.nearest import nearest_training
from panderm.report.mistakes.space import Space, find_space
from panderm.report.mistakes.together import groups_of_mistakes, regions_of
from panderm.scores import evaluate
from panderm.statistics.nearest import mean_vector, nearest_rows
from panderm.statistics.regions import kmeans_regions, region_errors, share_test

DRAWS = 100


@pytest.fixture(scope="module")
def predicted(embeddings: panderm.Embeddings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions of the drawn world's rows, opened from their folder."""
    out = tmp_path_factory.mktemp("predicted") / "w.pred"
    panderm.probe(embeddings, out=out, C=0.01, progress=False)
    return out


@pytest.fixture(scope="module")
def given(predicted: Path) -> panderm.Predictions:
    return panderm.open_predictions(predicted)


@pytest.fixture(scope="module")
def entry(given: panderm.Predictions) -> Entry:
    return Entry("tiny", given, evaluate(given, draws=DRAWS, progress=False), look=look(given))


# -- arithmetic ---------------------------------------------------------------------------------------------


def test_nearest_rows_are_those_of_the_whole_matrix_of_cosines() -> None:
    rng = np.random.default_rng(0)
    vectors, asked = rng.normal(2, 1, (9000, 5)).astype(np.float32), rng.normal(2, 1, (3, 5))
    rows = np.sort(rng.choice(9000, 8500, replace=False))
    centre = mean_vector(vectors, rows)
    assert centre == pytest.approx(vectors[rows].mean(axis=0), abs=1e-5)
    at, cosine = nearest_rows(asked, vectors, rows, 4, centre=centre)
    x, y = asked - centre, vectors[rows] - centre
    whole = (x @ y.T) / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(y, axis=1)
    assert np.array_equal(at, rows[np.argsort(-whole, axis=1)[:, :4]])
    assert cosine == pytest.approx(-np.sort(-whole, axis=1)[:, :4])


def test_a_few_rows_are_all_neighbours_and_a_vector_of_zeros_has_the_cosine_0() -> None:
    vectors = np.array([[1.0, 0], [0, 0]])
    at, cosine = nearest_rows([[2.0, 0]], vectors, np.arange(2), 5)
    assert at.tolist() == [[0, 1]]
    assert cosine.tolist() == [[1, 0]]
    with pytest.raises(ValueError, match="k must"):
        nearest_rows([[1.0]], np.ones((1, 1)), np.arange(1), 0)
    with pytest.raises(ValueError, match="at least one row"):
        mean_vector(vectors, np.arange(0))


def test_regions_find_blobs_number_them_by_size_and_place_rows_by_distance() -> None:
    rng = np.random.default_rng(1)
    centres = 5 * np.eye(3)
    blob = np.repeat([0, 1, 2], (30, 20, 10))
    vectors = centres[blob] + rng.normal(0, 0.1, (60, 3))
    region, distance = kmeans_regions(vectors, np.arange(60), 3)
    assert np.array_equal(region, blob)
    assert (distance >= 0).all()
    assert len(np.unique(kmeans_regions(np.ones((8, 2)), np.arange(8), 3)[0])) == 1  # vectors that repeat
    with pytest.raises(ValueError, match="k must"):
        kmeans_regions(vectors, np.arange(2), 3)


def test_regions_of_more_rows_than_are_fitted_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    blob = np.repeat([0, 1], (300, 200))
    vectors = 5 * np.eye(2)[blob] + rng.normal(0, 0.1, (500, 2))
    monkeypatch.setattr("panderm.statistics.regions.FITTED", 50)
    assert np.array_equal(kmeans_regions(vectors, np.arange(500), 2)[0], blob)


def test_rates_and_gaps_of_regions_are_those_of_repeated_rows() -> None:
    rng = np.random.default_rng(3)
    wrong, region = rng.random(40) < 0.4, rng.integers(0, 3, 40)
    weights = rng.integers(0, 3, (5, 40)).astype(np.int32)
    found = region_errors(wrong, region)(weights)
    for b in range(5):
        rows = np.repeat(np.arange(40), weights[b])
        for i in range(3):
            inside = region[rows] == i
            assert found[f"rate {i}"][b] == pytest.approx(wrong[rows][inside].mean())
            rest = wrong[rows][~inside].mean()
            assert found[f"gap {i}"][b] == pytest.approx(wrong[rows][inside].mean() - rest)


def test_the_test_of_a_share_is_close_to_pearson_and_honest_under_the_null() -> None:
    wrong = np.repeat([1, 0, 1, 0], (40, 60, 50, 150))
    inside = np.repeat([True, False], (100, 200))
    table = [[40, 60], [50, 150]]
    ours = share_test(wrong, inside, np.arange(300))
    assert ours == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue, abs=0.01)
    rng = np.random.default_rng(4)
    cluster = np.repeat(np.arange(100), 3)
    ps = []
    for _ in range(400):
        bad = (rng.random(100) < 0.3)[cluster]  # a patient's images go wrong together
        ps.append(share_test(bad, np.repeat(rng.random(100) < 0.4, 3), cluster))
    rejected = np.mean([p < 0.05 for p in ps if p is not None])
    assert 0.02 < rejected < 0.09
    naive = []
    for _ in range(200):
        bad, side = (rng.random(100) < 0.3)[cluster], (rng.random(100) < 0.4)[cluster]
        naive.append(share_test(bad, side, np.arange(300)))
    assert np.mean([p < 0.05 for p in naive if p is not None]) > 0.15  # as if images were independent


def test_too_few_errors_have_no_p() -> None:
    wrong = np.zeros(200, dtype=bool)
    assert share_test(wrong, np.arange(200) < 100, np.arange(200)) is None
    wrong[:4] = True
    assert share_test(wrong, np.arange(200) < 50, np.arange(200)) is None


# -- the embeddings, found again ----------------------------------------------------------------------------


def test_embeddings_are_found_where_they_lay_and_fitted_rows_are_those_of_the_split(
    given: panderm.Predictions, embeddings: panderm.Embeddings
) -> None:
    space = find_space(given)
    assert isinstance(space, Space)
    assert given.card.folders == {embeddings.card.identity: str(embeddings.path)}
    assert np.array_equal(space.scored.rows.image[space.rows], given.image)
    assert set(space.trained.rows.split[space.fitted]) == {"train"}
    assert len(space.fitted) == given.card.method["train rows"]


def test_embeddings_are_found_beside_predictions_that_were_moved(
    predicted: Path, embeddings: panderm.Embeddings, tmp_path: Path
) -> None:
    shutil.copytree(predicted, tmp_path / "w.pred")
    text = (tmp_path / "w.pred" / "card.json").read_text()
    (tmp_path / "w.pred" / "card.json").write_text(text.replace(str(embeddings.path), "/gone/w.emb"))
    moved = panderm.open_predictions(tmp_path / "w.pred")
    found = find_space(moved)
    assert found == (
        "The embeddings that these predictions were made of could not be used: "
        "/gone/w.emb is not there any more."
    )
    assert embeddings.path is not None
    shutil.copytree(embeddings.path, tmp_path / "any.emb")
    assert isinstance(find_space(moved), Space)
    assert isinstance(find_space(moved, embeddings.path), Space)


def test_embeddings_of_others_are_refused_where_they_are_named_and_told_where_they_are_not(
    given: panderm.Predictions, embeddings: panderm.Embeddings
) -> None:
    card = given.card.model_copy(update={"embeddings": embeddings.card.model_copy(update={"format": 3})})
    other = replace(given, card=card, fitted=None)
    with pytest.raises(ArtifactError, match="must be those that the predictions were made of"):
        find_space(other, embeddings.path)
    assert "not on the card" in str(find_space(other))


def test_folds_have_the_rows_of_the_other_folds(embeddings: panderm.Embeddings) -> None:
    folded = panderm.cross_validate(embeddings, folds=3, C=0.01, progress=False)
    space = find_space(folded)
    assert isinstance(space, Space)
    assert folded.fold is not None
    for row, near in nearest_training(folded, space, [0, 40]).items():
        assert f"fold {folded.fold[row]}" not in [one.split for one in near]
        assert folded.image[row] not in [one.image for one in near]


# -- what is seen -------------------------------------------------------------------------------------------


def test_each_mistake_stands_beside_its_nearest_training_rows(given: panderm.Predictions) -> None:
    mistakes = list(most_confident_mistakes(given, beside=look(given)))
    assert mistakes
    space = find_space(given)
    assert isinstance(space, Space)
    vectors = np.asarray(space.trained.vectors, dtype=float)
    vectors = vectors - vectors[space.fitted].mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for one in mistakes:
        row = int(np.flatnonzero(space.scored.rows.image == one.image)[0])
        order = space.fitted[np.argsort(-(vectors[space.fitted] @ vectors[row]))][:4]
        assert [near.image for near in one.neighbours] == list(space.trained.rows.image[order])
        assert all(near.split == "train" and near.picture.data for near in one.neighbours)


def test_a_twin_among_the_training_rows_is_marked_and_another_label_of_it_doubted(
    given: panderm.Predictions, embeddings: panderm.Embeddings
) -> None:
    space = find_space(given)
    assert isinstance(space, Space)
    at, row = int(space.fitted[0]), 0
    label = str(space.trained.rows.label[at])
    other = next(name for name in given.classes if name != label)

    def as_if(truth: str, patient: str | None) -> panderm.Predictions:
        held = {"truth": given.truth, "patient": given.patient, "path": given.path, "sha256": given.sha256}
        changed = {"truth": truth, "patient": patient, "path": space.trained.rows.path[at], "sha256": None}
        columns: dict[str, Any] = {name: column.copy() for name, column in held.items()}
        for name, value in changed.items():
            columns[name][row] = value
        return replace(given, **columns)

    same = replace(space, rows=np.concatenate([[at], space.rows[1:]]))
    patient = space.trained.rows.patient[at]
    first = nearest_training(as_if(other, patient), same, [row])[row][0]
    assert first.image == space.trained.rows.image[at]
    assert first.similarity == pytest.approx(1)
    assert first.same == ("patient", "photo")
    assert first.doubt
    second = nearest_training(as_if(label, None), same, [row])[row][0]
    assert second.same == ("photo",)
    assert not second.doubt


def test_attention_is_of_the_encoder_on_the_card_and_of_no_other(
    given: panderm.Predictions, encoder: panderm.Encoder
) -> None:
    eye = Attention(given.card)
    rgb = panderm.read_image(given.path[0])
    assert eye.picture(rgb).startswith("data:image/jpeg;base64,")
    made_of = given.card.embeddings
    assert made_of is not None
    record = made_of.encoder.model_copy(update={"weights_sha256": "ab" * 32})
    card = given.card.model_copy(update={"embeddings": made_of.model_copy(update={"encoder": record})})
    with pytest.raises(ParentsError, match="differ in: weights_sha256"):
        Attention(card)
    gone = record.model_copy(update={"weights": "/gone/w.pth", "random": False})
    card = given.card.model_copy(update={"embeddings": made_of.model_copy(update={"encoder": gone})})
    with pytest.raises(UsageError, match="is not there any more"):
        Attention(card)


def test_folders_and_weights_come_once_for_each(given: panderm.Predictions) -> None:
    with pytest.raises(UsageError, match="--embeddings must be given once for each"):
        looks_of([given], embeddings=["a.emb", "b.emb"])
    with pytest.raises(UsageError, match="must come with --attention"):
        looks_of([given], weights=["w.pth"])


def test_malignancy_is_that_of_the_taxonomy_that_knows_the_classes() -> None:
    found, asked = malignancy_of(["mel", "nv", "bkl", "akiec", "bcc", "df", "vasc"])
    assert found["mel"] == "malignant"
    assert found["nv"] == "benign"
    assert found["akiec"] == "indeterminate"
    assert "ham10000" in asked
    assert malignancy_of(["benign", "Malignant"])[0] == {"benign": "benign", "Malignant": "malignant"}
    assert malignancy_of(["0", "1"]) == ({}, ())


def test_pairs_count_what_the_confusion_matrix_counts_dangerous_ones_first(entry: Entry) -> None:
    pairs = pairs_of([entry], {"melanoma": "malignant", "nevus": "benign"})
    classes, matrix = entry.scores.classes, np.array(entry.scores.confusion)
    wrong = matrix - np.diag(np.diag(matrix))
    assert sum(pair.counts[0] for pair in pairs) == wrong.sum() > 0
    for pair in pairs:
        t, p = classes.index(pair.truth), classes.index(pair.predicted)
        assert pair.counts[0] == matrix[t, p]
        assert pair.shares[0].value == pytest.approx(matrix[t, p] / matrix[t].sum())
        assert pair.danger == ((pair.truth, pair.predicted) == ("melanoma", "nevus"))
    assert [pair.danger for pair in pairs] == sorted((pair.danger for pair in pairs), reverse=True)
    section = confusion_section([entry, entry])
    assert section is not None
    assert len(section.tables[0].header) == 4


def test_regions_hold_every_row_once_and_their_errors(entry: Entry) -> None:
    space = entry.look.space
    assert space is not None
    regions = regions_of(entry, space)
    wrong = entry.predictions.predicted_codes() != entry.predictions.truth_codes()
    assert sorted(np.concatenate([one.rows for one in regions])) == list(range(len(wrong)))
    for one in regions:
        if one.rate.value is None:
            assert one.units < 10
            assert one.p is None
        else:
            assert one.rate.value == pytest.approx(wrong[one.rows].mean())
    groups = groups_of_mistakes(entry, space)
    if groups:
        assert sorted(np.concatenate(groups)) == np.flatnonzero(wrong).tolist()


def test_pages_of_one_and_of_several_show_them(predicted: Path, embeddings: panderm.Embeddings) -> None:
    scores = evaluate(panderm.open_predictions(predicted), draws=DRAWS, progress=False)
    page = Report(predicted, scores, attention=True, progress=False).html()
    assert "nearest of the" in page
    assert "no explanation" in page
    assert "Confusion by pair" in page
    assert page.count('class="near"') > 1
    assert "under the encoder’s attention" in page
    other = panderm.probe(embeddings, kind="prototypes", progress=False)
    both = [panderm.open_predictions(predicted), other]
    scored = [evaluate(one, draws=DRAWS, progress=False) for one in both]
    page = Report(both, scored, progress=False).html()
    assert "A: images · share" in page
    assert 'class="cases"' in page
    assert not re.search(r"<img[^>]*alt=\"\"", page)


def test_predictions_of_a_file_have_pairs_and_no_neighbours(tmp_path: Path) -> None:
    lines = [
        "image,dx,p_mel,p_nv",
        *(f"{i},{'mel' if i % 2 else 'nv'},{i / 40},{1 - i / 40}" for i in range(40)),
    ]
    (tmp_path / "p.csv").write_text("\n".join(lines))
    columns = FileColumns(truth=["dx"], proba=["p_*"], image="image")
    read = read_predictions(tmp_path / "p.csv", columns)
    assert isinstance(read, panderm.Predictions)
    page = Report(read, progress=False).html()
    assert "malignant taken for benign" in page
    assert 'class="cases"' not in page
    assert what_is_beside([look(read)]) == []
