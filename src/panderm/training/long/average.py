"""The moving average of what a network learns: a second set of weights, of which a run may be better."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from panderm.training.long.together import Together


def average_weight(step: int, ema: float) -> float:
    """Return how much of the average so far stays in it after a step: min(ema, (1 + t) / (10 + t)).

    The rule of TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``: the weights a network began
    with are soon forgotten, and with .9999 the average is that of the last tenth of the steps until there are
    90,000 of them.

    Args:
        step: t, how many steps were taken, from 1.
        ema: the most that stays, between 0 and 1.

    Example:
        >>> average_weight(1, 0.9999)
        0.18181818181818182
    """
    return min(ema, (1 + step) / (10 + step))


class Average:
    """Keeps the average of a network's parameters that learn, and of what it counts in buffers of floats.

    Each process averages what it holds of the network: all, or its part. What does not learn stands in no
    average: it is as the network has it. Nothing is kept but the tensors, so that a run that goes on needs
    nothing else.

    Args:
        model: the network, as it is run: wrapped, on its device.
        together: the processes.
        ema: the most that stays of the average in a step.
    """

    def __init__(self, model: nn.Module, together: Together, ema: float) -> None:
        self.model, self.together, self.ema = model, together, ema
        learning = {name for name, tensor in model.named_parameters() if tensor.requires_grad}
        buffers = {name for name, tensor in model.named_buffers() if tensor.is_floating_point()}
        self.tensors: Mapping[str, torch.Tensor] = {
            name: tensor.detach().clone()
            for name, tensor in model.state_dict().items()
            if name in learning or name in buffers
        }
        """By their names in the network's ``state_dict``; only ever changed in place."""
        self._buffers = sorted(buffers & self.tensors.keys())
        self._pairs: list[tuple[torch.Tensor, torch.Tensor]] = [
            (self.tensors[name], parameter)
            for name, parameter in model.named_parameters()
            if name in learning
        ]
        if together.sharing == "ddp":
            together.second(self.tensors)  # before a first pass leaves in it what cannot be copied

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after a step in, counted from 1."""
        pairs = list(self._pairs)
        if self._buffers:
            now = dict(self.model.named_buffers())
            pairs += [(self.tensors[name], now[name]) for name in self._buffers]
        mine, theirs = ([_part(tensor) for tensor in side] for side in zip(*pairs, strict=True))
        torch._foreach_lerp_(mine, theirs, 1 - average_weight(step, self.ema))

    def network(self) -> nn.Module | None:
        """Return the network with the average for its weights in each process that has it whole, else None.

        All processes must ask. It is not to be changed.
        """
        return self.together.second(self.tensors)


def _part(tensor: torch.Tensor) -> torch.Tensor:
    """Return what this process holds of a tensor, without a copy."""
    to_local = getattr(tensor.detach(), "to_local", None)  # a DTensor has it
    found: torch.Tensor = tensor.detach() if to_local is None else to_local()
    return found
