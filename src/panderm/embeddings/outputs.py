"""What an output must not take the place of: its own sources, and a user's own files."""

from __future__ import annotations

import json
import re
from pathlib import Path

from panderm.embeddings.lock import LOCK_NAME
from panderm.embeddings.made import MADE
from panderm.embeddings.opened import Embeddings
from panderm.errors import ArtifactError, UsageError, some
from panderm.provenance import CARD_NAME

_OURS = re.compile(
    rf"{re.escape(CARD_NAME)}|{LOCK_NAME}|{MADE}|table\.csv"
    r"|(part|tokens|removed)-.+\.parquet|\..+\.(tmp|old)"
    r"|\.DS_Store|\._.*|Thumbs\.db|desktop\.ini"  # what file managers leave
)


def require_apart(out: Path, emb: Embeddings, *, option: str = "--out") -> None:
    """Raise where an output would take the place of embeddings, of their table or of one of their images.

    Args:
        out: a file or folder to be written.
        emb: what it is made from.
        option: by which it was named.

    Raises:
        UsageError: it is the folder of the embeddings, lies in it, or is a file that they were made from.
    """
    place = out.resolve()
    found = None
    if emb.path is not None and place.is_relative_to(emb.path.resolve()):
        found = f"is {emb.path} or lies in it"
    elif out.is_file():
        if place == Path(emb.card.table.csv).resolve():
            found = "is the table that was embedded"
        elif {str(out.absolute()), str(place)} & {str(path) for path in emb.rows.path}:
            found = "is an image that was embedded"
    if found:
        raise UsageError(
            "an output must not be what it is made from.",
            f"{option} {out} {found}",
            f"choose another {option}",
        )


def require_only_ours(folder: Path) -> None:
    """Raise where a folder of embeddings that is to be replaced holds files that panderm did not write.

    Raises:
        ArtifactError: it does; they would be lost.
    """
    if not _holds_embeddings(folder):
        return  # what else may be in the way, and a card that is damaged, the storage knows
    others = sorted(path.name for path in folder.iterdir() if not _OURS.fullmatch(path.name))
    if others:
        raise ArtifactError(
            "only a folder that panderm wrote may be replaced.",
            f"{folder} holds other files too, and they would be lost: {some(others)}",
            "move them elsewhere, or choose another --out",
        )


def _holds_embeddings(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / CARD_NAME).read_bytes())["kind"] == "embeddings")
    except (OSError, ValueError, KeyError, TypeError):
        return False
