"""Colours: ICC profiles written here byte by byte, and what they must show, computed with numpy."""

from __future__ import annotations

import io
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms

from panderm.data.colour import to_srgb
from panderm.data.images import decode, open_stored

D50 = (0.9642, 1.0, 0.8249)
# Columns: red, green, blue primaries, adapted to D50 (IEC 61966-2-1; Adobe RGB (1998)).
SRGB = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])
ADOBE = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])


def fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(v * 65536) for v in values))


def profile(
    space: bytes, tags: dict[bytes, bytes], *, kind: bytes = b"mntr", inner: bytes = b"XYZ "
) -> bytes:
    """An ICC profile, version 2.4 (ICC.1:2001-04): header, table of tags, tags."""
    name = b"written here\0"
    desc = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + b"\0" * (4 + 4 + 2 + 1 + 67)
    tags = {b"desc": desc, b"wtpt": b"XYZ \0\0\0\0" + fixed(*D50), b"cprt": b"text\0\0\0\0none\0", **tags}
    table, data, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        table += tag + struct.pack(">II", start + len(data), len(content))
        data += content + b"\0" * (-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s", start + len(data), b"none", 0x02400000, kind, space, inner)
    header += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + fixed(*D50)
    return header.ljust(128, b"\0") + table + data


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def table_curve(values: np.ndarray) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">I", len(values)) + (values * 65535).round().astype(">u2").tobytes()


def rgb_profile(primaries: np.ndarray, curve: bytes) -> bytes:
    columns = {
        tag: b"XYZ \0\0\0\0" + fixed(*primaries[:, i]) for i, tag in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))
    }
    return profile(b"RGB ", {**columns, b"rTRC": curve, b"gTRC": curve, b"bTRC": curve})


def encoded_srgb(linear: np.ndarray) -> np.ndarray:
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def decoded_srgb(share: np.ndarray) -> np.ndarray:
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


ADOBE_PROFILE = rgb_profile(ADOBE, gamma(563 / 256))
GREY_PROFILE = profile(b"GRAY", {b"kTRC": gamma(1.8)})


def cmyk_profile(corners: np.ndarray) -> bytes:
    """A printer of four inks: CIELAB at the sixteen corners of its cube, straight lines between."""
    coded = np.stack([corners[..., 0] * 2.55, corners[..., 1] + 128, corners[..., 2] + 128], axis=-1)
    straight = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    lut += straight * 4 + coded.round().astype(np.uint8).tobytes() + straight * 3
    return profile(b"CMYK", {b"A2B0": lut, b"A2B1": lut}, kind=b"prtr", inner=b"Lab ")


def patches(mode: str) -> np.ndarray:
    channels = {"L": 1, "RGB": 3, "CMYK": 4}[mode]
    steps = np.random.default_rng(5).integers(0, 256, (8, 9, channels), dtype=np.uint8)
    steps[0, :2] = np.array([0, 255], dtype=np.uint8)[:, None]
    return steps


def saved(values: np.ndarray, mode: str, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image = Image.frombytes(mode, (values.shape[1], values.shape[0]), values.tobytes())
    image.save(target, kind, **options)
    return target.getvalue()


def adobe_as_srgb(rgb: np.ndarray) -> np.ndarray:
    linear = (rgb / 255) ** (563 / 256) @ ADOBE.T @ np.linalg.inv(SRGB).T
    return encoded_srgb(linear)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_a_wide_rgb_profile_becomes_srgb(kind: str) -> None:
    rgb = patches("RGB")
    options = {"lossless": True} if kind == "WEBP" else {}
    content = saved(rgb, "RGB", kind, icc_profile=ADOBE_PROFILE, **options)
    seen, stored = open_stored(content, "a")
    assert np.abs(seen - adobe_as_srgb(rgb)).max() <= 1.5
    assert np.abs(seen.astype(int) - rgb).max() > 20, "the profile does change colours"
    assert (stored.profile, stored.profile_problem) == ("written here", None)


def test_a_profile_in_a_jpeg() -> None:
    flat = np.full((16, 16, 3), (60, 200, 90), dtype=np.uint8)
    seen, stored = open_stored(saved(flat, "RGB", "JPEG", quality=100, icc_profile=ADOBE_PROFILE), "a.jpg")
    assert np.abs(seen - adobe_as_srgb(flat)).max() <= 4  # green to zero is steep
    assert stored.profile == "written here"


def test_an_independent_reader_of_profiles_agrees() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    srgb = imagecodecs.cms_profile("srgb")
    theirs = imagecodecs.cms_transform(
        rgb,
        ADOBE_PROFILE,
        srgb,
        colorspace="rgb",
        outcolorspace="rgb",
        intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
    )
    seen = decode(saved(rgb, "RGB", "PNG", icc_profile=ADOBE_PROFILE), "a")
    assert np.abs(seen.astype(int) - theirs).max() <= 1


def test_a_grey_profile() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    seen, stored = open_stored(saved(grey, "L", "PNG", icc_profile=GREY_PROFILE), "a")
    assert np.abs(seen - encoded_srgb((grey / 255) ** (461 / 256))).max() <= 1.5
    assert stored.profile == "written here"


def test_a_cmyk_profile_replaces_the_plain_rule() -> None:
    """Sixteen mixtures of full inks: their CIELAB as written in the profile, in sRGB by numpy."""
    cyan, magenta, yellow, black = np.meshgrid(*[[0, 1]] * 4, indexing="ij")
    lightness = (100 - 20 * cyan - 30 * magenta - 5 * yellow) * (1 - black)
    a = (-10 * cyan + 20 * magenta) * (1 - black)
    b = (-15 * cyan + 20 * yellow) * (1 - black)
    corners = np.stack([lightness, a, b], axis=-1).round()
    inks = (255 * np.stack([cyan, magenta, yellow, black], axis=-1)).astype(np.uint8).reshape(2, 8, 4)
    content = saved(inks, "CMYK", "TIFF", icc_profile=cmyk_profile(corners))
    seen, stored = open_stored(content, "a.tif")
    assert stored.profile == "written here"

    stated = corners.reshape(2, 8, 3).astype(float)
    stated[..., 0] = (stated[..., 0] * 2.55).round() / 2.55
    f_y = (stated[..., 0] + 16) / 116
    f = np.stack([f_y + stated[..., 1] / 500, f_y, f_y - stated[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * D50
    wanted = encoded_srgb(xyz @ np.linalg.inv(SRGB).T)
    assert np.abs(seen - wanted).max() <= 1.5
    plain = decode(saved(inks, "CMYK", "TIFF"), "a.tif")
    assert np.abs(seen.astype(int) - plain).max() > 50


def test_a_cmyk_jpeg_with_a_profile_is_no_negative() -> None:
    """Adobe stores inks upside down; the profile must meet them the right way up."""
    corners = np.zeros((2, 2, 2, 2, 3))
    corners[0, 0, 0, 0, 0] = 100  # paper; everything else is black
    paper = np.zeros((16, 16, 4), dtype=np.uint8)
    content = saved(paper, "CMYK", "JPEG", quality=95, icc_profile=cmyk_profile(corners))
    assert decode(content, "a.jpg").min() >= 252


SRGB_NAMES = {
    "LittleCMS": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    "a table of 1,024 steps": rgb_profile(SRGB, table_curve(decoded_srgb(np.linspace(0, 1, 1024)))),
}


@pytest.mark.parametrize("name", SRGB_NAMES)
def test_srgb_under_any_name_changes_nothing(name: str) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    seen, stored = open_stored(saved(rgb, "RGB", "PNG", icc_profile=SRGB_NAMES[name]), "a")
    np.testing.assert_array_equal(seen, rgb)
    assert (stored.profile, stored.profile_problem) == (None, None)


def test_a_gamma_of_2_2_is_not_srgb() -> None:
    """Near it, but not it: the darks differ."""
    rgb = np.full((2, 2, 3), 6, dtype=np.uint8)
    seen, stored = open_stored(saved(rgb, "RGB", "PNG", icc_profile=rgb_profile(SRGB, gamma(2.2))), "a")
    assert stored.profile == "written here"
    assert (seen != 6).all()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"no profile", "a broken colour profile"),
        (ADOBE_PROFILE[:300], "a broken colour profile"),
        (ADOBE_PROFILE.replace(b"rTRC", b"xTRC"), "a broken colour profile"),
        (GREY_PROFILE, "a colour profile for GRAY, not for RGB"),
        (b"x" * 8_000_001, "a colour profile of more than 8 MB"),
    ],
    ids=["text", "cut", "incomplete", "grey", "huge"],
)
def test_a_profile_that_cannot_be_applied_is_left_aside_and_named(content: bytes, problem: str) -> None:
    rgb = patches("RGB")
    seen, stored = open_stored(saved(rgb, "RGB", "TIFF", icc_profile=content), "a.tif")
    np.testing.assert_array_equal(seen, rgb)
    assert (stored.profile, stored.profile_problem) == (None, problem)


def test_colours_are_converted_before_they_are_laid_on_white() -> None:
    rgb = patches("RGB")
    alpha = np.random.default_rng(2).integers(0, 256, (8, 9, 1), dtype=np.uint8)
    alpha[0, 0], alpha[0, 1] = 0, 255
    content = saved(np.dstack([rgb, alpha]), "RGBA", "PNG", icc_profile=ADOBE_PROFILE)
    share = alpha / 255
    assert np.abs(decode(content, "a") - (adobe_as_srgb(rgb) * share + 255 * (1 - share))).max() <= 2


def test_a_palette_with_a_profile() -> None:
    image = Image.fromarray(np.array([[0, 1], [1, 0]], dtype=np.uint8), "P")
    image.putpalette([60, 200, 90, 10, 20, 30] + [0] * 762)
    target = io.BytesIO()
    image.save(target, "PNG", icc_profile=ADOBE_PROFILE)
    seen = decode(target.getvalue(), "a.png")
    assert np.abs(seen[0] - adobe_as_srgb(np.array([[60, 200, 90], [10, 20, 30]]))).max() <= 1.5


def test_cielab() -> None:
    lab = np.array([[[100, 0, 0], [0, 0, 0], [50, 0, 0], [60, 40, -30]]], dtype=np.int16)
    # TIFF 6.0, section 23: a* and b* are signed bytes.
    coded = np.stack(
        [(lab[..., 0] * 2.55).round().astype(int), lab[..., 1] & 255, lab[..., 2] & 255], axis=-1
    )
    target = io.BytesIO()
    Image.frombytes("LAB", (4, 1), coded.astype(np.uint8).tobytes()).save(target, "TIFF")
    seen = decode(target.getvalue(), "a.tif")[0].astype(int)
    f_y = (np.round(lab[0, :, 0] * 2.55) / 2.55 + 16) / 116
    f = np.stack([f_y + lab[0, :, 1] / 500, f_y, f_y - lab[0, :, 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * D50
    assert np.abs(seen - encoded_srgb(xyz @ np.linalg.inv(SRGB).T)).max() <= 2


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_colours_multiplied_by_their_alpha(mode: str) -> None:
    """Laid on white: what is stored, and white for what is missing."""
    stored = np.array([[[100, 100], [0, 0], [255, 255], [60, 120]]], dtype=np.uint8)
    grey, alpha = stored[..., :1], stored[..., 1:]
    values = np.dstack([grey, alpha] if mode == "La" else [grey, grey // 2, grey // 4, alpha])
    seen = np.asarray(to_srgb(Image.frombytes(mode, (4, 1), values.tobytes())).image).astype(int)
    wanted = values[..., :-1].astype(int) + 255 - alpha
    assert np.abs(seen - wanted).max() <= 1


def test_a_palette_with_alpha_beside_it() -> None:
    image = Image.new("PA", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((0, 0), (1, 255))
    image.putpixel((1, 0), (0, 0))
    assert np.asarray(to_srgb(image).image).tolist() == [[[200, 100, 50], [255, 255, 255]]]


def test_threads_see_the_same_colours() -> None:
    rgb = np.random.default_rng(3).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    contents = [
        saved(rgb, "RGB", "PNG", icc_profile=ADOBE_PROFILE),
        saved(rgb[..., :1], "L", "PNG", icc_profile=GREY_PROFILE),
        saved(rgb, "RGB", "PNG"),
    ] * 30
    wanted = [decode(content, "a") for content in contents[:3]] * 30
    with ThreadPoolExecutor(8) as pool:
        for seen, right in zip(pool.map(lambda c: decode(c, "a"), contents), wanted, strict=True):
            np.testing.assert_array_equal(seen, right)
