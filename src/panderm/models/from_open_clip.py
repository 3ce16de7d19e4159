"""open_clip's image towers: their cards, their networks, their files.

A vector is what the tower gives *before* its projection into the space it shares with text. Linear probes of
CLIP models use these features (Radford et al., Learning transferable visual models from natural language
supervision, ICML 2021, §3.2 and appendix A.3): the projection keeps what a caption can say, and no more.
"""

from __future__ import annotations

import copy
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed

from panderm.data.preprocess import Preprocess
from panderm.errors import UsageError, did_you_mean, some
from panderm.models import from_timm
from panderm.models.cards import EncoderCard, Pool
from panderm.models.families import require
from panderm.models.layouts import State, image_tower
from panderm.models.network import TIMM_POOL, emptied
from panderm.weights.account import Account
from panderm.weights.cache import Source

PANDERM_TOWER = "redlessone/DermLIP_PanDerm-base-w-PubMed-256"
_PROJECTION = "projection to the space shared with text"


def open_clip_card(name: str) -> EncoderCard:
    """Return the card of ``open_clip:ARCH`` or ``open_clip:ARCH/TAG``, from open_clip's own tables.

    A tag says whose weights: with it come their address, their pixels and their activation (QuickGELU or
    GELU, which no tensor of a file betrays). Without a tag the pixels are those that all published weights
    of the architecture share.

    Raises:
        UsageError: open_clip has no such architecture or tag, its weights do not share one way of making
            pixels and no tag is given, or panderm cannot make them.
    """
    library: Any = require("open_clip", "open-clip")
    architecture, _, tag = name.removeprefix("open_clip:").partition("/")
    model: Any = library.get_model_config(architecture) if ":" not in architecture else None
    if model is None:
        near = did_you_mean(architecture, library.list_models())
        raise UsageError(
            f"encoder {name!r} must be one that open_clip {library.__version__} has{near}",
            hint='python -c "import open_clip; print(open_clip.list_models())" lists them',
        )
    tags: list[str] = library.list_pretrained_tags_by_model(architecture)
    own: dict[str, Any] = {}
    if tag:
        own = library.get_pretrained_cfg(architecture, tag)
        if not own:
            raise UsageError(
                f"encoder {name!r} must name weights that open_clip has{did_you_mean(tag, tags)}",
                f"of {architecture} it has {some(tags, 12) or 'none'}",
                f"one of them after a slash: open_clip:{architecture}/TAG",
            )
        model["quick_gelu"] = bool(own.get("quick_gelu", False))
    elif tags:
        own = _shared(name, [library.get_pretrained_cfg(architecture, each) for each in tags], tags)
    files = _files(own) if tag else ()
    source = files[0].location if files else f"{architecture} of open_clip; its weights are yours"
    return _card(name, architecture, model, own, source=source, files=files)


def _shared(name: str, configs: list[dict[str, Any]], tags: list[str]) -> dict[str, Any]:
    """Return how all weights of an architecture want their pixels."""
    keys = ("mean", "std", "interpolation", "resize_mode")
    ways = [{key: config.get(key) for key in keys} for config in configs]
    if any(way != ways[0] for way in ways):
        raise UsageError(
            f"{name} must name its weights: they do not all take the same pixels.",
            f"open_clip has {some(tags, 12)}",
            f"one of them after a slash: {name}/TAG",
        )
    return ways[0]


def _files(config: dict[str, Any]) -> tuple[Source, ...]:
    parts = [part for part in str(config.get("hf_hub") or "").split("/") if part]
    if len(parts) >= 2:
        file = "/".join(parts[2:]) or "open_clip_model.safetensors"
        return (Source(kind="hub", where="/".join(parts[:2]), file=file),)
    url = str(config.get("url") or "")
    return (Source(kind="url", where=url, file=Path(url).name),) if url else ()


def card_of_config(name: str, identifier: str, config: dict[str, Any]) -> EncoderCard:
    """Return the card that an ``open_clip_config.json`` describes.

    Args:
        name: as a user types it.
        identifier: ``ORG/NAME`` on the Hugging Face Hub.
        config: the file's content: ``model_cfg`` and ``preprocess_cfg``.

    Raises:
        UsageError: a tower open_clip does not have, or pixels panderm cannot make.
    """
    model = config.get("model_cfg", config)
    vision = model.get("vision_cfg") if isinstance(model, dict) else None
    if not isinstance(vision, dict) or not isinstance(model.get("embed_dim"), int):
        raise UsageError(
            f"the configuration of {name} must describe an image tower.",
            "its open_clip_config.json has no embed_dim and vision_cfg",
            "download it again",
        )
    if identifier == PANDERM_TOWER or "panderm" in json.dumps(vision).lower():
        raise UsageError(
            f"{name} must be read with PanDerm's own image tower.",
            "its image tower is PanDerm's, which open_clip does not have",
            "--encoder dermlip-panderm-base",
        )
    pixels = config.get("preprocess_cfg") or {}
    files = (Source(kind="hub", where=identifier, file="open_clip_model.safetensors"),)
    return _card(name, "custom", model, pixels, source=f"https://huggingface.co/{identifier}", files=files)


def _card(
    name: str,
    network: str,
    model: dict[str, Any],
    pixels: dict[str, Any],
    *,
    source: str,
    files: tuple[Source, ...],
) -> EncoderCard:
    vision = dict(model["vision_cfg"])
    _require_known(name, vision)
    size = _side(name, vision)
    timm_name = vision.get("timm_model_name")
    if timm_name:
        what, dim = f"{timm_name} of timm", None
    elif isinstance(vision.get("layers", 12), list):
        what, dim = "ResNet with attention pooling", int(model["embed_dim"])
    else:
        what, dim = f"ViT/{vision.get('patch_size', 16)}", int(vision.get("width", 768))
        if vision.get("attentional_pool"):
            what, dim = f"{what}, attention-pooled", int(model["embed_dim"])
    plain_vit = dim is not None and isinstance(vision.get("layers", 12), int)
    return EncoderCard(
        name=name,
        architecture=f"{what}, the image tower of a CLIP model, before its projection",
        layout="open_clip",
        network=network,
        config={
            "embed_dim": int(model["embed_dim"]),
            "vision_cfg": vision,
            "quick_gelu": bool(model.get("quick_gelu", False)),
        },
        dim=dim,
        depth=int(vision.get("layers", 12)) if plain_vit else 0,
        heads=int(vision.get("width", 768)) // int(vision.get("head_width", 64)) if plain_vit else 0,
        image_size=size,
        preprocess=_preprocess(name, pixels, size),
        licence=f"not stated by open_clip: see {source}",
        citation=f"see {source}",
        source=source,
        files=files,
    )


def _require_known(name: str, vision: dict[str, Any]) -> None:
    known = {field.name for field in fields(require("open_clip", "open-clip").CLIPVisionCfg)}
    unknown = sorted(vision.keys() - known)
    timm_name = str(vision.get("timm_model_name") or "")
    if not unknown and timm_name and not from_timm.in_timm(timm_name):
        unknown = [timm_name]
    if unknown:
        raise UsageError(
            f"the image tower of {name} must be one that open_clip has.",
            f"its vision_cfg names {some(unknown)}, which the installed open_clip does not know",
            "pip install -U open_clip_torch timm, or ask its authors which program reads it",
        )


def _side(name: str, vision: dict[str, Any]) -> int:
    size = vision.get("image_size", 224)
    sides = set(size) if isinstance(size, (list, tuple)) else {size}
    if len(sides) != 1:
        raise UsageError(
            f"{name} takes images that are not square, which panderm cannot: choose another encoder."
        )
    return int(sides.pop())


def _preprocess(name: str, pixels: dict[str, Any], size: int) -> Preprocess:
    """Return open_clip's evaluation transform; what is not stated is as open_clip has it by default."""
    constants: Any = require("open_clip.constants", "open-clip")
    mode = pixels.get("resize_mode") or "shortest"
    if mode not in ("shortest", "squash"):
        raise UsageError(
            f"{name} pads images to a square (resize_mode {mode}), which panderm cannot: "
            "choose another encoder."
        )
    return Preprocess(
        resize=(size, size) if mode == "squash" else size,
        crop=size,
        # As open_clip reads it: whatever is not bilinear is bicubic.
        interpolation="bilinear" if pixels.get("interpolation") == "bilinear" else "bicubic",
        mean=_three(pixels.get("mean") or constants.OPENAI_DATASET_MEAN),
        std=_three(pixels.get("std") or constants.OPENAI_DATASET_STD),
    )


def _three(values: Any) -> tuple[float, float, float]:
    r, g, b = values if isinstance(values, (list, tuple)) else [values] * 3
    return float(r), float(g), float(b)


def build(card: EncoderCard, pool: Pool | None) -> Any:
    """Build the image tower of a card, without its projection, without the text tower, without weights.

    Its own way of pooling is the class token after the final norm (ViT), what the attention pool gives
    (ResNet, CoCa), or what a timm trunk gives before the head. ``mean`` is that of the patch tokens after
    the final norm, which nobody trained for: see ``pool`` on the card.

    Raises:
        UsageError: open_clip is not installed or has no such tower; a size or a pooling it cannot take.
    """
    library: Any = require("open_clip", "open-clip")
    model = copy.deepcopy(card.config) if card.config else library.get_model_config(card.network)
    if model is None or "vision_cfg" not in model or "embed_dim" not in model:
        near = did_you_mean(card.network or "", library.list_models())
        raise UsageError(
            f"{card.name} must be an architecture that open_clip {library.__version__} has{near}",
            f"its card names {card.network!r} and no embed_dim and vision_cfg",
        )
    vision = {**model["vision_cfg"], "image_size": card.image_size, "output_tokens": False}
    vision |= {"patch_dropout": 0.0, "timm_model_pretrained": False}  # the first is of training only
    _require_known(card.name, vision)
    pool = pool or card.pool
    try:
        made = _tower(vision, int(model["embed_dim"]), bool(model.get("quick_gelu", False)))
        if vision.get("timm_model_name"):
            return emptied(_trunk(card, made, vision, pool))
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{card.name} must be able to take {card.image_size} pixels and pool {pool or 'its own way'}.",
            str(error) or type(error).__name__,
            "choose another --image-size, or leave --image-size and --pool out",
        ) from None
    own = made.attnpool if hasattr(made, "attnpool") else made.attn_pool
    if own is not None:
        if pool is not None:
            raise _cannot_pool(card, pool, "it pools with attention of its own")
        made.global_pool, made.num_features = "attention", int(made.output_dim)
    else:
        if pool is not None:
            made.pool_type = {"cls": "tok", "mean": "avg"}[pool]
        made.global_pool = {"tok": "token", "avg": "avg"}[made.pool_type]
        made.num_features = int(made.conv1.out_channels)
    if hasattr(made, "proj"):
        made.proj = None
    return emptied(made)


def _tower(vision: dict[str, Any], dim: int, quick_gelu: bool) -> Any:
    models: Any = require("open_clip.model", "open-clip")
    # A trunk of timm computes what it does not store; the others can do without any numbers.
    device = torch.device("cpu" if vision.get("timm_model_name") else "meta")
    with torch.random.fork_rng(devices=[]), device:
        return models._build_vision_tower(dim, models.CLIPVisionCfg(**vision), quick_gelu)


class _Pooled(torch.nn.Module):
    """A trunk of timm whose feature map is pooled by an attention of open_clip's."""

    def __init__(self, trunk: torch.nn.Module, pool: torch.nn.Module, dim: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = torch.nn.ModuleDict({"pool": pool})
        self.global_pool = "attention"
        self.num_features = dim

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.head["pool"](self.trunk(pixels))
        return pooled


def _trunk(card: EncoderCard, made: Any, vision: dict[str, Any], pool: Pool | None) -> Any:
    """Return the trunk of a tower around a timm network, without the head that projects."""
    trunk = made.trunk
    data = getattr(trunk, "pretrained_cfg", {}) or {}
    if (data.get("input_size") or (3, card.image_size))[-1] != card.image_size and hasattr(
        trunk, "set_input_size"
    ):
        trunk.set_input_size(img_size=card.image_size)
    attention = getattr(made.head, "pool", None)
    if attention is not None:
        if pool is not None:
            raise _cannot_pool(card, pool, "it pools with attention of its own")
        return _Pooled(trunk, attention, card.dim or made.head.pool.out_features)
    way = TIMM_POOL[pool] if pool is not None else vision.get("timm_pool", "avg")
    if pool == "cls" and not getattr(trunk, "num_prefix_tokens", 0):
        raise _cannot_pool(card, pool, "it has no class token")
    trunk.reset_classifier(0, **({"global_pool": way} if way else {}))
    return trunk


def _cannot_pool(card: EncoderCard, pool: Pool, why: str) -> UsageError:
    return UsageError(f"{card.name} cannot pool {pool}.", why, "leave --pool out")


def adapt(state: State, network: Any, card: EncoderCard, account: Account, path: Path) -> State:
    """Keep the image tower under its own names; resize position tables to the network's input size.

    A file of the whole model, or of the tower alone, with or without ``visual.``; around a timm trunk also
    timm's own file.
    """
    expected = network.state_dict()
    state = image_tower(state, account)
    for key in [key for key in state if key == "proj" or key.startswith(("head.proj.", "head.mlp."))]:
        if key not in expected:
            account.drop(key, _PROJECTION)
            del state[key]
    if not hasattr(network, "reset_classifier"):  # open_clip's own networks
        for key in ("positional_embedding", "attnpool.positional_embedding"):
            have, want = state.get(key), expected.get(key)
            if have is not None and want is not None and have.ndim == 2 and have.shape[1] == want.shape[1]:
                state[key] = resized(have[None], want[None].shape[1], account)[0]
        return state
    plain = {}
    for key, value in state.items():
        plain[key.removeprefix("trunk.")] = value
    return from_timm.adapt(plain, network, card, account, path)


def resized(
    have: torch.Tensor, tokens: int, account: Account, *, prefix: int = 1, antialias: bool = False
) -> torch.Tensor:
    """Resize a position table (1, prefix + side², D) to other ``tokens``, bicubic.

    Where either number of positions is no square and its prefix, the table is returned as it is: it does
    not fit, and the comparison of shapes will say so.
    """
    old, new = (round(max(0, n - prefix) ** 0.5) for n in (have.shape[1], tokens))
    if old == new or old**2 + prefix != have.shape[1] or new**2 + prefix != tokens:
        return have
    account.notes.append(f"position table resized from {old}×{old} to {new}×{new}, bicubic")
    return torch.as_tensor(
        resample_abs_pos_embed(have.float(), [new, new], [old, old], prefix, antialias=antialias)
    )
