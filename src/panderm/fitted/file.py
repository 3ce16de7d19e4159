"""``probe.safetensors``: a fitted probe of any kind in one file that runs nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from panderm.errors import ArtifactError
from panderm.fitted.attentive import FittedAttentive
from panderm.fitted.linear import FittedLinear
from panderm.fitted.mlp import FittedMLP
from panderm.fitted.neighbours import FittedNeighbours
from panderm.fitted.probe import FittedProbe
from panderm.fitted.prototypes import FittedPrototypes

KINDS: dict[str, type[FittedProbe]] = {
    one.kind: one for one in (FittedLinear, FittedNeighbours, FittedPrototypes, FittedAttentive, FittedMLP)
}
_TEMPERATURE = "temperature"


def write_fitted(probe: FittedProbe, path: Path, *, predictions: str | None = None) -> None:
    """Write a probe; ``predictions`` is the identity of those it made, None of a probe that stands alone."""
    told = {
        "kind": "probe",
        "format": 2,
        "probe": probe.kind,
        "classes": probe.classes,
        "method": probe.method,
        "link": probe.link,
        "inputs": probe.inputs,
        "settings": probe.settings(),
        "predictions": predictions,
    }
    tensors = {name: np.ascontiguousarray(value) for name, value in probe.tensors().items()}
    tensors[_TEMPERATURE] = np.array([probe.temperature], dtype=np.float64)
    header = json.dumps(told, ensure_ascii=False, sort_keys=True)
    path.write_bytes(save(tensors, {"panderm": header}))


def read_fitted(
    path: Path,
    *,
    predictions: str | None = None,
    classes: tuple[str, ...] | None = None,
    dim: int | None = None,
) -> FittedProbe:
    """Open a probe's file and check that it is whole, and the one that made some predictions.

    Args:
        path: ``probe.safetensors``.
        predictions: identity of the predictions; None: a probe of any, or of none.
        classes: of the predictions; None: whatever its own are.
        dim: width of the embeddings, which a probe takes where its inputs are not named; None: any.

    Raises:
        ArtifactError: it is not.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            told: dict[str, Any] = json.loads((file.metadata() or {})["panderm"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        belongs = predictions is None or told["predictions"] == predictions
        temperature = float(tensors.pop(_TEMPERATURE)[0])
        common = {
            "classes": tuple(told["classes"]),
            "method": dict(told["method"]),
            "temperature": temperature,
            "link": told.get("link", "softmax"),
            "inputs": dict(told.get("inputs", {})),
        }
        kind = KINDS[told.get("probe", "linear")]  # files of format 1 are linear
        probe = kind.restored(tensors, told.get("settings", {}), **common) if belongs else None
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, IndexError) as error:
        text = str(error).splitlines() or [type(error).__name__]
        must = (
            "a probe's file must be whole."
            if predictions is None
            else "the probe of predictions must be readable."
        )
        raise ArtifactError(must, f"{path}: {text[0]}", "probe again") from None
    if probe is None:
        _refuse(f"{path} is the probe of other predictions")
    if dim is not None and not probe.inputs and probe.dim != dim:
        _refuse(f"{path} holds no sound probe: it takes {probe.dim} numbers, not {dim}")
    enough = probe.trained.sum() >= (1 if probe.link == "sigmoid" else 2)
    if classes not in (None, probe.classes) or not enough or not 0 < probe.temperature < np.inf:
        _refuse(f"{path} holds no sound probe")
    return probe


def _refuse(found: str) -> NoReturn:
    raise ArtifactError("the probe of predictions must be the one that made them.", found, "probe again")
