"""A file that is not decoded: what is found is what decoding finds, and what is cut off is found."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import panderm
from panderm.data.images import inspect
from panderm.data.pillow import size_of_whole
from panderm.errors import TableError


def picture(height: int = 60, width: int = 80, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return exif.tobytes()


def thumbnailed() -> bytes:
    """An EXIF block with a small JPEG of its own in it, end marker and all."""
    small = saved(picture(16, 16), "JPEG")
    return b"Exif\0\0" + turned(6)[6:] + small


FILES = {
    "baseline.jpg": saved(picture(), "JPEG", quality=90),
    "progressive.jpg": saved(picture(), "JPEG", quality=90, progressive=True),
    "grey.jpg": saved(picture().convert("L"), "JPEG"),
    "thumbnail.jpg": saved(picture(), "JPEG", exif=thumbnailed()),
    "turned.jpg": saved(picture(), "JPEG", exif=turned(6)),
    "colour.png": saved(picture(), "PNG"),
    "palette.png": saved(picture().quantize(16), "PNG"),
    "turned.png": saved(picture(), "PNG", exif=turned(8)),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lesion"


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file_is_what_decoding_says_it_is(name: str, file: Path) -> None:
    file.write_bytes(FILES[name])
    assert inspect(file, decode=False) == inspect(file)
    assert inspect(file).problem is None


@pytest.mark.parametrize("name", [n for n in FILES if n != "turned.png"])
def test_a_whole_file_is_not_decoded(name: str, file: Path) -> None:
    upright = (80, 60) if name in ("thumbnail.jpg", "turned.jpg") else (60, 80)
    assert size_of_whole(FILES[name], 100) == upright


@pytest.mark.parametrize("name", FILES)
def test_what_is_cut_off_is_found_wherever_it_is_cut(name: str, file: Path) -> None:
    content = FILES[name]
    size = len(content)
    for length in {*range(0, size, size // 150 + 1), *range(size - 20, size)}:
        file.write_bytes(content[:length])
        assert inspect(file, decode=False) == inspect(file), length
        # Preallocated, and never filled.
        file.write_bytes(content[:length] + bytes(size - length))
        assert inspect(file, decode=False) == inspect(file), length


def test_most_cut_files_are_bad(file: Path) -> None:
    """The test above must not pass because nothing is ever found."""
    file.write_bytes(FILES["baseline.jpg"][:-200])
    assert inspect(file, decode=False).problem is not None


@pytest.mark.parametrize("behind", [b"\0" * 7, b"trailer of a phone", b"\xff\xd8\xff\xe0 another"])
def test_what_lies_behind_the_end_does_no_harm(behind: bytes, file: Path) -> None:
    file.write_bytes(FILES["baseline.jpg"] + behind)
    assert inspect(file, decode=False) == inspect(file)
    assert inspect(file).problem is None


def animated() -> bytes:
    return saved(picture(), "PNG", save_all=True, append_images=[picture(seed=1)])


def bomb() -> bytes:
    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    made = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        made += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return made


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (animated(), "holds 2 frames"),
        (bomb(), "more than 179 million pixels"),
        (b"not an image", "not an image"),
        (b"", "an empty file"),
        (saved(picture(), "TIFF")[:-900], "damaged"),
        (saved(picture(), "BMP")[:-900], "damaged"),
    ],
)
def test_what_a_header_tells_is_found_without_decoding(content: bytes, problem: str, file: Path) -> None:
    file.write_bytes(content)
    assert inspect(file, decode=False) == inspect(file)
    assert problem in str(inspect(file).problem)


def test_a_table_read_without_decoding_is_the_same_table(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "skin.csv").write_text("image\n" + "\n".join(FILES) + "\n")
    quick = panderm.read_table(tmp_path / "skin.csv", decode=False, progress=False)
    assert quick.card == panderm.read_table(tmp_path / "skin.csv", progress=False).card
    assert quick.sha256.tolist() == panderm.read_table(tmp_path / "skin.csv", progress=False).sha256.tolist()
    (tmp_path / "grey.jpg").write_bytes(FILES["grey.jpg"][:-30])
    errors = []
    for decode in (True, False):
        with pytest.raises(TableError) as caught:
            panderm.read_table(tmp_path / "skin.csv", decode=decode, progress=False)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]
    assert "grey.jpg" in errors[0]


def test_damage_in_between_is_left_to_who_decodes(file: Path) -> None:
    content = bytearray(FILES["colour.png"])
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    assert inspect(file).problem is not None
    assert inspect(file, decode=False).problem is None
