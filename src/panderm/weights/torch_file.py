"""The two layouts that ``torch.save`` has written: a zip archive, and before it a row of pickles."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

from panderm.weights.pickled import LONGEST, Description, Storage, describe, tensor_of
from panderm.weights.stored import NotWholeError, OtherContentError, Stored

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # how the older layout begins
_MOST_RECORDS, _MOST_LISTED = 100_000, 16 << 20  # parts of an archive, bytes of its own list
_LISTED = "its list of weights cannot be read"


@dataclass(frozen=True)
class TorchFile:
    """The described content of a file, and where its storages lie."""

    description: Description
    find: Callable[[Storage], Stored]

    def tensor(self, value: object) -> Any:
        """Return a value's tensor, or None where it is none of plain numbers."""
        return tensor_of(value, self.find)


def open_zip(file: BinaryIO) -> TorchFile:
    """Read the list of a zip archive of ``torch.save``.

    Raises:
        NotWholeError: damaged, cut short, or made to look larger than it is.
        HoldsCodeError: its pickle asks to run something.
        OtherContentError: another kind of archive.
    """
    records = _records(file)
    tops = [name for name in records if name.count("/") == 1 and name.endswith("/data.pkl")]
    if any(name.count("/") >= 1 and name.split("/")[1] in ("code", "constants.pkl") for name in records):
        raise OtherContentError(
            "a weights file must hold tensors, not code.",
            "{path} is a TorchScript archive, a program with weights inside; nothing was run",
            "where you trust it: safetensors.torch.save_file(torch.jit.load(FILE).state_dict(), OUT)",
        )
    if len(tops) != 1:
        raise OtherContentError(
            "a weights file must hold weights.",
            "{path} is a zip archive that torch.save has not written",
            "unpack it and give the weights file inside, if there is one",
        )
    top = tops[0].removesuffix("data.pkl")
    order = records.get(f"{top}byteorder")
    if order is not None and _bytes_of(file, order) != b"little":
        raise NotWholeError("it was written on a machine with another order of bytes")
    listed = records[tops[0]]
    if listed.size > LONGEST:
        raise NotWholeError("its list of weights is longer than one can be")
    pickled = _bytes_of(file, listed)
    if listed.crc and zlib.crc32(pickled) != listed.crc:
        raise NotWholeError("the checksum of its list of weights differs")
    description = describe(BytesIO(pickled))
    found: dict[str, Stored] = {}

    def find(storage: Storage) -> Stored:
        if storage.key not in found:
            record = records.get(f"{top}data/{storage.key}")
            if record is None and storage.nbytes:
                raise NotWholeError("a tensor's numbers are missing")
            found[storage.key] = Stored(0, 0) if record is None else _stored(file, record)
        if found[storage.key].size != storage.nbytes:
            raise NotWholeError("a tensor claims another number of bytes than are stored for it")
        return found[storage.key]

    return TorchFile(description, find)


@dataclass(frozen=True)
class _Record:
    """One file of an archive: its own header's first byte, the first byte beyond it, its length, its sum."""

    start: int
    until: int
    size: int
    crc: int
    as_is: bool  # neither compressed nor encrypted


def _stored(file: BinaryIO, record: _Record) -> Stored:
    # PyTorch writes 0 where it was told to compute no checksum.
    return Stored(_start(file, record), record.size, record.crc or None)


def _start(file: BinaryIO, record: _Record) -> int:
    """Return a record's first byte; its own header must leave room for it before the next one."""
    if not record.as_is:
        raise OtherContentError(
            "a weights file must be stored as torch.save writes it.",
            "{path} has compressed or encrypted parts, which torch.save never writes",
            "get the file from its authors again, best as .safetensors",
        )
    head = _take(file, record.start, 30)
    name, extra = struct.unpack("<HH", head[26:])
    start = record.start + 30 + int(name) + int(extra)
    if head[:4] != b"PK\x03\x04" or start + record.size > record.until:
        raise NotWholeError("its parts overlap")
    return start


def _bytes_of(file: BinaryIO, record: _Record) -> bytes:
    return _take(file, _start(file, record), min(record.size, LONGEST))


def _take(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    data = file.read(size)
    if len(data) != size:
        raise NotWholeError("it ends too early")
    return data


def _records(file: BinaryIO) -> dict[str, _Record]:
    """Read an archive's own list, at its end; every part must lie in the file by itself."""
    start, size, count = _directory(file)
    if count > _MOST_RECORDS or size > _MOST_LISTED:
        raise NotWholeError(f"an archive of {count:,} parts is no list of weights")
    data = _take(file, start, size)
    entries: list[tuple[int, int, int, int, bool, str]] = []
    place = 0
    for _ in range(count):
        fixed = struct.unpack_from("<4s6H3L5H2L", data, place) if place + 46 <= size else (b"",)
        if fixed[0] != b"PK\x01\x02":
            raise NotWholeError("the archive's own list is cut short")
        flags, method, crc, packed, unpacked = fixed[3], fixed[4], *fixed[7:10]
        name_length, extra_length, note_length, where = *fixed[10:13], fixed[16]
        text = data[place + 46 : place + 46 + name_length]
        extra = data[place + 46 + name_length : place + 46 + name_length + extra_length]
        unpacked, packed, where = _wide(extra, unpacked, packed, where)
        as_is = not method and not flags & 0x2041 and packed == unpacked
        entries.append((where, packed, unpacked, crc, as_is, text.decode("utf-8", "replace")))
        place += 46 + name_length + extra_length + note_length
    entries.sort()
    records: dict[str, _Record] = {}
    end = start
    for where, packed, unpacked, crc, as_is, name in reversed(entries):
        if where + 30 + packed > end or name in records:
            raise NotWholeError("its parts overlap")
        records[name] = _Record(where, end, unpacked, crc, as_is)
        end = where
    return records


def _directory(file: BinaryIO) -> tuple[int, int, int]:
    """Find an archive's own list: its first byte, its length, its number of entries."""
    whole = file.seek(0, os.SEEK_END)
    tail_start = max(0, whole - (1 << 16) - 22)
    tail = _take(file, tail_start, whole - tail_start)
    last = tail.rfind(b"PK\x05\x06")
    if last < 0 or last + 22 > len(tail):
        raise NotWholeError("the archive's own list, at its end, is missing")
    count, size, start = struct.unpack_from("<HLL", tail, last + 10)
    end = tail_start + last
    if count == 0xFFFF or size == 0xFFFFFFFF or start == 0xFFFFFFFF:  # larger than the first zip could tell
        locator = _take(file, max(0, end - 20), 20)
        signature, _, end, _ = struct.unpack("<4sLQL", locator)
        wide = _take(file, min(end, whole), 56) if signature == b"PK\x06\x07" else b""
        if not wide.startswith(b"PK\x06\x06"):
            raise NotWholeError("the archive's own list, at its end, is missing")
        count, size, start = struct.unpack_from("<QQQ", wide, 32)
    if start + size > end:
        raise NotWholeError("the archive's own list is cut short")
    return start, size, count


def _wide(extra: bytes, *values: int) -> tuple[int, ...]:
    """Replace what needs more than 32 bits by what the entry's extra field says."""
    wide, place = b"", 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, place)
        if kind == 1:
            wide = extra[place + 4 : place + 4 + length]
        place += 4 + length
    found = []
    for value in values:
        if value == 0xFFFFFFFF:
            if len(wide) < 8:
                raise NotWholeError("the archive's own list is cut short")
            value, wide = int.from_bytes(wide[:8], "little"), wide[8:]
        found.append(value)
    return tuple(found)


def open_legacy(file: BinaryIO) -> TorchFile:
    """Read the list of a file of ``torch.save`` before version 1.6: four pickles, then the storages in a row.

    Raises:
        NotWholeError: damaged or cut short.
        HoldsCodeError: one of its pickles asks to run something.
    """
    file.seek(0)
    if describe(file).content != _MAGIC:
        raise NotWholeError("it is a pickle that torch.save has not written")
    if describe(file).content != _PROTOCOL:
        raise NotWholeError("it was written by a version of PyTorch that is not known")
    system = describe(file).content
    if not isinstance(system, list) or ("little_endian", True) not in system:
        raise NotWholeError("it was written on a machine with another order of bytes")
    description = describe(file)
    keys = describe(file).content
    whole = file.seek(0, os.SEEK_CUR), file.seek(0, os.SEEK_END)
    place, end = whole
    found: dict[str, Stored] = {}
    for key in keys if isinstance(keys, list) else []:
        storage = description.storages.get(key) if isinstance(key, str) else None
        if storage is None:
            raise NotWholeError(_LISTED)
        numel = int.from_bytes(_take(file, place, 8), "little", signed=True)
        if numel != storage.numel or place + 8 + storage.nbytes > end:
            raise NotWholeError("it ends within a tensor")
        found[key] = Stored(place + 8, storage.nbytes)
        place += 8 + storage.nbytes

    def find(storage: Storage) -> Stored:
        if storage.key not in found:
            raise NotWholeError("a tensor's numbers are missing")
        if found[storage.key].size != storage.nbytes:
            raise NotWholeError("a tensor claims another number of bytes than are stored for it")
        return found[storage.key]

    return TorchFile(description, find)
