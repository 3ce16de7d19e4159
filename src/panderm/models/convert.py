"""Weights files into one another: the same numbers, bit for bit, under other names, with their card."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file

from panderm.errors import UsageError, WeightsError, some
from panderm.models import fingerprint, layouts
from panderm.models.cards import EncoderCard, Pool, read_encoder_card
from panderm.models.check import fits_of, form_of
from panderm.models.encoder import Encoder
from panderm.models.families import family_of
from panderm.models.header import Header, Names, header_of, metadata, sha256_of_tensors
from panderm.models.load import load_encoder
from panderm.models.names import find_card
from panderm.models.origins import marked, origins_of
from panderm.provenance import version
from panderm.storage import new_file, refuse_existing
from panderm.weights.account import Account
from panderm.weights.checkpoint import read_state

State = dict[str, torch.Tensor]
_PREFIXED = "panderm-large"  # whose published file has its encoder under encoder.


def convert(
    source: Path | str,
    out: Path | str,
    *,
    encoder: str | None = None,
    card: Path | str | None = None,
    pool: Pool | None = None,
    to: Literal["panderm", "timm", "published"] = "panderm",
    overwrite: bool = False,
) -> Header:
    """Write an encoder's weights as a file that knows what it is.

    Every number stays as it is, in its own type; classifiers and what pretraining left over are dropped and
    accounted for. The card, with what the network answers to a fixed drawing, stands in the header with the
    hash of the source and of the tensors: ``load_encoder(out)`` needs no name.

    Args:
        source: any weights file that ``load_encoder`` reads.
        out: ``.safetensors``; with ``to="published"`` also ``.pth``, which has no room for a card.
        encoder: whose weights they are; by default the file's own card says it, or its tensors do.
        card: the encoder's card, a JSON file, for one of your own.
        pool: the form to keep; by default ``mean`` for a fine-tuned file, else the encoder's own.
        to: the names to give: PanDerm's (of other encoders their library's own), those of timm, or those of
            the released files. In PanDerm's layout timm's are those of its ``VisionTransformer``, for the
            fine-tuning form those of its ``Beit``. timm loads them by
            ``timm.create_model("vit_base_patch16_224", num_classes=0, init_values=0.1, checkpoint_path=out)``
            (``vit_large_patch16_224``), and the fine-tuning form by ``"beit_base_patch16_224"`` with
            ``num_classes=0, use_abs_pos_emb=True, checkpoint_path=out``.
        overwrite: replace ``out``.

    Returns:
        What stands in the file's header.

    Raises:
        UsageError: no encoder, or several, fit; names that this encoder cannot have; ``out`` is ``source``.
        WeightsError: a file that does not fit, or an encoder that fails its self-test.
        ArtifactError: ``out`` exists or cannot be written.

    Example:
        >>> panderm.convert(
        ...     "panderm_bb_data6_checkpoint-499.pth", "panderm-base.safetensors"
        ... )  # doctest: +SKIP
        >>> encoder = panderm.load_encoder("panderm-base.safetensors")  # doctest: +SKIP
    """
    source, out = Path(source).expanduser(), Path(out).expanduser()
    _require_apart(source, out, to)
    refuse_existing(out, overwrite=overwrite)
    outline = read_state(source, Account(), data=False)
    described, pool = _described(source, outline, encoder, card, pool)
    _require_names(described, pool, to, tables=any(key.endswith(layouts.TABLE) for key in outline))
    name = None if card is not None else described.name
    eye = load_encoder(name, weights=source, card=card, pool=pool, device="cpu")
    account, digest = str(eye.account), eye.record.weights_sha256
    described = _completed(described, eye)
    del eye
    state = _renamed(_own_tensors(source, described, pool), described, to)
    header = Header(
        card=described.model_copy(update={"sha256": None}),  # its source's, which the header names
        pool=pool,
        names=to,
        tensors_sha256=sha256_of_tensors(state),
        source_name=source.name,
        source_bytes=source.stat().st_size,
        source_sha256=digest,
        account=account,
        panderm=version(),
    )
    header = header.model_copy(update={"sha256": header.own_sha256()})
    with new_file(out, overwrite=overwrite) as temporary:
        if out.suffix == ".pth":
            torch.save({"model": state} if layouts.is_tuned(state) else state, temporary)
        else:
            save_file(state, temporary, metadata=metadata(header))
        del state
        _require_same_answer(temporary, header, out)
    return header


def _require_apart(source: Path, out: Path, to: str) -> None:
    if to not in ("panderm", "timm", "published"):
        raise UsageError(f"to must be panderm, timm or published, not {to!r}.")
    endings = (".safetensors", ".pth") if to == "published" else (".safetensors",)
    if out.suffix not in endings:
        raise UsageError(
            f"the converted file must end in {' or '.join(endings)}.", f"found {out}", "name it so"
        )
    if out.exists() and source.exists() and out.samefile(source):
        raise UsageError(
            "a file must not be converted into itself.", f"found {source} twice", "name another file to write"
        )


def _described(
    source: Path, outline: State, encoder: str | None, card: Path | str | None, pool: Pool | None
) -> tuple[EncoderCard, Pool | None]:
    """Return whose weights these are and the form to keep: asked for, in the header, or seen in the file."""
    header = header_of(source)
    if card is not None:
        described = read_encoder_card(card)
        if encoder not in (None, described.name):
            raise UsageError("--encoder must be the card's own name, or be left out.", f"found {encoder}")
    elif header is not None and encoder in (None, header.card.name):
        described, pool = header.card, pool or header.pool
    else:
        described = find_card(encoder or _found(source, outline))
    if described.random:
        raise UsageError(f"{described.name} draws its weights at random: no file holds them.")
    return described, pool or form_of(outline, described)


def _found(source: Path, outline: State) -> str:
    """Return the one encoder whose names and shapes the file has.

    Raises:
        UsageError: there is none, or more than one.
    """
    skipped: dict[str, str] = {}
    names = [fit.encoder for fit in fits_of(source, outline, skipped) if fit.fits]
    if len(names) == 1:
        return names[0]
    found = [f"{source} fits {some(names, 8)}" if names else f"{source} fits none of those known"]
    found += [f"{name} could not be compared: {why}" for name, why in skipped.items()]
    raise UsageError(
        "the encoder that a weights file belongs to must be clear.",
        found,
        f"name it with --encoder{'' if names else f'; panderm models check {source} says how far off it is'}",
    )


def _require_names(card: EncoderCard, pool: Pool | None, to: Names, *, tables: bool) -> None:
    """Refuse names that an encoder, or this form of it, does not have."""
    must = f"{card.name} must have {'timm' if to == 'timm' else 'published'} names to be written under them."
    if to == "panderm" or (to == "timm" and card.layout == "timm"):
        return
    if card.layout != "panderm" or card.double_norm:
        raise UsageError(must, f"its layout is {_layout(card)}", "leave --to out")
    if (pool == "mean") != tables:
        raise UsageError(
            must,
            "the fine-tuning form has relative-position tables, and this file has "
            f"{'them' if tables else 'none'}",
            f"--pool {'mean' if tables else 'cls'}",
        )


def _layout(card: EncoderCard) -> str:
    return "panderm with the final norm applied twice" if card.double_norm else card.layout


def _completed(card: EncoderCard, eye: Encoder) -> EncoderCard:
    """Write what was measured onto the card."""
    parameters = sum(value.numel() for value in eye.network.parameters())
    measured = {"fingerprint": fingerprint.measure(eye), "dim": eye.dim}
    return card.model_copy(update={**measured, "parameters": card.parameters or parameters})


def _own_tensors(source: Path, card: EncoderCard, pool: Pool | None) -> State:
    """Read the file's own numbers, each once and as they are, under the network's names."""
    family = family_of(card)
    network = family.build(card, pool)
    outline = family.adapt(
        marked(read_state(source, Account(), data=False)), network, card, Account(), source
    )
    origins = {key: origins_of(value) for key, value in outline.items()}
    parts = Counter(name for names in origins.values() for name in names)
    raw = read_state(source, Account())
    kept: State = {}
    taken: set[str] = set()
    places: set[int] = set()
    for key, made in family.adapt(dict(raw), network, card, Account(), source).items():
        value = made
        if not origins[key]:
            continue  # starts at zero: the file has none, and loading will add it again
        if len(origins[key]) == 1:
            name = origins[key][0]
            if value.shape == raw[name].shape or parts[name] == 1:
                if name in taken:
                    continue
                taken.add(name)
                value = raw[name].reshape(value.shape) if value.numel() == raw[name].numel() else raw[name]
        value = value.detach().contiguous()
        place = value.untyped_storage().data_ptr()
        kept[key] = value.clone() if place in places else value  # the format holds no two names for one place
        places.add(place)
    return kept


def _renamed(state: State, card: EncoderCard, to: Names) -> State:
    if to == "timm" and card.layout == "panderm" and not layouts.is_tuned(state):
        return layouts.to_timm(state)
    if to == "published":
        return layouts.to_published(state, prefixed=card.name == _PREFIXED)
    return state


def _require_same_answer(written: Path, header: Header, out: Path) -> None:
    """Load what was written as a user would, before it gets its name."""
    if sha256_of_tensors(read_state(written, Account())) != header.tensors_sha256:
        raise WeightsError("a converted file must hold the tensors that were written.", f"{out} does not")
    if out.suffix == ".pth":  # no room for a card: it is read by the name of its encoder
        return
    again = fingerprint.measure(load_encoder(weights=written, device="cpu"))
    expected = header.card.fingerprint
    if expected is not None:
        fingerprint.require_same(again, expected, name=header.card.name, whose="its source did")
