"""A look inside an encoder: the tokens of its patches, and what its class token attends to."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from panderm.errors import DataError, UsageError

# Images at once: the tokens of several blocks are far larger than the vectors of encode.
_IMAGES = 8
# Attention probabilities held at once, 256 MB in float32; one image in any case.
_PROBABILITIES = 2**26

Look = Callable[[torch.Tensor], list[torch.Tensor]]


@dataclass(frozen=True)
class Stack:
    """Blocks of one width, with one token a patch behind ``prefix`` others, the class token first.

    ``prefix`` and ``has_class`` are None where only the count of tokens can tell; ``norm`` is the final one,
    None where it is of another width.
    """

    blocks: list[nn.Module]
    prefix: int | None
    has_class: bool | None
    norm: nn.Module | None = None
    patch: int = 0


class Views:
    """A look inside one network: timm's, or a vision transformer of open_clip or transformers.

    It works on a copy of the modules that shares every weight, so that no hook and no switch ever reaches the
    encoder itself: not while another thread encodes, and not when something fails half way.

    Args:
        network: the encoder's.
        name: the encoder's, for messages.
        device: where the network is.
        autocast: gives the context of the encoder's precision.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        whole: nn.Module = getattr(network, "_orig_mod", network)  # compiled code would run past the hooks
        weights = {id(one): one for one in itertools.chain(whole.parameters(), whole.buffers())}
        self._network: Any = copy.deepcopy(whole, dict(weights))
        self._name = name
        self._device = device
        self._autocast = autocast
        self._timm = find_timm(self._network)
        self._stack = find_stack(self._network) if self._timm is None else _stack_of_timm(self._timm)

    def tokens(self, pixels: torch.Tensor, blocks: Sequence[int], *, norm: bool) -> list[torch.Tensor]:
        """Return float32 (n, h, w, D) on the CPU for each block, in the order asked for."""
        if self._timm is None and self._stack is None:
            raise UsageError(
                f"{self._name} has no patch tokens that panderm could find.",
                hint="PanDerm's encoders and all of timm's have them",
            )
        try:
            chosen = [self._number(block) for block in blocks]
        except TypeError:
            raise UsageError("blocks must be a list of block numbers.", f"found {blocks!r}") from None
        if not chosen:
            return []
        look = self._tokens_of_timm if self._timm is not None else self._tokens_of_stack
        return self._in_parts(pixels, lambda part: look(part, chosen, norm=norm), lambda: _IMAGES)

    def with_vectors(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return vectors (n, D) and the last block's normed tokens (n, h, w, width) from one pass.

        Float32, on the device. None where that needs a pass of each: networks without a stack of blocks.
        """
        stack = self._stack
        norm = None if stack is None else stack.norm if self._timm is None else norm_of_timm(self._timm)
        if stack is None or norm is None:
            return None
        kept: dict[int, torch.Tensor] = {}
        last = len(stack.blocks) - 1
        with torch.inference_mode(), self._autocast():
            part = pixels.to(self._device, torch.float32)
            try:
                vectors: torch.Tensor = self._watched(part, stack, {last}, kept)
            except UsageError:
                return None
            tokens = kept[last]
            patches = tokens.shape[1] - (stack.prefix or 0)
            side = part.shape[-1] // stack.patch if stack.patch else math.isqrt(patches)
            if patches < side * side or (stack.patch == 0 and patches > side * side):
                return None
            return vectors.float(), norm(tokens[:, -side * side :]).float().unflatten(1, (side, side))

    def attention(self, pixels: torch.Tensor, block: int, *, rollout: bool) -> torch.Tensor:
        """Return float32 on the CPU: (n, heads, h, w) of one block, or the rollout up to it, (n, h, w)."""
        stack = self._stack
        if stack is None or stack.has_class is False:
            raise self._no_class_token()
        last = self._number(block)
        watched = stack.blocks[: last + 1] if rollout else [stack.blocks[last]]
        seen: list[list[torch.Tensor]] = [[] for _ in watched]
        for module, into in zip(watched, seen, strict=True):
            _watch(module, into, mean=rollout)

        def look(part: torch.Tensor) -> list[torch.Tensor]:
            for into in seen:
                into.clear()
            self._network(part)
            side = self._patches_a_side(part, stack, seen)
            maps = _rollout([into[0] for into in seen]) if rollout else seen[0][0][:, :, 0]
            maps = maps[..., -side * side :]
            if rollout:
                maps = maps / maps.sum(dim=-1, keepdim=True)
            return [maps.reshape(*maps.shape[:-1], side, side)]

        def room() -> int:
            # While one block runs: scores, probabilities and their sum with the bias, of every head.
            heads = max((int(getattr(m, "num_heads", 0)) for m in watched[0].modules()), default=0) or 16
            each = (3 * heads + len(watched)) * seen[0][0].shape[-1] ** 2
            return max(1, min(_IMAGES, _PROBABILITIES // each))

        return self._in_parts(pixels, look, room)[0]

    def _in_parts(self, pixels: torch.Tensor, look: Look, room: Callable[[], int]) -> list[torch.Tensor]:
        """Look at one image, then at as many at once as there is room for."""
        given = pixels if len(pixels) else pixels.new_zeros((1, *pixels.shape[1:]))  # for the shapes
        whole: list[torch.Tensor] = []
        at, size = 0, 1
        while at < len(given):
            with torch.inference_mode(), self._autocast():
                part = given[at : at + size].to(self._device, torch.float32)
                maps = [one.float().cpu() for one in look(part)]
            if not all(bool(one.isfinite().all()) for one in maps):
                raise DataError(
                    "every number of a patch must be finite.",
                    f"{self._name}: NaN or infinite numbers came out",
                    "use --precision fp32; if it stays so, the weights or the pixels are damaged",
                )
            # Made outside of inference mode, so that a user may train on it.
            whole = whole or [torch.empty((len(given), *one.shape[1:])) for one in maps]
            for into, one in zip(whole, maps, strict=True):
                into[at : at + size] = one
            at, size = at + size, room()
        return [one[: len(pixels)] for one in whole]

    def _tokens_of_timm(self, part: torch.Tensor, chosen: list[int], *, norm: bool) -> list[torch.Tensor]:
        wanted = sorted(set(chosen))
        try:
            maps = self._timm.forward_intermediates(
                part, indices=wanted, norm=norm, stop_early=True, output_fmt="NCHW", intermediates_only=True
            )
        except AssertionError:  # Hiera's norm comes after its mean
            raise self._no_norm() from None
        maps = [one.permute(0, 2, 3, 1) for one in maps]
        if norm and isinstance(getattr(self._timm, "norm", None), nn.Identity):
            after = norm_of_timm(self._timm) or nn.Identity()
            maps = [after(one) for one in maps]
        return [maps[wanted.index(block)] for block in chosen]

    def _tokens_of_stack(self, part: torch.Tensor, chosen: list[int], *, norm: bool) -> list[torch.Tensor]:
        stack = self._stack
        assert stack is not None
        if norm and stack.norm is None:
            raise self._no_norm()
        side = part.shape[-1] // stack.patch
        kept: dict[int, torch.Tensor] = {}
        self._watched(part, stack, set(chosen), kept)
        if any(one.shape[1] < side**2 for one in kept.values()):
            raise self._no_patches()
        after = stack.norm if norm and stack.norm is not None else nn.Identity()
        return [after(kept[number][:, -side * side :]).unflatten(1, (side, side)) for number in chosen]

    def _watched(
        self, part: torch.Tensor, stack: Stack, chosen: set[int], kept: dict[int, torch.Tensor]
    ) -> Any:
        """Run the network, keep what the chosen blocks give, (n, tokens, width), and return its result."""

        def keep(number: int, out: Any) -> None:
            kept[number] = out[0] if isinstance(out, tuple) else out

        hooks = [
            stack.blocks[number].register_forward_hook(lambda _, __, out, number=number: keep(number, out))
            for number in chosen
        ]
        try:
            result = self._network(part)
        finally:
            for hook in hooks:
                hook.remove()
        if any(one.ndim != 3 or one.shape[0] != len(part) for one in kept.values()):
            raise self._no_patches()
        return result

    def _patches_a_side(self, part: torch.Tensor, stack: Stack, seen: list[list[torch.Tensor]]) -> int:
        """Return the side of the grid, or refuse what is not attention of all tokens to all tokens."""
        shapes = {tuple(one.shape[-2:]) for into in seen for one in into}
        if any(len(into) != 1 or len(into[0]) != len(part) for into in seen) or len(shapes) != 1:
            raise self._no_attention()
        tokens, keys = shapes.pop()
        if stack.prefix is None:
            side = part.shape[-1] // stack.patch
        else:
            side = math.isqrt(max(0, tokens - stack.prefix))
        prefix = tokens - side * side
        if prefix == 0:
            raise self._no_class_token()
        if prefix != (stack.prefix or prefix) or prefix < 0 or side == 0 or tokens != keys:
            raise self._no_attention()
        return side

    def _number(self, block: object) -> int:
        if self._stack is not None:
            count, noun = len(self._stack.blocks), "blocks"
        else:
            info = self._timm.feature_info
            count, noun = len(info if isinstance(info, list) else info.channels()), "stages"
        if isinstance(block, bool) or not isinstance(block, int) or not -count <= block < count:
            raise UsageError(
                f"{self._name} has {count} {noun}: 0 to {count - 1}, or -1 to -{count} from the end.",
                f"found {block!r}",
            )
        return block % count

    def _no_class_token(self) -> UsageError:
        return UsageError(
            f"an attention map needs an encoder with a class token, and {self._name} has none.",
            hint="encoder.tokens(pixels) gives what it says of each patch",
        )

    def _no_attention(self) -> UsageError:
        return UsageError(
            f"{self._name} does not attend from a class token to all patches in every block asked for.",
            hint="encoder.tokens(pixels) gives what it says of each patch",
        )

    def _no_patches(self) -> UsageError:
        return UsageError(f"{self._name} does not keep one token a patch.")

    def _no_norm(self) -> UsageError:
        return UsageError(
            f"{self._name} has no final norm that its tokens could go through.",
            hint="norm=False leaves it out",
        )


def find_timm(network: nn.Module) -> Any:
    for module in network.modules():
        if hasattr(module, "forward_intermediates") and getattr(module, "feature_info", None):
            return module
    return None


def norm_of_timm(network: Any) -> nn.Module | None:
    """Return the final norm: where patch tokens are averaged first, timm keeps it for the mean."""
    norm: nn.Module | None = getattr(network, "norm", None)
    if not isinstance(norm, nn.Identity):
        return norm
    after: nn.Module | None = getattr(network, "fc_norm", None)
    return after


def _stack_of_timm(network: Any) -> Stack | None:
    blocks, prefix = getattr(network, "blocks", None), getattr(network, "num_prefix_tokens", None)
    info = network.feature_info
    if not isinstance(blocks, (nn.Sequential, nn.ModuleList)) or prefix is None or len(info) != len(blocks):
        return None
    has_class = prefix > 0 and getattr(network, "cls_token", None) is not None
    return Stack(list(blocks), int(prefix), has_class)


def find_stack(network: nn.Module) -> Stack | None:
    """Find the blocks of open_clip's and transformers' vision transformers by their names for things."""
    for module in network.modules():
        inner: Any = module
        blocks = getattr(getattr(inner, "transformer", None), "resblocks", None)
        if blocks is not None and hasattr(inner, "conv1") and hasattr(inner, "ln_post"):
            # With attentional pooling, ln_post is of the pooled vector's width.
            norm = inner.ln_post if inner.ln_post.normalized_shape == (inner.conv1.out_channels,) else None
            return Stack(list(blocks), 1, True, norm, inner.conv1.stride[0])
        config = getattr(inner, "config", None)
        patch, depth = getattr(config, "patch_size", None), getattr(config, "num_hidden_layers", None)
        norms = [getattr(inner, name, None) for name in ("layernorm", "post_layernorm", "norm")]
        norm = next((one for one in norms if one is not None), None)
        stacks = [one for one in inner.modules() if isinstance(one, nn.ModuleList) and len(one) == depth]
        if norm is not None and stacks and isinstance(patch, int):
            return Stack(list(stacks[0]), None, None, norm, patch)
    return None


def _watch(block: nn.Module, into: list[torch.Tensor], *, mean: bool) -> None:
    """Let a block hand out its attention, (n, heads, tokens, tokens), or its mean over the heads."""

    def keep(probabilities: torch.Tensor) -> None:
        into.append(probabilities.float().mean(dim=1) if mean else probabilities)

    def keep_second(_: nn.Module, __: Any, out: Any) -> None:
        if isinstance(out, tuple) and len(out) > 1 and isinstance(out[1], torch.Tensor) and not into:
            keep(out[1])

    modules: list[Any] = list(block.modules())
    told = [one for one in modules if isinstance(getattr(one, "attn_drop", None), nn.Module)]
    for one in told:  # timm: the dropout's input is the softmax, where it is written down at all
        if hasattr(one, "fused_attn"):
            one.fused_attn = False
        one.attn_drop.register_forward_pre_hook(lambda _, given: keep(given[0]))
    for one in [] if told else modules:  # torch's own module, and those of transformers, return it second
        if isinstance(one, nn.MultiheadAttention):
            one.register_forward_pre_hook(_ask_each_head, with_kwargs=True)
        config: Any = getattr(one, "config", None)
        if hasattr(config, "_attn_implementation"):
            config._attn_implementation = "eager"
        one.register_forward_hook(keep_second)


def _ask_each_head(_: nn.Module, given: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return given, options | {"need_weights": True, "average_attn_weights": False}


def _rollout(attention: list[torch.Tensor]) -> torch.Tensor:
    """Return the class token's row of the attention rollout, (n, tokens), from each block's mean over heads.

    Abnar S., Zuidema W. Quantifying Attention Flow in Transformers. ACL 2020, equation 1: half of each block
    passes its own token on (the residual path), and the blocks multiply. Only one row is asked for, so the
    product is taken from the last block backwards.
    """
    tokens = attention[0].shape[-1]
    row = torch.eye(tokens, device=attention[0].device)[:1].expand(len(attention[0]), 1, tokens)
    for weights in reversed(attention):
        step = weights + torch.eye(tokens, device=weights.device)
        row = row @ (step / step.sum(dim=-1, keepdim=True))
    return row[:, 0]
