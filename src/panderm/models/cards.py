"""The known encoders as a table one can read; each carries its own preprocessing, quirks included."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from panderm.data.preprocess import Preprocess
from panderm.errors import UsageError
from panderm.provenance import Record
from panderm.weights.cache import Source

Pool = Literal["cls", "mean"]
Layout = Literal["panderm", "timm", "open_clip", "transformers"]
# Below this no network has a patch to look at.
SMALLEST = 14
PATCH = 16


class Fingerprint(Record):
    """What a network answers to a fixed drawing: enough to know it again.

    Attributes:
        pool: the form it was measured in, and ``image_size`` the side of the input.
        values: the first numbers of the vector of one image, float32; the image is standard normal noise
            (1, 3, S, S) drawn by PyTorch's CPU generator from seed 0.
        rms: root mean square of the whole vector: the scale of what may differ.
    """

    pool: str
    image_size: int
    values: tuple[float, ...] = Field(min_length=1)
    rms: float = Field(gt=0)


class EncoderCard(Record):
    """What is known of an encoder before its weights are opened.

    Attributes:
        name: as a user types it.
        architecture: in the field's words.
        layout: whose names the network's parameters have: ``panderm`` (the published ones, on timm's
            ``Beit``), ``timm``, ``open_clip`` (image towers) or ``transformers`` (vision models).
        network: the model's name in that library; of PanDerm's layout none is needed.
        config: that library's own configuration of the network, where a name does not say it all.
        dim: width of a vector; depth: blocks; heads: attention heads (absent where the library decides).
        parameters: how many, in the form of the linear probe, where known beforehand.
        image_size: side of the input in pixels.
        pool: how it pools where not asked otherwise; None is the library's own way.
        double_norm: the final norm is applied to all tokens and once more to their mean
            (DermLIP's PanDerm tower).
        preprocess: what its pixels must look like.
        random: the weights are drawn, not trained.
        licence, citation, source: of the weights.
        files: where they can be had, the weights first.
        sha256: of the weights file, where known: another file is refused.
        fingerprint: what the network answers; another answer is refused.
    """

    name: str = Field(min_length=1)
    architecture: str
    layout: Layout = "panderm"
    network: str | None = None
    config: dict[str, Any] | None = None
    dim: int | None = Field(default=None, gt=0)
    depth: int = Field(default=0, ge=0)
    heads: int = Field(default=0, ge=0)
    parameters: int | None = None
    image_size: int = Field(default=224, ge=SMALLEST)
    pool: Pool | None = None
    double_norm: bool = False
    preprocess: Preprocess
    random: bool = False
    licence: str
    citation: str
    source: str
    files: tuple[Source, ...] = ()
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    fingerprint: Fingerprint | None = None

    @model_validator(mode="after")
    def _whole(self) -> EncoderCard:
        if self.layout == "panderm":
            if not (self.dim and self.depth and self.heads):
                raise ValueError("layout panderm needs dim, depth and heads")
            if self.dim % self.heads or self.dim % 4:
                raise ValueError("dim must be a multiple of heads and of 4")
            if self.image_size % PATCH:
                raise ValueError(f"layout panderm needs an image_size that is a multiple of {PATCH}")
        elif self.network is None:
            raise ValueError(f"layout {self.layout} needs network, the model's name there")
        if self.preprocess.crop != self.image_size:
            raise ValueError("preprocess.crop must be image_size")
        return self

    @property
    def pixels(self) -> str:
        """How its pixels are made, in words."""
        made = self.preprocess
        size = (
            f"shorter side {made.resize}"
            if isinstance(made.resize, int)
            else "exactly {}×{}".format(*made.resize)
        )
        mean, std = (", ".join(f"{x:.4g}" for x in xs) for xs in (made.mean, made.std))
        return f"{size}, {made.interpolation}, centre {made.crop}; mean {mean}; std {std}"


def sized(card: EncoderCard, image_size: int | None) -> EncoderCard:
    """Return the card at another input size; resizing before the crop keeps its proportion.

    Raises:
        UsageError: a size the network cannot take.
    """
    if image_size is None or image_size == card.image_size:
        return card
    if image_size < SMALLEST:
        raise UsageError(
            f"images must be at least {SMALLEST} pixels wide.", f"found --image-size {image_size}"
        )
    if card.layout == "panderm" and (image_size % PATCH or image_size < 2 * PATCH):
        low = max(2, image_size // PATCH) * PATCH
        raise UsageError(
            f"{card.name} takes images whose side is a multiple of {PATCH} pixels, {2 * PATCH} or more.",
            f"found --image-size {image_size}",
            f"--image-size {low} or {low + PATCH}; it was trained at {card.image_size}",
        )
    old = card.preprocess
    ratio = image_size / old.crop
    resize = (
        round(old.resize * ratio)
        if isinstance(old.resize, int)
        else (round(old.resize[0] * ratio), round(old.resize[1] * ratio))
    )
    made = old.model_copy(update={"resize": resize, "crop": image_size})
    return card.model_copy(update={"image_size": image_size, "preprocess": made, "fingerprint": None})


def read_encoder_card(path: Path | str) -> EncoderCard:
    """Read a user's own card, JSON; ``panderm models show NAME --json`` prints one to start from.

    Raises:
        UsageError: no such file, no JSON, or a field that is missing, unknown or wrong.
    """
    file = Path(path).expanduser()
    must = "an encoder's card must be a JSON file with the fields of panderm models show."
    hint = "start from one that works: panderm models show panderm-base --json > my.json"
    try:
        text = file.read_bytes()
    except OSError as error:
        raise UsageError(must, f"{file}: {error.strerror}", hint) from None
    return card_from_json(text, file, must=must, hint=hint)


def card_from_json(text: bytes | str, where: Path, *, must: str, hint: str) -> EncoderCard:
    """Read a card from JSON; a field that is wrong is named.

    Raises:
        UsageError: with the given sentence and hint.
    """
    try:
        return EncoderCard.model_validate_json(text)
    except ValidationError as error:
        found = []
        for problem in error.errors()[:5]:
            field = ".".join(str(part) for part in problem["loc"])
            words = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "missing":
                words = "is missing"
            elif problem["type"] == "extra_forbidden":
                words = "is no field of a card"
            found.append(f"{where}: {field + ': ' if field else ''}{words}")
        raise UsageError(must, found, hint) from None


_PANDERM_PREPROCESS = Preprocess(
    resize=256,
    crop=224,
    interpolation="bilinear",
    mean=(0.485, 0.456, 0.406),
    std=(0.228, 0.224, 0.225),  # not .229: the published features were made with .228
)
_PANDERM_LICENCE = "CC BY-NC-ND 4.0 (non-commercial, no derivatives)"
_PANDERM_CITATION = (
    "Yan S. et al. A multimodal vision foundation model for clinical dermatology. "
    "Nature Medicine 31, 2691–2702 (2025). doi:10.1038/s41591-025-03747-y"
)
_DERM1M_LICENCE = "CC BY-NC 4.0 (non-commercial)"
_DERM1M_CITATION = (
    "Yan S. et al. Derm1M: a million-scale vision-language dataset aligned with clinical ontology knowledge "
    "for dermatology. ICCV 2025. arXiv:2503.14911"
)
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_CLIP_PREPROCESS = Preprocess(resize=224, crop=224, interpolation="bicubic", mean=_CLIP_MEAN, std=_CLIP_STD)
_CLIP_CITATION = (
    "Radford A. et al. Learning transferable visual models from natural language supervision. "
    "ICML 2021. arXiv:2103.00020"
)


def _hub(repository: str, file: str) -> tuple[Source, ...]:
    return (Source(kind="hub", where=repository, file=file),)


KNOWN: tuple[EncoderCard, ...] = (
    EncoderCard(
        name="panderm-large",
        architecture="ViT-L/16, fixed sine-cosine positions, layer scale",
        dim=1024,
        depth=24,
        heads=16,
        parameters=303_326_208,
        preprocess=_PANDERM_PREPROCESS,
        licence=_PANDERM_LICENCE,
        citation=_PANDERM_CITATION,
        source="panderm_ll_data6_checkpoint-499.pth, Google Drive 1SwEzaOlFV_gBKf2UzeowMC8z9UH7AQbE",
        files=(
            Source(
                kind="drive",
                where="1SwEzaOlFV_gBKf2UzeowMC8z9UH7AQbE",
                file="panderm_ll_data6_checkpoint-499.pth",
            ),
        ),
    ),
    EncoderCard(
        name="panderm-base",
        architecture="ViT-B/16, fixed sine-cosine positions, layer scale",
        dim=768,
        depth=12,
        heads=12,
        parameters=85_807_872,
        preprocess=_PANDERM_PREPROCESS,
        licence=_PANDERM_LICENCE,
        citation=_PANDERM_CITATION,
        source="panderm_bb_data6_checkpoint-499.pth, Google Drive 17J4MjsZu3gdBP6xAQi_NMDVvH65a00HB",
        files=(
            Source(
                kind="drive",
                where="17J4MjsZu3gdBP6xAQi_NMDVvH65a00HB",
                file="panderm_bb_data6_checkpoint-499.pth",
            ),
        ),
    ),
    EncoderCard(
        name="dermlip-panderm-base",
        architecture="ViT-B/16 in PanDerm's layout, tuned with captions; mean of patch tokens, normed twice",
        dim=768,
        depth=12,
        heads=12,
        parameters=85_807_872,
        pool="mean",
        double_norm=True,
        preprocess=_CLIP_PREPROCESS,
        licence=_DERM1M_LICENCE,
        citation=_DERM1M_CITATION,
        source="https://huggingface.co/redlessone/DermLIP_PanDerm-base-w-PubMed-256",
        files=_hub("redlessone/DermLIP_PanDerm-base-w-PubMed-256", "open_clip_pytorch_model.bin"),
    ),
    EncoderCard(
        name="dermlip-vit-base",
        architecture="ViT-B/16, the image tower of a CLIP model, before its projection",
        layout="open_clip",
        network="ViT-B-16",
        dim=768,
        depth=12,
        heads=12,
        parameters=85_799_424,
        preprocess=_CLIP_PREPROCESS,
        licence=_DERM1M_LICENCE,
        citation=_DERM1M_CITATION,
        source="https://huggingface.co/redlessone/DermLIP_ViT-B-16",
        files=_hub("redlessone/DermLIP_ViT-B-16", "open_clip_pytorch_model.bin"),
    ),
    EncoderCard(
        name="monet",
        architecture="ViT-L/14, the image tower of a CLIP model, before its projection",
        layout="transformers",
        network="clip_vision_model",
        config={
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 224,
            "patch_size": 14,
            "projection_dim": 768,
            "hidden_act": "quick_gelu",
        },
        dim=1024,
        depth=24,
        heads=16,
        parameters=303_179_776,
        preprocess=_CLIP_PREPROCESS,
        licence="CC BY-NC-SA 4.0 (non-commercial, share alike)",
        citation=(
            "Kim C. et al. Transparent medical image AI via an image-text foundation model grounded in "
            "medical literature. Nature Medicine 30, 1154–1165 (2024). doi:10.1038/s41591-024-02887-x"
        ),
        source="https://huggingface.co/suinleelab/monet",
        files=_hub("suinleelab/monet", "pytorch_model.bin"),
    ),
    EncoderCard(
        name="biomedclip",
        architecture="ViT-B/16, the image tower of a CLIP model, before its projection",
        layout="open_clip",
        network="custom",
        config={
            "embed_dim": 512,
            "vision_cfg": {
                "timm_model_name": "vit_base_patch16_224",
                "timm_model_pretrained": False,
                "timm_pool": "",
                "timm_proj": "linear",
                "image_size": 224,
            },
        },
        dim=768,
        depth=12,
        heads=12,
        parameters=85_798_656,
        preprocess=_CLIP_PREPROCESS,
        licence="MIT",
        citation=(
            "Zhang S. et al. BiomedCLIP: a multimodal biomedical foundation model pretrained from fifteen "
            "million scientific image-text pairs. arXiv:2303.00915"
        ),
        source="https://huggingface.co/microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        files=_hub("microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", "open_clip_pytorch_model.bin"),
    ),
    EncoderCard(
        name="medsiglip",
        architecture="SigLIP ViT-So400m/14 at 448 pixels, attention-pooled",
        layout="transformers",
        network="siglip_vision_model",
        config={
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 448,
            "patch_size": 14,
            "hidden_act": "gelu_pytorch_tanh",
        },
        dim=1152,
        depth=27,
        heads=16,
        parameters=428_565_440,
        image_size=448,
        preprocess=Preprocess(
            resize=(448, 448),
            crop=448,
            interpolation="bilinear",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
        licence="Health AI Developer Foundations terms of use (Google); to be accepted on its page",
        citation="Sellergren A. et al. MedGemma technical report. arXiv:2507.05201",
        source="https://huggingface.co/google/medsiglip-448",
        files=_hub("google/medsiglip-448", "model.safetensors"),
    ),
    EncoderCard(
        name="clip-large",
        architecture="ViT-L/14, the image tower of OpenAI's CLIP, before its projection",
        layout="open_clip",
        network="ViT-L-14-quickgelu",
        dim=1024,
        depth=24,
        heads=16,
        parameters=303_179_776,
        preprocess=_CLIP_PREPROCESS,
        licence="MIT",
        citation=_CLIP_CITATION,
        source="https://huggingface.co/timm/vit_large_patch14_clip_224.openai",
        files=_hub("timm/vit_large_patch14_clip_224.openai", "open_clip_model.safetensors"),
    ),
    EncoderCard(
        name="panderm-tiny",
        architecture="ViT-Ti/16 in PanDerm's layout, aligned with DINOv2 ViT-S/14 on 9,777 skin images",
        dim=192,
        depth=12,
        heads=3,
        parameters=5_526_720,
        preprocess=Preprocess(
            resize=256,
            crop=224,
            interpolation="bicubic",
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        licence="CC BY-NC 4.0 (non-commercial)",
        citation="PanDerm-Tiny, the encoder inside the open toolkit panderm",
        source="inside the package; how it was made: docs/panderm-tiny.md",
        sha256="dd04d5f504016cde0336407852ddf7bfe7ac0f494300b68bad69a1ec9e2d158c",
        fingerprint=Fingerprint(
            pool="cls",
            image_size=224,
            values=(
                -0.4002048,
                9.315721,
                -8.035538,
                4.048573,
                -2.287046,
                1.760398,
                0.1212874,
                -0.1653791,
            ),
            rms=1.001186,
        ),
    ),
    EncoderCard(
        name="random-tiny",
        architecture="ViT-Ti/16 in PanDerm's layout, weights drawn at random",
        dim=192,
        depth=12,
        heads=3,
        parameters=5_526_720,
        preprocess=_PANDERM_PREPROCESS,
        random=True,
        licence="Apache-2.0 (drawn by panderm)",
        citation="none: these weights are random numbers",
        source="drawn from a fixed seed when loaded",
    ),
)
