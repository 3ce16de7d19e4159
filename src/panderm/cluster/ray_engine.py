"""``--engine ray``: the same embedding on Ray, one machine or many, into the same store.

Tasks read, hash and decode; actors hold one encoder each and write shards of whole groups; this process hears
which files were read, and commits. No pixel and no vector comes here. A unit of rows is one row of Ray's data
set, so that Ray can neither part nor join groups, and its shard has one name, so that a task that is repeated
finds its own work.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from panderm.cluster.machines import layout_of
from panderm.cluster.reading import Given, read_given
from panderm.cluster.session import session
from panderm.cluster.stages import ROLES, Begun, Eye, Task, begin, decode_unit, hash_unit, own_error
from panderm.cluster.units import Unit, units_of
from panderm.data.cells import Hashes
from panderm.data.images import ImageFacts
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.data.table import Table, check_rows
from panderm.embeddings import EmbeddingsCard, EmbeddingsWriter, open_embeddings
from panderm.embeddings.known import Known
from panderm.embeddings.lock import Hold
from panderm.embeddings.made import next_rank
from panderm.embeddings.making.loop import Extraction, Told
from panderm.embeddings.tokens import tell_cost, tokens_cost
from panderm.errors import PandermError, PandermWarning, UsageError
from panderm.progress import Progress
from panderm.provenance import CARD_NAME, read_card
from panderm.storage import require_local

_READ_ALIKE = ("images", "image_column", "label", "split_column", "patient", "group")


def embed_with_ray(
    table: Path | str,
    out: Path | str,
    *,
    load: dict[str, Any],
    table_options: dict[str, Any] | None = None,
    batch_size: int | None = None,
    actors: int | None = None,
    exact: bool = False,
    tokens: bool = False,
    skip_bad: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    address: str | None = None,
) -> Extraction:
    """Embed the images of a table, a list of files, or Parquet files, on Ray.

    Each file is read once: for its hash and for its pixels. A run that was stopped goes on when it is called
    again; files whose vectors are there already are then read for their hashes only.

    Args:
        table: a CSV or Parquet table as of :func:`panderm.read_table`; a ``.txt`` file with a path or address
            a line; a Parquet file, or a folder of them, whose image column holds the files' bytes, or
            ``{bytes, path}``. It, and the images it names, may be addresses (``s3://bucket/a.jpg``).
        out: folder to write, ``X.emb``; on a cluster, on a disk that all machines share.
        load: arguments of :func:`panderm.load_encoder`.
        table_options: arguments of :func:`panderm.read_table`.
        batch_size: images encoded at once; by default as :meth:`panderm.Encoder.embed`.
        actors: processes that encode; by default one a GPU, else up to four a machine.
        exact: every pixel as the reference pipeline makes it.
        tokens: patch tokens too, float16, beside the vectors.
        skip_bad: leave out images that cannot be read, and say so on the card.
        overwrite: replace an ``out`` that exists.
        progress: show progress on standard error.
        address: of a Ray cluster that runs; by default Ray is started on this machine, and ended.

    Raises:
        UsageError: Ray is not installed, or more actors than there is room for.
        TableError: as of :func:`panderm.read_table`; images that cannot be read once all others are embedded.
        ArtifactError: ``out`` holds embeddings of another encoder or table, or cannot be written.

    Example:
        >>> done = embed_with_ray("tiles.txt", "tiles.emb", load={"name": "panderm-base"})  # doctest: +SKIP
    """
    for name, number in (("the batch size", batch_size), ("the number of actors", actors)):
        if number is not None and number < 1:
            raise UsageError(f"{name} must be at least 1.", f"found {number}")
    require_local(Path(out))
    asked = dict(table_options or {})
    given = read_given(table, {name: asked.pop(name) for name in _READ_ALIKE if name in asked})  # type: ignore[arg-type]
    run = _Run(given, Path(out), _whole_paths(load), asked, progress=progress)
    # What has no label, and classes that are not listed, are known before any file is read.
    known = run.check(skip_bad=skip_bad, told=True)
    with session(address) as ray:
        try:
            run.start(ray, known, actors, overwrite=overwrite)
            run.here = address is None and not run.layout.gpus
            return run.embed(batch_size, exact=exact, tokens=tokens, skip_bad=skip_bad, overwrite=overwrite)
        except PandermError:
            raise
        except Exception as error:
            raise _in_our_words(error) from None


class _Run:
    """One run: the rows, what was found in their files so far, and Ray."""

    def __init__(
        self, given: Given, folder: Path, load: dict[str, Any], asked: dict[str, Any], *, progress: bool
    ) -> None:
        self.given, self.folder, self.load, self.asked = given, folder.absolute(), load, asked
        self.progress = progress
        n = len(given.rows)
        self.sha256 = np.zeros((n, 32), dtype=np.uint8)  # zeros where not known
        self.problem: dict[int, str] = {}
        self.warned: tuple[str, ...] = ()
        self.here = False

    def check(self, *, skip_bad: bool, told: bool = False) -> Table:
        """Return the table of the rows as far as their files are known."""
        known = Hashes(self.sha256)
        facts = (
            ImageFacts(sha256=digest or "", problem=self.problem.get(i)) for i, digest in enumerate(known)
        )
        rows = self.given.rows
        if int((~self.sha256.any(axis=1)).sum()) > len(self.problem):
            rows = replace(rows, lock=None)  # it holds hashes that are not known yet
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            table = check_rows(rows, facts, skip_bad=skip_bad, **self.asked)
        if told:  # once each: some are known from the cells alone
            for one in caught:
                if str(one.message) not in self.warned:
                    warnings.warn(str(one.message), PandermWarning, stacklevel=3)
            self.warned += tuple(str(one.message) for one in caught)
        return table

    def start(self, ray: Any, known: Table, actors: int | None, *, overwrite: bool) -> None:
        """Take the measure of the machines, and give them the rows."""
        self.ray = ray
        # Positions in the table of rows that name an image and have what they need.
        self.at = np.flatnonzero(np.isin(self.given.rows.row, known.row)).astype(np.int64)
        self.layout = layout_of(ray, device=str(self.load.get("device", "auto")), actors=actors)
        if "device" in self.load or self.layout.gpus:
            self.load = {**self.load, "device": self.layout.device}
        if not overwrite and (self.folder / CARD_NAME).is_file():
            Hold(self.folder).release()  # whoever else writes it is told of before anything is read

    def embed(
        self, batch_size: int | None, *, exact: bool, tokens: bool, skip_bad: bool, overwrite: bool
    ) -> Extraction:
        most = float(self.asked.get("max_megapixels", MAX_MEGAPIXELS))
        every = np.arange(len(self.at), dtype=np.int64)
        task = Task(self._share(every), self.given.bytes_in, most)
        before = None if overwrite else self.folder
        card = self.check(skip_bad=True).card
        begun: Begun = self._begin(
            self.load,
            task,
            card,
            before,
            batch_size=batch_size,
            threads=self.layout.threads,
            exact=exact,
            tokens=tokens,
        )
        for said in begun.warnings:
            warnings.warn(said, PandermWarning, stacklevel=4)
        if not overwrite:
            self._look_again(task, self._held(every))
        table = self.check(skip_bad=True)
        settled = begun.settled
        with EmbeddingsWriter(self.folder, settled.card(table), table, overwrite=overwrite) as writer:
            told: dict[str, Any] = {
                "new": writer.new,
                "changed": tuple(writer.changed),
                "removed": tuple(writer.removed),
            }
            if writer.complete and not self._bad():
                return Extraction(open_embeddings(self.folder), Told(**told))
            todo = every[np.isin(self.given.rows.row[self.at], table.row[writer.todo])]
            if settled.tokens is not None:
                cost = tokens_cost(
                    settled.tokens,
                    images=len(table),
                    todo=len(todo),
                    vector_dim=settled.encoder.dim,
                    folder=self.folder,
                )
                tell_cost(cost, self.folder, shown=self.progress)
            started = time.monotonic()
            made = self._stream(begun, todo, writer.card, most, len(every) - len(todo))
            seconds = time.monotonic() - started
            whole = self.check(skip_bad=skip_bad, told=True)
            done = Told(**told, embedded=made, seconds=seconds, ranks=())
            writer.finish(table=whole, seconds=seconds, images_per_second=done.rate, progress=self.progress)
        return Extraction(open_embeddings(self.folder), done)

    def _bad(self) -> bool:
        return bool(np.isin(self.at, list(self.problem)).any())

    def _held(self, every: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the rows whose image's name the folder knows."""
        if not (self.folder / CARD_NAME).is_file():
            return every[:0]
        card = read_card(self.folder, EmbeddingsCard, "an --out that exists")
        names = self.given.rows.columns["image"].take(self.at).keys()
        return every[Known(self.folder, card).have_names(names, aside=True)]

    def _look_again(self, task: Task, held: npt.NDArray[np.int64]) -> None:
        """Read files that have vectors already for their hashes: whether they are as they were."""
        if not len(held):
            return
        task = Task(self._share(held), task.bytes_in, task.max_megapixels)
        units = units_of(held, batch_size=1, image_bytes=1, actors=self.layout.readers)
        data = self._units(units).map_batches(
            partial(hash_unit, task=task),
            **_whole,
            num_cpus=1,
        )
        with Progress(len(held), "checking images", "images", shown=self.progress) as bar:
            for start, stop in self._hear(data, held):
                bar.advance(stop - start)

    def _stream(
        self, begun: Begun, todo: npt.NDArray[np.int64], card: EmbeddingsCard, most: float, done: int
    ) -> int:
        """Have rows embedded; return how many were."""
        settled = begun.settled
        side = begun.preprocess.crop
        layout = self.layout.of(begun.device)
        units = units_of(
            todo, batch_size=settled.batch_size, image_bytes=side * side * 3, actors=layout.actors
        )
        if not units:
            return 0
        task = Task(self._share(todo), self.given.bytes_in, most, begun.preprocess, settled.decoding.exact)
        ours = (task, self.load, settled, card, str(self.folder), next_rank(self.folder), layout.threads)
        data = (
            self._units(units)
            .map_batches(
                partial(decode_unit, task=task),
                **_whole,
                **layout.decode_options,
            )
            .map_batches(
                Eye,
                fn_constructor_args=ours,
                compute=self.ray.data.ActorPoolStrategy(size=min(layout.actors, len(units))),
                **_whole,
                **layout.encode_options,
            )
        )
        made = 0
        what = f"embedding with {settled.encoder.name}"
        with Progress(len(todo) + done, what, "images", done=done, shown=self.progress) as bar:
            for start, stop in self._hear(data, todo):
                bar.advance(stop - start)
                rows = self.at[todo[start:stop]]
                made += sum(row not in self.problem for row in rows.tolist())
        return made

    def _share(self, chosen: npt.NDArray[np.int64]) -> Any:
        """Put rows where every process of the machines reads them; each machine fetches them once."""
        rows, at = self.given.rows, self.at[chosen]
        columns = {name: rows.columns[name].take(at).arrow().cast(pa.large_string()) for name in ROLES}
        columns["path"] = rows.path.take(at).arrow().cast(pa.large_string())
        return self.ray.put(pa.table({"position": chosen, "row": rows.row[at], **columns}))

    def _units(self, units: list[Unit]) -> Any:
        data = self.ray.data.from_arrow(
            [pa.table({"number": [u.number], "start": [u.start], "stop": [u.stop]}) for u in units]
        )
        context = data.context
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.enable_auto_log_stats = False
        return data

    def _hear(self, data: Any, chosen: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Yield the ends of each unit as it is done; keep what was found of its files."""
        for block in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for unit in block.to_pylist():
                start, stop = unit["start"], unit["stop"]
                rows = self.at[chosen[start:stop]]
                told = zip(rows.tolist(), unit["sha256"], unit["problem"], strict=True)
                for row, digest, problem in told:
                    self.sha256[row] = np.frombuffer(bytes.fromhex(digest) or bytes(32), np.uint8)
                    self.problem.pop(row, None)
                    if problem:
                        self.problem[row] = problem
                yield start, stop

    def _begin(self, *args: Any, **options: Any) -> Begun:
        """Settle what the first images decide, where an encoder will run."""
        if self.here:
            return begin(*args, **options)  # a process more would load all libraries once more
        remote = self.ray.remote(**self.layout.encode_options, max_retries=2)(begin)
        begun: Begun = self.ray.get(remote.remote(*args, **options))
        return begun


# A unit is one row, one block and one batch: Ray neither parts nor joins it.
_whole: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}


def _whole_paths(load: dict[str, Any]) -> dict[str, Any]:
    """Make paths whole: other processes have other folders to start from."""
    whole = dict(load)
    for name in ("weights", "card"):
        if whole.get(name) is not None:
            whole[name] = str(Path(whole[name]).expanduser().absolute())
    return whole


def _in_our_words(error: Exception) -> BaseException:
    own = own_error(error)
    if own is not None:
        return own
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return PandermError(
        "every process on Ray must live to the end of its work.",
        f"{type(error).__name__}: {lines[-1] if lines else 'no reason given'}",
        "what was finished is kept: run the same command again; where memory is short, with fewer --actors",
    )
