"""Test-time augmentation: an image seen in several ways, and one answer to all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy.special import expit, softmax

from panderm.data.fast import pixels
from panderm.data.filled import Bad, FilledFeed, Numbers, unchanged_bytes
from panderm.data.jitter import Jitter
from panderm.data.preprocess import Preprocess
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.data.table import Table
from panderm.errors import UsageError
from panderm.fitted.probe import FittedProbe, Floats
from panderm.models.encoder import Encoder
from panderm.progress import Progress

Pixels = npt.NDArray[np.uint8]
Mean = Literal["probabilities", "logits"]

TURNS = (
    "as it is",
    "mirrored left to right",
    "mirrored top to bottom",
    "turned by 180°",
    "turned by 90°",
    "turned by 270°",
    "mirrored at the falling diagonal",
    "mirrored at the rising diagonal",
)
"""The ways a square can lie, so ordered that the first 2, 4 and 8 are groups; turns counter-clockwise."""
PUBLISHED = 5
# Of the published views: chance of a flip; of a rotation, and of other colours; angle; saturation, hue.
_FLIP, _CHANCE, _ANGLE, _COLOUR = 0.5, 0.3, 270.0, 0.25


def turned(rgb: torch.Tensor, k: int) -> torch.Tensor:
    """Return squares in one of the eight ways they can lie; no pixel is made anew.

    Args:
        rgb: (…, S, S, 3).
        k: which of ``TURNS``, 0 to 7.

    Example:
        >>> turned(torch.arange(4).reshape(2, 2, 1), 4).flatten().tolist()
        [1, 3, 0, 2]
    """
    rows, columns = -3, -2
    if k in (1, 2):
        return rgb.flip(columns if k == 1 else rows)
    if k in (3, 4, 5):
        return rgb.rot90({3: 2, 4: 1, 5: 3}[k], (rows, columns))
    if k in (6, 7):
        across = rgb.transpose(rows, columns)
        return across if k == 6 else across.flip((rows, columns))
    return rgb


@dataclass(frozen=True)
class TtaViews:
    """In which ways an image is seen.

    ``turns``: flips and turns by right angles of the square that the encoder would see, the square itself
    first; deterministic, and no pixel is computed anew. ``published``: five random views by the published
    rules, and no clean one. From the whole picture: shorter side to 246 (of 224; in proportion), centre, each
    flip with probability 0.5, with 0.3 a rotation by 0 to 270 degrees with black corners, with 0.3 saturation
    within 1 ± 0.25 and hue within ± 0.25 of the circle. They follow from the seed and the file's bytes: an
    image has the same views in any table. Here they are computed in 8 bits, and normalised as the encoder was
    trained (the published code takes another std there).

    Attributes:
        kind: of views.
        count: how many.
        seed: of random ones.
        clean: the square as it is comes first; turns have it in any case.

    Example:
        >>> len(tta_views(8)), tta_views("published").mean
        (8, 'logits')
    """

    kind: Literal["turns", "published"]
    count: int
    seed: int = 0
    clean: bool = True

    def __len__(self) -> int:
        return self.count + (self.kind == "published" and self.clean)

    @property
    def mean(self) -> Mean:
        """What is averaged over the views: probabilities, or, as published, logits."""
        return "probabilities" if self.kind == "turns" else "logits"

    def record(self) -> dict[str, Any]:
        """Return what a card says of it."""
        told: dict[str, Any] = {"kind": self.kind, "views": len(self), "mean": self.mean}
        if self.kind == "published":
            told |= {"seed": self.seed, "clean": self.clean}
        return told

    def words(self) -> str:
        """Return one phrase for a report."""
        if self.kind == "turns":
            return f"{self.count} views: flips and right-angle turns; mean of probabilities"
        with_clean = " and the image as it is" if self.clean else ""
        return f"{self.count} random views{with_clean}, seed {self.seed}; mean of logits"

    def of_file(
        self, content: bytes, name: str, preprocess: Preprocess, *, max_megapixels: float = MAX_MEGAPIXELS
    ) -> Pixels:
        """Return all views of a file, uint8 (V, S, S, 3), neither scaled nor normalised.

        Args:
            content: the whole file.
            name: for messages.
            preprocess: the encoder's own.
            max_megapixels: a header that asks for more millions of pixels is refused.

        Raises:
            ImageError: as :func:`panderm.data.images.decode`.
        """
        if self.kind == "turns":
            square = torch.from_numpy(pixels(content, name, preprocess, max_megapixels=max_megapixels))
            return np.stack([turned(square, k).numpy() for k in range(self.count)])
        made = []
        if self.clean:
            made.append(pixels(content, name, preprocess, max_megapixels=max_megapixels))
        seen = _published_square(preprocess)
        square_ = pixels(content, name, seen, max_megapixels=max_megapixels)
        digest = [int(word) for word in np.frombuffer(hashlib.sha256(content).digest(), np.uint32)]
        for k in range(self.count):
            made.append(_random_view(square_, np.random.default_rng([self.seed, k, *digest])))
        return np.stack(made)


def tta_views(asked: str | int, *, seed: int = 0, clean: bool | None = None) -> TtaViews:
    """Return the views that are asked for.

    Args:
        asked: 2, 4 or 8 for flips and right-angle turns, or ``published``.
        seed: of the published ones.
        clean: see the image as it is too; by default turns do, and the published ones do not.

    Raises:
        UsageError: anything else.
    """
    if str(asked) == "published":
        return TtaViews("published", PUBLISHED, seed, bool(clean))
    if str(asked) not in ("2", "4", "8"):
        raise UsageError(
            "--tta must be 2, 4 or 8 views, or published.",
            f"found {asked!r}",
            "8: all flips and right-angle turns; published: five random views by the published rules",
        )
    if clean is False:
        raise UsageError("flips and turns have the image as it is among them.", "found clean=False")
    return TtaViews("turns", int(asked))


class Under(NamedTuple):
    """What a table's images are under several views.

    Attributes:
        positions: int64 (n,), rows of the table; of images that could be read.
        probabilities: float64 (n, K), of all views together.
        of_views: float64 (n, V, K), of each.
        bad: name of each image that could not be read, and why.
    """

    positions: npt.NDArray[np.int64]
    probabilities: Floats
    of_views: Floats
    bad: tuple[tuple[str, str], ...] = ()


def probabilities_under(
    encoder: Encoder,
    head: FittedProbe,
    table: Table,
    views: TtaViews,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Under:
    """Return what a classifier says of images that are seen in several ways.

    Args:
        encoder: its encoder.
        head: its head.
        table: images.
        views: in which ways each is seen.
        batch_size: images of one view at once; by default the encoder's own.
        workers: threads that decode; by default as many as there are cores.
        progress: show progress on standard error.

    Raises:
        UsageError: a head that takes patch tokens.
        ParentsError: an image changed since the table was checked.
        DataError: vectors that are not finite, or none of the first 256 images can be read.

    Example:
        >>> under = probabilities_under(encoder, head, table, tta_views(8))  # doctest: +SKIP
        >>> under.probabilities.argmax(axis=1), under.of_views[:, 0].argmax(axis=1)  # doctest: +SKIP
    """
    parts = []
    with Progress(len(table), f"predicting in {len(views)} views", "images", shown=progress) as bar:
        for part in each_batch_under(encoder, head, table, views, batch_size=batch_size, workers=workers):
            parts.append(part)
            bar.advance(len(part.positions) + len(part.bad))
    if not parts:
        none = np.empty((0, len(head.classes)))
        return Under(np.empty(0, np.int64), none, np.empty((0, len(views), len(head.classes))))
    return Under(
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.of_views for part in parts]),
        tuple(one for part in parts for one in part.bad),
    )


def each_batch_under(
    encoder: Encoder,
    head: FittedProbe,
    table: Table,
    views: TtaViews,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
) -> Iterator[Under]:
    """Yield the same batch by batch, in the order of the table, for who cannot keep all of it."""
    if head.takes != "vectors":
        raise UsageError(
            "several views are for heads that take an image's vector.",
            f"found a {head.kind} probe, which takes patch tokens",
            "leave --tta out",
        )
    size = batch_size or encoder.batch_size
    groups = [np.arange(i, min(i + size, len(table))) for i in range(0, len(table), size)]
    if encoder.first_images and len(table):
        first = [np.arange(min(encoder.first_images, len(table)))]
        with _ViewFeed(table, tta_views(2), encoder.preprocess, first, workers) as feed:
            for _, rgb, _ in feed:
                encoder.settle(rgb[:, 0].contiguous())
    with _ViewFeed(table, views, encoder.preprocess, groups, workers) as feed:
        for positions, rgb, bad in feed:
            seen = (
                (turned(rgb[:, 0], k).contiguous() for k in range(views.count))
                if views.kind == "turns"
                else (one.contiguous() for one in rgb.unbind(dim=1))
            )
            logits = np.stack([head.logits(encoder.forward_rgb(one).cpu().numpy()) for one in seen], axis=1)
            together, of_views = averaged(logits, link=head.link, mean=views.mean)
            yield Under(positions, together, of_views, bad)


def averaged(logits: Floats, *, link: str, mean: Mean) -> tuple[Floats, Floats]:
    """Return probabilities of all views together, (n, K), and of each, (n, V, K).

    Args:
        logits: float64 (n, V, K); minus infinity of a class that was never trained.
        link: softmax or sigmoid.
        mean: average probabilities, or logits before the link.
    """

    def linked(z: Floats) -> Floats:
        return np.asarray(softmax(z, axis=-1) if link == "softmax" else expit(z))

    each = linked(logits)
    return (each.mean(axis=1) if mean == "probabilities" else linked(logits.mean(axis=1))), each


class _ViewFeed(FilledFeed[tuple[Numbers, torch.Tensor, Bad]]):
    """Rows, their views uint8 (n, V, S, S, 3) (of turns the square only), and the bad ones."""

    def __init__(
        self,
        table: Table,
        views: TtaViews,
        preprocess: Preprocess,
        groups: list[npt.NDArray[np.int64]],
        workers: int | None,
    ) -> None:
        self._table, self._preprocess = table, preprocess
        # Turns are made where the network is.
        self._views = replace(views, count=1) if views.kind == "turns" else views
        side = preprocess.crop
        super().__init__(
            groups,
            [((len(self._views), side, side, 3), torch.uint8)],
            where=table.card.csv,
            workers=workers,
            pinned=True,
            none_is_error=False,
        )

    def fill(self, number: int, into: tuple[npt.NDArray[Any], ...]) -> None:
        content = unchanged_bytes(self._table, number)
        name, most = str(self._table.cells("path")[number]), self._table.card.max_megapixels
        into[0][:] = self._views.of_file(content, name, self._preprocess, max_megapixels=most)

    def name(self, number: int) -> str:
        return str(self._table.cells("image")[number])

    def batch(
        self, group: Numbers, tensors: tuple[torch.Tensor, ...], bad: Bad
    ) -> tuple[Numbers, torch.Tensor, Bad]:
        return group, tensors[0], bad


def _published_square(preprocess: Preprocess) -> Preprocess:
    side = preprocess.crop
    return preprocess.model_copy(update={"resize": round(side * 246 / 224), "interpolation": "bilinear"})


def _random_view(square: Pixels, rng: np.random.Generator) -> Pixels:
    """Return one published view of a square; always as many draws, whatever comes of them."""
    across, down, rotates, colours, turn = rng.random(5).tolist()
    jitter = Jitter.draw(_COLOUR, _COLOUR, rng)
    view = square[:, ::-1] if across < _FLIP else square
    view = np.ascontiguousarray(view[::-1] if down < _FLIP else view)
    if rotates < _CHANCE:
        view = np.array(Image.fromarray(view).rotate(_ANGLE * turn, Image.Resampling.NEAREST))
    if colours < _CHANCE:  # saturation and hue only
        view = replace(jitter, factors=(1.0, 1.0, jitter.factors[2]))(view)
    return view
