"""The same picture twice: turned, mirrored, re-saved and resized it is found; another picture is not."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from panderm.data import duplicates
from panderm.data.drawn import DrawnWorld
from panderm.data.duplicates import Fingerprint, clusters, find_pairs, fingerprint
from panderm.data.images import read_image

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def pictures(world: DrawnWorld) -> list[Pixels]:
    """Thirty drawn pictures."""
    return [read_image(path) for path in sorted(world.images.iterdir())[:30]]


def similar(one: Pixels, other: Pixels) -> float:
    pairs = find_pairs([fingerprint(one), fingerprint(other)])
    return pairs[0].similarity if pairs else 0.0


def changed(pixels: Pixels, how: Callable[[Image.Image], Image.Image]) -> Pixels:
    return np.asarray(how(Image.fromarray(pixels)).convert("RGB"))


def saved(quality: int) -> Callable[[Image.Image], Image.Image]:
    def save(image: Image.Image) -> Image.Image:
        target = io.BytesIO()
        image.save(target, "JPEG", quality=quality)
        return Image.open(target)

    return save


def resized(share: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.resize((round(image.width * share), round(image.height * share)))


def test_equal_pixels_are_a_pair_whatever_the_file(pictures: list[Pixels]) -> None:
    prints = [fingerprint(p) for p in (pictures[0], pictures[1], pictures[0].copy(), pictures[0])]
    assert find_pairs(prints) == [(0, 2, "same pixels", 1.0), (0, 3, "same pixels", 1.0)]


def test_shape_is_part_of_the_pixels() -> None:
    flat = np.full((4, 8, 3), 90, dtype=np.uint8)
    assert fingerprint(flat).pixels != fingerprint(flat.reshape(8, 4, 3)).pixels


@pytest.mark.parametrize(("quarter", "mirrored"), list(itertools.product(range(4), (False, True))))
def test_every_turn_and_mirroring_is_seen_through(
    pictures: list[Pixels], quarter: int, mirrored: bool
) -> None:
    for pixels in pictures[:5]:
        turned = np.rot90(pixels[:, ::-1] if mirrored else pixels, quarter)
        assert similar(pixels, turned) > 0.999


@pytest.mark.parametrize(
    "how",
    [
        *(saved(q) for q in (50, 75, 95)),
        *(resized(s) for s in (0.5, 0.75, 2.0)),
        lambda image: ImageEnhance.Brightness(image).enhance(0.9),
        lambda image: ImageEnhance.Brightness(image).enhance(1.1),
        lambda image: image.convert("L"),
        lambda image: saved(60)(resized(0.6)(image.transpose(Image.Transpose.TRANSVERSE))),
    ],
)
def test_a_picture_saved_anew_is_found(
    pictures: list[Pixels], how: Callable[[Image.Image], Image.Image]
) -> None:
    assert all(similar(pixels, changed(pixels, how)) >= 0.95 for pixels in pictures)


def test_other_lesions_are_not_the_same_picture(world: DrawnWorld) -> None:
    """Second visits may be: they are drawn with little change."""
    first_visits = sorted(world.images.glob("*-1.jpg"))
    assert len(first_visits) > 40
    assert find_pairs([fingerprint(read_image(path)) for path in first_visits]) == []


def test_flat_pictures_are_compared_by_their_pixels_only() -> None:
    flat = [np.full((40, 40, 3), level, dtype=np.uint8) for level in (0, 90, 90, 255)]
    noise = np.random.default_rng(0).integers(118, 121, (200, 200, 3)).astype(np.uint8)
    assert find_pairs([fingerprint(p) for p in (*flat, noise)]) == [(1, 2, "same pixels", 1.0)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (7, 5), (31, 33), (900, 3)])
def test_pictures_of_any_shape_have_a_fingerprint(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    assert similar(pixels, pixels) == 1.0


def test_a_picture_that_could_not_be_read_is_none(pictures: list[Pixels]) -> None:
    one = fingerprint(pictures[0])
    assert find_pairs([None, one, None, one]) == [(1, 3, "same pixels", 1.0)]
    assert find_pairs([]) == find_pairs([None]) == find_pairs([one]) == []


def test_no_candidate_is_lost_and_blocks_do_not_show(
    pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against every pair under every turn, one by one."""
    noise = np.random.default_rng(1)
    many = [p.astype(np.int16) + noise.integers(-25, 25, p.shape) for p in pictures[:6] for _ in range(4)]
    prints = [fingerprint(np.rot90(p.clip(0, 255).astype(np.uint8), i % 4)) for i, p in enumerate(many)]
    prints = [prints[i] for i in noise.permutation(len(prints))]
    whole = find_pairs(prints)
    monkeypatch.setattr(duplicates, "_BLOCK", 5)
    assert find_pairs(prints) == whole

    spectra = np.array([np.frombuffer(p.spectrum, np.float16) for p in prints], np.float64)
    spectra = spectra.reshape(-1, 16, 16)
    radius = np.hypot(*np.mgrid[:16, :16])
    signs = np.array([(-1.0) ** np.arange(16), np.ones(16)])

    def best(power: int, i: int, j: int) -> float:
        a, b = spectra[i] * radius**power, spectra[j] * radius**power
        turns = [t * y[:, None] * x[None] for t in (b, b.T) for y in signs for x in signs]
        return max(float((a * t).sum()) for t in turns) / np.linalg.norm(a) / np.linalg.norm(b)

    wanted = [
        (i, j)
        for i, j in itertools.combinations(range(len(prints)), 2)
        if best(1, i, j) >= duplicates.COARSE and best(2, i, j) >= duplicates.FINE
    ]
    assert [(p.first, p.second) for p in whole] == wanted
    assert len(wanted) > 10


def test_a_fingerprint_is_small(pictures: list[Pixels]) -> None:
    one = fingerprint(pictures[0])
    assert len(one.pixels) + len(one.spectrum) < 700
    assert isinstance(one, Fingerprint)


@given(
    st.integers(1, 30).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))
    )
)
def test_clusters_are_the_connected_components(given_: tuple[int, list[tuple[int, int]]]) -> None:
    n, pairs = given_
    label = clusters(n, pairs)
    reach = np.eye(n, dtype=bool)
    for a, b in pairs:
        reach[a, b] = reach[b, a] = True
    for _ in range(n):
        reach = reach | (reach @ reach)
    assert ((label[:, None] == label[None]) == reach).all()
    firsts = [int(np.flatnonzero(label == k)[0]) for k in range(label.max() + 1)]
    assert firsts == sorted(firsts)
