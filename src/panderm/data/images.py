"""One path to one RGB image: the only decoder, whatever the verb."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from panderm.errors import PandermError
from panderm.progress import Progress

# A broken EXIF block or a strange palette is Pillow's to tolerate, not the user's to read about.
warnings.filterwarnings("ignore", module=r"PIL\..*")


class ImageError(PandermError):
    """A file that does not hold one readable image; ``reason`` says why in a few words."""

    def __init__(self, path: Path | str, reason: str, hint: str = "replace it, or use --skip-bad") -> None:
        super().__init__("an image must be readable.", f"{path}: {reason}", hint)
        self.path = Path(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.path, self.reason, self.hint)


@dataclass(frozen=True)
class ImageFacts:
    """What the gate learns of one file: hash of its bytes, size after orientation, or why it is bad."""

    sha256: str = ""
    height: int = 0
    width: int = 0
    problem: str | None = None


def read_image(path: Path | str) -> npt.NDArray[np.uint8]:
    """Read one image as RGB.

    EXIF orientation is applied; palettes are expanded; alpha is flattened onto white; 16-bit grey is
    divided by 257, so that 65,535 becomes 255.

    Args:
        path: a JPEG, PNG, TIFF, WebP, BMP or any other still image that Pillow reads.

    Returns:
        uint8 array (H, W, 3), RGB order, values in [0, 255].

    Raises:
        ImageError: missing, empty, truncated, not an image, several frames, or too many pixels.

    Example:
        >>> panderm.read_image("images/ISIC_0027419.jpg").shape  # doctest: +SKIP
        (450, 600, 3)
    """
    return decode(read_bytes(path), path)


def read_bytes(path: Path | str) -> bytes:
    """Return a file's bytes, or raise :class:`ImageError`."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise ImageError(path, "no such file") from None
    except IsADirectoryError:
        raise ImageError(path, "a folder, not a file") from None
    except OSError as error:
        raise ImageError(path, f"cannot be read ({error.strerror})") from None
    except ValueError:
        raise ImageError(path, "no name a file can have") from None
    if not content:
        raise ImageError(path, "an empty file")
    return content


def decode(content: bytes, path: Path | str) -> npt.NDArray[np.uint8]:
    """Decode a file's bytes to RGB, uint8 (H, W, 3); see :func:`read_image`. ``path`` is for messages."""
    try:
        with Image.open(io.BytesIO(content)) as opened:
            # Phones write MPO: a JPEG with a second picture behind it. The first is the photograph.
            frames = getattr(opened, "n_frames", 1)
            if frames > 1 and opened.format != "MPO":
                raise ImageError(path, f"holds {frames} frames, not one picture")
            opened.load()
            return np.asarray(_to_rgb(ImageOps.exif_transpose(opened), path))
    except UnidentifiedImageError:
        raise ImageError(path, "not an image that can be read") from None
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise ImageError(path, f"more than {most:.0f} million pixels") from None
    except ImageError:
        raise
    except Exception as error:
        # On damaged files Pillow's readers raise nearly everything there is.
        raise ImageError(path, f"damaged ({_first_line(error)})") from None


def _to_rgb(image: Image.Image, path: Path | str) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ImageError(path, "more than 16 bits a pixel")
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ImageError(path, "floating-point pixels without a stated range")
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, with_alpha).convert("RGB")
    return image.convert("RGB")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def inspect(path: Path) -> ImageFacts:
    """Decode one file fully and say what it is; a bad file is a fact, not an exception."""
    try:
        content = read_bytes(path)
        height, width, _ = decode(content, path).shape
    except ImageError as error:
        return ImageFacts(problem=error.reason)
    return ImageFacts(hashlib.sha256(content).hexdigest(), height, width)


def inspect_all(paths: Sequence[Path], *, workers: int, progress: bool = True) -> Iterator[ImageFacts]:
    """Yield the facts of every file, in order; decoding runs in threads (Pillow frees the lock)."""
    with Progress(len(paths), "checking images", "images", shown=progress) as bar:
        pool = ThreadPoolExecutor(workers)
        try:
            for facts in pool.map(inspect, paths):
                bar.advance()
                yield facts
        finally:
            pool.shutdown(cancel_futures=True)
