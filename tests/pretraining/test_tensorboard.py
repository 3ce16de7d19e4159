"""TensorBoard's files hold the journal's numbers, from the step on at which a run went on."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panderm.errors import UsageError
from panderm.pretraining.tensorboard import TensorBoard


def line(step: int, loss: float) -> dict[str, float | None]:
    return {"step": step, "loss": loss, "cls": None, "norm": 2.0, "weight": 16.0, "seconds": 4.0}


def test_the_numbers_are_read_back(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    Image.fromarray(np.zeros((8, 9, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    score = {"value": 0.5, "low": 0.4, "high": None}
    look = {
        "probe": {"linear": {"scores": {"auroc": score}}},
        "spread": {"n": 9, "cosine": 0.7},
        "alarms": ["no"],
    }
    with TensorBoard(tmp_path / "run") as board:
        for step, loss in enumerate((1.0, 0.8, 9.0), start=1):
            board.step(line(step, loss))
    with TensorBoard(tmp_path / "run", resume_at=3) as board:
        board.step(line(3, 0.5))
        board.epoch(look, step=3)
        board.picture(tmp_path / "a.png", step=3)
    held = accumulator.EventAccumulator(str(tmp_path / "run")).Reload()
    losses = {event.step: event.value for event in held.Scalars("loss/all")}
    assert losses == pytest.approx({1: 1.0, 2: 0.8, 3: 0.5})
    assert held.Scalars("speed/images per second")[-1].value == 4.0
    assert held.Scalars("probe linear/auroc/low")[0].value == pytest.approx(0.4)
    assert held.Scalars("spread/cosine")[0].value == pytest.approx(0.7)
    scalars = held.Tags()["scalars"]
    assert not {"loss/class token", "probe linear/auroc/high", "spread/n"} & set(scalars)
    assert held.Images("masks")[0].width == 9


def test_without_the_extra_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UsageError, match="TensorBoard must be installed"):
        TensorBoard(tmp_path / "run")
