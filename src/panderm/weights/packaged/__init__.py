"""Weights that come with the package: nothing is downloaded for them."""

from __future__ import annotations

from pathlib import Path


def packaged(name: str) -> Path | None:
    """Return the weights file of an encoder that comes with the package; None where none does.

    Args:
        name: of the encoder, as a user types it.

    Example:
        >>> packaged("panderm-large") is None
        True
    """
    if "/" in name or "\\" in name:
        return None
    file = Path(__file__).with_name(f"{name}.safetensors")
    return file if file.is_file() else None
