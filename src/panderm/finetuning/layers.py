"""Which layer each parameter of a network belongs to, and the rates and the decay that follow from it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

from timm.models import group_parameters
from timm.models.beit import Beit
from torch import nn

from panderm.errors import UsageError, plural
from panderm.training.long.groups import UNDECAYED

# What stands before the blocks, by the words of timm, open_clip and transformers.
_STEM = re.compile(
    r"(^|\.)(cls_token|dist_token|reg_token|register_tokens|mask_token|class_embedding|pos_embed"
    r"|positional_embedding|patch_embed|patchnorm_pre_ln|conv1|embeddings|ln_pre|norm_pre|pre_layrnorm"
    r"|pre_layernorm)(\.|$)"
)
_TOKENS = frozenset({"dist_token", "reg_token", "register_tokens", "class_embedding", "positional_embedding"})


class Layers(NamedTuple):
    """The layers of a network.

    Attributes:
        ids: of each parameter's name: 0 what is before the blocks, 1 … L the blocks, L + 1 what is behind
            them and the head.
        depth: L, how many blocks.
        told: what counts as a block, in words.
    """

    ids: dict[str, int]
    depth: int
    told: str


def layer_of(network: nn.Module) -> Layers:
    """Return the layer of each parameter of a network, learning or not.

    Vision transformers count by their blocks, as the published code does: class token, positions and patch
    embedding are layer 0, block i is layer i + 1, all else (the final norm, the head) is layer L + 1. timm's
    other networks count by timm's own matcher of parameter groups, behind whose last group the head stands.
    Where nothing is known of a network all of it but the head is layer 0.

    Args:
        network: a :class:`~panderm.finetuning.network.ClassifierNetwork`, or any with ``encoder`` and
            ``head``.
    """
    encoder: Any = network.get_submodule("encoder")
    outside = [name for name, _ in network.named_parameters() if not name.startswith("encoder.")]
    stack = _stack(encoder)
    if stack is not None:
        path, depth = stack
        ids = {f"encoder.{name}": _place(name, path, depth) for name, _ in encoder.named_parameters()}
        told = plural(depth, "block")
    else:
        ids, depth, told = _by_timm(encoder)
    return Layers(ids | dict.fromkeys(outside, depth + 1), depth, told)


def _place(name: str, path: str, depth: int) -> int:
    if name.startswith(f"{path}."):
        return int(name.removeprefix(f"{path}.").partition(".")[0]) + 1
    return 0 if _STEM.search(name) else depth + 1


def _stack(encoder: Any) -> tuple[str, int] | None:
    """Return where a transformer's blocks are, and how many."""
    timm_path, trunk = _of_timm(encoder)
    if trunk is not None:
        blocks = getattr(trunk, "blocks", None)
        if not isinstance(blocks, nn.ModuleList | nn.Sequential) or not _are_blocks(blocks):
            return None
        return f"{timm_path}.blocks".removeprefix("."), len(blocks)
    found = [
        (name, len(part))
        for name, part in encoder.named_modules()
        if isinstance(part, nn.ModuleList | nn.Sequential) and len(part) > 1 and _are_blocks(part)
    ]
    return found[0] if len(found) == 1 else None  # several: stages, whose order nobody says


def _are_blocks(parts: nn.ModuleList | nn.Sequential) -> bool:
    """Say whether these are a transformer's blocks: of one kind, with attention, not stages of blocks."""
    kinds = {type(part) for part in parts}
    if len(kinds) != 1 or kinds <= {nn.Sequential, nn.ModuleList}:
        return False
    return all(
        any("attn" in name.lower() or "attention" in name.lower() for name, _ in part.named_children())
        for part in parts
    )


def _of_timm(encoder: nn.Module) -> tuple[str, Any]:
    for name, module in encoder.named_modules():
        if hasattr(module, "group_matcher"):
            return name, module
    return "", None


def _by_timm(encoder: nn.Module) -> tuple[dict[str, int], int, str]:
    path, trunk = _of_timm(encoder)
    if trunk is None:
        ids = {f"encoder.{name}": 0 for name, _ in encoder.named_parameters()}
        return ids, 0, "no layers that panderm knows: all of the encoder learns at one rate"
    last = "behind all groups"  # matches no pattern, as a classifier does
    named = [*trunk.named_parameters(), (last, None)]
    told: Any = SimpleNamespace(named_parameters=lambda: named)  # all that timm asks a network for
    groups = group_parameters(told, trunk.group_matcher(coarse=False), reverse=True)
    top = int(groups.pop(last))
    start = f"{path}." if path else ""
    ids = {
        f"encoder.{name}": int(groups.get(name.removeprefix(start), top)) if name.startswith(start) else top
        for name, _ in encoder.named_parameters()
    }
    return ids, top - 1, plural(top - 1, "group") + " of layers, as timm counts them"


def decay_groups_by_layer(
    network: nn.Module, *, decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Return the parameters that learn as groups of an optimiser, each with its own rate and decay.

    The rate of layer i is ``layer_decay`` ** (L + 1 - i) of the head's (Clark et al., ICLR 2020; Bao et al.,
    BEiT, ICLR 2022). Biases and all else of one dimension, tokens and positions do not decay; tables of
    relative positions do, as in the published code. Of timm's other networks what they name themselves does
    not decay either.

    Args:
        network: as for :func:`layer_of`.
        decay: weight decay, 0 or more.
        layer_decay: greater than 0 and at most 1; 1: one rate for all.

    Returns:
        Groups with ``params``, ``names``, ``weight_decay`` and ``rate_scale``, from the first layer to the
        last; none is empty.

    Raises:
        UsageError: a decay out of its range, or nothing that learns.
    """
    if not 0 < layer_decay <= 1:
        raise UsageError(
            "layer decay must be greater than 0 and at most 1.",
            f"found {layer_decay:g}",
            "0.65 is the published value",
        )
    if not decay >= 0:
        raise UsageError("weight decay must be 0 or more.", f"found {decay:g}")
    ids, depth, _ = layer_of(network)
    undecayed = set(_named_by_timm(network))
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        flat = parameter.ndim <= 1 or name.endswith(".bias")
        token = name.rpartition(".")[2] in UNDECAYED | _TOKENS or name in undecayed
        key = (ids[name], not flat and not token)
        group = groups.setdefault(key, {"params": [], "names": []})
        group["params"].append(parameter)
        group["names"].append(name)
    if not groups:
        raise UsageError("a network must have parameters that learn.", hint="freeze fewer blocks")
    for (layer, decays), group in groups.items():
        group["weight_decay"] = decay if decays else 0.0
        group["rate_scale"] = layer_decay ** (depth + 1 - layer)
    return [groups[key] for key in sorted(groups)]


def _named_by_timm(network: nn.Module) -> Iterator[str]:
    path, trunk = _of_timm(network.get_submodule("encoder"))
    if trunk is None or isinstance(trunk, Beit) or not hasattr(trunk, "no_weight_decay"):
        return  # timm leaves Beit's tables of relative positions without decay, the published code does not
    start = f"encoder.{path}." if path else "encoder."
    names = set(trunk.no_weight_decay())
    for name, _ in trunk.named_parameters():
        if name in names or name.rpartition(".")[2] in names:
            yield start + name
