"""The loop as it runs with a GPU, on a double of one: copies that are done only when they are waited for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import panderm
from panderm.embeddings.making.loop import extract


class Gpu:
    """Stands in for CUDA: remembers what was asked for, and finishes a copy when its event is waited for."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.pinned = 0
        self.log: list[str] = []
        self.copies: list[tuple[torch.Tensor, torch.Tensor]] = []
        empty, copy = torch.empty, torch.Tensor.copy_
        self.copy = copy
        gpu = self

        class Event:
            def __init__(self, *, enable_timing: bool) -> None:
                assert enable_timing

            def record(self, stream: Any) -> None:
                self.copies, gpu.copies = gpu.copies, []

            def synchronize(self) -> None:
                gpu.log.append("fetch")
                for home, made in self.copies:
                    copy(home, made)

            def elapsed_time(self, end: Any) -> float:
                return 2.0

        def pinned_empty(*size: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
            gpu.pinned += pin_memory
            return empty(*size, **options)

        def late(home: torch.Tensor, made: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
            if not non_blocking:
                return copy(home, made)
            gpu.copies.append((home, made))
            return home.fill_(float("nan"))

        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "Event", Event)
        patch.setattr(torch.cuda, "current_stream", lambda device: None)
        patch.setattr(torch, "empty", pinned_empty)
        patch.setattr(torch.Tensor, "copy_", late)


class Eye:
    """An encoder of mean colours that says it is on a GPU."""

    def __init__(self, like: panderm.Encoder, gpu: Gpu | None = None) -> None:
        self.preprocess, self.drift, self.gpu = like.preprocess, None, gpu
        self.device: Any = torch.device("cpu") if gpu is None else SimpleNamespace(type="cuda")
        self.record = like.record.model_copy(update={"dim": 3})
        self.name, self.dim, self.batch_size, self.first_images = "means", 3, 16, 0

    def forward_rgb(self, rgb: torch.Tensor, *, tokens: Any = False) -> torch.Tensor:
        if self.gpu is not None:
            self.gpu.log.append("begin")
        return rgb.float().mean(dim=(1, 2))


def test_a_batch_is_begun_before_the_last_is_fetched_and_none_before_it_is_there(
    table: panderm.Table, encoder: panderm.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here: Any = Eye(encoder)
    wanted = extract(here, table, tmp_path / "cpu.emb", exact=True, progress=False)
    with monkeypatch.context() as patch:
        gpu = Gpu(patch)
        eye: Any = Eye(encoder, gpu)
        done = extract(eye, table, tmp_path / "gpu.emb", exact=True, progress=False, workers=2)
    assert np.array_equal(done.embeddings.vectors, wanted.embeddings.vectors)
    batches = -(-len(table) // 16)
    # One is always under way; at the end it is fetched too.
    assert gpu.log == ["begin", *["begin", "fetch"] * (batches - 1), "fetch"]
    assert gpu.pinned == 2 * batches, "pixels on their way there, vectors on their way back"
    assert done.told.waited is not None
    assert 0 <= done.told.waited <= 1
