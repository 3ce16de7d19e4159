"""Vision models of Hugging Face's transformers: their cards, their networks, their files.

Only the library's own architectures, from a configuration: no code from a repository is ever run.
"""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from panderm.errors import UsageError, did_you_mean
from panderm.models.cards import EncoderCard, Pool
from panderm.models.families import require
from panderm.models.from_open_clip import resized
from panderm.models.layouts import State
from panderm.models.network import TIMM_POOL, emptied
from panderm.models.transformers_pixels import preprocess_of
from panderm.weights.account import Account
from panderm.weights.cache import Source

# How each kind of model makes one vector of an image where not asked otherwise.
_CLS = "class token after the final norm"
_MEAN = "mean of all places, then the final norm"
_WAYS: dict[str, tuple[str, str]] = {
    "clip_vision_model": ("cls", f"image tower of a CLIP model before its projection: {_CLS}"),
    "chinese_clip_vision_model": ("cls", f"image tower of a CLIP model before its projection: {_CLS}"),
    "siglip_vision_model": ("attention", "image tower of a SigLIP model: pooled by its own attention"),
    "vit": ("cls", f"{_CLS}; transformers' pooler, which is seldom trained, is left out"),
    "deit": ("cls", f"{_CLS}; transformers' pooler, which is seldom trained, is left out"),
    "vit_msn": ("cls", _CLS),
    "dinov2": ("cls", _CLS),
    "dinov2_with_registers": ("cls", _CLS),
    "dinov3_vit": ("cls", _CLS),
    "ijepa": ("mean", "mean of patch tokens after the final norm"),
    "beit": ("own", "mean of patch tokens and then the norm, or the class token, as its configuration says"),
    "swin": ("mean", "mean of all places after the final norm"),
    "swinv2": ("mean", "mean of all places after the final norm"),
    "convnext": ("mean", _MEAN),
    "convnextv2": ("mean", _MEAN),
    "dinov3_convnext": ("mean", _MEAN),
    "resnet": ("mean", "mean of all places"),
    "regnet": ("mean", "mean of all places"),
}
# Models of two towers: the type of the image tower, whose configuration is their vision_config.
_TOWERS = {
    "clip": "clip_vision_model",
    "chinese_clip": "chinese_clip_vision_model",
    "siglip": "siglip_vision_model",
}
_CONVOLUTIONAL = ("swin", "swinv2", "convnext", "convnextv2", "dinov3_convnext", "resnet", "regnet")
# What a file may hold beside the model's own tensors: what its name begins with → why it is left out.
_LEFTOVERS = {
    "text_model.": "text tower and its scale",
    "logit_scale": "text tower and its scale",
    "logit_bias": "text tower and its scale",
    "text_projection": "projection to the space shared with text",
    "visual_projection": "projection to the space shared with text",
    "vision_proj": "projection to the space shared with text",
    "classifier": "classifier",
    "cls_classifier": "classifier",
    "distillation_classifier": "classifier",
    "lm_head": "pretraining head",
    "decoder.": "pretraining decoder",
}


def card_of_config(
    name: str, identifier: str, config: dict[str, Any], pixels: dict[str, Any] | None
) -> EncoderCard:
    """Return the card that a ``config.json`` and a ``preprocessor_config.json`` describe.

    Args:
        name: as a user types it.
        identifier: ``ORG/NAME`` on the Hugging Face Hub.
        config: ``config.json``, of a vision model or of one with an image tower.
        pixels: ``preprocessor_config.json``; None where there is none.

    Raises:
        UsageError: a model panderm has no way to make a vector of, or pixels it cannot make.
    """
    kind = str(config["model_type"])
    vision = config
    if kind in _TOWERS:
        kind, vision = _TOWERS[kind], config.get("vision_config") or {}
        if not vision and "vision_config_dict" in config:  # as the oldest files call it
            vision = config["vision_config_dict"] or {}
    _require_kind(name, kind)
    if pixels is None:
        raise UsageError(
            f"how {name} wants its pixels must be at hand.",
            "there is no preprocessor_config.json beside its config.json",
            "get that file too, or describe the encoder on a card of your own: --card my.json",
        )
    made = _configuration(kind, vision)
    preprocess = preprocess_of(name, pixels)
    depth, heads = made.get("num_hidden_layers"), made.get("num_attention_heads")
    one = kind not in _CONVOLUTIONAL and isinstance(depth, int) and isinstance(heads, int)
    source = f"https://huggingface.co/{identifier}"
    return EncoderCard(
        name=name,
        architecture=f"{kind} as transformers builds it, {_WAYS[kind][1]}",
        layout="transformers",
        network=kind,
        config=made,
        dim=_width(kind, made, name),
        depth=int(depth or 0) if one else 0,
        heads=int(heads or 0) if one else 0,
        image_size=preprocess.crop,
        preprocess=preprocess,
        licence=f"not stated in its configuration: see {source}",
        citation=f"see {source}",
        source=source,
        files=(Source(kind="hub", where=identifier, file="model.safetensors"),),
    )


def _require_kind(name: str, kind: str) -> None:
    if kind not in _WAYS:
        raise UsageError(
            f"{name} must be a vision model that panderm can read{did_you_mean(kind, _WAYS)}",
            f"its config.json says model_type {kind}",
            f"of transformers it reads {', '.join([*_TOWERS, *_WAYS])}",
        )


def _configuration(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration that shapes the network."""
    library: Any = require("transformers", "transformers")
    own = library.CONFIG_MAPPING[kind]
    with _quiet(library):
        known = set(own().to_dict()) | set(own.attribute_map)
    aside = {"transformers_version", "dtype", "torch_dtype", "architectures", "model_type", "id2label"}
    aside |= {"label2id", "_name_or_path", "problem_type", "return_dict", "output_hidden_states"}
    return {key: value for key, value in config.items() if key in known - aside}


def _width(kind: str, config: dict[str, Any], name: str) -> int:
    made = _library_config(kind, config, name)
    sizes = getattr(made, "hidden_sizes", None)
    return int(sizes[-1] if sizes else made.hidden_size)


def _library_config(kind: str, config: dict[str, Any], name: str) -> Any:
    library: Any = require("transformers", "transformers")
    try:
        with _quiet(library):
            return library.CONFIG_MAPPING[kind](**config)
    except Exception as error:  # it checks a configuration with errors of many classes
        raise UsageError(
            f"the configuration of {name} must be one of {kind}.",
            f"transformers says: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
        ) from None


@contextlib.contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Keep the library's remarks about configurations to itself."""
    log = library.utils.logging
    before = log.get_verbosity()
    log.set_verbosity_error()
    try:
        yield
    finally:
        log.set_verbosity(before)


class VisionModel(torch.nn.Module):
    """A vision model of transformers that gives one vector an image: pixels (n, 3, S, S) → (n, D).

    Attributes:
        model: the library's.
        way: ``cls``, ``mean`` (of patch tokens), or ``pooler`` (what the library's own pooling gives).
        num_features: D.
        global_pool: the way, as records call it.
    """

    def __init__(self, model: Any, way: str, global_pool: str, num_features: int) -> None:
        super().__init__()
        self.model = model
        self.way = way
        self.global_pool = global_pool
        self.num_features = num_features

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        model: Any = self.model
        out = model(pixel_values=pixels)
        if self.way == "pooler":
            pooled: torch.Tensor = out.pooler_output
            return pooled.flatten(1)
        tokens: torch.Tensor = out.last_hidden_state
        if self.way == "cls":
            return tokens[:, 0]
        patch = model.config.patch_size
        side = pixels.shape[-1] // (patch if isinstance(patch, int) else patch[0])
        tokens = tokens[:, -side * side :]
        if model.config.model_type in ("clip_vision_model", "chinese_clip_vision_model"):
            tokens = model.post_layernorm(tokens)  # which the library applies to the class token alone
        return tokens.mean(dim=1)


def build(card: EncoderCard, pool: Pool | None) -> Any:
    """Build the vision model of a card, from its configuration alone, without weights.

    Raises:
        UsageError: transformers is not installed or has no such model; a size or a pooling it cannot take.
    """
    library: Any = require("transformers", "transformers")
    kind = card.network or ""
    _require_kind(card.name, kind)
    options = dict(card.config or {})
    convolutional = kind in _CONVOLUTIONAL
    if kind == "beit" and options.get("image_size", 224) != card.image_size:
        raise UsageError(
            f"{card.name} takes images of {options.get('image_size', 224)} pixels only.",
            f"found {card.image_size}",
            "leave --image-size out",
        )
    if not convolutional or kind in ("swin", "swinv2"):
        options["image_size"] = card.image_size
    config = _library_config(kind, options, card.name)
    patch = getattr(config, "patch_size", 1)
    if not convolutional and isinstance(patch, int) and card.image_size < patch:
        raise UsageError(f"{card.name} takes images of at least {patch} pixels.", f"found {card.image_size}")
    try:
        # Weights are drawn to be replaced: not from the caller's random numbers.
        with _quiet(library), torch.random.fork_rng(devices=[]):
            model = _undrawn(library.MODEL_MAPPING[type(config)], config)
    except (AssertionError, TypeError, ValueError, RuntimeError, KeyError) as error:
        raise UsageError(
            f"{card.name} must be able to take {card.image_size} pixels.",
            str(error) or type(error).__name__,
            "choose another --image-size, or correct the config of its card",
        ) from None
    if hasattr(getattr(model, "pooler", None), "dense"):
        model.pooler = None
    way, shown = _way(card, kind, config, pool or card.pool)
    sizes = getattr(config, "hidden_sizes", None)
    width = int(sizes[-1] if sizes else config.hidden_size)
    return emptied(VisionModel(model, way, TIMM_POOL.get(shown, shown), width))


def _undrawn(model: Any, config: Any) -> Any:
    """Make a library's model on the meta device, where no number is drawn, but for what it computes.

    That comes from a twin of one block: such buffers stand before the blocks, not in them.
    """
    small = copy.deepcopy(config)
    try:
        small.num_hidden_layers = 1
        twin = dict(model(small).named_buffers())
        with torch.device("meta"):
            made = model(config)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return model(config)
    for place, module in made.named_modules():
        for name in module._non_persistent_buffers_set:
            buffer = getattr(module, name)
            if buffer is None:
                continue
            own = twin.get(f"{place}.{name}" if place else name)
            if own is None or own.shape != buffer.shape:
                return model(config)
            setattr(module, name, own)
    return made


def _way(card: EncoderCard, kind: str, config: Any, pool: Pool | None) -> tuple[str, str]:
    """Return how to make one vector: the wrapper's word, and the record's."""
    own = _WAYS[kind][0]
    if kind == "beit":
        own = "mean" if config.use_mean_pooling else "cls"
        if pool not in (None, own):
            raise _cannot_pool(card, pool, f"its norm was trained for {own}")
        return ("pooler" if own == "mean" else "cls"), own
    if kind in _CONVOLUTIONAL:
        if pool == "cls":
            raise _cannot_pool(card, pool, "it has no class token")
        return "pooler", "mean"
    if own in ("attention", "mean") and pool == "cls":
        raise _cannot_pool(card, pool, "it has no class token")
    chosen = pool or own
    if chosen == "attention" and not getattr(config, "vision_use_head", True):
        chosen = "mean"
    of_clip = kind in ("clip_vision_model", "chinese_clip_vision_model")
    if chosen == "attention" or (chosen == "cls" and of_clip):
        return "pooler", chosen
    return chosen, chosen


def _cannot_pool(card: EncoderCard, pool: Pool | None, why: str) -> UsageError:
    return UsageError(f"{card.name} cannot pool {pool}.", why, "leave --pool out")


def adapt(
    state: State,
    network: Any,
    card: EncoderCard,
    account: Account,
    path: Path,  # noqa: ARG001 (one signature for all layouts)
) -> State:
    """Keep the vision model under the library's names of today; resize its position table.

    A file of the whole model, of one with a classifier, or of the vision model alone; names as published,
    which the library's own table translates where it has renamed its modules since.
    """
    expected = {key.removeprefix("model."): value for key, value in network.state_dict().items()}
    prefix = _prefix(state)
    renamings, splits = _translations(network.model)
    kept: State = {}
    for key, value in state.items():
        plain = key.removeprefix(prefix)
        if not key.startswith(prefix):
            why = next((why for start, why in _LEFTOVERS.items() if key.startswith(start)), None)
            if why is not None:
                account.drop(key, why)
            else:
                kept[f"{key} (outside {prefix})"] = value
            continue
        if plain not in expected:
            plain = _renamed(key, prefix, expected, renamings)
        why = _left_out(plain, expected)
        parts = [] if plain in expected else _split(plain, value, splits)
        if why is not None:
            account.drop(key, why)
        elif parts:
            kept |= dict(parts)
        else:
            kept[plain] = value
    _resize(kept, expected, card, account)
    return {f"model.{key}": value for key, value in kept.items()}


def _prefix(state: State) -> str:
    """Return what stands before the names of the vision model in a file."""
    starts = {found[1] for key in state if (found := re.match(r"(.*?)(embeddings|embedder)\.", key))}
    starts = {start for start in starts if "text" not in start}
    return min(starts, key=len) if starts else ""


def _translations(model: Any) -> tuple[list[Any], list[Any]]:
    """Return the library's own renamings of published names, and its splittings of fused tensors."""
    try:
        module: Any = require("transformers.conversion_mapping", "transformers")
        table = module.get_model_conversion_mapping(model, add_legacy=False)
    except (UsageError, AttributeError, TypeError):  # a transformers that has renamed nothing
        return [], []
    splits = [one for one in table if hasattr(one, "operations")]
    return [one for one in table if one not in splits], splits


def _renamed(key: str, prefix: str, expected: State, renamings: list[Any]) -> str:
    """Translate one published name; it may have to stand without its prefix for that."""
    name = key
    for start in (key, key.removeprefix(prefix)):
        name = start
        for renaming in renamings:
            name = renaming.rename_source_key(name)[0]
        name = name.removeprefix(prefix)
        if name in expected:
            return name
    return name


def _split(name: str, value: torch.Tensor, splits: list[Any]) -> list[tuple[str, torch.Tensor]]:
    """Split a tensor that holds several of the library's, along its rows."""
    for one in splits:
        operations = [type(each).__name__ for each in one.operations]
        for pattern in one.source_patterns if len(one.source_patterns) == 1 else []:
            if operations == ["Chunk"] and re.search(pattern, name):
                parts = value.chunk(len(one.target_patterns))
                names = [re.sub(pattern, target, name) for target in one.target_patterns]
                return [(each, part.clone()) for each, part in zip(names, parts, strict=True)]
    return []


def _left_out(name: str, expected: State) -> str | None:
    if name in expected:
        return None
    if name.endswith(("position_ids", "relative_position_index")):
        return "computed, not learned"
    if name.startswith("pooler."):
        return "pooler, seldom trained"
    if name.endswith("mask_token"):
        return "pretraining mask"
    return next((why for start, why in _LEFTOVERS.items() if name.startswith(start)), None)


def _resize(state: State, expected: State, card: EncoderCard, account: Account) -> None:
    # As transformers itself does for each model: with antialias only where there are registers.
    antialias = card.network == "dinov2_with_registers"
    for key in ("embeddings.position_embeddings", "embeddings.position_embedding.weight"):
        have, want = state.get(key), expected.get(key)
        if have is None or want is None or have.ndim != want.ndim or have.shape[-1] != want.shape[-1]:
            continue
        table, tokens = (have, want.shape[1]) if have.ndim == 3 else (have[None], want.shape[0])
        prefix = tokens - int(tokens**0.5) ** 2 if tokens else 0
        prefix = 0 if card.network in ("siglip_vision_model", "ijepa") else max(prefix, 1)
        if card.network == "deit":
            prefix = 2
        made = resized(table, tokens, account, prefix=prefix, antialias=antialias)
        state[key] = made if have.ndim == 3 else made[0]
