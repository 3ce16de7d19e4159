"""What a run says before its first step: its student, its teacher, where weights begin, what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from panderm.errors import in_bytes, plural
from panderm.pretraining.student import PretrainingModel
from panderm.pretraining.teacher import Teacher


def networks_in_words(model: PretrainingModel, teacher: Teacher, begun: dict[str, Any] | None) -> list[str]:
    def of(part: torch.nn.Module) -> str:
        return f"{sum(p.numel() for p in part.parameters()) / 1e6:.1f} M"

    shape = teacher.record
    lines = [
        f"student: {model.student.name}, {of(model.encoder)} parameters; regressor of "
        f"{plural(model.regressor_shape.depth, 'block')}, {of(model.regresser)}",
        f"teacher: {shape['name']}, {teacher.grid[0]} × {teacher.grid[1]} {teacher.tokens} tokens of "
        f"{teacher.dim} at {teacher.image_size} pixels",
    ]
    if begun is None:
        return [*lines, "weights: drawn at random"]
    return [*lines, f"weights: {begun['file']}", *(f"  {word}" for word in begun["words"])]


def checkpoints_in_words(model: PretrainingModel, folder: Path, minutes: float) -> str:
    learns = sum(p.numel() for p in model.parameters() if p.requires_grad)
    held = sum(p.numel() for p in model.parameters())
    every = f"every {minutes:g} minutes" if minutes else "after every step"
    return (
        f"checkpoints: {in_bytes(4 * (held + 2 * learns))} {every}, the last two in {folder / 'checkpoint'}"
    )
