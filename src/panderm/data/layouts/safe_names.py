"""Names for files whose names come from elsewhere: safe, readable, and each once."""

from __future__ import annotations

import re

# Windows keeps these for devices, whatever their ending.
_KEPT = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))}
_LONGEST = 80
_KINDS = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"BM", ".bmp"),
    (b"II*\x00", ".tif"),
    (b"MM\x00*", ".tif"),
    (b"GIF8", ".gif"),
)


def ending_of(content: bytes) -> str | None:
    """Return the ending of an image file by its first bytes, None where they are no image's."""
    for start, ending in _KINDS:
        if content.startswith(start):
            return ending
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    if content[4:8] == b"ftyp" and content[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return ".heic"
    return ".dcm" if content[128:132] == b"DICM" else None


class SafeNames:
    r"""Gives each file a name of its own that lies in no other folder.

    Example:
        >>> names = SafeNames()
        >>> names.name("../../etc/passwd", ".jpg", 0), names.name(r"C:\a b.JPG", ".jpg", 1)
        ('passwd.jpg', 'a_b.jpg')
    """

    def __init__(self) -> None:
        self._given: set[str] = set()

    def name(self, wanted: str | None, ending: str, number: int) -> str:
        """Return a name: letters, digits, ``-``, ``_`` and ``.``; at most 100 characters.

        Args:
            wanted: what the file was called elsewhere; its folders and ending are dropped.
            ending: of the file to write, with its dot.
            number: what makes it unique where the name is taken, or where there is none.
        """
        last = re.split(r"[/\\]", wanted or "")[-1]
        stem = re.sub(r"\.[A-Za-z0-9]{1,5}$", "", last)
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._-")[:_LONGEST].rstrip("._-")
        if not stem or stem.split(".")[0].casefold() in _KEPT:
            stem = f"image{'_' if stem else ''}{stem}"
        given = f"{stem}{ending}"
        if stem == "image" or given.casefold() in self._given:
            given = f"{stem}_{number:06d}{ending}"
        while given.casefold() in self._given:
            given = f"{stem}_{number:06d}_{len(self._given)}{ending}"
        self._given.add(given.casefold())
        return given
