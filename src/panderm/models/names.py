"""From what a user types to a card: our own names, other libraries', folders and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from panderm.errors import UsageError, WeightsError, did_you_mean
from panderm.models import cards
from panderm.models.cards import EncoderCard, sized
from panderm.weights.cache import folder_of, held

CONFIGURATIONS = ("config.json", "open_clip_config.json")
PREFIXES = ("timm:", "hf-hub:", "open_clip:", "transformers:")


def find_card(name: str, *, image_size: int | None = None, folder: Path | None = None) -> EncoderCard:
    """Return the card of an encoder.

    Args:
        name: one of the known encoders, ``timm:NAME``, ``hf-hub:ORG/NAME``, ``open_clip:ARCH[/TAG]`` or
            ``transformers:ID``.
        image_size: another input size, in pixels.
        folder: where the configuration files lie that ``hf-hub:`` and ``transformers:`` names need; by
            default what was downloaded.

    Raises:
        UsageError: no such encoder, a size it cannot take, a library that is not installed, or no
            configuration at hand.
    """
    if name.startswith("timm:"):
        from panderm.models.from_timm import timm_card

        return timm_card(name, image_size)
    if name.startswith("open_clip:"):
        from panderm.models.from_open_clip import open_clip_card

        return sized(open_clip_card(name), image_size)
    if name.startswith(("hf-hub:", "transformers:")):
        return _configured_card(name, folder, image_size)
    for card in cards.KNOWN:
        if card.name == name:
            return sized(card, image_size)
    from panderm.models.from_timm import in_timm

    known = [card.name for card in cards.KNOWN]
    hint = "panderm models lists them"
    if in_timm(name):
        hint = f"did you mean timm:{name}?"
    elif "/" in name and ":" not in name:
        hint = f"did you mean hf-hub:{name}?"
    others = "timm:NAME, hf-hub:ORG/NAME, open_clip:ARCH/TAG, transformers:ID"
    raise UsageError(
        f"encoder {name!r} must be a known one{did_you_mean(name, known)}",
        [f"known: {', '.join(known)}", f"and: {others}, or a file that panderm convert wrote"],
        hint,
    )


def _configured_card(name: str, folder: Path | None, image_size: int | None) -> EncoderCard:
    """Read the configuration files beside the weights, and say whose they are."""
    identifier = name.partition(":")[2]
    if folder is None:
        at_hand = held(name)
        folder = at_hand.folder if at_hand is not None else None
    if folder is None or not any((folder / file).is_file() for file in CONFIGURATIONS):
        known = _known_from(identifier, name.partition(":")[0])
        if known is not None:
            return sized(known.model_copy(update={"name": name}), image_size)
    if folder is None:
        raise UsageError(
            f"the configuration of {name} must be at hand.",
            f"nothing was downloaded to {folder_of(name)}",
            f"panderm models pull {name}, or --weights FOLDER with its config.json and weights",
        )
    of_clip, plain = folder / "open_clip_config.json", folder / "config.json"
    if of_clip.is_file() and name.startswith("hf-hub:"):
        from panderm.models import from_open_clip

        return sized(from_open_clip.card_of_config(name, identifier, read_json(of_clip)), image_size)
    if not plain.is_file():
        raise UsageError(
            f"the configuration of {name} must be at hand.",
            f"{folder} has no config.json and no open_clip_config.json",
            f"panderm models pull {name}, or --weights FOLDER with its config.json and weights",
        )
    config = read_json(plain)
    if "model_type" in config:
        preprocessor = folder / "preprocessor_config.json"
        pixels = read_json(preprocessor) if preprocessor.is_file() else None
        from panderm.models import from_transformers

        return sized(from_transformers.card_of_config(name, identifier, config, pixels), image_size)
    if "architecture" in config and name.startswith("hf-hub:"):
        from panderm.models.from_timm import card_of_config

        own = {**config.get("pretrained_cfg", {}), "hf_hub_id": identifier}
        own = {key: value for key, value in own.items() if value is not None}
        options = config.get("model_args") or {}
        return card_of_config(name, str(config["architecture"]), own, image_size, dict(options))
    raise UsageError(
        f"the configuration of {name} must be one of timm, open_clip or transformers.",
        f"{plain} names neither an architecture nor a model_type",
    )


def _known_from(identifier: str, prefix: str) -> EncoderCard | None:
    """Return the known card whose weights lie at this place of the Hub: it needs no configuration."""
    for card in cards.KNOWN:
        hubs = [file.where for file in card.files if file.kind == "hub"]
        if identifier in hubs and (prefix == "hf-hub" or card.layout == prefix):
            return card
    return None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        WeightsError: not readable, or another kind of file.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise WeightsError("a configuration must be readable.", f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise WeightsError("a configuration must be a JSON object.", f"{path} is none", "download it again")
    return value
