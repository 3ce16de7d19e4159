"""Whose network it is: each layout builds one from a card and renames a file's tensors for it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch

from panderm.errors import UsageError
from panderm.models.cards import EncoderCard, Layout, Pool
from panderm.weights.account import Account

State = dict[str, torch.Tensor]
_HOMES: dict[Layout, str] = {
    "panderm": "panderm.models.network",
    "timm": "panderm.models.from_timm",
    "open_clip": "panderm.models.from_open_clip",
    "transformers": "panderm.models.from_transformers",
}


class Family(Protocol):
    """One layout.

    ``build`` makes the network (normalised pixels (n, 3, S, S) → vectors (n, D)) with its parameters and
    persistent buffers on the meta device; ``adapt`` renames a state dict to the network's names, notes in
    the account what it leaves out, and works on meta tensors too.
    """

    def build(self, card: EncoderCard, pool: Pool | None) -> Any: ...

    def adapt(self, state: State, network: Any, card: EncoderCard, account: Account, path: Path) -> State: ...


def family_of(card: EncoderCard) -> Family:
    """Return the layout's own module, imported now."""
    family: Any = import_module(_HOMES[card.layout])
    return family  # type: ignore[no-any-return]


def require(library: str, extra: str, *, what: str = "this encoder") -> Any:
    """Import an optional library.

    Raises:
        UsageError: it is not installed; names the command that installs it.
    """
    try:
        return import_module(library)
    except ImportError as error:
        why = "it is not installed" if isinstance(error, ModuleNotFoundError) else str(error)
        raise UsageError(
            f"{what} needs the library {library}.", why, f"pip install 'panderm[{extra}]'"
        ) from None
