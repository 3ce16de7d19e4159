"""DICOM's pixel data to 8 bits: every compression, photometric interpretation, rescale and window."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin

from panderm.data.deep import to_eight_bits
from panderm.data.jpeg_quality import estimate_quality
from panderm.data.stored import Unreadable

if TYPE_CHECKING:
    from pydicom import Dataset

# Transfer syntaxes (PS3.6, table A-1), and who decodes each.
_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_DECODER = {
    "1.2.840.10008.1.2.4.57": "gdcm",  # JPEG lossless
    "1.2.840.10008.1.2.4.70": "gdcm",
    "1.2.840.10008.1.2.4.80": "gdcm",  # JPEG-LS
    "1.2.840.10008.1.2.4.81": "gdcm",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",  # JPEG 2000
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg",  # high-throughput JPEG 2000
    "1.2.840.10008.1.2.4.202": "pylibjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg",
    "1.2.840.10008.1.2.5": "pylibjpeg",  # run lengths
}
_SIZ, _COD = b"\xff\x4f\xff\x51", b"\xff\x52"


@dataclass(frozen=True)
class Decoded:
    """A picture as Pillow's L or RGB, 8 bits; and the quality of the JPEG inside, where there is one."""

    image: Image.Image
    jpeg_quality: int | None = None


def decode_pixels(dataset: Dataset) -> Decoded:
    """Decode the one picture of a dataset.

    Raises:
        Unreadable: a kind of pixels that cannot be read; other exceptions mean damage.
    """
    if int(dataset.BitsAllocated) > 16:
        raise Unreadable("more than 16 bits a pixel")
    if int(dataset.SamplesPerPixel) not in (1, 3):
        raise Unreadable(f"DICOM with {dataset.SamplesPerPixel} samples a pixel")
    syntax = _transfer_syntax(dataset)
    if syntax in _JPEG:
        image = _jpeg(dataset)
        quality = estimate_quality(image)
        if image.mode == "RGB":
            return Decoded(image, quality)
        return Decoded(_one_channel(dataset, np.asarray(image)), quality)
    values, photometric = _values(dataset, syntax)
    if int(dataset.SamplesPerPixel) == 1:
        return Decoded(_one_channel(dataset, values))
    if values.min() < 0:
        raise Unreadable("signed colours")
    bits = int(dataset.BitsStored)
    eight = to_eight_bits(values.clip(0, 2**bits - 1), bits) if bits != 8 else values.astype(np.uint8)
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        return Decoded(_bytes("YCbCr", eight).convert("RGB"))
    if photometric == "RGB":
        return Decoded(_bytes("RGB", eight))
    raise Unreadable(f"DICOM colours of the kind {photometric}")


def _bytes(mode: str, values: npt.NDArray[np.uint8]) -> Image.Image:
    return Image.frombytes(mode, (values.shape[1], values.shape[0]), np.ascontiguousarray(values).tobytes())


def _transfer_syntax(dataset: Dataset) -> str:
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    stated = getattr(dataset, "file_meta", {}).get("TransferSyntaxUID")
    if stated is not None:
        return str(stated)
    # No group of facts before the data: how the elements themselves are written says it.
    implicit, little = dataset.original_encoding
    if bytes(dataset.PixelData[:4]) == b"\xfe\xff\x00\xe0":
        raise Unreadable("DICOM that does not say how its pixels are compressed")
    plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    return str(ImplicitVRLittleEndian if implicit else plain)


def _values(dataset: Dataset, syntax: str) -> tuple[npt.NDArray[Any], str]:
    """Return the stored numbers, (H, W) or (H, W, 3), and what their colours are once decoded."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    uid = UID(syntax)
    photometric = str(dataset.PhotometricInterpretation)
    transformed = False
    if uid.is_compressed and uid.is_encapsulated:
        if syntax not in _DECODER:
            raise Unreadable(f"DICOM compressed as {uid.name}")
        stream = _frame(dataset)
        _require_same_size(dataset, stream, syntax)
        transformed = _undone_by_the_decoder(stream)
    try:
        decoder = get_decoder(uid)
    except NotImplementedError:
        raise Unreadable(f"DICOM compressed as {uid.name}") from None
    if not decoder.is_available:
        raise Unreadable(f"DICOM compressed as {uid.name} needs pip install 'panderm[dicom]'")
    values, facts = decoder.as_array(
        dataset,
        index=0,
        as_rgb=False,  # type: ignore[arg-type]
        decoding_plugin=_DECODER.get(syntax, ""),
    )
    after = str(facts["photometric_interpretation"])
    # A label of YBR on a stream whose own transform was undone is a label of what was, not of what is.
    if transformed or after in ("YBR_ICT", "YBR_RCT"):
        after = "RGB" if photometric.startswith("YBR") else after
    return values, after


def _frame(dataset: Dataset) -> bytes:
    from pydicom.encaps import get_frame

    return get_frame(dataset.PixelData, 0, number_of_frames=1)


def _require_same_size(dataset: Dataset, stream: bytes, syntax: str) -> None:
    """Hold what the compressed stream asks for against the header, before memory is taken for it."""
    size = stream_size(stream)
    wanted = (int(dataset.Columns), int(dataset.Rows))
    if size is not None and size != wanted:
        raise ValueError(f"the header says {wanted[0]}×{wanted[1]} pixels, the stream {size[0]}×{size[1]}")
    if size is None and syntax != "1.2.840.10008.1.2.5":
        raise ValueError("the compressed stream has no header")


def stream_size(stream: bytes) -> tuple[int, int] | None:
    """Return width and height by a JPEG, JPEG-LS or JPEG 2000 stream's own header, None where it has none."""
    at = stream.find(_SIZ)
    if at >= 0 and len(stream) >= at + 24:
        right, lower, left, upper = (
            int.from_bytes(stream[at + i : at + i + 4], "big") for i in (8, 12, 16, 20)
        )
        return right - left, lower - upper
    at = 2
    while stream[:2] == b"\xff\xd8" and at + 9 <= len(stream) and stream[at] == 0xFF:
        kind = stream[at + 1]
        # Frame headers: SOF0 … SOF15 without DHT, JPG and DAC; SOF55 of JPEG-LS.
        if (0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC)) or kind == 0xF7:
            height, width = (int.from_bytes(stream[at + i : at + i + 2], "big") for i in (5, 7))
            return width, height
        at += 1 if kind == 0xFF else 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return None


def _undone_by_the_decoder(stream: bytes) -> bool:
    """Say whether a JPEG 2000 stream carries its own colour transform, which its decoder takes back."""
    start = stream.find(_SIZ)
    at = stream.find(_COD, start) if start >= 0 else -1
    return at >= 0 and at + 8 < len(stream) and stream[at + 8] == 1


def _jpeg(dataset: Dataset) -> Image.Image:
    """Decode a JPEG as the same stream in a file of its own would be, where its own marks say what it is."""
    stream = _frame(dataset)
    _require_same_size(dataset, stream, _JPEG[0])
    if int(dataset.BitsStored) > 8:
        raise Unreadable("a JPEG of 12 bits")
    opened = JpegImagePlugin.JpegImageFile(io.BytesIO(stream))
    marked = "adobe_transform" in opened.info or "jfif" in opened.info
    names_rgb = [layer[0] for layer in opened.layer] in ([82, 71, 66], [114, 103, 98])
    if opened.mode == "CMYK":
        raise Unreadable("a JPEG of four inks in DICOM")
    if opened.mode == "RGB" and not marked and not names_rgb and dataset.PhotometricInterpretation == "RGB":
        # Without a mark every reader guesses YCbCr; the header knows better: take the channels as they are.
        opened.draft("YCbCr", opened.size)
        opened.load()
        plain = Image.frombytes("RGB", opened.size, opened.tobytes())
        plain.quantization = opened.quantization  # type: ignore[attr-defined]
        return plain
    opened.load()
    return opened


def _one_channel(dataset: Dataset, values: npt.NDArray[Any]) -> Image.Image:
    photometric = str(dataset.PhotometricInterpretation)
    if photometric == "PALETTE COLOR":
        return _bytes("RGB", _palette(dataset, values))
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise Unreadable(f"DICOM pixels of the kind {photometric}")
    grey = _shown(dataset, values)
    return _bytes("L", 255 - grey if photometric == "MONOCHROME1" else grey)


def _palette(dataset: Dataset, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    from pydicom.pixels.processing import apply_color_lut

    colours = apply_color_lut(values, dataset)[..., :3]
    if colours.dtype == np.uint8:
        return np.asarray(colours)
    # Older machines wrote 8-bit colours into 16-bit tables.
    return colours.astype(np.uint8) if colours.max() <= 255 else to_eight_bits(colours, 16)


def _shown(dataset: Dataset, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return greys as they are to be shown, 0 … 255: rescaled, then by VOI table or window (PS3.3, C.11)."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    bits = int(dataset.BitsStored)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dataset.PixelRepresentation else (0, 2**bits - 1)
    plain = not any(
        dataset.get(keyword)
        for keyword in ("ModalityLUTSequence", "VOILUTSequence", "WindowCenter", "RescaleSlope")
    )
    if plain and low == 0:
        return to_eight_bits(values.clip(low, high), bits)
    rescaled = apply_modality_lut(values, dataset)
    if dataset.get("ModalityLUTSequence"):
        low, high = 0, 2 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    else:
        slope, intercept = (
            float(dataset.get(k) or d) for k, d in (("RescaleSlope", 1), ("RescaleIntercept", 0))
        )
        low, high = sorted((low * slope + intercept, high * slope + intercept))
    if dataset.get("VOILUTSequence"):
        seen = apply_voi(rescaled.astype(np.int64), dataset)
        return _spread(seen, 0, 2 ** int(dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1)
    window = _window(dataset)
    if window is None:
        return _spread(rescaled, low, high)
    centre, width, function = window
    x = rescaled.astype(np.float64)
    if function == "SIGMOID":
        return _spread(1 / (1 + np.exp((-4 * (x - centre) / width).clip(-700, 700))), 0, 1)
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
        if width == 0:
            return np.where(x > centre, 255, 0).astype(np.uint8)
    return _spread(x, centre - width / 2, centre + width / 2)


def _window(dataset: Dataset) -> tuple[float, float, str] | None:
    """Return centre, width and function of the first window, None where there is none that can be."""
    centre, width = dataset.get("WindowCenter"), dataset.get("WindowWidth")
    if centre is None or width is None:
        return None
    try:
        first = [float(x if isinstance(x, (int, float)) else x[0]) for x in (centre, width)]
    except (IndexError, TypeError):
        return None
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    narrowest = 1 if function == "LINEAR" else 1e-9
    if first[1] < narrowest or not np.isfinite(first).all():
        return None
    return first[0], first[1], function


def _spread(values: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint8]:
    if high <= low:
        raise ValueError("a range of greys without width")
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.asarray(np.rint(scaled.clip(0, 255)), dtype=np.uint8)
