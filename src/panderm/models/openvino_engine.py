"""OpenVINO as the engine: an encoder's network converted once, and run on the CPU image by image.

Every image is a request of its own, and several run side by side. An image's vector therefore does not depend
on which others it comes with, and a short last batch is nothing special.
"""

from __future__ import annotations

import sys
import threading
import warnings
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from panderm.data.preprocess import Preprocess
from panderm.embeddings import EncoderRecord, Precision
from panderm.errors import UsageError
from panderm.models import quantised
from panderm.models.families import require
from panderm.models.inference import class_token_form, inference_form
from panderm.models.precision import has_bfloat16

_HINTS = {"fp32": "f32", "bf16": "bf16"}


def require_openvino(precision: Precision) -> Any:
    """Import OpenVINO, silently: it reports its use to its maker where it can.

    Raises:
        UsageError: it is not installed, or NNCF is not and ``precision`` is int8.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    if precision == "int8" and find_spec("nncf") is None:  # it takes seconds to import
        raise UsageError(
            "precision int8 needs the library nncf.", "it is not installed", "pip install 'panderm[openvino]'"
        )
    return require("openvino", "openvino", what="this engine")


@cache
def _core() -> Any:
    """Return the one core of this process, which is never given back.

    Each core gives the thread a stack for signals, and takes it away at its end, whatever stands there:
    after two of them the next signal, Ctrl-C or the end of a child, would kill the process.
    """
    return require_openvino("fp32").Core()


class OpenVINOEngine:
    """Runs a network with OpenVINO on the CPU, with as many threads as PyTorch has; several may call it.

    Args:
        network: float32, on the CPU, in evaluation mode.
        preprocess: its ``mean`` and ``std`` are applied to RGB inside the compiled network.
        record: the encoder's, for the name of what is quantised.

    It holds the float32 network a second time, as OpenVINO lays it out; in fewer bits, a half or a quarter.
    """

    def __init__(self, network: torch.nn.Module, preprocess: Preprocess, record: EncoderRecord) -> None:
        self._network = network
        self._preprocess = preprocess
        self._record = record
        self._openvino = require_openvino(record.precision)
        self._quantised: Any = None
        self._queues: dict[tuple[Precision, bool], Any] = {}
        self._lock = threading.Lock()

    def run(self, given: torch.Tensor, precision: Precision, *, check: bool = False) -> torch.Tensor:
        """Return float32 vectors (n, D) of RGB, uint8 (n, S, S, 3), or of pixels, float (n, 3, S, S).

        Raises:
            UsageError: int8 before :meth:`calibrate`, or a network that cannot be converted.
        """
        del check
        rgb = given.dtype == torch.uint8
        images = given.contiguous().numpy() if rgb else given.to(torch.float32).contiguous().numpy()
        found: list[Any] = [None] * len(images)

        def keep(request: Any, i: int) -> None:
            found[i] = request.get_output_tensor(0).data[0].copy()

        with self._lock:
            queue = self._queue(precision, rgb=rgb)
            queue.set_callback(keep)
            try:
                for i in range(len(images)):
                    queue.start_async({0: images[i : i + 1]}, i)
            finally:
                queue.wait_all()
        return torch.from_numpy(np.stack(found))

    def run_with_tokens(
        self, given: torch.Tensor, precision: Precision
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return None: of patch tokens the converted network keeps nothing."""
        del given, precision
        return None

    def calibrate(self, pixels: torch.Tensor) -> str:
        """Quantise the network to 8 bits on images, or take what these images gave before.

        Args:
            pixels: normalised float32 (n, 3, S, S).

        Returns:
            SHA-256 of the quantised weights and scales.

        Raises:
            UsageError: a network that cannot be converted.
            ArtifactError: the cache cannot be written, or quantising failed.
        """
        images = np.ascontiguousarray(pixels.to(torch.float32).numpy())
        made = quantised.quantise(self._converted, images, self._record)
        self._take(made)
        return made.sha256

    def adopt(self, sha256: str) -> None:
        """Take the quantised network of this hash from the cache.

        Raises:
            ArtifactError: it is not there.
        """
        self._take(quantised.held(sha256, self._record))

    def _take(self, made: quantised.Quantised) -> None:
        with self._lock:
            self._quantised = _core().read_model(made.path)
            self._queues = {key: queue for key, queue in self._queues.items() if key[0] != "int8"}

    def _queue(self, precision: Precision, *, rgb: bool) -> Any:
        if (precision, rgb) not in self._queues:
            model = self._network_of(precision)
            if rgb:
                model = self._with_rgb(model)
            int8 = precision == "int8"
            hint = ("bf16" if has_bfloat16() else "f32") if int8 else _HINTS[precision]
            compiled = _core().compile_model(
                model,
                "CPU",
                {
                    "PERFORMANCE_HINT": "THROUGHPUT",
                    "INFERENCE_PRECISION_HINT": hint,
                    "INFERENCE_NUM_THREADS": str(torch.get_num_threads()),
                },
            )
            self._queues[precision, rgb] = self._openvino.AsyncInferQueue(compiled)
        return self._queues[precision, rgb]

    def _network_of(self, precision: Precision) -> Any:
        if precision != "int8":
            return self._converted()
        if self._quantised is None:
            raise UsageError(
                "a network of 8 bits must be calibrated on images first.",
                f"{self._record.name}: none were given",
                f"panderm embed does it by itself; in Python: encoder.settle(rgb), "
                f"with {quantised.FEWEST} images or more",
            )
        return self._quantised.clone()

    def _converted(self) -> Any:
        """Return the network as OpenVINO has it: float32 (1, 3, S, S) to (1, D)."""
        cpu, side = torch.device("cpu"), self._record.image_size
        whole = inference_form(self._network, "fp32", cpu)
        form = class_token_form(whole, self._network, "fp32", cpu)
        example = torch.zeros(1, 3, side, side)
        told = []
        # PyTorch's exporter first; timm's networks of any input size can only be traced at this one.
        for way in (self._exported, self._traced):
            try:
                with torch.inference_mode(mode=False), torch.no_grad(), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # to programmers
                    model = way(form, example)
                model.reshape([1, 3, side, side])
            except Exception as error:  # whatever the two libraries raise
                lines = str(error).strip().splitlines() or [type(error).__name__]
                told.append(next((line for line in lines if "No conversion rule" in line), lines[0]))
            else:
                return model
        raise UsageError(
            f"{self._record.name} must be of a kind that OpenVINO can express.",
            list(dict.fromkeys(told)),
            "leave --engine out",
        )

    def _exported(self, form: torch.nn.Module, example: torch.Tensor) -> Any:
        return self._openvino.convert_model(torch.export.export(form, (example,), strict=False))

    def _traced(self, form: torch.nn.Module, example: torch.Tensor) -> Any:
        return self._openvino.convert_model(form, example_input=example)

    def _with_rgb(self, model: Any) -> Any:
        """Put scaling and normalisation in front: uint8 (1, S, S, 3) comes in."""
        from openvino import Layout, Type
        from openvino.preprocess import PrePostProcessor

        around = PrePostProcessor(model)
        given = around.input(0)
        given.tensor().set_element_type(Type.u8).set_layout(Layout("NHWC"))
        given.model().set_layout(Layout("NCHW"))
        steps = given.preprocess().convert_element_type(Type.f32)
        steps.mean([255 * x for x in self._preprocess.mean]).scale([255 * x for x in self._preprocess.std])
        return around.build()
