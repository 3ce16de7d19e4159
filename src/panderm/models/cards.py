"""The known encoders as a table one can read; each carries its own preprocessing, quirks included."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import timm
from timm.data import resolve_data_config

from panderm.data.preprocess import Preprocess
from panderm.errors import UsageError, did_you_mean
from panderm.provenance import Record


class EncoderCard(Record):
    """What is known of an encoder before its weights are opened.

    Attributes:
        name: as a user types it.
        architecture: in the field's words.
        timm_name: timm's model, or None for our layout on timm's ``Beit``.
        dim: width of a vector; depth: blocks; heads: attention heads (absent where timm decides).
        image_size: side of the input in pixels.
        preprocess: what its pixels must look like.
        random: the weights are drawn, not trained.
        licence, citation, source: of the weights.
    """

    name: str
    architecture: str
    timm_name: str | None = None
    dim: int | None = None
    depth: int = 0
    heads: int = 0
    image_size: int = 224
    preprocess: Preprocess
    random: bool = False
    licence: str
    citation: str
    source: str


_PANDERM_PREPROCESS = Preprocess(
    resize=256,
    crop=224,
    interpolation="bilinear",
    mean=(0.485, 0.456, 0.406),
    std=(0.228, 0.224, 0.225),  # not .229: the published features were made with .228
)
_PANDERM_LICENCE = "CC BY-NC-ND 4.0 (non-commercial, no derivatives)"
_PANDERM_CITATION = (
    "Yan S. et al. A multimodal vision foundation model for clinical dermatology. "
    "Nature Medicine 31, 2691–2702 (2025). doi:10.1038/s41591-025-03747-y"
)

_SMALLEST = 14  # pixels: one patch

KNOWN: tuple[EncoderCard, ...] = (
    EncoderCard(
        name="panderm-large",
        architecture="ViT-L/16, fixed sine-cosine positions, layer scale",
        dim=1024,
        depth=24,
        heads=16,
        preprocess=_PANDERM_PREPROCESS,
        licence=_PANDERM_LICENCE,
        citation=_PANDERM_CITATION,
        source="panderm_ll_data6_checkpoint-499.pth, Google Drive 1SwEzaOlFV_gBKf2UzeowMC8z9UH7AQbE",
    ),
    EncoderCard(
        name="panderm-base",
        architecture="ViT-B/16, fixed sine-cosine positions, layer scale",
        dim=768,
        depth=12,
        heads=12,
        preprocess=_PANDERM_PREPROCESS,
        licence=_PANDERM_LICENCE,
        citation=_PANDERM_CITATION,
        source="panderm_bb_data6_checkpoint-499.pth, Google Drive 17J4MjsZu3gdBP6xAQi_NMDVvH65a00HB",
    ),
    EncoderCard(
        name="random-tiny",
        architecture="ViT-Ti/16 in PanDerm's layout, weights drawn at random",
        dim=192,
        depth=12,
        heads=3,
        preprocess=_PANDERM_PREPROCESS,
        random=True,
        licence="Apache-2.0 (drawn by panderm)",
        citation="none: these weights are random numbers",
        source="drawn from a fixed seed when loaded",
    ),
)


def find_card(name: str, *, image_size: int | None = None) -> EncoderCard:
    """Return the card of a known encoder or of ``timm:NAME``.

    Args:
        name: one of ``panderm-large``, ``panderm-base``, ``random-tiny`` or ``timm:NAME``.
        image_size: another input size, in pixels, for timm's encoders.

    Raises:
        UsageError: no such encoder, or a size it cannot take.
    """
    if name.startswith("timm:"):
        return _timm_card(name, image_size)
    for card in KNOWN:
        if card.name == name:
            if image_size not in (None, card.image_size):
                raise UsageError(
                    f"{name} takes images of {card.image_size} pixels.",
                    f"--image-size {image_size} was asked for",
                    "leave --image-size out",
                )
            return card
    known = [card.name for card in KNOWN]
    raise UsageError(
        f"encoder {name!r} must be a known one{did_you_mean(name, known)}",
        f"known: {', '.join(known)}, timm:NAME",
        f"did you mean timm:{name}?" if _in_timm(name) else "for example --encoder panderm-large",
    )


def _in_timm(name: str) -> bool:
    return name.split(".")[0] in timm.list_models()


def _timm_card(name: str, image_size: int | None) -> EncoderCard:
    timm_name = name.removeprefix("timm:")
    try:
        config = timm.get_pretrained_cfg(timm_name) if _in_timm(timm_name) else None
    except RuntimeError:  # timm has the architecture, but not this tag of pretrained weights
        config = None
    if config is None:
        names: Iterable[str] = timm.list_models()
        raise UsageError(
            f"encoder {name!r} must be one that timm {timm.__version__} has{did_you_mean(timm_name, names)}",
            hint="python -c \"import timm; print(timm.list_models('*small*'))\" lists them",
        )
    own = config.to_dict()
    data = resolve_data_config(pretrained_cfg=own)
    size = int(data["input_size"][-1]) if image_size is None else image_size
    if size < _SMALLEST:
        raise UsageError(f"images must be at least {_SMALLEST} pixels wide.", f"found --image-size {size}")
    if len(set(data["input_size"][1:])) > 1:
        raise UsageError(
            f"{name} takes images that are not square, which panderm cannot: choose another encoder."
        )
    if data["crop_mode"] == "border":
        raise UsageError(f"{name} pads images to a square, which panderm cannot: choose another encoder.")
    where = str(own.get("origin_url") or own.get("hf_hub_id") or own.get("url") or "timm")
    return EncoderCard(
        name=name,
        architecture=f"{timm_name} as timm builds it",
        timm_name=timm_name,
        image_size=size,
        preprocess=timm_preprocess(data, size),
        licence=str(own.get("license") or "not stated by timm"),
        citation=str(own.get("paper_name") or own.get("paper_ids") or f"see {where}"),
        source=where,
    )


def timm_preprocess(config: dict[str, Any], size: int) -> Preprocess:
    """Return timm's evaluation transform, from its data configuration, at one input size."""
    scaled = int(size / config["crop_pct"])
    squash = config["crop_mode"] == "squash"
    return Preprocess(
        resize=(scaled, scaled) if squash else scaled,
        crop=size,
        interpolation=config["interpolation"],
        mean=config["mean"],
        std=config["std"],
    )
