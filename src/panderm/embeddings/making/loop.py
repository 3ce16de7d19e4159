"""The loop: images → vectors → shards, in groups that are the same however often it was stopped.

Group g holds the table's positions [g · B, (g + 1) · B) minus those that are done; the last is short, nothing
is padded. The last bits of a vector depend on which images are encoded with it: the same groups give the same
bytes, in one run or in several, in one process or shared out among many.
"""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.data.left_out import as_table, leave_out
from panderm.data.table import Table
from panderm.embeddings.making.encoding import embed_groups
from panderm.embeddings.making.ranks import Ranks
from panderm.embeddings.making.settled import Eye, Settled, settle
from panderm.embeddings.making.shards import InMemory, Shards
from panderm.embeddings.opened import Embeddings, open_embeddings
from panderm.embeddings.tokens import tell_cost, tokens_cost
from panderm.embeddings.writer import EmbeddingsWriter
from panderm.errors import PandermError, ParentsError, TableError, UsageError, plural
from panderm.progress import Progress
from panderm.provenance import Provenance


@dataclass(frozen=True)
class Told:
    """What a run of the loop did.

    Attributes:
        embedded: images that were embedded now, by all processes together.
        new: rows of which the folder had nothing.
        changed: images whose file is another than it was.
        removed: images that the table no longer has.
        seconds: wall-clock, of the embedding itself.
        waited: share of this time in which the network waited for images, 0 to 1; None where none was made.
        ranks: images that each process embedded.
        workers, kind: how many threads or processes decoded images, in the first process.
        tokens: what patch tokens cost, where they are made.
    """

    embedded: int = 0
    new: int = 0
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    seconds: float = 0.0
    waited: float | None = None
    ranks: tuple[int, ...] = ()
    workers: int | None = None
    kind: str | None = None
    tokens: dict[str, Any] | None = None

    @property
    def rate(self) -> float | None:
        """Images per second; None where none was embedded."""
        return self.embedded / self.seconds if self.embedded and self.seconds else None


@dataclass(frozen=True)
class Extraction:
    """Embeddings, and what was done for them now."""

    embeddings: Embeddings
    told: Told


def extract(
    encoder: Eye,
    table: Table,
    out: Path | str | None = None,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    exact: bool = False,
    tokens: bool = False,
    skip_bad: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    ranks: Ranks | None = None,
) -> Extraction:
    """Embed every image of a table, as :meth:`panderm.Encoder.embed` does; and say what was done.

    The arguments are those of ``embed``, and ``ranks``: the processes that share the work, by default those
    that ``torchrun`` started with this one. Without ``out`` nothing is shared.

    Raises:
        TableError: images that cannot be decoded, all of them, once all others are embedded.
        PandermError: as of ``embed``, or another process failed.
    """
    if batch_size is not None and batch_size < 1:
        raise UsageError("the batch size must be at least 1.", f"found {batch_size}")
    table = as_table(table)
    if out is None:
        if tokens:
            raise UsageError(
                "patch tokens must have a folder to be written to.",
                hint="name an out, or take encoder.tokens(pixels) for a few images",
            )
        settled = settle(encoder, table, None, batch_size=batch_size, exact=exact, tokens=False)
        return _in_memory(encoder, table, settled, workers, skip_bad=skip_bad, progress=progress)
    folder = Path(out)
    ranks = ranks or Ranks.join()
    with contextlib.ExitStack() as closing:
        writers: list[EmbeddingsWriter] = []
        told: dict[str, Any] = {}

        def plan() -> dict[str, Any]:
            begun = None if overwrite else folder
            settled = settle(encoder, table, begun, batch_size=batch_size, exact=exact, tokens=tokens)
            if overwrite or not folder.exists():
                # Before a folder is made that would keep the tokens on its card.
                told["tokens"] = _cost(settled, len(table), len(table), folder, shown=progress)
            writer = EmbeddingsWriter(folder, settled.card(table), table, overwrite=overwrite)
            closing.callback(writer.close)
            writers.append(writer)
            if "tokens" not in told:
                told["tokens"] = _cost(settled, len(table), int(writer.todo.sum()), folder, shown=progress)
            told.update(new=writer.new, changed=tuple(writer.changed), removed=tuple(writer.removed))
            return {
                "settled": settled.model_dump(mode="json"),
                "table": table.card.sha256,
                "complete": writer.complete,
                "todo": base64.b64encode(np.packbits(writer.todo).tobytes()).decode(),
            }

        agreed = ranks.agree(plan)
        if agreed["complete"]:
            return Extraction(open_embeddings(folder), Told(**told))
        settled = Settled.model_validate(agreed["settled"])
        bits = np.frombuffer(base64.b64decode(agreed["todo"]), dtype=np.uint8)
        todo = np.unpackbits(bits)[: len(table)].astype(bool)
        with ranks.share():
            if not ranks.lead:
                writers.append(_follow(encoder, table, folder, settled, agreed["table"], ranks.rank))
            started = time.monotonic()
            with _bar(encoder, table, todo, ranks, shown=progress and ranks.lead) as seen:
                with Shards(writers[0], table) as shards:
                    work = embed_groups(
                        encoder, table, todo, settled, shards, ranks, workers=workers, seen=seen
                    )
                done = ranks.gather(work.as_dict(), waiting=seen)
            seconds = time.monotonic() - started

        def finish() -> None:
            bad = {i: reason for one in done for i, reason in one["bad"]}
            counts = tuple(int(one["embedded"]) for one in done)
            _require_all(sum(counts) + len(bad), int(todo.sum()))
            told.update(embedded=sum(counts), ranks=counts, workers=work.workers, kind=work.kind)
            told.update(seconds=seconds, waited=_share(done))
            whole = _without(table, bad, skip_bad=skip_bad)
            rate = Told(**told).rate
            writers[0].finish(table=whole, seconds=seconds, images_per_second=rate, progress=progress)

        ranks.agree(finish)
    return Extraction(open_embeddings(folder), Told(**told))


def _cost(settled: Settled, images: int, todo: int, folder: Path, *, shown: bool) -> dict[str, Any] | None:
    """Say what patch tokens cost, where they are made, and refuse a disk that has no room for them."""
    if settled.tokens is None:
        return None
    dim = settled.encoder.dim
    cost = tokens_cost(settled.tokens, images=images, todo=todo, vector_dim=dim, folder=folder)
    tell_cost(cost, folder, shown=shown)
    return cost.as_dict()


def _follow(
    encoder: Eye, table: Table, folder: Path, settled: Settled, of: str, rank: int
) -> EmbeddingsWriter:
    """Make ready to write shards beside the lead, as it has settled."""
    if table.card.sha256 != of:
        raise ParentsError(
            "all processes of a run must be given the same table.",
            f"process {rank} has {table.card.csv} ({plural(len(table), 'row')}, {table.card.sha256[:12]}), "
            f"the first process another ({of[:12]})",
        )
    encoder.adopt(settled.encoder, settled.drift)
    return EmbeddingsWriter(folder, settled.card(table), table, rank=rank, lead=False)


def _in_memory(
    encoder: Eye, table: Table, settled: Settled, workers: int | None, *, skip_bad: bool, progress: bool
) -> Extraction:
    kept = InMemory(len(table), encoder.dim)
    todo, alone = np.ones(len(table), dtype=bool), Ranks()
    started = time.monotonic()
    with alone.share(), _bar(encoder, table, todo, alone, shown=progress) as seen:
        work = embed_groups(encoder, table, todo, settled, kept, alone, workers=workers, seen=seen)
    seconds = time.monotonic() - started
    whole = leave_out(table, work.bad, skip_bad=skip_bad)
    told = Told(
        embedded=work.embedded,
        new=len(table),
        seconds=seconds,
        waited=_share([work.as_dict()]),
        ranks=(work.embedded,),
        workers=work.workers,
        kind=work.kind,
    )
    finished = {
        "complete": True,
        "images_per_second": told.rate,
        "provenance": Provenance.now(seconds=seconds),
    }
    vectors = kept.vectors
    if work.bad:
        vectors = np.delete(vectors, sorted(work.bad), axis=0)
    card = settled.card(whole).model_copy(update=finished)
    return Extraction(Embeddings(vectors, whole, card), told)


def _without(table: Table, bad: dict[int, str], *, skip_bad: bool) -> Table:
    """Return the table without rows that cannot be decoded; unless they may be left out, name them all."""
    try:
        return leave_out(table, bad, skip_bad=skip_bad)
    except TableError as error:
        if len(bad) == len(table):
            raise
        kept = f"{plural(len(table) - len(bad), 'other image')} embedded and kept"
        hint = (
            f"the same command with --skip-bad leaves these rows out and ends at once ({kept}); or mend them"
        )
        raise TableError(error.must, error.found, hint) from None


def _require_all(done: int, todo: int) -> None:
    if done != todo:
        raise PandermError(
            "every row must be embedded once.",
            f"{plural(todo, 'row')} were to be embedded, {done:,} were",
            "run the same command again: it makes what is missing",
        )


def _share(done: list[dict[str, Any]]) -> float | None:
    """Return which part of the time the network waited for images."""
    seconds = sum(one["seconds"] for one in done)
    if not seconds or not any(one["embedded"] for one in done):
        return None
    return float(sum(one["waited"] for one in done) / seconds)


@contextlib.contextmanager
def _bar(
    encoder: Eye, table: Table, todo: npt.NDArray[np.bool_], ranks: Ranks, *, shown: bool
) -> Iterator[Callable[[], None]]:
    """Show a bar over the table; what is yielded moves it to what all processes have done."""
    done = len(table) - int(todo.sum())
    what = f"embedding with {encoder.name}"
    with Progress(len(table), what, "images", done=done, shown=shown) as bar:
        told = 0

        def seen() -> None:
            nonlocal told
            if shown:
                now = ranks.told()
                bar.advance(now - told)
                told = now

        yield seen
