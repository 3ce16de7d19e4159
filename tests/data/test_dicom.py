"""DICOM: colours, greys, compressions, refusals and columns; pixel data written here with numpy."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import generate_uid

from panderm.data.dicom import read_dicom_columns
from panderm.data.images import ImageError, decode, open_stored

IMPLICIT, EXPLICIT, DEFLATED, BIG = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99", ".2"))
JPEG, EXTENDED, LOSSLESS, JPEG_LS = (f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 70, 80))
J2K_LOSSLESS, J2K = (f"1.2.840.10008.1.2.4.{n}" for n in (90, 91))
RLE = "1.2.840.10008.1.2.5"
PHOTOGRAPH = "1.2.840.10008.5.1.4.1.1.77.1.4"


def noise(*shape: int, bits: int = 8, seed: int = 0) -> np.ndarray:
    kind = np.uint8 if bits <= 8 else np.uint16
    return np.random.default_rng(seed).integers(0, 2**bits, shape, dtype=kind)


def dicom(pixels: bytes | None, rows: int, columns: int, syntax: str = EXPLICIT, **more: Any) -> bytes:
    """A VL photograph as a file; ``pixels`` as they stand in it, a fragment where they are compressed."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    meta.MediaStorageSOPClassUID = PHOTOGRAPH
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["panderm"])
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = PHOTOGRAPH
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    if pixels is not None:
        dataset.Rows, dataset.Columns = rows, columns
        facts = {
            "SamplesPerPixel": 3,
            "PhotometricInterpretation": "RGB",
            "BitsAllocated": 8,
            "PixelRepresentation": 0,
        }
        facts.update(more)
        if facts["SamplesPerPixel"] == 3:
            facts.setdefault("PlanarConfiguration", 0)
        facts.setdefault("BitsStored", facts["BitsAllocated"])
        facts.setdefault("HighBit", facts["BitsStored"] - 1)
        more = facts
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    if pixels is not None:
        compressed = meta.TransferSyntaxUID.is_encapsulated
        dataset.PixelData = encapsulate([pixels]) if compressed else pixels + b"\0" * (len(pixels) % 2)
        dataset["PixelData"].VR = "OB" if compressed or more["BitsAllocated"] == 8 else "OW"
        dataset["PixelData"].is_undefined_length = compressed
    target = io.BytesIO()
    pydicom.dcmwrite(target, dataset, enforce_file_format=True)
    return target.getvalue()


def grey(values: np.ndarray, syntax: str = EXPLICIT, **more: Any) -> bytes:
    kind = values.dtype.newbyteorder(">" if syntax == BIG else "<")
    facts = {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 8 * values.itemsize,
        "PixelRepresentation": int(values.dtype.kind == "i"),
    }
    pixels = more.pop("pixels", None) or values.astype(kind).tobytes()
    return dicom(pixels, *values.shape[:2], syntax, **{**facts, **more})


def reason(content: bytes, **options: Any) -> str:
    with pytest.raises(ImageError) as caught:
        decode(content, "a.dcm", **options)
    return caught.value.reason


def ybr(rgb: np.ndarray) -> np.ndarray:
    """PS3.3, C.7.6.3.1.2: YBR_FULL."""
    matrix = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    return np.rint(rgb @ matrix.T + (0, 128, 128)).clip(0, 255).astype(np.uint8)


RGB = noise(16, 22, 3)


def lossless_jpeg(values: np.ndarray) -> bytes:
    """ITU-T T.81, process 14, selection value 1, at the number of bits that the values need."""
    bits = max(8, int(values.max()).bit_length())
    colours = {"colorspace": "RGB", "outcolorspace": "RGB"} if values.ndim == 3 else {}
    return bytes(imagecodecs.jpeg8_encode(values, lossless=True, predictor=1, bitspersample=bits, **colours))


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("planar", [0, 1])
def test_rgb(syntax: str, planar: int) -> None:
    pixels = RGB if planar == 0 else RGB.transpose(2, 0, 1)
    seen, stored = open_stored(dicom(pixels.tobytes(), 16, 22, syntax, PlanarConfiguration=planar), "a.dcm")
    np.testing.assert_array_equal(seen, RGB)
    assert (stored.format, stored.mode, stored.bits, stored.frames) == ("DICOM", "RGB", 8, 1)


@pytest.mark.parametrize("planar", [0, 1])
def test_ybr_becomes_rgb(planar: int) -> None:
    coded = ybr(RGB)
    pixels = coded if planar == 0 else coded.transpose(2, 0, 1)
    content = dicom(
        pixels.tobytes(), 16, 22, PhotometricInterpretation="YBR_FULL", PlanarConfiguration=planar
    )
    assert np.abs(decode(content, "a.dcm").astype(int) - RGB).max() <= 2


def test_ybr_with_half_the_colours_becomes_rgb() -> None:
    """Two pixels share one pair of colours: Y Y Cb Cr."""
    pairs = np.repeat(noise(16, 11, 3), 2, axis=1)
    coded = ybr(pairs)
    packed = np.stack([coded[:, ::2, 0], coded[:, 1::2, 0], coded[:, ::2, 1], coded[:, ::2, 2]], axis=-1)
    content = dicom(packed.tobytes(), 16, 22, PhotometricInterpretation="YBR_FULL_422")
    assert np.abs(decode(content, "a.dcm").astype(int) - pairs).max() <= 2


@pytest.mark.parametrize("bits", [12, 16])
def test_deep_rgb_uses_the_bits_stored(bits: int) -> None:
    deep = noise(16, 22, 3, bits=bits)
    content = dicom(deep.astype("<u2").tobytes(), 16, 22, BitsAllocated=16, BitsStored=bits)
    seen, stored = open_stored(content, "a.dcm")
    np.testing.assert_array_equal(seen, np.floor(deep * (255 / (2**bits - 1)) + 0.5))
    assert stored.bits == bits


def smooth() -> np.ndarray:
    return np.asarray(Image.fromarray(noise(4, 5, 3)).resize((40, 32), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
def test_jpeg_is_what_the_same_jpeg_in_a_file_of_its_own_is(subsampling: str) -> None:
    stream = imagecodecs.jpeg_encode(smooth(), level=90, subsampling=subsampling)
    content = dicom(stream, 32, 40, JPEG, PhotometricInterpretation="YBR_FULL_422")
    seen, stored = open_stored(content, "a.dcm")
    np.testing.assert_array_equal(seen, decode(stream, "a.jpg"))
    assert np.abs(seen.astype(int) - imagecodecs.jpeg_decode(stream)).max() <= 1
    assert stored.jpeg_quality == 90


def without_marks(stream: bytes) -> bytes:
    """A JPEG without its JFIF and Adobe segments: nothing in it says what its channels are."""
    out, at = stream[:2], 2
    while stream[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        if stream[at + 1] not in (0xE0, 0xEE):
            out += stream[at:end]
        at = end
    return out + stream[at:]


def test_a_jpeg_of_rgb_channels_that_only_the_header_knows_of() -> None:
    """Such as digital microscopes write: taken for YCbCr, a face turns green."""
    channels = smooth()
    # Coded as if it were YCbCr already: no transform is made, and none must be taken back.
    stream = without_marks(
        imagecodecs.jpeg8_encode(channels, level=98, colorspace="YCBCR", outcolorspace="YCBCR")
    )
    seen = decode(dicom(stream, 32, 40, JPEG, PhotometricInterpretation="RGB"), "a.dcm")
    assert np.abs(seen.astype(int) - channels).mean() < 6
    as_ybr = decode(dicom(stream, 32, 40, JPEG, PhotometricInterpretation="YBR_FULL_422"), "a.dcm")
    assert np.abs(as_ybr.astype(int) - channels).mean() > 30


def test_a_wrong_label_on_a_jpeg_with_a_mark_is_seen_through() -> None:
    stream = imagecodecs.jpeg_encode(smooth(), level=95, subsampling="444")
    assert b"JFIF" in stream
    seen = decode(dicom(stream, 32, 40, JPEG, PhotometricInterpretation="RGB"), "a.dcm")
    assert np.abs(seen.astype(int) - smooth()).mean() < 4


def test_a_grey_jpeg_is_windowed_like_any_grey() -> None:
    values = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))
    stream = imagecodecs.jpeg_encode(values, level=100)
    plain = decode(grey(values, JPEG, pixels=stream), "a.dcm")
    assert np.abs(plain[..., 0].astype(int) - values).max() <= 2
    inverted = decode(grey(values, JPEG, pixels=stream, PhotometricInterpretation="MONOCHROME1"), "a.dcm")
    np.testing.assert_array_equal(inverted, 255 - plain)


def test_lossless_compressions_of_colour() -> None:
    for syntax, stream, label in (
        (
            J2K_LOSSLESS,
            imagecodecs.jpeg2k_encode(RGB, level=0, reversible=True, codecformat="J2K", mct=True),
            "YBR_RCT",
        ),
        (
            J2K_LOSSLESS,
            imagecodecs.jpeg2k_encode(RGB, level=0, reversible=True, codecformat="J2K", mct=False),
            "RGB",
        ),
        (JPEG_LS, imagecodecs.jpegls_encode(RGB), "RGB"),
        (
            LOSSLESS,
            lossless_jpeg(RGB),
            "RGB",
        ),
    ):
        seen = decode(dicom(stream, 16, 22, syntax, PhotometricInterpretation=label), "a.dcm")
        np.testing.assert_array_equal(seen, RGB, str((syntax, label)))


def test_a_label_of_ybr_on_jpeg_2000_does_not_convert_twice() -> None:
    """The stream's own transform is undone by its decoder, whatever the label says."""
    stream = imagecodecs.jpeg2k_encode(RGB, level=0, reversible=True, codecformat="J2K", mct=True)
    for label in ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"):
        seen = decode(dicom(stream, 16, 22, J2K_LOSSLESS, PhotometricInterpretation=label), "a.dcm")
        np.testing.assert_array_equal(seen, RGB, label)
    # And without a transform in the stream, a label of YBR is to be believed.
    stream = imagecodecs.jpeg2k_encode(ybr(RGB), level=0, reversible=True, codecformat="J2K", mct=False)
    seen = decode(dicom(stream, 16, 22, J2K_LOSSLESS, PhotometricInterpretation="YBR_FULL"), "a.dcm")
    assert np.abs(seen.astype(int) - RGB).max() <= 2


def test_lossy_jpeg_2000() -> None:
    picture = smooth()
    stream = imagecodecs.jpeg2k_encode(picture, level=45, codecformat="J2K", mct=True)
    seen = decode(dicom(stream, 32, 40, J2K, PhotometricInterpretation="YBR_ICT"), "a.dcm")
    assert np.abs(seen.astype(int) - imagecodecs.jpeg2k_decode(stream)).max() <= 1
    assert np.abs(seen.astype(int) - picture).mean() < 3


def run_lengths(values: np.ndarray) -> bytes:
    """PS3.5, annex G: one segment a byte plane, the high byte first, each packed by itself."""
    planes = [values[..., k] for k in range(values.shape[2])]
    parts = [
        plane.astype(">u2").view(np.uint8)[:, i::2] if values.itemsize == 2 else plane
        for plane in planes
        for i in range(values.itemsize)
    ]
    segments = []
    for part in parts:
        packed = b"".join(
            bytes(imagecodecs.packbits_encode(row.tobytes())) for row in np.ascontiguousarray(part)
        )
        segments.append(packed + b"\0" * (len(packed) % 2))
    starts = np.cumsum([64, *(len(s) for s in segments)])[:-1]
    header = np.zeros(16, dtype="<u4")
    header[0], header[1 : 1 + len(segments)] = len(segments), starts
    return header.tobytes() + b"".join(segments)


def test_run_lengths() -> None:
    np.testing.assert_array_equal(decode(dicom(run_lengths(RGB), 16, 22, RLE), "a.dcm"), RGB)
    seen = decode(dicom(run_lengths(ybr(RGB)), 16, 22, RLE, PhotometricInterpretation="YBR_FULL"), "a.dcm")
    assert np.abs(seen.astype(int) - RGB).max() <= 2
    deep = noise(16, 22, 1, bits=16)
    seen = decode(grey(deep, RLE, pixels=run_lengths(deep)), "a.dcm")
    np.testing.assert_array_equal(seen[..., :1], np.floor(deep / 257 + 0.5))


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, J2K_LOSSLESS, JPEG_LS, LOSSLESS])
def test_grey_without_a_window_uses_the_full_range_of_the_bits_stored(bits: int, syntax: str) -> None:
    values = noise(16, 22, bits=bits)
    values[0, :2] = 0, 2**bits - 1
    encode = {
        J2K_LOSSLESS: lambda v: imagecodecs.jpeg2k_encode(
            v, level=0, reversible=True, codecformat="J2K", bitspersample=bits
        ),
        JPEG_LS: imagecodecs.jpegls_encode,
        LOSSLESS: lossless_jpeg,
    }.get(syntax)
    pixels = bytes(encode(values)) if encode else None
    seen, stored = open_stored(grey(values, syntax, BitsStored=bits, pixels=pixels), "a.dcm")
    np.testing.assert_array_equal(seen[..., 0], np.floor(values * (255 / (2**bits - 1)) + 0.5))
    assert (seen == seen[..., :1]).all()
    assert (stored.mode, stored.bits) == ("MONOCHROME2", bits)


def test_monochrome1_is_shown_from_white_to_black() -> None:
    values = noise(16, 22)
    seen = decode(grey(values, PhotometricInterpretation="MONOCHROME1"), "a.dcm")
    np.testing.assert_array_equal(seen[..., 0], 255 - values)


def test_signed_grey() -> None:
    values = np.random.default_rng(0).integers(-2048, 2048, (16, 22)).astype(np.int16)
    seen = decode(grey(values, BitsStored=12), "a.dcm")
    np.testing.assert_array_equal(seen[..., 0], np.rint((values + 2048.0) * (255 / 4095)))


def linear(x: np.ndarray, centre: float, width: float) -> np.ndarray:
    """PS3.3, C.11.2.1.2.1, to the letter."""
    below, above = x <= centre - 0.5 - (width - 1) / 2, x > centre - 0.5 + (width - 1) / 2
    y = ((x - (centre - 0.5)) / (width - 1) + 0.5) * 255
    return np.where(below, 0, np.where(above, 255, y))


def test_windows() -> None:
    values = noise(16, 22, bits=12)
    window = {"BitsStored": 12, "WindowCenter": 1000, "WindowWidth": 600}
    seen = decode(grey(values, **window), "a.dcm")[..., 0]
    assert np.abs(seen - linear(values.astype(float), 1000, 600)).max() <= 0.51
    assert {0, 255} <= set(seen.ravel().tolist())

    rescaled = decode(grey(values, **window, RescaleSlope=2, RescaleIntercept=-1024), "a.dcm")[..., 0]
    assert np.abs(rescaled - linear(values * 2.0 - 1024, 1000, 600)).max() <= 0.51

    first = decode(grey(values, BitsStored=12, WindowCenter=[1000, 50], WindowWidth=[600, 10]), "a.dcm")
    np.testing.assert_array_equal(first[..., 0], seen)

    exact = decode(grey(values, **window, VOILUTFunction="LINEAR_EXACT"), "a.dcm")[..., 0]
    assert np.abs(exact - ((values - 1000.0) / 600 + 0.5).clip(0, 1) * 255).max() <= 0.51
    curved = decode(grey(values, **window, VOILUTFunction="SIGMOID"), "a.dcm")[..., 0]
    assert np.abs(curved - 255 / (1 + np.exp(-4 * (values - 1000.0) / 600))).max() <= 0.51

    step = decode(grey(values, BitsStored=12, WindowCenter=1000, WindowWidth=1), "a.dcm")[..., 0]
    np.testing.assert_array_equal(step, np.where(values > 999.5, 255, 0))
    without = decode(grey(values, BitsStored=12), "a.dcm")
    np.testing.assert_array_equal(
        decode(grey(values, BitsStored=12, WindowCenter=5, WindowWidth=0), "a.dcm"), without
    )


def test_a_voi_table() -> None:
    values = noise(16, 22)
    table = Dataset()
    table.LUTDescriptor = [256, 0, 16]
    entries = (65535 - np.arange(256) * 257).astype(np.uint16)
    table.LUTData = entries.astype("<u2").tobytes()
    seen = decode(grey(values, VOILUTSequence=[table], WindowCenter=10, WindowWidth=5), "a.dcm")
    np.testing.assert_array_equal(seen[..., 0], 255 - values)


@pytest.mark.parametrize("entry_bits", [8, 16])
def test_palettes(entry_bits: int) -> None:
    values = noise(16, 22)
    colours = noise(256, 3, bits=entry_bits, seed=1)
    facts = {"PhotometricInterpretation": "PALETTE COLOR"}
    for i, name in enumerate(("Red", "Green", "Blue")):
        facts[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, entry_bits]
        kind = "<u2" if entry_bits == 16 else "u1"
        facts[f"{name}PaletteColorLookupTableData"] = colours[:, i].astype(kind).tobytes()
    wanted = colours if entry_bits == 8 else np.floor(colours / 257 + 0.5)
    np.testing.assert_array_equal(decode(grey(values, **facts), "a.dcm"), wanted[values])
    if entry_bits == 16:
        # 8-bit colours in a 16-bit table, as older machines wrote.
        for i, name in enumerate(("Red", "Green", "Blue")):
            facts[f"{name}PaletteColorLookupTableData"] = (colours[:, i] >> 8).astype("<u2").tobytes()
        np.testing.assert_array_equal(decode(grey(values, **facts), "a.dcm"), (colours >> 8)[values])


def test_a_colour_profile_inside() -> None:
    from test_colour import ADOBE_PROFILE, adobe_as_srgb

    top = dicom(RGB.tobytes(), 16, 22, ICCProfile=ADOBE_PROFILE)
    path = Dataset()
    path.ICCProfile = ADOBE_PROFILE
    for content in (top, dicom(RGB.tobytes(), 16, 22, OpticalPathSequence=[path])):
        seen, stored = open_stored(content, "a.dcm")
        assert np.abs(seen - adobe_as_srgb(RGB)).max() <= 1.5
        assert stored.profile == "written here"


def test_files_without_a_preamble() -> None:
    for syntax in (IMPLICIT, EXPLICIT, BIG):
        whole = dicom(RGB.tobytes(), 16, 22, syntax)
        length = int.from_bytes(whole[140:144], "little")
        np.testing.assert_array_equal(decode(whole[132:], "a.dcm"), RGB)  # from its group of facts on
        np.testing.assert_array_equal(decode(whole[144 + length :], "a.dcm"), RGB)  # the data alone


def test_what_is_refused_and_why() -> None:
    def zeros(n: int) -> bytes:
        return b"\0" * n

    assert reason(dicom(zeros(2112), 16, 22, NumberOfFrames=2)) == "holds 2 frames, not one picture"
    assert reason(dicom(None, 0, 0)) == "DICOM without a picture (VL Photographic Image Storage)"
    wide = {"BitsAllocated": 32, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}
    assert reason(dicom(zeros(1408), 16, 22, **wide)) == "more than 16 bits a pixel"
    assert (
        reason(dicom(zeros(1056), 16, 22, PhotometricInterpretation="HSV")) == "DICOM colours of the kind HSV"
    )
    large = dicom(zeros(100), 30_000, 30_000)
    assert reason(large) == "more than 179 million pixels"
    assert reason(dicom(RGB.tobytes(), 16, 22), max_megapixels=0.0003) == "more than 0.0003 million pixels"
    video = dicom(zeros(100), 16, 22, "1.2.840.10008.1.2.4.100")
    assert reason(video) == "DICOM compressed as MPEG2 Main Profile / Main Level"
    twelve = dicom(zeros(100), 16, 22, EXTENDED, BitsAllocated=16, BitsStored=12)
    assert reason(twelve).startswith("damaged")
    stream = bytes(imagecodecs.jpeg_encode(noise(16, 22)))
    twelve = grey(noise(16, 22, bits=12), EXTENDED, BitsStored=12, pixels=stream)
    assert reason(twelve) == "a JPEG of 12 bits"


def test_damage() -> None:
    plain = dicom(noise(64, 64, 3).tobytes(), 64, 64)
    packed = dicom(noise(64, 64, 3).tobytes(), 64, 64, DEFLATED)
    jpeg = dicom(imagecodecs.jpeg_encode(noise(64, 64, 3)), 64, 64, JPEG)
    j2k = dicom(
        imagecodecs.jpeg2k_encode(noise(64, 64, 3), codecformat="J2K", level=0, reversible=True),
        64,
        64,
        J2K_LOSSLESS,
    )
    rle = dicom(run_lengths(noise(64, 64, 3)), 64, 64, RLE)
    lossless = dicom(lossless_jpeg(noise(64, 64, 3)), 64, 64, LOSSLESS)
    jpeg_ls = dicom(imagecodecs.jpegls_encode(noise(64, 64, 3), out=100_000), 64, 64, JPEG_LS)
    for name, content in locals().copy().items():
        decode(content, name)
        for part in (0.3, 0.6, 0.95):
            assert reason(content[: int(len(content) * part)]), (name, part)


def test_a_stream_that_asks_for_more_than_the_header_says() -> None:
    """Memory is taken for what the stream says: it must be what was held against the limit."""
    for syntax, stream in (
        (JPEG, imagecodecs.jpeg_encode(noise(64, 64, 3))),
        (J2K_LOSSLESS, imagecodecs.jpeg2k_encode(noise(64, 64, 3), codecformat="J2K")),
        (JPEG_LS, imagecodecs.jpegls_encode(noise(64, 64, 3), out=100_000)),
    ):
        assert reason(dicom(stream, 16, 22, syntax)) == (
            "damaged (the header says 22×16 pixels, the stream 64×64)"
        )


def test_a_deflated_file_is_not_inflated_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from panderm.data import dicom as module

    monkeypatch.setattr(module, "_MOST_INFLATED", 100_000)
    whole = dicom(b"\0" * 3_000_000, 1000, 1000, DEFLATED)
    assert len(whole) < 10_000
    assert reason(whole) == "a deflated file of more than a gigabyte"


def test_without_the_extra_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = dicom(RGB.tobytes(), 16, 22)
    (tmp_path / "a.dcm").write_bytes(content)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert reason(content) == "DICOM needs pip install 'panderm[dicom]'"
    with pytest.raises(ImageError, match="must be readable") as caught:
        read_dicom_columns(tmp_path / "a.dcm")
    assert caught.value.reason == "DICOM needs pip install 'panderm[dicom]'"


def columns(tmp_path: Path, **facts: Any) -> dict[str, str]:
    (tmp_path / "a.dcm").write_bytes(dicom(RGB.tobytes(), 16, 22, **facts))
    return read_dicom_columns(tmp_path / "a.dcm")


def test_columns(tmp_path: Path) -> None:
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "14975008", "SCT", "Forearm"
    found = columns(
        tmp_path,
        PatientID=" P 7 ",
        PatientAge="045Y",
        PatientSex="F",
        StudyDate="20240503",
        BodyPartExamined="ARM",
        AnatomicRegionSequence=[region],
        ImageLaterality="L",
        PixelSpacing=["0.025", "0.025"],
        Modality="XC",
        Manufacturer="Camera & Söhne",
        SpecificCharacterSet="ISO_IR 192",
    )
    assert found == {
        "patient_id": "P 7",
        "patient_age": "45",
        "patient_sex": "F",
        "study_date": "2024-05-03",
        "body_site": "Forearm",
        "laterality": "L",
        "mm_per_pixel": "0.025",
        "modality": "XC",
        "manufacturer": "Camera & Söhne",
    }
    empty = columns(tmp_path)
    assert list(empty) == list(found)
    assert set(empty.values()) == {""}
    others = columns(
        tmp_path, PatientAge="018M", BodyPartExamined="ARM", Laterality="R", ImagerPixelSpacing=["0.1", "0.2"]
    )
    assert others["patient_age"] == "1.5"
    assert others["body_site"] == "ARM"
    assert others["laterality"] == "R"
    assert others["mm_per_pixel"] == "", "pixels that are not square have no one size"


def test_columns_do_not_read_the_pixels(tmp_path: Path) -> None:
    """Nor need them: a file cut before its pixels still says whose it is."""
    content = dicom(RGB.tobytes(), 16, 22, PatientID="P1")
    (tmp_path / "a.dcm").write_bytes(content[:-900])
    assert read_dicom_columns(tmp_path / "a.dcm")["patient_id"] == "P1"
    (tmp_path / "b.dcm").write_bytes(b"no DICOM at all, only some text")
    for name, why in (("b.dcm", "not a DICOM file"), ("c.dcm", "no such file")):
        with pytest.raises(ImageError) as caught:
            read_dicom_columns(tmp_path / name)
        assert caught.value.reason == why


def test_files_that_other_software_wrote() -> None:
    """The small files that pydicom is tested with: pixels or a reason, never anything else."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    seen, reasons = 0, []
    for path in sorted(folder.glob("*.dcm")):
        try:
            rgb, stored = open_stored(path.read_bytes(), path)
        except ImageError as error:
            reasons.append(error.reason)
            continue
        seen += 1
        assert rgb.dtype == np.uint8
        dataset = pydicom.dcmread(path, force=True)
        if stored.bits == 8 and dataset.SamplesPerPixel == 3:
            theirs = dataset.pixel_array
            assert np.abs(rgb.astype(int) - theirs).max() <= 1, path.name
    assert seen >= 30
    assert len(reasons) >= 20
    assert all(reasons)


def test_rarer_compressions() -> None:
    near = imagecodecs.jpegls_encode(smooth(), level=2, out=100_000)
    seen = decode(dicom(near, 32, 40, "1.2.840.10008.1.2.4.81"), "a.dcm")
    np.testing.assert_array_equal(seen, imagecodecs.jpegls_decode(near))
    assert 0 < np.abs(seen.astype(int) - smooth()).max() <= 2

    extended = imagecodecs.jpeg_encode(smooth(), level=90)
    seen = decode(dicom(extended, 32, 40, EXTENDED, PhotometricInterpretation="YBR_FULL"), "a.dcm")
    np.testing.assert_array_equal(seen, decode(extended, "a.jpg"))

    fast = imagecodecs.htj2k_encode(RGB, reversible=True)
    seen = decode(
        dicom(fast, 16, 22, "1.2.840.10008.1.2.4.201", PhotometricInterpretation="YBR_RCT"), "a.dcm"
    )
    np.testing.assert_array_equal(seen, RGB)


def test_any_predictor_of_lossless_jpeg() -> None:
    for predictor in range(1, 8):
        stream = imagecodecs.jpeg8_encode(RGB, lossless=True, predictor=predictor)
        seen = decode(dicom(stream, 16, 22, "1.2.840.10008.1.2.4.57"), "a.dcm")
        np.testing.assert_array_equal(seen, RGB, str(predictor))
