"""The loop behind a prediction: that which embeds, with the head behind it; only its answers are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from panderm.classifying.journal import InMemory
from panderm.classifying.predictor import Predictor
from panderm.classifying.tta import TtaViews, averaged, each_batch_under, turned
from panderm.data.table import Table
from panderm.embeddings import Embeddings, EncoderRecord, TokensRecord
from panderm.embeddings.making.encoding import embed_groups
from panderm.embeddings.making.ranks import Ranks
from panderm.embeddings.making.settled import settle
from panderm.errors import UsageError
from panderm.models.encoder import Encoder
from panderm.probing.inputs import from_record
from panderm.progress import Progress

Positions = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Work:
    """What is to be done for some images.

    Args:
        predictor: what predicts.
        table: the images.
        views: in which ways each is seen; None: as it is.
        batch_size: images at once; None: as the probe's embeddings were made, else what suits the device.
        exact: decode as the reference does; None: as the probe's embeddings were made.

    Attributes:
        settled: precision, decoding and batches.

    Raises:
        UsageError: views of a probe that takes patch tokens.
    """

    def __init__(
        self,
        predictor: Predictor,
        table: Table,
        views: TtaViews | None,
        *,
        batch_size: int | None = None,
        exact: bool | None = None,
    ) -> None:
        self.predictor, self.table, self.views = predictor, table, views
        self._tokens = predictor.head.takes == "tokens" or bool(predictor.head.inputs)
        if views is not None and self._tokens:
            raise UsageError(
                "--tta is for probes that take an image's vector.",
                f"the {predictor.head.kind} probe of {predictor.source} reads patch tokens",
                "leave --tta out",
            )
        before, own = predictor.card, predictor.encoder.batch_size
        as_before = (
            before.batch_size if before is not None and predictor.encoder.device.type == "cpu" else None
        )
        self.settled = settle(
            predictor.encoder,
            table,
            None,
            batch_size=batch_size or as_before or own,
            exact=bool(before and before.decoding.exact) if exact is None else exact,
            tokens=self._tokens,
        )
        self._inputs = from_record(predictor.head.inputs) if predictor.head.inputs else None

    def told(self) -> dict[str, Any]:
        """Return all that decides a probability of an image, as JSON."""
        encoder = self.settled.encoder.model_dump(mode="json", exclude={"weights", "account"})
        return {
            "kind": "predictions to be finished",
            "format": 1,
            "model": self.predictor.identity,
            "classes": list(self.predictor.classes),
            "encoder": encoder,
            "precision": encoder["precision"],
            "exact": self.settled.decoding.exact,
            "batch_size": self.settled.batch_size,
            "tta": None if self.views is None else self.views.words(),
        }

    def run(self, kept: InMemory, *, workers: int | None, progress: bool) -> dict[int, str]:
        """Predict what is not there yet, and return the images that cannot be decoded, by their place."""
        name, n = self.predictor.encoder.name, len(self.table)
        with Progress(
            n, f"predicting with {name}", "images", done=int(kept.done.sum()), shown=progress
        ) as bar:
            if self.views is not None and self.views.kind == "published":
                return self._under(self.views, kept, workers, bar)
            alone, todo = Ranks(), ~kept.done
            eye = self.predictor.encoder
            seen = eye if self.views is None else _Turned(eye, self.views.count)
            told = 0

            def forward() -> None:
                nonlocal told
                bar.advance(alone.told() - told)
                told = alone.told()

            with alone.share():
                done = embed_groups(
                    seen,
                    self.table,
                    todo,
                    self.settled,
                    _Answers(self, kept),
                    alone,
                    workers=workers,
                    seen=forward,
                )
            return done.bad

    def probabilities(
        self, positions: Positions, vectors: npt.NDArray[np.float32], tokens: npt.NDArray[np.float16] | None
    ) -> Floats:
        """Return probabilities (n, K) of what the encoder gave for some rows."""
        head = self.predictor.head
        if self.views is not None:
            n, V = len(vectors), self.views.count
            logits = head.logits(vectors.reshape(n * V, -1)).reshape(n, V, -1)
            return averaged(logits, link=head.link, mean=self.views.mean)[0]
        if self._inputs is None:
            return head.probabilities(vectors if tokens is None else tokens)
        emb = Embeddings(vectors, self.table.select(positions), self.settled.card(self.table), tokens=tokens)
        return head.probabilities(self._inputs.of(emb, np.arange(len(vectors))))

    def _under(self, views: TtaViews, kept: InMemory, workers: int | None, bar: Progress) -> dict[int, str]:
        left = np.flatnonzero(~kept.done)
        names = self.table.cells("image")
        bad: dict[int, str] = {}
        for part in each_batch_under(
            self.predictor.encoder,
            self.predictor.head,
            self.table.select(left),
            views,
            batch_size=self.settled.batch_size,
            workers=workers,
        ):
            if len(part.positions):
                kept.add(left[part.positions], part.probabilities)
            if part.bad:
                at = {names[int(i)]: int(i) for i in left}
                bad |= {at[name]: reason for name, reason in part.bad}
            bar.advance(len(part.positions) + len(part.bad))
        return bad


class _Answers:
    """Takes the vectors of each group, and keeps what the head says of them."""

    def __init__(self, work: Work, kept: InMemory) -> None:
        self._work, self._kept = work, kept

    def add(
        self, positions: Positions, vectors: npt.NDArray[np.float32], tokens: npt.NDArray[np.float16] | None
    ) -> None:
        self._kept.add(positions, self._work.probabilities(positions, vectors, tokens))


class _Turned:
    """An encoder that sees each image in several of the eight ways a square can lie, one after the other.

    A vector of it is those of all views side by side.
    """

    def __init__(self, encoder: Encoder, count: int) -> None:
        self._encoder, self._count = encoder, count
        self.preprocess, self.device, self.drift = encoder.preprocess, encoder.device, encoder.drift
        self.record, self.name = encoder.record, encoder.name
        self.dim, self.batch_size, self.first_images = count * encoder.dim, encoder.batch_size, 0

    def settle(self, rgb: torch.Tensor) -> None:
        self._encoder.settle(rgb)

    def adopt(self, record: EncoderRecord, drift: float | None) -> None:
        self._encoder.adopt(record, drift)

    def token_shape(self) -> TokensRecord:
        return self._encoder.token_shape()

    def forward_rgb(self, rgb: torch.Tensor, *, tokens: Any = False) -> torch.Tensor:
        del tokens
        made = [self._encoder.forward_rgb(turned(rgb, k).contiguous()) for k in range(self._count)]
        return torch.stack(made, dim=1).flatten(1)
