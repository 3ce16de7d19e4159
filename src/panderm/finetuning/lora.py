"""Low-rank adapters (LoRA) on an encoder's linear layers, and their sum with the weights they adapt."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from panderm.errors import UsageError
from panderm.models.families import require

_ADAPTER = "default"
_BASE = ".base_layer."
_A, _B = f".lora_A.{_ADAPTER}.weight", f".lora_B.{_ADAPTER}.weight"
SCALE = 2.0
"""What the product of the two matrices is multiplied by: alpha / rank, for any rank."""

State = Mapping[str, torch.Tensor]


def linear_layers(encoder: nn.Module, image_size: int) -> list[str]:
    """Return the names of the linear layers that are called for an image of this size, in their order.

    A layer whose weight is used without calling it could not be adapted: its adapter would do nothing.

    Args:
        encoder: on any device; pixels (1, 3, S, S) are given to it once.
        image_size: S.
    """
    parts: list[Any] = list(encoder.modules())
    for part in parts:
        if hasattr(part, "qkv_bias_separate"):
            # timm then calls the layer, and adds the bias of queries and values afterwards.
            part.qkv_bias_separate = True
    called: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear)
    ]
    device = next(encoder.parameters()).device
    training = encoder.training
    try:
        with torch.no_grad():
            encoder.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    finally:
        encoder.train(training)
        for hook in hooks:
            hook.remove()
    return list(dict.fromkeys(called))


def add_lora(encoder: nn.Module, names: Collection[str], *, rank: int, seed: int) -> None:
    """Put an adapter on linear layers; only the adapters learn afterwards (Hu et al., ICLR 2022).

    A layer's weight W becomes W + 2·B·A, with A (rank, in) drawn and B (out, rank) zero at first, so that
    the network's answer is the same as before.

    Args:
        encoder: changed in place.
        names: of its linear layers, from :func:`linear_layers`.
        rank: of the adapters, 1 or more.
        seed: of A.

    Raises:
        UsageError: a rank below 1, no layer to adapt, or peft is not installed.
    """
    if rank < 1:
        raise UsageError("the rank of LoRA must be 1 or more.", f"found {rank}", "--lora 8")
    if not names:
        raise UsageError(
            "LoRA needs linear layers of attention or an MLP that learn.",
            "this encoder has none, or all of them are frozen",
            "leave out --lora, or freeze fewer blocks",
        )
    peft = require("peft", "lora", what="LoRA")
    config = peft.LoraConfig(
        r=rank, lora_alpha=SCALE * rank, lora_dropout=0.0, bias="none", target_modules=list(names)
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own: that layers are named one by one
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, encoder, adapter_name=_ADAPTER)


def has_lora(state: Collection[str]) -> bool:
    """Say whether a network's tensors, by name, hold adapters."""
    return any(name.endswith(_A) for name in state)


def merged(state: State) -> dict[str, torch.Tensor]:
    """Return a network's tensors with each adapter added to its weight, under the names of before.

    Args:
        state: of a network with adapters, or without: then as it is.
    """
    made: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if name.endswith((_A, _B)):
            continue
        layer, base, own = name.partition(_BASE)
        if base and own == "weight":
            A, B = state[layer + _A], state[layer + _B]
            value = value + SCALE * (B.to(value) @ A.to(value))
        made[f"{layer}.{own}" if base else name] = value
    return made
