"""From a name and a weights file to an encoder, or a clear error: never a random network unasked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from panderm.embeddings import EncoderRecord, Engine
from panderm.errors import UsageError, WeightsError
from panderm.models import cards, fingerprint
from panderm.models.cards import EncoderCard, Pool, read_encoder_card, sized
from panderm.models.encoder import Encoder, pick_device
from panderm.models.families import Family, family_of
from panderm.models.header import Header, header_of, sha256_of_tensors
from panderm.models.names import find_card
from panderm.models.network import draw_weights, pool_of
from panderm.models.openvino_engine import OpenVINOEngine, require_openvino
from panderm.models.origins import marked, origins_of
from panderm.models.precision import PrecisionChoice, choose
from panderm.storage import sha256_of_file
from panderm.weights.account import Account, match, require_fit
from panderm.weights.cache import held, verify
from panderm.weights.checkpoint import SEGMENTER, read_header, read_state
from panderm.weights.packaged import packaged

_RANDOM_SEED = 0
# What the weights are called in a folder of the Hugging Face Hub, best first.
WEIGHTS_NAMES = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)
_ENDINGS = (".safetensors", ".pth", ".pt", ".bin")


def load_encoder(
    name: str | Path | None = None,
    *,
    weights: Path | str | None = None,
    card: Path | str | None = None,
    pool: Pool | None = None,
    image_size: int | None = None,
    precision: PrecisionChoice = "fp32",
    engine: Engine = "torch",
    device: str = "auto",
    compile: bool = False,  # noqa: A002 (torch's word)
) -> Encoder:
    """Load an encoder; every tensor of its weights file is accounted for, and it answers a self-test.

    Args:
        name: ``panderm-large``, ``panderm-base`` and the others that ``panderm models`` lists;
            ``timm:NAME``, ``hf-hub:ORG/NAME``, ``open_clip:ARCH[/TAG]``, ``transformers:ID``;
            ``random-tiny`` (no weights needed); or a file that ``panderm convert`` or ``pretrain``
            wrote, which knows what it is.
        weights: the file: the published ``.pth`` layouts, wrapped or not, fine-tuned or not, or
            ``.safetensors``; or a folder with a file and its configuration. By default what
            ``panderm models pull`` has brought.
        card: JSON file that describes an encoder of your own.
        pool: ``cls``, the linear-probe form (CLS token after the final norm; PanDerm's default), or
            ``mean``, the fine-tuning form (mean of patch tokens, then norm; relative-position tables).
            Other encoders pool in their own way by default.
        image_size: side of the input in pixels; of PanDerm any multiple of 16. Position tables are
            resampled.
        precision: ``fp32``; ``bf16`` and ``fp16`` are faster where the hardware has them; ``auto`` takes
            what the hardware has; ``int8`` is of the OpenVINO engine. Fewer bits are compared with fp32 on
            the first images, and not used where they change the vectors.
        engine: what runs the network: ``torch``, or ``openvino``, the fastest on a CPU (and the only one with
            ``int8``).
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps`` …
        compile: compile the network (``torch.compile``): seconds to a minute at first, then faster on a GPU.

    Raises:
        UsageError: unknown name, weights neither given nor downloaded nor drawn, a library not installed, or
            a precision or device that the engine does not have.
        WeightsError: a file that is not whole, not safe, not of this encoder, or not the one it was.

    Example:
        >>> encoder = panderm.load_encoder(
        ...     "panderm-large", weights="panderm_ll_data6_checkpoint-499.pth"
        ... )  # doctest: +SKIP
        >>> encoder.dim  # doctest: +SKIP
        1024
    """
    if pool not in (None, "cls", "mean"):
        raise UsageError(f"pool must be cls or mean, not {pool!r}.")
    chosen = choose_card(name, weights, card, image_size)
    where = pick_device("cpu" if engine == "openvino" and device == "auto" else device)
    tried = choose(precision, where, engine)
    if engine == "openvino":
        _require_cpu(where, compile=compile)
        require_openvino(tried)  # before a network is built
    described = chosen.card
    pool = pool or (chosen.header.pool if chosen.header is not None else None)
    family = family_of(described)
    path = _weights_of(chosen)  # before a network is built, which takes a while
    network = family.build(described, pool)
    if path is None:
        account = Account()
        state = draw_weights({k: value.shape for k, value in network.state_dict().items()}, _RANDOM_SEED)
        account.used = len(state)
        account.notes.append(f"drawn at random from seed {_RANDOM_SEED}")
        file, digest = None, f"random, seed {_RANDOM_SEED}"
    else:
        state, account = read_weights(path, network, described, family, chosen.header)
        file, digest = str(path.resolve()), sha256_of_file(path)
        _require_hash(described, digest, path)
    network.load_state_dict(state, strict=True, assign=True)
    network.requires_grad_(requires_grad=False)
    record = EncoderRecord(
        name=described.name,
        architecture=described.architecture,
        # Some of timm's networks widen their features once more before the classifier.
        dim=described.dim or int(getattr(network, "head_hidden_size", None) or network.num_features),
        weights=file,
        weights_sha256=digest,
        account=str(account),
        random=described.random,
        pool=pool_of(network),
        precision=tried,
        image_size=described.image_size,
        preprocess=described.preprocess.model_dump(mode="json"),
        licence=described.licence,
        citation=described.citation,
        source=described.source,
        engine=engine,
    )
    network.eval()
    encoder = Encoder(
        network,
        described.preprocess,
        record,
        account,
        where,
        compile=compile,
        fall_back=precision == "auto",
        engine=OpenVINOEngine(network, described.preprocess, record) if engine == "openvino" else None,
    )
    if not described.random:
        self_test(encoder, described)
    return encoder


def _require_cpu(where: torch.device, *, compile: bool) -> None:  # noqa: A002 (torch's word)
    if where.type != "cpu" or compile:
        raise UsageError(
            "the OpenVINO engine runs on the CPU, and compiles by itself.",
            f"found device {where}{' and compile' if compile else ''}",
            "leave out --device and --compile, or --engine",
        )


@dataclass(frozen=True)
class Chosen:
    """What is to be loaded: a card, its weights file (None: drawn), and what the file says of itself."""

    card: EncoderCard
    path: Path | None
    header: Header | None


def choose_card(
    encoder: str | Path | None, weights: Path | str | None, card: Path | str | None, image_size: int | None
) -> Chosen:
    """Find the card of what is asked for, before any weights are read; arguments as of ``load_encoder``."""
    name = None if encoder is None else str(encoder)
    if name is not None and is_file_name(name):
        if weights is not None:
            raise UsageError("weights must be named once.", [f"found {name}", f"and --weights {weights}"])
        name, weights = None, name
    path = None if weights is None else Path(weights).expanduser()
    folder = path if path is not None and path.is_dir() else None
    if folder is not None:
        path = weights_in(folder)
    if card is not None:
        own = read_encoder_card(card)
        if name not in (None, "", own.name):
            raise UsageError(
                "--encoder must be the card's own name, or be left out.", f"{name}; {card}: {own.name}"
            )
        chosen = Chosen(sized(own, image_size), path, None)
    else:
        header = header_of(path) if path is not None and path.is_file() else None
        if header is not None and name in (None, "", header.card.name):
            chosen = Chosen(sized(header.card, image_size), path, header)
        elif header is not None:
            raise WeightsError(
                f"every tensor of a weights file must fit {name}.",
                f"{path} says that it is {header.card.name}",
                f"--encoder {header.card.name}, or leave --encoder out",
            )
        elif not name:
            raise _no_name(path)
        else:
            chosen = Chosen(find_card(name, image_size=image_size, folder=folder), path, None)
    return chosen


def is_file_name(name: str) -> bool:
    """Say whether an encoder's name is that of a file."""
    return name.endswith(_ENDINGS) or ((":" not in name or "\\" in name) and Path(name).is_file())


def _no_name(path: Path | None) -> Exception:
    if path is None:
        return UsageError(
            "an encoder must be named.", hint="for example --encoder panderm-large; panderm models lists them"
        )
    if not path.exists():
        return WeightsError("the weights file must exist.", f"found no file {path}", "correct --weights")
    if SEGMENTER in read_header(path):
        return UsageError(
            "a segmenter's file must hold an encoder of panderm's to be used as one.",
            f"{path} is a U-Net's",
            "panderm segment predict opens it",
        )
    return UsageError(
        "a weights file without a name must say what it is.",
        f"{path} has no panderm card in its header",
        f"name its encoder with --encoder; panderm models check {path} says which it fits",
    )


def weights_in(folder: Path) -> Path:
    """Return the weights file of a folder.

    Raises:
        UsageError: none, or more than one and none by a usual name.
    """
    for usual in WEIGHTS_NAMES:
        if (folder / usual).is_file():
            return folder / usual
    others = sorted(file for file in folder.iterdir() if file.suffix in _ENDINGS)
    if len(others) == 1:
        return others[0]
    raise UsageError(
        "a folder of weights must hold one weights file.",
        f"{folder} holds {', '.join(file.name for file in others[:5]) or 'none'}",
        "name the file itself with --weights",
    )


def _weights_of(chosen: Chosen) -> Path | None:
    """Return the file to read: by default what is in the package or was downloaded; None: drawn."""
    card = chosen.card
    if card.random and chosen.path is not None:
        raise UsageError(
            f"{card.name} draws its weights at random: it takes no --weights.", f"found {chosen.path}"
        )
    if card.random or chosen.path is not None:
        return chosen.path
    inside = packaged(card.name)
    if inside is not None:
        return inside
    found = held(card.name)
    if found is None:
        raise UsageError(
            f"{card.name} needs its weights file.",
            f"its source: {card.source}; licence: {card.licence}",
            f"panderm models pull {card.name}, or download it and name it with --weights FILE",
        )
    verify(found)
    return found.path


def _require_hash(card: EncoderCard, digest: str, path: Path) -> None:
    if card.sha256 is not None and card.sha256 != digest:
        raise WeightsError(
            f"the weights file of {card.name} must be the one on its card.",
            [f"the card says sha256 {card.sha256[:16]}…", f"{path} has {digest[:16]}…"],
            "get the file that was meant, or correct the card",
        )


def read_weights(
    path: Path, network: Any, card: EncoderCard, family: Family, header: Header | None = None
) -> tuple[dict[str, torch.Tensor], Account]:
    """Read a file's tensors for a network: first whether they fit, then their numbers.

    Returns:
        One float32 tensor for each name of the network, and the account of the file.

    Raises:
        WeightsError: a file that does not fit, or has changed since its card was written.
    """
    expected = network.state_dict()
    outline = read_state(path, Account(), data=False)
    hint = hint_for(outline, card)
    outline = family.adapt(marked(outline), network, card, Account(), path)
    require_fit(outline, expected, path=path, name=card.name, hint=hint)
    account = Account(names={key: origins_of(value) for key, value in outline.items()})
    raw = read_state(path, account)
    if header is not None and sha256_of_tensors(raw) != header.tensors_sha256:
        raise WeightsError(
            "a converted weights file must hold the tensors that were written to it.",
            f"{path}: their sha256 is not the {header.tensors_sha256[:16]}… of its card",
            f"convert it again from {header.source_name}",
        )
    state = family.adapt(raw, network, card, account, path)
    del raw
    return match(state, expected, account, path=path, name=card.name, hint=hint), account


def self_test(encoder: Encoder, card: EncoderCard) -> bool:
    """Compare the network's answer with its card's and with what this file answered before.

    Returns:
        Whether there was anything to compare with.

    Raises:
        WeightsError: it answers otherwise.
    """
    found = fingerprint.measure(encoder)
    known = card.fingerprint is not None and fingerprint.require_same(
        found, card.fingerprint, name=card.name, whose="its card says"
    )
    before = fingerprint.recognise(found, name=card.name, sha256=encoder.record.weights_sha256)
    return known or before


def hint_for(state: dict[str, torch.Tensor], card: EncoderCard) -> str:
    """Say which known encoder the file fits better, judged by its width and depth."""
    state = {key.removeprefix("encoder."): value for key, value in state.items()}
    token = state.get("cls_token", torch.empty(0))
    depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    published = [other for other in cards.KNOWN if other.name != card.name and not other.random]
    for other in published if "blocks.0.gamma_1" in state else []:
        if (token.shape[-1:], depth) == ((other.dim,), other.depth):
            return f"this looks like a file of {other.name}: --encoder {other.name}"
    if card.layout == "panderm" and "blocks.0.attn.qkv.bias" in state:
        return "this looks like a timm or DINOv2 vision transformer: --encoder timm:NAME"
    if card.layout == "timm" and "blocks.0.gamma_1" in state and "blocks.0.attn.q_bias" in state:
        return "this looks like weights in PanDerm's layout: --encoder panderm-base or panderm-large"
    return f"give the weights file of {card.name}, or name the encoder it belongs to with --encoder"
