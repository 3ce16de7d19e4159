"""Fewer bits where the hardware has them, and only while the vectors stay what they were."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from panderm.embeddings import Precision
from panderm.errors import UsageError
from panderm.statistics.similarity import centred_cosines

PrecisionChoice = Literal["auto", "fp32", "bf16", "fp16"]
CHOICES = ("auto", "fp32", "bf16", "fp16")
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Images of the first batch that are encoded both ways.
CHECKED = 16
FEWEST = 4
# Mean centred cosine to fp32 below which fewer bits are not used. bfloat16 has been seen at .994 to .9995.
LEAST = 0.99


def choose(asked: PrecisionChoice, device: torch.device) -> Precision:
    """Return the precision to try: for ``auto`` the fastest that the device computes natively.

    Raises:
        UsageError: no such precision.
    """
    if asked not in CHOICES:
        raise UsageError(f"precision must be auto, fp32, bf16 or fp16, not {asked!r}.")
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp16"
    if device.type == "mps":
        return "fp16"
    # Without these instructions bfloat16 is emulated, and slower than float32.
    native = any(
        getattr(torch.cpu, f"_is_{name}_supported", lambda: False)() for name in ("avx512_bf16", "amx_tile")
    )
    return "bf16" if device.type == "cpu" and native else "fp32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a network computes at a precision."""
    dtype = _DTYPES.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def likeness(reduced: torch.Tensor, full: torch.Tensor) -> float:
    """Return the mean over images of the centred cosine between vectors (n, D) of two precisions.

    Returns:
        In [-1, 1]; 0 where a vector is not finite or all images have the same.
    """
    found = float(centred_cosines(reduced.numpy(), full.numpy()).mean())
    return found if found == found else 0.0  # NaN is not itself
