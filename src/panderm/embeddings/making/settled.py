"""What is decided before the first image is embedded, once, and kept however often a run is stopped."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from panderm.data.fast import SCALED, compare_decoding
from panderm.data.feed import Feed
from panderm.data.preprocess import Preprocess
from panderm.data.table import Table
from panderm.embeddings.card import Decoding, EmbeddingsCard, EncoderRecord, TokensRecord
from panderm.embeddings.known import Known
from panderm.embeddings.opened import require_same_encoder, require_same_making, require_same_table
from panderm.errors import ArtifactError, PandermWarning, ParentsError, plural
from panderm.provenance import CARD_NAME, Provenance, Record, read_card

# Images that are decoded both ways.
_COMPARED = 16
# What the encoder may settle by itself: a folder may hold either.
_SETTLED = {"precision", "engine_sha256"}


class Eye(Protocol):
    """What the loop asks of an encoder; :class:`panderm.Encoder` is one."""

    preprocess: Preprocess
    record: EncoderRecord
    device: torch.device
    drift: float | None

    @property
    def name(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def first_images(self) -> int: ...
    def settle(self, rgb: torch.Tensor) -> None: ...
    def adopt(self, record: EncoderRecord, drift: float | None) -> None: ...
    def token_shape(self) -> TokensRecord: ...
    def forward_rgb(self, rgb: torch.Tensor, *, tokens: Any = False) -> Any: ...


class Settled(Record):
    """How a folder is made: as which encoder, with which pixels, in which groups.

    Attributes:
        encoder: its record, with the precision that was found to do.
        drift: mean centred cosine of fewer bits to fp32, on the first images.
        decoding: how pixels are made of files.
        batch_size: images of a group.
        tokens: patch tokens that are kept beside the vectors.
    """

    encoder: EncoderRecord
    drift: float | None
    decoding: Decoding
    batch_size: int
    tokens: TokensRecord | None

    def card(self, table: Table) -> EmbeddingsCard:
        """Return the card of a table's embeddings that are still to be made."""
        return EmbeddingsCard(
            provenance=Provenance.now(),
            encoder=self.encoder,
            table=table.card,
            rows=len(table),
            drift=self.drift,
            decoding=self.decoding,
            batch_size=self.batch_size,
            tokens=self.tokens,
        )


def settle(
    encoder: Eye, table: Table, folder: Path | None, *, batch_size: int | None, exact: bool, tokens: bool
) -> Settled:
    """Decide on precision, decoding and groups, by the table's first images, or as a folder was begun.

    What a folder's card says is not measured again: other images, or another machine, might say otherwise.
    """
    before = _begun(folder, encoder.record) if folder is not None else None
    _settle_precision(encoder, table, before)
    if exact:
        decoding = Decoding(exact=True)
    elif before is not None and before.decoding.levels is not None:
        decoding = before.decoding
    else:
        decoding = _compared(table, encoder.preprocess)
    return Settled(
        encoder=encoder.record,
        drift=encoder.drift,
        decoding=decoding,
        batch_size=batch_size or (before and before.batch_size) or encoder.batch_size,
        tokens=encoder.token_shape() if tokens else None,
    )


def require_going_on(folder: Path, record: EncoderRecord, table: Table, *, exact: bool) -> None:
    """See that a run can go on with a folder, before any compute.

    Whether fewer bits than fp32 will do is seen on the first images only: the folder may hold either.

    Raises:
        ParentsError: it is of another encoder or decoding, or of a table that shares no row with this one.
        ArtifactError: it is no folder of embeddings, or damaged.
    """
    before = _begun(folder, record)
    if before is None:
        read_card(folder, EmbeddingsCard, "embeddings")  # raises, and says why
        return
    if before.encoder.precision not in (record.precision, "fp32"):
        require_same_encoder(folder, before.encoder, record)
    # A folder that was to be decoded fast, and went back to the reference, goes on so.
    decoding = before.decoding if before.decoding.levels is not None and not exact else Decoding(exact=exact)
    wanted = before.model_copy(update={"decoding": decoding, "table": table.card})
    require_same_making(folder, before, wanted)
    if before.table.sha256 != table.card.sha256:
        known = Known(folder, before)
        if (known.locate(table) < 0).all() and (len(known) or before.complete):
            require_same_table(folder, before.table, table.card)


def _begun(folder: Path, record: EncoderRecord) -> EmbeddingsCard | None:
    """Return the card of a folder that an encoder began, whatever precision it settled on; None: no card."""
    if not (folder / CARD_NAME).is_file():
        return None  # what else may be in the way, the writer says
    hint = "choose another --out, or mend this one"
    before = read_card(folder, EmbeddingsCard, "an --out that exists", hint)
    taken = {name: getattr(before.encoder, name) for name in _SETTLED}
    try:
        require_same_encoder(folder, before.encoder, record.model_copy(update=taken))
    except ParentsError:
        require_same_encoder(folder, before.encoder, record)  # in words of what was asked for
        raise
    return before


def _settle_precision(encoder: Eye, table: Table, before: EmbeddingsCard | None) -> None:
    wanted = encoder.first_images
    if not wanted:
        return
    fits = before is not None and before.encoder.precision in (encoder.record.precision, "fp32")
    if before is not None and before.drift is not None and fits:
        # A quantised network that the cache has lost is made again: the folder refuses it if it differs.
        with contextlib.suppress(ArtifactError):
            encoder.adopt(before.encoder, before.drift)
            return
    some = np.arange(min(wanted, len(table)))
    if encoder.record.precision == "int8":
        # What is calibrated should have seen every kind of image: tables are sorted by class, by source …
        some = np.random.default_rng(0).permutation(len(table))[: len(some)]
    with Feed(table, encoder.preprocess, groups=[some], exact=True) as feed:
        encoder.settle(next(iter(feed)).rgb)


def _compared(table: Table, preprocess: Preprocess) -> Decoding:
    levels, images = compare_decoding(table, preprocess, np.arange(min(_COMPARED, len(table))))
    if levels > SCALED:
        warnings.warn(
            f"fast decoding differs from the reference by {plural(levels, 'level')} of 255 on the first "
            f"{plural(images, 'image')} ({SCALED} are allowed): going on with exact decoding",
            PandermWarning,
            stacklevel=4,
        )
    return Decoding(exact=levels > SCALED, levels=levels if images else None, images=images)
