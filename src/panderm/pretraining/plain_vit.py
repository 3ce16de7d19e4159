"""A plain vision transformer taken apart: what flows between its branches, from its weights alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from timm.layers import resample_abs_pos_embed
from torch.nn import functional

from panderm.errors import WeightsError, some

_EPS = 1e-6
_HEAD = 64  # width of an attention head in every plain ViT from Ti to L


def normed(x: torch.Tensor) -> torch.Tensor:
    """Return tokens with mean 0 and variance 1 over their channels: a LayerNorm without its own numbers."""
    return functional.layer_norm(x, x.shape[-1:], eps=_EPS)


class PlainViT:
    """The parts of a pre-norm vision transformer in timm's names, without register tokens.

    Args:
        state: its tensors.
        side: rows (and columns) of patches it is to be run at.

    Attributes:
        dim, depth, heads, hidden: its widths and depth.
        patch: side of a patch in pixels.
        positions: (1 + side², D), the class token's first.

    Raises:
        WeightsError: tensors that a plain vision transformer does not have.
    """

    def __init__(self, state: Mapping[str, torch.Tensor], side: int) -> None:
        self._state = {key: value.float() for key, value in state.items()}
        self.depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
        wanted = set(names(self.depth))
        layer_scales = {f"blocks.{i}.{ls}.gamma" for i in range(self.depth) for ls in ("ls1", "ls2")}
        strange = sorted(state.keys() - wanted - layer_scales - {"mask_token"})
        missing = sorted(wanted - state.keys())
        if strange or missing:
            raise WeightsError(
                "only a plain vision transformer can be narrowed.",
                f"{some(missing, 3)} missing" if missing else f"it also has {some(strange, 3)}",
                "begin from a file of the student's own width, or leave --init out",
            )
        self.dim = int(state["cls_token"].shape[-1])
        self.heads = self.dim // _HEAD
        self.hidden = int(state["blocks.0.mlp.fc1.weight"].shape[0])
        self.patch = int(state["patch_embed.proj.weight"].shape[-1])
        table = self._state["pos_embed"]
        old = round((table.shape[1] - 1) ** 0.5)
        self.positions = resample_abs_pos_embed(table, [side, side], [old, old], 1, antialias=False)[0]

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the tokens before the first block, (n, 1 + N, D), of normalised pixels."""
        kernel = self._state["patch_embed.proj.weight"]
        made = functional.conv2d(pixels, kernel, self._state["patch_embed.proj.bias"], stride=self.patch)
        tokens = made.flatten(2).transpose(1, 2)
        cls = self._state["cls_token"].expand(len(tokens), 1, -1)
        placed: torch.Tensor = torch.cat([cls, tokens], 1) + self.positions
        return placed

    def attention(self, i: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return queries with keys (n, T, 2D), attention (n, heads, T, T) and the branch's result, added."""
        qkv = functional.linear(self._before(i, x, 1), *self._linear(i, "attn.qkv"))
        q, k, v = torch.unflatten(qkv, -1, (3, self.heads, _HEAD)).permute(2, 0, 3, 1, 4)
        probabilities = (q @ k.transpose(-1, -2) * _HEAD**-0.5).softmax(-1)
        mixed = (probabilities @ v).transpose(1, 2).flatten(2)
        branch = functional.linear(mixed, *self._linear(i, "attn.proj"))
        return qkv[..., : 2 * self.dim], probabilities, x + self.scale(i, 1) * branch

    def mlp(self, i: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the hidden units before and after GELU (n, T, hidden), and the branch's result, added."""
        before = functional.linear(self._before(i, x, 2), *self._linear(i, "mlp.fc1"))
        after = functional.gelu(before)
        return before, after, x + self.scale(i, 2) * functional.linear(after, *self._linear(i, "mlp.fc2"))

    def final(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens after the final norm."""
        weight, bias = self._state["norm.weight"], self._state["norm.bias"]
        return functional.layer_norm(x, x.shape[-1:], weight, bias, _EPS)

    def scale(self, i: int, branch: int) -> torch.Tensor:
        """Return the layer scale of a branch; ones where there is none."""
        return self._state.get(f"blocks.{i}.ls{branch}.gamma", torch.ones(self.dim))

    def reads(self, i: int, branch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return weight (out, D) and bias with which a branch reads *normed* tokens: its norm is absorbed."""
        weight, bias = self._linear(i, "attn.qkv" if branch == 1 else "mlp.fc1")
        norm = f"blocks.{i}.norm{branch}"
        return weight * self._state[f"{norm}.weight"], bias + weight @ self._state[f"{norm}.bias"]

    def writes(self, i: int, branch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return weight (D, in) and bias with which a branch writes: its layer scale is absorbed."""
        weight, bias = self._linear(i, "attn.proj" if branch == 1 else "mlp.fc2")
        scale = self.scale(i, branch)
        return scale[:, None] * weight, scale * bias

    def _before(self, i: int, x: torch.Tensor, branch: int) -> torch.Tensor:
        norm = f"blocks.{i}.norm{branch}"
        return functional.layer_norm(
            x, x.shape[-1:], self._state[f"{norm}.weight"], self._state[f"{norm}.bias"], _EPS
        )

    def _linear(self, i: int, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return self._state[f"blocks.{i}.{name}.weight"], self._state[f"blocks.{i}.{name}.bias"]


def names(depth: int) -> list[str]:
    """Return the names of the tensors of a plain vision transformer without layer scale."""
    parts = ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    stems = ["patch_embed.proj", "norm", *(f"blocks.{i}.{part}" for i in range(depth) for part in parts)]
    return ["cls_token", "pos_embed", *(f"{stem}.{kind}" for stem in stems for kind in ("weight", "bias"))]
