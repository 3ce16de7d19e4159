"""Targets on disk: the same as the teacher's, made once, file by file, and never of another teacher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from panderm.errors import ArtifactError, DataError, ParentsError, UsageError
from panderm.pretraining import target_cache
from panderm.pretraining.target_cache import TargetCache, seconds_per_image

COUNT, SHARD = 600, target_cache.SHARD


@dataclass
class Batch:
    positions: np.ndarray
    teacher: torch.Tensor


class Means:
    """A teacher whose tokens say which image and view they are of."""

    grid, dim, image_size = (2, 2), 3, 4

    def __init__(self, **more: Any) -> None:
        self.record: dict[str, Any] = {"name": "means", "precision": "fp32", **more}
        self.asked = 0
        self.most = 1.0

    def targets(self, rgb: np.ndarray | torch.Tensor) -> torch.Tensor:
        given = torch.as_tensor(rgb)
        self.asked += len(given)
        first = given[:, 0, 0, :].float()[:, None] * self.most
        return first + torch.arange(5.0)[:, None] / 8


def feed(view: int, groups: Any, *, bad: tuple[int, ...] = (), stop: int | None = None) -> Any:
    for group in groups:
        if stop is not None and stop in group:
            raise KeyboardInterrupt
        good = np.array([each for each in group if each not in bad], dtype=np.int64)
        rgb = np.zeros((len(good), 4, 4, 3), dtype=np.uint8)
        rgb[:, 0, 0] = np.stack([good % 256, good // 256, np.full(len(good), view)], axis=1)
        yield Batch(good, torch.from_numpy(rgb))


def opened(folder: Path, teacher: Means, **changed: Any) -> TargetCache:
    given: dict[str, Any] = {"images": {"sha256": "a"}, "views": {"scale": [0.4, 1.0]}, "count": COUNT}
    return TargetCache.open(folder, teacher, **(given | {"fixed": 2, "seed": 0} | changed))


def test_what_is_read_is_what_the_teacher_said_and_the_teacher_is_asked_once(tmp_path: Path) -> None:
    teacher = Means()
    cache = opened(tmp_path / "targets", teacher)
    assert cache.cost() == (2 * COUNT * 5 * 3 * 2, 2 * COUNT, None)
    assert "1,200 views: 36.0 kB on disk, about 10 min" in str(cache.cost(0.5))
    assert cache.fill(teacher, feed, shown=False) == teacher.asked == 2 * COUNT
    positions = np.array([599, 0, 257, 255, 256])
    for view in (0, 1):
        found, known = cache.read(view, positions)
        (batch,) = feed(view, [positions])
        assert torch.equal(found, teacher.targets(batch.teacher))  # all exact in float16
        assert known.all()
        assert found.dtype == torch.float32
    assert "all on disk" in str(cache.cost())
    assert opened(tmp_path / "targets", teacher).fill(teacher, feed, shown=False) == 0


def test_a_run_that_was_ended_goes_on_and_processes_share_the_files(tmp_path: Path) -> None:
    teacher = Means()
    cache = opened(tmp_path / "targets", teacher)
    with pytest.raises(KeyboardInterrupt):
        cache.fill(teacher, lambda v, g: feed(v, g, stop=300), shown=False)
    assert [len(group) for group in cache.missing(0)] == [SHARD, COUNT - 2 * SHARD]
    assert cache.fill(teacher, feed, rank=1, ranks=2, shown=False) == 2 * SHARD
    assert cache.fill(teacher, feed, rank=0, ranks=2, shown=False) == SHARD + 2 * (COUNT - 2 * SHARD)
    assert cache.cost().images == 0


def test_an_image_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    teacher = Means()
    cache = opened(tmp_path / "targets", teacher, fixed=1)
    cache.fill(teacher, lambda v, g: feed(v, g, bad=(7, 599)), shown=False)
    found, known = cache.read(0, np.array([7, 8, 599]))
    assert known.tolist() == [False, True, False]
    assert not found[0].any()
    assert found[1].any()


@pytest.mark.parametrize(
    ("changed", "what"),
    [({"seed": 1}, "seed"), ({"images": {"sha256": "b"}}, "images"), ({"fixed": 3}, "shape")],
)
def test_targets_of_other_parents_are_refused(tmp_path: Path, changed: dict[str, Any], what: str) -> None:
    opened(tmp_path / "targets", Means())
    with pytest.raises(ParentsError, match="must be of this teacher") as found:
        opened(tmp_path / "targets", Means(), **changed)
    assert f"has another {what}" in str(found.value)


def test_another_teacher_is_refused_and_another_precision_is_not(tmp_path: Path) -> None:
    opened(tmp_path / "targets", Means())
    opened(tmp_path / "targets", Means(precision="bf16"))
    with pytest.raises(ParentsError, match="teacher"):
        opened(tmp_path / "targets", Means(weights_sha256="1"))


def test_what_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = Means()
    with pytest.raises(UsageError, match="images, and views"):
        opened(tmp_path / "none", teacher, count=0)
    cache = opened(tmp_path / "targets", teacher, fixed=1)
    with pytest.raises(ArtifactError, match="must be whole") as found:
        cache.read(0, np.array([0]))
    assert "it is not there" in str(found.value)
    (cache.folder / "view-0-00000.npy").write_bytes(b"\x93NUMPY\x01\x00cut short")
    with pytest.raises(ArtifactError, match="must be whole"):
        cache.read(0, np.array([0]))
    teacher.most = 1e5
    with pytest.raises(DataError, match="float16"):
        cache.fill(teacher, feed, shown=False)
    monkeypatch.setattr(target_cache, "_ROOM", 1e15)
    with pytest.raises(ArtifactError, match="room"):
        cache.fill(teacher, feed, shown=False)


def test_the_rate_is_measured() -> None:
    assert seconds_per_image(Means(), images=2) > 0
