"""Models of the SAM family with drawn weights, as small as they go, saved as transformers saves them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers as tf

SIDE = 64
_PROMPTS = {"hidden_size": 16, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4}
_DECODER = {"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    log = tf.utils.logging
    level, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    yield
    log.set_verbosity(level)
    if bar:
        log.enable_progress_bar()


def drawn(network: Any) -> Any:
    """Numbers that are large enough for masks that differ from place to place."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return network.eval()


def save_first(folder: Path, kind: str) -> None:
    """SAM or SAM-HQ."""
    start = {"sam": "Sam", "sam_hq": "SamHQ"}[kind]

    def of(name: str) -> Any:
        return getattr(tf, start + name)

    vision = of("VisionConfig")(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_dim=64,
        image_size=SIDE,
        output_channels=16,
        window_size=2,
        global_attn_indexes=[1],
        num_pos_feats=8,
    )
    more = {"vit_dim": 32} if kind == "sam_hq" else {}
    config = of("Config")(
        vision_config=vision,
        prompt_encoder_config=of("PromptEncoderConfig")(**_PROMPTS),
        mask_decoder_config=of("MaskDecoderConfig")(**_DECODER, **more),
    )
    drawn(of("Model")(config)).save_pretrained(folder)
    pixels = tf.SamImageProcessor(size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE})
    of("Processor")(pixels).save_pretrained(folder)


def save_second(folder: Path, kind: str) -> None:
    """SAM 2, for images or for video."""
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [SIDE, SIDE],
        "window_positional_embedding_background_size": [2, 2],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [4, 4, 4, 2],
        "global_attention_blocks": [3],
    }
    vision = tf.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=16,
    )
    network: Any
    if kind == "sam2_video":
        config = tf.Sam2VideoConfig(
            vision_config=vision,
            prompt_encoder_config=_PROMPTS,
            mask_decoder_config=_DECODER,
            image_size=SIDE,
            memory_attention_hidden_size=16,
            memory_attention_feed_forward_hidden_size=16,
            memory_attention_num_layers=1,
            memory_encoder_hidden_size=16,
            memory_encoder_output_channels=8,
            memory_fuser_embed_dim=16,
            memory_fuser_intermediate_dim=16,
            mask_downsampler_embed_dim=16,
        )
        network = tf.Sam2VideoModel(config)
    else:
        network = tf.Sam2Model(
            tf.Sam2Config(
                vision_config=vision,
                prompt_encoder_config=tf.Sam2PromptEncoderConfig(**_PROMPTS),
                mask_decoder_config=tf.Sam2MaskDecoderConfig(**_DECODER),
            )
        )
    drawn(network).save_pretrained(folder)
    square = {"height": SIDE, "width": SIDE}
    pixels = tf.Sam2ImageProcessor(size=square, mask_size={"height": 16, "width": 16})
    tf.Sam2Processor(pixels).save_pretrained(folder)


KINDS = {"sam": save_first, "sam_hq": save_first, "sam2": save_second, "sam2_video": save_second}


def saved(folder: Path, kind: str) -> Path:
    with hushed():
        KINDS[kind](folder, kind)
    return folder
