"""Segment Anything and its kin: a box or points in, the mask that the model itself trusts most out."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from panderm.data.images import inspect_all
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.embeddings import Precision
from panderm.errors import DataError, UsageError, WeightsError, did_you_mean, plural, some
from panderm.models.device import pick_device
from panderm.models.families import require
from panderm.models.precision import PrecisionChoice, autocast, choose
from panderm.segmenting.prompted.prompts import Prompt, Prompts
from panderm.storage import sha256_of_file, sha256_of_json

# What a config.json calls each model: the library's network, and what makes its pixels and coordinates. The
# networks for video hold the one for single images, under the same names.
FAMILY = {
    "sam": ("SamModel", "SamProcessor"),
    "sam_hq": ("SamHQModel", "SamHQProcessor"),
    "sam2": ("Sam2Model", "Sam2Processor"),
    "sam2_video": ("Sam2Model", "Sam2Processor"),
    "edgetam": ("EdgeTamModel", "Sam2Processor"),
    "edgetam_video": ("EdgeTamModel", "Sam2Processor"),
    "sam3_tracker": ("Sam3TrackerModel", "Sam3TrackerProcessor"),
    "sam3_video": ("Sam3TrackerModel", "Sam3TrackerProcessor"),
}
_PIXELS = ("preprocessor_config.json", "processor_config.json")


class PromptedSegmenter:
    """A model of the SAM family and the prompts of images: made by :func:`load_prompted`.

    Each lesion that an image's prompts name is asked for on its own. Of the masks that the model offers for
    it the one is taken whose IoU the model itself estimates highest (Kirillov et al., Segment Anything, ICCV
    2023), and the lesions of an image are put together, pixel by pixel the most probable.

    Attributes:
        source: the folder that it was read from.
        kind: the library's name of the model: ``sam``, ``sam2`` and so on.
        prompts: of the images.
        device: where it runs.
        precision: what it computes in.
    """

    threshold = 0.5
    columns = ("prompted_by", "lesions", "iou_estimate")

    def __init__(
        self,
        network: Any,
        processor: Any,
        prompts: Prompts,
        *,
        source: Path,
        kind: str,
        weights_sha256: str,
        device: torch.device,
        precision: Precision,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        self._network = network
        self._processor = processor
        self._weights = weights_sha256
        self._most = max_megapixels
        self._said: tuple[str, dict[str, float | int | str]] | None = None
        self._unused: list[str] = []
        self.source = source
        self.kind = kind
        self.prompts = prompts
        self.device = device
        self.precision = precision

    @property
    def name(self) -> str:
        """Its kind and the folder's name."""
        return f"{self.kind} of {self.source.name}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of it, a sentence each."""
        told = [
            f"{self.kind} was asked with boxes and points: its masks say nothing of what lies elsewhere; "
            "iou_estimate is the model's own guess, the lowest of an image's lesions"
        ]
        if self._unused:
            what = plural(len(self._unused), "image has", "images have")
            told.append(f"{what} prompts and is not predicted here: {some(self._unused)}")
        return tuple(told)

    def told(self) -> dict[str, Any]:
        """Return all that decides a probability, as JSON."""
        return {
            "source": str(self.source.resolve()),
            "kind": self.kind,
            "weights_sha256": self._weights,
            "precision": self.precision,
            "prompts": self.prompts.source,
            "prompts_sha256": self.prompts.identity,
        }

    def require_prompts(self, names: Sequence[str], paths: Sequence[str]) -> None:
        """See that each image has its prompts, within its edges, before any is segmented.

        Args:
            names: of all images.
            paths: of their files, in the same order.

        Raises:
            UsageError: names the first images without one, or the rows that reach outside.
        """
        self._unused = self.prompts.require(names)
        asked = [(n, p) for n, p in zip(names, paths, strict=True) if self.prompts.find(n)]
        facts = inspect_all(
            [path for _, path in asked], workers=4, progress=False, max_megapixels=self._most, decode=False
        )
        problems = []
        for (name, _), fact in zip(asked, facts, strict=True):
            if not fact.problem and (found := self.prompts.problem(name, fact.height, fact.width)):
                problems.append(found)
        if problems:
            raise UsageError(
                "boxes and points must lie within their images.",
                [f"{len(problems):,} of {plural(len(asked), 'image')}:", *problems[:10]],
                "coordinates are pixels of the upright image at its own size, from its top left corner",
            )

    def cells_of(self, name: str) -> dict[str, float | int | str]:
        """Return the cells of ``columns`` for the image that :meth:`probability_of` was asked of last.

        Raises:
            KeyError: it was asked of another.
        """
        if self._said is None or self._said[0] != name:
            raise KeyError(name)
        return dict(self._said[1])

    def probability_of(self, rgb: npt.NDArray[np.uint8], name: str) -> npt.NDArray[np.float32]:
        """Return P(lesion) of one image at its own size.

        Args:
            rgb: upright RGB image, uint8 (H, W, 3).
            name: as its prompts call it.

        Returns:
            float32 (H, W) in [0, 1]: the sigmoid of the mask's logits, bilinear at the image's own size.

        Raises:
            UsageError: no prompt for it, or one outside of it.
            DataError: numbers that are not finite.
        """
        height, width = rgb.shape[:2]
        prompts = self.prompts.within(name, height, width)
        if not rgb.flags.writeable:  # the library hands its memory to PyTorch, which warns of that
            rgb = rgb.copy()
        logits, estimates = None, []
        with torch.inference_mode(), autocast(self.precision, self.device):
            embedded: dict[str, Any] = {}
            for prompt in prompts:
                inputs = self._inputs(rgb, prompt)
                embedded = embedded or self._embedded(inputs["pixel_values"])
                found, estimate = self._best(inputs, embedded)
                logits = found if logits is None else torch.maximum(logits, found)
                estimates.append(estimate)
        assert logits is not None
        if not bool(logits.isfinite().all()):
            raise DataError(
                "a mask's numbers must be finite.",
                f"{self.name}: NaN or infinite numbers for {name}",
                "use --precision fp32; if it stays so, the weights are damaged",
            )
        whole = not self.prompts.find(name)
        self._said = (
            name,
            {
                "prompted_by": "whole image" if whole else _kinds(prompts),
                "lesions": len(prompts),
                "iou_estimate": round(min(estimates), 6),
            },
        )
        made: npt.NDArray[np.float32] = logits.sigmoid().cpu().numpy()
        return made

    def _inputs(self, rgb: npt.NDArray[np.uint8], prompt: Prompt) -> Any:
        """Return pixels and coordinates as the model wants them: both are the library's own work."""
        given: dict[str, Any] = {}
        if prompt.box is not None:
            given["input_boxes"] = [[list(prompt.box.numbers)]]
        if prompt.points:
            given["input_points"] = [[[[point.x, point.y] for point in prompt.points]]]
            given["input_labels"] = [[[point.label for point in prompt.points]]]
        return self._processor(images=rgb, return_tensors="pt", **given)

    def _embedded(self, pixels: torch.Tensor) -> dict[str, Any]:
        """Return what the image encoder makes of an image, which all its prompts share."""
        made = self._network.get_image_embeddings(pixels.to(self.device, torch.float32))
        if isinstance(made, tuple):  # SAM-HQ takes its early layers too
            return {"image_embeddings": made[0], "intermediate_embeddings": made[1]}
        return {"image_embeddings": made}

    def _moved(self, values: torch.Tensor) -> torch.Tensor:
        narrow = self.device.type == "mps" and values.dtype == torch.float64  # which that device lacks
        return (values.float() if narrow else values).to(self.device)

    def _best(self, inputs: Any, embedded: dict[str, Any]) -> tuple[torch.Tensor, float]:
        """Return the most trusted mask's logits at the image's own size, (H, W), and its estimated IoU."""
        names = ("input_boxes", "input_points", "input_labels")
        asked = {name: self._moved(inputs[name]) for name in names if name in inputs}
        # A network may write into the maps it is given.
        fresh = {
            key: [one.clone() for one in value] if isinstance(value, list) else value
            for key, value in embedded.items()
        }
        out = self._network(**fresh, **asked, multimask_output=True)
        scores = out.iou_scores.float()[0, 0]
        best = int(scores.argmax())
        mask = out.pred_masks.float()[:, :, best : best + 1]
        sizes = {"original_sizes": inputs["original_sizes"]}
        if "reshaped_input_sizes" in inputs:
            sizes["reshaped_input_sizes"] = inputs["reshaped_input_sizes"]
        native = self._processor.post_process_masks(mask, **sizes, binarize=False)[0]
        return native[0, 0], float(scores[best])


def load_prompted(
    folder: Path | str,
    prompts: Prompts,
    *,
    device: str = "auto",
    precision: PrecisionChoice = "fp32",
    max_megapixels: float = MAX_MEGAPIXELS,
) -> PromptedSegmenter:
    """Load a model of the SAM family from a folder on this machine.

    Args:
        folder: as transformers saves a model: ``config.json``, ``model.safetensors`` (or several, with their
            index) and ``preprocessor_config.json`` or ``processor_config.json``. No request is made, and
            nothing is unpickled.
        prompts: of the images: :func:`prompts_of`, :func:`read_prompts` or :func:`prompts_of_masks`.
        device: ``cpu``, ``cuda`` and so on; ``auto`` takes a GPU where there is one.
        precision: ``fp32``, ``bf16`` or ``fp16``; ``auto`` is fp32 on a CPU.
        max_megapixels: an image of more millions of pixels counts as bad.

    Raises:
        UsageError: transformers is not installed, or no folder of a SAM model.
        WeightsError: a file is missing, or its tensors are not the model's.

    Example:
        >>> prompts = prompts_of(boxes=["40,30,180,200"])
        >>> sam = load_prompted("sam-vit-base/", prompts)  # doctest: +SKIP
        >>> sam.probability_of(panderm.read_image("a.jpg"), "a.jpg").shape  # doctest: +SKIP
        (450, 600)
    """
    source = Path(folder).expanduser()
    library: Any = require("transformers", "sam", what="a prompted model")
    kind = _kind_of(source)
    weights, pixels = _files(source)
    place = pick_device(device)
    chosen = "fp32" if precision == "auto" and place.type == "cpu" else choose(precision, place)
    network, processor = (getattr(library, one, None) for one in FAMILY[kind])
    if network is None or processor is None:
        raise UsageError(
            f"{source} holds a model that this transformers does not have.",
            f"its config.json says {kind}; transformers is {library.__version__}",
            "pip install --upgrade transformers",
        )
    try:
        with _quiet(library):
            made, info = network.from_pretrained(
                str(source),
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # told below, by name
                dtype=torch.float32,
            )
            prepared = processor.from_pretrained(str(source), local_files_only=True)
    except Exception as error:  # the library and safetensors raise nearly everything there is
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{source} must hold a whole {kind} model.", f"transformers says: {found}"
        ) from None
    _require_every_tensor(source, kind, info)
    return PromptedSegmenter(
        made.eval().to(place),
        prepared,
        prompts,
        source=source,
        kind=kind,
        weights_sha256=sha256_of_json({one.name: sha256_of_file(one) for one in (*weights, *pixels)}),
        device=place,
        precision=chosen,
        max_megapixels=max_megapixels,
    )


def _kind_of(source: Path) -> str:
    config = source / "config.json"
    hint = (
        "sam:FOLDER, as transformers saves a model: config.json, model.safetensors, preprocessor_config.json"
    )
    if not source.is_dir():
        what = "a file" if source.exists() else "not there"
        raise UsageError("a prompted model must be a folder on this machine.", f"{source} is {what}", hint)
    try:
        kind = str(json.loads(config.read_text("utf-8"))["model_type"])
    except FileNotFoundError:
        raise UsageError("a prompted model must be a folder of transformers.", f"no {config}", hint) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError("a config.json must name its model_type.", f"{config} does not", hint) from None
    if kind not in FAMILY:
        raise UsageError(
            f"a prompted model must be of the SAM family{did_you_mean(kind, FAMILY)}",
            f"{config} says model_type {kind}",
            f"panderm knows {some(list(FAMILY), 20)}",
        )
    return kind


def _files(source: Path) -> tuple[list[Path], list[Path]]:
    weights = sorted(source.glob("model*.safetensors"))
    if not weights:
        other = [one.name for one in source.iterdir() if one.suffix in (".bin", ".pt", ".pth", ".ckpt")]
        raise WeightsError(
            "the weights must be a safetensors file.",
            f"no model.safetensors in {source}" + (f", but {some(other)}" if other else ""),
            "a .bin or .pt file is pickled, and opening it may run code: get the safetensors file"
            if other
            else None,
        )
    pixels = [source / one for one in _PIXELS if (source / one).is_file()]
    if not pixels:
        raise UsageError(
            "how the model wants its pixels must be at hand.",
            f"neither {_PIXELS[0]} nor {_PIXELS[1]} in {source}",
            "get that file too: it lies beside the weights",
        )
    return weights, [source / "config.json", *pixels]


def _require_every_tensor(source: Path, kind: str, info: Any) -> None:
    """Refuse a file that leaves a tensor as it was drawn, or holds one that nothing explains."""
    words = {
        "missing_keys": "are missing",
        "mismatched_keys": "are of another shape",
        "unexpected_keys": f"are not of {kind}",
    }
    lines = []
    for key, what in words.items():
        names = sorted(str(one[0] if isinstance(one, tuple) else one) for one in info.get(key, ()))
        if names:
            lines.append(f"{len(names):,} {what}: {some(names)}")
    if lines:
        raise WeightsError(f"{source} must hold every tensor of {kind}, and no other.", lines)


def _kinds(prompts: Sequence[Prompt]) -> str:
    boxes = any(one.box is not None for one in prompts)
    points = any(one.points for one in prompts)
    return "box and points" if boxes and points else "box" if boxes else "points"


@contextlib.contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Keep the library's remarks and its bar to itself."""
    log = library.utils.logging
    level, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bar:
            log.enable_progress_bar()
