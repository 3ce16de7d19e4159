"""The manifest of the nine published datasets agrees with itself and with what else is known of them."""

from __future__ import annotations

import numpy as np
import pytest

from panderm.benches.published import NINE, PublishedDataset
from panderm.data.sources.known import KNOWN
from panderm.models.cards import KNOWN as ENCODERS
from panderm.statistics.classification import score_names

BY_NAME = {one.name: one for one in NINE}
CLASSES = {
    "ham10000": 7,
    "bcn20000": 9,
    "mskcc": 2,
    "hiba": 2,
    "padufes20": 6,
    "derm7pt-clinical": 2,
    "ddi": 2,
    "dermnet": 23,
    "patch16": 16,
}


def test_these_are_the_nine() -> None:
    assert {one.name: one.classes for one in NINE} == CLASSES
    sources = {source.name for source in KNOWN}
    assert {one.data for one in NINE} <= sources
    assert "panderm-large" in {card.name for card in ENCODERS}


@pytest.mark.parametrize("one", NINE, ids=lambda one: one.name)
def test_counts_sum_and_numbers_are_scores_of_these_classes(one: PublishedDataset) -> None:
    assert not one.class_names or len(one.class_names) == one.classes
    for split in one.splits:
        assert sum(split.rows.values()) <= one.images or split.name == "official"
        for name, counts in split.per_class.items():
            assert len(counts) == one.classes
            assert sum(counts) == split.rows[name]
        for number in split.numbers:
            assert number.score in score_names(one.classes)
            assert 0 < number.value < 1
            assert number.source
        large = [n.score for n in split.numbers if n.encoder == "panderm-large"]
        assert one.score in large
        assert len(set(large)) == len(large)


def test_pad_leaves_the_val_rows_that_its_authors_count() -> None:
    """Classes of the whole dataset, less train and test, are the 344 of the val split, class by class."""
    one = BY_NAME["padufes20"]
    source = next(source for source in KNOWN if source.name == one.data)
    whole = {count.label: count.n for count in source.counts if count.label and count.unit == "images"}
    train, test = one.splits[0].per_class["train"], one.splits[0].per_class["test"]
    left = [whole[name] - a - b for name, a, b in zip(one.class_names, train, test, strict=True)]
    assert min(left) > 0
    assert sum(left) == one.splits[0].rows["val"]


def test_published_scores_of_ham_agree_with_its_published_confusion_matrix() -> None:
    """Rows true, columns predicted, as the published code's results give it for the clean split."""
    matrix = np.array(
        [
            [21, 8, 3, 0, 1, 2, 0],
            [2, 36, 1, 0, 3, 2, 0],
            [3, 2, 85, 0, 5, 12, 0],
            [0, 0, 0, 7, 0, 1, 0],
            [1, 3, 9, 0, 44, 13, 0],
            [0, 4, 6, 1, 10, 930, 0],
            [0, 0, 0, 0, 0, 2, 15],
        ]
    )
    split = BY_NAME["ham10000"].splits[0]
    assert tuple(matrix.sum(axis=1)) == split.per_class["test"]
    said = {n.score: n.value for n in split.numbers if n.encoder == "panderm-large"}
    hits, rows, called = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    assert hits.sum() / matrix.sum() == pytest.approx(said["accuracy"], abs=1e-6)
    assert (hits / rows).mean() == pytest.approx(said["balanced_accuracy"], abs=1e-6)
    f1 = 2 * hits / (rows + called)
    assert (f1 * rows).sum() / rows.sum() == pytest.approx(said["weighted_f1"], abs=1e-6)
