"""HEIC and AVIF: turned once, at any depth; files written by libheif's own encoder."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image, features

from panderm.data.images import ImageError, decode, open_stored
from panderm.data.stored import Unreadable

ORIENTATION = 274
# What a viewer must do with stored pixels (TIFF 6.0: where row 0, column 0 lie).
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


def quarters(height: int = 64, width: int = 96) -> np.ndarray:
    """Four quarters in four colours: no two orientations of it look alike."""
    colours = np.array([[[220, 30, 30], [30, 220, 30]], [[30, 30, 220], [220, 220, 30]]], dtype=np.uint8)
    return colours.repeat(height // 2, axis=0).repeat(width // 2, axis=1)


def orientation(value: int) -> bytes:
    block = Image.Exif()
    block[ORIENTATION] = value
    return block.tobytes()


def heic(values: np.ndarray, mode: str = "RGB", **options: Any) -> bytes:
    file = pillow_heif.from_bytes(mode, (values.shape[1], values.shape[0]), values.tobytes())
    target = io.BytesIO()
    file.save(target, **{"quality": 90, "chroma": 444, **options})
    return target.getvalue()


def boxes(content: bytes) -> set[bytes]:
    """Which of the container's turning properties a file has."""
    return {name for name in (b"irot", b"imir") if name in content}


def alike(seen: np.ndarray, wanted: np.ndarray) -> bool:
    """The middles of the quarters, for the codec is lossy."""
    if seen.shape != wanted.shape:
        return False
    middles = tuple(np.s_[k // 4 :: k // 2] for k in seen.shape[:2])
    return bool(np.abs(seen[middles].astype(int) - wanted[middles]).max() < 12)


@pytest.mark.parametrize("value", TURNS)
def test_a_phones_photograph_is_turned_once(value: int) -> None:
    """EXIF and the container say the same twice: libheif turns the pixels, we must not turn them again."""
    stored = quarters()
    # The writer stores pixels as given, the EXIF orientation, and irot and imir of the same sense.
    content = heic(stored, exif=orientation(value))
    assert (len(boxes(content)) > 0) == (value > 1), "the container itself says how to turn"
    assert b"Exif" in content
    seen, facts = open_stored(content, "a.heic")
    assert alike(seen, TURNS[value](stored))
    assert (facts.format, facts.orientation) == ("HEIF", 1)
    if value in (2, 5, 6, 8):
        assert not alike(seen, TURNS[value](TURNS[value](stored))), "a second turn would show"


def test_an_exif_orientation_that_the_container_does_not_repeat_is_ignored() -> None:
    """ISO/IEC 23008-12: orientation is the container's alone."""
    stored = quarters()
    plain = heic(stored, exif=orientation(1))
    at = plain.index(b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x01")
    content = plain[: at + 8] + b"\x00\x06" + plain[at + 10 :]
    assert not boxes(content)
    assert alike(decode(content, "a.heic"), stored)


def test_against_the_encoders_own_reader() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for options in ({"quality": 50}, {"quality": 90, "chroma": 420}, {"quality": -1}):
        content = heic(rgb, **options)
        theirs = np.asarray(pillow_heif.open_heif(content).to_pillow().convert("RGB"))
        seen = decode(content, "a.heic")
        assert np.abs(seen.astype(int) - theirs).max() <= 1
    assert np.abs(seen.astype(int) - rgb).max() <= 4  # lossless but for YCbCr


@pytest.mark.parametrize("bits", [10, 12])
def test_more_than_eight_bits(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the stored range, not of sixteen bits: the largest number is white."""
    monkeypatch.setattr(pillow_heif.options, "SAVE_HDR_TO_12_BIT", bits == 12)
    steps = np.linspace(0, 65535, 32).astype(np.uint16).repeat(4)
    grey = np.broadcast_to(steps[None, :, None], (32, 128, 3)).copy()
    content = heic(grey, "RGB;16", quality=-1)
    seen, stored = open_stored(content, "a.heic")
    assert stored.bits == bits
    assert np.abs(seen - grey / 257).max() <= 1.1
    assert (seen.min(), seen.max()) == (0, 255)


def test_alpha_grey_and_profiles() -> None:
    rgba = np.dstack([quarters(), np.full((64, 96), 255, np.uint8)])
    rgba[:32, :48, 3] = 0
    seen, stored = open_stored(heic(rgba, "RGBA"), "a.heic")
    assert stored.alpha
    assert np.abs(seen[16, 24].astype(int) - 255).max() <= 3
    assert np.abs(seen[16, 72].astype(int) - (30, 220, 30)).max() < 12

    grey = quarters()[..., :1].copy()
    seen = decode(heic(grey, "L"), "a.heic")
    assert alike(seen, grey.repeat(3, axis=2))

    from test_colour import ADOBE_PROFILE, adobe_as_srgb

    flat = np.full((64, 64, 3), (120, 130, 90), dtype=np.uint8)
    seen, stored = open_stored(heic(flat, icc_profile=ADOBE_PROFILE), "a.heic")
    assert stored.profile == "written here"
    assert np.abs(seen - adobe_as_srgb(flat)).max() <= 4


def test_of_several_pictures_the_primary_one_is_the_photograph() -> None:
    file = pillow_heif.HeifFile()
    for value in (40, 200, 90):
        file.add_frombytes("RGB", (64, 64), bytes([value]) * 3 * 64 * 64)
    target = io.BytesIO()
    file.save(target, quality=90, primary_index=1)
    seen, stored = open_stored(target.getvalue(), "a.heic")
    assert stored.frames == 3
    assert np.abs(seen.astype(int) - 200).max() <= 3


def test_the_limit_of_pixels_and_damage() -> None:
    content = heic(quarters(640, 960))
    with pytest.raises(ImageError) as caught:
        decode(content, "a.heic", max_megapixels=0.5)
    assert caught.value.reason == "more than 0.5 million pixels"
    noise = heic(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for part in (0.05, 0.3, 0.6, 0.95):
        with pytest.raises(ImageError):
            decode(noise[: int(len(noise) * part)], "a.heic")


def test_without_the_extra_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    content = heic(quarters())
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(ImageError) as caught:
        decode(content, "a.heic")
    assert caught.value.reason == "HEIC needs pip install 'panderm[heic]'"
    assert isinstance(caught.value.__context__, Unreadable)


def test_pillows_own_list_of_readers_is_left_alone() -> None:
    decode(heic(quarters()), "a.heic")
    assert "HEIF" not in Image.OPEN


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow is built without AVIF")
@pytest.mark.parametrize("value", TURNS)
def test_avif_is_turned_once(value: int) -> None:
    stored = quarters()
    target = io.BytesIO()
    Image.fromarray(stored).save(target, "AVIF", quality=90, subsampling="4:4:4", exif=orientation(value))
    content = target.getvalue()
    assert (len(boxes(content)) > 0) == (value > 1)
    seen, facts = open_stored(content, "a.avif")
    assert alike(seen, TURNS[value](stored))
    assert (facts.format, facts.bits) == ("AVIF", 8)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow is built without AVIF")
def test_avif_of_ten_bits() -> None:
    import imagecodecs

    rgb = np.random.default_rng(0).integers(0, 1024, (32, 48, 3), dtype=np.uint16)
    content = imagecodecs.avif_encode(rgb, level=100, bitspersample=10)
    theirs = imagecodecs.avif_decode(content)
    seen, facts = open_stored(content, "a.avif")
    assert facts.bits == 10
    assert np.abs(seen - theirs * (255 / 1023)).max() <= 1.5
