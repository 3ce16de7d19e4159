"""How far an exported file is from the encoder it was made of, measured on images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from panderm.data.drawn import CLASSES, TONES, draw_lesion
from panderm.data.images import ImageError, decode, read_bytes
from panderm.data.preprocess import Preprocess
from panderm.exported.card import EMBEDDING, INPUT, PROBABILITIES, Parity
from panderm.fitted import FittedProbe
from panderm.predictions import Predictions
from panderm.statistics.similarity import centred_cosines, cosines

IMAGES = 32
# Of fewer images the mean that centring takes away says little.
_FEWEST = 8
_BATCH = 8
RGB = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]


def parity_images(preprocess: Preprocess, predictions: Predictions | None) -> tuple[RGB, str]:
    """Return uint8 (n, S, S, 3) images as the graph takes them, and where they are from.

    Those of the predictions that are still what they were when they were embedded, 32 at most and spread
    over all rows; where fewer than 8 are, 32 drawn lesions.
    """
    kept: list[RGB] = []
    for rgb in _of_predictions(predictions) if predictions is not None else ():
        kept.append(resized(rgb, preprocess))
        if len(kept) == IMAGES:
            break
    if len(kept) >= _FEWEST:
        return np.stack(kept), "images of the predictions"
    drawn = [resized(_drawn(i), preprocess) for i in range(IMAGES)]
    return np.stack(drawn), "drawn lesions"


def _drawn(i: int) -> RGB:
    label, tone = CLASSES[i % len(CLASSES)], TONES[i % len(TONES)]
    return draw_lesion(np.random.default_rng(i), label=label, tone=tone, difficulty=1)[0]


def _of_predictions(predictions: Predictions) -> Iterator[RGB]:
    most = predictions.card.made_of("A check of an export").table.max_megapixels
    for i in np.random.default_rng(0).permutation(len(predictions)):
        try:
            content = read_bytes(predictions.path[i])
            if hashlib.sha256(content).hexdigest() == predictions.sha256[i]:
                yield decode(content, predictions.path[i], max_megapixels=most)
        except ImageError:
            continue


def resized(rgb: RGB, preprocess: Preprocess) -> RGB:
    """Return an image resized and cropped, neither scaled nor normalised: uint8 (S, S, 3)."""
    bare = preprocess.model_copy(update={"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)})
    return (bare(rgb) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def of_torch(network: torch.nn.Module, rgb: RGB, preprocess: Preprocess) -> Vectors:
    """Return a network's float32 embeddings (n, D) of resized images, on the CPU."""
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (preprocess.mean, preprocess.std))
    made = []
    with torch.inference_mode():
        for start in range(0, len(rgb), _BATCH):
            pixels = torch.from_numpy(rgb[start : start + _BATCH]).permute(0, 3, 1, 2).float().div(255)
            made.append(network((pixels - mean) / std).float().numpy())
    return np.concatenate(made)


def of_onnx(session: Any, rgb: RGB) -> dict[str, Vectors]:
    """Return what a session of ONNX Runtime gives, output by output."""
    names = [output.name for output in session.get_outputs()]
    parts = [session.run(names, {INPUT: rgb[i : i + _BATCH]}) for i in range(0, len(rgb), _BATCH)]
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}


def compare(reference: Vectors, made: dict[str, Vectors], probe: FittedProbe | None, images: str) -> Parity:
    """Compare embeddings of PyTorch (n, D) with a file's outputs, and what the probe says of both."""
    vectors = made[EMBEDDING]
    # Of a vector of zeros there is no cosine: 1 where both are the same, else 0.
    same = (reference == vectors).all(axis=1)
    plain, centred = (
        np.where(same, 1.0, np.nan_to_num(cosine(reference, vectors)))
        for cosine in (cosines, centred_cosines)
    )
    told: dict[str, Any] = {}
    if probe is not None:
        wanted, found = probe.probabilities(reference), made[PROBABILITIES]
        told["largest_probability_difference"] = float(np.abs(wanted - found).max())
        told["same_class"] = int((wanted.argmax(axis=1) == found.argmax(axis=1)).sum())
    return Parity(
        images=images,
        n=len(reference),
        largest_difference=float(np.abs(reference - vectors).max()),
        largest_number=float(np.abs(reference).max()),
        smallest_cosine=float(plain.min()),
        smallest_centred_cosine=float(centred.min()),
        mean_centred_cosine=float(centred.mean()),
        **told,
    )
