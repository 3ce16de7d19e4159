"""DICOM: one picture as RGB, and what its header says of the patient, the site and the scale."""

from __future__ import annotations

import io
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from panderm.data.colour import to_srgb
from panderm.data.dicom_pixels import decode_pixels
from panderm.data.stored import ImageError, Stored, Unreadable, require_few_pixels

if TYPE_CHECKING:
    from pydicom import Dataset

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_FOR_GDCM = tuple(b"1.2.840.10008.1.2.4." + end for end in (b"57", b"70", b"80", b"81"))
_MOST_INFLATED = 1_200_000_000

_NEEDED = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation"),
)

# What pydicom finds out of order in a header is tolerated, and no user's to read about.
warnings.filterwarnings("ignore", module=r"pydicom\..*")


def is_dicom(content: bytes) -> bool:
    """Say whether a file's first bytes are those of DICOM, with its preamble of 128 bytes or without."""
    if content[128:132] == b"DICM":
        return True
    # Without one, a file begins with its first element: of group 2 or 8, and of few bytes.
    if len(content) < 16:
        return False
    explicit = content[4:6] in (b"UL", b"CS", b"UI", b"OB", b"DA", b"LO", b"SH")
    for order in ("little", "big"):
        group, element = (int.from_bytes(content[i : i + 2], order) for i in (0, 2))
        if group in (0x0002, 0x0008) and element <= 0x0020:
            # An implicit length is even, and of the first element small.
            return explicit or (order == "little" and int.from_bytes(content[4:8], order) in range(2, 65, 2))
    return False


def is_for_gdcm(content: bytes) -> bool:
    """Say whether a file names JPEG lossless or JPEG-LS, which GDCM decodes, as its transfer syntax.

    GDCM can bring the process down on a damaged file: :mod:`panderm.data.apart` opens such files in another.
    """
    return any(syntax in content[:65536] for syntax in _FOR_GDCM)


def open_dicom(content: bytes, max_megapixels: float) -> tuple[npt.NDArray[np.uint8], Stored]:
    """Decode a DICOM file to RGB, uint8 (H, W, 3), and say how it was stored.

    YBR and palettes become RGB. Grey follows the file's own steps (PS3.4, N.2): rescale, then its VOI table
    or else its first window, or else the full range of the bits stored; MONOCHROME1 is shown white to black.
    An ICC profile is applied.

    Raises:
        Unreadable: no picture, several frames, too many pixels, a kind that cannot be read, or the ``dicom``
            extra is not installed; other exceptions mean damage.
    """
    dataset = _read(io.BytesIO(content), pixels=True)
    _require_one_picture(dataset)
    missing = [k for k in _NEEDED if dataset.get(k) is None]
    if missing:
        raise ValueError(f"the header does not say {missing[0]}")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    require_few_pixels(columns, rows, max_megapixels)
    if not rows or not columns:
        raise ValueError("a picture of no rows or columns")
    decoded = decode_pixels(dataset)
    converted = to_srgb(decoded.image, _profile(dataset))
    return np.asarray(converted.image), Stored(
        format="DICOM",
        mode=str(dataset.PhotometricInterpretation),
        bits=int(dataset.BitsStored),
        profile=converted.profile,
        profile_problem=converted.problem,
        jpeg_quality=decoded.jpeg_quality,
    )


def read_dicom_columns(path: Path | str) -> dict[str, str]:
    """Read what a DICOM header says of its picture; the pixels are not read.

    Args:
        path: a DICOM file.

    Returns:
        Always the same keys, "" where the header does not say: ``patient_id``; ``patient_age`` in years
        ("045Y" is 45, "006M" 0.5); ``patient_sex`` (M, F, O); ``study_date`` (2024-05-03); ``body_site``
        (the anatomic region's meaning, else the body part examined); ``laterality`` (R, L, B, U);
        ``mm_per_pixel`` (of square pixels only); ``modality``; ``manufacturer``.

    Raises:
        ImageError: no such file, no DICOM, damaged, or the ``dicom`` extra is not installed.

    Example:
        >>> read_dicom_columns("lesion.dcm")["body_site"]  # doctest: +SKIP
        'Skin of forearm'
    """
    try:
        with Path(path).open("rb") as file:
            if not is_dicom(file.read(132)):
                raise Unreadable("not a DICOM file")
            file.seek(0)
            return _columns(_read(file, pixels=False))
    except FileNotFoundError:
        raise ImageError(path, "no such file") from None
    except Unreadable as error:
        raise ImageError(path, str(error)) from None
    except OSError as error:
        raise ImageError(path, f"cannot be read ({error.strerror or error})") from None
    except Exception as error:
        raise ImageError(
            path, f"damaged ({str(error).splitlines()[0] if str(error) else 'header'})"
        ) from None


def _read(file: BinaryIO, *, pixels: bool) -> Dataset:
    try:
        import pydicom
    except ImportError:
        raise Unreadable("DICOM needs pip install 'panderm[dicom]'") from None
    start = file.read(4096)
    file.seek(0)
    if _DEFLATED in start:
        file = _inflated(file.read())
    # force: files without a preamble are read too.
    return pydicom.dcmread(file, force=True, stop_before_pixels=not pixels)


def _inflated(content: bytes) -> BinaryIO:
    """Return a deflated file as the plain one it packs: pydicom would inflate it without a limit."""
    # The group of the file's own facts begins with its length (PS3.10, 7.1).
    at = 132 if content[128:132] == b"DICM" else 0
    if content[at : at + 8] != b"\x02\x00\x00\x00UL\x04\x00":
        raise ValueError("a deflated file without the length of its first group")
    end = at + 12 + int.from_bytes(content[at + 8 : at + 12], "little")
    packed = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = packed.decompress(content[end:], _MOST_INFLATED)
    if packed.unconsumed_tail:
        raise Unreadable("a deflated file of more than a gigabyte")
    # The name of plain, explicit, little-endian files, at the same length.
    head = content[:end].replace(_DEFLATED, b"1.2.840.10008.1.2.1".ljust(len(_DEFLATED), b"\0"))
    return io.BytesIO(head + plain)


def _require_one_picture(dataset: Dataset) -> None:
    if "PixelData" not in dataset:
        if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
            raise Unreadable("floating-point pixels without a stated range")
        if "Rows" in dataset:
            raise ValueError("the file ends before its pixels")
        uid = dataset.get("SOPClassUID")
        kind = uid.name if uid is not None else ""
        raise Unreadable(f"DICOM without a picture ({kind})" if kind else "DICOM without a picture")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise Unreadable(f"holds {frames} frames, not one picture")


def _profile(dataset: Dataset) -> bytes | None:
    paths = dataset.get("OpticalPathSequence") or []
    for holder in (dataset, *paths):
        profile = holder.get("ICCProfile")
        if profile:
            return bytes(profile)
    return None


def _columns(dataset: Dataset) -> dict[str, str]:
    region = _first(dataset, "AnatomicRegionSequence")
    date = _text(dataset, "StudyDate")
    if len(date) == 8 and date.isdigit():
        date = f"{date[:4]}-{date[4:6]}-{date[6:]}"
    return {
        "patient_id": _text(dataset, "PatientID"),
        "patient_age": _years(_text(dataset, "PatientAge")),
        "patient_sex": _text(dataset, "PatientSex"),
        "study_date": date,
        "body_site": _text(region, "CodeMeaning") or _text(dataset, "BodyPartExamined"),
        "laterality": _text(dataset, "ImageLaterality") or _text(dataset, "Laterality"),
        "mm_per_pixel": _mm_per_pixel(dataset),
        "modality": _text(dataset, "Modality"),
        "manufacturer": _text(dataset, "Manufacturer"),
    }


def _first(dataset: Dataset, keyword: str) -> Any:
    items = dataset.get(keyword)
    return items[0] if items else None


def _text(dataset: Any, keyword: str) -> str:
    value = dataset.get(keyword) if dataset is not None else None
    return "" if value is None else " ".join(str(value).replace("\0", "").split())


def _years(age: str) -> str:
    """Return an age string (PS3.5, 6.2: nnnD, nnnW, nnnM, nnnY) in years, as it stands where it is none."""
    a_year = {"Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}.get(age[-1:])
    if a_year is None or not age[:-1].isdigit():
        return age
    return f"{int(age[:-1]) / a_year:.3g}"


def _mm_per_pixel(dataset: Dataset) -> str:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = dataset.get(keyword)
        if spacing is None or isinstance(spacing, str) or len(spacing) != 2:
            continue
        row, column = (float(x) for x in spacing)
        square = row > 0 and abs(row - column) <= 1e-3 * row
        return f"{row:.6g}" if square else ""
    return ""
