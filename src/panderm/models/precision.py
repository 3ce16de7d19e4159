"""Fewer bits where the hardware has them, and only while the vectors stay what they were."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from panderm.embeddings import Engine, Precision
from panderm.errors import UsageError
from panderm.statistics.similarity import centred_cosines

PrecisionChoice = Literal["auto", "fp32", "bf16", "fp16", "int8"]
CHOICES = ("auto", "fp32", "bf16", "fp16", "int8")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Images of the first batch that are encoded both ways.
CHECKED = 16
FEWEST = 4
# Mean centred cosine to fp32 below which fewer bits are not used. bfloat16 has been seen at .994 to .9995.
LEAST = 0.99
# 8 bits are told of below this, and used all the same: who asks for them knows that they move the vectors.
LEAST_INT8 = 0.95
# Another engine in float32 must be at least this like PyTorch: sums in another order are off by 1e-6.
SAME = 0.9999


def choose(asked: PrecisionChoice, device: torch.device, engine: Engine = "torch") -> Precision:
    """Return the precision to try: for ``auto`` the fastest that the device computes natively.

    ``int8`` is never chosen, only asked for: it moves the vectors.

    Raises:
        UsageError: no such precision, or one that the engine does not have.
    """
    if asked not in CHOICES:
        raise UsageError(f"precision must be auto, fp32, bf16, fp16 or int8, not {asked!r}.")
    if asked == "int8" and engine != "openvino":
        raise UsageError(
            "precision int8 needs the OpenVINO engine.",
            f"found engine {engine}",
            "--engine openvino --precision int8, or --precision bf16",
        )
    if asked == "fp16" and engine == "openvino":
        raise UsageError(
            "the OpenVINO engine computes in fp32, bf16 or int8.", "found fp16", "--precision bf16"
        )
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp16"
    if device.type == "mps":
        return "fp16"
    return "bf16" if device.type == "cpu" and has_bfloat16() else "fp32"


def has_bfloat16() -> bool:
    """Say whether this CPU computes in bfloat16 itself; emulated, it is slower than float32."""
    return any(
        getattr(torch.cpu, f"_is_{name}_supported", lambda: False)() for name in ("avx512_bf16", "amx_tile")
    )


def is_emulated(precision: Precision, device: torch.device) -> bool:
    """Say whether an x86 CPU has no products of its own at a precision.

    A ViT-S/14 took 9 times as long in bfloat16, and 8 times in float16, as in float32 with AVX2 only.
    """
    if device.type != "cpu" or platform.machine() not in ("x86_64", "AMD64"):
        return False
    if precision == "fp16":
        return not getattr(torch.cpu, "_is_amx_fp16_supported", lambda: False)()
    return precision == "bf16" and not has_bfloat16()


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a network computes at a precision."""
    dtype = DTYPES.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def likeness(reduced: torch.Tensor, full: torch.Tensor) -> float:
    """Return the mean over images of the centred cosine between vectors (n, D) of two precisions.

    Returns:
        In [-1, 1]; 0 where a vector is not finite or all images have the same.
    """
    found = float(centred_cosines(reduced.numpy(), full.numpy()).mean())
    return found if found == found else 0.0  # NaN is not itself
