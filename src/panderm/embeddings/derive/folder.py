"""A finished embeddings folder whose rows come from others: no encoder runs, no image is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from panderm.data.cells import joined
from panderm.data.images import ImageFacts
from panderm.data.lock import LockRecord
from panderm.data.table import Rows, Table, check_rows
from panderm.embeddings.card import Decoding, EmbeddingsCard, Part, Source
from panderm.embeddings.commit import write_one
from panderm.embeddings.derive.own_table import OWN_TABLE, own_table
from panderm.embeddings.lock import Hold
from panderm.embeddings.opened import Embeddings, open_embeddings
from panderm.embeddings.outputs import require_apart, require_only_ours
from panderm.embeddings.parts import Layout, rows_of, token_layout, vector_layout
from panderm.progress import Progress
from panderm.provenance import CARD_NAME, Provenance
from panderm.storage import new_folder, sha256_of_file


@dataclass(frozen=True)
class Taken:
    """Rows of one folder that go into another: their positions, ascending, and how they were chosen."""

    emb: Embeddings
    positions: npt.NDArray[np.intp]
    chosen: str | None = None


def opened(embeddings: Embeddings | Path | str, out: Path) -> Embeddings:
    """Open a folder that is read while ``out`` is written: never the same one.

    Raises:
        UsageError: ``out`` is the folder itself, lies in it, or is a file that it was made from.
        ArtifactError: it cannot be opened.
    """
    emb = embeddings if isinstance(embeddings, Embeddings) else open_embeddings(embeddings)
    require_apart(out, emb)
    return emb


def name_of(emb: Embeddings) -> str:
    """Return what a message calls a folder."""
    return str(emb.path or f"embeddings of {emb.card.table.csv}")


def write_taken(
    taken: Sequence[Taken],
    out: Path,
    *,
    classes: Sequence[str],
    lock: LockRecord | None,
    overwrite: bool,
    progress: bool,
) -> Embeddings:
    """Write rows of one or several folders of one encoder as a finished folder, and open it.

    Args:
        taken: what is taken from each; an image that several have is taken from the first of them.
        out: the folder.
        classes: all classes in their order.
        lock: of the table they all come from.
        overwrite: replace a folder of embeddings that exists.
        progress: show progress on standard error.
    """
    first = taken[0].emb.card
    cards = [one.emb.card for one in taken]
    if overwrite and (out / CARD_NAME).is_file():
        Hold(out).release()  # not under the hands of a run that writes it
        require_only_ours(out)
    with new_folder(out, overwrite=overwrite) as temporary:
        table = _table(taken, temporary / OWN_TABLE, out, classes=classes, lock=lock)
        if first.tokens is not None and all(card.tokens == first.tokens for card in cards):
            tokens, layout = first.tokens, token_layout(first.tokens)
            token_parts = _write(temporary, layout, table, taken, progress=progress)
        else:
            tokens, token_parts = None, ()
        parts = _write(temporary, vector_layout(first.encoder.dim), table, taken, progress=progress)
        drifts = [card.drift for card in cards if card.drift is not None]
        card = EmbeddingsCard(
            provenance=Provenance.now(),
            encoder=first.encoder,
            table=table.card,
            rows=len(table),
            complete=True,
            drift=min(drifts, default=None),
            decoding=_decoding([card.decoding for card in cards]),
            tokens=tokens,
            parts=parts,
            token_parts=token_parts,
            sources=tuple(
                Source(
                    store=str(one.emb.path.resolve()) if one.emb.path else name_of(one.emb),
                    identity=one.emb.card.identity,
                    rows=len(one.positions),
                    chosen=one.chosen,
                )
                for one in taken
            ),
        )
        card.write(temporary)
    return open_embeddings(out)


def _table(
    taken: Sequence[Taken], csv: Path, out: Path, *, classes: Sequence[str], lock: LockRecord | None
) -> Table:
    """Write the rows' own table, and return them as read from it; leaks between splits are warned of."""
    one = taken[0]
    # Of several, the whole tables: a cell that is empty in the first of them may be filled in another.
    whole = [t.emb.rows for t in taken] if len(taken) > 1 else [one.emb.rows.select(one.positions)]
    frame, roles = own_table(whole)
    frame.to_csv(csv, index=False, encoding="utf-8", lineterminator="\n")
    rows = [t.emb.rows.select(t.positions) for t in taken]
    cards = [t.emb.card.table for t in taken]
    columns = {
        role: joined([r.cells(role) for r in rows], role)
        for role in ("image", "split", "label", "patient", "group")
    }
    digests = (str(digest) for r in rows for digest in r.cells("sha256"))
    notes = dict.fromkeys(card.note for card in cards if card.note)
    given = Rows(
        name=out.name,
        csv=str(out.resolve() / OWN_TABLE),
        csv_sha256=sha256_of_file(csv),
        images=", ".join(dict.fromkeys(card.images for card in cards)),
        row=np.arange(2, 2 + len(frame), dtype=np.int64),
        path=joined([r.cells("path") for r in rows], "path"),
        columns=columns,
        roles=roles,
    )
    table = check_rows(
        given,
        (ImageFacts(sha256=digest) for digest in digests),
        classes=classes if roles["label"] else None,
        max_megapixels=max(card.max_megapixels for card in cards),
        note=" ".join(notes) or None,
    )
    return table.under(table.card.model_copy(update={"lock": lock}))


def _decoding(all_of_them: Sequence[Decoding]) -> Decoding:
    compared = [one.levels for one in all_of_them if one.levels is not None]
    return Decoding(
        exact=all(one.exact for one in all_of_them),
        levels=max(compared, default=None),
        images=sum(one.images for one in all_of_them),
    )


def _write(
    folder: Path, layout: Layout, table: Table, taken: Sequence[Taken], *, progress: bool
) -> tuple[Part, ...]:
    """Write the parts of a table's vectors or tokens, as a run that has made them does."""
    numbers = _Numbers(taken, layout)
    what = "vectors" if layout.column == "vector" else "patch tokens"
    with Progress(len(table), f"writing {what}", "rows", shown=progress) as bar:

        def groups(start: int) -> Iterator[tuple[pa.Table, npt.NDArray[Any]]]:
            end = min(start + layout.part_rows, len(table))
            for low in range(start, end, layout.group_rows):
                chosen = slice(low, min(low + layout.group_rows, end))
                yield rows_of(table.select(chosen), layout.rows), numbers.between(chosen.start, chosen.stop)
                bar.advance(chosen.stop - chosen.start)

        starts = range(0, len(table), layout.part_rows)
        return tuple(write_one(folder, layout, k, groups(start)) for k, start in enumerate(starts))


class _Numbers:
    """The vectors or tokens of what was taken, one after the other."""

    def __init__(self, taken: Sequence[Taken], layout: Layout) -> None:
        self._taken = taken
        self._layout = layout
        self._starts = np.cumsum([0, *(len(one.positions) for one in taken)])

    def between(self, low: int, high: int) -> npt.NDArray[Any]:
        pieces = []
        for one, start in zip(self._taken, self._starts, strict=False):
            chosen = one.positions[max(0, low - start) : max(0, high - start)]
            if len(chosen):
                held: Any = one.emb.vectors if self._layout.column == "vector" else one.emb.tokens
                pieces.append(np.asarray(held[chosen], dtype=self._layout.dtype))
        return np.concatenate(pieces)
