"""Masks without a single label: what an encoder's patch tokens say by themselves of where a lesion is.

A baseline for segmenters that are trained. Skin touches the border of a picture and a lesion seldom does: no
more than that is assumed.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt
import torch

from panderm.data.images import read_image
from panderm.data.stored import MAX_MEGAPIXELS, ImageError
from panderm.errors import UsageError, did_you_mean, plural
from panderm.models.encoder import Encoder
from panderm.models.load import load_encoder
from panderm.models.precision import PrecisionChoice
from panderm.progress import in_threads
from panderm.segmenting.network import segmentation_input
from panderm.segmenting.taps import Taps, taps_of

Floats = npt.NDArray[np.float32]
Image8 = npt.NDArray[np.uint8]
SaliencyMethod = Literal["border", "pca", "attention"]
METHODS: tuple[SaliencyMethod, ...] = get_args(SaliencyMethod)
# Chosen on 120 training images of HAM10000 (benchmarks/RESULTS.md): tokens of half, three quarters and all of
# the depth; border, which does nearly as well as pca on lesions of usual size and far better on small ones.
DEPTHS = (0.5, 0.75, 1.0)
FITTED = 32
_NEAREST = 0.25  # part of the border's tokens that a token is compared with
_AT_ONCE = 8
# Larger inputs were little better there: Jaccard 0.785 at 336 pixels after 0.778, for 2.5 times the work.
SIZE = 224


def border_of(height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return which places of a grid touch its edge, (height, width) bool."""
    edge = np.zeros((height, width), dtype=np.bool_)
    edge[[0, -1]] = True
    edge[:, [0, -1]] = True
    return edge


def unit_tokens(tokens: npt.ArrayLike) -> Floats:
    """Return tokens (…, D) of length 1; a token of zeros stays one."""
    given = np.asarray(tokens, dtype=np.float32)
    length = np.maximum(np.linalg.norm(given, axis=-1, keepdims=True), 1e-12)
    return np.asarray(given / length, dtype=np.float32)


def from_border(tokens: npt.ArrayLike) -> Floats:
    """Return tokens of length 1, less the mean of those at their image's border.

    Args:
        tokens: (n, h, w, D).

    Returns:
        float32 (n, h, w, D): 0 where a token is as the skin around is.
    """
    unit = unit_tokens(tokens)
    skin = unit[:, border_of(*unit.shape[1:3])].mean(axis=1)
    return np.asarray(unit - skin[:, None, None], dtype=np.float32)


def principal_axis(tokens: npt.ArrayLike) -> Floats:
    """Return the axis along which tokens differ most from the skin at their images' borders.

    The first principal component of :func:`from_border`, about 0 and not about the mean: 0 is skin. Its sign
    is chosen so that what lies inside the images comes out above what lies at their borders.

    Args:
        tokens: (n, h, w, D) of one block.

    Returns:
        float32 (D,) of length 1.
    """
    apart = from_border(tokens)
    flat = apart.reshape(-1, apart.shape[-1]).astype(np.float64)
    axis = np.linalg.eigh(flat.T @ flat)[1][:, -1].astype(np.float32)
    inner = ~border_of(*apart.shape[1:3])
    if inner.any() and float((apart[:, inner] @ axis).mean()) < float((apart[:, ~inner] @ axis).mean()):
        axis = -axis
    return np.asarray(axis, dtype=np.float32)


def unlike_border(tokens: npt.ArrayLike) -> Floats:
    """Return how unlike each token is to the skin, image by image.

    Args:
        tokens: (n, h, w, D) of one block.

    Returns:
        float32 (n, h, w): 1 less the mean cosine with the most similar quarter of the border's tokens.
    """
    unit = unit_tokens(tokens)
    n, height, width, dim = unit.shape
    edge = unit[:, border_of(height, width)]
    cosines = np.sort(unit.reshape(n, -1, dim) @ edge.transpose(0, 2, 1), axis=-1)
    nearest = cosines[..., -max(1, round(_NEAREST * edge.shape[1])) :].mean(axis=-1)
    return np.asarray((1 - nearest).reshape(n, height, width), dtype=np.float32)


def together(maps: Sequence[npt.ArrayLike]) -> Floats:
    """Return the mean of maps (n, h, w), each brought to mean 0 and standard deviation 1 image by image."""
    total: Any = 0.0
    for one in maps:
        given = np.asarray(one, dtype=np.float64)
        spread = given.std(axis=(1, 2), keepdims=True)
        total = total + (given - given.mean(axis=(1, 2), keepdims=True)) / np.maximum(spread, 1e-12)
    return np.asarray(total / len(maps), dtype=np.float32)


def as_probability(salience: npt.ArrayLike, size: int) -> Floats:
    """Return maps as numbers that are read like probabilities: 0.5 at Otsu's threshold of each map.

    Otsu N. A threshold selection method from gray-level histograms. IEEE Trans SMC 9, 1979: found on the grid
    of patches. Below it the numbers fall to 0 at the map's least value, above it they rise to 1. They are no
    calibrated probabilities.

    Args:
        salience: (n, h, w), greater where a lesion is likelier.
        size: S, side of what is returned.

    Returns:
        float32 (n, S, S) in [0, 1], bilinear between patches; 0 where a map is the same everywhere.
    """
    made = []
    for one in np.asarray(salience, dtype=np.float32):
        low, high = float(one.min()), float(one.max())
        if not high - low > 1e-6:
            made.append(np.zeros((size, size), dtype=np.float32))
            continue
        grey = np.round((one - low) / (high - low) * 255).astype(np.uint8)
        level, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_OTSU)
        cut = min(max((level + 0.5) / 255, 1e-3), 1 - 1e-3)
        large = cv2.resize((one - low) / (high - low), (size, size), interpolation=cv2.INTER_LINEAR)
        below, above = large / cut / 2, 0.5 + (large - cut) / (1 - cut) / 2
        made.append(np.clip(np.where(large < cut, below, above), 0, 1).astype(np.float32))
    return np.stack(made) if made else np.zeros((0, size, size), dtype=np.float32)


class Saliency:
    """An encoder's own answer, fitted to no label: made by :func:`load_saliency`.

    Attributes:
        encoder: whose tokens are looked at, its input of side ``size``.
        method: ``border``, ``pca`` or ``attention``.
        size: S, side of the square that an image is squashed to, pixels.
        blocks: numbers of the blocks whose tokens are looked at.
        axes_: by block, the axis that was found, float32 (D,); None without ``pca``.
        fitted_: how many images it was found on.
    """

    threshold = 0.5

    def __init__(self, encoder: Encoder, method: SaliencyMethod = "border") -> None:
        if method not in METHODS:
            raise UsageError(
                f"a saliency method must be one of {', '.join(METHODS)}{did_you_mean(str(method), METHODS)}",
                f"found {method!r}",
            )
        self.encoder = encoder
        self.method = method
        self.size = encoder.record.image_size
        self._input = segmentation_input(encoder.preprocess, self.size)
        self.axes_: tuple[Floats, ...] | None = None
        self.fitted_ = 0
        self._looked: str | None = None

    @functools.cached_property
    def _last(self) -> Taps:
        return taps_of(self.encoder.network, name=self.encoder.name, image_size=self.size, levels=1)

    @functools.cached_property
    def blocks(self) -> tuple[int, ...]:
        """Numbers of the blocks whose tokens are looked at."""
        last = self._last.blocks[0]
        if not self._last.plain:  # stages of a convolutional network: their maps differ in size
            return (last,)
        return tuple(dict.fromkeys(max(0, round(part * (last + 1)) - 1) for part in DEPTHS))

    @property
    def name(self) -> str:
        """What it is called."""
        return f"saliency of {self.encoder.name}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of it, a sentence each."""
        how = {
            "pca": "the axis along which patch tokens differ most from the border's, found on "
            f"{plural(self.fitted_, 'image')}",
            "border": "how unlike patch tokens are to those at the image's border",
            "attention": "what the class token attends to in the last block",
        }[self.method]
        return (
            f"no label was used: {how}; a baseline that always finds something, also where no lesion is, and "
            "not a segmenter; its numbers are no calibrated probabilities",
        )

    def told(self) -> dict[str, Any]:
        """Return all that decides a probability, as JSON."""
        record = self.encoder.record
        return {
            "encoder": record.name,
            "weights_sha256": record.weights_sha256,
            "precision": record.precision,
            "size": self.size,
            "method": self.method,
            "blocks": list(self.blocks),
            "images": self.fitted_,
            "images_sha256": self._looked,
        }

    def learn(
        self, paths: Sequence[Path | str], *, max_megapixels: float = MAX_MEGAPIXELS, progress: bool = True
    ) -> None:
        """Find the axis of ``pca`` on 32 of the images at most, evenly out of all; other methods need none.

        Args:
            paths: of all images.
            max_megapixels: larger images, and others that cannot be read, are passed over.
            progress: show progress on standard error.

        Raises:
            UsageError: an encoder without patch tokens, or no image that can be read.
        """
        if self.method != "pca":
            return
        places = np.unique(np.linspace(0, len(paths) - 1, min(FITTED, len(paths))).round().astype(int))

        def read(path: Path | str) -> Image8 | None:
            try:
                return self.pixels_of(read_image(path, max_megapixels=max_megapixels))
            except ImageError:
                return None  # told by whoever predicts it

        chosen = [paths[i] for i in places]
        looked = in_threads(read, chosen, "reading images", "images", workers=2, shown=progress)
        squares = [one for one in looked if one is not None]
        if not squares:
            raise UsageError("saliency must have an image to look at.", f"none of {len(chosen)} can be read")
        self._looked = hashlib.sha256(b"".join(one.tobytes() for one in squares)).hexdigest()
        self.fit([self.tokens(np.stack(squares[i : i + _AT_ONCE])) for i in range(0, len(squares), _AT_ONCE)])

    def fit(self, tokens: Sequence[Sequence[npt.ArrayLike]]) -> Saliency:
        """Find the axis of each block on tokens, as :meth:`tokens` returns them, some images at a time."""
        by_block = [np.concatenate([np.asarray(one) for one in part]) for part in zip(*tokens, strict=True)]
        self.axes_ = tuple(principal_axis(one) for one in by_block)
        self.fitted_ = len(by_block[0])
        return self

    def pixels_of(self, rgb: Image8) -> Image8:
        """Resize a whole image, uint8 RGB (H, W, 3), to the square, uint8 (S, S, 3); nothing is cut off."""
        return self._input.pixels(rgb)

    def tokens(self, rgb: Image8 | torch.Tensor) -> list[Floats]:
        """Return the tokens of each block of ``blocks``, float32 (B, h, w, D), of uint8 (B, S, S, 3)."""
        found = self.encoder.tokens(self._normalised(rgb), blocks=self.blocks, norm=self._last.norm)
        return [one.numpy() for one in found]

    def maps(self, tokens: Sequence[npt.ArrayLike]) -> Floats:
        """Return where a lesion is likelier, float32 (B, h, w), of the tokens of each block.

        Raises:
            UsageError: ``pca`` that has seen no images, or ``attention``, which is not in tokens.
        """
        if self.method == "border":
            return together([unlike_border(one) for one in tokens])
        if self.method != "pca" or self.axes_ is None:
            raise UsageError(
                "saliency must have looked at images before it answers.",
                f"method {self.method}, no axis found",
                "call learn(paths)",
            )
        return together([from_border(one) @ axis for one, axis in zip(tokens, self.axes_, strict=True)])

    def probabilities(self, rgb: Image8 | torch.Tensor) -> Floats:
        """Return what is read like P(lesion), float32 (B, S, S) in [0, 1], of uint8 (B, S, S, 3).

        Raises:
            UsageError: an encoder without patch tokens, or for ``attention`` without a class token.
        """
        if self.method == "attention":
            heads = self.encoder.attention(self._normalised(rgb))
            return as_probability(heads.mean(dim=1).numpy(), self.size)
        return as_probability(self.maps(self.tokens(rgb)), self.size)

    def _normalised(self, rgb: Image8 | torch.Tensor) -> torch.Tensor:
        given = rgb if isinstance(rgb, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(rgb))
        return self.encoder.preprocess.normalise(given)


def load_saliency(
    encoder: Encoder | Path | str,
    *,
    method: SaliencyMethod = "border",
    weights: Path | str | None = None,
    card: Path | str | None = None,
    image_size: int = SIZE,
    precision: PrecisionChoice = "fp32",
    device: str = "auto",
) -> Saliency:
    """Make a zero-label baseline of an encoder.

    ``border``: one less the mean cosine of a patch's token with the most similar quarter of those at the
    image's border. ``pca``: the first principal axis of patch tokens, each less the mean of its image's
    border, over some of the images that masks are asked for: it needs lesions that fill a good part of them,
    or it finds something else. Both of three blocks, at half, three quarters and all of the depth, each
    standardised, then averaged. ``attention``: what the class token attends to in the last block, mean of
    heads. Each map is cut at Otsu's threshold.

    Args:
        encoder: an encoder, or a name as :func:`panderm.load_encoder` takes it.
        method: ``border``, ``pca`` or ``attention``.
        weights: as of :func:`panderm.load_encoder`.
        card: likewise.
        image_size: side of the square that the whole image is resized to; an open encoder keeps its own.
        precision: likewise.
        device: likewise.

    Raises:
        UsageError: no such method or encoder, or one without patch tokens.
        WeightsError: a weights file that is not whole.

    Example:
        >>> baseline = load_saliency("panderm-tiny")  # doctest: +SKIP
        >>> panderm.predict_masks(baseline, "images/", "masks/")  # doctest: +SKIP
    """
    if not isinstance(encoder, Encoder):
        encoder = load_encoder(
            encoder, weights=weights, card=card, image_size=image_size, precision=precision, device=device
        )
    return Saliency(encoder, method)
