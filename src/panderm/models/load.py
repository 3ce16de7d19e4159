"""From a name and a weights file to an encoder, or a clear error: never a random network unasked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed

from panderm.embeddings import EncoderRecord, Precision
from panderm.errors import UsageError, WeightsError
from panderm.models.cards import KNOWN, EncoderCard, find_card
from panderm.models.checkpoint import Account, match, read_state, rename_published
from panderm.models.encoder import Encoder, pick_device
from panderm.models.network import Pool, build_network, draw_weights, pool_of, position_table
from panderm.storage import sha256_of_file

_RANDOM_SEED = 0
# The fixed table stored as float16 is off by 5e-4; another table is off by about 1.
_POSITION_TOLERANCE = 1e-3


def load_encoder(
    name: str,
    *,
    weights: Path | str | None = None,
    pool: Pool | None = None,
    image_size: int | None = None,
    precision: Precision = "fp32",
    device: str = "auto",
) -> Encoder:
    """Load an encoder from a local weights file; every tensor of the file is accounted for.

    Args:
        name: ``panderm-large``, ``panderm-base``, ``timm:NAME``, or ``random-tiny`` (no weights needed).
        weights: the file: the published ``.pth`` layouts, wrapped or not, or ``.safetensors``.
        pool: ``cls``, the linear-probe form (CLS token after the final norm; PanDerm's default), or
            ``mean``, the fine-tuning form (mean of patch tokens, then norm; relative-position tables).
            timm's encoders pool in their own way by default.
        image_size: side of the input in pixels, where the encoder lets one choose.
        precision: ``fp32``; ``bf16`` and ``fp16`` are faster where the hardware has them.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps`` …

    Raises:
        UsageError: unknown name, or weights neither given nor drawn.
        WeightsError: a file that is not whole, not safe, or not of this encoder.

    Example:
        >>> encoder = panderm.load_encoder(
        ...     "panderm-large", weights="panderm_ll_data6_checkpoint-499.pth"
        ... )  # doctest: +SKIP
        >>> encoder.dim  # doctest: +SKIP
        1024
    """
    card = find_card(name, image_size=image_size)
    if pool not in (None, "cls", "mean"):
        raise UsageError(f"pool must be cls or mean, not {pool!r}.")
    if precision not in ("fp32", "bf16", "fp16"):
        raise UsageError(f"precision must be fp32, bf16 or fp16, not {precision!r}.")
    where = pick_device(device)
    network = build_network(card, pool)
    expected = network.state_dict()
    account = Account()
    if card.random:
        if weights is not None:
            raise UsageError(
                f"{name} draws its weights at random: it takes no --weights.", f"found {weights}"
            )
        state = draw_weights({key: value.shape for key, value in expected.items()}, _RANDOM_SEED)
        account.used = len(state)
        account.notes.append(f"drawn at random from seed {_RANDOM_SEED}")
        file, digest = None, f"random, seed {_RANDOM_SEED}"
    else:
        if weights is None:
            raise UsageError(
                f"{name} needs its weights file.",
                f"its source: {card.source}; licence: {card.licence}",
                "download it and name it with --weights FILE",
            )
        path = Path(weights).expanduser()
        state = read_state(path, account)
        state = (
            _for_beit(state, card, expected, account, path)
            if card.timm_name is None
            else _for_timm(state, network, expected, account)
        )
        state = match(state, expected, account, path=path, name=name, hint=_hint(state, card))
        if card.timm_name is None:
            _require_fixed_positions(state["pos_embed"], path)
        file, digest = str(path.resolve()), sha256_of_file(path)
    network.load_state_dict(state, strict=True, assign=True)
    network.requires_grad_(requires_grad=False)
    record = EncoderRecord(
        name=name,
        architecture=card.architecture,
        # Some of timm's networks widen their features once more before the classifier.
        dim=card.dim or int(getattr(network, "head_hidden_size", None) or network.num_features),
        weights=file,
        weights_sha256=digest,
        account=str(account),
        random=card.random,
        pool=pool_of(network),
        precision=precision,
        image_size=card.image_size,
        preprocess=card.preprocess.model_dump(mode="json"),
        licence=card.licence,
        citation=card.citation,
        source=card.source,
    )
    return Encoder(network, card.preprocess, record, account, where)


def _for_beit(
    state: dict[str, torch.Tensor],
    card: EncoderCard,
    expected: dict[str, torch.Tensor],
    account: Account,
    path: Path,
) -> dict[str, torch.Tensor]:
    state = rename_published(state, account)
    tables = [key for key in expected if key.endswith("relative_position_bias_table")]
    fine_tuned = any(
        key.startswith("fc_norm.") or key.endswith("relative_position_bias_table") for key in state
    )
    if fine_tuned and not tables:
        raise WeightsError(
            "weights in the fine-tuning form must be loaded in that form.",
            f"{path} holds fc_norm or relative-position tables, which pool='cls' would leave out",
            f'panderm.load_encoder("{card.name}", weights=…, pool="mean"), or --pool mean',
        )
    state = _move_norm(state, expected, account)
    if tables and not any(key in state for key in tables):
        for key in tables:
            state[key] = torch.zeros(expected[key].shape)
        account.notes.append(f"{len(tables)} relative-position tables start at zero: the file has none")
    return state


def _for_timm(
    state: dict[str, torch.Tensor],
    network: Any,
    expected: dict[str, torch.Tensor],
    account: Account,
) -> dict[str, torch.Tensor]:
    classifier = _classifier(network)
    for key in [key for key in state if key.startswith(classifier) and key not in expected]:
        account.drop(key, "classifier")
        del state[key]
    state = _move_norm(state, expected, account)
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


def _move_norm(
    state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], account: Account
) -> dict[str, torch.Tensor]:
    """Use the final norm as ``fc_norm`` where patch tokens are averaged first."""
    if "fc_norm.weight" in expected and "norm.weight" not in expected and "fc_norm.weight" not in state:
        moved = {("fc_" + key if key.startswith("norm.") else key): value for key, value in state.items()}
        if moved.keys() != state.keys():
            account.notes.append("norm used as fc_norm")
        return moved
    return state


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


def _require_fixed_positions(table: torch.Tensor, path: Path) -> None:
    fixed = position_table(table.shape[-1], round((table.shape[1] - 1) ** 0.5))
    off = float((table - fixed).abs().max())
    if off > _POSITION_TOLERANCE:
        raise WeightsError(
            "the position table of PanDerm weights must be the fixed sine-cosine one.",
            f"{path}: pos_embed differs from it by up to {off:.3g}",
            "these weights are of another model, or their table was overwritten",
        )


def _hint(state: dict[str, torch.Tensor], card: EncoderCard) -> str:
    """Say which known encoder the file fits better, judged by its width and depth."""
    state = {key.removeprefix("encoder."): value for key, value in state.items()}
    token = state.get("cls_token", torch.empty(0))
    depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    published = [other for other in KNOWN if other.name != card.name and not other.random]
    for other in published if "blocks.0.gamma_1" in state else []:
        if (token.shape[-1:], depth) == ((other.dim,), other.depth):
            return f"this looks like a file of {other.name}: --encoder {other.name}"
    if card.timm_name is None and "blocks.0.attn.qkv.bias" in state:
        return "this looks like a timm or DINOv2 vision transformer: --encoder timm:NAME"
    if card.timm_name is not None and "blocks.0.gamma_1" in state and "blocks.0.attn.q_bias" in state:
        return "this looks like weights in PanDerm's layout: --encoder panderm-base or panderm-large"
    return f"give the weights file of {card.name}, or name the encoder it belongs to with --encoder"
