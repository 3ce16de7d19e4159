"""An embeddings folder as a file that other programs read."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from panderm.embeddings.derive import formats
from panderm.embeddings.derive.folder import opened
from panderm.embeddings.derive.pieces import Leaving
from panderm.embeddings.opened import Embeddings
from panderm.errors import UsageError, did_you_mean
from panderm.storage import new_file, new_folder, refuse_existing, write_text

ExportFormat = Literal["npz", "csv", "h5", "hf-datasets", "lance", "parquet"]


@dataclass(frozen=True)
class _Kind:
    """A format: who writes it, whether as a folder, with tokens, and the library and extra it needs."""

    write: formats.Writer
    folder: bool = False
    tokens: bool = True
    library: str | None = None


_KINDS: dict[str, _Kind] = {
    "npz": _Kind(formats.write_npz),
    "csv": _Kind(formats.write_csv, tokens=False),
    "h5": _Kind(formats.write_h5, library="h5py"),
    "hf-datasets": _Kind(formats.write_hf_datasets, folder=True, tokens=False, library="datasets"),
    "lance": _Kind(formats.write_lance, folder=True, library="lance"),
    "parquet": _Kind(formats.write_parquet),
}


def export_embeddings(
    embeddings: Embeddings | Path | str,
    *,
    to: ExportFormat,
    out: Path | str,
    tokens: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Write all rows of an embeddings folder, with their vectors and their card, in another format.

    Columns: row, image, path, sha256, split, label, patient, group, and the vector in float32, bit for bit.
    An empty cell is null where the format knows that, else an empty string. The card goes along: in npz as
    the array ``card`` (one string, JSON), in h5 as the attribute ``card``, in parquet and lance as metadata
    ``panderm`` of the schema, of csv as ``X.card.json`` beside ``X.csv``, in folders as ``card.json`` too.
    Memory stays bounded, however many rows there are. Nothing is pickled, and no request is made.

    Args:
        embeddings: the folder, or opened embeddings.
        to: npz, csv, h5, parquet: one file; hf-datasets (``datasets.load_from_disk``), lance: a folder.
        out: the file or folder to write.
        tokens: patch tokens too, float16 (n, h, w, D) in npz and h5, flattened in parquet and lance, where
            ``token_shape`` of the metadata is h, w, D.
        overwrite: replace an output that exists.
        progress: show progress on standard error.

    Returns:
        ``out``.

    Raises:
        UsageError: a library that is not installed, or tokens that are not there or do not fit the format.
        ArtifactError: ``embeddings`` cannot be opened, or ``out`` exists.

    Example:
        >>> panderm.export_embeddings("ham.emb", to="npz", out="ham.npz")  # doctest: +SKIP
        >>> np.load("ham.npz")["vectors"].shape  # doctest: +SKIP
        (8783, 384)
    """
    target = Path(out)
    kind = _kind(to)
    card_beside = target.with_suffix(".card.json") if to == "csv" else None
    for path in (target, card_beside):
        if path is not None:
            refuse_existing(path, overwrite=overwrite)
    if tokens and not kind.tokens:
        able = [name for name, one in _KINDS.items() if one.tokens]
        raise UsageError(
            f"patch tokens can be written to {', '.join(able)} only.",
            f"found --to {to}",
            "leave out --tokens",
        )
    emb = opened(embeddings, target)
    if tokens and emb.card.tokens is None:
        raise UsageError(
            "patch tokens must be there to be written.",
            f"{emb.path or 'the embeddings'}: embedded without --tokens",
            "leave out --tokens, or embed again with it",
        )
    card = json.dumps(emb.card.model_dump(mode="json"), ensure_ascii=False)
    folder = None if isinstance(embeddings, Embeddings) else emb.path
    leaving = Leaving(emb, folder, card, tokens, progress)
    with (new_folder if kind.folder else new_file)(target, overwrite=overwrite) as temporary:
        kind.write(leaving, temporary)
        if card_beside is not None:
            write_text(card_beside, card + "\n", overwrite=overwrite)
    return target


def _kind(to: str) -> _Kind:
    if to not in _KINDS:
        raise UsageError(
            f"--to must be one of {', '.join(get_args(ExportFormat))}",
            f"found {to!r}{did_you_mean(to, _KINDS)}",
        )
    kind = _KINDS[to]
    if kind.library and importlib.util.find_spec(kind.library) is None:
        raise UsageError(
            f"--to {to} needs the library {kind.library}.",
            "it is not installed",
            f"pip install 'panderm[{to}]'",
        )
    return kind
