"""From a ``preprocessor_config.json`` of transformers to the pixels an encoder wants, or a plain refusal."""

from __future__ import annotations

from typing import Any

from panderm.data.preprocess import Interpolation, Preprocess
from panderm.errors import UsageError, some

_PILLOW: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
# Steps that panderm makes itself, or that change nothing in an RGB photograph without a segmentation.
_HARMLESS = {
    "do_resize",
    "do_center_crop",
    "do_rescale",
    "do_normalize",
    "do_convert_rgb",
    "do_reduce_labels",
    "do_normalise",
}
# Kinds of image processors that read a single number as the shorter side; others as both.
_SHORTER = ("CLIP", "Bit", "ConvNext", "Levit")
# Kinds that cut the centre where the file does not say.
_CUTTING = ("CLIP", "Bit", "DeiT", "Levit")


def preprocess_of(name: str, pixels: dict[str, Any]) -> Preprocess:
    """Return the pixels that a ``preprocessor_config.json`` describes.

    Args:
        name: of the encoder, for messages.
        pixels: the file's content.

    Raises:
        UsageError: a setting is missing that must be known, or a step panderm does not have.
    """
    kind = str(pixels.get("image_processor_type") or pixels.get("feature_extractor_type") or "")
    odd = [key for key, value in pixels.items() if key.startswith("do_") and value and key not in _HARMLESS]
    odd += [key for key in ("rescale_offset", "pad_size") if pixels.get(key)]
    odd += [key for key in ("do_resize", "do_rescale") if pixels.get(key) is False]
    factor = pixels.get("rescale_factor", 1 / 255)
    if not isinstance(factor, (int, float)) or abs(float(factor) * 255 - 1) > 1e-6:
        odd.append(f"rescale_factor {factor}")
    if odd:
        raise UsageError(
            f"the pixels of {name} must be made by resizing, cutting the centre and normalising.",
            f"its preprocessor_config.json also asks for {some(odd)}",
            "choose another encoder",
        )
    normalised = pixels.get("do_normalize", True)
    needed = ["size", "resample", *(["image_mean", "image_std"] if normalised else [])]
    missing = [key for key in needed if pixels.get(key) is None]
    if missing:
        raise UsageError(
            f"how {name} wants its pixels must be known.",
            f"its preprocessor_config.json does not say {some(missing)}",
            "describe the encoder on a card of your own: --card my.json",
        )
    if pixels["resample"] not in _PILLOW:
        raise UsageError(
            f"the images of {name} must be resized by {', '.join(_PILLOW.values())}.",
            f"its preprocessor_config.json names Pillow's filter {pixels['resample']!r}",
        )
    resize, crop = _sizes(name, kind, pixels)
    try:
        mean = _three(pixels["image_mean"]) if normalised else (0.0, 0.0, 0.0)
        std = _three(pixels["image_std"]) if normalised else (1.0, 1.0, 1.0)
    except (TypeError, ValueError):
        raise UsageError(
            f"the mean and the standard deviation of {name} must be three numbers each.",
            f"its preprocessor_config.json has {pixels['image_mean']} and {pixels['image_std']}",
        ) from None
    return Preprocess(resize=resize, crop=crop, interpolation=_PILLOW[pixels["resample"]], mean=mean, std=std)


def _three(values: Any) -> tuple[float, float, float]:
    r, g, b = values if isinstance(values, (list, tuple)) else [values] * 3
    return float(r), float(g), float(b)


def _sizes(name: str, kind: str, pixels: dict[str, Any]) -> tuple[int | tuple[int, int], int]:
    """Return what to resize to, and the side of the square to cut."""
    size = pixels["size"]
    if isinstance(size, (list, tuple)) and len(size) == 2:
        size = {"height": size[0], "width": size[1]}
    if isinstance(size, int):
        size = {"shortest_edge": size} if kind.startswith(_SHORTER) else {"height": size, "width": size}
    if not isinstance(size, dict) or not _whole(size):
        raise _unclear(name, pixels)
    if kind.startswith("ConvNext") and set(size) == {"shortest_edge"}:
        side = int(size["shortest_edge"])
        if side >= 384:  # as that image processor does
            return (side, side), side
        return int(side / float(pixels.get("crop_pct") or 224 / 256)), side
    crop = None
    if pixels.get("do_center_crop", kind.startswith(_CUTTING)):
        crop = _square(name, pixels, pixels.get("crop_size"))
    if set(size) == {"shortest_edge"}:
        shorter = int(size["shortest_edge"])
        if crop is None:
            raise UsageError(
                f"the images of {name} must become squares.",
                "its preprocessor_config.json resizes the shorter side and cuts nothing",
                "choose another encoder, or describe it on a card of your own: --card my.json",
            )
        made: int | tuple[int, int] = shorter
    elif set(size) == {"height", "width"}:
        made = (int(size["height"]), int(size["width"]))
        shorter = min(made)
        if crop is None:
            crop = _square(name, pixels, size)
    else:
        raise _unclear(name, pixels)
    if crop > shorter:
        raise UsageError(
            f"{name} pads images, which panderm cannot: choose another encoder.",
            f"its preprocessor_config.json cuts {crop} pixels out of {shorter}",
        )
    return made, crop


def _square(name: str, pixels: dict[str, Any], size: Any) -> int:
    if isinstance(size, int) and size > 0:
        return size
    if isinstance(size, dict) and set(size) == {"height", "width"} and _whole(size):
        if size["height"] == size["width"]:
            return int(size["height"])
        raise UsageError(
            f"{name} takes images that are not square, which panderm cannot: choose another encoder."
        )
    raise _unclear(name, pixels)


def _whole(size: dict[str, Any]) -> bool:
    return bool(size) and all(isinstance(value, int) and value > 0 for value in size.values())


def _unclear(name: str, pixels: dict[str, Any]) -> UsageError:
    return UsageError(
        f"the size of the images of {name} must be known.",
        f"its preprocessor_config.json has size {pixels.get('size')} and crop_size {pixels.get('crop_size')}",
        "describe the encoder on a card of your own: --card my.json",
    )
