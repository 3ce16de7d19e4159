"""The one decoder: whatever file comes in, the same RGB pixels a viewer shows, or a reason in words."""

from __future__ import annotations

import io
import pickle
import random
import struct
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import panderm
from panderm.data import pillow
from panderm.data.images import ImageError, Stored, decode, inspect, inspect_all, open_stored, read_image

ORIENTATION = 0x0112
# What a viewer must do with stored pixels, written with numpy alone (TIFF 6.0: where row 0, column 0 lie).
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


def noise(height: int = 12, width: int = 20, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[ORIENTATION] = orientation
    return block


def problem_of(content: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(content, "a.file")
    return caught.value.reason


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNS)
def test_orientation_is_applied(orientation: int, kind: str) -> None:
    stored = noise()
    lossless = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(Image.fromarray(stored), kind, exif=exif(orientation), **lossless)
    seen = decode(content, "a.file")
    assert seen.dtype == np.uint8
    np.testing.assert_array_equal(seen, TURNS[orientation](stored))


@pytest.mark.parametrize("orientation", TURNS)
def test_orientation_of_a_jpeg(orientation: int) -> None:
    """JPEG is lossy: four plain quarters in four colours, compared at their middles."""
    colours = np.array([[[220, 30, 30], [30, 220, 30]], [[30, 30, 220], [220, 220, 30]]], dtype=np.uint8)
    stored = colours.repeat(32, axis=0).repeat(48, axis=1)
    content = encoded(Image.fromarray(stored), "JPEG", quality=95, exif=exif(orientation))
    wanted = TURNS[orientation](stored)
    seen = decode(content, "a.jpg")
    assert seen.shape == wanted.shape
    middles = tuple(np.s_[k // 4 :: k // 2] for k in seen.shape[:2])
    assert np.abs(seen[middles].astype(int) - wanted[middles]).max() < 20


def test_the_eight_orientations_differ() -> None:
    """The table above is no tautology: eight orientations give eight pictures."""
    stored = noise()
    assert len({(turn(stored).shape, turn(stored).tobytes()) for turn in TURNS.values()}) == 8


def test_an_orientation_out_of_range_is_left_alone() -> None:
    stored = noise()
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(stored), "PNG", exif=exif(9)), "a"), stored)


def over_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:].astype(float) / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_alpha_is_flattened_onto_white(kind: str) -> None:
    rgba = noise(channels=4)
    rgba[0, 0] = (10, 20, 30, 0)
    rgba[0, 1] = (10, 20, 30, 255)
    seen = decode(encoded(Image.fromarray(rgba), kind), "a")
    assert seen[0, 0].tolist() == [255, 255, 255]
    assert seen[0, 1].tolist() == [10, 20, 30]
    assert np.abs(seen - over_white(rgba)).max() <= 1


def test_grey_with_alpha() -> None:
    la = noise(channels=2)
    seen = decode(encoded(Image.fromarray(la, "LA"), "PNG"), "a")
    wanted = over_white(np.concatenate([la[..., :1].repeat(3, axis=2), la[..., 1:]], axis=2))
    assert np.abs(seen - wanted).max() <= 1


def palette_image() -> Image.Image:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8), "P")
    image.putpalette([200, 10, 10, 10, 200, 10, 10, 10, 200] + [0, 0, 0] * 253)
    return image


def test_a_palette_is_expanded() -> None:
    wanted = [[[200, 10, 10], [10, 200, 10]], [[10, 10, 200], [10, 200, 10]]]
    for kind in ("PNG", "GIF", "BMP", "TIFF"):
        assert decode(encoded(palette_image(), kind), "a").tolist() == wanted, kind


def test_a_transparent_colour_of_a_palette_becomes_white() -> None:
    wanted = [[[200, 10, 10], [255, 255, 255]], [[10, 10, 200], [255, 255, 255]]]
    for kind in ("PNG", "GIF"):
        assert decode(encoded(palette_image(), kind, transparency=1), "a").tolist() == wanted, kind


def test_alpha_for_each_colour_of_a_palette() -> None:
    seen = decode(encoded(palette_image(), "PNG", transparency=bytes([255, 0, 128])), "a")
    assert seen[0].tolist() == [[200, 10, 10], [255, 255, 255]]
    assert np.abs(seen[1, 0] - np.array([132, 132, 227])).max() <= 1


def test_a_transparent_colour_of_a_colour_image_becomes_white() -> None:
    stored = noise()
    stored[3, 4] = (1, 2, 3)
    seen = decode(encoded(Image.fromarray(stored), "PNG", transparency=(1, 2, 3)), "a")
    stored[3, 4] = 255
    np.testing.assert_array_equal(seen, stored)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey(kind: str) -> None:
    values = [[0, 128, 257, 385], [386, 32768, 65278, 65535]]
    seen = decode(encoded(Image.fromarray(np.array(values, dtype=np.uint16)), kind), "a")
    assert seen.shape == (2, 4, 3)
    assert seen[..., 0].tolist() == [[0, 0, 1, 1], [2, 128, 254, 255]]
    assert (seen == seen[..., :1]).all()


def test_more_than_sixteen_bits_are_refused() -> None:
    deep = Image.fromarray(np.array([[0, 70_000]], dtype=np.int32))
    assert problem_of(encoded(deep, "TIFF")) == "more than 16 bits a pixel"
    floats = Image.fromarray(np.array([[0.0, 1.0]], dtype=np.float32))
    assert problem_of(encoded(floats, "TIFF")) == "floating-point pixels without a stated range"


def test_one_bit() -> None:
    bits = np.array([[True, False], [False, True]])
    seen = decode(encoded(Image.fromarray(bits), "PNG"), "a")
    assert seen[..., 0].tolist() == [[255, 0], [0, 255]]
    assert seen.shape == (2, 2, 3)


def test_grey() -> None:
    grey = noise(channels=1)[..., 0]
    for kind in ("PNG", "TIFF", "BMP"):
        seen = decode(encoded(Image.fromarray(grey), kind), "a")
        np.testing.assert_array_equal(seen, np.stack([grey] * 3, axis=2))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_keeps_its_colours(kind: str) -> None:
    """A press file of red, green, blue, white and black patches must not come out as a negative."""
    patches = np.array([[[0, 255, 255, 0], [255, 0, 255, 0], [255, 255, 0, 0], [0, 0, 0, 0], [0, 0, 0, 255]]])
    large = patches.astype(np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    seen = decode(encoded(Image.fromarray(large, "CMYK"), kind, **options), "a")[8, 8::16].astype(int)
    wanted = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]]
    assert np.abs(seen - np.array(wanted)).max() < 12


@pytest.mark.parametrize("inside", ["CMYK", "YCCK"])
def test_a_jpeg_of_four_inks_as_adobe_writes_it(inside: str) -> None:
    """Upside down, and with a colour transform or without one: against another reader of the same file."""
    upside_down = np.asarray(Image.fromarray(noise(4, 5, 4)).resize((40, 32), Image.Resampling.BICUBIC))
    content = imagecodecs.jpeg8_encode(upside_down, level=95, colorspace="CMYK", outcolorspace=inside)
    assert b"Adobe" in content
    inks = 255 - imagecodecs.jpeg8_decode(content, outcolorspace="CMYK").astype(float)
    wanted = (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255
    seen, stored = open_stored(content, "a.jpg")
    assert np.abs(seen - wanted).max() <= 2
    assert stored.mode == "CMYK"


def test_tiff_in_every_usual_packing() -> None:
    """Against libtiff behind another door."""
    picture = np.asarray(Image.fromarray(noise(4, 5)).resize((80, 64), Image.Resampling.BICUBIC))
    for packing in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        content = encoded(Image.fromarray(picture), "TIFF", compression=packing)
        seen, stored = open_stored(content, "a.tif")
        assert np.abs(seen.astype(int) - imagecodecs.tiff_decode(content)).max() <= (
            2 if packing == "jpeg" else 0
        )
        assert (stored.format, stored.mode, stored.bits) == ("TIFF", "RGB", 8)
    fax = encoded(Image.fromarray(picture[..., 0] > 128), "TIFF", compression="group4")
    np.testing.assert_array_equal(decode(fax, "a.tif")[..., 0], np.where(picture[..., 0] > 128, 255, 0))


def test_against_opencv() -> None:
    """Another reader of the plain kinds."""
    picture = np.asarray(Image.fromarray(noise(4, 5)).resize((80, 64), Image.Resampling.BICUBIC))
    for kind, options, off in (
        ("JPEG", {"quality": 90}, 1),
        ("JPEG", {"quality": 90, "progressive": True, "subsampling": 0}, 1),
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("WEBP", {"quality": 80}, 0),
        ("GIF", {}, 0),
        ("JPEG2000", {}, 0),
    ):
        content = encoded(Image.fromarray(picture), kind, **options)
        theirs = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert np.abs(decode(content, "a").astype(int) - theirs).max() <= off, kind


@pytest.mark.parametrize("colours", ["RGB", "L"])
def test_jpeg_quality_is_estimated(colours: str) -> None:
    picture = Image.fromarray(noise(16, 16)).convert(colours)
    off = [
        abs((open_stored(encoded(picture, "JPEG", quality=q), "a.jpg")[1].jpeg_quality or 0) - q)
        for q in range(1, 101)
    ]
    assert max(off) <= 1
    assert open_stored(encoded(picture, "PNG"), "a.png")[1].jpeg_quality is None


def test_how_files_hold_their_pictures() -> None:
    picture = Image.fromarray(noise())
    phone = encoded(picture, "JPEG", quality=85, exif=exif(6))
    assert open_stored(phone, "a")[1] == Stored("JPEG", "RGB", orientation=6, jpeg_quality=85)
    assert open_stored(encoded(picture.convert("LA"), "PNG"), "a")[1] == Stored("PNG", "LA", alpha=True)
    assert open_stored(encoded(picture.convert("1"), "PNG"), "a")[1] == Stored("PNG", "1", bits=1)
    assert open_stored(encoded(palette_image(), "GIF"), "a")[1].mode == "P"
    assert open_stored(encoded(palette_image(), "PNG", transparency=1), "a")[1] == Stored(
        "PNG", "P", alpha=True
    )
    assert open_stored(encoded(picture, "TIFF", exif=exif(8)), "a")[1] == Stored("TIFF", "RGB", orientation=8)


def test_plain_pictures_are_pillows_own_pixels() -> None:
    """Bit for bit: every published number rests on them."""
    for mode in ("RGB", "L", "1", "P", "CMYK"):
        for kind in ("JPEG", "PNG", "TIFF"):
            if (mode, kind) in (("P", "JPEG"), ("1", "JPEG"), ("CMYK", "PNG")):
                continue
            content = encoded(Image.fromarray(noise(64, 48)).convert(mode), kind)
            with Image.open(io.BytesIO(content)) as opened:
                np.testing.assert_array_equal(decode(content, "a"), np.asarray(opened.convert("RGB")))


def test_what_the_user_set_in_pillow_is_neither_asked_nor_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(Image.fromarray(noise()), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode(content, "a.png").shape == (12, 20, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_nothing_that_starts_another_program_is_opened() -> None:
    """Pillow would hand PostScript to Ghostscript."""
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    assert problem_of(page) == "not an image that can be read"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000", "TGA", "PPM"])
def test_the_limit_holds_for_every_kind_before_anything_is_decoded(kind: str) -> None:
    content = encoded(Image.fromarray(noise(50, 40)), kind)
    for cut in (content, content[: max(200, len(content) // 2)]):
        with pytest.raises(ImageError) as caught:
            decode(cut, "a", max_megapixels=0.001)
        assert caught.value.reason == "more than 0.001 million pixels"


def test_text_that_unpacks_to_gigabytes_is_not_unpacked() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "a" * 5_000_000, zip=True)
    content = encoded(Image.fromarray(noise()), "PNG", pnginfo=info)
    assert len(content) < 10_000
    assert problem_of(content).startswith("damaged (Decompressed data too large")


def test_colour_jpeg_and_the_kinds_a_folder_may_hold() -> None:
    stored = noise()
    image = Image.fromarray(stored)
    for kind in ("PNG", "BMP", "TIFF", "PPM", "TGA"):
        np.testing.assert_array_equal(decode(encoded(image, kind), "a"), stored)
    np.testing.assert_array_equal(decode(encoded(image, "WEBP", lossless=True), "a"), stored)
    smooth = np.full((16, 16, 3), (180, 120, 90), dtype=np.uint8)
    assert np.abs(decode(encoded(Image.fromarray(smooth), "JPEG"), "a").astype(int) - smooth).max() <= 3


def test_the_ending_of_a_name_says_nothing(tmp_path: Path) -> None:
    stored = noise()
    (tmp_path / "a.jpg").write_bytes(encoded(Image.fromarray(stored), "PNG"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), stored)
    np.testing.assert_array_equal(panderm.read_image(str(tmp_path / "a.jpg")), stored)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_films_are_refused(kind: str) -> None:
    frames = [Image.fromarray(noise(seed=seed)) for seed in range(3)]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert problem_of(content) == "holds 3 frames, not one picture"


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_a_film_of_one_frame_is_a_picture(kind: str) -> None:
    assert decode(encoded(Image.fromarray(noise()), kind, save_all=True), "a").shape == (12, 20, 3)


def test_a_phones_mpo_gives_its_first_picture() -> None:
    first, second = (np.full((16, 16, 3), v, dtype=np.uint8) for v in (200, 20))
    content = encoded(
        Image.fromarray(first), "MPO", save_all=True, append_images=[Image.fromarray(second)], quality=95
    )
    with Image.open(io.BytesIO(content)) as opened:
        assert (opened.format, opened.n_frames) == ("MPO", 2)  # type: ignore[attr-defined]
    assert np.abs(decode(content, "a").astype(int) - 200).max() <= 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "MPO"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_truncated_files_are_refused(kind: str, part: float) -> None:
    content = encoded(Image.fromarray(noise(64, 64)), kind)
    assert problem_of(content[: int(len(content) * part)])


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "page.png").write_text("<html>please log in</html>")
    (tmp_path / "folder.jpg").mkdir()
    reasons = {
        "empty.jpg": "an empty file",
        "text.jpg": "not an image that can be read",
        "page.png": "not an image that can be read",
        "folder.jpg": "a folder, not a file",
        "gone.jpg": "no such file",
        "text.jpg/a.jpg": "cannot be read (Not a directory)",
        "x" * 300: "cannot be read (File name too long)",
        "a\0b.jpg": "no name a file can have",
    }
    for name, reason in reasons.items():
        with pytest.raises(ImageError) as caught:
            read_image(tmp_path / name)
        assert caught.value.reason == reason
        said = ("an image must be readable.", f"  {tmp_path / name}: {reason}")
        assert str(caught.value) == "\n".join([*said, "  hint: replace it, or use --skip-bad"])
        assert inspect(tmp_path / name).problem == reason


def test_too_many_pixels_are_refused() -> None:
    """A small file may ask for all the memory there is."""
    content = encoded(Image.new("1", (2000, 1500)), "PNG")
    assert len(content) < 5_000
    with pytest.raises(ImageError) as caught:
        decode(content, "a.png", max_megapixels=2)
    assert caught.value.reason == "more than 2 million pixels"
    assert decode(content, "a.png", max_megapixels=3).shape == (1500, 2000, 3)


def broken_exif() -> dict[str, bytes]:
    """EXIF blocks that say no orientation that can be followed."""
    short = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    return {
        "no header": b"garbage, no TIFF header in it",
        "cut": short[:14],
        "of text": short.replace(b"\0\x03\0\0\0\x01\0\x06", b"\0\x02\0\0\0\x01six\0"[:8]),
        "beyond the end": short.replace(b"\0\0\0\x08", b"\0\0\x99\x08"),
        "of none": short.replace(b"\0\x06", b"\0\0"),
        "of a kind that is not": short.replace(b"\0\x03", b"\0\x63"),
    }


@pytest.mark.filterwarnings("ignore")  # what Pillow says of broken blocks
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("name", broken_exif())
def test_a_broken_exif_block_does_not_spoil_a_good_picture(name: str, kind: str) -> None:
    stored = np.full((16, 24, 3), 90, dtype=np.uint8)
    stored[:, :8] = 200
    lossless = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(Image.fromarray(stored), kind, exif=b"Exif\0\0" + broken_exif()[name], **lossless)
    seen, facts = open_stored(content, "a")
    assert np.abs(seen[::8, 4::8].astype(int) - stored[::8, 4::8]).max() <= 3
    assert facts.orientation == 1


@pytest.mark.filterwarnings("ignore")  # what Pillow says of damaged files
def test_damaged_bytes_never_escape_as_anything_but_a_reason(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(1)
    image = Image.fromarray(noise(24, 24))
    kinds = ["JPEG", "PNG", "TIFF", "GIF", "WEBP", "BMP", "TGA", "ICO", "JPEG2000", "PCX", "DDS"]
    kinds += ["AVIF"] if "AVIF" in Image.SAVE else []
    reasons = []
    for kind in kinds:
        whole = encoded(image, kind, **({"exif": exif(6)} if kind in ("JPEG", "PNG", "WEBP") else {}))
        for _ in range(60):
            content = bytearray(whole)
            for _ in range(rng.choice([1, 3, 20])):
                content[rng.randrange(len(content))] = rng.randrange(256)
            path = tmp_path / "a.file"
            path.write_bytes(content[: rng.randrange(1, len(content) + 1)])
            facts = inspect(path)
            assert bool(facts.problem) == (not facts.height), "bad, or of a size"
            reasons += [facts.problem] if facts.problem else []
    capfd.readouterr()  # libtiff speaks to standard error by itself
    assert len(reasons) > 200
    assert not [reason for reason in reasons if "\n" in reason]


def test_facts_of_many_files_in_their_order(tmp_path: Path) -> None:
    paths = []
    for i in range(20):
        paths.append(tmp_path / f"{i}.png")
        if i % 3:
            Image.fromarray(noise(10 + i, 7)).save(paths[-1], exif=exif(6 if i % 2 else 1))
    facts = list(inspect_all(paths, workers=4, progress=False))
    assert len(facts) == 20
    for i, fact in enumerate(facts):
        if i % 3 == 0:
            assert (fact.problem, fact.sha256) == ("no such file", "")
        else:
            assert fact.problem is None
            assert (fact.height, fact.width) == ((7, 10 + i) if i % 2 else (10 + i, 7))
    assert len({fact.sha256 for fact in facts if not fact.problem}) == 13


def test_an_image_error_survives_a_process_boundary() -> None:
    error = ImageError("a.jpg", "changed", "run the same command again")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.reason == "changed"


@pytest.mark.parametrize("orientation", TURNS)
def test_a_large_picture_is_converted_in_strips_to_the_same_pixels(
    orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, palette = Image.fromarray(noise(37, 23)), Image.fromarray(noise(37, 23)).quantize(40)
    contents = [
        encoded(plain, "PNG", exif=exif(orientation)),
        encoded(plain, "JPEG", exif=exif(orientation)),
        encoded(plain, "TIFF", exif=exif(orientation)),
        encoded(Image.fromarray(noise(37, 23, 4)), "PNG", exif=exif(orientation)),
        encoded(palette, "PNG", exif=exif(orientation), transparency=3),
        encoded(plain.convert("CMYK"), "JPEG", exif=exif(orientation)),
    ]
    whole = [open_stored(content, "a") for content in contents]
    monkeypatch.setattr(pillow, "_WHOLE", 400)
    for content, (rgb, stored) in zip(contents, whole, strict=True):
        in_strips, same = open_stored(content, "a")
        np.testing.assert_array_equal(in_strips, rgb)
        assert same == stored


def test_a_file_too_short_for_the_pixels_it_promises_is_refused_before_memory_is_taken() -> None:
    """A height in a header is two bytes: a JPEG of a kilobyte could ask for a gigabyte, and be half grey."""
    content = bytearray(encoded(Image.fromarray(noise()), "JPEG"))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = (13_000).to_bytes(2, "big") * 2
    said = f"damaged ({len(content):,} bytes cannot hold 13000×13000 pixels)"
    assert problem_of(bytes(content)) == said
    tiff = encoded(Image.fromarray(noise()), "TIFF", compression="tiff_adobe_deflate")
    for tag, size in ((256, 20), (257, 12)):
        entry = struct.pack("<HHIHH", tag, 3, 1, size, 0)
        assert entry in tiff
        tiff = tiff.replace(entry, struct.pack("<HHII", tag, 4, 1, 13_000))
    assert problem_of(tiff) == f"damaged ({len(tiff):,} bytes cannot hold 13000×13000 pixels)"
    # What compresses best of all that is true passes.
    for kind, options in (("JPEG", {"quality": 1}), ("TIFF", {"compression": "tiff_lzw"})):
        flat = encoded(Image.new("L", (3000, 3000)), kind, **options)
        assert decode(flat, "a").shape == (3000, 3000, 3)
    progressive = encoded(Image.new("L", (3000, 3000)), "JPEG", quality=1, progressive=True, optimize=True)
    assert decode(progressive, "a").shape == (3000, 3000, 3)


def test_zeros_in_the_pixels_of_a_png_are_damage_not_black() -> None:
    """Of a smooth picture Pillow may go on where its compressed bytes are lost: the checksum tells."""
    target = io.BytesIO()
    Image.fromarray(np.tile(np.arange(120, dtype=np.uint8)[:, None, None], (1, 160, 3))).save(target, "PNG")
    whole = target.getvalue()
    assert decode(whole, "a.png").shape == (120, 160, 3)
    for start in range(60, len(whole) - 20, 7):
        lost = whole[:start] + bytes(len(whole) - 20 - start) + whole[-20:]
        with pytest.raises(ImageError, match="damaged"):
            decode(lost, "a.png")
