"""The teacher's tokens on disk: with a few fixed views of each image, the teacher is asked once for each."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from panderm.errors import ArtifactError, DataError, ParentsError, UsageError, in_bytes, plural
from panderm.progress import Progress
from panderm.provenance import CARD_NAME, Card, Provenance, read_card
from panderm.storage import new_file, new_folder

SHARD = 256
"""Images of one file: 39 MB of DINOv2-S, of which a run that is killed loses one at most."""
_ROOM = 1.05  # times the bytes to be written must be free


class Views(Protocol):
    """What is seen of some images: :class:`panderm.pretraining.feed.TwoViewBatch`."""

    @property
    def positions(self) -> npt.NDArray[np.int64]: ...
    @property
    def teacher(self) -> torch.Tensor: ...


class Targets(Protocol):
    """What makes targets: :class:`panderm.pretraining.teacher.Teacher`."""

    record: dict[str, Any]
    dim: int
    grid: tuple[int, int]
    image_size: int

    def targets(self, rgb: npt.NDArray[np.uint8] | torch.Tensor) -> torch.Tensor: ...


Feed = Callable[[int, Sequence[npt.NDArray[np.int64]]], Iterable[Views]]


class TargetsCard(Card):
    """What the targets are of; another teacher, other images or other crops have other targets."""

    kind: Literal["teacher targets"] = "teacher targets"
    format: Literal[1] = 1
    teacher: dict[str, Any]
    images: dict[str, Any]
    views: dict[str, Any] = Field(description="how crops are drawn, and how many of each image")
    seed: int
    shape: tuple[int, int, int, int] = Field(description="views, images, tokens, width")
    shard: int = SHARD


class Cost(NamedTuple):
    """What a cache costs before it is made.

    Attributes:
        bytes: on disk, of what is not there yet.
        images: views that the teacher is still to look at.
        seconds: at a measured rate; None where it was not measured.
    """

    bytes: int
    images: int
    seconds: float | None = None

    def __str__(self) -> str:
        if not self.images:
            return "the teacher's tokens are all on disk"
        took = "" if self.seconds is None else f", {_duration(self.seconds)} at the rate just measured"
        return f"the teacher's tokens of {plural(self.images, 'view')}: {in_bytes(self.bytes)} on disk{took}"


@dataclass(frozen=True)
class TargetCache:
    """Targets of ``views`` fixed views of each image, float16, in files of 256 images.

    The view of an epoch is ``epoch % views``. A file is whole or absent: filling goes on where it was ended.
    An image that could not be read is marked, and is left out wherever it is asked for.

    Attributes:
        folder: where they lie.
        card: what they are of.
    """

    folder: Path
    card: TargetsCard

    @classmethod
    def open(
        cls,
        folder: Path | str,
        teacher: Targets,
        *,
        images: dict[str, Any],
        views: dict[str, Any],
        count: int,
        fixed: int,
        seed: int,
    ) -> TargetCache:
        """Open the cache in a folder, or begin one there.

        Args:
            folder: its own.
            teacher: whose targets.
            images: what tells this list of images from another: its hash.
            views: how crops are drawn.
            count: images.
            fixed: views of each.
            seed: of the crops.

        Raises:
            UsageError: no images, or no views.
            ParentsError: the folder holds targets of another teacher, list, way of cropping or seed.
        """
        if count < 1 or fixed < 1:
            raise UsageError("there must be images, and views of them.", f"found {count} and {fixed}")
        path = Path(folder)
        # How it is computed is not what is computed; a file may have moved.
        whose = {key: value for key, value in teacher.record.items() if key not in ("precision", "file")}
        tokens = 1 + teacher.grid[0] * teacher.grid[1]
        card = TargetsCard(
            provenance=Provenance.now(),
            teacher=whose,
            images=images,
            views=views,
            seed=seed,
            shape=(fixed, count, tokens, teacher.dim),
        )
        if not (path / CARD_NAME).exists():
            with new_folder(path) as new:
                card.write(new)
        held = read_card(path, TargetsCard, "a cache of targets", "choose another folder for the cache")
        ours, theirs = card.decisive(), held.decisive()
        others = [key for key in ours if ours[key] != theirs[key]]
        if others:
            raise ParentsError(
                "a cache of targets must be of this teacher, these images and these views.",
                f"{path} has another {' and '.join(others)}",
                "choose another folder for the cache, or remove this one",
            )
        return cls(path, held)

    @property
    def bytes_per_image(self) -> int:
        """Of one view."""
        _, _, tokens, dim = self.card.shape
        return 2 * tokens * dim

    def missing(self, view: int) -> list[npt.NDArray[np.int64]]:
        """Return the positions of each file of a view that is not there yet."""
        count, size = self.card.shape[1], self.card.shard
        starts = range(0, count, size)
        return [
            np.arange(at, min(at + size, count), dtype=np.int64)
            for at in starts
            if not self._path(view, at // size).exists()
        ]

    def cost(self, seconds_per_image: float | None = None) -> Cost:
        """Return what is still to be computed, and what that takes."""
        images = sum(len(group) for view in range(self.card.shape[0]) for group in self.missing(view))
        seconds = None if seconds_per_image is None else images * seconds_per_image
        return Cost(images * self.bytes_per_image, images, seconds)

    def fill(self, teacher: Targets, feed: Feed, *, rank: int = 0, ranks: int = 1, shown: bool = True) -> int:
        """Compute what is missing, file by file.

        Args:
            teacher: the one of the card.
            feed: gives the views of groups of positions, ``feed(view, groups)``; an image that cannot be read
                is left out of its batch.
            rank: which of several processes this is; each makes its share of the files.
            ranks: how many there are.
            shown: show a bar.

        Returns:
            How many views were computed by this call.

        Raises:
            ArtifactError: the disk has no room for them.
            DataError: numbers too large for float16.
        """
        todo = [(view, group) for view in range(self.card.shape[0]) for group in self.missing(view)]
        todo = [each for each in todo if each[1][0] // self.card.shard % ranks == rank]
        total = sum(len(group) for _, group in todo)
        self._require_room(total * self.bytes_per_image)
        made = 0
        with Progress(total, "teacher", "views", shown=shown) as progress:
            for view in sorted({view for view, _ in todo}):
                groups = [group for each, group in todo if each == view]
                pieces = [part for group in groups for part in np.array_split(group, -(-len(group) // 32))]
                batches = iter(feed(view, pieces))
                for group in groups:
                    parts = -(-len(group) // 32)
                    made += self._write(view, group, teacher, (next(batches) for _ in range(parts)), progress)
        return made

    def _write(
        self,
        view: int,
        group: npt.NDArray[np.int64],
        teacher: Targets,
        batches: Iterator[Views],
        progress: Progress,
    ) -> int:
        _, _, tokens, dim = self.card.shape
        whole = np.full((len(group), tokens, dim), np.nan, dtype=np.float16)
        made = 0
        for batch in batches:
            if len(batch.positions):
                found = teacher.targets(batch.teacher).to(torch.float16).cpu().numpy()
                if not np.isfinite(found).all():
                    raise DataError(
                        "the teacher's tokens must fit float16, as they are stored.",
                        "numbers above 65,504 came out",
                        "leave out --views: the teacher is then asked at every step",
                    )
                whole[batch.positions - group[0]] = found
            made += len(batch.positions)
            progress.advance(len(batch.positions))
        path = self._path(view, int(group[0]) // self.card.shard)
        with new_file(path, overwrite=True, sweep=False) as temporary, temporary.open("wb") as file:
            np.save(file, whole)
        return made

    def read(self, view: int, positions: npt.NDArray[np.int64]) -> tuple[torch.Tensor, npt.NDArray[np.bool_]]:
        """Return targets of one view.

        Args:
            view: which, 0 to ``views`` - 1.
            positions: int64 (n,), in the list of images.

        Returns:
            float32 (n, 1 + N, D) on the CPU, and bool (n,): False where the image could not be read when its
            file was made (its targets are then zeros).

        Raises:
            ArtifactError: a file that is missing or damaged.
        """
        _, _, tokens, dim = self.card.shape
        into = np.zeros((len(positions), tokens, dim), dtype=np.float32)
        for number in np.unique(positions // self.card.shard):
            at = np.flatnonzero(positions // self.card.shard == number)
            into[at] = self._shard(view, int(number))[positions[at] - number * self.card.shard]
        known = ~np.isnan(into[:, 0, 0])
        into[~known] = 0
        return torch.from_numpy(into), known

    def _shard(self, view: int, number: int) -> npt.NDArray[np.float16]:
        path = self._path(view, number)
        _, count, tokens, dim = self.card.shape
        rows = min(self.card.shard, count - number * self.card.shard)
        try:
            found: npt.NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
            if found.shape == (rows, tokens, dim) and found.dtype == np.float16:
                return found
            why = f"{found.dtype} {found.shape}"
        except (OSError, ValueError, EOFError) as error:
            why = "it is not there" if isinstance(error, FileNotFoundError) else str(error)
        raise ArtifactError(
            "a cache of targets must be whole.",
            f"{path}: {why}",
            "remove this file, and run the same command again: it is computed anew",
        )

    def _path(self, view: int, number: int) -> Path:
        return self.folder / f"view-{view}-{number:05d}.npy"

    def _require_room(self, wanted: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if wanted * _ROOM > free:
            raise ArtifactError(
                "the disk must have room for the teacher's tokens.",
                f"{in_bytes(wanted)} are wanted and {in_bytes(free)} are free at {self.folder}",
                "fewer --views, another disk, or leave --views out",
            )


def seconds_per_image(teacher: Targets, *, images: int = 8) -> float:
    """Measure how long the teacher looks at an image, once it has begun: a figure for this machine, now."""
    side = teacher.image_size
    rgb = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (images, side, side, 3), dtype=np.uint8))
    teacher.targets(rgb[:1])
    began = time.perf_counter()
    teacher.targets(rgb).cpu()
    return (time.perf_counter() - began) / images


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
