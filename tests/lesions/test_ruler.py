"""Rulers that are drawn: their scale is found, however they are turned, or refused; hair is none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from drawn_shapes import SKIN, Image8, ruler

from panderm.errors import DataError
from panderm.lesions.ruler import NoRuler, Ruler, find_ruler


def found(image: Image8) -> Ruler:
    answer = find_ruler(image)
    assert isinstance(answer, Ruler), answer.reason
    return answer


@pytest.mark.parametrize(
    ("step", "turn", "blur", "noise"),
    [(15.0, 0, 0.5, 2), (12.3, 33, 0.7, 3), (21.7, 90, 1.2, 4), (30.0, 161, 1.5, 6)],
)
def test_a_plain_scale(step: float, turn: float, blur: float, noise: float) -> None:
    one = found(ruler(step, 11, turn, blur=blur, noise=noise, length=12))
    assert one.ticks_per_mark == 1
    assert one.pixels_per_mark == pytest.approx(step, rel=0.003)
    assert one.error < 0.01 * step
    assert len(one.ticks) >= 10
    away = one.ticks[-1] - one.ticks[0]
    off = np.degrees(np.arctan2(-away[1], away[0])) - turn
    assert abs((off + 90) % 180 - 90) < 8
    assert one.marks.all()


@pytest.mark.parametrize(("every", "turn"), [(5, 20), (10, 75), (2, 140)])
def test_long_marks_are_what_counts(every: int, turn: float) -> None:
    """Ticks of 8 pixels: the scale is that of the longer marks, which are seen in smaller images too."""
    one = found(ruler(8.0, max(21, 4 * every + 1), turn, every=every, size=440, base=True))
    assert one.ticks_per_mark == every
    assert one.pixels_per_mark == pytest.approx(8 * every, rel=0.01)
    assert set((one.numbers[one.marks] % every).tolist()) in ({0}, {1}, {every - 1})


def test_in_a_smaller_image_the_same_scale() -> None:
    """The fine ticks of 2.4 pixels are lost, the marks are not: the answer is the same, or a refusal."""
    large = ruler(8.0, 51, 12, every=10, size=500, base=True, noise=1)
    small = cv2.resize(large, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
    assert found(large).pixels_per_mark == pytest.approx(80, rel=0.01)
    answer = find_ruler(small)
    assert isinstance(answer, NoRuler) or answer.pixels_per_mark == pytest.approx(24, rel=0.02)


def test_hidden_ticks_are_counted_over() -> None:
    image = ruler(16.0, 15, 25, length=12)
    whole = found(image)
    x, y = (round(v) for v in whole.ticks[6])
    image[y - 14 : y + 15, x - 6 : x + 7] = SKIN
    one = found(image)
    assert len(one.ticks) < one.numbers[-1] + 1
    assert one.pixels_per_mark == pytest.approx(16, rel=0.01)


def test_three_ticks_are_too_few_and_unequal_ones_none() -> None:
    assert isinstance(find_ruler(ruler(30.0, 3, 10, length=15)), NoRuler)
    unequal = np.full((400, 400, 3), SKIN, np.uint8)
    for x in (60, 95, 121, 170, 188, 240, 291, 310):
        cv2.line(unequal, (x, 190), (x, 205), (30, 30, 30), 2)
    assert isinstance(find_ruler(unequal), NoRuler)


def test_lengths_without_an_order_are_refused() -> None:
    image = np.full((400, 400, 3), SKIN, np.uint8)
    for k, length in enumerate((9, 24, 10, 9, 30, 9, 22, 25, 9, 10, 9, 28, 9)):
        cv2.line(image, (60 + 20 * k, 200), (60 + 20 * k, 200 - length), (30, 30, 30), 2)
    answer = find_ruler(image)
    assert isinstance(answer, NoRuler)
    assert "order" in answer.reason
    assert answer.seen is not None
    assert answer.seen.pixels_per_tick == pytest.approx(20, rel=0.01)


def test_two_rulers_that_differ_are_refused_and_two_alike_are_one_scale() -> None:
    def both(other: float) -> Image8:
        top = ruler(14.0, 15, 0, size=300, length=12, seed=1)
        bottom = ruler(other, 15, 0, size=300, length=12, seed=2)
        return np.concatenate([top[50:250], bottom[50:250]])

    answer = find_ruler(both(18.9))
    assert isinstance(answer, NoRuler)
    assert "do not agree" in answer.reason
    assert found(both(14.0)).pixels_per_mark == pytest.approx(14, rel=0.01)


@pytest.mark.parametrize("seed", range(2))
def test_hair_and_texture_are_no_ruler(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = np.full((300, 400, 3), SKIN, np.uint8)
    for _ in range(40):
        x, y = int(rng.integers(400)), int(rng.integers(300))
        end = (x + int(rng.integers(-60, 60)), y + int(rng.integers(-60, 60)))
        cv2.line(image, (x, y), end, (60, 45, 40), int(rng.integers(1, 3)), cv2.LINE_AA)
    texture = cv2.GaussianBlur(rng.normal(0, 60, image.shape[:2]), (0, 0), 2)[..., None]
    image = np.clip(image + texture, 0, 255).astype(np.uint8)
    assert isinstance(find_ruler(image), NoRuler)


def test_the_lesion_is_not_looked_at() -> None:
    image = ruler(15.0, 13, 0, length=12)
    lesion = np.zeros((400, 400), dtype=bool)
    lesion[150:250] = True
    answer = find_ruler(image, lesion=lesion)
    assert isinstance(answer, NoRuler)


def test_what_is_no_image() -> None:
    assert isinstance(find_ruler(np.zeros((3, 5, 3), np.uint8)), NoRuler)
    with pytest.raises(DataError, match="RGB"):
        find_ruler(np.zeros((30, 30), np.uint8))
    with pytest.raises(DataError, match="as large"):
        find_ruler(np.zeros((30, 30, 3), np.uint8), lesion=np.zeros((30, 31), dtype=bool))
