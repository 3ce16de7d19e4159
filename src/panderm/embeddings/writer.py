"""Keeps what a run has made, shard by shard, and puts it in order when all is there."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from panderm.data.table import Table
from panderm.embeddings.card import EmbeddingsCard
from panderm.embeddings.commit import keep_aside, sweep, tidy, unnamed, write_parts
from panderm.embeddings.known import Known
from panderm.embeddings.lock import LOCK_NAME, Hold
from panderm.embeddings.made import MADE, next_number, shard_path, write_shard
from panderm.embeddings.opened import require_same_making, require_same_table
from panderm.embeddings.outputs import require_only_ours
from panderm.embeddings.parts import token_layout, vector_layout
from panderm.errors import ArtifactError, PandermWarning, plural, some
from panderm.progress import Progress
from panderm.provenance import CARD_NAME, Provenance, read_card
from panderm.storage import new_folder


class EmbeddingsWriter:
    """Writes ``X.emb/``: makes the folder, or goes on with one of the same encoder.

    What is made is kept in shards under ``made/``. :meth:`finish` puts them in parts, in the table's order,
    and writes the card; until then the card that was there, and its parts, stay as they were. A folder that
    was finished for another table is brought to this one: rows are known by their image's name and the
    sha256 of its file.

    Of several processes (ranks) that write one folder, one leads: it makes the folder, locks and compares it,
    and finishes it; the others only write shards.

    Args:
        folder: ``X.emb``.
        card: of the embeddings to be made; not complete, without parts.
        table: all rows they are to be made of.
        overwrite: replace a folder of embeddings that exists.
        rank: number of this process.
        lead: whether it leads.
        number: of its first shard; by default the next of this rank in the folder.

    Attributes:
        card: the card as it stands.
        todo: bool (len(table),): rows without vectors.
        new: how many rows of the table the folder knows no vectors of, nor of another image of that name.
        changed: images whose file is another than it was; they are made again.
        removed: images that the table no longer has; their vectors are kept aside.
        complete: the folder is finished for this very table, and there is nothing to do.

    Raises:
        ParentsError: the folder holds embeddings of another encoder, or of a table that shares no row.
        ArtifactError: another process writes the folder, or it is damaged, or cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        card: EmbeddingsCard,
        table: Table,
        *,
        overwrite: bool = False,
        rank: int = 0,
        lead: bool = True,
        number: int | None = None,
    ) -> None:
        self.folder = folder
        self.card = card
        self.rank = rank
        self.todo: npt.NDArray[np.bool_] = np.ones(len(table), dtype=bool)
        self.new = len(table)
        self.changed: list[str] = []
        self.removed: list[str] = []
        self.complete = False
        self._before: EmbeddingsCard | None = None
        self._vectors = vector_layout(card.encoder.dim)
        self._tokens = None if card.tokens is None else token_layout(card.tokens)
        self._hold: Hold | None = None
        self._number = number
        if not lead:
            return
        if folder.exists() and not overwrite:
            self._go_on(table)
        else:
            self._start(overwrite=overwrite)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let others write the folder; what was made is kept."""
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    def write(
        self, rows: Table, vectors: npt.NDArray[np.float32], tokens: npt.NDArray[np.float16] | None = None
    ) -> None:
        """Keep what was made of some rows: one shard, whole or absent.

        Args:
            rows: n rows of the table.
            vectors: float32 (n, D).
            tokens: float16 (n, h, w, D), where the card has tokens.
        """
        both = None if self._tokens is None or tokens is None else (self._tokens, tokens)
        number = next_number(self.folder, self.rank) if self._number is None else self._number
        write_shard(shard_path(self.folder, self.rank, number), rows, (self._vectors, vectors), both)
        self._number = number + 1

    def finish(
        self,
        *,
        table: Table,
        seconds: float | None,
        images_per_second: float | None,
        progress: bool = False,
    ) -> EmbeddingsCard:
        """Put all rows of a table in parts, and write the card that names them.

        Args:
            table: the rows that were asked for, or fewer, where some turned out to be unreadable.
            seconds: what the work took.
            images_per_second: how fast it was; None where nothing was encoded.
            progress: show progress on standard error.

        Raises:
            ArtifactError: a row has no vectors, or the disk is full.
        """
        before = self._before.parts if self._before is not None else ()
        tokens_before = self._before.token_parts if self._before is not None else ()
        known = Known(self.folder, self._before or self.card, mend=True)
        places = known.locate(table)
        self._require_all(table, places >= 0)
        if known.twice:
            warnings.warn(
                f"{plural(len(known.twice), 'image')} were embedded twice ({some(known.twice)}): one is kept",
                PandermWarning,
                stacklevel=2,
            )
        layouts = [self._vectors] if self._tokens is None else [self._vectors, self._tokens]
        with Progress(len(table) * len(layouts), "putting rows in order", "rows", shown=progress) as bar:
            parts, token_parts = (
                write_parts(self.folder, layout, table, known, places, held, bar.advance) if layout else ()
                for layout, held in ((self._vectors, before), (self._tokens, tokens_before))
            )
        assert sum(part.rows for part in parts) == len(table) == len(np.unique(places))
        keep_aside(self.folder, self._vectors, self._tokens, known, known.left_over(places))
        rate = images_per_second
        if rate is None and self._before is not None:
            rate = self._before.images_per_second
        self.card = self.card.model_copy(
            update={
                "complete": True,
                "table": table.card,
                "rows": len(table),
                "parts": parts,
                "token_parts": token_parts,
                "images_per_second": rate,
                "provenance": Provenance.now(seconds=seconds),
            }
        )
        self.card.write(self.folder, overwrite=True)
        tidy(self.folder, self.card)
        self.close()
        return self.card

    def _start(self, *, overwrite: bool) -> None:
        old = None
        if overwrite and (self.folder / CARD_NAME).is_file():
            require_only_ours(self.folder)
            old = Hold(self.folder)  # not under the hands of another
            if os.name != "posix":  # where a folder with an open file cannot be renamed
                old.release()
        try:
            with new_folder(self.folder, overwrite=overwrite) as temporary:
                self.card.write(temporary)
        finally:
            if old is not None:
                old.release()
        self._hold = Hold(self.folder)

    def _go_on(self, table: Table) -> None:
        before = self._read_card()
        if before.complete and before.table.sha256 == table.card.sha256 and self._whole(before):
            self._is_complete(before)
            return
        self._hold = Hold(self.folder)
        try:
            before = self._read_card()  # as it is now that nobody else writes it
            sweep(self.folder)
            self._compare(before, table)
        except BaseException:
            self.close()
            raise

    def _read_card(self) -> EmbeddingsCard:
        before = read_card(
            self.folder, EmbeddingsCard, "an --out that exists", "choose another --out, or mend this one"
        )
        require_same_making(self.folder, before, self.card)
        return before

    def _whole(self, card: EmbeddingsCard) -> bool:
        return all((self.folder / part.name).is_file() for part in (*card.parts, *card.token_parts))

    def _is_complete(self, card: EmbeddingsCard) -> None:
        self.card = card
        self.complete = True
        self.todo[:] = False
        self.new = 0
        left = (self.folder / MADE).exists() or (self.folder / LOCK_NAME).exists()
        if left or unnamed(self.folder, card):
            # A run was killed after its card was written; or one of another table was, before its own was.
            with contextlib.suppress(ArtifactError):  # of no account: another time will do
                self._hold = Hold(self.folder)
                tidy(self.folder, card, made=not Known(self.folder, card).in_shards())
            self.close()

    def _compare(self, before: EmbeddingsCard, table: Table) -> None:
        parts = (*before.parts, *before.token_parts)
        if gone := [part.name for part in parts if not (self.folder / part.name).exists()]:
            told = f"{self.folder} lacks {some(gone, 3)}: the rows it held are made again"
            warnings.warn(told, PandermWarning, stacklevel=4)
        known = Known(self.folder, before, mend=True)
        self.todo = known.locate(table) < 0
        if self.todo.all() and (len(known) or before.complete):
            require_same_table(self.folder, before.table, table.card)
        self.removed = known.images_but(table.cells("image").keys())
        missing = table.cells("image").take(self.todo)
        self.changed = [str(image) for image in missing.take(known.have_names(missing.keys()))]
        self.new = int(self.todo.sum()) - len(self.changed)
        self._before = before if before.parts else None
        if not before.complete and before.table.sha256 != table.card.sha256:
            self.card.write(self.folder, overwrite=True)

    def _require_all(self, table: Table, there: npt.NDArray[np.bool_]) -> None:
        if not there.all():
            raise ArtifactError(
                "every row must have its vector before a folder is finished.",
                f"{plural(int((~there).sum()), 'row')} of {self.folder} have none: "
                f"{some(table.cells('image').take(~there).strings().tolist())}",
                "run the same panderm embed command again; it makes only what is missing",
            )
