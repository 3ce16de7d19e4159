"""The drawn world keeps what it promises, because every other test takes its word for the truth."""

from __future__ import annotations

import csv
import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from panderm.data.drawn import (
    CLASSES,
    COMMENT,
    FOLLOW_UP,
    GROWTH,
    HAZARD,
    SITES,
    TONES,
    DrawnRow,
    DrawnWorld,
    draw_lesion,
    draw_table,
    draw_world,
)
from panderm.errors import ArtifactError, UsageError

SMALL = (64, 48)
VISIBLE = 8.0  # levels of 255 by which a lesion differs from the skin around it, at the least
STANDARD_ERRORS = 4.0  # how far an estimate from many rows may lie from the constant it estimates
SHARE = 0.03  # how far a share of many rows may lie from the one it was dealt by
ZOOM = 1.04 / 0.96  # two pictures of one lesion differ in scale by this much at most
PIXELS = 0.06  # share by which an area may change as its outline moves over the pixels


def rows_of(world: DrawnWorld) -> list[dict[str, str]]:
    with world.csv.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def rows(world: DrawnWorld) -> list[dict[str, str]]:
    return rows_of(world)


@pytest.fixture(scope="module")
def many() -> list[DrawnRow]:
    return draw_table(n=16_000, patients=4_000, seed=3)


def lesions_of(many: list[DrawnRow]) -> list[DrawnRow]:
    return list({row.lesion_id: row for row in many}.values())


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        draw_world(tmp_path / name, n=16, seed=seed, size=SMALL)
    first, again, other = (files_of(tmp_path / name) for name in "abc")
    assert first == again
    assert len(first) == 1 + 16 + 16
    assert first["images/P001-L1-1.jpg"] != other["images/P001-L1-1.jpg"]


def test_small_world_is_the_beginning_of_a_larger_one(tmp_path: Path) -> None:
    # The small world's last patient takes what is left of its images, so she is left out.
    small = draw_table(n=60, patients=20, seed=5)
    large = draw_table(n=120, patients=40, seed=5)
    common = [row for row in small if row.patient_id != small[-1].patient_id]
    assert len(common) > 50
    assert large[: len(common)] == common

    a = draw_world(tmp_path / "a", n=15, patients=15, seed=5, size=SMALL)
    b = draw_world(tmp_path / "b", n=17, patients=17, seed=5, size=SMALL)
    for row in rows_of(a):
        assert (a.images / row["image"]).read_bytes() == (b.images / row["image"]).read_bytes()
        assert (a.masks / row["mask"]).read_bytes() == (b.masks / row["mask"]).read_bytes()


def test_folder_holds_what_the_table_names(world: DrawnWorld, rows: list[dict[str, str]]) -> None:
    assert len(rows) == world.n == 90
    assert len({row["patient_id"] for row in rows}) == world.patients
    assert {row["image"] for row in rows} == {path.name for path in world.images.iterdir()}
    assert {row["mask"] for row in rows} == {path.name for path in world.masks.iterdir()}
    assert set(world.classes) == {row["label"] for row in rows}
    assert {row["tone"] for row in rows} <= set(TONES)
    assert {row["site"] for row in rows} <= set(SITES)
    assert list(rows[0]) == [
        *("image", "label", "split", "patient_id", "lesion_id", "site"),
        *("tone", "area", "visit", "time", "event", "mask"),
    ]


def test_images_are_rgb_and_say_that_they_are_drawn(world: DrawnWorld) -> None:
    for path in sorted(world.images.iterdir())[:5]:
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (120, 90))
            assert image.info["comment"] == COMMENT == b"drawn by panderm, not a photograph"


def test_area_is_the_masks(world: DrawnWorld, rows: list[dict[str, str]]) -> None:
    for row in rows:
        with Image.open(world.masks / row["mask"]) as image:
            assert (image.mode, image.size) == ("1", (120, 90))
            grey = np.asarray(image.convert("L"))
        assert set(np.unique(grey)) == {0, 255}
        assert np.count_nonzero(grey) == int(row["area"])


def test_mask_is_the_visible_lesion(world: DrawnWorld, rows: list[dict[str, str]]) -> None:
    for row in rows:
        with Image.open(world.masks / row["mask"]) as image:
            mask = np.asarray(image)
        with Image.open(world.images / row["image"]) as image:
            pixels = np.asarray(image).astype(float)
        inside, outside = pixels[mask].mean(axis=0), pixels[~mask].mean(axis=0)
        assert np.abs(inside - outside).max() > VISIBLE, row["image"]


def test_edge_of_the_mask_is_the_edge_of_the_lesion() -> None:
    # A mask moved aside separates the colours less well than the mask itself.
    for seed, label in enumerate(CLASSES):
        pixels, mask = draw_lesion(np.random.default_rng(seed), label=label, difficulty=0)
        grey = pixels.mean(axis=2)

        def contrast(moved: np.ndarray, grey: np.ndarray = grey) -> float:
            return float(abs(grey[moved].mean() - grey[~moved].mean()))

        for shift in ((0, 25), (0, -25), (25, 0), (-25, 0)):
            assert contrast(np.roll(mask, shift, axis=(0, 1))) < contrast(mask)


def test_lesion_keeps_its_patient_class_outcome_and_outline(
    world: DrawnWorld, rows: list[dict[str, str]]
) -> None:
    repeats = defaultdict(list)
    for row in rows:
        repeats[row["lesion_id"]].append(row)
    shared = ("patient_id", "label", "split", "site", "tone", "time", "event")
    for same in repeats.values():
        assert all(len({row[name] for row in same}) == 1 for name in shared)
        assert [row["visit"] for row in same] == ["1", "2", "2"][: len(same)]
        first = same[0]
        for row in same[1:]:
            grown = GROWTH[row["label"]]
            ratio = math.sqrt(int(row["area"]) / int(first["area"])) / grown
            assert 1 / ZOOM - PIXELS < ratio < ZOOM + PIXELS
            assert (world.images / row["image"]).read_bytes() != (world.images / first["image"]).read_bytes()
    assert sum(len(same) > 1 for same in repeats.values()) >= 10


@settings(max_examples=40, deadline=None)
@given(st.integers(15, 60), st.integers(0, 200), st.integers(0, 2**40))
def test_splits_hold_whole_patients_and_every_class(patients: int, more: int, seed: int) -> None:
    table = draw_table(n=patients + more, patients=patients, seed=seed)
    assert len(table) == patients + more
    assert len({row.image for row in table}) == len(table)
    splits = defaultdict(set)
    for row in table:
        splits[row.patient_id].add(row.split)
    assert len(splits) == patients
    assert all(len(names) == 1 for names in splits.values())
    for split in ("train", "val", "test"):
        assert {row.label for row in table if row.split == split} == set(CLASSES)


def test_shares_are_the_stated_ones(many: list[DrawnRow]) -> None:
    labels = Counter(row.label for row in many)
    splits = Counter(row.split for row in many)
    for counts, shares in (
        (labels, {"nevus": 0.6, "melanoma": 0.2, "keratosis": 0.2}),
        (splits, {"train": 0.6, "val": 0.15, "test": 0.25}),
    ):
        for name, share in shares.items():
            assert counts[name] / len(many) == pytest.approx(share, abs=SHARE)
    sizes = Counter(row.patient_id for row in many).values()
    assert min(sizes) >= 1
    assert max(sizes) <= 2 * 4
    assert len(set(sizes)) >= 4


@pytest.mark.parametrize("label", CLASSES)
def test_survival_times_have_the_stated_hazard(many: list[DrawnRow], label: str) -> None:
    mine = [row for row in lesions_of(many) if row.label == label]
    events = sum(row.event for row in mine)
    hazard = events / sum(row.time for row in mine)
    assert abs(hazard - HAZARD[label]) < STANDARD_ERRORS * HAZARD[label] / math.sqrt(events)

    # An exponential time has no memory: late months are as dangerous as early ones.
    late = [row for row in mine if row.time > FOLLOW_UP[0]]
    events = sum(row.event for row in late)
    hazard = events / sum(row.time - FOLLOW_UP[0] for row in late)
    assert abs(hazard - HAZARD[label]) < STANDARD_ERRORS * HAZARD[label] / math.sqrt(events)


def test_lesions_without_an_event_were_followed_as_long_as_their_patient(many: list[DrawnRow]) -> None:
    ends = defaultdict(set)
    for row in many:
        assert 0.1 <= row.time <= FOLLOW_UP[1]
        if not row.event:
            assert row.time >= FOLLOW_UP[0]
            ends[row.patient_id].add(row.time)
    assert all(len(times) == 1 for times in ends.values())


def test_lesion_alone_is_pure_and_of_the_asked_size() -> None:
    one, two = (draw_lesion(np.random.default_rng(4), label="nevus", tone="VI", size=(80, 50)) for _ in "ab")
    assert one[0].shape == (50, 80, 3)
    assert one[0].dtype == np.uint8
    assert one[1].shape == (50, 80)
    assert one[1].dtype == np.bool_
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from(CLASSES),
    st.sampled_from(TONES),
    st.tuples(st.integers(32, 90), st.integers(32, 90)),
    st.floats(0, 1),
)
def test_any_lesion_can_be_drawn(
    seed: int, label: str, tone: str, size: tuple[int, int], difficulty: float
) -> None:
    pixels, mask = draw_lesion(
        np.random.default_rng(seed), label=label, tone=tone, size=size, difficulty=difficulty, growth=1.15
    )
    assert pixels.shape == (*size[::-1], 3)
    assert 0 < mask.mean() < 1


def test_darker_tones_are_darker() -> None:
    def skin(tone: str) -> float:
        pixels, mask = draw_lesion(np.random.default_rng(2), label="nevus", tone=tone, size=SMALL)
        return float(pixels[~mask].mean())

    assert all(np.diff([skin(tone) for tone in TONES]) < 0)


def test_melanomas_are_more_ragged_and_more_colourful_than_nevi() -> None:
    def look(label: str, seed: int) -> tuple[float, float]:
        pixels, mask = draw_lesion(np.random.default_rng(seed), label=label, difficulty=0)
        border = np.count_nonzero(np.diff(mask, axis=0)) + np.count_nonzero(np.diff(mask, axis=1))
        return border / math.sqrt(mask.sum()), float(pixels[mask].std(axis=0).mean())

    nevi, melanomas = (np.array([look(label, s) for s in range(8)]) for label in ("nevus", "melanoma"))
    assert (melanomas.mean(axis=0) > nevi.mean(axis=0)).all()


def test_existing_folder_is_refused_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "mine.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="must not exist already"):
        draw_world(tmp_path / "world", n=15, size=SMALL)
    with pytest.raises(ArtifactError, match="only a folder that panderm wrote may be replaced"):
        draw_world(tmp_path / "world", n=15, size=SMALL, overwrite=True)
    assert (tmp_path / "world" / "mine.txt").read_text() == "mine"


def test_a_drawn_world_is_replaced_when_asked(tmp_path: Path) -> None:
    before = draw_world(tmp_path / "world", n=15, size=SMALL)
    (before.images / "extra.jpg").write_bytes(b"left from before")
    after = draw_world(tmp_path / "world", n=16, size=SMALL, overwrite=True)
    assert after.n == 16
    assert not (after.images / "extra.jpg").exists()


def test_too_few_images_for_every_class_in_every_split(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        draw_world(tmp_path / "world", n=14)
    assert str(caught.value) == (
        "a drawn world must have every class in every split, and an image of every patient.\n"
        "  n=14, patients=15\n"
        "  hint: ask for at least 15 patients and at least as many images as patients"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n": 60, "patients": 14}, "every class in every split"),
        ({"n": 60, "patients": 61}, "an image of every patient"),
        ({"seed": -1}, "a seed must be 0 or more"),
        ({"size": (300, 31)}, "at least 32 pixels wide and high"),
        ({"difficulty": 1.5}, "a difficulty must be from 0 to 1"),
        ({"difficulty": math.nan}, "a difficulty must be from 0 to 1"),
    ],
)
def test_arguments_out_of_bounds_are_refused(tmp_path: Path, arguments: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        draw_world(tmp_path / "world", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_unknown_words_are_refused_with_the_nearest_known() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(UsageError, match=r"a label must be one of nevus, melanoma, keratosis") as caught:
        draw_lesion(rng, label="melonoma")
    assert "did you mean 'melanoma'?" in str(caught.value)
    with pytest.raises(UsageError, match=r"a tone must be one of I, II, III, IV, V, VI"):
        draw_lesion(rng, label="nevus", tone="2")
