"""Sixteen bits a channel: v / 257 to the nearest in every format, against numbers that numpy wrote."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image

from panderm.data.deep import to_eight_bits
from panderm.data.images import ImageError, decode, open_stored


def by_the_rule(values: np.ndarray, bits: int = 16) -> np.ndarray:
    """The stated rule in exact arithmetic, written otherwise than the code's."""
    return np.floor(values.astype(np.float64) * 255 / (2**bits - 1) + 0.5).astype(np.uint8)


def numbers(channels: int, bits: int = 16, height: int = 21, width: int = 34) -> np.ndarray:
    values = np.random.default_rng(channels).integers(0, 2**bits, (height, width, channels), dtype=np.uint16)
    values[0, :4] = np.array([0, 128, 129, 2**bits - 1], dtype=np.uint16)[:, None]
    return values


def on_white(eight: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None].astype(np.float64) / 255
    return eight * share + 255 * (1 - share)


def png(values: np.ndarray, *, interlaced: bool = False, key: tuple[int, ...] = ()) -> bytes:
    """A 16-bit PNG without filters, of numpy and zlib alone (ISO 15948)."""
    height, width, channels = values.shape

    def chunk(name: bytes, content: bytes) -> bytes:
        sum_ = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + sum_

    passes = [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]
    parts = [values[y::dy, x::dx] for y, x, dy, dx in passes] if interlaced else [values]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for part in parts if part.size for line in part)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, interlaced)
    transparent = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)) if key else b""
    body = chunk(b"IHDR", header) + transparent + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(values: np.ndarray, photometric: int, **layout: Any) -> bytes:
    """A TIFF of numpy and struct alone (TIFF 6.0): a strip or tiles, either byte order, planes or not."""
    big, planes = layout.get("big", False), layout.get("planes", 1)
    extra, tile = layout.get("extra"), layout.get("tile")
    pack = {1: bytes, 5: imagecodecs.lzw_encode, 8: zlib.compress}[layout.get("compression", 1)]
    order = ">" if big else "<"
    height, width, channels = values.shape
    stored = values.astype(values.dtype.newbyteorder(order))
    parts = [stored] if planes == 1 else [stored[..., k] for k in range(channels)]
    if tile:
        pad = [(0, -height % tile), (0, -width % tile), (0, 0)]
        parts = [
            np.pad(part, pad[: part.ndim])[y : y + tile, x : x + tile]
            for part in parts
            for y in range(0, height, tile)
            for x in range(0, width, tile)
        ]
    strips = [bytes(pack(part.tobytes())) for part in parts]
    starts = np.cumsum([8, *(len(strip) + len(strip) % 2 for strip in strips)]).tolist()
    data = b"".join(strip + b"\0" * (len(strip) % 2) for strip in strips)
    lengths = [len(strip) for strip in strips]
    tags = [(256, "I", [width]), (257, "I", [height])]
    tags += [(258, "H", [layout.get("bits", 8 * values.itemsize)] * channels)]
    tags += [(259, "H", [layout.get("compression", 1)]), (262, "H", [photometric]), (277, "H", [channels])]
    if tile:
        tags += [(322, "I", [tile]), (323, "I", [tile]), (324, "I", starts[:-1]), (325, "I", lengths)]
    else:
        tags += [(273, "I", starts[:-1]), (278, "I", [height]), (279, "I", lengths)]
    tags += [(284, "H", [planes])]
    tags += [(338, "H", [extra])] if extra is not None else []
    tags.sort()
    after = starts[-1] + 2 + 12 * len(tags) + 4
    entries, long_ones = struct.pack(order + "H", len(tags)), b""
    for tag, kind, content in tags:
        raw = struct.pack(f"{order}{len(content)}{kind}", *content)
        if len(raw) > 4:
            raw, long_ones = (
                struct.pack(order + "I", after + len(long_ones)),
                long_ones + raw + b"\0" * (len(raw) % 2),
            )
        entries += struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[kind], len(content)) + raw.ljust(4, b"\0")
    start = (b"MM\0*" if big else b"II*\0") + struct.pack(order + "I", starts[-1])
    return start + data + entries + b"\0\0\0\0" + long_ones


def test_the_rule() -> None:
    for bits in (1, 2, 8, 10, 12, 14, 16):
        values = np.arange(2**bits, dtype=np.uint16)
        eight = to_eight_bits(values, bits)
        np.testing.assert_array_equal(eight, by_the_rule(values, bits), str(bits))
        assert (eight[0], eight[-1]) == (0, 255)


@pytest.mark.parametrize("interlaced", [False, True])
def test_png_of_sixteen_bits(interlaced: bool) -> None:
    rgb = numbers(3)
    content = png(rgb, interlaced=interlaced)
    np.testing.assert_array_equal(imagecodecs.png_decode(content), rgb)  # the file is what it is said to be
    seen, stored = open_stored(content, "a.png")
    np.testing.assert_array_equal(seen, by_the_rule(rgb))
    assert (stored.mode, stored.bits, stored.alpha) == ("RGB", 16, False)

    grey = numbers(1)
    seen, stored = open_stored(png(grey, interlaced=interlaced), "a.png")
    np.testing.assert_array_equal(seen, by_the_rule(grey).repeat(3, axis=2))
    assert (stored.mode, stored.bits) == ("I;16", 16)

    rgba = numbers(4)
    seen, stored = open_stored(png(rgba, interlaced=interlaced), "a.png")
    assert stored.alpha
    assert np.abs(seen - on_white(by_the_rule(rgba)[..., :3], by_the_rule(rgba)[..., 3])).max() <= 1

    la = numbers(2)
    seen = decode(png(la, interlaced=interlaced), "a.png")
    assert np.abs(seen - on_white(by_the_rule(la)[..., :1], by_the_rule(la)[..., 1])).max() <= 1


def test_png_of_sixteen_bits_that_opencv_wrote() -> None:
    """With filters, which the writer above does not use."""
    rgb = cv2.GaussianBlur(numbers(3), (5, 5), 0)
    whole, buffer = cv2.imencode(".png", rgb[..., ::-1])
    assert whole
    np.testing.assert_array_equal(decode(buffer.tobytes(), "a.png"), by_the_rule(rgb))


def test_the_transparent_colour_of_sixteen_bits_is_exact() -> None:
    """Two colours that differ in the low byte only: one is transparent, the other is not."""
    rgb = numbers(3)
    rgb[3, 4], rgb[3, 5] = (1000, 2000, 3000), (1000, 2000, 3001)
    wanted = by_the_rule(rgb)
    wanted[3, 4] = 255
    np.testing.assert_array_equal(decode(png(rgb, key=(1000, 2000, 3000)), "a.png"), wanted)

    grey = numbers(1)
    grey[3, 4], grey[3, 5] = 1000, 1001
    grey[grey == 1000] = 1002
    grey[3, 4] = 1000
    wanted = by_the_rule(grey).repeat(3, axis=2)
    wanted[3, 4] = 255
    np.testing.assert_array_equal(decode(png(grey, key=(1000,)), "a.png"), wanted)


LAYOUTS = [
    {"big": big, "compression": compression, "tile": tile}
    for big in (False, True)
    for compression in (1, 5, 8)
    for tile in (None, 16)
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_tiff_of_sixteen_bits(layout: dict[str, Any]) -> None:
    rgb = numbers(3)
    content = tiff(rgb, 2, **layout)
    np.testing.assert_array_equal(imagecodecs.tiff_decode(content), rgb)
    seen, stored = open_stored(content, "a.tif")
    np.testing.assert_array_equal(seen, by_the_rule(rgb))
    assert (stored.format, stored.bits) == ("TIFF", 16)

    unused = tiff(numbers(4), 2, extra=0, **layout)
    np.testing.assert_array_equal(decode(unused, "a.tif"), by_the_rule(numbers(4))[..., :3])

    eight = by_the_rule(numbers(4))
    seen = decode(tiff(numbers(4), 2, extra=2, **layout), "a.tif")
    assert np.abs(seen - on_white(eight[..., :3], eight[..., 3])).max() <= 1

    times_alpha = numbers(4).astype(np.uint32)
    times_alpha[..., :3] = times_alpha[..., :3] * times_alpha[..., 3:] // 65535
    seen = decode(tiff(times_alpha.astype(np.uint16), 2, extra=1, **layout), "a.tif")
    wanted = times_alpha[..., :3] / 257 + 255 - times_alpha[..., 3:] / 257
    assert np.abs(seen - wanted).max() <= 1

    inks = by_the_rule(numbers(4)).astype(float)
    seen = decode(tiff(numbers(4), 5, **layout), "a.tif")
    assert np.abs(seen - (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255).max() <= 1

    grey = numbers(1)
    np.testing.assert_array_equal(decode(tiff(grey, 1, **layout), "a.tif")[..., :1], by_the_rule(grey))


def test_a_tiff_where_white_is_zero() -> None:
    grey = numbers(1)
    seen = decode(tiff(grey, 0), "a.tif")
    np.testing.assert_array_equal(seen[..., :1], 255 - by_the_rule(grey))
    eight = by_the_rule(grey)
    np.testing.assert_array_equal(decode(tiff(eight, 0), "a.tif")[..., :1], 255 - eight)


def test_a_tiff_of_twelve_bits_uses_its_own_range() -> None:
    """Three bytes hold two pixels; 4,095 is white, not a sixteenth of it."""
    grey = numbers(1, bits=12)
    pairs = grey.reshape(-1, 2).astype(np.uint32)
    packed = (pairs[:, 0] << 12 | pairs[:, 1]).astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:]
    strip = packed.reshape(grey.shape[0], -1)  # 51 bytes a line
    like = tiff(np.zeros((*grey.shape[:2], 1), np.uint8), 1, bits=12)
    start = 8 + grey.shape[0] * grey.shape[1]
    start += start % 2
    # The same directory, moved behind longer data.
    moved = len(strip.tobytes()) + len(strip.tobytes()) % 2 - (start - 8)
    directory = bytearray(like[start:])
    directory = directory.replace(
        struct.pack("<HHII", 279, 4, 1, start - 8), struct.pack("<HHII", 279, 4, 1, strip.size)
    )
    assert struct.pack("<HHII", 279, 4, 1, strip.size) in directory
    data = strip.tobytes() + b"\0" * (strip.size % 2)
    content = b"II*\0" + struct.pack("<I", start + moved) + data + bytes(directory)
    seen, stored = open_stored(content, "a.tif")
    np.testing.assert_array_equal(seen[..., :1], by_the_rule(grey, 12))
    assert stored.bits == 12


def test_deep_planes_apart_are_refused_not_misread() -> None:
    for layout in ({}, {"compression": 8}):
        with pytest.raises(ImageError) as caught:
            decode(tiff(numbers(3), 2, planes=2, **layout), "a.tif")
        assert caught.value.reason == "channels of 16 bits in separate planes"


def test_eight_bit_planes_apart_are_read() -> None:
    rgb = by_the_rule(numbers(3))
    for layout in LAYOUTS:
        np.testing.assert_array_equal(decode(tiff(rgb, 2, planes=2, **layout), "a.tif"), rgb)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_jpeg_2000(bits: int) -> None:
    for channels in (1, 3, 4):
        values = numbers(channels, bits)
        stored_as = values.astype(np.uint8) if bits == 8 else values
        content = imagecodecs.jpeg2k_encode(stored_as.squeeze(), level=0, reversible=True, bitspersample=bits)
        np.testing.assert_array_equal(imagecodecs.jpeg2k_decode(content), values.squeeze())
        seen, stored = open_stored(content, "a.jp2")
        assert (stored.format, stored.bits) == ("JPEG2000", bits)
        eight = by_the_rule(values, bits)
        if channels == 4:
            assert np.abs(seen - on_white(eight[..., :3], eight[..., 3])).max() <= 1
        else:
            np.testing.assert_array_equal(seen, eight if channels == 3 else eight.repeat(3, axis=2))


def test_a_portable_pixmap_of_sixteen_bits() -> None:
    rgb = numbers(3)
    content = b"P6 34 21 65535\n" + rgb.astype(">u2").tobytes()
    np.testing.assert_array_equal(decode(content, "a.ppm"), by_the_rule(rgb))
    grey = numbers(1)
    content = b"P5 34 21 65535\n" + grey.astype(">u2").tobytes()
    np.testing.assert_array_equal(decode(content, "a.pgm")[..., :1], by_the_rule(grey))


@pytest.mark.parametrize("part", [0.2, 0.6, 0.95])
def test_truncated_deep_files_are_refused(part: float) -> None:
    rgb = numbers(3, height=64, width=64)
    jpeg_2000 = imagecodecs.jpeg2k_encode(rgb, level=0, reversible=True)
    for content in (png(rgb), tiff(rgb, 2), tiff(rgb, 2, compression=8), jpeg_2000):
        with pytest.raises(ImageError):
            decode(content[: int(len(content) * part)], "a.file")


def test_a_deep_picture_is_turned_once() -> None:
    rgb = numbers(3)
    block = Image.Exif()
    block[274] = 6
    for content in (png(rgb), tiff(rgb, 2)):
        if content[:2] == b"II":
            # The orientation among the tags, in the place of the planes' (1 in both).
            content = content.replace(
                struct.pack("<HHIHH", 284, 3, 1, 1, 0), struct.pack("<HHIHH", 274, 3, 1, 6, 0)
            )
        else:
            exif = block.tobytes()[6:]
            chunk = b"eXIf" + exif
            chunk = struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk))
            content = content[:-12] + chunk + content[-12:]
        seen, stored = open_stored(content, "a.file")
        assert stored.orientation == 6
        np.testing.assert_array_equal(seen, by_the_rule(rgb).transpose(1, 0, 2)[:, ::-1])
