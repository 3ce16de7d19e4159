"""Small image files of every format and kind of pixels that the decoder reads, for the fuzz run."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def drawn() -> dict[str, bytes]:
    """Return small files of every format and kind of pixels, by ``format/kind``."""
    rng = np.random.default_rng(0)
    rgb = np.asarray(Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((64, 48), 3))
    return {**_plain(rgb), **_deep(rgb), **_phones(rgb), **_dicom(rgb)}


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.copy().save(target, kind, **options)  # a saved image remembers options of a format
    return target.getvalue()


def _film(image: Image.Image) -> dict[str, Any]:
    return {"save_all": True, "append_images": [image.rotate(180)]}


def _plain(rgb: np.ndarray) -> dict[str, bytes]:
    from PIL import ImageCms, features

    image = Image.fromarray(rgb)
    exif = Image.Exif()
    exif[274] = 6
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Another sRGB: with its red and green primaries exchanged, so that it must be applied.
    icc_rgb = srgb.replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ").replace(b"tXYZ", b"gXYZ")
    alpha = Image.merge("RGBA", (*image.split(), image.getchannel("R")))
    palette = image.quantize(16)
    files = {
        "jpeg/exif": _saved(image, "JPEG", quality=90, exif=exif),
        "jpeg/progressive": _saved(image, "JPEG", progressive=True, subsampling=0),
        "jpeg/grey": _saved(image.convert("L"), "JPEG"),
        "jpeg/inks": _saved(image.convert("CMYK"), "JPEG"),
        "jpeg/profile": _saved(image, "JPEG", icc_profile=icc_rgb),
        "jpeg/wrong profile": _saved(image, "JPEG", icc_profile=icc),
        "jpeg/restarts": _saved(image, "JPEG", restart_marker_blocks=3),
        "mpo/two": _saved(image, "MPO", **_film(image)),
        "png/rgb": _saved(image, "PNG", exif=exif),
        "png/rgba": _saved(alpha, "PNG"),
        "png/palette": _saved(palette, "PNG", transparency=3),
        "png/bits": _saved(image.convert("1"), "PNG"),
        "png/profile": _saved(image, "PNG", icc_profile=icc_rgb),
        "png/film": _saved(image, "PNG", **_film(image)),
        "gif/still": _saved(palette, "GIF"),
        "gif/film": _saved(image, "GIF", **_film(image)),
        "bmp/rgb": _saved(image, "BMP"),
        "bmp/palette": _saved(palette, "BMP"),
        "webp/lossy": _saved(image, "WEBP", exif=exif),
        "webp/lossless": _saved(alpha, "WEBP", lossless=True, icc_profile=icc_rgb),
        "webp/film": _saved(image, "WEBP", **_film(image)),
        "others/tga": _saved(image, "TGA", compression="tga_rle"),
        "others/ppm": _saved(image, "PPM"),
        "others/ico": _saved(image, "ICO"),
        "others/pcx": _saved(image, "PCX"),
        "others/dds": _saved(alpha, "DDS"),
        "jpeg 2000/rgb": _saved(image, "JPEG2000"),
        "jpeg 2000/lossy": _saved(image, "JPEG2000", irreversible=True, quality_layers=[20]),
    }
    for packing in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        files[f"tiff/{packing}"] = _saved(image, "TIFF", compression=packing)
    files["tiff/group4"] = _saved(image.convert("1"), "TIFF", compression="group4")
    files["tiff/inks"] = _saved(image.convert("CMYK"), "TIFF", compression="tiff_lzw")
    files["tiff/pages"] = _saved(image, "TIFF", **_film(image))
    if features.check("avif"):
        files["avif/rgb"] = _saved(image, "AVIF", exif=exif)
        files["avif/rgba"] = _saved(alpha, "AVIF")
    return files


def _deep(rgb: np.ndarray) -> dict[str, bytes]:
    import imagecodecs

    deep = rgb.astype(np.uint16) * 257
    files = {
        "png/16 bits": imagecodecs.png_encode(deep),
        "png/16 bits grey alpha": imagecodecs.png_encode(deep[..., :2].copy()),
        "jpeg 2000/16 bits": imagecodecs.jpeg2k_encode(deep, level=0, reversible=True),
        "jpeg 2000/stream": imagecodecs.jpeg2k_encode(rgb, codecformat="J2K", level=0, reversible=True),
        "tiff/16 bits": _tiff(deep),
        "tiff/16 bits grey": _saved(Image.fromarray(deep[..., 0]), "TIFF", compression="tiff_lzw"),
    }
    return {name: bytes(content) for name, content in files.items()}


def _tiff(deep: np.ndarray) -> bytes:
    """Return the smallest TIFF of 16-bit RGB: one deflated strip."""
    height, width, _ = deep.shape
    strip = zlib.compress(deep.astype("<u2").tobytes())
    strip += b"\0" * (len(strip) % 2)
    at = 8 + len(strip)
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 3, at + 2 + 12 * 9 + 4),
        (259, 3, 1, 8),
        (262, 3, 1, 2),
    ]
    tags += [(273, 4, 1, 8), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(strip))]
    body = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    directory = struct.pack("<H", len(tags)) + body + bytes(4) + struct.pack("<3H", 16, 16, 16)
    return b"II*\0" + struct.pack("<I", at) + strip + directory


def _phones(rgb: np.ndarray) -> dict[str, bytes]:
    import pillow_heif

    exif = Image.Exif()
    exif[274] = 6
    files = {}
    large = np.ascontiguousarray(rgb)
    for name, mode, values, options in (
        ("turned", "RGB", large, {"exif": exif.tobytes()}),
        ("alpha", "RGBA", np.dstack([large, large[..., 0]]), {}),
        ("10 bits", "RGB;16", large.astype(np.uint16) * 257, {}),
        ("grey", "L", np.ascontiguousarray(large[..., 0]), {}),
    ):
        file = pillow_heif.from_bytes(mode, (values.shape[1], values.shape[0]), values.tobytes())
        target = io.BytesIO()
        file.save(target, quality=80, **options)
        files[f"heic/{name}"] = target.getvalue()
    return files


def _dicom(rgb: np.ndarray) -> dict[str, bytes]:
    import imagecodecs
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate

    def file(pixels: bytes, syntax: str, **facts: Any) -> bytes:
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = pydicom.uid.UID(f"1.2.840.10008.1.2{syntax}")
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.4"
        meta.MediaStorageSOPInstanceUID = "1.2.3"
        dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
        dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
        usual = {"Rows": 48, "Columns": 64, "SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}
        usual |= {
            "BitsAllocated": 8,
            "BitsStored": 8,
            "HighBit": 7,
            "PixelRepresentation": 0,
            "PlanarConfiguration": 0,
        }
        for keyword, value in (usual | facts).items():
            setattr(dataset, keyword, value)
        packed = meta.TransferSyntaxUID.is_encapsulated
        dataset.PixelData = encapsulate([pixels]) if packed else pixels
        dataset["PixelData"].VR = "OW" if dataset.BitsAllocated == 16 else "OB"
        dataset["PixelData"].is_undefined_length = packed
        target = io.BytesIO()
        pydicom.dcmwrite(target, dataset, enforce_file_format=True)
        return target.getvalue()

    grey = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}
    deep = {**grey, "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15}
    sixteen = rgb[..., 0].astype(np.uint16) * 257
    palette = {**grey, "PhotometricInterpretation": "PALETTE COLOR"}
    for name in ("Red", "Green", "Blue"):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
        palette[f"{name}PaletteColorLookupTableData"] = bytes(range(256))
    lossless = {"lossless": True, "predictor": 1}
    plane = bytes(imagecodecs.packbits_encode(rgb[..., 0].tobytes()))
    plane += b"\0" * (len(plane) % 2)
    runs = struct.pack("<16I", 1, 64, *[0] * 14) + plane
    j2k = {"codecformat": "J2K", "level": 0, "reversible": True}
    files = {
        "rgb": file(rgb.tobytes(), ".1"),
        "implicit ybr": file(rgb.tobytes(), "", PhotometricInterpretation="YBR_FULL", PlanarConfiguration=1),
        "big": file(rgb.tobytes(), ".2"),
        "deflated": file(rgb.tobytes(), ".1.99"),
        "palette": file(rgb[..., 0].tobytes(), ".1", **palette),
        "window": file(
            sixteen.tobytes(),
            ".1",
            **deep,
            WindowCenter=3000,
            WindowWidth=900,
            RescaleSlope=2,
            RescaleIntercept=0,
        ),
        "jpeg": file(imagecodecs.jpeg_encode(rgb), ".4.50", PhotometricInterpretation="YBR_FULL_422"),
        "lossless": file(imagecodecs.jpeg8_encode(rgb, **lossless), ".4.70"),
        "lossless 16": file(imagecodecs.jpeg8_encode(sixteen, bitspersample=16, **lossless), ".4.70", **deep),
        "jpeg-ls": file(imagecodecs.jpegls_encode(rgb, out=100_000), ".4.80"),
        "jpeg-ls 16": file(imagecodecs.jpegls_encode(sixteen, out=100_000), ".4.80", **deep),
        "jpeg 2000": file(
            imagecodecs.jpeg2k_encode(rgb, mct=True, **j2k), ".4.90", PhotometricInterpretation="YBR_RCT"
        ),
        "jpeg 2000 16": file(imagecodecs.jpeg2k_encode(sixteen, **j2k), ".4.90", **deep),
        "runs": file(runs, ".5", **grey),
    }
    return {f"dicom/{name}": content for name, content in files.items()}
