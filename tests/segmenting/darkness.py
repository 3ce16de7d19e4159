"""A stand-in for a segmenter: dark is lesion; the answer of a pixel depends on that pixel alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from panderm.errors import UsageError


class Darkness:
    """P(lesion) falls from 1 at black to 0 at white, steepest at a given level of grey."""

    notes = ("dark is lesion",)

    def __init__(self, size: int = 32, level: float = 128.0, threshold: float = 0.5) -> None:
        self.name, self.size, self.level, self.threshold = "darkness", size, level, threshold

    def told(self) -> dict[str, Any]:
        return {"source": "darkness", "size": self.size, "level": self.level}

    def pixels_of(self, rgb: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.resize(rgb, (self.size, self.size), interpolation=cv2.INTER_AREA))

    def probabilities(self, rgb: np.ndarray) -> np.ndarray:
        assert rgb.dtype == np.uint8
        assert rgb.shape[1:] == (self.size, self.size, 3)
        grey = rgb.astype(np.float32).mean(axis=3)
        return (1 / (1 + np.exp((grey - self.level) / 8))).astype(np.float32)


class LeftIsSure(Darkness):
    """An answer that depends on how the square lies: the left half is lesion."""

    def probabilities(self, rgb: np.ndarray) -> np.ndarray:
        made = np.zeros(rgb.shape[:3], dtype=np.float32)
        made[:, :, : self.size // 2] = 1.0
        return made


class BoxOf:
    """A stand-in for a model with prompts: a box for each name."""

    name, threshold, notes, columns = "box", 0.5, (), ("sure",)

    def __init__(self, boxes: dict[str, tuple[int, int, int, int]]) -> None:
        self.boxes = boxes

    def told(self) -> dict[str, Any]:
        return {"source": "box", "boxes": {k: list(v) for k, v in self.boxes.items()}}

    def require_prompts(self, names: Sequence[str], paths: Sequence[str]) -> None:
        assert len(names) == len(paths)
        if missing := [name for name in names if name not in self.boxes]:
            raise UsageError("every image must have a prompt.", f"{missing[0]} has none")

    def cells_of(self, name: str) -> dict[str, float | int | str]:
        return {"sure": len(name)}

    def probability_of(self, rgb: np.ndarray, name: str) -> np.ndarray:
        made = np.zeros(rgb.shape[:2], dtype=np.float32)
        x0, y0, x1, y1 = self.boxes[name]
        made[y0:y1, x0:x1] = 1.0
        return made
