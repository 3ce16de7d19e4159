"""timm's encoders: their cards, their networks, their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import resolve_data_config
from timm.layers import resample_abs_pos_embed

from panderm.data.preprocess import Preprocess
from panderm.errors import UsageError, did_you_mean
from panderm.models.cards import SMALLEST, EncoderCard, Pool
from panderm.models.network import TIMM_POOL, emptied, move_norm
from panderm.weights.account import Account
from panderm.weights.cache import Source


def in_timm(name: str) -> bool:
    """Say whether timm has an architecture of this name."""
    return name.split(".")[0] in timm.list_models()


def timm_card(name: str, image_size: int | None = None) -> EncoderCard:
    """Return the card of ``timm:NAME``: what timm's configuration says of it.

    Raises:
        UsageError: timm has no such encoder, or it takes pixels as panderm cannot make them.
    """
    timm_name = name.removeprefix("timm:")
    try:
        config = timm.get_pretrained_cfg(timm_name) if in_timm(timm_name) else None
    except RuntimeError:  # timm has the architecture, but not this tag of pretrained weights
        config = None
    if config is None:
        near = did_you_mean(timm_name, timm.list_models())
        raise UsageError(
            f"encoder {name!r} must be one that timm {timm.__version__} has{near}",
            hint="python -c \"import timm; print(timm.list_models('*small*'))\" lists them",
        )
    return card_of_config(name, timm_name, config.to_dict(), image_size)


def card_of_config(
    name: str,
    network: str,
    config: dict[str, Any],
    image_size: int | None,
    options: dict[str, Any] | None = None,
) -> EncoderCard:
    """Return the card that timm's configuration of pretrained weights describes.

    Args:
        name: as a user types it.
        network: timm's architecture.
        config: timm's ``pretrained_cfg`` as a dict.
        image_size: another input size in pixels, or None.
        options: further arguments of timm's model.
    """
    data = resolve_data_config(pretrained_cfg=config)
    size = int(data["input_size"][-1]) if image_size is None else image_size
    if size < SMALLEST:
        raise UsageError(f"images must be at least {SMALLEST} pixels wide.", f"found --image-size {size}")
    if len(set(data["input_size"][1:])) > 1:
        raise UsageError(
            f"{name} takes images that are not square, which panderm cannot: choose another encoder."
        )
    if data["crop_mode"] == "border":
        raise UsageError(f"{name} pads images to a square, which panderm cannot: choose another encoder.")
    where = str(config.get("origin_url") or config.get("hf_hub_id") or config.get("url") or "timm")
    hub = str(config.get("hf_hub_id") or "")
    files: tuple[Source, ...] = ()
    if "/" in hub:
        file = str(config.get("hf_hub_filename") or "model.safetensors")
        files = (Source(kind="hub", where=hub, file=file),)
    elif config.get("url"):
        url = str(config["url"])
        files = (Source(kind="url", where=url, file=Path(url).name),)
    return EncoderCard(
        name=name,
        architecture=f"{network} as timm builds it",
        layout="timm",
        network=network,
        config=options or None,
        image_size=size,
        preprocess=timm_preprocess(data, size),
        licence=str(config.get("license") or "not stated by timm"),
        citation=str(config.get("paper_name") or config.get("paper_ids") or f"see {where}"),
        source=where,
        files=files,
    )


def timm_preprocess(config: dict[str, Any], size: int) -> Preprocess:
    """Return timm's evaluation transform, from its data configuration, at one input size."""
    scaled = int(size / config["crop_pct"])
    squash = config["crop_mode"] == "squash"
    return Preprocess(
        resize=(scaled, scaled) if squash else scaled,
        crop=size,
        interpolation=config["interpolation"],
        mean=config["mean"],
        std=config["std"],
    )


def build(card: EncoderCard, pool: Pool | None) -> Any:
    """Build timm's network of a card, without a classifier and without weights.

    Raises:
        UsageError: this network cannot pool that way or take that input size.
    """
    pool = pool or card.pool
    options: dict[str, Any] = dict(card.config or {})
    if pool is not None:
        options["global_pool"] = TIMM_POOL[pool]
    name, size = card.network or "", card.image_size
    try:
        # timm draws weights, which the file's will replace: not from the caller's random numbers.
        with torch.random.fork_rng(devices=[]):
            try:
                network = timm.create_model(name, pretrained=False, num_classes=0, img_size=size, **options)
            except TypeError:
                # Convolutional networks have no position table, hence no img_size: any size will do.
                network = timm.create_model(name, pretrained=False, num_classes=0, **options)
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{card.name} must be able to take {size} pixels and pool {pool or 'its own way'}.",
            str(error) or type(error).__name__,
            "choose another --image-size, or leave --image-size and --pool out",
        ) from None
    return emptied(network)


def adapt(
    state: dict[str, torch.Tensor],
    network: Any,
    card: EncoderCard,  # noqa: ARG001 (one signature for all layouts)
    account: Account,
    path: Path,  # noqa: ARG001
) -> dict[str, torch.Tensor]:
    """Leave out the classifier, and resize the position table to the network's input size."""
    expected = network.state_dict()
    classifier = _classifier(network)
    for key in [key for key in state if key.startswith(classifier) and key not in expected]:
        account.drop(key, "classifier")
        del state[key]
    state = move_norm(state, expected, account)
    have, want = state.get("pos_embed"), expected.get("pos_embed")
    if have is not None and want is not None and have.ndim == 3 and have.shape[-1] == want.shape[-1]:
        state["pos_embed"] = _resize_positions(have, want, network, account)
    return state


def _classifier(network: Any) -> tuple[str, ...]:
    """Return how the names of timm's classifier begin; of the whole head, where it went with its norm."""
    classifier = getattr(network, "pretrained_cfg", {}).get("classifier") or "head"
    modules = dict(network.named_modules())
    starts = []
    for name in (classifier,) if isinstance(classifier, str) else classifier:
        head = name.rpartition(".")[0]
        starts.append(f"{head if isinstance(modules.get(head), torch.nn.Identity) else name}.")
    return tuple(starts)


def _resize_positions(have: torch.Tensor, want: torch.Tensor, network: Any, account: Account) -> torch.Tensor:
    """Resize a position table to the input size: bicubic without antialias, as DINOv2 does."""
    if have.shape == want.shape:
        return have
    prefix = 0 if getattr(network, "no_embed_class", False) else int(getattr(network, "num_prefix_tokens", 1))
    old = round(max(0, have.shape[1] - prefix) ** 0.5)
    grid = list(network.patch_embed.grid_size)
    if old * old + prefix != have.shape[1]:
        return have
    account.notes.append(f"position table resized from {old}×{old} to {grid[0]}×{grid[1]}, bicubic")
    resized = resample_abs_pos_embed(have.float(), grid, [old, old], prefix, antialias=False)
    return torch.as_tensor(resized)
