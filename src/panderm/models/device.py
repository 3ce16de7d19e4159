"""Where a network runs."""

from __future__ import annotations

import torch

from panderm.errors import UsageError


def pick_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` takes a GPU where there is one.

    Raises:
        UsageError: no such device on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"device {name!r} must exist on this machine.",
            str(error).splitlines()[0],
            "--device auto picks one",
        ) from None
    return device
