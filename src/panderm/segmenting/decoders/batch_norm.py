"""Batch norm that learns from one image at a time, and over several processes."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.nn.functional import all_reduce


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation (Ioffe and Szegedy, ICML 2015) with PyTorch's names, so that its weights are read.

    It differs from PyTorch's own in training alone, and there in two points:

    - Over several processes mean and variance are of all their images together, on a CPU as well; the
      published segmentation code needs two GPUs for that.
    - Where a channel has one number in all (one image, pooled to 1×1), there is no variance: the running mean
      and variance are used, and stay as they are. PyTorch's own stops with an error.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 (torch's word)
        """Normalise (B, C, h, w)."""
        if not self.training:
            return super().forward(input)
        together = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        if together:
            return self._of_all(input)
        if input.numel() == input.shape[1]:
            return self._as_before(input)
        return super().forward(input)

    def _as_before(self, x: torch.Tensor) -> torch.Tensor:
        given = (self.running_mean, self.running_var, self.weight, self.bias)
        made: torch.Tensor = nn.functional.batch_norm(x, *given, training=False, eps=self.eps)
        return made

    def _of_all(self, x: torch.Tensor) -> torch.Tensor:
        values = x.float()
        count = values.new_tensor([values.numel() / values.shape[1]])
        sums = _summed(torch.cat([values.sum((0, 2, 3)), count]))
        n = sums[-1].detach()
        if int(n) == 1:
            return self._as_before(x)
        mean = sums[:-1] / n
        # A second sum, of what is centred: a difference of two large numbers would lose what is asked for.
        variance = _summed((values - mean[:, None, None]).square().sum((0, 2, 3))) / n
        self._remember(mean.detach(), variance.detach() * n / (n - 1))
        scale = self.weight.float() * (variance + self.eps).rsqrt()
        shift = self.bias.float() - mean * scale
        made: torch.Tensor = values * scale[:, None, None] + shift[:, None, None]
        return made.to(x.dtype)

    def _remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        momentum = self.momentum or 0.0
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


def _summed(x: torch.Tensor) -> torch.Tensor:
    """Return the sum over all processes; a gradient goes back to each."""
    made: torch.Tensor = all_reduce(x)  # type: ignore[no-untyped-call]
    return made
