"""The student a run begins with: its form, its first weights, and what the card says of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.pretraining.aligning import Aligning
from panderm.pretraining.initial import crops_of, read_init
from panderm.pretraining.student import PretrainingModel, Student
from panderm.pretraining.teacher import Teacher
from panderm.pretraining.weights_file import regressor_of
from panderm.storage import sha256_of_file
from panderm.training.long.checkpoint import last_checkpoint


def student_for(
    form: Student, teacher: Teacher, init: Path | str | None, drop_path: float | None, seed: int
) -> PretrainingModel:
    """Return a student drawn at random, with the regressor that the file to begin from has, if any."""
    shape = None if init is None else regressor_of(init)
    return PretrainingModel(form, target_dim=teacher.dim, drop_path=drop_path, regressor=shape, seed=seed)


def begun_from(
    init: Path,
    before: dict[str, Any] | None,
    folder: Path,
    model: PretrainingModel,
    learner: Aligning,
    *,
    shown: bool,
) -> dict[str, Any]:
    """Fill a model from a file, in the first process: from there its weights go to the others."""
    if before is not None and last_checkpoint(folder) is not None:
        return before | {"sha256": sha256_of_file(init)}  # its weights are in the checkpoint
    count = len(learner.source)

    def crops() -> npt.NDArray[np.uint8]:
        return crops_of(lambda groups: learner.feed(0, groups, teacher=False), count)

    return read_init(init, model, crops=crops, shown=shown).record()


def student_record(model: PretrainingModel) -> dict[str, Any]:
    """Return what decides the form of a student, JSON-able."""
    return {
        **asdict(model.student),
        "drop_path": model.drop_path,
        "regressor": asdict(model.regressor_shape),
        "target_dim": model.target_dim,
        "image_size": model.image_size,
    }
