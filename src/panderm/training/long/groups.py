"""Which weights decay, and which do not; groups that learn at rates of their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn

UNDECAYED = frozenset({"cls_token", "mask_token", "pos_embed", "rd_pos_embed"})
"""Last parts of names of what has two dimensions and more, and no decay all the same."""


def decay_groups(
    model: nn.Module, *, decay: float, undecayed: Collection[str] = UNDECAYED
) -> list[dict[str, Any]]:
    """Return a network's parameters that learn as groups of an optimiser: with weight decay, and without.

    Biases and all else of one dimension (scales of norms, LayerScale) do not decay, nor do tokens and
    positions, by their names.

    Args:
        model: the network; parameters that need no gradient are left out.
        decay: weight decay of the rest.
        undecayed: last parts of names without decay.

    Returns:
        At most two groups, each with ``params``, ``names`` and ``weight_decay``.
    """
    kept: dict[bool, list[tuple[str, nn.Parameter]]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            last = name.rpartition(".")[2]
            # A bias may have more than one dimension, a table of relative positions for one, and then decays.
            kept[parameter.ndim > 1 and last not in undecayed].append((name, parameter))
    return [
        {
            "params": [parameter for _, parameter in named],
            "names": [name for name, _ in named],
            "weight_decay": decay if decays else 0.0,
        }
        for decays, named in kept.items()
        if named
    ]


def groups_of(model: nn.Module, groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return groups with a network's own parameters, by their names.

    A network that is shared out among processes has other parameters of the same names than when its groups
    were made.

    Args:
        model: the network, as it is run.
        groups: each with ``names``, ``weight_decay`` and, where it learns at a rate of its own,
            ``rate_scale``, a factor of the plan's rate. Other entries are kept for whoever made them.

    Raises:
        ValueError: a parameter that learns is in no group or in two, or a name is of none.
    """
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    named = [name for group in groups for name in group["names"]]
    if sorted(named) != sorted(learning):
        wrong = sorted(set(named) ^ set(learning)) or sorted({n for n in named if named.count(n) > 1})
        raise ValueError(f"every parameter that learns must be in one group: {wrong[:5]}")
    return [
        {**group, "params": [learning[name] for name in group["names"]]} for group in groups if group["names"]
    ]
