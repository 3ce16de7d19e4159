"""Masks as files: the fast way through a PNG says what the whole decoder says, or leaves it to it."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from panderm.data import masks
from panderm.data.images import ImageError, open_stored
from panderm.data.masks import decode_mask, read_mask
from panderm.data.pillow import grey_png

INSIDE = np.random.default_rng(0).random((21, 34)) > 0.5


def saved(array: Any, form: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    image = Image.fromarray(np.asarray(array))
    buffer = io.BytesIO()
    (image if mode is None else image.convert(mode)).save(buffer, form, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[274] = orientation
    return found


def with_gamma() -> bytes:
    """A PNG that asks for another gamma, which nobody here applies."""
    content = saved(INSIDE.astype(np.uint8) * 255)
    body = b"gAMA" + (45455).to_bytes(4, "big")
    chunk = (4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return content[:33] + chunk + content[33:]


LEVELS = INSIDE.astype(np.uint8) * np.uint8(255)
FAST = {
    "one bit": saved(INSIDE),
    "eight bits": saved(LEVELS),
    "zero and one": saved(INSIDE.astype(np.uint8)),
    "gamma": with_gamma(),
    "empty": saved(np.zeros((4, 5), np.uint8)),
    "full": saved(np.full((4, 5), 255, np.uint8)),
    "one pixel": saved(np.ones((1, 1), bool)),
    "optimised": saved(LEVELS, optimize=True),
}
SLOW = {
    "colours that are grey": saved(np.repeat(LEVELS[..., None], 3, axis=-1)),
    "palette": saved(LEVELS, mode="P"),
    "sixteen bits": saved(INSIDE.astype(np.uint16) * np.uint16(65535)),
    "turned": saved(LEVELS, exif=exif(6)),
    "bmp": saved(LEVELS, "BMP"),
    "tiff": saved(LEVELS, "TIFF"),
}


@pytest.mark.parametrize("name", [*FAST, *SLOW])
def test_a_mask_is_what_the_whole_decoder_sees(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (FAST | SLOW)[name]
    rgb, _ = open_stored(content, name)
    found = decode_mask(content, name)
    assert found.dtype == bool
    assert found.flags.writeable
    assert np.array_equal(found, rgb[..., 0] > 0)
    assert (grey_png(content, 179) is None) == (name in SLOW)
    monkeypatch.setattr(masks, "grey_png", lambda *_: None)
    assert np.array_equal(decode_mask(content, name), found)


def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def with_text() -> PngImagePlugin.PngInfo:
    told = PngImagePlugin.PngInfo()
    told.add_text("Raw profile type exif", "none")
    return told


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (saved(np.arange(240, dtype=np.uint8).reshape(12, 20)), "has the values 0, 1, 2"),
        (saved(np.full((4, 5), 128, np.uint8)), "has the values 128"),
        (saved(np.where(INSIDE, 200, 0).astype(np.uint8)), "has the values 0, 200"),
        (saved(np.where(INSIDE, 255, 1).astype(np.uint8)), "has the values 1, 255"),
        (saved(LEVELS, "JPEG", quality=60), "has the values"),
        (saved(np.dstack([LEVELS, LEVELS, 255 - LEVELS])), "has colours"),
        (saved(LEVELS, transparency=0), "has transparent pixels"),
        (saved(LEVELS)[:-30], "damaged"),
        (saved(LEVELS).replace(b"IDAT", b"IDAX"), "image|damaged"),
        (saved(np.zeros((4, 5), np.uint16)), "has the values 0"),
        (saved(INSIDE, "PNG", save_all=True, append_images=[Image.fromarray(~INSIDE)]), "holds 2 frames"),
    ],
)
def test_what_is_no_mask_is_refused_by_its_name(content: bytes, match: str, tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(content)
    with pytest.raises(ImageError, match=match) as caught:
        read_mask(tmp_path / "m.png")
    assert str(tmp_path / "m.png") in str(caught.value)


def test_a_mask_of_too_many_pixels_is_refused_and_a_broken_sum_is_found() -> None:
    with pytest.raises(ImageError, match="million pixels"):
        decode_mask(FAST["one bit"], "m.png", max_megapixels=0.0001)
    broken = bytearray(FAST["eight bits"])
    at = broken.index(b"IDAT") + 12
    broken[at] ^= 255
    with pytest.raises(ImageError, match="damaged"):
        decode_mask(bytes(broken), "m.png")
    assert grey_png(saved(LEVELS, icc_profile=profile()), 179) is None
    assert grey_png(saved(LEVELS, pnginfo=with_text()), 179) is None
