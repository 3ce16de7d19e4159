"""Artefacts drawn on a drawn lesion are found, on the clean one they are not, and at any size."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from panderm import find_artefacts
from panderm.data.artefacts.record import FLAGS, Artefacts
from panderm.data.artefacts.tone import EDGES, TONES, tone_of
from panderm.data.artefacts.working import SIDE, prepare
from panderm.data.drawn import draw_lesion
from panderm.errors import DataError, UsageError

Image8 = npt.NDArray[np.uint8]
NAMES = tuple(flag.name for flag in FLAGS)
INK = (70, 50, 150)


def skin(
    seed: int = 3, *, label: str = "nevus", tone: str = "II", size: tuple[int, int] = (640, 480)
) -> Image8:
    """A drawn lesion without hair of its own, with the grain of a photograph."""
    pixels, _ = draw_lesion(np.random.default_rng(seed), label=label, tone=tone, size=size)
    calm = cv2.medianBlur(pixels, 21)
    grain = np.random.default_rng(seed).normal(0, 12, calm.shape)
    return np.clip(calm + grain, 0, 255).astype(np.uint8)


def hairs(rgb: Image8, n: int, *, pale: bool = False) -> Image8:
    """n hairs across the image, each its own gentle curve."""
    rng = np.random.default_rng(7)
    made = rgb.copy()
    height, width = rgb.shape[:2]
    for _ in range(n):
        x, y, bend = rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.5) * height, rng.uniform(-60, 60)
        t = np.linspace(0, 1, 40)
        line = np.stack([x + bend * np.sin(2 * t), y + 0.45 * height * t], axis=1)
        colour = (250, 245, 235) if pale else (50, 35, 30)
        cv2.polylines(made, [np.rint(line).astype(np.int32)], False, colour, 3, cv2.LINE_AA)
    return made


def scale(rgb: Image8, *, ticks: int = 9, step: float = 26.0, degrees: float = 0.0) -> Image8:
    made = rgb.copy()
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    for i in range(ticks):
        x, y = 60 + i * step * c, 430 - i * step * s
        cv2.line(
            made, (round(x), round(y)), (round(x - 14 * s), round(y - 14 * c)), (20, 20, 20), 2, cv2.LINE_AA
        )
    return made


def penned(rgb: Image8) -> Image8:
    made = rgb.copy()
    cv2.ellipse(made, (320, 240), (230, 180), 0, 200, 320, INK, 9, cv2.LINE_AA)
    return made


def bubble(rgb: Image8) -> Image8:
    made = rgb.copy()
    cv2.circle(made, (90, 100), 16, (255, 255, 255), 2, cv2.LINE_AA)
    return made


def tube(rgb: Image8) -> Image8:
    height, width = rgb.shape[:2]
    inside = np.zeros((height, width, 1), np.uint8)
    cv2.circle(inside, (width // 2, height // 2), round(0.56 * width), 1, -1)
    return rgb * inside


def soft(rgb: Image8) -> Image8:
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), 3.5), dtype=np.uint8)


def pale(rgb: Image8) -> Image8:
    """The lesion fades into the skin."""
    ground = np.median(rgb[:60].reshape(-1, 3), axis=0)
    return np.clip(ground + 0.2 * (rgb - ground), 0, 255).astype(np.uint8)


def clothed(rgb: Image8) -> Image8:
    made = rgb.copy()
    made[:, :150] = (40, 90, 60)
    return made


DRAWN = {
    "hair": lambda rgb: hairs(rgb, 9),
    "ruler": scale,
    "ink": penned,
    "gel": bubble,
    "dark_corners": tube,
    "blur": soft,
    "low_contrast": pale,
    "non_skin": clothed,
}


@pytest.fixture(scope="module")
def clean() -> Image8:
    return skin()


@pytest.mark.parametrize("seed", range(3, 9))
def test_a_clean_picture_has_none(seed: int) -> None:
    found = find_artefacts(skin(seed))
    assert [name for name in NAMES if found.says(name)] == []


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_is_found(name: str, clean: Image8) -> None:
    before, after = find_artefacts(clean), find_artefacts(DRAWN[name](clean))
    assert not before.says(name)
    assert after.says(name), getattr(after, name)


@pytest.mark.parametrize("name", ["hair", "ruler", "ink", "dark_corners", "low_contrast", "non_skin"])
@pytest.mark.parametrize("times", [0.6, 1.0, 2.0])
def test_the_size_of_the_file_does_not_matter(name: str, times: float, clean: Image8) -> None:
    marked = DRAWN[name](clean)
    way = cv2.INTER_AREA if times < 1 else cv2.INTER_LINEAR
    other = np.asarray(cv2.resize(marked, None, fx=times, fy=times, interpolation=way), dtype=np.uint8)
    own, found = find_artefacts(marked), find_artefacts(other)
    assert found.says(name)
    if name != "ruler":  # a logarithm of chance, that one tick changes by one or two
        assert getattr(found, name) == pytest.approx(getattr(own, name), rel=0.25, abs=0.02)
    assert found.ita == pytest.approx(own.ita, abs=1.0)


def test_a_blurred_picture_stays_blurred_when_enlarged(clean: Image8) -> None:
    large = np.asarray(cv2.resize(soft(clean), None, fx=2, fy=2), dtype=np.uint8)
    assert find_artefacts(large).says("blur")
    assert not find_artefacts(np.asarray(cv2.resize(clean, None, fx=2, fy=2), dtype=np.uint8)).says("blur")


def test_more_hair_is_more(clean: Image8) -> None:
    lengths = [find_artefacts(hairs(clean, n)).hair for n in (0, 3, 8, 20)]
    assert lengths == sorted(lengths)
    assert lengths[0] == 0
    assert lengths[-1] > 2 * lengths[1]


@pytest.mark.parametrize("length", [0.3, 0.6, 0.9])
def test_the_length_of_a_hair_is_roughly_its_own(length: float, clean: Image8) -> None:
    made = clean.copy()
    cv2.line(made, (60, 20), (60, 20 + round(length * 480)), (50, 35, 30), 3, cv2.LINE_AA)
    assert find_artefacts(made).hair == pytest.approx(length, rel=0.3)


def test_pale_hair_counts_too(clean: Image8) -> None:
    assert find_artefacts(hairs(clean, 9, pale=True)).says("hair")


@pytest.mark.parametrize("degrees", [0, 17, 40])
def test_a_scale_is_found_at_any_angle_and_a_longer_one_is_surer(degrees: float, clean: Image8) -> None:
    few, many = (find_artefacts(scale(clean, ticks=n, degrees=degrees)).ruler for n in (5, 10))
    assert 1.2 < few < many


def test_strokes_here_and_there_are_no_ruler(clean: Image8) -> None:
    rng = np.random.default_rng(2)
    for draw in range(3):
        made = clean.copy()
        for x, y, turn in rng.uniform((30, 30, 0), (610, 450, math.pi), (9, 3)):
            end = (round(x + 14 * math.cos(turn)), round(y + 14 * math.sin(turn)))
            cv2.line(made, (round(x), round(y)), end, (20, 20, 20), 2, cv2.LINE_AA)
        assert not find_artefacts(made).says("ruler"), draw


@pytest.mark.parametrize("times", [0.6, 0.4, 0.25])
def test_shade_is_no_ink(times: float, clean: Image8) -> None:
    shaded = clean.astype(np.float32)
    shaded[:, 400:] *= times
    assert not find_artefacts(shaded.astype(np.uint8)).says("ink")


def test_a_larger_frame_is_more(clean: Image8) -> None:
    height, width = clean.shape[:2]
    shares = []
    for radius in (0.6, 0.5, 0.4):
        inside = np.zeros((height, width, 1), np.uint8)
        cv2.circle(inside, (width // 2, height // 2), round(radius * width), 1, -1)
        shares.append(find_artefacts(clean * inside).dark_corners)
        assert shares[-1] == pytest.approx(float((inside == 0).mean()), abs=0.04)
    assert shares == sorted(shares)


def test_every_drawn_tone_is_darker_than_the_one_before() -> None:
    angles = [find_artefacts(skin(tone=tone)).ita for tone in ("I", "II", "III", "IV", "V", "VI")]
    assert None not in angles
    assert angles == sorted(angles, reverse=True)  # type: ignore[type-var]
    assert tone_of(angles[0]) in TONES[:2]  # type: ignore[arg-type]
    assert tone_of(angles[-1]) in TONES[-2:]  # type: ignore[arg-type]


def test_the_angle_of_one_colour_is_its_formula() -> None:
    rgb = np.array([220, 180, 150])
    linear = ((rgb / 255 + 0.055) / 1.055) ** 2.4  # IEC 61966-2-1
    y, z = linear @ [0.2126, 0.7152, 0.0722], linear @ [0.0193, 0.1192, 0.9505] / 1.089
    light, yellow = 116 * np.cbrt(y) - 16, 200 * (np.cbrt(y) - np.cbrt(z))
    found = find_artefacts(np.full((300, 400, 3), rgb, np.uint8))
    assert found.ita == pytest.approx(math.degrees(math.atan((light - 50) / yellow)), abs=0.1)


@pytest.mark.parametrize(("angle", "tone"), [*zip((*(e + 0.1 for e in EDGES), -30.1), TONES, strict=True)])
def test_the_categories_are_chardins(angle: float, tone: str) -> None:
    assert tone_of(angle) == tone


def test_the_lesion_does_not_count_as_skin(clean: Image8) -> None:
    lesion = np.zeros(clean.shape[:2], bool)
    lesion[:, :320] = True
    two = clean.copy()
    two[:, :320] = (120, 80, 60)
    known, plain = find_artefacts(two, lesion=lesion), find_artefacts(clean)
    assert known.ita == pytest.approx(plain.ita, abs=4)


def test_blue_light_gives_no_angle() -> None:
    found = find_artefacts(np.full((300, 400, 3), (150, 170, 220), np.uint8))
    assert found.ita is None
    assert found.tone is None


@pytest.mark.parametrize(
    "rgb",
    [
        np.zeros((300, 400, 3), np.uint8),
        np.full((300, 400, 3), 255, np.uint8),
        np.zeros((1, 1, 3), np.uint8),
        np.random.default_rng(0).integers(0, 256, (2, 900, 3)).astype(np.uint8),
        np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype(np.uint8),
    ],
    ids=["black", "white", "one pixel", "a strip", "noise"],
)
def test_any_picture_has_an_answer(rgb: Image8) -> None:
    found = find_artefacts(rgb)
    assert isinstance(found, Artefacts)
    assert all(math.isfinite(getattr(found, name)) for name in NAMES)


def test_the_working_size_is_bounded() -> None:
    assert min(prepare(np.zeros((450, 600, 3), np.uint8)).frame.shape) == SIDE
    assert max(prepare(np.zeros((2, 60_000, 3), np.uint8)).frame.shape) <= 8 * SIDE


@pytest.mark.parametrize("bad", [np.zeros((9, 9)), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8)])
def test_what_is_no_image_is_refused(bad: npt.NDArray[np.float64]) -> None:
    with pytest.raises(DataError, match="RGB, uint8"):
        find_artefacts(bad)  # type: ignore[arg-type]


def test_a_mask_of_another_size_is_refused(clean: Image8) -> None:
    with pytest.raises(DataError, match="as large as its image"):
        find_artefacts(clean, lesion=np.zeros((4, 4), bool))


def test_a_flag_that_is_none_is_named(clean: Image8) -> None:
    with pytest.raises(UsageError, match="hair, ruler") as caught:
        find_artefacts(clean).says("hairs")
    assert "did you mean 'hair'" in str(caught.value)
