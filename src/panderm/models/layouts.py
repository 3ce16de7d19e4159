"""The same weights under other names: timm's, the published ones, those of a CLIP's image tower."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from timm.layers import gen_relative_position_index

from panderm.errors import WeightsError
from panderm.weights.account import Account

State = dict[str, torch.Tensor]

_TO_TIMM = {"gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}
_FROM_TIMM = {theirs: ours for ours, theirs in _TO_TIMM.items()}
TABLE = "relative_position_bias_table"
_BLOCK = re.compile(r"(blocks\.\d+)\.(.+)")
# What a CLIP file holds beside its image tower.
_TEXT = re.compile(
    r"(text\.|text_model\.|text_decoder\.|transformer\.|token_embedding\.|ln_final\.)"
    r"|text_projection|visual_projection\."
    r"|(positional_embedding|logit_scale|logit_bias|attn_mask|input_resolution|context_length|vocab_size)$"
)


def image_tower(state: State, account: Account, *, prefix: str = "visual.") -> State:
    """Keep the image tower of a CLIP file under its plain names; leave out what reads text."""
    if not any(key.startswith(prefix) for key in state):
        return state
    kept: State = {}
    for key, value in state.items():
        if key.startswith(prefix):
            kept[key.removeprefix(prefix)] = value
        elif _TEXT.match(key):
            account.drop(key, "text tower and its scale")
        else:
            kept[f"{key} (outside {prefix})"] = value
    return kept


def is_tuned(state: Mapping[str, torch.Tensor]) -> bool:
    """Say whether a state dict is in the fine-tuning form, under whatever prefix."""
    return any("fc_norm." in key or key.endswith(TABLE) for key in state)


def is_timm_layout(state: Mapping[str, torch.Tensor]) -> bool:
    """Say whether a state dict has the names of timm's ``VisionTransformer`` with layer scale."""
    return "blocks.0.ls1.gamma" in state and "blocks.0.attn.qkv.bias" in state


def from_timm(state: State, account: Account) -> State:
    """Rename timm's ``VisionTransformer`` to PanDerm's layout, whose keys have no bias.

    Raises:
        WeightsError: a bias on the keys, which PanDerm's layout cannot hold.
    """
    if not is_timm_layout(state):
        return state
    ours: State = {}
    for key, value in state.items():
        found = _BLOCK.fullmatch(key)
        if found is None:
            ours[key] = value
        elif found[2] == "attn.qkv.bias":
            q, k, v = value.chunk(3)
            if value.device.type != "meta" and bool(k.any()):
                raise WeightsError(
                    "attention keys must have no bias in PanDerm's layout.",
                    f"{key} has one",
                    "these are weights of another vision transformer: --encoder timm:NAME",
                )
            ours[f"{found[1]}.attn.q_bias"], ours[f"{found[1]}.attn.v_bias"] = q.clone(), v.clone()
        else:
            ours[f"{found[1]}.{_FROM_TIMM.get(found[2], found[2])}"] = value
    account.notes.append("renamed from timm's VisionTransformer")
    return ours


def to_timm(state: State) -> State:
    """Rename PanDerm's linear-probe form to timm's ``VisionTransformer``: the key bias becomes zeros."""
    theirs: State = {}
    for key, value in state.items():
        found = _BLOCK.fullmatch(key)
        if found is None:
            theirs[key] = value
        elif found[2] == "attn.q_bias":
            v = state[f"{found[1]}.attn.v_bias"]
            theirs[f"{found[1]}.attn.qkv.bias"] = torch.cat([value, torch.zeros_like(value), v])
        elif found[2] != "attn.v_bias":
            theirs[f"{found[1]}.{_TO_TIMM.get(found[2], found[2])}"] = value
    return theirs


def to_published(state: State, *, prefixed: bool) -> State:
    """Give the encoder's weights the published names.

    Args:
        state: in PanDerm's layout, either form.
        prefixed: under ``encoder.``, as in the Large file; the fine-tuning form is never prefixed, and
            holds the computed index of each relative-position table.
    """
    tables = [key for key in state if key.endswith("relative_position_bias_table")]
    made = dict(state)
    for key in tables:
        side = (round((state[key].shape[0] - 3) ** 0.5) + 1) // 2
        index = gen_relative_position_index((side, side), class_token=True)
        made[key.replace("bias_table", "index")] = index
    return {f"encoder.{key}": value for key, value in made.items()} if prefixed and not tables else made
