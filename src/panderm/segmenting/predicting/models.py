"""What masks are asked of, opened by its name: a segmenter, or what stands behind a prefix."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from panderm.data.stored import MAX_MEGAPIXELS
from panderm.errors import UsageError, some
from panderm.models.precision import PrecisionChoice
from panderm.segmenting.predicting.answers import Answers, Image8, Probability, PromptedAnswers
from panderm.segmenting.prompted.from_masks import PAD, prompts_of_masks
from panderm.segmenting.prompted.prompts import prompts_of, read_prompts
from panderm.segmenting.prompted.sam import load_prompted
from panderm.segmenting.saliency import METHODS, SIZE, SaliencyMethod, load_saliency
from panderm.segmenting.segmenter import Segmenter, load_segmenter
from panderm.storage import sha256_of_file

Anything = Answers | PromptedAnswers
_SCHEME = re.compile(r"(sam|saliency):(.*)", re.DOTALL)


class OfSegmenter:
    """A segmenter's answers."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self.name, self.size, self.threshold = segmenter.name, segmenter.size, segmenter.threshold
        self.notes: tuple[str, ...] = ()
        self._sha256 = sha256_of_file(segmenter.path)

    def told(self) -> dict[str, Any]:
        """Return its file, the file's hash, precision and kind of device."""
        return {
            "source": str(self._segmenter.path.resolve()),
            "sha256": self._sha256,
            "size": self.size,
            "precision": self._segmenter.precision,
            "device": self._segmenter.device.type,
        }

    def pixels_of(self, rgb: Image8) -> Image8:
        """Return an image as the square that the segmenter sees."""
        return self._segmenter.pixels_of(rgb)

    def probabilities(self, rgb: Image8) -> Probability:
        """Return P(lesion), float32 (B, S, S)."""
        return np.asarray(self._segmenter.probabilities(rgb), dtype=np.float32)


def open_answers(
    model: Path | str | Segmenter | Anything, *, precision: PrecisionChoice = "fp32", device: str = "auto"
) -> Anything:
    """Open what masks are asked of.

    Args:
        model: a segmenter's file, the folder of its run, a checkpoint of the published segmentation code;
            ``saliency:ENCODER``; or what is open already.
        precision: as of :func:`panderm.load_segmenter`.
        device: likewise.

    Raises:
        WeightsError: a segmenter that is not there, or not whole.
        UsageError: something else.
    """
    if isinstance(model, Segmenter):
        return OfSegmenter(model)
    if isinstance(model, str) and _SCHEME.match(model):
        named = open_named(model, precision=precision, device=device)
        assert not isinstance(named, str)
        return named
    if not isinstance(model, Path | str):
        if isinstance(model, Answers | PromptedAnswers):
            return model
        raise UsageError("masks must be asked of a segmenter.", f"found {type(model).__name__}")
    return OfSegmenter(load_segmenter(model, precision=precision, device=device))


def open_named(
    model: str,
    *,
    box: Sequence[str] | None = None,
    point: Sequence[str] | None = None,
    prompts: Path | str | None = None,
    refine: Path | str | None = None,
    pad: float | None = None,
    whole_image: bool = False,
    saliency: SaliencyMethod | None = None,
    weights: Path | str | None = None,
    card: Path | str | None = None,
    image_size: int | None = None,
    precision: PrecisionChoice = "fp32",
    device: str = "auto",
    max_megapixels: float = MAX_MEGAPIXELS,
    progress: bool = True,
) -> str | Anything:
    """Open a prompted model or a zero-label baseline by its name; any other name is returned as it is.

    Args:
        model: ``sam:FOLDER``, of a SAM that transformers saved; ``saliency:ENCODER``; or something else.
        box: of ``sam:``, each ``x0,y0,x1,y1``, for every image.
        point: each ``x,y`` or ``x,y,0``, for every image.
        prompts: a table of boxes and points by image, as of :func:`read_prompts`.
        refine: masks of a first segmenter, as of :func:`prompts_of_masks`.
        pad: room around their boxes, as a share of the longer side; by default 0.1.
        whole_image: an image without a prompt has the box around all of it.
        saliency: of ``saliency:``, the method, as of :func:`load_saliency`.
        weights: the encoder's file.
        card: JSON file of an encoder of your own.
        image_size: side of the square that the encoder sees.
        precision: what the network computes in.
        device: where it runs.
        max_megapixels: an image of more millions of pixels counts as bad.
        progress: show progress on standard error.

    Raises:
        UsageError: options that are not of this model, or no prompt.
    """
    of_sam: Mapping[str, object] = {
        "--box": box,
        "--point": point,
        "--prompts": prompts,
        "--refine": refine,
        "--pad": pad is not None,
        "--whole-image": whole_image,
    }
    of_saliency: Mapping[str, object] = {
        "--saliency": saliency,
        "--weights": weights,
        "--card": card,
        "--image-size": image_size,
    }
    parts = _SCHEME.fullmatch(model)
    kind, name = (parts[1], parts[2]) if parts else ("", model)
    for owner, options in (("sam", of_sam), ("saliency", of_saliency)):
        given = [option for option, value in options.items() if value]
        if given and kind != owner:
            form = {"sam": "sam:FOLDER", "saliency": "saliency:ENCODER"}[owner]
            raise UsageError(f"{some(given)} must come with {form}.", f"found the model {model}")
    if kind == "saliency":
        return load_saliency(
            name,
            method=saliency or METHODS[0],
            weights=weights,
            card=card,
            image_size=image_size or SIZE,
            precision=precision,
            device=device,
        )
    if kind != "sam":
        return model
    ways = [option for option in ("--prompts", "--refine") if of_sam[option]]
    ways += ["--box and --point"] if box or point else []
    if len(ways) > 1:
        raise UsageError("prompts must come from one place.", f"found {some(ways)}")
    if pad is not None and refine is None:
        raise UsageError("--pad must come with --refine, whose boxes it widens.", f"found --pad {pad:g}")
    if prompts is not None:
        found = read_prompts(prompts, whole_image=whole_image)
    elif refine is not None:
        found = prompts_of_masks(
            refine,
            pad=PAD if pad is None else pad,
            whole_image=whole_image,
            max_megapixels=max_megapixels,
            progress=progress,
        )
    else:
        found = prompts_of(boxes=box or (), points=point or (), whole_image=whole_image)
    return load_prompted(name, found, device=device, precision=precision, max_megapixels=max_megapixels)
