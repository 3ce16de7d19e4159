"""Fast squares: within a level or two of the reference's, and its own wherever a file is not plain."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageDraw

import panderm
from panderm.data import fast
from panderm.data.fast import SCALED, UNSCALED, compare_decoding, pixels
from panderm.data.images import ImageError
from panderm.data.pillow import plain_jpeg
from panderm.data.preprocess import Interpolation, Preprocess

Pixels = npt.NDArray[np.uint8]
HALF = (0.5, 0.5, 0.5)


def eye(resize: int | tuple[int, int], crop: int, interpolation: Interpolation = "bilinear") -> Preprocess:
    return Preprocess(resize=resize, crop=crop, interpolation=interpolation, mean=HALF, std=HALF)


def skin(height: int, width: int, *, seed: int = 0, noise: float = 3.0, hairs: int = 8) -> Image.Image:
    """Something like a photograph: smooth colours, detail of every size, dark hairs, sensor noise."""
    rng = np.random.default_rng(seed)
    made = np.full((height, width, 3), (205.0, 160.0, 140.0))
    for size in (128, 64, 32, 16, 8):
        coarse = rng.normal(0, size**0.5, (height // size + 2, width // size + 2, 3)).astype(np.float32)
        for c in range(3):
            layer = Image.fromarray(coarse[..., c]).resize((width, height), Image.Resampling.BICUBIC)
            made[..., c] += np.asarray(layer)
    image = Image.fromarray(made.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(hairs):
        start, middle, end = (tuple(rng.uniform(0, 1, 2) * (width, height)) for _ in range(3))
        draw.line([start, middle, end], fill=(40, 25, 20), width=int(rng.integers(2, 7)), joint="curve")
    grain = np.asarray(image) + rng.normal(0, noise, (height, width, 3))
    return Image.fromarray(grain.clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **({"quality": 92} | options))
    return buffer.getvalue()


def off(content: bytes, preprocess: Preprocess) -> int:
    """Return the largest difference to the reference, in levels: 1 where less than 5 in 100,000 are 2 off."""
    exact = pixels(content, "x.jpg", preprocess, exact=True)
    quick = pixels(content, "x.jpg", preprocess)
    assert quick.shape == exact.shape == (preprocess.crop, preprocess.crop, 3)
    assert quick.dtype == np.uint8
    assert quick.flags.c_contiguous
    levels = np.abs(exact.astype(int) - quick)
    rare = levels.max() - 1
    return int(rare if (levels > rare).mean() < 5e-5 and rare == UNSCALED else levels.max())


def test_exact_is_the_reference_bit_for_bit(table: panderm.Table, encoder: panderm.Encoder) -> None:
    for path in table.path[:5]:
        content = Path(path).read_bytes()
        wanted = encoder.preprocess.pixels(panderm.read_image(path))
        assert np.array_equal(pixels(content, path, encoder.preprocess, exact=True), wanted)


@pytest.mark.parametrize("kind", ["baseline", "4:4:4", "progressive", "grey", "low"])
@pytest.mark.parametrize(
    "preprocess",
    [
        eye(256, 224),
        eye(224, 224, "bicubic"),
        eye((448, 448), 448, "bicubic"),
        eye(150, 200),
        eye((97, 131), 60, "bicubic"),
        eye(120, 100, "lanczos"),
        eye(120, 100, "nearest"),
    ],
    ids=lambda p: f"{p.resize}-{p.crop}-{p.interpolation}",
)
def test_small_photographs_are_at_most_one_level_off(kind: str, preprocess: Preprocess) -> None:
    image = skin(300, 401, seed=1)
    options: dict[str, dict[str, object]] = {
        "baseline": {"subsampling": 2},
        "4:4:4": {"subsampling": 0},
        "progressive": {"progressive": True},
        "grey": {},
        "low": {"quality": 60},
    }
    content = jpeg(image.convert("L") if kind == "grey" else image, **options[kind])
    assert plain_jpeg(content, 100) == (300, 401, 1)
    assert off(content, preprocess) <= (0 if preprocess.interpolation in ("lanczos", "nearest") else UNSCALED)


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    resize=st.one_of(st.integers(1, 100), st.tuples(st.integers(1, 100), st.integers(1, 100))),
    crop=st.integers(1, 100),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
    orientation=st.integers(1, 8),
    noise=st.booleans(),
)
def test_any_size_any_square_any_orientation(
    height: int,
    width: int,
    resize: int | tuple[int, int],
    crop: int,
    interpolation: Interpolation,
    orientation: int,
    noise: bool,
) -> None:
    """Pictures with nothing smooth in them, too: what is not scaled is never more than two levels off."""
    rng = np.random.default_rng(height * 1000 + width)
    image = (
        Image.fromarray(rng.integers(0, 2, (height, width, 3), dtype=np.uint8) * 255)
        if noise
        else skin(height, width, hairs=1)
    )
    exif = Image.Exif()
    exif[274] = orientation
    content = jpeg(image, exif=exif.tobytes())
    preprocess = eye(resize, crop, interpolation)
    tall, wide = (width, height) if orientation > 4 else (height, width)
    if not (noise and fast._shrink(preprocess, tall, wide) > 1):
        assert off(content, preprocess) <= SCALED


# Every two of the three meet in the first four.
@pytest.mark.parametrize(
    ("size", "interpolation", "subsampling"),
    [
        ((1500, 2001), "bilinear", 0),
        ((1500, 2001), "bicubic", 2),
        ((2003, 1499), "bilinear", 2),
        ((2003, 1499), "bicubic", 0),
        pytest.param((1500, 2001), "bilinear", 2, marks=pytest.mark.slow),
        pytest.param((1500, 2001), "bicubic", 0, marks=pytest.mark.slow),
        pytest.param((2003, 1499), "bilinear", 0, marks=pytest.mark.slow),
        pytest.param((2003, 1499), "bicubic", 2, marks=pytest.mark.slow),
    ],
)
def test_large_photographs_are_scaled_and_at_most_two_levels_off(
    size: tuple[int, int], interpolation: Interpolation, subsampling: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = jpeg(skin(*size, seed=2, hairs=30), subsampling=subsampling)
    shapes = []
    decode = simplejpeg.decode_jpeg

    def watched(*args: object, **kwargs: object) -> Pixels:
        rgb: Pixels = decode(*args, **kwargs)
        shapes.append(rgb.shape[:2])
        return rgb

    monkeypatch.setattr(simplejpeg, "decode_jpeg", watched)
    assert off(content, eye(128, 112, interpolation)) <= SCALED
    assert off(content, eye(60, 60, interpolation)) <= SCALED
    assert (
        off(content, eye(224, 224, interpolation)) <= UNSCALED
    )  # 3.3 times as large when halved: not scaled
    halves = tuple(-(-side // 2) for side in size)
    quarters = tuple(-(-side // 4) for side in size)
    assert shapes == [halves, quarters, size]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_large_photographs_are_turned(orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    content = jpeg(skin(1201, 1600, seed=3), exif=exif.tobytes())
    assert plain_jpeg(content, 100) == (1201, 1600, orientation)
    assert off(content, eye(100, 90)) <= SCALED


# Not plain


def wide_gamut() -> bytes:
    """The profile of a space that is not sRGB."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Red and green colourants exchanged.
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    swapped = bytearray(profile)
    swapped[red : red + 4], swapped[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(swapped)


def rgb_coded() -> bytes:
    """A JPEG whose components are R, G and B, as Adobe's mark says."""
    return jpeg(skin(60, 80), keep_rgb=True)


def marked_as_dicom() -> bytes:
    """What begins as a JPEG and is a DICOM file by its mark."""
    content = bytearray(jpeg(skin(60, 80), comment=b"x" * 300))
    content[128:132] = b"DICM"
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        jpeg(skin(60, 80), icc_profile=wide_gamut()),
        jpeg(skin(60, 80).convert("CMYK")),
        rgb_coded(),
        marked_as_dicom(),
        b"\xff\xd8\xff and nothing more",
        b"",
    ],
    ids=["profile", "CMYK", "RGB", "DICOM", "broken", "empty"],
)
def test_what_is_not_plain_is_left_to_the_reference(content: bytes) -> None:
    assert plain_jpeg(content, 100) is None


def test_a_profile_is_applied_and_srgb_is_none() -> None:
    image = skin(60, 80)
    assert off(jpeg(image, icc_profile=wide_gamut()), eye(50, 40)) <= UNSCALED
    plain = pixels(jpeg(image), "a.jpg", eye(50, 40))
    assert (
        np.abs(plain.astype(int) - pixels(jpeg(image, icc_profile=wide_gamut()), "a", eye(50, 40))).max() > 9
    )
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert plain_jpeg(jpeg(image, icc_profile=srgb), 100) is not None
    assert np.array_equal(plain, pixels(jpeg(image, icc_profile=srgb), "a.jpg", eye(50, 40)))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "BMP", "GIF"])
def test_other_formats_are_decoded_by_the_reference_and_resized_fast(kind: str) -> None:
    buffer = io.BytesIO()
    skin(90, 120).save(buffer, kind)
    assert off(buffer.getvalue(), eye(64, 50)) <= UNSCALED


def test_too_many_pixels_and_damage_are_told_in_the_references_words() -> None:
    content = jpeg(skin(200, 300))
    for spoilt, most in ((content, 0.05), (content[:4000], 100), (content[:100], 100), (b"text", 100)):
        told = []
        for exact in (True, False):
            with pytest.raises(ImageError) as caught:
                pixels(spoilt, "a.jpg", eye(64, 64), exact=exact, max_megapixels=most)
            told.append(str(caught.value))
        assert told[0] == told[1]


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_mutated_files_end_as_the_reference_ends(data: st.DataObject) -> None:
    content = bytearray(MUTATED[data.draw(st.sampled_from(sorted(MUTATED)))])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(2, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(2, len(content))) :]
    ended = []
    for exact in (True, False):
        try:
            ended.append(pixels(bytes(content), "a.jpg", eye(20, 20), exact=exact, max_megapixels=1))
        except ImageError as error:
            ended.append(error.reason)
    if isinstance(ended[0], str) or isinstance(ended[1], str):
        assert ended[0] == ended[1]
    else:
        assert np.abs(ended[0].astype(int) - ended[1]).max() <= SCALED


MUTATED = {
    "baseline": jpeg(skin(40, 50)),
    "progressive": jpeg(skin(40, 50), progressive=True),
    "grey": jpeg(skin(40, 50).convert("L")),
    "exif": jpeg(
        skin(40, 50), exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    ),
}


@pytest.mark.parametrize("size", [(600, 450), (450, 600), (700, 300), (300, 700)])
@pytest.mark.parametrize("preprocess", [eye((224, 224), 224, "bicubic"), eye((448, 448), 448, "bicubic")])
def test_overshoots_are_cut_off_in_pillows_order(size: tuple[int, int], preprocess: Preprocess) -> None:
    """Noise of black and white: in the other order of the two passes bicubic is 20 levels off."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 2, (*size, 3), dtype=np.uint8) * 255
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG", compress_level=1)
    assert off(buffer.getvalue(), preprocess) <= SCALED


# The guard, and processors without vector instructions


def test_both_ways_are_compared_on_what_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(4):
        (tmp_path / f"{i}.jpg").write_bytes(jpeg(skin(120, 160, seed=i)))
    (tmp_path / "skin.csv").write_text("image\n0.jpg\n1.jpg\n2.jpg\n3.jpg\n")
    table = panderm.read_table(tmp_path / "skin.csv", progress=False)
    levels, images = compare_decoding(table, eye(100, 90, "bicubic"), np.arange(4))
    assert levels <= UNSCALED
    assert images == 4
    (tmp_path / "2.jpg").write_bytes(b"gone bad")
    assert compare_decoding(table, eye(100, 90), np.array([1, 2, 3]))[1] == 2
    whole = fast._of_plain_jpeg
    monkeypatch.setattr(
        fast,
        "_of_plain_jpeg",
        lambda *given: np.minimum(whole(*given), 248) + 7,  # type: ignore[type-var]
    )
    assert compare_decoding(table, eye(100, 90), np.array([1]))[0] >= 7


def test_without_vector_instructions_the_resizing_is_the_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_has_vectors", lambda: False)
    assert off(jpeg(skin(300, 400)), eye(100, 90)) == 0
    assert off(jpeg(skin(800, 800)), eye(50, 50, "bicubic")) == 0


# Real images


@pytest.mark.parametrize(
    "folder", ["ham10000", "isic_uda1", "padufes20", "isic2017_seg", "isic2020_patients"]
)
def test_real_images_are_at_most_a_level_off(folder: str, shared: Path) -> None:
    files = sorted((shared / "data" / folder / "images").iterdir())
    for path in files[:: len(files) // 8 + 1]:
        assert off(path.read_bytes(), eye(256, 224)) <= UNSCALED
        assert off(path.read_bytes(), eye(40, 40, "bicubic")) <= SCALED
