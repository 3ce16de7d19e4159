"""Candidates by embedding, and what a second look makes of a pair."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import panderm
from panderm.data.duplicates import find_pairs, fingerprint
from panderm.gate import lookalikes
from panderm.gate.lookalikes import candidates_by_embedding, settle
from panderm.gate.twins import Twin


def test_an_embedding_that_lies_apart_with_another_is_a_candidate() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 32)).astype(np.float32) + 5
    vectors[150] = vectors[20] + 0.2 * rng.normal(size=32)
    found = candidates_by_embedding(vectors)
    assert found[0][:2] == (20, 150)
    assert len(found) < 10  # of 19,900 pairs
    assert 0.9 < found[0][2] < 1


def test_the_rule_knows_no_scale_and_no_origin() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(100, 16)).astype(np.float32)
    vectors[60] = vectors[3] * 1.1
    other = candidates_by_embedding((vectors * 300 + 7).astype(np.float32))
    assert other[0][:2] == (3, 60)
    assert {pair[:2] for pair in candidates_by_embedding(vectors)} == {pair[:2] for pair in other}


def test_a_handful_of_copies_does_not_hide_itself() -> None:
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(100, 32)).astype(np.float32)
    vectors[1:5] = vectors[0] + 0.1 * rng.normal(size=(4, 32))
    found = {pair[:2] for pair in candidates_by_embedding(vectors)[:10]}
    assert found == {(a, b) for a in range(5) for b in range(a + 1, 5)}


@pytest.mark.parametrize("n", [0, 1, 2])
def test_of_few_there_is_nothing_to_stand_out_from(n: int) -> None:
    assert candidates_by_embedding(np.ones((n, 4), np.float32)) == []


@pytest.mark.parametrize(
    ("twin", "known", "one", "kept"),
    [
        (Twin(0, 1, "near", 0.955), True, False, False),
        (Twin(0, 1, "near", 0.955), True, True, True),
        (Twin(0, 1, "same pixels", 1.0), True, False, True),  # not looked at
        (Twin(0, 1, "near", 0.90), False, True, True),
        (Twin(0, 1, "near", 0.90), False, False, False),
    ],
)
def test_what_a_second_look_decides(
    twin: Twin, known: bool, one: bool, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookalikes, "second_looks", lambda _, twins, **__: [one for _ in twins])
    sure, perhaps = ([twin], []) if known else ([], [twin])
    found, beyond = settle(None, sure, perhaps, max_megapixels=1)  # type: ignore[arg-type]
    assert found == ([twin] if kept else [])
    assert beyond == 0


def rough(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(rng.integers(40, 256, (n, n, 3), dtype=np.uint8)).resize((320, 240)), float
        )
        for n in (4, 12, 40)
    ]
    return Image.fromarray((sum(layers) / 3).astype(np.uint8))


def test_a_black_frame_that_all_share_makes_no_duplicates(tmp_path: Path) -> None:
    """To the hash, whose weight lies on the frame's sharp edge, these are near."""
    frame = np.hypot(*np.mgrid[-1.2:1.2:240j, -1.6:1.6:320j]) < 1.1
    prints = []
    for i in range(3):
        faint = 140 + (np.asarray(rough(i), float) - 148) / 2
        Image.fromarray((faint * frame[..., None]).astype(np.uint8)).save(tmp_path / f"{i}.png")
        prints.append(fingerprint(panderm.read_image(tmp_path / f"{i}.png")))
    assert len(find_pairs(prints)) == 3
    with (tmp_path / "skin.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["image"], *([f"{i}.png"] for i in range(3))])
    assert panderm.check(tmp_path / "skin.csv", progress=False).counts == {}


def test_what_gets_no_second_look_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookalikes, "MOST", 2)
    monkeypatch.setattr(lookalikes, "second_looks", lambda _, twins, **__: [True for _ in twins])
    perhaps = [Twin(0, i, "near", 0.88 + i / 100) for i in range(1, 6)]
    found, beyond = settle(None, [], perhaps, max_megapixels=1)  # type: ignore[arg-type]
    assert [twin.second for twin in found] == [4, 5]  # the most alike
    assert beyond == 3


def test_embeddings_bring_a_crop_that_no_hash_finds(
    encoder: panderm.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which pairs an encoder offers is its own affair; what is made of the pair is the gate's."""
    for i in range(12):
        rough(100 + i).save(tmp_path / f"{i}.png")
    with Image.open(tmp_path / "0.png") as opened:
        opened.crop((90, 40, 300, 200)).save(tmp_path / "1.png")
    with (tmp_path / "skin.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["image"], *([f"{i}.png"] for i in range(12))])
    table = panderm.read_table(tmp_path / "skin.csv", progress=False)
    made = encoder.embed(table, tmp_path / "skin.emb", progress=False)

    monkeypatch.setattr(lookalikes, "candidates_by_embedding", lambda _: [(0, 1, 0.8), (2, 3, 0.9)])
    assert panderm.check(tmp_path / "skin.csv", progress=False).counts == {}
    checked = panderm.check(tmp_path / "skin.csv", embeddings=made.path, progress=False)
    assert checked.counts == {"near-duplicates": 1}
    assert checked.notes[0].places[0].rows == (2, 3)
    assert checked.notes[0].places[0].text == "similarity of embeddings 0.800"
