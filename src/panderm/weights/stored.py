"""Where the numbers of a tensor lie in a file, checked before a byte of them is read."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import BinaryIO

import torch

_CHUNK = 1 << 22  # bytes; small enough to be checksummed while still in the processor's cache
_MOST = 1 << 48  # numbers along one axis, or in one tensor: torch counts with 64 bits
# Numbers as such: nothing quantised, packed or without a size of its own.
_KINDS = """
    float64 float32 float16 bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu
    complex128 complex64 complex32 bool int64 int32 int16 int8 uint64 uint32 uint16 uint8
"""
PLAIN = frozenset(getattr(torch, name) for name in _KINDS.split() if hasattr(torch, name))


class NotWholeError(Exception):
    """A file that contradicts itself or ends too early; the reason is one plain clause."""


class HoldsCodeError(Exception):
    """A file that asks to run something; the argument is its name."""


class OtherContentError(Exception):
    """A whole file of another kind: what must hold, what was found, what to do."""


@dataclass(frozen=True)
class Stored:
    """A stretch of a file: its first byte, its length in bytes, its checksum where there is one."""

    start: int
    size: int
    crc: int | None = None


@dataclass(frozen=True)
class Spec:
    """A tensor as its file describes it: where it is stored, its type, first number, shape and strides."""

    stored: Stored
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def check(self) -> None:
        """Refuse a tensor that reaches beyond what is stored for it, or repeats it to look larger.

        Raises:
            NotWholeError: with the reason.
        """
        known = (self.offset, *self.shape, *self.stride)
        if (
            len(self.shape) != len(self.stride)
            or len(self.shape) > 64
            or min(known) < 0
            or max(known) > _MOST
        ):
            raise NotWholeError("a tensor's shape cannot be")
        if prod(max(1, side) for side in self.shape) > _MOST:
            raise NotWholeError("a tensor's shape cannot be")
        numbers = prod(self.shape)
        last = sum((side - 1) * step for side, step in zip(self.shape, self.stride, strict=True))
        reach = self.offset + last + 1 if numbers else 0
        if max(numbers, reach) * self.dtype.itemsize > self.stored.size:
            raise NotWholeError("a tensor claims more numbers than are stored for it")

    def outline(self) -> torch.Tensor:
        """Return a tensor of this shape and type without numbers (on the meta device)."""
        return torch.empty(self.shape, dtype=self.dtype, device="meta")


def read_tensors(file: BinaryIO, specs: Mapping[str, Spec]) -> dict[str, torch.Tensor]:
    """Read tensors into memory of their own, each stretch of the file once and in the file's order.

    Nothing is mapped: a file that changes later can neither change the numbers nor stop the process.

    Raises:
        NotWholeError: the file ends too early, or a checksum differs.
    """
    stored = sorted({spec.stored for spec in specs.values()}, key=lambda stored: stored.start)
    raw = {place: _read_bytes(file, place) for place in stored}
    return {name: _view(raw[spec.stored], spec) for name, spec in specs.items()}


def _view(raw: torch.Tensor, spec: Spec) -> torch.Tensor:
    if prod(spec.shape) == 0:
        return torch.empty(spec.shape, dtype=spec.dtype)
    whole = raw[: len(raw) // spec.dtype.itemsize * spec.dtype.itemsize]
    return whole.view(spec.dtype).as_strided(spec.shape, spec.stride, spec.offset)


def _read_bytes(file: BinaryIO, place: Stored) -> torch.Tensor:
    raw = torch.empty(place.size, dtype=torch.uint8)
    into = memoryview(raw.numpy())  # type: ignore[arg-type]
    file.seek(place.start)
    crc = 0
    for start in range(0, place.size, _CHUNK):
        chunk = into[start : start + _CHUNK]
        if file.readinto(chunk) != len(chunk):  # type: ignore[attr-defined]
            raise NotWholeError("it ends within a tensor")
        if place.crc is not None:
            crc = zlib.crc32(chunk, crc)
    if place.crc is not None and crc != place.crc:
        raise NotWholeError("the checksum of a tensor differs: its bytes have changed since it was written")
    return raw
