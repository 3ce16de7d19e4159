"""Grey PNG files of 1, 8 or 16 bits, written row by row: Pillow and OpenCV want the whole picture at once."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from panderm.storage import new_file

Bits = Literal[1, 8, 16]
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xaeB`\x82"
_NO_FILTER, _UP = 0, 2


def write_png(path: Path, width: int, height: int, bits: Bits, bands: Iterable[npt.NDArray[Any]]) -> None:
    """Write a picture, whole or not at all, without flushing it (PNG specification, third edition, 11.2).

    Args:
        path: the file, which must not exist; the folder it lies in is made.
        width: pixels.
        height: pixels.
        bits: of a pixel. With 1, 8 pixels lie in a byte, the leftmost in its highest bit.
        bands: rows from the top, (rows, bytes of a row) uint8, or (rows, width) uint16 with 16 bits; of any
            number of rows each, ``height`` in all.

    Raises:
        ArtifactError: it exists, or cannot be written.
    """
    with new_file(path, sweep=False, flushed=False) as temporary, temporary.open("wb") as file:
        file.write(_SIGNATURE)
        _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
        packing = zlib.compressobj(6)
        above, written = None, 0
        for band in bands:
            rows = band.astype(">u2").view(np.uint8) if bits == 16 else band
            kind = _NO_FILTER if bits == 1 else _UP
            lines = np.empty((len(rows), 1 + rows.shape[1]), dtype=np.uint8)
            lines[:, 0] = kind
            lines[:, 1:] = rows
            if kind == _UP:
                before = np.zeros_like(rows[:1]) if above is None else above
                lines[:, 1:] -= np.concatenate([before, rows[:-1]])
                above = rows[-1:].copy()
            written += len(rows)
            if packed := packing.compress(lines.tobytes()):
                _chunk(file, b"IDAT", packed)
        if written != height:
            raise ValueError(f"{written} rows of {height}")
        _chunk(file, b"IDAT", packing.flush())
        _chunk(file, b"IEND", b"")


def ends_whole(path: Path) -> bool:
    """Say whether a PNG file is there, and has its end."""
    try:
        with path.open("rb") as file:
            file.seek(-len(_END), os.SEEK_END)
            return file.read() == _END
    except OSError:
        return False


def _chunk(file: IO[bytes], kind: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + kind + content)
    file.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))))
