"""What a file says of itself without a look at the picture: size, compression, camera."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from panderm.data.columns import Column
from panderm.data.examine import Examined
from panderm.progress import in_threads

_MAKE, _MODEL, _SOFTWARE = 0x010F, 0x0110, 0x0131


def file_facts(
    paths: Sequence[Path], examined: Sequence[Examined], *, workers: int = 2, progress: bool = False
) -> dict[str, Column]:
    """Return facts of files, by name; each (n,) strings, None where a file does not say.

    Args:
        paths: of the files.
        examined: what one decode of each told.
        workers: threads that read the cameras' names from the files' heads.
        progress: show progress on standard error.

    Returns:
        ``width``, ``height`` (upright, pixels), ``aspect`` (width / height), ``bytes per pixel``,
        ``JPEG quality``, ``format``, ``mode``, ``bits``, ``orientation`` (EXIF), ``colour profile``,
        ``camera`` and ``software`` (EXIF).
    """
    rows: dict[str, list[str | None]] = {}
    sound = [path if one.stored else None for path, one in zip(paths, examined, strict=True)]
    what = "what files say of their camera"
    with warnings.catch_warnings():  # around the threads, not in them: filters are the whole process's
        warnings.simplefilter("ignore")
        cameras = list(in_threads(_camera, sound, what, "files", workers=workers, shown=progress))
    for one, (camera, software) in zip(examined, cameras, strict=True):
        told = _facts(one) | {"camera": camera, "software": software}
        for name, value in told.items():
            rows.setdefault(name, []).append(value)
    return {name: np.array(values, dtype=object) for name, values in rows.items()}


def _facts(one: Examined) -> dict[str, str | None]:
    stored = one.stored
    there = stored is not None and one.width > 0 and one.height > 0
    pixels = one.width * one.height
    return {
        "width": str(one.width) if there else None,
        "height": str(one.height) if there else None,
        "aspect": f"{one.width / one.height:.3f}" if there else None,
        "bytes per pixel": f"{one.bytes / pixels:.4f}" if there else None,
        "JPEG quality": str(stored.jpeg_quality) if stored and stored.jpeg_quality is not None else None,
        "format": stored.format if stored else None,
        "mode": stored.mode if stored else None,
        "bits": str(stored.bits) if stored else None,
        "orientation": str(stored.orientation) if stored else None,
        "colour profile": stored.profile if stored else None,
    }


def _camera(path: Path | None) -> tuple[str | None, str | None]:
    """Return camera and software as a file's EXIF names them; only its head is read."""
    if path is None:
        return None, None
    # Pillow's readers raise nearly everything there is on a strange EXIF block: it then names no camera.
    with contextlib.suppress(Exception), Image.open(path) as opened:
        exif = opened.getexif()
        make, model, software = (_text(exif.get(tag)) for tag in (_MAKE, _MODEL, _SOFTWARE))
        camera = " ".join(part for part in (make, model) if part)
        return camera or None, software or None
    return None, None


def _text(value: object) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else "" if value is None else str(value)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:80]
