"""The safetensors layout: eight bytes of length, a header of JSON, then the tensors' numbers in a row.

https://huggingface.co/docs/safetensors (format), read here byte by byte instead of mapped into memory.
"""

from __future__ import annotations

import json
import os
from math import prod
from typing import Any, BinaryIO

import torch

from panderm.weights.stored import NotWholeError, Spec, Stored

_LONGEST = 16 << 20  # bytes of header: a Large has 0.04 MB
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "C64": "complex64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


def is_safetensors(head: bytes) -> bool:
    """Tell by a file's first bytes: a length, then the brace that opens the header."""
    # Text would claim more than any disk holds.
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 48


def open_safetensors(file: BinaryIO) -> tuple[dict[str, Spec], dict[str, str]]:
    """Read the header: every tensor by name, and the words that stand beside them.

    Raises:
        NotWholeError: the header is cut short, no such header, or contradicts itself or the file's size.
    """
    whole = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if 8 + length > whole:
        raise NotWholeError(f"its header claims {length:,} bytes")
    if length > _LONGEST:
        raise NotWholeError(f"a header of {length:,} bytes is longer than a list of weights can be")
    try:
        header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError among them
        raise NotWholeError("its header cannot be read") from None
    words = header.pop("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(words, dict) or not all(isinstance(word, str) for word in words.values()):
        raise NotWholeError("its header cannot be read")
    specs = {name: _spec(entry, 8 + length) for name, entry in header.items()}
    place = 8 + length
    for stored in sorted((spec.stored for spec in specs.values()), key=lambda s: (s.start, s.size)):
        if stored.start != place:
            raise NotWholeError("its tensors overlap or leave gaps")
        place += stored.size
    if place != whole:
        raise NotWholeError(f"its tensors take {place:,} bytes")
    return specs, words


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _spec(entry: Any, start: int) -> Spec:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise NotWholeError("its header cannot be read")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or len(numbers) > 64:
            raise NotWholeError("its header cannot be read")
        if not all(type(n) is int and 0 <= n < 1 << 48 for n in numbers):
            raise NotWholeError("its header cannot be read")
    name = _DTYPES.get(kind, "") if isinstance(kind, str) else ""
    if len(offsets) != 2 or not hasattr(torch, name):
        raise NotWholeError(f"it stores numbers of a kind that is not known ({str(kind)[:20]!a})")
    dtype = getattr(torch, name)
    if offsets[1] - offsets[0] != prod(shape) * dtype.itemsize:
        raise NotWholeError("a tensor claims another number of bytes than are stored for it")
    stride = [prod(shape[i + 1 :]) for i in range(len(shape))]
    spec = Spec(Stored(start + offsets[0], offsets[1] - offsets[0]), dtype, 0, tuple(shape), tuple(stride))
    spec.check()
    return spec
