"""HEIC and HEIF, the photographs of phones, through libheif."""

from __future__ import annotations

import importlib.util

import numpy as np
import numpy.typing as npt
from PIL import Image

from panderm.data.colour import to_srgb
from panderm.data.deep import to_eight_bits
from panderm.data.stored import Stored, Unreadable, require_few_pixels

# ISO/IEC 23008-12: brands of files coded with HEVC. AVIF, the same container coded with AV1, is Pillow's.
_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def is_heic(content: bytes) -> bool:
    """Say whether a file's first box names a brand of HEVC pictures."""
    if content[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(content[:4], "big"), 512)
    return bool(_BRANDS & {content[i : i + 4] for i in range(8, end, 4)})


def require_libheif() -> None:
    """Raise :class:`Unreadable` where the ``heic`` extra is not installed."""
    if importlib.util.find_spec("pi_heif") is None:
        raise Unreadable("HEIC needs pip install 'panderm[heic]'")


def open_heic(content: bytes, max_megapixels: float) -> tuple[npt.NDArray[np.uint8], Stored]:
    """Decode a HEIC file to RGB, uint8 (H, W, 3), and say how it was stored.

    The container says itself how the picture must be turned, and libheif turns it. An EXIF orientation in the
    same file says the same once more and must not be applied again (ISO/IEC 23008-12, annex A.2).

    Its binding can bring the process down on a damaged file: :mod:`panderm.data.apart` calls this in another.

    Raises:
        Unreadable: too many pixels; other exceptions mean damage.
    """
    import pi_heif

    # Nothing is decoded here. Pillow's list of readers, which belongs to the user, is left as it is.
    opened = pi_heif.open_heif(content, convert_hdr_to_8bit=False, hdr_to_16bit=False)
    picture = opened[opened.primary_index]
    width, height = picture.size
    require_few_pixels(width, height, max_megapixels)
    bits = int(picture.info.get("bit_depth", 8))
    values = np.asarray(picture)[:, :width]
    values = values[..., None] if values.ndim == 2 else values
    if not values.size:
        raise ValueError("a picture of no rows or columns")
    if values.dtype != np.uint8:
        values = to_eight_bits(values.clip(0, 2**bits - 1), bits)
    mode = _MODES[values.shape[2]]
    if picture.premultiplied_alpha and mode == "RGBA":
        mode = "RGBa"
    image = Image.frombytes(mode, (values.shape[1], values.shape[0]), values.tobytes())
    converted = to_srgb(image, picture.info.get("icc_profile") or None)
    return np.asarray(converted.image), Stored(
        format="HEIF",
        mode=picture.mode,
        bits=bits,
        frames=len(opened),
        alpha=mode in ("LA", "RGBA", "RGBa"),
        profile=converted.profile,
        profile_problem=converted.problem,
    )
