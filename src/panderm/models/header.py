"""The card in the header of a file that ``panderm convert`` wrote: such a file knows what it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import ValidationError

from panderm.errors import WeightsError
from panderm.models.cards import EncoderCard, Pool
from panderm.provenance import Record
from panderm.storage import sha256_of_json
from panderm.weights.checkpoint import read_header

KEY = "panderm"
Names = Literal["panderm", "timm", "published"]


class Header(Record):
    """What a converted file says of itself.

    Attributes:
        card: of the encoder, with its fingerprint.
        pool: the form its tensors are in.
        names: whose names they have.
        tensors_sha256: over all tensors' names, types, shapes and bytes, in the order of their names.
        source_name, source_bytes, source_sha256: the file it was made from.
        account: what became of every tensor of that file.
        panderm: the version that wrote it.
        sha256: over all of the above, so that a card edited by hand is seen.
    """

    format: Literal[1] = 1
    card: EncoderCard
    pool: Pool | None
    names: Names
    tensors_sha256: str
    source_name: str
    source_bytes: int
    source_sha256: str
    account: str
    panderm: str
    sha256: str = ""

    def own_sha256(self) -> str:
        """Return what ``sha256`` must be."""
        return sha256_of_json(self.model_dump(mode="json", exclude={"sha256"}))


def header_of(path: Path) -> Header | None:
    """Return what a file says of itself, or None where it says nothing.

    Raises:
        WeightsError: a card that is damaged, or of another version.
    """
    text = read_header(path).get(KEY)
    if text is None:
        return None
    try:
        header = Header.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise WeightsError(
            "the card in a weights file must be whole and of this version of panderm.",
            f"{path}: {where + ': ' if where else ''}{problem['msg']}",
            "convert the file again from its source, or name the encoder with --encoder",
        ) from None
    if header.sha256 != header.own_sha256():
        raise WeightsError(
            "the card in a weights file must be the one that was written into it.",
            f"{path}: it was changed afterwards",
            f"convert the file again from {header.source_name}",
        )
    return header


def metadata(header: Header) -> dict[str, str]:
    """Return the words for a safetensors header; ``format`` is what other libraries look for."""
    signed = header.model_copy(update={"sha256": header.own_sha256()})
    return {"format": "pt", KEY: json.dumps(signed.model_dump(mode="json"), ensure_ascii=False)}


def sha256_of_tensors(state: Mapping[str, torch.Tensor]) -> str:
    """Return the hex SHA-256 over names, types, shapes and bytes, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        total.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        total.update(_bytes_of(value))
    return total.hexdigest()


def _bytes_of(value: torch.Tensor) -> Any:
    flat = value.reshape(-1).view(torch.uint8) if value.numel() else torch.empty(0, dtype=torch.uint8)
    return np.asarray(flat).data
