"""The loop behind masks: images decoded ahead, answers in batches, files written behind."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from panderm.classifying.journal import Lines
from panderm.data.images import read_bytes
from panderm.data.stored import ImageError
from panderm.data.table import Table
from panderm.progress import Progress
from panderm.segmenting.predicting.answers import Image8, PromptedAnswers
from panderm.segmenting.predicting.files import OVERLAY_SIDE, Wanted, write_files
from panderm.segmenting.predicting.flips import Flips, answer, flips_in_words, views_of
from panderm.segmenting.predicting.masked import MaskRow, described
from panderm.segmenting.predicting.models import Anything
from panderm.segmenting.predicting.native import Field, Kept, Stretched
from panderm.segmenting.predicting.opened import LEAST, Opened, is_large, open_image, scaled
from panderm.segmenting.predicting.packed import PackedMask
from panderm.segmenting.predicting.png import ends_whole
from panderm.segmenting.predicting.regions import Tidying, tidied
from panderm.segmenting.predicting.windows import through_windows

_AHEAD = 2  # groups that are decoded or written while one is asked
_Rows = dict[int, MaskRow]


@dataclass(frozen=True)
class Plan:
    """How masks are made.

    Attributes:
        threshold: a pixel is inside from this P(lesion) on.
        tidying: what is kept of a thresholded mask.
        tta: flips and turns whose answers are averaged.
        tiles: side of windows, pixels; None: whole images.
        overlap: of windows.
        batch: squares that are asked at once.
        wanted: what is written beside masks.
        max_megapixels: a larger image counts as bad.
    """

    threshold: float
    tidying: Tidying
    tta: Flips | None
    tiles: int | None
    overlap: float
    batch: int
    wanted: Wanted
    max_megapixels: float

    def told(self) -> dict[str, Any]:
        """Return all that decides a mask beside the model, as JSON."""
        return {
            "threshold": self.threshold,
            **asdict(self.tidying),
            "tta": flips_in_words(self.tta),
            "tiles": self.tiles,
            "overlap": self.overlap if self.tiles else None,
            "batch_size": self.batch,
            **self.wanted.told(),
        }


@dataclass(frozen=True, eq=False)
class _Looked:
    """What the loop keeps of a decoded image."""

    shape: tuple[int, int]
    square: Image8 | None
    base: Image8 | None


@dataclass(frozen=True, eq=False)
class _Answered:
    """The answer for one image.

    Attributes:
        place: of the image in the table.
        field: its probabilities.
        base: what an overlay is drawn on.
        cells: further cells of its row.
    """

    place: int
    field: Field
    base: Image8 | None
    cells: Mapping[str, float | int | str]


class Work:
    """What is to be done for some images.

    Args:
        model: what is asked.
        table: the images.
        names: the path of each one's mask below the folder.
        plan: how.
        folder: where files are written.
    """

    def __init__(self, model: Anything, table: Table, names: Sequence[str], plan: Plan, folder: Path) -> None:
        self.model, self.table, self.names, self.plan, self.folder = model, table, names, plan, folder
        self._images, self._paths, self._sha256 = (table.cells(key) for key in ("image", "path", "sha256"))
        self._alone = bool(plan.tiles) or isinstance(model, PromptedAnswers)
        self._one_large = threading.Lock()  # several large images at once would be gigabytes

    def run(self, lines: Lines, done: _Rows, *, workers: int | None, progress: bool) -> dict[int, str]:
        """Make what is not there yet, fill ``done``, and return the images that cannot be decoded, why."""
        bad: dict[int, str] = {}
        pool = ThreadPoolExecutor(workers or min(4, os.cpu_count() or 1))
        writing: deque[tuple[list[int], list[Future[MaskRow]], int]] = deque()
        what = f"masks by {self.model.name}"
        try:
            with Progress(len(self.table), what, "images", done=len(done), shown=progress) as bar:

                def settle() -> None:
                    """Note a group once all its files are there."""
                    group, futures, n = writing.popleft()
                    rows = [future.result() for future in futures]
                    if rows:
                        noted = zip(group, rows, strict=True)
                        lines.add([[row.image, self._digest(i), row.model_dump()] for i, row in noted])
                    done.update(zip(group, rows, strict=True))
                    bar.advance(n)

                for group, looked in self._looked(pool, self._groups(done)):
                    bad |= {i: one for i, one in zip(group, looked, strict=True) if isinstance(one, str)}
                    good = [
                        (i, one) for i, one in zip(group, looked, strict=True) if isinstance(one, _Looked)
                    ]
                    made = self._asked(good, bad)
                    futures = [pool.submit(self._write, one) for one in made]
                    writing.append(([one.place for one in made], futures, len(group)))
                    while len(writing) > (0 if self._alone else _AHEAD):
                        settle()
                while writing:
                    settle()
        finally:
            pool.shutdown(cancel_futures=True)
        return bad

    def _digest(self, i: int) -> str:
        return str(self._sha256[i])[:16]

    def take(self, rows: Any, at: dict[str, int], done: _Rows) -> None:
        """Take over a group of another run, where its images are as they were and its masks are there."""
        for name, digest, row in rows:
            i = at.get(name)
            if i is not None and self._digest(i) == digest and ends_whole(self.folder / row["mask"]):
                done[i] = MaskRow(**row)

    def _groups(self, done: _Rows) -> Iterator[list[int]]:
        """Yield positions that are asked together: the same ones, wherever a run was stopped."""
        step = 1 if self._alone else self.plan.batch
        for start in range(0, len(self.table), step):
            if left := [i for i in range(start, min(start + step, len(self.table))) if i not in done]:
                yield left

    def _looked(
        self, pool: ThreadPoolExecutor, groups: Iterator[list[int]]
    ) -> Iterator[tuple[list[int], list[_Looked | str]]]:
        waiting: deque[tuple[list[int], list[Future[_Looked | str]]]] = deque()
        for group in groups:
            waiting.append((group, [pool.submit(self._look, i) for i in group]))
            if len(waiting) > (0 if self._alone else 1):
                first, futures = waiting.popleft()
                yield first, [future.result() for future in futures]
        for first, futures in waiting:
            yield first, [future.result() for future in futures]

    def _look(self, i: int) -> _Looked | str:
        """Decode an image and squash it, or say why that cannot be."""
        if self._alone:
            return _Looked((0, 0), None, None)  # it is opened when it is asked
        path = Path(str(self._paths[i]))
        assert not isinstance(self.model, PromptedAnswers)
        try:
            content = read_bytes(path)
            with self._one_large if is_large(content) else contextlib.nullcontext():
                opened = open_image(path, max_megapixels=self.plan.max_megapixels, content=content)
                seen = scaled(opened, LEAST * self.model.size)
                return _Looked(opened.shape, self.model.pixels_of(seen), self._base(opened))
        except ImageError as error:
            return error.reason

    def _base(self, opened: Opened) -> Image8 | None:
        """Return what an overlay is drawn on."""
        if not self.plan.wanted.overlays:
            return None
        base = scaled(opened, OVERLAY_SIDE)
        by = OVERLAY_SIDE / max(base.shape[:2])
        if by >= 1:
            return base
        size = (max(1, round(base.shape[1] * by)), max(1, round(base.shape[0] * by)))
        return np.asarray(cv2.resize(base, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def _asked(self, good: list[tuple[int, _Looked]], bad: dict[int, str]) -> list[_Answered]:
        """Return the answers for a group's images."""
        if self._alone:
            made = []
            for i, _ in good:
                try:
                    made.append(self._asked_alone(i))
                except ImageError as error:
                    bad[i] = error.reason
            return made
        if not good:
            return []
        assert not isinstance(self.model, PromptedAnswers)
        squares = np.stack([one.square for _, one in good if one.square is not None])
        mean, spread = answer(self.model, squares, views_of(self.plan.tta))
        return [
            _Answered(i, Stretched(mean[k], *one.shape, None if spread is None else spread[k]), one.base, {})
            for k, (i, one) in enumerate(good)
        ]

    def _asked_alone(self, i: int) -> _Answered:
        opened = open_image(Path(str(self._paths[i])), max_megapixels=self.plan.max_megapixels)
        model, plan = self.model, self.plan
        if isinstance(model, PromptedAnswers):
            name, kept = str(self._images[i]), Kept(*opened.shape)
            kept.add(np.asarray(model.probability_of(opened.whole(), name), dtype=np.float32))
            return _Answered(i, kept, self._base(opened), model.cells_of(name))
        assert plan.tiles
        views = views_of(plan.tta)

        def ask(windows: list[Image8]) -> Any:
            return answer(model, np.stack([model.pixels_of(one) for one in windows]), views)

        field = through_windows(
            opened,
            ask,
            side=plan.tiles,
            overlap=plan.overlap,
            batch=plan.batch,
            folder=self.folder,
            spread=views > 1,
        )
        return _Answered(i, field, self._base(opened), {})

    def _write(self, one: _Answered) -> MaskRow:
        """Threshold, tidy and write one image's files, and return its row."""
        image, name, wanted = str(self._images[one.place]), self.names[one.place], self.plan.wanted
        field = one.field
        try:
            mask, parts = tidied(PackedMask.from_field(field, self.plan.threshold), self.plan.tidying)
            write_files(self.folder, wanted.files(name), image, mask, field, one.base, wanted)
            return described(image, name, mask, field, parts, uncertainty=wanted.uncertainty, more=one.cells)
        finally:
            field.close()
