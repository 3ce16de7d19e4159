"""Embedding what an earlier run may have begun: what is there is taken, what is missing is made."""

from __future__ import annotations

import contextlib
from pathlib import Path

from panderm.data.table import Table
from panderm.embeddings import Embeddings, open_embeddings
from panderm.embeddings.making.settled import require_going_on
from panderm.errors import ArtifactError, ParentsError, WeightsError
from panderm.models.several import Eye, decisive


def goes_on(folder: Path, eye: Eye, table: Table, *, exact: bool) -> bool:
    """Say whether a run can go on with a folder."""
    with contextlib.suppress(ArtifactError):
        require_going_on(folder, eye.record, table, exact=exact)
        open_embeddings(folder, partial=True)  # a part may be damaged
        return True
    return False


def embed_once(
    eye: Eye,
    table: Table,
    folder: Path,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    exact: bool = False,
    skip_bad: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Embeddings:
    """Return the embeddings of a table; those of the folder, where it holds them all.

    Args:
        eye: an encoder that was checked; it is loaded only where there is something to embed.
        table: what to embed.
        folder: ``X.emb``, there or not.
        batch_size: as of :meth:`panderm.Encoder.embed`.
        workers: likewise.
        exact: likewise.
        skip_bad: likewise.
        overwrite: replace a folder of another encoder or table; one that can go on is kept.
        progress: show progress on standard error.

    Raises:
        ParentsError: the folder is of another encoder or table, and ``overwrite`` is not set.
        WeightsError: the weights file has changed since it was checked.
        TableError: images that only decoding shows to be damaged, once all others are embedded.
    """
    going = folder.exists() and goes_on(folder, eye, table, exact=exact)
    if going:
        with contextlib.suppress(ArtifactError):  # not whole: what is missing is made
            return open_embeddings(folder, encoder=eye, table=table)
    encoder = eye.load()
    if decisive(encoder.record) != decisive(eye.record):
        raise WeightsError(
            "a weights file must not change while a run uses it.",
            f"{eye.record.weights}: it was {eye.record.weights_sha256[:12]} when it was checked, "
            f"now it is {encoder.record.weights_sha256[:12]}",
            "run the same command again once the file is whole",
        )

    def embedded(*, replace: bool) -> Embeddings:
        return encoder.embed(
            table,
            folder,
            batch_size=batch_size,
            workers=workers,
            exact=exact,
            skip_bad=skip_bad,
            overwrite=replace,
            progress=progress,
        )

    if not (overwrite and going):
        return embedded(replace=overwrite and folder.exists())
    try:
        return embedded(replace=False)
    except ParentsError:  # it holds the vectors of fp32, but here fewer bits are found to do
        return embedded(replace=True)
