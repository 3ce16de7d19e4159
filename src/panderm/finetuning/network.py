"""The network that is fine-tuned: any encoder that panderm loads, and a linear head behind its vector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from timm.layers import DropPath
from torch import nn

from panderm.data.preprocess import Preprocess
from panderm.embeddings import EncoderRecord
from panderm.errors import UsageError, plural
from panderm.finetuning.layers import Layers, layer_of
from panderm.finetuning.lora import State, add_lora, has_lora, linear_layers, merged
from panderm.models.cards import EncoderCard, Pool
from panderm.models.load import choose_card, load_encoder

INIT_SCALE = 0.001
_STD = 0.02
_PATHS = ("drop_path", "drop_path1", "drop_path2")


class Plain(NamedTuple):
    """A network's tensors as a classifier's file holds them: no adapters, whole, on the CPU.

    Attributes:
        encoder: by the names that :func:`panderm.load_encoder` gives them.
        weight: float32 (K, D), of the head.
        bias: float32 (K,).
    """

    encoder: dict[str, torch.Tensor]
    weight: torch.Tensor
    bias: torch.Tensor


class ClassifierNetwork(nn.Module):
    """An encoder and a linear head: normalised pixels in, logits out.

    Made by :func:`network_for`.

    Args:
        encoder: float (B, 3, S, S) to (B, D); its parameters learn as their ``requires_grad`` says.
        dim: D.
        classes: K, how many logits.
        init_scale: what the head's drawn weights, truncated normal of 0.02, are multiplied by; its bias is 0.
        seed: of the head's weights.

    Attributes:
        encoder: as given.
        head: ``nn.Linear`` (D, K).
    """

    def __init__(
        self, encoder: nn.Module, dim: int, classes: int, *, init_scale: float = INIT_SCALE, seed: int = 0
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(dim, classes, device="meta").to_empty(device="cpu")
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            nn.init.trunc_normal_(self.head.weight, std=_STD, generator=generator)
            self.head.weight.mul_(init_scale)
            self.head.bias.zero_()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return logits.

        Args:
            pixels: float (B, 3, S, S), normalised as the encoder's preprocessing says.

        Returns:
            float32 (B, K), whatever the precision of the encoder: the head is computed in float32.
        """
        vectors = self.encoder(pixels)
        with torch.autocast(vectors.device.type, enabled=False):
            logits: torch.Tensor = self.head(vectors.float())
        return logits

    def train(self, mode: bool = True) -> ClassifierNetwork:
        """Switch to training or evaluation; what is frozen is always in evaluation.

        A frozen block keeps the running means of its batch norms, and drops no path.
        """
        super().train(mode)
        if mode:
            for module in self.encoder.modules():
                own = list(module.parameters())
                if own and not any(parameter.requires_grad for parameter in own):
                    module.eval()
        return self

    def plain(self, state: State | None = None) -> Plain:
        """Return the tensors of a finished classifier: adapters are added to their weights.

        Args:
            state: this network's whole state dict, where it is spread over several processes, or the average
                of its weights; by default its own.
        """
        own = self.state_dict() if state is None else state
        whole = {name: value.detach().to("cpu") for name, value in own.items()}
        encoder = {
            name.removeprefix("encoder."): value.contiguous()
            for name, value in merged(whole).items()
            if name.startswith("encoder.")
        }
        return Plain(encoder, whole["head.weight"].float(), whole["head.bias"].float())


@dataclass(frozen=True, eq=False)
class Started:
    """Where fine-tuning starts.

    Attributes:
        network: float32, on the CPU; ``requires_grad`` says what learns.
        preprocess: what its pixels must look like, in training as afterwards.
        record: of the encoder it began from.
        card: the same encoder's card, at this input size.
        pool: the form that was chosen; None: the encoder's own.
        layers: of its parameters.
        trainable: how many numbers learn.
        words: what a user must know of it, a sentence each.
    """

    network: ClassifierNetwork
    preprocess: Preprocess
    record: EncoderRecord
    card: EncoderCard
    pool: Pool | None
    layers: Layers
    trainable: int
    words: tuple[str, ...]


def network_for(
    encoder: str | Path | None = None,
    *,
    weights: Path | str | None = None,
    card: Path | str | None = None,
    pool: Pool | None = None,
    image_size: int | None = None,
    classes: int,
    drop_path: float | None = None,
    drop_path_if_possible: bool = False,
    init_scale: float = INIT_SCALE,
    freeze: int = 0,
    lora: int | None = None,
    seed: int = 0,
) -> Started:
    """Make a network to fine-tune of any encoder that ``panderm.load_encoder`` takes.

    Args:
        encoder: as for ``load_encoder``; a classifier that was fine-tuned before will do: its head is left
            out.
        weights: likewise.
        card: likewise.
        pool: ``cls`` or ``mean``; by default PanDerm's layout takes the mean of its patch tokens with
            ``fc_norm`` and tables of relative positions, which start at zero where the weights have none,
            and others pool in their own way.
        image_size: side of the input in pixels.
        classes: K, how many logits; of two classes two.
        drop_path: stochastic depth (Huang et al., ECCV 2016), from 0 in the first block to this in the last;
            None or 0: none.
        drop_path_if_possible: go on without it where the encoder has no place for it, and say so.
        init_scale: what the head's drawn weights are multiplied by.
        freeze: N: what is before the blocks and the first N blocks do not learn, their norms included; 0: all
            learns.
        lora: rank of adapters on the linear layers of attention and MLP; only they and the head learn then.
        seed: of the head's weights and the adapters'.

    Raises:
        UsageError: an unknown encoder, a number out of its range, or what this network cannot do.
        WeightsError: a file that is not whole, not safe or not of this encoder.

    Example:
        >>> started = network_for("panderm-base", weights="base.pth", classes=7)  # doctest: +SKIP
        >>> started.network(pixels).shape  # doctest: +SKIP
        torch.Size([2, 7])
    """
    _require_numbers(classes=classes, drop_path=drop_path, freeze=freeze)
    chosen = choose_card(encoder, weights, card, image_size)
    if pool is None:
        own = chosen.header.pool if chosen.header is not None else None
        pool = "mean" if chosen.card.layout == "panderm" else own
    loaded = load_encoder(encoder, weights=weights, card=card, pool=pool, image_size=image_size, device="cpu")
    part_tensors(loaded.network)
    known = chosen.card.model_copy(update={"dim": loaded.dim})
    network = ClassifierNetwork(loaded.network, loaded.dim, classes, init_scale=init_scale, seed=seed)
    words = prepare(
        network,
        known,
        drop_path=drop_path,
        drop_path_if_possible=drop_path_if_possible,
        freeze=freeze,
        lora=lora,
        seed=seed,
    )
    if loaded.record.random:
        words.insert(0, f"{loaded.name} begins from random weights")
    return Started(
        network=network,
        preprocess=loaded.preprocess,
        record=loaded.record,
        card=known,
        pool=pool,
        layers=layer_of(network),
        trainable=sum(one.numel() for one in network.parameters() if one.requires_grad),
        words=tuple(words),
    )


def prepare(
    network: ClassifierNetwork,
    card: EncoderCard,
    *,
    drop_path: float | None = None,
    drop_path_if_possible: bool = False,
    freeze: int = 0,
    lora: int | None = None,
    seed: int = 0,
) -> list[str]:
    """Say of each parameter whether it learns, and put in stochastic depth and adapters; return it in words.

    Args:
        network: all of it is changed in place.
        card: of its encoder.
        drop_path: as for :func:`network_for`, as are the others.
        drop_path_if_possible: likewise.
        freeze: blocks.
        lora: rank.
        seed: of adapters.

    Raises:
        UsageError: more blocks to freeze than there are, or what this network cannot do.
    """
    layers = layer_of(network)
    if freeze > layers.depth:
        raise UsageError(
            f"{card.name} must have the blocks that are to be frozen.",
            f"found --freeze {freeze}, and {layers.told}",
            f"--freeze {layers.depth} at most" if layers.depth else "leave --freeze out",
        )
    words = [f"{card.name} has {layers.told}"]
    frozen = freeze if freeze else -1  # the highest layer that does not learn
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(layers.ids[name] > frozen and parameter.is_floating_point())
    if card.layout == "panderm":
        network.encoder.get_parameter("pos_embed").requires_grad = False
    if freeze:
        words.append(f"frozen: all before the blocks, and the first {freeze} of {layers.told}")
    if drop_path:
        words.append(drop_paths(network.encoder, drop_path, card.name, needed=not drop_path_if_possible))
    if card.layout != "panderm" and not is_meta(network):
        words += leave_unreached(network, card.image_size)
    if lora is not None:
        words.append(_adapt(network, layers, card, freeze=freeze, rank=lora, seed=seed))
    return words


def _require_numbers(*, classes: int, drop_path: float | None, freeze: int) -> None:
    if classes < 1:
        raise UsageError("a classifier must have a class.", f"found {classes}")
    if drop_path is not None and not 0 <= drop_path < 1:
        raise UsageError(
            "drop path must be at least 0 and less than 1.", f"found {drop_path:g}", "--drop-path 0.2"
        )
    if freeze < 0:
        raise UsageError("blocks to freeze must be 0 or more.", f"found {freeze}")


def drop_paths(encoder: nn.Module, rate: float, name: str, *, needed: bool = True) -> str:
    """Put stochastic depth into every block, the deeper the likelier."""
    blocks: list[Any] = [one for one in encoder.modules() if any(_is_path(one, path) for path in _PATHS)]
    if not blocks and not needed:
        return f"{name} has no place for stochastic depth: none is used"
    if not blocks:
        raise UsageError(
            f"{name} has no place for stochastic depth.", f"found --drop-path {rate:g}", "leave it out"
        )
    for i, block in enumerate(blocks):
        own = rate * i / max(1, len(blocks) - 1)
        for path in _PATHS:
            if _is_path(block, path):
                setattr(block, path, DropPath(own) if own else nn.Identity())
    return f"stochastic depth from 0 in the first of {len(blocks)} blocks to {rate:g} in the last"


def _is_path(module: Any, name: str) -> bool:
    # timm's ResNet has None where nothing is dropped.
    if name not in module._modules and name not in module.__dict__:
        return False
    return isinstance(getattr(module, name), DropPath | nn.Identity | None)


def part_tensors(encoder: nn.Module) -> None:
    """Give each tensor numbers of its own: a step would move those that two share twice."""
    seen: set[int] = set()
    for parameter in encoder.parameters():
        place = parameter.untyped_storage().data_ptr()
        if place in seen:
            parameter.data = parameter.data.clone()
        seen.add(place)


def is_meta(network: nn.Module) -> bool:
    return any(one.device.type == "meta" for one in network.parameters())


def leave_unreached(network: nn.Module, image_size: int) -> list[str]:
    """Freeze what the logits do not depend on: several processes would wait for its gradient for ever."""
    network.eval()
    logits = network(torch.zeros(1, 3, image_size, image_size))
    reached: set[int] = set()
    seen: set[Any] = set()
    waiting: list[Any] = [logits.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            reached.add(id(node.variable))
        waiting += [following for following, _ in node.next_functions]
    left = [name for name, one in network.named_parameters() if one.requires_grad and id(one) not in reached]
    for name in left:
        network.get_parameter(name).requires_grad = False
    if not left:
        return []
    shown = ", ".join(name.removeprefix("encoder.") for name in left[:3])
    return [f"left as they are: {plural(len(left), 'tensor')} that no logit depends on: {shown}"]


def _adapt(
    network: ClassifierNetwork, layers: Layers, card: EncoderCard, *, freeze: int, rank: int, seed: int
) -> str:
    named = linear_layers(network.encoder, card.image_size)
    places = {name: layers.ids[f"encoder.{name}.weight"] for name in named}
    # Of a network without known layers all of it; else what is in its blocks.
    names = [name for name, i in places.items() if not layers.depth or freeze < i <= layers.depth]
    network.encoder.requires_grad_(requires_grad=False)
    add_lora(network.encoder, names, rank=rank, seed=seed)
    own = [one for name, one in network.named_parameters() if has_lora([name]) or ".lora_" in name]
    count = sum(one.numel() for one in own)
    told = f"LoRA of rank {rank} on {plural(len(names), 'linear layer')}: {count:,} numbers, and the head"
    if any(isinstance(module, nn.MultiheadAttention) for module in network.encoder.modules()):
        told += "; the attention is PyTorch's own, whose layers take no adapter"
    return told
