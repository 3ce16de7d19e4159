"""How rows are cut, who does what, and what a unit becomes: without Ray."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import panderm
from panderm.cluster import stages
from panderm.cluster.machines import plan
from panderm.cluster.stages import Eye, Task, begin, decode_unit, hash_unit, own_error
from panderm.cluster.units import group_starts, units_of
from panderm.embeddings import EmbeddingsWriter
from panderm.errors import ArtifactError, DataError, PandermError, UsageError


@given(
    done=st.sets(st.integers(0, 299), max_size=200),
    batch=st.integers(1, 70),
    side=st.sampled_from([64, 224, 518, 2048]),
    actors=st.integers(1, 9),
)
@settings(max_examples=80, deadline=None)
def test_units_hold_every_row_once_and_whole_groups_only(
    done: set[int], batch: int, side: int, actors: int
) -> None:
    todo = np.array([i for i in range(300) if i not in done], dtype=np.int64)
    units = units_of(todo, batch_size=batch, image_bytes=side * side * 3, actors=actors)
    held = [todo[u.start : u.stop] for u in units]
    assert np.concatenate(held or [todo]).tolist() == todo.tolist()
    assert [u.number for u in units] == list(range(len(units)))
    groups = [set((rows // batch).tolist()) for rows in held]
    assert not any(one & other for one, other in itertools.combinations(groups, 2)), "a group was torn apart"
    for rows in held:
        assert rows.size * side * side * 3 <= 96 << 20 or len(set((rows // batch).tolist())) == 1


def test_a_large_table_is_cut_into_units_of_512_rows() -> None:
    units = units_of(np.arange(100_000), batch_size=64, image_bytes=224 * 224 * 3, actors=8)
    assert {u.stop - u.start for u in units[:-1]} == {512}
    large = units_of(np.arange(100_000), batch_size=8, image_bytes=518 * 518 * 3, actors=8)
    assert {u.stop - u.start for u in large[:-1]} == {120}


def test_a_group_is_what_it_is_in_one_process_whatever_is_done_already() -> None:
    assert group_starts(np.array([1, 5, 6, 7, 30]), 4).tolist() == [0, 1, 4]
    assert group_starts(np.array([], dtype=np.int64), 4).tolist() == []


@pytest.mark.parametrize(
    ("cpus", "gpus", "device", "actors", "wanted"),
    [
        ([2], 0, "auto", None, (2, 0, 1, "auto")),
        ([1], 0, "auto", None, (1, 0, 1, "auto")),
        ([16], 0, "cpu", None, (4, 0, 4, "cpu")),
        ([16, 16], 0, "auto", None, (8, 0, 4, "auto")),
        ([16], 0, "auto", 2, (2, 0, 8, "auto")),
        ([32], 4, "auto", None, (4, 1, None, "cuda")),
        ([32], 4, "cuda:1", 2, (2, 1, None, "cuda")),
        ([32], 4, "cpu", None, (4, 0, 8, "cpu")),
    ],
)
def test_who_does_what(
    cpus: list[int], gpus: int, device: str, actors: int | None, wanted: tuple[Any, ...]
) -> None:
    found = plan(cpus, gpus, device=device, actors=actors)
    assert (found.actors, found.gpus, found.threads, found.device) == wanted
    assert found.actors * found.cpus < sum(cpus) or found.gpus, "decoding must have room beside the encoders"
    assert found.decoders >= 1


def test_more_actors_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(UsageError) as caught:
        plan([32], 4, device="auto", actors=5)
    assert str(caught.value) == "--actors must be at most one a GPU.\n  found 5; Ray has 4 GPUs"
    with pytest.raises(UsageError, match="one a CPU"):
        plan([2], 0, device="auto", actors=3)
    with pytest.raises(UsageError, match="must exist on the cluster"):
        plan([2], 0, device="cuda", actors=None)


# Stages: what Ray would call, called here.


def as_rows(table: panderm.Table) -> pa.Table:
    columns = {name: getattr(table, name).tolist() for name in ("path", *stages.ROLES)}
    strings = {name: pa.array(values, pa.large_string()) for name, values in columns.items()}
    return pa.table({"position": np.arange(len(table)), "row": table.row, **strings})


@pytest.fixture
def few(table: panderm.Table) -> panderm.Table:
    return table.select(slice(0, 10))


@pytest.fixture
def task(few: panderm.Table, encoder: panderm.Encoder, monkeypatch: pytest.MonkeyPatch) -> Task:
    rows = as_rows(few)
    monkeypatch.setattr(Task, "slice", lambda self, start, stop: self.rows.slice(start, stop - start))
    return Task(rows, None, 179.0, encoder.preprocess)


def unit(number: int, start: int, stop: int) -> pa.Table:
    return pa.table({"number": [number], "start": [start], "stop": [stop]})


@pytest.fixture
def eye(
    task: Task, few: panderm.Table, encoder: panderm.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Eye:
    monkeypatch.setattr("panderm.models.load.load_encoder", lambda **_: encoder)
    begun = begin({}, task, few.card, None, batch_size=4, threads=None, exact=True, tokens=False)
    card = begun.settled.card(few)
    out = tmp_path / "few.emb"
    EmbeddingsWriter(out, card, few).close()
    return Eye(task, {}, begun.settled, card, str(out), 7, None)


def test_a_unit_is_encoded_kept_under_its_own_name_and_not_made_again(
    eye: Eye, task: Task, few: panderm.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = decode_unit(unit(3, 2, 8), task=task)
    assert decoded.num_rows == 1
    told = eye(decoded).to_pylist()[0]
    assert told["sha256"] == few.sha256[2:8].tolist()
    assert told["problem"] == [""] * 6
    assert sorted(p.name for p in (tmp_path / "few.emb/made").iterdir()) == ["10-00000.parquet"]

    def never(*_: object) -> None:
        raise AssertionError("what is kept is not made again")

    monkeypatch.setattr(Eye, "_encode", never)
    again = eye(decoded).to_pylist()[0]
    assert {**again, "seconds": 0} == {**told, "seconds": 0}


def test_a_unit_that_kills_its_process_again_and_again_is_given_up(
    eye: Eye, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def dies(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(Eye, "_encode", dies)
    decoded = decode_unit(unit(0, 0, 4), task=task)
    for _ in range(5):
        with pytest.raises(Killed):
            eye(decoded)
    with pytest.raises(PandermError, match="must not be killed by the images"):
        eye(decoded)


def test_bad_images_are_left_out_of_their_group_and_told(
    task: Task, few: panderm.Table, tmp_path: Path
) -> None:
    rows = as_rows(few).to_pydict()
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no image")
    rows["path"][1:4] = [str(tmp_path / name) for name in ("missing.jpg", "empty.jpg", "text.jpg")]
    told = Task(pa.table(rows), None, 179.0, task.preprocess)
    decoded = decode_unit(unit(0, 0, 6), task=told).to_pylist()[0]
    assert decoded["problem"] == [
        "",
        "no such file",
        "an empty file",
        "not an image that can be read",
        "",
        "",
    ]
    assert [bool(digest) for digest in decoded["sha256"]] == [True, False, False, False, True, True]
    side = task.preprocess.crop if task.preprocess else 0
    assert len(decoded["rgb"]) == 3 * side * side * 3
    hashed = hash_unit(unit(0, 0, 6), task=told).to_pylist()[0]
    assert hashed["problem"][:4] == ["", "no such file", "an empty file", ""]
    assert hashed["sha256"][3], "whether it can be decoded is not asked again"


def test_vectors_that_are_not_finite_name_their_images(
    eye: Eye, task: Task, few: panderm.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = np.zeros((4, 192), np.float32)
    wrong[2] = np.nan
    monkeypatch.setattr(Eye, "_encode", lambda *_: (wrong, None))
    with pytest.raises(DataError, match="must be finite") as caught:
        eye(decode_unit(unit(0, 0, 4), task=task))
    assert caught.value.found[0].startswith(str(few.image[2]))


def test_every_machine_must_see_the_folder_and_have_the_weights(eye: Eye, task: Task, tmp_path: Path) -> None:
    settled, card = eye._settled, eye._card
    with pytest.raises(ArtifactError, match="every machine of the cluster shares"):
        Eye(task, {}, settled, card, str(tmp_path / "elsewhere.emb"), 0, None)
    other = settled.model_copy(
        update={"encoder": settled.encoder.model_copy(update={"weights_sha256": "0" * 64})}
    )
    with pytest.raises(ArtifactError, match="the same weights file"):
        Eye(task, {}, other, card, str(tmp_path / "few.emb"), 0, None)


def test_an_error_of_ours_is_found_within_one_of_rays() -> None:
    class RayError(Exception):
        cause: BaseException | None = None

    inner, outer = RayError(), RayError()
    inner.cause = DataError("a must.")
    outer.__cause__ = inner
    assert own_error(outer) is inner.cause
    assert own_error(RayError()) is None
