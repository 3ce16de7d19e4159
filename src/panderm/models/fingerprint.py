"""The self-test: what a network answers to a fixed drawing, kept and compared."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from pydantic import ValidationError

from panderm.errors import PandermError, UsageError, WeightsError
from panderm.models.cards import Fingerprint
from panderm.provenance import Record
from panderm.storage import write_json
from panderm.weights.cache import cache_folder

if TYPE_CHECKING:
    from panderm.models.encoder import Encoder

_VALUES = 8
# Of the vector's root mean square. Other processors differ by 1e-5, a GPU's TF32 by 1e-3, other weights by 1.
TOLERANCE = 0.02


class Known(Record):
    """The fingerprints of one weights file, by form and size, as first measured on this machine."""

    name: str
    fingerprints: tuple[Fingerprint, ...]


def drawing(image_size: int) -> torch.Tensor:
    """Return the fixed drawing: standard normal noise, float32 (1, 3, S, S)."""
    return torch.randn((1, 3, image_size, image_size), generator=torch.Generator().manual_seed(0))


def measure(encoder: Encoder) -> Fingerprint:
    """Ask the network, in float32.

    Raises:
        WeightsError: an answer that is not finite, or the same number everywhere.
    """
    size = encoder.record.image_size
    # Not in inference mode: transformers keeps what it computes of positions, for those who train as well.
    with torch.no_grad():
        answer = encoder.network(drawing(size).to(encoder.device))
    vector = answer.float().cpu().flatten()
    rms = float(vector.square().mean().sqrt())
    if not bool(torch.isfinite(vector).all()) or rms == 0:
        raise WeightsError(
            "an encoder must answer with finite numbers that are not all zero.",
            f"{encoder.name}: its vector {'is all zero' if rms == 0 else 'holds NaN or infinity'}",
            "its weights are damaged: get the file again",
        )
    values = tuple(float(f"{x:.7g}") for x in vector[:_VALUES])
    return Fingerprint(pool=encoder.record.pool, image_size=size, values=values, rms=float(f"{rms:.7g}"))


def compare(found: Fingerprint, expected: Fingerprint) -> float | None:
    """Return the largest difference as a part of the vector's scale; None for another form or size."""
    if (found.pool, found.image_size) != (expected.pool, expected.image_size):
        return None
    pairs = zip(found.values, expected.values, strict=False)
    return max(abs(a - b) for a, b in pairs) / expected.rms


def require_same(found: Fingerprint, expected: Fingerprint, *, name: str, whose: str) -> bool:
    """Compare, where the form is the same; return whether it was.

    Raises:
        WeightsError: the network answers otherwise than it should.
    """
    off = compare(found, expected)
    if off is None:
        return False
    if not off <= TOLERANCE:
        raise WeightsError(
            f"{name} must answer the self-test as {whose}.",
            [
                f"expected {', '.join(f'{x:.4f}' for x in expected.values[:4])} …",
                f"found    {', '.join(f'{x:.4f}' for x in found.values[:4])} …",
            ],
            "these are other weights, or a library computes otherwise than it did: do not use them "
            "before you know which",
        )
    return True


def earlier(sha256: str) -> tuple[Fingerprint, ...]:
    """Return what the file of this hash answered when it was first loaded here, by form and size."""
    try:
        path = cache_folder() / "fingerprints" / f"{sha256}.json"
        return Known.model_validate_json(path.read_bytes()).fingerprints
    except (UsageError, OSError, ValidationError):
        return ()


def recognise(found: Fingerprint, *, name: str, sha256: str) -> bool:
    """Compare with what this very file answered before, or keep it; return whether it was known.

    Raises:
        WeightsError: the same file answers otherwise than it did.
    """
    try:
        path = cache_folder() / "fingerprints" / f"{sha256}.json"
        known = Known.model_validate_json(path.read_bytes())
    except UsageError:
        return False
    except (OSError, ValidationError):  # the first time, or not whole: then it is made anew
        known = Known(name=name, fingerprints=())
    for earlier in known.fingerprints:
        if require_same(found, earlier, name=name, whose="this file did when it was first loaded here"):
            return True
    grown = known.model_copy(update={"fingerprints": (*known.fingerprints, found)})
    with contextlib.suppress(PandermError, OSError):  # a home that cannot be written is no reason to stop
        write_json(path, grown.model_dump(mode="json"), overwrite=True)
    return False
