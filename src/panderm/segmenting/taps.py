"""What an encoder says of each patch, block by block, so that a loss can go back through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from panderm.errors import UsageError, plural
from panderm.models.views import Stack, find_stack, find_timm, norm_of_timm

# The published taps, 7, 11, 15 and 23 of 24 blocks, as parts of the depth.
_PUBLISHED = (8 / 24, 12 / 24, 16 / 24, 24 / 24)
_STAGES = 4


@dataclass(frozen=True, eq=False)
class Taps:
    """Blocks whose patch tokens a decoder reads: called with the encoder and pixels, it returns their maps.

    Attributes:
        blocks: numbers of blocks (or stages) from 0, in the order of the decoder's levels; one may come
            twice.
        widths: D of each.
        strides: pixels a token of each, on both axes.
        plain: all share one grid: a plain vision transformer's blocks.
        norm: they go through the encoder's final norm.
    """

    blocks: tuple[int, ...]
    widths: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    plain: bool = True
    norm: bool = True

    def __call__(self, encoder: nn.Module, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Return float (B, D, h, w) for each tap, with a gradient where the encoder learns.

        Class and register tokens are left out; the token of row r and column c is of the patch there.

        Args:
            encoder: as :func:`panderm.load_encoder` builds it.
            pixels: float (B, 3, S, S), normalised.
        """
        trunk = find_timm(encoder)
        if trunk is not None:
            return _of_timm(trunk, pixels, self.blocks, norm=self.norm)
        stack = find_stack(encoder)
        assert stack is not None  # taps_of has looked
        return _of_stack(encoder, stack, pixels, self.blocks, norm=self.norm)


def taps_of(
    encoder: nn.Module, *, name: str, image_size: int, taps: Sequence[int] | None = None, levels: int = 4
) -> Taps:
    """Say which blocks of an encoder a decoder reads, and what they are like: one image is sent through.

    Args:
        encoder: as :func:`panderm.load_encoder` builds it.
        name: the encoder's, for messages.
        image_size: S in pixels.
        taps: numbers of blocks, from 0 or negative from the end; by default the last one for one level, else
            four in proportion to the published 7, 11, 15 and 23 of 24, or the last four stages.
        levels: how many the decoder wants where ``taps`` is None.

    Raises:
        UsageError: an encoder without patch tokens, a block that is not there, or a side that is no multiple
            of the patch.
    """
    trunk = find_timm(encoder)
    stack = find_stack(encoder) if trunk is None else None
    if trunk is None and stack is None:
        raise UsageError(
            "a segmenter's encoder must give tokens of patches, or maps of stages.",
            f"{name} has none that panderm could find",
            "PanDerm's encoders and all of timm's do; or --decoder unet, which has a network of its own",
        )
    depth, plain = _depth_of(trunk, stack)
    noun = "block" if plain else "stage"
    if taps is None:
        chosen = published_taps(depth) if plain else tuple(range(max(0, depth - _STAGES), depth))
        blocks = chosen[-1:] if levels == 1 else (chosen[:1] * (levels - len(chosen)) + chosen)[-levels:]
    else:
        blocks = tuple(_numbered(tap, depth, name, noun) for tap in taps)
        if not blocks:
            raise UsageError(f"a decoder must have a {noun} to read.", "found no taps", "leave --taps out")
    patch = _patch_of(trunk, stack)
    if plain and patch and image_size % patch:
        low = max(1, image_size // patch) * patch
        raise UsageError(
            f"the side of the images must be a multiple of the patch of {name}, {patch} pixels.",
            f"found --image-size {image_size}",
            f"--image-size {low} or {low + patch}",
        )
    norm = not plain or (norm_of_timm(trunk) if trunk is not None else stack and stack.norm) is not None
    training = encoder.training
    encoder.eval()
    try:
        maps, norm = _tried(encoder, blocks, image_size, norm=bool(norm))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"{name} must give maps of {plural(len(blocks), noun)} for a decoder.",
            str(error).partition("\n")[0] or type(error).__name__,
            "choose another encoder or other --taps",
        ) from None
    finally:
        encoder.train(training)
    return Taps(
        blocks,
        tuple(int(one.shape[1]) for one in maps),
        tuple(round(image_size / one.shape[-1]) for one in maps),
        plain and len({one.shape[-2:] for one in maps}) == 1,
        norm,
    )


def _tried(
    encoder: nn.Module, blocks: tuple[int, ...], image_size: int, *, norm: bool
) -> tuple[list[torch.Tensor], bool]:
    """Send one image through; return the maps, and whether they went through a final norm."""
    blank = torch.zeros(1, 3, image_size, image_size, device=next(encoder.parameters()).device)
    with torch.no_grad():
        try:
            return Taps(blocks, norm=norm)(encoder, blank), norm
        except AssertionError:  # Hiera's norm comes after its mean, and timm asserts that nobody asks for it
            if not norm:
                raise
            return Taps(blocks, norm=False)(encoder, blank), False


def published_taps(depth: int) -> tuple[int, ...]:
    """Return the published taps, in proportion to a depth: 7, 11, 15 and 23 of 24 blocks."""
    return tuple(max(1, round(part * depth)) - 1 for part in _PUBLISHED)


def _numbered(tap: object, depth: int, name: str, noun: str) -> int:
    if isinstance(tap, bool) or not isinstance(tap, int) or not -depth <= tap < depth:
        raise UsageError(
            f"{name} has {plural(depth, noun)}: 0 to {depth - 1}, or -1 to -{depth} from the end.",
            f"found --taps {tap!r}",
        )
    return tap % depth


def _depth_of(trunk: Any, stack: Stack | None) -> tuple[int, bool]:
    """Return how many blocks or stages there are, and whether they are blocks of one grid."""
    if stack is not None:
        return len(stack.blocks), True
    info = trunk.feature_info
    stages = info if isinstance(info, list) else info.channels()
    reductions = {one.get("reduction") for one in info} if isinstance(info, list) else set(info.reduction())
    return len(stages), len(reductions) == 1


def _patch_of(trunk: Any, stack: Stack | None) -> int:
    if stack is not None:
        return stack.patch
    size = getattr(getattr(trunk, "patch_embed", None), "patch_size", 0)
    return int(size if isinstance(size, int) else size[0])


def _of_timm(trunk: Any, pixels: torch.Tensor, blocks: Sequence[int], *, norm: bool) -> list[torch.Tensor]:
    wanted = sorted(set(blocks))
    maps = trunk.forward_intermediates(
        pixels, indices=wanted, norm=norm, stop_early=True, output_fmt="NCHW", intermediates_only=True
    )
    if norm and isinstance(getattr(trunk, "norm", None), nn.Identity):
        after = norm_of_timm(trunk) or nn.Identity()
        maps = [after(one.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for one in maps]
    return [maps[wanted.index(block)] for block in blocks]


def _of_stack(
    encoder: nn.Module, stack: Stack, pixels: torch.Tensor, blocks: Sequence[int], *, norm: bool
) -> list[torch.Tensor]:
    kept: dict[int, torch.Tensor] = {}

    def keep(number: int, out: Any) -> None:
        kept[number] = out[0] if isinstance(out, tuple) else out

    hooks = [
        stack.blocks[number].register_forward_hook(lambda _, __, out, number=number: keep(number, out))
        for number in sorted(set(blocks))
    ]
    try:
        encoder(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    side = pixels.shape[-1] // stack.patch
    if any(one.ndim != 3 or one.shape[0] != len(pixels) or one.shape[1] < side**2 for one in kept.values()):
        raise ValueError("it does not keep one token a patch")
    after = stack.norm if norm and stack.norm is not None else nn.Identity()
    maps = {number: after(one[:, -(side**2) :]).mT.unflatten(2, (side, side)) for number, one in kept.items()}
    return [maps[block] for block in blocks]
