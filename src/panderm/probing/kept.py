"""Fits that are kept one by one, each under a name of what it is, so that a stopped run goes on."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from panderm.storage import new_file, sha256_of_json


@dataclass(frozen=True, eq=False)
class KeptFit:
    """What is kept of a fit.

    Attributes:
        probabilities: float64 (n, K) of the rows that were predicted.
        outcome: what the fit found, as in the card of predictions.
    """

    probabilities: npt.NDArray[np.float64]
    outcome: dict[str, Any]


class KeptFits:
    """A folder of fits: one file each, whole or absent.

    Args:
        folder: made when the first is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writing = threading.Lock()

    def read(self, question: dict[str, Any]) -> KeptFit | None:
        """Return the fit that answered a question; None where there is none, or its file is damaged."""
        key = sha256_of_json(question)
        path = self._path(key)
        try:
            with safe_open(path, "numpy") as file:
                told = file.metadata() or {}
                if told.get("question") != key:
                    return None
                outcome, found = json.loads(told["outcome"]), file.get_tensor("probabilities")
        except (OSError, SafetensorError, KeyError, ValueError):
            return None
        sound = found.ndim == 2 and bool(np.isfinite(found).all())
        return KeptFit(found, outcome) if sound else None

    def write(self, question: dict[str, Any], fit: KeptFit) -> None:
        """Keep a fit under the question it answers: encoder, settings, rows."""
        key = sha256_of_json(question)
        told = {"question": key, "outcome": json.dumps(fit.outcome)}
        content = save({"probabilities": np.ascontiguousarray(fit.probabilities)}, told)
        # Two draws of few rows may be the same; and to list the folder for each would grow slow.
        with self._writing, new_file(self._path(key), overwrite=True, sweep=False) as temporary:
            temporary.write_bytes(content)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key[:32]}.safetensors"
